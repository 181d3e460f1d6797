"""La carte T × alpha : l'ordre de la grille, les mesures de chaque case, le choix sur la validation seule."""

import pytest
import torch

from kdcourse import MLP, grid, load_dataset, mean_interval, train_many
from kdcourse.measures import TemperatureMap, main_confusions

TEMPERATURES, ALPHAS, SEEDS = [1.0, 8.0], [0.2, 0.6, 1.0], [3, 5, 8]


@pytest.fixture(scope="module")
def digits():
    return load_dataset()


@pytest.fixture(scope="module")
def students(digits):
    part = digits.train.where(slice(0, 60))
    logits = 4 * torch.randn(60, 10, generator=torch.Generator().manual_seed(0))
    return train_many(
        lambda: MLP(hidden=(8,)), part, logits, validation=digits.validation, epochs=4, batch_size=30,
        **grid(temperatures=TEMPERATURES, alphas=ALPHAS, seeds=SEEDS, alone=True),
    )  # fmt: skip


@pytest.fixture(scope="module")
def measured(students, digits):
    return TemperatureMap.measure(students, TEMPERATURES, ALPHAS, digits.test)


def test_chaque_case_contient_les_students_de_ses_reglages(students, measured, digits):
    errors = students.errors(digits.test)
    for index in range(len(students)):
        alpha, temperature = students.alphas[index].item(), students.temperatures[index].item()
        seed = SEEDS.index(students.seeds[index].item())
        if alpha == 0:
            assert measured.alone[seed] == errors[index]
            continue
        row, column = TEMPERATURES.index(temperature), min(range(3), key=lambda c: abs(ALPHAS[c] - alpha))
        torch.testing.assert_close(measured.errors[row, column, seed], errors[index])
        torch.testing.assert_close(measured.curves[row, column, seed], students.validation_errors[index])


def test_la_confusion_compte_chaque_image_de_test_une_fois_par_graine(measured, digits):
    counts = torch.bincount(digits.test.labels, minlength=10).float()
    torch.testing.assert_close(measured.confusions.sum(dim=-1), counts.expand(2, 3, 10))
    wrong = 100 * (1 - measured.confusions[1, 2].diagonal().sum() / counts.sum())
    torch.testing.assert_close(wrong, measured.errors[1, 2].mean())


def test_le_gain_est_apparie_par_graine(measured):
    assert measured.gain(1, 0) == mean_interval(
        [a - b for a, b in zip(measured.alone, measured.errors[1, 0], strict=True)]
    )
    assert measured.gains()[1, 0] == pytest.approx(measured.gain(1, 0).mean, abs=1e-4)


def example(errors, last):
    """Une carte 1 × 3 dont seules comptent les erreurs de test et la dernière erreur de validation."""
    zeros = torch.zeros(2, 2)
    return TemperatureMap(
        [1.0], ALPHAS, torch.tensor([9.0, 9.0]), torch.tensor([errors]), zeros, torch.tensor([last])[..., None],
        zeros, zeros,
    )  # fmt: skip


def test_la_meilleure_case_se_choisit_sur_la_validation_et_non_sur_le_test():
    measured = example([[1.0, 1.0], [5.0, 5.0], [2.0, 2.0]], [[4.0, 4.0], [2.0, 2.0], [3.0, 3.0]])
    assert measured.best() == (0, 1)


def test_les_cases_indiscernables_de_la_meilleure_sont_comptees_avec_elle():
    # Différences avec la première : (0, 0), (1, 1) toujours pire, (−1, 1,2) qui ne se distingue pas.
    measured = example([[0.0, 0.0]] * 3, [[4.0, 4.0], [5.0, 5.0], [3.0, 5.2]])
    assert measured.best() == (0, 0)
    assert measured.as_good_as_best() == 2


def test_un_mauvais_nombre_de_students_ou_l_absence_de_validation_est_refuse(students, digits):
    with pytest.raises(ValueError, match="seeds : students d'autres réglages reçus"):
        TemperatureMap.measure(students, TEMPERATURES, ALPHAS[:2], digits.test)
    part = digits.train.where(slice(0, 60))
    plain = train_many(lambda: MLP(hidden=(8,)), part, seeds=[0] * 7, epochs=1)
    with pytest.raises(ValueError, match="students : entraînés sans validation"):
        TemperatureMap.measure(plain, TEMPERATURES, ALPHAS, digits.test)


def test_des_students_entraines_dans_un_autre_ordre_sont_refuses(students, digits):
    with pytest.raises(ValueError, match="temperatures : students d'autres réglages reçus"):
        TemperatureMap.measure(students, TEMPERATURES[::-1], ALPHAS, digits.test)
    with pytest.raises(ValueError, match="alphas : students d'autres réglages reçus"):
        TemperatureMap.measure(students, TEMPERATURES, [0.3, 0.6, 1.0], digits.test)


def test_une_classe_absente_du_test_garde_sa_colonne(students, digits):
    part = digits.test.without_class(9)
    measured = TemperatureMap.measure(students, TEMPERATURES, ALPHAS, part)
    answers = students.logits(part.images)[:3].argmax(-1)
    expected = ((answers == 9) & (part.labels == 8)).float().sum(-1).mean()
    assert measured.alone_confusion.shape == (10, 10)
    assert measured.alone_confusion[8, 9] == pytest.approx(expected.item())


def test_les_fautes_les_plus_frequentes_sont_rangees_et_la_diagonale_n_en_est_pas():
    confusion = torch.tensor([[90.0, 1.0, 4.0], [7.0, 80.0, 0.0], [2.0, 3.0, 70.0]])
    assert main_confusions(confusion, 3) == [(1, 0, 7.0), (0, 2, 4.0), (2, 1, 3.0)]
    assert confusion[0, 0] == 90
