"""La carte T × alpha : des students entraînés à chaque température et à chaque poids, et ce qu'on y lit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdcourse.comparison import Interval, mean_interval
from kdcourse.data import Split
from kdcourse.training import Students


def temperature_grid(temperatures: Sequence[float], alphas: Sequence[float], seeds: Sequence[int]) -> dict:
    """Les arguments ``seeds``, ``temperatures`` et ``alphas`` de ``train_many`` pour une carte.

    D'abord un student seul (alpha = 0, où T n'agit pas) par graine, puis chaque T, chaque alpha, chaque graine.
    """
    temperatures, alphas, seeds = list(temperatures), list(alphas), list(seeds)
    if any(not 0 < alpha <= 1 for alpha in alphas):
        raise ValueError(f"alphas : {list(alphas)} reçu, des nombres de ]0, 1] attendus ; le student seul est déjà là.")
    cells = [(t, a, s) for t in temperatures for a in alphas for s in seeds]
    return {
        "seeds": [*seeds, *(s for _, _, s in cells)],
        "temperatures": [1.0] * len(seeds) + [t for t, _, _ in cells],
        "alphas": [0.0] * len(seeds) + [a for _, a, _ in cells],
    }


@dataclass(frozen=True)
class TemperatureMap:
    """Ce qu'une carte a mesuré : nT températures, nA poids, n graines, E époques.

    ``alone`` et ``errors`` sont les erreurs de test en %, ``(n,)`` et ``(nT, nA, n)`` ; ``alone_curve`` et ``curves``
    les erreurs de validation à chaque époque, ``(n, E)`` et ``(nT, nA, n, E)`` ; ``alone_confusion`` et ``confusions``
    le nombre moyen d'images de test par (étiquette, réponse), ``(C, C)`` et ``(nT, nA, C, C)``.
    """

    temperatures: list[float]
    alphas: list[float]
    alone: Tensor
    errors: Tensor
    alone_curve: Tensor
    curves: Tensor
    alone_confusion: Tensor
    confusions: Tensor

    @classmethod
    def measure(
        cls, students: Students, temperatures: Sequence[float], alphas: Sequence[float], test: Split
    ) -> "TemperatureMap":
        """Mesure les students qu'a entraînés ``train_many(…, **temperature_grid(…), validation=…)``.

        Raises:
            ValueError: un nombre de students qui n'est pas celui de la grille, ou pas de validation.
        """
        rows, columns = len(temperatures), len(alphas)
        seeds, rest = divmod(len(students), rows * columns + 1)
        if rest or not seeds:
            raise ValueError(
                f"students : {len(students)} reçus, un multiple de {rows * columns + 1} attendu : "
                f"{rows} × {columns} cases et le student seul."
            )
        if students.validation_errors is None:
            raise ValueError("students : entraînés sans validation, train_many(…, validation=…) attendu.")
        grid = temperature_grid(temperatures, alphas, students.seeds[:seeds].tolist())
        trained = [students.temperatures, students.alphas, students.seeds]
        wanted = [grid["temperatures"], grid["alphas"], grid["seeds"]]
        for name, ours, theirs in zip(("temperatures", "alphas", "seeds"), trained, wanted, strict=True):
            # Un student seul n'a pas de température : sa valeur n'importe pas.
            apart = (ours.cpu() - torch.tensor(theirs)).abs() > 1e-6
            if apart[seeds if name == "temperatures" else 0 :].any():
                raise ValueError(f"{name} : les students n'ont pas été entraînés dans l'ordre de temperature_grid.")
        logits = students.logits(test.images)
        predictions = logits.argmax(dim=-1)
        errors = 100 * (predictions != test.labels).float().mean(dim=-1)
        classes = logits.shape[-1]
        pairs = torch.stack([torch.bincount(classes * test.labels + p, minlength=classes**2) for p in predictions])
        groups = pairs.float().view(-1, seeds, classes, classes).mean(dim=1)
        curves = students.validation_errors.view(rows * columns + 1, seeds, -1)
        return cls(
            list(temperatures),
            list(alphas),
            *(part.cpu() for part in (errors[:seeds], errors[seeds:].view(rows, columns, seeds))),
            *(part.cpu() for part in (curves[0], curves[1:].unflatten(0, (rows, columns)))),
            *(part.cpu() for part in (groups[0], groups[1:].unflatten(0, (rows, columns)))),
        )

    def gain(self, row: int, column: int) -> Interval:
        """Gain apparié de test sur le student seul, en points."""
        return mean_interval(self.alone - self.errors[row, column])

    def gains(self) -> np.ndarray:
        """Gain moyen de test de chaque case, ``(nT, nA)``."""
        return (self.alone - self.errors).mean(dim=-1).numpy()

    def best(self) -> tuple[int, int]:
        """La case de plus petite erreur moyenne de **validation** à la dernière époque ; le test n'y entre pas."""
        means = self.curves[..., -1].mean(dim=-1)
        return divmod(int(means.argmin()), len(self.alphas))

    def as_good_as_best(self) -> int:
        """Nombre de cases que la validation ne distingue pas de la meilleure (intervalle apparié contenant 0)."""
        last = self.curves[..., -1]
        differences = (last - last[self.best()]).flatten(0, 1)
        # La meilleure elle-même a une différence nulle partout : elle compte.
        return sum(not mean_interval(row).excludes_zero for row in differences)
