"""L'entraînement, en pleine lumière : la boucle nue d'un modèle, et le moteur qui en entraîne beaucoup à la fois.

``train_one`` est la boucle que chacun écrirait. ``train_many`` fait le même calcul pour S students d'un coup : leurs
paramètres sont empilés le long d'une première dimension, ``torch.vmap`` fait passer les S modèles ensemble, et un seul
Adam les met tous à jour (Adam agit élément par élément : empiler n'y change rien). Mêmes graines, mêmes poids, mêmes
lots : un test exige les mêmes paramètres à l'arrondi près.
"""

import copy
import operator
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from tqdm.auto import tqdm

from kdcourse._common import (
    check_alpha,
    check_finite,
    check_floating,
    check_label_values,
    check_labels,
    check_number,
    check_temperature,
    combine_terms,
)
from kdcourse.comparison import error_rate
from kdcourse.data import Split
from kdcourse.logits import divergence, kd_loss
from kdcourse.loop import predict

_SMALL_MODEL = 200_000  # paramètres
_EVALUATION_BATCH = 512  # images par passage à l'évaluation : la mémoire ne dépend pas de la taille du test


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


def initial_model(make_model: Callable[[], nn.Module], seed: int) -> nn.Module:
    """Le modèle que ``make_model`` tire de cette graine, sans toucher au générateur global."""
    if isinstance(make_model, nn.Module) or not callable(make_model):
        raise TypeError(
            f"make_model : {type(make_model).__name__} reçu, une fonction qui construit un modèle attendue, "
            "digits_student ou lambda: MLP(), par exemple."
        )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return make_model()


def train_one(
    make_model: Callable[[], nn.Module],
    data: Split,
    teacher_logits: Tensor | None = None,
    *,
    temperature: float = 4.0,
    alpha: float = 0.7,
    seed: int = 0,
    epochs: int = 60,
    batch_size: int = 100,
    learning_rate: float = 3e-3,
) -> nn.Module:
    """Entraîne un modèle : la boucle nue, à laquelle ``train_many`` doit être égal.

    Args:
        make_model: fonction sans argument qui construit le modèle.
        data: images ``(N, …)`` et étiquettes ``(N,)``.
        teacher_logits: logits du teacher sur ``data``, ``(N, C)`` ; sans eux, les étiquettes seules (T et alpha ne
            servent alors pas).
        temperature: T > 0 de la distillation.
        alpha: poids de la distillation, dans [0, 1].
        seed: graine des poids initiaux et de l'ordre des lots.
        epochs: passages sur les données.
        batch_size: exemples par lot ; le dernier lot peut être plus petit.
        learning_rate: pas d'Adam.

    Returns:
        Le modèle entraîné, en mode ``eval``, sur l'appareil de ``data``.

    Raises:
        TypeError, ValueError: argument hors de son domaine, nommé dans le message.
    """
    _check_run(data, teacher_logits, epochs, batch_size, learning_rate)
    check_temperature(temperature)
    check_alpha(alpha)
    images, labels = data
    (seed,) = _check_seeds([seed])
    model = initial_model(make_model, seed).to(images.device)
    _check_model(model, data, teacher_logits)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    shuffle = torch.Generator().manual_seed(seed)
    with threads_for(model):
        for _ in tqdm(range(epochs), desc="Entraînement", unit="époque", leave=False, delay=1):
            for batch in torch.randperm(len(labels), generator=shuffle).to(images.device).split(batch_size):
                student_logits = model(images[batch])
                loss = F.cross_entropy(student_logits, labels[batch])
                if teacher_logits is not None:
                    loss = alpha * kd_loss(student_logits, teacher_logits[batch], temperature) + (1 - alpha) * loss
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
    return model.eval()


