"""10.3 : hint_loss, attention_map, attention_loss, et les trois modules."""

import math

import pytest
import torch
from hypothesis import given, strategies as st
from support import references
from support.loss_contract import (
    PROPERTIES,
    assert_finite,
    assert_refused,
    matrices,
    pair,
    value_and_gradient,
)

from kdcourse import (
    AdaptationLayer,
    AttentionTransfer,
    FeatureDistillationLoss,
    attention_loss,
    attention_map,
    hint_loss,
)

LOSSES = pytest.mark.parametrize("loss", [hint_loss, attention_loss])
LABELS = torch.tensor([0, 2])
LOGITS = torch.linspace(-1, 1, 6).view(2, 3)


@st.composite
def maps_pairs(draw, same_channels):
    batch, channels, height, width = (draw(st.integers(1, 3)) for _ in range(4))
    teacher_channels = channels if same_channels else draw(st.integers(1, 3))
    student = draw(matrices(batch, channels * height * width)).view(batch, channels, height, width)
    teacher = draw(matrices(batch, teacher_channels * height * width)).view(batch, teacher_channels, height, width)
    return student, teacher


# --- Les valeurs


@PROPERTIES
@given(maps_pairs(same_channels=True))
def test_hint_egale_la_reference(maps):
    student, teacher = maps
    expected = references.mean_square_gap(student.tolist(), teacher.tolist())
    assert hint_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)
    assert hint_loss(student.flatten(1), teacher.flatten(1)).item() == pytest.approx(expected, rel=1e-12)


@PROPERTIES
@given(maps_pairs(same_channels=False))
def test_attention_egale_la_reference(maps):
    student, teacher = maps
    expected = references.attention(student.tolist(), teacher.tolist())
    assert attention_loss(student, teacher).item() == pytest.approx(expected, rel=1e-9, abs=1e-14)


@PROPERTIES
@given(maps_pairs(same_channels=False))
def test_la_carte_d_attention_egale_la_reference(maps):
    expected = references.attention_map(maps[0].tolist())
    assert attention_map(maps[0]).shape == (len(maps[0]), 1, *maps[0].shape[2:])
    torch.testing.assert_close(attention_map(maps[0]).flatten(1).tolist(), expected, rtol=1e-10, atol=1e-12)


def test_le_gradient_de_l_attention_est_celui_de_la_reference():
    student, teacher = pair(2, 3, 2, 2)

    def reference(rows):
        return references.attention(torch.tensor(rows, dtype=torch.float64).view(2, 3, 2, 2).tolist(), teacher.tolist())

    expected = references.numeric_gradient(reference, student.flatten(1).tolist())
    gradient = value_and_gradient(attention_loss, student, teacher)[1]
    torch.testing.assert_close(gradient.flatten(1).tolist(), expected, rtol=1e-6, atol=1e-9)


def test_le_gradient_de_hint_est_deux_fois_l_ecart_moyen():
    student, teacher = pair(2, 3)
    expected = [[2 * (s - t) / 6 for s, t in zip(a, b, strict=True)] for a, b in zip(student, teacher, strict=True)]
    torch.testing.assert_close(value_and_gradient(hint_loss, student, teacher)[1], torch.tensor(expected).double())


def test_des_cartes_de_tailles_differentes_sont_moyennees_avant_d_etre_normalisees():
    student, teacher = pair(2, 3, 2, 4, teacher_shape=(2, 5, 4, 2))
    teacher_energy = teacher.square().mean(1)
    student_energy = student.square().mean(1)
    # Hauteur 2 (celle du student), largeur 2 (celle du teacher) : chacun est réduit dans une direction.
    student_energy = (student_energy[:, :, 0::2] + student_energy[:, :, 1::2]) / 2
    teacher_energy = (teacher_energy[:, 0::2] + teacher_energy[:, 1::2]) / 2
    maps = [
        [references.unit(references.flatten(e.tolist())) for e in side] for side in (student_energy, teacher_energy)
    ]
    expected = references.mean_square_gap(*maps)
    assert attention_loss(student, teacher).item() == pytest.approx(expected, rel=1e-12)


# --- Les propriétés


@PROPERTIES
@given(maps_pairs(same_channels=False), st.floats(1e-3, 1e3), st.floats(1e-3, 1e3))
def test_l_attention_ne_depend_pas_d_une_echelle_positive(maps, scale, teacher_scale):
    student, teacher = maps
    scaled = attention_loss(scale * student, teacher_scale * teacher)
    torch.testing.assert_close(scaled, attention_loss(student, teacher), rtol=1e-9, atol=1e-12)


