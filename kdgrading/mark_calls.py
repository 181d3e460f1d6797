"""Noter une fonction par ses appels : des cas cachés tirés d'une graine, et ce que la réponse y rend, jugé ici."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kdgrading.answer import Answer, Mark, decode, encode, failure, trouble
from kdgrading.warm import Limits

_LIMITS = Limits(wall=20.0, cpu=10)


@dataclass
class Case:
    """Un appel : ses entrées en float32, et ce qui y est jugé."""

    criterion: str
    inputs: tuple[Tensor | list[Tensor], ...]
    options: dict = field(default_factory=dict)
    tied: bool = False
    """C'est le gradient qui est jugé, et la deuxième entrée contient la première : qui oublie ``detach`` en a un autre.
    """

    def message(self) -> dict:
        inputs = [list(map(encode, value)) if isinstance(value, list) else encode(value) for value in self.inputs]
        return {"inputs": inputs, "options": self.options, "tied": self.tied}


@dataclass(frozen=True)
class Question:
    """Une fonction à écrire : ses cas cachés, la bonne réponse, et ce que l'on sait reconnaître."""

    name: str
    draw: Callable[[int], list[Case]]
    reference: Callable[..., Tensor]
    mistakes: dict[str, Callable[..., Tensor]]
    leaking: Callable[..., Tensor] | None = None
    """La bonne réponse, moins ``detach`` ; absente, aucun gradient n'est attendu."""
    defaults: dict = field(default_factory=dict)

    def solve(self, case: Case, formula: Callable[..., Tensor]) -> tuple[Tensor, Tensor | None]:
        """Valeur et gradient d'une formule : la référence en float64, une erreur en float32, où elle a été commise."""
        dtype = torch.float64 if formula in (self.reference, self.leaking) else torch.float32
        leaf, *others = (
            _each(value, lambda t: t.to(dtype, copy=True) if t.is_floating_point() else t) for value in case.inputs
        )
        if self.leaking:
            leaf.requires_grad_()
        if case.tied:
            others[0] = _each(others[0], lambda t: t + leaf)
        value = formula(leaf, *others, **(self.defaults | case.options))
        return value.detach().double(), torch.autograd.grad(value, leaf)[0] if self.leaking else None


def grade_calls(answer: Answer, seed: int, *questions: Question) -> tuple[dict[str, Mark], dict]:
    """Une note par critère, et rien d'autre à mesurer."""
    marks = {}
    for question in questions:
        cases = question.draw(seed)
        groups = {case.criterion: [] for case in cases}
        if absent := answer.absence(question.name):
            marks |= {name: Mark(0.0, absent) for name in groups}
            continue
        messages = [case.message() for case in cases]
        outcome = answer.ask("calls", question.name, _LIMITS, seed=seed, cases=messages)
        seen = [message["case"] for message in outcome.messages if isinstance(message.get("case"), dict)]
        seen += [{"failure": failure(outcome)}] * (len(cases) - len(seen))
        for case, result in zip(cases, seen, strict=False):
            groups[case.criterion].append((case, result))
        for name, pairs in groups.items():
            marks[name] = (_gradients if pairs[0][0].tied else _values)(question, pairs)
    return marks, {}


def _each(value, change: Callable):
    return list(map(change, value)) if isinstance(value, list) else change(value)


def _values(question: Question, pairs: list[tuple[Case, dict]]) -> Mark:
    wrong = [pair for pair in pairs if not _same_value(question, *pair, question.reference)]
    right = len(pairs) - len(wrong)
    if not wrong:
        return Mark(1.0, f"juste sur les {len(pairs)} cas")
    return Mark(right / len(pairs), f"juste sur {right} cas parmi {len(pairs)} : {_reason(question, wrong)}")


def _gradients(question: Question, pairs: list[tuple[Case, dict]]) -> Mark:
    right, reasons = 0, []
    for case, seen in pairs:
        value, expected = question.solve(case, question.reference)
        gradient = decode(seen.get("gradient"), tuple(expected.shape))
        if gradient is not None and torch.allclose(gradient, expected, rtol=1e-3, atol=1e-5):
            right += 1
        elif decode(seen.get("result"), tuple(value.shape)) is None:
            reasons.append(_reason(question, [(case, seen)]))
        elif gradient is None:
            reasons.append("aucun gradient n'atteint le premier argument : detach, item ou no_grad de trop")
        elif torch.allclose(gradient, question.solve(case, question.leaking)[1], rtol=1e-3, atol=1e-5):
            reasons.append("un gradient traverse les teachers : il faut les détacher")
        else:
            reasons.append("le gradient pour le premier argument est faux")
    if not reasons:
        return Mark(1.0, "le gradient atteint le student, et lui seul")
    return Mark(right / len(pairs), f"juste sur {right} cas parmi {len(pairs)} : {reasons[0]}")


def _same_value(question: Question, case: Case, seen: dict, formula: Callable[..., Tensor]) -> bool:
    expected = question.solve(case, formula)[0]
    value = decode(seen.get("result"), tuple(expected.shape))
    return value is not None and torch.allclose(value, expected, rtol=5e-5, atol=2e-5, equal_nan=True)


def _reason(question: Question, wrong: list[tuple[Case, dict]]) -> str:
    """L'erreur classique qui explique tous les cas faux, sinon ce que le premier a de visible."""
    case, seen = wrong[0]
    if problem := trouble(seen):
        return problem
    if seen.get("type") == "NoneType":
        return "à compléter"
    if seen.get("dtype") not in (None, "float32", "float64"):
        return f"dtype {str(seen['dtype'])[:20]} reçu, float32 attendu"
    shape = tuple(question.solve(case, question.reference)[0].shape)
    wanted = "un scalaire attendu" if shape == () else f"{shape} attendue"
    value = decode(seen.get("result"), shape)
    if value is None:
        if isinstance(seen.get("shape"), list):
            received = ", ".join(f"{size:g}" if isinstance(size, float) else "?" for size in seen["shape"][:8])
            return f"forme ({received}) reçue, {wanted}"
        return f"{str(seen.get('type'))[:50]} reçu, un tenseur attendu"
    for hint, mistake in question.mistakes.items():
        if all(_same_value(question, *pair, mistake) for pair in wrong):
            return hint
    if not value.isfinite().all():
        return "le résultat contient NaN ou infini"
    return "la valeur est fausse, et ce n'est pas une erreur connue"
