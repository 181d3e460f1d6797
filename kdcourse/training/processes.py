"""Les processus d'un entraînement de ``distill`` : combien ils sont, ce qu'``accelerate`` leur donne, leur sortie."""

import os
import sys
from contextlib import contextmanager

import torch
from accelerate import Accelerator, PartialState
from accelerate.state import AcceleratorState, GradientState
from accelerate.utils import parse_flag_from_env

_PRECISIONS = ("no", "fp16", "bf16")


def processes() -> PartialState:
    """Les processus de cet entraînement ; seul, ``PartialState()`` oublierait ceux d'un lancement sur processeur."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))


@contextmanager
def own_accelerator():
    """Les réglages qu'un ``Accelerator`` d'ailleurs a pris (précision, accumulation) lui sont rendus à la sortie."""
    shared = [state._shared_state for state in (AcceleratorState, GradientState)]
    before = [dict(state) for state in shared]
    try:
        yield
    finally:
        for state, kept in zip(shared, before, strict=True):
            state.clear()
            state.update(kept)


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
