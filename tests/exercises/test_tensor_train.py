"""Les exercices de 10.6 : la bonne réponse, de plusieurs façons, et chaque erreur connue, écrite comme on l'écrit."""

import struct

import numpy as np
import pytest
import torch

from kdcourse import check
from kdcourse.exercises.checking import EXERCISES


def svd(matrix):
    return torch.linalg.svd(matrix, full_matrices=False)


def tt_step(rest, size, error):
    left = len(rest)
    u, s, vh = svd(rest.reshape(left * size, -1))
    rank = len(s)
    while rank > 1 and s[rank - 1 :].norm() <= error:
        rank -= 1
    return u[:, :rank].reshape(left, size, rank), s[:rank, None] * vh[:rank]


def by_projection(rest, size, error):
    """L'autre façon : les vecteurs propres de A·Aᵀ, et le reste par projection ; d'autres signes, une liste."""
    unfolded = rest.reshape(len(rest) * size, -1)
    values, vectors = torch.linalg.eigh(unfolded @ unfolded.T)
    values, vectors = values.flip(0).clamp(min=0), -vectors.flip(1)
    rank = next(r for r in range(1, len(values) + 1) if values[r:].sum().sqrt() <= error)
    return [vectors[:, :rank].reshape(len(rest), size, -1), vectors[:, :rank].T @ unfolded]


def cut_at(choose, right=lambda s, vh: s[:, None] * vh, left=lambda u, s: u):
    """La réponse qui choisit ainsi son rang, et met ainsi les valeurs singulières."""

    def answer(rest, size, error):
        u, s, vh = svd(rest.reshape(len(rest) * size, -1))
        rank = max(choose(s, error), 1)
        return left(u[:, :rank], s[:rank]).reshape(len(rest), size, -1), right(s[:rank], vh[:rank])

    return answer


def good(s, error):
    return next(r for r in range(1, len(s) + 1) if s[r:].norm() <= error)


def through_int8(weight):
    scale = weight.abs().amax(dim=1, keepdim=True) / 127
    return (weight / scale).round() * scale


def row_by_row(weight):
    rows = [torch.round(127 * row / row.abs().max()).to(torch.int8) * (row.abs().max() / 127) for row in weight]
    return torch.stack(rows)


def read_layer(blob):
    rows, columns = map(int, np.frombuffer(blob, np.uint16, 2))
    scales = torch.tensor(np.frombuffer(blob, np.float32, rows, offset=4))
    codes = np.frombuffer(blob, np.int8, rows * columns, offset=4 + 4 * rows)
    return torch.tensor(codes).view(rows, columns) * scales[:, None]


def by_struct(blob):
    rows, columns = struct.unpack_from("<HH", blob)
    scales = struct.unpack_from(f"<{rows}f", blob, 4)
    codes = struct.unpack_from(f"<{rows * columns}b", blob, 4 + 4 * rows)
    return torch.tensor([[scales[i] * codes[i * columns + j] for j in range(columns)] for i in range(rows)])


@pytest.mark.parametrize(
    "name, answer",
    [
        ("10.6 a", tt_step),
        ("10.6 a", by_projection),
        ("10.6 a", cut_at(good)),
        ("10.6 b", through_int8),
        ("10.6 b", row_by_row),
        ("10.6 c", read_layer),
        ("10.6 c", by_struct),
    ],
)
def test_une_bonne_reponse_est_juste(name, answer, capsys):
    assert check(name, answer) is True
    assert "juste" in capsys.readouterr().out


def test_la_reference_d_un_pas_jette_au_plus_l_erreur_demandee_et_pas_un_rang_de_trop():
    for rest, size, error in EXERCISES["10.6 a"].cases:
        core, left_over = tt_step(rest, size, error)
        unfolded = rest.reshape(-1, left_over.shape[1])
        assert (
            (unfolded - core.flatten(0, 1) @ left_over).norm() <= error < svd(unfolded)[1][core.shape[2] - 1 :].norm()
        )


def per_row(w, levels=127, top=None):
    top = w.abs().amax(1, keepdim=True) if top is None else top
    return (w * levels / top).round().clamp(-levels, levels) * top / levels


def through_scale(w):
    return w.abs().amax(1, keepdim=True) / 127


def zero_point(w):
    low, high = w.amin(1, keepdim=True), w.amax(1, keepdim=True)
    scale = (high - low) / 255
    zero = torch.round(-low / scale)
    return (torch.clamp(torch.round(w / scale) + zero, 0, 255) - zero) * scale


def codes_of(blob, kind=np.int8):
    rows, columns = map(int, np.frombuffer(blob, np.uint16, 2))
    codes = np.frombuffer(blob, kind, rows * columns, offset=4 + 4 * rows)
    return torch.tensor(codes).view(rows, columns), torch.tensor(np.frombuffer(blob, np.float32, rows, offset=4))


