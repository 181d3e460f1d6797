"""Le retour immédiat des exercices : ``check`` compare une réponse, et nomme l'erreur classique qu'elle reconnaît."""

from collections.abc import Callable

import torch
from torch import Tensor

from kdcourse._common import LossTerms
from kdcourse.exercises import logits, principles, tensor_train
from kdcourse.exercises.exercise import Exercise

EXERCISES = principles.EXERCISES | logits.EXERCISES | tensor_train.EXERCISES


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
        if not torch.allclose(result.detach().double().cpu(), expected.double(), rtol=1e-4, atol=1e-6, equal_nan=True):
            return False
    return True
