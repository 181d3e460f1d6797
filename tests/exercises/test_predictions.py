"""Prévoir, mesurer, lire : ce que dit ``check`` à chaque étape, sur un exercice écrit pour ce test."""

import pytest
import torch

from kdcourse import check
from kdcourse.exercises import checking
from kdcourse.exercises.exercise import Prediction

NAME = "9.9 z"
SPREAD = torch.linspace(-1, 1, 10)


@pytest.fixture(autouse=True)
def exercise(monkeypatch):
    return use(monkeypatch)


def use(monkeypatch, expected=3.0, tolerance=1.5, unchanged=-0.2):
    mistakes = {"Le réglage est inchangé.": unchanged, "Ce sont 1 200 pas.": 10.4}
    one = Prediction(expected, mistakes, tolerance, lesson="La leçon.")
    monkeypatch.setitem(checking.PREDICTIONS, NAME, one)
    return one


def gains(mean, spread=1.0):
    """Une expérience de dix graines."""
    return lambda: mean + spread * SPREAD


def stub(): ...  # à compléter


def not_implemented():
    raise NotImplementedError


@pytest.mark.parametrize(
    "answers",
    [
        (..., stub, ...),
        (None, stub, None),
        ("", stub, ""),
        ("gain", stub, ...),
        ("gain", not_implemented, ...),
        ("gain", ..., ...),
        (..., None, ...),
        ("gain", lambda: ..., ...),
    ],
)
def test_une_ebauche_affiche_a_completer(answers, capsys):
    assert check(NAME, *answers) is False
    assert capsys.readouterr().out == f"Exercice {NAME} : à compléter.\n"


def test_la_prevision_se_demande_avant_la_mesure(capsys):
    def experiment():
        pytest.fail("mesurée avant d'être prévue")
        return torch.zeros(10)

    assert check(NAME, ..., experiment, ...) is False
    assert (
        "avant de mesurer, écrivez votre prévision : « gain », « recul », « rien d'établi »" in capsys.readouterr().out
    )


@pytest.mark.parametrize(
    "answers, hint",
    [
        (("hausse", gains(3.0), ...), "prévision : 'hausse' reçu, un de ceux-ci attendu : « gain »"),
        (("gain", gains(3.0), "oui"), "lecture : 'oui' reçu"),
        ((3.0, gains(3.0), ...), "prévision : 3.0 reçu"),
        ((True, gains(3.0), ...), "prévision : True reçu"),
        ((torch.ones(10), gains(3.0), ...), "prévision : tensor"),
        ((["gain"], gains(3.0), ...), "prévision : ['gain'] reçu"),
    ],
)
def test_un_mot_inattendu_est_dit(answers, hint, capsys):
    assert check(NAME, *answers) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("word", ["rien d'établi", "Rien d\N{RIGHT SINGLE QUOTATION MARK}établi", " rien d'établi. "])
def test_une_majuscule_ou_une_apostrophe_ne_change_pas_un_mot(word, monkeypatch, capsys):
    use(monkeypatch, expected=0.3, tolerance=0.2)
    assert check(NAME, word, gains(0.3), word)
    assert "comme prévu" in capsys.readouterr().out


def impossible():
    return 1 / 0


def leave():
    raise SystemExit


def forgotten():
    torch.zeros(10).mean()


@pytest.mark.parametrize(
    "experiment, hint",
    [
        (impossible, "l'expérience s'arrête sur ZeroDivisionError"),
        (leave, "l'expérience s'arrête sur SystemExit"),
        (forgotten, "il manque return"),
        (gains(3.0)(), "une fonction est attendue, sans l'appeler ; Tensor reçu"),
        (lambda: 3.0, "float reçu"),
        (lambda: (SPREAD, SPREAD), "tuple reçu"),
        (lambda: torch.tensor(3.0), "(), torch.float32 reçu"),
        (lambda: torch.stack([SPREAD, SPREAD]), "(2, 10), torch.float32 reçu"),
        (lambda: SPREAD[:9], "dix graines au moins ; (9,)"),
        (lambda: torch.arange(10), "torch.int64 reçu"),
        (lambda: SPREAD.where(SPREAD > -1, torch.nan), "n'est pas un nombre fini"),
        (lambda: SPREAD / 0, "n'est pas un nombre fini"),
        (lambda: SPREAD - SPREAD, "deux students différents"),
        (lambda: torch.full((10,), 3.0), "la même graine"),
    ],
)
def test_ce_qui_n_est_pas_une_mesure_est_dit(experiment, hint, capsys):
    assert check(NAME, "gain", experiment, ...) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    "mean, hint",
    [
        (0.4, "pas encore. Le réglage est inchangé."),
        (-0.9, "pas encore. Le réglage est inchangé."),
        (9.2, "pas encore. Ce sont 1 200 pas."),
        (-3.1, "pas encore. Le signe est inversé"),
        (6.5, "gain moyen 6,5, ce n'est pas celui attendu : un autre réglage"),
        (-10.4, "gain moyen −10,4, ce n'est pas celui attendu"),
    ],
)
def test_une_experience_voisine_est_nommee_sans_que_le_gain_attendu_soit_donne(mean, hint, capsys):
    assert check(NAME, "gain", gains(mean), "gain") is False
    out = capsys.readouterr().out
    assert hint in out
    assert "3,0" not in out


def test_pres_de_zero_le_signe_ne_se_discute_pas(monkeypatch, capsys):
    use(monkeypatch, expected=0.3, tolerance=0.4, unchanged=5.0)
    assert check(NAME, "gain", gains(-0.05), "rien d'établi"), capsys.readouterr().out


@pytest.mark.parametrize("bet, said", [("gain", "comme prévu."), ("recul", "vous aviez prévu « recul »")])
def test_une_lecture_juste_rappelle_la_prevision_et_donne_la_lecon(bet, said, capsys):
    assert check(NAME, bet, gains(3.0), "gain") is True
    out = capsys.readouterr().out
    assert out.startswith(f"Exercice {NAME} : juste : 3,0 [2,5 ; 3,5] points, donc « gain » ; ")
    assert said in out and out.endswith("La leçon.\n")


@pytest.mark.parametrize("word", ["recul", "perte"])
def test_un_gain_negatif_se_lit_recul_ou_perte(word, monkeypatch):
    use(monkeypatch, expected=-3.0, tolerance=1.0)
    assert check(NAME, "gain", gains(-3.0), word)


def test_la_lecture_absente_montre_l_intervalle_sans_le_lire(capsys):
    assert check(NAME, "gain", gains(3.0), ...) is False
    out = capsys.readouterr().out
    assert "gain mesuré : 3,0 [2,5 ; 3,5] points. Lisez cet intervalle" in out
    assert "La leçon" not in out and "juste" not in out


@pytest.mark.parametrize(
    "spread, reading, hint",
    [
        (1.0, "rien d'établi", "L'intervalle contient-il 0"),
        (1.0, "perte", "De quel côté de 0"),
        (9.0, "gain", "L'intervalle contient-il 0"),
        (9.0, "perte", "L'intervalle contient-il 0"),
    ],
)
def test_une_lecture_fausse_repose_la_question(spread, reading, hint, capsys):
    assert check(NAME, "gain", gains(3.0, spread), reading) is False
    assert hint in capsys.readouterr().out


def test_il_faut_trois_reponses():
    with pytest.raises(TypeError, match=r"2 réponse\(s\) reçue\(s\), 3 attendue"):
        check(NAME, "gain", gains(3.0))
