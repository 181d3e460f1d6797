"""Les figures de 10.1 : ce que leurs artistes montrent, et le nombre que porte leur titre."""

import pytest
import torch

from kdcourse.plots import plot_gap, plot_never_seen
from kdcourse.plots.principles import nats


def never_seen():
    measured = {"seul": ({"court": [0.0, 2.0], "long": [1.0, 3.0]}, "student"),
                "distillé": ({"court": [80.0, 90.0], "long": [90.0, 96.0]}, "distilled")}  # fmt: skip
    measured = {
        name: ({b: torch.tensor(v) for b, v in found.items()}, role) for name, (found, role) in measured.items()
    }
    return plot_never_seen(torch.rand(8, 1, 8, 8), torch.tensor([9, 8, 7, 6, 5, 4, 2, 1]), 3, measured)


def test_les_huit_images_disent_leur_etiquette_et_la_classe_absente():
    tiles = [ax for ax in never_seen().axes if ax.images]
    assert [tile.get_title() for tile in tiles] == [f"{label}, puis 3" for label in (9, 8, 7, 6, 5, 4, 2, 1)]


def test_les_barres_sont_les_rappels_moyens_et_le_titre_dit_le_meilleur():
    figure = never_seen()
    (chart,) = [ax for ax in figure.axes if ax.patches]
    assert [bar.get_height() for bar in chart.patches] == pytest.approx([1, 2, 85, 93])
    assert figure.get_suptitle().endswith("il en reconnaît 93 % au test")


def test_l_ecart_signe_est_student_moins_teacher_et_porte_le_gradient():
    student, teacher = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([4.0, 1.0, 0.0])
    gap = (student / 2).softmax(0) - (teacher / 2).softmax(0)
    figure = plot_gap(student, teacher, 2.0, gap / 2)
    signed = figure.axes[2]
    assert [bar.get_height() for bar in signed.patches] == pytest.approx(gap.tolist())
    assert signed.lines[0].get_ydata() == pytest.approx(gap.tolist())
    assert signed.get_title() == "student moins teacher : le 0 monte"
    assert [bar.get_hatch() or "" for bar in signed.patches] == ["//" if value < 0 else "" for value in gap]


@pytest.mark.parametrize(("value", "text"), [(1.061, "1,06 nat"), (2.0, "2,00 nats"), (0.0, "0,00 nat")])
def test_une_entropie_s_accorde_a_son_unite(value, text):
    assert nats(value) == text
