"""Le grand moteur : un student, aussi gros qu'il faut, sur processeur, sur GPU ou sur plusieurs, par ``accelerate``.

La boucle est celle de ``train_one``, et un test l'exige : mêmes graines, mêmes paramètres. Quatre choses s'y ajoutent.
Chaque processus ne traite que sa part du lot. DDP (*distributed data parallel*) enveloppe le student, adaptateur
compris, et fait la moyenne des gradients ; le teacher est figé, hors de DDP. La précision peut être mixte. Enfin, tout
ce dont dépend la suite est écrit de temps en temps : tuée en pleine époque puis reprise, la boucle finit pareil.
"""

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn
from tqdm.auto import tqdm

from kdcourse._common import combine_terms
from kdcourse._engine_checks import (
    check_choice,
    check_distillation,
    check_features,
    check_method,
    check_output,
    check_seed,
)
from kdcourse._engine_processes import make_accelerator
from kdcourse._engine_state import RunState
from kdcourse._training_checks import check_seeds
from kdcourse.comparison import french
from kdcourse.data import Split, shift_images
from kdcourse.loop import evaluating, frozen_copy
from kdcourse.method_comparison import WITHOUT_TEACHER, Choice, Problem, distillation_of, load_choices
from kdcourse.models import Features, predict_features
from kdcourse.self_distillation import ps_kd_loss
from kdcourse.training import initial_model, threads_for

_EVALUATION_BATCH = 512  # images par passage : la mémoire ne dépend pas de la taille de la partie


class Distilled(NamedTuple):
    """Le student entraîné, en ``eval`` sur son appareil, et ce que chaque époque a mesuré."""

    model: nn.Module
    history: list[dict[str, float]]


