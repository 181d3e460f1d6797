"""Le retour immédiat des trois exercices notés, depuis des nombres rangés d'avance.

Ces nombres sont ce que rendent, sur quelques entrées fixes, la bonne réponse et les erreurs classiques : le code de la
bonne réponse n'est pas dans le paquet de l'étudiant. La note, elle, vient d'autres entrées, et ne croit rien d'ici.
"""

import json
import math
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from kdcourse.exercises.exercise import TODO, reason, unfinished
from kdcourse.exercises.graded_challenge import challenge_verdict
from kdcourse.losses.checks import shape_of
from kdcourse.losses.numerics import LossTerms

ANSWERS = {"10.1": ("multi_teacher_loss",), "10.2": ("size_study",), "10.3": ("compress", "predict")}
_KEYS = ("width", "mean_alone", "mean_distilled", "gain", "ci_low", "ci_high")
_ROUNDING = 6e-3  # points : une réponse arrondie à deux décimales est juste


@cache
def _numbers() -> dict:
    return json.loads(files("kdcourse.exercises").joinpath("graded_numbers.json").read_text(encoding="utf-8"))


def verdict(name: str, *answers: Callable) -> tuple[bool, str]:
    """Vrai si la réponse est juste, et ce que l'on en dit."""
    if any(answer is ... or answer is None for answer in answers):
        return TODO
    for expected, answer in zip(ANSWERS[name], answers, strict=True):
        if not callable(answer):
            return False, f"{expected} : une fonction est attendue, {type(answer).__name__} reçu."
    try:
        return VERDICTS[name](*answers)
    except (Exception, SystemExit) as error:  # rien de ce que fait une réponse n'arrête le notebook
        return False, f"la réponse s'arrête sur {reason(error)}"


def _multi_teacher(answer: Callable) -> tuple[bool, str]:
    stored, results = _numbers()["10.1"], []
    for case in stored["cases"]:
        student = torch.tensor(case["student"]).requires_grad_()
        teachers = [torch.tensor(logits).requires_grad_() for logits in case["teachers"]]
        given = [teacher.clone() for teacher in teachers]  # des copies, que la réponse peut modifier
        try:
            result = answer(student.clone(), given, torch.tensor(case["labels"]), **case["options"])
        except NotImplementedError:
            return TODO
        except (Exception, SystemExit) as error:
            return False, f"la fonction s'arrête sur {reason(error)} (cas « {case['title']} »)"
        if problem := unfinished(answer, result):
            return problem
        if problem := _not_a_loss(result):
            return False, problem
        gradients = [None] * (1 + len(teachers))
        if result.requires_grad:
            gradients = torch.autograd.grad(result, [student, *teachers], allow_unused=True)
        results.append((result.detach().double().item(), gradients[0], gradients[1:]))
    return _loss_verdict(stored, results)


def _not_a_loss(result) -> str | None:
    """Ce que le résultat a d'autre qu'un scalaire flottant, en une phrase."""
    if not isinstance(result, Tensor):
        advice = " ; rendez son .total" if isinstance(result, LossTerms) else ""
        return f"un tenseur est attendu, {type(result).__name__} reçu{advice}."
    if result.dtype not in (torch.float32, torch.float64):
        return f"dtype {result.dtype} reçu, torch.float32 attendu."
    if result.shape != ():
        return f"forme {shape_of(result)} reçue, () attendue : un scalaire, la moyenne sur le lot."
    return None


def _loss_verdict(stored: dict, results: list) -> tuple[bool, str]:
    values = [value for value, _, _ in results]
    right = [_same(value, case["value"]) for value, case in zip(values, stored["cases"], strict=True)]
    if all(right):
        for (_, gradient, others), case in zip(results, stored["cases"], strict=True):
            if gradient is None:
                return (
                    False,
                    "la valeur est juste, mais aucun gradient n'atteint student_logits : detach ou item de trop ?",
                )
            if any(other is not None and other.any() for other in others):
                return False, "la valeur est juste, mais un gradient traverse les teachers : détachez-les."
            if not torch.allclose(gradient, torch.tensor(case["gradient"]), rtol=1e-3, atol=1e-5):
                return False, f"la valeur est juste, mais pas le gradient pour le student (cas « {case['title']} »)."
        return True, "juste."
    finite = [index for index, value in enumerate(values) if math.isfinite(value)]
    if hint := _recognised(values, finite, stored["mistakes"]):
        return False, f"pas encore. {hint}"
    titles = [f"« {case['title']} »" for case, ok in zip(stored["cases"], right, strict=True) if not ok]
    ending = f"fausse sur {', '.join(titles)}" if any(right) else "fausse sur tous les cas"
    extra = "" if len(finite) == len(values) else " Le résultat contient NaN ou infini."
    return False, f"pas encore, et ce n'est pas une erreur connue : la valeur est {ending}.{extra}"


