"""Les relations de 10.4 à plusieurs budgets : le notebook s'en tient à un, cette mesure en parcourt quatre.

Mêmes images, même teacher et mêmes graines qu'en 10.4. Le poids de chaque méthode est choisi sur la validation, pour
chaque budget ; le test n'est lu qu'à ce poids. Dix minutes sur un cœur.
"""

import time
from collections.abc import Callable

import torch
from torch import Tensor, nn

from benchmarks import _report
from benchmarks._report import publish
from kdcourse import (
    cosine_relation_loss,
    digits_student,
    digits_teacher,
    grid,
    kd_loss,
    load_dataset,
    predict_features,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
    train_many,
    train_one,
)
from kdcourse.command_line import FrenchParser, several
from kdcourse.measures import alpha_of
from kdcourse.models import Features

SEEDS, BATCH = 10, 25
STEPS = (200, 400, 800, 1600)  # le chapitre s'en tient à 400
SUM = "logits + SP"


def main(argv: list[str] | None = None) -> None:
    parser = FrenchParser("python -m benchmarks relations", __doc__.splitlines()[0])
    parser.add_argument("--graines", type=several, default=SEEDS, help="graines mesurées (10 par défaut)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    start, errors = time.perf_counter(), {}
    teacher = train_one(digits_teacher, load_dataset("digits").train, epochs=30)
    for size, names in SIZES.items():
        found = errors.setdefault(str(size), {})
        for name in names:
            found[name] = measured(name, size, teacher, options.graines, found)
            print(
                f"{size} images, {name}, poids {found[name]['chosen']} : {time.perf_counter() - start:.0f} s",
                flush=True,
            )
    result = {"steps": list(STEPS), "errors": errors}
    publish("relations_results", result, options.graines >= SEEDS, _report.SHOWN)  # ce que 10.4 montre


def measured(name: str, size: int, teacher: nn.Module, seeds: int, before: dict) -> dict:
    """Chaque budget d'une méthode : l'erreur de validation à chaque poids, et les deux erreurs au poids choisi."""
    digits, (guide, weights) = load_dataset("digits"), METHODS[name]
    part = digits.train.where(slice(0, size))
    target = predict_features(teacher, part.images)
    rows = {"weights": weights, "by_weight": [], "chosen": [], "validation": [], "test": []}
    for rank, steps in enumerate(STEPS):
        if name == SUM:  # les deux termes dans le rapport de leurs meilleurs poids, à ce budget
            guide = _sum(before["SP"]["chosen"][rank] / before["logits"]["chosen"][rank])
        students = train_many(
            digits_student, part, target, distillation=guide, epochs=max(1, steps * BATCH // size), batch_size=BATCH,
            **grid(alphas=[alpha_of(weight) for weight in weights], seeds=range(seeds)),
        )  # fmt: skip
        validation, test = students.table(digits.validation), students.table(digits.test)
        best = int(validation.mean(dim=1).argmin())
        rows["by_weight"].append(_rounded(validation.mean(dim=1)))
        rows["chosen"].append(weights[best])
        rows["validation"].append(_rounded(validation[best]))
        rows["test"].append(_rounded(test[best]))
    return rows


def _rounded(values: Tensor) -> list[float]:
    return [round(value, 2) for value in values.tolist()]


def _relation(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    return lambda s, t, labels: loss(s.embedding, t.embedding)


def _kd(s: Features, t: Features, labels: Tensor) -> Tensor:
    return kd_loss(s.logits, t.logits, 4.0)


def _sum(ratio: float) -> Callable:
    def guide(s: Features, t: Features, labels: Tensor) -> Tensor:
        return _kd(s, t, labels) + ratio * similarity_preserving_loss(s.embedding, t.embedding)

    return guide


_KD_WEIGHTS = [0.03, 0.1, 0.3, 1, 3, 10, 30, 100]
# Nom → sa perte, et les poids essayés : le teacher pèse tant de fois les étiquettes.
METHODS = {
    "seul": (_kd, [0]),
    "logits": (_kd, _KD_WEIGHTS),
    "SP": (_relation(similarity_preserving_loss), [10, 30, 100, 300, 1000, 3000, 10000]),
    "cosine": (_relation(cosine_relation_loss), [1, 3, 10, 30, 100, 300, 1000]),
    "RKD distance": (_relation(rkd_distance_loss), [3, 10, 30, 100, 300, 1000]),
    SUM: (_kd, _KD_WEIGHTS),
    "RKD angle": (_relation(rkd_angle_loss), [10, 30, 100, 300]),
}
SIZES = {100: list(METHODS), 1000: list(METHODS)[:5]}  # l'angle prend à lui seul la moitié du temps


if __name__ == "__main__":
    main()
