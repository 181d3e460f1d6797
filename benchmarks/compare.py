"""Règle chaque méthode sur la validation, et range ses choix dans kdcourse/method_choices.json.

Les graines du réglage ne servent pas ailleurs : la comparaison finale en prend d'autres, et lit le test.
"""

import time
from pathlib import Path

import torch

import kdcourse
from benchmarks._report import provenance, publish
from kdcourse import CNN, digits_teacher, error_rate, load_dataset, mean_interval, predict_features, train_one
from kdcourse._checkpoints import write_json
from kdcourse._command_line import FrenchParser, several
from kdcourse.method_comparison import METHODS, Choice, Problem, train_method

IMAGES, STAGE, EPOCHS, BATCH, RATE = 100, 1, 25, 25, 0.01
SEEDS = range(100, 110)
ALPHAS = [0.5, 0.9]
# Autour de ce qu'un premier balayage préférait.
WEIGHTS = {"hint": [0.1, 1, 10], "attention": [1.6, 16, 160], "cosinus": [0.3, 3, 30], "SP": [3, 30, 300, 3000],
           "RKD": [0.1, 1, 3, 10], "DKD": [0.25, 1, 4]}  # fmt: skip


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
    problem = Problem(make_student, predict_features(teacher, data.images), data, STAGE, EPOCHS, BATCH, RATE)
    seeds, tried, choices = list(SEEDS)[: options.graines], {}, {}
    for method in METHODS:
        scored = []
        for choice in candidates(method, choices):
            logits = train_method(problem, method, choice, seeds, digits.validation.images)
            errors = mean_interval(error_rate(logits, digits.validation.labels))
            scored.append({**choice._asdict(), "error": round(errors.mean, 3), "low": round(errors.low, 3),
                           "high": round(errors.high, 3)})  # fmt: skip
        best = min(scored, key=lambda row: row["error"])
        choices[method], tried[method] = Choice(best["alpha"], best["weight"], best["temperature"]), scored
        print(f"{method:16} {len(scored):2} essais ; retenu {choices[method]} : {best['error']:.2f} %", flush=True)
    result = {
        "images": IMAGES, "epoques": EPOCHS, "lot": BATCH, "pas": RATE, "graines": seeds, "essais": tried,
        "secondes": round(time.perf_counter() - start),
        "choices": {method: choice._asdict() for method, choice in choices.items() if method != "seul"},
    }  # fmt: skip
    whole = not options.essai and len(seeds) == len(SEEDS)
    if whole:
        path = Path(kdcourse.__file__).parent / "method_choices.json"
        kept = {key: result[key] for key in ("images", "epoques", "lot", "pas", "graines", "choices")}
        write_json(path, {**kept, "provenance": provenance()})
    publish("compare", result, whole)


def candidates(method: str, choices: dict[str, Choice]) -> list[Choice]:
    """Les réglages essayés ; une méthode qui s'ajoute à KD garde la température que KD a choisie."""
    if method == "seul":
        return [Choice(0.0)]
    if method == "KD":
        return [Choice(alpha, 1.0, t) for alpha in ALPHAS for t in (4.0, 8.0, 16.0)]
    if method == "PS-KD":
        return [Choice(alpha) for alpha in (0.4, 0.8)]
    weights = WEIGHTS[method.removeprefix("KD + ")]
    return [Choice(alpha, float(weight), choices["KD"].temperature) for alpha in ALPHAS for weight in weights]


if __name__ == "__main__":
    main()
