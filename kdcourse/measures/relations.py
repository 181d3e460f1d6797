"""10.4 : les ressemblances que voit un modèle."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcourse.data.splits import Split
from kdcourse.losses.relations import cosine_relation_loss, cosine_relations
from kdcourse.models import predict_features
from kdcourse.training.students import error_rate


def sorted_by_class(part: Split, per_class: int = 10) -> Split:
    """Les ``per_class`` premiers exemples de chaque classe, classe après classe.

    Raises:
        ValueError: une classe a moins de ``per_class`` exemples.
    """
    counts = part.labels.bincount()
    if counts[counts > 0].min() < per_class:
        raise ValueError(f"per_class : {per_class} reçu, {counts[counts > 0].min()} au plus, la plus petite classe.")
    return part.where(torch.cat([(part.labels == c).nonzero()[:per_class, 0] for c in part.labels.unique()]))


def class_contrast(relations: Tensor, labels: Tensor) -> float:
    """Ressemblance moyenne entre deux exemples d'une même classe, moins celle de deux classes différentes."""
    same = labels[:, None] == labels
    others = ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
    return float(relations[same & others].mean() - relations[~same].mean())


class RelationState(NamedTuple):
    """Ce que montre ``RelationExplorer`` d'un modèle."""

    relations: Tensor
    """Similarités cosinus ``(B, B)`` des exemples triés par classe."""
    loss: float
    """Leur écart quadratique moyen avec celles du teacher."""
    error: float
    """Taux d'erreur en % sur toute la partie."""


def relation_state(model: nn.Module, teacher: nn.Module, part: Split) -> RelationState:
    """Ressemblances d'un modèle sur dix exemples par classe, leur écart au teacher, et son erreur sur ``part``."""
    chosen = sorted_by_class(part).images
    embedding, target = (predict_features(network, chosen).embedding for network in (model, teacher))
    error = error_rate(predict_features(model, part.images).logits, part.labels)
    return RelationState(cosine_relations(embedding), float(cosine_relation_loss(embedding, target)), float(error))
