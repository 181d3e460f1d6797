"""Les nombres que ``check`` compare aux réponses : ce que rendent, sur des entrées fixes, la référence et les erreurs.

python -m kdgrading.stored_numbers            réécrit kdcourse/exercises/graded_numbers.json

L'étudiant reçoit ces nombres, jamais le code qui les a faits.
"""

import json
import math
import os
from pathlib import Path

import numpy as np
import torch

import kdcourse.exercises
from kdgrading import reference_multi_teacher, reference_size_study

TARGET = Path(kdcourse.exercises.__file__).parent / "graded_numbers.json"
_DEFAULTS = {"weights": None, "temperature": 4.0, "alpha": 0.7, "combine": "probabilities"}
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


def numbers() -> dict:
    """Tout le fichier, recalculé."""
    return {"10.1": _multi_teacher(), "10.2": _size_study()}


def _multi_teacher() -> dict:
    generator, cases = torch.Generator().manual_seed(101), []
    for title, count, batch, classes, scale, options in _LOSSES:
        logits = (scale * torch.randn(count + 1, batch, classes, generator=generator)).double().round(decimals=2)
        labels = torch.randint(classes, (batch,), generator=generator)
        cases.append((title, logits, labels, options))
    stored = []
    for title, logits, labels, options in cases:
        leaf = logits[0].clone().requires_grad_()
        value = reference_multi_teacher.reference(leaf, list(logits[1:]), labels, **(_DEFAULTS | options))
        gradient = torch.autograd.grad(value, leaf)[0]
        inputs = {"student": logits[0].tolist(), "teachers": logits[1:].tolist(), "labels": labels.tolist()}
        right = {"value": _short(value.item()), "gradient": [[_short(g) for g in row] for row in gradient.tolist()]}
        stored.append({"title": title} | inputs | {"options": options} | right)
    mistakes = {
        hint: [
            _short(mistake(logits[0], list(logits[1:]), labels, **(_DEFAULTS | options)).item())
            for _, logits, labels, options in cases
        ]
        for hint, mistake in reference_multi_teacher.MISTAKES.items()
    }
    return {"cases": stored, "mistakes": mistakes}


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
    partial.write_text(json.dumps(numbers(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    os.replace(partial, TARGET)
    print(f"{TARGET.name} : {TARGET.stat().st_size / 1e3:.0f} ko.")


if __name__ == "__main__":
    main()
