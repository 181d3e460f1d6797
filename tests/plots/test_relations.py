"""Les figures de 10.4."""

import numpy as np
import pytest
import torch

from kdcourse.plots import (
    plot_by_weight,
    plot_cost,
    plot_gains,
    plot_invariances,
    plot_relation_budgets,
    plot_relation_matrices,
    plot_small_batch,
    plot_without_labels,
)
from kdcourse.plots.common import COLORS, paper
from kdcourse.plots.relations import slope


def test_un_petit_lot_ecrit_chaque_ressemblance_avec_une_virgule():
    relations = torch.tensor([[1.0, 0.25], [0.25, 1.0]])
    figure = plot_small_batch(torch.rand(2, 1, 8, 8), {"teacher": relations})
    assert sorted(text.get_text() for text in figure.get_axes()[0].texts) == ["0,25", "0,25", "1,00", "1,00"]
    assert figure.get_suptitle() == "Ressemblance de deux images différentes : teacher, de 0,25 à 0,25"


def test_chaque_matrice_est_montree_a_sa_place_et_chaque_classe_au_milieu_de_son_bloc():
    labels = torch.tensor([0, 0, 4, 4, 4])
    first, second = torch.rand(5, 5), torch.rand(5, 5)
    figure = plot_relation_matrices({"seul": {"époque 1": first}, "guidé": {"a": second, "b": first}}, labels, "titre")
    axes = figure.get_axes()
    assert np.allclose(axes[0].images[0].get_array(), first) and np.allclose(axes[2].images[0].get_array(), second)
    assert axes[0].get_xticks().tolist() == [0.5, 3.0]
    assert [tick.get_text() for tick in axes[0].get_xticklabels()] == ["0", "4"]


@pytest.mark.parametrize("offset, role", [(1.0, "distilled"), (0.0, "neutral"), (-1.0, "student")])
def test_la_couleur_d_un_gain_suit_son_intervalle(offset, role):
    values = offset + torch.linspace(-0.5, 0.5, 10)
    figure = plot_gains({"sur le student seul": {"SP": values}}, "titre")
    (bar,) = figure.get_axes()[0].containers
    assert bar.lines[0].get_color() == COLORS[role]
    assert bar.lines[0].get_xdata()[0] == pytest.approx(offset, abs=1e-6)


def test_une_methode_absente_d_un_panneau_laisse_sa_ligne_vide():
    values = torch.linspace(0.5, 1.5, 10)
    figure = plot_gains({"a": {"logits": values, "SP": values}, "b": {"SP": values}}, "titre")
    assert [bar.lines[0].get_ydata()[0] for bar in figure.get_axes()[1].containers] == [-1]


def test_les_poids_montrent_l_erreur_de_chaque_poids_et_cerclent_le_meilleur():
    curve = ([1, 10, 100], [8.0, 6.0, 9.0], "other")
    figure = plot_by_weight({"SP": {"400 pas": curve}, "cosine": {"400 pas": curve}}, 7.5, "titre")
    alone, errors, best = figure.get_axes()[0].lines
    assert list(alone.get_ydata()) == [7.5, 7.5] and list(errors.get_ydata()) == [8.0, 6.0, 9.0]
    assert (best.get_xdata()[0], best.get_ydata()[0]) == (10, 6.0)


def test_les_gains_suivent_les_pas_et_un_marqueur_creux_contient_0():
    sure, unsure = torch.linspace(1, 2, 10), torch.linspace(-1, 1, 10)
    curves = {"test": (torch.stack([sure, unsure]), "distilled")}
    ax = plot_relation_budgets([200, 400], {"SP": curves, "cosine": curves}, "les logits", "titre").get_axes()[0]
    zero, means, *points = ax.lines
    assert list(means.get_ydata()) == pytest.approx([1.5, 0.0], abs=1e-6)
    assert [point.get_markerfacecolor() for point in points] == [COLORS["distilled"], paper()]
    assert ax.get_ylabel() == "gain sur les logits (points)"


def test_sous_chaque_nuage_les_pertes_nulles_sont_un_zero():
    figure = plot_invariances(torch.randn(9, 2, generator=torch.Generator().manual_seed(0)))
    texts = {ax.get_title().replace("\n", " "): ax.get_xlabel() for ax in figure.get_axes()}
    assert texts["rotation"] == "cosine : 0\nSP : 0\nRKD distance : 0\nRKD angle : 0"
    assert texts["une échelle par point"].startswith("cosine : 0\nSP : 0,")
    assert "11 fois sur 20" in figure.get_suptitle()


def test_l_ouverture_montre_les_matrices_et_une_barre_par_facon_de_nommer():
    relations, values = torch.eye(4), torch.linspace(4, 6, 10)
    figure = plot_without_labels(
        {"student": relations, "teacher": relations}, torch.tensor([0, 0, 1, 1]),
        {"seul": (values, "student"), "guidé": (values + 10, "distilled")}, "titre",
    )  # fmt: skip
    bars = figure.get_axes()[2]
    assert [bar.get_width() for bar in bars.patches] == pytest.approx([5.0, 15.0])
    assert [text.get_text() for text in bars.texts] == ["5,0", "15,0"]


def test_la_pente_est_l_exposant_des_trois_derniers_lots_mesures():
    assert slope([32, 64, 128, 256, 512], [9.0, 1.0, 8.0, 64.0]) == pytest.approx(3.0)
    assert slope([32, 64, 128], [1.0, 4.0]) == pytest.approx(2.0)


def test_le_cout_nomme_la_perte_la_plus_raide():
    figure = plot_cost([32, 64, 128], {"cosinus": [1, 1, 2], "angle": [1, 8]}, {"student": [2, 3, 4]})
    assert "angle, temps en $B^{3{,}0}$" in figure.get_axes()[0].get_title()
