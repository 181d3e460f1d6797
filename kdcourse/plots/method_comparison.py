"""La figure de la comparaison finale : ce que chaque méthode gagne, et ce que coûte un de ses pas."""

from collections.abc import Sequence

from matplotlib.figure import Figure

from kdcourse.formats import french
from kdcourse.measures.intervals import mean_interval
from kdcourse.measures.method_comparison import MethodRow
from kdcourse.plots.common import COLORS, comma_axis, finished, gain_bar, subplots


def plot_methods(rows: Sequence[MethodRow]) -> Figure:
    """Gain apparié et temps d'un pas de chaque méthode, de la plus juste à la moins juste.

    Args:
        rows: les lignes de ``compare_distillation_methods``, le student seul en tête.
    """
    alone, *methods = rows
    methods = sorted(methods, key=lambda row: row.gain.mean, reverse=True)
    figure, (gains, times) = subplots(1, 2, figsize=(9, 0.34 * len(methods) + 1.6), sharey=True, width_ratios=(1.8, 1))
    gains.axvline(0, color="0.4", lw=1)
    for y, row in enumerate(methods):
        gain_bar(gains, y, alone.errors - row.errors)
        times.barh(y, row.step_ratio, color=COLORS["neutral"], alpha=0.5)
        times.text(row.step_ratio, y, f" × {french(row.step_ratio)}", va="center", fontsize=8)
    gains.set_yticks(range(len(methods)), [row.method.name for row in methods])
    gains.set_ylim(len(methods) - 0.4, -0.6)
    gains.set(xlabel="gain apparié (points), barre : intervalle à 95 %")
    times.set(xlabel="temps d'un pas / student seul", xlim=(0, 1.25 * max(row.step_ratio for row in rows)))
    comma_axis(gains.xaxis, times.xaxis)
    errors = {row.method: row.errors for row in rows}
    added = [row for row in methods if row.method.base in errors]
    better = [row.method.name for row in added if mean_interval(errors[row.method.base] - row.errors).low > 0]
    figure.suptitle(
        f"{sum(row.gain.low > 0 for row in methods)} méthodes sur {len(methods)} battent le student seul "
        f"({french(alone.error.mean)} %) ; ajouts qui battent KD : {', '.join(better) or 'aucun'}",
        fontsize=10,
    )
    return finished(figure)
