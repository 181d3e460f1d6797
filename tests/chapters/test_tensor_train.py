"""10.6 : les approximations d'une matrice, les figures, le curseur et les exercices du chapitre."""

import io

import numpy as np
import pytest
import torch
from PIL import Image

from kdcourse import check, tt_reconstruct
from kdcourse.measures import rank_sweep
from kdcourse.plots import plot_front, plot_rank_curves, plot_reconstructions
from kdcourse.widgets import RankExplorer
from kdcourse.widgets.tensor_train import rank_heading

FULL = 16


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def weight():
    return random(64, 27)


@pytest.fixture
def sweep(weight):
    return rank_sweep(weight, [1, 3, FULL])


def test_l_erreur_du_train_est_celle_de_sa_reconstruction(weight, sweep):
    for state in sweep.states:
        expected = 100 * (weight - state.matrix).norm() / weight.norm()
        assert state.error == pytest.approx(expected.item(), abs=1e-3)
    assert sweep.at(FULL).error < 1e-3 < sweep.at(3).error < sweep.at(1).error


def test_les_parametres_du_train_sont_comptes_a_la_main(sweep):
    # 64 = 4·4·4 et 27 = 3·3·3 : trois cœurs de 12 indices ; au rang plein, 12.
    assert [state.parameters for state in sweep.states] == [3 * 12, 12 * 3 + 12 * 9 + 12 * 3, 12 * 12 * (1 + 12 + 1)]


def test_la_svd_comparee_est_la_meilleure_qui_tienne_dans_autant_de_parametres(weight, sweep):
    for state in sweep.states:
        rank = state.svd_rank
        assert rank == 1 or rank * (64 + 27) <= state.parameters < (rank + 1) * (64 + 27)
        u, s, vh = np.linalg.svd(weight.double().numpy())
        approximation = (u[:, :rank] * s[:rank]) @ vh[:rank]
        expected = 100 * np.linalg.norm(weight.double().numpy() - approximation) / np.linalg.norm(weight.double())
        assert state.svd_error == pytest.approx(expected, rel=1e-4)


def test_le_filtre_exponentiel_est_un_train_de_rang_trois():
    place = torch.arange(64.0)
    band = torch.exp(-(place[:, None] - place).abs() / 8)
    state = rank_sweep(band, [3]).at(3)
    assert state.error < 0.01 and state.svd_error > 10


def test_le_balayage_ne_touche_ni_au_poids_ni_a_son_gradient(weight):
    parameter = torch.nn.Parameter(weight.clone())
    sweep = rank_sweep(parameter, [2])
    assert not sweep.weight.requires_grad and torch.equal(parameter, weight)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (torch.zeros(8), "weight : forme"),
        (torch.zeros(8, 8, dtype=torch.int64), "weight : dtype"),
        (torch.full((8, 8), float("nan")), "weight : 64 valeur"),
        (torch.zeros(97, 8), "97 reçu"),
    ],
)
def test_une_matrice_qui_ne_se_replie_pas_est_refusee(wrong, message):
    with pytest.raises((TypeError, ValueError), match=message):
        rank_sweep(wrong, [2])


def test_les_petits_multiples_montrent_les_rangs_demandes(sweep):
    figure = plot_reconstructions({"essai": sweep}, ranks=[1, FULL], corner=8)
    original, first, last = figure.axes
    assert original.get_title() == "essai\n1\N{NO-BREAK SPACE}728 paramètres"
    assert first.get_title().startswith("rang 1\n36 paramètres\nerreur 9")
    assert last.get_title().endswith("moins de 0,1 %")
    np.testing.assert_allclose(first.images[0].get_array(), sweep.at(1).matrix[:8, :8].abs(), rtol=1e-6)
    assert original.images[0].get_clim() == first.images[0].get_clim()


def test_les_courbes_de_rang_sont_les_erreurs_du_balayage(sweep):
    (ax,) = plot_rank_curves({"essai": sweep}, rank=3).axes
    train, svd, dense = ax.lines
    assert list(train.get_ydata()) == [state.error for state in sweep.states]
    assert list(svd.get_ydata()) == [state.svd_error for state in sweep.states]
    assert list(svd.get_xdata()) == [state.svd_rank * (64 + 27) for state in sweep.states]
    assert dense.get_xdata()[0] == 64 * 27
    assert "180 paramètres" in ax.get_title()


def test_le_front_montre_moyennes_intervalles_et_teacher():
    errors = torch.tensor([[4.0, 6.0], [10.0, 10.0]])
    curves = {"TT": ([10, 100], errors, "distilled"), "brut": ([10], torch.tensor([90.0]), "raw")}
    (ax,) = plot_front(curves, (1000, torch.tensor(3.0)), "titre").axes
    by_label = {line.get_label(): line for line in ax.lines}
    assert list(by_label["TT"].get_ydata()) == [5.0, 10.0] and list(by_label["brut"].get_ydata()) == [90.0]
    assert list(by_label["teacher"].get_xdata()) == [1000]
    low, high = ax.lines[1].get_ydata()
    assert low == pytest.approx(0.1) and high == pytest.approx(5 + 12.706, rel=1e-3)
    assert "intervalle à 95 %" in ax.get_xlabel()


def test_sans_graines_le_front_n_annonce_aucun_intervalle():
    (ax,) = plot_front({"brut": ([10], torch.tensor([90.0]), "raw")}, (1000, 3.0), "titre").axes
    assert ax.get_xlabel() == "paramètres"


def pixels(widget):
    return np.asarray(Image.open(io.BytesIO(widget.image.value)))


def test_le_curseur_de_rang_montre_la_reconstruction_et_les_deux_erreurs(sweep):
    widget = RankExplorer(sweep, corner=8)
    before = pixels(widget)
    widget.sliders["rank"].value = 3.0
    assert not np.array_equal(before, pixels(widget)) and widget.message.value == ""
    image, train, svd, heading = widget.artists
    state = sweep.at(3)
    np.testing.assert_allclose(image.get_array(), state.matrix[:8, :8].abs(), rtol=1e-6)
    assert (train.get_ydata(), svd.get_ydata()) == ([state.error], [state.svd_error])
    assert heading.get_text() == rank_heading(sweep, state)


def test_un_train_plus_gros_que_la_matrice_est_dit(sweep):
    assert "1,17 fois plus que la matrice" in rank_heading(sweep, sweep.at(FULL))
    assert "48,0 fois moins" in rank_heading(sweep, sweep.at(1))


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
