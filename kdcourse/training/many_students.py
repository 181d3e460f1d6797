"""L'entraînement, en pleine lumière : un modèle par la boucle nue, ou beaucoup à la fois.

``train_many`` fait le calcul de ``train_one`` pour S students d'un coup : leurs paramètres sont empilés le long d'une
première dimension, ``torch.vmap`` passe par la perte d'*un* student (son T, son alpha et son teacher en sont des
entrées), et un seul Adam les met tous à jour (Adam agit élément par élément : empiler n'y change rien). Mêmes graines,
mêmes poids, mêmes lots : un test exige les mêmes paramètres à l'arrondi près.
"""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state

from kdcourse.data.splits import Batches, Split
from kdcourse.losses.checks import check_alpha, check_module, check_module_temperature, check_seed, check_temperature
from kdcourse.losses.logits import divergence, kd_loss
from kdcourse.losses.numerics import combine_terms
from kdcourse.methods import Distillation
from kdcourse.models import AdaptedStudent, Features, Reader, predict_features
from kdcourse.training.checks import (
    call,
    check_converging,
    check_run,
    check_seeds,
    check_student,
    check_teacher,
    check_validation,
    one_per_student,
)
from kdcourse.training.frozen_teacher import copy_of, predict, unmasked
from kdcourse.training.loop import adam, drawn_from, threads_for, train_epochs
from kdcourse.training.many_students_checks import check_same_state, check_stackable, said
from kdcourse.training.progress import Progress
from kdcourse.training.students import Students, error_rate, logits_of_all


def initial_model(make_model: Callable[[], nn.Module], seed: int, images: Tensor | None = None) -> nn.Module:
    """Le modèle que ``make_model`` tire de cette graine, sans toucher au générateur global.

    Une couche paresseuse (``nn.LazyLinear``) n'a de poids qu'à son premier passage : ``images`` le lui donne ici.
    """
    seed = check_seed("seed", seed)
    with drawn_from(seed, torch.device("cpu")):
        model = call("make_model", make_model, expected="sans argument attendue, digits_student par exemple")
        check_module("make_model()", model)
        if images is not None and any(map(nn.parameter.is_lazy, model.parameters())):
            predict(model, images[:1].cpu())
    return model


def copied(buffers: dict[str, Tensor]) -> dict[str, Tensor]:
    """Des tampons qu'un essai peut changer."""
    return {name: buffer.clone() for name, buffer in buffers.items()}


def adapted(
    make_student: Callable[[], nn.Module], image: Tensor, teacher: Features, stage: int
) -> Callable[[], AdaptedStudent]:
    """Le même student, suivi de l'adaptateur qui donne à sa carte d'un étage les canaux de celle du teacher.

    Args:
        make_student: fonction sans argument qui construit un student à ``forward_features``.
        image: une image, ``(1, …)``, où compter les canaux du student.
        teacher: ce que le teacher calcule.
        stage: l'étage des cartes comparées.
    """
    student = predict_features(initial_model(make_student, 0, image).to(image.device), image)
    in_channels, out_channels = (features.maps[stage].shape[1] for features in (student, teacher))
    return lambda: AdaptedStudent(make_student(), stage, in_channels, out_channels)


def student_loss(
    student: Features, labels: Tensor, distillation: Distillation | None, teacher: Features | None, alpha: float
) -> Tensor:
    """La perte d'un student sur un lot : les étiquettes, et ce que le teacher en dit s'il y en a un."""
    hard = F.cross_entropy(student.logits, labels)
    return hard if distillation is None else combine_terms(distillation(student, teacher, labels), hard, alpha).total