def test_l_attention_ne_depend_pas_d_une_echelle_par_exemple():
    student, teacher = pair(3, 2, 4, 4)
    scales = torch.tensor([0.01, 1.0, 100.0]).view(3, 1, 1, 1)
    torch.testing.assert_close(attention_loss(scales * student, teacher), attention_loss(student, teacher))


def test_hint_depend_de_l_echelle():
    student, teacher = pair(2, 3)
    assert hint_loss(2 * student, teacher) != pytest.approx(hint_loss(student, teacher).item(), rel=1e-3)


def test_une_carte_d_attention_est_de_norme_1():
    maps = attention_map(pair(3, 2, 4, 4)[0])
    torch.testing.assert_close(maps.flatten(1).norm(dim=1), torch.ones(3, dtype=torch.float64))


# --- Les extrêmes


@LOSSES
def test_des_features_nulles_donnent_des_nombres_finis(loss):
    zeros, teacher = torch.zeros(2, 3, 4, 4), pair(2, 3, 4, 4, dtype=torch.float32)[1]
    assert_finite(loss, zeros, teacher)
    assert_finite(loss, teacher, zeros)
    assert_finite(loss, zeros, zeros)


def test_la_carte_de_features_nulles_est_nulle():
    assert (attention_map(torch.zeros(2, 3, 4, 4)) == 0).all()


@LOSSES
@pytest.mark.parametrize("dtype, largest", [(torch.float32, 1e12), (torch.float16, 6e4), (torch.bfloat16, 1e12)])
def test_de_tres_grandes_features_donnent_des_nombres_finis(loss, dtype, largest):
    student, teacher = (largest * x.sign() for x in pair(2, 3, 4, 4))
    student[0] /= 2
    assert_finite(loss, student.to(dtype), teacher.to(dtype))


def test_l_attention_de_tres_petites_features_reste_exacte():
    student, teacher = pair(2, 3, 4, 4, dtype=torch.float32)
    torch.testing.assert_close(attention_loss(1e-12 * student, teacher), attention_loss(student, teacher))


# --- AdaptationLayer


def test_l_adaptateur_est_une_convolution_1x1_sur_les_cartes():
    layer, features = AdaptationLayer(3, 5).double(), pair(2, 3, 4, 2)[0]
    weight, bias = layer.adapt.weight.flatten(1), layer.adapt.bias
    expected = torch.stack([weight @ features[:, :, h, w].mT + bias[:, None] for h in range(4) for w in range(2)], -1)
    torch.testing.assert_close(layer(features), expected.transpose(0, 1).reshape(2, 5, 4, 2))


def test_l_adaptateur_applique_la_meme_matrice_aux_vecteurs():
    layer, features = AdaptationLayer(3, 5).double(), pair(2, 3)[0]
    expected = features @ layer.adapt.weight.flatten(1).mT + layer.adapt.bias
    torch.testing.assert_close(layer(features), expected)


def test_l_adaptateur_est_l_identite_quand_les_canaux_sont_egaux():
    layer, features = AdaptationLayer(3, 3), pair(2, 3)[0]
    assert layer(features) is features
    assert not list(layer.parameters())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_l_adaptateur_float32_accepte_la_basse_precision(dtype):
    assert AdaptationLayer(3, 5)(torch.ones(2, 3, dtype=dtype)).dtype == torch.float32


@pytest.mark.parametrize("name, channels", [("in_channels", (0, 3)), ("out_channels", (3, -1))])
def test_l_adaptateur_refuse_un_nombre_de_canaux_nul_ou_negatif(name, channels):
    assert_refused(lambda: AdaptationLayer(*channels), ValueError, name, str(min(channels)), "entier ≥ 1")


def test_l_adaptateur_refuse_un_nombre_de_canaux_non_entier():
    assert_refused(lambda: AdaptationLayer(3, 2.5), TypeError, "out_channels", "2.5", "float", "entier ≥ 1")


@pytest.mark.parametrize("shape", [(2, 4), (2, 4, 3, 3), (2, 3, 5)])
def test_l_adaptateur_refuse_d_autres_canaux(shape):
    assert_refused(
        lambda: AdaptationLayer(3, 5)(torch.zeros(shape)), ValueError, "features", str(shape), "(B, 3, H, W)"
    )


# --- FeatureDistillationLoss


def layers(*shapes, seed=0):
    return [pair(*shape, seed=seed + i, dtype=torch.float32)[0] for i, shape in enumerate(shapes)]


