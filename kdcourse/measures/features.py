"""10.3 : ce que regarde un modèle, ce que pèse chaque terme de sa perte, et les gains rangés budget par budget."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.data.splits import Split
from kdcourse.losses.features import attention_loss, attention_map
from kdcourse.measures.stored import origin, stored
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
    """Normes ``(2, étages)`` du gradient des étiquettes, puis de l'attention de chaque étage à β = 1.

    Les deux, sur les seuls paramètres que l'attention de cet étage atteint : les couches d'après ne l'entendent pas.
    """
    student, parameters = model.forward_features(data.images), list(model.parameters())
    by_labels = torch.autograd.grad(F.cross_entropy(student.logits, data.labels), parameters, retain_graph=True)
    norms = []
    for ours, theirs in zip(student.maps, teacher_features.maps, strict=True):
        found = torch.autograd.grad(attention_loss(ours, theirs), parameters, retain_graph=True, allow_unused=True)
        pairs = [pair for pair in zip(by_labels, found, strict=True) if pair[1] is not None]
        norms.append([torch.cat([g.flatten() for g in gradients]).norm() for gradients in zip(*pairs, strict=True)])
    return torch.tensor(norms).T


def uniform_map(maps: Tensor) -> Tensor:
    """Une carte qui ne regarde rien, de la forme de ``maps`` : la même valeur partout."""
    return torch.ones_like(maps)


def mean_map(maps: Tensor) -> Tensor:
    """Une carte dont l'énergie est la moyenne de celles des images : la même pour toutes, de la forme de ``maps``."""
    return maps.square().mean(dim=0, keepdim=True).sqrt().expand_as(maps).contiguous()


class FeatureBudgets(NamedTuple):
    """Les erreurs de 10.3 à plusieurs budgets, que ``python -m benchmarks features`` a rangées.

    ``errors[images][méthode][partie]`` a une ligne par budget et une colonne par graine.
    """

    budgets: list[float]
    """Fois le nombre de pas du chapitre."""
    steps: dict[int, list[int]]
    """Nombre d'images étiquetées → le nombre de pas de chaque budget."""
    errors: dict[int, dict[str, dict[str, Tensor]]]
    origin: str
    """Quand, sur quel processeur, avec quelle version."""

    @classmethod
    def load(cls) -> "FeatureBudgets":
        result = stored("features")
        errors = {
            int(size): {name: {part: torch.tensor(rows) for part, rows in parts.items()} for name, parts in own.items()}
            for size, own in result["errors"].items()
        }
        steps = {int(size): values for size, values in result["steps"].items()}
        return cls(result["budgets"], steps, errors, origin(result))

    def gains(self, size: int, method: str, part: str = "test") -> Tensor:
        """Différences appariées d'erreur avec le student seul, en points, ``(budgets, graines)``."""
        return self.errors[size]["seul"][part] - self.errors[size][method][part]

    def gain(self, size: int, method: str, budget: float, part: str = "test") -> Tensor:
        """Celles d'un budget, ``(graines,)``."""
        return self.gains(size, method, part)[self.budgets.index(budget)]
