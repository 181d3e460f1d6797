"""Ce que rendent les pertes, et leurs précautions numériques : débordements, annulations, produits en basse précision.

Comme les fonctions pures qui s'en servent, rien ici ne se décide sur la valeur d'un tenseur.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor


class LossTerms(NamedTuple):
    """Perte d'un module : ``total = alpha * distillation + (1 - alpha) * hard``, et ses deux termes.

    Se déballe comme un triplet, et se traite pour le reste comme son total : ``loss / 4``, ``l1 + l2``, ``loss < 0.1``,
    ``float(loss)``, ``.backward()``, ``.item()``, ``.detach()``. Un calcul rend un tenseur.
    """

    total: Tensor
    distillation: Tensor
    hard: Tensor

    def backward(self, *args, **kwargs) -> None:
        """Propage le gradient du total (mêmes arguments que ``Tensor.backward``)."""
        self.total.backward(*args, **kwargs)

    def item(self) -> float:
        """Valeur du total, en nombre Python."""
        return self.total.item()

    def detach(self) -> Tensor:
        """Total, sans graphe."""
        return self.total.detach()

    def __float__(self) -> float:
        return self.item()

    def __format__(self, form: str) -> str:
        return format(self.item(), form)

    def __int__(self) -> int:
        return int(self.item())

    def __round__(self, digits: int | None = None) -> float:
        return round(self.item(), digits)

    def __array__(self, dtype=None, copy=None):
        array = self.total.detach().cpu().numpy()
        return array if dtype is None else array.astype(dtype)

    @classmethod
    def __torch_function__(cls, function, types, args=(), kwargs=None):
        return function(*map(_total, args), **{name: _total(value) for name, value in (kwargs or {}).items()})

    def __neg__(self) -> Tensor:
        return -self.total

    def __abs__(self) -> Tensor:
        return self.total.abs()

    def __pow__(self, other: "LossTerms | Tensor | float") -> Tensor:
        return self.total ** _total(other)

    def __add__(self, other: "LossTerms | Tensor | float") -> Tensor:  # type: ignore[override]
        return self.total + _total(other)

    def __sub__(self, other: "LossTerms | Tensor | float") -> Tensor:
        return self.total - _total(other)

    def __mul__(self, other: "LossTerms | Tensor | float") -> Tensor:  # type: ignore[override]
        return self.total * _total(other)

    def __truediv__(self, other: "LossTerms | Tensor | float") -> Tensor:
        return self.total / _total(other)

    def __lt__(self, other: "LossTerms | Tensor | float") -> Tensor:  # type: ignore[override]
        return self.total < _total(other)

    def __le__(self, other: "LossTerms | Tensor | float") -> Tensor:  # type: ignore[override]
        return self.total <= _total(other)

    def __gt__(self, other: "LossTerms | Tensor | float") -> Tensor:  # type: ignore[override]
        return self.total > _total(other)

    def __ge__(self, other: "LossTerms | Tensor | float") -> Tensor:  # type: ignore[override]
        return self.total >= _total(other)

    def __radd__(self, other: Tensor | float) -> Tensor:
        return self.total + other

    def __rsub__(self, other: Tensor | float) -> Tensor:
        return -(self.total - other)

    def __rmul__(self, other: Tensor | float) -> Tensor:  # type: ignore[override]
        return self.total * other

    def __rtruediv__(self, other: Tensor | float) -> Tensor:
        return self.total.reciprocal() * other


LossTerms.__array_ufunc__ = None  # type: ignore[attr-defined]  # np.float64(2) * loss : un tenseur, non trois nombres


def _total(value):
    if isinstance(value, list):
        return [_total(part) for part in value]
    return value.total if isinstance(value, LossTerms) else value


def combine_terms(distillation: Tensor, hard: Tensor, alpha: float) -> LossTerms:
    """Applique la convention du cours : ``alpha`` pondère la distillation, ``1 - alpha`` les étiquettes."""
    return LossTerms(alpha * distillation + (1 - alpha) * hard, distillation, hard)


def at_least_float32(tensor: Tensor) -> Tensor:
    """fp16 et bf16 deviennent float32 ; float32 et float64 restent ce qu'ils sont."""
    return tensor if tensor.dtype in (torch.float32, torch.float64) else tensor.float()


