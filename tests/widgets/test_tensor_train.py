"""Les curseurs de 10.6 : leur état, et ce que l'image en montre."""

import numpy as np
import pytest
import torch

from kdcourse.measures import rank_sweep, tt_svd_steps
from kdcourse.widgets import RankExplorer, TTSVDExplorer
from kdcourse.widgets.tensor_train import rank_heading, slices, step_heading

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
    widget.rank = 1.0
    assert widget.svg() != before
    image, train, svd, heading = widget.artists
    state = sweep.at(1)
    np.testing.assert_allclose(image.get_array(), state.matrix[:8, :8].abs(), rtol=1e-6)
    assert (train.get_ydata(), svd.get_ydata()) == ([state.error], [state.svd_error])
    assert heading.get_text() == rank_heading(sweep, state)


def test_un_train_plus_gros_que_la_matrice_est_dit(sweep):
    assert "1,17 fois plus que la matrice" in rank_heading(sweep, sweep.at(FULL))
    assert "48,0 fois moins" in rank_heading(sweep, sweep.at(1))


@pytest.fixture(scope="module")
def stepwise():
    return TTSVDExplorer({"un": random(4, 4, 4), "deux": random(4, 4, 4, seed=1)})


def test_les_curseurs_montrent_le_pas_le_tenseur_et_le_rang_choisis(stepwise):
    stepwise.tensor, stepwise.rank = "deux", 3.0
    before = stepwise.svg()
    for step, state in enumerate(tt_svd_steps(random(4, 4, 4, seed=1), 3)):
        stepwise.step = step
        rest, *cores = stepwise.artists[:4]
        flat = slices(state.rest) if state.rest.dim() == 3 else state.rest
        np.testing.assert_allclose(rest.get_array().filled(np.nan), flat)
        assert list(rest.get_extent()) == [0, flat.shape[1], flat.shape[0], 0]
        assert [core.get_visible() for core in cores] == [index < len(state.cores) for index in range(3)]
        kept = [bar.get_facecolor()[3] for bar in stepwise.figure.axes[1].patches]
        assert sum(kept) == state.rank
        assert stepwise.figure._suptitle.get_text() == step_heading(state, random(4, 4, 4, seed=1))
    assert stepwise.svg() != before


def test_les_tranches_gardent_l_ordre_du_premier_depliement():
    tensor = random(2, 3, 4)
    flat = slices(tensor)
    assert flat.shape == (2, 3 * 5 - 1) and flat.isnan().all(0).nonzero().flatten().tolist() == [4, 9]
    assert torch.equal(flat[:, ~flat.isnan().any(0)], tensor.reshape(2, 12))


def test_chaque_pas_se_dit_en_une_ligne():
    tensor = random(4, 4, 4)
    said = [step_heading(step, tensor) for step in tt_svd_steps(tensor, 2)]
    assert said[:2] == [
        "Le tenseur 4 × 4 × 4, tranche par tranche",
        "Déplier : le tenseur devient une matrice 4 × 16",
    ]
    assert "2 valeurs singulières gardées sur 4 ; le cœur 1" in said[2] and said[2].endswith("il reste 2 × 16")
    one = [step_heading(step, tensor) for step in tt_svd_steps(tensor, 1)]
    assert "1 valeur singulière gardée sur 4" in one[2] and "le cœur 2 est prêt" in one[4]
    assert said[3] == "Déplier : ce qui reste devient une matrice 8 × 4" and "32 nombres pour 64" in said[5]


def test_des_tenseurs_de_formes_differentes_ou_d_un_autre_ordre_sont_refuses():
    with pytest.raises(ValueError, match=r"tensors : formes \[\(4, 4, 4\), \(2, 4, 4\)\] reçues, une seule forme"):
        TTSVDExplorer({"un": random(4, 4, 4), "deux": random(2, 4, 4)})
    with pytest.raises(ValueError, match=r"tensors\['un'\] : forme \(4, 4\) reçue"):
        TTSVDExplorer({"un": random(4, 4)})
    with pytest.raises(ValueError, match="tensors : aucun tenseur reçu"):
        TTSVDExplorer({})
    with pytest.raises(TypeError, match="tensors : Tensor reçu, un dictionnaire"):
        TTSVDExplorer(random(4, 4, 4))


@pytest.mark.parametrize("tensor", [torch.zeros(3, 4, 2), random(3, 4, 2).half(), random(3, 4, 2).bfloat16()])
def test_un_tenseur_nul_ou_de_demi_precision_se_dessine(tensor):
    assert "erreur" in TTSVDExplorer({"un": tensor}).played["words"][-1]


@pytest.mark.parametrize("shape", [(2, 5, 3), (6, 2, 2), (3, 3, 7), (1, 4, 1)])
def test_la_figure_convient_a_d_autres_formes(shape):
    widget = TTSVDExplorer({"un": random(*shape)})
    assert len(widget.played["frames"]) == 6 * len(widget.sliders["rank"].values)
