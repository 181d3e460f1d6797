"""Les figures de 10.4 : matrices de ressemblances, invariances, poids, gains selon le budget, coût."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib import colormaps
from matplotlib.figure import Figure
from matplotlib.offsetbox import AnnotationBbox, OffsetImage
from torch import Tensor

from kdcourse.formats import french, short, thousands
from kdcourse.measures.intervals import log_slope, mean_interval
from kdcourse.measures.relations import RELATIONS, TRANSFORMATIONS, ZERO, cloud_state
from kdcourse.plots.common import (
    COLORS,
    MARKERS,
    as_picture,
    comma_axis,
    finished,
    gain_curves,
    in_formula,
    paper,
    subplots,
)

# Lisible par les daltoniens, et en niveaux de gris. Soixante-quatre teintes, un pas de 1,6 % de l'échelle : une matrice
# pèse moins dans un curseur.
COLORMAP = colormaps["cividis"].resampled(64)


def plot_small_batch(images: Tensor, matrices: Mapping[str, Tensor]) -> Figure:
    """Un petit lot, image par image, et la matrice de ses ressemblances vue par chaque réseau, case par case."""
    figure, axes = subplots(1, len(matrices), figsize=(4.6 * len(matrices), 4.6))
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
    apart = ~torch.eye(len(images), dtype=torch.bool)
    spans = [f"{name}, de {french(r[apart].min().item(), 2)} à {french(r[apart].max().item(), 2)}"
             for name, r in ((name, relations.cpu()) for name, relations in matrices.items())]  # fmt: skip
    title = f"Ressemblance de deux images différentes : {' ; '.join(spans)}"
    figure.suptitle(title, y=1.06, fontsize=11)  # au-dessus des images, que la mise en page ne compte pas
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


def plot_without_labels(
    matrices: Mapping[str, Tensor], labels: Tensor, errors: Mapping[str, tuple[Tensor, str]], title: str
) -> Figure:
    """Des matrices triées par classe, et l'erreur de chaque façon de nommer, une barre chacune.

    Args:
        matrices: titre → ressemblances ``(B, B)``.
        labels: étiquettes triées ``(B,)``.
        errors: nom → (erreurs en % ``(graines,)``, rôle de ``COLORS``).
        title: ce que la figure montre.
    """
    figure, axes = subplots(2, len(matrices), figsize=(9.3, 5.4), height_ratios=(1.45, 1))
    for ax, (name, relations) in zip(axes[0], matrices.items(), strict=True):
        picture = draw_relations(ax, relations, labels)
        ax.set_title(name, fontsize=10)
    bar = figure.colorbar(picture, ax=axes[0], shrink=0.85, label="similarité cosinus")
    comma_axis(bar.ax.yaxis)
    for unused in axes[1, 1:]:
        unused.remove()
    ax = axes[1, 0]
    ax.set_subplotspec(ax.get_gridspec()[1, :])
    for y, (values, role) in enumerate(errors.values()):
        interval = mean_interval(values)
        ax.barh(y, interval.mean, color=COLORS[role], alpha=0.5)
        ax.plot([interval.low, interval.high], [y, y], color=COLORS[role], lw=2.5, solid_capstyle="butt")
        ax.plot(interval.mean, y, MARKERS[role], color=COLORS[role], ms=7)
        ax.text(interval.high + 0.8, y, french(interval.mean), va="center", weight="bold")
    ax.set_yticks(range(len(errors)), list(errors), fontsize=9)
    ax.invert_yaxis()
    ax.set_xlim(left=0)
    ax.set_xlabel("erreur de test (%) avec dix images nommées ; trait : intervalle à 95 %", fontsize=9)
    figure.suptitle(title, fontsize=11)
    return finished(figure)


def plot_invariances(points: Tensor) -> Figure:
    """Un nuage ``(B, 2)`` et ses transformés au plus fort, et dessous ce qu'en dit chaque perte."""
    states = {name: cloud_state(points.double(), name, 1.0) for name in TRANSFORMATIONS}
    reach = 1.1 * max(state.points.abs().max().item() for state in states.values())
    figure, axes = subplots(1, len(states), figsize=(9.3, 3.3))
    for ax, (name, state) in zip(axes, states.items(), strict=True):
        ax.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        ax.plot(0, 0, "+", color="0.5", ms=10)
        ax.plot(*points.T, MARKERS["teacher"], mfc="none", color=COLORS["teacher"], ms=4, label="teacher")
        ax.plot(*state.points.T, MARKERS["student"], color=COLORS["student"], ms=4, label="student")
        ax.set_title(name.replace(" par", "\npar").replace(" pour", "\npour"), fontsize=9.5)
        lines = (f"{loss} : {'0' if v < ZERO else french(v, 4)}" for loss, v in state.losses.items())
        ax.set_xlabel("\n".join(lines), fontsize=9)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    ignored = sum(v < ZERO for state in states.values() for v in state.losses.values())
    total = len(states) * len(RELATIONS)
    figure.suptitle(f"Quatre pertes, cinq transformations : {ignored} fois sur {total}, la perte reste 0", fontsize=11)
    return finished(figure)


