"""10.4 : les quatre pertes de relations, cosine_relations et RelationDistillation."""

import math

import pytest
import torch
from hypothesis import given, strategies as st
from support import references
from support.loss_contract import (
    PROPERTIES,
    assert_finite,
    assert_gradcheck,
    assert_refused,
    matrices,
    pair,
    value_and_gradient,
)

from kdcourse import (
    RelationDistillation,
    cosine_relation_loss,
    cosine_relations,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
)
from kdcourse.losses import relations

REFERENCES = {
    cosine_relation_loss: references.cosine_relation,
    similarity_preserving_loss: references.similarity_preserving,
    rkd_distance_loss: references.rkd_distance,
    rkd_angle_loss: references.rkd_angle,
}
LOSSES = pytest.mark.parametrize("loss", REFERENCES)
RKD = pytest.mark.parametrize("loss", [rkd_distance_loss, rkd_angle_loss])


@st.composite
def batches(draw):
    batch = draw(st.integers(1, 6))
    return tuple(draw(matrices(batch, draw(st.integers(1, 4)))) for _ in range(2))


def reference_value(loss, student, teacher):
    return REFERENCES[loss](student.double().tolist(), teacher.double().tolist())


# --- Les valeurs


@LOSSES
def test_la_perte_egale_la_reference(loss):
    @PROPERTIES
    @given(batches())
    def check(batch):
        assert loss(*batch).item() == pytest.approx(reference_value(loss, *batch), rel=1e-7, abs=1e-9)

    check()


