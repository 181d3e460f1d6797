"""Le front de 10.6 : chaque forme de student, chaque taille, à deux budgets, puis arrondi à l'octet.

Mêmes images, mêmes teachers (un par graine) et même boucle qu'en 10.6. Chaque student a son pas d'apprentissage, choisi
sur la validation à son budget, parmi ceux de ``RATES``. Un quart d'heure sur un cœur.
"""

import copy
import time
from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import nn

from benchmarks import _report
from benchmarks._report import publish
from kdcourse import (
    MLP,
    convert_to_tensor_train,
    error_rate,
    grid,
    initial_model,
    load_dataset,
    parameter_count,
    train_many,
    train_one,
)
from kdcourse.command_line import FrenchParser, several

SEEDS, STEPS, BATCH = 10, 200, 25
RATES = (0.003, 0.01, 0.02)
FRONT = {
    "TT": (2, 4, 6, 8, 12),
    "SVD": (2, 4, 6, 8, 16),
    "petit dense": (8, 16, 32, 56, 120),
}
wide = partial(MLP, hidden=(512, 512))


def main(argv: list[str] | None = None) -> None:
    parser = FrenchParser("python -m benchmarks tensor_train", __doc__.splitlines()[0])
    parser.add_argument("--graines", type=several, default=SEEDS, help="graines mesurées (10 par défaut)")
    options = parser.parse_args(argv)
    torch.set_num_threads(1)
    start, seeds, digits = time.perf_counter(), range(options.graines), load_dataset("digits")
    teachers = [train_one(wide, digits.train, seed=seed, epochs=10) for seed in seeds]
    fresh = [initial_model(wide, seed) for seed in seeds]
    with torch.no_grad():
        guides = torch.stack([teacher(digits.train.images) for teacher in teachers])
    runs = []
    for asked in asked_runs():
        convert = SHAPES[asked["shape"]]
        origins = fresh if asked["start"] == "neuf" else teachers
        runs.append(asked | best_run(asked, [convert(model, asked["size"]) for model in origins], guides, digits))
        print(f"{time.perf_counter() - start:.0f} s : {runs[-1]}", flush=True)
    publish("tensor_train_results", {"runs": runs}, options.graines >= SEEDS, _report.SHOWN)  # ce que 10.6 montre


def asked_runs() -> Iterator[dict]:
    """Ce que l'on mesure : le front, puis les étiquettes seules, puis un réseau neuf à la place du teacher."""
    usual = {"start": "teacher", "alpha": 0.9, "images": 1000}
    for shape, sizes in FRONT.items():
        for size in sizes:
            yield from ({**usual, "shape": shape, "size": size, "budget": budget} for budget in (1, 4))
    other = ({"alpha": 0.0}, {"images": 100}, {"images": 100, "alpha": 0.0}, {"start": "neuf"})
    for changed in other:
        yield from ({**usual, "shape": "TT", "size": 4, "budget": budget} | changed for budget in (1, 4))


def best_run(asked: dict, students: list[nn.Module], guides: torch.Tensor, digits) -> dict:
    """Les mêmes students à chaque pas d'apprentissage ; celui que la validation préfère."""
    count, tried = asked["images"], []
    for rate in RATES:
        models, started = iter(copy.deepcopy(students)), time.process_time()
        trained = train_many(
            lambda models=models: next(models), digits.train.where(slice(0, count)), guides[:, :count],
            **grid(alphas=[asked["alpha"]], seeds=range(len(students))),
            epochs=int(asked["budget"] * STEPS * BATCH) // count, batch_size=BATCH, learning_rate=rate,
        )  # fmt: skip
        seconds = time.process_time() - started
        tried.append((trained.errors(digits.validation).mean().item(), rate, seconds, trained))
    _, rate, seconds, trained = min(tried, key=lambda one: one[0])
    models = [trained[index] for index in range(len(students))]
    return {
        "parameters": parameter_count(models[0]), "learning_rate": rate, "seconds": round(seconds, 2),
        "validation": rounded(trained.errors(digits.validation)), "test": rounded(trained.errors(digits.test)),
        "int8": rounded([error(through_int8(model), digits) for model in models]),
    }  # fmt: skip


@torch.no_grad()
def error(model: nn.Module, digits) -> float:
    return error_rate(model(digits.test.images), digits.test.labels).item()


@torch.no_grad()
def through_int8(model: nn.Module) -> nn.Module:
    """Le modèle que rendent ses tenseurs arrondis à int8, chacun sous une échelle."""
    model = copy.deepcopy(model)
    for parameter in model.parameters():
        scale = parameter.abs().max() / 127
        parameter.copy_((parameter / scale).round() * scale)
    return model


def rounded(errors) -> list[float]:
    return [round(float(value), 3) for value in errors]


def low_rank(linear: nn.Linear, rank: int) -> nn.Sequential:
    """La couche, en deux facteurs de la SVD tronquée de son poids."""
    u, s, vh = torch.linalg.svd(linear.weight.detach(), full_matrices=False)
    first = nn.Linear(linear.in_features, rank, bias=False)
    second = nn.Linear(rank, linear.out_features)
    first.weight.data = s[:rank, None].sqrt() * vh[:rank]
    second.weight.data = u[:, :rank] * s[:rank].sqrt()
    second.bias.data = linear.bias.detach().clone()
    return nn.Sequential(first, second)


def truncated(model: nn.Module, rank: int) -> nn.Module:
    """Une copie du modèle dont chaque couche cachée est en deux facteurs."""
    model = copy.deepcopy(model)
    for stage in model.stages:
        stage[0] = low_rank(stage[0], rank)
    return model


# Forme → ce qui fait un student d'un teacher et d'une taille ; le petit dense ne doit rien au teacher.
SHAPES: dict[str, Callable[[nn.Module, int], nn.Module]] = {
    "TT": convert_to_tensor_train,
    "SVD": truncated,
    "petit dense": lambda model, width: MLP(hidden=(width, width)),
}


if __name__ == "__main__":
    main()
