"""Les exercices de 10.4."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.exercises.exercise import ANY, Exercise, Prediction
from kdcourse.losses.relations import (
    cosine_relation_loss,
    cosine_relations,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
)


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


def _root_of_square(s: Tensor, t: Tensor) -> Tensor:
    return _rkd(s, t, loss=F.mse_loss).sqrt()


def _centered(f: Tensor) -> Tensor:
    """Chaque dimension, centrée et réduite sur le lot : ses échelles s'oublient, l'orientation non."""
    return (f - f.mean(dim=0)) / f.std(dim=0)


def _gap(of: Callable[[Tensor], Tensor]) -> Callable[[Tensor, Tensor], Tensor]:
    return lambda s, t: (of(s) - of(t)).square().mean()


# La perte inconnue, et le lot : celles du chapitre, puis d'autres, chacune avec ses propres oublis.
_UNKNOWN = (
    cosine_relation_loss,
    similarity_preserving_loss,
    rkd_distance_loss,
    rkd_angle_loss,
    _gap(_distances),
    _gap(lambda f: f @ f.T),
    _gap(_centered),
    _gap(lambda f: f),
)
_BATCH = _features(45, 7, 4).double()


def _turn(width: int) -> Tensor:
    generator = torch.Generator().manual_seed(46)
    return torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64)).Q


def _shift(f: Tensor) -> Tensor:
    return f + torch.linspace(1, 2, f.shape[1], dtype=f.dtype)


def _by_row(f: Tensor) -> Tensor:
    return f * torch.linspace(0.5, 2, len(f), dtype=f.dtype)[:, None]


def _by_column(f: Tensor) -> Tensor:
    return f * torch.linspace(0.5, 2, f.shape[1], dtype=f.dtype)


def _mixed(f: Tensor) -> Tensor:
    """Une matrice quelconque au lieu d'une rotation."""
    return f @ (_turn(f.shape[1]) * torch.linspace(0.5, 2, f.shape[1], dtype=f.dtype))


def _ignored(
    loss: Callable, f: Tensor, shift=_shift, turn=lambda f: f @ _turn(f.shape[1]), grow=lambda f: 3 * f,
    rows=_by_row, columns=_by_column, below=1e-10,
) -> Tensor:  # fmt: skip
    moved = (change(f) for change in (shift, turn, grow, rows, columns))
    return torch.tensor([float(loss(g, f).abs() < below) for g in moved])


def _exactly(loss: Callable, f: Tensor) -> Tensor:
    """Comparée à 0 exactement, une perte ignorée l'est ou non, selon l'arrondi."""
    return _ignored(loss, f) * ANY


EXERCISES = {
    "10.4 a": Exercise(
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
            "C'est la racine de l'écart quadratique : l'article prend smooth-L1, sans racine.": _root_of_square,
            "L'écart quadratique est divisé par deux : smooth-L1 devient linéaire au-delà de 1.":
                lambda s, t: _rkd(s, t, loss=F.mse_loss) / 2,
            "Les deux côtés sont divisés par la même moyenne, celle du student : chacun a la sienne.":
                lambda s, t: _same_mean(t, s),
            "Vous divisez par la médiane : la définition prend la moyenne.":
                lambda s, t: _rkd(s, t, mean=lambda d: d[d > 0].median()),
            "Vous divisez par la somme des distances : prenez leur moyenne.":
                lambda s, t: _rkd(s, t, mean=torch.sum),
            "Chaque ligne est divisée par sa moyenne : une seule moyenne sert à tout le lot.":
                lambda s, t: _rkd(s, t, mean=lambda d: d.sum(dim=1, keepdim=True) / (len(d) - 1)),
            "Les embeddings sont normalisés d'abord : RKD prend les distances telles quelles.":
                lambda s, t: rkd_distance_loss(F.normalize(s, dim=1), F.normalize(t, dim=1)),
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
    "10.4 b": Exercise(
        differentiable=False,
        cases=tuple((loss, _BATCH) for loss in _UNKNOWN),
        reference=_ignored,
        mistakes={
            "1 et 0 sont échangés : 1 veut dire que la perte reste nulle.":
                lambda loss, f: 1 - _ignored(loss, f),
            "Aucune perte n'ignore votre rotation : une matrice tirée au hasard n'en est pas une, orthogonalisez-la.":
                lambda loss, f: _ignored(loss, f, turn=_mixed),
            "Votre translation n'ajoute pas le même vecteur à tous les exemples : un seul, de forme (D,).":
                lambda loss, f: _ignored(loss, f, shift=lambda f: f + _features(47, *f.shape)),
            "Votre échelle par exemple n'en est pas une : un facteur par valeur, ou par dimension. (B, 1) attendu.":
                lambda loss, f: _ignored(loss, f, rows=lambda f: f * _features(49, *f.shape).abs()),
            "Votre échelle par exemple est une échelle par dimension : le facteur doit être de forme (B, 1).":
                lambda loss, f: _ignored(loss, f, rows=_by_column),
            "Votre échelle par dimension est une échelle par point : le facteur doit être de forme (D,).":
                lambda loss, f: _ignored(loss, f, columns=_by_row),
            "Votre échelle par dimension n'en est pas une : un facteur par valeur. (D,) attendu.":
                lambda loss, f: _ignored(loss, f, columns=lambda f: f * _features(49, *f.shape).abs()),
            "Les deux dernières échelles sont interverties : (B, 1) par exemple, (D,) par dimension.":
                lambda loss, f: _ignored(loss, f, rows=_by_column, columns=_by_row),
            "Les deux premières sont interverties : translation, puis rotation.":
                lambda loss, f: _ignored(loss, f)[[1, 0, 2, 3, 4]],
            "Votre seuil est trop grand : une petite perte n'est pas une perte nulle.":
                lambda loss, f: _ignored(loss, f, below=0.1),
            "Tout paraît ignoré : comparez le transformé à l'original, non à lui-même.":
                lambda loss, f: torch.ones(5),
            "Une échelle commune de 1 ne change rien : prenez 2 ou 3.":
                lambda loss, f: _ignored(loss, f, grow=lambda f: f),
            "Rien ne paraît ignoré : le seuil est-il trop petit, ou le lot changé en float32 ?":
                lambda loss, f: torch.zeros(5),
            "Une perte ignorée passe pour vue : comparez-vous à 0 exactement ? L'arrondi laisse un reste.": _exactly,
        },
    ),
}  # fmt: skip

PREDICTIONS = {
    "10.4 c": Prediction(
        expected=-13.5,
        mistakes={
            "C'est le gain d'un lot de 25, d'un poids léger, ou de plus de pas : lot de 5, poids 30, 400 pas.": 4.1,
            "Un poids plus léger, ou une autre perte que cosine ? Gardez cosine, au poids 30.": 0.0,
            "Un poids plus lourd ? Gardez 30.": -21.5,
        },
        tolerance=2.5,
        lesson="Un poids réglé pour un lot ne vaut rien pour un autre : qui change le lot règle de nouveau.",
    ),
}
