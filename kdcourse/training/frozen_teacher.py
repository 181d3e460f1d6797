"""Le teacher figé : une copie en ``eval`` qu'aucun gradient ne change, et ses logits, sans graphe."""

import copy
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import torch
from torch import Tensor, nn

from kdcourse.models import check_image_type, evaluating, logits_only


def contents(value, kinds: tuple[type, ...] = (dict, list, tuple, set, deque)) -> Iterable | None:
    """Ce que contient une structure de Python ; rien si ce n'en est pas une."""
    if not isinstance(value, kinds):
        return None
    return value.values() if isinstance(value, dict) else value


def leaves(values: Iterable, inside: Callable = contents) -> Iterator:
    """Tout ce que tiennent des valeurs, leurs structures ouvertes par ``inside``, chacune une fois."""
    held, seen = list(values), set()
    while held:
        value = held.pop()
        found = inside(value)
        if found is None:
            yield value
        elif id(value) not in seen:
            seen.add(id(value))
            held += found


def copy_of(model: nn.Module) -> nn.Module:
    """Une copie indépendante ; un tenseur calculé que le modèle a gardé, que ``deepcopy`` refuserait, y est détaché."""

    def inside(value):
        found = contents(value)
        if found is None and hasattr(value, "__dict__") and not isinstance(value, Tensor | type | nn.Module):
            return [vars(value)]
        return found

    held = leaves(map(vars, model.modules()), inside)
    memo = {id(part): part.detach().clone() for part in held if isinstance(part, Tensor) and not part.is_leaf}
    return copy.deepcopy(model, memo)


@torch.no_grad()
def answers(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Ce qu'un modèle répond à quelques images, en nombres ; -inf, une classe masquée, y vaut zéro.

    Ses tampons sont rendus tels quels, même à un modèle qui les change en ``eval``.
    """
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with evaluating(model):
        said = [part for part in leaves([model(images)]) if isinstance(part, Tensor) and part.is_floating_point()]
    for buffer, kept in before:
        buffer.copy_(kept)
    return list(map(unmasked, said))


def unmasked(logits: Tensor) -> Tensor:
    """Les mêmes logits, 0 à la place de -inf : une classe masquée n'est pas une divergence."""
    return logits.where(logits != -torch.inf, 0)


def memory_of(model: nn.Module) -> set[int]:
    """Où sont ses poids et ses tampons : deux modèles qui en partagent ne s'entraînent pas l'un sans l'autre."""
    parts = [part for part in (*model.parameters(), *model.buffers()) if not nn.parameter.is_lazy(part)]
    return {part.untyped_storage().data_ptr() for part in parts if part.numel()}


def frozen_copy(model: nn.Module) -> nn.Module:
    """Une photographie du modèle : copie indépendante, en ``eval``, qu'aucun gradient ne change."""
    frozen = copy_of(model).eval()
    for parameter in (part for part in frozen.parameters() if part.is_leaf):  # copié, un ScriptModule n'en a plus
        parameter.requires_grad_(False)
    return frozen


def predict(model: nn.Module, images: Tensor) -> Tensor:
    """Logits d'un modèle en ``eval``, sans graphe ; il retrouve ensuite son mode."""
    with evaluating(model):
        return frozen_logits(model, images)


@torch.no_grad()
def frozen_logits(teacher: nn.Module, images: Tensor) -> Tensor:
    """Logits du teacher, sans graphe, calculés sur son appareil et rendus sur celui des images."""
    check_image_type(teacher, images)
    device = next((parameter.device for parameter in teacher.parameters()), images.device)
    return logits_only(teacher(images.to(device))).to(images.device)
