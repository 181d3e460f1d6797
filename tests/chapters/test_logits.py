"""10.2 : le gradient et sa limite, les figures, les curseurs et les exercices du chapitre."""

import io

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from kdcourse import check, kd_loss
from kdcourse.measures import TemperatureMap, log_slope, logit_gradient, matching_gradient
from kdcourse.plots import (
    plot_gradients,
    plot_intervals,
    plot_map_curves,
    plot_temperature_gradients,
    plot_temperature_maps,
)
from kdcourse.widgets import GradientExplorer, MapExplorer
from kdcourse.widgets.logits import map_state


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def pair():
    return torch.randn(5, generator=generator()), 6 * torch.randn(5, generator=generator(1))


@pytest.fixture
def measured():
    g = generator(2)
    errors = 20 * torch.rand(3, 2, 4, generator=g)
    alone = 10 + torch.rand(4, generator=g)
    curves = 50 * torch.rand(3, 2, 4, 6, generator=g)
    confusions = torch.rand(3, 2, 5, 5, generator=g)
    return TemperatureMap(
        [1.0, 4.0, 16.0], [0.5, 1.0], alone, errors, curves[0, 0], curves, confusions[0, 0], confusions
    )


@pytest.mark.parametrize("temperature", [0.5, 1.0, 20.0])
def test_le_gradient_montre_est_celui_de_kd_loss(pair, temperature):
    student = pair[0][None].requires_grad_()
    (expected,) = torch.autograd.grad(kd_loss(student, pair[1][None], temperature), student)
    torch.testing.assert_close(logit_gradient(*pair, temperature), expected[0].detach(), rtol=1e-4, atol=1e-6)


def test_le_gradient_tend_vers_sa_limite_en_un_sur_t(pair):
    student, teacher = (z.double() for z in pair)
    limit = matching_gradient(student, teacher)
    gaps = [(logit_gradient(student, teacher, t) - limit).norm().item() for t in (100.0, 200.0, 400.0)]
    assert gaps[0] / gaps[1] == pytest.approx(2, rel=0.05) and gaps[1] / gaps[2] == pytest.approx(2, rel=0.03)


def test_une_temperature_nulle_est_refusee_par_le_gradient(pair):
    with pytest.raises(ValueError, match="temperature : 0 reçu"):
        logit_gradient(*pair, 0)


def test_la_pente_d_une_puissance_est_son_exposant():
    x = [1.0, 2.0, 5.0, 10.0]
    assert log_slope(x, [3 * v**-1.7 for v in x]) == pytest.approx(-1.7)


def test_les_titres_des_gradients_portent_les_pentes_des_donnees():
    temperatures = [1.0, 2.0, 4.0, 8.0]
    limit = torch.ones(3, 2, 5)
    exact = torch.stack([limit * (1 + 1 / t) for t in temperatures])
    without = torch.stack([limit / t**2 for t in temperatures])
    left, right = plot_temperature_gradients(temperatures, exact, without, limit).axes
    assert "−2{,}0" in left.get_title() and "−1{,}0" in right.get_title()
    assert right.lines[0].get_ydata() == pytest.approx([100, 50, 25, 12.5], rel=1e-4)


def test_les_petits_multiples_disent_l_ecart_a_la_limite(pair):
    figure = plot_gradients(*pair, temperatures=[1, 1000])
    first, last = (int(ax.get_title().split(" : ")[1].split()[0]) for ax in figure.axes)
    limit = matching_gradient(*pair)
    expected = 100 * (logit_gradient(*pair, 1) - limit).norm() / limit.norm()
    assert first == round(expected.item()) and last <= 1


def test_la_carte_encadre_la_case_choisie_en_validation_et_ecrit_chaque_gain(measured):
    figure = plot_temperature_maps({"essai": measured})
    ax = figure.axes[0]
    row, column = measured.best()
    (frame,) = ax.patches
    assert frame.get_xy() == (column - 0.5, row - 0.5)
    texts = {(int(t.get_position()[1]), int(t.get_position()[0])): t.get_text() for t in ax.texts}
    assert len(texts) == 6
    for (i, j), text in texts.items():
        gain = measured.gain(i, j)
        assert float(text.strip("()").replace(",", ".").replace("−", "-")) == pytest.approx(gain.mean, abs=0.051)
        assert text.startswith("(") != gain.excludes_zero


def test_les_courbes_de_la_carte_sont_les_moyennes_de_validation(measured):
    figure = plot_map_curves(measured, column=1)
    assert len(figure.axes) == 2  # une température sur deux
    alone, distilled = figure.axes[1].lines
    assert distilled.get_ydata() == pytest.approx(measured.curves[2, 1].mean(dim=0).tolist())
    assert alone.get_ydata() == pytest.approx(measured.alone_curve.mean(dim=0).tolist())


def test_les_barres_vont_de_zero_a_la_moyenne():
    figure = plot_intervals({"a": (torch.tensor([1.0, 3.0]), "student")}, "erreur (%)", "titre")
    (bar,) = figure.axes[0].patches
    assert (bar.get_x(), bar.get_width()) == (0, 2.0)


def pixels(widget):
    return np.asarray(Image.open(io.BytesIO(widget.image.value)))


def test_l_etat_d_une_case_vient_de_la_carte(measured):
    state = map_state(measured, 4.0, 1.0)
    assert state.error.mean == pytest.approx(measured.errors[1, 1].mean().item())
    assert state.gain == measured.gain(1, 1)
    assert state.curve[0] == pytest.approx(measured.curves[1, 1].mean(dim=0).numpy(), rel=1e-5)
    assert np.diagonal(state.mistakes).sum() == 0
    assert state.mistakes[0, 3] == measured.confusions[1, 1, 0, 3].item()
    assert measured.confusions[1, 1, 2, 2] != 0  # la carte elle-même n'a pas changé


def test_deux_curseurs_deplacent_la_case_la_courbe_et_le_titre(measured):
    widget = MapExplorer(measured)
    before = pixels(widget)
    widget.sliders["temperature"].value, widget.sliders["alpha"].value = 16.0, 0.5
    assert not np.array_equal(before, pixels(widget))
    chart, curve = widget.figure.axes[:2]
    assert chart.patches[0].get_xy() == (-0.5, 1.5)
    assert curve.lines[1].get_ydata() == pytest.approx(map_state(measured, 16.0, 0.5).curve[0])
    assert str(measured.gain(2, 0)) in widget.figure._suptitle.get_text()
    assert widget.message.value == ""


def test_le_curseur_du_gradient_montre_le_gradient_avec_et_sans_le_facteur(pair):
    widget = GradientExplorer(*pair)
    widget.sliders["temperature"].value = 8.0
    heights = [bar.get_height() for bar in widget.figure.axes[0].patches]
    expected = logit_gradient(*pair, 8.0)
    assert heights[:5] == pytest.approx(expected.tolist(), rel=1e-5)
    assert heights[5:] == pytest.approx((expected / 64).tolist(), rel=1e-5)
    assert widget.message.value == ""


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
