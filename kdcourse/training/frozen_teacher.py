"""Le teacher figé : une copie en ``eval`` qu'aucun gradient ne change, et ses logits, sans graphe."""

import copy
from collections import deque

import torch
from torch import Tensor, nn

from kdcourse.models import check_image_type, evaluating, logits_only


def copy_of(model: nn.Module) -> nn.Module:
    """Une copie indépendante ; un tenseur calculé que le modèle a gardé, que ``deepcopy`` refuserait, y est détaché."""
    memo: dict[int, Tensor] = {}
    seen, kept = set(), [vars(module) for module in model.modules()]
    while kept:  # ses attributs, et ce qu'ils contiennent
        value = kept.pop()
        if isinstance(value, Tensor) and not value.is_leaf:
            memo[id(value)] = value.detach().clone()
        elif isinstance(value, dict | list | tuple | set | deque) and id(value) not in seen:
            seen.add(id(value))
            kept += value.values() if isinstance(value, dict) else value
        elif hasattr(value, "__dict__") and not isinstance(value, Tensor | type | nn.Module) and id(value) not in seen:
            seen.add(id(value))
            kept.append(vars(value))
    return copy.deepcopy(model, memo)


@torch.no_grad()
def answers(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Ce qu'un modèle répond à quelques images, en nombres ; -inf, une classe masquée, y vaut zéro.

    Ses tampons sont rendus tels quels, même à un modèle qui les change en ``eval``.
    """
    before = [(buffer, buffer.clone()) for buffer in model.buffers()]
    with evaluating(model):
        held, found = [model(images)], []
    for buffer, kept in before:
        buffer.copy_(kept)
    while held:
        value = held.pop()
        if isinstance(value, Tensor) and value.is_floating_point():
            found.append(value.where(value != -torch.inf, 0))
        elif isinstance(value, dict | list | tuple):
            held += value.values() if isinstance(value, dict) else value
    return found


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
