"""10.5 : erreurs et calibrations que ``python -m benchmarks self_distillation`` a rangées, budget par budget."""

from typing import NamedTuple

import torch
from torch import Tensor

from kdcourse.measures.stored import origin, stored


class SelfDistillationBudgets(NamedTuple):
    """``measures[images][méthode][pas][partie]["error" ou "ece"]`` : une valeur par graine, en %."""

    measures: dict
    origin: str
    """Quand, sur quel processeur, avec quelle version."""

    @classmethod
    def load(cls) -> "SelfDistillationBudgets":
        result = stored("self_distillation")
        return cls(result["measures"], origin(result))

    def steps(self, size: int, method: str = "seul") -> list[int]:
        """Les budgets auxquels une méthode a été mesurée, en pas."""
        return [int(steps) for steps in self.measures[str(size)][method]]

    def values(self, size: int, method: str, steps: int, part: str = "test", kind: str = "error") -> Tensor:
        """Erreur ou ECE de chaque graine, ``(graines,)``."""
        return torch.tensor(self.measures[str(size)][method][str(steps)][part][kind])

    def gain(
        self, size: int, method: str, steps: int, part: str = "test", other: str = "seul", kind: str = "error"
    ) -> Tensor:
        """Ce qu'une méthode a d'erreur (ou d'ECE) en moins qu'une autre, apparié, en points, ``(graines,)``."""
        return self.values(size, other, steps, part, kind) - self.values(size, method, steps, part, kind)

    def gains(self, size: int, method: str, part: str = "test") -> Tensor:
        """Celles de tous les budgets, ``(budgets, graines)``."""
        return torch.stack([self.gain(size, method, steps, part) for steps in self.steps(size, method)])
