"""Les mêmes entraînements dans un processus ou dans deux : lancé par torchrun, il range leurs paramètres."""

import sys
from pathlib import Path

import torch
from accelerate import PartialState
from accelerate.utils import gather_object
from support.toy_methods import ADAPTED, FORGETFUL, MEMORY, TOYS

from kdcourse import CNN, load_dataset
from kdcourse.methods import METHODS, Choice
from kdcourse.training.large_student import distill
from kdcourse.training.processes import leave

CHOICE = Choice(0.5, 2.0, 3.0)


def make_student():
    return CNN(channels=(4, 8))


def make_teacher():
    torch.manual_seed(0)
    return CNN(channels=(8, 12)).eval()


def few(examples):
    return load_dataset().train.where(slice(0, examples))


def run(method, examples=69, make_model=make_student, **options):
    """Deux époques de lots de 32 ; 69 exemples laissent un dernier lot de 5, impair."""
    method = METHODS.get(method, method) if isinstance(method, str) else method
    teacher = make_teacher() if getattr(method, "needs_teacher", True) else None
    options = dict(choice=CHOICE, epochs=2, batch_size=32, learning_rate=3e-3) | options
    return distill(make_model, few(examples), teacher, method=method, **options)


def parameters(method, **options):
    result = run(method, **options)
    return {**result.model.state_dict(), "loss": torch.tensor([row["loss"] for row in result.history])}


CASES = {name: {} for name in [*METHODS, *TOYS, FORGETFUL.name, MEMORY.name]}
# Un dernier lot d'un seul exemple : l'un des deux processus n'a rien.
CASES |= {f"{name}, reste 1": {"examples": 65} for name in ("KD", "DIST", "KD + RKD", "PS-KD", ADAPTED.name)}
CASES |= {"KD, décalages": {"jitter": 2}, "PS-KD, trois époques": {"epochs": 3}}


RESUMED = dict(examples=65, checkpoint_every=1)  # trois pas par époque, dont un d'un seul exemple


def run_case(name):
    method = name.removesuffix(", reste 1")
    own = TOYS | {FORGETFUL.name: FORGETFUL, MEMORY.name: MEMORY}
    return parameters(own[method] if method in own else name.split(",")[0], **CASES[name])


class Drawing(CNN):
    """Un student qui tire au hasard à chaque passage, et note ce qu'il a tiré : chaque processus a son hasard."""

    drawn = []

    def __init__(self):
        super().__init__(channels=(4, 8))

    def forward_features(self, images):
        self.drawn.append(torch.rand(()).item())
        features = super().forward_features(images)
        return features._replace(logits=features.logits * (1 + self.drawn[-1] * self.training))


class Stop(Exception):
    """L'arrêt d'une session, en moins brutal."""


def interrupted(method, after, **options):
    """L'entraînement s'arrête au pas qui suit ``after``."""
    step = torch.optim.Adam.step

    def stop(*args, **kwargs):
        nonlocal after
        after -= 1
        if after < 0:
            raise Stop
        return step(*args, **kwargs)

    torch.optim.Adam.step = stop
    try:
        run(method, **options)
    except Stop:
        return
    finally:
        torch.optim.Adam.step = step
    raise AssertionError("l'entraînement a fini avant l'arrêt")


def resumed(method, folder, **options):
    interrupted(method, after=2, output=folder, **RESUMED, **options)
    return parameters(method, output=folder, resume=True, **RESUMED, **options)


if __name__ == "__main__":
    torch.set_num_threads(1)
    found = {name: run_case(name) for name in CASES}
    found["reprise"] = resumed("PS-KD", Path(sys.argv[1]).parent / "reprise")
    found["hasard"] = parameters("seul", make_model=Drawing, **RESUMED)
    drawn = gather_object([Drawing.drawn[-1]])
    found["hasard repris"] = resumed("seul", Path(sys.argv[1]).parent / "hasard", make_model=Drawing)
    found["tirages"] = drawn
    found["processes"] = PartialState().num_processes
    if PartialState().is_main_process:
        torch.save(found, sys.argv[1])
    leave(0)
