"""Les gains de 10.3 selon le nombre de pas : le notebook s'en tient à un budget, cette mesure en parcourt cinq.

Mêmes images, même teacher, mêmes réglages et mêmes graines qu'en 10.3 ; chaque budget a ses propres students, que l'on
mesure sur la validation et sur le test. Six minutes sur un cœur.
"""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks import _report
from benchmarks._report import publish
from kdcourse import (
    CNN,
    AdaptedStudent,
    attention_loss,
    error_rate,
    hint_loss,
    kd_loss,
    load_dataset,
    predict_features,
    train_many,
    train_one,
)
from kdcourse.command_line import FrenchParser, several
from kdcourse.data.splits import Split
from kdcourse.measures import mean_map, uniform_map
from kdcourse.models import Features
from kdcourse.training.many_students import initial_model
from kdcourse.training.students import Students

SEEDS = 10
BUDGETS = (0.25, 0.5, 1.0, 2.0, 4.0)  # fois le budget du chapitre
SEEN = 1_600  # images vues au budget du chapitre
CHANNELS = (16, 32, 32)


def main(argv: list[str] | None = None) -> None:
    parser = FrenchParser("python -m benchmarks features", __doc__.splitlines()[0])
    parser.add_argument("--graines", type=several, default=SEEDS, help="graines mesurées (10 par défaut)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    start, digits = time.perf_counter(), load_dataset("digits").resized(10)
    teacher = train_one(big, digits.train, epochs=15, learning_rate=0.01)
    sizes, errors = {25: list(METHODS), 100: list(METHODS)[:9]}, {}
    for size, names in sizes.items():
        part = digits.train.where(slice(0, size))
        true, raw = (predict_features(model, part.images) for model in (teacher, initial_model(big, 0)))
        shared = {"seeds": range(options.graines), "batch_size": 10, "learning_rate": 0.02}
        for name in names:
            make, guide, taught = METHODS[name]
            rows, body = {"validation": [], "test": []}, name in BODIES
            alpha = 0.0 if name == "seul" else 1.0 if body else 0.5
            for budget in BUDGETS:
                shared["epochs"] = max(1, int(budget * SEEN / size))
                trained = train_many(make, part, taught(true, raw), distillation=guide, alphas=alpha, **shared)
                for where, found in rows.items():
                    test = getattr(digits, where)
                    measured = last_layer(trained, part, test, int(192 * budget)) if body else trained.errors(test)
                    found.append([round(e, 3) for e in measured.tolist()])
            errors.setdefault(str(size), {})[name] = rows
            print(f"{size} images, {name} : {time.perf_counter() - start:.0f} s", flush=True)
    result = {"budgets": list(BUDGETS), "steps": {str(size): steps(size) for size in sizes}, "errors": errors}
    publish("features_results", result, options.graines >= SEEDS, _report.SHOWN)  # ce que 10.3 montre


def steps(size: int) -> list[int]:
    """Nombre de pas de chaque budget, par lots de dix."""
    return [max(1, int(budget * SEEN / size)) * -(-size // 10) for budget in BUDGETS]


def big() -> CNN:
    return CNN(channels=CHANNELS)


def small() -> CNN:
    return CNN(channels=(8, 8, 8))


def last_layer(students: Students, part: Split, test: Split, steps: int) -> Tensor:
    """Leurs erreurs sur ``test``, ``(graines,)``, quand leur dernière couche, et elle seule, apprend sur ``part``."""
    errors = []
    for seed, model in enumerate(students):
        torch.manual_seed(seed)
        head = torch.nn.Linear(4 * 8, 10)
        optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
        inside, unseen = (model.forward_features(images).embedding.detach() for images in (part.images, test.images))
        for _ in range(max(1, steps)):
            loss = F.cross_entropy(head(inside), part.labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        errors.append(error_rate(head(unseen), test.labels))
    return torch.stack(errors)


def _adapted(stage: int) -> Callable:
    return lambda: AdaptedStudent(small(), stage, 8, CHANNELS[stage])


def _hint(stage: int) -> Callable:
    return lambda s, t, labels: 10 * hint_loss(s.maps[stage], t.maps[stage])


def _attention(*stages: int, beta: int | None = None) -> Callable:
    def guide(s, t, labels):
        weighed = ((beta or 10 * s.maps[k][0, 0].numel()) * attention_loss(s.maps[k], t.maps[k]) for k in stages)
        return sum(weighed) / len(stages)

    return guide


def _kd(s: Features, t: Features, labels) -> torch.Tensor:
    return kd_loss(s.logits, t.logits, 4.0)


def _plus_kd(guide: Callable) -> Callable:
    return lambda *batch: guide(*batch) + _kd(*batch)


def _true(true: Features, raw: Features) -> Features:
    return true


# Nom → le student, sa perte, et ce qu'il imite ; à 100 images, les neuf premières seulement.
METHODS = {
    "seul": (small, _kd, _true),
    "KD": (small, _kd, _true),
    "hint, étage 2": (_adapted(2), _hint(2), _true),
    "attention, étage 1": (small, _attention(1), _true),
    "hint + KD": (_adapted(2), _plus_kd(_hint(2)), _true),
    "attention + KD": (small, _plus_kd(_attention(1)), _true),
    "attention, étage 2": (small, _attention(2), _true),
    **{f"attention, étage 2, β = {beta}": (small, _attention(2, beta=beta), _true) for beta in (4, 40)},
    **{f"hint, étage {k}": (_adapted(k), _hint(k), _true) for k in (0, 1)},
    "attention, étage 0": (small, _attention(0), _true),
    "attention, tous": (small, _attention(0, 1, 2), _true),
    "carte uniforme": (small, _attention(1), lambda true, raw: true.map(uniform_map)),
    "carte moyenne": (small, _attention(1), lambda true, raw: true.map(mean_map)),
    "teacher non entraîné": (small, _attention(1), lambda true, raw: raw),
}
# Imités seuls, sans étiquette (alpha = 1) ; puis la dernière couche apprend, seule, sur les étiquettes.
BODIES = {
    "corps au hasard": (small, lambda s, t, labels: 0 * s.logits.sum(), _true),
    "corps de l'attention, étage 2": METHODS["attention, étage 2"],
    "corps du hint, étage 2": METHODS["hint, étage 2"],
}
METHODS |= BODIES


if __name__ == "__main__":
    main()
