"""Des students demandés par leurs réglages : l'ordre de la grille, le tableau des erreurs, un student par son nom."""

import numpy as np
import pytest
import torch

from kdcourse import MLP, grid, load_dataset, train_many


@pytest.fixture(scope="module")
def digits():
    return load_dataset()


@pytest.fixture(scope="module")
def students(digits):
    part = digits.train.where(slice(0, 60))
    logits = 4 * torch.randn(60, 10, generator=torch.Generator().manual_seed(0))
    asked = grid(temperatures=[2, 8.0], alphas=[0.5, 0.9], seeds=[3, 5, 8], alone=True)
    return train_many(lambda: MLP(hidden=(8,)), part, logits, **asked, epochs=2, batch_size=30)


def test_la_grille_va_de_t_en_alpha_puis_de_graine_en_graine():
    asked = grid(temperatures=[2.0, 4.0], alphas=[0.5, 1.0], seeds=[7, 9])
    assert asked["seeds"] == [7, 9] * 4
    assert asked["temperatures"] == [2.0] * 4 + [4.0] * 4
    assert asked["alphas"] == [0.5, 0.5, 1.0, 1.0] * 2


def test_le_student_seul_est_en_tete_de_la_grille():
    asked = grid(temperatures=[2.0, 4.0], alphas=1.0, seeds=[7, 9], alone=True)
    assert asked["alphas"] == [0.0] * 2 + [1.0] * 4 and asked["temperatures"][2:] == [2.0, 2.0, 4.0, 4.0]


def test_un_alpha_nul_est_refuse_dans_une_grille_qui_a_deja_le_student_seul():
    with pytest.raises(ValueError, match=r"alphas : \[0.0, 0.5\] reçu, .*student seul est déjà là"):
        grid(alphas=[0.0, 0.5], seeds=[0], alone=True)


def test_une_grille_accepte_des_generateurs():
    assert grid(temperatures=iter([1.0, 2.0]), seeds=iter([3])) == grid(temperatures=[1.0, 2.0], seeds=[3])


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        (dict(seeds=[0], alphas=[]), "alphas : suite vide reçue"),
        (dict(seeds=[0], alphas="0.5"), "alpha : '0.5'"),
        (dict(seeds=[0], alphas=[0.5, 1.5]), r"alpha : 1.5 reçu, un nombre de \[0, 1\]"),
        (dict(seeds=[0], alphas=True), r"alpha : True \(bool\)"),
        (dict(seeds=[0], alphas=None), r"alpha : None \(NoneType\)"),
        (dict(seeds=[0], temperatures=0), "temperature : 0 reçu"),
        (dict(seeds=[2, 2]), r"seeds : \[2, 2\] reçu, des graines distinctes"),
    ],
)
def test_une_grille_impossible_est_refusee_avant_d_entrainer(asked, message):
    with pytest.raises((TypeError, ValueError), match=message):
        grid(**asked)


def test_une_grille_accepte_tenseurs_et_tableaux():
    expected = grid(temperatures=[2.0, 4.0], alphas=0.5, seeds=[1])
    assert (
        grid(temperatures=torch.tensor([2.0, 4.0]), alphas=np.float64(0.5), seeds=torch.arange(1, 2).tolist())
        == expected
    )
    assert grid(temperatures=np.array([2.0, 4.0]), alphas=torch.tensor(0.5), seeds=np.array([1])) == expected


def test_le_tableau_range_chaque_erreur_au_reglage_et_a_la_graine_qui_l_ont_donnee(students, digits):
    table = students.table(digits.test)
    assert table.shape == (5, 3)
    settings = [(1.0, 0.0), (2.0, 0.5), (2.0, 0.9), (8.0, 0.5), (8.0, 0.9)]
    for row, (temperature, alpha) in zip(table, settings, strict=True):
        for error, seed in zip(row, (3, 5, 8), strict=True):
            model = students.one(temperature=temperature, alpha=alpha, seed=seed)
            wrong = model(digits.test.images).argmax(dim=1) != digits.test.labels
            torch.testing.assert_close(error, 100 * wrong.float().mean())


def test_un_reglage_qui_change_dans_une_ligne_est_refuse(digits):
    part = digits.train.where(slice(0, 30))
    for asked in (dict(seeds=[0, 1, 0, 1], alphas=[0, 0.9, 0.9, 0]), dict(seeds=[0, 1], temperatures=[1, 4])):
        students = train_many(lambda: MLP(hidden=(8,)), part, torch.zeros(30, 10), epochs=1, **asked)
        with pytest.raises(ValueError, match="students : T ou alpha change d'une graine à l'autre"):
            students.table(digits.test)


def test_toute_mesure_d_un_student_se_range_de_meme(students):
    curves = students.rows(students.losses)
    assert curves.shape == (5, 3, 2) and torch.equal(curves[1, 2], students.losses[5])


def test_un_reglage_commun_a_tous_ne_se_redit_pas(digits):
    students = train_many(lambda: MLP(hidden=(8,)), digits.train.where(slice(0, 30)), seeds=[4, 2], epochs=1)
    assert torch.equal(students.one(seed=2).head.weight, students.parameters["head.weight"][1])


@pytest.mark.parametrize("wanted", [dict(seed=3), dict(seed=3, alpha=0.7), dict(seed=4, alpha=0.0)])
def test_un_student_qui_n_est_pas_unique_n_est_pas_choisi_au_hasard(students, wanted):
    with pytest.raises(ValueError, match="seed, temperature, alpha : .* students, ceux d'un seul attendus"):
        students.one(**wanted)


def test_un_tableau_sans_les_memes_graines_partout_est_refuse(digits):
    for seeds in ([0, 1, 2, 0], [0, 1, 1, 0]):
        students = train_many(lambda: MLP(hidden=(8,)), digits.train.where(slice(0, 30)), seeds=seeds, epochs=1)
        with pytest.raises(ValueError, match="students : des graines qui changent d'un réglage à l'autre"):
            students.table(digits.test)


class Buffered(MLP):
    """Un student dont chaque graine tire un tampon."""

    def __init__(self):
        super().__init__(hidden=(4,))
        self.register_buffer("shift", torch.randn(64), persistent=False)

    def forward_features(self, images):
        return super().forward_features(images + self.shift.view(images.shape[1:]))


def test_un_student_tire_de_la_pile_garde_ses_tampons(digits):
    students = train_many(Buffered, digits.train.where(slice(0, 30)), seeds=[4, 2], epochs=1)
    assert torch.equal(students.one(seed=2).shift, students.buffers["shift"][1])
    images = digits.test.images[:5]
    torch.testing.assert_close(students.one(seed=2)(images), students.logits(images)[1])


def test_une_mesure_qui_n_est_pas_d_un_student_est_refusee(students):
    with pytest.raises(ValueError, match="values : 3 mesures reçues, 15 attendues"):
        students.rows(torch.zeros(3))
