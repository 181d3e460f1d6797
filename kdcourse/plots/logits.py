"""Les figures de 10.2 : le gradient et sa limite, la carte T × alpha, les images sans étiquettes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from kdcourse.formats import french, short
from kdcourse.measures.intervals import log_slope, mean_interval
from kdcourse.measures.logits import logit_gradient, matching_gradient
from kdcourse.measures.temperature_map import TemperatureMap
from kdcourse.plots.common import COLORS, MARKERS, as_picture, comma_axis, finished, in_formula, mean_curve, subplots

GAIN_COLORS = "PuOr"  # divergente, lisible par les daltoniens : violet pour un gain, orange pour une perte


def plot_temperature_gradients(
    temperatures: Sequence[float], with_factor: Tensor, without_factor: Tensor, limit: Tensor
) -> Figure:
    """La taille du gradient selon T, avec et sans T², et l'écart relatif à sa limite.

    Args:
        temperatures: ``(n,)``.
        with_factor, without_factor: gradients ``(n, graines, B, C)``.
        limit: gradient limite ``(graines, B, C)``.
    """
    figure, (left, right) = subplots(1, 2, figsize=(9, 3.6))

    def norms(gradients):
        return gradients.flatten(-2).norm(dim=-1)

    for values, role, name in ((with_factor, "distilled", "avec T²"), (without_factor, "student", "sans T²")):
        mean_curve(left, temperatures, norms(values), role, name)
    target = norms(limit).mean().item()
    left.axhline(target, color=COLORS["teacher"], ls="--", lw=1.5, label="limite")
    far = len(temperatures) // 2
    slope = log_slope(temperatures[far:], norms(without_factor).mean(dim=1)[far:])
    left.set(
        ylabel="norme du gradient (nats par logit)", title=f"Sans T², il s'éteint comme $T^{{{in_formula(slope)}}}$"
    )
    left.legend(frameon=False)
    gaps = norms(with_factor - limit) / norms(limit)
    mean_curve(right, temperatures, 100 * gaps, "distilled", "")
    slope = log_slope(temperatures[far:], gaps.mean(dim=1)[far:])
    right.set(ylabel="écart à la limite (%)", title=f"Avec T², il rejoint sa limite comme $T^{{{in_formula(slope)}}}$")
    for ax in (left, right):
        ax.set(xscale="log", yscale="log", xlabel="température T")
        ax.set_xticks(temperatures, [short(t) for t in temperatures], fontsize=8)
        ax.minorticks_off()
    figure.supxlabel("moyenne sur les graines, bande : intervalle à 95 %", fontsize=8)
    return finished(figure)


def plot_gradients(student: Tensor, teacher: Tensor, temperatures: Sequence[float]) -> Figure:
    """Le gradient d'une image, classe par classe, à plusieurs températures, et sa limite."""
    figure, axes = subplots(1, len(temperatures), figsize=(2 * len(temperatures) + 0.8, 2.7), sharey=True)
    limit, classes = matching_gradient(student, teacher), range(student.shape[-1])
    for ax, temperature in zip(axes, temperatures, strict=True):
        values = logit_gradient(student, teacher, temperature)
        ax.bar(classes, values.tolist(), color=COLORS["distilled"], label="gradient, avec T²")
        ax.plot(classes, limit.tolist(), MARKERS["teacher"], mfc="none", color=COLORS["teacher"], ms=6, label="limite")
        ax.axhline(0, color="0.4", lw=0.8)
        gap = french(100 * (values - limit).norm() / limit.norm(), 0)
        ax.set(xticks=classes, xlabel="classe")
        ax.set_title(f"T = {short(temperature)}\nécart à la limite : {gap} %", fontsize=10)
        ax.tick_params(axis="x", labelsize=8)
    axes[0].set_ylabel("gradient")
    comma_axis(axes[0].yaxis)
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    return finished(figure)


