"""Bilan b, avec les mesures rangées : ce que check en dit, juste ou non."""

import pytest

from kdcourse import check
from kdcourse.measures import StoredComparison


@pytest.fixture(scope="module")
def comparison():
    return StoredComparison.load()


def test_dix_laboratoires_n_etablissent_rien(comparison, capsys):
    assert check("Bilan b", "gain", lambda: comparison.gain(25, "hint"), "rien d'établi")
    assert "vous aviez prévu « gain »".replace(" ", "\N{NO-BREAK SPACE}") in capsys.readouterr().out.replace(
        " ", "\N{NO-BREAK SPACE}"
    )


@pytest.mark.parametrize(
    ("experiment", "hint"),
    [
        (lambda c: c.gain(100, "hint"), "400 pas"),
        (lambda c: (c.errors[25]["seul"] - c.errors[25]["hint"])[0], "laboratoire A"),
        (lambda c: c.gain(25, "hint", "KD"), "moins KD"),
    ],
)
def test_une_experience_voisine_est_nommee(comparison, capsys, experiment, hint):
    assert not check("Bilan b", "gain", lambda: experiment(comparison), "gain")
    assert hint in capsys.readouterr().out.replace("\N{NO-BREAK SPACE}", " ")
