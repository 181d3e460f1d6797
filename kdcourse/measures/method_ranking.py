"""Toutes les méthodes à deux budgets, dans dix laboratoires, et ce que vaut le tableau d'un seul d'entre eux.

Un *laboratoire* a son teacher et ses cent images ; chaque méthode y a vingt students. Les erreurs sont celles que
``python -m benchmarks compare`` a rangées.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from kdcourse.measures.intervals import mean_interval
from kdcourse.measures.stored import origin, stored
from kdcourse.methods import ALONE


class StoredComparison(NamedTuple):
    """Les erreurs de test de toutes les méthodes, budget par budget."""

    steps: dict[int, int]
    """Époques → nombre de pas."""
    errors: dict[int, dict[str, Tensor]]
    """Époques → méthode → erreurs ``(laboratoires, graines)``, en %."""
    controls: dict[int, dict[str, Tensor]]
    """De même, pour KD aux températures que des sommes ont choisies, et que KD n'a pas."""
    origin: str
    """Quand, sur quel processeur, avec quelle version."""

    @classmethod
    def load(cls) -> "StoredComparison":
        result = stored("comparison")
        batches = -(-result["images"] // result["batch_size"])
        errors, controls = (
            {
                int(epochs): {name: 100 * torch.tensor(wrong) / result["test"] for name, wrong in own.items()}
                for epochs, own in result[kind].items()
            }
            for kind in ("errors", "controls")
        )
        return cls({epochs: epochs * batches for epochs in result["epochs"]}, errors, controls, origin(result))

    def gain(self, epochs: int, method: str, base: str = ALONE.name) -> Tensor:
        """Ce qu'une méthode gagne sur une autre, ou sur un témoin, en points : une différence par laboratoire."""
        own = self.errors[epochs] | self.controls[epochs]
        return (own[base] - own[method]).mean(dim=1)

    def stacked(self, epochs: int) -> Tensor:
        """Les erreurs d'un budget, ``(méthodes, laboratoires, graines)``."""
        return torch.stack([*self.errors[epochs].values()])


class Pairs(NamedTuple):
    """Les couples de méthodes que tous les students départagent : l'intervalle de leur écart exclut 0."""

    better: Tensor
    """Rang de la meilleure des deux, ``(couples,)``."""
    worse: Tensor
    gap: Tensor
    """Ce qui les sépare, en points, positif."""

    @classmethod
    def established(cls, errors: Tensor) -> "Pairs":
        """Ceux d'erreurs ``(méthodes, laboratoires, graines)`` ; l'intervalle porte sur les laboratoires."""
        means, found = errors.mean(dim=2), []
        for first, second in torch.combinations(torch.arange(len(errors))).tolist():
            interval = mean_interval(means[second] - means[first])
            if interval.excludes_zero:
                better, worse = (first, second) if interval.mean > 0 else (second, first)
                found.append((better, worse, abs(interval.mean)))
        better, worse, gap = zip(*found, strict=True)
        return cls(torch.tensor(better), torch.tensor(worse), torch.tensor(gap))


Draw = Callable[[Tensor, int, int, torch.Generator], Tensor]
"""``draw(errors, runs, tables, generator)`` : ce que publieraient tant de tableaux, ``(tableaux, méthodes)``."""


def independent_runs(errors: Tensor, runs: int, tables: int, generator: torch.Generator) -> Tensor:
    """Un laboratoire par tableau ; chaque méthode y a ses propres graines."""
    methods, laboratories, seeds = errors.shape
    where = torch.randint(laboratories, (tables, 1, 1), generator=generator)
    which = _distinct(seeds, runs, (tables, methods), generator)
    return errors[torch.arange(methods)[None, :, None], where, which].mean(dim=2)


def shared_seeds(errors: Tensor, runs: int, tables: int, generator: torch.Generator) -> Tensor:
    """Un laboratoire par tableau ; toutes les méthodes y ont les mêmes graines : mêmes poids, mêmes lots."""
    _, laboratories, seeds = errors.shape
    where = torch.randint(laboratories, (tables, 1), generator=generator)
    which = _distinct(seeds, runs, (tables,), generator)
    return errors[:, where, which].mean(dim=2).T


def other_laboratories(errors: Tensor, runs: int, tables: int, generator: torch.Generator) -> Tensor:
    """Chaque essai tire son laboratoire, le même pour toutes les méthodes, et ses graines.

    Avec remise : dix essais sans remise seraient toujours les dix laboratoires dont on tient le bon ordre.
    """
    _, laboratories, seeds = errors.shape
    where = torch.randint(laboratories, (tables, runs), generator=generator)
    which = torch.randint(seeds, (tables, runs), generator=generator)
    return errors[:, where, which].mean(dim=2).T


def _distinct(among: int, count: int, shape: tuple[int, ...], generator: torch.Generator) -> Tensor:
    """``count`` entiers distincts, tirés pour chaque élément de ``shape``."""
    if not 1 <= count <= among:
        raise ValueError(f"runs : {count} reçu, de 1 à {among} attendu.")
    return torch.rand(*shape, among, generator=generator).argsort(dim=-1)[..., :count]


def misordered(errors: Tensor, pairs: Pairs, draw: Draw, runs: int, tables: int = 2000) -> Tensor:
    """Pour chaque couple, la part des tableaux, en %, où la moins bonne passe devant ; une égalité compte à moitié.

    Args:
        errors: ``(méthodes, laboratoires, graines)``.
        pairs: les couples que l'on suit.
        draw: comment un tableau est fait.
        runs: nombre d'essais dont il donne la moyenne.
        tables: nombre de tableaux tirés.

    Raises:
        ValueError: plus d'essais qu'il n'y en a.
    """
    published = draw(errors.double(), runs, tables, torch.Generator().manual_seed(0))
    difference = published[:, pairs.better] - published[:, pairs.worse]
    wrong = (difference > 1e-9).double() + 0.5 * (difference.abs() <= 1e-9)
    return 100 * wrong.mean(dim=0)
