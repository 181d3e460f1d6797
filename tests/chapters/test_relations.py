"""Ce que 10.4 ajoute : figures, curseur et exercices."""

import base64
import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from kdcourse import (
    MLP,
    Features,
    Split,
    check,
    cosine_relations,
    digits_student,
    load_dataset,
    predict_features,
    train_many,
)
from kdcourse.exercises.checking import EXERCISES
from kdcourse.measures import class_contrast, relation_state, sorted_by_class
from kdcourse.plots import plot_cost, plot_gains, plot_relation_matrices, plot_small_batch, plot_weights
from kdcourse.plots.common import COLORS
from kdcourse.plots.relations import slope
from kdcourse.widgets import RelationExplorer

NAMES = ["10.4 a", "10.4 b", "10.4 c"]


# Les figures


def test_les_exemples_sont_tries_par_classe_dans_l_ordre_du_lot():
    images = torch.arange(6.0).view(6, 1, 1, 1)
    chosen = sorted_by_class(Split(images, torch.tensor([1, 0, 1, 0, 1, 0])), per_class=2)
    assert chosen.labels.tolist() == [0, 0, 1, 1]
    assert chosen.images.flatten().tolist() == [1, 3, 0, 2]


def test_une_classe_trop_rare_est_refusee():
    with pytest.raises(ValueError, match="per_class : 3 reçu, 2 au plus"):
        sorted_by_class(Split(torch.zeros(5, 1, 1, 1), torch.tensor([0, 0, 0, 1, 1])), per_class=3)


def test_le_contraste_ne_compte_pas_la_diagonale():
    relations = torch.tensor([[1.0, 0.6, 0.1], [0.6, 1.0, 0.3], [0.1, 0.3, 1.0]])
    assert class_contrast(relations, torch.tensor([0, 0, 1])) == pytest.approx(0.6 - 0.2)


def test_un_petit_lot_ecrit_chaque_ressemblance_avec_une_virgule():
    relations = torch.tensor([[1.0, 0.25], [0.25, 1.0]])
    figure = plot_small_batch(torch.rand(2, 1, 8, 8), {"teacher": relations})
    assert sorted(text.get_text() for text in figure.get_axes()[0].texts) == ["0,25", "0,25", "1,00", "1,00"]


def test_chaque_matrice_est_montree_a_sa_place_et_chaque_classe_au_milieu_de_son_bloc():
    labels = torch.tensor([0, 0, 4, 4, 4])
    first, second = torch.rand(5, 5), torch.rand(5, 5)
    figure = plot_relation_matrices({"seul": {"époque 1": first}, "guidé": {"a": second, "b": first}}, labels, "titre")
    axes = figure.get_axes()
    assert np.allclose(axes[0].images[0].get_array(), first) and np.allclose(axes[2].images[0].get_array(), second)
    assert axes[0].get_xticks().tolist() == [0.5, 3.0]
    assert [tick.get_text() for tick in axes[0].get_xticklabels()] == ["0", "4"]


@pytest.mark.parametrize("offset, role", [(1.0, "distilled"), (0.0, "neutral"), (-1.0, "student")])
def test_la_couleur_d_un_gain_suit_son_intervalle(offset, role):
    values = offset + torch.linspace(-0.5, 0.5, 10)
    figure = plot_gains({"sur le student seul": {"SP": values}}, "titre")
    (bar,) = figure.get_axes()[0].containers
    assert bar.lines[0].get_color() == COLORS[role]
    assert bar.lines[0].get_xdata()[0] == pytest.approx(offset, abs=1e-6)


def test_une_methode_absente_d_un_panneau_laisse_sa_ligne_vide():
    values = torch.linspace(0.5, 1.5, 10)
    figure = plot_gains({"a": {"logits": values, "SP": values}, "b": {"SP": values}}, "titre")
    assert [bar.lines[0].get_ydata()[0] for bar in figure.get_axes()[1].containers] == [-1]


def test_les_poids_montrent_la_moyenne_de_chaque_alpha():
    errors = torch.tensor([[1.0, 3.0], [4.0, 8.0]])
    figure = plot_weights([0.1, 0.5], {"SP": errors}, torch.tensor([9.0, 10.0]), "titre")
    assert figure.get_axes()[0].lines[0].get_ydata() == pytest.approx([2.0, 6.0])
    assert [tick.get_text() for tick in figure.get_axes()[0].get_xticklabels()] == ["0,1", "0,5"]


def test_la_pente_est_l_exposant_des_trois_derniers_lots_mesures():
    assert slope([32, 64, 128, 256, 512], [9.0, 1.0, 8.0, 64.0]) == pytest.approx(3.0)
    assert slope([32, 64, 128], [1.0, 4.0]) == pytest.approx(2.0)


