"""L'exercice 10.1 c, fait pour de vrai : la solution de l'énoncé, le réglage oublié, le signe inversé."""

import pytest
import torch

from kdcourse import Split, check, digits_student, digits_teacher, grid, load_dataset, train_many, train_one


@pytest.fixture(scope="module")
def measured():
    """Étiquettes → gains appariés, avec le teacher du chapitre."""
    digits = load_dataset("digits")
    teacher = train_one(digits_teacher, digits.train, epochs=30)
    with torch.no_grad():
        logits = teacher(digits.train.images)
    generator = torch.Generator().manual_seed(0)
    wrong = torch.rand(1000, generator=generator) < 0.2
    drawn = torch.randint(10, (1000,), generator=generator)
    noisy = Split(digits.train.images, torch.where(wrong, drawn, digits.train.labels))
    gains = {}
    for name, part in (("noisy", noisy), ("train", digits.train)):
        settings = grid(temperatures=4, alphas=[0, 0.9], seeds=range(10))
        alone, distilled = train_many(digits_student, part, logits, epochs=30, **settings).table(digits.test)
        gains[name] = alone - distilled
    return gains


def test_la_solution_de_l_enonce_est_juste(measured, capsys):
    assert check("10.1 c", "perte", lambda: measured["noisy"], "gain")
    assert "vous aviez prévu « recul »" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("gains", "hint"), [(lambda m: m["train"], "donnez noisy"), (lambda m: -m["noisy"], "Le signe est inversé")]
)
def test_une_experience_voisine_est_nommee(measured, gains, hint, capsys):
    assert not check("10.1 c", "gain", lambda: gains(measured), "gain")
    assert hint in capsys.readouterr().out
