"""Les figures de 10.4 : matrices de ressemblances, gains appariés, poids, coût."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from torch import Tensor

from kdcourse.formats import french, short
from kdcourse.measures.intervals import log_slope, mean_interval
from kdcourse.plots.common import COLORS, as_picture, comma_axis, error_bar, finished, in_formula, paper, subplots

# Lisible par les daltoniens, et en niveaux de gris. Soixante-quatre teintes, un pas de 1,6 % de l'échelle : une matrice
# pèse moins dans un curseur.
COLORMAP = colormaps["cividis"].resampled(64)


def plot_small_batch(images: Tensor, matrices: Mapping[str, Tensor]) -> Figure:
    """Un petit lot, image par image, et la matrice de ses ressemblances vue par chaque réseau, case par case."""
    figure, axes = subplots(1, len(matrices), figsize=(4.6 * len(matrices), 4.3))
    for ax, (name, relations) in zip(np.atleast_1d(axes), matrices.items(), strict=True):
        ax.imshow(relations.cpu().numpy(), cmap=COLORMAP, vmin=0, vmax=1)
        for (i, j), value in np.ndenumerate(relations.cpu().numpy()):
            ax.text(j, i, french(value, 2), ha="center", va="center", color="white" if value < 0.6 else "black")
        for index, image in enumerate(images):
            for place in ((index, -0.95), (-0.95, index)):
                box = OffsetImage(as_picture(image), cmap="gray_r", zoom=3.2)
                ax.add_artist(AnnotationBbox(box, place, frameon=False, annotation_clip=False))
        ax.set_title(name, pad=42)
        ax.set_axis_off()
        ax.set(xlim=(-1.5, len(images) - 0.5))
    return finished(figure)


def plot_relation_matrices(rows: Mapping[str, Mapping[str, Tensor]], labels: Tensor, title: str) -> Figure:
    """Des matrices de ressemblances triées par classe : une rangée par nom, une colonne par matrice.

    Args:
        rows: nom de la rangée → (titre → matrice ``(B, B)``).
        labels: étiquettes triées ``(B,)`` ; un trait blanc sépare deux classes.
    """
    columns = max(map(len, rows.values()))
    figure, axes = subplots(len(rows), columns, figsize=(2.3 * columns + 0.7, 2.45 * len(rows) + 0.5), squeeze=False)
    for line, (name, matrices) in zip(axes, rows.items(), strict=True):
        for ax in line[len(matrices) :]:
            ax.set_axis_off()
        for ax, (heading, relations) in zip(line, matrices.items(), strict=False):
            picture = draw_relations(ax, relations, labels)
            ax.set_title(heading, fontsize=9)
        line[0].set_ylabel(name)
    bar = figure.colorbar(picture, ax=axes, shrink=0.7, label="similarité cosinus")
    comma_axis(bar.ax.yaxis)
    figure.suptitle(title, fontsize=11)
    return finished(figure)


def draw_relations(ax, relations: Tensor, labels: Tensor):
    """Une matrice triée par classe, le nom de chaque classe au milieu de son bloc ; rend l'image."""
    picture = ax.imshow(relations.cpu().numpy(), cmap=COLORMAP, vmin=0, vmax=1, interpolation="nearest")
    names, counts = labels.cpu().unique_consecutive(return_counts=True)
    ends = counts.cumsum(0)
    for end in ends[:-1].tolist():
        ax.axhline(end - 0.5, color="white", lw=0.4)
        ax.axvline(end - 0.5, color="white", lw=0.4)
    middles = (ends - counts / 2 - 0.5).tolist()
    ax.set_xticks(middles, names.tolist(), fontsize=7)
    ax.set_yticks(middles, names.tolist(), fontsize=7)
    ax.tick_params(length=0)
    return picture


def plot_weights(alphas: Sequence[float], errors: Mapping[str, Tensor], alone: Tensor, title: str) -> Figure:
    """Erreur de validation selon le poids de la distillation, un panneau par méthode ; la bande est le student seul.

    Args:
        alphas: poids essayés, ``(n,)``, à intervalles égaux sur la figure.
        errors: méthode → erreurs ``(n, graines)``.
        alone: erreurs du student seul, ``(graines,)``.
    """
    figure, axes = subplots(1, len(errors), figsize=(1.8 * len(errors) + 0.9, 3.2), sharey=True, squeeze=False)
    reference = mean_interval(alone)
    for ax, (name, values) in zip(axes[0], errors.items(), strict=True):
        ax.axhspan(reference.low, reference.high, color=COLORS["student"], alpha=0.25, lw=0, label="seul")
        intervals = [mean_interval(row) for row in values]
        ax.plot(range(len(alphas)), [i.mean for i in intervals], color=COLORS["distilled"], lw=1)
        for place, interval in enumerate(intervals):
            error_bar(ax, place, interval, "distilled")
        ax.set_xticks(range(len(alphas)), [short(a) for a in alphas])
        ax.set(xlim=(-0.4, len(alphas) - 0.6), title=name)
    axes[0][0].set(ylabel="erreur de validation (%)")
    axes[0][0].set_ylim(bottom=0)
    axes[0][0].legend(frameon=False, loc="lower left", fontsize=8)
    figure.supxlabel("poids α de la distillation (barres et bande : intervalle à 95 %)", fontsize=9)
    figure.suptitle(title, fontsize=11)
    return finished(figure)


def slope(batches: Sequence[int], times: Sequence[float]) -> float:
    """Exposant p de la loi temps ∝ Bᵖ, ajustée sur les trois plus grands lots mesurés."""
    last = slice(max(0, len(times) - 3), len(times))
    return log_slope(batches[last], times[last])


def plot_cost(
    batches: Sequence[int], losses: Mapping[str, Sequence[float]], steps: Mapping[str, Sequence[float]]
) -> Figure:
    """Temps de chaque perte (traits pleins) et d'un pas de student (tirets) selon la taille du lot, échelles log.

    Args:
        batches: tailles de lot, croissantes.
        losses: perte → temps en ms ; une suite plus courte s'arrête aux plus petits lots.
        steps: student → temps d'un aller-retour sans distillation, en ms.
    """
    figure, ax = subplots(figsize=(8, 4))
    colors = (COLORS[role] for role in ("distilled", "other", "neutral", "teacher"))
    for marker, color, (name, times) in zip("^vD*", colors, losses.items(), strict=False):
        label = f"{name} : pente {french(slope(batches, times))}"
        ax.plot(batches[: len(times)], times, marker + "-", label=label, color=color)
    for marker, (name, times) in zip("os", steps.items(), strict=False):
        ax.plot(
            batches[: len(times)],
            times,
            marker + "--",
            label=name,
            color=COLORS["student"],
            mfc=paper(),
        )
    ax.set(xscale="log", yscale="log", xlabel="taille du lot B (échelle log)", ylabel="temps (ms, échelle log)")
    ax.set_xticks(batches, [str(b) for b in batches])
    ax.minorticks_off()
    comma_axis(ax.yaxis)
    slopes = {name: slope(batches, times) for name, times in losses.items()}
    steepest = max(slopes, key=slopes.get)
    ax.set_title(f"La plus raide quand le lot grandit : {steepest}, temps en $B^{{{in_formula(slopes[steepest])}}}$")
    ax.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
    return finished(figure)
