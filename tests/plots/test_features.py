"""Les figures de 10.3."""

import numpy as np
import pytest
import torch

from kdcourse import (
    attention_map,
)
from kdcourse.plots import (
    plot_adapter,
    plot_attention_maps,
    plot_feature_scheme,
    plot_gains,
)
from kdcourse.plots.common import gain_summary, verdict
from kdcourse.plots.features import digit_outline


def test_le_verdict_suit_le_signe_et_l_intervalle():
    noise = torch.linspace(-0.5, 0.5, 10)
    assert [verdict(2 + noise), verdict(noise - 2), verdict(noise)] == ["gagne", "perd", "non établi"]


def test_le_titre_des_gains_compte_les_verdicts_et_la_forme_les_dit():
    noise = torch.linspace(-0.5, 0.5, 10)
    panels = {"A": {"x": 2 + noise, "y": noise}, "B": {"x": noise - 2, "y": noise}}
    assert gain_summary(panels) == "sur 4, 1 gagne, 1 perd, 2 non établis"
    figure = plot_gains(panels, "Gains")
    left = [line for line in figure.get_axes()[0].lines if line.get_marker() in "^oD"]
    assert [line.get_marker() for line in left] == ["^", "D"]
    assert left[0].get_xdata()[0] == pytest.approx(2.0)


def unit(*shape):
    return attention_map(torch.rand(shape, generator=torch.Generator().manual_seed(1)))


def test_toutes_les_cartes_ont_la_meme_echelle_et_une_barre_de_couleurs():
    maps = {"teacher": unit(2, 3, 4, 4), "student": unit(2, 5, 4, 4)}
    figure = plot_attention_maps(torch.rand(2, 1, 8, 8), torch.tensor([4, 7]), maps, "titre")
    axes = figure.get_axes()
    assert [ax.get_title() for ax in axes[:3]] == ["image", "teacher", "student"]
    assert [axes[0].get_ylabel(), axes[3].get_ylabel(), axes[-1].get_ylabel()] == [
        "étiquette 4",
        "étiquette 7",
        "attention",
    ]
    tops = {axes[place].images[0].get_clim()[1] for place in (1, 2, 4, 5)}
    assert tops == {max(m.max().item() for m in maps.values())}
    np.testing.assert_allclose(axes[5].images[0].get_array(), maps["student"][1, 0])


def square_digit(row=2, column=3):
    image = torch.zeros(1, 10, 10)
    image[0, row : row + 4, column : column + 2] = 1.0
    return image


def test_le_contour_entoure_l_encre_dans_le_carre_unite():
    (line,) = digit_outline(square_digit())
    # Colonnes 3 et 4, lignes 2 à 5 : l'encre va de 0,3 à 0,5 en x, de 0,4 à 0,8 en y, l'origine en bas.
    np.testing.assert_allclose(line.min(axis=0), [0.3, 0.4], atol=1e-6)
    np.testing.assert_allclose(line.max(axis=0), [0.5, 0.8], atol=1e-6)


def test_un_trait_qui_touche_le_bord_se_referme():
    (line,) = digit_outline(square_digit(row=6, column=8))
    np.testing.assert_allclose(line[0], line[-1])
    assert line.min() >= 0 and line.max() <= 1


def test_chaque_carte_porte_le_contour_de_son_image():
    images, maps = torch.stack([square_digit(), square_digit(5, 6)]), {"teacher": unit(2, 3, 3, 3)}
    axes = plot_attention_maps(images, torch.tensor([1, 1]), maps, "titre").get_axes()
    for ax, image in ((axes[1], images[0]), (axes[3], images[1])):
        assert tuple(ax.images[0].get_extent()) == (0, 1, 0, 1)
        np.testing.assert_allclose(ax.collections[0].get_segments()[0], digit_outline(image)[0])


def test_le_melange_de_l_adaptateur_est_une_somme_ponderee_et_le_titre_dit_son_ecart():
    student, teacher = torch.zeros(2, 3, 3), torch.zeros(3, 3)
    student[0, 1, 1], student[1, 1, 1], teacher[1, 1] = 1.0, 2.0, 9.0
    figure = plot_adapter(student, torch.tensor([3.0, -1.0]), 2.0, teacher)
    axes = figure.get_axes()
    assert [ax.get_xlabel() for ax in axes] == ["× 3,00", "× −1,00", "biais 2,00", "à refaire"]
    mixed = np.full((3, 3), 2.0)
    mixed[1, 1] = 3 * 1 - 1 * 2 + 2
    np.testing.assert_allclose(axes[2].images[0].get_array(), mixed)
    assert f"{((8 * 4 + 36) / 9):.2f}".replace(".", ",") in figure.get_suptitle()
    assert {tuple(ax.patches[0].get_xy()) for ax in axes} == {(0.5, 0.5)}  # le même pixel partout, et sa valeur
    assert [ax.texts[0].get_text() for ax in axes] == ["1,00", "2,00", "3,00", "9,00"]


def test_le_schema_se_dessine():
    assert "adaptateur" in plot_feature_scheme().get_axes()[0].get_title()


def test_les_gains_refusent_moins_de_deux_graines():
    with pytest.raises(ValueError):
        plot_gains({"A": {"x": torch.tensor([1.0])}}, "Gains")
