// Joue une figure à curseurs : le fond est déjà là, chaque état est une liste de morceaux de SVG. Aucun dessin ne se
// fait ici, et rien n'est demandé au noyau. Le même fichier sert anywidget (JupyterLab, VS Code, Colab) et une page.

const SAID = 150, TOLD = 500; // ms sans mouvement avant que la phrase soit lue, puis que Python apprenne les valeurs
let made = 0; // deux figures d'une page, ou deux vues d'une seule, n'ont pas les mêmes identifiants

function element(name, properties, ...children) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

// Un curseur, ou une liste quand ses valeurs sont des noms.
function control({label, texts, named}, moved) {
  const id = `kd-${made++}`;
  const input = named
    ? element('select', {id}, ...texts.map(text => element('option', {textContent: text})))
    : element('input', {id, type: 'range', min: 0, max: texts.length - 1, step: 1});
  const readout = element('output', {htmlFor: id});
  readout.setAttribute('aria-live', 'off'); // la phrase le dit déjà
  readout.style.minWidth = `${Math.max(...texts.map(text => text.length))}ch`; // la ligne garde sa hauteur
  const position = () => named ? input.selectedIndex : Number(input.value);
  input.addEventListener('input', () => moved(position()));
  const show = chosen => {
    if (position() !== chosen) named ? (input.selectedIndex = chosen) : (input.value = chosen);
    if (named) return;
    input.setAttribute('aria-valuetext', texts[chosen]);
    readout.textContent = texts[chosen];
  };
  const name = element('label', {htmlFor: id, textContent: label});
  return {row: element('div', {className: 'kd-slider'}, name, input, ...(named ? [] : [readout])), show};
}

// Remplit « root » ; rend la fonction qui montre d'autres positions. « moved » reçoit celles où la main s'est arrêtée.
export function play(root, figure, positions, moved = () => {}) {
  const {width, height, background, pieces, frames, words, sliders} = figure;
  const picture = element('div', {innerHTML: `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" `
    + `role="group" style="max-width: ${width / 0.72}px">${background}</svg>`});
  const svg = picture.firstChild, shown = [];
  const slots = frames[0].map(() => svg.appendChild(document.createElementNS(svg.namespaceURI, 'g')));
  const status = element('p', {className: 'kd-words'});
  status.setAttribute('role', 'status');
  let timers = [];

  const sentence = state => [
    ...sliders.map(({label, texts}, rank) => `${label} : ${texts[positions[rank]]}`), words[state],
  ].join('. ');
  const draw = () => {
    const state = positions.reduce((state, position, rank) => state * sliders[rank].texts.length + position, 0);
    frames[state].forEach((piece, slot) => {
      if (shown[slot] !== piece) slots[slot].innerHTML = pieces[shown[slot] = piece];
    });
    controls.forEach(({show}, rank) => show(positions[rank]));
    return state;
  };
  const announce = state => {
    status.textContent = sentence(state);
    svg.setAttribute('aria-label', words[state]);
  };
  const controls = sliders.map((slider, rank) => control(slider, position => {
    positions = positions.with(rank, position);
    const state = draw();
    timers.forEach(clearTimeout);
    timers = [setTimeout(announce, SAID, state), setTimeout(moved, TOLD, positions)];
  }));

  const player = element('div', {className: 'kd-player'}, ...controls.map(({row}) => row), picture, status);
  // Les flèches d'un curseur sont à lui : JupyterLab en ferait des commandes.
  player.addEventListener('keydown', event => event.stopPropagation());
  root.replaceChildren(player);
  announce(draw());
  return chosen => { positions = chosen; announce(draw()); };
}

// Une page peut porter plusieurs figures, chacune avec sa description : le premier enfant de « .kd-figure ».
export function playAll(page = document) {
  for (const figure of page.querySelectorAll('.kd-figure')) {
    const {played, positions} = JSON.parse(figure.firstElementChild.textContent);
    play(figure, played, positions);
  }
}

export default {
  render({model, el}) {
    const figure = model.get('played'), {sliders} = figure;
    const read = () => sliders.map(({name, values}) => Math.max(0, values.indexOf(model.get(name))));
    const show = play(el, figure, read(), positions => {
      sliders.forEach(({name, values}, rank) => model.set(name, values[positions[rank]]));
      try { model.save_changes(); } catch { /* noyau arrêté : la figure, elle, a déjà bougé */ }
    });
    const follow = () => show(read());
    sliders.forEach(({name}) => model.on(`change:${name}`, follow));
    return () => sliders.forEach(({name}) => model.off(`change:${name}`, follow));
  },
};
