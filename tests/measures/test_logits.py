"""Les mesures de 10.2."""

import pytest
import torch

from kdcourse import kd_loss
from kdcourse.measures import log_slope, logit_gradient, matching_gradient


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pair():
    return torch.randn(5, generator=generator()), 6 * torch.randn(5, generator=generator(1))


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
def test_le_gradient_montre_est_celui_de_kd_loss(pair, temperature):
    student = pair[0][None].requires_grad_()
    (expected,) = torch.autograd.grad(kd_loss(student, pair[1][None], temperature), student)
    torch.testing.assert_close(logit_gradient(*pair, temperature), expected[0].detach(), rtol=1e-4, atol=1e-6)


def test_le_gradient_tend_vers_sa_limite_en_un_sur_t(pair):
    student, teacher = (z.double() for z in pair)
    limit = matching_gradient(student, teacher)
    gaps = [(logit_gradient(student, teacher, t) - limit).norm().item() for t in (100.0, 200.0, 400.0)]
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.05) and gaps[1] / gaps[2] == pytest.approx(2, rel=0.03)


def test_une_temperature_nulle_est_refusee_par_le_gradient(pair):
    with pytest.raises(ValueError, match="temperature : 0 reçu"):
        logit_gradient(*pair, 0)


def test_la_pente_d_une_puissance_est_son_exposant():
    x = [1.0, 2.0, 5.0, 10.0]
    assert log_slope(x, [3 * v**-1.7 for v in x]) == pytest.approx(-1.7)
