"""Le retour immédiat des exercices : ``check`` compare une réponse, et nomme l'erreur classique qu'elle reconnaît."""

from collections.abc import Callable
from itertools import repeat

import torch
from torch import Tensor

from kdcourse.exercises import (
    features,
    graded,
    logits,
    method_ranking,
    principles,
    relations,
    self_distillation,
    tensor_train,
)
from kdcourse.exercises.exercise import ANY, TODO, Exercise, Prediction, is_stub, reason, unfinished
from kdcourse.formats import french, short, typeset
from kdcourse.losses.numerics import LossTerms
from kdcourse.measures.intervals import mean_interval, points

_CHAPTERS = (principles, logits, features, relations, self_distillation, tensor_train, method_ranking)
EXERCISES = {name: exercise for chapter in _CHAPTERS for name, exercise in chapter.EXERCISES.items()}
PREDICTIONS = {name: one for chapter in _CHAPTERS for name, one in getattr(chapter, "PREDICTIONS", {}).items()}
READINGS = ("gain", "recul", "rien d'établi")
_COARSE = 50  # fois la tolérance : assez pour reconnaître une erreur sous un calcul grossier, trop peu pour se tromper
_PARTS = ("prediction", "experiment", "reading")


def check(name: str, *answers: Callable | str) -> bool:
    """Essaie une réponse sur des entrées fixes, et dit en une ligne si elle est juste, ou l'erreur reconnue.

    Ne lève jamais à cause de la réponse : une ébauche, dont le corps est ``...`` ou ``pass``, affiche « à compléter ».

    Args:
        name: nom de l'exercice, celui de l'énoncé : ``"10.1 a"`` dans un chapitre, ``"size_study"`` s'il est noté.
        answers: la fonction à vérifier ; les deux du défi, ``check("compression_challenge", compress, predict)`` ; là
            où l'on prévoit, la prévision, l'expérience (une fonction sans argument qui rend les gains, un par graine)
            et la lecture : ``check("10.1 c", "gain", experiment, "rien d'établi")``.

    Returns:
        Vrai si la réponse est juste. La note d'un exercice noté ne dépend pas de cette vérification.

    Raises:
        ValueError: exercice inconnu ; le message donne ceux qui existent.
        TypeError: pas le nombre de fonctions attendu.
    """
    known = [*sorted([*EXERCISES, *PREDICTIONS]), *graded.VERDICTS]
    if name not in known:
        raise ValueError(f"name : {name!r} reçu, un de ceux-ci attendu : {', '.join(map(repr, known))}.")
    expected = _PARTS if name in PREDICTIONS else graded.ANSWERS.get(name, ("answer",))
    if len(answers) != len(expected):
        raise TypeError(f"answers : {len(answers)} réponse(s) reçue(s), {len(expected)} attendue(s) pour {name!r}.")
    if name in graded.VERDICTS:
        right, message = graded.verdict(name, *answers)
    elif name in PREDICTIONS:
        right, message = _read(PREDICTIONS[name], *answers)
    else:
        right, message = _verdict(EXERCISES[name], *answers)
    print(typeset(f"Exercice {name} : {message}"))
    return right


