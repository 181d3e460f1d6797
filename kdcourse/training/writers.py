"""Complément : des students qui écrivent, entraînés ensemble, sur les textes du teacher ou sur les leurs."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kdcourse.data.number_words import (
    ACCENTS,
    END_RANK,
    HIGHEST,
    LONGEST,
    LOWEST,
    VOCABULARY,
    positions,
    teacher_probabilities,
    write_lists,
)
from kdcourse.losses.checks import check_learning_rate, check_number, check_positive_integer, check_seed
from kdcourse.training.progress import Progress

BLANK = len(VOCABULARY)
"""Ce que lit un student avant le premier mot."""
Teacher = Callable[[Tensor, Tensor], Tensor]
"""De ``numbers`` ``(…, M)`` et ``text`` ``(…, L)``, les logits du mot suivant, ``(…, L, V)``."""


class Writers(nn.Module):
    """Des students, un par graine, qui lisent le nombre à écrire et leurs derniers mots, et proposent le suivant.

    Une couche cachée de ``width`` unités, ReLU. Ce qu'ils ont écrit plus tôt que leurs ``memory`` derniers mots, ils ne
    peuvent pas s'en souvenir.

    Args:
        seeds: une graine par student ; S graines donnent S students de poids initiaux différents.
        memory: mots relus, ≥ 1.
        width: unités cachées, ≥ 1.

    Raises:
        TypeError, ValueError: graines, mémoire ou largeur qui ne sont pas des entiers de leur intervalle.
    """

    def __init__(self, seeds: Sequence[int], memory: int = 2, width: int = 64):
        super().__init__()
        if not seeds:
            raise ValueError("seeds : aucune graine reçue, une au moins attendue.")
        self.seeds = [check_seed("seeds", seed) for seed in seeds]
        self.memory, width = check_positive_integer("memory", memory), check_positive_integer("width", width)
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]

        def drawn(fan_in: int, *shape: int) -> nn.Parameter:  # l'initialisation d'un nn.Linear
            bound = fan_in**-0.5
            return nn.Parameter(torch.stack([bound * (2 * torch.rand(shape, generator=g) - 1) for g in generators]))

        inputs = self.memory + 1
        self.number_weight = drawn(inputs, HIGHEST + 1 - LOWEST, width)
        self.word_weight = drawn(inputs, self.memory * (BLANK + 1), width)
        self.hidden_bias = drawn(inputs, 1, width)
        self.output_weight = drawn(width, width, len(VOCABULARY))
        self.output_bias = drawn(width, 1, len(VOCABULARY))

    def forward(self, numbers: Tensor, text: Tensor) -> Tensor:
        """Les logits de chaque mot, ``(S, B, L, V)``, d'après ceux qui le précèdent : ``(S, B, M)``, ``(S, B, L)``."""
        current, _, _ = positions(numbers, text)
        blank = text.new_full((*text.shape[:-1], self.memory), BLANK)
        read = torch.cat([blank, text], -1).unfold(-1, self.memory, 1)[..., :-1, :]
        return self._next(current, read)

    def _next(self, current: Tensor, read: Tensor) -> Tensor:
        """Les logits du mot suivant, du nombre en cours ``(S, …)`` et des derniers mots ``(S, …, memory)``."""
        shape, students = current.shape, len(self.seeds)
        # Chaque student a ses tables : un décalage par student les met bout à bout, une seule lecture suffit.
        own = torch.arange(students, device=current.device)[:, None]
        number = (current - LOWEST).reshape(students, -1) + own * self.number_weight.shape[1]
        slots = torch.arange(self.memory, device=read.device) * (BLANK + 1)
        words = read.reshape(students, -1, self.memory) + slots + own[..., None] * self.word_weight.shape[1]
        hidden = F.embedding_bag(words.flatten(0, 1), self.word_weight.flatten(0, 1), mode="sum")
        hidden = hidden + F.embedding(number.flatten(), self.number_weight.flatten(0, 1))
        hidden = torch.relu(hidden.reshape(students, -1, hidden.shape[-1]) + self.hidden_bias)
        return torch.baddbmm(self.output_bias, hidden, self.output_weight).reshape(*shape, -1)

    @torch.no_grad()
    def write(self, numbers: Tensor, seed: int, words: int | None = None) -> Tensor:
        """Les listes que chaque student écrit, mot après mot, en tirant chacun selon sa probabilité, ``(S, B, L)``.

        Args:
            numbers: ``(S, B, M)``, ou ``(B, M)`` si tous écrivent les mêmes.
            seed: graine des tirages.
            words: longueur, après quoi une liste qui n'est pas finie est laissée là ; :func:`roomy` par défaut.
        """
        numbers = numbers.expand(len(self.seeds), *numbers.shape[-2:])
        length = words or roomy(numbers.shape[-1])
        generator = torch.Generator(numbers.device).manual_seed(check_seed("seed", seed))
        text = numbers.new_full((*numbers.shape[:-1], length), END_RANK)
        read = numbers.new_full((*numbers.shape[:-1], self.memory), BLANK)
        closed = torch.zeros_like(numbers[..., 0])
        for place in range(length):
            live = closed < numbers.shape[-1]
            current = numbers.gather(-1, closed.clamp(max=numbers.shape[-1] - 1).unsqueeze(-1)).squeeze(-1)
            logits = self._next(current, read)
            # Le plus grand logit, bruité par une loi de Gumbel, est un tirage selon softmax(logits).
            noise = torch.empty_like(logits).exponential_(generator=generator).log()
            word = torch.where(live, (logits - noise).argmax(-1), END_RANK)
            text[..., place] = word
            read = torch.cat([read[..., 1:], word.unsqueeze(-1)], -1)
            closed = closed + (word == END_RANK)
        return text


