"""``python -m benchmarks bandwidth`` : le débit est celui qu'il annonce, chaque version calcule la même perte."""

import json

import pytest
import torch

from benchmarks import _report, bandwidth


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return [torch.randn(8, 50) for _ in range(2)]


def test_le_debit_compte_trois_tenseurs_et_deux_pour_la_copie(logits, monkeypatch):
    monkeypatch.setattr(bandwidth, "timed", lambda run, device: (run(), 0.001)[1])
    rows, _ = bandwidth.measure(logits, "cpu")
    size = 8 * 50 * 4  # octets
    assert rows["copie"]["go_s"] == round(2 * size / 1e-3 / 1e9, 1)
    assert rows["kd_loss"]["go_s"] == round(3 * size / 1e-3 / 1e9, 1)
    assert all(row["ms"] == 1.0 for row in rows.values())


def test_toutes_les_versions_ont_le_meme_gradient(logits):
    rows, _ = bandwidth.measure(logits, "cpu")
    assert {name: row["meme_gradient"] for name, row in rows.items() if row["meme_gradient"] is False} == {}


def test_un_gradient_faux_se_voit(logits):
    right = bandwidth.gradient(lambda s, t: bandwidth.kd_loss(s, t, 4.0), logits[0].requires_grad_(), logits[1])
    assert bandwidth.agrees(right, right) and not bandwidth.agrees(right / 16, right)


def test_un_pair_absent_se_dit_en_une_phrase_et_le_resultat_est_range(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_report, "RESULTS", tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "liger_kernel.transformers", None)
    bandwidth.main(["--appareil", "cpu", "--forme", "8", "50"])
    assert "liger-kernel n'est pas installé" in capsys.readouterr().out
    result = json.loads((tmp_path / "bandwidth-cpu.json").read_text(encoding="utf-8"))
    assert result["forme"] == [8, 50] and result["mesures"]["kd_loss"]["ms"] > 0
