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


def gradient_in_place(s, t, T):
    s /= T
    t /= T
    return (s.softmax(-1) - t.softmax(-1)).mul_(T / len(s))


def gradient_row_by_row(s, t, T):
    rows = [T * (F.softmax(a / T, 0) - F.softmax(b / T, 0)) / len(s) for a, b in zip(s, t, strict=True)]
    return torch.stack(rows)


def gradient_by_jacobian(s, t, T):
    q, p = (s / T).softmax(-1), (t / T).softmax(-1)
    jacobian = torch.diag_embed(q) - torch.einsum("bi,bj->bij", q, q)
    return T * torch.einsum("bij,bj->bi", jacobian, -p / q) / len(s)


def gradient_by_differences(s, t, T):
    s, t, step = s.double(), t.double(), 1e-5
    found = torch.zeros_like(s)
    for place in torch.cartesian_prod(*map(torch.arange, s.shape)):
        moved = torch.zeros_like(s)
        moved[tuple(place)] = step
        found[tuple(place)] = (stable_kd(s + moved, t, T) - stable_kd(s - moved, t, T)) / (2 * step)
    return found


def kd_row_by_row(s, t, T):
    total = 0
    for a, b in zip(s / T, t / T, strict=True):
        log_q, log_p = a - torch.logsumexp(a, 0), b - torch.logsumexp(b, 0)
        total = total + (log_p.exp() * (log_p - log_q)).sum()
    return T**2 * total / len(s)


def kd_by_xlogy(s, t, T):
    p = (t / T).softmax(-1)
    return T**2 * torch.einsum("bc->", torch.xlogy(p, p) - p * (s / T).log_softmax(-1)) / len(s)


def kd_as_two_cross_entropies(s, t, T):
    p = (t / T).softmax(-1)
    return T**2 * (F.cross_entropy(s / T, p) - F.cross_entropy(t / T, p))


def kd_with_a_harmless_epsilon(s, t, T):
    """Un p nul multiplie son logarithme : celui du teacher supporte l'epsilon."""
    p = (t / T).softmax(-1)
    return T**2 * (p * ((p + 1e-12).log() - (s / T).log_softmax(-1))).sum(-1).mean()


RIGHT = {
    "10.2 a": [kd_gradient, gradient_in_place, gradient_row_by_row, gradient_by_jacobian, gradient_by_differences],
    "10.2 b": [
        stable_kd,
        kd_loss,
        lambda s, t, T: stable_kd(s.double(), t.double(), T),
        kd_row_by_row,
        kd_by_xlogy,
        kd_as_two_cross_entropies,
        kd_with_a_harmless_epsilon,
    ],
}


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name in RIGHT for answer in RIGHT[name]])
def test_une_bonne_reponse_est_juste(name, answer, capsys):
    assert check(name, answer) is True, capsys.readouterr().out


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
    ],
)  # fmt: skip
def test_chaque_erreur_recoit_son_indice(name, answer, hint, capsys):
    assert check(name, answer) is (hint == "juste")
    assert hint in capsys.readouterr().out


def soft(z, T=1.0):
    return torch.softmax(z / T, dim=-1)


def log_soft(z, T=1.0):
    return torch.log_softmax(z / T, dim=-1)


def kl_div(log_student, target, **options):
    return F.kl_div(log_student, target, reduction="batchmean", **options)


def by_hand(p, q):
    return (p * (p.log() - q.log())).sum(-1).mean()


