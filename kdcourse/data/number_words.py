"""Les nombres de 60 à 99 en trois accents, et le teacher exact qui en écrit des listes : la langue du complément.

97 s'écrit « quatre-vingt-dix-sept » en France, « nonante-sept » en Belgique et en Suisse ; 84, « quatre-vingt-quatre »
ou, en Suisse, « huitante-quatre ». Qui écrit une liste garde son accent d'un bout à l'autre.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kdcourse.losses.checks import check_integer, check_number, shape_of

ACCENTS = ("France", "Belgique", "Suisse")
LOWEST, HIGHEST = 60, 99
END = ","  # ferme chaque nombre
_UNITS = ("", "un", "deux", "trois", "quatre", "cinq", "six", "sept", "huit", "neuf", "dix", "onze", "douze", "treize",
          "quatorze", "quinze", "seize", "dix sept", "dix huit", "dix neuf")  # fmt: skip
# La dizaine de chaque accent : son mot, et ce qu'il faut lui ajouter.
_TENS = {
    "France": {6: ("soixante", 0), 7: ("soixante", 10), 8: ("quatre vingt", 0), 9: ("quatre vingt", 10)},
    "Belgique": {6: ("soixante", 0), 7: ("septante", 0), 8: ("quatre vingt", 0), 9: ("nonante", 0)},
    "Suisse": {6: ("soixante", 0), 7: ("septante", 0), 8: ("huitante", 0), 9: ("nonante", 0)},
}


def spell(number: int, accent: str) -> list[str]:
    """Les mots d'un nombre, sans trait d'union : ``["quatre", "vingt", "dix", "sept"]``.

    Args:
        number: de 60 à 99, là où les accents se séparent.
        accent: l'un de ``ACCENTS``. En Belgique, 80 se dit quatre-vingts ; la Suisse est ici celle de huitante.

    Raises:
        TypeError: un nombre qui n'est pas entier.
        ValueError: nombre hors de l'intervalle, ou accent inconnu.
    """
    number = check_integer("number", number, LOWEST, HIGHEST, f"un entier de {LOWEST} à {HIGHEST}")
    if accent not in _TENS:
        raise ValueError(f"accent : {accent!r} reçu, l'un de {', '.join(ACCENTS)} attendu.")
    word, added = _TENS[accent][number // 10]
    unit = number % 10 + added
    if word == "quatre vingt":  # ni « et » ni, sauf seul, de s : quatre-vingt-un, quatre-vingts
        return (word + ("s" if unit == 0 else f" {_UNITS[unit]}")).split()
    return [word, *(["et"] if unit in (1, 11) else []), *_UNITS[unit].split()]


VOCABULARY = (*sorted({word for a in ACCENTS for n in range(LOWEST, HIGHEST + 1) for word in spell(n, a)}), END)
_RANK = {word: rank for rank, word in enumerate(VOCABULARY)}
END_RANK = _RANK[END]
LONGEST = 1 + max(len(spell(n, a)) for a in ACCENTS for n in range(LOWEST, HIGHEST + 1))
"""Mots du plus long nombre, sa virgule comprise."""


def encode(words: Sequence[str]) -> Tensor:
    """Le rang de chaque mot au vocabulaire, ``(L,)``, int64."""
    unknown = [word for word in words if word not in _RANK]
    if unknown:
        raise ValueError(
            f"words : {', '.join(unknown)} reçu, des mots du vocabulaire attendus : {' '.join(VOCABULARY)}"
        )
    return torch.tensor([_RANK[word] for word in words])


def decode(text: Tensor) -> str:
    """Le texte d'une suite de rangs, ``(L,)`` : « nonante sept, soixante et un, »."""
    return " ".join(VOCABULARY[rank] for rank in text.tolist()).replace(f" {END}", END)


# Le k-ième mot de chaque nombre dans chaque accent, ``(accents, nombres, LONGEST)`` ; une virgule, puis des virgules.
SPELLINGS = torch.stack([
    torch.stack([encode([*words, *[END] * (LONGEST - len(words))])
                 for words in (spell(number, accent) for number in range(LOWEST, HIGHEST + 1))])
    for accent in ACCENTS
])  # fmt: skip


def closed_before(text: Tensor) -> Tensor:
    """Les nombres déjà finis avant chaque mot, ``(…, L)``."""
    closed = (text == END_RANK).long()
    return closed.cumsum(-1) - closed


