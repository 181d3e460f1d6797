"""Les figures de 10.2 : le gradient et sa limite, la carte T × alpha, les images sans étiquettes."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from kdcourse.formats import french, short
from kdcourse.measures.intervals import log_slope
from kdcourse.measures.logits import logit_gradient, matching_gradient
from kdcourse.measures.principles import softened
from kdcourse.measures.temperature_map import TemperatureMap
from kdcourse.plots.common import COLORS, MARKERS, as_picture, comma_axis, finished, in_formula, mean_curve, subplots

GAIN_COLORS = "PuOr"  # divergente, lisible par les daltoniens : violet pour un gain, orange pour une perte


def plot_temperature_gradients(
    temperatures: Sequence[float], with_factor: Tensor, without_factor: Tensor, limit: Tensor
) -> Figure:
    """La taille du gradient selon T, avec et sans T², et sa limite.

    Args:
        temperatures: ``(n,)``.
        with_factor, without_factor: gradients ``(n, graines, B, C)``.
        limit: gradient limite ``(graines, B, C)``.
    """
    figure, ax = subplots(figsize=(7, 3.5))

    def norms(gradients):
        return gradients.flatten(-2).norm(dim=-1)

    for values, role, name in ((with_factor, "distilled", "avec T²"), (without_factor, "student", "sans T²")):
        mean_curve(ax, temperatures, norms(values), role, name)
    ax.axhline(norms(limit).mean().item(), color=COLORS["teacher"], ls="--", lw=1.5, label="limite, T → ∞")
    far = len(temperatures) // 2
    slope = log_slope(temperatures[far:], norms(without_factor).mean(dim=1)[far:])
    ax.set(xscale="log", yscale="log", xlabel="température T", ylabel="norme du gradient (nats par logit)")
    ax.set_title(f"Sans T², le gradient s'éteint comme $T^{{{in_formula(slope)}}}$ ; avec, il rejoint sa limite")
    ax.set_xticks(temperatures, [short(t) for t in temperatures])
    ax.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    ax.minorticks_off()
    ax.legend(frameon=False, title="bande : intervalle à 95 %", title_fontsize=8)
    return finished(figure)


def plot_gradients(image: Tensor, student: Tensor, teacher: Tensor, temperatures: Sequence[float]) -> Figure:
    """Une image, les deux prédictions à plusieurs températures, et dessous le gradient, classe par classe.

    Args:
        image: ``(C, H, W)``.
        student, teacher: logits de cette image, ``(C,)``.
        temperatures: une colonne par température.
    """
    columns = len(temperatures)
    figure, axes = subplots(2, columns + 1, figsize=(1.9 * (columns + 1), 4.2), sharey="row")
    limit, classes = matching_gradient(student, teacher), np.arange(len(student))
    axes[0, 0].imshow(as_picture(image), cmap="gray_r")
    for ax in axes[:, 0]:
        ax.axis("off")
    for (above, below), temperature in zip(axes.T[1:], temperatures, strict=True):
        for shift, logits, role, hatch in ((-0.2, teacher, "teacher", ""), (0.2, student, "student", "//")):
            above.bar(classes + shift, softened(logits, temperature).tolist(), 0.4, color=COLORS[role], label=role,
                      hatch=hatch, ec="white", lw=0)  # fmt: skip
        values = logit_gradient(student, teacher, temperature)
        below.bar(classes, values.tolist(), color=COLORS["distilled"], label="gradient, avec T²")
        below.plot(classes, limit.tolist(), MARKERS["teacher"], mfc="none", color="0.4", ms=6, label="limite, T → ∞")
        below.axhline(0, color="0.5", lw=0.8)
        above.set(xticks=classes, ylim=(0, 1), title=f"T = {short(temperature)}")
        below.set(xticks=classes, xlabel="classe")
        for ax in (above, below):
            ax.tick_params(axis="x", labelsize=7)
    axes[0, 1].set_ylabel("prédiction à T")
    axes[1, 1].set_ylabel("gradient du logit")
    comma_axis(axes[0, 1].yaxis, axes[1, 1].yaxis)
    handles = [
        handle for ax in (axes[0, 1], axes[1, 1]) for handle in zip(*ax.get_legend_handles_labels(), strict=True)
    ]
    axes[1, 0].legend(*zip(*handles, strict=True), frameon=False, fontsize=8, loc="center")
    gaps = [(logit_gradient(student, teacher, t) - limit).norm() / limit.norm() for t in temperatures]
    figure.suptitle(
        f"Le gradient rejoint sa limite : écart de {french(100 * gaps[0], 0)} % à T = {short(temperatures[0])}, "
        f"de {french(100 * gaps[-1], 0)} % à T = {short(temperatures[-1])}", fontsize=11)  # fmt: skip
    return finished(figure)


def plot_temperature_maps(maps: Mapping[str, TemperatureMap]) -> Figure:
    """Gain apparié de chaque case sur le student seul ; la case encadrée est choisie sur la validation."""
    widths = [len(measured.alphas) + 2 for measured in maps.values()]
    size = (min(9.8, 0.62 * sum(widths)), 4)
    figure, axes = subplots(1, len(maps), figsize=size, width_ratios=widths, squeeze=False)
    for ax, (name, measured) in zip(axes[0], maps.items(), strict=True):
        image = draw_map(ax, measured)
        for row in range(len(measured.temperatures)):
            for column in range(len(measured.alphas)):
                gain = measured.gain(row, column)
                red, green, blue, _ = image.cmap(image.norm(gain.mean))
                dark = 0.3 * red + 0.6 * green + 0.1 * blue < 0.5
                text = french(gain.mean) if gain.excludes_zero else f"({french(gain.mean)})"
                ax.text(column, row, text, ha="center", va="center", fontsize=8, color="white" if dark else "black")
        row, column = measured.best()
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec="black", lw=2.5))
        gains = measured.gains()
        ax.set_title(f"{name}\nde {french(gains.min())} à {french(gains.max())} points", fontsize=10)
    figure.supxlabel(
        "gain sur le student seul, en points ; entre parenthèses : l'intervalle à 95 % contient 0 ; "
        "encadrée : la meilleure en validation",
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