def test_la_perte_de_features_est_la_moyenne_des_couches_ponderee_par_alpha():
    student, teacher = layers((2, 3, 4, 4), (2, 5)), layers((2, 3, 4, 4), (2, 5), seed=7)
    terms = FeatureDistillationLoss(alpha=0.3)(student, teacher, LOGITS, LABELS)
    gaps = [references.mean_square_gap(s.tolist(), t.tolist()) for s, t in zip(student, teacher, strict=True)]
    assert terms.distillation.item() == pytest.approx(sum(gaps) / 2, rel=1e-5)
    assert terms.hard.item() == pytest.approx(references.cross_entropy(LOGITS.tolist(), LABELS.tolist()), rel=1e-5)
    assert terms.total == 0.3 * terms.distillation + (1 - 0.3) * terms.hard


def test_la_perte_de_features_adapte_les_canaux_la_hauteur_et_la_largeur():
    loss = FeatureDistillationLoss(student_channels=[3], teacher_channels=[5])
    student, teacher = layers((2, 3, 2, 6))[0], layers((2, 5, 4, 3), seed=7)[0]
    reduced_student = (student[..., 0::2] + student[..., 1::2]) / 2
    reduced_teacher = (teacher[:, :, 0::2] + teacher[:, :, 1::2]) / 2
    expected = references.mean_square_gap(loss.adapters[0](reduced_student).tolist(), reduced_teacher.tolist())
    assert loss([student], [teacher], LOGITS, LABELS).distillation.item() == pytest.approx(expected, rel=1e-5)


def test_la_perte_de_features_accepte_des_vecteurs_de_tailles_differentes():
    loss = FeatureDistillationLoss(student_channels=[3], teacher_channels=[5])
    student, teacher = layers((2, 3))[0], layers((2, 5), seed=7)[0]
    expected = references.mean_square_gap(loss.adapters[0](student).tolist(), teacher.tolist())
    assert loss([student], [teacher], LOGITS, LABELS).distillation.item() == pytest.approx(expected, rel=1e-5)


def test_les_adaptateurs_sont_des_parametres_de_la_perte():
    loss = FeatureDistillationLoss(student_channels=[3, 4], teacher_channels=[5, 4])
    assert {name for name, _ in loss.named_parameters()} == {"adapters.0.adapt.weight", "adapters.0.adapt.bias"}


def test_les_adaptateurs_s_apprennent():
    torch.manual_seed(0)
    loss = FeatureDistillationLoss(alpha=1.0, student_channels=[4], teacher_channels=[2])
    student = layers((16, 4, 2, 2))
    teacher = [student[0][:, :2] * 3 + 1]  # ce qu'une convolution 1x1 sait faire exactement
    optimizer = torch.optim.Adam(loss.parameters(), lr=0.1)
    logits, labels = torch.zeros(16, 3), torch.zeros(16).long()
    first = loss(student, teacher, logits, labels).item()
    for _ in range(100):
        optimizer.zero_grad()
        loss(student, teacher, logits, labels).backward()
        optimizer.step()
    assert loss(student, teacher, logits, labels).item() < first / 100


# --- AttentionTransfer


def test_le_transfert_d_attention_pese_la_moyenne_des_couches_par_beta_et_alpha():
    student, teacher = layers((2, 3, 4, 4), (2, 2, 2, 2)), layers((2, 5, 4, 4), (2, 3, 2, 2), seed=7)
    terms = AttentionTransfer(alpha=0.3)(student, teacher, LOGITS, LABELS)
    gaps = [references.attention(s.tolist(), t.tolist()) for s, t in zip(student, teacher, strict=True)]
    assert terms.distillation.item() == pytest.approx(1000 * sum(gaps) / 2, rel=1e-5)
    assert terms.hard.item() == pytest.approx(references.cross_entropy(LOGITS.tolist(), LABELS.tolist()), rel=1e-5)
    assert terms.total == 0.3 * terms.distillation + (1 - 0.3) * terms.hard


@pytest.mark.parametrize("size", [8, 16, 32])
def test_le_beta_par_defaut_met_l_attention_au_meme_ordre_que_les_etiquettes(size):
    student, teacher = (x.relu() for x in pair(8, 16, size, size, dtype=torch.float32))
    logits, labels = pair(8, 10, dtype=torch.float32)[0], torch.arange(8)
    terms = AttentionTransfer()([student], [teacher], logits, labels)
    assert 1 / 10 < terms.distillation / terms.hard < 10


