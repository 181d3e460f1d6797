"""Le mécanisme commun des curseurs, ``SliderFigure`` ; chaque widget y apporte sa fonction d'état.

Rien ne s'entraîne ici : un curseur se promène sur des logits ou des mesures déjà là. Le fond de la figure est dessiné
une fois ; à chaque mouvement, seuls les artistes qui changent le sont de nouveau, et l'image part en PNG. Le calcul est
synchrone : le navigateur n'envoie la valeur suivante qu'une fois la précédente dessinée, et garde alors la dernière.

``python -m benchmarks widgets`` mesure ce qu'un mouvement coûte, de la touche au pixel. Deux postes y dominaient : les
filtres qu'un encodeur PNG essaie à chaque ligne, et l'ajustement du texte à la grille des pixels (*hinting*).
"""

import base64
import html
import struct
import zlib
from collections.abc import Callable, Mapping, Sequence

import ipywidgets
import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from kdcourse.formats import french
from kdcourse.widgets.screen_reader import in_words, labels

DPI = 100
TEXT = {"text.hinting": "none"}  # une ligne de texte se dessine au moins deux fois plus vite, et aussi nette


def control_layout() -> ipywidgets.Layout:
    """Une largeur bornée ; dans une fenêtre étroite ou zoomée, le curseur passe sous son nom au lieu de disparaître."""
    return ipywidgets.Layout(width="min(560px, 95%)", height="auto", flex_flow="row wrap")


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
        layout=control_layout(),
    )


def encode_png(pixels: np.ndarray) -> bytes:
    """Un PNG opaque de pixels ``(H, W, 3 ou 4)``, octets, sans filtre et à peine compressé.

    Sur une figure, presque toute en aplats, les filtres de ligne que les bibliothèques essaient un à un coûtent plus
    que la compression, et n'y gagnent presque rien en taille.
    """
    height, width = pixels.shape[:2]
    rows = np.zeros((height, 1 + 3 * width), np.uint8)  # chaque ligne commence par le numéro de son filtre : 0, aucun
    for channel in range(3):
        rows[:, 1 + channel :: 3] = pixels[..., channel]
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)  # 8 bits par canal, type 2 : RVB
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows, 1)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
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
        with matplotlib.rc_context(TEXT):
            self._canvas.draw()
        figure.set_layout_engine("none")  # la mise en page est faite : plus rien ne bouge que les artistes
        self._background = self._canvas.copy_from_bbox(figure.bbox)
        # Jamais étirée au-delà de ses pixels, rétrécie dans une fenêtre étroite.
        shape = ipywidgets.Layout(max_width="100%", object_fit="contain", align_self="flex-start", margin="0")
        self.image = ipywidgets.Image(format="png", layout=shape)
        self.message, self.spoken = ipywidgets.HTML(), ipywidgets.HTML()
        parts = [*self.sliders.values(), self.image, self.message, self.spoken, labels(self.sliders)]
        # La marge de gauche laisse entier le bouton d'un curseur au premier cran.
        self.box = ipywidgets.VBox(parts, layout=ipywidgets.Layout(max_width="100%", padding="0 0 0 8px"))
        self.box.add_class("kdcourse-sliders")
        for control in self.sliders.values():
            control.observe(self.refresh, names="value")
        self.refresh()

    def refresh(self, _change=None) -> None:
        """Redessine pour les valeurs actuelles des curseurs ; une erreur se lit sous l'image, qui reste la dernière."""
        try:
            self.update(**{name: control.value for name, control in self.sliders.items()})
            self.image.value = self._png()
            self.message.value = ""
            self.spoken.value = in_words(self.sliders, self.artists)  # après l'image, que rien ne retarde
        except Exception as error:  # un callback qui lève disparaîtrait dans le journal de JupyterLab
            reason = html.escape(f"{type(error).__name__} : {error}")
            self.message.value = f"<p style='color:#B00020'>Ce réglage n'a pas pu être dessiné. {reason}</p>"

    def _png(self) -> bytes:
        self._canvas.restore_region(self._background)
        with matplotlib.rc_context(TEXT):
            for artist in self.artists:
                self.figure.draw_artist(artist)
        return encode_png(np.asarray(self._canvas.buffer_rgba()))

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
