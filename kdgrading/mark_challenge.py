"""Noter le défi de compression : l'artefact naît dans un bac à sable ; un autre le juge, sur des images cachées.

Le teacher et le barème sont publics, dans ``kdcourse.exercises.challenge``.
"""

import base64

import torch
from torch import Tensor

from kdcourse.data.datasets import load_dataset
from kdcourse.data.splits import Split, shift_and_noise
from kdcourse.exercises.challenge import LABELLED, accuracy_share, compression_teacher, size_share
from kdcourse.formats import french
from kdgrading.answer import Answer, Mark, decode, encode, failure
from kdgrading.warm import Limits

NAMES = ("compress", "predict")
_CONTRACT, _ACCURACY, _SIZE = "ex3-contrat", "ex3-exactitude", "ex3-taille"
_MAKING = Limits(wall=240.0, cpu=120)
_READING = Limits(wall=60.0, cpu=30)
# Les chiffres sont publics : la fabrique ne doit pas pouvoir relire ceux du test, ni la lecture aucun d'entre eux.
_HIDDEN_WHILE_MAKING, _HIDDEN_WHILE_READING = ("sklearn/datasets/data",), ("sklearn",)


def grade(answer: Answer, seed: int) -> tuple[dict[str, Mark], dict]:
    """Une note par critère ; l'exactitude (en %) et la taille (en octets) pour le front de la classe."""
    absent = answer.absence(*NAMES)
    if absent:
        return _nothing(absent), {}
    order = torch.randperm(10, generator=torch.Generator().manual_seed(seed))
    artifact, reason = _make(answer, seed, order)
    if artifact is None:
        return _nothing(f"compress : {reason}"), {}
    logits, labels, reason = _read(answer, artifact, seed)
    if logits is None:
        half = Mark(0.5, f"compress rend des octets, mais predict : {reason}")
        return _nothing(f"predict : {reason}") | {_CONTRACT: half}, {}
    accuracy = 100 * (logits.argmax(-1) == order[labels]).double().mean().item()
    size = len(artifact) + answer.size
    share = accuracy_share(accuracy)
    detail = f"{size} octets, dont {len(artifact)} pour l'artefact et {answer.size} pour le code compressé"
    marks = {
        _CONTRACT: Mark(1.0, "compress rend des octets, et predict des logits, dans un processus neuf"),
        _ACCURACY: Mark(share, f"{french(accuracy)} % des images cachées sont reconnues"),
        _SIZE: Mark(size_share(size, accuracy), detail),
    }
    return marks, {"accuracy": round(accuracy, 2), "bytes": size}


def hidden_set(seed: int) -> Split:
    """Les 500 images de test, décalées et bruitées au hasard comme l'énoncé le dit, et dans un ordre au hasard."""
    test, generator = load_dataset("digits").test, torch.Generator().manual_seed(seed)
    order = torch.randperm(len(test.labels), generator=generator)
    return Split(shift_and_noise(test.images[order], generator=generator), test.labels[order])


def _nothing(reason: str) -> dict[str, Mark]:
    return {name: Mark(0.0, reason) for name in (_CONTRACT, _ACCURACY, _SIZE)}


def _make(answer: Answer, seed: int, order: Tensor) -> tuple[bytes | None, str]:
    """L'artefact, ou pourquoi il n'y en a pas.

    Les classes sont renumérotées au hasard, la classe c devenant ``order[c]``, pour le teacher comme pour les
    étiquettes : des poids appris d'avance, ou une table des chiffres publics, répondent alors à côté.
    """
    train, state = load_dataset("digits").train, compression_teacher().state_dict()
    for name in ("head.weight", "head.bias"):
        state[name] = state[name][order.argsort()]
    weights = {name: encode(value) for name, value in state.items()}
    data = {"teacher": weights, "images": encode(train.images), "labels": encode(order[train.labels[:LABELLED]])}
    outcome = answer.ask("compress", "compress", _MAKING, hidden=_HIDDEN_WHILE_MAKING, seed=seed, **data)
    message = outcome.messages[0] if outcome.messages else {}
    try:
        return base64.b64decode(message["artifact"], validate=True), ""
    except (KeyError, TypeError, ValueError):
        pass
    if "wrong" in message:
        return None, f"{str(message['wrong'])[:50]} reçu, des octets (bytes) attendus"
    return None, failure(outcome)


def _read(answer: Answer, artifact: bytes, seed: int):
    """Les logits des images cachées et leurs étiquettes, ou ``None`` et la raison."""
    images, labels = hidden_set(seed)
    data = {"artifact": base64.b64encode(artifact).decode(), "images": encode(images)}
    outcome = answer.ask("predict", "predict", _READING, hidden=_HIDDEN_WHILE_READING, seed=seed, **data)
    message = outcome.messages[0] if outcome.messages else {}
    logits = decode(message.get("logits"), (len(labels), 10))
    if logits is not None and torch.isfinite(logits).all():
        return logits, labels, ""
    if logits is not None:
        return None, labels, "NaN ou infini dans les logits"
    if isinstance(message.get("logits"), dict):
        shape = message["logits"].get("shape")
        return None, labels, f"forme {_shape(shape)} reçue, ({len(labels)}, 10) attendue, des flottants"
    if "wrong" in message:
        return None, labels, f"{str(message['wrong'])[:50]} reçu, un tenseur de logits attendu"
    return None, labels, failure(outcome)


def _shape(shape) -> str:
    if not isinstance(shape, list):
        return "illisible"
    return f"({', '.join(f'{size:g}' if isinstance(size, float) else '?' for size in shape[:8])})"
