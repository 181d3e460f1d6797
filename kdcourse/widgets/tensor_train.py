"""Le curseur de 10.6 : le rang d'un train de tenseurs."""

from matplotlib.figure import Figure

from kdcourse.formats import french, thousands
from kdcourse.measures.tensor_train import RankState, RankSweep
from kdcourse.plots.common import COLORS, MARKERS
from kdcourse.plots.tensor_train import SVD_ROLE, TT_ROLE, draw_matrix, draw_rank_curves, percent
from kdcourse.widgets.slider_figure import DPI, SliderFigure, slider


def rank_heading(sweep: RankSweep, state: RankState) -> str:
    """La taille et l'erreur d'un rang, en une ligne ; au-delà de la matrice dense, « de plus »."""
    ratio = sweep.weight.numel() / state.parameters
    size = f"{french(ratio)} fois moins" if ratio >= 1 else f"{french(1 / ratio, 2)} fois plus que la matrice"
    return (
        f"rang {state.rank} : {thousands(state.parameters)} paramètres ({size}), erreur {percent(state.error)} ; "
        f"SVD de rang {state.svd_rank} : {percent(state.svd_error)}"
    )


class RankExplorer(SliderFigure):
    """Un curseur sur le rang : la matrice, sa reconstruction, et l'erreur de chacune des deux approximations."""

    def __init__(self, sweep: RankSweep, corner: int = 64):
        figure = Figure(figsize=(9.6, 3.5), dpi=DPI, layout="constrained")
        original, rebuilt, chart = figure.subplots(1, 3, width_ratios=(1, 1, 1.4))
        scale = sweep.weight[:corner, :corner].abs().max().item()
        draw_matrix(original, sweep.weight[:corner, :corner], scale)
        original.set_title(f"la matrice (coin {corner}×{corner})", fontsize=10)
        image = draw_matrix(rebuilt, sweep.weight[:corner, :corner], scale)
        rebuilt.set_title("sa reconstruction", fontsize=10)
        draw_rank_curves(chart, sweep)
        chart.legend(frameon=False, fontsize=8, loc="center left" if sweep.states[0].error < 50 else "lower left")
        points = [
            chart.plot([], [], MARKERS[role], color=COLORS[role], ms=12, mec="black")[0] for role in (TT_ROLE, SVD_ROLE)
        ]
        heading = figure.suptitle("0", fontsize=10)

        def update(rank: float) -> None:
            state = sweep.at(int(rank))
            image.set_data(state.matrix[:corner, :corner].abs().numpy())
            points[0].set_data([state.parameters], [state.error])
            points[1].set_data([state.svd_parameters], [state.svd_error])
            heading.set_text(rank_heading(sweep, state))

        ranks = [state.rank for state in sweep.states]
        super().__init__(figure, [image, *points, heading], update, {"rank": slider("Rang", ranks, ranks[0], digits=0)})
