"""Les pertes de torchdistill, appelées comme les nôtres : sur deux tenseurs."""

from collections.abc import Callable

from torch import Tensor, nn

Loss = Callable[[Tensor, Tensor], Tensor]


def adapt(loss: nn.Module, factor: float = 1.0) -> Loss:
    """torchdistill lit les sorties d'un module « m » dans un dictionnaire ; ``factor`` remet ce qu'il oublie."""
    return lambda s, t: factor * loss({"m": {"output": s}}, {"m": {"output": t}}, None)


def kd(temperature: float) -> Loss:
    """Sa perte KD seule. Avec alpha = 0, il oublie le facteur T² ; nous le remettons."""
    from torchdistill.losses.mid_level import KDLoss

    return adapt(KDLoss("m", "output", "m", "output", temperature=temperature, alpha=0.0), factor=temperature**2)
