"""10.3 : distiller les représentations intermédiaires : les features elles-mêmes, ou leurs cartes d'attention."""

import torch.nn.functional as F
from torch import Tensor, nn

from .checks import (
    check_alpha,
    check_feature_pair,
    check_floating,
    check_levels,
    check_non_negative,
    check_positive_integer,
    hard_loss,
    shape_of,
)
from .numerics import LossTerms, at_least_float32, combine_terms, same_precision, unit_rows


def hint_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Écart quadratique moyen entre les features du student, déjà adaptées, et celles du teacher.

    .. math:: \frac{1}{N} \sum_n (f^s_n - f^t_n)^2, \qquad N = \text{nombre total d'éléments}

    Args:
        student: features du student, de ``(B, D)`` à ``(B, C, H, W)``.
        teacher: features du teacher, de la même forme ; aucun gradient ne les traverse.

    Returns:
        Scalaire ≥ 0, dans l'unité des features au carré, float32 (float64 si une entrée l'est).

    Raises:
        TypeError, ValueError: tenseurs non flottants, formes ou appareils différents.

    Source : Romero et al. (2015), FitNets, équation 3, arXiv:1412.6550 (à un facteur constant près).
    """
    check_feature_pair(student, teacher, (2, 3, 4), "(B, D) ou (B, C, H, W)")
    if teacher.shape != student.shape:
        raise ValueError(f"teacher : forme {shape_of(teacher)} reçue, {shape_of(student)} attendue, celle de student.")
    return F.mse_loss(*same_precision(student, teacher))


def attention_map(features: Tensor) -> Tensor:
    r"""Carte d'attention d'une couche : où, dans l'image, ses canaux sont actifs.

    .. math:: Q = \frac{a}{\lVert a \rVert_2}, \qquad a_{hw} = \frac{1}{C} \sum_c f_{chw}^2

    Args:
        features: cartes de features, ``(B, C, H, W)``.

    Returns:
        ``(B, 1, H, W)``, positive, de norme L2 égale à 1 pour chaque exemple (0 si ses features sont nulles). Ne dépend
        pas de leur échelle, tant que leurs carrés tiennent en float32 (de 1e-18 à 1e18).

    Raises:
        TypeError, ValueError: ce qui n'est pas un tenseur flottant à quatre dimensions.

    Source : Zagoruyko et Komodakis (2017), section 3.1, arXiv:1612.03928.
    """
    check_floating("features", features, (4,), "(B, C, H, W)")
    return _unit_maps(_energy(features))


def attention_loss(student: Tensor, teacher: Tensor) -> Tensor:
    r"""Écart quadratique moyen entre les cartes d'attention du student et du teacher.

    .. math:: \frac{1}{B H W} \sum_{bhw} (Q^s_{bhw} - Q^t_{bhw})^2

    Le nombre de canaux peut différer. Si H ou W diffère, la plus grande des deux cartes est ramenée à la plus petite
    par moyenne (hauteur et largeur séparément), *avant* d'être normalisée. Comme :math:`\lVert Q \rVert = 1`, cette
    perte est de l'ordre de 1/HW : c'est pourquoi les auteurs la multiplient par 1000.

    Args:
        student: cartes du student, ``(B, C, H, W)``.
        teacher: cartes du teacher, ``(B, C', H', W')`` ; aucun gradient ne les traverse.

    Returns:
        Scalaire sans unité, de 0 à 2/HW, float32 (float64 si une entrée l'est).

    Raises:
        TypeError, ValueError: tenseurs qui n'ont pas quatre dimensions, lots ou appareils différents.

    Source : Zagoruyko et Komodakis (2017), équation 2, dans la forme du code des auteurs, arXiv:1612.03928.
    """
    check_feature_pair(student, teacher, (4,), "(B, C, H, W)")
    student, teacher = same_precision(student, teacher)
    student, teacher = _same_size(_energy(student), _energy(teacher))
    return F.mse_loss(_unit_maps(student), _unit_maps(teacher))


def _energy(features: Tensor) -> Tensor:
    """Moyenne des carrés sur les canaux, ``(B, 1, H, W)``."""
    return at_least_float32(features).square().mean(dim=1, keepdim=True)


def _unit_maps(energy: Tensor) -> Tensor:
    """Normalise chaque carte, vue comme un seul vecteur de H·W éléments."""
    return unit_rows(energy.flatten(1)).view_as(energy)


def _same_size(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Ramène la plus grande carte à la plus petite par moyenne, hauteur et largeur séparément."""
    if student.shape[2:] == teacher.shape[2:]:
        return student, teacher
    size = min(student.shape[2], teacher.shape[2]), min(student.shape[3], teacher.shape[3])
    small, other = (
        maps if maps.shape[2:] == size else F.adaptive_avg_pool2d(maps, size) for maps in (student, teacher)
    )
    return small, other


class AdaptationLayer(nn.Module):
    """Projette les canaux du student sur ceux du teacher : le régresseur des FitNets.

    Une convolution 1x1 pour des cartes ``(B, C, H, W)`` ; la même matrice, appliquée à chaque vecteur, pour ``(B, D)``.
    Rien à apprendre quand les deux nombres de canaux sont égaux : c'est alors l'identité.

    Args:
        in_channels: canaux du student, ≥ 1.
        out_channels: canaux du teacher, ≥ 1.

    Raises:
        TypeError, ValueError: un nombre de canaux qui n'est pas un entier ≥ 1.

    Source : Romero et al. (2015), section 2.2, arXiv:1412.6550.
    """

    def __init__(self, in_channels: int, out_channels: int):
        super().__init__()
        check_positive_integer("in_channels", in_channels)
        check_positive_integer("out_channels", out_channels)
        self.in_channels, self.out_channels = in_channels, out_channels
        self.adapt = nn.Identity() if in_channels == out_channels else nn.Conv2d(in_channels, out_channels, 1)

    def forward(self, features: Tensor) -> Tensor:
        """Change le nombre de canaux, la deuxième dimension, de ``in_channels`` à ``out_channels``."""
        expected = f"(B, {self.in_channels}) ou (B, {self.in_channels}, H, W)"
        check_floating("features", features, (2, 4), expected)
        if features.shape[1] != self.in_channels:
            raise ValueError(f"features : forme {shape_of(features)} reçue, {expected} attendue.")
        if isinstance(self.adapt, nn.Identity):
            return features
        features = features.to(self.adapt.weight.dtype)
        return self.adapt(features) if features.dim() == 4 else self.adapt(features[:, :, None, None]).flatten(1)


class FeatureDistillationLoss(nn.Module):
    r"""Perte complète d'une distillation de features : le teacher couche par couche, et les étiquettes.

    .. math:: \alpha \frac{1}{L} \sum_l \mathrm{hint\_loss}(r_l(f^s_l), f^t_l) + (1 - \alpha) \, \mathrm{CE}(z_s, y)

    Les :math:`r_l` sont des :class:`AdaptationLayer`, dans ``self.adapters`` : leurs paramètres s'apprennent,
    donnez-les à l'optimiseur (``[*student.parameters(), *loss.parameters()]``). Si H ou W diffère, la plus grande des
    deux cartes est ramenée à la plus petite par moyenne, hauteur et largeur séparément.

    Args:
        alpha: poids de la distillation, de 0 à 1 ; 0,5 par défaut.
        student_channels: canaux de chaque couche du student, par exemple ``[16, 32]``.
        teacher_channels: canaux de chaque couche du teacher, même longueur. Sans ces deux listes, les canaux des
            features doivent être égaux.

    Raises:
        TypeError, ValueError: alpha hors de [0, 1], listes de canaux vides, inégales ou données l'une sans l'autre.

    Source : Romero et al. (2015), FitNets, section 2.2, arXiv:1412.6550 (en deux phases chez eux, une seule ici).
    """

    def __init__(self, alpha: float = 0.5, *, student_channels=None, teacher_channels=None):
        super().__init__()
        check_alpha(alpha)
        self.alpha = alpha
        self.adapters = None
        if student_channels is None and teacher_channels is None:
            return
        lists = isinstance(student_channels, list | tuple) and isinstance(teacher_channels, list | tuple)
        if not lists or not student_channels or len(student_channels) != len(teacher_channels):
            raise ValueError(
                f"student_channels, teacher_channels : {student_channels} et {teacher_channels} reçus, "
                "deux listes non vides de même longueur attendues, un nombre de canaux par couche."
            )
        self.adapters = nn.ModuleList(map(AdaptationLayer, student_channels, teacher_channels))

    def forward(self, student_features, teacher_features, student_logits: Tensor, labels: Tensor) -> LossTerms:
        """Calcule les trois termes.

        Args:
            student_features: liste (jamais un tenseur seul) de ``(B, C, H, W)`` ou ``(B, D)``, une par couche.
            teacher_features: liste de même longueur, de même rang couche par couche ; aucun gradient ne les traverse.
            student_logits: logits du student, ``(B, classes)``.
            labels: étiquettes, ``(B,)``, int64.

        Returns:
            ``LossTerms(total, distillation, hard)`` ; ``distillation`` est la moyenne sur les couches.

        Raises:
            TypeError, ValueError: listes vides ou inégales, formes, canaux, types ou appareils inattendus, étiquette
                hors des classes, logits NaN.
        """
        check_levels(student_features, teacher_features, (2, 4), "(B, D) ou (B, C, H, W)")
        self._check_channels(student_features, teacher_features)
        hard = hard_loss(student_logits, labels, student_features[0], "student_features[0]")
        adapters = self.adapters or [nn.Identity()] * len(student_features)
        terms = []
        for adapt, student, teacher in zip(adapters, student_features, teacher_features, strict=True):
            student, teacher = _same_size(*same_precision(student, teacher))
            terms.append(hint_loss(adapt(student), teacher))
        return combine_terms(sum(terms[1:], terms[0]) / len(terms), hard, self.alpha)

    def _check_channels(self, student_features, teacher_features) -> None:
        received = [[features.shape[1] for features in side] for side in (student_features, teacher_features)]
        if self.adapters is None:
            expected = [received[1], received[1]]
        else:
            expected = [[a.in_channels for a in self.adapters], [a.out_channels for a in self.adapters]]
        if received != expected:
            raise ValueError(
                f"student_features, teacher_features : canaux {received[0]} et {received[1]} reçus, {expected[0]} et "
                f"{expected[1]} attendus ; construisez la perte avec student_channels={received[0]}, "
                f"teacher_channels={received[1]} pour qu'elle adapte l'un à l'autre."
            )


class AttentionTransfer(nn.Module):
    r"""Perte complète d'un transfert d'attention : où regarde le teacher, et les étiquettes.

    .. math:: \alpha \, s \frac{1}{L} \sum_l \mathrm{attention\_loss}(f^s_l, f^t_l) + (1 - \alpha) \mathrm{CE}(z_s, y)

    Args:
        alpha: poids de la distillation, de 0 à 1 ; 0,5 par défaut.
        scale: facteur s ≥ 0 des cartes ; 1000, le β des auteurs. Il compense le 1/HW de leur moyenne : de 8×8 à 32×32,
            alpha = 0,5 équilibre deux termes du même ordre ; sur des cartes plus petites, prenez environ 10·HW.

    Raises:
        TypeError, ValueError: alpha hors de [0, 1], scale négatif.

    Source : Zagoruyko et Komodakis (2017), section 3.1 et annexe, arXiv:1612.03928 (ici moyenne sur les couches).
    """

    def __init__(self, alpha: float = 0.5, *, scale: float = 1000.0):
        super().__init__()
        check_alpha(alpha)
        check_non_negative("scale", scale)
        self.alpha, self.scale = alpha, scale

    def forward(self, student_features, teacher_features, student_logits: Tensor, labels: Tensor) -> LossTerms:
        """Mêmes arguments et mêmes refus que :class:`FeatureDistillationLoss`, sur des cartes ``(B, C, H, W)``.

        Les canaux peuvent différer : une carte d'attention n'en a plus. ``distillation`` contient déjà ``scale``.
        """
        check_levels(student_features, teacher_features, (4,), "(B, C, H, W)")
        hard = hard_loss(student_logits, labels, student_features[0], "student_features[0]")
        terms = list(map(attention_loss, student_features, teacher_features))
        return combine_terms(self.scale * sum(terms[1:], terms[0]) / len(terms), hard, self.alpha)
