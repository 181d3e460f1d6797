"""Les figures de 10.6 : ce qu'une coupe ôte à une matrice et au réseau, la TT-SVD dépliée, Tucker-2, les fronts."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from kdcourse.formats import french, thousands
from kdcourse.measures.intervals import mean_interval
from kdcourse.measures.tensor_train import RankSweep, tt_svd_steps
from kdcourse.plots.common import COLORS, MARKERS, comma_axis, finished, mean_curve, subplots

TT_ROLE, SVD_ROLE = "teacher", "student"  # deux façons d'approcher le teacher
_STYLES = {
    "TT": (COLORS["distilled"], MARKERS["distilled"]),
    "SVD": (COLORS["other"], MARKERS["other"]),
    "petit dense": (None, "P"),  # la couleur du texte, lisible sur un fond clair comme sombre
}
"""Une forme de student : sa couleur (palette d'Okabe et Ito), son marqueur."""
_ERROR_TICKS = (2, 3, 5, 10, 20, 40, 90)  # %
_SIZE_TICKS = (1_000, 3_000, 10_000, 30_000, 100_000, 300_000)


def percent(value: float) -> str:
    """Un pourcentage lisible de 100 à presque rien."""
    return f"{french(value)} %" if value >= 0.05 else "moins de 0,1 %"


def draw_matrix(ax, matrix: Tensor, scale: float):
    """Une matrice en gris : blanc pour 0, noir pour le plus grand coefficient, quel que soit son signe."""
    image = ax.imshow(matrix.abs().numpy(), cmap="Greys", vmin=0, vmax=scale, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    return image


def plot_matrices(matrices: Mapping[str, Tensor], title: str) -> Figure:
    """Quelques matrices côte à côte, à la même échelle de gris."""
    figure, axes = subplots(1, len(matrices), figsize=(2.9 * len(matrices), 3.2), squeeze=False)
    scale = max(matrix.abs().max().item() for matrix in matrices.values())
    for ax, (name, matrix) in zip(axes[0], matrices.items(), strict=True):
        draw_matrix(ax, matrix, scale)
        ax.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return finished(figure)


def plot_reconstructions(sweeps: Mapping[str, RankSweep], ranks: Sequence[int], corner: int = 64) -> Figure:
    """Le coin de chaque matrice et de ses trains à quelques rangs ; au-dessus, leur erreur, et celle de la SVD."""
    figure, axes = subplots(
        len(sweeps), 1 + len(ranks), figsize=(2 + 2 * len(ranks), 2.7 * len(sweeps) + 0.3), squeeze=False
    )
    for row, (name, sweep) in zip(axes, sweeps.items(), strict=True):
        shown, scale = sweep.weight[:corner, :corner], sweep.weight[:corner, :corner].abs().max().item()
        draw_matrix(row[0], shown, scale)
        row[0].set_title(f"{name}\n{thousands(sweep.weight.numel())} nombres", fontsize=9)
        for ax, rank in zip(row[1:], ranks, strict=True):
            state = sweep.at(rank)
            draw_matrix(ax, state.matrix[:corner, :corner], scale)
            errors = f"train {percent(state.error)}\nSVD {percent(state.svd_error)}"
            ax.set_title(f"rang {state.rank}, {thousands(state.parameters)} nombres\n{errors}", fontsize=9)
    smaller = [r for r in ranks if all(s.at(r).parameters < s.weight.numel() for s in sweeps.values())]
    rank = smaller[-1] if smaller else ranks[0]  # le dernier qui compresse
    told = " ; ".join(f"{name}, {percent(sweep.at(rank).error)}" for name, sweep in sweeps.items())
    figure.suptitle(f"Au rang {rank}, erreur du train : {told}", fontsize=11)
    figure.supxlabel(f"coin {corner}×{corner} de chaque matrice, en valeur absolue ; erreur sur la matrice entière, "
                     "du train et de la SVD de taille voisine", fontsize=8.5)  # fmt: skip
    return finished(figure)


def draw_rank_curves(ax, sweep: RankSweep) -> None:
    """Erreur du train et de la SVD tronquée, chacun à son nombre de paramètres."""
    for name, role, points in (
        ("train de tenseurs", TT_ROLE, [(state.parameters, state.error) for state in sweep.states]),
        ("SVD tronquée", SVD_ROLE, [(state.svd_parameters, state.svd_error) for state in sweep.states]),
    ):
        ax.plot(*zip(*points, strict=True), MARKERS[role] + "-", color=COLORS[role], label=name, ms=5)
    ax.axvline(sweep.weight.numel(), color="0.4", ls="--", lw=1, label="matrice dense")
    ax.set(xscale="log", xlabel="paramètres", ylabel="erreur relative (%)", ylim=(0, 105))


def plot_layer_cut(ranks: Sequence[int], lost: Mapping[str, tuple[Tensor, str]], added: Tensor, title: str) -> Figure:
    """Une couche coupée à plusieurs rangs : à gauche, ce qu'elle perd ; à droite, ce que le réseau y perd.

    Args:
        ranks: rangs gardés, ``(n,)``.
        lost: nom → (erreur relative en % ``(n, graines)``, rôle de ``COLORS``).
        added: erreur de test ajoutée, en points, ``(n, graines)``.
        title: ce que la figure montre.
    """
    figure, (left, right) = subplots(1, 2, figsize=(9, 3.6))
    for name, (values, role) in lost.items():
        mean_curve(left, ranks, values, role, name)
    left.set(ylabel="erreur relative (%)", ylim=(0, 105), title="ce que la coupe change à la couche")
    left.legend(frameon=False, fontsize=8.5, loc="upper right")
    right.axhline(0, color="0.5", lw=1)
    mean_curve(right, ranks, added, "distilled")
    right.set(ylabel="erreur de test ajoutée (points)", title="ce qu'elle coûte au réseau")
    for ax in (left, right):
        ax.set(xscale="log", xlabel="rang gardé (échelle log) ; bande : intervalle à 95 %")
        ax.set_xticks(ranks, list(map(str, ranks)))
        ax.minorticks_off()
        ax.title.set_fontsize(10)
    figure.suptitle(title, fontsize=11)
    return finished(figure)


def plot_tt_steps(tensor: Tensor, rank: int) -> Figure:
    """La TT-SVD d'un tenseur d'ordre 3 : deux fois, déplier puis couper ; ce qui reste après la seconde est le G³."""
    steps = tt_svd_steps(tensor, rank)[1:5]
    figure, axes = subplots(2, 4, figsize=(9.6, 5.4), width_ratios=(2.2, 1.5, 0.8, 2.2))
    scale = tensor.abs().max().item()
    for row, unfolded, cut, number in zip(axes, steps[::2], steps[1::2], (1, 2), strict=True):
        core = cut.cores[-1].flatten(0, 1)
        rest = "reste S·Vᵀ, à déplier" if number == 1 else "reste S·Vᵀ, c'est G³"
        pictures = (
            (row[0], unfolded.rest, f"{2 * number - 1}. déplier : {_size(unfolded.rest)}"),
            (row[2], core, f"= U, cœur G{'¹²'[number - 1]}\n{_size(core)}"),
            (row[3], cut.rest, f"× {rest}\n{_size(cut.rest)}"),
        )
        for ax, matrix, name in pictures:
            ax.imshow(matrix.numpy(), cmap="coolwarm", vmin=-scale, vmax=scale, interpolation="nearest")
            ax.set_title(name, fontsize=9)
            ax.set(xticks=[], yticks=[])
        places = range(1, len(cut.singular) + 1)
        bars = row[1].bar(
            places, (cut.singular / cut.singular[0]).tolist(), edgecolor=COLORS["teacher"], color=COLORS["teacher"]
        )
        for bar in bars[cut.rank :]:
            bar.set_facecolor("none")
        row[1].set(xticks=places, ylim=(0, 1.05), xlabel="valeur singulière, part de la 1re")
        row[1].set_title(f"{2 * number}. couper : garder {cut.rank} sur {len(cut.singular)}", fontsize=9)
        comma_axis(row[1].yaxis)
    kept, size = sum(core.numel() for core in tt_svd_steps(tensor, rank)[-1].cores), tensor.numel()
    error = 100 * tt_svd_steps(tensor, rank)[-1].dropped / tensor.norm().item()
    figure.suptitle(f"Rang {rank} : {size} nombres deviennent {kept}, erreur {percent(error)}", fontsize=11)
    figure.supxlabel("barres pleines : gardées ; creuses : jetées ; rouge : positif, bleu : négatif", fontsize=8.5)
    return finished(figure)


def _size(matrix: Tensor) -> str:
    return " × ".join(map(str, matrix.shape))


def plot_tucker(sizes: tuple[int, int], rank: int, counts: tuple[int, int]) -> Figure:
    """Une convolution 3×3 et les trois qui la remplacent : des blocs de canaux, et leurs paramètres.

    Args:
        sizes: canaux d'entrée et de sortie.
        rank: canaux du milieu.
        counts: paramètres de la convolution, et des trois.
    """
    figure, axes = subplots(2, 1, figsize=(8, 3.8))
    whole, parts = counts
    rows = (
        (axes[0], [sizes[0], sizes[1]], ["3×3"], f"avant : {thousands(whole)} paramètres"),
        (axes[1], [sizes[0], rank, rank, sizes[1]], ["1×1", "3×3", "1×1"], f"après : {thousands(parts)} paramètres"),
    )
    for ax, channels, kernels, name in rows:
        places = torch.linspace(0.6, 9.4, len(channels)).tolist()
        for x, count, role in zip(places, channels, ("teacher", *("distilled",) * (len(channels) - 2), "teacher"),
                                  strict=True):  # fmt: skip
            height = count / max(sizes)
            ax.add_patch(Rectangle((x - 0.25, -height / 2), 0.5, height, color=COLORS[role], alpha=0.7))
            ax.text(x, height / 2 + 0.06, f"{count} canaux", ha="center", va="bottom", fontsize=9)
        for start, end, kernel in zip(places, places[1:], kernels, strict=False):
            ax.annotate("", (end - 0.35, 0), (start + 0.35, 0), arrowprops={"arrowstyle": "->", "color": "0.5"})
            ax.text((start + end) / 2, 0.06, f"convolution {kernel}", ha="center", va="bottom", fontsize=9)
        ax.set(xlim=(0, 10), ylim=(-0.6, 0.8))
        ax.axis("off")
        ax.set_title(name, fontsize=10, loc="left")
    figure.suptitle(f"Tucker-2 au rang {rank} : trois convolutions, {french(whole / parts)} fois moins de paramètres",
                    fontsize=11)  # fmt: skip
    return finished(figure)


Curve = tuple[Sequence[int], Tensor, str, bool]


def plot_front(panels: Mapping[str, Mapping[str, Curve]], teacher: tuple[int, Tensor], title: str) -> Figure:
    """Erreur de test contre paramètres, échelles logarithmiques : une courbe par forme, le teacher en repère.

    Args:
        panels: titre du panneau → nom de la courbe → (paramètres ``(n,)``, erreurs ``(n, graines)``, forme :
            ``"TT"``, ``"SVD"`` ou ``"petit dense"``, réparé ou tel quel).
        teacher: ses paramètres et ses erreurs ``(graines,)``.
        title: ce que la figure montre.
    """
    size = (7.5 if len(panels) == 1 else 9.6, 4.4)
    figure, axes = subplots(1, len(panels), figsize=size, sharey=True, squeeze=False)
    for ax, (name, curves) in zip(axes[0], panels.items(), strict=True):
        for label, (sizes, errors, shape, repaired) in curves.items():
            color, marker = _STYLES[shape]
            color = color or plt.rcParams["text.color"]
            intervals = [mean_interval(row).clipped(0.1, 100) for row in errors]
            ax.plot(sizes, [interval.mean for interval in intervals], marker + ("-" if repaired else ":"), ms=6,
                    color=color, mfc=color if repaired else "none", label=label)  # fmt: skip
            for size, interval in zip(sizes, intervals, strict=True):
                ax.plot([size, size], [interval.low, interval.high], color=color, lw=2, alpha=0.5)
        ax.axhline(teacher[1].mean(), color=COLORS["teacher"], lw=1, ls="--")
        ax.plot(teacher[0], teacher[1].mean(), MARKERS["teacher"], color=COLORS["teacher"], ms=8, label="teacher")
        ax.set(xscale="log", yscale="log", ylim=(2, 110), xlabel="paramètres (échelle log)")
        ax.set_yticks(_ERROR_TICKS, list(map(str, _ERROR_TICKS)))
        limits = ax.get_xlim()
        seen = [tick for tick in _SIZE_TICKS if limits[0] <= tick <= limits[1]]
        ax.set_xticks(seen, list(map(thousands, seen)), fontsize=8.5)
        ax.set_xlim(limits)
        ax.minorticks_off()
        ax.set_title(name, fontsize=10)
    axes[0, 0].set_ylabel("erreur de test (%, échelle log)")
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5,
                  title="trait vertical : intervalle à 95 %", title_fontsize=8.5)  # fmt: skip
    figure.suptitle(title, fontsize=11)
    return finished(figure)
