"""Ce qu'est un exercice : des entrées, une bonne réponse, des réponses fausses."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Exercise:
    """Un exercice : des entrées fixes, la bonne réponse, et les réponses fausses que l'on sait reconnaître.

    Plusieurs jeux d'entrées : un réglage écrit en dur dans la réponse n'en passe qu'un.
    """

    cases: tuple[tuple, ...]
    reference: Callable[..., Tensor]
    mistakes: dict[str, Callable[..., Tensor]]
    """Indice à donner → la réponse fausse qui le mérite."""
    differentiable: bool = True
    """Le gradient de la réponse pour la première entrée, si elle est flottante, est vérifié aussi."""


def reason(error: BaseException) -> str:
    """Ce qu'une réponse a levé, en une phrase."""
    try:
        return f"{type(error).__name__} : {error}"
    except Exception:  # le message d'une exception est aussi à l'élève
        return type(error).__name__
