"""Les voisins et la mémoire : les deux réponses, écrites en clair, et les erreurs que la correction sait nommer."""

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

# --- Les voisins


def neighbours(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """``KL(voisins du teacher ‖ voisins du student)``, moyenne sur les images du lot."""
    return neighbours_leaking(student, teacher.detach(), temperature=temperature)


def neighbours_leaking(student: Tensor, teacher: Tensor, *, temperature: float) -> Tensor:
    """La même valeur ; son gradient traverse le teacher."""
    return _kl(*(_others(_cosines(f) / temperature).log_softmax(-1) for f in (teacher, student)))


def _cosines(f: Tensor) -> Tensor:
    rows = f / f.norm(dim=1, keepdim=True)
    return rows @ rows.T


def _others(m: Tensor) -> Tensor:
    """Une matrice ``(B, B)`` sans sa diagonale, ``(B, B - 1)``."""
    return m[~torch.eye(len(m), dtype=torch.bool)].view(len(m), -1)


def _on_diagonal(m: Tensor, value: float) -> Tensor:
    return m.masked_fill(torch.eye(len(m), dtype=torch.bool), value)


def _kl(log_p: Tensor, log_q: Tensor) -> Tensor:
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def _wrong(s, t, *, temperature, relations=_cosines, kept=_others, soften=None, end=_kl):
    """La bonne réponse dont on remplace un morceau : les ressemblances, la diagonale, la température, la divergence."""
    soften = soften or (lambda r, T, who: r / T)
    log_p, log_q = (
        kept(soften(relations(f), temperature, who)).log_softmax(-1) for f, who in ((t, "teacher"), (s, "student"))
    )
    return end(log_p, log_q)


def _masked_late(log_p, log_q):
    """La diagonale ôtée après le softmax : les voisins ne se partagent plus toute la probabilité."""
    return _others(log_p.exp() * (log_p - log_q)).sum(-1).mean()


def _through_probabilities(log_p, log_q):
    p, q = log_p.exp(), log_q.exp()
    return (p * (p.log() - q.log())).sum(-1).mean()


def _shifted_logarithm(log_p, log_q):
    p, q = log_p.exp(), log_q.exp()
    return (p * ((p + 1e-8).log() - (q + 1e-8).log())).sum(-1).mean()


NEIGHBOUR_MISTAKES: dict[str, Callable[..., Tensor]] = {
    "Une image est sa propre voisine : la diagonale doit sortir du softmax.": partial(_wrong, kept=lambda m: m),
    "La diagonale est mise à 0 avant le softmax : un cosinus nul reçoit encore de la probabilité.":
        partial(_wrong, kept=lambda m: _on_diagonal(m, 0.0)),
    "La diagonale est ôtée après le softmax : les autres images doivent se partager toute la probabilité.":
        partial(_wrong, kept=lambda m: m, end=_masked_late),
    "La KL est à l'envers : ce sont les voisins du teacher qui la pondèrent.":
        partial(_wrong, end=lambda p, q: _kl(q, p)),
    "C'est l'entropie croisée : il manque l'entropie des voisins du teacher. Le gradient, lui, est le bon.":
        partial(_wrong, end=lambda p, q: -(p.exp() * q).sum(-1).mean()),
    "Le premier argument de F.kl_div est un logarithme : log_softmax du student, non softmax.":
        partial(_wrong, end=lambda p, q: (p.exp() * (p - q.exp())).sum(-1).mean()),
    "La divergence est une somme sur le lot : il en faut la moyenne.":
        partial(_wrong, end=lambda p, q: _kl(p, q) * len(p)),
    'La somme est divisée aussi par le nombre de voisins : reduction="mean" au lieu de "batchmean".':
        partial(_wrong, end=lambda p, q: _kl(p, q) / p.shape[1]),
    "La somme est divisée par B² : une divergence par image, donc par B.":
        partial(_wrong, end=lambda p, q: _kl(p, q) / len(p)),
    "C'est l'écart quadratique des deux distributions : on demande leur divergence.":
        partial(_wrong, end=lambda p, q: F.mse_loss(q.exp(), p.exp())),
    "temperature n'est pas prise en compte.": partial(_wrong, soften=lambda r, T, who: r),
    "Les cosinus sont multipliés par temperature : il faut les diviser.":
        partial(_wrong, soften=lambda r, T, who: r * T),
    "Le teacher n'est pas adouci : divisez ses cosinus par temperature, eux aussi.":
        partial(_wrong, soften=lambda r, T, who: r if who == "teacher" else r / T),
    "Le student n'est pas adouci : divisez ses cosinus par temperature, eux aussi.":
        partial(_wrong, soften=lambda r, T, who: r if who == "student" else r / T),
    "Le facteur T² est de trop : l'énoncé n'en met pas.":
        lambda s, t, *, temperature: temperature**2 * neighbours(s, t, temperature=temperature),
    "Ce sont des produits scalaires : il faut des cosinus, chaque ligne divisée par sa norme.":
        partial(_wrong, relations=lambda f: f @ f.T),
    "Les colonnes sont normalisées : c'est chaque image, donc chaque ligne, qui doit avoir une norme de 1.":
        partial(_wrong, relations=lambda f: F.normalize(f, dim=0) @ F.normalize(f, dim=0).T),
    "Ce sont des distances : plus une image est loin, plus elle compterait. On demande des cosinus.":
        partial(_wrong, relations=lambda f: (f[:, None] - f[None]).norm(dim=-1)),
    "Ce sont des distances, au signe près : on demande des cosinus.":
        partial(_wrong, relations=lambda f: -(f[:, None] - f[None]).norm(dim=-1)),
    "Le softmax prend toute la matrice : chaque image, donc chaque ligne, a sa distribution.":
        partial(_wrong, kept=lambda m: _others(m).reshape(1, -1)),
    "À température basse, une probabilité s'annule et son logarithme vaut −inf. Restez en logarithmes.":
        partial(_wrong, end=_through_probabilities),
    "À température basse, 1e-8 ajouté dans le logarithme remplace la probabilité. Restez en logarithmes, sans rien "
    "ajouter.": partial(_wrong, end=_shifted_logarithm),
    "−inf sur la diagonale des deux côtés, puis −inf − (−inf) : c'est NaN. Ôtez la diagonale, ou ces termes.":
        partial(_wrong, kept=lambda m: _on_diagonal(m, float("-inf"))),
}  # fmt: skip
"""Indice → la réponse fausse qui le mérite, de même signature que ``neighbours``."""

# --- La mémoire


def memory(probabilities: Tensor, indices: Tensor, *, count: int, momentum: float) -> Tensor:
    """Pour chaque image de chaque lot, la moyenne glissante de ses prédictions passées, sans biais de départ."""
    return _targets(probabilities, indices, count=count, momentum=momentum)


def _targets(
    probabilities, indices, *, count, momentum,
    read=lambda m, n, mu, step: m / (1 - mu**n)[:, None],
    write=lambda m, p, mu, n: mu * m + (1 - mu) * p,
    start=0.0, unseen=None, late=False, forget=False,
):  # fmt: skip
    """La bonne réponse dont on remplace un morceau : ce qu'on lit, ce qu'on écrit, le départ, l'ordre des deux."""
    classes = probabilities.shape[-1]
    kept = torch.full((count, classes), start, dtype=probabilities.dtype)
    visits = torch.zeros(count, dtype=torch.long)
    targets = []
    for step, (p, i) in enumerate(zip(probabilities, indices, strict=True)):
        before, seen = kept[i], visits[i]
        if forget:  # toutes les images oublient, celles du lot seules apprennent
            kept = kept * momentum
        kept[i] = kept[i] + (1 - momentum) * p if forget else write(before, p, momentum, seen[:, None])
        visits[i] += 1
        if late:
            before, seen = kept[i], visits[i]
        first = torch.full_like(p, 1 / classes) if unseen is None else unseen(p)
        past = read(before, seen.to(p), momentum, step)
        targets.append(torch.where((seen == 0)[:, None], first, past))
    return torch.stack(targets)


def _raw(m, n, mu, step):
    return m


def _one_hot(values):
    return F.one_hot(values.argmax(-1), values.shape[-1]).to(values)


def _by_place(probabilities, indices, *, count, momentum):
    places = torch.arange(indices.shape[1]).expand_as(indices)
    return _targets(probabilities, places, count=indices.shape[1], momentum=momentum)


def _common(probabilities, indices, **options):
    mean = probabilities.mean(1, keepdim=True).expand_as(probabilities)
    return _by_place(mean, indices, **options)


MEMORY_MISTAKES: dict[str, Callable[..., Tensor]] = {
    "La cible se lit avant que la prédiction du lot n'entre dans la mémoire : sinon l'image est son propre teacher.":
        partial(_targets, late=True),
    "Il manque la correction : au début, la mémoire est presque vide, et sa somme n'est pas 1.":
        partial(_targets, read=_raw),
    "La correction compte les lots : elle doit compter les visites de l'image.":
        partial(_targets, read=lambda m, n, mu, step: m / (1 - mu ** max(step, 1))),
    "La correction compte une visite de trop.":
        partial(_targets, read=lambda m, n, mu, step: m / (1 - mu ** (n + 1))[:, None]),
    "momentum est la part du passé, 1 - momentum celle de la prédiction : les deux sont échangés.":
        lambda p, i, *, count, momentum: _targets(p, i, count=count, momentum=1 - momentum),
    "La mémoire suit la place dans le lot : c'est indices qui dit de quelle image il s'agit.": _by_place,
    "La mémoire est commune à toutes les images : chacune a la sienne.": _common,
    "Une image jamais vue n'a pas de passé : sa cible est uniforme, non nulle.":
        partial(_targets, unseen=torch.zeros_like),
    "Une image jamais vue n'a pas de passé : sa cible est uniforme, non sa prédiction du moment.":
        partial(_targets, unseen=lambda p: p),
    "La cible d'une image jamais vue est NaN : 0 divisé par 1 - momentum⁰. Elle est uniforme.":
        partial(_targets, unseen=lambda p: torch.full_like(p, float("nan"))),
    "La mémoire part de l'uniforme : elle part de zéro, et c'est la correction qui y remédie.":
        lambda p, i, **options: _targets(p, i, read=_raw, start=1 / p.shape[-1], **options),
    "La mémoire part de la première prédiction, qui garde alors trop de poids : elle part de zéro.":
        partial(_targets, read=_raw, write=lambda m, p, mu, n: torch.where(n == 0, p, mu * m + (1 - mu) * p)),
    "Seule la dernière prédiction est gardée : momentum dit ce qui reste des précédentes.":
        partial(_targets, read=_raw, write=lambda m, p, mu, n: p),
    "C'est la moyenne de toutes les prédictions passées : les plus anciennes doivent s'effacer.":
        partial(_targets, read=_raw, write=lambda m, p, mu, n: m + (p - m) / (n + 1)),
    "La cible est la réponse seule (argmax) : c'est la distribution entière que l'on garde.":
        partial(_targets, read=lambda m, n, mu, step: _one_hot(m)),
    "La correction est gardée dans la mémoire : elle ne sert qu'à lire, et s'y cumulerait.":
        partial(_targets, read=_raw, write=lambda m, p, mu, n: (mu * m + (1 - mu) * p) / (1 - mu ** (n + 1))),
    "À chaque lot, toutes les images oublient : seules celles du lot changent.": partial(_targets, forget=True),
}  # fmt: skip
"""Indice → la réponse fausse qui le mérite, de même signature que ``memory``."""
