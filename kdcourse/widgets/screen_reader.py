"""Ce qu'un lecteur d'écran reçoit d'un curseur : son nom, sa valeur, et en mots ce que montre l'image.

ipywidgets donne à chaque curseur le rôle ``slider`` et ses touches (flèches, Page, Début, Fin), mais ni nom, ni autre
valeur que le rang du cran ; à l'image, aucun texte. Le script ci-dessous complète les attributs dans la page. Sans lui
(une interface qui refuse le JavaScript), tout marche encore, et la phrase reste lisible à sa place, sous l'image.
"""

import html
from collections.abc import Mapping, Sequence

import ipywidgets
from matplotlib.artist import Artist
from matplotlib.text import Text

# Hors de vue, mais pas du lecteur d'écran : le réglage usuel des feuilles de style.
_HIDDEN = "position:absolute;width:1px;height:1px;margin:-1px;overflow:hidden;clip-path:inset(50%);white-space:nowrap"

_SCRIPT = """
(function label(tries) {
  const box = element.closest('.kdcourse-sliders');
  const sliders = box ? [...box.querySelectorAll('.widget-hslider')] : [];
  const image = box && box.querySelector('img'), words = box && box.querySelector('.kdcourse-words');
  if (!image || !words || sliders.length < COUNT) {  // les vues arrivent une à une
    if (tries) setTimeout(label, 100, tries - 1);
    return;
  }
  for (const slider of sliders) {
    const [name, handle, readout] = ['label', '[role=slider]', '.widget-readout'].map(s => slider.querySelector(s));
    if (!handle || !readout) continue;  // ipywidgets 7 dessine d'autres curseurs
    const tell = () => handle.setAttribute('aria-valuetext', readout.textContent);
    handle.setAttribute('aria-label', name.textContent);
    readout.contentEditable = false;  // taper dedans ne faisait qu'abîmer la valeur écrite
    new MutationObserver(tell).observe(readout, {childList: true, characterData: true, subtree: true});
    tell();
  }
  for (const name of box.querySelectorAll('label')) {
    name.title = name.textContent;  // ipywidgets 8 y écrit « null »
    Object.assign(name.style, {whiteSpace: 'normal', height: 'auto', flexShrink: 1});  // long, il se replie
  }
  const region = words.parentElement;  // elle reste quand la phrase change, et l'annonce
  const describe = () => { image.alt = region.textContent; };
  region.setAttribute('role', 'status');
  new MutationObserver(describe).observe(region, {childList: true, subtree: true});
  describe();
})(100);
"""


def labels(controls: Mapping[str, ipywidgets.Widget]) -> ipywidgets.Output:
    """Le script qui nomme les curseurs de la boîte de classe ``kdcourse-sliders`` où il se trouve."""
    count = sum(isinstance(control, ipywidgets.SelectionSlider) for control in controls.values())
    script = {"application/javascript": _SCRIPT.replace("COUNT", str(count)), "text/plain": ""}
    output = {"output_type": "display_data", "data": script, "metadata": {}}
    return ipywidgets.Output(outputs=[output], layout=ipywidgets.Layout(display="none"))


def in_words(controls: Mapping[str, ipywidgets.Widget], artists: Sequence[Artist]) -> str:
    """Les valeurs choisies, puis ce que l'image écrit : « Température T : 2,0. étiquette : 8. … ».

    Un texte qui ne dit pas de quoi il parle (un nombre au-dessus d'une barre) le dit par son ``label``.
    """
    chosen = [f"{control.description} : {_shown(control)}" for control in controls.values()]
    texts = [artist for artist in artists if isinstance(artist, Text) and artist.get_text()]
    written = [" : ".join(filter(None, [text.get_label(), text.get_text()])) for text in texts]
    sentence = html.escape(". ".join(chosen + written))
    return f"<p class='kdcourse-words' style='{_HIDDEN}'>{sentence}</p>"


def _shown(control: ipywidgets.Widget) -> str:
    option = control.options[control.index]  # le trait « label » reste vide tant que rien n'a bougé
    return option[0] if isinstance(option, tuple) else str(option)
