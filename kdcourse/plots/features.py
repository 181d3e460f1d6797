"""Les figures de 10.3 : le schéma des hints, l'adaptateur, les cartes d'attention."""

from collections.abc import Mapping

import contourpy
import numpy as np
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from kdcourse.formats import french
from kdcourse.plots.common import COLORS, as_picture, comma_axis, finished, paper, subplots

MAP_COLORS = "viridis_r"  # plus c'est sombre, plus c'est actif
UNIT_SQUARE = (0, 1, 0, 1)  # l'étendue de toute image : une carte de 3×3 pixels couvre le chiffre de 10×10


def plot_feature_scheme() -> Figure:
    """Où le teacher peut guider le student : à chaque étage, par l'attention ou par le hint et son adaptateur."""
    figure, ax = subplots(figsize=(9, 3.9))
    ax.set(xlim=(0, 100), ylim=(0, 46))
    ax.axis("off")

    def box(x, y, width, text, role, line="-", height=8):
        style = {
            "boxstyle": "round,pad=0.5",
            "fc": paper(),
            "ec": COLORS[role],
            "lw": 2,
            "ls": line,
        }
        ax.add_patch(FancyBboxPatch((x, y), width, height, **style))
        ax.text(x + width / 2, y + height / 2, text, ha="center", va="center", fontsize=9)

    def arrow(start, end, style="-|>", color="0.35"):
        ax.add_patch(FancyArrowPatch(start, end, arrowstyle=style, mutation_scale=12, color=color, lw=1.5))

    names = ["image", "étage 0", "étage 1", "étage 2", "logits"]
    for y, role, line, widths in ((35, "teacher", "--", (16, 32, 32)), (2, "distilled", "-", (8, 8, 8))):
        sizes = ["10×10", *(f"{c} × {s}×{s}" for c, s in zip(widths, (10, 5, 3), strict=True)), "10"]
        for index, (name, size) in enumerate(zip(names, sizes, strict=True)):
            x = 5 + 20 * index
            box(x, y, 13, f"{name}\n{size}", role, line)
            if index:
                arrow((x - 6.3, y + 4), (x - 0.8, y + 4))
        ax.text(1, y + 4, "teacher" if role == "teacher" else "student", rotation=90, ha="center", va="center",
                color=COLORS[role], weight="bold")  # fmt: skip
    for x, width in ((25, 16), (45, 32), (65, 32)):
        arrow((x + 1.5, 34.2), (x + 1.5, 10.8), "<|-|>")
        box(x + 5, 19, 8.5, f"adaptateur\n8 → {width}", "distilled", height=6.5)
        arrow((x + 9.2, 10.8), (x + 9.2, 18.2))
        arrow((x + 9.2, 34.2), (x + 9.2, 26.3), "<|-|>")
    ax.text(24.5, 22.5, "attention", ha="right", va="center", fontsize=9.5, weight="bold")
    ax.text(35.5, 30.3, "hint", va="center", fontsize=9.5, weight="bold")
    arrow((91.5, 34.2), (91.5, 10.8), "<|-|>")
    ax.text(90.5, 22.5, "KD", ha="right", va="center", fontsize=9.5, weight="bold")
    ax.set_title("Trois étages, deux façons d'imiter chacun ; seul le hint demande un adaptateur")
    return finished(figure)


