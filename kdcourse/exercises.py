"""Le retour immédiat des exercices : ``check`` compare une réponse, et nomme l'erreur classique qu'elle reconnaît."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.logits import kd_loss


@dataclass(frozen=True)
class Exercise:
    """Un exercice : des entrées fixes, la bonne réponse, et les réponses fausses que l'on sait reconnaître."""

    inputs: tuple
    reference: Callable[..., Tensor]
    mistakes: dict[str, Callable[..., Tensor]]
    """Indice à donner → la réponse fausse qui le mérite."""


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


EXERCISES = {
    "10.1 a": Exercise(
        inputs=(_TEACHER, 4.0),
        reference=lambda z, T: F.softmax(z / T, dim=-1),
        mistakes={
            "La température n'apparaît pas : à T = 1 comme à T = 20, vous rendez la même chose.": (
                lambda z, T: F.softmax(z, dim=-1)
            ),
            "Vous multipliez par T : la prédiction se durcit au lieu de s'adoucir.": (
                lambda z, T: F.softmax(z * T, dim=-1)
            ),
            "Vous divisez après le softmax : la somme ne fait plus 1. Où la température doit-elle agir ?": (
                lambda z, T: F.softmax(z, dim=-1) / T
            ),
            "La somme fait 1 le long du lot, non le long des classes : regardez dim.": (
                lambda z, T: F.softmax(z / T, dim=0)
            ),
            "Ce sont des logarithmes : on attend les probabilités.": lambda z, T: F.log_softmax(z / T, dim=-1),
        },
    ),
    "10.1 b": Exercise(
        inputs=(_STUDENT, _TEACHER, _LABELS, 4.0, 0.7),
        reference=_mix,
        mistakes={
            "Les deux poids sont échangés : dans ce cours, alpha pèse la distillation.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, 1 - a)
            ),
            "Il manque le facteur T² de la distillation.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s, t, T) / T**2)
            ),
            "La température touche aussi l'entropie croisée : elle se calcule à T = 1.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, hard=F.cross_entropy(s / T, y))
            ),
            "L'entropie croisée compare le teacher aux étiquettes ; c'est le student qui apprend.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, hard=F.cross_entropy(t, y))
            ),
            "L'entropie croisée compare le student aux choix du teacher ; elle doit le comparer aux étiquettes.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, hard=F.cross_entropy(s, t.argmax(-1)))
            ),
            'La KL est divisée par le nombre de classes aussi : reduction="mean" au lieu de "batchmean".': (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s, t, T) / s.shape[-1])
            ),
            "La KL est une somme sur le lot : il en faut la moyenne par exemple.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s, t, T) * len(s))
            ),
            "La KL est à l'envers : c'est le teacher qui la pondère, KL(teacher ‖ student).": (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(t, s, T))
            ),
        },
    ),
}


def check(name: str, answer: Callable) -> bool:
    """Essaie une réponse sur des entrées fixes, et dit en une ligne si elle est juste, ou l'erreur reconnue.

    Ne lève jamais à cause de la réponse : une ébauche qui rend ``...`` ou ``None`` affiche « à compléter ».

    Args:
        name: nom de l'exercice, celui de l'énoncé : ``"10.1 a"``.
        answer: la fonction à vérifier.

    Returns:
        Vrai si la réponse est juste.

    Raises:
        ValueError: exercice inconnu ; le message donne ceux qui existent.
    """
    if name not in EXERCISES:
        raise ValueError(f"name : {name!r} reçu, un de ceux-ci attendu : {', '.join(map(repr, EXERCISES))}.")
    right, message = _verdict(EXERCISES[name], answer)
    print(f"Exercice {name} : {message}")
    return right


def _verdict(exercise: Exercise, answer: Callable) -> tuple[bool, str]:
    if not callable(answer):
        return False, f"une fonction est attendue, {type(answer).__name__} reçu."
    # Des copies : une réponse qui modifie ses entrées ne dérange pas la suite.
    inputs = [value.clone() if isinstance(value, Tensor) else value for value in exercise.inputs]
    try:
        result = answer(*inputs)
    except Exception as error:  # la réponse est à l'élève : rien de ce qu'elle lève n'arrête le notebook
        return False, f"la fonction s'arrête sur {type(error).__name__} : {error}"
    if result is None or result is ...:
        return False, "à compléter."
    if not isinstance(result, Tensor):
        return False, f"un tenseur est attendu, {type(result).__name__} reçu."
    expected = exercise.reference(*exercise.inputs)
    if result.shape != expected.shape:
        got, wanted = tuple(result.shape), tuple(expected.shape)
        return False, f"forme {got} reçue, {wanted} attendue."
    if _same(result, expected):
        return True, "juste."
    for hint, mistake in exercise.mistakes.items():
        if _same(result, mistake(*exercise.inputs)):
            return False, f"pas encore. {hint}"
    if not torch.isfinite(result).all():
        return False, "le résultat contient NaN ou infini."
    return False, "pas encore, et ce n'est pas une erreur connue. Relisez la formule terme à terme."


def _same(result: Tensor, expected: Tensor) -> bool:
    if result.shape != expected.shape:
        return False
    return torch.allclose(result.detach().double().cpu(), expected.detach().double(), rtol=1e-4, atol=1e-6)
