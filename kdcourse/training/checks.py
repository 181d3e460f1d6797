"""Ce que les entraînements refusent avant de commencer : des données, un modèle ou des réglages qu'ils ne sauraient pas
suivre. Chaque faute est refusée ici, une fois, pour tous.
"""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from kdcourse.data.splits import Split, check_split
from kdcourse.losses.checks import (
    check_finite,
    check_floating,
    check_integer,
    check_label_values,
    check_learning_rate,
    check_module,
    check_positive_integer,
    check_same_device,
    check_seed,
)
from kdcourse.methods import Choice, Distillation, Method
from kdcourse.models import Features, Reader, check_image_type, evaluating, predict_features
from kdcourse.system_errors import reason
from kdcourse.training.checkpoints import has_checkpoint
from kdcourse.training.frozen_teacher import copy_of, predict


def check_run(data, epochs, batch_size, learning_rate) -> tuple[int, int, float]:
    """Des images flottantes, leurs étiquettes, et un budget, rendu en nombres de Python."""
    check_split("data", data)
    epochs, batch_size = check_positive_integer("epochs", epochs), check_positive_integer("batch_size", batch_size)
    return epochs, batch_size, check_learning_rate(learning_rate)


def check_teacher(data: Split, teacher, distillation, students: int = 0) -> Features | None:
    """Ce que le teacher donne : rien, des logits, ou des features ; rendu en ``Features``, sans graphe."""
    labels, copies = data[1], 1
    if teacher is None:
        if distillation is not None:
            raise ValueError("teacher : None reçu avec distillation, attendu, ce que la perte compare au student.")
        return None
    if isinstance(distillation, nn.Module) and any(p.requires_grad for p in distillation.parameters()):
        raise ValueError(
            "distillation : un module qui a des paramètres à apprendre reçu, une perte sans paramètre attendue : "
            "l'optimiseur ne les verrait pas. Mettez l'adaptateur dans le modèle, par AdaptedStudent."
        )
    if not isinstance(teacher, Tensor | Features):
        raise TypeError(
            f"teacher : {type(teacher).__name__} reçu, ses logits (N, C) attendus, ou les Features que rend "
            "predict_features(teacher, images)."
        )
    if isinstance(teacher, Tensor):
        expected = f"(N, C) ou ({students}, N, C)" if students else "(N, C)"
        check_floating("teacher", teacher, (2, 3) if students else (2,), expected)
        if teacher.dim() == 3:
            copies = students
            if len(teacher) != students:
                raise ValueError(f"teacher : {len(teacher)} teachers reçus, {students} attendus, un par graine.")
        teacher = Features([], None, teacher.flatten(0, -2))

    def checked(part: Tensor) -> Tensor:
        check_floating("teacher", part, (2, 3, 4), "(N, …)")
        check_same_device("teacher", part, "data", labels)
        if len(part) != copies * len(labels):
            raise ValueError(f"teacher : {len(part) // copies} exemples reçus, {len(labels)} attendus, ceux de data.")
        check_finite("teacher", part)
        return part.detach()

    return teacher.map(checked)


def check_student(
    read: Reader, data: Split, teacher: Features | None = None, distillation=None, batch_size: int | None = None
) -> int:
    """Un student qui apprend, et dont les étiquettes, le teacher et la perte reconnaissent ce qu'il rend ; rend C."""
    model, (images, labels) = read.model, data
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("make_model : un modèle sans paramètre à entraîner reçu, au moins un attendu.")
    if read.features:
        check_has_features("make_model", model)
    check_image_type(model, images, "make_model")
    with too_few_values("images : une image", 1):
        logits = predict(model, images[:1])
    check_floating("make_model()(images)", logits, (2,), "(N, C)")
    classes = logits.shape[1]
    check_label_values(labels, classes)
    try_training_pass(read, images, len(images) if batch_size is None else batch_size)
    if distillation is not None:
        _try_distillation(distillation, read, teacher, data)
    elif teacher is not None and teacher.logits.shape[1] != classes:
        raise ValueError(f"teacher : {teacher.logits.shape[1]} classes reçues, {classes} attendues, celles du modèle.")
    return classes


def try_training_pass(read: Reader, images: Tensor, batch_size: int) -> list[str]:
    """Essaie, sur une copie, un passage en ``train`` avec le plus petit des lots à venir, deux images au plus.

    Rend les tampons que ce passage a remplacés au lieu de les changer sur place.
    """
    tried, smallest = copy_of(read).train(), min(batch_size, (len(images) - 1) % batch_size + 1)
    buffers = dict(tried.model.named_buffers())
    with torch.random.fork_rng(), torch.no_grad(), too_few_values(f"batch_size : {batch_size}", len(images)):
        tried(images[: min(smallest, 2)])
    return [name for name, buffer in tried.model.named_buffers() if buffer is not buffers.get(name)]


