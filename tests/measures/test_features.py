"""Les mesures de 10.3."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdcourse import (
    CNN,
    attention_map,
    load_dataset,
    predict_features,
)
from kdcourse.measures import gradient_norms, map_similarity, model_attention
from kdcourse.training.many_students import initial_model


def small():
    return CNN(channels=(4, 8))


@pytest.fixture(scope="module")
def data():
    return load_dataset().train.where(slice(0, 30))


@pytest.fixture(scope="module")
def teacher_features(data):
    return predict_features(initial_model(lambda: CNN(channels=(8, 12)), 5), data.images)


def test_la_ressemblance_est_le_cosinus_moyen_sur_les_images():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.rand(5, 1, 3, 4, generator=generator) for _ in range(2))
    expected = [
        F.cosine_similarity(s.flatten(), t.flatten(), dim=0).item() for s, t in zip(student, teacher, strict=True)
    ]
    student, teacher = (maps / maps.flatten(1).norm(dim=1)[:, None, None, None] for maps in (student, teacher))
    assert map_similarity(student, teacher).item() == pytest.approx(np.mean(expected), abs=1e-6)
    both = map_similarity(torch.stack([student, teacher]), teacher)
    assert both.tolist() == pytest.approx([np.mean(expected), 1.0], abs=1e-6)
    with pytest.raises(ValueError, match=r"student : forme \(5, 1, 3, 3\) reçue"):
        map_similarity(student[..., :3], teacher)


def test_les_cartes_d_un_modele_sont_celles_de_ses_etages(data):
    model = small()
    for ours, maps in zip(model_attention(model, data.images), model.forward_features(data.images).maps, strict=True):
        torch.testing.assert_close(ours, attention_map(maps))


def test_les_normes_de_gradient_sont_celles_de_backward(data, teacher_features):
    model = initial_model(small, 0)
    norms = gradient_norms(model, data, teacher_features)
    assert norms.shape == (3,)
    features = model.forward_features(data.images)
    q_student, q_teacher = attention_map(features.maps[0]), attention_map(teacher_features.maps[0])
    for index, loss in (
        (0, F.cross_entropy(features.logits, data.labels)),
        (1, (q_student - q_teacher).square().mean()),
    ):
        model.zero_grad()
        loss.backward(retain_graph=True)
        squares = sum(p.grad.square().sum().item() for p in model.parameters() if p.grad is not None)
        assert norms[index].item() == pytest.approx(squares**0.5, rel=1e-4)