def roomy(list_size: int) -> int:
    """Les mots laissés à une liste : un de plus que le plus long nombre, pour chacun, et un pour finir."""
    return list_size * (LONGEST + 1) + 1


def exact_teacher(epsilon: float = 1e-3) -> Teacher:
    """Le teacher qui connaît les règles (:func:`teacher_probabilities`), en logits."""
    return lambda numbers, text: teacher_probabilities(numbers, text, epsilon)[0].log()


def copied_words(numbers: Tensor, text: Tensor) -> Tensor:
    """Le « teacher » de la distillation de séquences : toute la probabilité au mot écrit, le reste interdit."""
    forbidden = torch.full((*text.shape, len(VOCABULARY)), -torch.inf, device=text.device)
    return forbidden.scatter_(-1, text.unsqueeze(-1), 0.0)


def train_writers(
    writers: Writers,
    loss: Callable[[Tensor, Tensor, Tensor], Tensor],
    steps: int,
    *,
    own: float = 0.0,
    teacher: Teacher | None = None,
    list_size: int = 6,
    batch_size: int = 32,
    learning_rate: float = 1e-2,
    seed: int = 0,
) -> Writers:
    """Entraîne les students à imiter le teacher, mot par mot, après des préfixes que lui ou eux ont écrits.

    Args:
        writers: les students, modifiés sur place et rendus.
        loss: ``loss(student_logits, teacher_logits, mask)`` sur ``(B, L, V)`` : :func:`forward_kl_loss`, par exemple.
        steps: pas d'Adam ; son pas décroît jusqu'à 0, en ligne droite.
        own: part λ des listes que chaque student écrit lui-même, de [0, 1] ; 0, celles du teacher. Aucun gradient ne
            traverse le tirage.
        teacher: les logits du mot suivant ; :func:`exact_teacher` par défaut.
        list_size: nombres par liste.
        batch_size: listes par pas et par student.
        learning_rate: le pas initial d'Adam.
        seed: graine des nombres, des accents et des tirages : deux pertes comparées voient les mêmes listes.

    Raises:
        TypeError, ValueError: un argument hors de son intervalle.

    Source : Agarwal et al. (2024), algorithme 1, arXiv:2306.13649.
    """
    for name, value in (("steps", steps), ("list_size", list_size), ("batch_size", batch_size)):
        check_positive_integer(name, value)
    check_number("own", own, 0, 1, "un nombre de [0, 1]")
    teacher, device = teacher or exact_teacher(), writers.output_bias.device
    optimizer = torch.optim.Adam(writers.parameters(), lr=check_learning_rate(learning_rate))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    generator = torch.Generator().manual_seed(check_seed("seed", seed))
    shape, length = (len(writers.seeds), batch_size), roomy(list_size)
    for step in Progress(range(steps), desc="Pas"):
        numbers = torch.randint(LOWEST, HIGHEST + 1, (*shape, list_size), generator=generator)
        accents = torch.randint(len(ACCENTS), shape, generator=generator)
        text = write_lists(numbers, accents, length)
        chosen = torch.rand(shape, generator=generator) < own
        numbers, text, chosen = (tensor.to(device) for tensor in (numbers, text, chosen))
        if own:
            text = torch.where(chosen.unsqueeze(-1), writers.write(numbers, seed * steps + step, length), text)
        live = positions(numbers, text)[2]
        losses = torch.vmap(loss)(writers(numbers, text), teacher(numbers, text), live)
        optimizer.zero_grad()
        losses.sum().backward()  # une somme : chaque student ne reçoit que le gradient de sa perte
        optimizer.step()
        schedule.step()
    return writers