def test_le_cout_nomme_la_perte_la_plus_raide():
    figure = plot_cost([32, 64, 128], {"cosinus": [1, 1, 2], "angle": [1, 8]}, {"student": [2, 3, 4]})
    assert "angle, temps en $B^{3{,}0}$" in figure.get_axes()[0].get_title()


# Le curseur


@pytest.fixture(scope="module")
def training():
    torch.manual_seed(0)
    teacher, data = MLP(hidden=(16,)).eval(), load_dataset().train.where(slice(0, 40))
    guide = predict_features(teacher, data.images)

    def distance(student: Features, target: Features, labels):
        return (cosine_relations(student.embedding) - cosine_relations(target.embedding)).square().mean()

    snapshots = {
        epochs: train_many(
            digits_student, data, seeds=[0, 0], alphas=[0.0, 0.9], distillation=distance, teacher=guide,
            epochs=epochs, batch_size=20,
        )
        for epochs in (1, 4)
    }  # fmt: skip
    return snapshots, teacher, load_dataset().validation


def pixels(widget):
    return np.asarray(Image.open(io.BytesIO(widget.image.value)))


def test_l_etat_est_l_ecart_au_teacher_et_l_erreur_sur_toute_la_partie(training):
    snapshots, teacher, part = training
    model = snapshots[4][1]
    state = relation_state(model, teacher, part)
    images = sorted_by_class(part).images
    with torch.no_grad():
        rows = [F.normalize(network.forward_features(images).embedding, dim=1) for network in (model, teacher)]
        error = 100 * (model(part.images).argmax(1) != part.labels).float().mean()
    expected, target = (row @ row.T for row in rows)
    torch.testing.assert_close(state.relations, expected)
    assert state.loss == pytest.approx(((expected - target) ** 2).mean().item(), rel=1e-4)
    assert state.error == pytest.approx(error.item())


def test_le_teacher_n_a_aucun_ecart_avec_lui_meme(training):
    _, teacher, part = training
    assert relation_state(teacher, teacher, part).loss == 0


def test_les_curseurs_montrent_le_student_choisi(training):
    snapshots, teacher, part = training
    explorer = RelationExplorer(snapshots, teacher, part)
    before = pixels(explorer)
    explorer.sliders["epoch"].value = 1.0
    explorer.sliders["alpha"].value = explorer.sliders["alpha"].options[1][1]
    assert explorer.message.value == ""
    assert not np.array_equal(before, pixels(explorer))
    shown = explorer.figure.get_axes()[1].images[0].get_array()
    np.testing.assert_allclose(shown, relation_state(snapshots[1][1], teacher, part).relations, rtol=1e-5)


def test_le_notebook_garde_l_image_du_curseur(training):
    explorer = RelationExplorer(*training)
    assert base64.b64decode(explorer._repr_mimebundle_()["image/png"]) == explorer.image.value
    assert pixels(explorer).shape[1] <= 1000


# Les exercices


def gram(f):
    return f @ f.mT


def distances(f):
    return torch.cdist(f, f, compute_mode="donot_use_mm_for_euclid_dist")


def relative(f):
    d = distances(f)
    return d / d[d > 0].mean()


def sp(s, t):
    return F.mse_loss(F.normalize(gram(s), dim=1), F.normalize(gram(t), dim=1))


def cosines(f):
    return gram(F.normalize(f, dim=1))


SOLUTIONS = {"10.4 a": cosines, "10.4 b": lambda s, t: F.smooth_l1_loss(relative(s), relative(t)), "10.4 c": sp}


@pytest.mark.parametrize("name", NAMES)
def test_la_solution_de_l_enonce_est_juste(name, capsys):
    assert check(name, SOLUTIONS[name]) is True
    assert capsys.readouterr().out == f"Exercice {name} : juste.\n"


def other_cosines(f):
    return F.cosine_similarity(f[:, None], f[None], dim=-1)


def other_distance(s, t):
    def ratios(f):
        pairs = torch.nn.functional.pdist(f.double())
        return pairs / pairs.mean()

    gap = (ratios(s) - ratios(t)).abs()
    return 2 * torch.where(gap < 1, gap**2 / 2, gap - 0.5).sum() / len(s) ** 2


def other_sp(s, t):
    rows = [gram(f.double()) / gram(f.double()).norm(dim=1, keepdim=True) for f in (s, t)]
    return (rows[0] - rows[1]).norm() ** 2 / len(s) ** 2


@pytest.mark.parametrize("name, answer", [*zip(NAMES, [other_cosines, other_distance, other_sp], strict=True)])
def test_une_autre_facon_d_ecrire_juste_est_juste(name, answer):
    assert check(name, answer)


