"""10.3 d : la solution de l'énoncé, réellement entraînée, et les expériences voisines que l'on sait nommer."""

import pytest
import torch

from kdcourse import (
    CNN,
    AdaptedStudent,
    attention_loss,
    check,
    grid,
    hint_loss,
    load_dataset,
    predict_features,
    train_many,
    train_one,
)
from kdcourse.exercises.features import PREDICTIONS

SEEDS = list(range(10))


def small():
    return CNN(channels=(8, 8, 8))


def adapted():
    return AdaptedStudent(small(), 2, 8, 32)


def hint(student, teacher, labels):
    return 10 * hint_loss(student.maps[2], teacher.maps[2])


def attention(student, teacher, labels):
    return 250 * attention_loss(student.maps[1], teacher.maps[1])


@pytest.fixture(scope="module")
def chapter():
    """Les images, le teacher et l'entraînement du chapitre."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    digits = load_dataset("digits").resized(10)
    few = digits.train.where(slice(0, 25))
    teacher = train_one(lambda: CNN(channels=(16, 32, 32)), digits.train, epochs=15, learning_rate=0.01)
    targets = predict_features(teacher, few.images)

    def errors(make, guide, alpha=0.5, features=targets):
        asked = {"epochs": 64, "batch_size": 10, "learning_rate": 0.02, **grid(alphas=alpha, seeds=SEEDS)}
        return train_many(make, few, features, distillation=guide, **asked).errors(digits.test)

    alone = errors(small, attention, alpha=0.0)
    yield targets, lambda *args, **options: alone - errors(*args, **options)
    torch.set_num_threads(threads)


def others(targets):
    return targets.map(lambda part: part.roll(1, dims=0))


@pytest.mark.parametrize("prediction", ["gain", "perte", "rien d'établi"])
def test_la_solution_de_l_enonce_est_juste_quoi_qu_on_ait_prevu(chapter, prediction, capsys):
    targets, gains = chapter
    measured = gains(adapted, hint, features=others(targets))
    assert check("10.3 d", prediction, lambda: measured, "perte") is True
    assert PREDICTIONS["10.3 d"].lesson in capsys.readouterr().out


def test_une_lecture_fausse_est_refusee(chapter, capsys):
    targets, gains = chapter
    measured = gains(adapted, hint, features=others(targets))
    assert check("10.3 d", "perte", lambda: measured, "rien d'établi") is False
    assert "L'intervalle contient-il 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    "make, guide, change, said",
    [
        (adapted, hint, lambda part: part, "ses propres cartes"),
        (adapted, hint, lambda part: part.roll(1, dims=1), "ses propres cartes"),
        (adapted, hint, lambda part: part.roll(1), "Sans dims=0"),
        (small, attention, lambda part: part.roll(1, dims=0), "C'est l'attention"),
    ],
    ids=["inchangées", "canaux décalés", "tout décalé", "attention"],
)
def test_chaque_experience_voisine_est_nommee(chapter, make, guide, change, said, capsys):
    targets, gains = chapter
    measured = gains(make, guide, features=targets.map(change))
    assert check("10.3 d", "perte", lambda: measured, "perte") is False
    assert said in capsys.readouterr().out


def test_un_signe_inverse_est_nomme(chapter, capsys):
    targets, gains = chapter
    measured = -gains(adapted, hint, features=others(targets))
    assert check("10.3 d", "perte", lambda: measured, "gain") is False
    assert "Le signe est inversé" in capsys.readouterr().out
