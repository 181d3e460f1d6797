"""10.6 d : la solution de l'énoncé, réellement entraînée, et les expériences voisines que l'on sait nommer."""

from functools import partial

import pytest
import torch

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


@pytest.fixture(scope="module")
def chapter():
    """``finetune`` du chapitre, et l'erreur de la copie du teacher."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    digits, wide = load_dataset("digits"), partial(MLP, hidden=(512, 512))
    teachers = [train_one(wide, digits.train, seed=seed, epochs=10) for seed in SEEDS]
    starts = [initial_model(wide, seed) for seed in SEEDS]
    with torch.no_grad():
        guides = torch.stack([teacher(digits.train.images) for teacher in teachers])
    rate = CompressionRuns.load().run("TT", 4, 1)["learning_rate"]

    def errors(origins, alpha=0.9, rank=4, rate=rate):
        models = iter([convert_to_tensor_train(model, rank) for model in origins])
        asked = {"epochs": 5, "batch_size": 25, "learning_rate": rate, **grid(alphas=[alpha], seeds=SEEDS)}
        return train_many(lambda: next(models), digits.train, guides, **asked).errors(digits.test)

    distilled = errors(teachers)
    yield lambda origins="neuf", **options: errors(starts if origins == "neuf" else teachers, **options) - distilled
    torch.set_num_threads(threads)


@pytest.mark.parametrize("prediction", ["gain", "perte", "rien d'établi"])
def test_la_solution_de_l_enonce_est_juste_quoi_qu_on_ait_prevu(chapter, prediction, capsys):
    measured = chapter()
    assert check("10.6 d", prediction, lambda: measured, "rien d'établi") is True
    assert PREDICTIONS["10.6 d"].lesson in capsys.readouterr().out


def test_une_lecture_fausse_est_refusee(chapter, capsys):
    measured = chapter()
    assert check("10.6 d", "gain", lambda: measured, "gain") is False
    assert "L'intervalle contient-il 0" in capsys.readouterr().out


def test_le_teacher_laisse_a_sa_place_donne_des_gains_nuls(chapter, capsys):
    measured = chapter("teacher")
    assert check("10.6 d", "gain", lambda: measured, "gain") is False
    assert "tous les gains sont nuls" in capsys.readouterr().out


def test_un_reseau_neuf_repare_par_les_etiquettes_seules_est_nomme(chapter, capsys):
    measured = chapter(alpha=0.0)
    assert check("10.6 d", "gain", lambda: measured, "gain") is False
    assert "les étiquettes seules" in capsys.readouterr().out
