"""Les gains de 10.5 selon le nombre de pas : le notebook s'en tient à un budget, cette mesure en parcourt six.

Mêmes images, même teacher, mêmes réglages et mêmes graines qu'en 10.5 ; chaque budget a ses propres students, dont
l'erreur et l'ECE sont mesurées sur la validation et sur le test. Ce qui s'entraîne une graine à la fois l'est à deux
budgets. Dix minutes sur un cœur.
"""

import time
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks import _report
from benchmarks._report import publish
from kdcourse import (
    Batches,
    SelfDistillation,
    digits_student,
    digits_teacher,
    error_rate,
    expected_calibration_error,
    initial_model,
    load_dataset,
    progressive_self_distillation,
    ps_kd,
    train_many,
    train_one,
)
from kdcourse.command_line import FrenchParser, several
from kdcourse.data.splits import Split

SEEDS = 10
RATE = 3e-3
EPOCHS = {1000: 60, 100: 300}  # images → époques du chapitre
BUDGETS, TWO = (0.25, 0.5, 1, 2, 4, 8), (1, 4)  # fois ces époques ; à la main, deux budgets
Found = Iterator[tuple[str, int, dict[str, Tensor]]]  # méthode, pas, et les logits de chaque partie


def main(argv: list[str] | None = None) -> None:
    parser = FrenchParser("python -m benchmarks self_distillation", __doc__.splitlines()[0])
    parser.add_argument("--graines", type=several, default=SEEDS, help="graines mesurées (10 par défaut)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    start, digits = time.perf_counter(), load_dataset("digits")
    parts, seeds = {name: getattr(digits, name) for name in ("validation", "test")}, range(options.graines)
    guides, found = teachers(digits.train), {}
    for size, epochs in EPOCHS.items():
        data, own = digits.train.where(slice(0, size)), found.setdefault(str(size), {})
        taught = {name: logits[:size] for name, logits in guides.items()}
        names, budgets = (list(TAUGHT), BUDGETS) if size == 1000 else (["seul", "lissage", "teacher"], TWO)
        measured = [stacked(data, taught, names, budgets, epochs, seeds, parts), by_hand(data, epochs, seeds, parts)]
        if size == 100:
            measured.append(lineages(data, epochs, seeds, parts))
        for name, steps, logits in (one for method in measured for one in method):
            own.setdefault(name, {})[str(steps)] = {part: scores(logits[part], parts[part].labels) for part in parts}
            print(f"{size} images, {name}, {steps} pas : {time.perf_counter() - start:.0f} s", flush=True)
    # Ce que 10.5 montre.
    publish("self_distillation_results", {"measures": found}, options.graines >= SEEDS, _report.SHOWN)


def scores(logits: Tensor, labels: Tensor) -> dict[str, list[float]]:
    """Erreur et ECE de chaque graine, en %."""
    measured = {"error": error_rate(logits, labels), "ece": expected_calibration_error(logits, labels)}
    return {name: [round(value, 3) for value in values.tolist()] for name, values in measured.items()}


def teachers(data: Split) -> dict[str, Tensor]:
    """Les logits de chaque teacher sur les images d'entraînement : le vrai, le même moins sûr, un autre, aucun."""
    true = train_one(digits_teacher, data, epochs=30)
    smooth = train_one(digits_teacher, data, torch.zeros(len(data.labels), 10), temperature=1.0, alpha=0.1, epochs=30)
    with torch.no_grad():
        sure, modest = (model(data.images) for model in (true, smooth))
    return {"aucun": torch.zeros_like(sure), "vrai": sure, "quart": sure / 4, "lissé": modest}


# Nom → le teacher, T, alpha.
TAUGHT = {
    "seul": ("aucun", 1.0, 0.0),
    "lissage": ("aucun", 1.0, 0.3),
    "teacher": ("vrai", 4.0, 0.9),
    "teacher, T = 1": ("vrai", 1.0, 0.9),
    "teacher, T = 20": ("vrai", 20.0, 0.9),
    "logits / 4": ("quart", 4.0, 0.9),
    "teacher lissé": ("lissé", 4.0, 0.9),
}


def stacked(data, guides, names, budgets, epochs: int, seeds: range, parts: dict[str, Split]) -> Found:
    """Ce que ``train_many`` entraîne d'un coup, à chaque budget : une méthode est un teacher, T et alpha."""
    guide, temperatures, alphas = zip(*(TAUGHT[name] for name in names for _ in seeds), strict=True)
    for budget in budgets:
        own = max(1, int(budget * epochs))
        students = train_many(
            digits_student, data, torch.stack([guides[one] for one in guide]), seeds=[*seeds] * len(names),
            temperatures=temperatures, alphas=alphas, epochs=own, learning_rate=RATE,
        )  # fmt: skip
        logits = {name: students.rows(students.logits(part.images)) for name, part in parts.items()}
        for rank, name in enumerate(names):
            yield name, steps_of(data, own), {part: found[rank] for part, found in logits.items()}


def steps_of(data: Split, epochs: int) -> int:
    return epochs * -(-len(data.labels) // 100)


def remembering(count: int, own: bool) -> Callable:
    """La perte de 10.5 dont la cible est la dernière prédiction de cet exemple, ou celle du lot précédent."""
    loss, memory = SelfDistillation(temperature=1.0), torch.full((count, 10), torch.nan)

    def loss_of_batch(model: nn.Module, images: Tensor, labels: Tensor, indices: Tensor) -> Tensor:
        logits, rows = model(images), indices if own else torch.arange(len(labels))
        previous = memory[rows]
        memory[rows] = logits.detach()
        if previous.isnan().any():
            return F.cross_entropy(logits, labels)
        return loss(logits, previous, labels, alpha=0.3).total

    return loss_of_batch


def trained_with(own: bool) -> Callable:
    def train(model: nn.Module, batches: Batches, epochs: int) -> None:
        loss, optimizer = remembering(len(batches.data.labels), own), torch.optim.Adam(model.parameters(), lr=RATE)
        for _ in range(epochs):
            for batch in batches:
                optimizer.zero_grad()
                loss(model, *batch).backward()
                optimizer.step()

    return train


BY_HAND = {
    "lot précédent": trained_with(own=False),
    "même exemple": trained_with(own=True),
    "photographie": lambda *run: progressive_self_distillation(*run, temperature=1.0, learning_rate=RATE),
    "PS-KD": lambda *run: ps_kd(*run, learning_rate=RATE),
}


def by_hand(data: Split, epochs: int, seeds: range, parts: dict[str, Split]) -> Found:
    """Ce qui se souvient d'un pas à l'autre, une graine à la fois."""
    for budget in TWO:
        for name, train in BY_HAND.items():
            models = []
            for seed in seeds:
                models.append(initial_model(digits_student, seed))
                train(models[-1], Batches(data, seed), budget * epochs)
            with torch.no_grad():
                logits = {k: torch.stack([model.eval()(p.images) for model in models]) for k, p in parts.items()}
            yield name, steps_of(data, budget * epochs), logits


def lineages(data: Split, epochs: int, seeds: range, parts: dict[str, Split]) -> Found:
    """Les générations de Born-Again, à T = 4 et alpha = 1 ; la première est « seul »."""
    for budget in TWO:
        asked = {"epochs": budget * epochs, "learning_rate": RATE, "temperatures": 4.0}
        students = train_many(digits_student, data, seeds=seeds, **asked)
        for generation in (2, 3):
            own = [seed + 100 * (generation - 1) for seed in seeds]
            students = train_many(digits_student, data, students.logits(data.images), seeds=own, alphas=1.0, **asked)
            logits = {name: students.logits(part.images) for name, part in parts.items()}
            yield f"génération {generation}", steps_of(data, budget * epochs), logits


if __name__ == "__main__":
    main()
