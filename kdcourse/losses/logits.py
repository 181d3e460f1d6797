"""10.2 : distiller les logits. La divergence KL adoucie, puis sa combinaison avec les étiquettes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import (
    check_alpha,
    check_finite,
    check_labels,
    check_logits_pair,
    check_module_temperature,
    check_non_negative,
    check_temperature,
    label_loss,
    shape_of,
)
from .numerics import LossTerms, at_least_float32, combine_terms, expected_gap, same_precision, unit_rows


def kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor = 4.0) -> Tensor:
    r"""Divergence de Kullback-Leibler entre les prédictions adoucies du teacher et du student.

    .. math:: T^2 \cdot \frac{1}{B} \sum_b \sum_c p^t_{bc} \, (\log p^t_{bc} - \log p^s_{bc}),
              \qquad p = \operatorname{softmax}(z / T)

    Args:
        student_logits: logits du student, ``(B, C)``, flottants.
        teacher_logits: logits du teacher, ``(B, C)`` ; aucun gradient ne les traverse. -inf masque une classe : sa
            probabilité est nulle, et n'ajoute rien.
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
    return expected_gap(teacher_log_probs.exp(), teacher_log_probs - student_log_probs).sum(dim=dim)


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
        teacher_logits: logits du teacher, ``(B, C)`` ; aucun gradient ne les traverse. -inf masque une classe.
        labels: classes cibles, ``(B,)``, int64, de 0 à C - 1 (leur valeur n'est pas lue ici : au-delà, c'est torch qui
            refuse l'indice).
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
    _check_two_classes(student_logits)
    student, teacher = same_precision(student_logits, teacher_logits)
    margin, log_rest = _decouple(student / temperature, labels)
    teacher_margin, teacher_log_rest = _decouple(teacher / temperature, labels)
    # Deux classes, cible ou non : leurs log-probabilités sont logsigmoid(±marge), sans jamais de log(softmax).
    target_kl = sum(
        expected_gap(side.sigmoid(), F.logsigmoid(side) - F.logsigmoid(student_side))
        for side, student_side in ((teacher_margin, margin), (-teacher_margin, -margin))
    )
    rest_kl = expected_gap(teacher_log_rest.exp(), teacher_log_rest - log_rest).sum(dim=-1)
    return temperature**2 * (alpha * target_kl + beta * rest_kl).mean()


def _decouple(logits: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """Marge de la cible sur toutes les autres classes, ``(B,)``, et log-probabilités parmi elles, ``(B, C - 1)``."""
    others = torch.arange(logits.shape[1] - 1, device=logits.device)
    others = others + (others >= labels[:, None])  # toutes les classes, dans l'ordre, sauf la cible
    rest = logits.gather(1, others)
    target = logits.gather(1, labels[:, None]).squeeze(1)
    # Toutes les autres classes masquées : elles se partagent à égalité une masse nulle, et rien n'y est dérivé.
    alone = (rest == -math.inf).all(dim=1)
    rest = rest.masked_fill(alone[:, None], 0)
    return target - rest.logsumexp(dim=1).masked_fill(alone, -math.inf), rest.log_softmax(dim=1)


def _check_two_classes(student_logits: Tensor) -> None:
    if student_logits.shape[1] < 2:
        raise ValueError(f"student_logits : forme {shape_of(student_logits)} reçue, (B, C) attendue avec C ≥ 2.")


def standardized_kd_loss(student_logits: Tensor, teacher_logits: Tensor, temperature: float | Tensor = 2.0) -> Tensor:
    r"""Distillation des logits standardisés : le student imite l'ordre et les écarts relatifs, pas l'amplitude.

    .. math:: \mathrm{kd\_loss}(n_s, n_t; T), \qquad n_{bc} = \frac{z_{bc} - \mu_b}{\sigma_b + 10^{-7}}

    :math:`\mu_b` et :math:`\sigma_b` sont la moyenne et l'écart-type (en C - 1) des C logits d'un exemple. Remplacer
    les logits d'un exemple par :math:`a z + b`, a > 0, d'un côté ou de l'autre, ne change rien, à 1e-7/σ près. Des
    logits tous égaux n'ont pas d'écart-type : ils donnent des probabilités égales, et ne reçoivent pas de gradient.
    Le gradient croît comme l'inverse de l'écart-type du student. Le poids 9 des auteurs sur CIFAR-100 n'est pas dans
    la fonction.

    Args:
        student_logits: logits du student, ``(B, C)``, flottants, C ≥ 2.
        teacher_logits: logits du teacher, ``(B, C)`` ; aucun gradient ne les traverse.
        temperature: T > 0, sans unité, nombre ou tenseur scalaire ; il divise des logits d'écart-type 1.

    Returns:
        Scalaire en nats, float32 (float64 si une entrée l'est) ; 0 si les logits des deux côtés sont égaux à une
        fonction affine croissante près.

    Raises:
        TypeError: entrées qui ne sont pas des tenseurs flottants, T qui n'est pas un nombre.
        ValueError: formes ou appareils différents, lot vide, C < 2, T ≤ 0.

    Source : Sun, Ren, Li, Wang, Cao (2024), algorithme 1, arXiv:2403.01427 ; le 1e-7 est celui de leur code.
    """
    check_logits_pair(student_logits, teacher_logits)
    _check_two_classes(student_logits)
    student, teacher = same_precision(student_logits, teacher_logits)
    return kd_loss(_standardized(student), _standardized(teacher), temperature)


def _standardized(logits: Tensor) -> Tensor:
    """Chaque ligne centrée et divisée par son écart-type ; une ligne constante devient nulle, sans gradient."""
    largest = logits.detach().amax(dim=1, keepdim=True)
    spread = largest - logits.detach().amin(dim=1, keepdim=True)
    # Décaler et réduire les logits ne change ni la valeur ni le gradient, et évite que le carré déborde.
    scale = spread.clamp(min=1)
    rows = (logits - largest) / scale
    rows = rows - rows.mean(dim=1, keepdim=True)
    deviation = rows.std(dim=1, keepdim=True)
    return rows / (deviation + 1e-7 / scale).masked_fill(spread == 0, math.inf)


def dist_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    temperature: float | Tensor = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
) -> Tensor:
    r"""DIST : corréler les prédictions du student et du teacher, exemple par exemple puis classe par classe.

    .. math:: T^2 \left[ \frac{\beta}{B} \sum_b \big(1 - \rho(p^s_{b \cdot}, p^t_{b \cdot})\big)
              + \frac{\gamma}{C} \sum_c \big(1 - \rho(p^s_{\cdot c}, p^t_{\cdot c})\big) \right],
              \qquad p = \operatorname{softmax}(z / T)

    :math:`\rho` est la corrélation de Pearson : une fonction affine croissante des probabilités du student n'y change
    rien. Un vecteur constant, c'est-à-dire d'étendue inférieure à 1e-8 ou aux arrondis, n'a pas de corrélation : son
    terme vaut 0, sans gradient. C'est le cas de chaque classe quand B = 1, d'une classe à laquelle personne ne croit,
    d'un exemple aux prédictions uniformes. Deux nombres ne se corrèlent qu'à ±1 : quand C = 2, la première somme n'a
    pas de gradient ; quand B = 2, la seconde. Ailleurs, il croît comme l'inverse de l'étendue des probabilités du
    student.

    Args:
        student_logits: logits du student, ``(B, C)``, flottants.
        teacher_logits: logits du teacher, ``(B, C)`` ; aucun gradient ne les traverse.
        temperature: T > 0, sans unité, nombre ou tenseur scalaire.
        beta: poids de la relation entre les classes de chaque exemple, ≥ 0 ; 1 dans le code des auteurs.
        gamma: poids de la relation entre les exemples pour chaque classe, ≥ 0 ; 1 dans le code des auteurs.

    Returns:
        Scalaire sans unité, de 0 à 2T²(beta + gamma), float32 (float64 si une entrée l'est) ; 0 quand les deux
        distributions coïncident.

    Raises:
        TypeError: entrées qui ne sont pas des tenseurs flottants, T, beta ou gamma qui ne sont pas des nombres.
        ValueError: formes ou appareils différents, lot vide, T ≤ 0, beta ou gamma négatif.

    Source : Huang, You, Wang, Qian, Xu (2022), section 3, arXiv:2205.10536. Leur code ajoute 1e-8 au produit des
    normes : une classe rare y compte pour 1, même entre deux distributions égales.
    """
    check_logits_pair(student_logits, teacher_logits)
    check_temperature(temperature)
    check_non_negative("beta", beta)
    check_non_negative("gamma", gamma)
    student, teacher = same_precision(student_logits, teacher_logits)
    student, teacher = (student / temperature).softmax(dim=1), (teacher / temperature).softmax(dim=1)
    between_classes = _decorrelation(student, teacher).mean()
    between_examples = _decorrelation(student.mT, teacher.mT).mean()
    return temperature**2 * (beta * between_classes + gamma * between_examples)


def _decorrelation(student: Tensor, teacher: Tensor) -> Tensor:
    """1 - corrélation de Pearson, ligne par ligne ; 0, sans gradient, où l'un des deux côtés est constant."""
    student, teacher = _correlated_rows(student), _correlated_rows(teacher)
    # Entre vecteurs de norme 1, 1 - cosinus est la moitié du carré de l'écart : exactement 0 s'ils sont égaux.
    both = student.any(dim=1) & teacher.any(dim=1)
    return (student - teacher).square().sum(dim=1) / 2 * both


def _correlated_rows(probabilities: Tensor) -> Tensor:
    """Chaque ligne centrée, de norme 1 ; une ligne constante, aux arrondis près, devient nulle, sans gradient."""
    values = probabilities.detach()
    largest = values.amax(dim=1, keepdim=True)
    rounding = 8 * torch.finfo(values.dtype).eps * largest
    constant = largest - values.amin(dim=1, keepdim=True) <= 1e-8 + rounding
    rows = probabilities - probabilities.mean(dim=1, keepdim=True)
    return unit_rows(rows.masked_fill(constant, 0))


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