@LOSSES
@pytest.mark.parametrize("shapes", [((5, 3), (5, 3)), ((6, 2), (6, 7)), ((2, 4), (2, 1))])
def test_le_gradient_est_celui_de_la_reference(loss, shapes):
    student, teacher = pair(*shapes[0], teacher_shape=shapes[1], seed=1)
    reference = REFERENCES[loss]
    expected = references.numeric_gradient(lambda s: reference(s, teacher.tolist()), student.tolist())
    gradient = value_and_gradient(loss, student, teacher)[1]
    torch.testing.assert_close(gradient.tolist(), expected, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("spread", [0.05, 20.0])
@RKD
def test_les_deux_branches_de_smooth_l1_egalent_la_reference(loss, spread):
    # Un exemple très à l'écart d'un seul côté : des écarts de distances et de cosinus au-delà de 1.
    student, teacher = pair(6, 2, seed=3)
    student[0] *= spread
    assert loss(student, teacher).item() == pytest.approx(reference_value(loss, student, teacher), rel=1e-9)
    assert_gradcheck(loss, student, teacher)


def test_les_relations_cosinus_egalent_la_reference():
    student, _ = pair(5, 3)
    torch.testing.assert_close(cosine_relations(student).tolist(), references.cosine_matrix(student.tolist()))


@LOSSES
def test_les_cartes_sont_aplaties(loss):
    student, teacher = pair(4, 2, 3, 3, teacher_shape=(4, 5, 2, 2))
    torch.testing.assert_close(loss(student, teacher), loss(student.flatten(1), teacher.flatten(1)))


def test_la_taille_des_blocs_d_ancres_ne_change_pas_la_perte_d_angle(monkeypatch):
    student, teacher = pair(7, 3)
    expected, expected_gradient = value_and_gradient(rkd_angle_loss, student, teacher)
    for anchors in (1, 3, 7):
        monkeypatch.setattr(relations, "_BLOCK_CPU", anchors * 49)
        value, gradient = value_and_gradient(rkd_angle_loss, student, teacher)
        torch.testing.assert_close(value, expected)
        torch.testing.assert_close(gradient, expected_gradient)


# --- Les propriétés


ROTATION = torch.linalg.qr(pair(3, 3, seed=9)[0])[0]
TRANSFORMS = {
    "rotation": lambda x: x @ ROTATION,
    "translation": lambda x: x + torch.tensor([2.0, -1.0, 0.5], dtype=x.dtype),
    "échelle commune": lambda x: 7.3 * x,
    "échelle par ligne": lambda x: x * torch.linspace(0.5, 3, len(x), dtype=x.dtype)[:, None],
}
INVARIANCES = {
    cosine_relation_loss: {"rotation", "échelle commune", "échelle par ligne"},
    similarity_preserving_loss: {"rotation", "échelle commune"},
    rkd_distance_loss: {"rotation", "échelle commune", "translation"},
    rkd_angle_loss: {"rotation", "échelle commune", "translation"},
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("transform", TRANSFORMS)
@LOSSES
def test_la_perte_a_les_invariances_de_sa_relation_et_aucune_autre(loss, transform, seed):
    student, teacher = pair(6, 3, teacher_shape=(6, 4), seed=seed)
    before = loss(student, teacher).item()
    transformed = (TRANSFORMS[transform](student), teacher)
    if transform in INVARIANCES[loss]:
        assert loss(*transformed).item() == pytest.approx(before, rel=1e-9)
    else:
        assert loss(*transformed).item() != pytest.approx(before, rel=1e-3)


@RKD
def test_un_decalage_de_1000_ne_coute_pas_sa_precision_a_float32(loss):
    student, teacher = (x + 1000 for x in pair(16, 8, dtype=torch.float32))
    value, gradient = value_and_gradient(loss, student, teacher)
    exact, exact_gradient = value_and_gradient(loss, student.double(), teacher.double())
    assert value.item() == pytest.approx(reference_value(loss, student, teacher), rel=1e-5)
    torch.testing.assert_close(value.double(), exact, rtol=1e-5, atol=0)
    torch.testing.assert_close(gradient.double(), exact_gradient, rtol=1e-3, atol=1e-6)


@RKD
def test_un_decalage_d_un_million_ne_coute_pas_sa_precision_a_float64(loss):
    student, teacher = (x + 1e6 for x in pair(8, 4))
    assert loss(student, teacher).item() == pytest.approx(reference_value(loss, student, teacher), rel=1e-7)


@RKD
@pytest.mark.parametrize("gap", [1e-2, 1e-4, 1e-5])
def test_deux_exemples_voisins_gardent_leur_distance_en_float32(loss, gap):
    student, teacher = pair(8, 4, dtype=torch.float32)
    student[1] = student[0] + gap * torch.tensor([1.0, -1.0, 0.5, 0.0])
    assert loss(student, teacher).item() == pytest.approx(reference_value(loss, student, teacher), rel=1e-5)


# --- Les extrêmes


@LOSSES
def test_un_lot_d_un_seul_exemple_a_une_perte_finie_et_un_graphe(loss):
    value, gradient = value_and_gradient(loss, *pair(1, 3, teacher_shape=(1, 4)))
    assert value == 0 and (gradient == 0).all()


@LOSSES
def test_des_exemples_confondus_donnent_la_reference_et_un_gradient_fini(loss):
    student, teacher = pair(6, 3, dtype=torch.float32)
    student[1] = student[0]
    student[4] = student[0]
    teacher[5] = teacher[2]
    assert loss(student, teacher).item() == pytest.approx(reference_value(loss, student, teacher), rel=1e-5)
    assert_finite(loss, student, teacher)


def test_un_exemple_repete_n_entre_pas_dans_la_distance_moyenne():
    # L'arrondi de la matrice de Gram donne à deux copies une distance minuscule, mais positive : elle ne compte pas.
    student, teacher = pair(33, 37)
    student = student[torch.arange(33) % 17] + 10
    expected = reference_value(rkd_distance_loss, student, teacher)
    assert rkd_distance_loss(student, teacher).item() == pytest.approx(expected, rel=1e-9)


@LOSSES
def test_des_exemples_tous_confondus_donnent_des_nombres_finis(loss):
    student, teacher = pair(5, 3, dtype=torch.float32)
    same = student[:1].expand(5, 3)
    for batch in ((same, teacher), (student, same), (same, same)):
        assert_finite(loss, *batch)
        assert loss(*batch).item() == pytest.approx(reference_value(loss, *batch), rel=1e-5, abs=1e-7)


@LOSSES
def test_des_features_nulles_donnent_la_reference_et_un_gradient_fini(loss):
    zeros, teacher = torch.zeros(5, 3), pair(5, 3, dtype=torch.float32)[1]
    for batch in ((zeros, teacher), (teacher, zeros), (zeros, zeros)):
        assert_finite(loss, *batch)
        assert loss(*batch).item() == pytest.approx(reference_value(loss, *batch), rel=1e-5, abs=1e-7)


@LOSSES
def test_une_ligne_nulle_parmi_d_autres_donne_la_reference_et_un_gradient_fini(loss):
    student, teacher = pair(5, 3, dtype=torch.float32)
    student[2] = 0
    assert loss(student, teacher).item() == pytest.approx(reference_value(loss, student, teacher), rel=1e-5)
    assert_finite(loss, student, teacher)


@LOSSES
@pytest.mark.parametrize("scale", [1e-30, 1e-15, 1e15, 1e30])
def test_une_echelle_extreme_ne_change_pas_la_perte(loss, scale):
    if loss is similarity_preserving_loss and scale in (1e-30, 1e30):
        pytest.skip("SP forme F Fᵀ sans changer d'échelle : sa documentation borne les features.")
    student, teacher = pair(5, 3, dtype=torch.float32)
    torch.testing.assert_close(loss(scale * student, teacher), loss(student, teacher), rtol=1e-5, atol=0)
    assert_finite(loss, scale * student, teacher)


@LOSSES
def test_fp16_reste_fini_aux_bornes_de_son_domaine(loss):
    student, teacher = pair(6, 4)
    assert_finite(loss, (6e4 * student / student.abs().max()).half(), teacher.half())
    assert_finite(loss, (1e-4 * student).half(), teacher.half())


def test_autocast_ne_change_pas_les_relations_cosinus():
    student = pair(8, 16, dtype=torch.float32)[0]
    with torch.autocast("cpu", torch.bfloat16):
        relations_under_autocast = cosine_relations(student)
    assert torch.equal(relations_under_autocast, cosine_relations(student))


@RKD
def test_gradcheck_avec_des_exemples_confondus_chez_le_teacher(loss):
    student, teacher = pair(5, 3)
    teacher[1] = teacher[0]
    assert_gradcheck(loss, student, teacher)


# --- Le module

FEATURES, LOGITS, LABELS = (
    torch.linspace(-1, 1, 12).view(4, 3).sin(),
    torch.linspace(-1, 2, 20).view(4, 5),
    torch.arange(4),
)
TEACHER = pair(4, 6, dtype=torch.float32)[1]
DEFAULT_SCALES = {
    "cosine": (cosine_relation_loss, 1),
    "SP": (similarity_preserving_loss, 3000),
    "RKD distance": (rkd_distance_loss, 25),
    "RKD angle": (rkd_angle_loss, 50),
}


@pytest.mark.parametrize("relation", DEFAULT_SCALES)
def test_le_module_pese_sa_relation_par_son_echelle_et_alpha(relation):
    loss, scale = DEFAULT_SCALES[relation]
    terms = RelationDistillation(alpha=0.3, relation=relation)(FEATURES, TEACHER, LOGITS, LABELS)
    assert terms.distillation.item() == pytest.approx(scale * reference_value(loss, FEATURES, TEACHER), rel=1e-4)
    assert terms.hard.item() == pytest.approx(references.cross_entropy(LOGITS.tolist(), LABELS.tolist()), rel=1e-5)
    assert terms.total == 0.3 * terms.distillation + (1 - 0.3) * terms.hard


def test_l_echelle_donnee_remplace_celle_par_defaut():
    terms = RelationDistillation(relation="RKD angle", scale=2.0)(FEATURES, TEACHER, LOGITS, LABELS)
    assert terms.distillation == 2 * rkd_angle_loss(FEATURES, TEACHER)


def test_la_relation_par_defaut_est_le_cosinus():
    terms = RelationDistillation()(FEATURES, TEACHER, LOGITS, LABELS)
    assert terms.distillation == cosine_relation_loss(FEATURES, TEACHER)


def test_le_resultat_se_deballe_et_se_propage():
    student = FEATURES.clone().requires_grad_()
    terms = RelationDistillation()(student, TEACHER, LOGITS, LABELS)
    total, distillation, hard = terms
    assert terms.item() == total.item() == (0.5 * distillation + 0.5 * hard).item()
    terms.backward()
    assert student.grad.abs().sum() > 0


# --- Les refus


@pytest.mark.parametrize(
    "student, teacher, error, fragments",
    [
        (FEATURES, TEACHER[:3], ValueError, ["teacher", "(3, 6)", "lot de 4", "(4, 3)"]),
        (FEATURES[0], TEACHER, ValueError, ["student", "(3,)", "(B, D)"]),
        (FEATURES[:, :0], TEACHER, ValueError, ["student", "(4, 0)", "sans dimension nulle"]),
        (FEATURES[:0], TEACHER[:0], ValueError, ["student", "(0, 3)", "sans dimension nulle"]),
        (FEATURES.long(), TEACHER, TypeError, ["student", "torch.int64", "flottant"]),
        (FEATURES, TEACHER.bool(), TypeError, ["teacher", "torch.bool", "flottant"]),
        ([FEATURES], [TEACHER], TypeError, ["student", "list", "tenseur", "(B, D)"]),
        (FEATURES, TEACHER.to("meta"), ValueError, ["teacher", "meta", "cpu", "student"]),
    ],
)
@pytest.mark.parametrize("loss", [*REFERENCES, "module"])
def test_des_features_inattendues_sont_refusees(loss, student, teacher, error, fragments):
    if loss == "module":
        fragments = [fragments[0] + "_features", *fragments[1:]]
        assert_refused(lambda: RelationDistillation()(student, teacher, LOGITS, LABELS), error, *fragments)
    else:
        assert_refused(lambda: loss(student, teacher), error, *fragments)


def test_les_relations_cosinus_refusent_un_vecteur():
    assert_refused(lambda: cosine_relations(FEATURES[0]), ValueError, "features", "(3,)", "(B, D)")


@pytest.mark.parametrize(
    "logits, labels, error, fragments",
    [
        (LOGITS[:3], LABELS[:3], ValueError, ["student_logits", "(3, 5)", "lot de 4", "student_features"]),
        (LOGITS * math.inf, LABELS, ValueError, ["student_logits", "20 valeur(s) NaN ou infinie(s)"]),
        (LOGITS, LABELS[:3], ValueError, ["labels", "(3,)", "(4,)"]),
        (LOGITS, LABELS.float(), TypeError, ["labels", "torch.float32", "torch.int64"]),
        (LOGITS, LABELS + 2, ValueError, ["labels", "5", "de 0 à 4"]),
        (LOGITS, LABELS - 1, ValueError, ["labels", "-1", "de 0 à 4"]),
    ],
)
def test_le_module_refuse_des_logits_ou_des_etiquettes_inattendus(logits, labels, error, fragments):
    assert_refused(lambda: RelationDistillation()(FEATURES, TEACHER, logits, labels), error, *fragments)


@pytest.mark.parametrize("wrong", ["rkd", None, ["cosine"]])
def test_le_module_refuse_une_relation_inconnue(wrong):
    expected = ["relation", repr(wrong), "'cosine'", "'SP'", "'RKD distance'", "'RKD angle'"]
    assert_refused(lambda: RelationDistillation(relation=wrong), ValueError, *expected)


@pytest.mark.parametrize("wrong", [-0.1, 1.5, math.nan])
def test_le_module_refuse_un_alpha_hors_de_0_1(wrong):
    assert_refused(lambda: RelationDistillation(alpha=wrong), ValueError, "alpha", str(wrong), "[0, 1]")


def test_le_module_refuse_une_echelle_negative():
    assert_refused(lambda: RelationDistillation(scale=-1.0), ValueError, "scale", "-1.0", "positif ou nul")


@pytest.mark.parametrize("loss", [rkd_distance_loss, rkd_angle_loss])
def test_une_derivee_seconde_leve_au_lieu_d_etre_fausse(loss):
    student, teacher = pair(5, 3)
    student.requires_grad_()
    (gradient,) = torch.autograd.grad(loss(student, teacher), student, create_graph=True)
    with pytest.raises(RuntimeError, match="se dérive une fois, pas deux"):
        (gradient.square().sum() + student.square().sum()).backward()


@LOSSES
def test_un_nan_reste_visible_dans_la_perte(loss):
    student, teacher = pair(5, 3)
    student = student.detach().clone()
    student[0, 0] = float("nan")
    assert loss(student, teacher).isnan()
