"""Comparer honnêtement : des erreurs, des moyennes sur les graines, et leur intervalle."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from scipy.special import stdtrit
from torch import Tensor

from kdcourse.formats import french, thousands
from kdcourse.training.students import error_rate


class Interval(NamedTuple):
    """Une moyenne sur les graines et son intervalle de confiance à 95 %.

    L'intervalle porte sur les graines (poids initiaux, ordre des lots) ; il ignore l'échantillonnage du test.
    """

    mean: float
    low: float
    high: float

    @property
    def excludes_zero(self) -> bool:
        """Vrai si 0 est hors de l'intervalle : la différence n'est pas un hasard de graines."""
        return self.low > 0 or self.high < 0

    def clipped(self, low: float, high: float) -> "Interval":
        """Le même, ses bornes ramenées dans ``[low, high]`` : un rappel n'est ni négatif ni au-delà de 100 %."""
        return Interval(self.mean, max(low, self.low), min(high, self.high))

    def text(self, digits: int = 1) -> str:
        """La moyenne et l'intervalle, avec autant de décimales."""
        return f"{french(self.mean, digits)} [{french(self.low, digits)}\u00a0; {french(self.high, digits)}]"

    def __str__(self) -> str:
        return self.text()


def points(value: float | Interval) -> str:
    """Un écart d'erreur, seul ou avec son intervalle, et son unité, accordée : « 1,0 point », « 2,3 points »."""
    mean, text = (value.mean, str(value)) if isinstance(value, Interval) else (value, french(value))
    return f"{text} point{'s' if abs(round(mean, 1)) >= 2 else ''}"  # accordée au nombre écrit


def mean_interval(values) -> Interval:
    """Moyenne et intervalle de Student à 95 % d'une mesure répétée sur n graines indépendantes.

    .. math:: \\bar x \\pm t_{0{,}975;\\,n-1} \\, s / \\sqrt n

    Args:
        values: une mesure par graine, ``(n,)``, n ≥ 2 ; pour une différence appariée, les différences.

    Raises:
        ValueError: moins de deux mesures, ou NaN.
    """
    values = np.asarray(values.tolist() if isinstance(values, Tensor) else values, dtype=np.float64)
    if values.ndim != 1 or values.size < 2:
        raise ValueError(f"values : forme {values.shape} reçue, (n,) avec n ≥ 2 attendue, une mesure par graine.")
    if not np.isfinite(values).all():
        raise ValueError("values : NaN ou infini reçu, des nombres finis attendus.")
    mean = values.mean()
    # Le quantile de Student ; scipy.stats le donne aussi, et met une demi-seconde à s'importer.
    half = stdtrit(values.size - 1, 0.975) * values.std(ddof=1) / np.sqrt(values.size)
    return Interval(float(mean), float(mean - half), float(mean + half))


class BiasSweep(NamedTuple):
    """Rappel d'une classe et erreur globale, en %, pour S modèles et n biais : deux tenseurs ``(S, n)``."""

    recall: Tensor
    error: Tensor

    def at(self, chosen: Tensor) -> tuple[Tensor, Tensor]:
        """Rappel et erreur ``(S,)`` de chaque modèle au biais que désigne son indice dans ``chosen`` ``(S,)``."""
        return tuple(values.gather(1, chosen[:, None])[:, 0] for values in self)


def bias_sweep(logits: Tensor, labels: Tensor, label: int, biases: Tensor) -> BiasSweep:
    """Ajoute chaque biais au logit d'une classe, et mesure ce que le rappel de cette classe coûte en erreur globale.

    Args:
        logits: ``(S, N, C)``, S modèles sur les mêmes N images.
        labels: ``(N,)``.
        label: la classe dont on déplace le biais.
        biases: ``(n,)``.

    Raises:
        ValueError: aucune image de cette classe dans ``labels``.
    """
    is_label = labels == label
    if not is_label.any():
        raise ValueError(f"label : {label} reçu, une classe présente dans labels attendue.")
    recalls, errors = [], []
    for bias in biases:
        shifted = logits.clone()
        shifted[..., label] += bias
        recalls.append(100 - error_rate(shifted[:, is_label], labels[is_label]))
        errors.append(error_rate(shifted, labels))
    return BiasSweep(torch.stack(recalls, dim=1), torch.stack(errors, dim=1))


def tune_bias(validation: BiasSweep) -> Tensor:
    """Indice ``(S,)`` du biais à la plus petite erreur globale de validation ; à égalité, le milieu du plateau."""
    chosen = []
    for errors in validation.error:
        best = (errors <= errors.min()).nonzero()[:, 0]
        chosen.append(best[len(best) // 2])
    return torch.stack(chosen)


def markdown_table(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    """Un tableau Markdown ; chaque case est écrite par ``str``, un entier avec ses milliers séparés."""
    cells = ([thousands(cell) if isinstance(cell, int) else str(cell) for cell in row] for row in rows)
    lines = [list(header), ["---"] * len(header), *cells]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def log_slope(x: Sequence[float], y: Sequence[float]) -> float:
    """Pente d'une droite en échelles logarithmiques, par moindres carrés : l'exposant k de y ≈ x^k."""
    return float(np.polyfit(np.log(np.asarray(x)), np.log(np.asarray(y)), 1)[0])
