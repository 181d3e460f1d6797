"""Les figures : leurs titres portent des nombres calculés, et leurs données sont celles qu'on leur donne."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch

from kdcourse import MLP, french, load_dataset
from kdcourse.measures import bias_sweep, most_uncertain, tune_bias
from kdcourse.plots import (
    plot_bias_sweep,
    plot_budgets,
    plot_curves,
    plot_field_map,
    plot_paired,
    plot_prediction,
    plot_scheme,
    plot_tiles_and_bars,
)


def test_le_titre_d_une_comparaison_suit_le_signe_et_l_intervalle():
    noise = torch.linspace(-0.5, 0.5, 10)
    assert "gagne 2,0 points" in plot_paired(torch.full((10,), 5.0) + noise, torch.full((10,), 3.0)).get_suptitle()
    assert "perd 2,0 points" in plot_paired(torch.full((10,), 3.0) + noise, torch.full((10,), 5.0)).get_suptitle()
    assert "Pas de différence" in plot_paired(4 + noise, torch.full((10,), 4.0)).get_suptitle()


def test_les_barres_d_une_prediction_sont_le_softmax_adouci():
    torch.manual_seed(0)
    model, part = MLP().eval(), load_dataset().test
    figure = plot_prediction(model, part, 7, temperatures=[1, 5])
    expected = torch.softmax(model(part.images[7:8])[0] / 5, -1).detach()
    heights = [patch.get_height() for patch in figure.get_axes()[2].patches]
    np.testing.assert_allclose(heights, expected, rtol=1e-5)
    first, last = (figure.get_axes()[k].get_title().partition("\n")[2] for k in (1, 2))
    assert figure.get_axes()[2].get_title().startswith("T = 5\n")
    assert figure.get_suptitle() == f"De T = 1 à T = 5, l'entropie passe de {first} à {last}"


def test_l_image_la_plus_ambigue_a_la_plus_petite_marge():
    torch.manual_seed(0)
    model, part = MLP().eval(), load_dataset().validation
    top = model(part.images).detach().sort(dim=-1, descending=True).values
    assert most_uncertain(model, part)[0] == (top[:, 0] - top[:, 1]).argmin()


def test_une_courbe_est_la_moyenne_des_graines():
    values = torch.tensor([[1.0, 3.0], [4.0, 8.0]])
    figure = plot_curves([1, 2], {"seul": (values, "student")}, "x", "y", "titre")
    assert figure.get_axes()[0].lines[0].get_ydata().tolist() == [2.0, 6.0]


@pytest.mark.parametrize("make", [plot_scheme, plot_field_map])
def test_un_schema_ne_laisse_aucune_figure_ouverte(make):
    before = plt.get_fignums()
    make()
    assert plt.get_fignums() == before


def test_le_balayage_montre_rappel_et_erreur_de_chaque_methode():
    sweep = bias_sweep(torch.randn(3, 40, 10), torch.arange(40) % 10, 3, torch.arange(0.0, 3.0))
    figure = plot_bias_sweep(torch.arange(0.0, 3.0), {"A": (sweep, tune_bias(sweep), "student")} | {
        "B": (sweep, tune_bias(sweep), "neutral")
    }, 3)  # fmt: skip
    assert [ax.get_title() for ax in figure.get_axes()] == ["A", "B"]
    recall = sweep.at(tune_bias(sweep))[0].mean()
    assert f"A : {french(recall)} %" in figure.get_suptitle()
    np.testing.assert_allclose(figure.get_axes()[0].lines[0].get_ydata(), sweep.recall.mean(0), rtol=1e-5)


def test_une_comparaison_de_graines_inegales_est_refusee():
    with pytest.raises(ValueError, match="distilled : 4 mesures reçues, 3 attendues"):
        plot_paired(torch.rand(3), torch.rand(4))


def test_le_gain_selon_le_budget_a_un_marqueur_creux_quand_rien_n_est_etabli():
    sure, unsure = torch.tensor([2.0, 2.1, 1.9]), torch.tensor([-1.0, 0.0, 1.0])
    figure = plot_budgets({"a": ([75, 300], {"T = 4": (torch.stack([unsure, sure]), "distilled")})}, "t")
    (ax,) = figure.axes
    markers = [line for line in ax.lines if len(line.get_xdata()) == 1]
    assert [float(line.get_ydata()[0]) for line in markers] == pytest.approx([0, 2])
    assert [line.get_markerfacecolor() == line.get_color() for line in markers] == [False, True]
    assert [tick.get_text() for tick in ax.get_xticklabels()] == ["75", "300"]


def test_quatre_panneaux_de_budgets_se_rangent_en_deux_lignes():
    gains = {"KD": (torch.tensor([[1.0, 2.0], [2.0, 3.0]]), "neutral")}
    panels = {name: ([75, 300], gains) for name in "abcd"}
    places = [ax.get_subplotspec().rowspan.start for ax in plot_budgets(panels, "t").axes]
    assert places == [0, 0, 1, 1]


def test_les_huit_images_ont_leur_legende_et_les_barres_la_moyenne_de_chaque_budget():
    bars = {
        "seul": ({"court": torch.tensor([0.0, 2.0]), "long": torch.tensor([1.0, 3.0])}, "student"),
        "distillé": ({"court": torch.tensor([80.0, 90.0]), "long": torch.tensor([90.0, 96.0])}, "distilled"),
    }
    captions = [f"{label}, puis 3" for label in (9, 8, 7, 6, 5, 4, 2, 1)]
    figure = plot_tiles_and_bars(torch.rand(8, 1, 8, 8), captions, bars, "reconnus (%)", "titre", "note")
    assert [ax.get_title() for ax in figure.axes if ax.images] == captions
    (chart,) = [ax for ax in figure.axes if ax.patches]
    assert [bar.get_height() for bar in chart.patches] == pytest.approx([1, 2, 85, 93])
    assert [tick.get_text() for tick in chart.get_xticklabels()] == ["court", "long"]
