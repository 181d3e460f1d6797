"""10.6 : le train de tenseurs. Une couche devient une chaîne de petits tenseurs, et un modèle, sa copie compressée."""

from collections import Counter
from collections.abc import Iterable, Sequence
from math import prod
from types import MethodType

import torch
from torch import Tensor, nn

from kdcourse.compression.decompositions import balanced_factors, check_cores, owned, tt_reconstruct, tt_svd
from kdcourse.compression.report import CompressionReport, LayerReport, all_parameters, stored_bytes
from kdcourse.compression.tucker import tucker2_conv
from kdcourse.losses.checks import check_finite, check_module, check_positive_integer, check_same_device, shape_of
from kdcourse.losses.logits import KnowledgeDistillationLoss
from kdcourse.losses.numerics import at_least_float32
from kdcourse.models import check_built, evaluating
from kdcourse.training.frozen_teacher import contents, copy_of, frozen_logits, leaves
from kdcourse.training.loop import train_epochs

__all__ = ["TTLinear", "TensorDistillation", "convert_to_tensor_train", "tt_reconstruct", "tt_svd"]

_OWN = {"weight", "bias"}
_ORDER = 3  # cœurs d'une couche : 512 = 8·8·8 ; au-delà, les tailles d'un réseau n'ont plus assez de facteurs


