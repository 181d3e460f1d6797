"""Les exercices de 10.6 : la bonne réponse, de plusieurs façons, et chaque erreur connue."""

import pytest
import torch

from kdcourse import check, tt_reconstruct


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def weight():
    return random(64, 27)


def truncated(matrix, rank):
    u, s, vh = torch.linalg.svd(matrix)
    return u[:, :rank] @ torch.diag(s[:rank]) @ vh[:rank]


def by_projection(matrix, rank):
    """L'autre façon : projeter sur les premiers vecteurs singuliers à gauche."""
    basis = torch.linalg.eigh(matrix @ matrix.T).eigenvectors[:, -rank:]
    return basis @ basis.T @ matrix


def rebuild(first, second, third):
    pair = torch.tensordot(first[0], second, dims=1)
    return torch.tensordot(pair, third[..., 0], dims=1)


def through_int8(weight):
    scale = weight.abs().max() / 127
    return (weight / scale).round() * scale


def as_bytes(weight):
    scale = weight.abs().max() / 127
    return (weight / scale).round().to(torch.int8).double() * scale


@pytest.mark.parametrize(
    "name, answer",
    [
        ("10.6 a", truncated),
        ("10.6 a", by_projection),
        ("10.6 a", lambda w, r: sum(truncated(w, k) - (truncated(w, k - 1) if k > 1 else 0) for k in range(1, r + 1))),
        ("10.6 b", rebuild),
        ("10.6 b", lambda *cores: tt_reconstruct(cores)),
        ("10.6 c", through_int8),
        ("10.6 c", as_bytes),
    ],
)
def test_une_bonne_reponse_est_juste(name, answer, capsys):
    assert check(name, answer) is True
    assert "juste" in capsys.readouterr().out


def svd(matrix):
    return torch.linalg.svd(matrix)


def untransposed(w, r):
    u, s, vh = svd(w)
    return u[:, :r] @ torch.diag(s[:r]) @ vh.T[:r]


def smallest(w, r):
    u, s, vh = svd(w)
    return u[:, -r:] @ torch.diag(s[-r:]) @ vh[-r:]


def powered(power):
    def answer(w, r):
        u, s, vh = svd(w)
        return u[:, :r] @ torch.diag(s[:r] ** power) @ vh[:r]

    return answer


def scaled(w, scale):
    return (w / scale).round().clamp(-127, 127) * scale


@pytest.mark.parametrize(
    "name, answer, hint",
    [
        ("10.6 a", powered(0), "valeurs singulières manquent"),
        ("10.6 a", powered(2), "entrent deux fois"),
        ("10.6 a", powered(0.5), "racine"),
        ("10.6 a", untransposed, "déjà V transposée"),
        ("10.6 a", smallest, "plus petites"),
        ("10.6 a", lambda w, r: w.clone(), "Rien n'est tronqué"),
        ("10.6 a", lambda w, r: truncated(w, r + 1), "un rang de trop"),
        ("10.6 a", lambda w, r: truncated(w, r - 1), "manque un rang"),
        ("10.6 a", lambda w, r: w - truncated(w, r), "le résidu"),
        ("10.6 a", lambda w, r: truncated(w, 2), "pas une erreur connue"),
        ("10.6 b", lambda a, b, c: a[0, :, :1, None] * b[0, :, 0][:, None] * c[0, :, 0], "premier chemin"),
        ("10.6 b", lambda a, b, c: torch.einsum("i,j,k->ijk", a.sum((0, 2)), b.sum((0, 2)), c.sum((0, 2))), "à part"),
        ("10.6 b", lambda a, b, c: rebuild(a, torch.diag_embed(b.diagonal(dim1=0, dim2=2)).transpose(0, 1), c), "liés"),
        ("10.6 b", lambda a, b, c: rebuild(a, b.transpose(0, 2), c), "transposé"),
        ("10.6 b", lambda a, b, c: rebuild(a, b, c) / (b.shape[0] * b.shape[2]), "moyenne"),
        ("10.6 b", lambda a, b, c: rebuild(a, b, c)[None], "forme"),
        ("10.6 c", lambda w: scaled(w, w.max() / 127), "valeur absolue"),
        ("10.6 c", lambda w: scaled(w, w.abs().max() / 255), "déborde"),
        ("10.6 c", lambda w: (w * 255 / w.abs().max()).round() * w.abs().max() / 255, "255 niveaux"),
        ("10.6 c", lambda w: (w * 128 / w.abs().max()).round() * w.abs().max() / 128, "128"),
        ("10.6 c", lambda w: (w * 127 / w.abs().max()).to(torch.int8).float() * w.abs().max() / 127, "vers zéro"),
        ("10.6 c", lambda w: (w * 127 / w.abs().max()).floor() * w.abs().max() / 127, "vers le bas"),
        ("10.6 c", lambda w: (w * 127 / w.abs().max()).round(), "multipliez-les"),
        ("10.6 c", lambda w: (w * 127 / w.abs().max()).round() / 127, "ramenés"),
        ("10.6 c", lambda w: scaled(w, w.abs().amax(1, keepdim=True) / 127), "par ligne"),
        ("10.6 c", lambda w: w.clone(), "Rien n'est arrondi"),
        ("10.6 c", lambda w: (w / (w.abs().max() / 127)).round().to(torch.int8), "flottant est attendu"),
    ],
)
def test_chaque_erreur_recoit_son_indice(name, answer, hint, capsys):
    assert check(name, answer) is False
    assert hint in capsys.readouterr().out


def test_une_reponse_juste_sans_gradient_est_juste():
    """Tronquer, reconstruire, quantifier : personne n'y demande de dérivée."""
    assert check("10.6 a", torch.no_grad()(truncated))
    assert check("10.6 b", lambda *cores: rebuild(*(core.detach() for core in cores)))
    assert check("10.6 c", torch.no_grad()(through_int8))


def test_un_octet_qui_deborde_sans_etre_ecrete_est_reconnu(capsys):
    assert check("10.6 c", lambda w: torch.round(w * 127 / w.max()) * w.max() / 127) is False
    assert "sous -127" in capsys.readouterr().out
