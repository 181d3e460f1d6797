"""Règle chaque méthode sur la validation, budget par budget, puis les mesure toutes sur le test.

Un *laboratoire* a son teacher et ses cent images : une différence qui tient dans dix laboratoires ne vient ni d'un
teacher, ni d'un tirage d'images. Les réglages sont choisis un à un, sur une échelle que l'on prolonge tant que le
meilleur est au bord, avec d'autres graines que celles de la mesure. Une heure sur un cœur.
"""

import time
from collections.abc import Callable
from dataclasses import asdict, replace
from functools import cache

import torch

from benchmarks import _report
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
    predict_features,
    train_one,
)
from kdcourse.command_line import FrenchParser, several
from kdcourse.measures.method_comparison import Problem, train_method
from kdcourse.training.checkpoints import write_json

IMAGES, BATCH, RATE = 100, 25, 0.01
EPOCHS = (25, 100)  # 100 pas, puis 400
LABORATORIES, SEEDS = 10, 20
TUNING_LABORATORIES, TUNING_SEEDS = 2, range(100, 105)
ALPHAS = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0)
WIDENED = 4  # prolongements d'une échelle, au plus


def make_student() -> CNN:
    """Un réseau convolutif de deux étages, qui a des cartes à comparer."""
    return CNN(channels=(8, 16))


def main(argv: list[str] | None = None) -> None:
    parser = FrenchParser("python -m benchmarks compare", __doc__.splitlines()[0])
    parser.add_argument("--graines", type=several, default=SEEDS, help=f"graines par laboratoire ({SEEDS} par défaut)")
    parser.add_argument("--essai", action="store_true", help="un budget, un laboratoire, aucun réglage ; n'écrit rien")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    start, digits, trained = time.perf_counter(), load_dataset("digits"), cache(laboratory)
    laboratories = range(1 if options.essai else LABORATORIES)
    kept, trials, errors, controls, choices = {}, {}, {}, {}, {}
    for epochs in EPOCHS[:1] if options.essai else EPOCHS:

        def problem(index: int, epochs=epochs) -> Problem:
            return trained(index)._replace(epochs=epochs)

        for method in METHODS.values():

            def score(choice: Choice, method=method, problem=problem) -> float:
                parts = range(1 if options.essai else TUNING_LABORATORIES)
                wrong = [error(problem(k), method, choice, TUNING_SEEDS, digits.validation) for k in parts]
                return round(torch.stack(wrong).mean().item(), 3)

            first = choices.get(method) or initial_choice(method, choices)
            choices[method], tried = tune(method, first, score, once=options.essai)
            trials.setdefault(epochs, {})[method.name] = [
                [c.alpha, c.scale, c.temperature, e] for c, e in tried.items()
            ]
            seconds = time.perf_counter() - start
            print(f"{epochs} époques, {method.name} : {choices[method]}, {tried[choices[method]]} %, {seconds:.0f} s")
        kept[epochs] = {method.name: asdict(choice) for method, choice in choices.items() if method.loss}

        def wrong(method: Method, choice: Choice, problem=problem) -> list:
            seeds = range(options.graines)
            return images([error(problem(k), method, choice, seeds, digits.test) for k in laboratories], digits.test)

        errors[epochs] = {method.name: wrong(method, choice) for method, choice in choices.items()}
        controls[epochs] = {name: wrong(KD, choice) for name, choice in witnesses(choices).items()}
        print(f"{epochs} époques, mesurées sur le test : {time.perf_counter() - start:.0f} s", flush=True)
    settings = {"images": IMAGES, "epochs": EPOCHS, "batch_size": BATCH, "learning_rate": RATE}
    result = {**settings, "test": len(digits.test.labels), "errors": errors, "controls": controls}
    if whole := not options.essai and options.graines >= SEEDS:
        write_json(_report.SHOWN / "method_choices.json", {**settings, "choices": kept, "provenance": provenance()})
        write_json(_report.SHOWN / "comparison_results.json", {**result, "provenance": provenance()})
    columns = ["alpha", "scale", "temperature", "erreur de validation (%)"]
    seconds = round(time.perf_counter() - start)
    publish("compare", {"columns": columns, "trials": trials, "choices": kept, "seconds": seconds}, whole)


def laboratory(index: int) -> Problem:
    """Un teacher d'une graine à lui, et cent images à lui ; au premier budget."""
    train = load_dataset("digits").train
    teacher = train_one(digits_teacher, train, seed=index, epochs=10)
    data = train.where(slice(index * IMAGES, (index + 1) * IMAGES))
    return Problem(make_student, predict_features(teacher, data.images), data, EPOCHS[0], BATCH, RATE)


def error(problem: Problem, method: Method, choice: Choice, seeds, split) -> torch.Tensor:
    """L'erreur de chaque graine sur ``split``, en %."""
    return error_rate(train_method(problem, method, choice, list(seeds), split.images), split.labels)


def images(found: list[torch.Tensor], split) -> list:
    """Des nombres entiers d'images mal classées : exacts, et trois fois plus courts qu'un pourcentage."""
    return (torch.stack(found) * len(split.labels) / 100).round().int().tolist()


def witnesses(choices: dict[Method, Choice]) -> dict[str, Choice]:
    """KD, à chaque température qu'une somme a choisie et que KD n'a pas : ce que la température seule apporte."""
    own = choices[KD].temperature
    others = {choice.temperature for method, choice in choices.items() if method.base is KD} - {own}
    return {f"KD, T = {heat:g}": replace(choices[KD], temperature=heat) for heat in sorted(others)}


def ladders(method: Method) -> dict[str, tuple[float, ...]]:
    """Les valeurs essayées d'abord, réglage par réglage."""
    return {"alpha": ALPHAS, **method.tried} if method.loss else {}


def initial_choice(method: Method, choices: dict[Method, Choice]) -> Choice:
    """Le milieu de chaque échelle, et la température de KD pour qui n'en essaie pas."""
    if method.loss is None:
        return Choice(0.0)
    middle = {name: values[len(values) // 2] for name, values in ladders(method).items()}
    return Choice(**({"temperature": choices[KD].temperature} if KD in choices else {}) | middle)


def tune(method: Method, choice: Choice, score: Callable, once: bool = False) -> tuple[Choice, dict[Choice, float]]:
    """Le meilleur réglage, et tous ceux qu'on a essayés : l'un après l'autre, deux tours."""
    tried = {choice: score(choice)}
    for _ in range(0 if once else 2):
        for name, values in ladders(method).items():
            values = sorted({*values, getattr(choice, name)})
            for _ in range(1 + WIDENED):
                for candidate in (replace(choice, **{name: value}) for value in values):
                    if candidate not in tried:
                        tried[candidate] = score(candidate)
                choice = min((replace(choice, **{name: value}) for value in values), key=tried.get)
                wider = widened(values, values.index(getattr(choice, name)))
                if wider == values or (name == "alpha" and max(wider) > 1):
                    break
                values = wider
    return choice, tried


def widened(values: list[float], best: int) -> list[float]:
    """L'échelle, un pas plus loin du côté où le meilleur est au bord ; elle-même s'il est à l'intérieur."""
    if best == 0:
        return [float(f"{values[0] ** 2 / values[1]:.2g}"), *values]
    if best == len(values) - 1:
        return [*values, float(f"{values[-1] ** 2 / values[-2]:.2g}")]
    return values


if __name__ == "__main__":
    main()
