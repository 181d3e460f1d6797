"""10.6 d : la solution de l'énoncé, réellement entraînée, et les expériences voisines que l'on sait nommer."""

from functools import partial

import pytest
import torch

from benchmarks.tensor_train import truncated
from kdcourse import (
    MLP,
    check,
    convert_to_tensor_train,
    grid,
    initial_model,
    load_dataset,
    train_many,
    train_one,
)
from kdcourse.exercises.tensor_train import PREDICTIONS
from kdcourse.measures import CompressionRuns

SEEDS = list(range(10))
SVD_8 = partial(truncated, rank=8)


@pytest.fixture(scope="module")
def chapter():
    """``finetune`` du chapitre : ce que gagne le départ du teacher, coupé par une SVD ou un train."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    digits, wide = load_dataset("digits"), partial(MLP, hidden=(512, 512))
    teachers = [train_one(wide, digits.train, seed=seed, epochs=10) for seed in SEEDS]
    starts = [initial_model(wide, seed) for seed in SEEDS]
    with torch.no_grad():
        guides = torch.stack([teacher(digits.train.images) for teacher in teachers])

    def errors(convert, origins, rate):
        models = iter([convert(model) for model in origins])
        asked = {"epochs": 5, "batch_size": 25, "learning_rate": rate, **grid(alphas=[0.9], seeds=SEEDS)}
        return train_many(lambda: next(models), digits.train, guides, **asked).errors(digits.test)

    def gains(convert=SVD_8, asked=("SVD", 8), origins=starts):
        rate = CompressionRuns.load().run(*asked, 1)["learning_rate"]
        return errors(convert, origins, rate) - errors(convert, teachers, rate)

    yield gains, teachers
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def measured(chapter):
    return chapter[0]()


@pytest.mark.parametrize("prediction", ["gain", "perte", "rien d'établi"])
def test_la_solution_de_l_enonce_est_juste_quoi_qu_on_ait_prevu(measured, prediction, capsys):
    assert check("10.6 d", prediction, lambda: measured, "gain") is True
    assert PREDICTIONS["10.6 d"].lesson in capsys.readouterr().out


def test_une_lecture_fausse_est_refusee(measured, capsys):
    assert check("10.6 d", "gain", lambda: measured, "rien d'établi") is False
    assert "L'intervalle contient-il 0" in capsys.readouterr().out


def test_le_teacher_laisse_a_sa_place_donne_des_gains_nuls(chapter, capsys):
    gains, teachers = chapter
    still = gains(origins=teachers)
    assert check("10.6 d", "gain", lambda: still, "gain") is False
    assert "tous les gains sont nuls" in capsys.readouterr().out


def test_le_train_coupe_a_la_place_de_la_svd_est_nomme(chapter, capsys):
    train = chapter[0](partial(convert_to_tensor_train, rank=4), ("TT", 4))
    assert check("10.6 d", "gain", lambda: train, "rien d'établi") is False
    assert "le train de rang 4" in capsys.readouterr().out
