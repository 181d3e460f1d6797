"""10.5 d : la solution de l'énoncé, réellement entraînée, et les expériences voisines que l'on sait nommer."""

import pytest
import torch

from kdcourse import check, digits_student, digits_teacher, load_dataset, train_many, train_one
from kdcourse.exercises.self_distillation import PREDICTIONS

SEEDS = list(range(10))
# Nom → qui guide, T, alpha.
TRIED = {
    "lissage 0,3": ("aucun", 1.0, 0.3),
    "lissage 0,9": ("aucun", 1.0, 0.9),
    "étiquettes seules": ("aucun", 1.0, 0.0),
    "teacher": ("teacher", 4.0, 0.9),
    "sans étiquette": ("aucun", 1.0, 1.0),
}


@pytest.fixture(scope="module")
def errors():
    """Les erreurs de test de chaque expérience, entraînées ensemble comme le chapitre les entraîne une à une."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    digits = load_dataset("digits")
    teacher = train_one(digits_teacher, digits.train, epochs=30)
    with torch.no_grad():
        guides = {"aucun": torch.zeros(1000, 10), "teacher": teacher(digits.train.images)}
    names, temperatures, alphas = zip(*(row for row in TRIED.values() for _ in SEEDS), strict=True)
    students = train_many(
        digits_student, digits.train, torch.stack([guides[name] for name in names]), seeds=SEEDS * len(TRIED),
        temperatures=temperatures, alphas=alphas, epochs=60,
    )  # fmt: skip
    yield dict(zip(TRIED, students.table(digits.test), strict=True))
    torch.set_num_threads(threads)


@pytest.mark.parametrize("prediction", ["gain", "perte", "rien d'établi"])
def test_la_solution_de_l_enonce_est_juste_quoi_qu_on_ait_prevu(errors, prediction, capsys):
    gains = errors["lissage 0,3"] - errors["lissage 0,9"]
    assert check("10.5 d", prediction, lambda: gains, "rien d'établi") is True
    assert PREDICTIONS["10.5 d"].lesson in capsys.readouterr().out


def test_une_lecture_fausse_est_refusee(errors, capsys):
    gains = errors["lissage 0,3"] - errors["lissage 0,9"]
    assert check("10.5 d", "gain", lambda: gains, "perte") is False
    assert "L'intervalle contient-il 0" in capsys.readouterr().out


@pytest.mark.parametrize(
    "reference, run, said",
    [
        ("étiquettes seules", "lissage 0,9", "student seul"),
        ("lissage 0,3", "étiquettes seules", "étiquettes seules"),
        ("lissage 0,3", "teacher", "C'est le teacher"),
        ("lissage 0,3", "sans étiquette", "ne contient plus l'étiquette"),
        ("lissage 0,3", "lissage 0,3", "tous les gains sont nuls"),
    ],
)
def test_chaque_experience_voisine_est_nommee(errors, reference, run, said, capsys):
    gains = errors[reference] - errors[run]
    assert check("10.5 d", "gain", lambda: gains, "gain") is False
    assert said in capsys.readouterr().out