def _recognised(values: list[float], finite: list[int], mistakes: dict[str, list]) -> str | None:
    """L'indice de l'erreur qui rend ces valeurs, NaN compris ; sinon, de celle qui les rend là où tout est fini."""
    for hint, wrong in mistakes.items():
        if all(_same(v, w) if w is not None else not math.isfinite(v) for v, w in zip(values, wrong, strict=True)):
            return hint
    for hint, wrong in mistakes.items():  # une erreur peut s'ajouter à un NaN
        if len(finite) > 1 and all(_same(values[i], wrong[i]) for i in finite if wrong[i] is not None):
            return hint
    return None


def _same(value: float, expected: float) -> bool:
    return math.isclose(value, expected, rel_tol=2e-4, abs_tol=2e-5)


def _size_study(answer: Callable) -> tuple[bool, str]:
    stored, results, calls = _numbers()["10.2"], [], []
    for case in stored["cases"]:
        calls.append(Counter())
        try:
            rows = answer(_train_one(case, calls[-1]), list(case["widths"]), list(case["seeds"]))
        except NotImplementedError:
            return TODO
        except (Exception, SystemExit) as error:
            return False, f"la fonction s'arrête sur {reason(error)}"
        if problem := unfinished(answer, rows):
            return problem
        if isinstance(rows, Mapping):  # un dictionnaire de lignes, dans l'ordre des largeurs, se lit aussi
            rows = list(rows.values())
        if problem := _not_a_table(rows, case["widths"]):
            return False, problem
        results.append(np.array([[float(row[key]) for key in _KEYS] for row in rows]))
    if _same_tables(results, [case["rows"] for case in stored["cases"]]):
        problem = next(filter(None, map(_call_problem, stored["cases"], calls)), None)
        return (False, f"le tableau est juste, mais {problem}") if problem else (True, "juste.")
    for hint, wrong in stored["mistakes"].items():
        if _same_tables(results, wrong):
            return False, f"pas encore. {hint}"
    if not all(np.isfinite(table).all() for table in results):
        return False, "pas encore : le tableau contient NaN ou infini."
    gaps = [np.abs(table - case["rows"]) for table, case in zip(results, stored["cases"], strict=True)]
    wrong = [key for i, key in enumerate(_KEYS) if any(gap[:, i].max() > _ROUNDING for gap in gaps)]
    return False, f"pas encore, et ce n'est pas une erreur connue. Colonnes fausses : {', '.join(wrong)}."


def _train_one(case: dict, calls: Counter) -> Callable:
    """Le ``train_one`` de l'essai : il lit ses erreurs, et note ce qu'on lui demande."""

    def train_one(width, distilled, seed):
        for name, value, known in (("width", width, case["widths"]), ("seed", seed, case["seeds"])):
            if value not in known:
                raise ValueError(f"train_one, {name} : {value!r} reçu, un de {known} attendu.")
        if distilled not in (True, False):
            raise ValueError(f"train_one, distilled : {distilled!r} reçu, True ou False attendu.")
        calls[int(width), bool(distilled), int(seed)] += 1
        table = case["distilled" if distilled else "alone"]
        return table[case["widths"].index(width)][case["seeds"].index(seed)]

    return train_one


def _not_a_table(rows, widths: list[int]) -> str | None:
    """Ce que le résultat a d'autre qu'un tableau lisible, en une phrase ; une clé de plus ne gêne pas."""
    if not isinstance(rows, list | tuple):
        return f"une liste de dictionnaires est attendue, {type(rows).__name__} reçu."
    for row in rows:
        if not isinstance(row, Mapping):
            return f"chaque ligne est un dictionnaire, {type(row).__name__} reçu."
    if len(rows) != len(widths):
        return f"{len(rows)} lignes reçues, {len(widths)} attendues, une par largeur."
    for row in rows:
        if missing := [key for key in _KEYS if key not in row]:
            return f"clé {missing[0]!r} absente ; attendues : {', '.join(_KEYS)}."
        if wrong := [key for key in _KEYS if not _is_number(row[key])]:
            return f"{wrong[0]} : {type(row[wrong[0]]).__name__} reçu, un nombre attendu."
    return None


def _is_number(value) -> bool:
    if isinstance(value, Tensor) and value.numel() == 1:
        value = value.item()
    return isinstance(value, Real) and not isinstance(value, bool)


def _same_tables(tables: list[np.ndarray], expected: list) -> bool:
    return all(np.allclose(table, rows, rtol=0, atol=_ROUNDING) for table, rows in zip(tables, expected, strict=True))


def _call_problem(case: dict, calls: Counter) -> str | None:
    wanted = {(w, d, s) for w in case["widths"] for d in (True, False) for s in case["seeds"]}
    repeated = sum(calls[key] > 1 for key in wanted)
    if missing := len(wanted - set(calls)):
        return f"des {len(wanted)} students, {missing} manque(nt) : un par largeur, par méthode et par graine."
    if repeated:
        return f"des {len(wanted)} students, {repeated} entraîné(s) plusieurs fois : gardez le résultat."
    return None


VERDICTS: dict[str, Callable[..., tuple[bool, str]]] = {
    "10.1": _multi_teacher,
    "10.2": _size_study,
    "10.3": challenge_verdict,
}
"""Exercice → ce qui juge ses réponses."""