@pytest.mark.parametrize(
    "name, answer, hint",
    [
        ("10.6 a", cut_at(lambda s, e: int((s > e).sum())), "une seule valeur singulière"),
        ("10.6 a", cut_at(lambda s, e: next(r for r in range(7) if s[r:].sum() <= e)), "Vous sommez"),
        ("10.6 a", cut_at(lambda s, e: next(r for r in range(7) if s[r:].square().sum() <= e)), "manque la racine"),
        ("10.6 a", cut_at(lambda s, e: next(r for r in range(7) if s[r:].norm() <= e * s.norm())), "non une part"),
        ("10.6 a", cut_at(lambda s, e: good(s, e) + 1), "un rang de trop"),
        ("10.6 a", cut_at(lambda s, e: good(s, e) - 1), "manque un rang"),
        ("10.6 a", cut_at(lambda s, e: len(s)), "Rien n'est coupé"),
        ("10.6 a", cut_at(good, right=lambda s, vh: vh), "Les valeurs singulières manquent"),
        ("10.6 a", cut_at(good, lambda s, vh: vh, lambda u, s: u * s), "sont dans le cœur"),
        ("10.6 a", cut_at(good, left=lambda u, s: u * s), "entrent deux fois"),
        ("10.6 a", cut_at(good, lambda s, vh: s.sqrt()[:, None] * vh, lambda u, s: u * s.sqrt()), "par leur racine"),
        ("10.6 a", lambda *case: tt_step(*case)[0], "deux tenseurs sont attendus"),
        ("10.6 a", lambda *case: tt_step(*case)[::-1], "le cœur : forme"),
        ("10.6 a", lambda *case: (tt_step(*case)[0], tt_step(*case)[1].T), "le reste : forme"),
        ("10.6 a", lambda *case: tt_step(*case) and None, "il manque return"),
        ("10.6 a", lambda rest, size, error: tt_step(rest, size, 1.5), "pas une erreur connue"),
        ("10.6 b", lambda w: per_row(w, top=w.abs().max()), "une seule échelle pour toute"),
        ("10.6 b", lambda w: per_row(w, top=w.abs().amax(0, keepdim=True)), "par colonne"),
        ("10.6 b", zero_point, "point zéro : ici, 0 reste 0"),
        ("10.6 b", lambda w: per_row(w, top=w.amax(1, keepdim=True)), "valeur absolue"),
        ("10.6 b", lambda w: per_row(w, 128), "128 n'a pas d'opposé"),
        ("10.6 b", lambda w: per_row(w, 255), "255 niveaux"),
        ("10.6 b", lambda w: per_row(w, 256), "256 niveaux"),
        ("10.6 b", lambda w: (w / through_scale(w)).to(torch.int8) * through_scale(w), "vers zéro"),
        ("10.6 b", lambda w: (w * 127 / w.abs().amax(1, True)).floor() * w.abs().amax(1, True) / 127, "vers le bas"),
        ("10.6 b", lambda w: (w * 127 / w.abs().amax(1, True)).round(), "multipliez-les"),
        ("10.6 b", lambda w: (w * 127 / w.abs().amax(1, True)).round() / 127, "ramenés"),
        ("10.6 b", lambda w: w.clone(), "Rien n'est arrondi"),
        ("10.6 b", lambda w: (w * 127 / w.abs().amax(1, True)).round().to(torch.int8), "flottant est attendu"),
        ("10.6 c", lambda blob: codes_of(blob, np.uint8)[0] * codes_of(blob)[1][:, None], "non np.uint8"),
        ("10.6 c", lambda blob: codes_of(blob)[0].float(), "Ce sont les codes"),
        ("10.6 c", lambda blob: codes_of(blob)[0] * codes_of(blob)[1][0], "la première échelle"),
        ("10.6 c", lambda blob: codes_of(blob)[0] / codes_of(blob)[1][:, None], "se multiplient"),
        ("10.6 c", lambda blob: codes_of(blob)[0] * codes_of(blob)[1], "s'arrête sur"),
        ("10.6 c", lambda blob: codes_of(blob)[0], "flottant est attendu"),
    ],
)  # fmt: skip
def test_chaque_erreur_recoit_son_indice(name, answer, hint, capsys):
    assert check(name, answer) is False
    assert hint in capsys.readouterr().out


def test_un_octet_qui_deborde_sans_etre_ecrete_est_reconnu(capsys):
    assert check("10.6 b", lambda w: torch.round(w * 127 / w.amax(1, True)) * w.amax(1, True) / 127) is False
    assert "sous -127" in capsys.readouterr().out


def test_une_echelle_par_ligne_mise_sur_une_matrice_non_carree_s_arrete(capsys):
    """Sur la première matrice, carrée, elle passe sans erreur ; sur la seconde, PyTorch proteste."""
    assert check("10.6 c", lambda blob: codes_of(blob)[0] * codes_of(blob)[1][None, :]) is False
    assert "s'arrête sur" in capsys.readouterr().out