def _read(exercise: Prediction, prediction: str, experiment: Callable, reading: str) -> tuple[bool, str]:
    """La prévision d'abord, puis la mesure, puis sa lecture : chacune attend celle d'avant."""
    choices = ", ".join(f"« {one} »" for one in READINGS)
    prediction, reading = _word(prediction), _word(reading)
    for part, value in (("prévision", prediction), ("lecture", reading)):
        if value is not None and not (isinstance(value, str) and value in READINGS):
            return False, f"{part} : {value!r} reçu, un de ceux-ci attendu : {choices}."
    if experiment is ... or experiment is None:
        return TODO
    if not callable(experiment):
        return False, f"experiment : une fonction est attendue, sans l'appeler ; {type(experiment).__name__} reçu."
    if prediction is None:
        return TODO if is_stub(experiment) else (False, f"avant de mesurer, écrivez votre prévision : {choices}.")
    try:
        gains = experiment()
    except NotImplementedError:
        return TODO
    except (Exception, SystemExit) as error:
        return False, f"l'expérience s'arrête sur {reason(error)}"
    if problem := unfinished(experiment, gains) or _not_gains(gains):
        return problem
    gain = mean_interval(gains)
    known = {None: exercise.expected} | exercise.mistakes
    if abs(exercise.expected) > exercise.tolerance:  # plus près de 0, un gain et son opposé se confondent
        known[
            "Le signe est inversé : le gain est l'erreur du student seul moins celle du distillé."
        ] = -exercise.expected
    hint = min(known, key=lambda name: abs(known[name] - gain.mean))
    if abs(known[hint] - gain.mean) > exercise.tolerance:
        return False, f"gain moyen {french(gain.mean)}, ce n'est pas celui attendu : un autre réglage a-t-il changé ?"
    if hint:
        return False, f"pas encore. {hint}"
    if reading is None:
        return False, f"gain mesuré : {points(gain)}. Lisez cet intervalle, et complétez reading : {choices}."
    verdict = READINGS[2] if not gain.excludes_zero else READINGS[gain.mean < 0]
    if reading != verdict:
        advice = "L'intervalle contient-il 0 ? S'il le contient, rien n'est établi, quelle que soit la moyenne."
        if READINGS[2] not in (reading, verdict):
            advice = "De quel côté de 0 est l'intervalle ? Un gain est une erreur qui baisse."
        return False, f"pas encore : {points(gain)}. {advice}"
    bet = "comme prévu" if prediction == verdict else f"vous aviez prévu « {prediction} »"
    return True, f"juste : {points(gain)}, donc « {verdict} » ; {bet}. {exercise.lesson}"


def _word(value: object) -> object:
    """Une réponse sans ses majuscules, ses espaces, ses guillemets, ni son apostrophe courbe ; ``...`` devient None."""
    if isinstance(value, str):
        word = value.strip(" .«»\N{NO-BREAK SPACE}").lower().replace("\N{RIGHT SINGLE QUOTATION MARK}", "'")
        return READINGS[1] if word == "perte" else word or None  # un gain négatif s'appelle aussi ainsi
    return None if value is ... else value


def _not_gains(gains: object) -> tuple[bool, str] | None:
    """Ce que le résultat d'une expérience a d'autre que des gains appariés ; rien si c'en sont."""
    if not isinstance(gains, Tensor) or gains.ndim != 1 or len(gains) < 10 or not gains.is_floating_point():
        received = f"{tuple(gains.shape)}, {gains.dtype}" if isinstance(gains, Tensor) else type(gains).__name__
        return False, f"l'expérience rend les gains appariés, un tenseur (n,), dix graines au moins ; {received} reçu."
    if not gains.isfinite().all():
        return False, "un des gains n'est pas un nombre fini."
    if not gains.any():
        return False, "tous les gains sont nuls : l'expérience compare-t-elle bien deux students différents ?"
    if (gains == gains[0]).all():
        return False, "tous les gains sont égaux : est-ce dix fois la même graine ?"
    return None


def _verdict(exercise: Exercise, answer: Callable) -> tuple[bool, str]:
    if answer is ... or answer is None:
        return TODO
    if not callable(answer):
        return False, f"une fonction est attendue, {type(answer).__name__} reçu."
    expected = _values(exercise, exercise.reference)
    results, gradients = [], []
    for case, right in zip(exercise.cases, expected, strict=True):
        inputs, leaf = _inputs(case, exercise.differentiable)
        try:
            result = answer(*inputs)
        except NotImplementedError:
            return TODO
        except (Exception, SystemExit) as error:  # rien de ce que lève l'élève n'arrête le notebook
            return False, f"la fonction s'arrête sur {reason(error)}"
        if problem := unfinished(answer, result):
            return problem
        if exercise.read is not None:
            result = exercise.read(result, *case)
            if isinstance(result, str):
                return False, result
        if isinstance(result, float):
            result = torch.tensor(result)
        if not isinstance(result, Tensor) or not result.is_floating_point():
            advice = " ; rendez son .total" if isinstance(result, LossTerms) else ""
            received = result.dtype if isinstance(result, Tensor) else type(result).__name__
            return False, f"un tenseur flottant est attendu, {received} reçu{advice}."
        if result.shape != right.shape:
            known = (hint for hint, wrong in exercise.mistakes.items() if wrong(*case).shape == result.shape)
            asked = f"forme {tuple(result.shape)} reçue, {tuple(right.shape)} attendue."
            return False, next((f"pas encore. {hint}" for hint in known), asked)
        try:
            results.append(result.detach().double().cpu().to_dense())
            gradients.append(None if leaf is None else _gradient(result, leaf))
        except Exception as error:
            if "inplace operation" in (why := reason(error)):
                why = "une opération sur place (*=, +=, fill_) y change ce dont le gradient a besoin."
            return False, f"la valeur ou le gradient du résultat ne se lisent pas : {why}"
    if all(map(_same, results, expected, repeat(exercise.tolerance))):
        if all(_right_gradient(*pair, exercise) for pair in zip(gradients, exercise.cases, strict=True)):
            return True, "juste."
        if any(gradient is not None and not gradient.isfinite().all() for gradient in gradients):
            return False, (
                "la valeur est juste, mais son gradient contient NaN : racine ou logarithme de 0, 0 fois l'infini ?"
            )
        return False, "la valeur est juste, mais pas son gradient pour le student : detach, item ou no_grad de trop ?"
    return False, f"pas encore{_why_not(results, expected, exercise)}"


