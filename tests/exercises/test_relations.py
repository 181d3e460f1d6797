"""Les exercices de 10.4 : la bonne réponse, de plusieurs façons, et chaque erreur connue."""

import pytest
import torch
import torch.nn.functional as F

from kdcourse import (
    check,
)
from kdcourse.exercises.checking import EXERCISES

NAMES = ["10.4 a", "10.4 b", "10.4 c"]


def gram(f):
    return f @ f.mT


def distances(f):
    return torch.cdist(f, f, compute_mode="donot_use_mm_for_euclid_dist")


def relative(f):
    d = distances(f)
    return d / d[d > 0].mean()


def sp(s, t):
    return F.mse_loss(F.normalize(gram(s), dim=1), F.normalize(gram(t), dim=1))


def cosines(f):
    return gram(F.normalize(f, dim=1))


SOLUTIONS = {"10.4 a": cosines, "10.4 b": lambda s, t: F.smooth_l1_loss(relative(s), relative(t)), "10.4 c": sp}


@pytest.mark.parametrize("name", NAMES)
def test_la_solution_de_l_enonce_est_juste(name, capsys):
    assert check(name, SOLUTIONS[name]) is True
    assert capsys.readouterr().out == f"Exercice {name} : juste.\n"


def other_cosines(f):
    return F.cosine_similarity(f[:, None], f[None], dim=-1)


def other_distance(s, t):
    def ratios(f):
        pairs = torch.nn.functional.pdist(f.double())
        return pairs / pairs.mean()

    gap = (ratios(s) - ratios(t)).abs()
    return 2 * torch.where(gap < 1, gap**2 / 2, gap - 0.5).sum() / len(s) ** 2


def other_sp(s, t):
    rows = [gram(f.double()) / gram(f.double()).norm(dim=1, keepdim=True) for f in (s, t)]
    return (rows[0] - rows[1]).norm() ** 2 / len(s) ** 2


@pytest.mark.parametrize("name, answer", [*zip(NAMES, [other_cosines, other_distance, other_sp], strict=True)])
def test_une_autre_facon_d_ecrire_juste_est_juste(name, answer):
    assert check(name, answer)


@pytest.mark.parametrize(
    "answer, hint",
    [
        (gram, "pas normalisées"),
        (lambda f: gram(F.normalize(f, dim=0)), "chaque ligne"),
        (lambda f: gram(f / f.norm()), "tout le lot"),
        (lambda f: gram(f / (f * f).sum(1, keepdim=True)), "il manque une racine"),
        (lambda f: gram(f / f.abs().sum(1, keepdim=True)), "L1"),
        (lambda f: F.normalize(gram(f), dim=1), "matrice de SP"),
        (lambda f: cosines(f.mT), "attendue"),
        (lambda f: cosines(f).softmax(1), "softmax"),
        (lambda f: 1 - cosines(f), "distances"),
        (lambda f: f @ f, "RuntimeError"),
    ],
)
def test_chaque_erreur_de_l_exercice_a_recoit_son_indice(answer, hint, capsys):
    assert check("10.4 a", answer) is False
    assert hint in capsys.readouterr().out


def rkd(s, t, of=distances, by=lambda d: d[d > 0].mean(), gap=F.smooth_l1_loss):
    return gap(of(s) / by(of(s)), of(t) / by(of(t)))


@pytest.mark.parametrize(
    "answer, hint",
    [
        (lambda s, t: rkd(s, t, by=lambda d: d.mean()), "zéros de la diagonale"),
        (lambda s, t: F.smooth_l1_loss(distances(s) / distances(t)[distances(t) > 0].mean(), relative(t)), "la sienne"),
        (lambda s, t: rkd(s, t, by=lambda d: 1), "rapportées à leur moyenne"),
        (lambda s, t: rkd(s, t, of=lambda f: distances(f) ** 2), "manque la racine"),
        (lambda s, t: rkd(s, t, gap=F.mse_loss), "MSE"),
        (lambda s, t: rkd(s, t, gap=F.l1_loss), "valeur absolue"),
        (lambda s, t: rkd(s, t) * len(s) ** 2, "C'est une somme"),
        (lambda s, t: rkd(s, t) * len(s), "divisez par B "),
        (lambda s, t: rkd(s, t) * len(s) / (len(s) - 1), "oublie la diagonale"),
        (lambda s, t: rkd(s, t, of=lambda f: torch.cdist(f, f, p=1)), "euclidienne"),
        (lambda s, t: F.smooth_l1_loss(cosines(s), cosines(t)), "cosinus"),
        (lambda s, t: rkd(s, t, gap=F.mse_loss) / 2, "pas une erreur connue"),
        (lambda s, t: rkd(s.detach(), t), "pas son gradient"),
    ],
)
def test_chaque_erreur_de_l_exercice_b_recoit_son_indice(answer, hint, capsys):
    assert check("10.4 b", answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, hint",
    [
        (lambda s, t: F.mse_loss(cosines(s), cosines(t)), "avant le produit"),
        (lambda s, t: F.mse_loss(F.normalize(gram(s), p=1, dim=1), F.normalize(gram(t), p=1, dim=1)), "L1"),
        (lambda s, t: F.mse_loss(gram(s) / gram(s).norm(), gram(t) / gram(t).norm()), "norme entière"),
        (lambda s, t: F.mse_loss(gram(s), gram(t)), "pas normalisées"),
        (lambda s, t: sp(s, t) * len(s), "divisez par B "),
        (lambda s, t: sp(s, t) * len(s) ** 2, "C'est une somme"),
        (lambda s, t: sp(s, t).sqrt() / len(s), "carré de la norme"),
        (lambda s, t: sp(s.detach(), t), "pas son gradient"),
    ],
)
def test_chaque_erreur_de_l_exercice_c_recoit_son_indice(answer, hint, capsys):
    assert check("10.4 c", answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_deux_erreurs_ne_se_confondent_jamais_ni_avec_la_reference(name):
    exercise = EXERCISES[name]
    formulas = [exercise.reference, *exercise.mistakes.values()]
    for case in exercise.cases[:1]:
        values = [formula(*case) for formula in formulas]
        for i, first in enumerate(values):
            assert not any(torch.allclose(first, other, rtol=1e-3) for other in values[i + 1 :])


def over_largest(s, t):
    ratios = [torch.cdist(f, f) / torch.cdist(f, f).max() for f in (s, t)]
    return torch.nn.functional.smooth_l1_loss(*ratios)


@pytest.mark.parametrize(
    "name, answer, hint",
    [("10.4 a", lambda f: torch.cdist(f, f), "distances euclidiennes"), ("10.4 b", over_largest, "la plus grande")],
)
def test_une_distance_a_la_place_d_une_autre_est_reconnue(name, answer, hint, capsys):
    assert check(name, answer) is False
    assert hint in capsys.readouterr().out
