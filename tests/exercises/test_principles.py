"""Les exercices de 10.1 : la bonne réponse, de plusieurs façons, et les erreurs telles qu'on les écrit."""

import math

import pytest
import torch
import torch.nn.functional as F
from scipy.optimize import brentq

from kdcourse import check


def in_place(z, T):
    z /= T
    return z.softmax(-1)


def by_hand(z, T):
    weights = torch.exp(z / T)
    return weights / weights.sum(dim=1, keepdim=True)


def row_by_row(z, T):
    return torch.stack([torch.softmax(row / T, dim=0) for row in z])


def by_powers(z, T):
    powers = F.softmax(z, dim=-1) ** (1 / T)
    return torch.einsum("bc,b->bc", powers, 1 / powers.sum(dim=-1))


@pytest.mark.parametrize(
    "answer", [in_place, by_hand, row_by_row, by_powers, lambda z, T: F.log_softmax(z.double() / T, dim=1).exp()]
)
def test_adoucir_de_plusieurs_facons_est_juste(answer, capsys):
    assert check("10.1 a", answer), capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, hint",
    [
        (lambda z, T: F.softmax(z - T, dim=-1), "ne change rien"),
        (lambda z, T: (lambda p: p / p.sum(-1, keepdim=True))(z.softmax(-1) / T), "ne change rien"),
        (lambda z, T: F.softmax(z / 4.0, dim=-1), "toujours par 4"),
        (lambda z, T: z.softmax(-1) ** (1 / T), "puissance 1/T"),
        (lambda z, T: (lambda p: p / p.sum(-1, keepdim=True))(z.softmax(-1) ** T), "se durcit"),
        (lambda z, T: F.softmax(z.softmax(-1) / T, dim=-1), "non les probabilités"),
        (lambda z, T: F.softmax((z / T).softmax(-1), dim=-1), "déjà faite"),
        (lambda z, T: torch.exp(z / T), "exponentielles : leur somme"),
        (lambda z, T: torch.exp(z / T) / torch.exp(z).sum(-1, keepdim=True), "leur somme à T = 1"),
        (lambda z, T: torch.exp(z / T) / torch.exp(z / T).sum(), "sur tout le lot"),
        (lambda z, T: torch.exp(z / T) / torch.exp(z / T).sum(0), "regardez dim"),
        (lambda z, T: torch.sigmoid(z / T), "sigmoïde"),
        (lambda z, T: F.one_hot(z.argmax(-1), z.shape[-1]).float(), "choix dur"),
        (lambda z, T: F.softmin(z / T, dim=-1), "regardez le signe"),
        (lambda z, T: T * F.softmax(z / T, dim=-1), "La somme fait T :"),
        (lambda z, T: T**2 * F.softmax(z / T, dim=-1), "La somme fait T²"),
        (lambda z, T: F.softmax(z / T / T, dim=-1), "deux fois par T"),
        (lambda z, T: (z.half() / T).softmax(-1).float(), "mais presque"),
    ],
)
def test_une_erreur_d_adoucissement_est_reconnue(answer, hint, capsys):
    assert check("10.1 a", answer) is False
    assert hint in capsys.readouterr().out


def others(p):
    return 1 - p.amax(dim=-1)


def bisection(low=-10.0, high=10.0, steps=60, unit=torch.exp, back=torch.exp, weight=others):
    """Celle de l'énoncé, dont on change une pièce à la fois."""

    def answer(logits, share):
        lows, highs = (torch.full((len(logits),), bound) for bound in (low, high))
        for _ in range(steps):
            middle = (lows + highs) / 2
            below = weight(torch.softmax(logits / unit(middle)[:, None], dim=-1)) < share
            lows, highs = torch.where(below, middle, lows), torch.where(below, highs, middle)
        return back(middle)

    return answer


def same(value):
    return value


def weighs(logits, temperature):
    return others(torch.softmax(logits / temperature, dim=-1))


def loop_in_floats(logits, share):
    found = []
    for row in logits:
        low, high = 1e-3, 1e3
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if weighs(row, middle) < share else (low, middle)
        found.append(middle)
    return torch.tensor(found)


def by_brent(logits, share):
    def gap(log_temperature, row):
        return float(weighs(row, math.exp(log_temperature))) - share

    return torch.tensor([math.exp(brentq(gap, -5, 6, args=(row,))) for row in logits.double()])


def by_newton(logits, share):
    logits = logits.double()
    log_temperatures = (logits.amax(-1) - logits.mean(-1)).log()
    for _ in range(100):
        log_temperatures = log_temperatures.detach().requires_grad_()
        gap = weighs(logits, log_temperatures.exp()[:, None]).log() - math.log(share)
        (slope,) = torch.autograd.grad(gap.sum(), log_temperatures)
        log_temperatures = log_temperatures - (gap / slope).clamp(-0.5, 0.5)
    return log_temperatures.detach().exp()


def doubling_then_in_place(logits, share):
    low, high = torch.full((len(logits),), 1e-6), torch.ones(len(logits))
    while (short := weighs(logits, high[:, None]) < share).any():
        high[short] *= 2
    for _ in range(50):
        middle = (low + high) / 2
        short = weighs(logits, middle[:, None]) < share
        low[short], high[~short] = middle[short], middle[~short]
    return high


def fine_grid(logits, share):
    grid = torch.logspace(-2, 2.2, 20_000)
    return grid[(torch.stack([weighs(logits, T) for T in grid]) - share).abs().argmin(0)]


