"""Les curseurs de 10.2 : le gradient d'une image selon T, et la carte T × alpha."""

from typing import NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from kdcourse.formats import french, short
from kdcourse.losses.checks import check_finite, check_floating
from kdcourse.measures.intervals import Interval, mean_interval, points
from kdcourse.measures.logits import logit_gradient, matching_gradient
from kdcourse.measures.principles import softened
from kdcourse.measures.temperature_map import TemperatureMap
from kdcourse.plots.common import COLORS, MARKERS, as_picture, comma_axis
from kdcourse.plots.logits import draw_map, sign, write_in_cell
from kdcourse.widgets.slider_figure import DPI, SliderFigure, slider, unclipped


class GradientExplorer(SliderFigure):
    """Curseur de température sur une image : les deux prédictions, et dessous le gradient, classe par classe.

    À droite l'image, et la norme du gradient selon T, avec et sans T².

    Args:
        image: ``(C, H, W)``, C = 1 ou 3.
        student: logits du student sur cette image, ``(C,)``.
        teacher: logits du teacher, ``(C,)``.
    """

    def __init__(self, image: Tensor, student: Tensor, teacher: Tensor):
        check_floating("image", image, (3,), "(C, H, W)")
        for name, logits in (("student", student), ("teacher", teacher)):
            check_floating(name, logits, (1,), "(C,)")
            check_finite(name, logits)
        if student.shape != teacher.shape or torch.equal(student, teacher):
            raise ValueError(
                f"student, teacher : formes {tuple(student.shape)} et {tuple(teacher.shape)} reçues, deux prédictions "
                "différentes d'une même taille attendues."
            )
        classes, steps = np.arange(len(student)), [0.5, 1, 1.5, 2, 3, 4, 6, 8, 12, 16, 24, 32, 64, 128]
        limit = matching_gradient(student, teacher)
        table = {t: logit_gradient(student, teacher, t) for t in steps}
        predictions = {t: [softened(logits, t).tolist() for logits in (teacher, student)] for t in steps}
        norms = np.array([float(g.norm()) for g in table.values()])

        figure = Figure(figsize=(9.6, 5), dpi=DPI, layout="constrained")
        (probabilities, picture), (bars, curve) = figure.subplots(2, 2, width_ratios=(1.7, 1), height_ratios=(1, 1.3))
        picture.imshow(as_picture(image), cmap="gray_r", vmin=0, vmax=1)
        picture.axis("off")
        hollow = {"fill": False, "lw": 1.5}  # creuses : lisibles sans la couleur
        flat = np.zeros(len(student))
        pairs = [
            probabilities.bar(classes - 0.2, flat, 0.4, color=COLORS["teacher"], label="teacher"),
            probabilities.bar(classes + 0.2, flat, 0.4, ec=COLORS["student"], label="student neuf", **hollow),
        ]
        probabilities.set(ylim=(0, 1), xticks=classes, ylabel="prédiction à T")
        probabilities.legend(frameon=False, fontsize=8, ncols=2, loc="upper right")
        heights = [float(g.abs().max()) * max(1, 1 / t**2) for t, g in table.items()]
        top = 1.15 * max(*heights, float(limit.abs().max()))
        with_factor = bars.bar(classes - 0.2, flat, 0.4, color=COLORS["distilled"])
        without_factor = bars.bar(classes + 0.2, flat, 0.4, ec=COLORS["neutral"], **hollow)
        bars.plot(classes - 0.2, limit.tolist(), MARKERS["teacher"], mfc="none", color=COLORS["teacher"], ms=7)
        bars.axhline(0, color="0.4", lw=0.8)
        bars.set(ylim=(-top, top), xticks=classes, xlabel="classe", ylabel="gradient du logit")
        handles = [with_factor, without_factor, bars.lines[0]]
        bars.legend(handles, ["avec T²", "sans T²", "limite, T → ∞"], frameon=False, fontsize=8, ncols=3)
        heading = figure.suptitle("0", fontsize=11)
        for values, role, line, name in (
            (norms, "distilled", "-", "avec T²"),
            (norms / np.square(steps), "neutral", "--", "sans T²"),
        ):
            curve.plot(steps, values, line, color=COLORS[role], label=name)
        curve.axhline(float(limit.norm()), color=COLORS["teacher"], ls=":", label="limite")
        curve.legend(frameon=False, fontsize=8, loc="lower left")
        points = [curve.plot([], [], MARKERS[r], color=COLORS[r], ms=9)[0] for r in ("distilled", "neutral")]
        curve.set(xscale="log", yscale="log", xlabel="température T", ylabel="norme du gradient")
        curve.set_ylim(bottom=max(norms[-1] / steps[-1] ** 2 / 3, 1e-12))
        curve.set_xticks([0.5, 1, 4, 16, 64], ["0,5", "1", "4", "16", "64"])
        curve.minorticks_off()
        comma_axis(probabilities.yaxis, bars.yaxis)

        def update(temperature: float) -> None:
            gradient = table[temperature]
            heights = [*predictions[temperature], gradient.tolist(), (gradient / temperature**2).tolist()]
            for group, values in zip((*pairs, with_factor, without_factor), heights, strict=True):
                for rectangle, height in zip(group, values, strict=True):
                    rectangle.set_height(height)
            norm = float(gradient.norm())
            small = short(float(f"{norm / temperature**2:.2g}"))
            heading.set_text(f"T = {short(temperature)} : norme du gradient {french(norm, 2)} avec T², {small} sans")
            for point, height in zip(points, (norm, norm / temperature**2), strict=True):
                point.set_data([temperature], [height])

        moving = [*pairs[0], *pairs[1], *with_factor, *without_factor]
        super().__init__(
            figure,
            [*unclipped(*moving, bars.lines[0], *points), heading],  # la limite, par-dessus les barres
            update,
            {"temperature": slider("Température T", steps, 4)},
        )


