"""Les figures de 10.2."""

import pytest
import torch

from kdcourse.measures import TemperatureMap, logit_gradient, matching_gradient
from kdcourse.plots import (
    plot_gain_curves,
    plot_gradients,
    plot_intervals,
    plot_temperature_gradients,
    plot_temperature_maps,
)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pair():
    return torch.randn(5, generator=generator()), 6 * torch.randn(5, generator=generator(1))


@pytest.fixture
def measured():
    g = generator(2)
    errors = 20 * torch.rand(3, 2, 4, generator=g)
    alone = 10 + torch.rand(4, generator=g)
    curves = 50 * torch.rand(3, 2, 4, 6, generator=g)
    confusions = torch.rand(3, 2, 5, 5, generator=g)
    return TemperatureMap(
        [1.0, 4.0, 16.0], [0.5, 1.0], alone, errors, curves[0, 0], curves, confusions[0, 0], confusions
    )


def test_le_titre_des_gradients_porte_la_pente_des_donnees():
    temperatures = [1.0, 2.0, 4.0, 8.0]
    limit = torch.ones(3, 2, 5)
    exact = torch.stack([limit * (1 + 1 / t) for t in temperatures])
    without = torch.stack([limit / t**2 for t in temperatures])
    (ax,) = plot_temperature_gradients(temperatures, exact, without, limit).axes
    assert "−2{,}0" in ax.get_title()
    assert ax.lines[0].get_ydata() == pytest.approx(exact.flatten(2).norm(dim=-1).mean(dim=1).tolist())


def test_les_graduations_du_gradient_sont_des_nombres_ecrits_en_entier():
    gradients = torch.stack([torch.ones(2, 3, 5) * 10.0**-k for k in range(6)])
    (ax,) = plot_temperature_gradients([1, 2, 4, 8, 16, 32], gradients, gradients, gradients[0]).axes
    assert [ax.yaxis.get_major_formatter()(10.0**-k) for k in (0, 1, 5)] == ["1", "0,1", "0,00001"]


def test_les_petits_multiples_montrent_l_image_les_predictions_et_le_gradient(pair):
    image = torch.rand(1, 8, 8)
    figure = plot_gradients(image, 3, *pair, temperatures=[1, 1000])
    digit, above, _, _, below, last = figure.axes
    assert digit.get_title() == "étiquette 3" and digit.images[0].get_array().tolist() == image[0].tolist()
    limit = matching_gradient(*pair)
    gap = 100 * (logit_gradient(*pair, 1) - limit).norm() / limit.norm()
    assert below.get_title() == f"écart {gap:.0f} %" and last.get_title() == "écart 0 %"
    student, teacher = (z.softmax(0).tolist() for z in pair)
    assert [bar.get_height() for bar in above.patches] == pytest.approx([*teacher, *student])
    assert [bar.get_height() for bar in below.patches] == pytest.approx(logit_gradient(*pair, 1).tolist())
    assert below.lines[0].get_ydata() == pytest.approx(limit.tolist())


def test_le_titre_du_gradient_mesure_les_classes_que_le_teacher_ecarte(pair):
    others = pair[1].argsort()[:3]
    spreads = [logit_gradient(*pair, t)[others] for t in (1, 8)]
    first, last = (f"{(values.max() - values.min()).item():.2f}".replace(".", ",") for values in spreads)
    title = plot_gradients(torch.rand(1, 8, 8), 3, *pair, temperatures=[1, 8]).get_suptitle()
    assert f"Entre les 3 classes que le teacher écarte, le gradient varie de {first} à T = 1, de {last}" in title


def test_la_carte_encadre_la_case_choisie_en_validation_et_ecrit_chaque_gain(measured):
    ax = plot_temperature_maps({"essai": measured}).axes[0]
    row, column = measured.best()
    assert ax.patches[-1].get_xy() == (column - 0.5, row - 0.5)
    texts = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}
    assert len(texts) == 6
    for (i, j), text in texts.items():
        gain = measured.gain(i, j)
        assert float(text.strip("()").replace(",", ".").replace("−", "-")) == pytest.approx(gain.mean, abs=0.051)
        assert text.startswith("(") != gain.excludes_zero
        assert ("+" in text) == (gain.mean > 0)


def settled(gains):
    """Une carte 2 × 2 dont chaque case gagne exactement ``gains`` points, à toutes les époques."""
    alone, gains = torch.full((3,), 50.0), torch.tensor(gains)[..., None]
    noise = torch.tensor([-0.1, 0.0, 0.1])
    curves = (alone - gains + noise)[..., None].expand(2, 2, 3, 8)
    nothing = torch.zeros(2, 2)
    return TemperatureMap(
        [1.0, 8.0], [0.2, 1.0], alone, alone - gains + noise, alone[:, None].expand(3, 8), curves, nothing, nothing
    )


def test_un_recul_etabli_est_hachure_et_comptee_dans_le_titre():
    ax = plot_temperature_maps({"essai": settled([[2.0, 0.0], [-1.0, -3.0]])}).axes[0]
    assert [patch.get_xy() for patch in ax.patches if patch.get_hatch()] == [(-0.5, 0.5), (0.5, 0.5)]
    assert ax.get_title() == "essai : sur 4 cases,\n1 gagne, 2 reculent"


def test_deux_cartes_ont_la_meme_echelle_et_aucun_recul_se_dit():
    figure = plot_temperature_maps({"un": settled([[4.0, 1.0], [1.0, 1.0]]), "deux": settled([[9.0, 1.0], [1.0, 1.0]])})
    assert [ax.images[0].norm.vmax for ax in figure.axes[:2]] == pytest.approx([9, 9])
    assert figure.axes[0].get_title().endswith("4 gagnent, aucune ne recule")


def test_le_gain_au_fil_des_pas_est_celui_de_validation(measured):
    figure = plot_gain_curves({"a": (measured, 2), "b": (measured, 10)}, "titre", first=0.5)
    left, right = figure.axes
    expected = (measured.alone_curve - measured.curves[2, 1]).mean(dim=0)
    curves = left.lines[:6]
    assert curves[5].get_ydata() == pytest.approx(expected.tolist(), abs=1e-4)
    assert curves[5].get_xdata().tolist() == [2, 4, 6, 8, 10, 12]
    assert [text.get_text() for text in right.get_xticklabels()] == ["30", "60"]


def test_a_la_plus_haute_temperature_chaque_alpha_a_sa_couleur_et_son_trait(measured):
    curves = plot_gain_curves({"a": (measured, 2)}, "titre").axes[0].lines[:6]
    hottest = curves[-len(measured.alphas) :]
    assert len({line.get_color() for line in hottest}) == len({line.get_linestyle() for line in hottest}) == 2


def test_les_barres_vont_de_zero_a_la_moyenne():
    figure = plot_intervals({"a": (torch.tensor([1.0, 3.0]), "student")}, "erreur (%)", "titre")
    (bar,) = figure.axes[0].patches
    assert (bar.get_x(), bar.get_width()) == (0, 2.0)