def distill(
    make_model: Callable[[], nn.Module],
    data: Split,
    teacher: nn.Module | None = None,
    *,
    method: str = "KD",
    choice: Choice | None = None,
    stage: int = 1,
    validation: Split | None = None,
    seed: int = 0,
    epochs: int = 10,
    batch_size: int = 128,
    learning_rate: float = 1e-3,
    jitter: int = 0,
    mixed_precision: str | None = None,
    output: str | Path | None = None,
    checkpoint_every: int = 200,
    resume: bool = False,
) -> Distilled:
    """Distille un teacher dans un student, sur l'appareil qu'``accelerate`` trouve, ou sur plusieurs.

    ``batch_size`` est la taille du lot entier, que les processus se partagent : le résultat ne dépend pas de leur
    nombre, à l'arrondi près (sauf *dropout* et BatchNorm, que chaque processus calcule sur sa part). Une perte de
    relations compare tous les exemples d'un lot : les embeddings des autres processus la rejoignent. À plusieurs, DDP
    demande que chaque paramètre serve à chaque pas.

    Args:
        make_model: fonction sans argument qui construit le student.
        data: images et étiquettes d'entraînement ; elles tiennent en mémoire, celle du GPU s'il y en a un.
        teacher: modèle déjà entraîné ; ``None`` pour les méthodes ``"seul"`` et ``"PS-KD"``.
        method: l'une de ``kdcourse.method_comparison.METHODS``.
        choice: alpha, température et facteur ; par défaut, ceux que ``load_choices`` donne à cette méthode.
        stage: étage dont hint et attention comparent les cartes.
        validation: si elle est donnée, l'erreur y est mesurée à chaque époque.
        seed: graine des poids, de l'ordre des lots et des décalages.
        epochs, batch_size, learning_rate: budget d'Adam.
        jitter: décale chaque image d'au plus tant de pixels, autrement à chaque époque ; teacher et student voient la
            même.
        mixed_precision: ``"no"``, ``"fp16"`` (GPU, gradients mis à l'échelle) ou ``"bf16"`` ; ``None`` suit
            ``accelerate launch``. Un ``Accelerator`` que vous auriez déjà prend cette précision.
        output: dossier de ``histoire.csv``, ``histoire.json`` et ``reprise.pt`` ; sans lui, rien n'est écrit.
        checkpoint_every: pas entre deux points de reprise ; chaque fin d'époque en a un aussi.
        resume: repart du dernier point de reprise entier d'``output``, s'il y en a un.

    Raises:
        TypeError, ValueError: argument hors de son domaine ; point de reprise abîmé ou d'un autre réglage ; dossier où
            un autre entraînement écrit ; perte NaN.
        OSError: dossier qui ne s'écrit pas.
    """
    check_method(method)
    choice = check_choice(load_choices().get(method, Choice(0.0)) if choice is None else choice)
    check_distillation(
        data, validation, teacher, method, stage, epochs, batch_size, learning_rate, jitter, checkpoint_every
    )
    check_output(output, resume)
    seed, learning_rate = check_seed(seed), float(learning_rate)  # un point de reprise ne garde que des nombres
    accelerator = make_accelerator(mixed_precision)
    device, data = accelerator.device, Split(*data).to(accelerator.device)
    validation = None if validation is None else Split(*validation)
    guide = None
    if teacher is not None:
        teacher, guide = frozen_copy(teacher).to(device), distillation_of(method, choice, stage)
        check_features("teacher", teacher, method, stage, data.images[:1])
        if "hint" in method:  # le student reçoit l'adaptateur, et l'optimiseur avec lui
            seen = predict_features(teacher, data.images[:1])
            make_model = Problem(make_model, seen, data, stage, epochs, batch_size).make_model(method)
    model = initial_model(make_model, seed).to(device)
    classes = check_features("make_model", model, method, stage, data.images[:1], data, validation)
    # La version fusionnée est la plus rapide sur processeur ; sur GPU, torch choisit, mise à l'échelle fp16 comprise.
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True if device.type == "cpu" else None)
    student, optimizer = accelerator.prepare(_WithFeatures(model), optimizer)  # DDP, à plusieurs processus

    state = RunState(accelerator, model, optimizer, data, classes, seed, output)
    settings = dict(method=method, **choice._asdict(), stage=stage, seed=seed, epochs=epochs, batch_size=batch_size)
    settings |= dict(learning_rate=learning_rate, jitter=jitter)

    def loss_of_batch(student: Features, teacher: Features | None, labels: Tensor, indices: Tensor) -> Tensor:
        if method == "PS-KD":
            return ps_kd_loss(student.logits, state.previous[indices], labels, choice.alpha * state.epoch / epochs)
        hard = F.cross_entropy(student.logits, labels)
        return hard if guide is None else combine_terms(guide(student, teacher, labels), hard, choice.alpha).total

    with state.isolated(), threads_for(model):
        state.start(settings, teacher, validation, resume)
        steps = -(-len(data.labels) // batch_size)
        bar = tqdm(
            total=epochs * steps, initial=state.steps_done, desc=method, unit="pas", leave=False, delay=1,
            disable=not accelerator.is_main_process,
        )  # fmt: skip
        while state.epoch <= epochs:
            start = time.perf_counter()
            student.train()
            order = torch.randperm(len(data.labels), generator=state.shuffle)
            shifts = torch.randint(-jitter, jitter + 1, (len(order), 2), generator=state.shuffle) if jitter else None
            for batch in order.split(batch_size)[state.step :]:  # les premiers sont faits, si l'on reprend
                mine, weight = share(len(batch), accelerator)
                indices = batch[mine]
                images, labels = (part[indices.to(device)] for part in data)
                if jitter:
                    images = shift_images(images, shifts[indices], jitter)
                seen = student(images)
                with torch.no_grad(), accelerator.autocast():
                    taught = None if teacher is None else _features(teacher, images)
                if method.endswith(("cosinus", "SP", "RKD")):
                    seen, taught = (gather_embeddings(side, len(batch), accelerator) for side in (seen, taught))
                loss = weight * loss_of_batch(seen, taught, labels, indices)
                accelerator.backward(loss)  # DDP fait la moyenne des processus, donc celle du lot entier
                optimizer.step()
                optimizer.zero_grad()
                state.add(loss.detach() * len(batch), seen.logits.detach(), indices if weight else indices[:0])
                bar.update()
                if state.step % checkpoint_every == 0 and state.step < steps:
                    state.save(time.perf_counter() - start)
            error = None if validation is None else model_error(model, validation, accelerator)
            row = state.end_epoch(time.perf_counter() - start, error)
            bar.set_postfix_str(f"époque {row['epoque']}, perte {french(row['perte'], 3)}")
        bar.close()
    return Distilled(model.eval(), state.history)


def distill_seeds(
    make_model: Callable[[], nn.Module],
    data: Split,
    teacher: nn.Module | None,
    seeds: Iterable[int],
    *,
    method: str,
    output: str | None = None,
    **options,
) -> list[nn.Module]:
    """Un student par graine, tous entraînés par ``distill`` avec les mêmes réglages.

    Args:
        make_model, data, method, options: ceux de ``distill``.
        teacher: modèle déjà entraîné ; les méthodes ``"seul"`` et ``"PS-KD"`` ne le regardent pas.
        seeds: une graine par student.
        output: début des dossiers, un par student ; l'appel relancé reprend là où il s'est arrêté. Sans lui, rien n'est
            écrit.

    Raises:
        TypeError, ValueError: ceux de ``distill``.
    """
    check_method(method)
    check_output(output, resume=output is not None)
    guide = None if method in WITHOUT_TEACHER else teacher
    return [
        distill(
            make_model, data, guide, method=method, seed=seed, resume=output is not None,
            output=output and f"{output}-{method}-{seed}", **options,
        ).model
        for seed in check_seeds(seeds)
    ]  # fmt: skip


def share(size: int, accelerator: Accelerator) -> tuple[Tensor, float]:
    """Les places d'un lot qui reviennent à ce processus, et le poids de leur moyenne dans celle du lot.

    Un lot plus petit que le nombre de processus laisse certains les mains vides : ils calculent sur le premier
    exemple, avec un poids nul, car DDP attend un gradient de chacun.
    """
    mine = torch.arange(size).tensor_split(accelerator.num_processes)[accelerator.process_index]
    return (mine if len(mine) else torch.arange(1)), len(mine) * accelerator.num_processes / size


def gather_embeddings(features: Features, size: int, accelerator: Accelerator) -> Features:
    """Les mêmes features, avec l'embedding du lot entier ; le gradient n'atteint que la part de ce processus.

    Chacun calcule alors la même perte, et la dérive par ses propres exemples : la somme des processus est le gradient
    du lot. DDP en fait la moyenne, et la boucle pondère par la part : le facteur ci-dessous compense les deux.
    """
    if accelerator.num_processes == 1:
        return features
    sizes = [len(part) for part in torch.arange(size).tensor_split(accelerator.num_processes)]
    own, rank = sizes[accelerator.process_index], accelerator.process_index
    local = features.embedding[:own]
    padded = F.pad(local.detach(), (0, 0, 0, max(sizes) - own))  # la communication veut des parts égales
    parts = [p[:n] for p, n in zip(accelerator.gather(padded).split(max(sizes)), sizes, strict=True)]
    if own:
        parts[rank] = local.detach() + (local - local.detach()) * (size / own)
    return features._replace(embedding=torch.cat(parts))


def model_error(model: nn.Module, part: Split, accelerator: Accelerator | None = None) -> float:
    """Taux d'erreur, en %, d'un modèle en ``eval`` ; il retrouve ensuite son mode."""
    device, wrong = next(model.parameters()).device, 0
    context = accelerator.autocast() if accelerator else torch.autocast(device.type, enabled=False)
    with evaluating(model), torch.no_grad(), context:
        for batch in torch.arange(len(part.labels)).split(_EVALUATION_BATCH):
            images, labels = part.where(batch).to(device)
            wrong += (model(images).argmax(dim=1) != labels).sum().item()
    return 100 * wrong / len(part.labels)


def _features(model: nn.Module, images: Tensor) -> Features:
    """Ce que le modèle calcule en chemin ; d'un modèle qui ne rend que ses logits, ses logits."""
    if hasattr(model, "forward_features"):
        return model.forward_features(images)
    logits = model(images)
    return Features([], logits, logits)


class _WithFeatures(nn.Module):
    """Un student dont ``forward`` rend les features : DDP n'enveloppe que ``forward``."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Features:
        return _features(self.model, images)
