"""Les figures de 10.2."""

import pytest
import torch

from kdcourse.measures import TemperatureMap, logit_gradient, matching_gradient
from kdcourse.plots import (
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


def test_les_petits_multiples_montrent_l_image_les_predictions_et_l_ecart_a_la_limite(pair):
    figure = plot_gradients(torch.rand(1, 8, 8), *pair, temperatures=[1, 1000])
    limit = matching_gradient(*pair)
    expected = 100 * (logit_gradient(*pair, 1) - limit).norm() / limit.norm()
    assert f"écart de {expected:.0f} % à T = 1, de 0 % à T = 1000" in figure.get_suptitle()
    above, below = figure.axes[1], figure.axes[4]
    student, teacher = ((z / 1).softmax(0).tolist() for z in pair)
    assert [bar.get_height() for bar in above.patches] == pytest.approx([*teacher, *student])
    assert [bar.get_height() for bar in below.patches] == pytest.approx(logit_gradient(*pair, 1).tolist())
    assert below.lines[0].get_ydata() == pytest.approx(limit.tolist())


def test_la_carte_encadre_la_case_choisie_en_validation_et_ecrit_chaque_gain(measured):
    figure = plot_temperature_maps({"essai": measured})
    ax = figure.axes[0]
    row, column = measured.best()
    (frame,) = ax.patches
    assert frame.get_xy() == (column - 0.5, row - 0.5)
    texts = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}
    assert len(texts) == 6
    for (i, j), text in texts.items():
        gain = measured.gain(i, j)
        assert float(text.strip("()").replace(",", ".").replace("−", "-")) == pytest.approx(gain.mean, abs=0.051)
        assert text.startswith("(") != gain.excludes_zero


def test_les_barres_vont_de_zero_a_la_moyenne():
    figure = plot_intervals({"a": (torch.tensor([1.0, 3.0]), "student")}, "erreur (%)", "titre")
    (bar,) = figure.axes[0].patches
    assert (bar.get_x(), bar.get_width()) == (0, 2.0)
