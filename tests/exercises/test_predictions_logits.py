"""10.2 d : la solution de l'énoncé, réellement entraînée, et les expériences voisines que l'on sait nommer."""

import pytest

from kdcourse import MLP, check, digits_teacher, grid, load_dataset, predict_features, train_many, train_one
from kdcourse.measures import TemperatureMap


@pytest.fixture(scope="module")
def measure():
    """``measure`` du chapitre, avec son teacher."""
    digits = load_dataset("digits")
    teacher = train_one(digits_teacher, digits.train, epochs=30)
    logits = predict_features(teacher, digits.train.images).logits

    def measure(width, count, temperatures, alphas):
        students = train_many(
            lambda: MLP(hidden=(width, width)), digits.train.where(slice(0, count)), logits[:count],
            epochs={100: 120, 1000: 12}[count], batch_size=50, validation=digits.validation,
            **grid(temperatures=temperatures, alphas=alphas, seeds=range(10), alone=True),
        )  # fmt: skip
        return TemperatureMap.measure(students, temperatures, alphas, digits.test)

    return measure


def gains(measured):
    return measured.alone - measured.errors[0, 0]


@pytest.fixture(scope="module")
def asked(measure):
    return gains(measure(6, 1000, [32], [1.0]))


def test_la_solution_de_l_enonce_est_juste(asked, capsys):
    assert check("10.2 d", "gain", lambda: asked, "recul")
    said = capsys.readouterr().out
    assert "vous aviez prévu « gain »" in said and "à pas égaux" in said


def test_une_lecture_qui_n_est_pas_celle_de_l_intervalle_est_refusee(asked):
    assert not check("10.2 d", "recul", lambda: asked, "rien d'établi")


def test_le_signe_inverse_est_nomme(asked, capsys):
    assert not check("10.2 d", "recul", lambda: -asked, "gain")
    assert "signe est inversé" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("setting", "hint"),
    [
        ((6, 100, [32], [1.0]), "100 images"),
        ((6, 1000, [32], [0.2]), "gain presque nul"),
        ((6, 1000, [1], [1.0]), "gain presque nul"),
        ((32, 1000, [32], [1.0]), "gain presque nul"),
    ],
)
def test_une_experience_voisine_est_nommee(measure, setting, hint, capsys):
    assert not check("10.2 d", "recul", lambda: gains(measure(*setting)), "recul")
    assert hint in capsys.readouterr().out
