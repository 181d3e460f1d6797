"""10.5 : un modèle s'instruit lui-même. La cible d'un exemple est la prédiction antérieure *de cet exemple*.

Trois réponses à « antérieure » : l'époque d'avant (une photographie du modèle, ou des prédictions rangées : PS-KD), la
génération d'avant (Born-Again), ou rien du tout (le lissage d'étiquettes, teacher dégénéré).
"""

from collections.abc import Iterable
from math import nan

from torch import Tensor, cat, nn

from kdcourse.losses.checks import (
    check_alpha,
    check_finite,
    check_floating,
    check_label_values,
    check_module,
    check_positive_integer,
    label_loss,
    shape_of,
)
from kdcourse.losses.logits import KnowledgeDistillationLoss
from kdcourse.losses.numerics import at_least_float32
from kdcourse.losses.self_distillation import SelfDistillation, label_smoothing_probabilities, ps_kd_loss
from kdcourse.models import logits_only
from kdcourse.training.frozen_teacher import frozen_copy, frozen_logits, memory_of
from kdcourse.training.loop import Trained, train_epochs


def progressive_self_distillation(
    model: nn.Module, dataloader: Iterable, epochs: int = 10, *, temperature=4.0, alpha=0.3, learning_rate=1e-3
) -> list[float]:
    """Entraîne un modèle qui apprend, à chaque époque, de ce qu'il était à la fin de la précédente.

    Ce passé est une photographie figée du modèle, qui reprédit chaque lot : la cible d'un exemple est donc toujours sa
    propre prédiction, quels que soient l'ordre et la taille des lots. La première époque n'a que les étiquettes.

    Args:
        model: modèle qui rend ses logits ; entraîné sur place, sur son appareil, et laissé en mode ``eval``.
        dataloader: donne des lots ``(images, labels)`` à chaque époque ; le reste du lot est ignoré.
        epochs: passages sur les données, ≥ 1.
        temperature: T > 0 de ``SelfDistillation``.
        alpha: poids de la distillation, dans [0, 1].
        learning_rate: pas d'Adam.

    Returns:
        Perte moyenne de chaque époque (la première, étiquettes seules, ne se compare pas aux suivantes). Argument hors
        de son domaine : ``TypeError`` ou ``ValueError``.
    """
    check_alpha(alpha)
    loss, previous, history = SelfDistillation(temperature), None, []

    def loss_of_batch(model, images, labels, *_):
        current_logits = model(images)
        if previous is None:
            return label_loss(current_logits, labels, "model(images)")
        return loss(current_logits, frozen_logits(previous, images), labels, alpha).total

    for epoch_loss in train_epochs(model, dataloader, loss_of_batch, epochs, learning_rate):
        history.append(epoch_loss)
        previous = frozen_copy(model)
    return history


