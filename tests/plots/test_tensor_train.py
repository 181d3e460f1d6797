"""Les figures de 10.6."""

import numpy as np
import pytest
import torch

from kdcourse.measures import rank_sweep
from kdcourse.plots import plot_front, plot_rank_curves, plot_reconstructions

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
    assert original.get_title() == "essai\n1\N{NO-BREAK SPACE}728 paramètres"
    assert first.get_title().startswith("rang 1\n36 paramètres\nerreur 9")
    assert last.get_title().endswith("moins de 0,1 %")
    np.testing.assert_allclose(first.images[0].get_array(), sweep.at(1).matrix[:8, :8].abs(), rtol=1e-6)
    assert original.images[0].get_clim() == first.images[0].get_clim()


def test_les_courbes_de_rang_sont_les_erreurs_du_balayage(sweep):
    (ax,) = plot_rank_curves({"essai": sweep}, rank=3).axes
    train, svd, dense = ax.lines
    assert list(train.get_ydata()) == [state.error for state in sweep.states]
    assert list(svd.get_ydata()) == [state.svd_error for state in sweep.states]
    assert list(svd.get_xdata()) == [state.svd_rank * (64 + 27) for state in sweep.states]
    assert dense.get_xdata()[0] == 64 * 27
    assert "180 paramètres" in ax.get_title()


def test_le_front_montre_moyennes_intervalles_et_teacher():
    errors = torch.tensor([[4.0, 6.0], [10.0, 10.0]])
    curves = {"TT": ([10, 100], errors, "distilled"), "brut": ([10], torch.tensor([90.0]), "raw")}
    (ax,) = plot_front(curves, (1000, torch.tensor(3.0)), "titre").axes
    by_label = {line.get_label(): line for line in ax.lines}
    assert list(by_label["TT"].get_ydata()) == [5.0, 10.0] and list(by_label["brut"].get_ydata()) == [90.0]
    assert list(by_label["teacher"].get_xdata()) == [1000]
    low, high = ax.lines[1].get_ydata()
    assert low == pytest.approx(0.1) and high == pytest.approx(5 + 12.706, rel=1e-3)
    assert "intervalle à 95 %" in ax.get_xlabel()


def test_sans_graines_le_front_n_annonce_aucun_intervalle():
    (ax,) = plot_front({"brut": ([10], torch.tensor([90.0]), "raw")}, (1000, 3.0), "titre").axes
    assert ax.get_xlabel() == "paramètres"


def svd(matrix):
    return torch.linalg.svd(matrix)
