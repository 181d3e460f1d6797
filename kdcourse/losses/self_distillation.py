"""10.5 : apprendre de ses propres prédictions antérieures. La cible d'un exemple est celle *de cet exemple*."""

import torch.nn.functional as F
from torch import Tensor, nn

from .checks import (
    check_alpha,
    check_finite,
    check_labels,
    check_module_temperature,
    check_number,
    check_pair,
    check_positive_integer,
    label_loss,
)
from .logits import kd_loss
from .numerics import LossTerms, at_least_float32, combine_terms


class SelfDistillation(nn.Module):
    r"""Distillation d'un modèle par ses propres logits antérieurs, sur les mêmes exemples.

    .. math:: \alpha \cdot \mathrm{kd\_loss}(z, z_{\text{antérieur}}; T) + (1 - \alpha) \cdot \mathrm{CE}(z, y)

    Args:
        temperature: T > 0, sans unité ; 4 par défaut. Sinon, ``TypeError`` ou ``ValueError``.

    Source : Hinton, Vinyals, Dean (2015), section 2, arXiv:1503.02531, où le teacher est le modèle antérieur.
    """

    def __init__(self, temperature: float = 4.0):
        super().__init__()
        check_module_temperature(temperature)
        self.temperature = temperature

    def forward(self, current_logits: Tensor, previous_logits: Tensor, labels: Tensor, alpha: float = 0.5) -> LossTerms:
        """Rend ``LossTerms(total, distillation, hard)``, trois scalaires en nats.

        Args:
            current_logits: logits du modèle, ``(B, C)``.
            previous_logits: logits antérieurs des *mêmes* exemples, ``(B, C)`` ; aucun gradient ne les traverse.
            labels: étiquettes, ``(B,)``, int64, de 0 à C - 1.
            alpha: poids de la distillation, dans [0, 1] ; il peut changer d'une époque à l'autre.

        Raises:
            TypeError, ValueError: forme, type, appareil ou valeur hors de son domaine, NaN dans les logits.
        """
        check_alpha(alpha)
        check_pair("current_logits", current_logits, "previous_logits", previous_logits)
        check_finite("previous_logits", previous_logits)
        hard = label_loss(current_logits, labels, "current_logits")
        return combine_terms(kd_loss(current_logits, previous_logits, self.temperature), hard, alpha)

    def extra_repr(self) -> str:
        return f"temperature={self.temperature}"


def ps_kd_loss(logits: Tensor, previous_probabilities: Tensor, labels: Tensor, alpha: float | Tensor) -> Tensor:
    r"""Entropie croisée avec une cible qui mêle l'étiquette et la prédiction antérieure du même exemple.

    .. math:: -\frac{1}{B} \sum_b \sum_c \big[(1 - \alpha) \, 1_{c = y_b} + \alpha \, p^{e-1}_{bc}\big] \log p_{bc},
              \qquad p = \operatorname{softmax}(z)

    Args:
        logits: logits du modèle, ``(B, C)``.
        previous_probabilities: prédictions antérieures des mêmes exemples, ``(B, C)``, lignes de somme 1 ; aucun
            gradient ne les traverse.
        labels: étiquettes, ``(B,)``, int64, de 0 à C - 1 (leur valeur n'est pas lue ici : au-delà, -100 compris, c'est
            torch qui refuse l'indice).
        alpha: poids α_e de la prédiction antérieure, nombre de [0, 1] ou tenseur scalaire (valeur non vérifiée).

    Returns:
        Scalaire en nats, float32 (float64 si une entrée l'est). Son minimum est l'entropie de la cible, non 0.

    Raises:
        TypeError, ValueError: formes, types ou appareils inattendus, alpha hors de [0, 1].

    Source : Kim et al. (2021), PS-KD, section 3, arXiv:2006.12000.
    """
    check_pair("logits", logits, "previous_probabilities", previous_probabilities)
    check_labels(labels, logits, "logits")
    if not isinstance(alpha, Tensor):
        check_alpha(alpha)
    log_probs = F.log_softmax(at_least_float32(logits), dim=-1)
    before = at_least_float32(previous_probabilities.detach())
    # Une classe masquée (logit -inf) que l'antérieure n'attend pas ne coûte rien : 0 · log 0 = 0.
    previous = -(before * log_probs.masked_fill(before == 0, 0)).sum(dim=-1).mean()
    hard = -log_probs.gather(1, labels[:, None]).mean()  # F.nll_loss sauterait en silence une étiquette -100
    return (1 - alpha) * hard + alpha * previous  # linéaire en la cible : deux termes


def label_smoothing_probabilities(labels: Tensor, classes: int, smoothing: float = 0.1) -> Tensor:
    r"""Prédictions du teacher dégénéré qu'est le lissage d'étiquettes : il ne sait rien que l'étiquette.

    .. math:: q_{bc} = (1 - \varepsilon) \, 1_{c = y_b} + \varepsilon / C

    L'entropie croisée avec q est ``F.cross_entropy(logits, labels, label_smoothing=ε)``, et aussi
    ``ps_kd_loss(logits, 1/C, labels, ε)`` : lisser, c'est apprendre d'un teacher uniforme, de poids ε.

    Args:
        labels: étiquettes, ``(B,)``, int64, de 0 à C - 1 (leur valeur n'est pas lue ici : au-delà, c'est torch qui
            refuse l'indice).
        classes: nombre C de classes.
        smoothing: ε, dans [0, 1] ; à 0 l'étiquette seule, à 1 la loi uniforme.

    Returns:
        ``(B, C)``, float32, lignes de somme 1. Argument hors de son domaine : ``TypeError`` ou ``ValueError``.

    Source : Yuan et al. (2020), section 3, arXiv:1909.11723.
    """
    check_positive_integer("classes", classes)
    check_number("smoothing", smoothing, 0, 1, "un nombre de [0, 1]")
    check_labels(labels, labels, "labels")
    return (1 - smoothing) * F.one_hot(labels, classes).float() + smoothing / classes
