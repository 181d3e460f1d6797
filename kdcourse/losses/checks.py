"""Ce que toutes les pertes partagent, et les entraînements après elles : le refus d'un mauvais argument.

Rien ici ne dépend de la *valeur* d'un tenseur, sauf ``check_finite`` et ``check_label_values`` que seuls les modules
appellent : les fonctions pures passent ainsi sous ``torch.func.vmap`` et ``torch.compile(fullgraph=True)``.
"""

import math
from numbers import Integral, Real

import torch
import torch.nn.functional as F
from torch import Tensor

from .numerics import at_least_float32

_LARGEST = 2**63 - 1  # le plus grand entier d'un tenseur


def shape_of(tensor: Tensor) -> str:
    """Forme d'un tenseur comme un tuple Python : ``(32, 10)``."""
    return str(tuple(tensor.shape))


def check_number(name: str, value, low: float, high: float, expected: str) -> None:
    """Refuse ce qui n'est pas un nombre réel de l'intervalle [low, high] (NaN compris)."""
    real = isinstance(value, Real) and not isinstance(value, bool)
    if not real:
        raise TypeError(f"{name} : {value!r} ({type(value).__name__}) reçu, {expected} attendu.")
    if not low <= value <= high:
        raise ValueError(f"{name} : {value} reçu, {expected} attendu.")


def check_alpha(alpha) -> None:
    """``alpha`` pondère la distillation : un nombre de [0, 1]."""
    check_number("alpha", alpha, 0, 1, "un nombre de [0, 1]")


def check_non_negative(name: str, value) -> None:
    """Un poids : un nombre fini, positif ou nul."""
    expected = "un nombre fini positif ou nul"
    check_number(name, value, 0.0, float("inf"), expected)
    if math.isinf(value):
        raise ValueError(f"{name} : {value} reçu, {expected} attendu.")


def check_integer(name: str, value, low: int, high: int, expected: str) -> int:
    """Un entier de [low, high], de Python ou de numpy, rendu en nombre de Python."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} : {value!r} ({type(value).__name__}) reçu, {expected} attendu.")
    if not low <= int(value) <= high:
        raise ValueError(f"{name} : {value} reçu, {expected} attendu.")
    return int(value)


def check_positive_integer(name: str, value) -> int:
    """Un nombre de canaux, d'époques, d'exemples : un entier ≥ 1."""
    return check_integer(name, value, 1, _LARGEST, "un entier ≥ 1")


def check_seed(name: str, value) -> int:
    """Une graine que ``torch.Generator`` sait prendre."""
    return check_integer(name, value, 0, _LARGEST, "un entier de 0 à 2**63 - 1")


def check_learning_rate(learning_rate) -> float:
    """Le pas d'Adam."""
    check_number("learning_rate", learning_rate, 1e-12, 1e3, "un nombre de 1e-12 à 1000")
    return float(learning_rate)


def check_temperature(temperature) -> None:
    """Un nombre fini > 0, ou un tenseur scalaire, dont la valeur n'est pas lue."""
    expected = "un nombre fini strictement positif"
    if isinstance(temperature, Tensor):
        if temperature.dim() != 0:
            raise ValueError(f"temperature : forme {shape_of(temperature)} reçue, () attendue, un scalaire.")
        if not temperature.is_floating_point():
            raise TypeError(f"temperature : dtype {temperature.dtype} reçu, un dtype flottant attendu.")
        return
    check_number("temperature", temperature, math.ulp(0.0), float("inf"), expected)
    if math.isinf(temperature):
        raise ValueError(f"temperature : {temperature} reçu, {expected} attendu.")


def check_module_temperature(temperature) -> None:
    """La température que garde un module : la valeur d'un tenseur y est vérifiée aussi."""
    check_temperature(temperature)
    check_temperature(float(temperature))


def check_floating(name: str, tensor, dims: tuple[int, ...], expected_shape: str) -> None:
    """Refuse ce qui n'est pas un tenseur réel non vide d'un de ces nombres de dimensions."""
    if not isinstance(tensor, Tensor):
        raise TypeError(f"{name} : {type(tensor).__name__} reçu, un tenseur de forme {expected_shape} attendu.")
    if not tensor.is_floating_point():
        raise TypeError(f"{name} : dtype {tensor.dtype} reçu, un dtype flottant attendu (float32, par exemple).")
    if tensor.dim() not in dims or tensor.numel() == 0:
        raise ValueError(f"{name} : forme {shape_of(tensor)} reçue, {expected_shape} attendue, sans dimension nulle.")


def check_same_device(name: str, tensor: Tensor, reference_name: str, reference: Tensor) -> None:
    """Deux tenseurs d'une même perte sont sur le même appareil."""
    if tensor.device != reference.device:
        raise ValueError(
            f"{name} : sur {tensor.device}, {reference.device} attendu, l'appareil de {reference_name} ; "
            f"déplacez-le par .to({str(reference.device)!r})."
        )


def check_same_shape(name: str, tensor: Tensor, reference_name: str, reference: Tensor) -> None:
    """Deux tenseurs qui se comparent terme à terme : même forme, même appareil."""
    if tensor.shape != reference.shape:
        raise ValueError(
            f"{name} : forme {shape_of(tensor)} reçue, {shape_of(reference)} attendue, celle de {reference_name}."
        )
    check_same_device(name, tensor, reference_name, reference)


