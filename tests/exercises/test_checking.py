"""``check`` accepte les bonnes réponses, nomme les erreurs classiques, et ne lève jamais pour une ébauche."""

import pytest
import torch
import torch.nn.functional as F

from kdcourse import KnowledgeDistillationLoss, check
from kdcourse.exercises.checking import EXERCISES


def soften(logits, temperature):
    return torch.softmax(logits / temperature, dim=-1)


def kl(s, t, T):
    return F.kl_div(F.log_softmax(s / T, -1), F.softmax(t / T, -1), reduction="batchmean")


def loss(s, t, T):
    return T**2 * kl(s, t, T)


@pytest.mark.parametrize("name, answer", [("10.1 a", soften), ("10.2 b", loss)])
def test_la_solution_de_l_enonce_est_juste(name, answer, capsys):
    assert check(name, answer) is True
    assert capsys.readouterr().out == f"Exercice {name} : juste.\n"


def test_une_autre_facon_d_ecrire_juste_est_juste():
    def other(s, t, T):
        log_p, log_q = (t.double() / T).log_softmax(-1), (s.double() / T).log_softmax(-1)
        return T * T * (log_p.exp() * (log_p - log_q)).sum(1).mean()

    assert check("10.2 b", other)


def not_implemented(*_):
    raise NotImplementedError


@pytest.mark.parametrize("name", EXERCISES)
@pytest.mark.parametrize("stub", [lambda *_: None, lambda *_: ..., not_implemented], ids=["None", "...", "levée"])
def test_une_ebauche_affiche_a_completer(name, stub, capsys):
    assert check(name, stub) is False
    assert capsys.readouterr().out == f"Exercice {name} : à compléter.\n"


@pytest.mark.parametrize(
    "answer, hint",
    [
        (lambda z, T: z.softmax(-1), "température ne change rien"),
        (lambda z, T: (z * T).softmax(-1), "multipliez"),
        (lambda z, T: z.softmax(-1) / T, "après le softmax"),
        (lambda z, T: (z / T).softmax(0), "dim"),
        (lambda z, T: (z / T).log_softmax(-1), "logarithmes"),
        (lambda z, T: (z / T).softmax(-1).sum(), "forme"),
        (lambda z, T: [1, 2], "flottant est attendu"),
        (lambda z, T: 1 / 0, "ZeroDivisionError"),
        (lambda z, T: torch.softmax(z / 3.0, dim=-1), "essais justes, 1 sur 2"),
        (lambda z, T: torch.full_like(z, 0.5), "vous rendez 0,5, quelles que soient les entrées"),
        (lambda z, T: (z / T).flatten().softmax(0).view_as(z), "sur tout le lot"),
        (lambda z, T: torch.full_like(z, float("nan")), "NaN"),
        (lambda z, T: z, "inchangés"),
        (lambda z, T: z**2, "pas une erreur connue"),
    ],
)
def test_chaque_erreur_de_l_exercice_a_recoit_son_indice(answer, hint, capsys):
    assert check("10.1 a", answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, hint",
    [
        (lambda *x: loss(*x).detach(), "pas son gradient"),
        (lambda s, *x: loss(s.detach(), *x), "pas son gradient"),
        (lambda s, t, T: loss(s, t, T).detach() + 0 * s.sum(), "pas son gradient"),
        (lambda *x: torch.tensor(loss(*x).item(), requires_grad=True), "pas son gradient"),
        (lambda *x: loss(*x).to(torch.complex64), "flottant est attendu"),
        (lambda s, t, T: KnowledgeDistillationLoss(T, 1)(s, t, s.argmax(-1)), "rendez son .total"),
        (lambda s, t, T: loss(s, t, 3.0), "essais justes, 1 sur 4"),
        (lambda *x: 1.001 * loss(*x), "mais presque"),
    ],
)
def test_la_perte_juste_ou_presque_dit_ce_qui_lui_manque(answer, hint, capsys):
    assert check("10.2 b", answer) is False
    assert hint in capsys.readouterr().out


def test_une_reponse_qui_modifie_ses_entrees_ne_derange_pas_la_suivante():
    def vandal(z, T):
        z.zero_()
        return z

    check("10.1 a", vandal)
    assert check("10.1 a", soften)


def test_un_exercice_inconnu_donne_ceux_qui_existent():
    with pytest.raises(ValueError, match="'9' reçu.*'10.1 a'"):
        check("9", soften)


def test_ce_qui_n_est_pas_une_fonction_est_dit(capsys):
    assert check("10.1 a", 3) is False
    assert "une fonction est attendue" in capsys.readouterr().out


def ece_without_autograd(p, y, bins):
    confidence, answer = p.max(-1)
    which = torch.bucketize(confidence, torch.linspace(0, 1, bins + 1)[1:-1])
    gaps = torch.bincount(which, (answer == y).double() - confidence.double(), minlength=bins)
    return gaps.abs().sum() / len(y)


def test_une_reponse_juste_sans_gradient_est_juste_si_l_exercice_n_en_demande_pas():
    assert check("10.5 b", ece_without_autograd)
    assert check("10.5 b", lambda p, y, b: float(ece_without_autograd(torch.tensor(p.numpy()), y, b)))


class Rude(Exception):
    def __str__(self):
        raise ValueError


def raise_rude(*_):
    raise Rude


@pytest.mark.parametrize(
    "answer, hint",
    [
        (raise_rude, "Rude"),
        (lambda *x: (lambda value: (value.backward(), value)[1])(loss(*x)), "ne se lisent pas"),
        (lambda *x: loss(*x).to("meta"), "ne se lisent pas"),
        (lambda s, *x: loss(s, *x) + 0 * (s * 0).square().sum().sqrt(), "gradient contient NaN"),
    ],
)
def test_rien_de_ce_que_fait_une_reponse_n_arrete_le_notebook(answer, hint, capsys):
    assert check("10.2 b", answer) is False
    assert hint in capsys.readouterr().out


def test_une_reponse_qui_divise_ses_logits_sur_place_est_juste():
    def in_place(s, t, T):
        s /= T
        t /= T
        return T**2 * F.kl_div(F.log_softmax(s, -1), F.softmax(t, -1), reduction="batchmean")

    assert check("10.2 b", in_place)


def test_ce_que_check_imprime_a_ses_espaces_insecables(capfd):
    check("10.1 a", lambda *_: None)
    assert capfd.readouterr().out == "Exercice 10.1 a\N{NO-BREAK SPACE}: à compléter.\n"
