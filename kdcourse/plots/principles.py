"""Les figures de 10.1."""

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch
from torch import Tensor, nn

from kdcourse.data.splits import Split
from kdcourse.formats import french, short
from kdcourse.measures.principles import entropy, softened
from kdcourse.plots.common import COLORS, MARKERS, as_picture, comma_axis, finished, mean_curve, paper, subplots
from kdcourse.training.frozen_teacher import predict


def plot_scheme() -> Figure:
    """Le schéma de la distillation, avec la bonne perte : l'entropie croisée compare le student aux étiquettes."""
    figure, ax = subplots(figsize=(9, 3.6))
    ax.set(xlim=(0, 100), ylim=(0, 42))
    ax.axis("off")

    def box(x, y, width, text, role, line="-"):
        frame = FancyBboxPatch(
            (x, y),
            width,
            9,
            boxstyle="round,pad=0.6",
            fc=paper(),
            ec=COLORS[role],
            lw=2,
            ls=line,
        )
        ax.add_patch(frame)
        ax.text(x + width / 2, y + 4.5, text, ha="center", va="center", fontsize=9.5)

    def arrow(start, end, role="neutral"):
        ax.add_patch(FancyArrowPatch(start, end, arrowstyle="-|>", mutation_scale=13, color=COLORS[role], lw=1.6))

    box(1, 16, 11, "image\n$x$", "neutral")
    box(20, 29, 17, "teacher (grand)\nfigé", "teacher", "--")
    box(20, 16, 17, "student (petit)\nentraîné", "distilled")
    box(45, 29, 16, "softmax à $T$\n$p^t$", "teacher")
    box(45, 16, 16, "softmax à $T$\n$p^s$", "distilled")
    box(45, 2, 16, "softmax à 1", "distilled")
    box(20, 2, 17, "étiquette\n$y$", "neutral")
    box(70, 22.5, 28, "distillation\n$T^2 \\cdot \\mathrm{KL}(p^t\\,\\|\\,p^s)$, poids $\\alpha$", "teacher")
    box(70, 2, 28, "étiquettes\nentropie croisée, poids $1-\\alpha$", "neutral")
    for start, end, role in [
        ((13, 22), (19, 32), "neutral"),
        ((13, 20.5), (19, 20.5), "neutral"),
        ((38, 33.5), (44, 33.5), "teacher"),
        ((38, 20.5), (44, 20.5), "distilled"),
        ((38, 18), (44, 9), "distilled"),
        ((62, 33.5), (69, 28.5), "teacher"),
        ((62, 20.5), (69, 25.5), "distilled"),
        ((62, 6.5), (69, 6.5), "distilled"),
    ]:
        arrow(start, end, role)
    # L'étiquette passe sous le softmax et rejoint l'entropie croisée : c'est au student qu'on la compare.
    ax.plot([28.5, 28.5, 84, 84], [1.2, -1.5, -1.5, 0.2], color=COLORS["neutral"], lw=1.6, clip_on=False)
    ax.plot(84, 0.6, "^", color=COLORS["neutral"], ms=7, clip_on=False)
    ax.set_title("Le teacher guide le student ; l'étiquette, elle, se compare au student, jamais au teacher")
    return finished(figure)


def plot_prediction(
    model: nn.Module, part: Split, index: int, temperatures: Sequence[float] = (1, 2, 4, 8, 20)
) -> Figure:
    """Une image, et ce que le modèle en pense à plusieurs températures, avec l'entropie de chaque prédiction."""
    logits = predict(model, part.images[index : index + 1])[0].cpu()
    figure, axes = subplots(1, len(temperatures) + 1, figsize=(2 * (len(temperatures) + 1), 2.9))
    axes[0].imshow(as_picture(part.images[index]), cmap="gray_r")
    axes[0].set_title(f"étiquette : {int(part.labels[index])}")
    axes[0].axis("off")
    for ax, temperature in zip(axes[1:], temperatures, strict=True):
        probabilities = softened(logits, temperature)
        ax.bar(range(len(logits)), probabilities.numpy(), color=COLORS["teacher"])
        ax.set(ylim=(0, 1), xticks=range(len(logits)), xlabel="classe")
        ax.set_title(f"T = {short(temperature)}\n{nats(entropy(probabilities))}")
        ax.tick_params(axis="x", labelsize=8)
        comma_axis(ax.yaxis)
        if ax is not axes[1]:
            ax.set_yticklabels([])
    axes[1].set_ylabel("probabilité")
    (first, low), (last, high) = ((t, nats(entropy(softened(logits, t)))) for t in (temperatures[0], temperatures[-1]))
    figure.suptitle(f"De T = {short(first)} à T = {short(last)}, l'entropie passe de {low} à {high}", fontsize=11)
    return finished(figure)


def nats(value: float) -> str:
    """Une entropie et son unité, accordée : « 1,06 nat », « 2,07 nats »."""
    return f"{french(value, 2)} nat{'s' if value >= 2 else ''}"


