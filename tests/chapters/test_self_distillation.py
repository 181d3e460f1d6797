"""10.5 : les lots, les figures, le curseur et les exercices du chapitre."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from kdcourse import MLP, Batches, Split, check, expected_calibration_error, load_dataset, train_one
from kdcourse.measures import reliability
from kdcourse.plots import plot_generations, plot_reliability, plot_targets, plot_two_axes
from kdcourse.training.many import initial_model
from kdcourse.widgets import CalibrationExplorer
from kdcourse.widgets.self_distillation import calibration_state


def test_batches_donne_les_lots_de_train_one():
    data = load_dataset().train.where(slice(0, 70))
    expected = train_one(lambda: MLP(hidden=(8,)), data, seed=4, epochs=3, batch_size=30)
    model, batches = initial_model(lambda: MLP(hidden=(8,)), 4), Batches(data, seed=4, batch_size=30)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(3):
        for images, labels, _ in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_chaque_epoque_passe_une_fois_sur_chaque_exemple_et_dit_lequel():
    data = Split(torch.arange(7.0)[:, None], torch.arange(7))
    batches = Batches(data, batch_size=3)
    first, second = ([batch[2] for batch in batches] for _ in range(2))
    assert [len(b) for b in first] == [3, 3, 1]
    assert sorted(torch.cat(first).tolist()) == list(range(7)) == sorted(torch.cat(second).tolist())
    assert torch.cat(first).tolist() != torch.cat(second).tolist()
    for images, labels, indices in batches:
        assert images[:, 0].tolist() == labels.tolist() == indices.tolist()


def test_une_taille_de_lot_nulle_est_refusee():
    with pytest.raises(ValueError, match="batch_size : 0 reçu"):
        Batches(Split(torch.zeros(2, 1), torch.zeros(2).long()), batch_size=0)


@pytest.fixture
def labels():
    return torch.arange(40) % 4


@pytest.fixture
def models(labels):
    logits = 2 * torch.randn(3, 40, 4, generator=torch.Generator().manual_seed(0))
    logits += 3 * F.one_hot(labels, 4)
    return {"seul": (logits, "student"), "lissé": (0.3 * logits, "teacher")}


def test_le_diagramme_de_fiabilite_montre_les_tranches_et_l_ece_moyenne(models, labels):
    figure = plot_reliability(models, labels)
    for ax, (name, (logits, _)) in zip(figure.axes, models.items(), strict=True):
        mean = expected_calibration_error(logits, labels).mean().item()
        assert ax.get_title().startswith(name)
        assert float(ax.get_title().split("ECE ")[1].split()[0].replace(",", ".")) == pytest.approx(mean, abs=0.06)
        found = reliability(logits, labels, bins=10)
        points = np.asarray(ax.collections[0].get_offsets())
        filled = found.share > 0
        assert points[:, 0] == pytest.approx(100 * found.confidence[filled].numpy(), rel=1e-5)
        assert points[:, 1] == pytest.approx(100 * found.accuracy[filled].numpy(), rel=1e-5)


def test_la_figure_a_deux_axes_place_chaque_methode_a_ses_moyennes():
    errors, eces = torch.tensor([4.0, 6.0]), torch.tensor([1.0, 2.0])
    ax = plot_two_axes({"seul": (errors, eces, "student")}, "titre").axes[0]
    (text,) = ax.texts
    assert (text.xy, text.get_text()) == ((5.0, 1.5), "seul")


def test_le_titre_des_generations_porte_le_gain_apparie_de_la_derniere():
    errors = torch.tensor([[10.0, 9.0, 8.0], [12.0, 12.0, 9.0]])
    ax = plot_generations({"T = 4": errors}).axes[0]
    assert "2,5 [" in ax.get_title()
    assert ax.lines[-2].get_ydata() == pytest.approx([11.0, 10.5, 8.5])


def test_la_cible_de_la_classe_est_mise_en_avant():
    ax = plot_targets({"a": torch.tensor([0.1, 0.7, 0.2])}, label=1).axes[0]
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.1, 0.7, 0.2])
    assert ax.patches[1].get_facecolor() != ax.patches[0].get_facecolor()
    assert "0,70" in ax.get_title()


def test_l_etat_est_celui_des_logits_divises(models, labels):
    logits = models["seul"][0]
    state = calibration_state(logits, labels, 2.0)
    assert state.ece.mean == pytest.approx(expected_calibration_error(logits / 2, labels).mean().item(), rel=1e-5)
    assert state.error == calibration_state(logits, labels, 0.5).error  # l'erreur ne dépend pas de T
    with pytest.raises(ValueError, match="temperature : 0 reçu"):
        calibration_state(logits, labels, 0)


def pixels(widget):
    return np.asarray(Image.open(io.BytesIO(widget.image.value)))


def test_le_curseur_de_calibration_suit_la_methode_et_la_temperature(models, labels):
    widget = CalibrationExplorer(models, labels)
    before = pixels(widget)
    widget.sliders["method"].value = "lissé"
    widget.sliders["temperature"].value = 0.4
    assert not np.array_equal(before, pixels(widget))
    expected = calibration_state(models["lissé"][0], labels, 0.4)
    assert str(expected.ece) in widget.figure._suptitle.get_text()
    filled = expected.diagram.share > 0
    points = np.asarray(widget.figure.axes[0].collections[0].get_offsets())
    assert points[:, 0] == pytest.approx(100 * expected.diagram.confidence[filled].numpy(), rel=1e-5)
    assert widget.message.value == ""


def smooth_targets(labels, classes, epsilon):
    return (1 - epsilon) * F.one_hot(labels, classes) + epsilon / classes


def calibration_error(probabilities, labels, bins):
    confidence, answer = probabilities.max(dim=-1)
    right, which = (answer == labels).float(), (confidence * bins).ceil()
    total = 0.0
    for k in which.unique():
        inside = which == k
        total = total + inside.float().mean() * (right[inside].mean() - confidence[inside].mean()).abs()
    return total


def ps_kd_targets(labels, previous, epoch, epochs, largest):
    alpha = largest * epoch / epochs
    return (1 - alpha) * F.one_hot(labels, previous.shape[-1]) + alpha * previous


@pytest.mark.parametrize(
    "name, answer",
    [
        ("10.5 a", smooth_targets),
        ("10.5 b", calibration_error),
        ("10.5 b", lambda *x: calibration_error(*x).item()),
        ("10.5 c", ps_kd_targets),
    ],
)
def test_une_bonne_reponse_est_juste(name, answer, capsys):
    assert check(name, answer) is True
    assert "juste" in capsys.readouterr().out


def ece_signed(p, y, b):
    confidence, answer = p.max(-1)
    return (answer == y).float().mean() - confidence.mean()


@pytest.mark.parametrize(
    "name, answer, hint",
    [
        ("10.5 a", lambda y, c, e: F.one_hot(y, c) * (1 - e) + (1 - F.one_hot(y, c)) * e / (c - 1), "C - 1 autres"),
        ("10.5 a", lambda y, c, e: F.one_hot(y, c) + e / c, "dépasse 1"),
        ("10.5 a", lambda y, c, e: smooth_targets(y, c, 1 - e), "échangés"),
        ("10.5 a", lambda y, c, e: (1 - e) * F.one_hot(y, c) + e, "se partage"),
        ("10.5 a", lambda y, c, e: F.one_hot(y, c), "flottant est attendu"),
        ("10.5 b", lambda p, y, b: 100 * calibration_error(p, y, b), "entre 0 et 1"),
        ("10.5 b", ece_signed, "valeur absolue"),
        ("10.5 b", lambda p, y, b: ece_signed(p, y, b).abs(), "Une seule tranche"),
        ("10.5 c", lambda y, p, e, n, a: ps_kd_targets(y, p, n, n, a), "doit croître"),
        ("10.5 c", lambda y, p, e, n, a: ps_kd_targets(y, p, e, n, 1.0), "plus grande valeur de alpha"),
        ("10.5 c", lambda y, p, e, n, a: ps_kd_targets(y, p.roll(1, 0), e, n, a), "autre exemple"),
        ("10.5 c", lambda y, p, e, n, a: ps_kd_targets(y, p.mean(0, keepdim=True), e, n, a), "moyennée sur le lot"),
        (
            "10.5 c",
            lambda y, p, e, n, a: ps_kd_targets(y, F.one_hot(p.argmax(-1), p.shape[1]).float(), e, n, a),
            "distribution entière",
        ),
    ],
)
def test_chaque_erreur_recoit_son_indice(name, answer, hint, capsys):
    assert check(name, answer) is False
    assert hint in capsys.readouterr().out
