"""Ce que le moteur refuse avant d'entraîner : des données, un modèle ou des réglages qu'il ne saurait pas suivre."""

import inspect
import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kdcourse._common import (
    check_finite,
    check_floating,
    check_label_values,
    check_labels,
    check_number,
    check_same_device,
)
from kdcourse.data import Split
from kdcourse.loop import predict
from kdcourse.models import Features


def check_run(data, epochs, batch_size, learning_rate) -> None:
    """Des images flottantes, leurs étiquettes, et un budget."""
    check_split("data", data)
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} : {value!r} reçu, un entier ≥ 1 attendu.")
    check_number("learning_rate", learning_rate, 1e-12, 1e3, "un nombre strictement positif")


def check_split(name: str, data) -> None:
    """Un couple (images flottantes finies, étiquettes), non vide."""
    if not (isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)):
        raise TypeError(f"{name} : {type(data).__name__} reçu, Split(images, labels) attendu.")
    images, labels = data
    if not images.is_floating_point() or images.dim() < 2 or not len(images):
        raise TypeError(
            f"{name}.images : {images.dtype} {tuple(images.shape)} reçu, un tenseur flottant (N, …) attendu, N ≥ 1 ; "
            "convertissez par .float() / 255, par exemple."
        )
    check_labels(labels, images, f"{name}.images")
    check_finite(f"{name}.images", images)


def check_teacher(data: Split, teacher_logits, distillation, teacher_features, students: int = 0) -> None:
    """Ce que le teacher donne : rien, des logits, ou des features et la perte qui les compare."""
    _, labels = data
    if teacher_logits is not None:
        expected = f"(N, C) ou ({students}, N, C)" if students else "(N, C)"
        check_floating("teacher_logits", teacher_logits, (2, 3) if students else (2,), expected)
        if teacher_logits.dim() == 3 and len(teacher_logits) != students:
            raise ValueError(
                f"teacher_logits : {len(teacher_logits)} teachers reçus, {students} attendus, un par graine."
            )
        check_labels(labels, teacher_logits[0] if teacher_logits.dim() == 3 else teacher_logits, "teacher_logits")
        check_finite("teacher_logits", teacher_logits)
    if (distillation is None) != (teacher_features is None):
        given, missing = ("distillation", "teacher_features")[:: 1 if teacher_features is None else -1]
        raise ValueError(f"{missing} : absent, attendu avec {given} : l'un est une perte, l'autre ce qu'elle compare.")
    if distillation is None:
        return
    if teacher_logits is not None:
        raise ValueError(
            "teacher_logits : reçu avec distillation, qui le remplace ; les logits du teacher sont dans "
            "teacher_features.logits."
        )
    if not callable(distillation):
        raise TypeError(
            f"distillation : {type(distillation).__name__} reçu, une fonction de deux Features attendue, "
            "lambda student, teacher: hint_loss(student.maps[0], teacher.maps[0]), par exemple."
        )
    if isinstance(distillation, nn.Module) and any(p.requires_grad for p in distillation.parameters()):
        raise ValueError(
            "distillation : un module qui a des paramètres à apprendre reçu, une perte sans paramètre attendue : "
            "l'optimiseur ne les verrait pas. Mettez l'adaptateur dans le modèle, par AdaptedStudent."
        )
    if not isinstance(teacher_features, Features):
        raise TypeError(
            f"teacher_features : {type(teacher_features).__name__} reçu, Features attendu, celles que rend "
            "predict_features(teacher, data.images)."
        )
    check_floating("teacher_features.logits", teacher_features.logits, (2,), "(N, C)")
    for part in (*teacher_features.maps, teacher_features.embedding, teacher_features.logits):
        check_floating("teacher_features", part, (2, 3, 4), "(N, …)")
        check_same_device("teacher_features", part, "data", labels)
        if len(part) != len(labels):
            raise ValueError(f"teacher_features : {len(part)} exemples reçus, {len(labels)} attendus, ceux de data.")
        check_finite("teacher_features", part)


