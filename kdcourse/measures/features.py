"""10.3 : ce que regarde un modèle, et ce que pèse chaque terme de sa perte."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.data.splits import Split
from kdcourse.losses.features import attention_loss, attention_map
from kdcourse.models import Features, predict_features


def map_similarity(student: Tensor, teacher: Tensor) -> Tensor:
    """Cosinus entre les cartes d'attention, moyen sur les images : ``(…, N, 1, H, W)`` toutes deux vers ``(…)``.

    1 si elles coïncident. Les cartes sont de norme 1 (``attention_map``) : leur produit scalaire suffit.
    """
    if student.shape[-4:] != teacher.shape[-4:]:
        raise ValueError(
            f"student : forme {tuple(student.shape)} reçue, des cartes {tuple(teacher.shape[-4:])} attendues, "
            "celles du teacher."
        )
    return (student * teacher).sum(dim=(-3, -2, -1)).mean(dim=-1)


def model_attention(model: nn.Module, images: Tensor) -> list[Tensor]:
    """Les cartes d'attention d'un modèle, une ``(N, 1, H, W)`` par étage."""
    return [attention_map(maps) for maps in predict_features(model, images).maps]


def gradient_norms(model: nn.Module, data: Split, teacher_features: Features) -> Tensor:
    """Normes ``(1 + étages,)`` du gradient sur les paramètres : étiquettes, puis attention de chaque étage à β = 1."""
    student, parameters = model.forward_features(data.images), list(model.parameters())
    losses = [F.cross_entropy(student.logits, data.labels)]
    losses += map(attention_loss, student.maps, teacher_features.maps)
    gradients = (torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True) for loss in losses)
    return torch.stack([torch.cat([g.flatten() for g in found if g is not None]).norm() for found in gradients])