@dataclass
class Students:
    """S modèles de même architecture, leurs paramètres empilés ``(S, …)``, et ce qui les distingue.

    ``students.logits(images)`` les évalue tous ; ``students[i]`` est le i-ième, un module comme un autre.
    """

    skeleton: nn.Module
    parameters: dict[str, Tensor]
    buffers: dict[str, Tensor]
    seeds: Tensor
    temperatures: Tensor
    alphas: Tensor
    losses: Tensor
    """Perte moyenne de chaque époque, ``(S, époques)``."""

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

    @torch.no_grad()
    def logits(self, images: Tensor) -> Tensor:
        """Logits ``(S, N, C)`` des S modèles sur les mêmes images ``(N, …)``."""

        def one(parameters, buffers, images):
            return functional_call(self.skeleton, (parameters, buffers), (images,))

        forward = torch.vmap(one, in_dims=(0, 0, None))
        parts = [forward(self.parameters, self.buffers, part) for part in images.split(_EVALUATION_BATCH)]
        return torch.cat(parts, dim=1)

    def errors(self, data: Split) -> Tensor:
        """Taux d'erreur en % de chaque modèle, ``(S,)``."""
        return error_rate(self.logits(data.images), data.labels)


def train_many(
    make_model: Callable[[], nn.Module],
    data: Split,
    teacher_logits: Tensor | None = None,
    *,
    seeds: Sequence[int],
    temperatures: float | Sequence[float] = 4.0,
    alphas: float | Sequence[float] = 0.7,
    epochs: int = 60,
    batch_size: int = 100,
    learning_rate: float = 3e-3,
) -> Students:
    """Entraîne S students à la fois ; chacun est celui que ``train_one`` aurait donné.

    Deux students de même graine partent des mêmes poids et voient les mêmes lots : seuls T et alpha les séparent, et
    leurs différences sont appariées. Avec du *dropout*, chaque student a ses propres tirages, autres que ceux de
    ``train_one``.

    Args:
        make_model: fonction sans argument qui construit un student ; GroupNorm ou LayerNorm, pas BatchNorm.
        data, teacher_logits, epochs, batch_size, learning_rate: comme pour ``train_one``, communs à tous.
        seeds: une graine par student ; leur nombre S est celui des students.
        temperatures: T > 0, un nombre pour tous ou S nombres.
        alphas: poids de la distillation dans [0, 1], un nombre pour tous ou S nombres.

    Returns:
        ``Students``, dans l'ordre de ``seeds``.

    Raises:
        TypeError, ValueError: argument hors de son domaine, nommé dans le message ; modèle avec BatchNorm.
    """
    _check_run(data, teacher_logits, epochs, batch_size, learning_rate)
    images, labels = data
    device = images.device
    seeds = _check_seeds(seeds)
    temperatures = _one_per_student("temperatures", temperatures, len(seeds), check_temperature).to(device)
    alphas = _one_per_student("alphas", alphas, len(seeds), check_alpha).to(device)
    models = [initial_model(make_model, seed).to(device) for seed in seeds]
    _check_model(models[0], data, teacher_logits)
    if len(list(models[0].named_parameters(remove_duplicate=False))) != len(list(models[0].parameters())):
        raise ValueError(
            "make_model : un modèle aux poids partagés reçu, que torch.vmap n'empile pas ; voyez train_one."
        )
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in models[0].modules()):
        raise ValueError("make_model : un modèle avec BatchNorm reçu, GroupNorm ou LayerNorm attendu (torch.vmap).")
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).to("meta").train()
    optimizer = torch.optim.Adam(parameters.values(), lr=learning_rate, fused=True)

    def forward_one(parameters, buffers, images):
        return functional_call(skeleton, (parameters, buffers), (images,))

    forward = torch.vmap(forward_one, randomness="different")
    shuffles = {seed: torch.Generator().manual_seed(seed) for seed in seeds}
    history = []
    with threads_for(skeleton):
        for _ in tqdm(range(epochs), desc=f"{len(seeds)} students", unit="époque", leave=False, delay=1):
            orders = {seed: torch.randperm(len(labels), generator=shuffle) for seed, shuffle in shuffles.items()}
            order = torch.stack([orders[seed] for seed in seeds]).to(device)
            epoch_loss = torch.zeros(len(seeds), device=device)
            for batch in order.split(batch_size, dim=1):
                logits = forward(parameters, buffers, _take(images, batch))
                targets = None if teacher_logits is None else _take(teacher_logits, batch)
                losses = _losses_of_all(logits, targets, labels[batch], temperatures, alphas)
                optimizer.zero_grad()
                losses.sum().backward()  # le gradient de chaque student ne dépend que de sa propre perte
                optimizer.step()
                epoch_loss += losses.detach() * batch.shape[1] / len(labels)
            history.append(epoch_loss)
    parameters = {name: parameter.detach() for name, parameter in parameters.items()}
    losses = torch.stack(history, dim=1)
    return Students(skeleton.eval(), parameters, buffers, torch.tensor(seeds), temperatures, alphas, losses)


