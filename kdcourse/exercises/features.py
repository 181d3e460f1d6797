"""Les exercices de 10.3."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.exercises.exercise import Exercise, Prediction
from kdcourse.losses.features import attention_loss, attention_map


def _maps(*shapes: tuple[int, ...]) -> tuple[Tensor, ...]:
    generator = torch.Generator().manual_seed(103)
    return tuple(torch.randn(shape, generator=generator) for shape in shapes)


_A, _B = _maps((3, 4, 5, 2), (2, 7, 3, 6))
# Ni moitié ni double : à ces rapports-là, une interpolation bilinéaire donnerait la même carte que la moyenne.
_PAIRS = (_maps((3, 4, 3, 3), (3, 6, 9, 9)), _maps((2, 5, 4, 4), (2, 3, 10, 10)))
_STEPS = ((*_maps((3, 2, 4, 4), (3, 5, 4, 4), (5, 2)), 0.3), (*_maps((2, 3, 2, 5), (2, 4, 2, 5), (4, 3)), 0.1))


def _energy(features: Tensor) -> Tensor:
    return features.square().mean(dim=1, keepdim=True)


def _unit(maps: Tensor, order: float = 2.0) -> Tensor:
    return F.normalize(maps.flatten(1), p=order, dim=1).view_as(maps)


def _unit_over_batch(maps: Tensor) -> Tensor:
    return maps / maps.norm()


def _pool(maps: Tensor, like: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(maps, like.shape[2:])


def _gap(student: Tensor, teacher: Tensor, unit=_unit, energy=_energy) -> Tensor:
    student, teacher = energy(student), energy(teacher)
    return F.mse_loss(unit(student), unit(_pool(teacher, student)))


def _sum_per_example(student: Tensor, teacher: Tensor) -> Tensor:
    return attention_loss(student, teacher) * student[0, 0].numel()


def _mean_distance(student: Tensor, teacher: Tensor) -> Tensor:
    student, teacher = _energy(student), _energy(teacher)
    return (_unit(student) - _unit(_pool(teacher, student))).flatten(1).norm(dim=1).mean()


def _bilinear(student: Tensor, teacher: Tensor) -> Tensor:
    student, teacher = _energy(student), _energy(teacher)
    teacher = F.interpolate(teacher, size=student.shape[2:], mode="bilinear")
    return F.mse_loss(_unit(student), _unit(teacher))


def _to_teacher_size(student: Tensor, teacher: Tensor) -> Tensor:
    student, teacher = _energy(student), _energy(teacher)
    student = F.interpolate(student, size=teacher.shape[2:], mode="bilinear")
    return F.mse_loss(_unit(student), _unit(teacher))


def _adapt(student: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("oc,bchw->bohw", weight, student)


def _weight_gradient(student, teacher, weight, loss=F.mse_loss, after=lambda maps: maps) -> Tensor:
    with torch.enable_grad():
        weight = weight.detach().clone().requires_grad_()
        return torch.autograd.grad(loss(after(_adapt(student.detach(), weight)), teacher), weight)[0]


def _step(student, teacher, weight, rate, scale=1.0, **options) -> Tensor:
    return weight - rate * scale * _weight_gradient(student, teacher, weight, **options)


EXERCISES = {
    "10.3 a": Exercise(
        cases=((_A,), (_B,)),
        reference=attention_map,
        mistakes={
            "Les features ne sont pas élevées au carré : une activation négative compte pour rien, ou pire.":
                lambda f: _unit(f.mean(dim=1, keepdim=True)),
            "C'est la moyenne des valeurs absolues : la carte demande celle des carrés.":
                lambda f: _unit(f.abs().mean(dim=1, keepdim=True)),
            "Le carré est pris après la moyenne : les canaux de signes opposés se sont déjà annulés.":
                lambda f: _unit(f.mean(dim=1, keepdim=True).square()),
            "Il y a une racine de trop : la carte est la moyenne des carrés, non sa racine.":
                lambda f: _unit(_energy(f).sqrt()),
            "Vous gardez le plus grand des canaux : la carte en fait la moyenne.":
                lambda f: _unit(f.square().amax(dim=1, keepdim=True)),
            "Il manque la normalisation : la norme L2 de chaque carte doit valoir 1.": _energy,
            "La carte est divisée par sa somme : c'est sa norme L2 qui doit valoir 1.":
                lambda f: _unit(_energy(f), 1.0),
            "La carte est divisée par son maximum : c'est sa norme L2 qui doit valoir 1.":
                lambda f: _unit(_energy(f), float("inf")),
            "Un softmax n'est pas une norme : divisez par la norme L2.":
                lambda f: _energy(f).flatten(1).softmax(dim=1).view_as(_energy(f)),
            "La norme est prise sur tout le lot : chaque exemple doit avoir la sienne.":
                lambda f: _unit_over_batch(_energy(f)),
            "La norme est prise le long du seul canal qui reste : chaque pixel vaut alors 1.":
                lambda f: F.normalize(_energy(f), dim=1),
            "La norme est prise ligne par ligne : aplatissez d'abord la carte, H·W pixels ensemble.":
                lambda f: F.normalize(_energy(f), dim=-1),
            "La norme est prise colonne par colonne : aplatissez d'abord la carte, H·W pixels ensemble.":
                lambda f: F.normalize(_energy(f), dim=-2),
            "Chaque canal est normalisé avant la moyenne : les canaux éteints comptent autant que les autres.":
                lambda f: F.normalize(f.square().flatten(2), dim=2).view_as(f).mean(dim=1, keepdim=True),
        },
    ),
    "10.3 b": Exercise(
        cases=_PAIRS,
        reference=attention_loss,
        mistakes={
            "La carte du teacher est normalisée, puis réduite : réduite, elle n'est plus de norme 1. Quel ordre ?":
                lambda s, t: F.mse_loss(_unit(_energy(s)), _pool(_unit(_energy(t)), s)),
            "Vous réduisez les features du teacher, puis les élevez au carré : leurs signes se sont déjà annulés.":
                lambda s, t: _gap(s, _pool(t, s)),
            "Une interpolation bilinéaire ne lit que quatre pixels, oublie les autres : prenez la moyenne.": _bilinear,
            "C'est le student que vous agrandissez : ramenez le teacher à la taille du student.": _to_teacher_size,
            "Il manque la normalisation : sans elle, les échelles des deux réseaux se comparent, non leurs cartes.":
                lambda s, t: _gap(s, t, unit=lambda maps: maps),
            "La norme est prise sur tout le lot : chaque exemple doit avoir la sienne.":
                lambda s, t: _gap(s, t, unit=_unit_over_batch),
            "Les features ne sont pas élevées au carré avant la moyenne sur les canaux.":
                lambda s, t: _gap(s, t, energy=lambda maps: maps.mean(dim=1, keepdim=True)),
            "C'est une somme sur tout : prenez la moyenne, sur les exemples et sur les pixels.":
                lambda s, t: _sum_per_example(s, t) * len(s),
            "Les pixels sont sommés, seuls les exemples sont moyennés : la moyenne porte sur B·H·W.": _sum_per_example,
            "C'est la distance moyenne : il faut la moyenne des écarts au carré.": _mean_distance,
            "Le facteur β = 1000 n'appartient pas à cette fonction : il se met devant elle.":
                lambda s, t: 1000 * attention_loss(s, t),
        },
    ),
    "10.3 c": Exercise(
        differentiable=False,
        cases=_STEPS,
        reference=_step,
        mistakes={
            "L'adaptateur n'a pas bougé : c'est celui que l'optimiseur ne reçoit jamais.":
                lambda s, t, w, rate: (w.clone()),
            "Vous rendez le gradient : on attend les poids après le pas.":
                lambda s, t, w, rate: _weight_gradient(s, t, w),
            "Le pas remonte la pente : la perte augmente. Regardez le signe.":
                lambda s, t, w, rate: _step(s, t, w, -rate),
            "Le pas d'apprentissage n'apparaît pas.": lambda s, t, w, rate: _step(s, t, w, 1.0),
            "Il manque le facteur 2 de la dérivée du carré.": lambda s, t, w, rate: _step(s, t, w, rate, scale=0.5),
            "Le facteur 10 du chapitre n'est pas demandé : ici, le poids du hint est 1.":
                lambda s, t, w, rate: _step(s, t, w, rate, scale=10.0),
            "La perte est une somme : celle du hint est une moyenne sur tous les éléments.":
                lambda s, t, w, rate: _step(s, t, w, rate, scale=t.numel()),
            "La moyenne ne porte que sur les exemples : elle doit porter sur tous les éléments.":
                lambda s, t, w, rate: _step(s, t, w, rate, scale=t.numel() / len(t)),
            "C'est l'écart absolu : le hint prend l'écart au carré.":
                lambda s, t, w, rate: _step(s, t, w, rate, loss=F.l1_loss),
            "Une ReLU suit l'adaptateur : la convolution 1×1 est seule.":
                lambda s, t, w, rate: _step(s, t, w, rate, after=torch.relu),
        },
    ),
}  # fmt: skip

PREDICTIONS = {
    "10.3 d": Prediction(
        expected=-12.8,
        mistakes={
            "Chaque image a encore ses propres cartes : décalez le long des exemples, dims=0.": 10.9,
            "Sans dims=0, roll décale les nombres d'un rang : presque toutes les cartes restent à leur place.": 4.0,
            "C'est l'attention, ou le hint à l'étage 1 : gardez adapted(2) et hint(2).": -3.2,
            "Ce sont les logits d'une autre image qui guident : gardez le hint.": -33.6,
        },
        tolerance=2.5,
        lesson="Une carte n'aide que si elle est celle de cette image : celle d'une autre égare le student.",
    ),
}
