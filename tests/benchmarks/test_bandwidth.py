"""``python -m benchmarks bandwidth`` : le débit est celui qu'il annonce, chaque version calcule la même perte."""

import json
import sys

import pytest
import torch

from benchmarks import _report, bandwidth


@pytest.fixture(autouse=True)
def fils_du_processus_gardes():
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def logits():
    torch.manual_seed(0)
    return [torch.randn(8, 50) for _ in range(2)]


def test_le_debit_compte_trois_tenseurs_et_deux_pour_la_copie(logits, monkeypatch):
    monkeypatch.setattr(bandwidth, "timed", lambda run, device: (run(), 1e-6)[1])
    rows, _ = bandwidth.measure(logits, "cpu")
    # 8 × 50 nombres de 4 octets : 1600 octets par tenseur ; un Go/s, c'est mille octets par microseconde.
    assert rows["copie"]["gb_s"] == 3.2
    assert rows["kd_loss"]["gb_s"] == 4.8
    assert all(row["ms"] == 0.001 for row in rows.values())


def test_un_logit_bfloat16_pese_deux_octets(logits):
    assert bandwidth.traffic(logits[0].bfloat16(), 3) == 3 * 8 * 50 * 2


def test_toutes_les_versions_ont_la_meme_valeur_et_le_meme_gradient(logits):
    rows, _ = bandwidth.measure(logits, "cpu")
    accords = {name: (row["same_value"], row["same_gradient"]) for name, row in rows.items() if name != "copie"}
    assert set(accords.values()) == {(True, True)}, accords


def test_un_gradient_ou_une_valeur_sans_t_carre_se_voit(logits):
    student, teacher = logits[0].requires_grad_(), logits[1]
    right = bandwidth.value_and_gradient(lambda s, t: bandwidth.kd_loss(s, t, 4.0), student, teacher)
    assert all(bandwidth.agrees(part, part) and not bandwidth.agrees(part / 16, part) for part in right)


def test_liger_absent_se_dit_en_une_phrase(monkeypatch):
    monkeypatch.setitem(sys.modules, "liger_kernel.transformers", None)
    assert "liger-kernel n'est pas installé : pip install liger-kernel." in bandwidth.peers("cuda")[1]


def test_liger_sans_gpu_est_laisse_de_cote():
    found, skipped = bandwidth.peers("cpu")
    assert not any("liger" in name for name in found) and "ne tourne que sur un GPU" in skipped[-1]


def test_une_version_qui_ne_compile_pas_se_dit_sans_rien_arreter(logits, monkeypatch):
    def broken(*_):
        raise RuntimeError("No working C++ compiler found\ndétails")

    monkeypatch.setattr(torch, "compile", lambda loss: broken)
    rows, skipped = bandwidth.measure(logits, "cpu")
    assert "kd_loss" in rows and not any("compile" in name for name in rows)
    assert "kd_loss, torch.compile ne tourne pas ici : No working C++ compiler found" in skipped


def test_la_cible_se_mesure_a_la_plus_rapide_des_autres_et_se_tait_sans_pair():
    rows = {name: {"ms": ms} for name, ms in {"copie": 1, "kd_loss": 9, "kd_loss, torch.compile": 3}.items()}
    assert bandwidth.target(rows) is None
    assert bandwidth.target(rows | {"torchdistill": {"ms": 4}}) is True
    assert bandwidth.target(rows | {"torchdistill": {"ms": 4}, "liger-kernel": {"ms": 2}}) is False


def test_une_forme_trop_grande_nomme_son_option(monkeypatch):
    def full(*_):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 1 bytes.")

    monkeypatch.setattr(bandwidth, "measure", full)
    with pytest.raises(SystemExit, match="^--forme 8 50 : la mémoire"):
        bandwidth.main(["--appareil", "cpu", "--forme", "8", "50"])


def test_le_resultat_est_range_avec_la_definition_du_debit(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_report, "RESULTS", tmp_path)
    bandwidth.main(["--appareil", "cpu", "--forme", "8", "50"])
    printed = capsys.readouterr().out
    result = json.loads((tmp_path / "bandwidth-cpu.json").read_text(encoding="utf-8"))
    assert result["definition"] in printed and "3·B·C" in result["definition"]
    rows = {row["name"]: row for row in result["versions"]}
    assert result["shape"] == [8, 50] and rows["kd_loss"]["ms"] > 0
    assert [row["target"] for row in result["targets"]] == [bandwidth.TARGET]
    assert json.loads(printed.splitlines()[-1])["versions"] == result["versions"]


def test_chaque_type_de_logits_garde_sa_propre_mesure(monkeypatch, tmp_path):
    monkeypatch.setattr(_report, "RESULTS", tmp_path)
    monkeypatch.setattr(bandwidth, "measure", lambda *_: ({}, []))
    for dtype in ("float32", "bfloat16"):
        bandwidth.main(["--appareil", "cpu", "--forme", "8", "50", "--dtype", dtype])
    assert {path.name for path in tmp_path.iterdir()} == {"bandwidth-cpu.json", "bandwidth-cpu-bfloat16.json"}
