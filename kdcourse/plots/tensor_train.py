"""Les figures de 10.6 : une matrice et ses reconstructions, l'erreur selon le rang, le front erreur-paramètres."""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from torch import Tensor

from kdcourse.formats import french, thousands
from kdcourse.measures.intervals import mean_interval
from kdcourse.measures.tensor_train import RankSweep
from kdcourse.plots.common import COLORS, MARKERS, finished, subplots

TT_ROLE, SVD_ROLE = "teacher", "student"  # deux façons d'approcher le teacher
_STYLES = {
    "raw": (COLORS["neutral"], MARKERS["neutral"], ":"),
    "labels": (COLORS["student"], MARKERS["student"], "-"),
    "distilled": (COLORS["distilled"], MARKERS["distilled"], "-"),
    "svd": ("#CC79A7", "v", "-"),
    "dense": (None, "P", "--"),
    "patient": ("#56B4E9", "*", "-"),
}
"""Ce que le front montre : couleur (palette d'Okabe et Ito), forme, trait."""
_ERROR_TICKS = (2, 3, 5, 10, 20, 40, 90)  # %


def percent(value: float) -> str:
    """Un pourcentage lisible de 100 à presque rien."""
    return f"{french(value)} %" if value >= 0.05 else "moins de 0,1 %"


def draw_matrix(ax, matrix: Tensor, scale: float):
    """Une matrice en gris : blanc pour 0, noir pour le plus grand coefficient, quel que soit son signe."""
    image = ax.imshow(matrix.abs().numpy(), cmap="Greys", vmin=0, vmax=scale, interpolation="nearest")
    ax.set(xticks=[], yticks=[])
    return image


def plot_reconstructions(sweeps: Mapping[str, RankSweep], ranks: Sequence[int], corner: int = 64) -> Figure:
    """Le coin de chaque matrice, et ses reconstructions à quelques rangs du balayage ; au-dessus, taille et erreur."""
    figure, axes = subplots(len(sweeps), 1 + len(ranks), figsize=(2 + 2 * len(ranks), 2.6 * len(sweeps)), squeeze=False)
    for row, (name, sweep) in zip(axes, sweeps.items(), strict=True):
        shown, scale = sweep.weight[:corner, :corner], sweep.weight[:corner, :corner].abs().max().item()
        draw_matrix(row[0], shown, scale)
        row[0].set_title(f"{name}\n{thousands(sweep.weight.numel())} paramètres", fontsize=9)
        for ax, rank in zip(row[1:], ranks, strict=True):
            state = sweep.at(rank)
            draw_matrix(ax, state.matrix[:corner, :corner], scale)
            text = f"rang {state.rank}\n{thousands(state.parameters)} paramètres\nerreur {percent(state.error)}"
            ax.set_title(text, fontsize=9)
    figure.supxlabel(f"coin {corner}×{corner} de chaque matrice, en valeur absolue", fontsize=9)
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


def plot_rank_curves(sweeps: Mapping[str, RankSweep], rank: int) -> Figure:
    """Erreur selon les paramètres ; le titre compare les deux méthodes à un rang du balayage."""
    figure, axes = subplots(1, len(sweeps), figsize=(4.8 * len(sweeps), 3.4), squeeze=False)
    for ax, (name, sweep) in zip(axes[0], sweeps.items(), strict=True):
        draw_rank_curves(ax, sweep)
        state = sweep.at(rank)
        ax.set_title(
            f"{name}, {thousands(state.parameters)} paramètres :\n"
            f"train {percent(state.error)} d'erreur, SVD {percent(state.svd_error)}",
            fontsize=10,
        )
    axes[0, 0].legend(frameon=False, fontsize=9)
    return finished(figure)


def plot_front(
    curves: Mapping[str, tuple[Sequence[int], Tensor, str]], teacher: tuple[int, float], title: str
) -> Figure:
    """Erreur de test contre paramètres, échelles logarithmiques, une courbe par méthode, et le teacher en repère.

    Args:
        curves: nom → (paramètres ``(n,)``, erreurs ``(n,)`` ou ``(n, graines)``, style : ``"raw"``, ``"labels"``,
            ``"distilled"``, ``"svd"``, ``"dense"`` ou ``"patient"``).
        teacher: ses paramètres et son erreur.
        title: ce que la figure montre.
    """
    figure, ax = subplots(figsize=(8, 4.4))
    for name, (sizes, errors, style) in curves.items():
        color, marker, line = _STYLES[style]
        color = color or plt.rcParams["text.color"]
        ax.plot(sizes, [float(row.mean()) for row in errors], marker + line, color=color, label=name, ms=6)
        for size, row in zip(sizes, errors, strict=True):
            if row.dim():
                _, low, high = mean_interval(row)
                ax.plot([size, size], [max(low, 0.1), high], color=color, lw=2, alpha=0.5)
    ax.axhline(float(teacher[1]), color=COLORS["teacher"], lw=1, ls="--")
    ax.plot(teacher[0], float(teacher[1]), MARKERS["teacher"], color=COLORS["teacher"], ms=8, label="teacher")
    ax.set(xscale="log", yscale="log", ylim=(2, 110), ylabel="erreur de test (%)", title=title)
    ax.set_yticks(_ERROR_TICKS, [str(tick) for tick in _ERROR_TICKS])
    ax.minorticks_off()
    banded = any(row.dim() for _, errors, _ in curves.values() for row in errors)
    ax.set_xlabel("paramètres" + (" ; trait vertical : intervalle à 95 %" if banded else ""))
    ax.legend(frameon=False, fontsize=9, loc="upper right")
    return finished(figure)
