"""La carte T × alpha : des students entraînés à chaque température et à chaque poids, et ce qu'on y lit."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdcourse.data.splits import Split
from kdcourse.measures.intervals import Interval, mean_interval
from kdcourse.training.students import Students, error_rate, grid


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
        """Mesure les students de ``train_many(…, **grid(…, alone=True), validation=…)``.

        Raises:
            ValueError: un nombre de students qui n'est pas celui de la grille, ou pas de validation.
        """
        if students.validation_errors is None:
            raise ValueError("students : entraînés sans validation, train_many(…, validation=…) attendu.")
        seeds, cells = students.rows(students.seeds)[0].tolist(), (len(temperatures), len(alphas))
        wanted = grid(seeds=seeds, temperatures=temperatures, alphas=alphas, alone=True)
        for name, values in wanted.items():
            trained = getattr(students, name).cpu()
            if len(trained) != len(values) or not torch.allclose(trained, torch.tensor(values)):
                raise ValueError(f"{name} : students d'autres réglages reçus, ceux de grid(…, alone=True) attendus.")
        logits = students.logits(test.images)
        predictions, classes = logits.argmax(dim=-1), logits.shape[-1]
        pairs = torch.stack([torch.bincount(classes * test.labels + p, minlength=classes**2) for p in predictions])
        confusions = students.rows(pairs.float().unflatten(1, (classes, classes))).mean(dim=1)
        curves = students.rows(students.validation_errors)
        measures = (
            side.cpu()
            for part in (students.rows(error_rate(logits, test.labels)), curves, confusions)
            for side in (part[0], part[1:].unflatten(0, cells))
        )
        return cls(list(temperatures), list(alphas), *measures)

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


def main_confusions(confusion: Tensor, count: int) -> list[tuple[int, int, float]]:
    """Les fautes les plus fréquentes d'une confusion ``(C, C)`` : (étiquette, réponse, images par graine)."""
    mistakes = confusion.clone().fill_diagonal_(0)
    frequent = mistakes.flatten().argsort(descending=True)[:count].tolist()
    return [(*divmod(index, len(mistakes)), float(mistakes.flatten()[index])) for index in frequent]
