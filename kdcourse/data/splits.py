"""Des exemples et leurs étiquettes : leurs parties, leurs lots, leurs décalages."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.losses.checks import (
    check_finite,
    check_floating,
    check_integer,
    check_labels,
    check_non_negative,
    check_positive_integer,
    check_seed,
)


class Split(NamedTuple):
    """Des images ``(N, canaux, hauteur, largeur)`` float32 et leurs étiquettes ``(N,)`` int64."""

    images: Tensor
    labels: Tensor

    def to(self, device) -> "Split":
        """La même partie, sur un autre appareil."""
        return Split(self.images.to(device), self.labels.to(device))

    def where(self, kept: Tensor) -> "Split":
        """Les exemples que désigne ``kept``, masque booléen ou indices ``(n,)``."""
        return Split(self.images[kept], self.labels[kept])

    def without_class(self, label: int) -> "Split":
        """Tous les exemples, sauf ceux d'une classe."""
        return self.where(self.labels != label)


class Dataset(NamedTuple):
    """Trois parties disjointes. On règle sur ``validation`` ; ``test`` ne sert qu'à la mesure finale."""

    train: Split
    validation: Split
    test: Split

    def to(self, device) -> "Dataset":
        """Les trois parties, sur un autre appareil."""
        return Dataset(*(part.to(device) for part in self))

    def resized(self, size: int) -> "Dataset":
        """Les mêmes images à ``size × size`` pixels, par interpolation bilinéaire ; aucun détail n'est ajouté."""
        check_positive_integer("size", size)
        return Dataset(*(Split(_bilinear(part.images, size), part.labels) for part in self))


def check_split(name: str, data) -> None:
    """Un couple (images flottantes finies, étiquettes), non vide."""
    if not (isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)):
        raise TypeError(f"{name} : {type(data).__name__} reçu, Split(images, labels) attendu.")
    images, labels = data
    if not images.is_floating_point() or images.dim() < 2 or not len(images):
        raise TypeError(
            f"{name}.images : {images.dtype} {tuple(images.shape)} reçu, un tenseur flottant (N, …) attendu, N ≥ 1 ; "
            "convertissez par .float() / 255, par exemple."
        )
    check_labels(labels, images, f"{name}.images")
    check_finite(f"{name}.images", images)


def _bilinear(images: Tensor, size: int) -> Tensor:
    return F.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)


def shift_and_noise(images: Tensor, *, shift: int = 1, noise: float = 0.1, generator: torch.Generator) -> Tensor:
    """Chaque image, décalée au hasard et bruitée : ce que verrait un capteur mal cadré.

    Le décalage est entier, tiré uniformément de ``-shift`` à ``shift`` pixels dans chaque direction ; ce qui entre est
    noir (0), ce qui sort est perdu. Le bruit est gaussien, indépendant d'un pixel à l'autre ; il n'est pas rogné, et
    les pixels peuvent sortir de [0, 1].

    Args:
        images: ``(N, canaux, hauteur, largeur)``, flottantes.
        shift: plus grand décalage, en pixels, ≥ 0.
        noise: écart-type du bruit, ≥ 0, dans l'unité des pixels (de 0 à 1).
        generator: d'où viennent les tirages ; même état, mêmes images.

    Returns:
        De nouvelles images, de la forme, du dtype et sur l'appareil de ``images``.

    Raises:
        TypeError, ValueError: argument hors de son domaine, nommé dans le message.
    """
    check_floating("images", images, (4,), "(N, canaux, hauteur, largeur)")
    shift = check_integer("shift", shift, 0, 2**31, "un nombre de pixels, entier ≥ 0,")
    check_non_negative("noise", noise)
    if not isinstance(generator, torch.Generator):
        raise TypeError(f"generator : {type(generator).__name__} reçu, un torch.Generator attendu.")
    count, channels, height, width = images.shape
    down, right = torch.randint(-shift, shift + 1, (2, count, 1), generator=generator, device=generator.device)
    added = noise * torch.randn(images.shape, generator=generator, device=generator.device, dtype=images.dtype)
    # Le pixel (i, j) vient de (i - down, j - right), compté dans l'image bordée de noir.
    rows = (torch.arange(height, device=down.device) + shift - down)[:, None, :, None]
    columns = (torch.arange(width, device=down.device) + shift - right)[:, None, None, :]
    example, channel = torch.arange(count)[:, None, None, None], torch.arange(channels)[:, None, None]
    index = (part.to(images.device) for part in (example, channel, rows, columns))
    return F.pad(images, (shift,) * 4)[tuple(index)] + added.to(images.device)


class Batches:
    """Des lots mélangés ``(images, labels, indices)``, à parcourir une fois par époque ; ceux de ``train_many``.

    Même graine, mêmes lots : les deux boucles se comparent graine par graine.

    Args:
        data: les exemples.
        seed: graine de l'ordre.
        batch_size: exemples par lot, ≥ 1 ; le dernier lot peut être plus petit.
    """

    def __init__(self, data: Split, seed: int = 0, batch_size: int = 100):
        check_split("data", data)
        self.data, self.batch_size = Split(*data), check_positive_integer("batch_size", batch_size)
        self.shuffle = torch.Generator().manual_seed(check_seed("seed", seed))

    def __iter__(self):
        images, labels = self.data
        for indices in torch.randperm(len(labels), generator=self.shuffle).to(labels.device).split(self.batch_size):
            yield images[indices], labels[indices], indices


def shift_images(images: Tensor, shifts: Tensor, pixels: int) -> Tensor:
    """Décale chaque image de son propre nombre de pixels ; ce qui entre par le bord est noir.

    C'est le *jitter* de Hinton et al. (2015), section 3, deux pixels au plus en chaque direction ::

        shift_images(images, torch.randint(-2, 3, (len(images), 2)), pixels=2)

    Args:
        images: ``(B, canaux, hauteur, largeur)``.
        shifts: ``(B, 2)``, entiers de ``-pixels`` à ``pixels`` : vers le bas, vers la droite.
        pixels: le plus grand décalage.

    Raises:
        TypeError: décalages qui ne sont pas des entiers.
        ValueError: formes inattendues, décalage plus grand que ``pixels``.
    """
    if images.dim() != 4 or shifts.shape != (len(images), 2):
        raise ValueError(
            f"images, shifts : formes {tuple(images.shape)} et {tuple(shifts.shape)} reçues, (B, canaux, hauteur, "
            "largeur) et (B, 2) attendues."
        )
    if shifts.dtype == torch.bool or shifts.is_floating_point():
        raise TypeError(f"shifts : {shifts.dtype} reçu, des entiers attendus.")
    if len(shifts) and shifts.abs().max() > pixels:
        raise ValueError(f"shifts : {shifts.abs().max().item()} reçu, {pixels} au plus attendu, la valeur de pixels.")
    height, width = images.shape[2:]
    windows = F.pad(images, (pixels,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # (B, canaux, 2p+1, 2p+1, h, l)
    down, right = (pixels - shifts.to(images.device)).unbind(dim=1)
    return windows[torch.arange(len(images), device=images.device), :, down, right]
