"""Ce que ``train_many`` refuse en plus : un modèle que la pile ne garderait pas entier, ou ne saurait pas calculer."""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
from torch import Tensor, nn

from kdcourse.models import Reader, logits_only
from kdcourse.training.checks import try_training_pass
from kdcourse.training.frozen_teacher import contents, copy_of, leaves, predict
from kdcourse.training.loop import drawn_from

_INSTEAD = " ; train_one les entraîne, graine par graine."


def check_stackable(models: Sequence[nn.Module], seeds: Sequence[int], images: Tensor) -> None:
    """Des modèles de mêmes tailles, sans poids partagés, sans BatchNorm, qui changent leurs tampons sur place."""
    model = models[0]
    shapes = [{name: tuple(part.shape) for name, part in one.state_dict().items()} for one in models]
    for seed, found in zip(seeds, shapes, strict=True):
        if found != shapes[0]:
            raise ValueError(
                f"make_model : d'autres tailles reçues pour la graine {seed} que pour la graine {seeds[0]}, les mêmes "
                f"attendues{_INSTEAD}"
            )
    if len(list(model.named_parameters(remove_duplicate=False))) != len(list(model.parameters())):
        raise ValueError(
            "make_model : un modèle aux poids partagés reçu, que torch.vmap n'empile pas ; voyez train_one."
        )
    if isinstance(model, torch.jit.ScriptModule):
        raise ValueError(f"make_model : un modèle compilé par TorchScript reçu, que torch.vmap n'empile pas{_INSTEAD}")
    if any(parameter._backward_hooks for parameter in model.parameters()):
        raise ValueError(f"make_model : un poids qui porte un hook reçu, que la pile n'appellerait pas{_INSTEAD}")
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in model.modules()):
        raise ValueError("make_model : un modèle avec BatchNorm reçu, GroupNorm ou LayerNorm attendu (torch.vmap).")
    if replaced := try_training_pass(Reader(model, features=False), images, len(images)):
        raise ValueError(
            f"make_model : le tampon {replaced[0]} est remplacé à chaque passage, et la pile n'en garderait rien ; "
            f"changez-le sur place (copy_, add_){_INSTEAD}"
        )


def check_same_state(
    models: Sequence[nn.Module], seeds: Sequence[int], images: Tensor, stacked_logits: Callable
) -> None:
    """Des modèles que leurs paramètres et leurs tampons suffisent à distinguer : eux seuls sont empilés.

    Deux indices du contraire : un nombre ou un tenseur rangé ailleurs, qui change d'une graine à l'autre ; des logits
    empilés qui ne sont pas ceux du modèle (un état caché dans une fonction, par exemple), en ``eval`` ou en ``train``.
    """
    few, firsts = images[:2], [seeds.index(seed) for seed in dict.fromkeys(seeds)]
    outside = [_outside(models[first]) for first in firsts]
    same = all(len(state) == len(outside[0]) and all(map(_equal, state, outside[0])) for state in outside)
    alone = torch.stack([predict(models[first], few) for first in firsts])
    try:
        same = _close(stacked_logits(few, False)[firsts], alone) and same
    except RuntimeError as error:  # seul, chaque modèle vient de répondre : c'est la pile qui ne sait pas
        raise _unstackable(error) from error
    trained, again = (torch.stack([_in_training(models[first], few, seed) for first in firsts]) for seed in (0, 1))
    if same and torch.equal(trained, again):  # sans dropout : lui tire autre chose à chaque passage
        try:
            same = _close(stacked_logits(few, True)[firsts], trained)
        except RuntimeError as error:
            raise _unstackable(error) from error
    if not same:
        raise ValueError(
            "make_model : un état hors des paramètres et des tampons, qui change d'une graine à l'autre, reçu (un "
            "tenseur gardé dans self, un nombre tiré dans __init__) ; la pile donnerait à tous celui de la première. "
            f"Rangez-le par register_buffer{_INSTEAD}"
        )


@torch.no_grad()
def _in_training(model: nn.Module, images: Tensor, seed: int) -> Tensor:
    """Ses logits en ``train``, sur une copie."""
    with drawn_from(seed, images.device):
        return logits_only(copy_of(model).train()(images))


def _close(stacked: Tensor, alone: Tensor) -> bool:
    """D'autres noyaux, d'autres arrondis ; un autre état se voit davantage."""
    return torch.allclose(stacked, alone, rtol=0, atol=1e-3 * float(1 + alone.abs().max()), equal_nan=True)


def said(stacked: Callable) -> Callable:
    """La même fonction ; ce que ``torch.vmap`` ne sait pas faire d'un student s'y dit en français."""

    def call(*arguments):
        try:
            return stacked(*arguments)
        except RuntimeError as error:
            if not any(word in str(error) for word in ("vmap", "atching rule", "functorch", "escaped")):
                raise
            raise _unstackable(error) from error

    return call


def _unstackable(error: RuntimeError) -> ValueError:
    why = str(error).splitlines()[0][:90]
    return ValueError(f"make_model : un modèle que torch.vmap n'empile pas reçu ({why}…){_INSTEAD}")


def _outside(model: nn.Module) -> list:
    """Les nombres et les tenseurs qu'un modèle range hors de ses paramètres et de ses tampons."""
    kept = ("_parameters", "_buffers", "_modules")
    held = [value for module in model.modules() for name, value in vars(module).items() if name not in kept]

    def inside(value):  # un ensemble n'a pas d'ordre où le comparer
        if isinstance(value, partial):
            return [value.func, value.args, value.keywords]
        return contents(value, (dict, list, tuple))

    numbers = Tensor | np.ndarray | np.generic | int | float | complex
    return [value for value in leaves(held, inside) if isinstance(value, numbers)]


def _equal(a, b) -> bool:
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.shape == b.shape and bool(((a == b) | (a.isnan() & b.isnan())).all())
    return type(a) is type(b) and (np.array_equal(a, b) or bool(np.all(np.not_equal(a, a))))
