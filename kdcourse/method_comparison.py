"""Toutes les méthodes du cours, mesurées côte à côte : même student, même budget, mêmes graines."""

import json
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from importlib.resources import files
from typing import NamedTuple

import torch
import torch.nn.functional as F
from IPython.display import display
from torch import Tensor, nn

from kdcourse._common import check_alpha, check_non_negative, check_temperature
from kdcourse.comparison import Interval, error_rate, french, mean_interval
from kdcourse.cost import peak_bytes, step_ratios
from kdcourse.data import Batches, Split
from kdcourse.features import attention_loss, hint_loss
from kdcourse.logits import dkd_loss, kd_loss
from kdcourse.models import AdaptedStudent, Features, parameter_count, predict_features
from kdcourse.relations import (
    cosine_relation_loss,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
)
from kdcourse.self_distillation import ps_kd, ps_kd_loss
from kdcourse.training import Distillation, initial_model, take, train_many


class Choice(NamedTuple):
    """Les réglages d'une méthode, choisis sur la validation."""

    alpha: float
    weight: float = 1.0
    """Facteur du terme propre à la méthode (beta pour DKD)."""
    temperature: float = 4.0


class MethodRow(NamedTuple):
    """Ce qu'on a mesuré d'une méthode."""

    method: str
    errors: Tensor
    """Erreur de test de chaque graine, en %, ``(graines,)``."""
    error: Interval
    gain: Interval | None
    """Gain apparié sur le student seul, en points ; rien pour lui-même."""
    step_ratio: float
    """Temps d'un pas, rapporté à celui du student seul."""
    extra_bytes: int
    """Mémoire de pointe d'un pas, de plus que celle du student seul."""
    extra_parameters: int
    """Paramètres à apprendre de plus que ceux du student (un adaptateur)."""


def _term(loss: Callable[[Tensor, Tensor], Tensor], part: str) -> Callable:
    return lambda student, teacher, stage: loss(*(_part(features, part, stage) for features in (student, teacher)))


def _part(features: Features, part: str, stage: int) -> Tensor:
    return features.maps[stage] if part == "map" else features.embedding


def _rkd(student: Tensor, teacher: Tensor) -> Tensor:
    return 25 * rkd_distance_loss(student, teacher) + 50 * rkd_angle_loss(student, teacher)


TERMS = {
    "hint": _term(hint_loss, "map"),
    "attention": _term(attention_loss, "map"),
    "cosinus": _term(cosine_relation_loss, "embedding"),
    "SP": _term(similarity_preserving_loss, "embedding"),
    "RKD": _term(_rkd, "embedding"),
}
"""Le terme propre à chaque méthode, dans l'échelle de son article ; ``Choice.weight`` le multiplie."""
METHODS = ("seul", "KD", "DKD", *TERMS, "PS-KD", *(f"KD + {name}" for name in TERMS))
WITHOUT_TEACHER = ("seul", "PS-KD")


def distillation_of(method: str, choice: Choice, stage: int) -> Distillation:
    """La perte d'une méthode entre deux ``Features`` d'un même lot ; ``stage`` est l'étage dont on compare les cartes.

    Raises:
        ValueError: méthode inconnue, ou sans perte entre features (le student seul, PS-KD).
    """

    def loss(student: Features, teacher: Features, labels: Tensor) -> Tensor:
        if method == "DKD":
            return dkd_loss(student.logits, teacher.logits, labels, choice.temperature, beta=choice.weight)
        total = 0.0
        if method.startswith("KD"):
            total = kd_loss(student.logits, teacher.logits, choice.temperature)
        term = TERMS.get(method.removeprefix("KD + "))
        return total if term is None else total + choice.weight * term(student, teacher, stage)

    if method not in METHODS or method in WITHOUT_TEACHER:
        known = ", ".join(name for name in METHODS if name not in WITHOUT_TEACHER)
        raise ValueError(f"method : {method!r} reçu, une méthode qui compare des features attendue : {known}.")
    return loss


def load_choices() -> dict[str, Choice]:
    """Les réglages que ``python -m benchmarks compare`` a choisis sur la validation, méthode par méthode."""
    text = files("kdcourse").joinpath("method_choices.json").read_text(encoding="utf-8")
    return {method: Choice(**choice) for method, choice in json.loads(text)["choices"].items()}


class Problem(NamedTuple):
    """Ce que toutes les méthodes partagent : le student, ce que le teacher voit, les données et le budget."""

    make_student: Callable[[], nn.Module]
    teacher_features: Features
    data: Split
    stage: int
    epochs: int
    batch_size: int
    learning_rate: float = 3e-3

    def make_model(self, method: str) -> Callable[[], nn.Module]:
        """Le student, avec son adaptateur si la méthode compare des cartes canal par canal."""
        if "hint" not in method:
            return self.make_student
        seen = predict_features(initial_model(self.make_student, 0).to(self.data.images.device), self.data.images[:1])
        channels = (features.maps[self.stage].shape[1] for features in (seen, self.teacher_features))
        return partial(_adapted, self.make_student, self.stage, *channels)


def _adapted(make_student, stage, in_channels, out_channels) -> AdaptedStudent:
    return AdaptedStudent(make_student(), stage, in_channels, out_channels)


