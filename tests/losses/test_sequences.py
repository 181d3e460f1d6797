"""Complément : forward_kl_loss, reverse_kl_loss et generalized_jsd_loss, sur des textes."""

import math

import pytest
import torch
from hypothesis import given, strategies as st
from support import references
from support.loss_contract import (
    PROPERTIES,
    assert_finite,
    assert_refused,
    assert_vmaps,
    assert_zero_without_gradient,
    matrices,
    needs_gpu,
    pair,
    value_and_gradient,
)

from kdcourse import forward_kl_loss, generalized_jsd_loss, kd_loss, reverse_kl_loss

LOSSES = {"directe": forward_kl_loss, "inverse": reverse_kl_loss, "JSD": generalized_jsd_loss}
FORMULAS = {
    "directe": references.relative_entropy,
    "inverse": lambda p, q: references.relative_entropy(q, p),
    "JSD": lambda p, q: references.jensen_shannon(p, q, 0.5),
}
ALL = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)
MASK = torch.tensor([[True, True, False], [True, False, False]])


@st.composite
def texts(draw):
    batch, length, words = draw(st.integers(1, 3)), draw(st.integers(1, 4)), draw(st.integers(2, 5))
    student, teacher = (draw(matrices(batch * length, words)).view(batch, length, words) for _ in range(2))
    kept = draw(st.lists(st.booleans(), min_size=batch * length, max_size=batch * length).filter(any))
    return student, teacher, torch.tensor(kept).view(batch, length)


# --- Les valeurs


@pytest.mark.parametrize("name", LOSSES)
@PROPERTIES
@given(texts(), st.sampled_from([0.5, 1.0, 3.0]))
def test_la_perte_egale_la_reference(name, drawn, temperature):
    student, teacher, kept = drawn
    expected = references.sequence_divergence(
        student.tolist(), teacher.tolist(), kept.tolist(), FORMULAS[name], temperature
    )
    found = LOSSES[name](student, teacher, kept, temperature).item()
    assert found == pytest.approx(expected, rel=1e-9, abs=1e-12)


@PROPERTIES
@given(texts(), st.floats(0.01, 0.99))
def test_la_jsd_egale_la_reference_pour_tout_beta(drawn, beta):
    student, teacher, kept = drawn
    expected = references.sequence_divergence(
        student.tolist(), teacher.tolist(), kept.tolist(), lambda p, q: references.jensen_shannon(p, q, beta)
    )
    found = generalized_jsd_loss(student, teacher, kept, beta=beta)
    assert found.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)
    assert 0 <= found + 1e-12 and found <= math.log(2)


def test_des_nombres_calcules_a_la_main():
    """p = (3/4, 1/4), q = (1/2, 1/2)."""
    teacher, student = torch.tensor([[[math.log(3.0), 0.0]]]), torch.zeros(1, 1, 2)
    forward = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    reverse = 0.5 * math.log(2 / 3) + 0.5 * math.log(2)
    assert forward_kl_loss(student, teacher).item() == pytest.approx(forward, rel=1e-6)
    assert reverse_kl_loss(student, teacher).item() == pytest.approx(reverse, rel=1e-6)


@PROPERTIES
@given(texts())
def test_a_t_1_la_kl_directe_est_kd_loss_sur_les_mots_mis_a_plat(drawn):
    student, teacher, kept = drawn
    torch.testing.assert_close(forward_kl_loss(student, teacher, kept), kd_loss(student[kept], teacher[kept], 1.0))


def test_beta_pese_le_teacher_dans_le_melange():
    """Un logiciel répandu l'a pesé à l'envers pendant des mois : échanger les deux côtés échange beta et 1 - beta."""
    student, teacher = pair(2, 3, 5)
    swapped = generalized_jsd_loss(teacher, student, beta=0.9)
    torch.testing.assert_close(generalized_jsd_loss(student, teacher, beta=0.1), swapped)
    assert not torch.isclose(generalized_jsd_loss(student, teacher, beta=0.9), swapped)


@pytest.mark.parametrize("end", [0, 1])
def test_aux_deux_bouts_la_jsd_divisee_tend_vers_une_kl(end):
    student, teacher = pair(2, 3, 5)
    limit = value_and_gradient((forward_kl_loss, reverse_kl_loss)[end], student, teacher)
    gaps = []
    for small in (1e-2, 1e-3, 1e-4):
        beta = small if end == 0 else 1 - small
        found = value_and_gradient(lambda s, t, b=beta: generalized_jsd_loss(s, t, beta=b) / small, student, teacher)  # noqa: B023
        gaps.append(max((a - b).abs().max().item() for a, b in zip(found, limit, strict=True)))
    assert gaps[0] > 5 * gaps[1] > 25 * gaps[2]