class TTLinear(nn.Module):
    r"""Couche linéaire dont la matrice est un train de tenseurs ; la matrice dense n'est jamais formée.

    .. math:: y_{j_1 \dots j_d} = \sum_{i_1 \dots i_d} G^1_{j_1 i_1} \cdots G^d_{j_d i_d} \, x_{i_1 \dots i_d} + b

    Moins de paramètres n'est pas moins de calculs : de 512 à 512 au rang 16, 14 fois moins des uns, et 4,5 fois plus de
    multiplications que la couche dense.

    Args:
        cores: d cœurs ``(r_{k-1}, n_k, m_k, r_k)``, r_0 = r_d = 1 : ``out_features = n_1⋯n_d``,
            ``in_features = m_1⋯m_d``. Ils deviennent les paramètres de la couche.
        bias: ``(out_features,)``, ou ``None``.

    Raises:
        TypeError, ValueError: cœurs qui ne s'enchaînent pas, biais d'une autre taille.

    Source : Novikov et al. (2015), section 4, arXiv:1509.06569.
    """

    def __init__(self, cores: Sequence[Tensor], bias: Tensor | None = None):
        super().__init__()
        check_cores(cores, 4, "(r, n, m, r')")
        self.out_features = prod(core.shape[1] for core in cores)
        self.in_features = prod(core.shape[2] for core in cores)
        if bias is not None and bias.shape != (self.out_features,):
            raise ValueError(f"bias : forme {shape_of(bias)} reçue, ({self.out_features},) attendue.")
        self.cores = nn.ParameterList(map(owned, cores))
        self.bias = bias if bias is None else nn.Parameter(owned(bias))

    @classmethod
    def from_linear(cls, linear: nn.Linear, rank: int, order: int = _ORDER) -> "TTLinear":
        """Compresse une couche dense : TT-SVD de sa matrice, repliée en ``order`` paires (n_k, m_k).

        Args:
            linear: couche à compresser, laissée intacte ; appareil, dtype et ``requires_grad`` en sont gardés.
            rank: plafond des rangs, ≥ 1 ; à plein rang, la couche est la même à l'arrondi près, mais plus grosse.
            order: nombre de cœurs ; chacune des deux tailles doit en être un produit de facteurs ≥ 2.

        Raises:
            TypeError, ValueError: autre chose qu'une ``nn.Linear``, taille sans factorisation, poids non finis.
        """
        if not isinstance(linear, nn.Linear):
            raise TypeError(f"linear : {type(linear).__name__} reçu, nn.Linear attendu.")
        check_positive_integer("order", order)
        check_finite("linear.weight", linear.weight)
        outs, ins = balanced_factors(linear.out_features, order), balanced_factors(linear.in_features, order)
        if outs is None or ins is None:
            name, size = ("in_features", linear.in_features) if outs else ("out_features", linear.out_features)
            raise ValueError(f"linear.{name} : {size} reçu, un produit de {order} facteurs ≥ 2 attendu.")
        pairs = [axis for k in range(order) for axis in (k, order + k)]  # n_1, m_1, n_2, m_2, …
        folded = linear.weight.detach().reshape(*outs, *ins).permute(pairs)
        cores = tt_svd(folded.reshape([n * m for n, m in zip(outs, ins, strict=True)]), rank)
        cores = [core.reshape(len(core), n, m, -1) for core, n, m in zip(cores, outs, ins, strict=True)]
        layer = cls(cores, None if linear.bias is None else linear.bias.detach().clone()).to(linear.weight.dtype)
        layer.cores.requires_grad_(linear.weight.requires_grad)
        if layer.bias is not None:
            layer.bias.requires_grad_(linear.bias.requires_grad)
        return layer.train(linear.training)

    def forward(self, inputs: Tensor) -> Tensor:
        """``(…, in_features)`` devient ``(…, out_features)`` ; un cœur après l'autre, m_k s'échange contre n_k."""
        self._check_inputs(inputs)
        state = inputs.reshape(-1, self.in_features).T  # (m_1⋯m_d, B) : le lot en dernier, moins de copies
        for core in self.cores:
            left, n, m, right = core.shape
            state = state.reshape(left * m, -1)  # (r_{k-1}·m_k, m_{k+1}⋯m_d·B·n_1⋯n_{k-1})
            matrix = core.permute(3, 1, 0, 2).reshape(right * n, left * m)  # un produit : plus rapide qu'einsum
            state = (matrix @ state).unflatten(0, (right, n)).transpose(1, 2)
        outputs = state.reshape(*inputs.shape[:-1], self.out_features)
        return outputs if self.bias is None else outputs + self.bias.to(outputs.dtype)  # bf16 sous autocast

    def _check_inputs(self, inputs) -> None:
        if not isinstance(inputs, Tensor):
            raise TypeError(f"inputs : {type(inputs).__name__} reçu, un tenseur (…, {self.in_features}) attendu.")
        if inputs.shape[-1:] != (self.in_features,):
            raise ValueError(f"inputs : forme {shape_of(inputs)} reçue, (…, {self.in_features}) attendue.")
        core = self.cores[0]
        check_same_device("inputs", inputs, "cores", core)
        if inputs.dtype != core.dtype and not torch.is_autocast_enabled(inputs.device.type):
            raise TypeError(f"inputs : dtype {inputs.dtype} reçu, {core.dtype} attendu, celui des cœurs.")

    @property
    def weight(self) -> Tensor:
        """Matrice dense ``(out_features, in_features)`` équivalente, formée à chaque lecture, gradient compris.

        Pour le code qui lit le poids d'une couche, son dtype ou son appareil sans l'appeler ; ``forward`` s'en passe.
        """
        order = len(self.cores)
        folded = tt_reconstruct([core.flatten(1, 2) for core in self.cores])
        pairs = folded.reshape([size for core in self.cores for size in core.shape[1:3]])
        axes = [*range(0, 2 * order, 2), *range(1, 2 * order, 2)]
        return pairs.permute(axes).reshape(self.out_features, self.in_features)

    @torch.no_grad()
    def weight_matrix(self) -> Tensor:
        """``weight``, sans graphe : pour mesurer."""
        return self.weight

    def extra_repr(self) -> str:
        outs, ins, ranks = zip(*[core.shape[1:] for core in self.cores], strict=True)
        sizes = f"{'·'.join(map(str, ins))} → {'·'.join(map(str, outs))}, rangs {'·'.join(map(str, ranks[:-1]))}"
        return f"{self.in_features} → {self.out_features} ({sizes}), bias={self.bias is not None}"


