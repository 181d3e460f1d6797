"""Noter l'étude des largeurs : les erreurs des students restent ici ; la réponse les demande, et on compte."""

import math
from collections import Counter
from dataclasses import dataclass, field

import numpy as np

from kdgrading.answer import Answer, Mark, failure, trouble
from kdgrading.reference_size_study import KEYS, MISTAKES, reference
from kdgrading.warm import Limits

NAMES = ("size_study",)
_CRITERIA = {
    "ex2-moyennes": ("width", "mean_alone", "mean_distilled"),
    "ex2-gain": ("gain",),
    "ex2-intervalle": ("ci_low", "ci_high"),
}
_CALLS = "ex2-appels"
_LIMITS = Limits(wall=20.0, cpu=10)
_TOLERANCE = 6e-3  # points : une réponse arrondie à deux décimales est juste
_MOST_CALLS = 20  # par valeur attendue ; au-delà, on ne répond plus


@dataclass
class _Case:
    """Des tailles, des graines, et l'erreur de chaque student, que l'enfant n'a pas."""

    widths: list[int]
    seeds: list[int]
    alone: np.ndarray
    distilled: np.ndarray
    calls: Counter = field(default_factory=Counter)

    def message(self) -> dict:
        return {"widths": self.widths, "seeds": self.seeds}

    def answer_call(self, width, distilled, seed) -> dict:
        """L'erreur demandée, ou un refus en une phrase."""
        for name, value, known in (("width", width, self.widths), ("seed", seed, self.seeds)):
            if not isinstance(value, float) or value not in known:
                return {"refused": f"{name} : {str(value)[:50]} reçu, un des nombres de {name}s attendu."}
        if distilled not in (True, False):
            return {"refused": f"distilled : {str(distilled)[:50]} reçu, True ou False attendu."}
        self.calls[width, bool(distilled), seed] += 1
        if self.calls.total() > _MOST_CALLS * 2 * self.alone.size:
            return {"refused": "train_one : trop d'appels, un par largeur, par graine et par méthode attendu."}
        table = self.distilled if distilled else self.alone
        return {"value": float(table[self.widths.index(width), self.seeds.index(seed)])}


def draw_cases(seed: int) -> list[_Case]:
    """Deux études cachées. Les tailles n'y sont pas triées : leur ordre est celui de la réponse."""
    rng = np.random.default_rng(seed)
    cases = []
    for width_count, seed_count in ((4, 10), (3, 6)):
        widths = rng.choice(np.arange(4, 200), width_count, replace=False)
        widths[:2] = np.sort(widths[:2])[::-1]
        seeds = rng.choice(1000, seed_count, replace=False)
        common = rng.normal(0, 1.5, (width_count, seed_count))  # ce qu'une graine apporte aux deux students
        level = rng.uniform(6, 25, (width_count, 1))
        alone = level + common + rng.normal(0, 0.7, common.shape)
        distilled = level - rng.uniform(0.5, 3, (width_count, 1)) + common + rng.normal(0, 0.7, common.shape)
        tables = [np.abs(table).round(3) for table in (alone, distilled)]
        cases.append(_Case(widths.tolist(), seeds.tolist(), *tables))
    return cases


def grade(answer: Answer, seed: int) -> tuple[dict[str, Mark], dict]:
    """Une note par critère, et rien d'autre à mesurer."""
    absent = answer.absence(*NAMES)
    if absent:
        return {name: Mark(0.0, absent) for name in (*_CRITERIA, _CALLS)}, {}
    cases = draw_cases(seed)

    def on_call(call) -> dict:
        if not isinstance(call, list) or len(call) != 4 or call[0] not in range(len(cases)):
            return {"refused": "train_one : un appel (width, distilled, seed) attendu."}
        return cases[int(call[0])].answer_call(*call[1:])

    messages = [case.message() for case in cases]
    outcome = answer.ask("size_study", NAMES[0], _LIMITS, seed=seed, cases=messages, on_call=on_call)
    seen = [message["case"] for message in outcome.messages if isinstance(message.get("case"), dict)]
    seen += [{"failure": failure(outcome)}] * (len(cases) - len(seen))
    pairs = list(zip(cases, seen, strict=False))
    marks = {name: _columns(pairs, keys) for name, keys in _CRITERIA.items()}
    return marks | {_CALLS: _calls(pairs)}, {}


def _columns(pairs: list[tuple[_Case, dict]], keys: tuple[str, ...]) -> Mark:
    wrong = [(case, seen) for case, seen in pairs if not _same(case, seen, reference, keys)]
    if not wrong:
        return Mark(1.0, f"{', '.join(keys)} : juste sur les {len(pairs)} études")
    share = 1 - len(wrong) / len(pairs)
    return Mark(share, f"{', '.join(keys)} : {_reason(wrong, keys)}")


def _calls(pairs: list[tuple[_Case, dict]]) -> Mark:
    right, reasons = 0, []
    for case, seen in pairs:
        wanted = {(w, d, s) for w in case.widths for d in (True, False) for s in case.seeds}
        missing = len(wanted - set(case.calls))
        repeated = sum(count > 1 for count in case.calls.values())
        if (problem := _shape_problem(case, seen)) is not None:
            reasons.append(problem)
        elif missing:
            reasons.append(f"{missing} students sur {len(wanted)} manquent")
        elif repeated:
            reasons.append(
                f"{repeated} students ont été entraînés plusieurs fois : gardez les résultats, un entraînement est cher"
            )
        else:
            right += 1
    if not reasons:
        return Mark(1.0, "train_one est appelé une fois par largeur, par graine et par méthode")
    return Mark(right / len(pairs), reasons[0])


def _shape_problem(case: _Case, seen: dict) -> str | None:
    """Ce qui empêche de lire le tableau, en une phrase ; rien s'il se lit."""
    if problem := trouble(seen):
        return problem
    rows = seen.get("rows")
    if rows is None:
        return "à compléter"
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        return f"{str(rows)[:50]} reçu, une liste de dictionnaires attendue, un par largeur"
    if len(rows) != len(case.widths):
        return f"{len(rows)} lignes reçues, {len(case.widths)} attendues, une par largeur"
    return None


def _same(case: _Case, seen: dict, formula, keys: tuple[str, ...]) -> bool:
    if _shape_problem(case, seen) is not None:
        return False
    expected = formula(case.alone, case.distilled, case.widths)
    return all(
        isinstance(row.get(key), float) and math.isclose(row[key], wanted[key], abs_tol=_TOLERANCE)
        for row, wanted in zip(seen["rows"], expected, strict=True)
        for key in keys
    )


def _reason(wrong: list[tuple[_Case, dict]], keys: tuple[str, ...]) -> str:
    problem = next((p for case, seen in wrong if (p := _shape_problem(case, seen)) is not None), None)
    if problem:
        return problem
    absent = [key for key in keys if any(key not in row for _, seen in wrong for row in seen["rows"])]
    if absent:
        return f"clé {absent[0]} absente ; attendues : {', '.join(KEYS)}"
    for compared in (KEYS, keys):  # la faute qui explique tout le tableau, sinon celle qui explique ce critère
        for hint, mistake in MISTAKES.items():
            if all(_same(case, seen, mistake, compared) for case, seen in wrong):
                return hint
    values = [row[key] for _, seen in wrong for row in seen["rows"] for key in keys]
    if not all(isinstance(value, float) and math.isfinite(value) for value in values):
        return "des nombres finis attendus partout"
    return "la valeur est fausse, et ce n'est pas une erreur connue"
