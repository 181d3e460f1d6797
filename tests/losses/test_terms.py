"""Une perte est un nombre : ``LossTerms`` se déballe en trois, et calcule comme son total."""

import operator

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from kdcourse import (
    KnowledgeDistillationLoss,
    LossTerms,
    SelfDistillation,
    dkd_loss,
    label_smoothing_probabilities,
    ps_kd_loss,
)


@pytest.fixture
def logits():
    return torch.randn(4, 3, generator=torch.Generator().manual_seed(0)).requires_grad_()


@pytest.fixture
def terms(logits):
    return KnowledgeDistillationLoss(2.0, 0.3)(logits, torch.zeros(4, 3), torch.tensor([0, 1, 2, 0]))


OPERATIONS = [
    operator.add,
    operator.sub,
    operator.mul,
    operator.truediv,
    operator.lt,
    operator.le,
    operator.gt,
    operator.ge,
]


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.__name__)
def test_une_operation_agit_sur_le_total(terms, operation):
    for other in (4, 0.25, torch.tensor(2.0), terms):
        value = other.total if isinstance(other, LossTerms) else other
        found = operation(terms, other)
        assert type(found) is torch.Tensor and torch.equal(found, operation(terms.total, value))


@pytest.mark.parametrize(
    "operation", [operator.add, operator.sub, operator.mul], ids=lambda operation: operation.__name__
)
def test_la_perte_peut_etre_a_droite(terms, operation):
    for other in (4, torch.tensor(2.0)):
        assert torch.equal(operation(other, terms), operation(other, terms.total))


def test_sum_moyenne_des_pertes_et_leur_gradient_est_celui_de_la_moyenne(logits, terms):
    other = SelfDistillation()(logits, torch.ones(4, 3), torch.tensor([0, 1, 2, 0]))
    (gradient,) = torch.autograd.grad(sum([terms, other]) / 2, logits, retain_graph=True)
    (expected,) = torch.autograd.grad((terms.total + other.total) / 2, logits)
    torch.testing.assert_close(gradient, expected)


def test_une_perte_se_lit_s_ecrit_et_se_detache(terms):
    assert float(terms) == terms.item() == terms.total.item()
    assert f"{terms:.3f}" == f"{terms.total.item():.3f}"
    assert torch.equal(terms.detach(), terms.total.detach()) and not terms.detach().requires_grad
    assert torch.equal(-terms, -terms.total)


def test_une_perte_calcule_comme_un_nombre_dans_numpy_et_torch(terms):
    total = terms.total
    with torch.no_grad():
        assert np.mean([terms, terms]) == pytest.approx(total.item())
    for found in (np.float64(0.5) * terms, terms * np.float64(0.5), total.new_tensor(0.5) * terms):
        assert type(found) is torch.Tensor and found.requires_grad and found.item() == pytest.approx(total.item() / 2)
    torch.testing.assert_close(1 / terms, 1 / total)
    torch.testing.assert_close(total.new_tensor(2.0) / terms, 2 / total)
    torch.testing.assert_close(terms**2, total**2)
    torch.testing.assert_close(abs(-1 * terms), total)
    torch.testing.assert_close(2 - terms, 2 - total)
    torch.testing.assert_close(torch.stack([terms, 2 * terms]), torch.stack([total, 2 * total]))
    torch.testing.assert_close(torch.isfinite(terms), torch.isfinite(total))
    assert round(terms, 2) == round(total.item(), 2) and int(4 * total / terms) == 4


def test_une_perte_se_deballe_encore_en_trois(terms):
    total, distillation, hard = terms
    assert len(terms) == 3 and terms[0] is total is terms.total
    torch.testing.assert_close(total, 0.3 * distillation + 0.7 * hard)


def test_accelerate_derive_une_perte_comme_son_total(logits, terms):
    Accelerator(cpu=True).backward(terms)
    found = logits.grad.clone()
    logits.grad = None
    KnowledgeDistillationLoss(2.0, 0.3)(logits, torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])).total.backward()
    torch.testing.assert_close(found, logits.grad)


@pytest.mark.parametrize("wrong", [-100, -1, 3])
@pytest.mark.parametrize(
    "call",
    [
        lambda labels: dkd_loss(torch.randn(2, 3), torch.randn(2, 3), labels),
        lambda labels: ps_kd_loss(torch.randn(2, 3), torch.full((2, 3), 1 / 3), labels, 0.5),
        lambda labels: label_smoothing_probabilities(labels, 3),
    ],
    ids=["dkd", "ps_kd", "lissage"],
)
def test_une_etiquette_hors_des_classes_n_est_jamais_acceptee_en_silence(call, wrong):
    with pytest.raises(RuntimeError, match="index|out of bounds|[Cc]lass"):
        call(torch.tensor([0, wrong]))
