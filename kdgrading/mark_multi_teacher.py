"""Noter l'exercice 10.1 : des cas cachés tirés d'une graine, et ce que la réponse y rend, jugé ici."""

import math
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kdgrading.answer import Answer, Mark, decode, encode, failure, trouble
from kdgrading.reference_multi_teacher import MISTAKES, reference
from kdgrading.warm import Limits

NAMES = ("multi_teacher_loss",)
_DEFAULTS = {"weights": None, "temperature": 4.0, "alpha": 0.7, "combine": "probabilities"}
_VALUES = ("ex1-probabilites", "ex1-logits", "ex1-poids", "ex1-limites")
_GRADIENT = "ex1-gradient"
_LIMITS = Limits(wall=20.0, cpu=10)


@dataclass
class _Case:
    """Un appel : ses entrées en float32, et ce qui y est jugé."""

    criterion: str
    student: Tensor
    teachers: list[Tensor]
    labels: Tensor
    options: dict = field(default_factory=dict)
    tied: bool = False
    """Les teachers contiennent le student : qui oublie ``detach`` obtient un autre gradient."""

    def message(self) -> dict:
        tensors = {"student": encode(self.student), "labels": encode(self.labels)}
        return tensors | {"teachers": list(map(encode, self.teachers)), "options": self.options, "tied": self.tied}

    def solve(self, formula) -> tuple[float, Tensor]:
        """Valeur et gradient d'une formule : la référence en float64, une erreur en float32, où elle a été commise."""
        dtype = torch.float64 if formula is reference else torch.float32
        leaf = self.student.to(dtype).requires_grad_()
        teachers = [t.to(dtype) + leaf if self.tied else t.to(dtype) for t in self.teachers]
        value = formula(leaf, teachers, self.labels, **(_DEFAULTS | self.options))
        return value.item(), torch.autograd.grad(value, leaf)[0]


def draw_cases(seed: int) -> list[_Case]:
    """Les cas cachés d'une graine : réglages simples d'abord, où une seule faute ne coûte pas tout."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> float:
        return round(low + (high - low) * torch.rand((), generator=generator).item(), 3)

    def case(criterion: str, count: int, batch: int = 6, scale: float = 3.0, tied: bool = False, **options) -> _Case:
        classes = int(torch.randint(3, 8, (), generator=generator))
        logits = scale * torch.randn(count + 1, batch, classes, generator=generator)
        labels = torch.randint(classes, (batch,), generator=generator)
        return _Case(criterion, logits[0] / 2, list(logits[1:]), labels, options, tied)

    def weights(count: int) -> list[float]:
        return [uniform(0.5, 4.0) for _ in range(count)]

    return [
        case("ex1-probabilites", 2, temperature=1.0, alpha=1.0),
        case("ex1-probabilites", 3),
        case("ex1-probabilites", 2, temperature=uniform(2, 8), alpha=1.0),
        case("ex1-probabilites", 4, temperature=uniform(2, 8), alpha=uniform(0.2, 0.45), combine="probabilities"),
        case("ex1-logits", 2, temperature=1.0, alpha=1.0, combine="logits"),
        case("ex1-logits", 3, temperature=uniform(2, 8), alpha=1.0, combine="logits"),
        case("ex1-logits", 4, temperature=uniform(2, 8), alpha=uniform(0.2, 0.45), combine="logits"),
        case("ex1-poids", 2, temperature=1.0, alpha=1.0, weights=weights(2)),
        case("ex1-poids", 3, temperature=1.0, alpha=1.0, weights=weights(3), combine="logits"),
        case("ex1-poids", 3, temperature=uniform(2, 8), weights=[uniform(1, 3), 0.0, uniform(1, 3)]),
        case(_GRADIENT, 2, tied=True, temperature=uniform(2, 8), alpha=uniform(0.3, 0.8)),
        case(_GRADIENT, 3, tied=True, temperature=uniform(2, 8), alpha=uniform(0.3, 0.8), combine="logits"),
        # À haute température, la KL et son inverse se ressemblent : sur une seule image, T reste bas.
        case("ex1-limites", 1, temperature=uniform(1.5, 3)),
        case("ex1-limites", 3, batch=1, temperature=uniform(1.5, 3)),
        # Des probabilités nulles en float32 : 0 · log 0 vaut NaN pour qui ne reste pas en logarithmes.
        case("ex1-limites", 2, scale=400.0, temperature=1.0),
        case("ex1-limites", 2, scale=400.0, temperature=1.0, combine="logits"),
    ]


def grade(answer: Answer, seed: int) -> tuple[dict[str, Mark], dict]:
    """Une note par critère, et rien d'autre à mesurer."""
    absent = answer.absence(*NAMES)
    if absent:
        return {name: Mark(0.0, absent) for name in (*_VALUES, _GRADIENT)}, {}
    cases = draw_cases(seed)
    outcome = answer.ask("multi_teacher", NAMES[0], _LIMITS, seed=seed, cases=[case.message() for case in cases])
    seen = [message["case"] for message in outcome.messages if isinstance(message.get("case"), dict)]
    seen += [{"failure": failure(outcome)}] * (len(cases) - len(seen))
    pairs = list(zip(cases, seen, strict=False))
    marks = {name: _values([pair for pair in pairs if pair[0].criterion == name]) for name in _VALUES}
    marks[_GRADIENT] = _gradients([pair for pair in pairs if pair[0].criterion == _GRADIENT])
    return marks, {}


