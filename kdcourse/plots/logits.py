"""Les figures de 10.2 : le gradient et sa limite, la carte T × alpha, le gain au fil des pas."""

from collections.abc import Mapping, Sequence
from itertools import product

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from kdcourse.formats import french, short, thousands
from kdcourse.measures.intervals import Interval, log_slope, mean_interval
from kdcourse.measures.logits import logit_gradient, matching_gradient
from kdcourse.measures.principles import softened
from kdcourse.measures.temperature_map import TemperatureMap
from kdcourse.plots.common import COLORS, MARKERS, as_picture, comma_axis, finished, in_formula, mean_curve, subplots

GAIN_COLORS = "PuOr"  # divergente, lisible par les daltoniens : violet pour un gain, orange pour un recul


def plot_temperature_gradients(
    temperatures: Sequence[float], with_factor: Tensor, without_factor: Tensor, limit: Tensor
) -> Figure:
    """La taille du gradient selon T, avec et sans T², et sa limite.

    Args:
        temperatures: ``(n,)``.
        with_factor, without_factor: gradients ``(n, graines, B, C)``.
        limit: gradient limite ``(graines, B, C)``.
    """
    figure, ax = subplots(figsize=(7, 3.6))

    def norms(gradients):
        return gradients.flatten(-2).norm(dim=-1)

    for values, role, name in ((with_factor, "distilled", "avec T²"), (without_factor, "neutral", "sans T²")):
        mean_curve(ax, temperatures, norms(values), role, name)
    ax.axhline(norms(limit).mean().item(), color=COLORS["teacher"], ls="--", lw=1.5, label="limite de « avec T² »")
    far = len(temperatures) // 2
    slope = log_slope(temperatures[far:], norms(without_factor).mean(dim=1)[far:])
    ax.set(xscale="log", yscale="log", xlabel="température T", ylabel="norme du gradient")
    ax.set_title(f"Sans T², le gradient s'éteint comme $T^{{{in_formula(slope)}}}$ ; avec, il a une limite")
    ax.set_xticks(temperatures, [short(t) for t in temperatures])
    ax.xaxis.minorticks_off()
    ax.yaxis.set_major_formatter(FuncFormatter(lambda norm, _: french(norm, max(0, round(-np.log10(norm))))))
    ax.legend(frameon=False, title="bande : intervalle à 95 %", title_fontsize=8)
    return finished(figure)


def plot_gradients(
    image: Tensor, label: int, student: Tensor, teacher: Tensor, temperatures: Sequence[float]
) -> Figure:
    """Une image ; à chaque température, les deux prédictions, et dessous le gradient de chaque logit et sa limite.

    Args:
        image: ``(1, H, W)`` ou ``(3, H, W)``.
        label: son étiquette.
        student, teacher: les logits de l'image, ``(C,)``.
        temperatures: ``(n,)``.
    """
    figure, axes = subplots(2, 1 + len(temperatures), figsize=(10, 4.4))
    axes[0, 0].imshow(as_picture(image), cmap="gray_r", vmin=0, vmax=1)
    axes[0, 0].set_title(f"étiquette {label}", fontsize=10)
    for ax in axes[:, 0]:
        ax.axis("off")
    for row in axes:
        for ax in row[2:]:
            ax.sharey(row[1])
    limit, classes = matching_gradient(student, teacher), np.arange(len(student))
    others, spreads = teacher.argsort()[:-2], []  # toutes les classes, sauf les deux premières du teacher
    for (top, bottom), temperature in zip(axes.T[1:], temperatures, strict=True):
        heights = [softened(logits, temperature).tolist() for logits in (teacher, student)]
        top.bar(classes - 0.2, heights[0], 0.4, color=COLORS["teacher"], label="teacher")
        top.bar(classes + 0.2, heights[1], 0.4, fill=False, ec=COLORS["student"], lw=1.2, label="student neuf")
        values = logit_gradient(student, teacher, temperature)
        spreads.append(float(values[others].max() - values[others].min()))
        bottom.bar(classes, values.tolist(), color=COLORS["distilled"], label="gradient, avec T²")
        bottom.plot(classes, limit.tolist(), MARKERS["teacher"], mfc="none", color=COLORS["teacher"], ms=5,
                    label="limite, T → ∞ : écart des logits centrés / C")  # fmt: skip
        bottom.axhline(0, color="0.4", lw=0.8)
        gap = french(100 * (values - limit).norm() / limit.norm(), 0)
        top.set_title(f"T = {short(temperature)}", fontsize=10)
        bottom.set_title(f"écart {gap} %", fontsize=9)
        bottom.set_xlabel("classe")
        for ax in (top, bottom):
            ax.set_xticks(classes)
            ax.tick_params(axis="both", labelsize=7, labelleft=ax in axes[:, 1])
    axes[0, 1].set(ylabel="prédiction à T", ylim=(0, 1))
    axes[1, 1].set_ylabel("gradient du logit")
    comma_axis(axes[0, 1].yaxis, axes[1, 1].yaxis)
    handles, labels = (
        sum(both, []) for both in zip(*(ax.get_legend_handles_labels() for ax in axes[:, 1]), strict=True)
    )
    figure.legend(handles, labels, loc="outside lower center", ncols=4, frameon=False, fontsize=9)
    figure.suptitle(
        f"Entre les {len(others)} classes que le teacher écarte, le gradient varie de {french(spreads[0], 2)} à "
        f"T = {short(temperatures[0])}, de {french(spreads[-1], 2)} à T = {short(temperatures[-1])}", fontsize=11
    )  # fmt: skip
    return finished(figure)


