"""La forme des chapitres, lue dans les fichiers livrés ; leur exécution, c'est nbval qui la vérifie."""

import re
from pathlib import Path

import build_notebooks
import nbformat
import pytest

ROOT = Path(__file__).parent.parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
HEADINGS = ["Objectifs", "Chasse au bug", "À vous de jouer", "Quiz", "Sur GPU", "À retenir", "Références"]


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.stem)
def notebook(request):
    return nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def outputs(notebook):
    return [output for cell in code_cells(notebook) for output in cell.outputs]


def test_il_y_a_des_notebooks():
    assert [path.stem for path in NOTEBOOKS] == [path.stem for path in sorted((ROOT / "sources").glob("10_*.py"))]


def test_chaque_image_dit_en_mots_ce_qu_elle_montre(notebook):
    pictures = [output for output in outputs(notebook) if "image/png" in output.get("data", {})]
    told = [output.metadata.get("image/png", {}).get("alt", "") for output in pictures]
    assert len(told) >= 5 and [words for words in told if len(words) < 10 or set(words) & set("${}\\\n")] == []


def test_les_titres_obligatoires_sont_la_dans_l_ordre(notebook):
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = [h for h in re.findall(r"^## (.+)$", text, re.M) if h in HEADINGS]
    assert found == HEADINGS


def test_de_25_a_45_cellules_et_20_lignes_de_code_au_plus(notebook):
    assert 25 <= len(notebook.cells) <= 45
    assert [cell.source for cell in code_cells(notebook) if len(cell.source.splitlines()) > 20] == []


def test_aucune_fonction_d_aide_de_plus_de_15_lignes(notebook):
    import ast

    for cell in code_cells(notebook):
        for node in ast.walk(ast.parse(cell.source)):
            if isinstance(node, ast.FunctionDef):
                assert node.end_lineno - node.lineno < 15, node.name


def test_au_moins_cinq_figures(notebook):
    assert sum("image/png" in output.get("data", {}) for output in outputs(notebook)) >= 5


def test_les_cellules_sont_executees_dans_l_ordre_et_sans_erreur(notebook):
    assert [cell.execution_count for cell in code_cells(notebook)] == list(range(1, len(code_cells(notebook)) + 1))
    assert [output.ename for output in outputs(notebook) if output.output_type == "error"] == []


def test_aucune_vue_de_widget_sans_son_etat(notebook):
    assert "widgets" not in notebook.metadata
    assert all(build_notebooks.WIDGET_VIEW not in output.get("data", {}) for output in outputs(notebook))


def test_aucun_chemin_de_machine_ni_avertissement(notebook):
    text = nbformat.writes(notebook)
    assert not re.search(r"/(home|root|work|Users|tmp)/", text)
    assert [output.text for output in outputs(notebook) if output.get("name") == "stderr"] == []


def test_un_notebook_qui_derive_de_sa_source_est_vu(tmp_path, monkeypatch):
    source = tmp_path / "10_99_Essai.py"
    source.write_text("# %% [markdown]\n# # Essai\n\n# %%\n1 + 1\n", encoding="utf-8")
    monkeypatch.setattr(build_notebooks, "NOTEBOOKS", tmp_path)
    assert "n'existe pas" in build_notebooks.drift(source)
    build_notebooks.build(source)
    assert build_notebooks.drift(source) is None
    source.write_text("# %% [markdown]\n# # Essai\n\n# %%\n1 + 2\n", encoding="utf-8")
    assert "la cellule 2 diffère" in build_notebooks.drift(source)
    source.write_text("# %% [markdown]\n# # Essai\n", encoding="utf-8")
    assert "2 cellules, 1 dans la source" in build_notebooks.drift(source)


def test_une_cellule_en_erreur_ne_remplace_pas_le_notebook(tmp_path, monkeypatch):
    source, target = tmp_path / "10_99_Essai.py", tmp_path / "10_99_Essai.ipynb"
    target.write_text("ancien", encoding="utf-8")
    source.write_text("# %%\n1 / 0\n", encoding="utf-8")
    monkeypatch.setattr(build_notebooks, "NOTEBOOKS", tmp_path)
    with pytest.raises(build_notebooks.CellExecutionError):
        build_notebooks.build(source)
    assert target.read_text(encoding="utf-8") == "ancien"


def test_les_identifiants_de_cellule_survivent_a_une_insertion(tmp_path):
    source = tmp_path / "10_99_Essai.py"
    source.write_text("# %%\na = 1\n\n# %%\nb = 2\n", encoding="utf-8")
    before = [cell.id for cell in build_notebooks.read_source(source).cells]
    source.write_text("# %%\nneuf = 0\n\n# %%\na = 1\n\n# %%\nb = 2\n", encoding="utf-8")
    assert [cell.id for cell in build_notebooks.read_source(source).cells][1:] == before