def ps_kd(model: nn.Module, dataloader: Iterable, epochs: int = 10, *, alpha=0.8, learning_rate=1e-3) -> list[float]:
    """Entraîne un modèle par PS-KD : les prédictions d'une époque, rangées, sont les cibles de la suivante.

    Rien n'est calculé deux fois : p_{e-1}(x) est la prédiction faite, en mode ``train``, au passage précédent de x (sur
    une autre augmentation, s'il y en a) ; toutes restent en mémoire, ``(N, C)``. Son poids croît : α_e = α_E · e / E,
    de l'époque e = 1 à E. Un exemple encore jamais vu n'a que son étiquette.

    Args:
        model, epochs, learning_rate: comme pour ``progressive_self_distillation`` ; E = ``epochs``.
        dataloader: donne des lots ``(images, labels, indices)`` : l'indice ``(B,)``, de 0 à N - 1, dit de quel exemple
            il s'agit. Un ``TensorDataset(images, labels, torch.arange(len(labels)))`` y suffit.
        alpha: α_E, poids atteint à la dernière époque, dans [0, 1] ; 0,8 dans l'article.

    Returns:
        Perte moyenne de chaque époque. Argument ou lot hors de son domaine : ``TypeError`` ou ``ValueError``.

    Source : Kim et al. (2021), PS-KD, section 3, arXiv:2006.12000.
    """
    check_alpha(alpha)
    memory: Tensor | None = None  # (N, 1 + C) : étiquette, puis prédiction ; NaN pour un exemple encore jamais vu
    history: list[float] = []

    def loss_of_batch(model, images, labels, *rest):
        nonlocal memory
        indices = _check_indices(rest, labels)
        logits = logits_only(model(images))
        check_floating("model(images)", logits, (2,), "(N, C)")
        check_label_values(labels, logits.shape[-1])
        check_finite("model(images)", logits)
        today = at_least_float32(logits.detach()).softmax(dim=-1)
        today = cat([labels[:, None].to(today.dtype), today], dim=1)
        memory = today[:0] if memory is None else memory
        missing = max(0, int(indices.max()) + 1 - len(memory))
        memory = cat([memory, today.new_full((missing, today.shape[1]), nan)])
        seen = memory[indices].isfinite()
        if (seen[:, 0] & (memory[indices, 0] != labels)).any():
            raise ValueError("dataloader : un indice revient avec une autre étiquette ; il doit désigner un exemple.")
        one_hot = label_smoothing_probabilities(labels, logits.shape[-1], smoothing=0).to(today.dtype)
        previous = memory[indices, 1:].where(seen[:, 1:], one_hot)
        memory[indices] = today
        return ps_kd_loss(logits, previous, labels, alpha * (len(history) + 1) / epochs)

    for epoch_loss in train_epochs(model, dataloader, loss_of_batch, epochs, learning_rate):
        history.append(epoch_loss)
    return history


def born_again(
    make_model, dataloader: Iterable, generations=3, *, epochs=10, temperature=4.0, alpha=0.7, learning_rate=1e-3
) -> list[Trained]:
    """Entraîne une lignée de réseaux identiques : le premier par les étiquettes, chaque suivant par le précédent.

    Le teacher est une copie figée de la génération précédente ; le student, un réseau neuf. Rend la lignée.

    Args:
        make_model: fonction sans argument qui construit un réseau *neuf* à chaque appel, sur l'appareil voulu.
        generations: nombre de réseaux, le premier compris.
        dataloader, epochs, temperature, alpha, learning_rate: comme pour ``progressive_self_distillation``, pour
            chaque génération.

    Raises:
        TypeError, ValueError: argument hors de son domaine ; ``make_model`` qui rend deux fois le même objet.

    Source : Furlanello et al. (2018), section 3, arXiv:1805.04770.
    """
    check_positive_integer("generations", generations)
    loss, lineage, known = KnowledgeDistillationLoss(temperature, alpha), [], set()

    def loss_of_batch(student, images, labels, *_):
        if teacher is None:
            return label_loss(student(images), labels, "model(images)")
        return loss(student(images), frozen_logits(teacher, images), labels).total

    for _ in range(generations):
        student = make_model()
        check_module("make_model", student)
        if known & memory_of(student):
            raise ValueError(
                "make_model : un réseau qui partage des poids avec une génération d'avant reçu, un réseau neuf attendu "
                "à chaque appel : entraîner l'un changerait l'autre."
            )
        known |= memory_of(student)
        teacher = frozen_copy(lineage[-1].model) if lineage else None
        losses = train_epochs(student, dataloader, loss_of_batch, epochs, learning_rate)
        history = [{"epoch": epoch, "loss": loss} for epoch, loss in enumerate(losses, start=1)]
        lineage.append(Trained(student, history))
    return lineage


def _check_indices(rest: list[Tensor], labels: Tensor) -> Tensor:
    if len(rest) != 1 or rest[0].shape != labels.shape or rest[0].is_floating_point():
        received = ", ".join(["images", "labels", *(f"{part.dtype} {shape_of(part)}" for part in rest)])
        raise ValueError(f"dataloader : lot ({received}) reçu, (images, labels, indices) attendu, un entier chacun.")
    if rest[0].min() < 0:
        raise ValueError(f"dataloader : indice {int(rest[0].min())} reçu, de 0 à N - 1 attendu, le rang de l'exemple.")
    return rest[0].long()
