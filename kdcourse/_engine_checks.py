"""Ce que le grand moteur refuse avant d'entraîner, l'appareil qu'il demande à ``accelerate``, et comment en sortir."""

import os
import sys

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState
from accelerate.utils import parse_flag_from_env
from torch import Tensor, nn

from kdcourse._common import check_alpha, check_module, check_non_negative, check_positive_integer, check_temperature
from kdcourse._training_checks import check_model, check_run, check_validation
from kdcourse.method_comparison import METHODS, WITHOUT_TEACHER, Choice
from kdcourse.models import predict_features

_PRECISIONS = ("no", "fp16", "bf16")


def check_distillation(
    data, teacher, method, choice, epochs, batch_size, learning_rate, jitter, checkpoint_every
) -> None:
    """Des données, une méthode et le teacher qu'elle demande, des réglages et un budget."""
    if method not in METHODS:
        raise ValueError(f"method : {method!r} reçu, une de {', '.join(METHODS)} attendue.")
    check_run(data, epochs, batch_size, learning_rate)
    check_choice(choice)
    check_positive_integer("checkpoint_every", checkpoint_every)
    if isinstance(jitter, bool) or not isinstance(jitter, int) or jitter < 0:
        raise ValueError(f"jitter : {jitter!r} reçu, un nombre de pixels, entier ≥ 0, attendu.")
    if jitter and data[0].dim() != 4:
        raise ValueError(f"jitter : {jitter} reçu avec des données {tuple(data[0].shape)}, des images attendues.")
    alone = method in WITHOUT_TEACHER
    if alone and teacher is not None:
        raise ValueError(f"teacher : {type(teacher).__name__} reçu avec method={method!r}, None attendu.")
    if not alone:
        check_module("teacher", teacher)


def check_choice(choice) -> None:
    """Les réglages d'une méthode, chacun dans son domaine."""
    if not isinstance(choice, Choice):
        raise TypeError(f"choice : {type(choice).__name__} reçu, Choice(alpha, weight, temperature) attendu.")
    check_alpha(choice.alpha)
    check_non_negative("weight", choice.weight)
    check_temperature(choice.temperature)


def check_output(output, resume: bool) -> None:
    """Un dossier, et il en faut un pour reprendre."""
    if output is not None and not isinstance(output, (str, os.PathLike)):
        raise TypeError(f"output : {type(output).__name__} reçu, un chemin de dossier attendu.")
    if resume and output is None:
        raise ValueError("output : None reçu avec resume=True, le dossier de l'entraînement à reprendre attendu.")


def check_features(
    name: str, model: nn.Module, method: str, stage: int, image: Tensor, data=None, validation=None
) -> int:
    """Un modèle qui a ce que la méthode compare ; d'un student, aussi, ce que ``train_one`` exige. Rend C."""
    needed = method not in (*WITHOUT_TEACHER, "KD", "DKD")
    if needed and not hasattr(model, "forward_features"):
        raise TypeError(
            f"{name} : {type(model).__name__} reçu, un modèle qui a forward_features attendu pour {method!r}."
        )
    if needed and ("hint" in method or "attention" in method):
        stages = len(predict_features(model, image).maps)
        if isinstance(stage, bool) or not isinstance(stage, int) or not 0 <= stage < stages:
            raise ValueError(f"stage : {stage!r} reçu, de 0 à {stages - 1} attendu, un étage de {name}.")
    if data is None:
        return 0
    classes = check_model(model, data, None, None)
    if validation is not None:
        check_validation(validation.to(data.images.device), data, classes)
    return classes


def processes() -> PartialState:
    """Les processus de cet entraînement ; seul, ``PartialState()`` oublierait ceux d'un lancement sur processeur."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


def make_accelerator(mixed_precision: str | None) -> Accelerator:
    """L'``Accelerator`` de cet entraînement."""
    precision = os.environ.get("ACCELERATE_MIXED_PRECISION", "no") if mixed_precision is None else mixed_precision
    if precision not in _PRECISIONS:
        raise ValueError(f"mixed_precision : {precision!r} reçu, un de {', '.join(_PRECISIONS)} attendu.")
    if precision == "fp16" and processes().device.type == "cpu":  # accelerate calculerait en float32, sans le dire
        raise ValueError("mixed_precision : 'fp16' reçu sur un processeur, 'no' ou 'bf16' attendu ; fp16 veut un GPU.")
    # accelerate garde la précision du premier Accelerator du processus ; un notebook en essaie plusieurs.
    AcceleratorState._reset_state()
    return Accelerator(mixed_precision=precision)


def leave(status: int) -> None:
    """Quitte le programme, avec ce code ; l'un de plusieurs processus le fait sans démonter l'interpréteur.

    Sur processeur, le fil de gloo rend les tenseurs du dernier échange un instant après lui. Si Python se démonte à cet
    instant, le processus avorte, son entraînement pourtant fini et rangé, et le lancement entier passe pour un échec
    (pytorch/pytorch#190489). ``destroy_process_group`` n'attend pas ce fil.
    """
    if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
        sys.exit(status)
    torch.distributed.destroy_process_group()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)
