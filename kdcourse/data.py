"""Les données du cours. Les chiffres manuscrits de scikit-learn sont dans sa roue : aucun réseau n'est nécessaire."""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse._common import check_floating, check_non_negative, check_positive_integer


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
        """Les mêmes images à ``size``×``size`` pixels, par interpolation bilinéaire ; aucun détail n'est ajouté."""
        check_positive_integer("size", size)
        return Dataset(*(Split(_bilinear(part.images, size), part.labels) for part in self))


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
    if shift != 0:
        check_positive_integer("shift", shift)
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
        check_positive_integer("batch_size", batch_size)
        self.data, self.batch_size = data, batch_size
        self.shuffle = torch.Generator().manual_seed(seed)

    def __iter__(self):
        for indices in torch.randperm(len(self.data.labels), generator=self.shuffle).split(self.batch_size):
            yield self.data.images[indices], self.data.labels[indices], indices


# Le partage ne dépend ni de la machine ni de la session : une seule graine, ici.
_SPLIT_SEED = 10
_DIGITS_SIZES = {"train": 1000, "validation": 297}  # le reste, 500 images, est le test


def load_dataset(name: str = "digits") -> Dataset:
    """Charge un jeu de données du cours, partagé en train, validation et test.

    ``"digits"`` : 1 797 chiffres manuscrits 8×8 (scikit-learn, d'après UCI), pixels ramenés à [0, 1] ; 1 000 images
    d'entraînement, 297 de validation, 500 de test, tirées une fois pour toutes, classes en mêmes proportions. Les
    treize scripteurs sont mêlés dans les trois parties.

    Args:
        name: nom du jeu de données.

    Raises:
        ValueError: nom inconnu ; le message donne ceux qui existent.
    """
    if name != "digits":
        raise ValueError(f"name : {name!r} reçu, un jeu de données connu attendu : 'digits'.")
    return _load_digits()


def _load_digits() -> Dataset:
    # Importés ici : scikit-learn met une seconde à se charger, et qui n'emprunte qu'une perte n'en a pas besoin.
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    labels = torch.tensor(labels, dtype=torch.int64)
    train, rest = train_test_split(
        np.arange(len(labels)), train_size=_DIGITS_SIZES["train"], stratify=labels, random_state=_SPLIT_SEED
    )
    validation, test = train_test_split(
        rest, train_size=_DIGITS_SIZES["validation"], stratify=labels[rest], random_state=_SPLIT_SEED
    )
    return Dataset(*(Split(images[part], labels[part]) for part in (train, validation, test)))
