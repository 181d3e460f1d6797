"""Les exercices de 10.4."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.exercises.exercise import Exercise
from kdcourse.losses.relations import cosine_relations, rkd_distance_loss, similarity_preserving_loss


def _features(seed: int, *shape: int) -> Tensor:
    # Ni centrées ni de même norme : chaque oubli change la valeur.
    generator = torch.Generator().manual_seed(seed)
    return 0.7 + torch.randn(*shape, generator=generator) * (0.5 + torch.arange(shape[0])[:, None] / 2)


# B, D et D' tous différents : une dimension prise pour une autre change la forme ou la valeur.
_PAIRS = ((_features(41, 6, 5), _features(42, 6, 9)), (_features(43, 7, 4), _features(44, 7, 3)))


def _distances(f: Tensor) -> Tensor:
    return torch.linalg.vector_norm(f[:, None] - f[None], dim=-1)


def _off_diagonal_mean(d: Tensor) -> Tensor:
    return d.sum() / (len(d) * (len(d) - 1))


def _rkd(s: Tensor, t: Tensor, distances=_distances, mean=_off_diagonal_mean, loss=F.smooth_l1_loss) -> Tensor:
    student, teacher = distances(s), distances(t)
    return loss(student / mean(student), teacher / mean(teacher))


def _same_mean(s: Tensor, t: Tensor) -> Tensor:
    return F.smooth_l1_loss(
        _distances(s) / _off_diagonal_mean(_distances(t)), _distances(t) / _off_diagonal_mean(_distances(t))
    )


def _pairs_only(s: Tensor, t: Tensor) -> Tensor:
    return rkd_distance_loss(s, t) * len(s) / (len(s) - 1)


def _gram(f: Tensor) -> Tensor:
    return f @ f.T


def _sp(s: Tensor, t: Tensor, norm=lambda g: F.normalize(g, dim=1)) -> Tensor:
    return (norm(_gram(s)) - norm(_gram(t))).square().mean()


EXERCISES = {
    "10.4 a": Exercise(
        cases=tuple((f,) for pair in _PAIRS for f in pair),
        reference=cosine_relations,
        mistakes={
            "Les lignes ne sont pas normalisées : ce sont des produits scalaires, pas des cosinus.": _gram,
            "Vous normalisez les colonnes : c'est chaque exemple, donc chaque ligne, qui doit avoir une norme de 1.":
                lambda f: _gram(F.normalize(f, dim=0)),
            "Vous divisez par la norme de tout le lot : chaque ligne a la sienne.": lambda f: _gram(f / f.norm()),
            "Vous divisez par le carré de la norme : il manque une racine.":
                lambda f: _gram(f / f.square().sum(1, keepdim=True)),
            "La norme est la somme des valeurs absolues (L1) : un cosinus demande la norme L2.":
                lambda f: _gram(F.normalize(f, p=1, dim=1)),
            "Vous normalisez après le produit, et non avant : c'est la matrice de SP, pas celle des cosinus.":
                lambda f: F.normalize(_gram(f), dim=1),
            "Un softmax est de trop : un cosinus se lit tel quel.":
                lambda f: torch.softmax(cosine_relations(f), dim=-1),
            "Ce sont des distances euclidiennes : on attend les cosinus des angles.": _distances,
            "Ce sont des distances (1 − cosinus) : on attend les ressemblances.": lambda f: 1 - cosine_relations(f),
        },
    ),
    "10.4 b": Exercise(
        cases=_PAIRS,
        reference=rkd_distance_loss,
        mistakes={
            "La moyenne compte les zéros de la diagonale : un exemple est toujours à distance 0 de lui-même.":
                lambda s, t: _rkd(s, t, mean=torch.mean),
            "Les deux côtés sont divisés par la même moyenne, celle du teacher : chacun a la sienne.": _same_mean,
            "Les distances ne sont pas rapportées à leur moyenne : l'échelle du teacher compte encore.":
                lambda s, t: _rkd(s, t, mean=lambda d: 1),
            "Les distances sont rapportées à la plus grande : la définition les rapporte à leur moyenne.":
                lambda s, t: _rkd(s, t, mean=torch.max),
            "Ce sont les carrés des distances : il manque la racine.":
                lambda s, t: _rkd(s, t, distances=lambda f: _distances(f).square()),
            "L'écart est quadratique (MSE) : l'article prend smooth-L1.": lambda s, t: _rkd(s, t, loss=F.mse_loss),
            "L'écart est en valeur absolue : smooth-L1 est quadratique près de zéro.":
                lambda s, t: _rkd(s, t, loss=F.l1_loss),
            "C'est une somme : il en faut la moyenne sur les B² paires.":
                lambda s, t: rkd_distance_loss(s, t) * len(s) ** 2,
            "Vous divisez par B : il y a B² paires.": lambda s, t: rkd_distance_loss(s, t) * len(s),
            "La moyenne finale oublie la diagonale : la définition du cours la compte, B² termes en tout.": _pairs_only,
            "Ces distances sont L1 (sommes de valeurs absolues) : il faut la distance euclidienne.":
                lambda s, t: _rkd(s, t, distances=lambda f: (f[:, None] - f[None]).abs().sum(-1)),
            "Ce sont des cosinus : RKD compare des distances.":
                lambda s, t: F.smooth_l1_loss(cosine_relations(s), cosine_relations(t)),
        },
    ),
    "10.4 c": Exercise(
        cases=_PAIRS,
        reference=similarity_preserving_loss,
        mistakes={
            "Vous normalisez avant le produit : ce sont les cosinus. SP normalise les lignes de la matrice de Gram.":
                lambda s, t: F.mse_loss(cosine_relations(s), cosine_relations(t)),
            "Les lignes sont normalisées en L1 : c'est le bug de la collègue, la perte est bien trop petite.":
                lambda s, t: _sp(s, t, lambda g: F.normalize(g, p=1, dim=1)),
            "La matrice est divisée par sa norme entière : c'est chaque ligne qui doit avoir une norme de 1.":
                lambda s, t: _sp(s, t, lambda g: g / g.norm()),
            "Les lignes ne sont pas normalisées : l'échelle du teacher compte encore.":
                lambda s, t: _sp(s, t, lambda g: g),
            "Vous divisez par B au lieu de B² : il y a B² paires.": lambda s, t: _sp(s, t) * len(s),
            "C'est une somme : il faut la diviser par B².": lambda s, t: _sp(s, t) * len(s) ** 2,
            "Il manque le carré de la norme : vous rendez ‖Gs − Gt‖, non son carré.":
                lambda s, t: _sp(s, t).sqrt() / len(s),
        },
    ),
}  # fmt: skip
