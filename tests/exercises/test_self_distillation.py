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


def recall(predicted, yesterday, today):
    memory = torch.empty_like(predicted)
    memory[yesterday] = predicted
    return memory[today]


def equal_counts(p, y, b):
    confidence, answer = p.max(dim=-1)
    order, total = confidence.argsort(), 0.0
    for group in order.tensor_split(b):
        gap = (answer == y).float()[group].mean() - confidence[group].mean()
        total = total + len(group) / len(y) * gap.abs()
    return total


def largest(p, y, b):
    confidence, answer = p.max(dim=-1)
    which = (confidence * b).ceil()
    groups = [which == k for k in which.unique()]
    return max((((answer == y).float()[g].mean() - confidence[g].mean()).abs() for g in groups), key=float)


def edges(p, y, b):
    """Des bords par linspace, dont il manque un."""
    confidence, answer = p.max(dim=-1)
    bounds, total = torch.linspace(0, 1, b), 0.0
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        inside = (confidence > low) & (confidence <= high)
        if inside.any():
            gap = (answer == y).float()[inside].mean() - confidence[inside].mean()
            total = total + inside.float().mean() * gap.abs()
    return total


def histogram(p, y, b):
    """Des tranches de la plus petite à la plus grande confiance, comme torch.histc les ferait."""
    confidence, answer = p.max(dim=-1)
    low, high = confidence.min(), confidence.max()
    which, total = ((confidence - low) / (high - low) * b).ceil().clamp(min=1), 0.0
    for k in which.unique():
        gap = (answer == y).float()[which == k].mean() - confidence[which == k].mean()
        total = total + (which == k).float().mean() * gap.abs()
    return total


@pytest.mark.parametrize(
    "name, answer",
    [
        ("10.5 a", smooth_targets),
        ("10.5 b", calibration_error),
        ("10.5 b", lambda *x: calibration_error(*x).item()),
        ("10.5 c", recall),
        ("10.5 c", lambda p, h, t: p[h.argsort()[t]]),
        ("10.5 c", lambda p, h, t: torch.stack([p[h.tolist().index(k)] for k in t.tolist()])),
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
        ("10.5 a", lambda y, c, e: (1 - e) * F.one_hot(y) + e / c, "donnez-lui le nombre de classes"),
        ("10.5 a", lambda y, c, e: (1 - e) * F.one_hot(y) + e / F.one_hot(y).shape[1], "le nombre de classes"),
        ("10.5 b", lambda p, y, b: 100 * calibration_error(p, y, b), "entre 0 et 1"),
        ("10.5 b", ece_signed, "valeur absolue"),
        ("10.5 b", lambda p, y, b: ece_signed(p, y, b).abs(), "Une seule tranche"),
        ("10.5 b", largest, "MCE"),
        ("10.5 b", lambda p, y, b: calibration_error(p.softmax(-1), y, b), "softmax de plus"),
        ("10.5 b", equal_counts, "même effectif"),
        ("10.5 b", edges, "linspace"),
        ("10.5 b", histogram, "de 0 à 1"),
        ("10.5 c", lambda p, h, t: p, "bug du chapitre"),
        ("10.5 c", lambda p, h, t: p[t], "quelle ligne lire"),
        ("10.5 c", lambda p, h, t: p[h.argsort()], "l'ordre de today"),
        ("10.5 c", lambda p, h, t: p[h][t], "il faut l'inverse"),
        ("10.5 c", lambda p, h, t: torch.empty_like(p).index_copy(0, t, p)[h], "échangés"),
    ],
)
def test_chaque_erreur_recoit_son_indice(name, answer, hint, capsys):
    assert check(name, answer) is False
    assert hint in capsys.readouterr().out
