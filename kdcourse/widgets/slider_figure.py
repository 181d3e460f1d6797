"""Le mécanisme commun des curseurs, ``SliderFigure`` ; chaque widget y apporte sa fonction d'état.

Rien ne s'entraîne ici : un curseur se promène sur des logits ou des mesures déjà là. Le fond de la figure est dessiné
une fois ; à chaque mouvement, seuls les artistes qui changent le sont de nouveau, et l'image part en PNG. Le calcul est
synchrone : le navigateur n'envoie la valeur suivante qu'une fois la précédente dessinée, et garde alors la dernière.
"""

import base64
import html
import io
from collections.abc import Callable, Mapping, Sequence

import ipywidgets
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image

from kdcourse.comparison import french

DPI = 100


def slider(label: str, values: Sequence[float], start: float, digits: int | None = None) -> ipywidgets.SelectionSlider:
    """Un curseur dont la valeur s'écrit à la française ; les flèches du clavier le déplacent d'un cran.

    Sans ``digits``, autant de décimales qu'il en faut pour écrire chaque valeur, trois au plus.
    """
    if digits is None:
        digits = next((d for d in range(3) if all(abs(round(v, d) - v) < 1e-9 for v in values)), 3)
    if len(set(values)) != len(list(values)):
        raise ValueError(f"values : {list(values)} reçu, des valeurs toutes différentes attendues.")
    options = [(french(value, digits), float(value)) for value in values]
    return ipywidgets.SelectionSlider(
        options=options,
        value=float(start),
        description=label,
        continuous_update=True,
        style={"description_width": "initial"},
        layout=ipywidgets.Layout(width="min(460px, 95%)"),
    )


class SliderFigure:
    """Des curseurs au-dessus d'une image que chaque mouvement met à jour.

    Args:
        figure: la figure, avec tout ce qui ne bouge pas.
        artists: les artistes que ``update`` modifie ; eux seuls sont redessinés.
        update: fonction qui reçoit les valeurs des curseurs, par leur nom, et modifie ``artists``.
        sliders: nom → curseur.
    """

    def __init__(
        self,
        figure: Figure,
        artists: Sequence[Artist],
        update: Callable[..., None],
        sliders: Mapping[str, ipywidgets.Widget],
    ):
        self.figure, self.artists, self.update, self.sliders = figure, list(artists), update, dict(sliders)
        self._canvas = FigureCanvasAgg(figure)
        for artist in self.artists:
            artist.set_animated(True)
        self._canvas.draw()
        figure.set_layout_engine("none")  # la mise en page est faite : plus rien ne bouge que les artistes
        self._background = self._canvas.copy_from_bbox(figure.bbox)
        self.image = ipywidgets.Image(format="png", layout=ipywidgets.Layout(max_width="100%", object_fit="contain"))
        self.message = ipywidgets.HTML()
        self.box = ipywidgets.VBox([*self.sliders.values(), self.image, self.message])
        for control in self.sliders.values():
            control.observe(self.refresh, names="value")
        self.refresh()

    def refresh(self, _change=None) -> None:
        """Redessine pour les valeurs actuelles des curseurs ; une erreur se lit sous l'image, qui reste la dernière."""
        try:
            self.update(**{name: control.value for name, control in self.sliders.items()})
            self.image.value = self._png()
            self.message.value = ""
        except Exception as error:  # un callback qui lève disparaîtrait dans le journal de JupyterLab
            reason = html.escape(f"{type(error).__name__} : {error}")
            self.message.value = f"<p style='color:#B00020'>Ce réglage n'a pas pu être dessiné. {reason}</p>"

    def _png(self) -> bytes:
        self._canvas.restore_region(self._background)
        for artist in self.artists:
            self.figure.draw_artist(artist)
        buffer = io.BytesIO()
        Image.fromarray(np.asarray(self._canvas.buffer_rgba())).convert("RGB").save(buffer, "png", compress_level=1)
        return buffer.getvalue()

    def _repr_mimebundle_(self, include=None, exclude=None) -> dict:
        # L'image accompagne la vue : GitHub et un notebook rouvert sans noyau montrent au moins le premier état.
        return {
            "application/vnd.jupyter.widget-view+json": {
                "version_major": 2,
                "version_minor": 0,
                "model_id": self.box.model_id,
            },
            "image/png": base64.b64encode(self.image.value).decode(),
            "text/plain": f"{type(self).__name__} : exécutez la cellule pour déplacer les curseurs.",
        }
