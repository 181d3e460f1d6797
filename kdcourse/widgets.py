"""Les curseurs du cours. Un seul mécanisme, ``SliderFigure`` ; chaque widget y apporte sa fonction d'état.

Rien ne s'entraîne ici : un curseur se promène sur des logits ou des mesures déjà là. Le fond de la figure est dessiné
une fois ; à chaque mouvement, seuls les artistes qui changent le sont de nouveau, et l'image part en PNG. Le calcul est
synchrone : le navigateur n'envoie la valeur suivante qu'une fois la précédente dessinée, et garde alors la dernière.
"""

import base64
import html
import io
import math
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import ipywidgets
import numpy as np
import torch
from matplotlib.artist import Artist
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

from kdcourse._common import check_number
from kdcourse.comparison import BiasSweep, french, mean_interval
from kdcourse.data import Split
from kdcourse.loop import predict
from kdcourse.plots import COLORS, MARKERS, as_picture, bits, comma_axis, entropy_bits, most_uncertain, softened

_DPI = 100


def slider(label: str, values: Sequence[float], start: float, digits: int = 1) -> ipywidgets.SelectionSlider:
    """Un curseur dont la valeur s'écrit à la française ; les flèches du clavier le déplacent d'un cran."""
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


class TemperatureState(NamedTuple):
    """Ce que montre ``TemperatureExplorer`` : probabilités ``(C,)`` et entropie en bits."""

    probabilities: Tensor
    entropy: float


def temperature_state(logits: Tensor, temperature: float) -> TemperatureState:
    """Prédiction adoucie d'une image : logits ``(C,)`` et T > 0 vers probabilités et entropie."""
    check_number("temperature", temperature, math.ulp(0.0), 1e6, "un nombre strictement positif")
    probabilities = softened(logits, temperature)
    return TemperatureState(probabilities, entropy_bits(probabilities))


class TemperatureExplorer(SliderFigure):
    """Curseur de température sur des images choisies de la plus ambiguë à la plus sûre.

    À gauche l'image, au milieu sa prédiction adoucie, à droite l'entropie en fonction de T.

    Args:
        teacher: un modèle qui rend des logits.
        part: les images où choisir.
        count: nombre d'images proposées, régulièrement espacées dans ce classement.
    """

    def __init__(self, teacher: nn.Module, part: Split, count: int = 12):
        order = most_uncertain(teacher, part, len(part.labels))
        chosen = order[torch.linspace(0, len(order) - 1, count).long()]
        logits = predict(teacher, part.images[chosen]).cpu()
        images, labels = [as_picture(image) for image in part.images[chosen]], part.labels[chosen].tolist()
        classes = logits.shape[-1]
        temperatures = np.geomspace(0.5, 32, 37)

        figure = Figure(figsize=(9, 3.1), dpi=_DPI, layout="constrained")
        picture, bars, curve = figure.subplots(1, 3, width_ratios=(1, 2, 1.6))
        picture.axis("off")
        image = picture.imshow(images[0], cmap="gray_r", vmin=0, vmax=1)
        caption = picture.text(0.5, -0.12, "", transform=picture.transAxes, ha="center", va="center")
        rectangles = bars.bar(range(classes), np.zeros(classes), color=COLORS["teacher"])
        bars.set(ylim=(0, 1), xticks=range(classes), xlabel="classe", ylabel="probabilité du teacher")
        heading = bars.text(0.98, 0.93, "", transform=bars.transAxes, ha="right", va="center", weight="bold")
        (line,) = curve.plot([], [], color=COLORS["teacher"])
        (point,) = curve.plot([], [], MARKERS["teacher"], color=COLORS["teacher"], ms=9)
        curve.axhline(np.log2(classes), color="0.6", ls=":", lw=1)
        curve.text(0.5, np.log2(classes), "uniforme", va="bottom", fontsize=8, color="0.4")
        curve.set(xscale="log", xlim=(0.45, 36), ylim=(0, np.log2(classes) * 1.12))
        curve.set(xlabel="température T (échelle log)", ylabel="entropie (bits)")
        curve.set_xticks([0.5, 1, 2, 4, 8, 16, 32], ["0,5", "1", "2", "4", "8", "16", "32"])
        curve.minorticks_off()
        comma_axis(bars.yaxis, curve.yaxis)
        entropies = np.array([[temperature_state(z, t).entropy for t in temperatures] for z in logits])

        def update(temperature: float, image_number: int) -> None:
            index = int(image_number) - 1
            state = temperature_state(logits[index], temperature)
            image.set_data(images[index])
            caption.set_text(f"étiquette : {labels[index]}")
            for rectangle, height in zip(rectangles, state.probabilities.tolist(), strict=True):
                rectangle.set_height(height)
            heading.set_text(f"T = {french(temperature)}   entropie : {bits(state.entropy)}")
            line.set_data(temperatures, entropies[index])
            point.set_data([temperature], [state.entropy])

        steps = [0.5, *np.arange(1, 10.1, 0.5), *np.arange(11, 20.1, 1), 24, 28, 32]
        super().__init__(
            figure,
            [image, caption, *rectangles, heading, line, point],
            update,
            {
                "temperature": slider("Température T", steps, 1),
                "image_number": slider(
                    "Image (de la plus ambiguë à la plus sûre)", range(1, len(labels) + 1), 1, digits=0
                ),
            },
        )