class MapState(NamedTuple):
    """Ce que ``MapExplorer`` montre d'une case : erreur et gain de test, courbe de validation, réponses fausses."""

    error: Interval
    gain: Interval
    curve: np.ndarray
    """Moyenne, bas et haut de l'intervalle à 95 %, ``(3, E)``."""
    mistakes: np.ndarray
    """Images de test mal classées par (étiquette, réponse), moyenne sur les graines, ``(C, C)``."""


def map_state(measured: TemperatureMap, temperature: float, alpha: float) -> MapState:
    """La case d'une température et d'un alpha de la carte."""
    row, column = measured.temperatures.index(temperature), measured.alphas.index(alpha)
    curve = np.array([mean_interval(values) for values in measured.curves[row, column].T]).T
    mistakes = measured.confusions[row, column].numpy().copy()
    np.fill_diagonal(mistakes, 0)
    return MapState(mean_interval(measured.errors[row, column]), measured.gain(row, column), curve, mistakes)


class MapExplorer(SliderFigure):
    """Deux curseurs sur une carte T × alpha : la case choisie, sa courbe d'apprentissage et ses confusions.

    Chaque case porte le signe de son gain de test : « + » ou « − », « · » quand l'intervalle contient 0.

    Args:
        measured: la carte.
        start: la température et l'alpha de départ ; par défaut, la meilleure case en validation.
    """

    def __init__(self, measured: TemperatureMap, start: tuple[float, float] | None = None):
        states = {(t, a): map_state(measured, t, a) for t in measured.temperatures for a in measured.alphas}
        epochs = np.arange(1, measured.curves.shape[-1] + 1)
        figure = Figure(figsize=(9.6, 3.5), dpi=DPI, layout="constrained")
        chart, curve, confusion = figure.subplots(1, 3, width_ratios=(1.1, 1.2, 1.1))
        image = draw_map(chart, measured)
        for row, column in np.ndindex(measured.gains().shape):  # lisible sans la couleur
            write_in_cell(chart, image, row, column, sign(measured.gain(row, column)), size=14)
        chart.set_title("+ gain, − recul, · non établi", fontsize=9)
        scales = [figure.colorbar(image, ax=chart, location="bottom", label="gain de test (points)", shrink=0.9)]
        frame = chart.add_patch(Rectangle((0, 0), 1, 1, fill=False, ec="black", lw=3))
        frame.set_path_effects([withStroke(linewidth=6, foreground="white")])  # se voit aussi sur le plus sombre

        alone = np.array([mean_interval(values) for values in measured.alone_curve.T]).T
        curve.plot(epochs, alone[0], "--", color=COLORS["student"], label="seul")
        curve.fill_between(epochs, alone[1], alone[2], color=COLORS["student"], alpha=0.2, lw=0)
        (line,) = curve.plot(epochs, alone[0], color=COLORS["distilled"], label="distillé")
        band = curve.fill_between(epochs, alone[1], alone[2], color=COLORS["distilled"], alpha=0.25, lw=0)
        last = max(alone[0, -1], *(state.curve[0, -1] for state in states.values()))
        curve.set(ylim=(0, min(100, 2.5 * last)), xlim=(0, epochs[-1] + 1))
        curve.set(xlabel="époque", ylabel="erreur de validation (%)")
        curve.legend(frameon=False, fontsize=8, loc="upper right")

        largest = max(state.mistakes.max() for state in states.values())
        classes = range(len(measured.alone_confusion))
        matrix = confusion.imshow(np.zeros((len(classes),) * 2), cmap="Greys", vmin=0, vmax=largest)
        confusion.set(xlabel="réponse", ylabel="étiquette", xticks=classes, yticks=classes)
        confusion.tick_params(labelsize=8)
        scales.append(figure.colorbar(matrix, ax=confusion, location="bottom", label="fautes par graine", shrink=0.9))
        comma_axis(*(scale.ax.xaxis for scale in scales))
        heading = figure.suptitle("0", fontsize=11)

        def update(temperature: float, alpha: float) -> None:
            state = states[temperature, alpha]
            row, column = measured.temperatures.index(temperature), measured.alphas.index(alpha)
            frame.set_xy((column - 0.5, row - 0.5))
            line.set_ydata(state.curve[0])
            band.set_data(epochs, state.curve[1], state.curve[2])
            matrix.set_data(state.mistakes)
            heading.set_text(
                f"T = {short(temperature)}, α = {french(alpha)} : erreur de test {state.error} %, "
                f"gain {points(state.gain)}"
            )

        row, column = measured.best()
        first_t, first_alpha = start or (measured.temperatures[row], measured.alphas[column])
        super().__init__(
            figure,
            [*unclipped(frame), band, line, *unclipped(matrix), heading],
            update,
            {
                "temperature": slider("Température T", measured.temperatures, first_t),
                "alpha": slider("Poids α", measured.alphas, first_alpha),
            },
        )
