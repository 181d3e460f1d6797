"""Noter l'exercice à plusieurs teachers : ses cas cachés."""

import torch

from kdgrading.answer import Answer, Mark
from kdgrading.mark_calls import Case, Question, grade_calls
from kdgrading.reference_multi_teacher import DEFAULTS, MISTAKES, leaking, reference

NAMES = ("multi_teacher_loss",)
_GRADIENT = "ex1-gradient"


def draw_cases(seed: int) -> list[Case]:
    """Les cas cachés d'une graine : réglages simples d'abord, où une seule faute ne coûte pas tout."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(low: float, high: float) -> float:
        return round(low + (high - low) * torch.rand((), generator=generator).item(), 3)

    def case(criterion: str, count: int, batch: int = 6, scale: float = 3.0, tied: bool = False, **options) -> Case:
        classes = int(torch.randint(3, 8, (), generator=generator))
        logits = scale * torch.randn(count + 1, batch, classes, generator=generator)
        labels = torch.randint(classes, (batch,), generator=generator)
        return Case(criterion, (logits[0] / 2, list(logits[1:]), labels), options, tied)

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


QUESTION = Question(*NAMES, draw_cases, reference, MISTAKES, leaking, DEFAULTS)


def grade(answer: Answer, seed: int) -> tuple[dict[str, Mark], dict]:
    """Une note par critère, et rien d'autre à mesurer."""
    return grade_calls(answer, seed, QUESTION)
