"""10.4 : distiller les relations entre exemples, lues dans la matrice de Gram du lot, ``(B, B)``."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .checks import check_alpha, check_feature_pair, check_floating, check_non_negative, hard_loss
from .numerics import (
    KnownGradient,
    LossTerms,
    batch_geometry,
    combine_terms,
    full_precision,
    inverse_root,
    relative_distances,
    same_precision,
    smooth_l1,
    unit_rows,
)

_DIMS, _SHAPE = (2, 3, 4, 5), "(B, D) ou (B, C, H, W)"
# Éléments d'un bloc d'ancres de la perte d'angle : de quoi tenir dans le cache d'un CPU, ou occuper un GPU.
_BLOCK_CPU, _BLOCK_GPU = 2**18, 2**24


def cosine_relations(features: Tensor) -> Tensor:
    r"""Similarités cosinus entre tous les exemples d'un lot : :math:`R = \hat F \hat F^\top`, lignes de norme 1.

    Args:
        features: représentations, ``(B, D)`` ; plus de dimensions sont aplaties en ``(B, D)``.

    Returns:
        ``(B, B)``, dans [-1, 1], float32 (float64 si l'entrée l'est) ; un exemple nul a des relations nulles.

    Raises:
        TypeError, ValueError: ce qui n'est pas un tenseur flottant d'au moins deux dimensions.

    Source : le cours ; Tung et Mori (2019) normalisent après le produit, voir :func:`similarity_preserving_loss`.
    """
    check_floating("features", features, _DIMS, _SHAPE)
    rows = unit_rows(features.flatten(1))
    with full_precision(rows):
        return rows @ rows.mT


def cosine_relation_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Écart quadratique moyen entre les similarités cosinus du student et celles du teacher.

    .. math:: \frac{1}{B^2} \sum_{ij} (R^s_{ij} - R^t_{ij})^2

    Invariante par rotation et par changement d'échelle, même ligne par ligne ; pas par translation.

    Args:
        student: features du student, ``(B, D)`` ; plus de dimensions sont aplaties.
        teacher: features du teacher, ``(B, D')``, D' quelconque ; aucun gradient ne les traverse.

    Returns:
        Scalaire sans unité, de 0 à 4.

    Raises:
        TypeError, ValueError: tenseurs non flottants, lots ou appareils différents.

    Source : la perte de relations du cours, voir :func:`cosine_relations`.
    """
    check_feature_pair(student, teacher, _DIMS, _SHAPE)
    student, teacher = same_precision(student, teacher)
    return F.mse_loss(cosine_relations(student), cosine_relations(teacher))