def convert_to_tensor_train(model: nn.Module, rank: int = 32, *, conv: str | None = "tucker2") -> nn.Module:
    """Rend une copie compressée du modèle ; l'original reste intact.

    Chaque ``nn.Linear`` devient une ``TTLinear``, chaque ``nn.Conv2d`` sans groupes une décomposition de Tucker-2. Sont
    gardées : les couches qui ne rétréciraient pas, celles dont une taille ne se factorise pas (10, 97), celles qui
    partagent leur poids, celles qui portent un hook (*weight norm*, masque d'élagage), un autre ``forward`` ou plus que
    leur poids et leur biais, celles que le modèle tient aussi par une liste, et les sous-classes. Une couche
    compressée répond encore à ``weight``. ``print(compressed.compression_report)`` dit tout, couche par couche.

    Args:
        model: modèle à compresser ; les poids gelés (``requires_grad=False``) le restent dans la copie.
        rank: plafond de tous les rangs, ≥ 1.
        conv: ``"tucker2"``, ou ``None`` pour garder les convolutions.

    Returns:
        La copie, sur le même appareil, avec son attribut ``compression_report``.

    Raises:
        TypeError, ValueError: argument hors de son domaine, poids non finis.

    Source : Novikov et al. (2015), section 4, arXiv:1509.06569 ; Kim, Park et al. (2016), section 3, arXiv:1511.06530.
    """
    check_module("model", model)
    check_positive_integer("rank", rank)
    if conv not in ("tucker2", None):
        raise ValueError(f"conv : {conv!r} reçu, 'tucker2' ou None attendu.")
    check_built(model)
    compressed = copy_of(model)
    owners = Counter(id(weight) for module in compressed.modules() for weight in module.parameters(recurse=False))
    replacements, rows, elsewhere = {}, [], _held_elsewhere(compressed)
    hooked = {name for name, weight in model.named_parameters() if weight._backward_hooks}  # deepcopy les perd
    for name, layer in compressed.named_modules():
        if isinstance(layer, (nn.Linear, nn.Conv2d)):
            shared = any(owners[id(weight)] > 1 for weight in layer.parameters())
            kept = "son poids porte un hook" if any(f"{name}.{part}".lstrip(".") in hooked for part in _OWN) else ""
            kept = kept or ("rangée aussi hors des sous-modules" if id(layer) in elsewhere else "")
            new, reason = (None, kept) if kept else _compress_layer(layer, rank, conv, shared)
            rows.append(_report_row(name, layer, new, reason))
            if new is not None:
                replacements[layer] = new
    for name, layer in list(compressed.named_modules(remove_duplicate=False)):
        if name and layer in replacements:
            compressed.set_submodule(name, replacements[layer])
    compressed = replacements.get(compressed, compressed)  # le modèle entier n'était qu'une couche
    counts = all_parameters(model), all_parameters(compressed)
    compressed.compression_report = CompressionReport(rows, *counts, stored_bytes(model), stored_bytes(compressed))
    return compressed


def _held_elsewhere(model: nn.Module) -> set[int]:
    """Les sous-modules qu'un modèle tient aussi par une liste, un dictionnaire ou une méthode : les y laisser, c'est
    continuer de les appeler."""

    def inside(value):
        return [value.__self__] if isinstance(value, MethodType) else contents(value)

    held = [value for module in model.modules() for name, value in vars(module).items() if name != "_modules"]
    return {id(value) for value in leaves(held, inside) if isinstance(value, nn.Module)}


