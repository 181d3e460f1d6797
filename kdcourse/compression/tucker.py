"""10.6, pour les convolutions : la décomposition de Tucker sur leurs deux modes de canaux."""

import torch
from torch import Tensor, nn

from kdcourse.compression.decompositions import owned
from kdcourse.losses.checks import check_finite, check_positive_integer
from kdcourse.losses.numerics import at_least_float32


class Tucker2Conv2d(nn.Sequential):
    """Trois convolutions à la place d'une ; ``tucker2_conv`` les fabrique.

    Répond encore à ce qu'on lit d'une ``nn.Conv2d`` : ``weight`` (le noyau dense, formé à chaque lecture, gradient
    compris), ``bias``, les tailles et les réglages.
    """

    @property
    def weight(self) -> Tensor:
        """Noyau ``(O, I, k, k)`` que calculent, ensemble, les trois convolutions."""
        right, core, left = (layer.weight for layer in self)
        return torch.einsum("oa,abhw,bi->oihw", left[:, :, 0, 0], core, right[:, :, 0, 0])

    bias = property(lambda self: self[2].bias)
    in_channels = property(lambda self: self[0].in_channels)
    out_channels = property(lambda self: self[2].out_channels)
    kernel_size = property(lambda self: self[1].kernel_size)
    stride = property(lambda self: self[1].stride)
    padding = property(lambda self: self[1].padding)
    dilation = property(lambda self: self[1].dilation)
    padding_mode = property(lambda self: self[1].padding_mode)
    groups = 1


def tucker2_conv(conv: nn.Conv2d, rank: int) -> Tucker2Conv2d:
    r"""Remplace une convolution k×k par trois : 1×1 vers r_in canaux, k×k, puis 1×1 vers ceux de sortie.

    .. math:: W_{oi} \approx \sum_{a \le r_{out}} \sum_{b \le r_{in}} U_{oa} \, G_{ab} \, V_{ib},
              \qquad G = W \times_1 U^\top \times_2 V^\top

    U et V sont les premiers vecteurs singuliers à gauche des dépliements de W selon ses canaux de sortie et d'entrée
    (HOSVD). Pas, bordure et dilatation restent à la convolution k×k ; le biais, à la dernière.

    Args:
        conv: convolution sans groupes (``groups=1``), de noyau ``(O, I, k, k)``.
        rank: plafond de r_in et r_out, ≥ 1. À plein rang, la convolution est la même à l'arrondi près.

    Returns:
        Trois ``nn.Conv2d`` ; même appareil, même dtype, mêmes ``requires_grad`` que ``conv``, qui reste intacte.

    Raises:
        TypeError, ValueError: autre chose qu'une ``nn.Conv2d``, convolution à groupes, rang < 1, poids non finis.

    Source : Kim, Park et al. (2016), section 3, arXiv:1511.06530 ; HOSVD : De Lathauwer et al. (2000).
    """
    check_positive_integer("rank", rank)
    if not isinstance(conv, nn.Conv2d):
        raise TypeError(f"conv : {type(conv).__name__} reçu, nn.Conv2d attendu.")
    if conv.groups != 1:
        raise ValueError(f"conv : groups = {conv.groups} reçu, 1 attendu, une convolution sans groupes.")
    check_finite("conv.weight", conv.weight)
    weight = at_least_float32(conv.weight.detach())
    left = torch.linalg.svd(weight.flatten(1), full_matrices=False).U[:, :rank]
    right = torch.linalg.svd(weight.transpose(0, 1).flatten(1), full_matrices=False).U[:, :rank]
    core = torch.einsum("oihw,oa,ib->abhw", weight, left, right)
    window = {"stride": conv.stride, "padding": conv.padding, "dilation": conv.dilation}
    return Tucker2Conv2d(
        _conv(conv, right.T[:, :, None, None]),
        _conv(conv, core, **window, padding_mode=conv.padding_mode),
        _conv(conv, left[:, :, None, None], bias=conv.bias),
    ).train(conv.training)


def _conv(conv: nn.Conv2d, weight: Tensor, bias: Tensor | None = None, **window) -> nn.Conv2d:
    width_out, width_in, *kernel = weight.shape
    # skip_init : aucun tirage initial, donc le générateur global n'avance pas.
    layer = nn.utils.skip_init(nn.Conv2d, width_in, width_out, tuple(kernel), bias=bias is not None, **window)
    layer.weight = nn.Parameter(owned(weight.to(conv.weight.dtype)), conv.weight.requires_grad)
    if bias is not None:
        layer.bias = nn.Parameter(bias.detach().clone(), bias.requires_grad)
    return layer
