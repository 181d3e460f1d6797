"""La calibration : un modèle qui annonce 80 % de confiance a-t-il raison huit fois sur dix ?"""

from typing import NamedTuple

import torch
from torch import Tensor

from kdcourse.losses.checks import (
    check_finite,
    check_floating,
    check_label_values,
    check_labels,
    check_positive_integer,
)
from kdcourse.losses.numerics import at_least_float32


class Reliability(NamedTuple):
    """Ce qu'il y a dans chaque tranche de confiance, ``(bins,)`` : confiance et exactitude moyennes, part des images.

    Une tranche vide a une confiance et une exactitude nulles, et une part nulle.
    """

    confidence: Tensor
    accuracy: Tensor
    share: Tensor


def reliability(logits: Tensor, labels: Tensor, bins: int = 15) -> Reliability:
    """Range les prédictions par confiance, la plus grande probabilité, en tranches égales de [0, 1].

    Args:
        logits: ``(N, C)``, ou ``(S, N, C)`` : les S modèles sont alors réunis.
        labels: ``(N,)``.
        bins: nombre de tranches, ≥ 1.

    Raises:
        TypeError, ValueError: bins qui n'est pas un entier ≥ 1, autant d'étiquettes que de lignes attendues.
    """
    check_positive_integer("bins", bins)
    check_floating("logits", logits, (2, 3), "(N, C) ou (S, N, C)")
    check_labels(labels, logits[0] if logits.dim() == 3 else logits, "logits")
    check_finite("logits", logits)
    check_label_values(labels, logits.shape[-1])
    confidence, answer = at_least_float32(logits).softmax(dim=-1).max(dim=-1)
    right = (answer == labels).flatten().to(confidence.dtype)
    confidence = confidence.flatten()
    which = (confidence * bins).ceil().long().clamp(1, bins) - 1  # tranches ]k/bins, (k + 1)/bins]
    count = torch.bincount(which, minlength=bins).to(confidence.dtype)

    def mean(values):
        return torch.zeros_like(count).index_add(0, which, values) / count.clamp(min=1)

    return Reliability(mean(confidence), mean(right), count / count.sum())


def expected_calibration_error(logits: Tensor, labels: Tensor, bins: int = 15) -> Tensor:
    r"""Erreur de calibration attendue (ECE), en %.

    .. math:: 100 \sum_k \frac{n_k}{N} \, |\mathrm{exactitude}_k - \mathrm{confiance}_k|

    Args:
        logits: ``(N, C)`` donne un scalaire ; ``(S, N, C)``, une valeur par modèle, ``(S,)``.
        labels: ``(N,)``.
        bins: nombre de tranches de confiance, ≥ 1 ; 15 dans l'article.

    Raises:
        TypeError, ValueError: comme ``reliability``.

    Source : Guo, Pleiss, Sun, Weinberger (2017), équation 3, arXiv:1706.04599.
    """
    check_floating("logits", logits, (2, 3), "(N, C) ou (S, N, C)")
    if logits.dim() == 3:
        return torch.stack([expected_calibration_error(one, labels, bins) for one in logits])
    found = reliability(logits, labels, bins)
    return 100 * (found.share * (found.accuracy - found.confidence).abs()).sum()


def tune_temperature(logits: Tensor, labels: Tensor) -> float:
    """Température de calibration (*temperature scaling*) : celle qui minimise l'entropie croisée, sur la validation.

    Elle divise les logits d'un modèle **déjà entraîné** : ses réponses ne changent pas, seule sa confiance change. Ce
    n'est pas la température de la distillation.

    Args:
        logits: logits de validation d'un modèle, ``(N, C)``.
        labels: ``(N,)``, int64.

    Returns:
        T > 0, à toute échelle des logits ; l'infini si les logits ne disent rien des étiquettes.

    Raises:
        TypeError, ValueError: entrées d'un autre type ou d'une autre forme, NaN, étiquette hors des classes ; aucune
            réponse fausse, donc aucun optimum.

    Source : Guo, Pleiss, Sun, Weinberger (2017), section 4.2, arXiv:1706.04599.
    """
    from scipy.optimize import brentq  # lent à importer, et de cette seule fonction

    check_floating("logits", logits, (2,), "(N, C)")
    check_labels(labels, logits, "logits")
    check_label_values(labels, logits.shape[-1])
    check_finite("logits", logits)
    logits = logits.double()
    gaps = logits - logits.gather(1, labels[:, None])  # à la bonne réponse
    scale = gaps.abs().max().item()
    if not scale:  # des logits tous égaux : aucune température n'y change rien
        return 1.0

    def slope(inverse: float) -> float:
        """Dérivée de l'entropie croisée par rapport à 1/T, qui y est convexe : croissante, nulle à l'optimum."""
        return ((inverse * gaps).softmax(dim=1) * gaps).sum(dim=1).mean().item()

    if slope(0.0) >= 0:
        return float("inf")
    if gaps.max() <= 0:
        raise ValueError(
            "logits : aucune réponse fausse reçue, une au moins attendue ; sans elle, l'entropie croisée décroît "
            "jusqu'à T = 0, et aucune température ne la minimise."
        )
    highest = 1 / scale
    while slope(highest) < 0:
        highest *= 2
    return 1 / brentq(slope, 0.0, highest, xtol=1e-12 * highest, rtol=1e-12)
