"""Une copie à corriger : ses fonctions, retrouvées par leur nom, et de quoi les appeler enfermées."""

import base64
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kdgrading.warm import Limits, Outcome, WarmWorker

torch.set_num_threads(1)  # le parent ne compare que de petits tenseurs : deux fils s'y attendraient
_READING = Limits(wall=20.0, cpu=10)
ENDS = {
    "temps": "le calcul a dépassé le temps accordé : boucle infinie, attente",
    "mémoire": "la réponse a demandé plus de mémoire que permis",
    "processus": "la réponse a lancé trop de processus",
    "volume": "la réponse a rendu trop de données",
    "illisible": "ce que la réponse a rendu ne se lit pas",
    "mort": "le processus de la réponse s'est arrêté net (os._exit, plantage)",
    "fini": "la réponse n'a rien rendu",
}
"""Comment une tâche a fini → ce que l'on en dit à l'élève."""


@dataclass(frozen=True)
class Mark:
    """Ce qu'un critère vaut : une part de ses points, de 0 à 1, et une phrase pour l'élève."""

    share: float
    feedback: str


class Answer:
    """Les fonctions d'un notebook.

    Args:
        worker: le processus chaud.
        cells: ``[type, source]`` de chaque cellule, dans l'ordre.
        names: fonctions attendues.
    """

    def __init__(self, worker: WarmWorker, cells: list[list[str]], names: tuple[str, ...]):
        self.worker = worker
        with worker.room() as room:
            outcome = room.ask({"task": "slice", "cells": cells, "names": list(names)}, _READING)
        found = outcome.messages[0] if outcome.end == "fini" and outcome.messages else {}
        self.sources = found.get("sources", {})
        self.size = int(found.get("size", 0))
        """Octets que pèse, selon le barème du défi, le code des fonctions et de ce dont elles ont besoin."""
        self._stubs, self._problems = found.get("stubs", []), found.get("problems", [])
        self._unreadable = "" if "sources" in found else f"le notebook ne se lit pas ({outcome.error or outcome.end})"

    def absence(self, *names: str) -> str | None:
        """Pourquoi ces fonctions ne peuvent pas être appelées, en une phrase ; rien si elles peuvent l'être."""
        if self._unreadable:
            return self._unreadable
        for name in names:
            if name in self._stubs:
                return f"{name} : à compléter"
            if name not in self.sources:
                broken = [problem for problem in self._problems if name in problem["names"]] or self._problems
                if broken:
                    where = f"la cellule {int(broken[0]['cell'])} ne se lit pas ({broken[0]['reason']})"
                    return f"{name} est introuvable, et {where}"
                return f"{name} est introuvable : aucune cellule ne la définit"
        return None

    def ask(
        self,
        task: str,
        name: str,
        limits: Limits,
        *,
        hidden: tuple[str, ...] = (),
        on_call: Callable[[list], dict] | None = None,
        **data,
    ) -> Outcome:
        """Confie une tâche, avec le code de la fonction ``name``, à un enfant neuf dans un bac à sable neuf."""
        with self.worker.room(hidden) as room:
            message = {"task": task, "name": name, "source": self.sources[name], **data}
            return room.ask(message, limits, on_call)


def failure(outcome: Outcome) -> str:
    """Ce qui a arrêté la réponse, en une phrase."""
    if outcome.error:
        return f"la fonction s'arrête sur {outcome.error}"
    return ENDS[outcome.end]


def trouble(seen: dict) -> str | None:
    """Ce qui a empêché un cas d'aboutir, en une phrase : la fin de la tâche, ou ce que la réponse a levé."""
    if "failure" in seen:
        return str(seen["failure"])[:500]
    if "error" in seen:
        return f"la fonction s'arrête sur {str(seen['error'])[:500]}"
    return None


def encode(tensor: Tensor) -> dict:
    """Un tenseur en JSON, comme ``child/tasks.py`` le lit."""
    array = np.ascontiguousarray(tensor.detach().numpy())
    return {"dtype": str(array.dtype), "shape": list(array.shape), "data": base64.b64encode(array).decode()}


def decode(message, shape: tuple[int, ...]) -> Tensor | None:
    """Le tenseur float64 d'un message venu d'une réponse, s'il a cette forme ; rien sinon, quoi qu'il contienne."""
    try:
        if message["dtype"] != "float64" or tuple(message["shape"]) != shape:
            return None
        array = np.frombuffer(base64.b64decode(message["data"]), dtype=np.float64)
        return torch.from_numpy(array.reshape(shape).copy())
    except (KeyError, TypeError, ValueError):
        return None
