"""Les figures de 10.5 : deux lots face à face, les cibles, la calibration, les deux axes ensemble, les générations."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from kdcourse.formats import french
from kdcourse.measures.calibration import Reliability, expected_calibration_error, reliability
from kdcourse.measures.intervals import mean_interval, points
from kdcourse.plots.common import COLORS, MARKERS, comma_axis, finished, mean_curve, subplots


def plot_batch_pairing(previous: Tensor, current: Tensor) -> Figure:
    """Ce que distille le bug : sous chaque image, celle du lot d'avant, de même rang, dont elle reçoit la prédiction.

    Args:
        previous, current: les images des deux lots, ``(B, 1, H, W)`` chacun, dans leur ordre.
    """
    figure, axes = subplots(2, len(current), figsize=(1.1 * len(current), 2.7))
    for (above, below), before, now in zip(axes.T, previous, current, strict=True):
        for ax, image in ((above, before), (below, now)):
            ax.imshow(image[0], cmap="gray_r", interpolation="none")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        below.annotate("", (0.5, 1.02), (0.5, 1.32), xycoords="axes fraction",
                       arrowprops={"arrowstyle": "-|>", "color": COLORS["neutral"], "lw": 1.5})  # fmt: skip
    for ax, name in zip(axes[:, 0], ("lot d'avant", "lot courant"), strict=True):
        ax.set_ylabel(name, fontsize=9)
    figure.get_layout_engine().set(hspace=0.25)
    figure.suptitle("Chaque image apprend la prédiction d'une autre : même rang, autre chiffre", fontsize=11)
    return finished(figure)


def plot_targets(targets: Mapping[str, Tensor], label: int, title: str) -> Figure:
    """La cible moyenne qu'ont reçue les images d'une classe, une colonne par méthode, ``(C,)`` chacune."""
    figure, axes = subplots(1, len(targets), figsize=(3.4 * len(targets), 3), sharey=True)
    for ax, (name, target) in zip(np.atleast_1d(axes), targets.items(), strict=True):
        bars = ax.bar(range(len(target)), target.tolist(), color=COLORS["neutral"])
        bars[label].set_color(COLORS["teacher"])
        ax.set(xticks=range(len(target)), xlabel="classe", ylim=(0, 1))
        ax.set_title(f"{name}\nsur le {label} : {french(target[label], 2)}", fontsize=10)
        comma_axis(ax.yaxis)
    np.atleast_1d(axes)[0].set_ylabel("poids moyen dans la cible")
    figure.suptitle(title, fontsize=11)
    return finished(figure)


def plot_bargain(
    errors: Mapping[str, Mapping[str, Tensor]], models: Mapping[str, tuple[Tensor, str]], labels: Tensor, title: str
) -> Figure:
    """Ce qu'une méthode gagne, et ce qui la trahit : à gauche l'erreur à chaque budget, à droite la fiabilité.

    Args:
        errors: budget → (nom → erreurs de test ``(graines,)``).
        models: nom → (logits de test ``(graines, N, C)``, rôle de ``COLORS``).
        labels: ``(N,)``.
        title: ce que la figure montre.
    """
    figure, (bars, diagram) = subplots(1, 2, figsize=(8.5, 3.6), width_ratios=(1.2, 1))
    width = 0.8 / len(models)
    for rank, (name, (logits, role)) in enumerate(models.items()):
        for place, measured in enumerate(errors.values()):
            interval, x = mean_interval(measured[name]), place + (rank - (len(models) - 1) / 2) * width
            bars.bar(x, interval.mean, 0.9 * width, color=COLORS[role], label="" if place else name,
                     hatch=("", "//")[rank % 2], ec="white", lw=0)  # fmt: skip
            bars.plot([x, x], [interval.low, interval.high], color="0.5", lw=2)
            bars.annotate(french(interval.mean), (x, interval.high), (0, 4), textcoords="offset points", ha="center")
        draw_reliability(diagram, reliability(logits, labels), role)
    bars.set(xticks=range(len(errors)), xticklabels=errors, ylabel="erreur de test (%)")
    bars.set_title("L'erreur : barre plus basse, meilleur modèle", fontsize=10)
    bars.margins(y=0.15)
    bars.legend(frameon=False, fontsize=9, loc="upper right")
    comma_axis(bars.yaxis)
    diagram.set_ylabel("bonnes réponses (%)")
    diagram.set_title("La confiance : sur la diagonale, elle dit vrai", fontsize=10)
    figure.supxlabel("traits : intervalle à 95 % ; à droite, l'aire d'un point est la part des images", fontsize=9)
    figure.suptitle(title, fontsize=11)
    return finished(figure)


def plot_reliability(models: Mapping[str, tuple[Tensor, str]], labels: Tensor, title: str) -> Figure:
    """Diagramme de fiabilité : exactitude selon la confiance ; sur la diagonale, le modèle dit vrai.

    Args:
        models: nom → (logits de test ``(S, N, C)``, rôle de ``COLORS``) ; les S graines sont réunies.
        labels: ``(N,)``.
        title: ce que la figure montre.
    """
    figure, axes = subplots(1, len(models), figsize=(2.4 * len(models), 3.7), sharey=True)
    for ax, (name, (logits, role)) in zip(np.atleast_1d(axes), models.items(), strict=True):
        draw_reliability(ax, reliability(logits, labels), role)
        ece = mean_interval(expected_calibration_error(logits, labels))
        ax.set_title(f"{name}\nECE {french(ece.mean)} %", fontsize=10, pad=12)
    np.atleast_1d(axes)[0].set_ylabel("exactitude (%)")
    figure.supxlabel(
        "quinze tranches, graines réunies ; l'aire d'un point : la part des images ; diagonale : confiance juste",
        fontsize=9,
    )
    figure.suptitle(title, fontsize=11)
    return finished(figure)


def draw_reliability(ax, found: Reliability, role: str):
    """Les tranches non vides d'un diagramme de fiabilité, et sa diagonale."""
    ax.plot([0, 100], [0, 100], color="0.5", ls="--", lw=1)
    ax.set(xlim=(0, 102), ylim=(0, 102), xlabel="confiance (%)", aspect="equal")
    points = ax.scatter(*reliability_points(found), color=COLORS[role], marker=MARKERS[role], alpha=0.8)
    points.set_clip_on(False)
    return points


