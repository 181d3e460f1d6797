"""Les figures de 10.3."""

import numpy as np
import pytest
import torch

from kdcourse import (
    attention_map,
)
from kdcourse.plots import plot_alpha_maps, plot_attention_maps, plot_feature_scheme, plot_gains, plot_gradient_norms
from kdcourse.plots.common import gain_summary, verdict


def test_le_verdict_suit_le_signe_et_l_intervalle():
    noise = torch.linspace(-0.5, 0.5, 10)
    assert [verdict(2 + noise), verdict(noise - 2), verdict(noise)] == ["gagne", "perd", "non établi"]


def test_le_titre_des_gains_compte_les_verdicts_et_la_forme_les_dit():
    noise = torch.linspace(-0.5, 0.5, 10)
    panels = {"A": {"x": 2 + noise, "y": noise}, "B": {"x": noise - 2, "y": noise}}
    assert gain_summary(panels) == "sur 4, 1 gagne, 1 perd, 2 non établis"
    figure = plot_gains(panels, "Gains")
    left = [line for line in figure.get_axes()[0].lines if line.get_marker() in "^oD"]
    assert [line.get_marker() for line in left] == ["^", "D"]
    assert left[0].get_xdata()[0] == pytest.approx(2.0)


def test_le_titre_des_normes_donne_le_rapport_des_moyennes():
    norms = torch.stack([torch.full((3,), 6.0), torch.full((3,), 0.05), torch.full((3,), 2.0)])
    norms = norms * torch.tensor([0.9, 1.0, 1.1])
    figure = plot_gradient_norms({"au départ": norms, "après": norms}, [100, 9])
    assert "120 et 3,0 fois" in figure.get_suptitle()
    balanced = [line for line in figure.get_axes()[0].lines if line.get_label() == "attention, β = 10·HW"]
    assert balanced[0].get_ydata().tolist() == pytest.approx([50.0, 180.0])


def unit(*shape):
    return attention_map(torch.rand(shape, generator=torch.Generator().manual_seed(1)))


def test_une_ligne_de_cartes_de_meme_taille_a_une_seule_echelle():
    maps = {"teacher": unit(2, 3, 4, 4), "student": unit(2, 5, 4, 4)}
    figure = plot_attention_maps(torch.rand(2, 1, 8, 8), maps, "titre")
    axes = figure.get_axes()
    assert [ax.get_title() for ax in axes[:3]] == ["image", "teacher", "student"]
    tops = {ax.images[0].get_clim()[1] for ax in axes[1:3]}
    assert tops == {max(m[0].max().item() for m in maps.values())}
    np.testing.assert_allclose(axes[5].images[0].get_array(), maps["student"][1, 0])


def test_le_titre_des_alphas_dit_la_ressemblance_et_l_erreur_aux_deux_bouts():
    maps = unit(3, 4, 5, 5)
    errors = torch.tensor([[30.0, 32.0], [20.0, 24.0], [88.0, 92.0]])
    figure = plot_alpha_maps(torch.rand(1, 10, 10), maps[2], [0.0, 0.5, 1.0], maps, errors)
    assert "1,00 (α = 1) ; l'erreur passe de 31,0 à 90,0 %" in figure.get_suptitle()
    assert "22,0" in figure.get_axes()[3].get_xlabel()


def test_le_schema_se_dessine():
    assert "adaptateur" in plot_feature_scheme().get_axes()[0].get_title()


def test_les_gains_refusent_moins_de_deux_graines():
    with pytest.raises(ValueError):
        plot_gains({"A": {"x": torch.tensor([1.0])}}, "Gains")