def _values(exercise: Exercise, answer: Callable) -> list[Tensor]:
    """Ce que rend une réponse sur chaque jeu d'entrées, comme on le compare."""
    found = [answer(*case) for case in exercise.cases]
    if exercise.read is None:
        return found
    return [exercise.read(one, *case) for one, case in zip(found, exercise.cases, strict=True)]


def _why_not(results: list[Tensor], expected: list[Tensor], exercise: Exercise) -> str:
    """L'erreur reconnue, à l'arrondi près, puis à celui d'un calcul grossier ; sinon, ce qui se voit du résultat."""
    mistakes = exercise.mistakes.items()
    known = [(f". {hint}", _values(exercise, mistake)) for hint, mistake in mistakes]
    almost = ", mais presque : un epsilon, un arrondi, une recherche arrêtée trop tôt ?"
    for tolerance, candidates in ((1, known), (_COARSE, [(almost, expected), *known])):
        for message, values in candidates:
            if all(map(_same, results, values, repeat(tolerance * exercise.tolerance))):
                return message
    if not all(result.isfinite().all() for result in results):
        return ". Le résultat contient NaN ou infini."
    found, wanted = (torch.cat([value.flatten() for value in values]).unique() for values in (results, expected))
    if len(found) <= 2 < len(wanted):
        only = " ou ".join(short(float(f"{value:.3g}")) for value in found.tolist())
        return f" : vous rendez {only}, quelles que soient les entrées. Une borne, une comparaison à l'envers ?"
    if right := sum(map(_same, results, expected, repeat(exercise.tolerance))):
        where = f"essais justes, {right} sur {len(expected)}"
        return f", et ce n'est pas une erreur connue ; {where}. Un réglage écrit en dur, un cas extrême ?"
    return ", et ce n'est pas une erreur connue. Relisez l'énoncé terme à terme."


def _inputs(case: tuple, differentiable: bool) -> tuple[list, Tensor | None]:
    """Des copies, qu'une réponse peut modifier, et la feuille par rapport à laquelle dériver : la première entrée."""
    inputs = [value.clone() if isinstance(value, Tensor) else value for value in case]
    if not differentiable or not inputs[0].is_floating_point():
        return inputs, None
    leaf = inputs[0].requires_grad_()
    inputs[0] = leaf.clone()
    return inputs, leaf


def _gradient(result: Tensor, leaf: Tensor) -> Tensor | None:
    """Gradient d'une somme pondérée du résultat pour la première entrée ; rien si elle n'y entre pas."""
    if not result.requires_grad:
        return None
    weights = torch.linspace(1, 2, result.numel(), dtype=result.dtype, device=result.device).view_as(result)
    return torch.autograd.grad((weights * result).sum(), leaf, allow_unused=True)[0]


def _right_gradient(gradient: Tensor | None, case: tuple, exercise: Exercise) -> bool:
    inputs, leaf = _inputs(case, exercise.differentiable)
    if leaf is None:
        return True
    if gradient is None:
        return False
    expected = _gradient(exercise.reference(*inputs), leaf)
    return torch.allclose(gradient.double().cpu(), expected.double(), rtol=1e-3, atol=1e-6)


def _same(result: Tensor, expected: Tensor, tolerance: float) -> bool:
    if result.shape != expected.shape:
        return False
    free = expected == ANY
    expected = torch.where(free, result, expected.detach().double())
    return bool(result[free].isfinite().all()) and torch.allclose(
        result, expected, rtol=tolerance, atol=1e-6, equal_nan=True
    )