def test_beta_multiplie_l_attention():
    student, teacher = layers((2, 3, 4, 4)), layers((2, 3, 4, 4), seed=7)
    one, two = (AttentionTransfer(scale=scale)(student, teacher, LOGITS, LABELS) for scale in (1.0, 2.0))
    torch.testing.assert_close(two.distillation, 2 * one.distillation)


# --- Les modules : résultat, refus

MODULES = pytest.mark.parametrize(
    "module", [FeatureDistillationLoss(), AttentionTransfer()], ids=["features", "attention"]
)
MAPS = torch.ones(2, 3, 4, 4)


@MODULES
def test_le_resultat_se_deballe_et_se_propage(module):
    student, teacher = layers((2, 3, 4, 4))[0].requires_grad_(), layers((2, 3, 4, 4), seed=7)[0].requires_grad_()
    terms = module([student], (teacher,), LOGITS, LABELS)
    total, distillation, hard = terms
    assert terms.item() == total.item() == (0.5 * distillation + 0.5 * hard).item()
    terms.backward()
    assert student.grad.abs().sum() > 0
    assert teacher.grad is None


@MODULES
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_un_module_accepte_la_basse_precision(module, dtype):
    student, teacher = layers((2, 3, 4, 4))[0].to(dtype), layers((2, 3, 4, 2), seed=7)[0].to(dtype)
    assert_finite(lambda s, t: module([s], [t], LOGITS.to(dtype), LABELS).total, student, teacher)


def test_les_adaptateurs_acceptent_autocast():
    loss = FeatureDistillationLoss(student_channels=[3], teacher_channels=[5])
    student, teacher = layers((2, 3, 4, 4)), layers((2, 5, 2, 2), seed=7)
    expected = loss(student, teacher, LOGITS, LABELS).distillation
    with torch.autocast("cpu", torch.bfloat16):
        terms = loss([student[0].bfloat16()], [teacher[0].bfloat16()], LOGITS, LABELS)
    assert terms.distillation.dtype == torch.float32
    torch.testing.assert_close(terms.distillation, expected, rtol=2e-2, atol=0)


@MODULES
@pytest.mark.parametrize(
    "student, teacher, error, fragments",
    [
        (MAPS, [MAPS], TypeError, ["student_features", "Tensor", "liste", "[features]"]),
        ([MAPS], MAPS, TypeError, ["teacher_features", "Tensor", "liste"]),
        ([], [], ValueError, ["student_features", "0 et 0 couches", "non vides"]),
        ([MAPS, MAPS], [MAPS], ValueError, ["2 et 1 couches", "même longueur"]),
        ([MAPS], [MAPS, MAPS], ValueError, ["1 et 2 couches", "même longueur"]),
        ([MAPS], [MAPS[:1]], ValueError, ["teacher_features[0]", "(1, 3, 4, 4)", "lot de 2"]),
        ([MAPS, MAPS], [MAPS, MAPS.long()], TypeError, ["teacher_features[1]", "torch.int64", "flottant"]),
        ([MAPS, None], [MAPS, MAPS], TypeError, ["student_features[1]", "NoneType"]),
        ([MAPS[:, :, 0]], [MAPS], ValueError, ["student_features[0]", "(2, 3, 4)", "(B, C, H, W)"]),
        ([MAPS], [MAPS.to("meta")], ValueError, ["teacher_features[0]", "meta", "cpu"]),
    ],
)
def test_un_module_refuse_des_features_inattendues(module, student, teacher, error, fragments):
    assert_refused(lambda: module(student, teacher, LOGITS, LABELS), error, *fragments)


@MODULES
@pytest.mark.parametrize(
    "logits, labels, error, fragments",
    [
        (LOGITS[:1], LABELS[:1], ValueError, ["student_logits", "(1, 3)", "lot de 2", "student_features[0]"]),
        (LOGITS[0], LABELS, ValueError, ["student_logits", "(3,)", "(B, C)"]),
        (LOGITS.long(), LABELS, TypeError, ["student_logits", "torch.int64", "flottant"]),
        (LOGITS.to("meta"), LABELS.to("meta"), ValueError, ["student_logits", "meta", "cpu"]),
        (LOGITS * math.nan, LABELS, ValueError, ["student_logits", "6 valeur(s) NaN"]),
        (LOGITS, LABELS[:1], ValueError, ["labels", "(1,)", "(2,)"]),
        (LOGITS, LABELS.int(), TypeError, ["labels", "torch.int32", "torch.int64"]),
        (LOGITS, LABELS + 1, ValueError, ["labels", "3", "de 0 à 2"]),
        (LOGITS, LABELS - 1, ValueError, ["labels", "-1", "de 0 à 2"]),
    ],
)
def test_un_module_refuse_des_logits_ou_des_etiquettes_inattendus(module, logits, labels, error, fragments):
    assert_refused(lambda: module([MAPS], [MAPS], logits, labels), error, *fragments)