@contextmanager
def too_few_values(received: str, examples: int | None = None) -> Iterator[None]:
    """Une normalisation qui n'a qu'une valeur par canal le dit en français."""
    try:
        yield
    except ValueError as error:
        if "more than 1 spatial element" in str(error):
            raise ValueError("images : une carte d'un seul pixel reçue devant InstanceNorm, deux au moins.") from None
        if "more than 1 value per channel" not in str(error):
            raise
        among = "" if examples is None else f" avec {examples} exemples"
        raise ValueError(
            f"{received} reçu{among}, un lot d'un seul exemple dont BatchNorm ne tire pas d'écart-type ; changez "
            "batch_size, ou le nombre d'exemples."
        ) from None


def check_last_batch(model: nn.Module, dataloader) -> None:
    """Le dernier lot d'un ``DataLoader``, s'il n'a qu'un exemple, avant que rien ne s'entraîne."""
    size, sampler = getattr(dataloader, "batch_size", None), getattr(dataloader, "sampler", None)
    if not size or not hasattr(sampler, "__len__") or dataloader.drop_last or (len(sampler) - 1) % size:
        return
    with torch.random.fork_rng():
        try:  # l'exemple tel que la boucle le recevra ; un lot d'une autre forme, elle le dira
            image = dataloader.collate_fn([dataloader.dataset[0]])[0].to(next(model.parameters()).device)
        except Exception:
            return
    if isinstance(image, Tensor) and len(image) == 1:
        tried = copy_of(model).train()
        with torch.random.fork_rng(), torch.no_grad(), too_few_values(f"batch_size : {size}", len(sampler)):
            tried(image)


def _try_distillation(distillation: Distillation, read: Reader, teacher: Features, data: Split) -> None:
    """Essaie la perte sur quelques exemples : elle doit rendre un scalaire, qui atteint le student."""
    few = torch.arange(min(4, len(data[1])), device=data[1].device)
    with evaluating(read):
        student = read(data[0][few])
    example = "(student, teacher, labels) attendue, lambda s, t, y: hint_loss(s.maps[0], t.maps[0]), par exemple"
    taught = teacher.map(lambda part: part[few])
    loss = call("distillation", distillation, student, taught, data[1][few], expected=example)
    if not isinstance(loss, Tensor) or loss.dim() or not loss.is_floating_point():
        received = f"forme {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise TypeError(f"distillation : {received} reçu, un scalaire flottant attendu, la moyenne sur le lot.")
    if not loss.requires_grad:
        raise ValueError("distillation : une perte sans gradient reçue ; elle doit dépendre des features du student.")


def call(name: str, function, *arguments, expected: str):
    """``function(*arguments)``, en refusant ce qui ne s'appelle pas ainsi."""
    built = isinstance(function, nn.Module) and not arguments  # un modèle, au lieu de la fonction qui le construit
    if built or not callable(function):
        raise TypeError(f"{name} : {type(function).__name__} reçu, une fonction {expected}.")
    try:
        return function(*arguments)
    except TypeError as error:
        inside = error.__traceback__.tb_next and not isinstance(function, nn.Module)
        if inside or "positional argument" not in str(error):  # l'appel était bon ; l'erreur vient de la fonction
            raise
        shown = getattr(function, "__name__", type(function).__name__)
        raise TypeError(f"{name} : {shown} reçu, qui a d'autres arguments, une fonction {expected}.") from None


def check_has_features(name: str, model: nn.Module) -> None:
    """Un modèle dont on peut lire les cartes et l'embedding."""
    if not hasattr(model, "forward_features"):
        raise TypeError(f"{name} : {type(model).__name__} reçu, un modèle qui a forward_features attendu.")


def reader_of(name: str, model: nn.Module, method: Method, choice: Choice, image: Tensor) -> Reader:
    """Un modèle du type des images, qui a ce que la méthode lit ; rendu prêt à être lu."""
    check_image_type(model, image, name)
    if method.reads_features:
        check_has_features(name, model)
    if method.reads_maps:
        stages = len(predict_features(model, image).maps)
        if choice.stage >= stages:
            raise ValueError(f"stage : {choice.stage} reçu, de 0 à {stages - 1} attendu, un étage de {name}.")
    return Reader(model, method.reads_features)


def check_converging(loss: Tensor, parameters: Iterable[Tensor], epoch: int, learning_rate: float, seeds=()) -> None:
    """Une perte et des paramètres qui sont encore des nombres : ``()``, ou ``(S,)`` et ``(S, …)`` avec ``seeds``."""
    axis = 1 if seeds else 0
    finite = torch.stack(
        [loss.isfinite(), *(part.isfinite().unsqueeze(-1).flatten(axis).all(-1) for part in parameters)]
    ).all(0)
    if not finite.all():
        lost = dict.fromkeys(seed for seed, fine in zip(seeds, finite.view(-1).tolist(), strict=False) if not fine)
        which = f" (graine {', '.join(map(str, lost))})" if lost else ""
        raise ValueError(
            f"L'entraînement diverge à l'époque {epoch}{which} : la perte, un paramètre ou une réponse n'est plus un "
            "nombre. "
            f"learning_rate : {learning_rate:g} reçu, un pas plus petit attendu."
        )


