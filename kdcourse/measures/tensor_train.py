"""10.6 : la TT-SVD pas à pas ; une matrice, approchée à plusieurs rangs ; les students compressés, et rangés."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcourse.compression.decompositions import tt_reconstruct
from kdcourse.compression.tensor_train import TTLinear
from kdcourse.formats import thousands
from kdcourse.losses.checks import check_finite, check_floating, check_positive_integer
from kdcourse.losses.numerics import at_least_float32
from kdcourse.measures.stored import origin, stored


class TTStep(NamedTuple):
    """Un pas de la TT-SVD."""

    action: str
    """``"tenseur"``, ``"déplier"``, ``"couper"`` ou ``"recoller"``."""
    rest: Tensor
    """Ce qui reste à découper : le tenseur, puis une matrice ; au dernier pas, le tenseur que le train représente."""
    singular: Tensor
    """Valeurs singulières du dernier dépliement ; vide avant le premier."""
    rank: int
    """Combien la coupe en garde."""
    cores: list[Tensor]
    """Les cœurs déjà découpés, ``(r_{k-1}, n_k, r_k)``."""
    dropped: float
    r"""Ce que les coupes ont jeté jusqu'ici, :math:`\sqrt{\sum_k \varepsilon_k^2}`, et donc l'erreur du train : les
    restes jetés sont orthogonaux. Le théorème 2.2 d'Oseledets la borne par les dépliements du tenseur entier."""


def tt_svd_steps(tensor: Tensor, rank: int) -> list[TTStep]:
    """Les pas de ``tt_svd`` : déplier, couper, déplier ce qui reste, … puis recoller.

    Args:
        tensor: ``(n_1, …, n_d)``, d ≥ 2, sans NaN.
        rank: plafond de chaque rang, ≥ 1.

    Returns:
        2 d pas ; les cœurs du dernier sont ceux de ``tt_svd``.

    Raises:
        TypeError, ValueError: tenseur non flottant, d'ordre 1, NaN, rang < 1.

    Source : Oseledets (2011), algorithme 1.
    """
    check_positive_integer("rank", rank)
    check_floating("tensor", tensor, tuple(range(2, 65)), "(n_1, …, n_d), d ≥ 2")
    check_finite("tensor", tensor)
    rest, cores, dropped, left = at_least_float32(tensor).detach().clone(), [], 0.0, 1
    steps = [TTStep("tenseur", rest, rest.new_empty(0), 0, [], 0.0)]
    for size in tensor.shape[:-1]:
        rest = rest.reshape(left * size, -1)
        u, s, vh = torch.linalg.svd(rest, full_matrices=False)
        kept = min(rank, len(s))
        steps.append(TTStep("déplier", rest, s, kept, [*cores], dropped))
        cores.append(u[:, :kept].reshape(left, size, kept))
        rest, left = s[:kept, None] * vh[:kept], kept
        dropped = math.hypot(dropped, s[kept:].norm().item())
        steps.append(TTStep("couper", rest, s, kept, [*cores], dropped))
    cores.append(rest[..., None])
    return [*steps, TTStep("recoller", tt_reconstruct(cores), s, kept, cores, dropped)]


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


class CompressionRuns(NamedTuple):
    """Les students de 10.6 à plusieurs tailles et budgets, que ``python -m benchmarks tensor_train`` a rangés."""

    runs: list[dict]
    """Ce qui est demandé (``shape``, ``size``, ``budget``, ``images``, ``alpha``, ``start``), et ce qui en sort."""
    origin: str
    """Quand, sur quel processeur, avec quelle version."""

    @classmethod
    def load(cls) -> "CompressionRuns":
        result = stored("tensor_train")
        return cls(result["runs"], origin(result))

    def run(self, shape: str, size: int, budget: float, images: int = 1000, alpha: float = 0.9,
            start: str = "teacher") -> dict:  # fmt: skip
        """L'entraînement demandé : ``parameters``, ``learning_rate``, une erreur par graine, ``test`` et ``int8``."""
        asked = dict(shape=shape, size=size, budget=budget, images=images, alpha=alpha, start=start)
        (found,) = [run for run in self.runs if asked.items() <= run.items()]
        return found | {name: torch.tensor(found[name]) for name in ("validation", "test", "int8")}

    def front(self, shape: str, budget: float, measure: str = "test") -> tuple[list[int], Tensor]:
        """Paramètres ``(n,)`` et erreurs ``(n, graines)`` d'une forme, à toutes ses tailles, par le teacher."""
        sizes = sorted({run["size"] for run in self.runs if run["shape"] == shape and run["budget"] == budget})
        found = [self.run(shape, size, budget) for size in sizes]
        return [run["parameters"] for run in found], torch.stack([run[measure] for run in found])

    def duel(self, mine: tuple[str, int], other: tuple[str, int], budget: float) -> tuple[str, Tensor]:
        """Deux formes et leurs paramètres, en mots ; l'erreur de l'autre moins la mienne, en points, ``(graines,)``."""
        ours, theirs = self.run(*mine, budget), self.run(*other, budget)
        names = (f"{name} {thousands(run['parameters'])}" for (name, _), run in ((mine, ours), (other, theirs)))
        return " contre ".join(names), theirs["test"] - ours["test"]
