"""Un seul student, aussi gros qu'il faut, sur processeur, sur GPU ou sur plusieurs, par ``accelerate``.

La boucle est celle de ``train_one``, et un test l'exige : mêmes graines, mêmes paramètres. Quatre choses s'y ajoutent.
Chaque processus ne traite que sa part du lot. DDP (*distributed data parallel*) enveloppe le student, adaptateur
compris, et fait la moyenne des gradients ; le teacher est figé, hors de DDP. La précision peut être mixte. Enfin, tout
ce dont dépend la suite est écrit de temps en temps : tuée en pleine époque puis reprise, la boucle finit pareil.
"""

import math
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from pathlib import Path

import torch
import torch.nn.functional as F
from accelerate import Accelerator
from torch import Tensor, nn

from kdcourse.data.splits import Split, check_split, shift_images
from kdcourse.formats import french
from kdcourse.losses.checks import check_finite, check_floating, check_label_values, check_positive_integer, check_seed
from kdcourse.methods import Choice, Distillation, Method, find_method, settled_choice
from kdcourse.models import Features, check_image_type, evaluating, logits_only, predict_features
from kdcourse.training.checks import (
    check_jitter,
    check_output,
    check_run,
    check_seeds,
    check_student,
    check_teacher_model,
    check_validation,
    reader_of,
)
from kdcourse.training.frozen_teacher import frozen_copy, memory_of, predict
from kdcourse.training.loop import Trained, adam, threads_for
from kdcourse.training.many_students import adapted, initial_model, student_loss
from kdcourse.training.processes import make_accelerator, own_accelerator
from kdcourse.training.progress import Progress
from kdcourse.training.resume import RunState
from kdcourse.training.students import EVALUATION_BATCH