def _compress_layer(layer, rank: int, conv: str | None, shared: bool) -> tuple[nn.Module | None, str]:
    """La couche compressée, ou ``None`` et la raison de la garder."""
    if type(layer) not in (nn.Linear, nn.Conv2d):
        return None, f"sous-classe ({type(layer).__name__})"
    if shared:
        return None, "poids partagé avec une autre couche"
    if any(hooks for name, hooks in vars(layer).items() if name.endswith("_hooks")):
        return None, "porte un hook, qui agirait sur l'ancienne couche"
    if "forward" in vars(layer):
        return None, "son forward a été remplacé"
    if more := {*layer._parameters, *layer._buffers, *layer._modules} - _OWN:
        return None, f"porte plus que son poids et son biais ({', '.join(sorted(more))})"
    if isinstance(layer, nn.Conv2d):
        if conv is None:
            return None, "conv=None"
        if layer.groups != 1:
            return None, f"{layer.groups} groupes"
        new = tucker2_conv(layer, rank)
    else:
        for size in (layer.in_features, layer.out_features):
            if balanced_factors(size, _ORDER) is None:
                return None, f"{size} n'a pas {_ORDER} facteurs ≥ 2"
        new = TTLinear.from_linear(layer, rank)
    if all_parameters(new) >= all_parameters(layer):
        return None, f"ne rétrécit pas : {all_parameters(new)} paramètres"
    return new, ""


def _report_row(name: str, layer: nn.Module, new: nn.Module | None, reason: str) -> LayerReport:
    before, weight = all_parameters(layer), at_least_float32(layer.weight.detach())
    if new is None:
        return LayerReport(name, tuple(weight.shape), (), before, before, 0.0, reason)
    if isinstance(new, TTLinear):
        ranks, approximation = tuple(core.shape[-1] for core in new.cores[:-1]), new.weight_matrix()
    else:
        ranks, approximation = (new[0].out_channels, new[1].out_channels), new.weight.detach()
    norm = weight.norm().item()
    error = (weight - approximation).norm().item() / norm if norm else 0.0
    return LayerReport(name, tuple(weight.shape), ranks, before, all_parameters(new), error, reason)


class TensorDistillation:
    """Compresser un teacher en train de tenseurs, puis lui rendre par distillation ce que la troncature a ôté."""

    @staticmethod
    def compress_teacher_with_tensor_train(teacher_model: nn.Module, rank: int = 32) -> nn.Module:
        """Rend la copie compressée du teacher : ``convert_to_tensor_train(teacher_model, rank)``."""
        check_module("teacher_model", teacher_model)
        return convert_to_tensor_train(teacher_model, rank)

    @staticmethod
    def distill_to_compressed_student(
        teacher_model: nn.Module, student_model: nn.Module, train_loader: Iterable, epochs: int = 50
    ) -> list[float]:
        """Distille un teacher vers un student compressé : ``KnowledgeDistillationLoss(4.0, 0.7)``, Adam à 1e-3.

        Args:
            teacher_model: rend ses logits ``(B, C)`` ; en ``eval`` et sans gradient le temps de l'entraînement, il
                retrouve ensuite ses modes. Il peut être sur un autre appareil que le student.
            student_model: rend ses logits ; entraîné sur place, sur son appareil, et laissé en mode ``eval``.
            train_loader: donne des lots ``(images, labels)`` à chaque époque.
            epochs: passages sur les données, ≥ 1.

        Returns:
            Perte moyenne de chaque époque.

        Raises:
            TypeError, ValueError: argument hors de son domaine ; student et teacher qui sont le même objet.
        """
        check_module("teacher_model", teacher_model)
        check_module("student_model", student_model)
        if set(map(id, student_model.parameters())) & set(map(id, teacher_model.parameters())):
            raise ValueError("student_model : des poids de teacher_model reçus, un modèle aux poids distincts attendu.")
        loss = KnowledgeDistillationLoss(temperature=4.0, alpha=0.7)

        def loss_of_batch(student, images, labels, *_):
            return loss(student(images), frozen_logits(teacher_model, images), labels).total

        with evaluating(teacher_model):
            return list(train_epochs(student_model, train_loader, loss_of_batch, epochs, learning_rate=1e-3))