def check_logits_pair(student_logits, teacher_logits) -> None:
    """Logits du student et du teacher : flottants, ``(B, C)``, de même forme, sur le même appareil."""
    check_pair("student_logits", student_logits, "teacher_logits", teacher_logits)


def check_labels(labels, logits: Tensor, logits_name: str = "student_logits") -> None:
    """Étiquettes : entiers 64 bits, une par ligne de logits, sur le même appareil."""
    if not isinstance(labels, Tensor):
        raise TypeError(f"labels : {type(labels).__name__} reçu, un tenseur int64 de forme (B,) attendu.")
    if labels.dtype != torch.int64:
        raise TypeError(f"labels : dtype {labels.dtype} reçu, torch.int64 attendu ; convertissez par .long().")
    if labels.shape != logits.shape[:1]:
        raise ValueError(
            f"labels : forme {shape_of(labels)} reçue, ({logits.shape[0]},) attendue, "
            f"une étiquette par ligne de {logits_name}."
        )
    check_same_device("labels", labels, logits_name, logits)


def check_label_values(labels: Tensor, classes: int) -> None:
    """Chaque étiquette est le numéro d'une classe, de 0 à C - 1."""
    low, high = labels.min().item(), labels.max().item()
    if low < 0 or high >= classes:
        wrong = low if low < 0 else high
        raise ValueError(f"labels : valeur {wrong} reçue, de 0 à {classes - 1} attendu, un numéro de classe.")


def check_finite(name: str, tensor: Tensor) -> None:
    """Refuse NaN et infini, et dit combien il y en a."""
    wrong = (~torch.isfinite(tensor)).sum().item()
    if wrong:
        raise ValueError(
            f"{name} : {wrong} valeur(s) NaN ou infinie(s) reçue(s) sur {tensor.numel()}, des nombres finis attendus."
        )


def check_module(name: str, module) -> None:
    """Refuse ce qui n'est pas un ``nn.Module`` : une classe au lieu d'un modèle, par exemple."""
    if not isinstance(module, torch.nn.Module):
        raise TypeError(f"{name} : {type(module).__name__} reçu, un modèle (torch.nn.Module) attendu.")


def check_pair(reference_name: str, reference: Tensor, name: str, tensor: Tensor) -> None:
    """Deux tenseurs flottants ``(B, C)``, le second de la forme et sur l'appareil du premier."""
    check_floating(reference_name, reference, (2,), "(B, C)")
    check_floating(name, tensor, (2,), "(B, C)")
    check_same_shape(name, tensor, reference_name, reference)


def check_feature_pair(
    student, teacher, dims: tuple[int, ...], expected_shape: str, names: tuple[str, str] = ("student", "teacher")
) -> None:
    """Features du student et du teacher : flottantes, autant de dimensions, même lot, même appareil."""
    student_name, teacher_name = names
    check_floating(student_name, student, dims, expected_shape)
    check_floating(teacher_name, teacher, dims, expected_shape)
    if teacher.shape[0] != student.shape[0]:
        raise ValueError(
            f"{teacher_name} : forme {shape_of(teacher)} reçue, un lot de {student.shape[0]} attendu, "
            f"comme {student_name}, de forme {shape_of(student)}."
        )
    check_same_device(teacher_name, teacher, student_name, student)


def check_levels(student_features, teacher_features, dims: tuple[int, ...], expected_shape: str) -> None:
    """Deux listes non vides, de même longueur, de features de même rang niveau par niveau."""
    levels = {"student_features": student_features, "teacher_features": teacher_features}
    for name, features in levels.items():
        if not isinstance(features, list | tuple):
            raise TypeError(
                f"{name} : {type(features).__name__} reçu, une liste de tenseurs attendue, un par couche ; "
                "pour une seule couche, écrivez [features]."
            )
    if not student_features or len(student_features) != len(teacher_features):
        raise ValueError(
            f"student_features, teacher_features : {len(student_features)} et {len(teacher_features)} couches reçues, "
            "deux listes non vides de même longueur attendues."
        )
    for level, (student, teacher) in enumerate(zip(student_features, teacher_features, strict=True)):
        names = f"student_features[{level}]", f"teacher_features[{level}]"
        check_feature_pair(student, teacher, dims, expected_shape, names)
        if student.dim() != teacher.dim():
            raise ValueError(
                f"{names[1]} : forme {shape_of(teacher)} reçue, {student.dim()} dimensions attendues, "
                f"comme {names[0]}, de forme {shape_of(student)}."
            )


def label_loss(logits, labels, logits_name: str) -> Tensor:
    """Entropie croisée des logits ``(B, C)`` avec les étiquettes ``(B,)``, une fois formes et valeurs vérifiées."""
    check_floating(logits_name, logits, (2,), "(B, C)")
    check_labels(labels, logits, logits_name)
    check_label_values(labels, logits.shape[-1])
    check_finite(logits_name, logits)
    return F.cross_entropy(at_least_float32(logits), labels)


def hard_loss(student_logits, labels, features: Tensor, features_name: str) -> Tensor:
    """Entropie croisée des modules sans ``teacher_logits``, après vérification des formes et des valeurs."""
    check_floating("student_logits", student_logits, (2,), "(B, C)")
    if student_logits.shape[0] != features.shape[0]:
        raise ValueError(
            f"student_logits : forme {shape_of(student_logits)} reçue, un lot de {features.shape[0]} attendu, "
            f"comme {features_name}, de forme {shape_of(features)}."
        )
    check_same_device("student_logits", student_logits, features_name, features)
    return label_loss(student_logits, labels, "student_logits")
