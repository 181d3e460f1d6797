"""10.4 c : la solution de l'énoncé, réellement entraînée, et les expériences voisines que l'on sait nommer."""

import pytest
import torch

from kdcourse import (
    check,
    cosine_relation_loss,
    digits_student,
    digits_teacher,
    grid,
    load_dataset,
    predict_features,
    train_many,
    train_one,
)
from kdcourse.exercises.relations import PREDICTIONS
from kdcourse.measures import alpha_of


@pytest.fixture(scope="module")
def gains():
    """Les gains du cosinus sur le student seul, entraînés comme au chapitre."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    digits = load_dataset("digits")
    part, teacher = digits.train.where(slice(0, 100)), train_one(digits_teacher, digits.train, epochs=30)
    target = predict_features(teacher, part.images)

    def measured(batch=5, weight=30, steps=400):
        students = train_many(
            digits_student, part, target, distillation=lambda s, t, y: cosine_relation_loss(s.embedding, t.embedding),
            epochs=steps * batch // 100, batch_size=batch, **grid(alphas=[0.0, alpha_of(weight)], seeds=range(10)),
        )  # fmt: skip
        lonely, guided = students.table(digits.test)
        return lonely - guided

    yield measured
    torch.set_num_threads(threads)


@pytest.mark.parametrize("prediction", ["gain", "perte", "rien d'établi"])
def test_la_solution_de_l_enonce_est_juste_quoi_qu_on_ait_prevu(gains, prediction, capsys):
    measured = gains()
    assert check("10.4 c", prediction, lambda: measured, "perte") is True
    assert PREDICTIONS["10.4 c"].lesson in capsys.readouterr().out
    assert check("10.4 c", prediction, lambda: measured, "rien d'établi") is False
    assert "L'intervalle contient-il 0" in capsys.readouterr().out
    assert check("10.4 c", prediction, lambda: -measured, "gain") is False
    assert "Le signe est inversé" in capsys.readouterr().out


@pytest.mark.parametrize(
    "change, said",
    [
        ({"batch": 25}, "C'est le gain d'un lot de 25"),
        ({"steps": 2000}, "ou de plus de pas"),
        ({"weight": 3}, "d'un poids léger"),
        ({"weight": 10}, "Un poids plus léger"),
        ({"weight": 100}, "Un poids plus lourd"),
    ],
    ids=str,
)
def test_chaque_experience_voisine_est_nommee(gains, change, said, capsys):
    measured = gains(**change)
    assert check("10.4 c", "perte", lambda: measured, "perte") is False
    assert said in capsys.readouterr().out
