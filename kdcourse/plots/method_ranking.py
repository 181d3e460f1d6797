"""Les figures du Bilan : des classements qui se croisent, et ce qu'il faut d'essais pour ne plus se tromper."""

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from kdcourse.formats import french
from kdcourse.measures.intervals import mean_interval
from kdcourse.plots.common import COLORS, MARKERS, comma_axis, finished, paper, subplots


def plot_rankings(columns: Mapping[str, Mapping[str, float]], shown: Mapping[str, str], title: str) -> Figure:
    """Le classement de chaque colonne, de la plus petite erreur à la plus grande ; un trait suit chaque méthode.

    Args:
        columns: titre de la colonne → (méthode → erreur, en %).
        shown: les méthodes mises en couleur → leur rôle de ``COLORS``.
        title: ce que la figure montre.
    """
    orders = [sorted(errors, key=errors.get) for errors in columns.values()]
    figure, ax = subplots(figsize=(9, 0.27 * len(orders[0]) + 1.3))
    for name in orders[0]:
        role = shown.get(name)
        ax.plot(
            range(len(orders)), [order.index(name) for order in orders], MARKERS[role or "neutral"] + "-",
            color=COLORS[role] if role else "0.7", lw=2.2 if role else 1, ms=6 if role else 3, zorder=3 if role else 2,
        )  # fmt: skip
    for x, (order, errors) in enumerate(zip(orders, columns.values(), strict=True)):
        side, shift = ("right", -0.06) if x == 0 else ("left", 0.06)
        for rank, name in enumerate(order):
            text = f"{name} {french(errors[name])}" if x else f"{french(errors[name])} {name}"
            ax.text(x + shift, rank, text, ha=side, va="center", fontsize=8.5,
                    color=COLORS[shown[name]] if name in shown else "0.45", weight="bold" if name in shown else None,
                    bbox=dict(fc=ax.get_facecolor(), ec="none", pad=0.6), zorder=4)  # fmt: skip
    ax.set_ylim(len(orders[0]) - 0.5, -0.6)
    ax.set(xlim=(-0.7, len(orders) - 0.35), yticks=[], xticks=range(len(orders)), xticklabels=list(columns))
    ax.xaxis.tick_top()
    ax.tick_params(length=0)
    ax.spines[:].set_visible(False)
    figure.suptitle(title, fontsize=11)
    figure.supxlabel("à côté de chaque nom : l'erreur de test, en %, de la meilleure (en haut) à la pire", fontsize=8.5)
    return finished(figure)


def plot_misordered(
    runs: Sequence[int],
    curves: Mapping[str, tuple[Sequence[float], str]],
    gaps: Tensor,
    clouds: Mapping[int, Tensor],
    title: str,
) -> Figure:
    """À gauche, la part des couples mal rangés selon le nombre d'essais ; à droite, selon l'écart des deux méthodes.

    Args:
        runs: nombres d'essais.
        curves: façon de faire le tableau → (part en %, une par nombre d'essais, rôle de ``COLORS``).
        gaps: ce qui sépare les deux méthodes de chaque couple, en points, ``(couples,)``.
        clouds: nombre d'essais → part des tableaux où le couple est mal rangé, en %, ``(couples,)``.
        title: ce que la figure montre.
    """
    figure, (left, right) = subplots(1, 2, figsize=(9, 3.6))
    for name, (shares, role) in curves.items():
        left.plot(runs[: len(shares)], shares, MARKERS[role] + "-", color=COLORS[role], label=name)
    left.set(xlabel="essais par méthode", ylabel="couples mal rangés (%)", xscale="log")
    left.set_xticks(runs, [str(count) for count in runs])
    left.minorticks_off()
    left.set_ylim(bottom=0)
    left.legend(frameon=False, fontsize=8.5)
    for (count, shares), role in zip(clouds.items(), ("student", "other", "teacher"), strict=False):
        label = f"{count} essai{'s' if count > 1 else ''}"
        right.plot(gaps, shares, MARKERS[role], color=COLORS[role], ms=4, alpha=0.7, label=label)
    right.axhline(5, color="0.5", lw=1, ls=":")
    right.annotate("une fois sur vingt", (float(gaps.max()), 5), (0, 3), textcoords="offset points", ha="right",
                   fontsize=8, color="0.4", bbox=dict(fc=paper(), ec="none", pad=0.5))  # fmt: skip
    right.axhline(50, color="0.5", lw=1, ls=":")
    right.annotate("pile ou face", (float(gaps.max()), 50), (0, 3), textcoords="offset points", ha="right",
                   fontsize=8, color="0.4")  # fmt: skip
    right.set(xlabel="écart réel des deux méthodes (points)", ylabel="tableaux qui se trompent (%)")
    right.set_ylim(-2, 60)
    right.legend(frameon=False, fontsize=8.5)
    comma_axis(right.xaxis)
    figure.suptitle(title, fontsize=11)
    return finished(figure)


def plot_key_points(panels: Mapping[str, Mapping[str, tuple[Tensor, str]]], unit: str, title: str) -> Figure:
    """Un panneau par point à retenir : des mesures, leur moyenne et leur intervalle à 95 %.

    Args:
        panels: titre du panneau → (nom → (mesures ``(n,)``, rôle de ``COLORS``)).
        unit: ce que l'axe mesure, et son unité.
        title: ce que la figure montre.
    """
    figure, axes = subplots(1, len(panels), figsize=(9.5, 3.2), width_ratios=[len(one) for one in panels.values()])
    for ax, (name, measures) in zip(axes, panels.items(), strict=True):
        for x, (values, role) in enumerate(measures.values()):
            interval = mean_interval(values)
            ax.bar(x, interval.mean, color=COLORS[role], alpha=0.5, width=0.7)
            ax.plot([x, x], [interval.low, interval.high], color=COLORS[role], lw=2.5)
            ax.annotate(french(interval.mean), (x, max(interval.high, 0)), (0, 3), textcoords="offset points",
                        ha="center", color=COLORS[role], weight="bold", fontsize=9)  # fmt: skip
        ax.set_xticks(range(len(measures)), list(measures), fontsize=8.5)
        ax.set_title(name, fontsize=9.5)
        ax.margins(y=0.12)
        comma_axis(ax.yaxis)
    figure.supxlabel(f"{unit} ; traits : intervalle à 95 %", fontsize=8.5)
    figure.suptitle(title, fontsize=11)
    return finished(figure)