@pytest.mark.parametrize(
    "answer, hint",
    [
        (gram, "pas normalisées"),
        (lambda f: gram(F.normalize(f, dim=0)), "chaque ligne"),
        (lambda f: gram(f / f.norm()), "tout le lot"),
        (lambda f: gram(f / (f * f).sum(1, keepdim=True)), "il manque une racine"),
        (lambda f: gram(f / f.abs().sum(1, keepdim=True)), "L1"),
        (lambda f: F.normalize(gram(f), dim=1), "matrice de SP"),
        (lambda f: cosines(f.mT), "attendue"),
        (lambda f: cosines(f).softmax(1), "softmax"),
        (lambda f: 1 - cosines(f), "distances"),
        (lambda f: f @ f, "RuntimeError"),
    ],
)
def test_chaque_erreur_de_l_exercice_a_recoit_son_indice(answer, hint, capsys):
    assert check("10.4 a", answer) is False
    assert hint in capsys.readouterr().out


def rkd(s, t, of=distances, by=lambda d: d[d > 0].mean(), gap=F.smooth_l1_loss):
    return gap(of(s) / by(of(s)), of(t) / by(of(t)))


@pytest.mark.parametrize(
    "answer, hint",
    [
        (lambda s, t: rkd(s, t, by=lambda d: d.mean()), "zéros de la diagonale"),
        (lambda s, t: F.smooth_l1_loss(distances(s) / distances(t)[distances(t) > 0].mean(), relative(t)), "la sienne"),
        (lambda s, t: rkd(s, t, by=lambda d: 1), "rapportées à leur moyenne"),
        (lambda s, t: rkd(s, t, of=lambda f: distances(f) ** 2), "manque la racine"),
        (lambda s, t: rkd(s, t, gap=F.mse_loss), "MSE"),
        (lambda s, t: rkd(s, t, gap=F.l1_loss), "valeur absolue"),
        (lambda s, t: rkd(s, t) * len(s) ** 2, "C'est une somme"),
        (lambda s, t: rkd(s, t) * len(s), "divisez par B "),
        (lambda s, t: rkd(s, t) * len(s) / (len(s) - 1), "oublie la diagonale"),
        (lambda s, t: rkd(s, t, of=lambda f: torch.cdist(f, f, p=1)), "euclidienne"),
        (lambda s, t: F.smooth_l1_loss(cosines(s), cosines(t)), "cosinus"),
        (lambda s, t: rkd(s, t, gap=F.mse_loss) / 2, "pas une erreur connue"),
        (lambda s, t: rkd(s.detach(), t), "pas son gradient"),
    ],
)
def test_chaque_erreur_de_l_exercice_b_recoit_son_indice(answer, hint, capsys):
    assert check("10.4 b", answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, hint",
    [
        (lambda s, t: F.mse_loss(cosines(s), cosines(t)), "avant le produit"),
        (lambda s, t: F.mse_loss(F.normalize(gram(s), p=1, dim=1), F.normalize(gram(t), p=1, dim=1)), "L1"),
        (lambda s, t: F.mse_loss(gram(s) / gram(s).norm(), gram(t) / gram(t).norm()), "norme entière"),
        (lambda s, t: F.mse_loss(gram(s), gram(t)), "pas normalisées"),
        (lambda s, t: sp(s, t) * len(s), "divisez par B "),
        (lambda s, t: sp(s, t) * len(s) ** 2, "C'est une somme"),
        (lambda s, t: sp(s, t).sqrt() / len(s), "carré de la norme"),
        (lambda s, t: sp(s.detach(), t), "pas son gradient"),
    ],
)
def test_chaque_erreur_de_l_exercice_c_recoit_son_indice(answer, hint, capsys):
    assert check("10.4 c", answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize("name", NAMES)
def test_deux_erreurs_ne_se_confondent_jamais_ni_avec_la_reference(name):
    exercise = EXERCISES[name]
    formulas = [exercise.reference, *exercise.mistakes.values()]
    for case in exercise.cases[:1]:
        values = [formula(*case) for formula in formulas]
        for i, first in enumerate(values):
            assert not any(torch.allclose(first, other, rtol=1e-3) for other in values[i + 1 :])


def over_largest(s, t):
    ratios = [torch.cdist(f, f) / torch.cdist(f, f).max() for f in (s, t)]
    return torch.nn.functional.smooth_l1_loss(*ratios)


@pytest.mark.parametrize(
    "name, answer, hint",
    [("10.4 a", lambda f: torch.cdist(f, f), "distances euclidiennes"), ("10.4 b", over_largest, "la plus grande")],
)
def test_une_distance_a_la_place_d_une_autre_est_reconnue(name, answer, hint, capsys):
    assert check(name, answer) is False
    assert hint in capsys.readouterr().out
