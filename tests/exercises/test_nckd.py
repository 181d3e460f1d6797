"""L'exercice 10.2 c : NCKD, de plusieurs façons, et les erreurs telles qu'on les écrit."""

import pytest
import torch
import torch.nn.functional as F

from kdcourse import check


def soft(z, T=1.0):
    return torch.softmax(z / T, dim=-1)


def log_soft(z, T=1.0):
    return torch.log_softmax(z / T, dim=-1)


def nckd(s, t, y, T):
    keep = torch.ones_like(s, dtype=torch.bool).scatter(1, y[:, None], False)
    q, p = (F.log_softmax(z[keep].view(len(z), -1) / T, -1) for z in (s, t))
    return (p.exp() * (p - q)).sum(-1)


def masked_nckd(s, t, y, T):
    """L'autre façon : la cible à -1e9 au lieu d'être retirée."""
    s, t = (z.scatter(1, y[:, None], -1e9) / T for z in (s, t))
    p = t.softmax(-1)
    return (p * (t.log_softmax(-1) - s.log_softmax(-1))).sum(-1)


def columns(z, y):
    others = torch.tensor([[c for c in range(z.shape[1]) if c != label] for label in y.tolist()])
    return z.gather(1, others)


def nckd_by_kl_div(s, t, y, T):
    s, t = columns(s, y) / T, columns(t, y) / T
    return F.kl_div(s.log_softmax(-1), t.softmax(-1), reduction="none").sum(-1)


def nckd_renormalised(s, t, y, T):
    p, q = (columns((z.double() / T).softmax(-1), y) for z in (t, s))
    p, q = p / p.sum(-1, keepdim=True), q / q.sum(-1, keepdim=True)
    return torch.einsum("bc,bc->b", p, (p / q).log())


def nckd_from_dkd(s, t, y, T):
    """La KL entière, moins TCKD, sur le poids de NCKD."""
    p, q = (t / T).softmax(-1), (s / T).softmax(-1)
    p_y, q_y = (z.gather(1, y[:, None])[:, 0] for z in (p, q))
    target = p_y * (p_y / q_y).log() + (1 - p_y) * ((1 - p_y) / (1 - q_y)).log()
    return ((p * (p / q).log()).sum(-1) - target) / (1 - p_y)


def minus_infinity(s, t, y, T, end):
    mask = F.one_hot(y, s.shape[1]).bool()
    return end(*(z.masked_fill(mask, -torch.inf) / T for z in (s, t)), mask)


def nckd_masked_twice(s, t, y, T):
    def end(s, t, mask):
        log_p, log_q = t.log_softmax(-1), s.log_softmax(-1)
        return (log_p.exp() * (log_p - log_q)).masked_fill(mask, 0).sum(-1)

    return minus_infinity(s, t, y, T, end)


@pytest.mark.parametrize(
    "answer", [nckd, masked_nckd, nckd_by_kl_div, nckd_renormalised, nckd_from_dkd, nckd_masked_twice]
)
def test_nckd_de_plusieurs_facons_est_juste(answer, capsys):
    assert check("10.2 c", answer), capsys.readouterr().out


def whole_kl(s, t, y, T):
    return F.kl_div((s / T).log_softmax(-1), (t / T).softmax(-1), reduction="none").sum(-1)


def zeroed_target(s, t, y, T):
    s, t = (z.scatter(1, y[:, None], 0) / T for z in (s, t))
    return (t.softmax(-1) * (t.log_softmax(-1) - s.log_softmax(-1))).sum(-1)


def summed_without_target(s, t, y, T):
    p, q = (t / T).log_softmax(-1), (s / T).log_softmax(-1)
    return (p.exp() * (p - q)).scatter(1, y[:, None], 0).sum(-1)


def none(log_student, target):
    return F.kl_div(log_student, target, reduction="none").sum(-1)


def ratio(s, t):
    return t.softmax(-1) * (t.softmax(-1) / s.softmax(-1)).log()


@pytest.mark.parametrize(
    "answer, hint",
    [
        (whole_kl, "KL entière"),
        (lambda s, t, y, T: nckd(s, t, y, 1.0), "La température manque"),
        (lambda s, t, y, T: T**2 * nckd(s, t, y, T), "T² n'est pas demandé"),
        (lambda s, t, y, T: nckd(t, s, y, T), "à l'envers"),
        (lambda s, t, y, T: nckd(s, t, y, T).mean(), "forme"),
        (zeroed_target, "retirez la colonne"),
        (summed_without_target, "renormalisent"),
        (lambda *x: minus_infinity(*x, lambda s, t, _: (soft(t) * (log_soft(t) - log_soft(s))).sum(-1)), "-inf"),
        (lambda *x: minus_infinity(*x, lambda s, t, _: none(log_soft(s), soft(t))), "-inf"),
        (lambda *x: minus_infinity(*x, lambda s, t, _: ratio(s, t).sum(-1)), "-inf"),
        (lambda *x: minus_infinity(*x, lambda s, t, _: ratio(s, t).nansum(-1)), "0 fois l'infini"),
        (lambda *x: minus_infinity(*x, lambda s, t, m: torch.where(m, 0, ratio(s, t)).sum(-1)), "0 fois l'infini"),
        (lambda s, t, y, T: none(log_soft(columns(s, y), T), log_soft(columns(t, y), T)), "log_target"),
        (lambda s, t, y, T: nckd(s, t, t.argmax(-1), T), "préférée du teacher"),
        (lambda s, t, y, T: nckd(s, t, s.argmax(-1), T), "préférée du student"),
        (lambda s, t, y, T: nckd(s, t, torch.zeros_like(y), T), "toujours la première"),
        (lambda s, t, y, T: nckd(s, t * T, y, T), "du teacher n'est pas adoucie"),
        (lambda s, t, y, T: -nckd(s, t, y, T), "jamais négative"),
        (lambda s, t, y, T: -(soft(columns(t, y), T) * log_soft(columns(s, y), T)).sum(-1), "il manque son entropie"),
        (lambda s, t, y, T: nckd(s, t, y, T) / (s.shape[1] - 1), "C - 1 classes"),
        (lambda s, t, y, T: masked_nckd(s, t, y, T) / s.shape[1], "les C classes"),
        (lambda s, t, y, T: nckd(s, t, y, T) * (1 - soft(t, T).gather(1, y[:, None])[:, 0]), "déjà dedans : on"),
        (lambda s, t, y, T: none(log_soft(columns(s, y), T), columns(soft(t, T), y)), "du teacher ne font plus 1"),
        (lambda s, t, y, T: nckd(soft(s, T), soft(t, T), y, 1.0), "deux fois"),
        (lambda s, t, y, T: whole_kl(s, t.scatter(1, y[:, None], -1e9), y, T), "du student ne font plus 1"),
    ],
)  # fmt: skip
def test_une_nckd_fausse_est_nommee(answer, hint, capsys):
    assert check("10.2 c", answer) is False
    assert hint in capsys.readouterr().out
