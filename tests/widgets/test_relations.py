"""Le curseur de 10.4 : son état, et ce que l'image en montre."""

import re

import numpy as np
import pytest
import torch

from kdcourse import (
    MLP,
    Features,
    cosine_relations,
    digits_student,
    load_dataset,
    predict_features,
    train_many,
)
from kdcourse.formats import french
from kdcourse.measures import relation_state
from kdcourse.measures.relations import RELATIONS, TRANSFORMATIONS, cloud_state
from kdcourse.widgets import InvarianceExplorer, RelationExplorer


@pytest.fixture(scope="module")
def training():
    torch.manual_seed(0)
    teacher, data = MLP(hidden=(16,)).eval(), load_dataset().train.where(slice(0, 40))
    guide = predict_features(teacher, data.images)

    def distance(student: Features, target: Features, labels):
        return (cosine_relations(student.embedding) - cosine_relations(target.embedding)).square().mean()

    snapshots = {
        epochs: train_many(
            digits_student, data, seeds=[0, 0], alphas=[0.0, 0.9], distillation=distance, teacher=guide,
            epochs=epochs, batch_size=20,
        )
        for epochs in (1, 4)
    }  # fmt: skip
    return snapshots, teacher, load_dataset().validation


def test_les_curseurs_montrent_le_student_choisi(training):
    snapshots, teacher, part = training
    explorer = RelationExplorer(snapshots, [0, 9], teacher, part)
    before = explorer.svg()
    explorer.epoch = 1.0
    explorer.weight = 9.0
    assert explorer.svg() != before
    shown = explorer.figure.get_axes()[1].images[0].get_array()
    np.testing.assert_allclose(shown, relation_state(snapshots[1][1], teacher, part).relations, rtol=1e-5)


@pytest.fixture(scope="module")
def cloud():
    return torch.randn(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.mark.parametrize(
    ("transformation", "ignored_by"),
    [
        ("translation", {"RKD distance", "RKD angle"}),
        ("rotation", set(RELATIONS)),
        ("échelle commune", set(RELATIONS)),
        ("une échelle par point", {"cosine"}),
        ("une échelle par dimension", set()),
    ],
)
def test_chaque_perte_ignore_ce_qu_elle_doit_et_rien_d_autre(cloud, transformation, ignored_by):
    assert max(cloud_state(cloud, transformation, 0.0).losses.values()) < 1e-12
    for amount in (0.1, 0.5, 1.0):
        state = cloud_state(cloud, transformation, amount)
        assert (state.points - cloud).norm() > 0.01
        assert {name for name, loss in state.losses.items() if loss < 1e-12} == ignored_by


def test_les_transformations_disent_ce_qu_elles_font(cloud):
    turned = cloud_state(cloud, "rotation", 0.5).points
    np.testing.assert_allclose(turned, torch.stack([-cloud[:, 1], cloud[:, 0]], 1), atol=1e-12)
    assert TRANSFORMATIONS["rotation"].says(0.5) == "tourné de 90°"
    shift = cloud_state(cloud, "translation", 0.5).points - cloud
    assert shift.norm(dim=1).tolist() == pytest.approx([0.5 * cloud.abs().max().item()] * 9)
    factors = cloud_state(cloud, "une échelle par point", 1.0).points / cloud
    assert factors[:, 0].min().item() == pytest.approx(0.5) and factors.max().item() == pytest.approx(2)
    assert factors[:, 0].unique().numel() == 9
    widths = cloud_state(cloud, "une échelle par dimension", 1.0).points / cloud
    np.testing.assert_allclose(widths, np.tile([2, 0.5], (9, 1)))


def test_le_nuage_et_les_quatre_pertes_suivent_les_curseurs(cloud):
    widget = InvarianceExplorer(cloud.float())
    before = widget.svg()
    widget.transformation, widget.amount = "une échelle par point", 1.0
    assert widget.svg() != before
    chart = widget.figure.axes[1]
    expected = cloud_state(cloud, "une échelle par point", 1.0).losses
    assert [bar.get_width() for bar in chart.patches] == pytest.approx([0, *list(expected.values())[1:]], rel=1e-5)
    assert chart.texts[0].get_text() == "0" and chart.texts[1].get_text() == french(expected["SP"], 5)


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (torch.ones(2, 2), "points : forme (2, 2) reçue, (B, 2) attendue, B de 3 à 100"),
        (torch.ones(4, 3), "points : forme (4, 3) reçue"),
        (torch.ones(2000, 2), "points : forme (2000, 2) reçue"),
        (torch.eye(4)[:, :2], "points : un point à l'origine reçu"),
        (torch.full((4, 2), float("nan")), "points : "),
        (torch.ones(4), "points : forme (4,) reçue"),
    ],
)
def test_un_nuage_qui_ne_convient_pas_est_refuse(points, expected):
    with pytest.raises(ValueError, match=re.escape(expected)):
        InvarianceExplorer(points)
