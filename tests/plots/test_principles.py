"""Les figures de 10.1 : ce que leurs artistes montrent, et le nombre que porte leur titre."""

import pytest
import torch

from kdcourse.plots import plot_gap
from kdcourse.plots.principles import nats


def test_l_ecart_signe_est_student_moins_teacher_et_porte_le_gradient():
    student, teacher = torch.tensor([0.0, 0.0, 0.0]), torch.tensor([4.0, 1.0, 0.0])
    gap = (student / 2).softmax(0) - (teacher / 2).softmax(0)
    figure = plot_gap(torch.rand(1, 8, 8), student, teacher, 2.0, gap / 2)
    signed = figure.axes[3]
    assert [bar.get_height() for bar in signed.patches] == pytest.approx(gap.tolist())
    assert signed.lines[0].get_ydata() == pytest.approx(gap.tolist())
    assert figure.get_suptitle() == "Le gradient relève la classe 0 : le teacher y croit plus que le student"
    assert [bar.get_hatch() or "" for bar in signed.patches] == ["//" if value < 0 else "" for value in gap]


@pytest.mark.parametrize(("value", "text"), [(1.061, "1,06 nat"), (2.0, "2,00 nats"), (0.0, "0,00 nat")])
def test_une_entropie_s_accorde_a_son_unite(value, text):
    assert nats(value) == text