def train_method(problem: Problem, method: str, choice: Choice, seeds: Sequence[int], images: Tensor) -> Tensor:
    """Logits ``(graines, N, C)``, sur ``images``, des students qu'une méthode a entraînés."""
    options = {name: getattr(problem, name) for name in ("epochs", "batch_size", "learning_rate")}
    if method == "PS-KD":
        models = [initial_model(problem.make_student, seed).to(images.device) for seed in seeds]
        for model, seed in zip(models, seeds, strict=True):
            batches = Batches(problem.data, seed, problem.batch_size)
            ps_kd(model, batches, problem.epochs, alpha=choice.alpha, learning_rate=problem.learning_rate)
        with torch.no_grad():
            return torch.stack([model(images) for model in models])
    if method == "seul":
        return train_many(problem.make_student, problem.data, seeds=seeds, **options).logits(images)
    students = train_many(
        problem.make_model(method), problem.data, seeds=seeds, alphas=choice.alpha, **options,
        distillation=distillation_of(method, choice, problem.stage), teacher_features=problem.teacher_features,
    )  # fmt: skip
    return students.logits(images)


def one_step(problem: Problem, method: str, choice: Choice) -> Callable[[], None]:
    """Un pas d'entraînement complet d'une méthode, sur un lot, à mesurer ; le teacher est déjà passé."""
    model = initial_model(problem.make_model(method), 0).to(problem.data.images.device)
    optimizer = torch.optim.Adam(model.parameters(), lr=problem.learning_rate, fused=True)
    batch = torch.arange(min(problem.batch_size, len(problem.data.labels)), device=problem.data.labels.device)
    images, labels = (part[batch] for part in problem.data)
    if method not in WITHOUT_TEACHER:
        distillation, teacher = distillation_of(method, choice, problem.stage), take(problem.teacher_features, batch)
    else:
        memory = problem.teacher_features.logits.softmax(dim=-1)

    def step() -> None:
        student = model.forward_features(images)
        if method == "PS-KD":
            loss = ps_kd_loss(student.logits, memory[batch], labels, choice.alpha)
            memory[batch] = student.logits.detach().softmax(dim=-1)
        else:
            loss = F.cross_entropy(student.logits, labels)
            if method != "seul":
                loss = choice.alpha * distillation(student, teacher, labels) + (1 - choice.alpha) * loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    return step


def compare_distillation_methods(
    make_student: Callable[[], nn.Module],
    teacher: nn.Module,
    data: Split,
    test: Split,
    choices: Mapping[str, Choice],
    *,
    stage: int = 1,
    seeds: Sequence[int] = range(10),
    epochs: int = 25,
    batch_size: int = 25,
    learning_rate: float = 0.01,
) -> list[MethodRow]:
    """Entraîne le même student par chaque méthode, et mesure erreur, gain, temps, mémoire et paramètres de plus.

    Mêmes graines (poids de départ, lots) et même nombre de pas pour toutes ; les gains sont appariés. Le temps est
    celui d'un pas, le teacher étant passé une fois pour toutes. Imprime le tableau, affiche la figure, et rend les
    lignes, dans l'ordre de ``choices``, le student seul en tête.

    Args:
        make_student: fonction sans argument qui construit un student à ``forward_features``.
        teacher: modèle figé à ``forward_features``.
        data: images et étiquettes données au student.
        test: images et étiquettes de test.
        choices: méthode → réglages, de ``METHODS`` ; voir ``load_choices``.
        stage: étage dont on compare les cartes (hint, attention).
        seeds, epochs, batch_size, learning_rate: comme pour ``train_many``.

    Raises:
        ValueError: méthode inconnue ; le message donne celles qui existent.
    """
    from kdcourse.plots.method_comparison import plot_methods  # qui importe MethodRow d'ici

    unknown = [method for method in choices if method not in METHODS]
    if unknown:
        raise ValueError(f"choices : {', '.join(map(repr, unknown))} reçu, des méthodes de {METHODS} attendues.")
    if len(list(seeds)) < 2:
        raise ValueError(f"seeds : {list(seeds)} reçu, deux graines au moins attendues, pour un intervalle.")
    for method, choice in choices.items():
        if not isinstance(choice, Choice):
            raise TypeError(f"choices[{method!r}] : {type(choice).__name__} reçu, Choice(alpha, …) attendu.")
        check_alpha(choice.alpha)
        check_non_negative("weight", choice.weight)
        check_temperature(choice.temperature)
    choices = {"seul": Choice(0.0)} | {method: choice for method, choice in choices.items() if method != "seul"}
    features = predict_features(teacher, data.images)
    problem = Problem(make_student, features, data, stage, epochs, batch_size, learning_rate)
    errors = {m: error_rate(train_method(problem, m, c, seeds, test.images), test.labels) for m, c in choices.items()}
    device = data.images.device.type
    steps = [one_step(problem, method, choice) for method, choice in choices.items()]
    ratios, peaks = step_ratios(steps, device=device), [peak_bytes(step, device) for step in steps]
    plain = parameter_count(initial_model(make_student, 0))
    rows = [
        MethodRow(
            method,
            errors[method].cpu(),
            mean_interval(errors[method]),
            None if method == "seul" else mean_interval(errors["seul"] - errors[method]),
            ratio,
            peak - peaks[0],
            parameter_count(initial_model(problem.make_model(method), 0)) - plain,
        )
        for method, ratio, peak in zip(choices, ratios, peaks, strict=True)
    ]
    print(method_table(rows))
    display(plot_methods(rows))
    return rows


def method_table(rows: Sequence[MethodRow]) -> str:
    """Le tableau des méthodes, en colonnes alignées."""
    header = ["méthode", "erreur (%)", "gain (points)", "temps d'un pas", "mémoire", "paramètres"]
    cells = [
        [
            row.method,
            str(row.error),
            str(row.gain or ""),
            f"× {french(row.step_ratio)}",
            f"{french(row.extra_bytes / 1e3, 0)} ko",
            str(row.extra_parameters),
        ]
        for row in rows
    ]
    widths = [max(len(line[column]) for line in [header, *cells]) for column in range(len(header))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in [header, *cells]
    )
