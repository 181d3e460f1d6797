"""Les exercices de 10.6."""

import torch
from torch import Tensor

from kdcourse.exercises.exercise import Exercise


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _svd(matrix: Tensor, rank: int, power: float = 1.0, kept=None) -> Tensor:
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    kept = slice(0, rank) if kept is None else kept
    return (u[:, kept] * s[kept] ** power) @ vh[kept]


def _svd_untransposed(matrix: Tensor, rank: int) -> Tensor:
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vh.T[:rank]


def _cores(seed: int, sizes: tuple[int, int, int], ranks: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    (n1, n2, n3), (r1, r2) = sizes, ranks
    return _random(seed, 1, n1, r1), _random(seed + 1, r1, n2, r2), _random(seed + 2, r2, n3, 1)


def _rebuild(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    return torch.einsum("aib,bjc,ckd->ijk", first, second, third)


def _quantize(weight: Tensor, levels: int = 127, scale: Tensor | None = None, rounding=torch.round) -> Tensor:
    scale = weight.abs().max() / levels if scale is None else scale
    return rounding(weight / scale).clamp(-levels, levels) * scale


# Le plus grand coefficient en valeur absolue y est négatif : oublier abs se voit. Divisé par 127, il donne une
# puissance de deux : il tombe sur -127 exactement, de quelque façon qu'on écrive la division.
_WEIGHT, _OTHER = _random(64, 5, 7), 3 * _random(65, 4, 4)
_WEIGHT[2, 3], _OTHER[1, 1] = -127 / 32, -127 / 8
_SAME_RANK = _cores(66, (3, 4, 5), (3, 3))

EXERCISES = {
    "10.6 a": Exercise(
        differentiable=False,
        # Une matrice carrée : une transposée de trop ne plante pas, et doit être reconnue.
        cases=((_random(61, 6, 6), 2), (_random(62, 5, 5), 3)),
        reference=_svd,
        mistakes={
            "Les valeurs singulières manquent : U et V seuls ne gardent que les directions.":
                lambda w, r: _svd(w, r, power=0.0),
            "Les valeurs singulières entrent deux fois : une seule des deux matrices les porte.":
                lambda w, r: _svd(w, r, power=2.0),
            "Seule la racine des valeurs singulières entre : l'autre moitié manque.":
                lambda w, r: _svd(w, r, power=0.5),
            "torch.linalg.svd rend déjà V transposée : elle l'est ici une fois de trop.": _svd_untransposed,
            "Ce sont les plus petites valeurs singulières : elles sont rangées par ordre décroissant.":
                lambda w, r: _svd(w, r, kept=slice(-r, None)),
            "Rien n'est tronqué : c'est la matrice de départ.": lambda w, r: w,
            "Il y a un rang de trop.": lambda w, r: _svd(w, r + 1),
            "Il manque un rang.": lambda w, r: _svd(w, r - 1),
            "C'est ce que la troncature jette : le résidu, non l'approximation.": lambda w, r: w - _svd(w, r),
        },
    ),
    "10.6 b": Exercise(
        differentiable=False,
        # Deux rangs égaux, pour que les erreurs de contraction ne plantent pas, puis deux rangs différents.
        cases=(_SAME_RANK, _cores(69, (2, 3, 4), (2, 2))),
        reference=_rebuild,
        mistakes={
            "Les rangs ne sont pas sommés : seul le premier chemin est gardé.":
                lambda a, b, c: torch.einsum("i,j,k->ijk", a[0, :, 0], b[0, :, 0], c[0, :, 0]),
            "Chaque cœur est sommé à part : les rangs voisins doivent se répondre, comme dans un produit matriciel.":
                lambda a, b, c: torch.einsum("aib,ejc,fkd->ijk", a, b, c),
            "Les deux rangs sont liés par le même indice : chacun a sa somme.":
                lambda a, b, c: torch.einsum("aib,bjb,bkd->ijk", a, b, c),
            "Le cœur du milieu est transposé : son premier rang touche le premier cœur.":
                lambda a, b, c: torch.einsum("aib,cjb,ckd->ijk", a, b, c),
            "C'est une moyenne sur les rangs : il en faut la somme.":
                lambda a, b, c: _rebuild(a, b, c) / (b.shape[0] * b.shape[2]),
        },
    ),
    "10.6 c": Exercise(
        differentiable=False,
        cases=((_WEIGHT,), (_OTHER,)),
        reference=_quantize,
        mistakes={
            "Le maximum se prend sur la valeur absolue : ici le plus grand coefficient est négatif, il est écrêté.":
                lambda w: _quantize(w, scale=w.max() / 127),
            "Le maximum se prend sur la valeur absolue : ici des codes passent sous -127, hors de l'octet.":
                lambda w: (w / (w.max() / 127)).round() * (w.max() / 127),
            "L'échelle va de -127 à 127 : diviser par 255 déborde de l'octet, et la moitié des valeurs est écrêtée.":
                lambda w: _quantize(w, scale=w.abs().max() / 255),
            "255 niveaux de chaque côté : cela ne tient pas dans un octet signé.": lambda w: _quantize(w, levels=255),
            "-128 n'a pas d'opposé dans un octet signé : l'échelle symétrique s'arrête à 127.":
                lambda w: _quantize(w, levels=128),
            "C'est une troncature vers zéro : l'arrondi au plus proche fait une erreur deux fois plus petite.":
                lambda w: _quantize(w, rounding=torch.trunc),
            "C'est un arrondi vers le bas : il décale tous les poids.": lambda w: _quantize(w, rounding=torch.floor),
            "Ce sont les entiers : multipliez-les par l'échelle pour revenir aux poids.":
                lambda w: _quantize(w) / (w.abs().max() / 127),
            "Les poids sont ramenés à [-1, 1] : il faut leur rendre leur échelle.":
                lambda w: _quantize(w) / w.abs().max(),
            "Une échelle par ligne fait mieux, mais on demande ici une seule échelle pour la matrice.":
                lambda w: _quantize(w, scale=w.abs().amax(dim=1, keepdim=True) / 127),
            "Rien n'est arrondi : les poids sont restés flottants.": lambda w: w,
        },
    ),
}  # fmt: skip