def plot_gap(image: Tensor, student: Tensor, teacher: Tensor, temperature: float, gradient: Tensor) -> Figure:
    """Une image, deux prédictions, et l'écart signé qui les sépare, sur lequel se pose le gradient mesuré.

    Args:
        image: ``(1, H, W)``.
        student, teacher: logits ``(C,)``.
        temperature: T.
        gradient: gradient de la KL des prédictions adoucies pour les logits du student, ``(C,)`` ; T fois ce gradient
            est l'écart.
    """
    ours, theirs = softened(student, temperature), softened(teacher, temperature)
    figure, (picture, *axes) = subplots(1, 4, figsize=(9.5, 3.2), width_ratios=(0.8, 1, 1, 1.2))
    picture.imshow(as_picture(image), cmap="gray_r")
    picture.axis("off")
    classes, gap = range(len(ours)), (ours - theirs).tolist()
    for ax, values, role in ((axes[0], theirs, "teacher"), (axes[1], ours, "student")):
        ax.bar(classes, values.tolist(), color=COLORS[role])
        ax.set(ylim=(0, 1.1 * max(theirs.max().item(), ours.max().item())), title=role)
    axes[0].set_ylabel(f"probabilité à T = {short(temperature)}")
    colors = [COLORS["student"] if value > 0 else COLORS["teacher"] for value in gap]
    hatches = ["" if value > 0 else "//" for value in gap]
    for x, value, color, hatch in zip(classes, gap, colors, hatches, strict=True):
        axes[2].bar(x, value, color=color, hatch=hatch, ec="white", lw=0)
    axes[2].plot(classes, (temperature * gradient).tolist(), MARKERS["neutral"], mfc="none", color="0.5")
    axes[2].axhline(0, color="0.5", lw=1)
    figure.supxlabel("losanges : T fois le gradient que calcule autograd ; rayé : le logit sera relevé", fontsize=8.5)
    pushed = [str(x) for x, value in zip(classes, gap, strict=True) if value < 0]
    named = f"{'les classes' if len(pushed) > 1 else 'la classe'} {', '.join(pushed)}"
    axes[2].set_title("écart", fontsize=10)
    figure.suptitle(f"Le gradient relève {named} : le teacher y croit plus que le student", fontsize=11)
    for ax in axes:
        ax.set(xticks=classes, xlabel="classe")
        comma_axis(ax.yaxis)
    return finished(figure)


def plot_field_map() -> Figure:
    """La carte du domaine : ce que chaque famille de méthodes compare, et le chapitre qui la mesure."""
    figure, ax = subplots(figsize=(9, 3.9))
    ax.set(xlim=(0, 100), ylim=(0, 44))
    ax.axis("off")
    columns = [(6, "image"), (30, "cartes\nintermédiaires"), (54, "embedding"), (78, "logits")]
    for y, role, name in ((31, "teacher", "teacher"), (4, "distilled", "student")):
        for index, (x, text) in enumerate(columns):
            ax.add_patch(FancyBboxPatch((x, y), 15, 8, boxstyle="round,pad=0.5", fc=paper(), ec=COLORS[role], lw=2))
            ax.text(x + 7.5, y + 4, text, ha="center", va="center", fontsize=9)
            if index:
                ax.add_patch(
                    FancyArrowPatch((x - 8, y + 4), (x - 1, y + 4), arrowstyle="-|>", mutation_scale=12, color="0.4")
                )
        ax.text(0, y + 4, name, rotation=90, ha="center", va="center", color=COLORS[role], weight="bold")
    for x, text in (
        (37.5, "10.3 Features\nles mêmes cartes"),
        (61.5, "10.4 Relations\nles mêmes ressemblances\nentre exemples"),
        (85.5, "10.2 Logits\nles mêmes prédictions"),
    ):
        ax.add_patch(FancyArrowPatch((x, 30), (x, 13.3), arrowstyle="<|-|>", mutation_scale=13, color="0.2", lw=1.6))
        ax.text(
            x,
            21.7,
            text,
            ha="center",
            va="center",
            fontsize=9,
            bbox={"fc": paper(), "ec": "none", "pad": 1.5},
        )
    others = (
        "10.5 Auto-distillation :\nle teacher est le student d'hier\n\n"
        "10.6 Compression :\nle student est le teacher,\nen tenseurs"
    )
    ax.text(13.5, 21.7, others, ha="center", va="center", fontsize=9)
    ax.set_title("Cinq façons de guider un student : ce que l'on compare change, l'idée reste")
    return finished(figure)


def plot_bias_sweep(biases: Tensor, sweeps: Mapping[str, tuple], label: int) -> Figure:
    """Rappel d'une classe et erreur globale quand on relève le biais de cette classe, une colonne par méthode.

    Args:
        biases: biais ajoutés, ``(n,)``.
        sweeps: nom → (``BiasSweep`` de mesures ``(S, n)``, indices des biais réglés ``(S,)``, rôle de ``COLORS``).
        label: la classe.
    """
    figure, axes = subplots(1, len(sweeps), figsize=(9.5, 3.4), sharey=True)
    biases = np.asarray(biases.tolist())
    for ax, (name, (sweep, tuned, role)) in zip(axes, sweeps.items(), strict=True):
        for values, line in ((sweep.recall, "-"), (sweep.error, "--")):
            mean_curve(ax, biases, values.T, role, line=line, within=(0, 100))
        ax.plot(biases[tuned.tolist()], np.full(len(tuned), -4.0), "|", color="0.2", ms=8)
        ax.set(xlabel=f"biais ajouté au logit du {label}", title=name, ylim=(-8, 102))
    handles = [
        Line2D([], [], color="0.3", ls=line, marker=mark, label=what)
        for line, mark, what in (
            ("-", "", f"rappel des {label}"),
            ("--", "", "erreur globale"),
            ("", "|", "biais réglé d'une graine"),
        )
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=9)
    axes[0].set_ylabel(f"rappel des {label}, erreur globale (%)")
    recalls = " ; ".join(f"{name} : {french(s.at(tuned)[0].mean())} %" for name, (s, tuned, _) in sweeps.items())
    figure.suptitle(f"Rappel des {label} au biais réglé. {recalls} (bandes : 95 %)", fontsize=10)
    return finished(figure)