def _values(pairs: list[tuple[_Case, dict]]) -> Mark:
    wrong = [(case, seen) for case, seen in pairs if not _same_value(case, seen, reference)]
    right = len(pairs) - len(wrong)
    if not wrong:
        return Mark(1.0, f"juste sur les {len(pairs)} cas")
    return Mark(right / len(pairs), f"juste sur {right} cas parmi {len(pairs)} : {_reason(wrong)}")


def _gradients(pairs: list[tuple[_Case, dict]]) -> Mark:
    right, reasons = 0, []
    for case, seen in pairs:
        expected = case.solve(reference)[1]
        gradient = decode(seen.get("gradient"), tuple(expected.shape)) if seen.get("gradient") else None
        if gradient is not None and torch.allclose(gradient, expected, rtol=1e-3, atol=1e-5):
            right += 1
        elif not isinstance(seen.get("value"), float):
            reasons.append(_reason([(case, seen)]))
        elif gradient is None:
            reasons.append("aucun gradient n'atteint student_logits : detach, item ou no_grad de trop")
        elif _leaks(case, gradient):
            reasons.append("un gradient traverse les teachers : il faut les détacher")
        else:
            reasons.append("le gradient pour student_logits est faux")
    if not reasons:
        return Mark(1.0, "le gradient atteint le student, et lui seul")
    return Mark(right / len(pairs), f"juste sur {right} cas parmi {len(pairs)} : {reasons[0]}")


def _leaks(case: _Case, gradient: Tensor) -> bool:
    """Vrai si la différence avec le bon gradient est celle que laisse passer un teacher non détaché."""
    alpha, temperature = (case.options.get(name, _DEFAULTS[name]) for name in ("alpha", "temperature"))
    leaf = case.student.double().requires_grad_()
    teachers = [t.double() + leaf for t in case.teachers]
    if case.options.get("combine") == "logits":
        target = (torch.stack(teachers).mean(0) / temperature).log_softmax(-1)
    else:
        target = (torch.stack(teachers) / temperature).softmax(-1).mean(0).log()
    soft = (target.exp() * (target - (leaf / temperature).log_softmax(-1))).sum(-1).mean()
    hard = torch.nn.functional.cross_entropy(leaf, case.labels)
    expected = torch.autograd.grad(alpha * temperature**2 * soft + (1 - alpha) * hard, leaf)[0]
    return torch.allclose(gradient, expected, rtol=1e-3, atol=1e-5)


def _same_value(case: _Case, seen: dict, formula) -> bool:
    value = seen.get("value")
    if not isinstance(value, float):
        return False
    expected = case.solve(formula)[0]
    return math.isclose(value, expected, rel_tol=5e-5, abs_tol=2e-5) or (math.isnan(value) and math.isnan(expected))


def _reason(wrong: list[tuple[_Case, dict]]) -> str:
    """L'erreur classique qui explique tous les cas faux, sinon ce que le premier a de visible."""
    case, seen = wrong[0]
    if problem := trouble(seen):
        return problem
    if seen.get("type") == "NoneType":
        return "à compléter"
    if seen.get("dtype") not in (None, "float32", "float64"):
        return f"dtype {str(seen['dtype'])[:20]} reçu, float32 attendu"
    if not isinstance(seen.get("value"), float):
        if isinstance(seen.get("shape"), list):
            shape = ", ".join(f"{size:g}" if isinstance(size, float) else "?" for size in seen["shape"][:8])
            return f"forme ({shape}) reçue, un scalaire attendu"
        return f"{str(seen.get('type'))[:50]} reçu, un tenseur scalaire attendu"
    for hint, mistake in MISTAKES.items():
        if all(_same_value(case, seen, mistake) for case, seen in wrong):
            return hint
    if not math.isfinite(seen["value"]):
        return "le résultat est NaN ou infini"
    return "la valeur est fausse, et ce n'est pas une erreur connue"
