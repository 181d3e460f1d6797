"""Chaque mesure de vitesse tourne encore, en petit ; elle rend un résultat, et ne touche à aucun qui soit rangé."""

import importlib
import json
import shutil
from pathlib import Path

import nbformat
import pytest
import torch
from nbformat.v4 import new_code_cell, new_notebook, new_output
from support.slider_cell import SLIDER_CELL

from benchmarks import _report

ROOT = Path(__file__).parent.parent.parent
SMALL = {
    "vectorised": ["--tailles", "2", "--repeats", "1", "--appareil", "cpu"],
    "losses": ["--secondes", "0.01"],
    "grading": ["--copies", "1"],
    "widgets": ["--widgets", "TemperatureExplorer", "--presses", "2"],
    "bandwidth": ["--forme", "8", "50", "--appareil", "cpu"],
    "notebooks": ["10_99", "--repeats", "1"],
    "compare": ["--graines", "2", "--essai"],
    "site": ["10_99", "--repeats", "1"],
}
PEERS, BROWSER = ("losses", "bandwidth"), ("widgets", "site")
DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
# Une page, puis une cellule, dont la flèche change l'image d'un curseur.
SLIDER_PAGE = f"""<article><img src="data:image/png;base64,{DOT}"><div class="kd-figure kd-player"><svg></svg>
<input type="range" oninput="document.querySelector('svg').append('plus loin')"></div></article>"""
KERNEL = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}


@pytest.fixture(autouse=True)
def elsewhere(tmp_path, monkeypatch):
    threads = torch.get_num_threads()
    monkeypatch.setattr(_report, "RESULTS", tmp_path / "results")
    yield
    torch.set_num_threads(threads)


def stored() -> dict[str, bytes]:
    places = [*(ROOT / "benchmarks/results").glob("*.json"), *(ROOT / "kdcourse/measures").glob("*.json")]
    return {str(path): path.read_bytes() for path in places}


def last_line(output: str) -> dict:
    return json.loads(output.strip().splitlines()[-1])


def test_toutes_les_mesures_ont_un_essai_reduit():
    known = {path.stem for path in (ROOT / "benchmarks").glob("*.py") if not path.stem.startswith("_")}
    own = {"hinton", "features", "relations", "self_distillation", "tensor_train"}  # les leurs : tests/measures/
    assert known == {*SMALL, *own}


@pytest.mark.parametrize("name", SMALL)
def test_la_mesure_reduite_va_au_bout(name, tmp_path, monkeypatch, capsys):
    if name in PEERS:
        pytest.importorskip("torchdistill")
    if name == "grading" and shutil.which("bwrap") is None or name in BROWSER and shutil.which("chromium") is None:
        pytest.skip("bubblewrap ou Chromium absent.")
    measure, before = importlib.import_module(f"benchmarks.{name}"), stored()
    if name == "notebooks":
        monkeypatch.setattr(measure, "ROOT", tmp_path)
        (tmp_path / "notebooks").mkdir()
        nbformat.write(new_notebook(cells=[new_code_cell("1 + 1")]), tmp_path / "notebooks/10_99.ipynb")
    if name == "site":
        monkeypatch.setattr(measure, "ROOT", tmp_path)
        monkeypatch.setattr(measure, "SITE", tmp_path)
        Path(tmp_path, "10_99.html").write_text(SLIDER_PAGE, encoding="utf-8")
        (tmp_path / "notebooks").mkdir()
        picture = new_output("display_data", {"image/png": DOT})
        cells = [new_code_cell("1", outputs=[picture]), new_code_cell(SLIDER_CELL)]
        nbformat.write(new_notebook(cells=cells, metadata=KERNEL), tmp_path / "notebooks/10_99.ipynb")
    if name == "compare":
        monkeypatch.setattr(measure, "EPOCHS", (1,))
    measure.main(SMALL[name])
    assert last_line(capsys.readouterr().out)
    assert stored() == before
