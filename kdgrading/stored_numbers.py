"""Les nombres que ``check`` compare aux réponses : ce que rendent, sur des entrées fixes, la référence et les erreurs.

python -m kdgrading.stored_numbers            réécrit kdcourse/exercises/graded_numbers.json

L'étudiant reçoit ces nombres, jamais le code qui les a faits.
"""

import json
import math
import os
import re
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

import kdcourse.exercises
from kdgrading import mark_multi_teacher, mark_neighbours_and_memory, reference_size_study
from kdgrading.mark_calls import Case, Question

TARGET = Path(kdcourse.exercises.__file__).parent / "graded_numbers.json"
# Intitulé, teachers, images, classes, taille des logits, réglages donnés à la réponse.
_LOSSES = [
    ("trois teachers, réglages par défaut", 3, 4, 5, 3, {}),
    (
        "probabilités, poids 3, 0, 2",  # un poids nul, dont le logarithme n'existe pas
        *(3, 3, 4, 3),
        {"weights": [3.0, 0.0, 2.0], "temperature": 2.5, "alpha": 0.4, "combine": "probabilities"},
    ),
    ("logits, poids égaux", 2, 3, 4, 3, {"temperature": 3.0, "alpha": 0.6, "combine": "logits"}),
    (
        "logits, poids 1, 0, 4",
        *(3, 3, 5, 3),
        {"weights": [1.0, 0.0, 4.0], "temperature": 2.0, "alpha": 0.3, "combine": "logits"},
    ),
    ("un teacher, une image", 1, 1, 4, 3, {"temperature": 5.0, "alpha": 0.5}),
    ("logits extrêmes", 2, 3, 4, 400, {"temperature": 0.5, "alpha": 0.6}),
]
# Des largeurs dont l'ordre n'est pas croissant, des graines qui ne sont pas 0, 1, 2…
_STUDIES = [([16, 4, 8], [3, 11, 5, 20, 8]), ([12, 6], [7, 2, 40])]


# Intitulé, images, largeur des features du student et du teacher, température.
_NEIGHBOURS = [
    ("quatre images, temperature = 1", 4, 3, 5, 1.0),
    ("six images", 6, 5, 3, 0.25),
    ("cinq images", 5, 4, 4, 2.0),
    ("température basse", 7, 3, 6, 0.01),
]
# Intitulé, images, ce que contient chaque lot, momentum.
_MEMORY = [
    ("deux époques et demie", 4, [[2, 0], [1, 3], [3, 2], [0, 1], [2, 3]], 0.75),
    ("visites inégales", 5, [[4, 1, 0], [4, 2, 1], [0, 4, 3], [1, 0, 4]], 0.6),
    ("momentum nul", 3, [[1, 2], [2, 0], [1, 2]], 0.0),
]


def numbers() -> dict:
    """Tout le fichier, recalculé."""
    neighbours, memory = mark_neighbours_and_memory.QUESTIONS
    return {
        "multi_teacher": _calls(mark_multi_teacher.QUESTION, _multi_teacher()),
        "size_study": _size_study(),
        "neighbours": _calls(neighbours, _neighbours()),
        "memory": _calls(memory, _memory()),
    }


def _calls(question: Question, cases: list[Case]) -> dict:
    """Chaque cas (son ``criterion`` est son intitulé), ce qu'y rend la référence, et ce qu'y rend chaque erreur."""
    stored = []
    for case in cases:
        listed = any(isinstance(value, list) for value in case.inputs)
        inputs = [(torch.stack(value) if isinstance(value, list) else value).tolist() for value in case.inputs]
        found = {"title": case.criterion, "inputs": inputs, "options": case.options}
        value, gradient = question.solve(case, question.reference)
        found |= {"listed": True} if listed else {}
        found |= {"value": _tidy(value)} | ({} if gradient is None else {"gradient": _tidy(gradient)})
        stored.append(found)
    mistakes = {
        hint: [_tidy(question.solve(case, mistake)[0]) for case in cases] for hint, mistake in question.mistakes.items()
    }
    return {"cases": stored, "mistakes": mistakes}


def _tidy(value: Tensor) -> float | list | None:
    """Un nombre, ou un tableau de nombres."""
    return _short(value.item()) if value.dim() == 0 else [_tidy(one) for one in value]


def _multi_teacher() -> list[Case]:
    generator, cases = torch.Generator().manual_seed(101), []
    for title, count, batch, classes, scale, options in _LOSSES:
        logits = (scale * torch.randn(count + 1, batch, classes, generator=generator)).double().round(decimals=2)
        labels = torch.randint(classes, (batch,), generator=generator)
        cases.append(Case(title, (logits[0], list(logits[1:]), labels), options))
    return cases


def _neighbours() -> list[Case]:
    generator, cases = torch.Generator().manual_seed(103), []
    for title, batch, *widths, temperature in _NEIGHBOURS:
        sizes = 0.5 + torch.arange(batch)[:, None] / 2
        features = ((0.4 + torch.randn(batch, width, generator=generator)) * sizes for width in widths)
        inputs = tuple(part.double().round(decimals=2) for part in features)
        cases.append(Case(title, inputs, {"temperature": temperature}))
    return cases


def _memory() -> list[Case]:
    generator, cases = torch.Generator().manual_seed(104), []
    for title, count, batches, momentum in _MEMORY:
        indices = torch.tensor(batches)
        logits = 2 * torch.randn(*indices.shape, 3, generator=generator)
        cases.append(
            Case(
                title, (logits.double().softmax(-1).round(decimals=4), indices), {"count": count, "momentum": momentum}
            )
        )
    return cases


def _size_study() -> dict:
    rng, cases = np.random.default_rng(102), []
    for widths, seeds in _STUDIES:
        shape = (len(widths), len(seeds))
        level, common = 60 / np.array(widths)[:, None], rng.normal(0, 1.5, shape)  # ce que partagent les deux students
        alone, distilled = (
            level + 4 + common + rng.normal(0, 0.5, shape),
            level + 3 + common + rng.normal(0, 0.5, shape),
        )
        cases.append({"widths": widths, "seeds": seeds, "alone": alone.round(1), "distilled": distilled.round(1)})

    def solve(formula) -> list:
        return [_rows(formula(case["alone"], case["distilled"], case["widths"])) for case in cases]

    right = solve(reference_size_study.reference)
    stored = [
        case | {"alone": case["alone"].tolist(), "distilled": case["distilled"].tolist(), "rows": rows}
        for case, rows in zip(cases, right, strict=True)
    ]
    return {
        "cases": stored,
        "mistakes": {hint: solve(mistake) for hint, mistake in reference_size_study.MISTAKES.items()},
    }


def _rows(rows: list[dict]) -> list[list[float]]:
    return [[_short(row[key]) for key in reference_size_study.KEYS] for row in rows]


def _short(value: float) -> float | None:
    """Dix chiffres suffisent à comparer, et s'écrivent pareil partout ; rien pour NaN et infini, que JSON n'a pas."""
    return float(f"{value:.10g}") if math.isfinite(value) else None


def main() -> None:
    """Réécrit le fichier."""
    partial = TARGET.with_suffix(".partiel")
    text = json.dumps(numbers(), ensure_ascii=False, indent=1) + "\n"
    text = re.sub(r"\[[^][{}\"]*\]", lambda found: " ".join(found[0].split()), text)  # une rangée de nombres par ligne
    partial.write_text(text, encoding="utf-8")
    os.replace(partial, TARGET)
    print(f"{TARGET.name} : {TARGET.stat().st_size / 1e3:.0f} ko.")


if __name__ == "__main__":
    main()
