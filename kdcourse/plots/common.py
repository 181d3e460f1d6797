"""Ce que toutes les figures du cours partagent : les couleurs, les formes, la virgule, et les figures d'usage général.

Chacune rend sa ``Figure`` ; un titre qui porte un nombre le calcule. Les trois rôles ont chacun leur couleur et leur
forme, les mêmes dans les six chapitres (palette d'Okabe et Ito, lisible par les daltoniens).
"""

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FuncFormatter
from torch import Tensor

from kdcourse.formats import french, short, thousands
from kdcourse.measures.intervals import Interval, mean_interval, points

COLORS = {"teacher": "#0072B2", "student": "#D55E00", "distilled": "#009E73", "other": "#AA4499", "neutral": "#6E6E6E"}
MARKERS = {"teacher": "s", "student": "o", "distilled": "^", "other": "v", "neutral": "D"}
_STYLE = {"axes.spines.top": False, "axes.spines.right": False, "axes.titlesize": 11, "font.size": 10}


def subplots(*args, **kwargs):
    with plt.rc_context(_STYLE):
        return plt.subplots(*args, layout="constrained", **kwargs)


def paper() -> str:
    """La couleur du fond : celle du thème de la personne qui lit, clair ou sombre."""
    return plt.rcParams["axes.facecolor"]


def finished(figure: Figure) -> Figure:
    """Ferme la figure pour pyplot : un notebook l'affiche une fois, comme valeur de la cellule, et non deux."""
    plt.close(figure)
    return figure


def comma_axis(*axes) -> None:
    """Met la virgule décimale aux graduations."""
    for axis in axes:
        axis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))


def in_formula(value: float) -> str:
    """Un nombre dans une formule : sans accolades, matplotlib mettrait une espace après la virgule."""
    return french(value).replace(",", "{,}")


def as_picture(image: Tensor) -> np.ndarray:
    """Une image ``(1, H, W)`` ou ``(3, H, W)`` comme matplotlib l'attend : ``(H, W)`` ou ``(H, W, 3)``."""
    return (image[0] if len(image) == 1 else image.permute(1, 2, 0)).cpu().numpy()


def plot_paired(
    alone: Tensor,
    distilled: Tensor,
    names: tuple[str, str] = ("seul", "distillé"),
    unit: str = "erreur de test (%)",
    role: str = "distilled",
) -> Figure:
    """Les deux students de chaque graine, reliés ; à droite, leur différence appariée et son intervalle à 95 %."""
    alone, distilled = (np.array([float(value) for value in values]) for values in (alone, distilled))
    if alone.shape != distilled.shape:
        raise ValueError(
            f"distilled : {len(distilled)} mesures reçues, {len(alone)} attendues, une par graine de alone."
        )
    gain = mean_interval(alone - distilled)
    figure, (left, right) = subplots(1, 2, figsize=(8, 3.4), width_ratios=(3, 1.3))
    left.plot([0, 1], np.stack([alone, distilled]), color="0.75", lw=1, zorder=0)
    for x, values, shown in ((0, alone, "student"), (1, distilled, role)):
        interval = mean_interval(values)
        left.plot(np.full(len(values), x), values, MARKERS[shown], color=COLORS[shown], alpha=0.6)
        offset = x + (0.12 if x else -0.12)
        error_bar(left, offset, interval, shown)
        left.annotate(
            french(interval.mean), (offset, interval.mean), xytext=(28 if x else -28, 0), textcoords="offset points",
            ha="center", va="center", color=COLORS[shown], weight="bold",
        )  # fmt: skip
    left.set(xticks=[0, 1], xticklabels=names, xlim=(-0.5, 1.5), ylabel=unit)
    left.set_ylim(bottom=0)
    right.axhline(0, color="0.4", lw=1)
    right.plot(np.zeros(len(alone)), alone - distilled, ".", color="0.6")
    error_bar(right, 0.15, gain, role)
    right.set(xticks=[], xlim=(-0.5, 0.6), ylabel="différence appariée (points)")
    right.set_title("barre : intervalle à 95 %", fontsize=9)
    comma_axis(left.yaxis, right.yaxis)
    subject = "Distillé, le student" if names[1] == "distillé" else f"« {names[1]} »"
    result = (
        f"{subject} gagne {points(gain.mean)}" if gain.low > 0
        else f"{subject} perd {points(-gain.mean)}" if gain.high < 0
        else "Pas de différence que ces graines établissent"
    )  # fmt: skip
    figure.suptitle(f"{result} ({len(alone)} graines, intervalle {bounds(gain)})", fontsize=11)
    return finished(figure)


