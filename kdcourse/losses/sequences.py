"""Complément : distiller un modèle qui écrit. KL directe, KL inverse et JSD généralisée, mot par mot.

Leur gradient s'écrit : calculé avec la valeur, il est seul gardé pour la rétropropagation, un tenseur de la taille des
logits. La formule laissée à autograd en garde deux pour la KL directe, trois pour l'inverse, cinq pour la JSD ; avec un
vocabulaire de 32 000 mots, c'est ce qui remplit un GPU.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from .checks import check_floating, check_number, check_same_device, check_same_shape, check_temperature, shape_of
from .numerics import KnownGradient, expected_gap, same_precision


def forward_kl_loss(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""KL directe : le student doit donner une probabilité à tout ce que le teacher écrirait.

    .. math:: \frac{1}{N} \sum_{(b, l)\ \text{gardés}} \sum_v p_{blv} \, (\log p_{blv} - \log q_{blv}),
              \qquad p, q = \operatorname{softmax}(z^t / T), \operatorname{softmax}(z^s / T)

    N est le nombre de mots gardés ; il n'y a pas de facteur T². Un mot que le teacher écrirait et que le student
    ignore coûte cher ; l'inverse, presque rien : un student trop petit s'étale. À T = 1 et sans masque, c'est
    :func:`kd_loss` sur les mots mis à plat.

    Args:
        student_logits: logits du student, ``(B, L, V)``, flottants : B textes, L mots, V mots au vocabulaire.
        teacher_logits: logits du teacher sur les mêmes préfixes, ``(B, L, V)`` ; aucun gradient ne les traverse.
        mask: ``(B, L)``, booléens, vrai où le mot compte ; par défaut, partout. Ce que valent les logits d'un mot
            ignoré, NaN compris, ne change rien.
        temperature: T > 0, sans unité, nombre ou tenseur scalaire.

    Returns:
        Scalaire en nats par mot, float32 (float64 si une entrée l'est).

    Raises:
        TypeError: entrées qui ne sont pas des tenseurs flottants, masque qui n'est pas booléen.
        ValueError: formes, vocabulaires ou appareils différents, masque qui ne garde rien (sous ``vmap`` avec un masque
            par student, et sous ``torch.compile``, il n'est pas lu : la perte vaut alors NaN), T ≤ 0.

    Source : Agarwal et al. (2024), section 3, arXiv:2306.13649.
    """
    log_q, log_p, kept = _log_probabilities(student_logits, teacher_logits, mask, temperature)
    p = log_p.exp()
    return _mean(student_logits, expected_gap(p, log_p - log_q).sum(-1), (log_q.exp() - p) / temperature, kept)


def reverse_kl_loss(
    student_logits: Tensor, teacher_logits: Tensor, mask: Tensor | None = None, temperature: float | Tensor = 1.0
) -> Tensor:
    r"""KL inverse : le student ne doit écrire que ce que le teacher écrirait.

    .. math:: \frac{1}{N} \sum_{(b, l)\ \text{gardés}} \sum_v q_{blv} \, (\log q_{blv} - \log p_{blv})

    Un mot que le student écrit et que le teacher exclut coûte cher ; en oublier un, presque rien : un student trop
    petit choisit. Elle est infinie où le teacher interdit, par -inf, un mot que le student peut écrire.

    Args, Returns, Raises : ceux de :func:`forward_kl_loss`.

    Source : Gu et al. (2024), MiniLLM, arXiv:2306.08543 ; mot par mot, Agarwal et al. (2024), arXiv:2306.13649.
    """
    log_q, log_p, kept = _log_probabilities(student_logits, teacher_logits, mask, temperature)
    return _mean(student_logits, *_towards(log_q, log_p, temperature), kept)


def generalized_jsd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    mask: Tensor | None = None,
    temperature: float | Tensor = 1.0,
    beta: float = 0.5,
) -> Tensor:
    r"""Divergence de Jensen-Shannon généralisée : de la KL directe (beta près de 0) à l'inverse (beta près de 1).

    .. math:: \frac{1}{N} \sum_{(b, l)\ \text{gardés}} \left[ \beta \, \mathrm{KL}(p \| m)
              + (1 - \beta) \, \mathrm{KL}(q \| m) \right], \qquad m = \beta p + (1 - \beta) q

    ``beta`` pèse le *teacher* dans le mélange. Divisée par beta, elle tend vers :func:`forward_kl_loss` quand beta
    tend vers 0 ; par 1 - beta, vers :func:`reverse_kl_loss` quand il tend vers 1. Elle est bornée par le logarithme
    de 2, même où le teacher interdit un mot.

    Args:
        student_logits, teacher_logits, mask, temperature: ceux de :func:`forward_kl_loss`.
        beta: strictement entre 0 et 1 ; aux deux bouts, la formule vaut 0 et n'apprend rien.

    Returns, Raises : ceux de :func:`forward_kl_loss`, et ``ValueError`` pour beta.

    Source : Agarwal et al. (2024), équation 1, arXiv:2306.13649.
    """
    _check_beta(beta)
    log_q, log_p, kept = _log_probabilities(student_logits, teacher_logits, mask, temperature)
    log_m = torch.logaddexp(log_p + math.log(beta), log_q + math.log(1 - beta))
    from_student, gradient = _towards(log_q, log_m, temperature)
    from_teacher = expected_gap(log_p.exp(), log_p - log_m).sum(-1)
    # La dérivée de beta·KL(p‖m) annule ce que celle de (1 - beta)·KL(q‖m) tient de m : reste m supposé fixe.
    return _mean(student_logits, beta * from_teacher + (1 - beta) * from_student, (1 - beta) * gradient, kept)


