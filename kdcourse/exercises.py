"""Le retour immédiat des exercices : ``check`` compare une réponse, et nomme l'erreur classique qu'elle reconnaît."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse._common import LossTerms
from kdcourse.logits import kd_loss


@dataclass(frozen=True)
class Exercise:
    """Un exercice : des entrées fixes, la bonne réponse, et les réponses fausses que l'on sait reconnaître.

    Plusieurs jeux d'entrées : un réglage écrit en dur dans la réponse n'en passe qu'un.
    """

    cases: tuple[tuple, ...]
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


def _kl_without_log(s, t, T):
    p = F.softmax(t / T, -1)
    return T**2 * (p * (p.log() - F.softmax(s / T, -1))).sum() / len(s)


EXERCISES = {
    "10.1 a": Exercise(
        cases=((_TEACHER, 3.0), (_TEACHER, 7.0)),
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
            "La somme fait 1 sur tout le lot : chaque ligne doit avoir la sienne.": (
                lambda z, T: F.softmax((z / T).flatten(), dim=0).view_as(z)
            ),
            "Ce sont des logarithmes : on attend les probabilités.": lambda z, T: F.log_softmax(z / T, dim=-1),
        },
    ),
    "10.1 b": Exercise(
        # B = 6, C = 4, T = 3 : ni T, ni T², ni B, ni C ne se confondent.
        cases=((_STUDENT, _TEACHER, _LABELS, 3.0, 0.7), (_STUDENT, _TEACHER, _LABELS, 5.0, 0.4)),
        reference=_mix,
        mistakes={
            "Les deux poids sont échangés : dans ce cours, alpha pondère la distillation.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, 1 - a)
            ),
            "Il manque le facteur T² de la distillation.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s, t, T) / T**2)
            ),
            "Le facteur est T, il devrait être T² : la division par T compte dans la KL et dans son gradient.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s, t, T) / T)
            ),
            "Il manque T², et les deux poids sont échangés : alpha pondère la distillation.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, 1 - a, kd=kd_loss(s, t, T) / T**2)
            ),
            "Le facteur T² multiplie aussi les étiquettes : il n'appartient qu'à la distillation.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, hard=T**2 * F.cross_entropy(s, y))
            ),
            "Il manque le poids 1 - alpha devant les étiquettes.": (
                lambda s, t, y, T, a: a * kd_loss(s, t, T) + F.cross_entropy(s, y)
            ),
            "La prédiction du teacher n'est pas adoucie : divisez aussi ses logits par T.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s, t * T, T))
            ),
            "La prédiction du student n'est pas adoucie : divisez aussi ses logits par T.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=kd_loss(s * T, t, T))
            ),
            "kl_div attend le logarithme des probabilités du student : log_softmax, non softmax.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=_kl_without_log(s, t, T))
            ),
            "C'est l'entropie croisée avec le teacher : il manque son entropie pour faire une KL.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, kd=T**2 * F.cross_entropy(s / T, F.softmax(t / T, -1)))
            ),
            "L'entropie croisée reçoit déjà des probabilités : elle applique elle-même le softmax.": (
                lambda s, t, y, T, a: _mix(s, t, y, T, a, hard=F.cross_entropy(F.softmax(s, -1), y))
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
    results, gradients = [], []
    for case in exercise.cases:
        inputs = _inputs_with_gradient(case)
        try:
            result = answer(*inputs)
        except NotImplementedError:
            return False, "à compléter."
        except Exception as error:  # la réponse est à l'élève : rien de ce qu'elle lève n'arrête le notebook
            return False, f"la fonction s'arrête sur {type(error).__name__} : {error}"
        if result is None or result is ...:
            return False, "à compléter."
        if not isinstance(result, Tensor) or not result.is_floating_point():
            advice = " ; rendez son .total" if isinstance(result, LossTerms) else ""
            received = result.dtype if isinstance(result, Tensor) else type(result).__name__
            return False, f"un tenseur flottant est attendu, {received} reçu{advice}."
        expected = exercise.reference(*case)
        if result.shape != expected.shape:
            return False, f"forme {tuple(result.shape)} reçue, {tuple(expected.shape)} attendue."
        results.append(result)
        gradients.append(_gradient(result, inputs[0]))
    if _same(results, exercise.reference, exercise):
        if results[0].dim() or all(
            _right_gradient(*pair, exercise.reference) for pair in zip(gradients, exercise.cases, strict=True)
        ):
            return True, "juste."
        return False, "la valeur est juste, mais pas son gradient pour le student : detach, item ou no_grad de trop ?"
    for hint, mistake in exercise.mistakes.items():
        if _same(results, mistake, exercise):
            return False, f"pas encore. {hint}"
    if not all(torch.isfinite(result).all() for result in results):
        return False, "le résultat contient NaN ou infini."
    return False, "pas encore, et ce n'est pas une erreur connue. Relisez la formule terme à terme."


def _inputs_with_gradient(case: tuple) -> list:
    # Des copies : une réponse peut modifier ses entrées. La première seule, le student, demande un gradient.
    inputs = [value.clone() if isinstance(value, Tensor) else value for value in case]
    inputs[0] = inputs[0].requires_grad_().clone()
    return inputs


def _gradient(result: Tensor, entry: Tensor) -> Tensor | None:
    """Gradient d'une perte pour la première entrée ; rien si elle n'y entre pas, ou si ce n'est pas une perte."""
    if result.dim() or not result.requires_grad:
        return None
    return torch.autograd.grad(result, entry, allow_unused=True)[0]


def _right_gradient(gradient: Tensor | None, case: tuple, reference: Callable[..., Tensor]) -> bool:
    if gradient is None:
        return False
    inputs = _inputs_with_gradient(case)
    expected = _gradient(reference(*inputs), inputs[0])
    return torch.allclose(gradient.double().cpu(), expected.double(), rtol=1e-3, atol=1e-6)


def _same(results: list[Tensor], formula: Callable[..., Tensor], exercise: Exercise) -> bool:
    for result, case in zip(results, exercise.cases, strict=True):
        expected = formula(*case)
        if result.shape != expected.shape:
            return False
        if not torch.allclose(result.detach().double().cpu(), expected.double(), rtol=1e-4, atol=1e-6):
            return False
    return True
