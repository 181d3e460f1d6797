"""Les mesures de 10.3, et ``python -m benchmarks features``, dont le chapitre relit les résultats."""

import json

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from benchmarks import _report, features
from kdcourse import (
    CNN,
    attention_map,
    load_dataset,
    predict_features,
)
from kdcourse.measures import FeatureBudgets, gradient_norms, map_similarity, mean_map, model_attention, uniform_map
from kdcourse.measures.stored import stored
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


def test_les_normes_de_gradient_sont_celles_de_backward_sur_les_memes_parametres(data, teacher_features):
    model = initial_model(small, 0)
    norms = gradient_norms(model, data, teacher_features)
    stages = len(teacher_features.maps)
    assert norms.shape == (2, stages)
    features = model.forward_features(data.images)
    for stage in range(stages):
        q_student, q_teacher = attention_map(features.maps[stage]), attention_map(teacher_features.maps[stage])
        model.zero_grad()
        (q_student - q_teacher).square().mean().backward(retain_graph=True)
        reached = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
        assert not any(name.startswith(("head", f"stages.{stage + 1}")) for name in reached)
        model.zero_grad()
        F.cross_entropy(features.logits, data.labels).backward(retain_graph=True)
        by_labels = [p.grad for name, p in model.named_parameters() if name in reached]
        for found, gradients in zip(norms[:, stage], (by_labels, reached.values()), strict=True):
            assert found.item() == pytest.approx(sum(g.square().sum().item() for g in gradients) ** 0.5, rel=1e-4)


def test_la_carte_uniforme_ne_regarde_rien_et_la_moyenne_ne_depend_pas_de_l_image():
    maps = torch.randn(4, 3, 2, 5, generator=torch.Generator().manual_seed(3))
    flat = attention_map(uniform_map(maps))
    torch.testing.assert_close(flat, torch.full_like(flat, 10**-0.5))
    mean, energy = attention_map(mean_map(maps)), (maps**2).mean(dim=(0, 1))
    for own in mean:
        torch.testing.assert_close(own[0], energy / energy.norm())


def test_les_gains_ranges_sont_les_differences_avec_le_student_seul():
    budgets, raw = FeatureBudgets.load(), stored("features")
    alone, hint = (raw["errors"]["25"][name]["test"] for name in ("seul", "hint, étage 2"))
    expected = [[a - h for a, h in zip(*rows, strict=True)] for rows in zip(alone, hint, strict=True)]
    torch.testing.assert_close(budgets.gains(25, "hint, étage 2"), torch.tensor(expected), atol=1e-4, rtol=0)
    torch.testing.assert_close(budgets.gain(25, "hint, étage 2", 4.0), torch.tensor(expected[-1]), atol=1e-4, rtol=0)
    assert budgets.steps[25][budgets.budgets.index(1.0)] == 192 and "mesurés le" in budgets.origin


def test_le_paquet_porte_dix_graines_de_chaque_methode():
    kept = stored("features")["errors"]
    assert list(kept["25"]) == list(features.METHODS) and list(kept["100"]) == list(features.METHODS)[:9]
    assert all(len(row) == 10 for own in kept.values() for parts in own.values() for row in parts["test"])


def test_un_essai_reduit_mesure_chaque_methode_et_ne_range_rien(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_report, "SHOWN", tmp_path)
    monkeypatch.setattr(features, "BUDGETS", (0.01,))
    threads = torch.get_num_threads()
    features.main(["--graines", "2"])
    torch.set_num_threads(threads)
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert result["steps"] == {"25": [3], "100": [10]} and list(result["errors"]["25"]) == list(features.METHODS)
    assert list(result["errors"]["100"]) == list(features.METHODS)[:9]
    assert all(len(row) == 2 for own in result["errors"].values() for parts in own.values() for row in parts["test"])
    assert not list(tmp_path.iterdir())