@pytest.mark.parametrize("epsilon", [1e-5, 1e-6, 1e-8, 1e-10, 1e-12])
@pytest.mark.parametrize(
    "answer, hint",
    [
        (lambda s, t, T, e: T**2 * kl_div((soft(s, T) + e).log(), soft(t, T)), "student s'annule"),
        (lambda s, t, T, e: T**2 * kl_div(soft(s, T).clamp(min=e).log(), soft(t, T)), "student s'annule"),
        (lambda s, t, T, e: T**2 * kl_div((soft(s, T) + e).log(), (soft(t, T) + e).log(), log_target=True), "borne"),
        (lambda s, t, T, e: T**2 * by_hand(soft(t, T) + e, soft(s, T) + e), "borne"),
        (lambda s, t, T, e: T**2 * by_hand(soft(t, T).clamp(e, 1 - e), soft(s, T).clamp(e, 1 - e)), "borne"),
        (lambda s, t, T, e: T**2 * (soft(t, T) * (soft(t, T) / (soft(s, T) + e)).log()).sum(-1).mean(), "celui de p"),
    ],
)
def test_un_epsilon_dans_le_logarithme_est_nomme(answer, hint, epsilon, capsys):
    assert check("10.2 b", lambda s, t, T: answer(s, t, T, epsilon)) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, hint",
    [
        (lambda s, t, T: T**2 * kl_div(log_soft(s, T), log_soft(t, T)), "que change log_target"),
        (lambda s, t, T: T**2 * kl_div(soft(t, T), log_soft(s, T)), "que change log_target"),
        (lambda s, t, T: T**2 * kl_div(log_soft(s, T), t / T), "que change log_target"),
        (lambda s, t, T: T**2 * kl_div(log_soft(s, T), soft(t, T), log_target=True), "lui donnez-vous sa probabilité"),
        (lambda s, t, T: T**2 * kl_div(soft(s, T), soft(t, T)), "log_softmax, non softmax"),
        (
            lambda s, t, T: T**2 * (soft(t, T) * (log_soft(t, T) - soft(s, T))).sum(-1).mean(),
            "log_softmax, non softmax",
        ),
        (lambda s, t, T: T**2 * (soft(t, T) * (soft(t, T).log() - soft(s, T))).sum(-1).mean(), "sans logarithme"),
        (lambda s, t, T: T**2 * kl_div(s / T, soft(t, T)), "les logits du student"),
        (lambda s, t, T: T**2 * (log_soft(t, T) - log_soft(s, T)).sum(-1).mean(), "manque devant l'écart"),
        (
            lambda s, t, T: F.kl_div(log_soft(s, T), soft(t, T), reduction="sum") / s.numel(),
            "Deux oublis : le facteur T², et reduction",
        ),
        (lambda s, t, T: F.kl_div(log_soft(s, T), soft(t, T), reduction="sum"), "Deux oublis : le facteur T², et la"),
        (lambda s, t, T: T**2 * kl_div(log_soft(s, T), soft(t, T)) / len(s), "batchmean le fait déjà"),
        (lambda s, t, T: kd_loss(s, t), "toujours T = 4"),
        (lambda s, t, T: kd_loss(s, t, T) / T**4, "Vous divisez par T²"),
        (lambda s, t, T: T**2 * kl_div(log_soft(s, T), soft(t)), "du teacher n'est pas adoucie"),
        (lambda s, t, T: T**2 * kl_div(log_soft(s), soft(t, T)), "du student n'est pas adoucie : divisez"),
        (lambda s, t, T: kl_div(log_soft(s), soft(t, T)), "n'est pas adoucie, et il manque T²"),
        (lambda s, t, T: T**2 * kl_div(log_soft(s) / T, soft(t) / T), "T divise des probabilités"),
        (lambda s, t, T: T**2 * kl_div(log_soft(s * T), soft(t * T)), "ils se divisent"),
        (lambda s, t, T: T**2 * (soft(t, T) * (log_soft(s, T) - log_soft(t, T))).sum(-1).mean(), "jamais négative"),
        (lambda s, t, T: T**2 * (soft(s, T) * (log_soft(t, T) - log_soft(s, T))).sum(-1).mean(), "qui pondère"),
        (lambda s, t, T: T**2 * F.cross_entropy(s / T, soft(t, T)), "il manque son entropie"),
        (lambda s, t, T: F.cross_entropy(s / T, soft(t, T)), "sans T²"),
        (lambda s, t, T: F.cross_entropy(s, t.argmax(-1)), "que sa classe"),
        (lambda s, t, T: F.mse_loss(s, t), "logits au carré"),
        (lambda s, t, T: T**2 * kl_div(F.log_softmax(s / T, 0), F.softmax(t / T, 0)), "regardez dim"),
    ],
)
def test_une_perte_fausse_est_nommee(answer, hint, capsys):
    assert check("10.2 b", answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, hint",
    [
        (lambda s, t, T: T * (soft(s, T) - soft(t)) / len(s), "du teacher n'est pas adoucie"),
        (lambda s, t, T: T * (soft(s) - soft(t, T)) / len(s), "du student n'est pas adoucie"),
        (lambda s, t, T: (soft(s) - soft(t)) / len(s), "T n'apparaît nulle part : ni"),
        (lambda s, t, T: soft(t, T) - soft(s, T), "et les facteurs manquent"),
        (lambda s, t, T: T**2 * (soft(t, T) - soft(s, T)) / len(s), "et T² devrait être T"),
        (lambda s, t, T: T * (log_soft(s, T) - log_soft(t, T)) / len(s), "écart des logarithmes"),
        (lambda s, t, T: T * (s / T - t / T) / len(s), "écart des logits divisés par T"),
        (lambda s, t, T: -(T**2) * soft(t, T) / soft(s, T) / len(s), "par rapport aux probabilités"),
        (lambda s, t, T: T * (soft(s, T) - F.one_hot(t.argmax(-1), t.shape[1])) / len(s), "que sa classe"),
        (lambda s, t, T: T * (F.softmax(s / T, 0) - F.softmax(t / T, 0)) / len(s), "regardez dim"),
        (lambda s, t, T: T**2 * F.kl_div(log_soft(s, T), soft(t, T), reduction="none"), "la perte, terme à terme"),
        (lambda s, t, T: kd_loss(s, t, T), "forme"),
        (
            lambda s, t, T: derived(
                lambda s: (soft(s, T) * (log_soft(s, T) - log_soft(t, T))).sum() * T**2 / len(s), s
            ),
            "KL à l'envers",
        ),
        (lambda s, t, T: derived(lambda s: T**2 * (soft(s, T) - soft(t, T)).square().sum(-1).mean(), s), "au carré"),
        (lambda s, t, T: derived(lambda s: kd_loss(s, t, T) / s.shape[1], s), 'reduction="mean"'),
    ],
)
def test_un_gradient_faux_est_nomme(answer, hint, capsys):
    assert check("10.2 a", answer) is False
    assert hint in capsys.readouterr().out


def derived(loss, s):
    s = s.detach().requires_grad_()
    return torch.autograd.grad(loss(s), s)[0]
