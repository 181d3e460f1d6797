"""Complément : ce que valent les listes qu'écrit un student."""

from typing import NamedTuple

import torch
from torch import Tensor

from kdcourse.data.number_words import END_RANK, closed_before, expected_words


class Judgement(NamedTuple):
    """Ce que valent des listes : ``valid``, ``(…)``, finie et chaque nombre bien écrit, dans un accent ou un autre ;
    ``accents``, ``(…, 3)``, vrai si toute la liste est de cet accent. De 60 à 69, elle est des trois à la fois."""

    valid: Tensor
    accents: Tensor

    @property
    def kept(self) -> Tensor:
        """Vrai si un accent au moins est gardé d'un bout à l'autre, ``(…)``."""
        return self.accents.any(-1)


def judge(numbers: Tensor, text: Tensor) -> Judgement:
    """Relit des listes écrites, nombre par nombre.

    Args:
        numbers: les nombres à écrire, ``(…, M)``.
        text: les mots écrits, ``(…, L)``.
    """
    by_number = spelled(numbers, text)
    finished = (text == END_RANK).sum(-1) >= numbers.shape[-1]
    return Judgement(by_number.any(-1).all(-1) & finished, by_number.all(-2) & finished.unsqueeze(-1))


def spelled(numbers: Tensor, text: Tensor) -> Tensor:
    """Vrai où le nombre est écrit comme le veut l'accent, ``(…, M, 3)`` ; ce qui n'est pas écrit n'est pas faux."""
    expected, live = expected_words(numbers, text)
    wrong = (expected != text.unsqueeze(-1)) & live.unsqueeze(-1)
    place = closed_before(text).clamp(max=numbers.shape[-1] - 1)
    counts = torch.zeros(*numbers.shape, wrong.shape[-1], device=text.device)
    counts.scatter_add_(-2, place.unsqueeze(-1).expand_as(wrong), wrong.float())
    return counts == 0
