"""Le retour immédiat des voisins et de la mémoire : la bonne réponse, chaque erreur connue, les fautes de contrat."""

import pytest
import torch
from support.submissions_neighbours_and_memory import RIGHT, WRONG_MEMORY, WRONG_NEIGHBOURS

from kdcourse import check
from kdgrading.mark_neighbours_and_memory import QUESTIONS

BY_NAME = dict(zip(("neighbours", "memory"), QUESTIONS, strict=True))
neighbours, memory = (question.reference for question in QUESTIONS)


def answer_of(formula, name):
    """La formule, avec la signature de l'énoncé."""
    if name == "neighbours":
        return lambda student, teacher, temperature: formula(student, teacher, temperature=temperature)
    return lambda p, i, count, momentum: formula(p, i, count=count, momentum=momentum)


def function_of(text, name):
    exec(text, namespace := {})
    return namespace[BY_NAME[name].name]


@pytest.mark.parametrize("name", BY_NAME)
@pytest.mark.parametrize("style", ["tenseurs", "boucles"])
def test_une_reponse_juste_est_juste(name, style, capsys):
    assert check(name, function_of(RIGHT[style], name)) is True
    assert capsys.readouterr().out == f"Exercice {name} : juste.\n"


@pytest.mark.parametrize("name, hint", [(name, hint) for name in BY_NAME for hint in BY_NAME[name].mistakes])
def test_chaque_erreur_recoit_son_indice(name, hint, capsys):
    assert check(name, answer_of(BY_NAME[name].mistakes[hint], name)) is False
    assert capsys.readouterr().out == f"Exercice {name} : pas encore. {hint}\n"


@pytest.mark.parametrize("name, wrong, student", [
    *(("neighbours", WRONG_NEIGHBOURS, student) for student in WRONG_NEIGHBOURS),
    *(("memory", WRONG_MEMORY, student) for student in WRONG_MEMORY),
])  # fmt: skip
def test_aucune_copie_fausse_n_est_dite_juste(name, wrong, student):
    text = wrong[student][0]
    if student not in ("boucle", "absente"):
        assert check(name, function_of(text, name)) is False


@pytest.mark.parametrize("name, change, hint", [
    ("neighbours", lambda v, *_: v.detach(), "aucun gradient n'atteint le student"),
    ("neighbours", lambda v, *_: v.item(), "un tenseur est attendu, float reçu"),
    ("neighbours", lambda v, *_: v[None], "forme (1,) reçue, () attendue : un scalaire, la moyenne sur le lot"),
    ("neighbours", lambda v, *_: v.half(), "dtype torch.float16 reçu"),
    ("neighbours", lambda v, *_: v * 1.37, "fausse sur tous les cas"),
    ("neighbours", lambda v, s, t, _: v + 0 * t.sum() + (t - t.detach()).sum(), "un gradient traverse le teacher"),
    ("neighbours", lambda v, s, *_: v + (s - s.detach()).sum(), "pas le gradient pour le student"),
    ("neighbours", lambda *_: 1 / 0, "ZeroDivisionError"),
    ("memory", lambda v, *_: list(v), "un tenseur est attendu, list reçu"),
    ("memory", lambda v, *_: v[0], "attendue : une distribution par place et par lot"),
    ("memory", lambda v, *_: v.flatten(0, 1), "attendue : une distribution par place et par lot"),
    ("memory", lambda v, *_: v * float("nan"), "Le résultat contient NaN ou infini"),
    ("memory", lambda v, p, i, count, mu: v if mu else v.flip(0), "fausse sur « momentum nul »"),
])  # fmt: skip
def test_chaque_faute_de_contrat_est_dite(name, change, hint, capsys):
    right = answer_of(BY_NAME[name].reference, name)

    def answer(*inputs, **options):
        return change(right(*inputs, **options), *inputs, *options.values())

    assert check(name, answer) is False
    assert hint in capsys.readouterr().out


def test_une_reponse_qui_modifie_ses_entrees_ne_derange_pas_la_suivante():
    def vandal(p, i, count, momentum):
        value = memory(p, i, count=count, momentum=momentum)
        p.zero_(), i.zero_()
        return value

    assert check("memory", vandal) and check("memory", vandal)


def test_la_mesure_des_voisins_ne_depend_que_des_angles():
    draw = torch.Generator().manual_seed(0)
    f, g = torch.randn(2, 6, 5, generator=draw).double()
    sizes = torch.rand(6, 1, generator=draw).double() + 0.5
    turn = torch.linalg.qr(torch.randn(5, 5, generator=draw).double())[0]
    value = neighbours(f, g, temperature=0.3)
    torch.testing.assert_close(neighbours(sizes * f @ turn, g, temperature=0.3), value)
    assert neighbours(f, sizes * f @ turn, temperature=0.3).abs() < 1e-12
