"""La perte de plusieurs teachers, écrite en clair, et les erreurs que la correction sait nommer."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

DEFAULTS = {"weights": None, "temperature": 4.0, "alpha": 0.7, "combine": "probabilities"}


def reference(student_logits: Tensor, teacher_logits: list[Tensor], labels: Tensor, **options) -> Tensor:
    r"""``alpha·T²·KL(comité ‖ student) + (1 − alpha)·entropie croisée(student, étiquettes)``, dans le dtype reçu.

    Écrite sans emprunter une ligne à ``kdcourse.losses`` : une faute commune ne pourrait pas se voir.
    """
    return leaking(student_logits, [logits.detach() for logits in teacher_logits], labels, **options)


def leaking(
    student_logits: Tensor,
    teacher_logits: list[Tensor],
    labels: Tensor,
    *,
    weights: list[float] | None,
    temperature: float,
    alpha: float,
    combine: str,
) -> Tensor:
    """La même valeur ; son gradient traverse les teachers."""
    shares = _shares(weights, teacher_logits)
    log_target = _committee(torch.stack(list(teacher_logits)), shares, temperature, combine)
    soft = _kl(log_target, F.log_softmax(student_logits / temperature, -1))
    return alpha * temperature**2 * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


def _stacked(teacher_logits: list[Tensor]) -> Tensor:
    return torch.stack([logits.detach() for logits in teacher_logits])


def _shares(weights, teacher_logits, *, divide: bool = True) -> Tensor:
    """Un poids par teacher, ``(K, 1, 1)``."""
    raw = torch.ones(len(teacher_logits)) if weights is None else torch.as_tensor(weights)
    raw = raw.to(teacher_logits[0].dtype)
    return (raw / raw.sum() if divide else raw)[:, None, None]


def _committee(teachers: Tensor, shares: Tensor, T: float, combine: str) -> Tensor:
    """Logarithme de la prédiction adoucie du comité, ``(B, C)``."""
    if combine == "logits":
        return F.log_softmax((shares * teachers).sum(0) / T, -1)
    # Des logarithmes de bout en bout : une probabilité de 1e-60 s'annulerait en float32.
    return torch.logsumexp(F.log_softmax(teachers / T, -1) + shares.log(), 0)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def _wrong(s, ts, y, *, weights, temperature, alpha, combine, target=_committee, shares=_shares, soft=None, hard=None):
    """La bonne réponse dont on remplace un morceau : la cible, les poids, le terme adouci ou le terme dur."""
    teachers, parts = _stacked(ts), shares(weights, ts)
    log_p, log_q = target(teachers, parts, temperature, combine), F.log_softmax(s / temperature, -1)
    first = temperature**2 * _kl(log_p, log_q) if soft is None else soft(s, log_p, log_q, temperature)
    second = F.cross_entropy(s, y) if hard is None else hard(s, (parts * teachers).sum(0), y, temperature)
    return alpha * first + (1 - alpha) * second


def _mean_of_kls(s, ts, y, *, combine, weights, **options):
    each = [reference(s, [teacher], y, weights=None, combine=combine, **options) for teacher in ts]
    return (_shares(weights, ts)[:, 0, 0] * torch.stack(each)).sum()


def _mean_of_kls_for_probabilities(*inputs, combine, **options):
    """La moyenne des divergences, mais les logits bien moyennés quand c'est eux que l'on demande."""
    formula = reference if combine == "logits" else _mean_of_kls
    return formula(*inputs, combine=combine, **options)


def _softened_late(t, w, T, combine):
    """Les probabilités moyennées à T = 1, puis adoucies."""
    return F.log_softmax(_committee(t, w, 1.0, combine) / T, -1)


def _through_probabilities(s, log_p, log_q, T):
    p, q = log_p.exp(), F.softmax(s / T, -1)
    return T**2 * (p * (p.log() - q.log())).sum(-1).mean()


def _shifted_logarithm(s, log_p, log_q, T):
    """Un epsilon dans le logarithme : sans effet, sauf là où une probabilité est plus petite que lui."""
    p, q = log_p.exp(), log_q.exp()
    return T**2 * (p * ((p + 1e-8).log() - (q + 1e-8).log())).sum(-1).mean()


def _all_scaled(s, ts, y, *, alpha, temperature, **options):
    soft = reference(s, ts, y, alpha=1.0, temperature=temperature, **options)
    return alpha * soft + temperature**2 * (1 - alpha) * F.cross_entropy(s, y)


def _raw(weights, teacher_logits):
    return _shares(weights, teacher_logits, divide=False)


_other = {"logits": "probabilities", "probabilities": "logits"}

MISTAKES: dict[str, Callable[..., Tensor]] = {
    "Il manque le facteur T² devant la divergence.": partial(_wrong, soft=lambda s, p, q, T: _kl(p, q)),
    "Le facteur devant la divergence est T, il devrait être T².":
        partial(_wrong, soft=lambda s, p, q, T: T * _kl(p, q)),
    "T² multiplie aussi l'entropie croisée ; il n'appartient qu'à la divergence.": _all_scaled,
    'La somme est divisée aussi par le nombre de classes : reduction="mean" au lieu de "batchmean".':
        partial(_wrong, soft=lambda s, p, q, T: T**2 * _kl(p, q) / s.shape[1]),
    "La divergence est une somme sur le lot : il en faut la moyenne.":
        partial(_wrong, soft=lambda s, p, q, T: T**2 * _kl(p, q) * len(s)),
    "La KL est à l'envers : c'est le comité qui la pondère.": partial(_wrong, soft=lambda s, p, q, T: T**2 * _kl(q, p)),
    "C'est l'entropie croisée avec le comité : il manque l'entropie du comité. Le gradient, lui, est le bon.":
        partial(_wrong, soft=lambda s, p, q, T: -(T**2) * (p.exp() * q).sum(-1).mean()),
    "Sur des logits extrêmes, une probabilité s'annule et son logarithme vaut -inf. Restez en logarithmes.":
        partial(_wrong, soft=_through_probabilities),
    "C'est la moyenne des divergences, une par teacher ; on demande la divergence de la moyenne. (Pour les "
    "probabilités, les deux ont le même gradient, mais pas la même valeur.)": _mean_of_kls,
    'C\'est la moyenne des divergences quand combine="probabilities" : on demande la divergence de la moyenne des '
    "probabilités. (Le gradient est le même, la valeur non.)": _mean_of_kls_for_probabilities,
    "Le premier argument de F.kl_div est un logarithme : log_softmax du student, non softmax.":
        partial(_wrong, soft=lambda s, p, q, T: T**2 * (p.exp() * (p - q.exp())).sum(-1).mean()),
    "Sur des logits extrêmes, 1e-8 ajouté dans le logarithme remplace la probabilité. Restez en logarithmes, sans rien "
    "ajouter.": partial(_wrong, soft=_shifted_logarithm),
    "Les poids alpha et 1 - alpha sont échangés.":
        lambda *inputs, alpha, **options: reference(*inputs, alpha=1 - alpha, **options),
    "weights n'est pas pris en compte : tous les teachers pèsent autant.":
        partial(_wrong, shares=lambda w, ts: _shares(None, ts)),
    "Les poids ne sont pas divisés par leur somme.":
        partial(_wrong, shares=lambda w, ts: _shares(w, ts, divide=w is None)),
    "Les teachers sont additionnés : sans weights, il manque la division par leur nombre ; avec, par la somme des "
    "poids.": partial(_wrong, shares=_raw),
    "Les poids sont divisés par le nombre de teachers : on demande de les diviser par leur somme.":
        partial(_wrong, shares=lambda w, ts: _raw(w, ts) / len(ts)),
    "Les poids passent par un softmax ; on demande de les diviser par leur somme.":
        partial(_wrong, shares=lambda w, ts: _raw(w, ts).softmax(0)),
    "Un seul teacher est écouté, le premier.": partial(_wrong, target=lambda t, w, T, c: F.log_softmax(t[0] / T, -1)),
    'combine n\'est pas lu : les probabilités sont moyennées même quand combine="logits".':
        partial(_wrong, target=lambda t, w, T, c: _committee(t, w, T, "probabilities")),
    'combine n\'est pas lu : les logits sont moyennés même quand combine="probabilities".':
        partial(_wrong, target=lambda t, w, T, c: _committee(t, w, T, "logits")),
    'Les deux façons de combiner sont échangées : "logits" moyenne les probabilités, et l\'inverse.':
        partial(_wrong, target=lambda t, w, T, c: _committee(t, w, T, _other[c])),
    "Le comité n'est pas adouci : divisez les logits des teachers par T.":
        partial(_wrong, target=lambda t, w, T, c: _committee(t, w, 1.0, c)),
    "Les probabilités sont moyennées à T = 1, puis adoucies : adoucissez d'abord, moyennez ensuite.":
        partial(_wrong, target=_softened_late),
    "Le student n'est pas adouci : divisez ses logits par T, eux aussi, dans la divergence.":
        partial(_wrong, soft=lambda s, p, q, T: T**2 * _kl(p, F.log_softmax(s, -1))),
    "L'entropie croisée avec les étiquettes se prend à T = 1.":
        partial(_wrong, hard=lambda s, mean, y, T: F.cross_entropy(s / T, y)),
    "L'entropie croisée compare le student au choix du comité : elle doit le comparer aux étiquettes.":
        partial(_wrong, hard=lambda s, mean, y, T: F.cross_entropy(s, mean.argmax(-1))),
    "L'entropie croisée est celle du comité : c'est le student qui apprend.":
        partial(_wrong, hard=lambda s, mean, y, T: F.cross_entropy(mean, y)),
}  # fmt: skip
"""Indice → la réponse fausse qui le mérite, de même signature que ``reference``, tous les arguments donnés."""
