"""Le curseur de 10.5 : la température qui calibre un modèle déjà entraîné."""

from collections.abc import Mapping
from itertools import cycle
from typing import NamedTuple

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from kdcourse.formats import french
from kdcourse.losses.checks import check_number
from kdcourse.measures.calibration import Reliability, expected_calibration_error, reliability
from kdcourse.measures.intervals import Interval, mean_interval
from kdcourse.plots.common import COLORS, MARKERS, comma_axis
from kdcourse.plots.self_distillation import draw_reliability, reliability_points
from kdcourse.training.students import error_rate
from kdcourse.widgets.slider_figure import DPI, SliderFigure, choice, slider, unclipped


class CalibrationState(NamedTuple):
    """Ce que ``CalibrationExplorer`` montre : le diagramme des graines réunies, l'ECE et l'erreur de chacune."""

    diagram: Reliability
    ece: Interval
    error: Interval


def calibration_state(logits: Tensor, labels: Tensor, temperature: float) -> CalibrationState:
    """Logits ``(S, N, C)`` divisés par T : diagramme, ECE, erreur."""
    check_number("temperature", temperature, 1e-6, 1e6, "un nombre strictement positif")
    scaled = logits / temperature
    ece = mean_interval(expected_calibration_error(scaled, labels))
    return CalibrationState(reliability(scaled, labels), ece, mean_interval(error_rate(scaled, labels)))


class CalibrationExplorer(SliderFigure):
    """Choix d'une méthode et curseur de la température qui divise ses logits, une fois le student entraîné.

    Args:
        models: nom → (logits de test ``(S, N, C)``, rôle de ``COLORS``).
        labels: ``(N,)``.
    """

    def __init__(self, models: Mapping[str, tuple[Tensor, str]], labels: Tensor):
        steps = [0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 1.0, 1.25, 1.5, 2.0, 3.0, 4.0]
        states = {
            name: {t: calibration_state(logits, labels, t) for t in steps} for name, (logits, _) in models.items()
        }
        figure = Figure(figsize=(8, 3.6), dpi=DPI, layout="constrained")
        diagram, curve = figure.subplots(1, 2, width_ratios=(1, 1.3))
        first = next(iter(models))
        points = draw_reliability(diagram, states[first][1.0].diagram, models[first][1])
        diagram.set_ylabel("exactitude (%)")
        for line, (name, (_, role)) in zip(cycle(["-", "--", ":"]), models.items(), strict=False):
            values = [states[name][t].ece.mean for t in steps]
            curve.plot(steps, values, MARKERS[role] + line, color=COLORS[role], ms=3, lw=1.5, label=name)
        (point,) = curve.plot([], [], "o", mfc="none", color="black", ms=13, mew=2)
        curve.set(xscale="log", xlabel="température de calibration", ylabel="ECE (%)")
        curve.set_xticks([0.2, 0.4, 1, 2, 4], ["0,2", "0,4", "1", "2", "4"])
        curve.minorticks_off()
        curve.set_ylim(bottom=0)
        curve.legend(frameon=False, fontsize=8)
        comma_axis(curve.yaxis)
        heading = figure.suptitle("0", fontsize=11)

        def update(method: str, temperature: float) -> None:
            state = states[method][temperature]
            x, y, areas = reliability_points(state.diagram)
            points.set_offsets(np.column_stack([x, y]))
            points.set_sizes(areas)
            points.set_color(COLORS[models[method][1]])
            point.set_data([temperature], [state.ece.mean])
            heading.set_text(
                f"{method}, T = {french(temperature, 2)} : ECE {state.ece} %, erreur {french(state.error.mean)} %"
            )

        super().__init__(
            figure,
            [*unclipped(points, point), heading],
            update,
            {
                "method": choice("Méthode", list(models)),
                "temperature": slider("Température de calibration", steps, 1.0, digits=2),
            },
        )
