"""Chaque erreur connue reçoit son indice, et lui seul : aucune n'en cache une autre, ni n'est juste."""

import pytest

from kdcourse import check
from kdcourse.exercises.checking import EXERCISES


@pytest.mark.parametrize(("name", "hint"), [(name, hint) for name in EXERCISES for hint in EXERCISES[name].mistakes])
def test_chaque_erreur_connue_recoit_son_indice_et_lui_seul(name, hint, capsys):
    assert check(name, EXERCISES[name].mistakes[hint]) is False
    assert capsys.readouterr().out == f"Exercice {name} : pas encore. {hint}\n"
