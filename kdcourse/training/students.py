"""Beaucoup de students à la fois : les demander par leurs réglages, les garder empilés, les relire en tableau."""

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor, nn
from torch.func import functional_call

from kdcourse.data.splits import Split
from kdcourse.losses.checks import check_alpha, check_label_values, check_temperature
from kdcourse.models import check_image_type
from kdcourse.training.checks import check_seeds, several

EVALUATION_BATCH = 512  # images par passage à l'évaluation : la mémoire ne dépend pas de la taille du test


def grid(
    *,
    seeds: Sequence[int],
    temperatures: float | Sequence[float] = 4.0,
    alphas: float | Sequence[float] = 0.7,
    alone: bool = False,
) -> dict[str, list]:
    """Les arguments de ``train_many`` pour chaque réglage et chaque graine.

    ``students = train_many(…, **grid(alphas=[0, 0.9], seeds=range(10)))``, puis ``students.table(test)`` donne les
    erreurs, ``(2, 10)``. Les réglages se suivent, chaque T puis chaque alpha ; à l'intérieur d'un réglage, les graines.

    Args:
        seeds: les graines, les mêmes pour chaque réglage.
        temperatures: un nombre ou plusieurs.
        alphas: un nombre ou plusieurs.
        alone: ajoute, en tête, le student seul (alpha = 0, où T n'agit pas).

    Returns:
        ``{"seeds": …, "temperatures": …, "alphas": …}``, une valeur par student.

    Raises:
        TypeError, ValueError: graines qui n'en sont pas ou qui se répètent, T ou alpha hors de son domaine, liste vide,
            alpha nul avec ``alone``.
    """
    seeds = check_seeds(seeds)
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds : {seeds} reçu, des graines distinctes attendues.")
    temperatures = several("temperatures", temperatures, check_temperature)
    alphas = several("alphas", alphas, check_alpha)
    if alone and not all(alphas):
        raise ValueError(f"alphas : {alphas} reçu, des nombres de ]0, 1] attendus ; le student seul est déjà là.")
    settings = [(1.0, 0.0)] * alone + list(product(temperatures, alphas))
    return {
        "seeds": seeds * len(settings),
        "temperatures": [temperature for temperature, _ in settings for _ in seeds],
        "alphas": [alpha for _, alpha in settings for _ in seeds],
    }


@dataclass
class Students:
    """S modèles de même architecture, leurs paramètres empilés ``(S, …)``, et ce qui les distingue.

    ``students.logits(images)`` les évalue tous ; ``students.one(seed=0, alpha=0.9)`` en est un, un module comme un
    autre ; ``students.table(part)`` range leurs erreurs par réglage et par graine.
    """

    skeleton: nn.Module
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    seeds: Tensor  # (S,), sur processeur
    temperatures: Tensor  # (S,), comme les suivants sur l'appareil des données
    alphas: Tensor
    losses: Tensor
    """Perte moyenne de chaque époque, ``(S, époques)``."""
    validation_errors: Tensor | None = None
    """Erreur de validation en % de chaque époque, ``(S, époques)``, si ``train_many`` reçoit ``validation``."""

    def __len__(self) -> int:
        return len(self.seeds)

    def __getitem__(self, index: int) -> nn.Module:
        model = copy.deepcopy(self.skeleton).to_empty(device=self.losses.device)
        with torch.no_grad():  # un par un : load_state_dict ignore les tampons non persistants
            for name, stacked in self.parameters.items():
                model.get_parameter(name).copy_(stacked[index])
            for name, stacked in self.buffers.items():
                model.get_buffer(name).copy_(stacked[index])
        return model.eval()

    def one(self, *, seed: int, temperature: float | None = None, alpha: float | None = None) -> nn.Module:
        """Le student de cette graine et de ces réglages ; un réglage commun à tous ne se redit pas.

        Raises:
            ValueError: aucun student ainsi réglé, ou plusieurs.
        """
        found = self.seeds == seed
        for values, wanted in ((self.temperatures, temperature), (self.alphas, alpha)):
            if wanted is not None:
                found = found & values.cpu().isclose(torch.tensor(float(wanted)))
        if found.sum() != 1:
            raise ValueError(
                f"seed, temperature, alpha : {seed}, {temperature}, {alpha} reçus, ceux de {found.sum()} students, "
                "ceux d'un seul attendus ; le student seul de grid(…, alone=True) a alpha = 0 et T = 1."
            )
        return self[int(found.nonzero())]

    def logits(self, images: Tensor) -> Tensor:
        """Logits ``(S, N, C)`` des S modèles sur les mêmes images ``(N, …)``."""
        check_image_type(self.skeleton, images, "ces students")
        return logits_of_all(self.skeleton, self.parameters, self.buffers, images)

    def errors(self, data: Split) -> Tensor:
        """Taux d'erreur en % de chaque modèle, ``(S,)``."""
        return error_rate(self.logits(data.images), data.labels)

    def table(self, data: Split) -> Tensor:
        """Taux d'erreur en %, ``(réglages, graines)``, des students que ``grid`` a demandés ; refuse comme ``rows``."""
        return self.rows(self.errors(data))

    def rows(self, values: Tensor) -> Tensor:
        """Les mesures ``(S, …)`` d'autant de students, rangées ``(réglages, graines, …)``.

        Raises:
            ValueError: students qui n'ont pas, réglage après réglage, les mêmes graines ; une mesure de trop.
        """
        seeds = len(self.seeds.unique())
        if len(self) % seeds or not torch.equal(self.seeds, self.seeds[:seeds].repeat(len(self) // seeds)):
            raise ValueError("students : des graines qui changent d'un réglage à l'autre, celles de grid attendues.")
        same = [part.view(-1, seeds) for part in (self.temperatures, self.alphas)]
        if not all(torch.equal(part, part[:, :1].expand_as(part)) for part in same):
            raise ValueError(
                "students : T ou alpha change d'une graine à l'autre d'un réglage, par grid ils sont égaux."
            )
        if len(values) != len(self):
            raise ValueError(f"values : {len(values)} mesures reçues, {len(self)} attendues, une par student.")
        return values.unflatten(0, (-1, seeds))


def error_rate(logits: Tensor, labels: Tensor) -> Tensor:
    """Taux d'erreur en %, le long de l'avant-dernière dimension : ``(…, N, C)`` et ``(N,)`` donnent ``(…)``."""
    if logits.shape[-2:-1] != labels.shape:
        raise ValueError(
            f"labels : forme {tuple(labels.shape)} reçue, ({logits.shape[-2]},) attendue, une par ligne de logits."
        )
    check_label_values(labels, logits.shape[-1])
    return 100 * (logits.argmax(dim=-1) != labels).float().mean(dim=-1)


@torch.no_grad()
def logits_of_all(skeleton: nn.Module, parameters: dict, buffers: dict, images: Tensor) -> Tensor:
    """Logits ``(S, N, C)`` de S modèles empilés."""

    def logits_of_one(parameters, buffers, images):
        return functional_call(skeleton, (parameters, buffers), (images,))

    forward = torch.vmap(logits_of_one, in_dims=(0, 0, None))
    return torch.cat([forward(parameters, buffers, part) for part in images.split(EVALUATION_BATCH)], dim=1)