def positions(numbers: Tensor, text: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Où en est une liste avant chacun de ses mots.

    Args:
        numbers: les nombres à écrire, ``(…, M)``, de 60 à 99.
        text: les mots écrits, ``(…, L)``, en rangs du vocabulaire.

    Returns:
        le nombre en cours, ``(…, L)`` ; le rang du mot dans ce nombre ; vrai tant que la liste n'est pas finie.
    """
    before = closed_before(text)
    place = torch.arange(text.shape[-1], device=text.device).expand_as(text)
    opened = torch.where(text == END_RANK, place + 1, 0).cummax(-1).values.roll(1, -1)
    opened[..., 0] = 0
    current = numbers.gather(-1, before.clamp(max=numbers.shape[-1] - 1))
    return current, (place - opened).clamp(max=LONGEST - 1), before < numbers.shape[-1]


def expected_words(numbers: Tensor, text: Tensor) -> tuple[Tensor, Tensor]:
    """Le mot qu'attendrait chaque accent à la place de chaque mot, ``(…, L, 3)`` ; vrai tant que la liste dure."""
    current, rank, live = positions(numbers, text)
    return SPELLINGS.to(text.device).permute(1, 2, 0)[current - LOWEST, rank], live


def teacher_probabilities(numbers: Tensor, text: Tensor, epsilon: float = 1e-3) -> tuple[Tensor, Tensor]:
    r"""Ce qu'écrirait ensuite, après chaque préfixe, un teacher qui connaît les règles des trois accents.

    .. math:: p(v \mid \text{préfixe}) = \sum_a p(a \mid \text{préfixe})
              \left[ (1 - \varepsilon)\, \mathbb 1[v = w_a] + \frac{\varepsilon}{V} \right]

    :math:`w_a` est le mot suivant de l'accent a. La probabilité de chaque accent suit du préfixe par la règle de Bayes,
    les trois étant d'abord à égalité ; ``epsilon`` est la chance d'un lapsus, un mot quelconque. Sans lui, une liste
    qui mêle deux accents serait impossible, et la KL inverse infinie.

    Args:
        numbers: ``(…, M)``, de 60 à 99.
        text: ``(…, L)``, rangs du vocabulaire ; le mot l n'est lu que par les suivants.
        epsilon: dans ]0, 1[.

    Returns:
        Les probabilités, ``(…, L, V)``, float32 ; et ``(…, L)``, vrai tant que la liste n'est pas finie.

    Raises:
        TypeError, ValueError: nombres ou mots qui ne sont pas des entiers de leur intervalle, formes qui ne vont pas
            ensemble, epsilon hors de ]0, 1[.
    """
    _check_texts(numbers, text)
    check_number("epsilon", epsilon, 1e-12, 1 - 1e-12, "un nombre de ]0, 1[")
    expected, live = expected_words(numbers, text)
    slip, size = epsilon / len(VOCABULARY), len(VOCABULARY)
    matches = (expected == text.unsqueeze(-1)) & live.unsqueeze(-1)
    seen = torch.where(matches, math.log(1 - epsilon + slip), math.log(slip)) * live.unsqueeze(-1)
    belief = (seen.cumsum(-2) - seen).softmax(-1)  # de chaque accent, avant chaque mot
    found = torch.full((*text.shape, size), slip, device=text.device)
    return found.scatter_add_(-1, expected, (1 - epsilon) * belief), live


def write_lists(numbers: Tensor, accents: Tensor, length: int) -> Tensor:
    """Les listes de nombres écrites chacune dans son accent, ``(…, length)``, finies par des virgules.

    Args:
        numbers: ``(…, M)``, de 60 à 99.
        accents: ``(…,)``, rang de l'accent dans ``ACCENTS``.
        length: mots par liste, au moins ``M * LONGEST``.
    """
    if length < numbers.shape[-1] * LONGEST:
        raise ValueError(
            f"length : {length} reçu, {numbers.shape[-1] * LONGEST} au moins attendu pour {shape_of(numbers)}."
        )
    words = SPELLINGS.to(numbers.device)[accents.unsqueeze(-1), numbers - LOWEST]  # (…, M, LONGEST)
    sizes = 1 + (words != END_RANK).sum(-1)
    starts = sizes.cumsum(-1) - sizes
    rank = torch.arange(LONGEST, device=numbers.device)
    kept = rank < sizes.unsqueeze(-1)
    # Les virgules qui complètent un nombre vont toutes dans une case de trop, coupée à la fin.
    places = torch.where(kept, starts.unsqueeze(-1) + rank, length)
    text = torch.full((*numbers.shape[:-1], length + 1), END_RANK, device=numbers.device)
    return text.scatter_(-1, places.flatten(-2), words.flatten(-2))[..., :length]


def _check_texts(numbers: Tensor, text: Tensor) -> None:
    for name, tensor, low, high in (("numbers", numbers, LOWEST, HIGHEST), ("text", text, 0, len(VOCABULARY) - 1)):
        if not isinstance(tensor, Tensor) or tensor.dtype != torch.int64:
            got = f"dtype {tensor.dtype}" if isinstance(tensor, Tensor) else type(tensor).__name__
            raise TypeError(f"{name} : {got} reçu, un tenseur int64 attendu.")
        if tensor.numel() == 0:
            raise ValueError(f"{name} : forme {shape_of(tensor)} reçue, sans dimension nulle attendue.")
        if tensor.min() < low or tensor.max() > high:
            wrong = tensor.min() if tensor.min() < low else tensor.max()
            raise ValueError(f"{name} : {wrong.item()} reçu, de {low} à {high} attendu.")
    if numbers.shape[:-1] != text.shape[:-1]:
        raise ValueError(f"text : forme {shape_of(text)} reçue, {tuple(numbers.shape[:-1])} puis les mots attendu.")
