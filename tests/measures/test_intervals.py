"""Intervalles, erreurs et réglage du biais, contre un calcul à la main."""

import pytest
import torch

from kdcourse import error_rate, markdown_table, mean_interval, points
from kdcourse.measures import bias_sweep, tune_bias
from kdcourse.measures.intervals import BiasSweep, Interval


def test_l_intervalle_est_celui_de_student():
    # n = 3, moyenne 2, écart-type 1, quantile t(0,975 ; 2) = 4,302653
    interval = mean_interval([1.0, 2.0, 3.0])
    half = 4.302653 / 3**0.5
    assert interval == pytest.approx((2.0, 2 - half, 2 + half), abs=1e-5)


def test_l_intervalle_couvre_la_vraie_moyenne_95_fois_sur_cent():
    draws = torch.randn(4000, 10, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    covered = sum(low <= 0 <= high for _, low, high in map(mean_interval, draws))
    assert 0.94 < covered / 4000 < 0.96


@pytest.mark.parametrize("low, high, excluded", [(0.1, 2, True), (-2, -0.1, True), (-1, 1, False), (0, 1, False)])
def test_exclure_zero(low, high, excluded):
    from kdcourse import Interval

    assert Interval((low + high) / 2, low, high).excludes_zero is excluded


@pytest.mark.parametrize("values", [[1.0], [[1.0, 2.0]], [1.0, float("nan")]])
def test_un_intervalle_sans_au_moins_deux_mesures_finies_est_refuse(values):
    with pytest.raises(ValueError, match="values"):
        mean_interval(values)


def test_le_taux_d_erreur_compte_les_fautes_en_pourcent():
    logits = torch.tensor([[[2.0, 1.0], [0.0, 1.0], [3.0, 0.0], [1.0, 0.0]]])
    assert error_rate(logits, torch.tensor([0, 0, 0, 1])).tolist() == [50.0]


def test_le_taux_d_erreur_refuse_des_etiquettes_d_un_autre_nombre():
    with pytest.raises(ValueError, match=r"labels : forme \(3,\) reçue, \(4,\) attendue"):
        error_rate(torch.zeros(2, 4, 10), torch.zeros(3, dtype=torch.long))


def test_un_biais_deplace_une_seule_classe():
    logits = torch.tensor([[[1.0, 0.0], [5.0, 0.0], [0.0, 1.0]]])
    labels = torch.tensor([1, 0, 1])
    sweep = bias_sweep(logits, labels, label=1, biases=torch.tensor([0.0, 2.0, 9.0]))
    assert sweep.recall.tolist() == [[50.0, 100.0, 100.0]]
    torch.testing.assert_close(sweep.error, torch.tensor([[100 / 3, 0.0, 100 / 3]]))
    assert logits[0, 0].tolist() == [1.0, 0.0]  # les logits donnés ne changent pas


def test_le_biais_regle_est_le_milieu_du_plateau_de_validation():
    errors = torch.tensor([[3.0, 1.0, 1.0, 1.0, 2.0], [0.0, 1.0, 1.0, 1.0, 1.0]])
    assert tune_bias(BiasSweep(errors, errors)).tolist() == [2, 0]


def test_un_biais_pour_une_classe_absente_est_refuse():
    with pytest.raises(ValueError, match="label : 3 reçu"):
        bias_sweep(torch.zeros(1, 2, 10), torch.tensor([0, 1]), 3, torch.zeros(1))


def test_un_tableau_a_une_ligne_par_mesure():
    assert markdown_table(["a", "b"], [[1, "x"]]).splitlines() == ["| a | b |", "| --- | --- |", "| 1 | x |"]


def test_un_ecart_de_deux_points_prend_un_s_et_garde_son_intervalle():
    assert (points(1.94), points(-2.0)) == ("1,9 point", "−2,0 points")
    assert points(Interval(1.0, 0.5, 2.5)) == "1,0 [0,5\u00a0; 2,5] point"


def test_un_entier_d_un_tableau_separe_ses_milliers():
    assert "| 12\u00a0345 | 12345.0 |" in markdown_table(["a", "b"], [[12345, 12345.0]])


def test_un_intervalle_borne_garde_sa_moyenne():
    assert Interval(1.0, -0.5, 2.5).clipped(0, 100) == Interval(1.0, 0, 2.5)
    assert Interval(99.0, 97.0, 101.0).clipped(0, 100) == Interval(99.0, 97.0, 100)
