"""Les figures de 10.3 : le schéma des hints, les cartes d'attention, les normes de gradient, les gains appariés."""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor

from kdcourse.formats import french, short
from kdcourse.measures.features import map_similarity
from kdcourse.measures.intervals import mean_interval
from kdcourse.plots.common import COLORS, MARKERS, as_picture, error_bar, finished, paper, subplots


def plot_feature_scheme() -> Figure:
    """Où le teacher guide le student : une flèche par étage, et l'adaptateur que demande le hint."""
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
    box(63, 16, 16, "adaptateur 1×1\n8 → 32 canaux", "distilled", height=7)
    arrow((71.5, 10.8), (71.5, 15.2))
    arrow((71.5, 34.2), (71.5, 23.8), "<|-|>")
    ax.text(73, 29, "hint", fontsize=9.5, weight="bold", va="center")
    for x in (31.5, 51.5):
        arrow((x, 34.2), (x, 10.8), "<|-|>")
    ax.text(41.5, 22.5, "attention :\noù, non quoi", ha="center", va="center", fontsize=9.5, weight="bold")
    arrow((91.5, 34.2), (91.5, 10.8), "<|-|>")
    ax.text(90.5, 22.5, "KD\n(10.2)", ha="right", va="center", fontsize=9.5, weight="bold")
    ax.set_title("Le hint compare des cartes : il lui faut un adaptateur ; l'attention n'en a pas besoin")
    return finished(figure)


def plot_attention_maps(images: Tensor, columns: Mapping[str, Tensor], title: str) -> Figure:
    """Une image par ligne ; à côté, les cartes d'attention ``(n, 1, H, W)`` de chaque colonne.

    Une carte est d'autant plus sombre que ses canaux sont actifs ; toutes celles d'une ligne ont la même échelle.
    """
    figure, axes = subplots(
        len(images), 1 + len(columns), figsize=(1.5 * (1 + len(columns)), 1.45 * len(images) + 0.7), squeeze=False
    )
    for row, (line, image) in enumerate(zip(axes, images, strict=True)):
        shown = [maps[row, 0].cpu().numpy() for maps in columns.values()]
        same_size = len({maps.shape for maps in shown}) == 1
        line[0].imshow(as_picture(image), cmap="gray_r")
        for ax, maps in zip(line[1:], shown, strict=True):
            ax.imshow(maps, cmap="viridis_r", vmin=0, vmax=max(m.max() for m in shown) if same_size else maps.max())
        for ax in line:
            ax.set(xticks=[], yticks=[])
    for ax, name in zip(axes[0], ["image", *columns], strict=True):
        ax.set_title(name, fontsize=9)
    figure.suptitle(title, fontsize=11)
    return finished(figure)


def plot_gradient_norms(panels: Mapping[str, Tensor], sizes: Sequence[int]) -> Figure:
    """Normes de gradient de l'attention à chaque étage et des étiquettes, en échelle log, un panneau par moment.

    Args:
        panels: moment → normes ``(1 + étages, graines)`` : les étiquettes, puis l'attention de chaque étage à β = 1.
        sizes: nombre de pixels HW de la carte de chaque étage.
    """
    betas = 10 * torch.tensor(sizes)[:, None]
    positions = np.arange(len(sizes))
    figure, axes = subplots(1, len(panels), figsize=(9, 3.8), sharey=True, squeeze=False)
    ratios = []
    for ax, (name, norms) in zip(axes[0], panels.items(), strict=True):
        labels, maps = mean_interval(norms[0]), norms[1:].cpu()
        ratios.append(_times(norms[0].mean() / maps.mean(dim=1)))
        ax.axhline(labels.mean, color=COLORS["neutral"], ls="--", lw=1.5, label="étiquettes")
        ax.axhspan(labels.low, labels.high, color=COLORS["neutral"], alpha=0.2, lw=0)
        for label, values, role in (
            ("attention, β = 1", maps, "student"),
            ("attention, β = 10·HW", betas * maps, "distilled"),
        ):
            for x, row in zip(positions, values, strict=True):
                error_bar(ax, x, mean_interval(row), role)
            ax.plot(positions, values.mean(dim=1), MARKERS[role] + "-", color=COLORS[role], lw=1, label=label)
        ax.set_xticks(positions, [f"étage {i}\n{s} pixels" for i, s in enumerate(sizes)])
        ax.set(yscale="log", xlim=(-0.4, len(sizes) - 0.6))
        ax.set_title(name, fontsize=10)
    axes[0, 0].set_ylabel("norme du gradient (échelle log)")
    handles, names = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3, frameon=False, fontsize=9,
                  title="barre, bande : intervalle à 95 %", title_fontsize=8.5)  # fmt: skip
    figure.suptitle(
        f"{next(iter(panels)).capitalize()}, à β = 1, les étiquettes pèsent {ratios[0]} fois l'attention", fontsize=11
    )
    return finished(figure)


def _times(ratios: Tensor) -> str:
    """« 119, 12 et 2,1 » : les rapports, avec une décimale sous 10."""
    texts = [french(value, 0 if value >= 10 else 1) for value in ratios]
    return f"{', '.join(texts[:-1])} et {texts[-1]}"


def plot_alpha_maps(image: Tensor, teacher: Tensor, alphas: Sequence[float], maps: Tensor, errors: Tensor) -> Figure:
    """La carte d'une image pour chaque alpha, et dessous l'erreur mesurée sur les graines.

    Args:
        image: ``(1, h, w)``.
        teacher: carte du teacher, ``(1, H, W)``.
        alphas: A valeurs.
        maps: cartes d'un student par alpha, ``(A, 1, H, W)``.
        errors: erreurs en %, ``(A, graines)``.
    """
    figure, axes = subplots(1, len(alphas) + 2, figsize=(1.6 * (len(alphas) + 2), 2.7))
    top = max(teacher.max().item(), maps.max().item())
    axes[0].imshow(as_picture(image), cmap="gray_r")
    for ax, values in zip(axes[1:], [teacher, *maps], strict=True):
        ax.imshow(values[0].cpu().numpy(), cmap="viridis_r", vmin=0, vmax=top)
    names = ["image", "teacher", *(f"α = {short(alpha)}" for alpha in alphas)]
    likeness = [french(value, 2) for value in map_similarity(maps[:, None], teacher[None])]
    notes = [
        f"ressemblance {close}\nerreur (%)\n{mean_interval(row)}" for close, row in zip(likeness, errors, strict=True)
    ]
    for ax, name, note in zip(axes, names, ["", "", *notes], strict=True):
        ax.set(xticks=[], yticks=[])
        ax.set_title(name, fontsize=9.5)
        ax.set_xlabel(note, fontsize=8.5)
    figure.suptitle(
        f"Cette carte ressemble à celle du teacher à {likeness[0]} ({names[2]}), puis {likeness[-1]} ({names[-1]}) ; "
        f"l'erreur passe de {french(errors[0].mean())} à {french(errors[-1].mean())} %",
        fontsize=10.5,
    )
    return finished(figure)
