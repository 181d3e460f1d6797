"""Le curseur de 10.3 : son état, et ce que l'image en montre."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdcourse import (
    attention_map,
)
from kdcourse.widgets import AttentionExplorer
from kdcourse.widgets.features import attention_state


def unit(*shape):
    return attention_map(torch.rand(shape, generator=torch.Generator().manual_seed(1)))


@pytest.fixture
def explorer():
    teacher, student = [unit(4, 3, 6, 6), unit(4, 3, 3, 3)], [unit(8, 2, 6, 6), unit(8, 2, 3, 3)]
    student = [maps.view(2, 4, *maps.shape[1:]) for maps in student]
    errors = torch.tensor([[40.0, 44.0], [20.0, 24.0]])
    images = torch.rand(4, 1, 10, 10, generator=torch.Generator().manual_seed(2))
    return AttentionExplorer(images, teacher, student, [0.0, 0.5], errors), teacher, student


def test_l_etat_du_curseur_est_la_carte_choisie_et_son_cosinus(explorer):
    _, teacher, student = explorer
    state = attention_state(teacher, student, alpha=1, image=2, stage=1)
    assert torch.equal(state.student, student[1][1, 2, 0]) and torch.equal(state.teacher, teacher[1][2, 0])
    expected = F.cosine_similarity(state.student.flatten(), state.teacher.flatten(), dim=0).item()
    assert state.similarity == pytest.approx(expected, abs=1e-5)


def test_chaque_curseur_change_ce_que_l_image_montre(explorer):
    widget, teacher, student = explorer
    for name, value in (("alpha", 0.5), ("image", 3.0), ("stage", 0.0), ("stage", 1.0)):
        before = widget.svg()
        setattr(widget, name, value)
        assert widget.svg() != before
    left, right = widget.figure.get_axes()[1:3]
    top = max(teacher[1][2, 0].max(), student[1][1, 2, 0].max())
    np.testing.assert_allclose(left.images[0].get_array(), teacher[1][2, 0] / top)
    np.testing.assert_allclose(right.images[0].get_array(), student[1][1, 2, 0] / top)
    assert any("22,0" in text.get_text() for text in widget.figure.get_axes()[3].texts)


def test_l_image_nomme_ce_que_les_curseurs_choisissent(explorer):
    widget = explorer[0]
    widget.alpha, widget.image, widget.stage = 0.5, 3.0, 0.0
    widget.svg()
    titles = [ax.get_title() for ax in widget.figure.get_axes()[:3]]
    assert titles == ["image 3", "teacher, étage 0", "student, α = 0,5"]


def test_le_contour_du_chiffre_suit_l_image_choisie(explorer):
    widget = explorer[0]
    seen = []
    for widget.image in (1.0, 2.0):
        outlines = [ax.collections[0].get_segments() for ax in widget.figure.get_axes()[1:3]]
        assert all(np.array_equal(*pair) for pair in zip(*outlines, strict=True))
        seen.append(np.concatenate(outlines[0]))
    assert seen[0].shape != seen[1].shape or not np.allclose(*seen)


def test_le_curseur_s_ouvre_a_l_etage_du_milieu(explorer):
    assert explorer[0].stage == 1
