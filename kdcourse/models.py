"""Les teachers et les students du cours, deux petites architectures en quelques tailles ; et comment les lire.

Toutes rendent leurs logits par ``model(x)``, et par ``model.forward_features(x)`` leurs cartes, leur embedding et leurs
logits en un seul passage. Aucune n'emploie BatchNorm : ses statistiques courantes ne passent pas sous
``torch.vmap``, donc pas dans ``train_many`` ; GroupNorm la remplace.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.losses.checks import check_number, check_positive_integer, shape_of
from kdcourse.losses.features import AdaptationLayer


class Features(NamedTuple):
    """Ce qu'un modèle calcule en chemin : une carte par étage, l'embedding ``(B, D)``, les logits ``(B, C)``.

    Ce qui manque est ``None`` : l'embedding d'un modèle qui ne rend que ses logits, ce qu'une méthode ne lit pas.
    """

    maps: list[Tensor | None]
    embedding: Tensor | None
    logits: Tensor | None

    def map(self, function: Callable[[Tensor], Tensor]) -> "Features":
        """Les mêmes features, chaque tenseur changé par ``function``."""
        *maps, embedding, logits = (None if part is None else function(part) for part in (*self.maps, *self[1:]))
        return Features(maps, embedding, logits)


class Reader(nn.Module):
    """Un modèle dont ``forward`` rend des ``Features`` : DDP et ``functional_call`` ne connaissent que ``forward``.

    Args:
        model: un modèle qui rend ses logits.
        features: vrai s'il faut aussi ses cartes et son embedding, par ``forward_features``.
    """

    def __init__(self, model: nn.Module, features: bool):
        super().__init__()
        self.model, self.features = model, features

    def forward(self, images: Tensor) -> Features:
        """Ce que le modèle calcule de ces images."""
        if not self.features:
            return Features([], None, logits_only(self.model(images)))
        return _features(self.model.forward_features(images))


def _check_sizes(name: str, sizes) -> tuple[int, ...]:
    if not isinstance(sizes, (tuple, list)) or not sizes:
        raise ValueError(f"{name} : {sizes!r} reçu, une suite non vide de tailles attendue, (32, 32) par exemple.")
    return tuple(check_positive_integer(name, size) for size in sizes)


def _check_images(images: Tensor, channels: int | None, features: int | None) -> None:
    if images.dim() != 4:
        raise ValueError(f"images : forme {shape_of(images)} reçue, (B, canaux, hauteur, largeur) attendue.")
    if channels is not None and images.shape[1] != channels:
        raise ValueError(f"images : {images.shape[1]} canal(aux) reçu(s), {channels} attendu(s).")
    if features is not None and images[0].numel() != features:
        raise ValueError(f"images : forme {shape_of(images)} reçue, {features} pixels par image attendus.")


class MLP(nn.Module):
    """Perceptron : l'image aplatie traverse des couches cachées ReLU, puis une couche linéaire.

    Args:
        in_features: pixels par image, canaux compris ; 64 pour les chiffres 8×8.
        hidden: largeur de chaque couche cachée.
        classes: nombre C de classes.
        dropout: probabilité d'éteindre une unité cachée à l'entraînement, dans [0, 1[.
        input_dropout: la même, pour un pixel d'entrée.
    """

    def __init__(self, in_features=64, hidden=(32, 32), classes=10, dropout=0.0, input_dropout=0.0):
        super().__init__()
        hidden = _check_sizes("hidden", hidden)
        for name, size in (("in_features", in_features), ("classes", classes)):
            check_positive_integer(name, size)
        for name, probability in (("dropout", dropout), ("input_dropout", input_dropout)):
            check_number(name, probability, 0, math.nextafter(1, 0), "un nombre de [0, 1[")
        self.in_features = in_features
        self.input_dropout = nn.Dropout(input_dropout) if input_dropout else nn.Identity()
        self.stages = nn.ModuleList()
        for width_in, width_out in zip((in_features, *hidden[:-1]), hidden, strict=True):
            layers = [nn.Linear(width_in, width_out), nn.ReLU()]
            self.stages.append(nn.Sequential(*layers, nn.Dropout(dropout)) if dropout else nn.Sequential(*layers))
        self.head = nn.Linear(hidden[-1], classes)

    def forward_features(self, images: Tensor) -> Features:
        """Couches cachées ``(B, largeur)``, embedding (la dernière), logits ``(B, C)``."""
        _check_images(images, None, self.in_features)
        hidden, maps = self.input_dropout(images.flatten(1)), []
        for stage in self.stages:
            hidden = stage(hidden)
            maps.append(hidden)
        return Features(maps, hidden, self.head(hidden))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, C)`` d'images ``(B, canaux, hauteur, largeur)``."""
        return self.forward_features(images).logits


class CNN(nn.Module):
    """Réseau convolutif : un étage (convolution 3×3, GroupNorm, ReLU) par nombre de canaux, puis une moyenne 2×2.

    Chaque étage après le premier divise la hauteur et la largeur par deux. La moyenne finale se prend par quart
    d'image : sur des chiffres, la position compte.

    Args:
        in_channels: canaux de l'image ; 1 pour un chiffre, 3 pour une photo.
        channels: nombre de canaux de chaque étage.
        classes: nombre C de classes.
        groups: groupes de GroupNorm ; chaque nombre de canaux en est un multiple.
    """

    def __init__(self, in_channels=1, channels=(8, 16), classes=10, groups=4):
        super().__init__()
        channels = _check_sizes("channels", channels)
        for name, size in (("in_channels", in_channels), ("classes", classes), ("groups", groups)):
            check_positive_integer(name, size)
        if any(width % groups for width in channels):
            raise ValueError(f"channels : {channels} reçu, des multiples de groups = {groups} attendus.")
        self.in_channels = in_channels
        self.stages = nn.ModuleList()
        for index, (width_in, width_out) in enumerate(zip((in_channels, *channels[:-1]), channels, strict=True)):
            convolution = nn.Conv2d(width_in, width_out, 3, stride=2 if index else 1, padding=1, bias=False)
            self.stages.append(nn.Sequential(convolution, nn.GroupNorm(groups, width_out), nn.ReLU()))
        self.head = nn.Linear(4 * channels[-1], classes)

    def forward_features(self, images: Tensor) -> Features:
        """Cartes ``(B, canaux, h, w)`` de chaque étage, embedding ``(B, 4·canaux)``, logits ``(B, C)``."""
        _check_images(images, self.in_channels, None)
        hidden, maps = images, []
        for stage in self.stages:
            hidden = stage(hidden)
            maps.append(hidden)
        embedding = F.adaptive_avg_pool2d(hidden, 2).flatten(1)
        return Features(maps, embedding, self.head(embedding))

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, C)`` d'images ``(B, canaux, hauteur, largeur)``."""
        return self.forward_features(images).logits


class AdaptedStudent(nn.Module):
    """Un student et l'adaptateur d'un de ses étages, en un seul modèle : l'optimiseur reçoit les deux.

    ``forward`` rend les logits du student seul ; ``forward_features`` y joint la carte de l'étage, adaptée. Le student
    est construit avant l'adaptateur : à graine égale, ses poids sont ceux qu'il aurait eus sans lui.

    Args:
        student: un modèle qui a ``forward_features``.
        stage: indice de la carte à adapter, dans ``forward_features(images).maps``.
        in_channels: canaux de cette carte.
        out_channels: canaux de celle du teacher.
    """

    def __init__(self, student: nn.Module, stage: int, in_channels: int, out_channels: int):
        super().__init__()
        self.student, self.stage = student, stage
        self.adapter = AdaptationLayer(in_channels, out_channels)

    def forward_features(self, images: Tensor) -> Features:
        """Les cartes du student, celle de l'étage ``stage`` adaptée, son embedding et ses logits."""
        maps, embedding, logits = self.student.forward_features(images)
        if not 0 <= self.stage < len(maps):
            raise ValueError(f"stage : {self.stage} reçu, de 0 à {len(maps) - 1} attendu, un étage du student.")
        adapted = [self.adapter(m) if index == self.stage else m for index, m in enumerate(maps)]
        return Features(adapted, embedding, logits)

    def forward(self, images: Tensor) -> Tensor:
        """Logits ``(B, C)`` du student ; l'adaptateur n'y sert pas."""
        return self.student(images)


def digits_teacher() -> CNN:
    """Teacher des chiffres 8×8 : trois étages, 25 978 paramètres."""
    return CNN(channels=(16, 32, 64))


def digits_student() -> MLP:
    """Student des chiffres 8×8 : deux couches cachées de 32 unités, 3 466 paramètres."""
    return MLP(hidden=(32, 32))


def mnist_teacher() -> MLP:
    """Teacher 28×28 : deux couches cachées de 1 200 unités, avec dropout (Hinton, Vinyals, Dean 2015, section 3)."""
    return MLP(784, (1200, 1200), dropout=0.5, input_dropout=0.2)


def mnist_student() -> MLP:
    """Student 28×28 : deux couches cachées de 800 unités, sans régularisation (même source)."""
    return MLP(784, (800, 800))


def color_teacher(classes: int = 10) -> CNN:
    """Teacher des photos 32×32 : quatre étages de 64 à 512 canaux."""
    return CNN(in_channels=3, channels=(64, 128, 256, 512), classes=classes, groups=8)


def color_student(classes: int = 10) -> CNN:
    """Student des photos 32×32 : trois étages de 16 à 64 canaux."""
    return CNN(in_channels=3, channels=(16, 32, 64), classes=classes)


@torch.no_grad()
def predict_features(model: nn.Module, images: Tensor) -> Features:
    """Cartes, embedding et logits d'un modèle en ``eval``, sans graphe ; il retrouve ensuite son mode."""
    check_image_type(model, images)
    with evaluating(model):
        return _features(model.forward_features(images))


def check_built(model: nn.Module) -> None:
    """Un modèle dont chaque couche a ses poids : une couche paresseuse n'en a qu'après un premier passage."""
    if any(map(nn.parameter.is_lazy, model.parameters())):
        raise ValueError("model : des couches paresseuses sans poids reçues ; faites-y passer un lot, model(images).")


def parameter_count(model: nn.Module) -> int:
    """Nombre de paramètres entraînables."""
    check_built(model)
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Le modèle en ``eval`` le temps d'un bloc ; chacun de ses sous-modules retrouve ensuite son propre mode."""
    modes = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in modes:
            module.training = training


def check_image_type(model: nn.Module, images: Tensor, name: str = "model") -> None:
    """Des images du type des poids ; devant un ``nn.Embedding``, ou sous autocast, torch s'en arrange."""
    weight = next((part for part in model.parameters() if part.is_floating_point()), images)
    embedded = not images.is_floating_point() and any(isinstance(module, nn.Embedding) for module in model.modules())
    if images.dtype != weight.dtype and not embedded and not torch.is_autocast_enabled(images.device.type):
        how = f"convertissez par .to({weight.dtype})"
        raise TypeError(f"images : {images.dtype} reçu, {weight.dtype} attendu, le type des poids de {name} ; {how}.")


def _expected(found, kind: type, source: str, advice: str):
    if not isinstance(found, kind):
        raise TypeError(f"{source} : {type(found).__name__} reçu, {advice}.")
    return found


def logits_only(outputs) -> Tensor:
    wrap = "donnez un nn.Module qui appelle le vôtre et rend ce tenseur : outputs['logits'], ou outputs[0]"
    return _expected(outputs, Tensor, "model(images)", f"des logits (N, C) attendus ; {wrap}")


def _features(found) -> Features:
    advice = "Features(maps, embedding, logits) attendu ; les méthodes de 10.2 se passent de forward_features"
    return _expected(found, Features, "forward_features", advice)