@ALL
def test_deux_textes_egaux_donnent_zero(loss):
    student, _ = pair(2, 3, 5)
    value, gradient = value_and_gradient(loss, student, student.clone())
    assert value.abs() < 1e-14 and gradient.abs().max() < 1e-14
    assert_zero_without_gradient(loss, torch.zeros(1, 2, 4), torch.zeros(1, 2, 4))


# --- Le masque


@ALL
def test_un_mot_ignore_ne_change_rien_quoi_qu_il_vaille(loss):
    student, teacher = pair(2, 3, 5)
    expected, expected_gradient = value_and_gradient(lambda s, t: loss(s, t, MASK), student, teacher)
    torch.testing.assert_close(expected, loss(student[MASK].unsqueeze(0), teacher[MASK].unsqueeze(0)))
    for junk in (1e4, math.inf, -math.inf, math.nan):
        dirty = [side.masked_fill(~MASK.unsqueeze(-1), junk) for side in (student, teacher)]
        value, gradient = value_and_gradient(lambda s, t: loss(s, t, MASK), *dirty)
        assert value == expected
        torch.testing.assert_close(gradient, expected_gradient)
    assert (expected_gradient[~MASK] == 0).all()


@ALL
def test_la_moyenne_est_sur_les_mots_non_sur_les_textes(loss):
    student, teacher = pair(2, 3, 5)
    first, second = (loss(student[b : b + 1], teacher[b : b + 1], MASK[b : b + 1]) for b in range(2))
    torch.testing.assert_close(loss(student, teacher, MASK), (2 * first + second) / 3)


@ALL
def test_gradcheck_avec_masque_et_temperature(loss):
    student, teacher = pair(2, 3, 5)
    assert torch.autograd.gradcheck(lambda s: loss(s, teacher, MASK, 2.5), (student.requires_grad_(),))


@ALL
def test_vmap_prend_un_masque_commun_ou_un_par_student(loss):
    student, teacher = pair(2, 3, 5)
    assert_vmaps(lambda s, t: loss(s, t, MASK), student, teacher)
    masks = torch.stack([MASK, ~MASK])
    found = torch.vmap(loss)(torch.stack([student, -student]), torch.stack([teacher, teacher]), masks)
    expected = torch.stack([loss(student, teacher, MASK), loss(-student, teacher, ~MASK)])
    torch.testing.assert_close(found, expected)


def test_une_temperature_en_tenseur_passe_sous_vmap():
    student, teacher = pair(2, 3, 5)
    temperatures = torch.tensor([1.0, 4.0], dtype=torch.float64)
    found = torch.vmap(lambda t: reverse_kl_loss(student, teacher, MASK, t))(temperatures)
    torch.testing.assert_close(found, torch.stack([reverse_kl_loss(student, teacher, MASK, t) for t in (1.0, 4.0)]))


# --- Les extrêmes


@ALL
@pytest.mark.parametrize("scale", [1e-30, 1e4, 1e30])
def test_des_logits_immenses_ou_minuscules_donnent_des_nombres(loss, scale):
    student, teacher = pair(2, 3, 5, dtype=torch.float32)
    assert_finite(lambda s, t: loss(scale * s, t), student, scale * teacher)


@ALL
def test_un_mot_masque_des_deux_cotes_est_un_mot_de_moins(loss):
    student, teacher = pair(2, 3, 5)
    for side in (student, teacher):
        side[..., 2] = -math.inf
    value, gradient = value_and_gradient(loss, student, teacher)
    keep = [0, 1, 3, 4]
    expected, expected_gradient = value_and_gradient(loss, student[..., keep], teacher[..., keep])
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient[..., keep], expected_gradient)
    assert (gradient[..., 2] == 0).all()


def test_un_mot_que_le_teacher_interdit_rend_la_kl_inverse_infinie_et_elle_seule():
    student, teacher = pair(1, 1, 4)
    teacher[..., 0] = -math.inf
    assert reverse_kl_loss(student, teacher) == math.inf
    assert_finite(forward_kl_loss, student, teacher)
    assert_finite(generalized_jsd_loss, student, teacher)


@ALL
def test_en_fp16_un_grand_nombre_de_mots_ne_fait_pas_disparaitre_le_gradient(loss):
    student, teacher = pair(64, 64, 8, dtype=torch.float16)
    scale = 2.0**12  # celle d'un GradScaler
    (found,) = torch.autograd.grad(scale * loss(student.requires_grad_(), teacher), student)
    exact = student.detach().double().requires_grad_()
    (expected,) = torch.autograd.grad(scale * loss(exact, teacher.double()), exact)
    torch.testing.assert_close(found.double(), expected, rtol=5e-3, atol=1e-6)


