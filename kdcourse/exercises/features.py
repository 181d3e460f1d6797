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


def _per_map(maps: Tensor, divisor) -> Tensor:
    """Chaque carte divisée par ce que ``divisor`` tire de ses pixels, ``(B, H·W)`` vers ``(B, 1)``."""
    flat = maps.flatten(1)
    return (flat / divisor(flat)).view_as(maps)


def _total(flat: Tensor) -> Tensor:
    return flat.sum(dim=1, keepdim=True)


def _min_max(maps: Tensor) -> Tensor:
    return _per_map(maps - maps.amin(dim=(2, 3), keepdim=True), lambda flat: flat.amax(dim=1, keepdim=True))


def _standardised(maps: Tensor) -> Tensor:
    return _per_map(maps - maps.mean(dim=(2, 3), keepdim=True), lambda flat: flat.std(dim=1, keepdim=True))


def _pool(maps: Tensor, like: Tensor) -> Tensor:
    return F.adaptive_avg_pool2d(maps, like.shape[2:])


def _gap(student: Tensor, teacher: Tensor, unit=_unit, energy=_energy, loss=F.mse_loss, pool=_pool) -> Tensor:
    student, teacher = energy(student), energy(teacher)
    return loss(unit(student), unit(pool(teacher, student)))


def _resized(mode: str):
    return lambda maps, like: F.interpolate(maps, size=like.shape[2:], mode=mode)


def _sum_per_example(student: Tensor, teacher: Tensor) -> Tensor:
    return attention_loss(student, teacher) * student[0, 0].numel()


def _mean_distance(student: Tensor, teacher: Tensor) -> Tensor:
    student, teacher = _energy(student), _energy(teacher)
    return (_unit(student) - _unit(_pool(teacher, student))).flatten(1).norm(dim=1).mean()


def _to_teacher_size(student: Tensor, teacher: Tensor, mode: str = "bilinear") -> Tensor:
    student, teacher = _energy(student), _energy(teacher)
    return F.mse_loss(_unit(_resized(mode)(student, teacher)), _unit(teacher))


def _adapt(student: Tensor, weight: Tensor) -> Tensor:
    return torch.einsum("oc,bchw->bohw", weight, student)


def _weight_gradient(student, teacher, weight, loss=F.mse_loss, after=lambda maps: maps) -> Tensor:
    with torch.enable_grad():
        weight = weight.detach().clone().requires_grad_()
        return torch.autograd.grad(loss(after(_adapt(student.detach(), weight)), teacher), weight)[0]


def _step(student, teacher, weight, rate, scale=1.0, **options) -> Tensor:
    return weight - rate * scale * _weight_gradient(student, teacher, weight, **options)


