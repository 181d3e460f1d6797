"""Ce qu'est un exercice : une fonction à écrire, ou une mesure à prévoir puis à lire."""

import dis
from collections.abc import Callable
from dataclasses import dataclass
from types import CodeType

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


@dataclass(frozen=True)
class Prediction:
    """Un exercice où l'on prévoit, change un réglage, puis lit l'intervalle : des gains appariés, un par graine.

    Les moyennes, en points, ont été mesurées une fois : la plus proche de celle du lecteur dit ce qu'il a mesuré.
    """

    expected: float
    """Gain moyen du réglage demandé."""
    mistakes: dict[str, float]
    """Indice à donner → le gain moyen d'une expérience voisine : le réglage inchangé, un autre changé à sa place."""
    tolerance: float
    """Écart admis, en points : d'une machine à l'autre, les arrondis changent quelques réponses."""
    lesson: str
    """Ce que ce résultat apprend, dit une fois l'intervalle bien lu."""


def is_stub(answer: Callable) -> bool:
    """Vrai si le corps d'une fonction est encore vide : ``...``, ``pass``, une constante ; rien n'y est calculé."""
    code = getattr(answer, "__code__", None)
    trivial = {"RESUME", "NOP", "CACHE", "LOAD_CONST", "POP_TOP", "RETURN_CONST", "RETURN_VALUE", "COPY_FREE_VARS"}
    return isinstance(code, CodeType) and all(step.opname in trivial for step in dis.get_instructions(code))


def reason(error: BaseException) -> str:
    """Ce qu'une réponse a levé, en une phrase."""
    try:
        return f"{type(error).__name__} : {error}"
    except Exception:  # le message d'une exception est aussi à l'élève
        return type(error).__name__
