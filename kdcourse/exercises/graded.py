"""Le retour immédiat des exercices notés, depuis des nombres rangés d'avance.

Ces nombres sont ce que rendent, sur quelques entrées fixes, la bonne réponse et les erreurs classiques : le code de la
bonne réponse n'est pas dans le paquet de l'étudiant. La note, elle, vient d'autres entrées, et ne croit rien d'ici.
"""

import json
from collections import Counter
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from numbers import Real

import numpy as np
import torch
from torch import Tensor

from kdcourse.exercises.exercise import TODO, is_stub, reason, unfinished
from kdcourse.exercises.graded_challenge import challenge_verdict
from kdcourse.losses.checks import shape_of
from kdcourse.losses.numerics import LossTerms

ANSWERS = {
    "multi_teacher": ("multi_teacher_loss",),
    "size_study": ("size_study",),
    "compression_challenge": ("compress", "predict"),
    "neighbours": ("neighbour_loss",),
    "memory": ("memory_targets",),
}
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


def _calls(name: str, answer: Callable, what: str, guide: str = "") -> tuple[bool, str]:
    """Une fonction jugée sur ce qu'elle rend ; ``what`` dit ce qu'est la forme, ``guide`` ce qu'elle détache."""
    stored, results = _numbers()[name], []
    for case in stored["cases"]:
        first, *others = map(torch.tensor, case["inputs"])
        leaves = [first.requires_grad_(), others[0].requires_grad_()] if guide else []
        given = [leaf.clone() for leaf in leaves] + [first, *others][len(leaves) :]  # la réponse peut les modifier
        if "listed" in case:
            given[1] = list(given[1])
        try:
            result = answer(*given, **case["options"])
        except NotImplementedError:
            return TODO
        except (Exception, SystemExit) as error:
            if is_stub(answer):  # un module sans forward
                return TODO
            return False, f"la fonction s'arrête sur {reason(error)} (cas « {case['title']} »)"
        if problem := unfinished(answer, result):
            return problem
        if problem := _not_like(result, torch.tensor(case["value"]), what):
            return False, problem
        gradients = [None] * len(leaves)
        if result.requires_grad:
            gradients = torch.autograd.grad(result, leaves, allow_unused=True)
        results.append((result.detach().double(), *gradients))
    return _calls_verdict(stored, results, guide)


def _not_like(result, expected: Tensor, what: str) -> str | None:
    """Ce que le résultat a d'autre qu'un tenseur flottant de la bonne forme, en une phrase."""
    if not isinstance(result, Tensor):
        advice = " ; rendez son .total" if isinstance(result, LossTerms) else ""
        return f"un tenseur est attendu, {type(result).__name__} reçu{advice}."
    if result.dtype not in (torch.float32, torch.float64):
        return f"dtype {result.dtype} reçu, torch.float32 attendu."
    if result.shape != expected.shape:
        return f"forme {shape_of(result)} reçue, {shape_of(expected)} attendue : {what}."
    return None


def _calls_verdict(stored: dict, results: list, guide: str) -> tuple[bool, str]:
    values = [value for value, *_ in results]
    right = [_same(value, case["value"]) for value, case in zip(values, stored["cases"], strict=True)]
    if all(right):
        for (_, *gradients), case in zip(results, stored["cases"] if guide else (), strict=bool(guide)):
            if gradients[0] is None:
                return (
                    False,
                    "la valeur est juste, mais aucun gradient n'atteint le student : detach ou item de trop ?",
                )
            if gradients[1] is not None and gradients[1].any():
                return False, f"la valeur est juste, mais un gradient traverse {guide}."
            if not torch.allclose(gradients[0], torch.tensor(case["gradient"]), rtol=1e-3, atol=1e-5):
                return False, f"la valeur est juste, mais pas le gradient pour le student (cas « {case['title']} »)."
        return True, "juste."
    if hint := _recognised(values, stored["mistakes"]):
        return False, f"pas encore. {hint}"
    titles = [f"« {case['title']} »" for case, ok in zip(stored["cases"], right, strict=True) if not ok]
    ending = f"fausse sur {', '.join(titles)}" if any(right) else "fausse sur tous les cas"
    extra = "" if all(value.isfinite().all() for value in values) else " Le résultat contient NaN ou infini."
    return False, f"pas encore, et ce n'est pas une erreur connue : la valeur est {ending}.{extra}"


def _recognised(values: list[Tensor], mistakes: dict[str, list]) -> str | None:
    """L'indice de l'erreur qui rend ces valeurs, NaN compris ; sinon, de celle qui les rend là où tout est fini."""
    for hint, wrong in mistakes.items():
        if all(map(_same, values, wrong)):
            return hint
    for hint, wrong in mistakes.items():  # une erreur peut s'ajouter à un NaN
        pairs = [pair for pair in zip(values, wrong, strict=True) if pair[0].isfinite().all()]
        pairs = [pair for pair in pairs if _tensor(pair[1]).isfinite().all()]
        if len(pairs) > 1 and all(_same(*pair) for pair in pairs):
            return hint
    return None


def _same(value: Tensor, stored: float | list | None) -> bool:
    """Vrai si les deux se valent, à la même place ; ce qui n'est pas fini vaut NaN."""
    value, expected = torch.where(value.isfinite(), value, torch.nan), _tensor(stored)
    return value.shape == expected.shape and torch.allclose(value, expected, rtol=2e-4, atol=2e-5, equal_nan=True)


def _tensor(stored: float | list | None) -> Tensor:
    """Un nombre rangé, ou un tableau ; rien s'y lit NaN."""
    if isinstance(stored, list):
        return torch.stack([_tensor(one) for one in stored])
    return torch.tensor(torch.nan if stored is None else stored, dtype=torch.float64)


def _size_study(answer: Callable) -> tuple[bool, str]:
    stored, results, calls = _numbers()["size_study"], [], []
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
    "multi_teacher": lambda answer: _calls(
        "multi_teacher", answer, "un scalaire, la moyenne sur le lot", "les teachers : détachez-les"
    ),
    "size_study": _size_study,
    "compression_challenge": challenge_verdict,
    "neighbours": lambda answer: _calls(
        "neighbours", answer, "un scalaire, la moyenne sur le lot", "le teacher : détachez-le"
    ),
    "memory": lambda answer: _calls("memory", answer, "une distribution par place et par lot"),
}
"""Exercice → ce qui juge ses réponses."""
