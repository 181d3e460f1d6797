"""Le curseur de 10.5 : son état, et ce que l'image en montre."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdcourse import expected_calibration_error
from kdcourse.widgets import CalibrationExplorer
from kdcourse.widgets.self_distillation import calibration_state


@pytest.fixture
def labels():
    return torch.arange(40) % 4


@pytest.fixture
def models(labels):
    logits = 2 * torch.randn(3, 40, 4, generator=torch.Generator().manual_seed(0))
    logits += 3 * F.one_hot(labels, 4)
    return {"seul": (logits, "student"), "lissé": (0.3 * logits, "teacher")}


def test_l_etat_est_celui_des_logits_divises(models, labels):
    logits = models["seul"][0]
    state = calibration_state(logits, labels, 2.0)
    assert state.ece.mean == pytest.approx(expected_calibration_error(logits / 2, labels).mean().item(), rel=1e-5)
    assert state.error == calibration_state(logits, labels, 0.5).error  # l'erreur ne dépend pas de T
    with pytest.raises(ValueError, match="temperature : 0 reçu"):
        calibration_state(logits, labels, 0)


def test_le_curseur_de_calibration_suit_la_methode_et_la_temperature(models, labels):
    widget = CalibrationExplorer(models, labels)
    before = widget.svg()
    widget.method = "lissé"
    widget.temperature = 0.4
    assert widget.svg() != before
    expected = calibration_state(models["lissé"][0], labels, 0.4)
    assert str(expected.ece) in widget.figure._suptitle.get_text()
    filled = expected.diagram.share > 0
    points = np.asarray(widget.figure.axes[0].collections[0].get_offsets())
    assert points[:, 0] == pytest.approx(100 * expected.diagram.confidence[filled].numpy(), rel=1e-5)