def check_make_model(make_model) -> None:
    """Une fonction sans argument, et non un modèle déjà construit : chaque graine construit le sien."""
    example = "digits_student ou lambda: MLP(), par exemple"
    if isinstance(make_model, nn.Module) or not callable(make_model):
        raise TypeError(
            f"make_model : {type(make_model).__name__} reçu, une fonction qui construit un modèle attendue, {example}."
        )
    try:
        inspect.signature(make_model).bind()
    except ValueError:  # une fonction écrite en C ne dit pas ses arguments
        return
    except TypeError:
        name = getattr(make_model, "__name__", type(make_model).__name__)
        raise TypeError(f"make_model : {name} reçu, une fonction sans argument attendue, {example}.") from None


def check_model(model: nn.Module, data: Split, teacher_logits: Tensor | None, distillation=None) -> int:
    """Un modèle qui apprend, et rend des logits qui conviennent aux étiquettes et au teacher ; rend le nombre C."""
    images, labels = data
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("make_model : un modèle sans paramètre à entraîner reçu, au moins un attendu.")
    if distillation is not None and not hasattr(model, "forward_features"):
        raise TypeError(
            f"make_model : {type(model).__name__} reçu, un modèle qui a forward_features attendu avec distillation."
        )
    logits = predict(model, images[:1])
    check_floating("make_model()(images)", logits, (2,), "(N, C)")
    classes = logits.shape[1]
    if teacher_logits is not None and teacher_logits.shape[-1] != classes:
        raise ValueError(
            f"teacher_logits : {teacher_logits.shape[-1]} classes reçues, {classes} attendues, celles du modèle."
        )
    check_label_values(labels, classes)
    return classes


def check_stackable(model: nn.Module) -> None:
    """Un modèle dont ``torch.vmap`` sait empiler les paramètres : sans poids partagés, sans BatchNorm."""
    if len(list(model.named_parameters(remove_duplicate=False))) != len(list(model.parameters())):
        raise ValueError(
            "make_model : un modèle aux poids partagés reçu, que torch.vmap n'empile pas ; voyez train_one."
        )
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        raise ValueError("make_model : un modèle avec BatchNorm reçu, GroupNorm ou LayerNorm attendu (torch.vmap).")


def check_seeds(seeds) -> list[int]:
    """Une suite non vide de graines entières."""
    try:
        seeds = [operator.index(seed) for seed in seeds]
    except TypeError:
        raise TypeError(f"seeds : {seeds!r} reçu, une suite d'entiers attendue, range(10) par exemple.") from None
    if not seeds:
        raise ValueError("seeds : suite vide reçue, au moins une graine attendue.")
    return seeds


def one_per_student(name: str, values, students: int, check) -> Tensor:
    """Un réglage par student, ``(S,)`` float32 : un nombre vaut pour tous."""
    values = values.tolist() if isinstance(values, Tensor | np.ndarray | np.generic) else values
    if isinstance(values, Sequence):  # un tenseur scalaire échapperait au contrôle de sa valeur
        values = [value.item() if isinstance(value, Tensor | np.generic) else value for value in values]
    if not isinstance(values, (int, float, Sequence)):
        raise TypeError(f"{name} : {type(values).__name__} reçu, un nombre ou une suite de nombres attendu.")
    values = [values] * students if isinstance(values, (int, float)) else list(values)
    if len(values) != students:
        raise ValueError(f"{name} : {len(values)} valeurs reçues, {students} attendues, une par graine (ou un nombre).")
    for value in values:
        check(value)
    return torch.tensor(values, dtype=torch.float32)


def check_validation(validation, data: Split, classes: int) -> None:
    """Une partie de validation que le modèle sait lire : même forme d'image, mêmes classes, même appareil."""
    check_split("validation", validation)
    (images, labels), expected = validation, tuple(data[0].shape[1:])
    if tuple(images.shape[1:]) != expected or images.dtype != data[0].dtype:
        raise ValueError(
            f"validation.images : {images.dtype} (N, {', '.join(map(str, images.shape[1:]))}) reçu, {data[0].dtype} "
            f"(N, {', '.join(map(str, expected))}) attendu, comme data."
        )
    check_same_device("validation.images", images, "data", data[0])
    check_label_values(labels, classes)