def error_bar(ax, x: float, interval: Interval, role: str) -> None:
    ax.errorbar(
        x, interval.mean, yerr=[[interval.mean - interval.low], [interval.high - interval.mean]],
        fmt=MARKERS[role], color=COLORS[role], capsize=4, lw=2,
    )  # fmt: skip


def bounds(interval: Interval) -> str:
    return f"[{french(interval.low)} ; {french(interval.high)}]"


def mean_curve(
    ax, x: Sequence[float], values: Tensor, role: str, name: str = "", line: str | None = None,
    within: tuple[float, float] = (-np.inf, np.inf),
) -> None:  # fmt: skip
    """Moyenne et bande à 95 %, bornée par ``within``, de mesures ``(n, graines)``.

    Sans ``line``, le trait porte la forme de son rôle.
    """
    means, low, high = zip(*(mean_interval(row).clipped(*within) for row in values), strict=True)
    ax.plot(x, means, line or MARKERS[role] + "-", color=COLORS[role], label=name, ms=5)
    ax.fill_between(x, low, high, color=COLORS[role], alpha=0.2, lw=0)


def plot_curves(
    x: Sequence[float],
    curves: Mapping[str, tuple[Tensor, str]],
    xlabel: str,
    ylabel: str,
    title: str,
    log: bool = False,
    ax=None,
) -> Figure:
    """Des moyennes sur les graines et leur bande à 95 %.

    Args:
        x: abscisses, ``(n,)``.
        curves: nom → (mesures ``(n, graines)``, rôle de ``COLORS``).
    """
    figure, ax = (ax.figure, ax) if ax is not None else subplots(figsize=(7, 3.6))
    for name, (values, role) in curves.items():
        mean_curve(ax, x, values, role, name)
    if log:
        ax.set_xscale("log")
        ax.set_xticks(x, [thousands(value) if isinstance(value, int) else short(value) for value in x])
        ax.minorticks_off()
    else:
        comma_axis(ax.xaxis)
    ax.set(xlabel=xlabel, ylabel=ylabel, title=title)
    ax.set_ylim(bottom=0)
    comma_axis(ax.yaxis)
    ax.legend(frameon=False, title="bande : intervalle à 95 %", title_fontsize=8)
    return finished(figure)


def gain_curves(ax, steps: Sequence[int], curves: Mapping[str, tuple[Tensor, str]]) -> None:
    """Des gains appariés ``(n, graines)`` selon le nombre de pas : un marqueur plein où l'intervalle exclut 0."""
    ax.axhline(0, color="0.5", lw=1)
    for label, (gains, role) in curves.items():
        mean_curve(ax, steps, gains, role, label)
        for step, interval in zip(steps, map(mean_interval, gains), strict=True):
            ax.plot(step, interval.mean, MARKERS[role], color=COLORS[role], ms=7,
                    mfc=COLORS[role] if interval.excludes_zero else paper())  # fmt: skip


