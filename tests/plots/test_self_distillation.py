"""Les figures de 10.5."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdcourse import expected_calibration_error
from kdcourse.measures import reliability
from kdcourse.plots import (
    plot_bargain,
    plot_batch_pairing,
    plot_generations,
    plot_reliability,
    plot_targets,
    plot_two_axes,
)


@pytest.fixture
def labels():
    return torch.arange(40) % 4


@pytest.fixture
def models(labels):
    logits = 2 * torch.randn(3, 40, 4, generator=torch.Generator().manual_seed(0))
    logits += 3 * F.one_hot(labels, 4)
    return {"seul": (logits, "student"), "lissé": (0.3 * logits, "teacher")}


def test_le_diagramme_de_fiabilite_montre_les_tranches_et_l_ece_moyenne(models, labels):
    figure = plot_reliability(models, labels, "titre")
    for ax, (name, (logits, _)) in zip(figure.axes, models.items(), strict=True):
        mean = expected_calibration_error(logits, labels).mean().item()
        assert ax.get_title().startswith(name)
        assert float(ax.get_title().split("ECE ")[1].split()[0].replace(",", ".")) == pytest.approx(mean, abs=0.06)
        found = reliability(logits, labels, bins=15)  # celles de l'ECE du titre
        points = np.asarray(ax.collections[0].get_offsets())
        filled = found.share > 0
        assert points[:, 0] == pytest.approx(100 * found.confidence[filled].numpy(), rel=1e-5)
        assert points[:, 1] == pytest.approx(100 * found.accuracy[filled].numpy(), rel=1e-5)


def test_l_ouverture_montre_les_erreurs_a_chaque_budget_et_la_fiabilite_de_chacun(models, labels):
    errors = {
        "600 pas": {"seul": [4.0, 6.0], "lissé": [2.0, 4.0]},
        "2 400 pas": {"seul": [3.0, 4.0], "lissé": [1.0, 2.0]},
    }
    errors = {name: {one: torch.tensor(values) for one, values in own.items()} for name, own in errors.items()}
    bars, diagram = plot_bargain(errors, models, labels, "titre").axes
    heights = {round(bar.get_x() + bar.get_width() / 2, 6): bar.get_height() for bar in bars.patches}
    assert heights == {-0.2: 5.0, 0.2: 3.0, 0.8: 3.5, 1.2: 1.5}
    assert [text.get_text() for text in bars.get_xticklabels()] == list(errors)
    for points, (logits, _) in zip(diagram.collections, models.values(), strict=True):
        found = reliability(logits, labels)
        assert np.asarray(points.get_offsets())[:, 1] == pytest.approx(
            100 * found.accuracy[found.share > 0].numpy(), rel=1e-5
        )


def test_la_figure_a_deux_axes_place_chaque_methode_a_ses_moyennes():
    errors, eces = torch.tensor([4.0, 6.0]), torch.tensor([1.0, 2.0])
    ax = plot_two_axes({"seul": (errors, eces, "student")}, "titre").axes[0]
    (text,) = ax.texts
    assert (text.xy, text.get_text()) == ((5.0, 1.5), "seul")


def test_le_titre_des_generations_porte_le_gain_apparie_de_la_derniere():
    errors = torch.tensor([[10.0, 9.0, 8.0], [12.0, 12.0, 9.0]])
    ax = plot_generations({"T = 4": errors}, "titre").axes[0]
    assert "2,5 [" in ax.get_title()
    assert ax.lines[-2].get_ydata() == pytest.approx([11.0, 10.5, 8.5])


def test_la_cible_de_la_classe_est_mise_en_avant():
    ax = plot_targets({"a": torch.tensor([0.1, 0.7, 0.2])}, label=1, title="titre").axes[0]
    assert [bar.get_height() for bar in ax.patches] == pytest.approx([0.1, 0.7, 0.2])
    assert ax.patches[1].get_facecolor() != ax.patches[0].get_facecolor()
    assert "0,70" in ax.get_title()


def test_deux_lots_se_font_face_rang_par_rang():
    previous, current = torch.rand(2, 4, 1, 8, 8)
    axes = np.array(plot_batch_pairing(previous, current).axes).reshape(2, 4)
    for row, batch in zip(axes, (previous, current), strict=True):
        for ax, image in zip(row, batch, strict=True):
            assert np.array_equal(ax.images[0].get_array(), image[0].numpy())
    assert all(len(ax.texts) == 1 for ax in axes[1])  # une flèche par rang
