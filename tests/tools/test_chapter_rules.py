"""Les règles d'un chapitre : chaque manquement se voit, et lui seul."""

import chapter_rules
import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

QUESTION = """**{}. Question ?**

<details><summary>a</summary>{}</details>
<details><summary>b</summary>{}</details>
<details><summary>c</summary>{}</details>
"""


def said(text):
    return [new_output("display_data", {"text/markdown": text})]


def folded(source, *tags, outputs=()):
    return new_code_cell(source, metadata={"tags": ["hide-input", *tags]}, outputs=list(outputs))


def quiz(*places):
    words = [["Oui" if place == right else "Non" for place in range(3)] for right in places]
    return "## Quiz\n\n" + "\n".join(QUESTION.format(n, *line) for n, line in enumerate(words, start=1)) + "\n## Fin\n"


@pytest.fixture
def chapter():
    first = new_markdown_cell("# Titre\n\n![une phrase](attachment:ouverture.png)")
    first.attachments = {"ouverture.png": {"image/png": ""}}
    return new_notebook(
        cells=[
            first,
            folded("from kdcourse import say", "bootstrap"),
            new_code_cell("def loss(x):\n    return x ** 2", outputs=said("Perte\u00a0: 2")),
            folded("a = 1\nb = 2\nsay(a)\nsay(b)", outputs=said("Gain de 2 [1\u00a0; 3]. Et de 1 [0\u00a0; 2].")),
            new_markdown_cell(quiz(0, 1, 2, 0)),
        ]
    )


def test_un_chapitre_conforme_n_a_rien_a_se_reprocher(chapter):
    assert chapter_rules.problems(chapter) == []


def replaced(chapter, rank, cell):
    chapter.cells[rank] = cell
    return chapter_rules.problems(chapter)


@pytest.mark.parametrize(
    ("cell", "problem"),
    [
        (new_code_cell("x = '" + "a" * 90 + "'"), "une ligne de 96 colonnes"),
        (new_code_cell("a = f(1)\nb = 1\nc = 2\nd = 3", outputs=said("1 000 pas")), "espace insécable"),
        (new_code_cell("f()", outputs=[new_output("stream", text="Gain : 2")]), "espace insécable"),
        (new_code_cell("f()", outputs=said("De 2 [1\u00a0; 3] à 4 [3\u00a0; 5].")), "trop d'intervalles"),
        (new_code_cell("f()", outputs=said("A [1\u00a0; 3]. " * 4)), "trop d'intervalles"),
        (new_code_cell("a = 1\nb = 2\nsay(a)\nsay(french(b))"), "elle ne fait que montrer"),
        (
            new_code_cell("from kdcourse.plots import plot_x\na = 1\nb = 2\nc = [a, b]\nplot_x(c)"),
            "elle ne fait que montrer",
        ),
        (folded("train_many(a)"), "elle enseigne (train_many)"),
        (folded("loss.backward()"), "elle enseigne (backward)"),
        (folded("def f(x):\n    return x"), "elle enseigne (une fonction)"),
    ],
)
def test_un_manquement_est_dit_et_lui_seul(chapter, cell, problem):
    (found,) = replaced(chapter, 2, cell)
    assert found.startswith("cellule 3 : ") and problem in found


@pytest.mark.parametrize(
    "cell",
    [
        new_code_cell("from kdcourse.widgets import Slider\n\nSlider(teacher, part)"),
        new_code_cell("a = 1\nb = 2\nsay(a)\nsay(losses(b))"),
        folded("def repaired(x):\n    return train_many(x)", "repair"),
        new_code_cell("f()", outputs=said("| A [1\u00a0; 2] | B [1\u00a0; 2] |")),
        new_code_cell("f()", outputs=said("- A [1\u00a0; 2]\n- B [1\u00a0; 2]")),
    ],
)
def test_ce_qui_est_permis_ne_se_reproche_pas(chapter, cell):
    assert replaced(chapter, 2, cell) == []


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda n: n.cells[0].pop("attachments"), "aucune cellule d'une image"),
        (lambda n: n.cells[0].update(source="# Titre"), "la première cellule montre"),
        (lambda n: n.cells[0].update(source="![](attachment:ouverture.png)"), "la première cellule montre"),
        (lambda n: n.cells.insert(1, new_markdown_cell("## Objectifs")), "le bootstrap est la deuxième"),
    ],
)
def test_l_ouverture_est_verifiee(chapter, change, problem):
    change(chapter)
    (found,) = chapter_rules.problems(chapter)
    assert problem in found


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (quiz(1, 1, 1, 0), "à répartir"),
        (quiz(0, 1, 2, 0).replace("<details><summary>c</summary>Non</details>\n", "", 1), "quiz 1 : 2 options"),
        (quiz(0, 1, 2, 0).replace("Non", "Oui", 1), "quiz 1 : 3 options et 2 « Oui »"),
        ("", "quiz"),
    ],
)
def test_le_quiz_est_verifie(chapter, text, problem):
    assert any(problem in found for found in replaced(chapter, 4, new_markdown_cell(text)))


def test_une_cellule_etiquetee_est_pliee_dans_jupyterlab_et_dans_colab(tmp_path):
    import build_notebooks

    source = tmp_path / "10_99_Essai.py"
    source.write_text('# %% tags=["hide-input"]\na = 1\n\n# %%\nb = 2\n', encoding="utf-8")
    hidden, shown = build_notebooks.read_source(source).cells
    assert hidden.metadata.jupyter.source_hidden and hidden.metadata.cellView == "form"
    assert "jupyter" not in shown.metadata and "cellView" not in shown.metadata


@pytest.mark.parametrize("tags, kept", [('"opening"', 1), ('"opening", "moved"', 0)])
def test_l_image_d_ouverture_est_celle_de_la_cellule_etiquetee_et_peut_la_quitter(tags, kept, tmp_path, monkeypatch):
    import build_notebooks

    source = tmp_path / "10_99_Essai.py"
    source.write_text(
        "# %% [markdown]\n# ![e](attachment:ouverture.png)\n\n"
        f"# %% tags=[{tags}]\nfrom kdcourse.plots import plot_scheme\nplot_scheme()\n",
        encoding="utf-8",
    )
    monkeypatch.setattr(build_notebooks, "NOTEBOOKS", tmp_path)
    build_notebooks.build(source)
    opened, cell = nbformat.read(tmp_path / "10_99_Essai.ipynb", as_version=4).cells
    pictures = [output.data["image/png"] for output in cell.outputs if "image/png" in output.get("data", {})]
    opening = opened.attachments["ouverture.png"]["image/png"]
    assert len(opening) > 1000 and pictures == [opening] * kept
