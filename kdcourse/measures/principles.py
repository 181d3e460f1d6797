"""10.1 : une prédiction adoucie, son entropie, les images où un modèle hésite."""

import numpy as np
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


def entropy_bits(probabilities: Tensor) -> float:
    """Entropie en bits d'une distribution ``(C,)`` : 0 pour une certitude, log₂ C pour l'uniforme."""
    return float(torch.special.entr(probabilities).sum() / np.log(2))
