"""Ce que le moteur refuse avant d'entraîner : des données, un modèle ou des réglages qu'il ne saurait pas suivre."""

import operator
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from kdcourse._common import check_finite, check_floating, check_label_values, check_labels, check_number
from kdcourse.data import Split
from kdcourse.loop import predict
from kdcourse.models import Features


def check_run(data, epochs, batch_size, learning_rate) -> None:
    """Des images flottantes, leurs étiquettes, et un budget."""
    if not (isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)):
        raise TypeError(f"data : {type(data).__name__} reçu, Split(images, labels) attendu.")
    images, labels = data
    if not images.is_floating_point() or images.dim() < 2 or not len(images):
        raise TypeError(
            f"data.images : {images.dtype} {tuple(images.shape)} reçu, un tenseur flottant (N, …) attendu, N ≥ 1 ; "
            "convertissez par .float() / 255, par exemple."
        )
    check_labels(labels, images, "data.images")
    check_finite("data.images", images)
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} : {value!r} reçu, un entier ≥ 1 attendu.")
    check_number("learning_rate", learning_rate, 1e-12, 1e3, "un nombre strictement positif")


def check_teacher(data: Split, teacher_logits, distillation, teacher_features, students: int = 0) -> None:
    """Ce que le teacher donne : rien, des logits, ou des features et la perte qui les compare.

    Avec ``students`` ≥ 1, chacun d'eux peut avoir ses propres logits de teacher, ``(S, N, C)``.
    """
    _, labels = data
    if teacher_logits is not None:
        check_floating(
            "teacher_logits", teacher_logits, *(((2, 3), "(N, C) ou (S, N, C)") if students else ((2,), "(N, C)"))
        )
        if teacher_logits.dim() == 3 and len(teacher_logits) != students:
            raise ValueError(
                f"teacher_logits : {len(teacher_logits)} teachers reçus, {students} attendus, un par graine."
            )
        check_labels(labels, teacher_logits if teacher_logits.dim() == 2 else teacher_logits[0], "teacher_logits")
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
    if not isinstance(teacher_features, Features):
        raise TypeError(
            f"teacher_features : {type(teacher_features).__name__} reçu, Features attendu, celles que rend "
            "predict_features(teacher, data.images)."
        )
    for part in (*teacher_features.maps, teacher_features.embedding, teacher_features.logits):
        if len(part) != len(labels):
            raise ValueError(f"teacher_features : {len(part)} exemples reçus, {len(labels)} attendus, ceux de data.")
        check_finite("teacher_features", part)


def check_model(model: nn.Module, data: Split, teacher_logits: Tensor | None, distillation=None) -> None:
    """Un modèle qui a quelque chose à apprendre, et rend des logits qui conviennent aux étiquettes et au teacher."""
    images, labels = data
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("make_model : un modèle sans paramètre à entraîner reçu, au moins un attendu.")
    if distillation is not None and not hasattr(model, "forward_features"):
        raise TypeError(
            f"make_model : {type(model).__name__} reçu, un modèle qui a forward_features attendu avec distillation."
        )
    logits = predict(model, images[:1])
    check_floating("make_model()(images)", logits, (2,), "(N, C)")
    classes = None if teacher_logits is None else teacher_logits.shape[-1]
    if classes not in (None, logits.shape[1]):
        raise ValueError(f"teacher_logits : {classes} classes reçues, {logits.shape[1]} attendues, celles du modèle.")
    check_label_values(labels, logits.shape[1])


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
    if not isinstance(values, (int, float, Sequence)):
        raise TypeError(f"{name} : {type(values).__name__} reçu, un nombre ou une suite de nombres attendu.")
    values = [values] * students if isinstance(values, (int, float)) else list(values)
    if len(values) != students:
        raise ValueError(f"{name} : {len(values)} valeurs reçues, {students} attendues, une par graine (ou un nombre).")
    for value in values:
        check(value)
    return torch.tensor(values, dtype=torch.float32)
