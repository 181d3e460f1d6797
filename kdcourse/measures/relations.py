"""10.4 : ce que chaque perte ignore d'un nuage, les ressemblances d'un modèle, les gains rangés budget par budget."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.data.splits import Split
from kdcourse.formats import french
from kdcourse.losses.relations import (
    cosine_relation_loss,
    cosine_relations,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
)
from kdcourse.measures.stored import origin, stored
from kdcourse.models import predict_features
from kdcourse.training.students import Students, error_rate


def alpha_of(weight: float) -> float:
    """Le α qui donne à la distillation ``weight`` fois le poids des étiquettes ; ``math.inf`` : elle seule."""
    return 1 - 1 / (1 + weight)


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


def nearest_class_error(known: Tensor, labels: Tensor, features: Tensor, truth: Tensor) -> Tensor:
    """Taux d'erreur en % si chaque exemple prend le nom de la classe dont le centre lui ressemble le plus.

    Args:
        known: ce qui représente les exemples nommés, ``(N, …)``.
        labels: leurs étiquettes ``(N,)``, toutes les classes y sont.
        features: les exemples à nommer, ``(M, …)``.
        truth: leurs étiquettes ``(M,)``.
    """
    known, features = (F.normalize(values.flatten(1), dim=1) for values in (known, features))
    centers = torch.stack([known[labels == c].mean(dim=0) for c in range(int(labels.max()) + 1)])
    return error_rate(features @ F.normalize(centers, dim=1).T, truth)


def center_errors(students: Students, named: Split, part: Split) -> Tensor:
    """Ce taux pour chaque student, ``(S,)`` : les centres viennent de ``named``, ``part`` est à nommer."""
    found = []
    for index in range(len(students)):
        known, features = (predict_features(students[index], one.images).embedding for one in (named, part))
        found.append(nearest_class_error(known, named.labels, features, part.labels))
    return torch.stack(found)


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


RELATIONS = {
    "cosine": cosine_relation_loss,
    "SP": similarity_preserving_loss,
    "RKD distance": rkd_distance_loss,
    "RKD angle": rkd_angle_loss,
}
ZERO = 1e-12  # en float64, le bruit d'arrondi d'une perte nulle reste dessous


class Transformation(NamedTuple):
    """Une façon de déplacer un nuage, d'autant plus que ``amount`` va de 0 à 1."""

    move: Callable[[Tensor, float], Tensor]
    says: Callable[[float], str]


def _rotated(points: Tensor, amount: float) -> Tensor:
    angle = math.pi * amount
    turn = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    return points @ points.new_tensor(turn)


def _row_scales(points: Tensor, amount: float) -> Tensor:
    """Un facteur par point, de 1/2 à 2 au plus fort ; deux voisins n'ont pas le même."""
    ranks = torch.arange(len(points), dtype=points.dtype) * 7 % len(points) / max(1, len(points) - 1)
    return points * 2 ** (amount * (2 * ranks - 1))[:, None]


TRANSFORMATIONS = {
    "translation": Transformation(
        lambda points, amount: points + amount * points.abs().max() * points.new_tensor([0.8, -0.6]),
        lambda amount: "translaté",
    ),
    "rotation": Transformation(_rotated, lambda amount: f"tourné de {french(180 * amount, 0)}°"),
    "échelle commune": Transformation(
        lambda points, amount: points * 2**amount, lambda amount: f"multiplié par {french(2**amount, 2)}"
    ),
    "une échelle par point": Transformation(
        _row_scales,
        lambda amount: f"chaque point multiplié par un nombre, de {french(2**-amount, 2)} à {french(2**amount, 2)}",
    ),
    "une échelle par dimension": Transformation(
        lambda points, amount: points * points.new_tensor([2**amount, 2**-amount]),
        lambda amount: f"largeur multipliée par {french(2**amount, 2)}, hauteur par {french(2**-amount, 2)}",
    ),
}


class CloudState(NamedTuple):
    """Ce que montre ``InvarianceExplorer`` : le nuage déplacé ``(B, 2)``, et la perte de chaque relation."""

    points: Tensor
    losses: dict[str, float]


def cloud_state(points: Tensor, transformation: str, amount: float) -> CloudState:
    """Un nuage ``(B, 2)``, déplacé, et ce qu'en disent les relations, le nuage d'origine servant de teacher."""
    moved = TRANSFORMATIONS[transformation].move(points, amount)
    return CloudState(moved, {name: loss(moved, points).item() for name, loss in RELATIONS.items()})


class RelationBudgets(NamedTuple):
    """Ce que ``python -m benchmarks relations`` a rangé pour 10.4 : chaque méthode à plusieurs budgets.

    ``errors[images][méthode]`` a les poids essayés (``weights``), l'erreur de validation moyenne à chacun, une ligne
    par budget (``by_weight``), le poids choisi à chaque budget (``chosen``), et à ce poids les erreurs
    ``(budgets, graines)`` de ``validation`` et de ``test``.
    """

    steps: list[int]
    """Nombre de pas de chaque budget."""
    errors: dict[int, dict[str, dict]]
    origin: str
    """Quand, sur quel processeur, avec quelle version."""

    @classmethod
    def load(cls) -> "RelationBudgets":
        result = stored("relations")
        return cls(result["steps"], {int(size): own for size, own in result["errors"].items()}, origin(result))

    def gains(self, size: int, method: str, against: str = "seul", part: str = "test") -> Tensor:
        """Différences appariées d'erreur, en points, ``(budgets, graines)`` : positives si ``method`` gagne."""
        return torch.tensor(self.errors[size][against][part]) - torch.tensor(self.errors[size][method][part])

    def gain(self, size: int, method: str, steps: int, against: str = "seul", part: str = "test") -> Tensor:
        """Celles d'un budget, ``(graines,)``."""
        return self.gains(size, method, against, part)[self.steps.index(steps)]

    def weight(self, size: int, method: str, steps: int) -> float:
        """Le poids que la validation a choisi à ce budget."""
        return self.errors[size][method]["chosen"][self.steps.index(steps)]

    def by_weight(self, size: int, method: str, steps: int) -> tuple[Sequence[float], Sequence[float]]:
        """Les poids essayés, et l'erreur de validation moyenne à chacun."""
        return self.errors[size][method]["weights"], self.errors[size][method]["by_weight"][self.steps.index(steps)]
