"""10.2 : le gradient de la KL adoucie, et sa limite quand T grandit."""

from torch import Tensor

from kdcourse.losses.checks import check_number
from kdcourse.measures.principles import softened


def logit_gradient(student: Tensor, teacher: Tensor, temperature: float) -> Tensor:
    """T²·∇ de la KL adoucie d'un exemple, par rapport aux logits du student : T·(p_s − p_t). ``(…, C)``."""
    check_number("temperature", temperature, 1e-6, 1e6, "un nombre strictement positif")
    return temperature * (softened(student, temperature) - softened(teacher, temperature))


def matching_gradient(student: Tensor, teacher: Tensor) -> Tensor:
    """Sa limite quand T tend vers l'infini : la différence des logits centrés, divisée par C."""
    difference = student - teacher
    return (difference - difference.mean(dim=-1, keepdim=True)) / difference.shape[-1]