def plot_by_weight(
    curves: Mapping[str, Mapping[str, tuple[Sequence[float], Sequence[float], str]]], alone: float, title: str
) -> Figure:
    """L'erreur de validation selon le poids de la distillation, un panneau par méthode, une courbe par budget.

    Args:
        curves: méthode → (budget → (poids, erreurs moyennes en %, rôle de ``COLORS``)).
        alone: l'erreur du student seul.
        title: ce que la figure montre.
    """
    figure, axes = subplots(1, len(curves), figsize=(9.3, 3.1), sharey=True)
    for ax, (name, budgets) in zip(axes, curves.items(), strict=True):
        ax.axhline(alone, color=COLORS["student"], lw=1.5, ls=":", label="seul")
        for budget, (weights, errors, role) in budgets.items():
            ax.plot(weights, errors, MARKERS[role] + "-", color=COLORS[role], ms=4, label=budget)
            best = min(range(len(weights)), key=lambda k: errors[k])
            ax.plot(weights[best], errors[best], "o", mfc="none", color=COLORS[role], ms=11)
        ax.set(xscale="log", xticks=[weights[0], weights[-1]])
        ax.set_xticks([weights[0], weights[-1]], [short(weights[0]), thousands(weights[-1])])
        ax.minorticks_off()
        ax.set_title(name, fontsize=10)
    axes[0].set(ylabel="erreur de validation (%)", ylim=(0, 40))
    axes[0].legend(frameon=False, fontsize=8, loc="upper left")
    figure.supxlabel("poids λ (échelle log) ; cercle : le meilleur", fontsize=9)
    figure.suptitle(title, fontsize=11)
    return finished(figure)


def plot_relation_budgets(
    steps: Sequence[int], panels: Mapping[str, Mapping[str, tuple[Tensor, str]]], against: str, title: str
) -> Figure:
    """Le gain apparié selon le nombre de pas, un panneau par méthode ; un marqueur plein où l'intervalle exclut 0.

    Args:
        steps: nombres de pas, ``(n,)``.
        panels: méthode → (courbe → (gains ``(n, graines)``, rôle de ``COLORS``)).
        against: à qui l'on compare.
        title: ce que la figure montre.
    """
    figure, axes = subplots(1, len(panels), figsize=(9.3, 3.3), sharey=True)
    for ax, (name, curves) in zip(axes, panels.items(), strict=True):
        gain_curves(ax, steps, curves)
        ax.set_xscale("log")
        ax.set_xticks(steps, [thousands(step) for step in steps], fontsize=8)
        ax.minorticks_off()
        ax.set_title(name, fontsize=10)
    axes[0].set_ylabel(f"gain sur {against} (points)")
    comma_axis(axes[0].yaxis)
    handles, names = axes[0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=9,
                  title="pas (échelle log) ; bande : intervalle à 95 % ; marqueur creux : il contient 0",
                  title_fontsize=8.5)  # fmt: skip
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
