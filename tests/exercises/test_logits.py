"""Les exercices de 10.2 : la bonne réponse, de plusieurs façons, et chaque erreur connue."""

import pytest
import torch
import torch.nn.functional as F

from kdcourse import check, kd_loss
from kdcourse.measures import matching_gradient


def kd_gradient(s, t, T):
    return T * ((s / T).softmax(-1) - (t / T).softmax(-1)) / len(s)


def stable_kd(s, t, T):
    log_student, log_teacher = F.log_softmax(s / T, -1), F.log_softmax(t / T, -1)
    return T**2 * F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)


def nckd(s, t, y, T):
    keep = torch.ones_like(s, dtype=torch.bool).scatter(1, y[:, None], False)
    q, p = (F.log_softmax(z[keep].view(len(z), -1) / T, -1) for z in (s, t))
    return (p.exp() * (p - q)).sum(-1)


def masked_nckd(s, t, y, T):
    """L'autre façon : la cible à -1e9 au lieu d'être retirée."""
    s, t = (z.scatter(1, y[:, None], -1e9) / T for z in (s, t))
    p = t.softmax(-1)
    return (p * (t.log_softmax(-1) - s.log_softmax(-1))).sum(-1)


@pytest.mark.parametrize(
    "name, answer",
    [
        ("10.2 a", kd_gradient),
        ("10.2 b", stable_kd),
        ("10.2 b", kd_loss),
        ("10.2 b", lambda s, t, T: stable_kd(s.double(), t.double(), T)),
        ("10.2 c", nckd),
        ("10.2 c", masked_nckd),
    ],
)
def test_une_bonne_reponse_est_juste(name, answer, capsys):
    assert check(name, answer) is True
    assert "juste" in capsys.readouterr().out


def test_le_gradient_par_autograd_est_juste_aussi():
    def automatic(s, t, T):
        s = s.detach().requires_grad_()
        return torch.autograd.grad(stable_kd(s, t, T), s)[0]

    assert check("10.2 a", automatic)


def textbook(s, t, T):
    p, q = (t / T).softmax(-1), (s / T).softmax(-1)
    return T**2 * (p * (p / q).log()).sum(-1).mean()


def teacher_by_softmax(s, t, T):
    p = (t / T).softmax(-1)
    return T**2 * (p * (p.log() - (s / T).log_softmax(-1))).sum(-1).mean()


def student_by_softmax(s, t, T):
    return T**2 * F.kl_div((s / T).softmax(-1).log(), (t / T).softmax(-1), reduction="batchmean")


def whole_kl(s, t, y, T):
    return F.kl_div((s / T).log_softmax(-1), (t / T).softmax(-1), reduction="none").sum(-1)


@pytest.mark.parametrize(
    "name, answer, hint",
    [
        ("10.2 a", lambda s, t, T: -kd_gradient(s, t, T), "signe est inversé"),
        ("10.2 a", lambda s, t, T: kd_gradient(s, t, T) / T**2, "Il manque T²"),
        ("10.2 a", lambda s, t, T: kd_gradient(s, t, T) * T, "en retire un"),
        ("10.2 a", lambda s, t, T: kd_gradient(s, t, T) / T, "facteur T a disparu"),
        ("10.2 a", lambda s, t, T: kd_gradient(s, t, T) * len(s), "1/B"),
        ("10.2 a", lambda s, t, T: kd_gradient(s, t, T) / s.shape[1], "nombre de classes"),
        ("10.2 a", lambda s, t, T: T * (s.softmax(-1) - t.softmax(-1)) / len(s), "pas adoucies"),
        ("10.2 a", lambda s, t, T: matching_gradient(s, t) / len(s), "la limite"),
        ("10.2 b", textbook, "des deux côtés"),
        ("10.2 b", teacher_by_softmax, "probabilité du teacher s'annule"),
        ("10.2 b", student_by_softmax, "probabilité du student s'annule"),
        ("10.2 b", lambda s, t, T: stable_kd(s, t, T) / s.shape[1], "batchmean"),
        ("10.2 b", lambda s, t, T: stable_kd(s, t, T) * len(s), "somme sur le lot"),
        ("10.2 b", lambda s, t, T: stable_kd(s, t, T) / T**2, "Il manque le facteur T²"),
        ("10.2 b", lambda s, t, T: stable_kd(s, t, T) / T, "il devrait être T²"),
        ("10.2 b", lambda s, t, T: T**2 * stable_kd(s, t, 1.0), "dans les prédictions"),
        ("10.2 b", lambda s, t, T: stable_kd(s, t, 1.0), "partout"),
        ("10.2 b", lambda s, t, T: stable_kd(t, s, T), "à l'envers"),
        ("10.2 b", lambda s, t, T: stable_kd(s, t, T).detach(), "pas son gradient"),
        ("10.2 c", whole_kl, "KL entière"),
        ("10.2 c", lambda s, t, y, T: nckd(s, t, y, 1.0), "La température manque"),
        ("10.2 c", lambda s, t, y, T: T**2 * nckd(s, t, y, T), "T² n'est pas demandé"),
        ("10.2 c", lambda s, t, y, T: nckd(t, s, y, T), "à l'envers"),
        ("10.2 c", lambda s, t, y, T: nckd(s.scatter(1, y[:, None], 0), t, y, T), "juste"),
        ("10.2 c", lambda s, t, y, T: nckd(s, t, y, T).mean(), "forme"),
    ],
)  # fmt: skip
def test_chaque_erreur_recoit_son_indice(name, answer, hint, capsys):
    assert check(name, answer) is (hint == "juste")
    assert hint in capsys.readouterr().out


def zeroed_target(s, t, y, T):
    s, t = (z.scatter(1, y[:, None], 0) / T for z in (s, t))
    return (t.softmax(-1) * (t.log_softmax(-1) - s.log_softmax(-1))).sum(-1)


def summed_without_target(s, t, y, T):
    p, q = (t / T).log_softmax(-1), (s / T).log_softmax(-1)
    return (p.exp() * (p - q)).scatter(1, y[:, None], 0).sum(-1)


@pytest.mark.parametrize(
    "answer, hint", [(zeroed_target, "retirez la colonne"), (summed_without_target, "renormalisent")]
)
def test_une_cible_mal_exclue_est_reconnue(answer, hint, capsys):
    assert check("10.2 c", answer) is False
    assert hint in capsys.readouterr().out
