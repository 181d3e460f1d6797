"""La calibration : l'ECE est celle de sa définition, la température réglée minimise l'entropie croisée."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, strategies as st

from kdcourse import expected_calibration_error, tune_temperature
from kdcourse.measures import reliability


def ece_by_hand(probabilities, labels, bins):
    """La définition, image par image et tranche par tranche, en nombres Python."""
    total = 0.0
    rows = probabilities.double().tolist()
    for k in range(bins):
        inside = [(max(p), p.index(max(p)) == y) for p, y in zip(rows, labels, strict=True)
                  if k / bins < max(p) <= (k + 1) / bins]  # fmt: skip
        if inside:
            confidence = sum(c for c, _ in inside) / len(inside)
            accuracy = sum(right for _, right in inside) / len(inside)
            total += len(inside) / len(rows) * abs(accuracy - confidence)
    return 100 * total


@given(seed=st.integers(0, 10_000), bins=st.sampled_from([1, 5, 10, 15]), scale=st.floats(0.1, 8))
def test_l_ece_est_celle_de_la_definition(seed, bins, scale):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(40, 4, generator=generator, dtype=torch.float64)
    labels = torch.randint(4, (40,), generator=generator)
    expected = ece_by_hand(logits.softmax(-1), labels.tolist(), bins)
    assert expected_calibration_error(logits, labels, bins).item() == pytest.approx(expected, abs=1e-9)


def test_un_modele_toujours_sur_et_juste_est_parfaitement_calibre():
    labels = torch.tensor([0, 1, 2])
    assert expected_calibration_error(1000 * F.one_hot(labels, 3).float(), labels) == 0
    assert expected_calibration_error(1000 * F.one_hot((labels + 1) % 3, 3).float(), labels) == 100


def test_un_modele_par_rangee_donne_une_ece_par_modele():
    logits = torch.randn(3, 20, 5, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(20) % 5
    values = expected_calibration_error(logits, labels)
    assert values.tolist() == [expected_calibration_error(one, labels).item() for one in logits]
    found = reliability(logits, labels)
    together = reliability(logits.flatten(0, 1), labels.repeat(3))
    for ours, theirs in zip(found, together, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_les_parts_des_tranches_font_un_et_une_tranche_vide_ne_compte_pas():
    logits = torch.tensor([[0.0, 0.0], [10.0, 0.0]])
    found = reliability(logits, torch.tensor([0, 1]), bins=4)
    assert found.share.tolist() == [0.0, 0.5, 0.0, 0.5]  # 0,5 est dans ]0,25 ; 0,5]
    assert found.accuracy.tolist() == [0.0, 1.0, 0.0, 0.0]
    assert found.confidence[1] == 0.5


@pytest.mark.parametrize("factor", [0.3, 1.0, 4.0])
def test_la_temperature_reglee_retrouve_le_facteur_qui_a_fausse_les_logits(factor):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(20_000, 5, generator=generator)
    labels = torch.multinomial(logits.softmax(-1), 1, generator=generator)[:, 0]  # bien calibré par construction
    assert tune_temperature(factor * logits, labels) == pytest.approx(factor, rel=0.05)


def test_la_temperature_reglee_ne_change_aucune_reponse_et_ne_fait_pas_pire():
    logits = 9 * torch.randn(60, 4, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(60) % 4
    temperature = tune_temperature(logits, labels)
    assert temperature > 1
    assert F.cross_entropy(logits / temperature, labels) < F.cross_entropy(logits, labels)


def test_les_mauvais_arguments_sont_refuses():
    logits, labels = torch.zeros(4, 3), torch.tensor([0, 1, 2, 0])
    with pytest.raises(ValueError, match=r"labels : forme \(3,\) reçue, \(4,\) attendue, une étiquette par ligne"):
        reliability(logits, labels[:3])
    with pytest.raises(ValueError, match="bins : 0 reçu, un entier ≥ 1"):
        expected_calibration_error(logits, labels, bins=0)
    with pytest.raises(ValueError, match="labels : valeur 3 reçue, de 0 à 2 attendu"):
        reliability(logits, labels + 1)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_l_ece_d_une_basse_precision_est_celle_des_memes_logits_en_float32(dtype):
    generator = torch.Generator().manual_seed(0)
    logits = (2 * torch.randn(20_000, 4, generator=generator)).to(dtype)
    labels = torch.randint(4, (20_000,), generator=generator)
    expected = expected_calibration_error(logits.float(), labels)
    torch.testing.assert_close(expected_calibration_error(logits, labels), expected)


def test_des_logits_nan_ou_des_etiquettes_flottantes_sont_refuses():
    labels = torch.tensor([0, 1])
    wrong = torch.tensor([[0.0, float("nan")], [1.0, 0.0]])
    with pytest.raises(ValueError, match="logits : 1 valeur"):
        tune_temperature(wrong, labels)
    with pytest.raises(ValueError, match="logits : 1 valeur"):
        expected_calibration_error(wrong, labels)
    with pytest.raises(TypeError, match="labels : dtype torch.float32"):
        tune_temperature(torch.zeros(2, 2), labels.float())


@pytest.mark.parametrize("scale", [1e-6, 1e-3, 1.0, 1e3, 1e6])
def test_la_temperature_suit_l_echelle_des_logits_a_toute_distance(scale):
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(500, 5, generator=generator)
    labels = (logits + 2 * torch.randn(500, 5, generator=generator)).argmax(1)
    expected, found = tune_temperature(logits, labels), tune_temperature(scale * logits, labels)
    assert found == pytest.approx(scale * expected, rel=1e-5)
    near = [F.cross_entropy(scale * logits.double() / (found * factor), labels) for factor in (0.99, 1.0, 1.01)]
    assert near[1] < min(near[0], near[2])


def test_des_logits_qui_ne_disent_rien_n_ont_pas_d_optimum_fini():
    logits = torch.tensor([[5.0, 0.0], [5.0, 0.0], [0.0, 5.0], [0.0, 5.0]])
    assert tune_temperature(logits, torch.tensor([0, 1, 0, 1])) == math.inf
    assert tune_temperature(torch.ones(4, 2), torch.tensor([0, 1, 0, 1])) == 1.0


def test_sans_aucune_faute_il_n_y_a_pas_de_temperature_et_on_le_dit():
    logits = torch.tensor([[5.0, 0.0], [0.0, 1.0]])
    with pytest.raises(ValueError, match="logits : aucune réponse fausse reçue"):
        tune_temperature(logits, torch.tensor([0, 1]))


@pytest.mark.parametrize("measure", [expected_calibration_error, reliability, tune_temperature])
def test_une_entree_d_un_autre_type_est_refusee_en_francais(measure):
    logits, labels = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2])
    wrong = {
        "logits : ndarray reçu": (logits.numpy(), labels), "logits : list reçu": (logits.tolist(), labels),
        "labels : ndarray reçu": (logits, labels.numpy()), "labels : list reçu": (logits, labels.tolist()),
        r"labels : forme \(6, 3\) reçue": (logits, F.one_hot(labels, 3)),
        r"labels : forme \(6, 1\) reçue": (logits, labels[:, None]),
        "labels : dtype torch.int32 reçu": (logits, labels.int()), "logits : dtype torch.int64 reçu": (labels, labels),
    }  # fmt: skip
    for message, arguments in wrong.items():
        with pytest.raises((TypeError, ValueError), match=message):
            measure(*arguments)
