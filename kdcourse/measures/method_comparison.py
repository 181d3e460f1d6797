"""Toutes les méthodes du cours, mesurées côte à côte : même student, même budget, mêmes graines."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcourse.data.splits import Split
from kdcourse.formats import french
from kdcourse.losses.checks import check_module
from kdcourse.measures.cost import peak_bytes, step_ratios
from kdcourse.measures.intervals import Interval, markdown_table, mean_interval
from kdcourse.methods import ALONE, Choice, Method, find_method, settled_choice
from kdcourse.models import Features, Reader, parameter_count, predict_features
from kdcourse.training.checks import check_run, check_seeds, check_student, check_validation, reader_of
from kdcourse.training.loop import adam, train_epoch
from kdcourse.training.many_students import adapted, initial_model, student_loss, train_many
from kdcourse.training.students import error_rate


class MethodRow(NamedTuple):
    """Ce qu'on a mesuré d'une méthode."""

    method: Method
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


class Problem(NamedTuple):
    """Ce que toutes les méthodes partagent : le student, ce que le teacher voit, les données et le budget."""

    make_student: Callable[[], nn.Module]
    teacher_features: Features
    data: Split
    epochs: int
    batch_size: int
    learning_rate: float = 3e-3

    def make_model(self, method: Method, choice: Choice) -> Callable[[], nn.Module]:
        """Le student, avec son adaptateur si la méthode compare des cartes canal par canal."""
        if not method.needs_adapter:
            return self.make_student
        return adapted(self.make_student, self.data.images[:1], self.teacher_features, choice.stage)


def train_method(problem: Problem, method: Method, choice: Choice, seeds: Sequence[int], images: Tensor) -> Tensor:
    """Logits ``(graines, N, C)``, sur ``images``, des students qu'une méthode a entraînés."""
    make_model, data = problem.make_model(method, choice), problem.data
    options = {name: getattr(problem, name) for name in ("epochs", "batch_size", "learning_rate")}
    if method.remembers:
        from kdcourse.training.large_student import (
            distill_seeds,  # accelerate, dont les autres méthodes n'ont pas besoin
        )

        models = distill_seeds(make_model, data, None, seeds, method=method, choice=choice, **options)
        with torch.no_grad():
            return torch.stack([model.to(images.device)(images) for model in models])
    if method.needs_teacher:
        options |= dict(distillation=method.distillation(choice), teacher=problem.teacher_features)
    return train_many(make_model, data, seeds=seeds, alphas=choice.alpha, **options).logits(images)


def one_step(problem: Problem, method: Method, choice: Choice) -> Callable[[], object]:
    """Un pas d'entraînement complet d'une méthode, sur un lot, à mesurer ; le teacher est déjà passé."""
    model = initial_model(problem.make_model(method, choice), 0, problem.data.images).to(problem.data.images.device)
    few = slice(0, problem.batch_size)
    batch, teacher = problem.data.where(few), problem.teacher_features.map(lambda part: part[few].clone())
    read, distillation = Reader(model, method.reads_features), method.distillation(choice)

    def loss_of_batch(_, images, labels):
        student = read(images)
        loss = student_loss(student, labels, distillation, teacher, choice.alpha)
        if method.remembers:
            teacher.logits.copy_(student.logits.detach())
        return loss

    return partial(train_epoch, model, [batch], loss_of_batch, adam(model.parameters(), problem.learning_rate))