@own_accelerator()
def distill(
    make_model: Callable[[], nn.Module],
    data: Split,
    teacher: nn.Module | None = None,
    *,
    method: str | Method = "KD",
    choice: Choice | None = None,
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
) -> Trained:
    """Distille un teacher dans un student, sur l'appareil qu'``accelerate`` trouve, ou sur plusieurs.

    ``batch_size`` est la taille du lot entier, que les processus se partagent : le résultat ne dépend pas de leur
    nombre, à l'arrondi près (sauf *dropout* et BatchNorm, que chaque processus calcule sur sa part). Si la méthode lie
    les exemples d'un lot (``Method.whole_batch``), ce que les autres ont calculé rejoint chacun. À plusieurs, DDP
    demande que chaque paramètre serve à chaque pas.

    Args:
        make_model: fonction sans argument qui construit le student.
        data: images et étiquettes d'entraînement ; elles tiennent en mémoire, celle du GPU s'il y en a un.
        teacher: modèle déjà entraîné ; ``None`` pour une méthode qui s'en passe (``Method.needs_teacher``).
        method: une ``Method``, ou le nom de l'une de ``METHODS``.
        choice: ses réglages ; par défaut, ceux que ``load_choices`` donne à cette méthode.
        validation: si elle est donnée, l'erreur y est mesurée à chaque époque.
        seed: graine des poids, de l'ordre des lots et des décalages.
        epochs, batch_size, learning_rate: budget d'Adam.
        jitter: décale chaque image d'au plus tant de pixels, autrement à chaque époque ; teacher et student voient la
            même.
        mixed_precision: ``"no"``, ``"fp16"`` (GPU, gradients mis à l'échelle) ou ``"bf16"`` ; ``None`` suit
            ``accelerate launch``. Un ``Accelerator`` que vous auriez déjà garde ses réglages.
        output: dossier de ``histoire.csv``, ``histoire.json`` et ``reprise.pt`` ; sans lui, rien n'est écrit.
        checkpoint_every: pas entre deux points de reprise ; chaque fin d'époque en a un aussi.
        resume: repart du dernier point de reprise entier d'``output``, s'il y en a un.

    Returns:
        Le student entraîné, en ``eval``, et son histoire : époque, pas, perte, erreur de validation, secondes.

    Raises:
        TypeError, ValueError: argument hors de son domaine ; point de reprise abîmé ou d'un autre réglage ; dossier où
            un autre entraînement écrit ; perte NaN.
        OSError: dossier qui ne s'écrit pas.
    """
    method = find_method(method)
    choice = settled_choice(choice, method)
    epochs, batch_size, learning_rate = check_run(data, epochs, batch_size, learning_rate)
    seed, checkpoint_every = check_seed("seed", seed), check_positive_integer("checkpoint_every", checkpoint_every)
    jitter = check_jitter(jitter, data[0])
    if validation is not None:
        check_split("validation", validation)
        validation = Split(*validation)
    check_teacher_model(teacher, method)
    check_output(output, resume)
    accelerator = make_accelerator(mixed_precision)
    device, data = accelerator.device, Split(*data).to(accelerator.device)
    image = data.images[:1]
    if teacher is not None:
        teacher = frozen_copy(teacher).to(device)
        read_teacher = reader_of("teacher", teacher, method, choice, image)
        check_finite("teacher(images)", predict(teacher, image))
        if method.needs_adapter:  # le student le reçoit, et l'optimiseur avec lui
            make_model = adapted(make_model, image, predict_features(teacher, image), choice.stage)
    model = initial_model(make_model, seed, image).to(device)
    student = reader_of("make_model", model, method, choice, image)
    distillation, few = method.distillation(choice), data.images[:4]
    with torch.no_grad():
        tried = None if teacher is None else read_teacher(few)
    classes = check_student(student, data, tried, None if tried is None else distillation, batch_size)
    if validation is not None:
        check_validation(validation.to(device), data, classes)
    optimizer = adam(model.parameters(), learning_rate)
    student, optimizer = accelerator.prepare(student, optimizer)  # DDP, à plusieurs processus

    state = RunState(accelerator, model, optimizer, data, classes, seed, output, method.remembers)
    settings = dict(method=method.name, **asdict(choice), seed=seed, epochs=epochs, batch_size=batch_size)
    settings |= dict(learning_rate=learning_rate, jitter=jitter)

    def guide(images: Tensor, indices: Tensor) -> Features | None:
        """Ce que le teacher, ou la mémoire du student, dit de ces exemples."""
        if method.remembers:
            return Features([], None, state.previous[indices])
        with torch.no_grad(), accelerator.autocast():
            return None if teacher is None else read_teacher(images)

    with state.isolated(), threads_for(model):
        state.start(settings, teacher, validation, resume)
        steps = math.ceil(len(data.labels) / batch_size)
        with Progress(
            total=epochs * steps, initial=state.steps_done, desc=method.name, unit="pas",
            disable=not accelerator.is_main_process,
        ) as bar:  # fmt: skip
            while state.epoch <= epochs:
                start = time.perf_counter()
                student.train()
                order = torch.randperm(len(data.labels), generator=state.shuffle)
                shifts = (
                    torch.randint(-jitter, jitter + 1, (len(order), 2), generator=state.shuffle) if jitter else None
                )
                for batch in order.split(batch_size)[state.step :]:  # les premiers sont faits, si l'on reprend
                    mine, weight = share(len(batch), accelerator)
                    indices = batch[mine]
                    images, labels = (part[indices.to(device)] for part in data)
                    if jitter:
                        images = shift_images(images, shifts[indices], jitter)
                    seen, taught = student(images), guide(images, indices)
                    distilled = on_whole_batch(distillation, method, choice, data.labels[batch.to(device)], accelerator)
                    alpha = choice.alpha * (state.epoch / epochs if method.remembers else 1)
                    loss = weight * student_loss(seen, labels, distilled, taught, alpha)
                    accelerator.backward(loss)  # DDP fait la moyenne des processus, donc celle du lot entier
                    optimizer.step()
                    optimizer.zero_grad()
                    state.add(loss.detach() * len(batch), seen.logits.detach(), indices if weight else indices[:0])
                    bar.update()
                    if state.step % checkpoint_every == 0 and state.step < steps:
                        state.save(time.perf_counter() - start)
                error = None if validation is None else model_error(model, validation, accelerator)
                row = state.end_epoch(time.perf_counter() - start, error, last=state.epoch == epochs)
                bar.set_postfix_str(f"époque {row['epoch']}, perte {french(row['loss'], 3)}")
    return Trained(model.eval(), state.history)


