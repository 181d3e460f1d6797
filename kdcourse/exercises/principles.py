"""Les exercices de 10.1."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.exercises.exercise import Exercise, Prediction
from kdcourse.losses.logits import kd_loss


def _example_logits() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(101)
    student = 3 * torch.randn(6, 4, generator=generator)
    teacher = 5 * torch.randn(6, 4, generator=generator)
    labels = torch.tensor([0, 1, 2, 3, 1, 0])
    return student, teacher, labels


_STUDENT, _TEACHER, _LABELS = _example_logits()


def _mix(s, t, y, T, alpha, kd=None, hard=None):
    kd = kd_loss(s, t, T) if kd is None else kd
    hard = F.cross_entropy(s, y) if hard is None else hard
    return alpha * kd + (1 - alpha) * hard


def _kl_without_log(s, t, T):
    p = F.softmax(t / T, -1)
    return T**2 * (p * (p.log() - F.softmax(s / T, -1))).sum() / len(s)


EXERCISES = {
    "10.1 a": Exercise(
        cases=((_TEACHER, 3.0), (_TEACHER, 7.0)),
        reference=lambda z, T: F.softmax(z / T, dim=-1),
        mistakes={
            "La température n'apparaît pas : à T = 1 comme à T = 20, vous rendez la même chose.":
                lambda z, T: F.softmax(z, dim=-1),
            "Vous multipliez par T : la prédiction se durcit au lieu de s'adoucir.":
                lambda z, T: F.softmax(z * T, dim=-1),
            "Vous divisez après le softmax : la somme ne fait plus 1. Où la température doit-elle agir ?":
                lambda z, T: F.softmax(z, dim=-1) / T,
            "La somme fait 1 le long du lot, non le long des classes : regardez dim.":
                lambda z, T: F.softmax(z / T, dim=0),
            "La somme fait 1 sur tout le lot : chaque ligne doit avoir la sienne.":
                lambda z, T: F.softmax((z / T).flatten(), dim=0).view_as(z),
            "Ce sont encore des logits : il manque le softmax.": lambda z, T: z / T,
            "Ce sont des logarithmes : on attend les probabilités.": lambda z, T: F.log_softmax(z / T, dim=-1),
        },
    ),
    "10.1 b": Exercise(
        # B = 6, C = 4, T = 3 : ni T, ni T², ni B, ni C ne se confondent.
        cases=((_STUDENT, _TEACHER, _LABELS, 3.0, 0.7), (_STUDENT, _TEACHER, _LABELS, 5.0, 0.4)),
        reference=_mix,
        mistakes={
            "Les deux poids sont échangés : dans ce cours, alpha pondère la distillation.":
                lambda s, t, y, T, a: _mix(s, t, y, T, 1 - a),
            "Il manque le facteur T² de la distillation.":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s, t, T) / T**2),
            "Le facteur est T, il devrait être T² : la division par T compte dans la KL et dans son gradient.":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s, t, T) / T),
            "Il manque T², et les deux poids sont échangés : alpha pondère la distillation.":
                lambda s, t, y, T, a: _mix(s, t, y, T, 1 - a, kd=kd_loss(s, t, T) / T**2),
            "Le facteur T² multiplie aussi les étiquettes : il n'appartient qu'à la distillation.":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, hard=T**2 * F.cross_entropy(s, y)),
            "Il manque le poids 1 - alpha devant les étiquettes.":
                lambda s, t, y, T, a: a * kd_loss(s, t, T) + F.cross_entropy(s, y),
            "Les deux poids manquent : alpha devant la distillation, 1 - alpha devant les étiquettes.":
                lambda s, t, y, T, a: kd_loss(s, t, T) + F.cross_entropy(s, y),
            "Aucune des deux prédictions n'est adoucie : divisez les logits par T, chacun de son côté.":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=T**2 * kd_loss(s, t, 1.0)),
            "La température n'apparaît nulle part : elle adoucit les deux prédictions, et T² multiplie leur KL.":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s, t, 1.0)),
            "La prédiction du teacher n'est pas adoucie : divisez aussi ses logits par T.":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s, t * T, T)),
            "La prédiction du student n'est pas adoucie : divisez aussi ses logits par T.":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s * T, t, T)),
            "kl_div attend le logarithme des probabilités du student : log_softmax, non softmax.":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=_kl_without_log(s, t, T)),
            "C'est l'entropie croisée avec le teacher : il manque son entropie pour faire une KL.":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=T**2 * F.cross_entropy(s / T, F.softmax(t / T, -1))),
            "L'entropie croisée reçoit déjà des probabilités : elle applique elle-même le softmax.":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, hard=F.cross_entropy(F.softmax(s, -1), y)),
            "La température touche aussi l'entropie croisée : elle se calcule à T = 1.":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, hard=F.cross_entropy(s / T, y)),
            "L'entropie croisée compare le teacher aux étiquettes ; c'est le student qui apprend.":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, hard=F.cross_entropy(t, y)),
            "L'entropie croisée compare le student aux choix du teacher ; elle doit le comparer aux étiquettes.":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, hard=F.cross_entropy(s, t.argmax(-1))),
            'La KL est divisée par le nombre de classes aussi : reduction="mean" au lieu de "batchmean".':
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s, t, T) / s.shape[-1]),
            'Deux oublis : le facteur T², et reduction="batchmean" (kl_div divise aussi par le nombre de classes).':
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s, t, T) / T**2 / s.shape[-1]),
            "La KL est une somme sur le lot : il en faut la moyenne par exemple.":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s, t, T) * len(s)),
            "La KL est à l'envers : c'est le teacher qui la pondère, KL(teacher ‖ student).":
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(t, s, T)),
            "Le résultat est NaN. kl_div attend d'abord le logarithme du student, puis la probabilité du teacher (son "
            "logarithme, avec log_target=True).": lambda s, t, y, T, a: torch.tensor(float("nan")),
        },
    ),
}  # fmt: skip

PREDICTIONS = {
    "10.1 c": Prediction(
        expected=3.0,
        mistakes={
            "C'est le gain des bonnes étiquettes : donnez noisy à train_many.": -0.2,
            "Ce sont 1 200 pas : on en demande 300, donc 30 époques de dix lots.": 10.4,
        },
        tolerance=1.5,
        lesson="Le teacher a appris sur de bonnes étiquettes : il corrige celles du student.",
    )
}
