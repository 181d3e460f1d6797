"""Le curseur de 10.2 : son état, et ce que l'image en montre."""

import re

import numpy as np
import pytest
import torch

from kdcourse.measures import TemperatureMap, logit_gradient
from kdcourse.widgets import GradientExplorer, MapExplorer
from kdcourse.widgets.logits import map_state


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


def test_l_etat_d_une_case_vient_de_la_carte(measured):
    state = map_state(measured, 4.0, 1.0)
    assert state.error.mean == pytest.approx(measured.errors[1, 1].mean().item())
    assert state.gain == measured.gain(1, 1)
    assert state.curve[0] == pytest.approx(measured.curves[1, 1].mean(dim=0).numpy(), rel=1e-5)
    assert np.diagonal(state.mistakes).sum() == 0
    assert state.mistakes[0, 3] == measured.confusions[1, 1, 0, 3].item()
    assert measured.confusions[1, 1, 2, 2] != 0  # la carte elle-même n'a pas changé


@pytest.mark.parametrize(
    ("image", "student", "teacher", "said"),
    [
        (torch.rand(8, 8), torch.rand(5), torch.rand(5), "image : forme (8, 8) reçue, (C, H, W) attendue"),
        (torch.rand(1, 8, 8), torch.ones(5).long(), torch.rand(5), "student : dtype torch.int64 reçu"),
        (torch.rand(1, 8, 8), torch.rand(1, 5), torch.rand(5), "student : forme (1, 5) reçue, (C,) attendue"),
        (torch.rand(1, 8, 8), torch.rand(5), torch.full((5,), float("nan")), "teacher : "),
        (torch.rand(1, 8, 8), torch.rand(5), torch.rand(6), "formes (5,) et (6,) reçues, deux prédictions"),
        (torch.rand(1, 8, 8), torch.ones(5), torch.ones(5), "deux prédictions différentes"),
    ],
)
def test_une_image_ou_des_logits_qui_ne_conviennent_pas_sont_refuses(image, student, teacher, said):
    with pytest.raises((TypeError, ValueError), match=re.escape(said)):
        GradientExplorer(image, student, teacher)


def test_toutes_les_barres_et_la_limite_tiennent_dans_le_cadre():
    for scale in (1, 30, 1000):
        logits = scale * torch.randn(2, 5, generator=generator(7))
        widget = GradientExplorer(torch.rand(1, 8, 8), *logits)
        bars = widget.figure.axes[2]
        for widget.temperature in (0.5, 128.0):
            heights = [abs(bar.get_height()) for bar in bars.patches] + np.abs(bars.lines[0].get_ydata()).tolist()
            assert max(heights) <= bars.get_ylim()[1]


def test_deux_curseurs_deplacent_la_case_la_courbe_et_le_titre(measured):
    widget = MapExplorer(measured)
    before = widget.svg()
    widget.temperature, widget.alpha = 16.0, 0.5
    assert widget.svg() != before
    chart, curve = widget.figure.axes[:2]
    assert chart.patches[0].get_xy() == (-0.5, 1.5)
    assert curve.lines[1].get_ydata() == pytest.approx(map_state(measured, 16.0, 0.5).curve[0])
    assert str(measured.gain(2, 0)) in widget.figure._suptitle.get_text()


def test_la_carte_s_ouvre_sur_la_case_demandee(measured):
    row, column = measured.best()
    for start, opened in ((None, [row, column]), ((16, 0.5), [2, 0])):
        assert MapExplorer(measured, start=start).positions() == opened


def test_chaque_case_de_la_carte_dit_le_signe_de_son_gain_sans_la_couleur(measured):
    chart = MapExplorer(measured).figure.axes[0]
    signs = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in chart.texts}
    assert len(signs) == 6
    for (row, column), shown in signs.items():
        gain = measured.gain(row, column)
        assert shown == ("·" if not gain.excludes_zero else "+" if gain.mean > 0 else "−")


def test_le_curseur_du_gradient_montre_le_gradient_avec_et_sans_le_facteur(pair):
    widget = GradientExplorer(torch.rand(1, 8, 8), *pair)
    before = widget.svg()
    widget.temperature = 8.0
    assert widget.svg() != before
    predictions, heights = ([bar.get_height() for bar in widget.figure.axes[i].patches] for i in (0, 2))
    student, teacher = ((logits / 8).softmax(0).tolist() for logits in pair)
    assert predictions == pytest.approx([*teacher, *student], rel=1e-5)
    expected = logit_gradient(*pair, 8.0)
    assert heights[:5] == pytest.approx(expected.tolist(), rel=1e-5)
    assert heights[5:] == pytest.approx((expected / 64).tolist(), rel=1e-5)
