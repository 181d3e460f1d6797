"""La même faute reçoit le même refus, par quelque entrée qu'elle arrive ; et un entier de numpy en vaut un autre."""

from functools import partial

import numpy as np
import pytest
import torch

from kdcourse import (
    CNN,
    MLP,
    Batches,
    Choice,
    TensorDistillation,
    born_again,
    compare_distillation_methods,
    distill,
    grid,
    initial_model,
    load_dataset,
    progressive_self_distillation,
    ps_kd,
    train_epochs,
    train_many,
    train_one,
)

DATA = load_dataset().train.where(slice(0, 20))


def student():
    return MLP(hidden=(4,))


def everything(train):
    return lambda **options: list(train(**options))


LOADER = Batches(DATA)
# Chaque entraînement, prêt à recevoir un budget.
TRAINERS = {
    "train_one": partial(train_one, student, DATA),
    "train_many": partial(train_many, student, DATA, seeds=[0]),
    "distill": partial(distill, student, DATA, method="seul"),
    "train_epochs": everything(partial(train_epochs, student(), LOADER, lambda m, x, y, i: m(x).square().mean())),
    "progressive_self_distillation": partial(progressive_self_distillation, student(), LOADER),
    "ps_kd": partial(ps_kd, student(), LOADER),
    "born_again": partial(born_again, student, LOADER, generations=1),
    "compare_distillation_methods": partial(
        compare_distillation_methods, lambda: CNN(channels=(4, 4)), CNN(channels=(4, 4)), DATA, DATA,
        {"KD": Choice(0.5)}, seeds=[0, 1],
    ),
    "distill_to_compressed_student": partial(
        TensorDistillation.distill_to_compressed_student, student(), student(), [DATA]
    ),
}  # fmt: skip
IN_MEMORY = ("train_one", "train_many", "distill", "compare_distillation_methods")
SEEDED = {
    "train_one": lambda seed: train_one(student, DATA, seed=seed, epochs=1),
    "train_many": lambda seed: train_many(student, DATA, seeds=[seed], epochs=1),
    "distill": lambda seed: distill(student, DATA, method="seul", seed=seed, epochs=1),
    "grid": lambda seed: grid(seeds=[seed]),
    "initial_model": lambda seed: initial_model(student, seed),
    "Batches": lambda seed: Batches(DATA, seed),
}
FAULTS = [(0, ValueError, "0 reçu"), (1.5, TypeError, r"1.5 \(float\) reçu"), (True, TypeError, r"True \(bool\) reçu"),
          ("3", TypeError, r"'3' \(str\) reçu")]  # fmt: skip


@pytest.mark.parametrize("name", TRAINERS)
@pytest.mark.parametrize(("wrong", "error", "message"), FAULTS)
def test_un_nombre_d_epoques_qui_n_en_est_pas_un_est_refuse_partout_de_meme(name, wrong, error, message):
    with pytest.raises(error, match=f"^epochs : {message}, un entier ≥ 1 attendu"):
        TRAINERS[name](epochs=wrong)


@pytest.mark.parametrize("name", IN_MEMORY)
@pytest.mark.parametrize(("wrong", "error", "message"), FAULTS)
def test_une_taille_de_lot_qui_n_en_est_pas_une_est_refusee_partout_de_meme(name, wrong, error, message):
    with pytest.raises(error, match=f"^batch_size : {message}, un entier ≥ 1 attendu"):
        TRAINERS[name](epochs=1, batch_size=wrong)


@pytest.mark.parametrize("name", [name for name in TRAINERS if name != "distill_to_compressed_student"])
@pytest.mark.parametrize("wrong", [0, -1.0, 1e9, float("nan")])
def test_un_pas_hors_de_son_domaine_est_refuse_partout_de_meme(name, wrong):
    with pytest.raises(ValueError, match=f"^learning_rate : {wrong} reçu, un nombre de 1e-12 à 1000 attendu"):
        TRAINERS[name](epochs=1, learning_rate=wrong)


@pytest.mark.parametrize("name", SEEDED)
@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [(-1, ValueError, "-1 reçu"), (2**63, ValueError, "9223372036854775808 reçu"), *FAULTS[1:]],
)
def test_une_graine_qui_n_en_est_pas_une_est_refusee_partout_de_meme(name, wrong, error, message):
    with pytest.raises(error, match=rf"^seeds? : {message}, un entier de 0 à 2\*\*63 - 1 attendu"):
        SEEDED[name](wrong)


@pytest.mark.parametrize("name", IN_MEMORY)
def test_des_entiers_de_numpy_valent_ceux_de_python(name):
    TRAINERS[name](epochs=np.int64(1), batch_size=np.int32(20), learning_rate=np.float32(0.01))


@pytest.mark.parametrize("name", SEEDED)
def test_une_graine_de_numpy_vaut_celle_de_python(name):
    SEEDED[name](np.uint8(3))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: MLP(hidden=(2.7,)), r"hidden : 2.7 \(float\) reçu, un entier ≥ 1"),
        (lambda: MLP(hidden=(float("inf"),)), r"hidden : inf \(float\) reçu"),
        (lambda: MLP(hidden=(True,)), r"hidden : True \(bool\) reçu"),
        (lambda: MLP(in_features=64.0), r"in_features : 64.0 \(float\) reçu"),
        (lambda: MLP(classes=0), "classes : 0 reçu, un entier ≥ 1"),
        (lambda: MLP(dropout=1.0), r"dropout : 1.0 reçu, un nombre de \[0, 1\["),
        (lambda: CNN(channels=(8, 2.5)), r"channels : 2.5 \(float\) reçu"),
        (lambda: CNN(groups=0), "groups : 0 reçu, un entier ≥ 1"),
        (lambda: CNN(in_channels="1"), r"in_channels : '1' \(str\) reçu"),
    ],
)
def test_une_taille_qui_n_est_pas_un_entier_ne_construit_aucun_reseau(make, message):
    with pytest.raises((TypeError, ValueError), match=message):
        make()


def test_des_tailles_de_numpy_construisent_le_meme_reseau():
    torch.manual_seed(0)
    expected = MLP(hidden=(6,)).state_dict()
    torch.manual_seed(0)
    torch.testing.assert_close(MLP(np.int64(64), (np.int64(6),), np.int32(10)).state_dict(), expected)
