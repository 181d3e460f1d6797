"""La boucle nue : un modèle, des lots, Adam. Elle est écrite ici une fois ; ``train_one``, 10.5 et 10.6 l'appellent."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kdcourse.losses.checks import check_learning_rate, check_module, check_positive_integer
from kdcourse.models import check_built, check_image_type
from kdcourse.training.checks import check_converging, check_last_batch, too_few_values
from kdcourse.training.frozen_teacher import answers
from kdcourse.training.progress import Progress

_SMALL_MODEL = 200_000  # paramètres


class Trained(NamedTuple):
    """Un modèle entraîné, en ``eval`` sur son appareil, et ce que chaque époque a mesuré.

    Une époque est ``{"epoch": 1, "loss": …}``, sa perte moyenne ; l'entraînement y joint ce qu'il a mesuré d'autre.
    """

    model: nn.Module
    history: list[dict[str, float]]


def train_epochs(
    model: nn.Module,
    dataloader: Iterable,
    loss_of_batch: Callable[..., Tensor],
    epochs: int = 10,
    learning_rate: float = 1e-3,
) -> Iterator[float]:
    """Entraîne le modèle par Adam, et rend la main à la fin de chaque époque, avec sa perte moyenne.

    C'est un générateur : rien ne s'entraîne tant qu'on ne le parcourt pas (``list(train_epochs(…))``). Entre deux
    époques, l'appelant peut photographier le modèle, changer un poids de la perte, ou s'arrêter.

    Args:
        model: modèle à entraîner, sur place et sur son appareil, en mode ``train`` pendant chaque époque. Il est en
            mode ``eval`` chaque fois que la main est rendue, donc aussi à la fin, comme après ``train_one``.
        dataloader: se parcourt à chaque époque et donne des lots ``(images, labels, …)`` ; mélangé ou non, dernier lot
            plus petit ou non. Chaque tenseur du lot est porté sur l'appareil du modèle.
        loss_of_batch: ``loss_of_batch(model, images, labels, …)`` rend la perte moyenne du lot, scalaire.
        epochs: passages sur les données, ≥ 1.
        learning_rate: pas d'Adam, > 0.

    Yields:
        Perte moyenne des exemples de l'époque : chaque lot y compte pour sa taille. Le modèle ayant changé d'un lot à
        l'autre, c'est la perte vue à l'entraînement, non celle du modèle final.

    Raises:
        TypeError, ValueError: argument hors de son domaine, modèle sans rien à entraîner, lot qui n'est pas
            ``(images, labels)``, époque sans aucun lot.
    """
    check_module("model", model)
    epochs, learning_rate = check_positive_integer("epochs", epochs), check_learning_rate(learning_rate)
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    check_built(model)
    if not trained:
        raise ValueError("model : aucun paramètre à entraîner reçu, au moins un attendu avec requires_grad=True.")
    check_last_batch(model, dataloader)
    optimizer = adam(trained, learning_rate)
    few = []

    def remembered(model, images, *rest):
        few[:] = [images[:4]]
        return loss_of_batch(model, images, *rest)

    for epoch in Progress(range(1, epochs + 1), desc="Entraînement", unit="époque"):
        try:
            with threads_for(model), too_few_values("dataloader : un exemple"):
                loss = train_epoch(model, dataloader, remembered, optimizer)
        except ValueError as error:
            error.add_note(f"C'était à l'époque {epoch}.")
            raise
        model.eval()
        # La perte date d'avant le dernier pas : ce que le modèle rendu répond, lui, dit s'il a divergé.
        sound = [*trained, *(answers(model, *few) if epoch == epochs else ())]
        check_converging(torch.tensor(loss, device=trained[0].device), sound, epoch, learning_rate)
        yield loss


def train_epoch(model: nn.Module, dataloader: Iterable, loss_of_batch, optimizer: torch.optim.Optimizer) -> float:
    """Un passage sur les données ; rend la perte moyenne de ses exemples. Arguments de ``train_epochs``."""
    model.train()
    device = next(parameter.device for parameter in model.parameters() if parameter.requires_grad)
    total, examples = torch.zeros((), device=device), 0
    for batch in dataloader:
        images, labels, *rest = _on_device(batch, device)
        check_image_type(model, images)
        loss = loss_of_batch(model, images, labels, *rest)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.detach() * len(labels)  # sur l'appareil : aucune attente à chaque lot
        examples += len(labels)
    if not examples:
        raise ValueError("dataloader : aucun lot reçu, au moins un par époque attendu (un itérateur s'épuise).")
    return (total / examples).item()


def adam(parameters: Iterable[Tensor], learning_rate: float) -> torch.optim.Adam:
    """Adam ; sur processeur, sa version fusionnée est la plus rapide ; ailleurs, torch choisit."""
    parameters = list(parameters)
    return torch.optim.Adam(parameters, lr=learning_rate, fused=True if parameters[0].device.type == "cpu" else None)


@contextmanager
def drawn_from(seed: int, device: torch.device) -> Iterator[None]:
    """Les tirages d'un bloc viennent de cette graine ; le générateur global est rendu ensuite."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        yield


@contextmanager
def threads_for(model: nn.Module) -> Iterator[None]:
    """Un seul fil pour un petit modèle, le temps d'un entraînement sur processeur.

    Ses calculs sont trop courts pour se partager : deux fils n'y gagnent rien. Et si un autre programme occupe un des
    deux cœurs (le navigateur, par exemple), ils s'attendent à chaque opération : 20 à 50 fois plus lent, mesuré.
    """
    before = torch.get_num_threads()
    if sum(parameter.numel() for parameter in model.parameters()) < _SMALL_MODEL:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _on_device(batch, device: torch.device) -> list[Tensor]:
    parts = list(batch) if isinstance(batch, (tuple, list)) else [batch]
    if len(parts) < 2 or not all(isinstance(part, Tensor) for part in parts):
        received = ", ".join(type(part).__name__ for part in parts)
        raise TypeError(f"dataloader : lot ({received}) reçu, (images, labels) attendu, deux tenseurs au moins.")
    return [part.to(device, non_blocking=True) for part in parts]
