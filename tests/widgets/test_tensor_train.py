"""Le curseur de 10.6 : son état, et ce que l'image en montre."""

import numpy as np
import pytest
import torch

from kdcourse.measures import rank_sweep
from kdcourse.widgets import RankExplorer
from kdcourse.widgets.tensor_train import rank_heading

FULL = 16


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def weight():
    return random(64, 27)


@pytest.fixture
def sweep(weight):
    return rank_sweep(weight, [1, 3, FULL])


def test_le_curseur_de_rang_montre_la_reconstruction_et_les_deux_erreurs(sweep):
    widget = RankExplorer(sweep, corner=8)
    before = widget.svg()
    widget.rank = 3.0
    assert widget.svg() != before
    image, train, svd, heading = widget.artists
    state = sweep.at(3)
    np.testing.assert_allclose(image.get_array(), state.matrix[:8, :8].abs(), rtol=1e-6)
    assert (train.get_ydata(), svd.get_ydata()) == ([state.error], [state.svd_error])
    assert heading.get_text() == rank_heading(sweep, state)


def test_un_train_plus_gros_que_la_matrice_est_dit(sweep):
    assert "1,17 fois plus que la matrice" in rank_heading(sweep, sweep.at(FULL))
    assert "48,0 fois moins" in rank_heading(sweep, sweep.at(1))


def svd(matrix):
    return torch.linalg.svd(matrix)