def plot_budgets(panels: Mapping[str, tuple[Sequence[int], Mapping[str, tuple[Tensor, str]]]], title: str) -> Figure:
    """Le gain apparié selon le budget : une courbe par réglage, un marqueur plein où l'intervalle exclut 0.

    Args:
        panels: titre du panneau → (nombres de pas ``(n,)``, nom → (gains appariés ``(n, graines)``, rôle)).
        title: ce que la figure montre.
    """
    rows = 1 if len(panels) < 4 else 2
    size = (min(9.5, 4.2 * len(panels)), 2.5 * rows + 0.9)
    figure, axes = subplots(rows, -(-len(panels) // rows), figsize=size, sharey=True, squeeze=False)
    for ax, (name, (steps, curves)) in zip(axes.flat, panels.items(), strict=True):
        gain_curves(ax, steps, curves)
        ax.set(xscale="log", xlabel="pas d'entraînement")
        ax.set_xticks(steps, [thousands(step) for step in steps])
        ax.minorticks_off()
        ax.set_title(name, fontsize=10)
        ax.legend(frameon=False, fontsize=9)
    for ax in axes[:, 0]:
        ax.set_ylabel("gain sur le student seul\n(points)")
    comma_axis(axes[0, 0].yaxis)
    figure.supxlabel("échelle log ; bande : intervalle à 95 % ; marqueur creux : l'intervalle contient 0", fontsize=8.5)
    figure.suptitle(title, fontsize=11)
    return finished(figure)


def plot_tiles_and_bars(
    images: Tensor, captions: Sequence[str], bars: Mapping[str, tuple], ylabel: str, title: str, note: str
) -> Figure:
    """Huit images à gauche, et à droite ce que l'on mesure, en %, une série par méthode, un groupe par budget.

    Args:
        images: ``(8, 1, H, W)``.
        captions: huit légendes.
        bars: nom de la série → (budget → mesures ``(graines,)``, rôle de ``COLORS``).
        ylabel, title, note: l'axe, le constat, et ce qu'il faut savoir pour lire.
    """
    figure, axes = subplots(2, 5, figsize=(9, 3.5), width_ratios=(1, 1, 1, 1, 5))
    for tile, image, caption in zip(axes[:, :4].flat, images, captions, strict=True):
        tile.imshow(as_picture(image), cmap="gray_r", vmin=0, vmax=1)
        tile.set_title(caption, fontsize=10)
        tile.axis("off")
    ax, budgets, width = axes[0, 4], list(next(iter(bars.values()))[0]), 0.8 / len(bars)
    axes[1, 4].remove()
    ax.set_subplotspec(ax.get_gridspec()[:, 4])
    for rank, (name, (measured, role)) in enumerate(bars.items()):
        for place, budget in enumerate(budgets):
            interval = mean_interval(measured[budget]).clipped(0, 100)
            x = place + (rank - (len(bars) - 1) / 2) * width
            ax.bar(x, interval.mean, 0.9 * width, color=COLORS[role], label="" if place else name,
                   hatch=("", "//", "..")[rank % 3], ec="white", lw=0)  # fmt: skip
            ax.plot([x, x], [interval.low, interval.high], color="0.5", lw=2)
            ax.plot(np.full(len(measured[budget]), x), measured[budget], ".", color="0.15", ms=2.5)
            top = max(interval.high, float(max(measured[budget])))
            ax.annotate(french(interval.mean, 0), (x, top), (0, 4), weight="bold", textcoords="offset points",
                        ha="center")  # fmt: skip
    ax.set(xticks=range(len(budgets)), xticklabels=budgets, ylim=(0, 125), yticks=range(0, 101, 20), ylabel=ylabel)
    ax.legend(frameon=False, fontsize=9, ncols=len(bars), loc="upper center")
    figure.suptitle(title, fontsize=11)
    figure.supxlabel(f"{note} ; traits : intervalle à 95 % ; points : graines", fontsize=8)
    return finished(figure)


def plot_intervals(measures: Mapping[str, tuple[Tensor, str]], unit: str, title: str) -> Figure:
    """Une mesure par méthode : la moyenne sur les graines, son intervalle à 95 %, et chaque graine.

    Args:
        measures: nom → (mesures ``(graines,)``, rôle de ``COLORS``).
        unit: ce que l'axe mesure, et son unité.
        title: ce que la figure montre.
    """
    figure, ax = subplots(figsize=(8, 0.5 * len(measures) + 1.2))
    for y, (values, role) in enumerate(measures.values()):
        interval = mean_interval(values)
        ax.barh(y, interval.mean, color=COLORS[role], alpha=0.35)
        ax.plot(values, np.full(len(values), y), ".", color="0.45", ms=4)
        ax.plot([interval.low, interval.high], [y, y], color=COLORS[role], lw=2.5, solid_capstyle="butt")
        ax.plot(interval.mean, y, MARKERS[role], color=COLORS[role], ms=7)
        ax.text(interval.high, y + 0.28, f"  {french(interval.mean)}", va="center", color=COLORS[role], weight="bold")
    ax.set_yticks(range(len(measures)), list(measures))
    ax.invert_yaxis()
    ax.set(xlabel=f"{unit} ; points : graines ; trait : intervalle à 95 %", title=title)
    ax.set_xlim(left=0)
    comma_axis(ax.xaxis)
    return finished(figure)


VERDICTS = {"gagne": "distilled", "perd": "student", "non établi": "neutral"}


def verdict(differences: Tensor) -> str:
    """« gagne » ou « perd » si l'intervalle des différences appariées exclut 0, « non établi » sinon."""
    interval = mean_interval(differences)
    return "gagne" if interval.low > 0 else "perd" if interval.high < 0 else "non établi"


def gain_summary(panels: Mapping[str, Mapping[str, Tensor]]) -> str:
    """Ce qu'un titre dit de ces gains : « sur 9, 7 gagnent, 1 perd, 1 non établi »."""
    verdicts = [verdict(values) for gains in panels.values() for values in gains.values()]
    won, lost, open_ = (verdicts.count(name) for name in VERDICTS)
    verbs = f"{won} gagne{'nt' if won > 1 else ''}, {lost} perd{'ent' if lost > 1 else ''}"
    return f"sur {len(verdicts)}, {verbs}, {open_} non établi{'s' if open_ > 1 else ''}"


def gain_bar(ax, y: float, differences: Tensor) -> Interval:
    """Le gain moyen et son intervalle, à la hauteur ``y``, dans la couleur et la forme de son verdict."""
    interval, role = mean_interval(differences), VERDICTS[verdict(differences)]
    error = [[interval.mean - interval.low], [interval.high - interval.mean]]
    ax.errorbar(interval.mean, y, xerr=error, fmt=MARKERS[role], color=COLORS[role], capsize=3, lw=2)
    return interval


def plot_gains(panels: Mapping[str, Mapping[str, Tensor]], title: str) -> Figure:
    """Des gains appariés et leur intervalle à 95 %, une méthode par ligne, un panneau par régime ou par référence.

    Args:
        panels: titre du panneau → (méthode → différences appariées d'erreur ``(graines,)``, positives si elle gagne) ;
            le premier panneau donne les lignes, un autre peut en laisser de vides.
        title: ce que la figure montre.
    """
    methods = list(next(iter(panels.values())))
    size = (min(9.5, max(6, 3.1 * len(panels))), 1.4 + 0.38 * len(methods))
    figure, axes = subplots(1, len(panels), figsize=size, sharex=True, sharey=True, squeeze=False)
    for ax, (name, gains) in zip(axes[0], panels.items(), strict=True):
        ax.axvline(0, color="0.4", lw=1)
        for method, values in gains.items():
            y, interval = -methods.index(method), gain_bar(ax, -methods.index(method), values)
            ax.annotate(french(interval.mean), (interval.mean, y), (0, 6), textcoords="offset points", ha="center",
                        fontsize=8, bbox=dict(fc=paper(), ec="none", pad=0.5))  # fmt: skip
        ax.set(yticks=[-y for y in range(len(methods))], yticklabels=methods, xlabel="gain (points)")
        ax.set_ylim(0.4 - len(methods), 0.7)
        ax.set_title(name, fontsize=10)
        comma_axis(ax.xaxis)
    handles = [Line2D([], [], color=COLORS[role], marker=MARKERS[role], label=text) for text, role in VERDICTS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=3, frameon=False, fontsize=8.5,
                  title="barre : intervalle à 95 % de la différence appariée", title_fontsize=8.5)  # fmt: skip
    figure.suptitle(title, fontsize=11)
    return finished(figure)
