"""10.2 : distiller les logits. La divergence KL adoucie, puis sa combinaison avec les étiquettes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse._common import (
    LossTerms,
    at_least_float32,
    check_alpha,
    check_finite,
    check_labels,
    check_logits_pair,
    check_module_temperature,
    check_non_negative,
    check_temperature,
    combine_terms,
    label_loss,
    shape_of,
)
from kdcourse._numerics import same_precision


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor = 4.0) -> Tensor:
    r"""Divergence de Kullback-Leibler entre les prédictions adoucies du teacher et du student.

    .. math:: T^2 \cdot \frac{1}{B} \sum_b \sum_c p^t_{bc} \, (\log p^t_{bc} - \log p^s_{bc}),
              \qquad p = \operatorname{softmax}(z / T)

    Args:
        student_logits: logits du student, ``(B, C)``, flottants.
        teacher_logits: logits du teacher, ``(B, C)`` ; aucun gradient ne les traverse.
        temperature: T > 0, sans unité, nombre ou tenseur scalaire (dont la valeur n'est pas vérifiée). Le facteur T²
            garde au gradient un ordre de grandeur stable quand T croît.

    Returns:
        Scalaire en nats, float32 (float64 si une entrée l'est) ; 0 si et seulement si les deux distributions
        coïncident, à l'arrondi près, de l'ordre de 1e-7·T² en float32.

    Raises:
        TypeError: entrées qui ne sont pas des tenseurs flottants, T qui n'est pas un nombre.
        ValueError: formes ou appareils différents, lot vide, T ≤ 0.

    Source : Hinton, Vinyals, Dean (2015), section 2, arXiv:1503.02531.
    """
    check_logits_pair(student_logits, teacher_logits)
    check_temperature(temperature)
    return temperature**2 * divergence(student_logits, teacher_logits, temperature, dim=-1).mean()


def divergence(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor, dim: int) -> Tensor:
    """KL(teacher ‖ student) adoucie de chaque exemple, en nats, les classes le long de ``dim`` ; rien n'est vérifié."""
    # Logarithmes de bout en bout : softmax puis log donnerait -inf dès qu'une probabilité s'annule en float32.
    student_log_probs = F.log_softmax(at_least_float32(student_logits) / temperature, dim=dim)
    teacher_log_probs = F.log_softmax(at_least_float32(teacher_logits.detach()) / temperature, dim=dim)
    return (teacher_log_probs.exp() * (teacher_log_probs - student_log_probs)).sum(dim=dim)


def dkd_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    labels: Tensor,
    temperature: float | Tensor = 4.0,
    alpha: float = 1.0,
    beta: float = 8.0,
) -> Tensor:
    r"""Distillation découplée : la classe cible d'un côté (TCKD), la hiérarchie des autres classes de l'autre (NCKD).

    .. math:: \frac{T^2}{B} \sum_b \left[ \alpha \, \mathrm{KL}(b^t \| b^s) + \beta \, \mathrm{KL}(q^t \| q^s) \right]

    :math:`b = (p_y, 1 - p_y)` oppose la cible à toutes les autres classes ; :math:`q_c = p_c / (1 - p_y)`, pour
    :math:`c \neq y`, répartit le reste. :func:`kd_loss` est le cas où alpha vaut 1 et beta, exemple par exemple,
    :math:`1 - p^t_y` : un teacher sûr de lui y fait taire la seconde partie.

    Args:
        student_logits: logits du student, ``(B, C)``, flottants, C ≥ 2.
        teacher_logits: logits du teacher, ``(B, C)`` ; aucun gradient ne les traverse.
        labels: classes cibles, ``(B,)``, int64, de 0 à C - 1 (leur valeur n'est pas vérifiée ici).
        temperature: T > 0, sans unité, nombre ou tenseur scalaire.
        alpha: poids de TCKD, ≥ 0. Ce n'est pas le alpha de [0, 1] des modules : les étiquettes n'entrent pas ici.
        beta: poids de NCKD, ≥ 0 ; l'article prend de 1 à 8 selon les modèles. NCKD est nulle quand C = 2.

    Returns:
        Scalaire en nats, float32 (float64 si une entrée l'est).

    Raises:
        TypeError: entrées qui ne sont pas des tenseurs du type attendu, T, alpha ou beta qui ne sont pas des nombres.
        ValueError: formes ou appareils différents, C < 2, T ≤ 0, alpha ou beta négatif.

    Source : Zhao, Cui, Song, Qiu, Liang (2022), équations 6 et 7, arXiv:2203.08679.
    """
    check_logits_pair(student_logits, teacher_logits)
    check_labels(labels, student_logits)
    check_temperature(temperature)
    check_non_negative("alpha", alpha)
    check_non_negative("beta", beta)
    if student_logits.shape[1] < 2:
        raise ValueError(f"student_logits : forme {shape_of(student_logits)} reçue, (B, C) attendue avec C ≥ 2.")
    student, teacher = same_precision(student_logits, teacher_logits)
    margin, log_rest = _decouple(student / temperature, labels)
    teacher_margin, teacher_log_rest = _decouple(teacher / temperature, labels)
    # Deux classes, cible ou non : leurs log-probabilités sont logsigmoid(±marge), sans jamais de log(softmax).
    target_kl = teacher_margin.sigmoid() * (F.logsigmoid(teacher_margin) - F.logsigmoid(margin))
    target_kl = target_kl + (-teacher_margin).sigmoid() * (F.logsigmoid(-teacher_margin) - F.logsigmoid(-margin))
    rest_kl = (teacher_log_rest.exp() * (teacher_log_rest - log_rest)).sum(dim=-1)
    return temperature**2 * (alpha * target_kl + beta * rest_kl).mean()


def _decouple(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Marge de la cible sur toutes les autres classes, ``(B,)``, et log-probabilités parmi elles, ``(B, C - 1)``."""
    others = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = others + (others >= labels[:, None])  # toutes les classes, dans l'ordre, sauf la cible
    rest = logits.gather(1, others)
    target = logits.gather(1, labels[:, None]).squeeze(1)
    return target - rest.logsumexp(dim=1), rest.log_softmax(dim=1)


class KnowledgeDistillationLoss(nn.Module):
    r"""Perte de distillation complète : les prédictions du teacher et les étiquettes.

    .. math:: \alpha \cdot \mathrm{kd\_loss}(z_s, z_t; T) + (1 - \alpha) \cdot \mathrm{CE}(z_s, y)

    L'entropie croisée compare le student aux *étiquettes*, à T = 1.

    Args:
        temperature: T > 0, sans unité ; 4 par défaut.
        alpha: poids de la distillation, de 0 (étiquettes seules) à 1 (teacher seul) ; 0,7 par défaut.

    Raises:
        TypeError, ValueError: T ≤ 0, alpha hors de [0, 1].

    Source : Hinton, Vinyals, Dean (2015), section 2, arXiv:1503.02531.
    """

    def __init__(self, temperature: float = 4.0, alpha: float = 0.7):
        super().__init__()
        check_module_temperature(temperature)
        check_alpha(alpha)
        self.temperature = temperature
        self.alpha = alpha

    def forward(self, student_logits: Tensor, teacher_logits: Tensor, labels: Tensor) -> LossTerms:
        """Calcule les trois termes.

        Args:
            student_logits: logits du student, ``(B, C)``.
            teacher_logits: logits du teacher, ``(B, C)`` ; aucun gradient ne les traverse.
            labels: étiquettes, ``(B,)``, int64, de 0 à C - 1.

        Returns:
            ``LossTerms(total, distillation, hard)``, trois scalaires en nats.

        Raises:
            TypeError, ValueError: formes, types ou appareils inattendus, étiquette hors des classes, NaN ou infini
                dans les logits.
        """
        distillation = kd_loss(student_logits, teacher_logits, self.temperature)
        check_finite("teacher_logits", teacher_logits)
        return combine_terms(distillation, label_loss(student_logits, labels, "student_logits"), self.alpha)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}, alpha={self.alpha}"
