"""Moyennes, gain apparié et intervalle de chaque largeur, et les erreurs que l'on sait nommer."""

from collections.abc import Callable
from functools import partial

import numpy as np
from scipy import stats

KEYS = ("width", "mean_alone", "mean_distilled", "gain", "ci_low", "ci_high")


def reference(alone, distilled, widths) -> list[dict[str, float]]:
    """Le tableau attendu, une ligne par largeur, des erreurs ``(W, S)`` de W largeurs et S graines, en %."""
    rows = []
    for width, a, d in zip(widths, np.asarray(alone, float), np.asarray(distilled, float), strict=True):
        gain, half = (a - d).mean(), _half_width(a - d)
        values = (width, a.mean(), d.mean(), gain, gain - half, gain + half)
        rows.append(dict(zip(KEYS, map(float, values), strict=True)))
    return rows


def _half_width(differences, *, level=0.975, freedom=None, ddof=1, root=True) -> float:
    """Demi-largeur de l'intervalle : quantile de Student fois erreur type."""
    n = len(differences)
    quantile = stats.t.ppf(level, n - 1 if freedom is None else freedom(n))
    return quantile * differences.std(ddof=ddof) / (np.sqrt(n) if root else 1)


def _table(alone, distilled, widths, interval: Callable) -> list[dict[str, float]]:
    """Le tableau juste, mais les bornes de ``interval(seul, distillé)``."""
    bounds = [interval(a, d) for a, d in zip(np.asarray(alone), np.asarray(distilled), strict=True)]
    rows = reference(alone, distilled, widths)
    return [row | {"ci_low": float(low), "ci_high": float(high)} for row, (low, high) in zip(rows, bounds, strict=True)]


def _around_gain(half: Callable) -> Callable:
    """Le tableau dont l'intervalle est le gain moyen ± ``half(seul, distillé)``."""

    def interval(a, d):
        gain, width = (a - d).mean(), half(a, d)
        return gain - width, gain + width

    return partial(_table, interval=interval)


def _paired(**changes) -> Callable:
    return _around_gain(lambda a, d: _half_width(a - d, **changes))


def _unpaired(freedom: Callable) -> Callable:
    return _around_gain(
        lambda a, d: stats.t.ppf(0.975, freedom(len(a))) * np.sqrt((a.var(ddof=1) + d.var(ddof=1)) / len(a))
    )


def _unpaired_normal(a, d):
    return 1.959964 * np.sqrt((a.var(ddof=1) + d.var(ddof=1)) / len(a))


def _mean_bounds(values):
    half = _half_width(values)
    return values.mean() - half, values.mean() + half


def _half_only(a, d):
    half = _half_width(a - d)
    return -half, half


def _pooled(alone, distilled, widths):
    every = (np.asarray(alone, float) - np.asarray(distilled, float)).ravel()
    return _table(alone, distilled, widths, lambda a, d: _mean_bounds(every))


def _relative(alone, distilled, widths):
    ratios = 100 * (np.asarray(alone, float) - np.asarray(distilled, float)) / np.asarray(alone, float)
    rows = zip(reference(alone, distilled, widths), ratios, map(_mean_bounds, ratios), strict=True)
    return [
        row | {"gain": float(r.mean()), "ci_low": float(low), "ci_high": float(high)} for row, r, (low, high) in rows
    ]


def _negative(alone, distilled, widths):
    rows = reference(alone, distilled, widths)
    return [row | {"gain": -row["gain"], "ci_low": -row["ci_high"], "ci_high": -row["ci_low"]} for row in rows]


def _turned(alone, distilled, widths):
    """Le gain est bon ; l'intervalle est celui de la différence opposée."""
    return _table(alone, distilled, widths, lambda a, d: _mean_bounds(d - a))


def _accuracy(alone, distilled, widths):
    rows = reference(alone, distilled, widths)
    return [row | {key: 100 - row[key] for key in ("mean_alone", "mean_distilled")} for row in rows]