def reliability_points(found: Reliability) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Confiance et exactitude en %, et aire du point, de chaque tranche non vide."""
    filled = found.share > 0
    x, y, share = (values[filled].numpy() for values in found)
    return 100 * x, 100 * y, 20 + 400 * share


def plot_two_axes(measures: Mapping[str, tuple[Tensor, Tensor, str]], title: str) -> Figure:
    """Erreur et ECE ensemble : une méthode n'est bonne que si elle l'est sur les deux axes.

    Args:
        measures: nom → (erreurs ``(graines,)``, ECE ``(graines,)``, rôle de ``COLORS``).
        title: ce que la figure montre.
    """
    figure, ax = subplots(figsize=(7, 4))
    for rank, (name, (errors, eces, role)) in enumerate(measures.items()):
        x, y = mean_interval(errors), mean_interval(eces)
        ax.plot(errors, eces, MARKERS[role], color=COLORS[role], alpha=0.25, ms=4)
        ax.errorbar(
            x.mean, y.mean, xerr=[[x.mean - x.low], [x.high - x.mean]], yerr=[[y.mean - y.low], [y.high - y.mean]],
            fmt=MARKERS[role], color=COLORS[role], capsize=3, ms=8,
        )  # fmt: skip
        ax.annotate(
            name,
            (x.mean, y.mean),
            xytext=(8, 22 if rank % 2 else 8),  # deux hauteurs : des méthodes voisines ne se recouvrent pas
            textcoords="offset points",
            color=COLORS[role],
            fontsize=9,
        )
    ax.set(xlabel="erreur de test (%)", ylabel="erreur de calibration, ECE (%)")
    ax.margins(y=0.2)
    ax.set_ylim(bottom=0)
    ax.set_title(title + "\n(traits : intervalle à 95 %)", fontsize=10)
    comma_axis(ax.xaxis, ax.yaxis)
    return finished(figure)


def plot_generations(errors: Mapping[str, Tensor], title: str) -> Figure:
    """L'erreur de chaque génération, une ligne par graine ; à droite de chaque nom, le gain de la dernière.

    Args:
        errors: nom → erreurs de test ``(graines, générations)``.
    """
    figure, axes = subplots(1, len(errors), figsize=(max(6.5, 4.5 * len(errors)), 3.5), sharey=True)
    for ax, (name, values) in zip(np.atleast_1d(axes), errors.items(), strict=True):
        generations = range(1, values.shape[1] + 1)
        ax.plot(generations, values.T, color="0.75", lw=1)
        mean_curve(ax, generations, values.T, "distilled")
        ax.plot(1, values[:, 0].mean(), MARKERS["student"], color=COLORS["student"], ms=8)
        gain = mean_interval(values[:, 0] - values[:, -1])
        ax.set(xticks=generations, xlabel="génération")
        ax.set_title(f"{name}\ngain de la dernière : {points(gain)}", fontsize=10)
        comma_axis(ax.yaxis)
    np.atleast_1d(axes)[0].set_ylim(bottom=0)  # une fois toutes les lignées tracées : l'axe commun les contient
    np.atleast_1d(axes)[0].set_ylabel("erreur de test (%)")
    figure.supxlabel("traits gris : graines ; bande : intervalle à 95 %", fontsize=9)
    figure.suptitle(title, fontsize=11)
    return finished(figure)
