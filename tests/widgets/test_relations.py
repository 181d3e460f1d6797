"""Le curseur de 10.4 : son état, et ce que l'image en montre."""

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
from kdcourse.measures import relation_state
from kdcourse.widgets import RelationExplorer


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
    explorer = RelationExplorer(snapshots, teacher, part)
    before = explorer.svg()
    explorer.epoch = 1.0
    explorer.alpha = explorer.sliders["alpha"].values[1]
    assert explorer.svg() != before
    shown = explorer.figure.get_axes()[1].images[0].get_array()
    np.testing.assert_allclose(shown, relation_state(snapshots[1][1], teacher, part).relations, rtol=1e-5)
