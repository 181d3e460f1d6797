"""Ce qu'est un exercice : une fonction à écrire, ou une mesure à prévoir puis à lire."""

import dis
import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import CodeType

from torch import Tensor, nn

TODO = (False, "à compléter.")
ANY = -(2.0**100)
"""Dans ce que rend une erreur connue : là, n'importe quel nombre fini, celui que sa recherche ou son epsilon décide."""
# Ce qui ne calcule rien, de Python 3.11 à 3.15 ; print, et ce qu'il faut pour l'appeler : l'ébauche d'un exercice noté.
_CONSTANT = {"LOAD_CONST", "LOAD_SMALL_INT", "LOAD_COMMON_CONSTANT", "POP_TOP", "RETURN_CONST", "RETURN_VALUE"}
_CALL = {"PUSH_NULL", "PRECALL", "KW_NAMES", "CALL", "CALL_KW"}
_EMPTY = {"RESUME", "NOP", "CACHE", "COPY_FREE_VARS"} | _CONSTANT | _CALL


@dataclass(frozen=True)
class Exercise:
    """Un exercice : des entrées fixes, la bonne réponse, et les réponses fausses que l'on sait reconnaître.

    Plusieurs jeux d'entrées : un réglage écrit en dur dans la réponse n'en passe qu'un.
    """

    cases: tuple[tuple, ...]
    reference: Callable
    mistakes: dict[str, Callable]
    """Indice à donner → la réponse fausse qui le mérite."""
    differentiable: bool = True
    """Le gradient de la réponse pour la première entrée, si elle est flottante, est vérifié aussi."""
    tolerance: float = 1e-4
    """Écart relatif admis : plus grand là où la réponse est le bout d'une recherche."""
    read: Callable[..., Tensor | str] | None = None
    """Ce que l'on compare d'une réponse qui n'est pas un tenseur : ``read(réponse, *entrées)`` ; une phrase refuse."""


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
    """Vrai si le corps d'une fonction est encore vide : ``...``, ``pass``, une constante, seule ou imprimée."""
    while isinstance(answer, partial):
        answer = answer.func
    if isinstance(answer, nn.Module) and type(answer).forward is nn.Module.forward:
        return True
    answer = answer.forward if isinstance(answer, nn.Module) else inspect.unwrap(answer)
    code = getattr(answer, "__code__", None) or getattr(type(answer).__call__, "__code__", None)
    if not isinstance(code, CodeType):
        return False
    steps = ((step.opname, step.argval) for step in dis.get_instructions(code))
    return all(name in _EMPTY or (name, value) == ("LOAD_GLOBAL", "print") for name, value in steps)


def unfinished(answer: Callable, result: object) -> tuple[bool, str] | None:
    """Ce que l'on dit d'une réponse qui ne rend rien : l'ébauche n'est pas un return oublié. Rien, si elle rend."""
    if inspect.isgenerator(result) or inspect.iscoroutine(result):
        result.close()  # jamais attendue, une coroutine avertirait
        return False, "une fonction ordinaire est attendue : return, non yield ; def, non async def."
    if result is ... or (result is None and is_stub(answer)):
        return TODO
    if result is None:
        return False, "la fonction calcule, mais ne rend rien : il manque return, ou sa valeur."
    return None


def reason(error: BaseException) -> str:
    """Ce qu'une réponse a levé, en une phrase."""
    try:
        return f"{type(error).__name__} : {error}"
    except Exception:  # le message d'une exception est aussi à l'élève
        return type(error).__name__
