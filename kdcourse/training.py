"""L'entraînement, en pleine lumière : la boucle nue d'un modèle, et le moteur qui en entraîne beaucoup à la fois.

``train_one`` est la boucle que chacun écrirait. ``train_many`` fait le même calcul pour S students d'un coup : leurs
paramètres sont empilés le long d'une première dimension, ``torch.vmap`` fait passer les S modèles ensemble, et un seul
Adam les met tous à jour (Adam agit élément par élément : empiler n'y change rien). Mêmes graines, mêmes poids, mêmes
lots : un test exige les mêmes paramètres à l'arrondi près.
"""

import copy
import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state
from tqdm.auto import tqdm

from kdcourse._common import check_alpha, check_module, check_module_temperature, check_temperature, combine_terms
from kdcourse._training_checks import (
    check_make_model,
    check_model,
    check_run,
    check_seeds,
    check_stackable,
    check_teacher,
    check_validation,
    one_per_student,
)
from kdcourse.comparison import error_rate
from kdcourse.data import Split
from kdcourse.logits import divergence, kd_loss
from kdcourse.loop import evaluating
from kdcourse.models import Features

Distillation = Callable[..., Tensor]
"""``distillation(student, teacher)`` ou ``distillation(student, teacher, labels)`` : les features d'un lot, ``(B, …)``,
et ses étiquettes si la perte en a besoin (DKD) ; elle rend un scalaire."""

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
    check_make_model(make_model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = make_model()
    check_module("make_model()", model)
    return model


def train_one(
    make_model: Callable[[], nn.Module],
    data: Split,
    teacher_logits: Tensor | None = None,
    *,
    temperature: float = 4.0,
    alpha: float = 0.7,
    distillation: Distillation | None = None,
    teacher_features: Features | None = None,
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
        temperature: T > 0 de la distillation des logits.
        alpha: poids de la distillation, dans [0, 1].
        distillation: une autre perte que celle des logits, ``distillation(student, teacher)`` sur deux ``Features``
            d'un même lot (et, si elle a un troisième argument, ses étiquettes) ; elle remplace ``teacher_logits`` et T,
            et demande ``teacher_features``.
        teacher_features: ce que ``predict_features(teacher, data.images)`` rend, N exemples.
        seed: graine des poids initiaux et de l'ordre des lots.
        epochs: passages sur les données.
        batch_size: exemples par lot ; le dernier lot peut être plus petit.
        learning_rate: pas d'Adam.

    Returns:
        Le modèle entraîné, en mode ``eval``, sur l'appareil de ``data``.

    Raises:
        TypeError, ValueError: argument hors de son domaine, nommé dans le message.
    """
    check_run(data, epochs, batch_size, learning_rate)
    check_teacher(data, teacher_logits, distillation, teacher_features)
    check_module_temperature(temperature)
    check_alpha(alpha)
    images, labels = data
    (seed,) = check_seeds([seed])
    model = initial_model(make_model, seed).to(images.device)
    check_model(model, data, teacher_logits, distillation)
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)
    shuffle = torch.Generator().manual_seed(seed)
    if distillation is not None:
        distillation, teacher_features = _ready(distillation, teacher_features, model, data)
    with threads_for(model):
        for _ in tqdm(range(epochs), desc="Entraînement", unit="époque", leave=False, delay=1):
            for batch in torch.randperm(len(labels), generator=shuffle).to(images.device).split(batch_size):
                if distillation is not None:
                    student = model.forward_features(images[batch])
                    hard = F.cross_entropy(student.logits, labels[batch])
                    guide = distillation(student, take(teacher_features, batch), labels[batch])
                    loss = combine_terms(guide, hard, alpha).total
                else:
                    student_logits = model(images[batch])
                    loss = F.cross_entropy(student_logits, labels[batch])
                    if teacher_logits is not None:
                        guide = kd_loss(student_logits, teacher_logits[batch], temperature)
                        loss = combine_terms(guide, loss, alpha).total
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

    def logits(self, images: Tensor) -> Tensor:
        """Logits ``(S, N, C)`` des S modèles sur les mêmes images ``(N, …)``."""
        return _logits_of_all(self.skeleton, self.parameters, self.buffers, images)

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
    distillation: Distillation | None = None,
    teacher_features: Features | None = None,
    validation: Split | None = None,
    epochs: int = 60,
    batch_size: int = 100,
    learning_rate: float = 3e-3,
) -> Students:
    """Entraîne S students à la fois ; chacun est celui que ``train_one`` aurait donné.

    Deux students de même graine partent des mêmes poids et voient les mêmes lots : seuls T et alpha les séparent, et
    leurs différences sont appariées. Avec du *dropout*, chaque student a ses propres tirages, autres que ceux de
    ``train_one``.

    Args:
        make_model: fonction sans argument qui construit un student, appelée une fois par graine, dans l'ordre ;
            GroupNorm ou LayerNorm, pas BatchNorm.
        data, distillation, teacher_features, epochs, batch_size, learning_rate: comme pour ``train_one``, communs à
            tous.
        teacher_logits: ``(N, C)``, le même teacher pour tous, ou ``(S, N, C)``, un teacher par student.
        seeds: une graine par student ; leur nombre S est celui des students.
        temperatures: T > 0, un nombre pour tous ou S nombres.
        alphas: poids de la distillation dans [0, 1], un nombre pour tous ou S nombres.
        validation: si elle est donnée, l'erreur de chaque student y est mesurée à la fin de chaque époque.

    Returns:
        ``Students``, dans l'ordre de ``seeds``.

    Raises:
        TypeError, ValueError: argument hors de son domaine, nommé dans le message ; modèle avec BatchNorm.
    """
    check_run(data, epochs, batch_size, learning_rate)
    seeds = check_seeds(seeds)
    check_teacher(data, teacher_logits, distillation, teacher_features, students=len(seeds))
    images, labels = data
    device = images.device
    temperatures = one_per_student("temperatures", temperatures, len(seeds), check_temperature).to(device)
    alphas = one_per_student("alphas", alphas, len(seeds), check_alpha).to(device)
    models = [initial_model(make_model, seed).to(device) for seed in seeds]
    if len({id(model) for model in models}) < len(models):
        raise ValueError("make_model : le même objet reçu deux fois, un modèle neuf attendu à chaque appel.")
    classes = check_model(models[0], data, teacher_logits, distillation)
    check_stackable(models[0])
    if validation is not None:
        check_validation(validation, data, classes)
        validation = Split(*validation)
    if distillation is not None:
        distillation, teacher_features = _ready(distillation, teacher_features, models[0], data)
    parameters, buffers = stack_module_state(models)
    skeleton = copy.deepcopy(models[0]).to("meta").train()
    optimizer = torch.optim.Adam(parameters.values(), lr=learning_rate, fused=True)
    guided = _Guided(skeleton, distillation) if distillation is not None else skeleton

    def forward_one(parameters, buffers, *inputs):
        if distillation is not None:  # functional_call ne connaît que forward : _Guided y met forward_features
            parameters, buffers = ({f"model.{k}": v for k, v in d.items()} for d in (parameters, buffers))
        return functional_call(guided, (parameters, buffers), inputs)

    forward = torch.vmap(forward_one, randomness="different")
    shuffles = {seed: torch.Generator().manual_seed(seed) for seed in seeds}
    losses, validation_errors = [], []
    with threads_for(skeleton):
        for _ in tqdm(range(epochs), desc=f"{len(seeds)} students", unit="époque", leave=False, delay=1):
            orders = {seed: torch.randperm(len(labels), generator=shuffle) for seed, shuffle in shuffles.items()}
            order = torch.stack([orders[seed] for seed in seeds]).to(device)
            epoch_loss = torch.zeros(len(seeds), device=device)
            for batch in order.split(batch_size, dim=1):
                if distillation is not None:
                    inputs = take(images, batch), take(teacher_features, batch), labels[batch]
                    logits, guides = forward(parameters, buffers, *inputs)
                    batch_losses = combine_terms(
                        guides, _hard_of_all(_classes_first(logits), labels[batch]), alphas
                    ).total
                else:
                    logits = forward(parameters, buffers, take(images, batch))
                    targets = None if teacher_logits is None else _classes_first(_targets(teacher_logits, batch))
                    batch_losses = _losses_of_all(_classes_first(logits), targets, labels[batch], temperatures, alphas)
                optimizer.zero_grad()
                batch_losses.sum().backward()  # le gradient de chaque student ne dépend que de sa propre perte
                optimizer.step()
                epoch_loss += batch_losses.detach() * batch.shape[1] / len(labels)
            losses.append(epoch_loss)
            if validation is not None:
                logits = _logits_of_all(skeleton.eval(), parameters, buffers, validation.images)
                validation_errors.append(error_rate(logits, validation.labels))
                skeleton.train()
    parameters = {name: parameter.detach() for name, parameter in parameters.items()}
    losses, errors = torch.stack(losses, dim=1), torch.stack(validation_errors, dim=1) if validation_errors else None
    return Students(skeleton.eval(), parameters, buffers, torch.tensor(seeds), temperatures, alphas, losses, errors)


class _Guided(nn.Module):
    """Un student et la perte de ses features, en un seul ``forward``."""

    def __init__(self, model: nn.Module, distillation: Distillation):
        super().__init__()
        self.model, self.distillation = model, distillation

    def forward(self, images: Tensor, teacher: Features, labels: Tensor) -> tuple[Tensor, Tensor]:
        student = self.model.forward_features(images)
        return student.logits, self.distillation(student, teacher, labels)


def _with_labels(distillation: Distillation) -> Distillation:
    """La même perte, à trois arguments : la plupart des méthodes ignorent les étiquettes."""
    called = distillation.forward if isinstance(distillation, nn.Module) else distillation
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    positional = [p for p in inspect.signature(called).parameters.values() if p.kind in kinds]
    required = [p for p in positional if p.default is p.empty]
    if len(required) == 3 or (len(positional) > 2 and positional[2].name == "labels"):
        return distillation
    if len(required) > 3:
        raise TypeError(
            f"distillation : une fonction de {len(required)} arguments reçue, (student, teacher) ou "
            "(student, teacher, labels) attendus."
        )
    return lambda student, teacher, labels: distillation(student, teacher)


def _ready(distillation: Distillation, features: Features, model: nn.Module, data: Split):
    """La perte à trois arguments et les features détachées, une fois essayées : un scalaire, qui atteint le modèle."""
    guide = _with_labels(distillation)
    teacher = Features([m.detach() for m in features.maps], features.embedding.detach(), features.logits.detach())
    few = torch.arange(min(4, len(data[1])), device=data[1].device)
    with evaluating(model):
        loss = guide(model.forward_features(data[0][few]), take(teacher, few), data[1][few])
    if not isinstance(loss, Tensor) or loss.dim() or not loss.is_floating_point():
        received = f"forme {tuple(loss.shape)}" if isinstance(loss, Tensor) else type(loss).__name__
        raise TypeError(f"distillation : {received} reçu, un scalaire flottant attendu, la moyenne sur le lot.")
    if not loss.requires_grad:
        raise ValueError("distillation : une perte sans gradient reçue ; elle doit dépendre des features du student.")
    return guide, teacher


@torch.no_grad()
def _logits_of_all(skeleton: nn.Module, parameters: dict, buffers: dict, images: Tensor) -> Tensor:
    def one(parameters, buffers, images):
        return functional_call(skeleton, (parameters, buffers), (images,))

    forward = torch.vmap(one, in_dims=(0, 0, None))
    return torch.cat([forward(parameters, buffers, part) for part in images.split(_EVALUATION_BATCH)], dim=1)


def take(source: Tensor | Features, batch: Tensor) -> Tensor | Features:
    """``source[batch]`` pour des indices ``(B,)`` ou ``(S, B)``, d'un tenseur ou de chaque tenseur de ``Features``."""
    if isinstance(source, Features):
        return Features(
            [take(m, batch) for m in source.maps], take(source.embedding, batch), take(source.logits, batch)
        )
    # Quatre fois plus vite que l'indexation générale sur processeur.
    return source.index_select(0, batch.flatten()).unflatten(0, batch.shape)


def _targets(teacher_logits: Tensor, batch: Tensor) -> Tensor:
    """Les logits ``(S, B, C)`` du teacher commun, ou de celui de chaque student, pour des indices ``(S, B)``."""
    if teacher_logits.dim() == 2:
        return take(teacher_logits, batch)
    students, examples = teacher_logits.shape[:2]
    first = examples * torch.arange(students, device=batch.device)[:, None]
    return take(teacher_logits.flatten(0, 1), first + batch)


def _hard_of_all(student_logits: Tensor, labels: Tensor) -> Tensor:
    """L'entropie croisée ``(S,)`` de S students, classes avant exemples : ``(S, C, B)``."""
    return F.cross_entropy(student_logits, labels, reduction="none").mean(dim=1)


def _losses_of_all(student_logits, teacher_logits, labels, temperatures, alphas) -> Tensor:
    """La perte ``(S,)`` de S students, de logits ``(S, C, B)``, chacun avec son T et son alpha."""
    hard = _hard_of_all(student_logits, labels)
    if teacher_logits is None:
        return hard
    soft = divergence(student_logits, teacher_logits, temperatures[:, None, None], dim=1).mean(dim=1)
    return combine_terms(temperatures**2 * soft, hard, alphas).total


def _classes_first(logits: Tensor) -> Tensor:
    # Le long d'une dernière dimension de taille 10, log_softmax est seize fois plus lent sur processeur.
    return logits.mT.contiguous()
