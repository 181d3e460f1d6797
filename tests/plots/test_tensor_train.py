"""Les figures de 10.6."""

import numpy as np
import pytest
import torch

from kdcourse import french, tt_svd
from kdcourse.measures import rank_sweep
from kdcourse.plots import (
    plot_front,
    plot_layer_cut,
    plot_matrices,
    plot_reconstructions,
    plot_tt_steps,
    plot_tucker,
)

FULL = 16


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def weight():
    return random(64, 27)


@pytest.fixture
def sweep(weight):
    return rank_sweep(weight, [1, 3, FULL])


def test_les_petits_multiples_montrent_les_rangs_demandes(sweep):
    figure = plot_reconstructions({"essai": sweep}, ranks=[1, FULL], corner=8)
    original, first, last = figure.axes
    # Au rang plein, le train ne compresse plus : le titre dit le dernier rang qui compresse.
    assert figure.get_suptitle() == f"Au rang 1, erreur du train : essai, {french(sweep.at(1).error)} %"
    assert original.get_title() == "essai\n1\N{NO-BREAK SPACE}728 nombres"
    assert first.get_title().startswith("rang 1, 36 nombres\ntrain 9")
    assert last.get_title().endswith(f"train moins de 0,1 %\nSVD {french(sweep.at(FULL).svd_error)} %")
    np.testing.assert_allclose(first.images[0].get_array(), sweep.at(1).matrix[:8, :8].abs(), rtol=1e-6)
    assert original.images[0].get_clim() == first.images[0].get_clim()


def test_les_matrices_ont_une_seule_echelle():
    figure = plot_matrices({"un": torch.eye(4), "deux": -3 * torch.eye(4)}, "titre")
    assert [ax.images[0].get_clim() for ax in figure.axes] == [(0, 3), (0, 3)]
    np.testing.assert_array_equal(figure.axes[1].images[0].get_array(), 3 * np.eye(4))


def test_la_couche_coupee_montre_ses_pertes_et_ce_que_le_reseau_y_perd():
    lost, added = torch.tensor([[80.0, 82.0], [20.0, 22.0]]), torch.tensor([[5.0, 7.0], [0.0, 0.0]])
    left, right = plot_layer_cut([2, 8], {"poids": (lost, "teacher")}, added, "titre").axes
    assert list(left.lines[0].get_ydata()) == [81.0, 21.0] and list(left.lines[0].get_xdata()) == [2, 8]
    assert list(right.lines[-1].get_ydata()) == [6.0, 0.0]


def test_la_tt_svd_dessinee_montre_les_depliages_et_les_coeurs_de_tt_svd():
    tensor = random(4, 4, 4)
    figure = plot_tt_steps(tensor, 2)
    first, spectrum, core, rest, second, _, other, last = figure.axes
    np.testing.assert_allclose(first.images[0].get_array(), tensor.reshape(4, 16))
    np.testing.assert_allclose(second.images[0].get_array(), rest.images[0].get_array().reshape(8, 4))
    cores = tt_svd(tensor, 2)
    for ax, expected in ((core, cores[0][0]), (other, cores[1].flatten(0, 1)), (last, cores[2][..., 0])):
        np.testing.assert_allclose(np.abs(ax.images[0].get_array()), expected.abs(), atol=1e-5)
    assert [bar.get_facecolor()[3] for bar in spectrum.patches] == [1, 1, 0, 0]
    assert figure._suptitle.get_text().startswith("Rang 2 : 64 nombres deviennent 32, erreur ")


def test_tucker_2_montre_ses_canaux_et_ce_que_l_on_y_gagne():
    before, after = plot_tucker((32, 64), 8, (18_432, 1_344)).axes
    assert [text.get_text() for text in before.texts if "canaux" in text.get_text()] == ["32 canaux", "64 canaux"]
    assert sum(text.get_text() == "convolution 1×1" for text in after.texts) == 2
    assert "13,7 fois moins" in before.figure._suptitle.get_text()
    assert after.get_title(loc="left") == "après : 1\N{NO-BREAK SPACE}344 paramètres"


def test_le_front_montre_moyennes_intervalles_et_teacher_dans_chaque_panneau():
    errors = torch.tensor([[4.0, 6.0], [10.0, 10.0]])
    curves = {"TT": ([10, 100], errors, "TT", True), "brut": ([10], torch.tensor([[90.0, 90.0]]), "TT", False)}
    figure = plot_front({"un": curves, "deux": curves}, (1000, torch.tensor([3.0, 3.0])), "titre")
    assert [ax.get_title() for ax in figure.axes] == ["un", "deux"]
    by_label = {line.get_label(): line for line in figure.axes[0].lines}
    assert list(by_label["TT"].get_ydata()) == [5.0, 10.0] and list(by_label["brut"].get_ydata()) == [90.0]
    assert (by_label["TT"].get_linestyle(), by_label["brut"].get_linestyle()) == ("-", ":")
    assert list(by_label["teacher"].get_xdata()) == [1000]
    low, high = figure.axes[0].lines[1].get_ydata()
    assert low == pytest.approx(0.1) and high == pytest.approx(5 + 12.706, rel=1e-3)