def plot_temperature_maps(maps: Mapping[str, TemperatureMap]) -> Figure:
    """Gain apparié de chaque case sur le student seul, à une échelle commune ; un recul établi est hachuré.

    La case encadrée est choisie sur la validation.
    """
    span = max(1.0, *(float(np.abs(measured.gains()).max()) for measured in maps.values()))
    figure, axes = subplots(1, len(maps), figsize=(1.5 + 4 * len(maps), 3.9), squeeze=False)
    for ax, (name, measured) in zip(axes[0], maps.items(), strict=True):
        image = draw_map(ax, measured, span)
        verdicts = []
        for row, column in np.ndindex(measured.gains().shape):
            gain = measured.gain(row, column)
            verdicts.append(sign(gain))
            if verdicts[-1] == "−":
                ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="black", hatch="///", lw=0.3))
            text = f"{'+' if gain.mean > 0 else ''}{french(gain.mean)}"
            write_in_cell(ax, image, row, column, text if gain.excludes_zero else f"({text})")
        row, column = measured.best()
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="black", lw=2.5))
        won, lost = (counted(verdicts.count(one), verb) for one, verb in (("+", "gagne"), ("−", "recule")))
        ax.set_title(f"{name} : sur {len(verdicts)} cases,\n{won}, {lost}", fontsize=10)
    scale = figure.colorbar(image, ax=axes[0], label="gain sur le student seul (points)", shrink=0.9)
    comma_axis(scale.ax.yaxis)
    figure.supxlabel(
        "entre parenthèses : l'intervalle à 95 % contient 0 ; hachurée : recul établi ; "
        "encadrée : la meilleure en validation", fontsize=8.5,
    )  # fmt: skip
    return finished(figure)


def counted(count: int, verb: str) -> str:
    """« aucune ne recule », « 1 recule », « 4 reculent »."""
    return f"{count} {verb.removesuffix('e')}ent" if count > 1 else f"1 {verb}" if count else f"aucune ne {verb}"


def sign(gain: Interval) -> str:
    """Le verdict d'une case : « + », « − », ou « · » si l'intervalle contient 0."""
    return "·" if not gain.excludes_zero else "+" if gain.mean > 0 else "−"


def write_in_cell(ax, image, row: int, column: int, text: str, size: float = 9) -> None:
    """Un texte sur la couleur de sa case, noir ou blanc selon ce qui s'y lit."""
    color = image.cmap(image.norm(image.get_array()[row, column]))
    dark = np.dot(color[:3], (0.3, 0.6, 0.1)) < 0.5
    ax.text(column, row, text, ha="center", va="center", fontsize=size, color="white" if dark else "black",
            bbox={"fc": color, "ec": "none", "pad": 1})  # fmt: skip


def draw_map(ax, measured: TemperatureMap, span: float | None = None):
    """La carte de couleurs d'une ``TemperatureMap``, blanche où le gain est nul ; ``span`` en est l'échelle."""
    gains = measured.gains()
    span = span or max(1.0, float(np.abs(gains).max()))
    image = ax.imshow(gains, cmap=GAIN_COLORS, norm=TwoSlopeNorm(0, -span, span), aspect="auto", origin="lower")
    ax.set_xticks(range(len(measured.alphas)), [french(a) for a in measured.alphas])
    ax.set_yticks(range(len(measured.temperatures)), [short(t) for t in measured.temperatures])
    ax.set(xlabel="poids de la distillation, alpha", ylabel="température T")
    return image


def plot_gain_curves(panels: Mapping[str, tuple[TemperatureMap, int]], title: str, first: float = 0.25) -> Figure:
    """Le gain de validation au fil des pas, un panneau par régime : au plus haut T, une couleur par alpha ; gris sinon.

    Args:
        panels: nom du régime → (sa carte, au grand budget ; le nombre de pas d'une époque).
        title: ce que la figure montre.
        first: part du grand budget où finissait le petit, marquée d'un trait vertical.
    """
    figure, axes = subplots(1, len(panels), figsize=(9.5, 3.6), squeeze=False)
    hottest = max(t for measured, _ in panels.values() for t in measured.temperatures)
    handles = {}
    for ax, (name, (measured, per_epoch)) in zip(axes[0], panels.items(), strict=True):
        steps, bounds = per_epoch * np.arange(1, measured.curves.shape[-1] + 1), []
        for (row, temperature), (column, alpha) in product(
            enumerate(measured.temperatures), enumerate(measured.alphas)
        ):
            gains = (measured.alone_curve - measured.curves[row, column]).T
            label = f"T = {short(temperature)}, alpha = {french(alpha)}"
            line, role = ("-", "distilled") if alpha == 1 else ("--", "other")
            role = role if temperature == hottest else "neutral"
            mean_curve(ax, steps, gains, role, label, line)
            handles[label] = ax.lines[-1]
            middle = round(first * len(gains))
            bounds += [bound for epoch in gains[middle // 2 :] for bound in mean_interval(epoch)]
        ax.axhline(0, color="0.5", lw=1)
        ax.axvline(first * steps[-1], color="0.4", lw=1, ls=":")
        ax.set(xlabel="pas d'entraînement", xticks=[first * steps[-1], steps[-1]], xlim=(0, steps[-1]))
        ax.set_xticklabels([thousands(round(first * steps[-1])), thousands(int(steps[-1]))])
        ax.set_ylim(min(bounds) - 1, max(bounds) + 1)  # les tout premiers pas sortiraient du cadre
        ax.set_title(name, fontsize=10)
        comma_axis(ax.yaxis)
    axes[0, 0].set_ylabel("gain en validation (points)")
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=4, frameon=False, fontsize=9,
                  title="bande : intervalle à 95 % ; pointillé : premier budget", title_fontsize=8.5)  # fmt: skip
    figure.suptitle(title, fontsize=11)
    return finished(figure)
