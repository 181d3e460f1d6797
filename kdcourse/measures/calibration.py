"""La calibration : un modèle qui annonce 80 % de confiance a-t-il raison huit fois sur dix ?"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
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
    if logits.dim() not in (2, 3) or logits.shape[-2] != len(labels):
        raise ValueError(
            f"logits : forme {tuple(logits.shape)} reçue, ({len(labels)}, C) ou (S, {len(labels)}, C) attendue, "
            "une ligne par étiquette."
        )
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
        labels: ``(N,)``.

    Source : Guo, Pleiss, Sun, Weinberger (2017), section 4.2, arXiv:1706.04599.
    """
    from scipy.optimize import minimize_scalar  # lent à importer, et de cette seule fonction

    check_floating("logits", logits, (2,), "(N, C)")
    check_labels(labels, logits, "logits")
    check_label_values(labels, logits.shape[-1])
    check_finite("logits", logits)
    logits = logits.double()

    def cross_entropy(log_temperature: float) -> float:
        return F.cross_entropy(logits / 2.0**log_temperature, labels).item()

    return float(2.0 ** minimize_scalar(cross_entropy, bounds=(-6, 6), method="bounded").x)
