"""Les curseurs de 10.6 : la TT-SVD pas à pas, puis le rang d'un train de tenseurs."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor
from torch.nn.functional import pad

from kdcourse.formats import french, thousands
from kdcourse.losses.checks import check_floating
from kdcourse.losses.numerics import at_least_float32
from kdcourse.measures.tensor_train import RankState, RankSweep, TTStep, tt_svd_steps
from kdcourse.plots.common import COLORS, MARKERS, comma_axis
from kdcourse.plots.tensor_train import SVD_ROLE, TT_ROLE, draw_matrix, draw_rank_curves, percent
from kdcourse.widgets.slider_figure import DPI, Slider, SliderFigure, choice, slider, unclipped


def slices(tensor: Tensor) -> Tensor:
    """Un tenseur d'ordre 3 à plat : ses tranches ``tensor[:, i]`` côte à côte, une colonne vide entre deux."""
    return pad(tensor, (0, 1), value=float("nan")).flatten(1)[:, :-1]


def step_heading(step: TTStep, tensor: Tensor) -> str:
    """Ce que fait un pas, en une ligne."""
    shape, size = " × ".join(map(str, step.rest.shape)), sum(core.numel() for core in step.cores)
    match step.action:
        case "tenseur":
            return f"Le tenseur {shape}, tranche par tranche"
        case "déplier":
            return f"Déplier : {'ce qui reste' if step.cores else 'le tenseur'} devient une matrice {shape}"
        case "couper":
            plural = "s" if step.rank > 1 else ""
            return (
                f"Couper : {step.rank} valeur{plural} singulière{plural} gardée{plural} sur {len(step.singular)} ; "
                f"le cœur {len(step.cores)} est prêt, il reste {shape}"
            )
    norm = tensor.norm().item() or 1  # un tenseur nul n'a rien à perdre
    error, dropped = (100 * lost / norm for lost in ((tensor - step.rest).norm().item(), step.dropped))
    return (
        f"Recoller : {size} nombres pour {tensor.numel()}, erreur {percent(error)} ; "
        f"les coupes avaient jeté {percent(dropped)}"
    )


class TTSVDExplorer(SliderFigure):
    """La TT-SVD d'un petit tenseur d'ordre 3, pas à pas : déplier, couper, déplier ce qui reste, recoller.

    Args:
        tensors: nom → tenseur ``(n_1, n_2, n_3)``, tous de la même forme.
    """

    def __init__(self, tensors: Mapping[str, Tensor]):
        if not isinstance(tensors, Mapping):
            raise TypeError(f"tensors : {type(tensors).__name__} reçu, un dictionnaire nom → tenseur attendu.")
        if not tensors:
            raise ValueError("tensors : aucun tenseur reçu, un au moins attendu.")
        for name, tensor in tensors.items():
            check_floating(f"tensors[{name!r}]", tensor, (3,), "(n_1, n_2, n_3)")
        if len({tensor.shape for tensor in tensors.values()}) != 1:
            shapes = [tuple(tensor.shape) for tensor in tensors.values()]
            raise ValueError(f"tensors : formes {shapes} reçues, une seule forme attendue.")
        tensors = {name: at_least_float32(tensor).detach().cpu() for name, tensor in tensors.items()}
        first, second, third = next(iter(tensors.values())).shape
        highest = min(max(first, third), first * second, second * third)
        states = {
            (name, rank): tt_svd_steps(tensor, rank)
            for name, tensor in tensors.items()
            for rank in range(1, highest + 1)
        }
        actions = ("tenseur", "déplier", "couper", "déplier encore", "couper encore", "recoller")

        figure = Figure(figsize=(9.6, 5.6), dpi=DPI, layout="constrained")
        axes = figure.subplot_mosaic("ab;cc", width_ratios=(1.7, 1), height_ratios=(2.2, 1))
        table, spectrum, train = (axes[name] for name in "abc")
        width = max(second * (third + 1), first * second)
        tall = max(first, highest * second)
        frames = {"cmap": "coolwarm", "interpolation": "nearest"}  # gris pour 0 : la case se voit sur la page
        rest = table.imshow([[0.0]], **frames)
        table.set(xlim=(0, width), ylim=(tall, 0))
        pieces = [train.imshow([[0.0]], **frames) for _ in range(3)]
        long = second * (highest + 1)
        starts = (0, long + 2, 2 * (long + 2))
        train.set(xlim=(0, 3 * long + 4), ylim=(highest, -1.2))
        names = [
            train.text(start, -0.3, f"cœur {name}", fontsize=9)
            for start, name in zip(starts, ("G¹", "G²", "G³"), strict=True)
        ]
        for ax in (table, train):
            ax.set_anchor("W")
            ax.axis("off")
        spectrum.set(xlabel="valeur singulière", ylabel="part de la plus grande", ylim=(0, 1.05))
        most = max(len(step.singular) for steps in states.values() for step in steps)
        bars = spectrum.bar(range(1, most + 1), np.zeros(most), edgecolor=COLORS[TT_ROLE])
        spectrum.set(xticks=range(1, most + 1), title="pleines : gardées ; creuses : jetées")
        spectrum.title.set_fontsize(9)
        comma_axis(spectrum.yaxis)
        heading = figure.suptitle("0", fontsize=11)

        def update(tensor: str, rank: float, step: int) -> None:
            state = states[tensor, int(rank)][step]
            show(rest, slices(state.rest) if state.rest.dim() == 3 else state.rest, 0)
            for index, (piece, name, start) in enumerate(zip(pieces, names, starts, strict=True)):
                piece.set_visible(index < len(state.cores))
                name.set_visible(index < len(state.cores))
                if piece.get_visible():
                    show(piece, slices(state.cores[index]), start)
            shares = (state.singular / state.singular[:1]).nan_to_num().tolist()
            for index, bar in enumerate(bars):
                bar.set_height(shares[index] if index < len(shares) else 0)
                bar.set_facecolor(COLORS[TT_ROLE] if index < state.rank else "none")
            heading.set_text(step_heading(state, tensors[tensor]))

        def show(image, values: Tensor, start: int) -> None:
            scale = values.nan_to_num().abs().max().item() or 1
            image.set(data=values.numpy(), extent=(start, start + values.shape[1], values.shape[0], 0))
            image.set_clim(-scale, scale)

        super().__init__(
            figure,
            [*unclipped(rest, *pieces, *bars), *names, heading],
            update,
            {
                "tensor": choice("Tenseur", list(tensors)),
                "rank": slider("Rang", range(1, highest + 1), min(2, highest), digits=0),
                "step": Slider("Pas", tuple(range(6)), actions, 1),
            },
        )


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
        rank = slider("Rang", ranks, ranks[len(ranks) // 2], digits=0)  # le premier serait presque blanc
        super().__init__(figure, [*unclipped(image, *points), heading], update, {"rank": rank})
