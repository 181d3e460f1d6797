// Injecté avant JupyterLab : note quand une touche arrive, et quand la page est peinte avec une autre image, qu'elle
// soit une <img> dont la source change ou un SVG dont des morceaux changent. Les heures, en ms, sont celles de
// performance.now().
window.probe = (() => {
  const keys = [], changes = [];
  let waiting = [];
  addEventListener('keydown', event => keys.push(event.timeStamp), true);

  function changed(content) {
    const change = {content};
    requestAnimationFrame(frame => {
      // La première tâche après l'image d'animation : la page vient d'être peinte.
      const {port1, port2} = new MessageChannel();
      port1.onmessage = () => {
        if (changes.at(-1)?.frame === frame) changes.pop(); // peinte une seule fois, avec la dernière
        changes.push(Object.assign(change, {frame, painted: performance.now()}));
        if (content instanceof SVGElement) change.content = content.innerHTML; // écrit une fois le chronomètre arrêté
        waiting = waiting.filter(({count, resolve}) => changes.length < count || void resolve());
      };
      port2.postMessage(0);
    });
  }

  // « load » ne remonte pas, mais le document peut le capturer.
  document.addEventListener('load', ({target}) => {
    if (target instanceof HTMLImageElement) changed(createImageBitmap(target));
  }, true);
  new MutationObserver(records => {
    const group = records.map(({target}) => target).find(target => target instanceof SVGElement);
    if (group) changed(group.closest('svg'));
  }).observe(document, {childList: true, subtree: true});

  async function bytes(content) {
    if (typeof content === 'string') return new TextEncoder().encode(content);
    const image = await content, canvas = new OffscreenCanvas(image.width, image.height);
    const context = canvas.getContext('2d', {willReadFrequently: true});
    context.drawImage(image, 0, 0);
    return context.getImageData(0, 0, image.width, image.height).data;
  }

  async function digest(content) {
    const hash = await crypto.subtle.digest('SHA-1', await bytes(content));
    return Array.from(new Uint8Array(hash, 0, 8), byte => byte.toString(16).padStart(2, '0')).join('');
  }

  return {
    reset() { for (const list of [keys, changes]) list.length = 0; },
    // Rend quand « count » images ont été peintes, ou après « limit » ms.
    painted: (count, limit) => Promise.race([
      new Promise(resolve => changes.length >= count ? resolve() : waiting.push({count, resolve})),
      new Promise(resolve => setTimeout(resolve, limit)),
    ]),
    // Ce qui s'est passé depuis reset ; l'empreinte se calcule ici, une fois le chronomètre arrêté.
    async report() {
      const seen = await Promise.all(changes.map(async ({painted, content}) =>
        ({painted, digest: await digest(content)})));
      return {keys: [...keys], changes: seen};
    },
  };
})();
