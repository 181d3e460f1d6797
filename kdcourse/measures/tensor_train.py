"""10.6 : une matrice, approchée à plusieurs rangs par un train de tenseurs et par une SVD de même taille."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcourse.compression.tensor_train import TTLinear
from kdcourse.losses.checks import check_finite, check_floating


class RankState(NamedTuple):
    """Une matrice en train de tenseurs, à un rang, et la plus grosse SVD tronquée qui ne le dépasse pas."""

    rank: int
    """Plafond des rangs du train."""
    matrix: Tensor
    """Reconstruction ``(n, m)``."""
    parameters: int
    error: float
    """Erreur relative de Frobenius, en %."""
    svd_rank: int
    """Le plus grand rang dont la SVD n'a pas plus de paramètres que le train ; au moins 1."""
    svd_error: float

    @property
    def svd_parameters(self) -> int:
        """Taille de cette SVD : deux facteurs, de ``n`` et de ``m`` lignes."""
        return self.svd_rank * sum(self.matrix.shape)


@dataclass(frozen=True)
class RankSweep:
    """Une matrice, et ses approximations à plusieurs rangs."""

    weight: Tensor
    states: list[RankState]

    def at(self, rank: int) -> RankState:
        """L'état d'un rang du balayage."""
        return next(state for state in self.states if state.rank == rank)


def rank_sweep(weight: Tensor, ranks: Sequence[int]) -> RankSweep:
    """Approche une matrice par un train de trois cœurs, à chaque rang, et par la SVD tronquée de même taille.

    Args:
        weight: ``(n, m)``, chaque taille un produit de trois facteurs ≥ 2.
        ranks: plafonds des rangs du train, chacun ≥ 1.

    Raises:
        TypeError, ValueError: matrice non flottante, taille sans factorisation, NaN, rang < 1.
    """
    check_floating("weight", weight, (2,), "(n, m)")
    check_finite("weight", weight)
    weight = weight.detach()
    linear = nn.utils.skip_init(nn.Linear, weight.shape[1], weight.shape[0], bias=False, dtype=weight.dtype)
    linear.weight = nn.Parameter(weight)
    singular = torch.linalg.svdvals(weight)
    norm, states = singular.norm(), []
    for rank in ranks:
        layer = TTLinear.from_linear(linear, rank)
        matrix, size = layer.weight_matrix(), sum(core.numel() for core in layer.cores)
        same_size = min(max(1, size // sum(weight.shape)), len(singular))
        error, svd_error = ((part.norm() / norm).item() for part in (weight - matrix, singular[same_size:]))
        states.append(RankState(rank, matrix, size, 100 * error, same_size, 100 * svd_error))
    return RankSweep(weight, states)
