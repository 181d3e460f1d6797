"""Les exercices de 10.5 : la bonne réponse, de plusieurs façons, et chaque erreur connue."""

import pytest
import torch
import torch.nn.functional as F

from kdcourse import check


@pytest.fixture
def labels():
    return torch.arange(40) % 4


def smooth_targets(labels, classes, epsilon):
    return (1 - epsilon) * F.one_hot(labels, classes) + epsilon / classes


def calibration_error(probabilities, labels, bins):
    confidence, answer = probabilities.max(dim=-1)
    right, which = (answer == labels).float(), (confidence * bins).ceil()
    total = 0.0
    for k in which.unique():
        inside = which == k
        total = total + inside.float().mean() * (right[inside].mean() - confidence[inside].mean()).abs()
    return total


def ps_kd_targets(labels, previous, epoch, epochs, largest):
    alpha = largest * epoch / epochs
    return (1 - alpha) * F.one_hot(labels, previous.shape[-1]) + alpha * previous


@pytest.mark.parametrize(
    "name, answer",
    [
        ("10.5 a", smooth_targets),
        ("10.5 b", calibration_error),
        ("10.5 b", lambda *x: calibration_error(*x).item()),
        ("10.5 c", ps_kd_targets),
    ],
)
def test_une_bonne_reponse_est_juste(name, answer, capsys):
    assert check(name, answer) is True
    assert "juste" in capsys.readouterr().out


def ece_signed(p, y, b):
    confidence, answer = p.max(-1)
    return (answer == y).float().mean() - confidence.mean()


@pytest.mark.parametrize(
    "name, answer, hint",
    [
        ("10.5 a", lambda y, c, e: F.one_hot(y, c) * (1 - e) + (1 - F.one_hot(y, c)) * e / (c - 1), "C - 1 autres"),
        ("10.5 a", lambda y, c, e: F.one_hot(y, c) + e / c, "dépasse 1"),
        ("10.5 a", lambda y, c, e: smooth_targets(y, c, 1 - e), "échangés"),
        ("10.5 a", lambda y, c, e: (1 - e) * F.one_hot(y, c) + e, "se partage"),
        ("10.5 a", lambda y, c, e: F.one_hot(y, c), "flottant est attendu"),
        ("10.5 b", lambda p, y, b: 100 * calibration_error(p, y, b), "entre 0 et 1"),
        ("10.5 b", ece_signed, "valeur absolue"),
        ("10.5 b", lambda p, y, b: ece_signed(p, y, b).abs(), "Une seule tranche"),
        ("10.5 c", lambda y, p, e, n, a: ps_kd_targets(y, p, n, n, a), "doit croître"),
        ("10.5 c", lambda y, p, e, n, a: ps_kd_targets(y, p, e, n, 1.0), "plus grande valeur de alpha"),
        ("10.5 c", lambda y, p, e, n, a: ps_kd_targets(y, p.roll(1, 0), e, n, a), "autre exemple"),
        ("10.5 c", lambda y, p, e, n, a: ps_kd_targets(y, p.mean(0, keepdim=True), e, n, a), "moyennée sur le lot"),
        (
            "10.5 c",
            lambda y, p, e, n, a: ps_kd_targets(y, F.one_hot(p.argmax(-1), p.shape[1]).float(), e, n, a),
            "distribution entière",
        ),
    ],
)
def test_chaque_erreur_recoit_son_indice(name, answer, hint, capsys):
    assert check(name, answer) is False
    assert hint in capsys.readouterr().out
