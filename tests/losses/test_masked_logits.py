"""Une classe masquée (logit -inf, ou le plus petit nombre du dtype) : la limite, en valeur et en gradient."""

import math

import pytest
import torch
import torch.nn.functional as F

from kdcourse import KnowledgeDistillationLoss, dkd_loss, kd_loss, ps_kd_loss

LABELS = torch.tensor([4, 3, 4, 3])


def logits(seed, masks=(), value=-math.inf, dtype=torch.float64):
    drawn = 3 * torch.randn(4, 5, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    drawn[:, list(masks)] = value
    return drawn.to(dtype)


def losses(temperature):
    yield lambda s, t: kd_loss(s, t, temperature)
    yield lambda s, t: dkd_loss(s, t, LABELS, temperature)


def value_and_gradient(loss, student, teacher):
    student = student.clone().requires_grad_()
    value = loss(student, teacher)
    return value.detach(), torch.autograd.grad(value, student)[0]


def test_ps_kd_d_une_classe_masquee_que_l_anterieure_n_attend_pas_est_la_valeur_sans_elle():
    logits = torch.tensor([[1.0, 2.0, -math.inf], [0.5, -1.0, -math.inf]], dtype=torch.float64, requires_grad=True)
    before, labels = torch.tensor([[0.4, 0.6, 0.0], [0.9, 0.1, 0.0]]), torch.tensor([0, 1])
    found = ps_kd_loss(logits, before, labels, 0.5)
    expected = ps_kd_loss(logits[:, :2], before[:, :2], labels, 0.5)
    assert found.item() == pytest.approx(expected.item(), rel=1e-6)
    (gradient,) = torch.autograd.grad(found, logits)
    (reference,) = torch.autograd.grad(expected, logits)
    torch.testing.assert_close(gradient, reference)


def test_kd_d_une_classe_masquee_est_la_valeur_de_torch():
    student, teacher = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[2.0, 1.0, -math.inf]])
    expected = F.kl_div(student.log_softmax(1), teacher.softmax(1), reduction="batchmean")
    assert kd_loss(student, teacher, 1.0).item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize("value", [-math.inf, torch.finfo(torch.float64).min])
@pytest.mark.parametrize("masks", [(1,), (0, 2), (0, 1, 2)])
@pytest.mark.parametrize("both", [False, True], ids=["teacher", "les deux"])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 4.0])
def test_masquer_est_la_limite_d_un_logit_tres_negatif(value, masks, both, temperature):
    for loss in losses(temperature):
        student, teacher = logits(0, masks if both else (), value), logits(1, masks, value)
        far = -3000 * temperature  # assez pour que la probabilité soit nulle, sans -inf
        expected = value_and_gradient(loss, logits(0, masks if both else (), far), logits(1, masks, far))
        found = value_and_gradient(loss, student, teacher)
        torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_le_plus_petit_nombre_du_dtype_masque_aussi_sous_t_1(dtype):
    for loss in losses(0.25):
        lowest = torch.finfo(dtype).min
        value, gradient = value_and_gradient(loss, logits(0, (1,), lowest, dtype), logits(1, (1,), lowest, dtype))
        assert value.isfinite() and gradient.isfinite().all() and (gradient[:, 1] == 0).all()


@pytest.mark.parametrize("both", [False, True], ids=["teacher", "les deux"])
def test_ne_garder_qu_une_classe_donne_des_nombres(both):
    kept = logits(0, range(4))
    for loss in losses(2.0):
        value, gradient = value_and_gradient(loss, kept if both else logits(2), kept)
        assert value.isfinite() and gradient.isfinite().all()
        if both:
            assert value == 0 and (gradient == 0).all()


def test_sous_vmap_chaque_student_a_la_valeur_qu_il_aurait_seul():
    students, teacher = torch.stack([logits(0), logits(2, (1,)), logits(3, (0, 1))]), logits(1, (0, 1))
    for loss in losses(2.0):
        together = torch.vmap(loss, in_dims=(0, None))(students, teacher)
        torch.testing.assert_close(together, torch.stack([loss(student, teacher) for student in students]))
        gradients = torch.vmap(torch.func.grad(loss), in_dims=(0, None))(students, teacher)
        expected = torch.stack([value_and_gradient(loss, student, teacher)[1] for student in students])
        torch.testing.assert_close(gradients, expected)


def test_un_student_qui_masque_ce_que_croit_le_teacher_a_une_perte_infinie():
    for loss in losses(1.0):
        assert loss(logits(0, (1,)), logits(1)) == math.inf


def test_le_module_refuse_toujours_un_logit_infini():
    with pytest.raises(ValueError, match="teacher_logits : 4 valeur\\(s\\) NaN ou infinie"):
        KnowledgeDistillationLoss()(logits(0), logits(1, (1,)), LABELS)