def distill_seeds(
    make_model: Callable[[], nn.Module],
    data: Split,
    teacher: nn.Module | None,
    seeds: Iterable[int],
    *,
    method: str | Method,
    output: str | None = None,
    **options,
) -> list[nn.Module]:
    """Un student par graine, tous entraînés par ``distill`` avec les mêmes réglages.

    Args:
        make_model, data, method, options: ceux de ``distill``.
        teacher: modèle déjà entraîné ; une méthode qui s'en passe ne le regarde pas.
        seeds: une graine par student.
        output: début des dossiers, un par student ; l'appel relancé reprend là où il s'est arrêté. Sans lui, rien n'est
            écrit.

    Raises:
        TypeError, ValueError: ceux de ``distill``.
    """
    method = find_method(method)
    check_output(output, resume=output is not None)
    seeds = check_seeds(seeds)
    first, second = (initial_model(make_model, seeds[0], data[0]) for _ in range(2))
    if memory_of(first) & memory_of(second):
        raise ValueError("make_model : des poids communs à deux students reçus, un modèle neuf attendu à chaque appel.")
    return [
        distill(
            make_model, data, teacher if method.needs_teacher else None, method=method, seed=seed,
            resume=output is not None, output=output and f"{output}-{method.name}-{seed}", **options,
        ).model
        for seed in seeds
    ]  # fmt: skip


def share(size: int, accelerator: Accelerator) -> tuple[Tensor, float]:
    """Les places d'un lot qui reviennent à ce processus, et le poids de leur moyenne : 1 si les parts sont égales.

    DDP fait la moyenne des processus ; une part deux fois plus grande y pèse deux fois plus.

    Un lot plus petit que le nombre de processus laisse certains les mains vides : ils calculent sur le premier
    exemple, avec un poids nul, car DDP attend un gradient de chacun.
    """
    mine = torch.arange(size).tensor_split(accelerator.num_processes)[accelerator.process_index]
    return (mine if len(mine) else torch.arange(1)), len(mine) * accelerator.num_processes / size


def on_whole_batch(
    distillation: Distillation | None, method: Method, choice: Choice, labels: Tensor, accelerator: Accelerator
) -> Distillation | None:
    """La perte d'un lot partagé ; si la méthode en lie les exemples, les parts des autres processus s'y joignent.

    Chacun calcule alors la même perte, et la dérive par ses propres exemples : la somme des processus est le gradient
    du lot. DDP en fait la moyenne, et la boucle pondère par la part : ``gather`` compense les deux.
    """
    if not method.whole_batch or accelerator.num_processes == 1:
        return distillation
    sizes = [len(part) for part in torch.arange(len(labels)).tensor_split(accelerator.num_processes)]
    own, rank = sizes[accelerator.process_index], accelerator.process_index

    def gather(local: Tensor) -> Tensor:
        mine = local[:own]
        padded = F.pad(mine.detach(), (0, 0) * (local.dim() - 1) + (0, max(sizes) - own))  # des parts égales
        parts = [p[:n] for p, n in zip(accelerator.gather(padded).split(max(sizes)), sizes, strict=True)]
        if not local.requires_grad:
            return torch.cat(parts)
        if not own:  # DDP attend un gradient de chacun, fût-il nul
            return torch.cat(parts) + 0 * local.sum()
        # La même valeur, le gradient multiplié.
        parts[rank] = mine.detach() + (mine - mine.detach()) * (len(labels) / own)
        return torch.cat(parts)

    return lambda student, teacher, _: distillation(
        *(method.read(features, choice, gather) for features in (student, teacher)), labels
    )


def model_error(model: nn.Module, part: Split, accelerator: Accelerator | None = None) -> float:
    """Taux d'erreur, en %, d'un modèle en ``eval`` ; il retrouve ensuite son mode."""
    device, wrong = next((p.device for p in model.parameters()), part.labels.device), 0
    context = accelerator.autocast() if accelerator else torch.autocast(device.type, enabled=False)
    with evaluating(model), torch.no_grad(), context:
        for batch in torch.arange(len(part.labels)).split(EVALUATION_BATCH):
            images, labels = part.where(batch).to(device)
            check_image_type(model, images)
            logits = logits_only(model(images))
            check_floating("model(images)", logits, (2,), "(N, C)")
            check_label_values(labels, logits.shape[1])
            wrong += (logits.argmax(dim=1) != labels).sum().item()
    return 100 * wrong / len(part.labels)