def check_seeds(seeds) -> list[int]:
    """Une suite non vide de graines."""
    if isinstance(seeds, str) or not hasattr(seeds, "__iter__"):
        raise TypeError(f"seeds : {seeds!r} reçu, une suite d'entiers attendue, range(10) par exemple.")
    seeds = [check_seed("seeds", seed) for seed in seeds]
    if not seeds:
        raise ValueError("seeds : suite vide reçue, au moins une graine attendue.")
    return seeds


def several(name: str, values, check) -> list[float]:
    """Un réglage donné en un nombre ou en plusieurs : la liste de ses valeurs, chacune vérifiée."""
    values = values.tolist() if isinstance(values, Tensor | np.ndarray | np.generic) else values
    if isinstance(values, str) or not isinstance(values, Iterable):
        values = [values]
    values = [value.item() if isinstance(value, Tensor | np.generic) and value.ndim == 0 else value for value in values]
    if not values:
        raise ValueError(f"{name} : suite vide reçue, au moins une valeur attendue.")
    for value in values:
        check(value)
    return list(map(float, values))


def one_per_student(name: str, values, students: int, check) -> Tensor:
    """Un réglage par student, ``(S,)`` float32 : un nombre vaut pour tous."""
    alone = not isinstance(values, Iterable) or getattr(values, "ndim", 1) == 0
    values = several(name, values, check)
    if not alone and len(values) != students:
        raise ValueError(f"{name} : {len(values)} valeurs reçues, {students} attendues, une par graine (ou un nombre).")
    return torch.tensor(values, dtype=torch.float32).expand(students).clone()


def check_validation(validation, data: Split, classes: int, name: str = "validation") -> None:
    """Une partie à mesurer que le modèle sait lire : même forme d'image, mêmes classes, même appareil."""
    check_split(name, validation)
    (images, labels), expected = validation, tuple(data[0].shape[1:])
    if tuple(images.shape[1:]) != expected or images.dtype != data[0].dtype:
        raise ValueError(
            f"{name}.images : {images.dtype} (N, {', '.join(map(str, images.shape[1:]))}) reçu, {data[0].dtype} "
            f"(N, {', '.join(map(str, expected))}) attendu, comme data."
        )
    check_same_device(f"{name}.images", images, "data", data[0])
    check_label_values(labels, classes)


def check_jitter(jitter, images: Tensor) -> int:
    """Un décalage d'au plus la taille de l'image, en pixels."""
    jitter = check_integer("jitter", jitter, 0, 2**31, "un nombre de pixels, entier ≥ 0,")
    if jitter and (images.dim() != 4 or jitter > min(images.shape[2:])):
        raise ValueError(
            f"jitter : {jitter} reçu avec des données {tuple(images.shape)}, des images au moins aussi grandes "
            "attendues."
        )
    return jitter


def check_teacher_model(teacher, method: Method) -> None:
    """Un teacher, si la méthode en a un."""
    if method.needs_teacher:
        check_module("teacher", teacher)
    elif teacher is not None:
        raise ValueError(f"teacher : {type(teacher).__name__} reçu avec la méthode {method.name}, None attendu.")


def check_output(output, resume) -> None:
    """Un dossier, et il en faut un pour reprendre ; sans reprise, il ne contient pas déjà un entraînement."""
    if not isinstance(resume, bool):
        raise TypeError(f"resume : {resume!r} reçu, True ou False attendu.")
    if output is None:
        if resume:
            raise ValueError("output : None reçu avec resume=True, le dossier de l'entraînement à reprendre attendu.")
        return
    if not isinstance(output, (str, os.PathLike)):
        raise TypeError(f"output : {type(output).__name__} reçu, un chemin de dossier attendu.")
    if not str(output).strip() or "\0" in str(output):
        raise ValueError(f"output : {str(output)!r} reçu, un chemin de dossier attendu.")
    try:
        is_file = Path(output).exists() and not Path(output).is_dir()
    except OSError as error:
        raise ValueError(f"output : {str(output)[:60]} ne s'ouvre pas, {reason(error)}.") from None
    if is_file:
        raise ValueError(f"output : {output} reçu, un dossier attendu ; c'est un fichier.")
    if not resume and has_checkpoint(Path(output)):
        raise ValueError(
            f"output : {output} contient déjà un entraînement ; resume=True (--resume) le continue, et un autre "
            "dossier laisse les deux."
        )