def train_one(
    make_model: Callable[[], nn.Module],
    data: Split,
    teacher: Tensor | Features | None = None,
    *,
    distillation: Distillation | None = None,
    temperature: float = 4.0,
    alpha: float = 0.7,
    seed: int = 0,
    epochs: int = 60,
    batch_size: int = 100,
    learning_rate: float = 3e-3,
) -> nn.Module:
    """Entraîne un modèle sur des données en mémoire ; ``train_many`` lui doit être égal.

    Args:
        make_model: fonction sans argument qui construit le modèle.
        data: images ``(N, …)`` et étiquettes ``(N,)``.
        teacher: ce que le teacher dit de ``data`` : ses logits ``(N, C)``, ou les ``Features`` que rend
            ``predict_features(teacher, data.images)`` ; sans lui, les étiquettes seules.
        distillation: ``distillation(student, teacher, labels)``, entre deux ``Features`` d'un même lot ; par défaut,
            ``kd_loss`` à cette température. Celle d'une méthode est ``METHODS["RKD"].distillation(Choice(…))``.
        temperature: T > 0 ; seule la perte par défaut la lit.
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
    epochs, batch_size, learning_rate = check_run(data, epochs, batch_size, learning_rate)
    features, teacher = isinstance(teacher, Features), check_teacher(data, teacher, distillation)
    check_module_temperature(temperature)
    check_alpha(alpha)
    data = Split(*data)
    model = initial_model(make_model, seed, data.images).to(data.images.device)
    read = Reader(model, features)
    check_student(read, data, teacher, distillation, batch_size)
    if teacher is not None:
        distillation = distillation or (lambda s, t, _: kd_loss(s.logits, t.logits, temperature))

    def loss_of_batch(_, images, labels, indices):
        taught = None if teacher is None else teacher.map(lambda part: take(part, indices))
        return student_loss(read(images), labels, distillation, taught, alpha)

    with drawn_from(seed, data.images.device):
        for _ in train_epochs(model, Batches(data, seed, batch_size), loss_of_batch, epochs, learning_rate):
            pass
    return model


def train_many(
    make_model: Callable[[], nn.Module],
    data: Split,
    teacher: Tensor | Features | None = None,
    *,
    seeds: Sequence[int],
    distillation: Distillation | None = None,
    temperatures: float | Sequence[float] = 4.0,
    alphas: float | Sequence[float] = 0.7,
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
        data, distillation, epochs, batch_size, learning_rate: comme pour ``train_one``, communs à tous.
        teacher: comme pour ``train_one``, le même pour tous ; ou des logits ``(S, N, C)``, un teacher par student.
        seeds: une graine par student ; leur nombre S est celui des students. ``grid`` donne ces trois arguments.
        temperatures: T > 0, un nombre pour tous ou S nombres.
        alphas: poids de la distillation dans [0, 1], un nombre pour tous ou S nombres.
        validation: si elle est donnée, l'erreur de chaque student y est mesurée à la fin de chaque époque.

    Returns:
        ``Students``, dans l'ordre de ``seeds``.

    Raises:
        TypeError, ValueError: argument hors de son domaine, nommé dans le message ; modèle avec BatchNorm.
    """
    epochs, batch_size, learning_rate = check_run(data, epochs, batch_size, learning_rate)
    seeds = check_seeds(seeds)
    features, own = isinstance(teacher, Features), getattr(teacher, "ndim", 0) == 3  # own : un teacher par student
    teacher = check_teacher(data, teacher, distillation, students=len(seeds))
    (images, labels), device = data, data[0].device
    temperatures = one_per_student("temperatures", temperatures, len(seeds), check_temperature).to(device)
    alphas = one_per_student("alphas", alphas, len(seeds), check_alpha).to(device)
    models = [initial_model(make_model, seed, images).to(device) for seed in seeds]
    if len({id(model) for model in models}) < len(models):
        raise ValueError("make_model : le même objet reçu deux fois, un modèle neuf attendu à chaque appel.")
    classes = check_student(Reader(models[0], features), data, teacher, distillation, batch_size)
    check_stackable(models, seeds, images)
    if validation is not None:
        check_validation(validation, data, classes)
        validation = Split(*validation)
    parameters, buffers = stack_module_state(models)
    skeleton = copy_of(models[0]).to("meta").train()
    check_same_state(
        models,
        seeds,
        images,
        lambda few, training: logits_of_all(skeleton.train(training), parameters, copied(buffers), few),
    )
    skeleton.train()
    read = Reader(skeleton, features)
    named = tuple({f"model.{name}": part for name, part in state.items()} for state in (parameters, buffers))
    # Les logits de S teachers sont bout à bout, (S·N, C) : ceux du student s commencent au rang s·N.
    first = len(labels) * torch.arange(len(seeds), device=device)[:, None] * own

    def loss_of_one(parameters, buffers, images, labels, teacher, temperature, alpha):
        student = functional_call(read, (parameters, buffers), (images,))
        if teacher is None:
            return _cross_entropy(student.logits, labels)
        if distillation is None:
            guide = _kd(student.logits, teacher.logits, temperature)
        else:
            guide = distillation(student, teacher, labels)
        return combine_terms(guide, _cross_entropy(student.logits, labels), alpha).total

    teacher_axes = None if teacher is None else teacher.map(lambda _: 0)  # ce qui est None ne s'empile pas
    losses_of_all = said(torch.vmap(loss_of_one, (0, 0, 0, 0, teacher_axes, 0, 0), randomness="different"))
    optimizer = adam(parameters.values(), learning_rate)
    shuffles = {seed: torch.Generator().manual_seed(seed) for seed in seeds}
    losses, validation_errors = [], []
    with threads_for(skeleton), drawn_from(seeds[0], device):
        for _ in Progress(range(epochs), desc=f"{len(seeds)} students", unit="époque"):
            orders = {seed: torch.randperm(len(labels), generator=shuffle) for seed, shuffle in shuffles.items()}
            order = torch.stack([orders[seed] for seed in seeds]).to(device)
            epoch_loss = torch.zeros(len(seeds), device=device)
            for batch in order.split(batch_size, dim=1):
                taught = None if teacher is None else teacher.map(lambda part, rows=first + batch: take(part, rows))
                examples = take(images, batch), take(labels, batch)
                batch_losses = losses_of_all(*named, *examples, taught, temperatures, alphas)
                optimizer.zero_grad()
                said(batch_losses.sum().backward)()  # le gradient de chaque student ne dépend que de sa propre perte
                optimizer.step()
                epoch_loss += batch_losses.detach() * batch.shape[1] / len(labels)
            losses.append(epoch_loss)
            # Un paramètre qui n'est plus un nombre se voit à la perte suivante ; les derniers se vérifient à la fin.
            check_converging(epoch_loss, (), len(losses), learning_rate, seeds)
            if validation is not None:
                logits = logits_of_all(skeleton.eval(), parameters, buffers, validation.images)
                validation_errors.append(error_rate(logits, validation.labels))
                skeleton.train()
    parameters = {name: parameter.detach() for name, parameter in parameters.items()}
    said_last = unmasked(logits_of_all(skeleton.eval(), parameters, copied(buffers), images[:4]))
    check_converging(losses[-1], [*parameters.values(), said_last], epochs, learning_rate, seeds)
    losses, errors = torch.stack(losses, dim=1), torch.stack(validation_errors, dim=1) if validation_errors else None
    return Students(skeleton.eval(), parameters, buffers, torch.tensor(seeds), temperatures, alphas, losses, errors)


# Le long d'une dernière dimension de taille 10, log_softmax est seize fois plus lent sur processeur : dans la pile, les
# classes passent avant les exemples. Et F.cross_entropy, empilée, ralentit le pas entier d'un dixième.
def _cross_entropy(logits: Tensor, labels: Tensor) -> Tensor:
    return -logits.mT.contiguous().log_softmax(dim=0).gather(0, labels[None]).mean()


def _kd(student_logits: Tensor, teacher_logits: Tensor, temperature: Tensor) -> Tensor:
    student, teacher = (logits.mT.contiguous() for logits in (student_logits, teacher_logits))
    return temperature**2 * divergence(student, teacher, temperature, dim=0).mean()


def take(source: Tensor, batch: Tensor) -> Tensor:
    """``source[batch]`` pour des indices ``(B,)`` ou ``(S, B)`` ; quatre fois plus vite que l'indexation générale."""
    return source.index_select(0, batch.flatten()).unflatten(0, batch.shape)
