"""Les exercices de 10.4 : la bonne réponse, de plusieurs façons, et chaque erreur telle qu'on l'écrit."""

import pytest
import torch
import torch.nn.functional as F

from kdcourse import check


def gram(f):
    return f @ f.mT


def distances(f):
    return torch.cdist(f, f, compute_mode="donot_use_mm_for_euclid_dist")


def relative(f):
    d = distances(f)
    return d / d[d > 0].mean()


def cosines(f):
    return gram(F.normalize(f, dim=1))


def rkd(s, t, of=distances, by=lambda d: d[d > 0].mean(), gap=F.smooth_l1_loss):
    return gap(of(s) / by(of(s)), of(t) / by(of(t)))


def other_distance(s, t):
    def ratios(f):
        pairs = torch.nn.functional.pdist(f.double())
        return pairs / pairs.mean()

    gap = (ratios(s) - ratios(t)).abs()
    return 2 * torch.where(gap < 1, gap**2 / 2, gap - 0.5).sum() / len(s) ** 2


def with_huber(s, t):
    return F.huber_loss(relative(s), relative(t))


@pytest.mark.parametrize("answer", [rkd, other_distance, with_huber])
def test_une_autre_facon_d_ecrire_rkd_juste_est_juste(answer, capsys):
    assert check("10.4 a", answer) is True
    assert capsys.readouterr().out == "Exercice 10.4 a : juste.\n"


def upper(s, t):
    kept = torch.triu_indices(len(s), len(s), 1)
    return F.smooth_l1_loss(relative(s)[kept[0], kept[1]], relative(t)[kept[0], kept[1]])


@pytest.mark.parametrize(
    "answer, hint",
    [
        (lambda s, t: rkd(s, t, by=lambda d: d.mean()), "zéros de la diagonale"),
        (lambda s, t: F.smooth_l1_loss(distances(s) / distances(t)[distances(t) > 0].mean(), relative(t)), "la sienne"),
        (lambda s, t: F.smooth_l1_loss(relative(s), distances(t) / distances(s)[distances(s) > 0].mean()), "la sienne"),
        (lambda s, t: rkd(s, t, by=lambda d: 1), "rapportées à leur moyenne"),
        (lambda s, t: rkd(s, t, by=lambda d: d.max()), "la plus grande"),
        (lambda s, t: rkd(s, t, by=lambda d: d.sum()), "la somme des distances"),
        (lambda s, t: rkd(s, t, by=lambda d: d[d > 0].median()), "la médiane"),
        (lambda s, t: rkd(s, t, by=lambda d: d.sum(1, keepdim=True) / (len(d) - 1)), "Chaque ligne"),
        (lambda s, t: rkd(F.normalize(s, dim=1), F.normalize(t, dim=1)), "normalisés d'abord"),
        (lambda s, t: rkd(s, t, of=lambda f: distances(f) ** 2), "manque la racine"),
        (lambda s, t: rkd(s, t, gap=F.mse_loss), "MSE"),
        (lambda s, t: rkd(s, t, gap=F.mse_loss).sqrt(), "sans racine"),
        (lambda s, t: rkd(s, t, gap=F.mse_loss) / 2, "divisé par deux"),
        (lambda s, t: rkd(s, t, gap=F.l1_loss), "valeur absolue"),
        (lambda s, t: rkd(s, t) * len(s) ** 2, "C'est une somme"),
        (lambda s, t: rkd(s, t) * len(s), "divisez par B "),
        (upper, "oublie la diagonale"),
        (lambda s, t: rkd(s, t, of=lambda f: torch.cdist(f, f, p=1)), "euclidienne"),
        (lambda s, t: F.smooth_l1_loss(cosines(s), cosines(t)), "cosinus"),
        (lambda s, t: rkd(s.detach(), t), "pas son gradient"),
    ],
)
def test_chaque_erreur_de_rkd_recoit_son_indice(answer, hint, capsys):
    assert check("10.4 a", answer) is False
    assert hint in capsys.readouterr().out


def ignored(
    loss, f, shift=None, rotation=None, rows=None, columns=None, scale=3.0, zero=lambda value: abs(value) < 1e-10
):
    generator = torch.Generator().manual_seed(7)
    draw = torch.randn(f.shape[1], f.shape[1], generator=generator, dtype=f.dtype)
    moved = [
        f + (draw[0] if shift is None else shift),
        f @ (torch.linalg.qr(draw).Q if rotation is None else rotation),
        scale * f,
        f * (torch.linspace(1, 3, len(f)).double()[:, None] if rows is None else rows),
        f * (torch.linspace(1, 3, f.shape[1]).double() if columns is None else columns),
    ]
    return torch.tensor([float(zero(loss(each, f).item())) for each in moved])


def test_les_invariances_bien_lues_sont_justes(capsys):
    assert check("10.4 b", ignored) is True
    assert capsys.readouterr().out == "Exercice 10.4 b : juste.\n"
    assert check("10.4 b", lambda loss, f: ignored(loss, f, zero=lambda value: round(value, 6) == 0))
    assert check("10.4 b", lambda loss, f: ignored(loss, f, rotation=torch.eye(4)[[1, 2, 3, 0]].double()))


NOISE = torch.randn(7, 4, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


@pytest.mark.parametrize(
    "answer, hint",
    [
        (lambda loss, f: 1 - ignored(loss, f), "1 et 0 sont échangés"),
        (lambda loss, f: ignored(loss, f, rotation=NOISE[:4]), "tirée au hasard"),
        (lambda loss, f: ignored(loss, f, shift=NOISE), "n'ajoute pas le même vecteur"),
        (lambda loss, f: ignored(loss, f, shift=NOISE[:, :1]), "n'ajoute pas le même vecteur"),
        (lambda loss, f: ignored(loss, f, rows=NOISE), "échelle par exemple n'en est pas une"),
        (lambda loss, f: ignored(loss, f, rows=NOISE[0].abs()), "est une échelle par dimension"),
        (lambda loss, f: ignored(loss, f, columns=NOISE.abs()[:, :1]), "est une échelle par point"),
        (lambda loss, f: ignored(loss, f, columns=NOISE), "échelle par dimension n'en est pas une"),
        (lambda loss, f: ignored(loss, f, rows=NOISE[0].abs(), columns=NOISE[:, :1].abs()), "interverties : (B, 1)"),
        (lambda loss, f: ignored(loss, f)[[1, 0, 2, 3, 4]], "translation, puis rotation"),
        (lambda loss, f: ignored(loss, f, zero=lambda value: value == 0), "à 0 exactement"),
        (lambda loss, f: ignored(loss, f, scale=1.0), "de 1 ne change rien"),
        (lambda loss, f: ignored(lambda s, t: loss(s, s), f), "Tout paraît ignoré"),
        (lambda loss, f: ignored(loss, f, zero=lambda value: value < 0), "Rien ne paraît ignoré"),
        (lambda loss, f: ignored(loss, f).bool(), "flottant"),
        (lambda loss, f: ignored(loss, f).tolist(), "tenseur"),
        (lambda loss, f: f * torch.ones(7), "RuntimeError"),
    ],
)
def test_chaque_erreur_sur_les_invariances_recoit_son_indice(answer, hint, capsys):
    assert check("10.4 b", answer) is False
    assert hint in capsys.readouterr().out