class BiasExplorer(SliderFigure):
    """Curseur sur le biais d'une classe jamais vue : son rappel, et ce qu'il coûte en erreur globale.

    Args:
        biases: biais mesurés, ``(n,)``.
        sweeps: nom → (``BiasSweep`` de mesures ``(S, n)``, indices des biais réglés, rôle de ``COLORS``).
        label: la classe.
    """

    def __init__(self, biases: Tensor, sweeps: Mapping[str, tuple[BiasSweep, Tensor, str]], label: int):
        names, start = list(sweeps), 5.0 if 5.0 in biases.tolist() else biases[0].item()
        figure = Figure(figsize=(9, 3.3), dpi=_DPI, layout="constrained")
        axes = figure.subplots(1, 2)
        artists = []
        panels = []
        for ax, field, title in zip(
            axes, ("recall", "error"), (f"rappel des {label} (%)", "erreur globale (%)"), strict=True
        ):
            intervals = {
                name: [mean_interval(column) for column in getattr(sweep, field).T]
                for name, (sweep, *_) in sweeps.items()
            }
            rectangles = ax.bar(names, np.zeros(len(names)), color=[COLORS[role] for *_, role in sweeps.values()])
            whiskers = [ax.plot([x, x], [0, 0], color="0.15", lw=2)[0] for x in range(len(names))]
            texts = [ax.text(x, 0, "", ha="center", va="bottom", weight="bold") for x in range(len(names))]
            top = 100 if field == "recall" else max(i.high for rows in intervals.values() for i in rows)
            ax.set(ylim=(0, 1.15 * top), title=title)
            ax.tick_params(axis="x", labelsize=9)
            artists += [*rectangles, *whiskers, *texts]
            panels.append((intervals, rectangles, whiskers, texts))
        figure.supxlabel("moyenne sur les graines, trait : intervalle à 95 %", fontsize=9)
        position = {round(float(bias), 4): index for index, bias in enumerate(biases)}

        heading = figure.suptitle("0", fontsize=11)
        artists.append(heading)

        def update(bias: float) -> None:
            index = position[round(bias, 4)]
            heading.set_text(f"biais ajouté au logit du {label} : {french(bias, 2)}")
            for intervals, rectangles, whiskers, texts in panels:
                for name, rectangle, whisker, text in zip(names, rectangles, whiskers, texts, strict=True):
                    interval = intervals[name][index]
                    rectangle.set_height(interval.mean)
                    whisker.set_ydata([interval.low, interval.high])
                    text.set_position((text.get_position()[0], max(interval.high, interval.mean) + 0.5))
                    text.set_text(french(interval.mean))

        super().__init__(
            figure,
            artists,
            update,
            {"bias": slider(f"Biais ajouté au logit du {label}", biases.tolist(), start, digits=2)},
        )
