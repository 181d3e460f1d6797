"""Règle chaque méthode sur la validation, et range ses choix dans kdcourse/measures/method_choices.json.

Les graines du réglage ne servent pas ailleurs : la comparaison finale en prend d'autres, et lit le test.
"""

import time
from dataclasses import asdict
from itertools import product
from pathlib import Path

import torch

import kdcourse
from benchmarks._report import provenance, publish
from kdcourse import (
    CNN,
    KD,
    METHODS,
    Choice,
    Method,
    digits_teacher,
    error_rate,
    load_dataset,
    mean_interval,
    predict_features,
    train_one,
)
from kdcourse.command_line import FrenchParser, several
from kdcourse.measures.method_comparison import Problem, train_method
from kdcourse.training.checkpoints import write_json

IMAGES, EPOCHS, BATCH, RATE = 100, 25, 25, 0.01
SEEDS = range(100, 110)
ALPHAS = (0.5, 0.9)


def make_student() -> CNN:
    """Un réseau convolutif de deux étages, qui a des cartes à comparer."""
    return CNN(channels=(8, 16))


def main(argv: list[str] | None = None) -> None:
    parser = FrenchParser("python -m benchmarks compare", __doc__.splitlines()[0])
    parser.add_argument("--graines", type=several, default=len(SEEDS), help="graines du réglage (10 par défaut)")
    parser.add_argument(
        "--essai",
        action="store_true",
        help="n'écrit rien : montre seulement ce qui serait choisi ; moins de graines font un essai",
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    digits, start = load_dataset("digits"), time.perf_counter()
    teacher = train_one(digits_teacher, digits.train, epochs=10)  # celui de 10.6
    data = digits.train.where(slice(0, IMAGES))
    problem = Problem(make_student, predict_features(teacher, data.images), data, EPOCHS, BATCH, RATE)
    seeds, tried, choices = list(SEEDS)[: options.graines], {}, {}
    for method in METHODS.values():
        scored = []
        for choice in candidates(method, choices):
            logits = train_method(problem, method, choice, seeds, digits.validation.images)
            errors = mean_interval(error_rate(logits, digits.validation.labels))
            scored.append((choice, errors))
        choices[method], best = min(scored, key=lambda row: round(row[1].mean, 3))
        tried[method.name] = [
            {**asdict(choice), "error": round(e.mean, 3), "low": round(e.low, 3), "high": round(e.high, 3)}
            for choice, e in scored
        ]
        print(f"{method.name:16} {len(scored):2} essais ; retenu {choices[method]} : {best.mean:.2f} %", flush=True)
    result = {
        "images": IMAGES, "epochs": EPOCHS, "batch_size": BATCH, "learning_rate": RATE, "seeds": seeds,
        "trials": tried, "seconds": round(time.perf_counter() - start),
        "choices": {method.name: asdict(choice) for method, choice in choices.items() if method.loss},
    }  # fmt: skip
    whole = not options.essai and len(seeds) == len(SEEDS)
    if whole:
        path = Path(kdcourse.__file__).parent / "measures/method_choices.json"
        kept = {key: result[key] for key in ("images", "epochs", "batch_size", "learning_rate", "seeds", "choices")}
        write_json(path, {**kept, "provenance": provenance()})
    publish("compare", result, whole)


def candidates(method: Method, choices: dict[Method, Choice]) -> list[Choice]:
    """Les réglages essayés : ceux que la méthode demande ; pour le reste, deux alphas et la température de KD."""
    if method.loss is None:
        return [Choice(0.0)]
    given = {"alpha": ALPHAS, "temperature": (choices[KD].temperature,) if KD in choices else ()} | method.tried
    return [Choice(**dict(zip(given, values, strict=True))) for values in product(*given.values())]


if __name__ == "__main__":
    main()
