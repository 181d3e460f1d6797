"""10.1 : une prédiction adoucie, son entropie, les images où un modèle hésite."""

import torch
from torch import Tensor, nn

from kdcourse.data.splits import Split
from kdcourse.training.frozen_teacher import predict


def softened(logits: Tensor, temperature: float) -> Tensor:
    """softmax(z / T) : les probabilités qu'un schéma montre. ``(…, C)`` vers ``(…, C)``."""
    return torch.softmax(logits / temperature, dim=-1)


def most_uncertain(model: nn.Module, part: Split, count: int = 1) -> Tensor:
    """Indices ``(count,)`` des images où le modèle hésite le plus : ses deux premiers logits se touchent."""
    best = predict(model, part.images).topk(2, dim=-1).values
    return (best[:, 0] - best[:, 1]).argsort()[:count]


def entropy(probabilities: Tensor) -> float:
    """Entropie en nats d'une distribution ``(C,)`` : 0 pour une certitude, ln C pour l'uniforme."""
    return float(torch.special.entr(probabilities).sum())


def seen_second(logits: Tensor, label: int, count: int) -> Tensor:
    """Indices ``(count,)`` des images où cette classe vient en second, d'abord celles où elle talonne la première."""
    first, second = logits.topk(2, dim=-1).values.T
    found = (logits.argsort(dim=-1)[:, -2] == label).nonzero()[:, 0]
    return found[(first - second)[found].argsort()[:count]]