def same_precision(student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    """Les deux côtés d'une perte dans un même dtype, au moins float32 ; le teacher est détaché."""
    dtype = torch.promote_types(torch.promote_types(student.dtype, teacher.dtype), torch.float32)
    return student.to(dtype), teacher.detach().to(dtype)


def expected_gap(probabilities: Tensor, gap: Tensor) -> Tensor:
    """p · écart, et 0 là où p est nulle : la limite, quand un logit vaut -inf (une classe masquée)."""
    return probabilities * gap.masked_fill(probabilities == 0, 0)


def without_underflow(scale: Tensor, dtype: torch.dtype) -> Tensor:
    """Diviseur sûr : une échelle nulle, ou sous-normale, devient infinie ; le quotient est alors 0, sans gradient."""
    return scale.masked_fill(scale < torch.finfo(dtype).tiny, math.inf)


def unit_rows(rows: Tensor) -> Tensor:
    """Divise chaque ligne par sa norme L2 ; une ligne nulle reste nulle et ne reçoit pas de gradient."""
    # Diviser d'abord par le plus grand élément ne change ni la valeur ni le gradient, et évite que le carré déborde.
    largest = rows.detach().abs().amax(dim=-1, keepdim=True)
    rows = at_least_float32(rows) / at_least_float32(without_underflow(largest, rows.dtype))
    return rows / torch.linalg.vector_norm(rows, dim=-1, keepdim=True).clamp(min=1)  # < 1 : seulement si tout est nul


def full_precision(features: Tensor) -> torch.autocast:
    """Sous autocast, un produit de Gram passerait en bf16 : ici, non."""
    return torch.autocast(features.device.type, enabled=False)


def batch_geometry(features: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Lot centré et réduit, son échelle, sa matrice de Gram, les carrés de ses distances (0 si confondus)."""
    # Une distance est ici une différence de grands nombres. D'où un lot centré, et float64 partout où il existe (pas
    # sur les GPU d'Apple) : deux exemples voisins gardent leur distance.
    rows = features.flatten(1).to(torch.float32 if features.device.type == "mps" else torch.float64)
    rows = rows - rows.mean(0)
    scale = without_underflow(rows.abs().amax(), features.dtype)
    rows = rows / scale
    gram = rows @ rows.mT
    norms = gram.diagonal()[:, None] + gram.diagonal()
    squares = norms - 2 * gram
    # Sous l'arrondi de la soustraction, une distance n'est que du bruit : les deux exemples sont confondus.
    # (masked_fill, non where : un NaN ne se compare pas, et doit rester visible.)
    squares = squares.masked_fill(squares <= 64 * torch.finfo(gram.dtype).eps * norms, 0)
    return rows.to(features.dtype), scale.to(features.dtype), gram, squares


def inverse_root(squares: Tensor) -> Tensor:
    """1/d, et 0 entre exemples confondus."""
    return squares.rsqrt().masked_fill(squares == 0, 0)


def relative_distances(squares: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Distances rapportées à la moyenne des positives, cette moyenne et leur nombre (1 et 1 s'il n'y en a pas)."""
    distances = squares.to(dtype).sqrt()
    positives = (distances > 0).sum().clamp(min=1)
    mean = distances.sum() / positives
    mean = mean.masked_fill(mean == 0, 1)
    return distances / mean, mean, positives


def smooth_l1(gap: Tensor) -> tuple[Tensor, Tensor]:
    """Perte smooth-L1 (δ = 1) de chaque écart, et sa dérivée."""
    slope = gap.clamp(-1, 1)
    return slope * (gap - slope / 2), slope


class KnownGradient(torch.autograd.Function):
    """Donne à une valeur déjà calculée le gradient déjà calculé avec elle, lequel ne se dérive pas."""

    generate_vmap_rule = True

    @staticmethod
    def forward(features: Tensor, value: Tensor, gradient: Tensor) -> Tensor:
        return value.clone()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        features, _, gradient = inputs
        ctx.save_for_backward(features, gradient)

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        features, gradient = ctx.saved_tensors
        return _Once.apply(grad_output * gradient, features), None, None


class _Once(torch.autograd.Function):
    """L'identité sur un gradient ; le dériver encore donnerait 0 en silence : mieux vaut lever."""

    generate_vmap_rule = True

    @staticmethod
    def forward(gradient: Tensor, features: Tensor) -> Tensor:
        return gradient.clone()

    @staticmethod
    def setup_context(ctx, inputs, output) -> None:
        pass

    @staticmethod
    def backward(ctx, grad_output: Tensor):
        raise RuntimeError("Cette perte se dérive une fois, pas deux : son gradient est calculé avec sa valeur.")
