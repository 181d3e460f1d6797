"""Ce que le grand moteur refuse avant d'entraîner."""

import os
from numbers import Integral
from pathlib import Path

from torch import Tensor, nn

from kdcourse._checkpoints import has_checkpoint
from kdcourse._common import (
    check_alpha,
    check_finite,
    check_module,
    check_module_temperature,
    check_non_negative,
    check_positive_integer,
)
from kdcourse._training_checks import check_model, check_run, check_split, check_validation
from kdcourse.loop import predict
from kdcourse.method_comparison import METHODS, WITHOUT_TEACHER, Choice
from kdcourse.models import predict_features


def check_method(method) -> None:
    """L'une des méthodes du cours."""
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"method : {method!r} reçu, une de {', '.join(METHODS)} attendue.")


def check_distillation(
    data, validation, teacher, method, stage, epochs, batch_size, learning_rate, jitter, checkpoint_every
) -> None:
    """Des données, le teacher que la méthode demande, un étage et un budget."""
    check_run(data, epochs, batch_size, learning_rate)
    if validation is not None:
        check_split("validation", validation)
    check_positive_integer("checkpoint_every", checkpoint_every)
    if isinstance(stage, bool) or not isinstance(stage, int) or stage < 0:
        raise ValueError(f"stage : {stage!r} reçu, le numéro d'un étage attendu, un entier ≥ 0.")
    if isinstance(jitter, bool) or not isinstance(jitter, int) or jitter < 0:
        raise ValueError(f"jitter : {jitter!r} reçu, un nombre de pixels, entier ≥ 0, attendu.")
    shape = tuple(data[0].shape)
    if jitter and (len(shape) != 4 or jitter > min(shape[2:])):
        raise ValueError(
            f"jitter : {jitter} reçu avec des données {shape}, des images au moins aussi grandes attendues."
        )
    alone = method in WITHOUT_TEACHER
    if alone and teacher is not None:
        raise ValueError(f"teacher : {type(teacher).__name__} reçu avec method={method!r}, None attendu.")
    if not alone:
        check_module("teacher", teacher)


def check_choice(choice) -> Choice:
    """Les réglages d'une méthode, chacun dans son domaine ; rendus en nombres de Python, qu'un fichier sait garder."""
    if not isinstance(choice, Choice):
        raise TypeError(f"choice : {type(choice).__name__} reçu, Choice(alpha, weight, temperature) attendu.")
    check_alpha(choice.alpha)
    check_non_negative("weight", choice.weight)
    check_module_temperature(choice.temperature)
    return Choice(*map(float, choice))


def check_seed(seed) -> int:
    """Une graine : un entier que torch sait prendre, en nombre de Python."""
    if isinstance(seed, bool) or not isinstance(seed, Integral):
        raise TypeError(f"seed : {seed!r} ({type(seed).__name__}) reçu, un entier attendu.")
    if not 0 <= seed < 2**63:
        raise ValueError(f"seed : {seed} reçu, un entier de 0 à 2**63 - 1 attendu.")
    return int(seed)


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
    if Path(output).exists() and not Path(output).is_dir():
        raise ValueError(f"output : {output} reçu, un dossier attendu ; c'est un fichier.")
    if not resume and has_checkpoint(Path(output)):
        raise ValueError(
            f"output : {output} contient déjà un entraînement ; resume=True (--resume) le continue, et un autre "
            "dossier laisse les deux."
        )


def check_features(
    name: str, model: nn.Module, method: str, stage: int, image: Tensor, data=None, validation=None
) -> int:
    """Un modèle qui a ce que la méthode compare ; d'un student, aussi, ce que ``train_one`` exige. Rend C."""
    weight = next(model.parameters(), image)
    if weight.dtype != image.dtype:
        raise TypeError(f"data.images : {image.dtype} reçu, {weight.dtype} attendu, le type des poids de {name}.")
    if name == "teacher":
        check_finite("teacher(images)", predict(model, image))
    needed = method not in (*WITHOUT_TEACHER, "KD", "DKD")
    if needed and not hasattr(model, "forward_features"):
        raise TypeError(
            f"{name} : {type(model).__name__} reçu, un modèle qui a forward_features attendu pour {method!r}."
        )
    if needed and ("hint" in method or "attention" in method):
        stages = len(predict_features(model, image).maps)
        if stage >= stages:
            raise ValueError(f"stage : {stage!r} reçu, de 0 à {stages - 1} attendu, un étage de {name}.")
    if data is None:
        return 0
    classes = check_model(model, data, None, None)
    if validation is not None:
        check_validation(validation.to(data.images.device), data, classes)
    return classes
