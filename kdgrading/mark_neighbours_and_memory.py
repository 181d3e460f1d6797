"""Noter les voisins et la mémoire : les cas cachés de chacune des deux fonctions."""

import torch
from torch import Tensor

from kdgrading.answer import Answer, Mark
from kdgrading.mark_calls import Case, Question, grade_calls
from kdgrading.reference_neighbours_and_memory import (
    MEMORY_MISTAKES,
    NEIGHBOUR_MISTAKES,
    memory,
    neighbours,
    neighbours_leaking,
)

NAMES = ("neighbour_loss", "memory_targets")


def _uniform(generator: torch.Generator, low: float, high: float) -> float:
    return round(low + (high - low) * torch.rand((), generator=generator).item(), 3)


def draw_neighbours(seed: int) -> list[Case]:
    """Des lots de features, ni centrées ni de même norme, où D et D' diffèrent."""
    generator = torch.Generator().manual_seed(seed)

    def features(batch: int, width: int) -> Tensor:
        sizes = 0.5 + 2 * torch.rand(batch, 1, generator=generator)
        return sizes * (0.4 + torch.randn(batch, width, generator=generator))

    def case(criterion: str, batch: int, low: float, high: float, tied: bool = False) -> Case:
        wide, narrow = torch.randperm(5, generator=generator)[:2].add(3).tolist()
        inputs = features(batch, wide), features(batch, wide if tied else narrow)
        return Case(criterion, inputs, {"temperature": _uniform(generator, low, high)}, tied)

    return [
        case("ex4-voisins", 5, 1, 1),
        case("ex4-voisins", 7, 0.1, 0.6),
        case("ex4-voisins", 4, 0.1, 0.6),
        case("ex4-voisins", 6, 1.5, 3),
        case("ex4-voisins-gradient", 6, 0.2, 0.8, tied=True),
        case("ex4-voisins-gradient", 3, 1.2, 2, tied=True),
        # Des probabilités nulles en float32 : 0 · log 0 vaut NaN pour qui ne reste pas en logarithmes.
        case("ex4-voisins-limites", 8, 0.008, 0.012),
        case("ex4-voisins-limites", 6, 0.008, 0.012),
    ]


def draw_memory(seed: int) -> list[Case]:
    """Des lots d'images, vues toutes aussi souvent, puis non."""
    generator = torch.Generator().manual_seed(seed)

    def case(criterion: str, count: int, batch: int, steps: int, momentum: float, epochs: bool) -> Case:
        classes = int(torch.randint(3, 6, (), generator=generator))
        probabilities = (2 * torch.randn(steps, batch, classes, generator=generator)).softmax(-1)
        orders = [torch.randperm(count, generator=generator) for _ in range(steps)]
        # Par époques, chaque image passe une fois avant qu'aucune ne revienne ; sinon, chaque lot est tiré au hasard.
        indices = torch.cat(orders).split(batch)[:steps] if epochs else [order[:batch] for order in orders]
        return Case(criterion, (probabilities, torch.stack(indices)), {"count": count, "momentum": momentum})

    return [
        case("ex4-memoire", 6, 3, 8, _uniform(generator, 0.5, 0.9), True),
        case("ex4-memoire", 4, 4, 5, _uniform(generator, 0.5, 0.9), True),
        case("ex4-memoire", 8, 2, 12, _uniform(generator, 0.2, 0.45), True),
        case("ex4-memoire-visites", 7, 3, 9, _uniform(generator, 0.5, 0.9), False),
        case("ex4-memoire-visites", 5, 2, 12, _uniform(generator, 0.2, 0.45), False),
        case("ex4-memoire-limites", 5, 3, 6, 0.0, False),  # rien ne reste que la dernière prédiction
        case("ex4-memoire-limites", 12, 3, 8, _uniform(generator, 0.5, 0.9), False),  # beaucoup d'images sont neuves
    ]


QUESTIONS = (
    Question(NAMES[0], draw_neighbours, neighbours, NEIGHBOUR_MISTAKES, neighbours_leaking),
    Question(NAMES[1], draw_memory, memory, MEMORY_MISTAKES),
)


def grade(answer: Answer, seed: int) -> tuple[dict[str, Mark], dict]:
    """Une note par critère, et rien d'autre à mesurer."""
    return grade_calls(answer, seed, *QUESTIONS)