# --- La mémoire


def kept_tensors(loss) -> float:
    """Ce que le graphe garde jusqu'à la rétropropagation, en tenseurs de la taille des logits, ceux-ci non comptés."""
    student, teacher = pair(2, 3, 32_000, dtype=torch.float32)
    student.requires_grad_()
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        loss(student, teacher).backward()
    kept.pop(student.untyped_storage().data_ptr(), None)
    return sum(kept.values()) / (student.numel() * student.element_size())


def plain_forward(student, teacher):
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    return (log_p.exp() * (log_p - log_q)).sum(-1).mean()


def plain_reverse(student, teacher):
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    return (log_q.exp() * (log_q - log_p)).sum(-1).mean()


def plain_jsd(student, teacher):
    log_q, log_p = student.log_softmax(-1), teacher.log_softmax(-1)
    log_m = torch.logaddexp(log_p, log_q) - math.log(2)
    return ((log_p.exp() * (log_p - log_m)).sum(-1) + (log_q.exp() * (log_q - log_m)).sum(-1)).mean() / 2


@pytest.mark.parametrize(
    ("loss", "plain", "plain_kept"),
    [(forward_kl_loss, plain_forward, 2), (reverse_kl_loss, plain_reverse, 3), (generalized_jsd_loss, plain_jsd, 5)],
)
def test_un_seul_tenseur_de_la_taille_des_logits_est_garde(loss, plain, plain_kept):
    assert kept_tensors(loss) <= 1.01
    assert round(kept_tensors(plain)) == plain_kept


@needs_gpu
@ALL
def test_sur_gpu_le_sommet_de_memoire_reste_de_quelques_logits(loss):
    student, teacher = (side.cuda() for side in pair(4, 64, 32_000, dtype=torch.float32))
    student.requires_grad_()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    loss(student, teacher).backward()
    assert torch.cuda.max_memory_allocated() - before < 8 * student.numel() * student.element_size()


# --- Les refus


@ALL
def test_un_mauvais_argument_est_dit(loss):
    student, teacher = pair(2, 3, 5)
    assert_refused(lambda: loss(student.tolist(), teacher), TypeError, "student_logits", "(B, L, V)")
    assert_refused(lambda: loss(student.long(), teacher), TypeError, "student_logits", "int64")
    assert_refused(lambda: loss(student[0], teacher), ValueError, "student_logits", "(3, 5)", "(B, L, V)")
    assert_refused(lambda: loss(student, teacher[:, :2]), ValueError, "teacher_logits", "(2, 2, 5)", "(2, 3, 5)")
    assert_refused(lambda: loss(student, teacher, temperature=0), ValueError, "temperature")
    assert_refused(lambda: loss(student, teacher, MASK.long()), TypeError, "mask", "int64", "booléens")
    assert_refused(lambda: loss(student, teacher, [[True]]), TypeError, "mask", "list")
    assert_refused(lambda: loss(student, teacher, MASK.T), ValueError, "mask", "(3, 2)", "(2, 3)")
    assert_refused(lambda: loss(student, teacher, MASK & False), ValueError, "mask", "aucun mot gardé")


@ALL
def test_deux_vocabulaires_sont_refuses_et_le_chemin_est_dit(loss):
    student, teacher = pair(2, 3, 5, teacher_shape=(2, 3, 7))
    assert_refused(
        lambda: loss(student, teacher), ValueError, "vocabulaire de 7 mots", "5", "distillation de séquences"
    )


@pytest.mark.parametrize(("beta", "words"), [(0, "forward_kl_loss"), (1, "reverse_kl_loss"), (0.0, "forward_kl_loss")])
def test_les_deux_bouts_de_beta_sont_refuses_et_nomment_leur_limite(beta, words):
    assert_refused(lambda: generalized_jsd_loss(*pair(1, 1, 3), beta=beta), ValueError, "beta", words)


@pytest.mark.parametrize("beta", [-0.1, 1.5, math.nan])
def test_un_beta_hors_de_son_intervalle_est_refuse(beta):
    assert_refused(lambda: generalized_jsd_loss(*pair(1, 1, 3), beta=beta), ValueError, "beta", "entre 0 et 1")
    assert_refused(lambda: generalized_jsd_loss(*pair(1, 1, 3), beta="0,5"), TypeError, "beta")