def plot_adapter(student: Tensor, weights: Tensor, bias: float, teacher: Tensor) -> Figure:
    """Ce que calcule une convolution 1×1 pour un canal : en chaque pixel, le même mélange des canaux du student.

    Args:
        student: les canaux du student pour une image, ``(C, H, W)``.
        weights: le poids de chacun dans le mélange, ``(C,)``.
        bias: ce qui s'y ajoute.
        teacher: le canal du teacher à retrouver, ``(H, W)``.
    """
    mixed = (weights[:, None, None] * student).sum(dim=0) + bias
    gap = (mixed - teacher).square().mean().item()
    figure, axes = subplots(1, len(student) + 2, figsize=(9, 1.8))
    row, column = divmod(int(teacher.argmax()), teacher.shape[1])
    low, high = min(mixed.min(), teacher.min()).item(), max(mixed.max(), teacher.max()).item()
    scales = [(0.0, student.max().item())] * len(student) + [(low, high)] * 2
    for ax, values, (bottom, top) in zip(axes, (*student, mixed, teacher), scales, strict=True):
        shown = ax.imshow(values.cpu().numpy(), cmap=MAP_COLORS, vmin=bottom, vmax=top)
        ax.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=COLORS["student"], lw=2, zorder=4))
        value, ink = values[row, column].item(), "white" if values[row, column] > (bottom + top) / 2 else "black"
        ax.text(column, row, french(value, 2), ha="center", va="center", fontsize=6.5, color=ink,
                bbox={"fc": shown.to_rgba(value), "ec": "none", "pad": 0.5})  # fmt: skip
        ax.set(xticks=[], yticks=[])
    for index, (ax, weight) in enumerate(zip(axes, weights.tolist(), strict=False)):
        ax.set_title(f"canal {index}", fontsize=8.5)
        ax.set_xlabel(f"× {french(weight, 2)}", fontsize=9.5)
        sign = "=" if index == len(student) - 1 else "+"
        ax.text(1.13, 0.5, sign, transform=ax.transAxes, ha="center", va="center", fontsize=11)
    axes[-2].set_title("mélange", fontsize=8.5, weight="bold")
    axes[-2].set_xlabel(f"biais {french(bias, 2)}", fontsize=9)
    axes[-1].set_title("teacher", fontsize=8.5, weight="bold", color=COLORS["teacher"])
    axes[-1].set_xlabel("à refaire", fontsize=9)
    figure.suptitle(
        f"Un canal du teacher, refait avec les {len(student)} du student : écart au carré moyen {french(gap, 2)}",
        fontsize=11,
    )
    return finished(figure)


def digit_outline(image: Tensor) -> list[np.ndarray]:
    """Le contour d'un chiffre, à mi-hauteur de son encre : des lignes ``(n, 2)`` dans le carré unité."""
    ink = np.pad(image[0].cpu().numpy(), 1)  # un trait qui touche le bord se referme
    x, y = ((np.arange(-1, size - 1) + 0.5) / (size - 2) for size in ink.shape[::-1])
    lines = contourpy.contour_generator(x=x, y=1 - y, z=ink).lines(ink.max() / 2)
    return [line.clip(0, 1) for line in lines]


def draw_outline(ax, image: Tensor) -> LineCollection:
    """Pose ce contour sur une carte : blanc bordé de noir, il se voit sur toutes les couleurs."""
    outline = LineCollection(digit_outline(image), colors="white", linewidths=1.3)
    outline.set_path_effects([withStroke(linewidth=3, foreground="black")])
    ax.add_collection(outline, autolim=False)
    return outline


def show_map(ax, values: Tensor, top: float):
    """Une carte ``(H, W)``, à sa résolution, dans le carré unité."""
    ax.set(xticks=[], yticks=[])
    return ax.imshow(
        values.cpu().numpy(), cmap=MAP_COLORS, vmin=0, vmax=top, extent=UNIT_SQUARE, interpolation="nearest"
    )


def plot_attention_maps(images: Tensor, labels: Tensor, columns: Mapping[str, Tensor], title: str) -> Figure:
    """Une image par ligne, et son étiquette ; à côté, les cartes ``(n, 1, H, W)`` de chaque colonne, sous son contour.

    Une carte est d'autant plus sombre que ses canaux sont actifs ; toutes ont la même échelle.
    """
    size = (min(9.0, 1.65 * (1 + len(columns)) + 0.8), 1.5 * len(images) + 1)
    figure, axes = subplots(len(images), 1 + len(columns), figsize=size, squeeze=False)
    top = max(maps.max().item() for maps in columns.values())
    for row, (line, image, label) in enumerate(zip(axes, images, labels.tolist(), strict=True)):
        line[0].imshow(as_picture(image), cmap="gray_r", extent=UNIT_SQUARE)
        line[0].set(xticks=[], yticks=[], ylabel=f"étiquette {label}")
        for ax, maps in zip(line[1:], columns.values(), strict=True):
            shown = show_map(ax, maps[row, 0], top)
            draw_outline(ax, image)
    for ax, name in zip(axes[0], ["image", *columns], strict=True):
        ax.set_title(name, fontsize=9.5)
    _color_bar(figure, shown, axes)
    figure.suptitle(title, fontsize=11)
    return finished(figure)


def _color_bar(figure: Figure, shown, axes) -> None:
    bar = figure.colorbar(shown, ax=axes, fraction=0.03, pad=0.02)
    bar.set_label("attention", fontsize=9)
    comma_axis(bar.ax.yaxis)