def compare_distillation_methods(
    make_student: Callable[[], nn.Module],
    teacher: nn.Module,
    data: Split,
    test: Split,
    choices: Mapping[str | Method, Choice],
    *,
    seeds: Sequence[int] = range(10),
    epochs: int = 25,
    batch_size: int = 25,
    learning_rate: float = 0.01,
) -> list[MethodRow]:
    """Entraîne le même student par chaque méthode, et mesure erreur, gain, temps, mémoire et paramètres de plus.

    Mêmes graines (poids de départ, lots) et même nombre de pas pour toutes ; les gains sont appariés. Le temps est
    celui d'un pas, le teacher étant passé une fois pour toutes. ``method_table`` et ``plot_methods`` montrent les
    lignes.

    Args:
        make_student: fonction sans argument qui construit un student à ``forward_features``.
        teacher: modèle figé à ``forward_features``.
        data: images et étiquettes données au student.
        test: images et étiquettes de test.
        choices: méthode, ou son nom dans ``METHODS`` → réglages ; voir ``load_choices``.
        seeds, epochs, batch_size, learning_rate: comme pour ``train_many``.

    Returns:
        Une ligne par méthode, dans l'ordre de ``choices``, le student seul en tête.

    Raises:
        ValueError: méthode inconnue ; le message donne celles qui existent.
    """
    seeds = check_seeds(seeds)
    if len(set(seeds)) < max(2, len(seeds)):
        raise ValueError(f"seeds : {seeds} reçu, deux graines distinctes au moins attendues, pour un intervalle.")
    if not isinstance(choices, Mapping):
        raise TypeError(f"choices : {type(choices).__name__} reçu, un dictionnaire méthode → Choice attendu.")
    given = {find_method(method, "choices"): choice for method, choice in choices.items()}
    if len(given) < len(choices):
        raise ValueError("choices : une méthode reçue deux fois, par son nom et par sa valeur ; une seule attendue.")
    tried = {ALONE: Choice(0.0)} | {method: settled_choice(c, method) for method, c in given.items() if method.loss}
    epochs, batch_size, learning_rate = check_run(data, epochs, batch_size, learning_rate)
    check_module("teacher", teacher)
    data, student = Split(*data), initial_model(make_student, seeds[0], data[0]).to(data[0].device)
    for method, choice in tried.items():
        for name, model in (("teacher", teacher), ("make_student", student)):
            read = reader_of(name, model, method, choice, data.images[:1])
    check_validation(test, data, check_student(read, data), "test")
    test = Split(*test)
    problem = Problem(make_student, predict_features(teacher, data.images), data, epochs, batch_size, learning_rate)
    errors = {m: error_rate(train_method(problem, m, c, seeds, test.images), test.labels) for m, c in tried.items()}
    device = data.images.device.type
    steps = [one_step(problem, method, choice) for method, choice in tried.items()]
    ratios, peaks = step_ratios(steps, device=device), [peak_bytes(step, device) for step in steps]
    plain = parameter_count(initial_model(make_student, 0, data.images))
    return [
        MethodRow(
            method,
            errors[method].cpu(),
            mean_interval(errors[method]),
            None if method is ALONE else mean_interval(errors[ALONE] - errors[method]),
            ratio,
            peak - peaks[0],
            parameter_count(initial_model(problem.make_model(method, choice), 0, data.images)) - plain,
        )
        for (method, choice), ratio, peak in zip(tried.items(), ratios, peaks, strict=True)
    ]


def method_table(rows: Sequence[MethodRow]) -> str:
    """Les lignes de ``compare_distillation_methods``, en un tableau Markdown."""
    header = ["méthode", "erreur (%)", "gain (points)", "temps d'un pas", "mémoire", "paramètres"]
    cells = [
        [row.method.name, row.error, row.gain or "", f"× {french(row.step_ratio)}",
         f"{french(row.extra_bytes / 1e3, 0)} ko", row.extra_parameters]
        for row in rows
    ]  # fmt: skip
    return markdown_table(header, cells)


def method_needs(method: Method) -> str:
    """Ce qu'une méthode demande, en français : « un teacher, ses cartes »."""
    asked = (
        ("un teacher", method.needs_teacher), ("ses cartes", method.reads_maps),
        ("ses embeddings", method.reads_embeddings), ("un adaptateur", method.needs_adapter),
        ("le lot entier", method.whole_batch), ("l'indice de chaque image", method.remembers),
    )  # fmt: skip
    return ", ".join(text for text, wanted in asked if wanted) or "rien"