def _renamed(first: str, second: str) -> Callable:
    """Le tableau dont deux colonnes sont échangées."""
    return lambda *inputs: [row | {first: row[second], second: row[first]} for row in reference(*inputs)]


def _sorted(alone, distilled, widths):
    return sorted(reference(alone, distilled, widths), key=lambda row: row["width"])


def _median(alone, distilled, widths):
    rows = zip(reference(alone, distilled, widths), np.asarray(alone), np.asarray(distilled), strict=True)
    return [row | {"mean_alone": float(np.median(a)), "mean_distilled": float(np.median(d))} for row, a, d in rows]


MISTAKES: dict[str, Callable[..., list[dict[str, float]]]] = {
    "Le quantile est 1,96, celui d'une loi normale : si peu de graines demandent celui de Student.":
        _around_gain(lambda a, d: 1.959964 * (a - d).std(ddof=1) / np.sqrt(len(a))),
    "L'écart-type est divisé par n : il faut n - 1 (ddof=1).": _paired(ddof=0),
    "Le quantile est 1,96, et l'écart-type est divisé par n : il faut celui de Student, et n - 1 (ddof=1).":
        _around_gain(lambda a, d: 1.959964 * (a - d).std() / np.sqrt(len(a))),
    "L'intervalle est celui de deux groupes indépendants, avec 1,96 : prenez l'écart-type des différences, et le "
    "quantile de Student.": _around_gain(_unpaired_normal),
    "L'intervalle est celui de deux groupes indépendants : les graines sont communes, travaillez sur leurs "
    "différences.": _unpaired(lambda n: 2 * n - 2),
    "Les deux écarts-types sont ajoutés comme si les groupes étaient indépendants : prenez celui des différences.":
        _unpaired(lambda n: n - 1),
    "C'est l'écart-type des différences, non celui de leur moyenne : il manque la division par la racine de n.":
        _paired(root=False),
    "Student a n - 1 degrés de liberté, non n.": _paired(freedom=lambda n: n),
    "Un intervalle à 95 % laisse 2,5 % de chaque côté : le quantile est 0,975, non 0,95.": _paired(level=0.95),
    "Ce sont des centiles des différences : ils disent où tombe une graine, non où tombe la moyenne.":
        partial(_table, interval=lambda a, d: np.percentile(a - d, [2.5, 97.5])),
    "Ce sont la plus petite et la plus grande différence : elles s'écartent quand on ajoute des graines.":
        partial(_table, interval=lambda a, d: ((a - d).min(), (a - d).max())),
    "C'est l'intervalle de l'erreur du student distillé ; on demande celui du gain.":
        partial(_table, interval=lambda a, d: _mean_bounds(d)),
    "C'est l'intervalle de l'erreur du student seul ; on demande celui du gain.":
        partial(_table, interval=lambda a, d: _mean_bounds(a)),
    "ci_low et ci_high sont des demi-largeurs : il faut les bornes, autour du gain.":
        partial(_table, interval=_half_only),
    "L'intervalle mêle toutes les largeurs : il en faut un par largeur.": _pooled,
    "Le gain est à l'envers : il est positif quand le student distillé se trompe moins.": _negative,
    "Le gain est juste, mais son intervalle est celui de la différence opposée.": _turned,
    "Le gain est en points (seul moins distillé), non en % de l'erreur du student seul.": _relative,
    "Les moyennes sont des taux de réussite : on demande des erreurs.": _accuracy,
    "mean_alone et mean_distilled sont échangées.": _renamed("mean_alone", "mean_distilled"),
    "distilled=True et distilled=False sont échangés : le gain aussi change de signe.":
        lambda alone, distilled, widths: reference(distilled, alone, widths),
    "ci_low et ci_high sont échangées.": _renamed("ci_low", "ci_high"),
    "Les lignes sont triées : gardez l'ordre de widths.": _sorted,
    "Ce sont des médianes : on demande des moyennes.": _median,
}  # fmt: skip
"""Indice → le tableau faux qui le mérite, depuis les mêmes trois arguments."""
