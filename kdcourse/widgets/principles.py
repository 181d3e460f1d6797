"""Les curseurs de 10.1 : la température d'une prédiction, le biais d'une classe jamais vue."""

import math
from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor, nn

from kdcourse.data.splits import Split
from kdcourse.formats import french
from kdcourse.losses.checks import check_number
from kdcourse.measures.intervals import BiasSweep, mean_interval
from kdcourse.measures.principles import entropy, most_uncertain, softened
from kdcourse.plots.common import COLORS, MARKERS, as_picture, comma_axis
from kdcourse.plots.principles import nats
from kdcourse.training.frozen_teacher import predict
from kdcourse.widgets.slider_figure import DPI, SliderFigure, slider, unclipped


class TemperatureState(NamedTuple):
    """Ce que montre ``TemperatureExplorer`` : probabilités ``(C,)`` et entropie en nats."""

    probabilities: Tensor
    entropy: float


def temperature_state(logits: Tensor, temperature: float) -> TemperatureState:
    """Prédiction adoucie d'une image : logits ``(C,)`` et T > 0 vers probabilités et entropie."""
    check_number("temperature", temperature, math.ulp(0.0), 1e6, "un nombre strictement positif")
    probabilities = softened(logits, temperature)
    return TemperatureState(probabilities, entropy(probabilities))


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

        figure = Figure(figsize=(9, 3.1), dpi=DPI, layout="constrained")
        picture, bars, curve = figure.subplots(1, 3, width_ratios=(1, 2, 1.6))
        picture.axis("off")
        image = picture.imshow(images[0], cmap="gray_r", vmin=0, vmax=1)
        caption = picture.text(0.5, -0.12, "", transform=picture.transAxes, ha="center", va="center")
        rectangles = bars.bar(range(classes), np.zeros(classes), color=COLORS["teacher"])
        bars.set(ylim=(0, 1), xticks=range(classes), xlabel="classe", ylabel="probabilité du teacher")
        heading = bars.set_title("0", fontsize=10, weight="bold")
        (line,) = curve.plot([], [], color=COLORS["teacher"])
        (point,) = curve.plot([], [], MARKERS["teacher"], color=COLORS["teacher"], ms=9)
        curve.axhline(np.log(classes), color="0.6", ls=":", lw=1)
        curve.text(0.5, np.log(classes), "uniforme", va="bottom", fontsize=8, color="0.4")
        curve.set(xscale="log", xlim=(0.45, 36), ylim=(0, np.log(classes) * 1.12))
        curve.set(xlabel="température T (échelle log)", ylabel="entropie (nats)")
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
            second = state.probabilities.sort(descending=True).values[1]
            heading.set_text(
                f"T = {french(temperature)} ; entropie : {nats(state.entropy)} ; "
                f"deuxième classe : {french(100 * second)} %"
            )
            line.set_data(temperatures, entropies[index])
            point.set_data([temperature], [state.entropy])

        steps = [0.5, *np.arange(1, 10.1, 0.5), *np.arange(11, 20.1, 1), 24, 28, 32]
        super().__init__(
            figure,
            [*unclipped(image, caption, *rectangles), heading, *unclipped(line, point)],
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
        figure = Figure(figsize=(9, 3.3), dpi=DPI, layout="constrained")
        axes = figure.subplots(1, 2)
        artists = []
        panels = []
        for ax, field, title in zip(
            axes, ("recall", "error"), (f"rappel des {label} (%)", "erreur globale (%)"), strict=True
        ):
            intervals = {
                name: [mean_interval(column).clipped(0, 100) for column in getattr(sweep, field).T]
                for name, (sweep, *_) in sweeps.items()
            }
            rectangles = ax.bar(names, np.zeros(len(names)), color=[COLORS[role] for *_, role in sweeps.values()])
            whiskers = [ax.plot([x, x], [0, 0], color="0.15", lw=2)[0] for x in range(len(names))]
            texts = [
                ax.text(x, 0, "", ha="center", va="bottom", weight="bold", label=f"{title}, {name}")
                for x, name in enumerate(names)
            ]
            top = 100 if field == "recall" else max(i.high for rows in intervals.values() for i in rows)
            ax.set(ylim=(0, 1.15 * top), title=title)
            ax.tick_params(axis="x", labelsize=9)
            artists += unclipped(*rectangles, *whiskers, *texts)
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
