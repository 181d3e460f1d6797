"""10.5 : ce que ``python -m benchmarks self_distillation`` a rangé, et son essai réduit."""

import json
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks import _report, self_distillation
from kdcourse import kd_loss
from kdcourse.measures import SelfDistillationBudgets

ROOT = Path(__file__).parents[2]


def kept() -> dict:
    return json.loads((ROOT / "kdcourse/measures/self_distillation_results.json").read_text(encoding="utf-8"))


def test_les_gains_ranges_sont_les_differences_avec_le_student_seul():
    stored, raw = SelfDistillationBudgets.load(), kept()["measures"]["1000"]
    alone, bug = (raw[name]["2400"]["validation"]["error"] for name in ("seul", "lot précédent"))
    expected = torch.tensor([a - b for a, b in zip(alone, bug, strict=True)])
    torch.testing.assert_close(stored.gain(1000, "lot précédent", 2400, "validation"), expected)
    ece = (stored.values(100, name, 300, kind="ece") for name in ("teacher", "PS-KD"))
    less = stored.gain(100, "PS-KD", 300, other="teacher", kind="ece")
    torch.testing.assert_close(less, next(ece) - next(ece))
    assert stored.steps(1000) == [150, 300, 600, 1200, 2400, 4800]
    assert stored.steps(1000, "lot précédent") == [600, 2400]
    assert torch.equal(stored.gains(1000, "lissage")[2], stored.gain(1000, "lissage", 600))
    assert stored.values(100, "PS-KD", 300, kind="ece").tolist() == raw_ece(kept()["measures"]["100"])
    assert "mesurés le" in stored.origin


def raw_ece(own: dict) -> list[float]:
    return pytest.approx(own["PS-KD"]["300"]["test"]["ece"])


def test_le_paquet_porte_dix_graines_de_chaque_mesure():
    for own in kept()["measures"].values():
        for steps in own.values():
            assert all(len(part["error"]) == len(part["ece"]) == 10 for one in steps.values() for part in one.values())


def test_la_cible_du_bug_est_celle_du_lot_precedent_et_la_reparation_celle_de_l_image():
    images, labels = torch.eye(4), torch.tensor([0, 1, 2, 3])
    model = torch.nn.Linear(4, 10)
    for own in (False, True):
        loss, order = self_distillation.remembering(4, own), torch.tensor([2, 0, 3, 1])
        first = model(images)
        assert loss(model, images, labels, torch.arange(4)).item() == pytest.approx(
            F.cross_entropy(first, labels).item()
        )
        logits = model(images[order])
        target = first[order] if own else first
        expected = 0.3 * kd_loss(logits, target, 1.0) + 0.7 * F.cross_entropy(logits, labels[order])
        assert loss(model, images[order], labels[order], order).item() == pytest.approx(expected.item(), abs=1e-6)


def test_un_essai_reduit_mesure_chaque_methode_et_ne_range_rien(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_report, "SHOWN", tmp_path)
    monkeypatch.setattr(self_distillation, "EPOCHS", {1000: 1, 100: 1})
    monkeypatch.setattr(self_distillation, "BUDGETS", (1,))
    monkeypatch.setattr(self_distillation, "TWO", (1,))
    threads = torch.get_num_threads()
    self_distillation.main(["--graines", "2"])
    torch.set_num_threads(threads)
    measures = json.loads(capsys.readouterr().out.strip().splitlines()[-1])["measures"]
    by_hand = list(self_distillation.BY_HAND)
    assert list(measures["1000"]) == [*self_distillation.TAUGHT, *by_hand]
    assert list(measures["100"]) == ["seul", "lissage", "teacher", *by_hand, "génération 2", "génération 3"]
    assert list(measures["1000"]["seul"]) == ["10"] and len(measures["1000"]["seul"]["10"]["test"]["ece"]) == 2
    assert not list(tmp_path.iterdir())
