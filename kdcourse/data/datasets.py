"""Les données du cours. Les chiffres manuscrits de scikit-learn sont dans sa roue : aucun réseau n'est nécessaire.

MNIST, Fashion-MNIST et CIFAR viennent de torchvision, au premier appel ; ensuite, plus rien ne demande le réseau.
"""

import gzip
import os
from pathlib import Path

import numpy as np
import torch

from kdcourse.data.splits import Dataset, Split

# Le partage ne dépend ni de la machine ni de la session : une seule graine, ici.
_SPLIT_SEED = 10
_DIGITS_SIZES = {"train": 1000, "validation": 297}  # le reste, 500 images, est le test
# Part de l'entraînement d'origine mise de côté pour la validation : 5 000 images, dans chaque cas.
_VALIDATION_SHARE = {"mnist": 1 / 12, "fashion_mnist": 1 / 12, "cifar10": 1 / 10, "cifar100": 1 / 10}
DATASETS = ("digits", *_VALIDATION_SHARE, "mnist_t10k")


def load_dataset(name: str = "digits", folder: str | Path | None = None) -> Dataset:
    """Charge un jeu de données du cours, partagé en train, validation et test, pixels ramenés à [0, 1].

    Chaque partage est tiré une fois pour toutes, classes en mêmes proportions :

    - ``"digits"`` : 1 797 chiffres manuscrits 8×8 (scikit-learn, d'après UCI), 1 000 / 297 / 500. Aucun réseau. Les
      treize scripteurs sont mêlés dans les trois parties.
    - ``"mnist"``, ``"fashion_mnist"`` : images 28×28, 55 000 / 5 000 / 10 000.
    - ``"cifar10"``, ``"cifar100"`` : photos 3×32×32, 45 000 / 5 000 / 10 000.
    - ``"mnist_t10k"`` : les seules 10 000 images de test de MNIST, partagées en 7 000 / 1 000 / 2 000. Ses erreurs ne
      se comparent donc pas à celles des articles.

    Le test est celui d'origine, sauf pour le premier et le dernier ; la validation vient de l'entraînement.

    Args:
        name: nom du jeu de données.
        folder: où ranger ou trouver les fichiers, dans la disposition de torchvision (``MNIST/raw/…``) ou à même le
            dossier ; par défaut, le cache de l'utilisateur (``~/.cache/kdcourse``). ``"digits"`` n'en a pas besoin.

    Raises:
        ValueError: nom inconnu ; le message donne ceux qui existent.
        ConnectionError: fichier absent ou abîmé, et pas de réseau ; le message dit quoi faire.
        OSError: dossier illisible ou plein.

    Sources : LeCun et al. (1998), MNIST ; Xiao et al. (2017), Fashion-MNIST, arXiv:1708.07747 ; Krizhevsky (2009),
    CIFAR.
    """
    if not isinstance(name, str) or name not in DATASETS:
        raise ValueError(f"name : {name!r} reçu, un de {', '.join(map(repr, DATASETS))} attendu.")
    if name == "digits":
        return _load_digits()
    if folder is not None and not isinstance(folder, (str, os.PathLike)):
        raise TypeError(f"folder : {type(folder).__name__} reçu, un chemin de dossier attendu.")
    try:
        folder = None if folder is None else Path(folder).expanduser()
    except RuntimeError:  # « ~inconnu »
        raise ValueError(f"folder : {folder!r} reçu, dont le dossier personnel n'existe pas.") from None
    if "\0" in str(folder):
        raise ValueError(f"folder : {str(folder)!r} reçu, un chemin de dossier attendu.")
    from torchvision import datasets

    from kdcourse.data.downloads import default_folder

    folder = folder or default_folder()
    source = {
        "mnist": datasets.MNIST, "mnist_t10k": datasets.MNIST, "fashion_mnist": datasets.FashionMNIST,
        "cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100,
    }[name]  # fmt: skip
    if name == "mnist_t10k":
        (images, labels) = _read_mnist(source, folder, "t10k")
        train, test = _stratified(labels, 1 / 5)
        train, validation = _stratified(labels, 1 / 8, train)
        return Dataset(*(_to_split(images[part], labels[part]) for part in (train, validation, test)))
    if name.startswith("cifar"):
        (images, labels), test = _read_cifar(source, folder)
    else:
        (images, labels), test = (_read_mnist(source, folder, part) for part in ("train", "t10k"))
    train, validation = _stratified(labels, _VALIDATION_SHARE[name])
    kept = [_to_split(images[part], labels[part]) for part in (train, validation)]
    return Dataset(*kept, _to_split(*test))


def _to_split(images: np.ndarray, labels: np.ndarray) -> Split:
    images = torch.tensor(images, dtype=torch.float32).div_(255)
    return Split(images if images.dim() == 4 else images[:, None], torch.from_numpy(labels))


def _stratified(labels: np.ndarray, share: float, among: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Deux parties disjointes de ``among``, classes en mêmes proportions ; ``share`` est la part de la seconde."""
    from sklearn.model_selection import train_test_split

    among = np.arange(len(labels)) if among is None else among
    size = round(share * len(among))
    return tuple(train_test_split(among, test_size=size, stratify=labels[among], random_state=_SPLIT_SEED))


def _read_mnist(source, folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Images ``(N, hauteur, largeur)`` uint8 et étiquettes ``(N,)`` int64 d'une partie, ``"train"`` ou ``"t10k"``."""
    from kdcourse.data.downloads import fetch

    arrays = []
    for filename, md5 in (resource for resource in source.resources if resource[0].startswith(part)):
        homes = [folder, folder / source.__name__ / "raw"]
        path = fetch(filename, [mirror + filename for mirror in source.mirrors], md5, homes)
        content = gzip.decompress(path.read_bytes())
        # Format idx : deux octets nuls, le type (8 : octets), le nombre de dimensions, chaque taille sur quatre octets.
        sizes = np.frombuffer(content, ">i4", count=content[3], offset=4)
        arrays.append(np.frombuffer(content, np.uint8, offset=4 + 4 * content[3]).reshape(sizes))
    images, labels = arrays
    return images, labels.astype(np.int64)


def _read_cifar(source, folder: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """Les parties train et test : images ``(N, 3, 32, 32)`` uint8, étiquettes ``(N,)`` int64."""
    from torchvision.datasets.utils import extract_archive

    from kdcourse.data.downloads import fetch, staging

    try:
        parts = [source(folder, train=train) for train in (True, False)]  # vérifie la somme de chaque fichier
    except RuntimeError:  # absent, ou abîmé
        archive, final = fetch(source.filename, [source.url], source.tgz_md5, [folder]), folder / source.base_folder
        with staging(folder) as partial:
            extract_archive(str(archive), str(partial))
            if final.exists():
                os.replace(final, partial / "ancien")
            os.replace(partial / source.base_folder, final)
        parts = [source(folder, train=train) for train in (True, False)]
    return [(part.data.transpose(0, 3, 1, 2), np.array(part.targets, dtype=np.int64)) for part in parts]


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
