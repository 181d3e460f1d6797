"""10.2 : kd_loss, dkd_loss, standardized_kd_loss, dist_loss et KnowledgeDistillationLoss."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, strategies as st
from support import references
from support.loss_contract import (
    PROPERTIES,
    assert_finite,
    assert_refused,
    assert_vmaps,
    assert_zero_without_gradient,
    matrices,
    pair,
    value_and_gradient,
)

from kdcourse import KnowledgeDistillationLoss, dist_loss, dkd_loss, kd_loss, standardized_kd_loss

LABELS = torch.tensor([0, 2, 1, 3])


def dkd(student, teacher, temperature=4.0):
    return dkd_loss(student, teacher, LABELS[: len(student)].to(student.device), temperature)


def by_class(student, teacher):
    return dist_loss(student, teacher, beta=0.0)


def by_example(student, teacher):
    return dist_loss(student, teacher, gamma=0.0)


LOSSES = pytest.mark.parametrize("loss", [kd_loss, dkd, standardized_kd_loss, dist_loss])
TEMPERATURES = st.sampled_from([0.5, 1.0, 4.0, 20.0])


@st.composite
def logits_pairs(draw):
    batch, classes = draw(st.integers(1, 5)), draw(st.integers(2, 6))
    student, teacher = (draw(matrices(batch, classes)) for _ in range(2))
    labels = torch.tensor(draw(st.lists(st.integers(0, classes - 1), min_size=batch, max_size=batch)))
    return student, teacher, labels


# --- Les valeurs


@PROPERTIES
@given(logits_pairs(), TEMPERATURES)
def test_kd_egale_la_reference(logits, temperature):
    student, teacher, _ = logits
    expected = references.kd(student.tolist(), teacher.tolist(), temperature)
    assert kd_loss(student, teacher, temperature).item() == pytest.approx(expected, rel=1e-10, abs=1e-12)


@PROPERTIES
@given(logits_pairs(), TEMPERATURES, st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from([0.0, 1.0, 8.0]))
def test_dkd_egale_la_reference(logits, temperature, alpha, beta):
    student, teacher, labels = logits
    expected = references.dkd(student.tolist(), teacher.tolist(), labels.tolist(), temperature, alpha, beta)
    value = dkd_loss(student, teacher, labels, temperature, alpha, beta)
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-11)


def test_le_gradient_de_kd_est_celui_de_la_reference():
    student, teacher = pair(3, 4)
    expected = references.numeric_gradient(lambda s: references.kd(s, teacher.tolist()), student.tolist())
    torch.testing.assert_close(
        value_and_gradient(kd_loss, student, teacher)[1].tolist(), expected, rtol=1e-6, atol=1e-9
    )


def test_le_gradient_de_dkd_est_celui_de_la_reference():
    student, teacher = pair(4, 4)
    loss = lambda s: references.dkd(s, teacher.tolist(), LABELS.tolist())  # noqa: E731
    expected = references.numeric_gradient(loss, student.tolist())
    torch.testing.assert_close(value_and_gradient(dkd, student, teacher)[1].tolist(), expected, rtol=1e-6, atol=1e-9)


@PROPERTIES
@given(logits_pairs(), TEMPERATURES)
def test_la_kd_standardisee_egale_la_reference(logits, temperature):
    student, teacher, _ = logits
    expected = references.standardized_kd(student.tolist(), teacher.tolist(), temperature)
    value = standardized_kd_loss(student, teacher, temperature)
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-12)


@PROPERTIES
@given(logits_pairs(), TEMPERATURES, st.sampled_from([0.0, 1.0, 2.5]), st.sampled_from([0.0, 1.0, 2.5]))
def test_dist_egale_la_reference(logits, temperature, beta, gamma):
    student, teacher, _ = logits
    expected = references.dist(student.tolist(), teacher.tolist(), temperature, beta, gamma)
    value = dist_loss(student, teacher, temperature, beta, gamma)
    assert value.item() == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_dist_egale_la_formule_des_auteurs_a_leur_1e_8_pres():
    student, teacher = pair(8, 10)
    expected = references.dist(student.tolist(), teacher.tolist(), epsilon=1e-8)
    assert dist_loss(student, teacher).item() == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    "loss, reference",
    [(standardized_kd_loss, references.standardized_kd), (dist_loss, references.dist)],
    ids=["standardized_kd", "dist"],
)
def test_le_gradient_est_celui_de_la_reference(loss, reference):
    student, teacher = pair(3, 4)
    expected = references.numeric_gradient(lambda s: reference(s, teacher.tolist()), student.tolist())
    torch.testing.assert_close(value_and_gradient(loss, student, teacher)[1].tolist(), expected, rtol=1e-6, atol=1e-9)


def test_la_kd_standardisee_et_dist_ont_les_valeurs_par_defaut_des_auteurs():
    student, teacher = pair(4, 5)
    assert standardized_kd_loss(student, teacher) == standardized_kd_loss(student, teacher, temperature=2.0)
    assert dist_loss(student, teacher) == dist_loss(student, teacher, temperature=1.0, beta=1.0, gamma=1.0)


def test_dkd_a_les_valeurs_par_defaut_de_l_article():
    student, teacher = pair(4, 5)
    assert dkd_loss(student, teacher, LABELS) == dkd_loss(
        student, teacher, LABELS, temperature=4.0, alpha=1.0, beta=8.0
    )


# --- Les propriétés


@PROPERTIES
@given(logits_pairs(), TEMPERATURES)
def test_kd_n_est_jamais_negative(logits, temperature):
    student, teacher, _ = logits
    assert kd_loss(student, teacher, temperature) >= -1e-13 * temperature**2


@PROPERTIES
@given(logits_pairs(), TEMPERATURES, st.sampled_from([0.0, 1.0, 2.5]))
def test_dist_va_de_0_a_2_fois_t2_fois_la_somme_des_poids(logits, temperature, gamma):
    student, teacher, _ = logits
    largest = 2 * temperature**2 * (1 + gamma)
    assert 0 <= dist_loss(student, teacher, temperature, gamma=gamma) <= largest * (1 + 1e-12)


@LOSSES
def test_ajouter_une_constante_aux_logits_ne_change_rien(loss):
    student, teacher = pair(4, 5)
    torch.testing.assert_close(loss(student + 3.0, teacher - 7.0), loss(student, teacher))


@PROPERTIES
@given(logits_pairs(), st.floats(0.5, 100), st.floats(-10, 10))
def test_la_kd_standardisee_ignore_une_fonction_affine_croissante_des_logits(logits, slope, offset):
    student, teacher, _ = logits
    slopes = torch.linspace(1, slope, len(student), dtype=torch.float64)[:, None]  # une par exemple
    expected = standardized_kd_loss(student, teacher)
    scaled = standardized_kd_loss(slopes * student + offset, teacher)
    torch.testing.assert_close(scaled, expected, rtol=1e-3, atol=1e-3)  # le 1e-7 : 1e-4 d'un écart-type de 1e-3
    scaled = standardized_kd_loss(student, slopes * teacher - offset)
    torch.testing.assert_close(scaled, expected, rtol=1e-3, atol=1e-3)


@PROPERTIES
@given(logits_pairs(), st.floats(0.1, 1))
def test_dist_ignore_une_fonction_affine_croissante_des_probabilites(logits, slope):
    student, teacher, _ = logits
    flattened = (slope * student.softmax(1) + (1 - slope) / student.shape[1]).log()
    torch.testing.assert_close(dist_loss(flattened, teacher), dist_loss(student, teacher), rtol=1e-7, atol=1e-7)


def test_la_correlation_de_deux_nombres_n_a_pas_de_gradient():
    for loss, (student, teacher) in [(by_example, pair(5, 2)), (by_class, pair(2, 5))]:
        value, gradient = value_and_gradient(loss, student, teacher)
        assert 0 < value < 2 and gradient.abs().max() < 1e-13


@LOSSES
def test_l_ordre_des_classes_n_importe_pas(loss):
    student, teacher = pair(4, 4)
    order = LABELS.argsort()  # LABELS est une permutation : elle renomme ses propres classes
    named = lambda s, t: dkd_loss(s, t, order[LABELS])  # noqa: E731
    torch.testing.assert_close(
        (named if loss is dkd else loss)(student[:, LABELS], teacher[:, LABELS]), loss(student, teacher)
    )


@PROPERTIES
@given(logits_pairs(), st.randoms(use_true_random=False))
def test_les_pertes_ne_dependent_pas_de_l_ordre_du_lot(logits, random):
    student, teacher, labels = logits
    order = random.sample(range(len(labels)), len(labels))
    torch.testing.assert_close(kd_loss(student[order], teacher[order]), kd_loss(student, teacher))
    shuffled = dkd_loss(student[order], teacher[order], labels[order])
    torch.testing.assert_close(shuffled, dkd_loss(student, teacher, labels))
    for loss in (standardized_kd_loss, dist_loss):
        torch.testing.assert_close(loss(student[order], teacher[order]), loss(student, teacher))


@PROPERTIES
@given(logits_pairs(), TEMPERATURES)
def test_dkd_redonne_kd_quand_le_reste_pese_la_masse_que_lui_laisse_le_teacher(logits, temperature):
    student, teacher, labels = logits
    total = 0.0
    for s, t, y in zip(student[:, None], teacher[:, None], labels[:, None], strict=True):
        target = dkd_loss(s, t, y, temperature, alpha=1, beta=0)
        rest = dkd_loss(s, t, y, temperature, alpha=0, beta=1)
        total += target + (1 - (t / temperature).softmax(1)[0, y.item()]) * rest
    torch.testing.assert_close(total / len(labels), kd_loss(student, teacher, temperature), rtol=1e-9, atol=1e-12)


def test_le_gradient_de_kd_converge_vers_l_ecart_centre_des_logits():
    student, teacher = pair(4, 10)
    limit = (student - student.mean(1, keepdim=True) - teacher + teacher.mean(1, keepdim=True)) / student.numel()
    gaps = []
    for temperature in (10.0, 100.0, 1000.0):
        gradient = value_and_gradient(lambda s, t, T=temperature: kd_loss(s, t, T), student, teacher)[1]
        gaps.append(((gradient - limit).norm() / limit.norm()).item())
    assert gaps[2] < 2e-3
    assert gaps[1] < gaps[0] / 5 and gaps[2] < gaps[1] / 5  # l'écart décroît comme 1/T


def test_sans_le_facteur_t2_le_gradient_de_kd_decroit_comme_1_sur_t2():
    student, teacher = pair(4, 10)
    norms = [
        value_and_gradient(lambda s, t, T=T: kd_loss(s, t, T) / T**2, student, teacher)[1].norm() for T in (50.0, 100.0)
    ]
    assert (norms[0] / norms[1]).item() == pytest.approx(4, rel=0.05)


def test_la_partie_hors_cible_de_dkd_est_nulle_pour_deux_classes():
    student, teacher = pair(4, 2)
    loss = lambda s, t: dkd_loss(s, t, LABELS % 2, alpha=0, beta=8)  # noqa: E731
    assert_zero_without_gradient(loss, student, teacher)


def test_la_partie_hors_cible_de_dkd_ignore_le_logit_de_la_cible():
    student, teacher = pair(4, 5)
    moved = student.clone()
    moved[torch.arange(4), LABELS] += 10.0
    torch.testing.assert_close(dkd_loss(moved, teacher, LABELS, alpha=0), dkd_loss(student, teacher, LABELS, alpha=0))


# --- Les extrêmes


@LOSSES
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_des_logits_de_1e4_donnent_des_nombres_finis(loss, dtype, temperature):
    extreme = torch.tensor([[1e4, -1e4, 0, 5], [-1e4, 1e4, 1e4, 3], [1e4] * 4, [-1e4, -1e4, -1e4, 1e4]], dtype=dtype)
    at = lambda s, t: loss(s, t, temperature)  # noqa: E731
    assert_finite(at, extreme, extreme.flip(1))
    assert_finite(at, torch.zeros_like(extreme), extreme)
    assert_finite(at, extreme, torch.zeros_like(extreme))


@LOSSES
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_des_logits_de_1e30_donnent_des_nombres_finis(loss, dtype):
    student, teacher = pair(4, 5, dtype=dtype)
    assert_finite(loss, 1e30 * student, teacher)
    assert_finite(loss, student, 1e30 * teacher)


@LOSSES
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("batch", [1, 4])
def test_un_lot_degenere_donne_des_nombres_finis(loss, dtype, batch):
    ordinary = pair(batch, 5, dtype=dtype)[1]
    uniform, duplicated = torch.full((batch, 5), 0.3, dtype=dtype), ordinary[:1].expand(batch, 5)
    one_hot = 100 * torch.eye(5, dtype=dtype)[:batch]
    kinds = [ordinary, uniform, duplicated, one_hot, one_hot[:1].expand(batch, 5)]
    for student in kinds:
        for teacher in kinds:
            assert_finite(loss, student, teacher)


# En float64 aussi : sur un processeur, torch calcule en float64 l'écart-type de nombres float32.
@pytest.mark.parametrize("scale, dtype", [(1e30, torch.float32), (1e200, torch.float64)])
def test_la_kd_standardisee_reste_exacte_quand_le_carre_des_logits_deborde(scale, dtype):
    student, teacher = pair(4, 5, dtype=dtype)
    large = standardized_kd_loss(scale * student, scale * teacher)
    torch.testing.assert_close(large, standardized_kd_loss(student, teacher), rtol=1e-5, atol=0)


def test_la_kd_standardisee_reste_exacte_loin_de_zero():
    student, teacher = ((64 * logits).round() / 64 for logits in pair(4, 5, dtype=torch.float32))
    far = standardized_kd_loss(student + 2.0**16, teacher - 2.0**16)  # ces sommes sont exactes en float32
    torch.testing.assert_close(far, standardized_kd_loss(student, teacher), rtol=1e-5, atol=0)


@pytest.mark.parametrize("constant", [0.0, 0.3, 3e38])
def test_des_logits_constants_sont_une_prediction_uniforme_sans_gradient(constant):
    teacher = pair(4, 5, dtype=torch.float32)[1]
    uniform = torch.full((4, 5), constant)
    value, gradient = value_and_gradient(standardized_kd_loss, uniform, teacher)
    expected = references.kd([[0.0] * 5] * 4, [references.standardized(row) for row in teacher.tolist()], 2.0)
    assert value.item() == pytest.approx(expected, rel=1e-5)
    assert (gradient == 0).all()


def test_dist_ignore_un_exemple_aux_predictions_uniformes():
    student, teacher = pair(4, 5)
    student[0], teacher[1] = 0.3, -0.7
    value, gradient = value_and_gradient(by_example, student, teacher)
    assert value == by_example(student[2:], teacher[2:]) / 2
    assert (gradient[:2] == 0).all() and (gradient[2:] != 0).any(1).all()


@pytest.mark.parametrize("logit", [-1000.0, -25.0])
def test_dist_ignore_une_classe_a_laquelle_personne_ne_croit(logit):
    student, teacher = pair(4, 5)
    student, teacher = (F.pad(logits, (0, 1), value=logit) for logits in (student, teacher))
    assert student.softmax(1)[:, 5].max() < 1e-10
    torch.testing.assert_close(by_class(student, teacher), by_class(student[:, :5], teacher[:, :5]) * 5 / 6)


def test_dist_compte_une_classe_rare():
    student, teacher = (F.pad(logits, (0, 1), value=-12.0) for logits in pair(4, 5))
    assert student.softmax(1)[:, 5].max() < 1e-5
    expected = references.dist(student.tolist(), teacher.tolist(), beta=0.0)
    assert by_class(student, teacher).item() == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("classes", [3, 7, 10, 1000])
def test_dist_d_un_student_uniforme_aux_arrondis_pres_est_nulle(classes):
    teacher = pair(8, classes, dtype=torch.float32)[1]
    assert_zero_without_gradient(dist_loss, torch.full((8, classes), 0.3), teacher)


def test_dist_ne_correle_pas_des_exemples_egaux_aux_arrondis_pres():
    student, teacher = pair(8, 10, dtype=torch.float32)
    same = student[:1] + torch.linspace(0, 1, 8)[:, None]
    assert len(same.softmax(1)[:, 0].unique()) > 1
    assert_zero_without_gradient(by_class, same, teacher)


def test_dist_d_un_seul_exemple_se_reduit_a_la_relation_entre_ses_classes():
    student, teacher = pair(1, 5)
    assert_zero_without_gradient(by_class, student, teacher)
    assert_zero_without_gradient(dist_loss, student, student.clone())
    assert dist_loss(student, teacher) == by_example(student, teacher) > 0


@pytest.mark.parametrize("confidence", [5.0, 15.0, 17.0, 20.0, 50.0, 100.0])
def test_un_teacher_presque_certain_n_emballe_pas_le_gradient_de_dist(confidence):
    student, teacher = pair(8, 10, dtype=torch.float32)
    teacher = teacher + confidence * torch.eye(10)[torch.arange(8) % 2]  # huit classes n'ont presque rien
    assert value_and_gradient(dist_loss, student, teacher)[1].norm() < 1


def test_deux_distributions_egales_annulent_dist_meme_avec_des_classes_rares():
    _, teacher = pair(8, 10)
    assert_zero_without_gradient(dist_loss, 10 * teacher, 10 * teacher)
    rare = references.dist((10 * teacher).tolist(), (10 * teacher).tolist(), epsilon=1e-8)
    assert rare > 1e-3  # ce que donne le 1e-8 ajouté au produit des normes


def test_kd_reste_exacte_quand_une_probabilite_du_teacher_s_annule():
    student, teacher = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, -500.0, -1.0]])
    assert (teacher / 2.0).softmax(1)[0, 1] == 0
    expected = references.kd(student.tolist(), teacher.tolist(), 2.0)
    assert kd_loss(student, teacher, 2.0).item() == pytest.approx(expected, rel=1e-6)


def test_dkd_reste_exacte_quand_une_probabilite_du_teacher_s_annule():
    student, teacher, labels = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[0.0, -500.0, -1.0]]), torch.tensor([2])
    expected = references.dkd(student.tolist(), teacher.tolist(), [2], 2.0)
    assert dkd_loss(student, teacher, labels, 2.0).item() == pytest.approx(expected, rel=1e-6)


def test_dkd_d_un_teacher_certain_garde_la_hierarchie_des_autres_classes():
    # p_cible vaut 1 en float32 : 1 - p serait nul, et son logarithme infini.
    student, teacher = torch.tensor([[40.0, 2.0, 0.0]]), torch.tensor([[400.0, 0.0, 2.0]])
    p = references.softmax([0.0, 2.0], 1.0)
    log_q = references.log_softmax([2.0, 0.0], 1.0)
    expected = sum(p[c] * (math.log(p[c]) - log_q[c]) for c in range(2))
    value = dkd_loss(student, teacher, torch.tensor([0]), 1.0, alpha=0, beta=1)
    assert value.item() == pytest.approx(expected, rel=1e-5)


@LOSSES
def test_vmap_egale_la_boucle_sur_un_lot_degenere(loss):
    student, teacher = pair(4, 5)
    student[0], student[1], teacher[2] = 0.3, student[2], 0.0
    assert_vmaps(loss, student, teacher)


@LOSSES
def test_chaque_student_a_sa_temperature_sous_vmap(loss):
    students, teacher = pair(3, 4, 5, teacher_shape=(4, 5))
    temperatures = torch.tensor([1.0, 4.0, 20.0], dtype=torch.float64)
    together = torch.vmap(loss, in_dims=(0, None, 0))(students, teacher, temperatures)
    alone = [loss(s, teacher, T) for s, T in zip(students, temperatures.tolist(), strict=True)]
    torch.testing.assert_close(together, torch.stack(alone))


# --- Le module


def test_le_module_combine_kd_et_etiquettes_selon_alpha():
    student, teacher = pair(4, 5)
    terms = KnowledgeDistillationLoss(temperature=3.0, alpha=0.3)(student, teacher, LABELS)
    assert terms.distillation.item() == pytest.approx(references.kd(student.tolist(), teacher.tolist(), 3.0))
    assert terms.hard.item() == pytest.approx(references.cross_entropy(student.tolist(), LABELS.tolist()))
    assert terms.total == 0.3 * terms.distillation + 0.7 * terms.hard


def test_le_resultat_se_deballe_et_se_propage():
    student, teacher = pair(4, 5)
    student.requires_grad_()
    terms = KnowledgeDistillationLoss()(student, teacher, LABELS)
    total, distillation, hard = terms
    assert terms.item() == total.item() == (0.7 * distillation + (1 - 0.7) * hard).item()
    terms.backward()
    assert student.grad.abs().sum() > 0


def test_alpha_1_ignore_les_etiquettes_et_alpha_0_le_teacher():
    student, teacher = pair(4, 5)
    only_teacher = KnowledgeDistillationLoss(alpha=1)(student, teacher, LABELS)
    only_labels = KnowledgeDistillationLoss(alpha=0)(student, teacher, LABELS)
    assert only_teacher.total == only_teacher.distillation
    assert only_labels.total == only_labels.hard


# --- Les refus

GOOD = torch.zeros(4, 5)


@pytest.mark.parametrize(
    "loss",
    [kd_loss, lambda s, t: dkd_loss(s, t, LABELS), standardized_kd_loss, dist_loss],
    ids=["kd", "dkd", "standardized_kd", "dist"],
)
@pytest.mark.parametrize(
    "student, teacher, error, fragments",
    [
        (GOOD, torch.zeros(4, 7), ValueError, ["teacher_logits", "(4, 7)", "(4, 5)"]),
        (GOOD, torch.zeros(3, 5), ValueError, ["teacher_logits", "(3, 5)", "(4, 5)"]),
        (torch.zeros(4), torch.zeros(4), ValueError, ["student_logits", "(4,)", "(B, C)"]),
        (torch.zeros(0, 5), torch.zeros(0, 5), ValueError, ["student_logits", "(0, 5)", "sans dimension nulle"]),
        (GOOD.long(), GOOD, TypeError, ["student_logits", "torch.int64", "flottant"]),
        (GOOD, GOOD.bool(), TypeError, ["teacher_logits", "torch.bool", "flottant"]),
        ([[0.0]], GOOD, TypeError, ["student_logits", "list", "(B, C)"]),
        (GOOD, GOOD.to("meta"), ValueError, ["teacher_logits", "meta", "cpu", "student_logits"]),
    ],
)
def test_des_logits_inattendus_sont_refuses(loss, student, teacher, error, fragments):
    assert_refused(lambda: loss(student, teacher), error, *fragments)


@pytest.mark.parametrize(
    "call",
    [
        lambda T: kd_loss(GOOD, GOOD, T),
        lambda T: dkd_loss(GOOD, GOOD, LABELS, T),
        lambda T: standardized_kd_loss(GOOD, GOOD, T),
        lambda T: dist_loss(GOOD, GOOD, T),
        lambda T: KnowledgeDistillationLoss(temperature=T),
    ],
    ids=["kd", "dkd", "standardized_kd", "dist", "module"],
)
@pytest.mark.parametrize("wrong", [0, -1.0, math.nan, math.inf])
def test_une_temperature_nulle_negative_ou_infinie_est_refusee(call, wrong):
    assert_refused(lambda: call(wrong), ValueError, "temperature", str(wrong), "strictement positif")


@LOSSES
def test_une_temperature_par_classe_est_refusee(loss):
    assert_refused(lambda: loss(GOOD, GOOD, torch.ones(5)), ValueError, "temperature", "(5,)", "()")


@LOSSES
def test_une_temperature_qui_n_est_pas_un_nombre_est_refusee(loss):
    assert_refused(lambda: loss(GOOD, GOOD, "4"), TypeError, "temperature", "'4'", "str", "nombre fini")


@pytest.mark.parametrize("name", ["alpha", "beta"])
@pytest.mark.parametrize("wrong, error", [(-0.1, ValueError), (math.inf, ValueError), (None, TypeError)])
def test_dkd_refuse_un_poids_negatif_ou_infini(name, wrong, error):
    assert_refused(lambda: dkd_loss(GOOD, GOOD, LABELS, **{name: wrong}), error, name, str(wrong), "positif ou nul")


@pytest.mark.parametrize("name", ["beta", "gamma"])
@pytest.mark.parametrize("wrong, error", [(-0.1, ValueError), (math.inf, ValueError), (None, TypeError)])
def test_dist_refuse_un_poids_negatif_ou_infini(name, wrong, error):
    assert_refused(lambda: dist_loss(GOOD, GOOD, **{name: wrong}), error, name, str(wrong), "positif ou nul")


@pytest.mark.parametrize("loss", [dkd, standardized_kd_loss])
def test_une_seule_classe_est_refusee(loss):
    one = torch.zeros(2, 1)
    assert_refused(lambda: loss(one, one), ValueError, "student_logits", "(2, 1)", "C ≥ 2")


@pytest.mark.parametrize("wrong", [-0.1, 1.1, math.nan])
def test_le_module_refuse_un_alpha_hors_de_0_1(wrong):
    assert_refused(lambda: KnowledgeDistillationLoss(alpha=wrong), ValueError, "alpha", str(wrong), "[0, 1]")


@pytest.mark.parametrize(
    "call", [lambda y: dkd_loss(GOOD, GOOD, y), lambda y: KnowledgeDistillationLoss()(GOOD, GOOD, y)]
)
@pytest.mark.parametrize(
    "labels, error, fragments",
    [
        (LABELS[:3], ValueError, ["labels", "(3,)", "(4,)"]),
        (LABELS[:, None], ValueError, ["labels", "(4, 1)", "(4,)"]),
        (LABELS.float(), TypeError, ["labels", "torch.float32", "torch.int64"]),
        ([0, 1, 2, 3], TypeError, ["labels", "list", "int64"]),
        (LABELS.to("meta"), ValueError, ["labels", "meta", "cpu"]),
    ],
)
def test_des_etiquettes_inattendues_sont_refusees(call, labels, error, fragments):
    assert_refused(lambda: call(labels), error, *fragments)


@pytest.mark.parametrize("wrong", [-1, 5])
def test_le_module_refuse_une_etiquette_hors_des_classes(wrong):
    labels = torch.tensor([0, wrong, 1, 2])
    assert_refused(
        lambda: KnowledgeDistillationLoss()(GOOD, GOOD, labels), ValueError, "labels", str(wrong), "de 0 à 4"
    )


@pytest.mark.parametrize("name", ["student_logits", "teacher_logits"])
@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_le_module_refuse_des_logits_nan_ou_infinis(name, wrong):
    logits = {"student_logits": GOOD, "teacher_logits": GOOD, name: torch.full((4, 5), wrong)}
    call = lambda: KnowledgeDistillationLoss()(**logits, labels=LABELS)  # noqa: E731
    assert_refused(call, ValueError, name, "20", "finis attendus")
