"""10.6, les décompositions elles-mêmes : de tenseur à tenseurs, sans modèle.

Le train de tenseurs (TT-SVD), son inverse, et la factorisation des tailles qui replie une matrice en tenseur.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from kdcourse.losses.checks import check_floating, check_positive_integer, check_same_device, shape_of
from kdcourse.losses.numerics import at_least_float32


def tt_svd(tensor: Tensor, rank: int) -> list[Tensor]:
    r"""Décompose un tenseur en train de tenseurs, par SVD tronquées successives.

    .. math:: A_{i_1 \dots i_d} \approx G^1_{i_1} G^2_{i_2} \cdots G^d_{i_d}, \qquad
              G^k \in \mathbb{R}^{r_{k-1} \times n_k \times r_k}, \quad r_0 = r_d = 1

    L'erreur est bornée : son carré ne dépasse pas la somme, sur les d - 1 dépliements de A, des carrés des valeurs
    singulières au-delà de r_k.

    Args:
        tensor: tenseur flottant d'ordre d ≥ 1, ``(n_1, …, n_d)``, sans dimension nulle.
        rank: plafond de chaque rang r_k, ≥ 1 ; r_k ne dépasse jamais celui de son dépliement.

    Returns:
        d cœurs ``(r_{k-1}, n_k, r_k)``, float32 (float64 si le tenseur l'est).

    Raises:
        TypeError, ValueError: tenseur non flottant, vide ou d'ordre 0 ; rang qui n'est pas un entier ≥ 1.

    Source : Oseledets (2011), algorithme 1 et théorème 2.2, doi:10.1137/090752286.
    """
    check_positive_integer("rank", rank)
    check_floating("tensor", tensor, tuple(range(1, 65)), "(n_1, …, n_d)")
    cores, left, rest = [], 1, at_least_float32(tensor)
    for size in tensor.shape[:-1]:
        u, s, vh = torch.linalg.svd(rest.reshape(left * size, -1), full_matrices=False)
        cores.append(owned(u[:, :rank].reshape(left, size, -1)))
        rest = s[:rank, None] * vh[:rank]
        left = len(rest)
    return [*cores, owned(rest.reshape(left, tensor.shape[-1], 1))]


def tt_reconstruct(cores: Sequence[Tensor]) -> Tensor:
    """Tenseur ``(n_1, …, n_d)`` que représentent les cœurs ``(r_{k-1}, n_k, r_k)``, multipliés de proche en proche.

    Raises:
        TypeError, ValueError: liste vide, cœur qui n'est pas d'ordre 3, rangs voisins différents, bords ≠ 1.

    Source : Oseledets (2011), équation 1.3.
    """
    check_cores(cores, 3, "(r, n, r')")
    tensor = cores[0]
    for core in cores[1:]:
        tensor = torch.tensordot(tensor, core, dims=1)
    return tensor.squeeze(0).squeeze(-1)


def owned(tensor: Tensor) -> Tensor:
    """Le même tenseur, contigu et seul dans sa mémoire : une tranche d'une SVD garderait, enregistrée, toute la SVD."""
    alone = tensor.is_contiguous() and tensor.untyped_storage().nbytes() == tensor.nbytes
    return tensor if alone else tensor.clone(memory_format=torch.contiguous_format)


def balanced_factors(size: int, count: int) -> tuple[int, ...] | None:
    """Écrit ``size`` en produit croissant de ``count`` facteurs ≥ 2, de somme minimale ; ``None`` s'il n'y en a pas.

    512 = 8·8·8 et 784 = 7·8·14 en ont un ; 97, premier, et 10 = 2·5 n'en ont pas en trois facteurs.
    """
    check_positive_integer("size", size)
    check_positive_integer("count", count)
    if count == 1:
        return (size,) if size >= 2 else None
    # Le plus petit facteur ne dépasse pas la racine count-ième : le chercher jusque-là suffit.
    smallest = [factor for factor in range(2, round(size ** (1 / count)) + 1) if size % factor == 0]
    rests = [(factor, balanced_factors(size // factor, count - 1)) for factor in smallest]
    return min((tuple(sorted((factor, *rest))) for factor, rest in rests if rest), key=sum, default=None)


def check_cores(cores, dims: int, expected_shape: str) -> None:
    """Des cœurs qui s'enchaînent : même ordre, rangs voisins égaux, bords de rang 1, même appareil."""
    if not isinstance(cores, Sequence) or not cores:
        received = "suite vide" if isinstance(cores, Sequence) else type(cores).__name__
        raise ValueError(f"cores : {received} reçu, une suite d'au moins un cœur {expected_shape} attendue.")
    left = 1
    for index, core in enumerate(cores):
        check_floating(f"cores[{index}]", core, (dims,), expected_shape)
        check_same_device(f"cores[{index}]", core, "cores[0]", cores[0])
        if core.dtype != cores[0].dtype:
            raise TypeError(f"cores[{index}] : dtype {core.dtype} reçu, {cores[0].dtype} attendu, celui de cores[0].")
        if core.shape[0] != left:
            raise ValueError(f"cores[{index}] : rang gauche {core.shape[0]} reçu, {left} attendu, le rang d'à côté.")
        left = core.shape[-1]
    if left != 1:
        raise ValueError(f"cores[{len(cores) - 1}] : forme {shape_of(cores[-1])} reçue, dernier rang 1 attendu.")