def _towards(log_q: Tensor, log_target: Tensor, temperature: float | Tensor) -> tuple[Tensor, Tensor]:
    """KL(q ‖ cible) de chaque mot, ``(B, L)``, et son gradient pour les logits de q, la cible tenue fixe."""
    q = log_q.exp()
    gap = expected_gap(q, log_q - log_target)
    divergence = gap.sum(-1)
    return divergence, (gap - q * divergence.unsqueeze(-1)) / temperature


def _log_probabilities(student_logits, teacher_logits, mask, temperature) -> tuple[Tensor, Tensor, Tensor]:
    """Les log-probabilités des deux côtés, sans graphe, et le masque ; ce qu'il ignore devient uniforme."""
    _check(student_logits, teacher_logits, mask)
    check_temperature(temperature)
    kept = torch.ones_like(student_logits[..., 0], dtype=torch.bool) if mask is None else mask
    log_q, log_p = (
        F.log_softmax(side.masked_fill(~kept.unsqueeze(-1), 0) / temperature, dim=-1)
        for side in same_precision(student_logits.detach(), teacher_logits)
    )
    return log_q, log_p, kept


def _mean(student_logits: Tensor, divergence: Tensor, gradient: Tensor, kept: Tensor) -> Tensor:
    """La moyenne sur les mots gardés, dont le gradient est déjà là."""
    total, slope = (divergence * kept).sum(), (gradient * kept.unsqueeze(-1)).to(student_logits.dtype)
    # Divisé après : en fp16, un gradient déjà divisé par le nombre de mots serait nul avant que l'échelle ne l'en tire.
    return KnownGradient.apply(student_logits, total, slope) / kept.sum()


def _check(student_logits, teacher_logits, mask) -> None:
    check_floating("student_logits", student_logits, (3,), "(B, L, V)")
    check_floating("teacher_logits", teacher_logits, (3,), "(B, L, V)")
    if teacher_logits.shape[-1] != student_logits.shape[-1]:
        raise ValueError(
            f"teacher_logits : un vocabulaire de {teacher_logits.shape[-1]} mots reçu, {student_logits.shape[-1]} "
            "attendu, celui de student_logits. Deux vocabulaires ne se comparent pas mot à mot : donnez aux deux le "
            "même découpage, ou faites apprendre au student les textes du teacher, redécoupés (distillation de "
            "séquences)."
        )
    check_same_shape("teacher_logits", teacher_logits, "student_logits", student_logits)
    if mask is not None:
        _check_mask(mask, student_logits)


def _check_mask(mask, student_logits: Tensor) -> None:
    if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
        got = f"dtype {mask.dtype}" if isinstance(mask, Tensor) else type(mask).__name__
        raise TypeError(f"mask : {got} reçu, un tenseur de booléens attendu, vrai où le mot compte.")
    if mask.shape != student_logits.shape[:2]:
        raise ValueError(
            f"mask : forme {shape_of(mask)} reçue, {tuple(student_logits.shape[:2])} attendue, un booléen par mot."
        )
    check_same_device("mask", mask, "student_logits", student_logits)
    if not torch.compiler.is_compiling() and _is_empty(mask):
        raise ValueError("mask : aucun mot gardé, un au moins attendu.")


def _is_empty(mask: Tensor) -> bool:
    try:
        return not mask.any().item()
    except RuntimeError:  # sous vmap, un masque par student n'a pas de valeur à lire
        return False


def _check_beta(beta) -> None:
    ends = {0: "forward_kl_loss est la limite de la perte divisée par beta",
            1: "reverse_kl_loss est la limite de la perte divisée par 1 - beta"}  # fmt: skip
    check_number("beta", beta, 0, 1, "un nombre strictement entre 0 et 1")
    if beta in ends:
        raise ValueError(f"beta : {beta} reçu, un nombre strictement entre 0 et 1 attendu ; {ends[beta]}.")
