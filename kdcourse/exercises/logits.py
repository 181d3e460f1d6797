"""Les exercices de 10.2."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.exercises.exercise import Exercise, Prediction
from kdcourse.exercises.logits_formulas import (
    both_by_softmax,
    by_softmax,
    capped,
    capped_for_student,
    cross_entropy,
    entropy,
    epsilon_below,
    gap,
    kl,
    multiplied,
    nckd,
    not_renormalised,
    only_weight_renormalised,
    over_batch,
    rest,
    reversed_gradient,
    soft,
    softmax_twice,
    squares_gradient,
    target_not_log,
    target_weight,
    tckd,
    without_log,
    without_log_by_hand,
    without_weight,
    zeroed,
)
from kdcourse.losses.logits import divergence, kd_loss


def _logits(seed: int, batch: int = 6, classes: int = 4) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    student = 3 * torch.randn(batch, classes, generator=generator)
    teacher = 5 * torch.randn(batch, classes, generator=generator)
    return student, teacher, torch.arange(batch) % classes


_STUDENT, _TEACHER, _LABELS = _logits(102)
_OTHER = _logits(103, batch=5, classes=3)
# Assez grands pour qu'une probabilité s'annule en float32 (au-delà de 104 à T = 1).
_EXTREME = 300 * _TEACHER


EXERCISES = {
    "10.2 a": Exercise(
        differentiable=False,
        cases=((_STUDENT, _TEACHER, 3.0), (*_OTHER[:2], 5.0)),
        reference=lambda s, t, T: T * gap(s, t, T) / len(s),
        mistakes={
            "Le signe est inversé : descendre ce gradient éloignerait le student du teacher.":
                lambda s, t, T: -T * gap(s, t, T) / len(s),
            "Il manque T² : ce gradient s'éteint quand T monte.": lambda s, t, T: gap(s, t, T) / T / len(s),
            "Le facteur T² est là, mais dériver par z une fonction de z / T en retire un.":
                lambda s, t, T: T**2 * gap(s, t, T) / len(s),
            "Le facteur T a disparu : T² devant la perte, 1/T par la dérivée de z / T, que reste-t-il ?":
                lambda s, t, T: gap(s, t, T) / len(s),
            "Vous divisez par T² au lieu de multiplier : T² est devant la perte.":
                lambda s, t, T: gap(s, t, T) / T**2 / len(s),
            "La perte est une moyenne par exemple : il manque 1/B.": lambda s, t, T: T * gap(s, t, T),
            'Vous divisez aussi par le nombre de classes : c\'est la moyenne de reduction="mean".':
                lambda s, t, T: T * gap(s, t, T) / s.numel(),
            "Vous divisez par le nombre de classes : la moyenne porte sur les exemples.":
                lambda s, t, T: T * gap(s, t, T) / s.shape[-1],
            "C'est l'écart des prédictions, sans facteur : il manque T, et 1/B.": gap,
            "Deux oublis : 1/B, et le 1/T de la dérivée de z / T.": lambda s, t, T: T**2 * gap(s, t, T),
            "Deux oublis : le facteur T² de la perte, et 1/B.": lambda s, t, T: gap(s, t, T) / T,
            "Le signe est inversé, et il manque T : T² devant la perte, 1/T par la dérivée.":
                lambda s, t, T: -gap(s, t, T) / len(s),
            "Le signe est inversé, et il manque 1/B : la perte est une moyenne par exemple.":
                lambda s, t, T: -T * gap(s, t, T),
            "Le signe est inversé, et les facteurs manquent : T, et 1/B.": lambda s, t, T: -gap(s, t, T),
            "Le signe est inversé, et T² devrait être T : dériver par z une fonction de z / T en retire un.":
                lambda s, t, T: -(T**2) * gap(s, t, T) / len(s),
            "Les prédictions ne sont pas adoucies : elles se prennent à T.":
                lambda s, t, T: T * gap(s, t, 1.0) / len(s),
            "T n'apparaît nulle part : ni dans les prédictions, ni devant leur écart.":
                lambda s, t, T: gap(s, t, 1.0) / len(s),
            "T n'apparaît nulle part, et il manque 1/B : la perte est une moyenne par exemple.":
                lambda s, t, T: gap(s, t, 1.0),
            "La prédiction du teacher n'est pas adoucie : elle se prend à T, comme celle du student.":
                lambda s, t, T: T * (soft(s, T) - soft(t)) / len(s),
            "La prédiction du student n'est pas adoucie : elle se prend à T, comme celle du teacher.":
                lambda s, t, T: T * (soft(s) - soft(t, T)) / len(s),
            "Vous multipliez les logits par T : ils se divisent.":
                lambda s, t, T: T * (soft(s * T) - soft(t * T)) / len(s),
            "La somme des prédictions fait 1 le long du lot, non le long des classes : regardez dim.":
                lambda s, t, T: T * (F.softmax(s / T, 0) - F.softmax(t / T, 0)) / len(s),
            "C'est l'écart des logarithmes : le gradient est celui des probabilités.":
                lambda s, t, T: T * (F.log_softmax(s / T, -1) - F.log_softmax(t / T, -1)) / len(s),
            "C'est l'écart des logits divisés par T : où sont passés les deux softmax ?":
                lambda s, t, T: (s - t) / len(s),
            "C'est l'écart des logits : où sont passés les deux softmax, T et 1/B ?": lambda s, t, T: s - t,
            "C'est l'écart des logits, non des prédictions : où sont passés les deux softmax ?":
                lambda s, t, T: T * (s - t) / len(s),
            "Le teacher n'y donne que sa classe : on distille sa prédiction entière.":
                lambda s, t, T: T * (soft(s, T) - F.one_hot(t.argmax(-1), t.shape[-1])) / len(s),
            "C'est le gradient par rapport aux logarithmes des probabilités, p seul : que devient log_softmax ?":
                lambda s, t, T: -(T**2) * soft(t, T) / len(s),
            "C'est le gradient par rapport aux probabilités, p / q : que reste-t-il une fois traversé le softmax ?":
                lambda s, t, T: -(T**2) * soft(t, T) / soft(s, T) / len(s),
            "C'est le gradient de la KL à l'envers : celle de la distillation est pondérée par le teacher.":
                lambda s, t, T: T * reversed_gradient(s, t, T) / len(s),
            "C'est le gradient d'écarts de probabilités au carré : la perte est une KL.":
                lambda s, t, T: T * squares_gradient(s, t, T) / len(s),
            "Vous multipliez encore par la dérivée du softmax : elle est déjà dans l'écart des prédictions.":
                lambda s, t, T: T * soft(s, T) * (1 - soft(s, T)) * gap(s, t, T) / len(s),
            "C'est la limite quand T tend vers l'infini ; on demande le gradient à cette température.":
                lambda s, t, T: ((s - t) - (s - t).mean(-1, keepdim=True)) / s.numel(),
            "C'est la limite quand T tend vers l'infini, sans 1/B ; on demande le gradient à cette température.":
                lambda s, t, T: ((s - t) - (s - t).mean(-1, keepdim=True)) / s.shape[-1],
            "C'est la perte, terme à terme, non son gradient.":
                lambda s, t, T: T**2 * F.kl_div(F.log_softmax(s / T, -1), soft(t, T), reduction="none"),
            "C'est presque la limite quand T tend vers l'infini ; on demande le gradient à cette température.":
                lambda s, t, T: (s - t) / s.numel(),
        },
    ),
    "10.2 b": Exercise(
        cases=((_STUDENT, _TEACHER, 3.0), (*_OTHER[:2], 5.0), (_STUDENT, _EXTREME, 7.0), (_EXTREME, _TEACHER, 1.5)),
        reference=kd_loss,
        mistakes={
            "Sur les deux premiers jeux c'est juste ; sur des logits extrêmes, une probabilité du teacher s'annule et "
            "son logarithme vaut -inf. Restez en logarithmes : log_softmax.": by_softmax,
            "Sur les deux premiers jeux c'est juste ; sur des logits extrêmes, les probabilités s'annulent, et leurs "
            "logarithmes valent -inf. Restez en logarithmes des deux côtés : log_softmax.": both_by_softmax,
            "Sur les deux premiers jeux c'est juste ; sur des logits extrêmes, la probabilité du student s'annule et "
            "son logarithme vaut -inf. log_softmax ne passe jamais par la probabilité.": (
                lambda s, t, T: T**2 * F.kl_div(soft(s, T).log(), soft(t, T), reduction="batchmean")
            ),
            "C'est juste, sauf quand la probabilité du student s'annule : un epsilon, un clamp ou un nan_to_num borne "
            "son logarithme. Quelle fonction le donne sans passer par la probabilité ?": capped_for_student,
            "C'est juste, sauf sur des logits extrêmes : le résultat est fini, mais un epsilon, un clamp ou un "
            "nan_to_num borne les logarithmes. Quelle fonction les donne sans passer par la probabilité ?": capped,
            "Sur des logits extrêmes, l'epsilon borne le logarithme de q, et celui de p vaut encore -inf. Quelle "
            "fonction les donne sans passer par la probabilité ?": epsilon_below,
            "Le résultat est NaN partout : un logarithme est pris où une probabilité est attendue. kl_div veut le "
            "logarithme du student, puis la probabilité du teacher ; que change log_target ?":
                lambda s, t, T: torch.tensor(float("nan")),
            "log_target=True annonce le logarithme du teacher : lui donnez-vous sa probabilité ?": target_not_log,
            "kl_div attend le logarithme des probabilités du student : log_softmax, non softmax.": without_log,
            "Le student entre sans logarithme : la KL compare deux logarithmes. (Celui du teacher vaut -inf sur des "
            "logits extrêmes.)": without_log_by_hand,
            "kl_div reçoit les logits du student : elle attend des logarithmes de probabilités, log_softmax.":
                lambda s, t, T: T**2 * F.kl_div(s / T, soft(t, T), reduction="batchmean"),
            "La probabilité du teacher manque devant l'écart des logarithmes : c'est elle qui le pondère.":
                lambda s, t, T: T**2 * (F.log_softmax(t / T, -1) - F.log_softmax(s / T, -1)).sum(-1).mean(),
            "Le poids est le logarithme du teacher : la KL pondère par sa probabilité.": without_weight,
            'La somme est divisée par le nombre de classes aussi : reduction="mean" au lieu de "batchmean".':
                lambda s, t, T: kd_loss(s, t, T) / s.shape[-1],
            'Deux oublis : le facteur T², et reduction="batchmean" (kl_div divise aussi par le nombre de classes).':
                lambda s, t, T: kd_loss(s, t, T) / T**2 / s.shape[-1],
            "C'est une somme sur le lot : il en faut la moyenne.": lambda s, t, T: kd_loss(s, t, T) * len(s),
            "Deux oublis : le facteur T², et la moyenne sur le lot (c'est une somme).":
                lambda s, t, T: kd_loss(s, t, T) / T**2 * len(s),
            "Vous divisez deux fois par la taille du lot : batchmean le fait déjà.":
                lambda s, t, T: kd_loss(s, t, T) / len(s),
            "La moyenne est prise le long des classes, la somme le long du lot : échangez-les.":
                lambda s, t, T: kd_loss(s, t, T) * len(s) / s.shape[-1],
            "Vous prenez toujours T = 4 : la température est celle que l'on vous donne.":
                lambda s, t, T: kd_loss(s, t, 4.0),
            "Il manque le facteur T².": lambda s, t, T: kd_loss(s, t, T) / T**2,
            "Le facteur est T, il devrait être T².": lambda s, t, T: kd_loss(s, t, T) / T,
            "Vous divisez par T² : la division des logits par T rapetisse déjà la perte, que faut-il pour compenser ?":
                lambda s, t, T: kd_loss(s, t, T) / T**4,
            "La température manque dans les prédictions : divisez les logits par T.":
                lambda s, t, T: T**2 * kd_loss(s, t, 1.0),
            "La température manque partout : ni dans les prédictions, ni devant la perte.":
                lambda s, t, T: kd_loss(s, t, 1.0),
            "La prédiction du teacher n'est pas adoucie : divisez aussi ses logits par T.":
                lambda s, t, T: kd_loss(s, t * T, T),
            "La prédiction du student n'est pas adoucie : divisez aussi ses logits par T.":
                lambda s, t, T: kd_loss(s * T, t, T),
            "La prédiction du student n'est pas adoucie, et il manque T² : divisez aussi ses logits par T.":
                lambda s, t, T: kd_loss(s * T, t, T) / T**2,
            "T divise des probabilités, ou leurs logarithmes : il divise les logits, avant le softmax.":
                lambda s, t, T: T**2 * F.kl_div(F.log_softmax(s, -1) / T, soft(t) / T, reduction="batchmean"),
            "T divise le logarithme du student : il divise ses logits, avant log_softmax.":
                lambda s, t, T: T**2 * F.kl_div(F.log_softmax(s, -1) / T, soft(t, T), reduction="batchmean"),
            "Vous multipliez les logits par T : ils se divisent.": lambda s, t, T: kd_loss(s * T**2, t * T**2, T),
            "La KL est à l'envers : c'est le teacher qui la pondère.": lambda s, t, T: kd_loss(t, s, T),
            "La KL est à l'envers, et il manque T² : c'est le teacher qui la pondère.":
                lambda s, t, T: kd_loss(t, s, T) / T**2,
            "Le poids est celui du student, et le résultat est négatif : qui pondère, et qui retranche-t-on ?":
                lambda s, t, T: -kd_loss(t, s, T),
            "Le signe est inversé : une KL n'est jamais négative.": lambda s, t, T: -kd_loss(s, t, T),
            "C'est l'entropie croisée avec le teacher : il manque son entropie.":
                lambda s, t, T: T**2 * cross_entropy(s, t, T).mean(),
            "C'est l'entropie croisée avec le teacher, sans T² : il manque aussi son entropie.":
                lambda s, t, T: cross_entropy(s, t, T).mean(),
            "L'entropie du teacher s'ajoute : elle se retranche de l'entropie croisée.":
                lambda s, t, T: T**2 * (cross_entropy(s, t, T) + entropy(t, T)).mean(),
            "Le teacher n'y donne que sa classe : on distille sa prédiction entière.":
                lambda s, t, T: F.cross_entropy(s, t.argmax(-1)),
            "La somme des prédictions fait 1 le long du lot, non le long des classes : regardez dim.":
                lambda s, t, T: T**2 * kl(F.log_softmax(t / T, 0), F.log_softmax(s / T, 0)).mean(),
            "C'est l'écart des logits au carré, qui est presque la limite de la perte quand T tend vers l'infini.":
                lambda s, t, T: F.mse_loss(s, t),
            "C'est l'écart des probabilités au carré : la distillation prend une KL.":
                lambda s, t, T: T**2 * F.mse_loss(soft(s, T), soft(t, T)),
        },
    ),
    "10.2 c": Exercise(
        cases=((_STUDENT, _TEACHER, _LABELS, 3.0), (*_OTHER, 2.0)),
        reference=nckd,
        mistakes={
            "Le résultat est NaN partout. Un logit mis à -inf a un logarithme de -inf, une probabilité de 0 : que vaut "
            "leur produit ? (Ou bien un logarithme est pris où une probabilité est attendue : log_target.)":
                lambda s, t, y, T: torch.full(y.shape, float("nan")),
            "La cible est encore là : c'est la KL entière.": lambda s, t, y, T: divergence(s, t, T, dim=-1),
            "La cible est ôtée de la somme, mais les autres probabilités ne font plus 1 : elles se renormalisent.":
                not_renormalised,
            "Les probabilités du teacher ne font plus 1 : renormalisez-les aussi, parmi les mêmes classes.":
                lambda s, t, y, T: not_renormalised(s, t, y, T, q=False),
            "Les probabilités du student ne font plus 1 : renormalisez-les aussi, parmi les mêmes classes.":
                lambda s, t, y, T: not_renormalised(s, t, y, T, p=False),
            "Le poids est renormalisé, mais non les deux logarithmes : leurs probabilités ne font plus 1.":
                only_weight_renormalised,
            "Un logit mis à 0 garde une probabilité : retirez la colonne de la cible.": zeroed,
            "Un logit mis à -10 garde une probabilité, ici : retirez la colonne de la cible, ou mettez bien plus bas.":
                lambda s, t, y, T: zeroed(s, t, y, T, -10.0),
            "Le résultat est infini : le teacher garde une part pour la cible, que le student n'a plus.":
                lambda s, t, y, T: torch.full(y.shape, float("inf")),
            "Une probabilité mise à 0, puis un second softmax : la cible y retrouve une part. Que retirer, et avant "
            "quoi ?": multiplied,
            "Le softmax est appliqué deux fois : la colonne se retire des logits, non de la prédiction.":
                softmax_twice,
            "C'est TCKD, la cible contre toutes les autres : on demande la KL parmi les autres.": tckd,
            "La classe retirée est la préférée du teacher : retirez l'étiquette, qu'il ait raison ou non.":
                lambda s, t, y, T: nckd(s, t, t.argmax(-1), T),
            "La classe retirée est la préférée du student : retirez l'étiquette, qu'il ait raison ou non.":
                lambda s, t, y, T: nckd(s, t, s.argmax(-1), T),
            "La colonne retirée est toujours la première : chaque exemple a son étiquette.":
                lambda s, t, y, T: nckd(s, t, torch.zeros_like(y), T),
            "La colonne retirée est toujours la dernière : chaque exemple a son étiquette.":
                lambda s, t, y, T: nckd(s, t, torch.full_like(y, s.shape[-1] - 1), T),
            "La température manque.": lambda s, t, y, T: nckd(s, t, y, 1.0),
            "La prédiction du teacher n'est pas adoucie : divisez aussi ses logits par T.":
                lambda s, t, y, T: nckd(s, t * T, y, T),
            "La prédiction du student n'est pas adoucie : divisez aussi ses logits par T.":
                lambda s, t, y, T: nckd(s * T, t, y, T),
            "Le facteur T n'est pas demandé ici : la KL seule.": lambda s, t, y, T: T * nckd(s, t, y, T),
            "Le facteur T² n'est pas demandé ici : la KL seule.": lambda s, t, y, T: T**2 * nckd(s, t, y, T),
            "La KL est à l'envers : c'est le teacher qui la pondère.": lambda s, t, y, T: nckd(t, s, y, T),
            "Le signe est inversé : une KL n'est jamais négative.": lambda s, t, y, T: -nckd(s, t, y, T),
            "C'est l'entropie croisée avec le teacher : il manque son entropie.":
                lambda s, t, y, T: cross_entropy(rest(s, y), rest(t, y), T),
            "La probabilité du teacher manque devant l'écart des logarithmes : c'est elle qui le pondère.":
                lambda s, t, y, T: (F.log_softmax(rest(t, y) / T, -1) - F.log_softmax(rest(s, y) / T, -1)).sum(-1),
            "kl_div attend le logarithme des probabilités du student : log_softmax, non softmax.":
                lambda s, t, y, T: F.kl_div(soft(rest(s, y), T), soft(rest(t, y), T), reduction="none").sum(-1),
            "log_target=True annonce le logarithme du teacher : lui donnez-vous sa probabilité ?":
                lambda s, t, y, T: F.kl_div(
                    F.log_softmax(rest(s, y) / T, -1), soft(rest(t, y), T), reduction="none", log_target=True
                ).sum(-1),
            "C'est la moyenne sur les C - 1 classes : la KL en est la somme.":
                lambda s, t, y, T: nckd(s, t, y, T) / (s.shape[-1] - 1),
            "C'est la moyenne sur les C classes : la KL en est la somme.":
                lambda s, t, y, T: nckd(s, t, y, T) / s.shape[-1],
            "Vous divisez par la taille du lot : on demande une valeur par exemple.":
                lambda s, t, y, T: nckd(s, t, y, T) / len(s),
            "La somme des prédictions fait 1 le long du lot, non le long des classes : regardez dim.": over_batch,
            "Le poids 1 - p de la cible est déjà dedans : on demande NCKD seule.":
                lambda s, t, y, T: nckd(s, t, y, T) * (1 - target_weight(t, y, T)),
            "Le poids 1 - p de la cible est déjà dedans, et p est celui du student : on demande NCKD seule.":
                lambda s, t, y, T: nckd(s, t, y, T) * (1 - target_weight(s, y, T)),
        },
    ),
}  # fmt: skip

PREDICTIONS = {
    "10.2 d": Prediction(
        expected=-15.8,
        mistakes={
            "Ce gain presque nul est celui d'un autre réglage : 32 unités au lieu de 6, alpha = 0,2, ou T = 1.": 0.2,
            "C'est le gain avec 100 images : donnez-en 1 000.": -6.2,
        },
        tolerance=4.0,
        lesson="Le manque de données n'était pas la cause : à pas égaux, dix fois plus d'images ne l'aident pas.",
    ),
}
