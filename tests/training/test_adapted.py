"""Le student suivi de son adaptateur : les mêmes poids, la même boucle, ses refus."""

import itertools

import pytest
import torch
import torch.nn.functional as F

from kdcourse import (
    CNN,
    AdaptationLayer,
    AdaptedStudent,
    Split,
    hint_loss,
    load_dataset,
    predict_features,
    train_many,
    train_one,
)
from kdcourse.training.many_students import initial_model


def small():
    return CNN(channels=(4, 8))


def adapted():
    return AdaptedStudent(small(), 1, 8, 12)


@pytest.fixture(scope="module")
def data():
    return load_dataset().train.where(slice(0, 30))


@pytest.fixture(scope="module")
def teacher_features(data):
    return predict_features(initial_model(lambda: CNN(channels=(8, 12)), 5), data.images)


def test_a_graine_egale_le_student_adapte_part_des_poids_du_student_seul():
    ours, plain = initial_model(adapted, 3).student, initial_model(small, 3)
    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), plain.parameters(), strict=True))


def test_le_student_adapte_rend_les_logits_du_student_et_une_seule_carte_change(data):
    model = initial_model(adapted, 0)
    plain, ours = model.student.forward_features(data.images), model.forward_features(data.images)
    assert torch.equal(ours.maps[0], plain.maps[0])
    torch.testing.assert_close(ours.maps[1], model.adapter(plain.maps[1]))
    assert ours.maps[1].shape[1] == 12
    assert torch.equal(ours.embedding, plain.embedding)
    assert torch.equal(ours.logits, plain.logits) and torch.equal(model(data.images), plain.logits)


@pytest.mark.parametrize("stage", [-1, 2])
def test_un_etage_que_le_student_n_a_pas_est_refuse(stage, data):
    with pytest.raises(ValueError, match=f"stage : {stage} reçu, de 0 à 1 attendu"):
        AdaptedStudent(small(), stage, 8, 12).forward_features(data.images)


def hint(student, teacher, labels):
    return hint_loss(student.maps[1], teacher.maps[1])


def test_l_adaptateur_s_entraine_dans_train_many_comme_dans_la_boucle_nue(data, teacher_features):
    options = {"batch_size": 10, "distillation": hint, "teacher": teacher_features, "epochs": 3}
    together = train_many(adapted, data, seeds=[0, 1], alphas=0.5, **options)
    for seed in (0, 1):
        single = train_one(adapted, data, seed=seed, alpha=0.5, **options)
        start = initial_model(adapted, seed).adapter.adapt.weight
        assert not torch.allclose(together[seed].adapter.adapt.weight, start, atol=1e-3)
        for ours, theirs in zip(together[seed].parameters(), single.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_la_boucle_ecrite_en_toutes_lettres_donne_le_meme_student(data, teacher_features):
    torch.manual_seed(0)
    student, adapter = small(), AdaptationLayer(8, 12)
    optimizer = torch.optim.Adam([*student.parameters(), *adapter.parameters()], lr=3e-3)
    shuffle = torch.Generator().manual_seed(0)
    for _ in range(3):
        for batch in torch.randperm(30, generator=shuffle).split(10):
            features = student.forward_features(data.images[batch])
            gap = adapter(features.maps[1]) - teacher_features.maps[1][batch]
            loss = 0.5 * gap.square().mean() + 0.5 * F.cross_entropy(features.logits, data.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    together = train_many(
        adapted, data, seeds=[0], alphas=0.5, epochs=3, batch_size=10, distillation=hint,
        teacher=teacher_features,
    )[0].student  # fmt: skip
    for ours, theirs in zip(together.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_un_adaptateur_fige_reste_le_meme_dans_train_many_et_le_student_s_entraine(data, teacher_features):
    def frozen():
        model = adapted()
        model.adapter.requires_grad_(False)
        return model

    trained = train_many(
        frozen, data, seeds=[0, 1], alphas=0.5, epochs=2, batch_size=10, distillation=hint,
        teacher=teacher_features,
    )  # fmt: skip
    for seed in (0, 1):
        start = initial_model(frozen, seed)
        assert torch.equal(trained[seed].adapter.adapt.weight, start.adapter.adapt.weight)
        assert not torch.equal(trained[seed].student.head.weight, start.student.head.weight)


def test_des_images_agrandies_gardent_leurs_etiquettes_et_interpolent_entre_les_pixels():
    digits = load_dataset()
    larger = digits.resized(10)
    assert [tuple(part.images.shape[1:]) for part in larger] == [(1, 10, 10)] * 3
    assert all(torch.equal(a.labels, b.labels) for a, b in zip(digits, larger, strict=True))
    # Le pixel (1, 1) de 10 tombe en 1,5·0,8 − 0,5 = 0,7 de la grille de 8.
    image, expected = digits.test.images[0, 0], 0.0
    for (row, wr), (column, wc) in itertools.product(((0, 0.3), (1, 0.7)), repeat=2):
        expected += wr * wc * image[row, column].item()
    assert larger.test.images[0, 0, 1, 1].item() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="size : 0 reçu"):
        digits.resized(0)


def test_un_split_agrandi_reste_un_split():
    assert isinstance(load_dataset().resized(9).train, Split)