def plot_temperature_maps(maps: Mapping[str, TemperatureMap]) -> Figure:
    """Gain apparié de chaque case sur le student seul ; la case encadrée est choisie sur la validation."""
    figure, axes = subplots(1, len(maps), figsize=(5 * len(maps), 4.2))
    for ax, (name, measured) in zip(np.atleast_1d(axes), maps.items(), strict=True):
        image = draw_map(ax, measured)
        for row in range(len(measured.temperatures)):
            for column in range(len(measured.alphas)):
                gain = measured.gain(row, column)
                red, green, blue, _ = image.cmap(image.norm(gain.mean))
                dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
                text = french(gain.mean) if gain.excludes_zero else f"({french(gain.mean)})"
                ax.text(column, row, text, ha="center", va="center", fontsize=9, color="white" if dark else "black")
        row, column = measured.best()
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="black", lw=2.5))
        figure.colorbar(image, ax=ax, label="gain sur le student seul (points)", shrink=0.9)
        gains = measured.gains()
        ax.set_title(f"{name}\nde {french(gains.min())} à {french(gains.max())} points", fontsize=10)
    figure.supxlabel(
        "entre parenthèses : l'intervalle à 95 % contient 0 ; encadrée : la meilleure en validation ; "
        "chaque carte a son échelle",
        fontsize=9,
    )
    return finished(figure)


def draw_map(ax, measured: TemperatureMap):
    """La carte de couleurs d'une ``TemperatureMap``, blanche où le gain est nul."""
    gains = measured.gains()
    span = max(1.0, float(np.abs(gains).max()))
    image = ax.imshow(gains, cmap=GAIN_COLORS, norm=TwoSlopeNorm(0, -span, span), aspect="auto", origin="lower")
    ax.set_xticks(range(len(measured.alphas)), [french(a) for a in measured.alphas])
    ax.set_yticks(range(len(measured.temperatures)), [short(t) for t in measured.temperatures])
    ax.set(xlabel="poids de la distillation, alpha", ylabel="température T")
    return image


def plot_map_curves(measured: TemperatureMap, column: int) -> Figure:
    """L'erreur de validation au fil des époques, à chaque température, pour un alpha ; en gris, le student seul."""
    shown = range(0, len(measured.temperatures), 2)
    figure, axes = subplots(1, len(shown), figsize=(2.4 * len(shown), 2.7), sharey=True)
    epochs = np.arange(1, measured.curves.shape[-1] + 1)
    for ax, row in zip(axes, shown, strict=True):
        for values, role, name, line in (
            (measured.alone_curve, "student", "seul", "--"),
            (measured.curves[row, column], "distilled", "distillé", "-"),
        ):
            mean_curve(ax, epochs, values.T, role, name, line)
        gain = mean_interval(measured.alone_curve[:, -1] - measured.curves[row, column, :, -1])
        ax.set_title(f"T = {short(measured.temperatures[row])}\ngain final : {french(gain.mean)}", fontsize=10)
        ax.set(xlabel="époque", ylim=(0, 3 * float(measured.alone_curve[:, -1].mean())))
    axes[0].set_ylabel("erreur de validation (%)")
    handles, labels = axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=2, frameon=False, fontsize=9)
    alpha = french(measured.alphas[column])
    figure.suptitle(f"alpha = {alpha} ; bandes : intervalle à 95 % ; gains de validation, en points", fontsize=10)
    return finished(figure)


def plot_image_rows(rows: Mapping[str, Tensor], title: str) -> Figure:
    """Quelques images de chaque sorte, une sorte par ligne, ``(n, 1, H, W)`` chacune, à la même échelle de gris."""
    count = max(len(images) for images in rows.values())
    figure, axes = subplots(len(rows), count, figsize=(count + 2, 0.9 * len(rows) + 0.4), squeeze=False)
    for line, (name, images) in zip(axes, rows.items(), strict=True):
        line[0].set_ylabel(name, rotation=0, ha="right", va="center", fontsize=9)
        for ax, image in zip(line, images, strict=False):
            ax.imshow(as_picture(image), cmap="gray_r", vmin=0, vmax=1)
            ax.set(xticks=[], yticks=[])
    figure.suptitle(title, fontsize=11)
    return finished(figure)