def _mixed_step(student, teacher, weight, rate) -> Tensor:
    pixels, wanted = (maps.reshape(maps.shape[1], -1) for maps in (student, teacher))
    return weight - rate * 2 * (weight @ pixels - wanted) @ pixels.T / teacher.numel()


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
            "Le carré est pris deux fois, avant et après la moyenne : une fois suffit.":
                lambda f: _unit(_energy(f).square()),
            "Vous gardez le plus grand des canaux, sans le carré : la carte est la moyenne des carrés.":
                lambda f: _unit(f.abs().amax(dim=1, keepdim=True)),
            "C'est la variance des canaux : la carte est la moyenne de leurs carrés, sans rien retrancher.":
                lambda f: _unit(f.var(dim=1, keepdim=True)),
            "C'est l'écart-type des canaux : la carte est la moyenne de leurs carrés, sans rien retrancher.":
                lambda f: _unit(f.std(dim=1, keepdim=True)),
            "Une activation négative y compte pour rien : le carré la compte aussi.":
                lambda f: _unit(_energy(f.relu())),
            "Un seul canal y entre, le premier : la carte est leur moyenne à tous.":
                lambda f: _unit(f[:, :1].square()),
            "Il manque la normalisation : la norme L2 de chaque carte doit valoir 1.": _energy,
            "Il manque la normalisation, et les canaux sont sommés : la norme L2 de chaque carte doit valoir 1.":
                lambda f: f.square().sum(dim=1, keepdim=True),
            "Il manque une racine : la norme L2 est celle de la somme des carrés.":
                lambda f: _per_map(_energy(f), lambda flat: _total(flat.square())),
            "La carte est divisée par la racine de sa somme : la norme L2 élève encore la carte au carré.":
                lambda f: _per_map(_energy(f), lambda flat: _total(flat).sqrt()),
            "La carte est divisée par sa moyenne : c'est sa norme L2 qui doit valoir 1.":
                lambda f: _per_map(_energy(f), lambda flat: flat.mean(dim=1, keepdim=True)),
            "La carte est divisée par sa moyenne quadratique : la norme L2 somme les carrés des pixels.":
                lambda f: _per_map(_energy(f), lambda flat: flat.square().mean(dim=1, keepdim=True).sqrt()),
            "La carte est ramenée entre 0 et 1 : c'est sa norme L2 qui doit valoir 1.": lambda f: _min_max(_energy(f)),
            "La carte est centrée et réduite : divisez-la par sa norme L2, sans rien retrancher.":
                lambda f: _standardised(_energy(f)),
            "Chaque pixel est normalisé parmi ses canaux, avant le carré : la carte est alors uniforme.":
                lambda f: _unit(_energy(F.normalize(f, dim=1))),
            "Les features sont normalisées toutes ensemble, avant le carré : la carte n'est plus de norme 1.":
                lambda f: _energy(F.normalize(f.flatten(1), dim=1).view_as(f)),
            "Chaque pixel est normalisé le long du lot : chaque exemple doit avoir sa norme.":
                lambda f: F.normalize(_energy(f), dim=0),
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
            "La carte du teacher est normalisée, puis interpolée : elle n'est plus de norme 1. Quel ordre, et quelle "
            "réduction ?": lambda s, t: F.mse_loss(_unit(_energy(s)), _resized("bilinear")(_unit(_energy(t)), s)),
            "Vous réduisez les features du teacher, puis les élevez au carré : est-ce la moyenne des carrés ?":
                lambda s, t: _gap(s, _pool(t, s)),
            "Une interpolation bilinéaire ne lit que quatre pixels, oublie les autres : prenez la moyenne.":
                lambda s, t: _gap(s, t, pool=_resized("bilinear")),
            "Une interpolation bicubique ne lit que seize pixels, oublie les autres : prenez la moyenne.":
                lambda s, t: _gap(s, t, pool=_resized("bicubic")),
            "Le plus proche voisin ne lit qu'un pixel sur plusieurs : prenez la moyenne.":
                lambda s, t: _gap(s, t, pool=_resized("nearest")),
            "Vous gardez le plus grand des pixels : prenez la moyenne, adaptive_avg_pool2d.":
                lambda s, t: _gap(s, t, pool=lambda maps, like: F.adaptive_max_pool2d(maps, like.shape[2:])),
            "C'est le student que vous agrandissez : ramenez le teacher à la taille du student.": _to_teacher_size,
            "C'est le student que vous agrandissez, au plus proche voisin : ramenez le teacher à sa taille.":
                lambda s, t: _to_teacher_size(s, t, "nearest"),
            "Il manque la normalisation : sans elle, les échelles des deux réseaux se comparent, non leurs cartes.":
                lambda s, t: _gap(s, t, unit=lambda maps: maps),
            "Seule la carte du student est normalisée : celle du teacher aussi doit être de norme 1.":
                lambda s, t: F.mse_loss(_unit(_energy(s)), _pool(_energy(t), s)),
            "Seule la carte du teacher est normalisée : celle du student aussi doit être de norme 1.":
                lambda s, t: F.mse_loss(_energy(s), _unit(_pool(_energy(t), s))),
            "Les cartes sont divisées par leur somme : c'est leur norme L2 qui doit valoir 1.":
                lambda s, t: _gap(s, t, unit=lambda maps: _unit(maps, 1.0)),
            "Les cartes sont divisées par leur maximum : c'est leur norme L2 qui doit valoir 1.":
                lambda s, t: _gap(s, t, unit=lambda maps: _unit(maps, float("inf"))),
            "Les cartes passent par un softmax : c'est leur norme L2 qui doit valoir 1.":
                lambda s, t: _gap(s, t, unit=lambda maps: maps.flatten(1).softmax(dim=1).view_as(maps)),
            "La norme est prise le long du seul canal qui reste : chaque pixel vaut 1, et la perte 0.":
                lambda s, t: torch.zeros(()),
            "La norme est prise ligne par ligne : aplatissez d'abord la carte, H·W pixels ensemble.":
                lambda s, t: _gap(s, t, unit=lambda maps: F.normalize(maps, dim=-1)),
            "La norme est prise colonne par colonne : aplatissez d'abord la carte, H·W pixels ensemble.":
                lambda s, t: _gap(s, t, unit=lambda maps: F.normalize(maps, dim=-2)),
            "La norme est prise sur tout le lot : chaque exemple doit avoir la sienne.":
                lambda s, t: _gap(s, t, unit=_unit_over_batch),
            "La norme est prise le long du lot, pixel par pixel : chaque exemple doit avoir la sienne.":
                lambda s, t: _gap(s, t, unit=lambda maps: F.normalize(maps, dim=0)),
            "Les features ne sont pas élevées au carré avant la moyenne sur les canaux.":
                lambda s, t: _gap(s, t, energy=lambda maps: maps.mean(dim=1, keepdim=True)),
            "C'est la moyenne des valeurs absolues : la carte demande celle des carrés.":
                lambda s, t: _gap(s, t, energy=lambda maps: maps.abs().mean(dim=1, keepdim=True)),
            "Le carré est pris après la moyenne : les canaux de signes opposés se sont déjà annulés.":
                lambda s, t: _gap(s, t, energy=lambda maps: maps.mean(dim=1, keepdim=True).square()),
            "Il y a une racine de trop : la carte est la moyenne des carrés, non sa racine.":
                lambda s, t: _gap(s, t, energy=lambda maps: _energy(maps).sqrt()),
            "Vous gardez le plus grand des canaux : la carte en fait la moyenne.":
                lambda s, t: _gap(s, t, energy=lambda maps: maps.square().amax(dim=1, keepdim=True)),
            "C'est une somme sur tout : prenez la moyenne, sur les exemples et sur les pixels.":
                lambda s, t: _sum_per_example(s, t) * len(s),
            "Les pixels sont sommés, seuls les exemples sont moyennés : la moyenne porte sur B·H·W.": _sum_per_example,
            "Les exemples sont sommés, seuls les pixels sont moyennés : la moyenne porte sur B·H·W.":
                lambda s, t: attention_loss(s, t) * len(s),
            "C'est la racine de la moyenne : il faut la moyenne des écarts au carré.":
                lambda s, t: attention_loss(s, t).sqrt(),
            "C'est la norme de tous les écarts : il faut la moyenne de leurs carrés.":
                lambda s, t: (_sum_per_example(s, t) * len(s)).sqrt(),
            "C'est l'écart absolu : il faut l'écart au carré.": lambda s, t: _gap(s, t, loss=F.l1_loss),
            "Il y a une moitié de trop : smooth_l1 et huber en mettent une devant le carré.":
                lambda s, t: attention_loss(s, t) / 2,
            "C'est 1 - le cosinus des deux cartes, ou la moitié d'une somme sur les pixels : prenez la moyenne des "
            "écarts au carré.": lambda s, t: _sum_per_example(s, t) / 2,
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
            "Vous rendez le déplacement : on attend les poids après le pas.":
                lambda s, t, w, rate: -rate * _weight_gradient(s, t, w),
            "Vous rendez le gradient fois le pas : on attend les poids après le pas.":
                lambda s, t, w, rate: rate * _weight_gradient(s, t, w),
            "Vous n'en gardez que le signe, comme Adam à son premier pas : on demande une descente de gradient.":
                lambda s, t, w, rate: w - rate * _weight_gradient(s, t, w).sign(),
            "Le pas est fait deux fois : un seul est demandé.":
                lambda s, t, w, rate: _step(s, t, _step(s, t, w, rate), rate),
            "Le gradient est compté deux fois : un backward de trop, ou 2 déjà dans la dérivée du carré ?":
                lambda s, t, w, rate: _step(s, t, w, rate, scale=2.0),
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
            "La moyenne ne porte que sur les pixels : elle doit porter sur tous les éléments.":
                lambda s, t, w, rate: _step(s, t, w, rate, scale=t.shape[0] * t.shape[1]),
            "Les canaux sont sommés : la moyenne doit porter sur tous les éléments.":
                lambda s, t, w, rate: _step(s, t, w, rate, scale=t.shape[1]),
            "Les exemples sont sommés : la moyenne doit porter sur tous les éléments.":
                lambda s, t, w, rate: _step(s, t, w, rate, scale=len(t)),
            "C'est la racine de l'écart moyen : le hint prend la moyenne des écarts au carré.":
                lambda s, t, w, rate: _step(s, t, w, rate, loss=lambda *maps: F.mse_loss(*maps).sqrt()),
            "C'est la norme de l'écart : le hint prend la moyenne des écarts au carré.":
                lambda s, t, w, rate: _step(s, t, w, rate, loss=lambda a, b: (a - b).norm()),
            "reshape mêle les exemples et les canaux : le lot est devant, transposez-le d'abord.": _mixed_step,
            "smooth_l1 n'est carrée que près de 0 : le hint prend l'écart au carré.":
                lambda s, t, w, rate: _step(s, t, w, rate, loss=F.smooth_l1_loss),
            "Ce sont les cartes d'attention que vous comparez : le hint compare les features elles-mêmes.":
                lambda s, t, w, rate: _step(s, t, w, rate, loss=attention_loss),
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