def similarity_preserving_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Écart entre les matrices de Gram du student et du teacher, chacune normalisée (L2) ligne par ligne.

    .. math:: \frac{1}{B^2} \lVert G^s - G^t \rVert_F^2, \qquad G_i = (F F^\top)_i / \lVert (F F^\top)_i \rVert_2

    Invariante par rotation et par échelle commune ; ni par translation, ni ligne par ligne. Les auteurs la pondèrent
    par 3000 dans leur code : elle est de l'ordre de 1/B². Le carré d'une feature doit tenir en float32 : de 1e-18 à
    1e18.

    Args:
        student: features du student, ``(B, D)`` ou cartes ``(B, C, H, W)``, aplaties comme dans l'article.
        teacher: features du teacher, ``(B, D')`` ; aucun gradient ne les traverse.

    Returns:
        Scalaire sans unité, de 0 à 4/B.

    Raises:
        TypeError, ValueError: tenseurs non flottants, lots ou appareils différents.

    Source : Tung et Mori (2019), équations 1 à 4, arXiv:1907.09682.
    """
    check_feature_pair(student, teacher, _DIMS, _SHAPE)
    student, teacher = same_precision(student, teacher)
    return F.mse_loss(_normalized_gram(student), _normalized_gram(teacher))


def _normalized_gram(features: Tensor) -> Tensor:
    """F Fᵀ, chaque ligne de norme 1, ou nulle si l'exemple l'est."""
    rows = features.flatten(1)
    with full_precision(rows):
        return unit_rows(rows @ rows.mT)


def rkd_distance_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Écart entre les distances deux à deux du student et du teacher, chacune rapportée à sa moyenne.

    .. math:: \frac{1}{B^2} \sum_{ij} \ell_1\!\left(\frac{d^s_{ij}}{\mu^s} - \frac{d^t_{ij}}{\mu^t}\right),
              \qquad d_{ij} = \lVert f_i - f_j \rVert_2

    :math:`\mu` est la moyenne des distances positives, :math:`\ell_1` la perte smooth-L1 (δ = 1). Deux exemples
    confondus sont à distance 0, sans gradient. Invariante par rotation, translation et échelle commune. Elle se dérive
    une fois, pas deux : son gradient est calculé avec elle.

    Args:
        student: features du student, ``(B, D)`` ; plus de dimensions sont aplaties.
        teacher: features du teacher, ``(B, D')`` ; aucun gradient ne les traverse.

    Returns:
        Scalaire sans unité ; 0 quand B = 1.

    Raises:
        TypeError, ValueError: tenseurs non flottants, lots ou appareils différents.

    Source : Park, Kim, Lu, Cho (2019), équations 5 à 7, arXiv:1904.05068.
    """
    check_feature_pair(student, teacher, _DIMS, _SHAPE)
    student, teacher = same_precision(student, teacher)
    with torch.no_grad(), full_precision(student):
        rows, scale, _, squares = batch_geometry(student)
        distances, mean, positives = relative_distances(squares, student.dtype)
        teacher_distances, _, _ = relative_distances(batch_geometry(teacher)[3], student.dtype)
        value, slope = smooth_l1(distances - teacher_distances)
        # Chaque distance agit par son quotient et par la moyenne ; d'où, au bout, des ressorts entre les exemples :
        # df_i = Σ_j 2 w_ij (f_i - f_j).
        springs = 2 * (slope - (slope * distances).sum() / positives) / (mean * len(rows)) ** 2
        springs = (springs / distances).masked_fill(distances == 0, 0)
        gradient = (springs.sum(1, keepdim=True) * rows - springs @ rows) / scale
    return KnownGradient.apply(student, value.mean(), gradient.view_as(student))


def rkd_angle_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Écart entre les angles de tous les triplets d'exemples, vus chez le student et chez le teacher.

    .. math:: \frac{1}{B^3} \sum_{ijk} \ell_1(c^s_{ijk} - c^t_{ijk}),
              \qquad c_{ijk} = \frac{\langle f_j - f_i, f_k - f_i \rangle}{d_{ij} \, d_{ik}}

    :math:`c_{ijk} = 0` quand j ou k est confondu avec i. Le produit scalaire se lit dans la matrice de Gram :
    :math:`G_{jk} - G_{ij} - G_{ik} + G_{ii}`. Ni B×B×D ni B×B×B n'existent : les ancres i passent par blocs, chacun
    rendant sa valeur et son gradient : elle se dérive une fois, pas deux. Mêmes invariances que la perte de distance.

    Args:
        student: features du student, ``(B, D)`` ; plus de dimensions sont aplaties.
        teacher: features du teacher, ``(B, D')`` ; aucun gradient ne les traverse.

    Returns:
        Scalaire sans unité, de 0 à 1,5 ; 0 quand B = 1.

    Raises:
        TypeError, ValueError: tenseurs non flottants, lots ou appareils différents.

    Source : Park, Kim, Lu, Cho (2019), équations 8 à 10, arXiv:1904.05068.
    """
    check_feature_pair(student, teacher, _DIMS, _SHAPE)
    student, teacher = same_precision(student, teacher)
    with torch.no_grad(), full_precision(student):
        rows, scale, gram, squares = batch_geometry(student)
        _, _, teacher_gram, teacher_squares = batch_geometry(teacher)
        inverse, teacher_inverse = (inverse_root(s).to(student.dtype) for s in (squares, teacher_squares))
        batch = len(rows)
        total: Tensor | int = 0
        pairs: Tensor | int = 0
        anchors, lengths = [], []
        step = max(1, (_BLOCK_CPU if rows.device.type == "cpu" else _BLOCK_GPU) // batch**2)
        for block in (slice(first, first + step) for first in range(0, batch, step)):
            cosines = _cosines(gram, inverse, block)
            value, slope = smooth_l1(cosines - _cosines(teacher_gram, teacher_inverse, block))
            total = total + value.sum()
            lengths.append((slope * cosines).sum(2))  # ce que le gradient doit aux normes
            slope = slope * inverse[block, :, None] * inverse[block, None, :]
            anchors.append(slope.sum(2))
            pairs = pairs + slope.sum(0)
        # Dérivée par rapport à G : le produit scalaire (G_jk, G_ij = G_ik, G_ii), puis les carrés des distances.
        anchor, length = torch.cat(anchors), -inverse.square() * torch.cat(lengths)
        diagonal = (anchor + length).sum(1) + length.sum(0)
        slope = pairs - 2 * anchor - 2 * length + torch.diag_embed(diagonal)
        gradient = (slope + slope.mT) @ rows / scale / batch**3
    return KnownGradient.apply(student, total / batch**3, gradient.view_as(student))


def _cosines(gram: Tensor, inverse: Tensor, block: slice) -> Tensor:
    """Cosinus c_ijk des ancres i d'un bloc ; ``inverse`` vaut 1/d_ij, et 0 entre exemples confondus."""
    anchored = gram[block] - gram.diagonal()[block, None] / 2
    dots = gram - anchored[:, :, None] - anchored[:, None, :]
    return dots.to(inverse.dtype) * inverse[block, :, None] * inverse[block, None, :]


_RELATIONS = {
    "cosine": (cosine_relation_loss, 1.0),
    "SP": (similarity_preserving_loss, 3000.0),
    "RKD distance": (rkd_distance_loss, 25.0),
    "RKD angle": (rkd_angle_loss, 50.0),
}


class RelationDistillation(nn.Module):
    r"""Perte complète d'une distillation de relations : le teacher par ses relations entre exemples, et les étiquettes.

    .. math:: \alpha \cdot s \cdot L_{relation}(f_s, f_t) + (1 - \alpha) \cdot \mathrm{CE}(z_s, y)

    Args:
        alpha: poids de la distillation, de 0 à 1 ; 0,5 par défaut.
        relation: ``"cosine"``, ``"SP"``, ``"RKD distance"`` ou ``"RKD angle"``.
        scale: facteur s ≥ 0 de la relation, qui met les deux termes au même ordre de grandeur. Par défaut, celui des
            auteurs : 3000 (SP), 25 (distance), 50 (angle) ; 1 pour les cosinus.

    Raises:
        TypeError, ValueError: alpha hors de [0, 1], relation inconnue, scale négatif.
    """

    def __init__(self, alpha: float = 0.5, relation: str = "cosine", scale: float | None = None):
        super().__init__()
        check_alpha(alpha)
        if not isinstance(relation, str) or relation not in _RELATIONS:
            raise ValueError(f"relation : {relation!r} reçu, un de {', '.join(map(repr, _RELATIONS))} attendu.")
        self.alpha, self.relation = alpha, relation
        self.loss, default_scale = _RELATIONS[relation]
        self.scale = default_scale if scale is None else scale
        check_non_negative("scale", self.scale)

    def forward(self, student_features, teacher_features, student_logits: Tensor, labels: Tensor) -> LossTerms:
        """Calcule les trois termes.

        Args:
            student_features: un tenseur (pas une liste), ``(B, D)`` ; plus de dimensions sont aplaties.
            teacher_features: un tenseur ``(B, D')`` ; aucun gradient ne le traverse.
            student_logits: logits du student, ``(B, C)``.
            labels: étiquettes, ``(B,)``, int64, de 0 à C - 1.

        Returns:
            ``LossTerms(total, distillation, hard)`` ; ``distillation`` contient déjà le facteur ``scale``.

        Raises:
            TypeError, ValueError: formes, types ou appareils inattendus, étiquette hors des classes, logits NaN.
        """
        check_feature_pair(student_features, teacher_features, _DIMS, _SHAPE, ("student_features", "teacher_features"))
        hard = hard_loss(student_logits, labels, student_features, "student_features")
        return combine_terms(self.scale * self.loss(student_features, teacher_features), hard, self.alpha)
