"""La cellule de *Sur GPU* qui appelle ``distill``, dans sa branche GPU : ici sur processeur, avec peu d'images."""

import ast
import functools
import re
from pathlib import Path

import build_notebooks
import pytest
import torch

import kdcourse
from kdcourse import Dataset, Split
from kdcourse.training import large_student

ROOT = Path(__file__).parent.parent.parent

SOURCES = sorted((ROOT / "sources").glob("10_*.py"))
SHAPES = {"mnist": (1, 28, 28), "cifar10": (3, 32, 32)}


class Cuda(str):
    """Un appareil qui se dit GPU et range ses tenseurs en mémoire ordinaire."""

    type = "cuda"


def few_images(name: str) -> Dataset:
    def part(size):
        return Split(torch.rand(size, *SHAPES[name]), torch.arange(size) % 10)

    return Dataset(part(30), part(20), part(20))


def gpu_cell(source: Path) -> tuple[str, str]:
    """La cellule, et tout ce que le chapitre a importé avant elle ; les imports seuls, non ses données."""
    cells = build_notebooks.read_source(source, "").cells
    start = next(i for i, c in enumerate(cells) if "## Sur GPU" in c.source)
    code = [(i, c.source) for i, c in enumerate(cells) if c.cell_type == "code"]
    ((place, cell),) = [(i, text) for i, text in code if i > start and re.search(r"\bdistill(_seeds)?\(", text)]
    nodes = [node for i, text in code if i < place for node in ast.parse(text).body]
    imports = [ast.unparse(node) for node in nodes if isinstance(node, (ast.Import, ast.ImportFrom))]
    return cell, "\n".join(imports)


@pytest.mark.parametrize("source", SOURCES, ids=lambda path: path.stem)
def test_la_branche_gpu_s_execute_et_une_session_morte_reprend(source, tmp_path, monkeypatch, capsys):
    epochs, distill = [], large_student.distill

    def one_epoch(*args, **options):
        epochs.append(options["epochs"])
        return distill(*args, **options | {"epochs": 1})

    monkeypatch.chdir(tmp_path)
    for module in (kdcourse, large_student):  # distill_seeds appelle celle de son module
        monkeypatch.setattr(module, "distill", one_epoch)
    monkeypatch.setattr(kdcourse, "best_device", lambda: Cuda("cpu"))
    monkeypatch.setattr(kdcourse, "load_dataset", functools.cache(few_images))
    # Ce que le chapitre a déjà importé, et l'appareil qu'il a trouvé ; aucune de ses données.
    names = {"device": Cuda("cpu"), "on_gpu": True}
    code, imports = gpu_cell(source)
    exec(imports, names)
    names |= {"display": print, "Markdown": str}
    exec(code, dict(names))
    first = capsys.readouterr().out
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("histoire.csv")}
    assert len(stamps) == len(epochs) and min(epochs) >= 10  # chaque entraînement range son histoire
    exec(code, dict(names))
    assert capsys.readouterr().out == first  # repris, rien n'a été refait