@pytest.mark.parametrize("build", [FeatureDistillationLoss, AttentionTransfer])
@pytest.mark.parametrize(
    "wrong, error", [(-0.1, ValueError), (1.5, ValueError), (math.nan, ValueError), ("1", TypeError)]
)
def test_un_module_refuse_un_alpha_hors_de_0_1(build, wrong, error):
    assert_refused(lambda: build(alpha=wrong), error, "alpha", str(wrong), "[0, 1]")


@pytest.mark.parametrize("wrong", [-1.0, math.inf])
def test_le_transfert_d_attention_refuse_un_beta_negatif_ou_infini(wrong):
    assert_refused(lambda: AttentionTransfer(scale=wrong), ValueError, "scale", str(wrong), "positif ou nul")


def test_la_perte_de_features_refuse_vecteur_contre_carte():
    call = lambda: FeatureDistillationLoss()([MAPS[:, :, 0, 0]], [MAPS], LOGITS, LABELS)  # noqa: E731
    assert_refused(call, ValueError, "teacher_features[0]", "(2, 3, 4, 4)", "2 dimensions", "(2, 3)")


def test_la_perte_de_features_sans_adaptateur_dit_comment_adapter_les_canaux():
    call = lambda: FeatureDistillationLoss()([MAPS, MAPS], [MAPS, MAPS[:, :2]], LOGITS, LABELS)  # noqa: E731
    assert_refused(call, ValueError, "[3, 3] et [3, 2] reçus", "student_channels=[3, 3]", "teacher_channels=[3, 2]")


def test_la_perte_de_features_refuse_d_autres_canaux_que_ceux_de_ses_adaptateurs():
    loss = FeatureDistillationLoss(student_channels=[4], teacher_channels=[5])
    assert_refused(lambda: loss([MAPS], [MAPS], LOGITS, LABELS), ValueError, "[3] et [3] reçus", "[4] et [5] attendus")


def test_la_perte_de_features_refuse_plus_de_couches_que_d_adaptateurs():
    loss = FeatureDistillationLoss(student_channels=[3], teacher_channels=[3])
    assert_refused(
        lambda: loss([MAPS] * 2, [MAPS] * 2, LOGITS, LABELS), ValueError, "[3, 3] et [3, 3] reçus", "[3] et [3]"
    )


@pytest.mark.parametrize("channels", [([3], None), (None, [3]), ([], []), ([3, 4], [3]), (3, 5)])
def test_la_perte_de_features_refuse_des_listes_de_canaux_inegales(channels):
    call = lambda: FeatureDistillationLoss(student_channels=channels[0], teacher_channels=channels[1])  # noqa: E731
    assert_refused(call, ValueError, "student_channels", str(channels[0]), str(channels[1]), "même longueur")


# --- Les fonctions pures : refus


@LOSSES
@pytest.mark.parametrize(
    "student, teacher, error, fragments",
    [
        (MAPS, MAPS[:1], ValueError, ["teacher", "(1, 3, 4, 4)", "lot de 2", "(2, 3, 4, 4)"]),
        (MAPS[0, 0, 0], MAPS, ValueError, ["student", "(4,)", "(B, C, H, W)"]),
        (MAPS[:0], MAPS[:0], ValueError, ["student", "(0, 3, 4, 4)", "sans dimension nulle"]),
        (MAPS.long(), MAPS, TypeError, ["student", "torch.int64", "flottant"]),
        (MAPS, [1.0], TypeError, ["teacher", "list", "tenseur"]),
        (MAPS, MAPS.to("meta"), ValueError, ["teacher", "meta", "cpu", "student"]),
    ],
)
def test_une_perte_pure_refuse_des_features_inattendues(loss, student, teacher, error, fragments):
    assert_refused(lambda: loss(student, teacher), error, *fragments)


def test_hint_refuse_deux_formes_differentes():
    # (2, 1) et (2, 3) se diffuseraient sans un mot.
    assert_refused(lambda: hint_loss(MAPS[:, :1, 0, 0], MAPS[:, :, 0, 0]), ValueError, "teacher", "(2, 3)", "(2, 1)")


def test_une_carte_d_attention_demande_quatre_dimensions():
    assert_refused(lambda: attention_map(MAPS[:, 0]), ValueError, "features", "(2, 4, 4)", "(B, C, H, W)")