def _take(tensor: Tensor, batch: Tensor) -> Tensor:
    """``tensor[batch]`` pour des indices ``(S, B)``, quatre fois plus vite que l'indexation générale sur processeur."""
    return tensor.index_select(0, batch.flatten()).unflatten(0, batch.shape)


def _losses_of_all(student_logits, teacher_logits, labels, temperatures, alphas) -> Tensor:
    """La perte ``(S,)`` de S students, de logits ``(S, B, C)``, chacun avec son T et son alpha."""
    # Les classes passent avant les exemples : le long d'une dernière dimension de taille 10, log_softmax est seize fois
    # plus lent sur processeur.
    student_logits = student_logits.mT.contiguous()
    hard = F.cross_entropy(student_logits, labels, reduction="none").mean(dim=1)
    if teacher_logits is None:
        return hard
    soft = divergence(student_logits, teacher_logits.mT.contiguous(), temperatures[:, None, None], dim=1).mean(dim=1)
    return combine_terms(temperatures**2 * soft, hard, alphas).total


def _check_run(data, teacher_logits, epochs, batch_size, learning_rate) -> None:
    if not (isinstance(data, tuple) and len(data) == 2 and all(isinstance(part, Tensor) for part in data)):
        raise TypeError(f"data : {type(data).__name__} reçu, Split(images, labels) attendu.")
    images, labels = data
    if not images.is_floating_point() or images.dim() < 2 or not len(images):
        raise TypeError(
            f"data.images : {images.dtype} {tuple(images.shape)} reçu, un tenseur flottant (N, …) attendu, N ≥ 1 ; "
            "convertissez par .float() / 255, par exemple."
        )
    check_labels(labels, images, "data.images")
    check_finite("data.images", images)
    if teacher_logits is not None:
        check_floating("teacher_logits", teacher_logits, (2,), "(N, C)")
        check_labels(labels, teacher_logits, "teacher_logits")
        check_finite("teacher_logits", teacher_logits)
    for name, value in (("epochs", epochs), ("batch_size", batch_size)):
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise ValueError(f"{name} : {value!r} reçu, un entier ≥ 1 attendu.")
    check_number("learning_rate", learning_rate, 1e-12, 1e3, "un nombre strictement positif")


def _check_model(model: nn.Module, data: Split, teacher_logits: Tensor | None) -> None:
    if not any(parameter.requires_grad for parameter in model.parameters()):
        raise ValueError("make_model : un modèle sans paramètre à entraîner reçu, au moins un attendu.")
    logits = predict(model, data.images[:1])
    check_floating("make_model()(images)", logits, (2,), "(N, C)")
    if teacher_logits is not None and teacher_logits.shape[1] != logits.shape[1]:
        raise ValueError(
            f"teacher_logits : {teacher_logits.shape[1]} classes reçues, {logits.shape[1]} attendues, celles du modèle."
        )
    check_label_values(data.labels, logits.shape[1])


def _check_seeds(seeds) -> list[int]:
    try:
        seeds = [operator.index(seed) for seed in seeds]
    except TypeError:
        raise TypeError(f"seeds : {seeds!r} reçu, une suite d'entiers attendue, range(10) par exemple.") from None
    if not seeds:
        raise ValueError("seeds : suite vide reçue, au moins une graine attendue.")
    return seeds


def _one_per_student(name: str, values, students: int, check) -> Tensor:
    values = values.tolist() if isinstance(values, Tensor | np.ndarray | np.generic) else values
    if not isinstance(values, (int, float, Sequence)):
        raise TypeError(f"{name} : {type(values).__name__} reçu, un nombre ou une suite de nombres attendu.")
    values = [values] * students if isinstance(values, (int, float)) else list(values)
    if len(values) != students:
        raise ValueError(f"{name} : {len(values)} valeurs reçues, {students} attendues, une par graine (ou un nombre).")
    for value in values:
        check(value)
    return torch.tensor(values, dtype=torch.float32)
