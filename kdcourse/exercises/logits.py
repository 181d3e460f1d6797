"""Les exercices de 10.2."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.exercises.exercise import Exercise, Prediction
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


def _gap(s, t, T):
    return F.softmax(s / T, -1) - F.softmax(t / T, -1)


def _by_softmax(s, t, T):
    p = F.softmax(t / T, -1)
    return T**2 * (p * (p.log() - F.log_softmax(s / T, -1))).sum() / len(s)


def _both_by_softmax(s, t, T):
    p, q = F.softmax(t / T, -1), F.softmax(s / T, -1)
    return T**2 * (p * (p.log() - q.log())).sum() / len(s)


def _rest(z, labels):
    """Les logits des classes qui ne sont pas la cible, ``(B, C - 1)``."""
    others = torch.ones_like(z, dtype=torch.bool).scatter(1, labels[:, None], False)
    return z[others].view(len(z), -1)


def _nckd(s, t, y, T):
    return divergence(_rest(s, y), _rest(t, y), T, dim=-1)


def _not_renormalised(s, t, y, T):
    p, q = F.log_softmax(t / T, -1), F.log_softmax(s / T, -1)
    return (p.exp() * (p - q)).scatter(1, y[:, None], 0).sum(-1)


def _zeroed(s, t, y, T):
    return divergence(s.scatter(1, y[:, None], 0), t.scatter(1, y[:, None], 0), T, dim=-1)


EXERCISES = {
    "10.2 a": Exercise(
        differentiable=False,
        cases=((_STUDENT, _TEACHER, 3.0), (*_OTHER[:2], 5.0)),
        reference=lambda s, t, T: T * _gap(s, t, T) / len(s),
        mistakes={
            "Le signe est inversé : descendre ce gradient éloignerait le student du teacher.":
                lambda s, t, T: -T * _gap(s, t, T) / len(s),
            "Il manque T² : ce gradient s'éteint quand T monte.": lambda s, t, T: _gap(s, t, T) / T / len(s),
            "Le facteur T² est là, mais dériver par z une fonction de z / T en retire un.":
                lambda s, t, T: T**2 * _gap(s, t, T) / len(s),
            "Le facteur T a disparu : T² devant la perte, 1/T par la dérivée de z / T, que reste-t-il ?":
                lambda s, t, T: _gap(s, t, T) / len(s),
            "La perte est une moyenne par exemple : il manque 1/B.": lambda s, t, T: T * _gap(s, t, T),
            'Vous divisez aussi par le nombre de classes : c\'est la moyenne de reduction="mean".':
                lambda s, t, T: T * _gap(s, t, T) / s.numel(),
            "C'est l'écart des prédictions, sans facteur : il manque T, et 1/B.": _gap,
            "Deux oublis : 1/B, et le 1/T de la dérivée de z / T.": lambda s, t, T: T**2 * _gap(s, t, T),
            "Deux oublis : le facteur T² de la perte, et 1/B.": lambda s, t, T: _gap(s, t, T) / T,
            "Les prédictions ne sont pas adoucies : elles se prennent à T.":
                lambda s, t, T: T * _gap(s, t, 1.0) / len(s),
            "C'est la limite quand T tend vers l'infini ; on demande le gradient à cette température.":
                lambda s, t, T: ((s - t) - (s - t).mean(-1, keepdim=True)) / s.numel(),
        },
    ),
    "10.2 b": Exercise(
        cases=((_STUDENT, _TEACHER, 3.0), (*_OTHER[:2], 5.0), (_STUDENT, _EXTREME, 2.0), (_EXTREME, _TEACHER, 2.0)),
        reference=kd_loss,
        mistakes={
            "Sur les deux premiers jeux c'est juste ; sur des logits extrêmes, une probabilité du teacher s'annule et "
            "son logarithme vaut -inf. Restez en logarithmes : log_softmax.": _by_softmax,
            "Sur les deux premiers jeux c'est juste ; sur des logits extrêmes, les probabilités s'annulent, et leurs "
            "logarithmes valent -inf. Restez en logarithmes des deux côtés : log_softmax.": _both_by_softmax,
            "Sur les deux premiers jeux c'est juste ; sur des logits extrêmes, la probabilité du student s'annule et "
            "son logarithme vaut -inf. log_softmax ne passe jamais par la probabilité.": (
                lambda s, t, T: T**2 * F.kl_div(F.softmax(s / T, -1).log(), F.softmax(t / T, -1), reduction="batchmean")
            ),
            'La somme est divisée par le nombre de classes aussi : reduction="mean" au lieu de "batchmean".':
                lambda s, t, T: kd_loss(s, t, T) / s.shape[-1],
            "C'est une somme sur le lot : il en faut la moyenne.": lambda s, t, T: kd_loss(s, t, T) * len(s),
            "Il manque le facteur T².": lambda s, t, T: kd_loss(s, t, T) / T**2,
            "La température manque dans les prédictions : divisez les logits par T.":
                lambda s, t, T: T**2 * kd_loss(s, t, 1.0),
            "La température manque partout : ni dans les prédictions, ni devant la perte.":
                lambda s, t, T: kd_loss(s, t, 1.0),
            "Le facteur est T, il devrait être T².": lambda s, t, T: kd_loss(s, t, T) / T,
            "La KL est à l'envers : c'est le teacher qui la pondère.": lambda s, t, T: kd_loss(t, s, T),
            "C'est l'entropie croisée avec le teacher : il manque son entropie.":
                lambda s, t, T: T**2 * F.cross_entropy(s / T, F.softmax(t / T, -1)),
        },
    ),
    "10.2 c": Exercise(
        cases=((_STUDENT, _TEACHER, _LABELS, 3.0), (*_OTHER, 2.0)),
        reference=_nckd,
        mistakes={
            "La cible est encore là : c'est la KL entière.": lambda s, t, y, T: divergence(s, t, T, dim=-1),
            "La cible est ôtée de la somme, mais les autres probabilités ne font plus 1 : elles se renormalisent.":
                _not_renormalised,
            "Un logit mis à 0 garde une probabilité : retirez la colonne de la cible.": _zeroed,
            "La température manque.": lambda s, t, y, T: _nckd(s, t, y, 1.0),
            "Le facteur T² n'est pas demandé ici : la KL seule.": lambda s, t, y, T: T**2 * _nckd(s, t, y, T),
            "La KL est à l'envers : c'est le teacher qui la pondère.": lambda s, t, y, T: _nckd(t, s, y, T),
            "Le poids 1 - p de la cible est déjà dedans : on demande NCKD seule.":
                lambda s, t, y, T: _nckd(s, t, y, T) * (1 - F.softmax(t / T, -1).gather(1, y[:, None])[:, 0]),
        },
    ),
}  # fmt: skip

PREDICTIONS = {
    "10.2 d": Prediction(
        expected=-12.5,
        mistakes={
            "Ce gain presque nul est celui d'un autre réglage : 32 unités au lieu de 6, alpha = 0,2, ou T = 1.": 0.2,
            "C'est le gain avec 100 images : donnez-en 1 000.": -6.1,
        },
        tolerance=3.0,
        lesson="Le manque de données n'était pas la cause : ce student manque de pas.",
    ),
}