@pytest.mark.parametrize(
    "answer",
    [
        bisection(),
        bisection(1e-3, 1e3, unit=same, back=same),
        bisection(-3.0, 3.0, 40, unit=lambda u: 10**u, back=lambda u: 10**u),
        bisection(weight=lambda p: p.sort(dim=-1).values[:, :-1].sum(dim=-1)),
        loop_in_floats,
        by_brent,
        by_newton,
        doubling_then_in_place,
        fine_grid,
    ],
)
def test_chercher_la_temperature_de_plusieurs_facons_est_juste(answer, capsys):
    assert check("10.1 b", answer), capsys.readouterr().out


def on_grid(temperatures, pick="nearest"):
    def answer(logits, share):
        grid = torch.as_tensor(temperatures, dtype=torch.float32)
        weights = torch.stack([weighs(logits, T) for T in grid])
        return grid[(weights - share).abs().argmin(0) if pick == "nearest" else (weights >= share).int().argmax(0)]

    return answer


def one_for_all(decide):
    def answer(logits, share):
        low, high = 1e-3, 1e3
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if decide(weighs(logits, middle), share) else (low, middle)
        return torch.full((len(logits),), middle)

    return answer


def overwritten(logits, share):
    found = torch.zeros(len(logits))
    for row in logits:
        found[:] = loop_in_floats(row[None], share)
    return found


def bounds_never_reset(logits, share):
    found, low, high = [], 1e-3, 1e3
    for row in logits:
        for _ in range(60):
            middle = (low + high) / 2
            low, high = (middle, high) if weighs(row, middle) < share else (low, middle)
        found.append(middle)
    return torch.tensor(found)


def two_classes(logits, share):
    first, second = logits.topk(2, dim=-1).values.unbind(-1)
    return (first - second) / math.log((1 - share) / share)


def first_class_weighs_share(logits, share):
    return bisection(weight=lambda p: -p.amax(dim=-1))(logits, -share)


@pytest.mark.parametrize(
    "answer, hint",
    [
        (bisection(1.0, 20.0, unit=same, back=same), "sous 1 et au-dessus de 20"),
        (bisection(0.1, 20.0, unit=same, back=same), "Des réponses au-dessus de 20"),
        (bisection(0.0, 10.0, unit=same, back=same), "Des réponses au-dessus de 20"),
        (bisection(1.0, 100.0, unit=same, back=same), "Des réponses sous 1 sont fausses"),
        (bisection(1e-3, 100.0, 12, unit=same, back=same), "Des réponses sous 1 sont fausses"),
        (bisection(-2.0, 2.0), "sous 1 et au-dessus de 20"),
        (bisection(steps=10), "mais presque"),
        (bisection(back=same), "C'est le logarithme de la température"),
        (bisection(-3.0, 3.0, unit=lambda u: 10**u, back=same), "logarithme décimal"),
        (bisection(unit=lambda u: 2**u, back=same), "base 2"),
        (lambda z, share: 1 / bisection()(z, share), "C'est 1/T"),
        (bisection(weight=lambda p: 2 - others(p)), "Une borne"),
        (bisection(weight=lambda p: p.amax(dim=-1)), "Une borne"),
        (first_class_weighs_share, "la première classe qui pèse share"),
        (lambda z, share: bisection()(z, 1 - share), "la première classe qui pèse share"),
        (bisection(weight=lambda p: p.topk(2).values[:, 1]), "La deuxième classe"),
        (bisection(weight=lambda p: p.amin(dim=-1)), "La dernière classe"),
        (bisection(weight=lambda p: p.sort(dim=-1).values[:, :-1].mean(dim=-1)), "en moyenne : elles"),
        (bisection(weight=lambda p: others(p) / p.amax(dim=-1)), "share fois la première"),
        (bisection(weight=lambda p: 1 - p[:, 0]), "colonne 0"),
        (lambda z, share: bisection()(z.softmax(-1), share), "deux fois"),
        (lambda z, share: others(z.softmax(-1)), "à T = 1"),
        (lambda z, share: weighs(z, bisection()(z, share)[:, None]), "Vous rendez la part"),
        (two_classes, "oppose la première classe à la deuxième"),
        (one_for_all(lambda weights, share: weights.mean() < share), "Une seule température pour tout le lot"),
        (one_for_all(lambda weights, share: (weights < share).any()), "la plus grande des températures"),
        (one_for_all(lambda weights, share: (weights < share).all()), "la plus petite des températures"),
        (one_for_all(lambda weights, share: weights[0] < share), "la température de la première"),
        (bounds_never_reset, "la température de la première"),
        (overwritten, "la température de la dernière"),
        (lambda z, share: bisection()(z, share).mean().expand(len(z)), "moyenne des températures"),
        (on_grid(range(1, 21)), "de 1 en 1, et gardez la meilleure"),
        (on_grid(range(1, 101), "first"), "de 1 en 1, et gardez la première"),
        (on_grid(torch.arange(0.5, 20.1, 0.5)), "de 0,5 en 0,5, et gardez la meilleure"),
        (on_grid(torch.arange(0.5, 50.1, 0.5), "first"), "de 0,5 en 0,5, et gardez la première"),
        (on_grid(torch.arange(0.1, 100.05, 0.1)), "de 0,1 en 0,1, et gardez la meilleure"),
        (on_grid(torch.logspace(-2, 2, 200)), "mais presque"),
        (lambda z, share: bisection()(z, share)[:, None], "forme (6, 1) reçue"),
        (lambda z, share: bisection()(z, share).tolist(), "list reçu"),
    ],
)
def test_une_erreur_de_recherche_est_reconnue(answer, hint, capsys):
    assert check("10.1 b", answer) is False
    assert hint in capsys.readouterr().out
