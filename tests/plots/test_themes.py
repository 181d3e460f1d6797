"""Sous un thème sombre, aucun texte n'a la couleur de ce qui est derrière lui."""

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_rgb
from matplotlib.patches import FancyBboxPatch
from matplotlib.text import Text

from kdcourse import MLP, attention_map, load_dataset
from kdcourse.measures import TemperatureMap
from kdcourse.plots import (
    plot_adapter,
    plot_attention_maps,
    plot_budgets,
    plot_cost,
    plot_feature_scheme,
    plot_field_map,
    plot_front,
    plot_gain_curves,
    plot_gains,
    plot_gradients,
    plot_prediction,
    plot_scheme,
    plot_temperature_maps,
    plot_tt_steps,
    plot_tucker,
)


def temperature_map() -> TemperatureMap:
    """Deux cases qui perdent et deux qui gagnent, beaucoup et peu : leurs textes sont noirs ou blancs."""
    errors = torch.tensor([[40.0, 69.0], [58.0, 62.0]])[..., None] + torch.tensor([-0.1, 0.0, 0.1])
    curves, nothing = errors[..., None].expand(2, 2, 3, 8), torch.zeros(2, 2)
    return TemperatureMap([1, 8], [0.2, 1.0], torch.full((3,), 60.0), errors, curves[0, 0], curves, nothing, nothing)


FIGURES = {
    "schéma": plot_scheme,
    "schéma des features": plot_feature_scheme,
    "adaptateur": lambda: plot_adapter(torch.rand(8, 3, 3), torch.randn(8), 0.1, torch.rand(3, 3)),
    "cartes d'attention": lambda: plot_attention_maps(
        load_dataset().test.images[:2], torch.tensor([0, 1]), {"teacher": attention_map(torch.rand(2, 3, 4, 4))}, "t"
    ),
    "budgets": lambda: plot_budgets({"a": ([75, 300], {"KD": (torch.rand(2, 3), "distilled")})}, "t"),
    "gradients": lambda: plot_gradients(torch.rand(1, 8, 8), 3, torch.randn(5), 6 * torch.randn(5), [1, 8]),
    "carte T × alpha": lambda: plot_temperature_maps({"a": temperature_map()}),
    "gains au fil des pas": lambda: plot_gain_curves({"a": (temperature_map(), 2)}, "titre"),
    "carte du domaine": plot_field_map,
    "prédiction": lambda: plot_prediction(MLP(), load_dataset().validation, 0),
    "gains": lambda: plot_gains({"a": {"KD": torch.tensor([1.0, 2.0, 1.5])}}, "titre"),
    "front": lambda: plot_front(
        {"p": {"dense": ([10, 100], torch.tensor([[9.0, 8.0], [5.0, 4.0]]), "petit dense", True)}},
        (1000, torch.tensor([3.0, 3.0])),
        "t",
    ),  # fmt: skip
    "TT-SVD": lambda: plot_tt_steps(torch.randn(4, 4, 4), 2),
    "Tucker-2": lambda: plot_tucker((4, 8), 2, (288, 60)),
    "coût": lambda: plot_cost([1, 2, 4], {"SP": [1.0, 2.0, 4.0]}, {"teacher": [3.0, 3.0, 3.0]}),
}


def contrast(first, second) -> float:
    """Rapport de contraste du W3C, de 1 à 21."""

    def luminance(color):
        channels = np.array(to_rgb(color))
        return np.where(channels <= 0.03928, channels / 12.92, ((channels + 0.055) / 1.055) ** 2.4) @ [
            0.2126,
            0.7152,
            0.0722,
        ]

    low, high = sorted((luminance(first), luminance(second)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("style", ["default", "dark_background"])
@pytest.mark.parametrize("name", FIGURES)
def test_chaque_texte_se_lit_sur_son_fond(name, style):
    with plt.style.context(style):
        figure = FIGURES[name]()
        FigureCanvasAgg(figure).draw()
        paper = figure.get_facecolor()
    renderer = FigureCanvasAgg(figure).get_renderer()
    boxes = [(patch.get_window_extent(renderer), patch.get_facecolor())
             for ax in figure.axes for patch in ax.patches if isinstance(patch, FancyBboxPatch)]  # fmt: skip
    unreadable = []
    for text in figure.findobj(Text):
        if not text.get_text().strip() or not text.get_visible():
            continue
        place = text.get_window_extent(renderer)
        x, y = (place.x0 + place.x1) / 2, (place.y0 + place.y1) / 2
        behind = [color for box, color in boxes if box.contains(x, y)] or [paper]
        if (own := text.get_bbox_patch()) is not None:
            behind = [own.get_facecolor()]
        if contrast(text.get_color(), behind[-1]) < 2:
            unreadable.append(text.get_text())
    assert unreadable == []
