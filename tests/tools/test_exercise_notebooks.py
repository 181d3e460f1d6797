"""Les exercices notés, tels que nbgrader les prend : leur forme, leur solution qui s'exécute, leur version publique."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import build_notebooks
import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parent.parent.parent

CELL_TIMEOUT = 300
SOURCES = sorted((ROOT / "sources" / "exercises").glob("*.py"))
NAMES = [path.stem for path in SOURCES]
POINTS = {
    "multi_teacher": {
        "ex1-probabilites": 4,
        "ex1-logits": 3,
        "ex1-poids": 3,
        "ex1-gradient": 3,
        "ex1-limites": 2,
        "ex1-reponse": 5,
    },
    "neighbours_and_memory": {
        "ex4-voisins": 5,
        "ex4-voisins-gradient": 3,
        "ex4-voisins-limites": 2,
        "ex4-memoire": 5,
        "ex4-memoire-visites": 3,
        "ex4-memoire-limites": 2,
    },
    "size_study": {"ex2-moyennes": 4, "ex2-gain": 3, "ex2-intervalle": 5, "ex2-appels": 3, "ex2-reponse": 5},
    "compression_challenge": {"ex3-contrat": 4, "ex3-exactitude": 6, "ex3-taille": 6, "ex3-reponse": 4},
}
FUNCTIONS = {
    "multi_teacher": ["multi_teacher_loss"],
    "size_study": ["size_study", "plot_study"],
    "compression_challenge": ["compress", "predict", "measure"],
    "neighbours_and_memory": ["neighbour_loss", "memory_targets"],
}
CHECKS = {"neighbours_and_memory": ["neighbours", "memory"]}
"""Exercice → les noms que ``check`` lui connaît, le sien par défaut."""
SOLUTION = re.compile(r"[ \t]*### BEGIN SOLUTION.*?### END SOLUTION\n?", re.S)


def source_notebook(name):
    return nbformat.read(ROOT / "exercises" / "source" / name / f"{name}.ipynb", as_version=4)


def graded(notebook):
    return [cell for cell in notebook.cells if cell.metadata.get("nbgrader", {}).get("grade")]


def execute(notebook, folder):
    resources = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=CELL_TIMEOUT, kernel_name="python3", resources=resources).execute()
    return "".join(
        output.text
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if output.output_type == "stream" and output.name == "stdout"
    ).replace("\N{NO-BREAK SPACE}", " ")  # ce qui est attendu s'écrit au clavier


# --- La forme ------------------------------------------------------------------------------------------------------


def test_les_exercices_sont_la():
    assert NAMES == sorted(POINTS)


def test_les_notebooks_suivent_leurs_sources_et_sont_seuls_dans_leur_dossier():
    assert [build_notebooks.exercise_drift(path) for path in SOURCES] == [None] * len(SOURCES)


@pytest.mark.parametrize("name", NAMES)
def test_le_bareme_est_celui_de_la_correction_et_vaut_vingt_points(name):
    points = {cell.metadata.nbgrader.grade_id: cell.metadata.nbgrader.points for cell in graded(source_notebook(name))}
    assert points == POINTS[name]
    assert sum(points.values()) == 20


@pytest.mark.parametrize("name", NAMES)
def test_une_cellule_notee_automatiquement_est_verrouillee_et_ne_contient_qu_un_commentaire(name):
    for cell in graded(source_notebook(name)):
        if not cell.metadata.nbgrader.solution:
            assert cell.metadata.nbgrader.locked and cell.cell_type == "code"
            points = cell.metadata.nbgrader.points
            assert re.fullmatch(rf"# {points} points : [^\n]+(\n# [^\n]+)?\.", cell.source)


@pytest.mark.parametrize("name", NAMES)
def test_une_ligne_de_code_tient_dans_la_largeur_d_une_cellule(name):
    code = "\n".join(cell.source for cell in source_notebook(name).cells if cell.cell_type == "code")
    assert [line for line in code.splitlines() if len(line) > 75] == []


@pytest.mark.parametrize("name", NAMES)
def test_la_reponse_ecrite_commence_par_son_ancre_hors_de_la_solution(name):
    written = [cell for cell in graded(source_notebook(name)) if cell.metadata.nbgrader.solution]
    assert len(written) == any(criterion.endswith("-reponse") for criterion in POINTS[name])
    for cell in written:
        assert cell.cell_type == "markdown"
        assert SOLUTION.sub("", cell.source).strip() == f"<!-- réponse {name} -->"


@pytest.mark.parametrize("name", NAMES)
def test_l_exercice_dit_son_temps_de_lecture_de_travail_et_de_machine(name):
    text = "\n".join(cell.source for cell in source_notebook(name).cells).replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(r"\*\*Temps\*\* : [^.]+ de lecture, [^.]+ de travail,\s[^.]+ de machine", text)


@pytest.mark.parametrize("name", NAMES)
def test_la_ligne_def_et_la_docstring_restent_hors_de_la_solution(name):
    solutions = [
        cell.source
        for cell in source_notebook(name).cells
        if cell.cell_type == "code" and cell.metadata.get("nbgrader", {}).get("solution")
    ]
    left = "\n".join(SOLUTION.sub("    pass\n", text) for text in solutions)
    for function in FUNCTIONS[name]:
        assert re.search(rf'^def {function}\([^)]*\):\n    """.+"""\n    pass$', left, re.M | re.S), function
    assert all("### BEGIN SOLUTION" in text for text in solutions)


@pytest.mark.parametrize("name", NAMES)
def test_hors_des_cellules_de_solution_rien_n_est_marque(name):
    for cell in source_notebook(name).cells:
        if not cell.metadata.get("nbgrader", {}).get("solution"):
            assert "SOLUTION" not in cell.source
        assert "<details" not in cell.source


@pytest.mark.parametrize("name", NAMES)
def test_aucune_sortie_ni_chemin_de_machine(name):
    notebook = source_notebook(name)
    assert all(not cell.get("outputs") and cell.get("execution_count") is None for cell in notebook.cells)
    assert not re.search(r"/(home|root|work|Users|tmp)/", nbformat.writes(notebook))


# --- La fabrique ---------------------------------------------------------------------------------------------------

GRADED_CELL = (
    '# %% nbgrader={"grade": true, "grade_id": "a", "locked": true, "points": 1, "schema_version": 3, '
    '"solution": false, "task": false}\n# 1 point : essai.\n'
)


@pytest.fixture
def workshop(tmp_path, monkeypatch):
    """Des dossiers neufs, avec un exercice construit ; rend sa source et son notebook."""
    monkeypatch.setattr(build_notebooks, "SOURCES", tmp_path / "sources")
    monkeypatch.setattr(build_notebooks, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(build_notebooks, "EXERCISE_SOURCES", tmp_path / "sources" / "exercises")
    monkeypatch.setattr(build_notebooks, "EXERCISES", tmp_path / "exercises")
    source = tmp_path / "sources" / "exercises" / "essai_9.py"
    source.parent.mkdir(parents=True)
    (tmp_path / "notebooks").mkdir()
    source.write_text(f"# %% [markdown]\n# # Essai\n\n{GRADED_CELL}", encoding="utf-8")
    build_notebooks.build_exercise(source)
    return source, build_notebooks.exercise_target(source)


def check_of(monkeypatch, capsys, *arguments):
    monkeypatch.setattr(sys, "argv", ["build_notebooks.py", "--check", *arguments])
    code = build_notebooks.main()
    return code, capsys.readouterr().out


def test_un_exercice_construit_suit_sa_source(workshop, monkeypatch, capsys):
    assert check_of(monkeypatch, capsys) == (0, "Les notebooks suivent leurs sources.\n")
    assert nbformat.read(workshop[1], as_version=4).cells[1].metadata.nbgrader.points == 1


@pytest.mark.parametrize(
    "before, after", [("# Essai", "# Autre"), ('"points": 1', '"points": 2'), ('"locked": true', '"locked": false')]
)
def test_un_exercice_qui_derive_par_son_texte_ou_son_bareme_est_vu(workshop, monkeypatch, capsys, before, after):
    source, _ = workshop
    source.write_text(source.read_text(encoding="utf-8").replace(before, after), encoding="utf-8")
    code, out = check_of(monkeypatch, capsys)
    assert code == 1 and "diffère de sa source" in out


def test_un_fichier_a_cote_d_un_exercice_est_vu(workshop, monkeypatch, capsys):
    (workshop[1].parent / "corrige.py").write_text("secret = 1\n", encoding="utf-8")
    code, out = check_of(monkeypatch, capsys)
    assert code == 1 and "corrige.py est à côté" in out


def test_une_sortie_gardee_dans_un_exercice_est_vue(workshop, monkeypatch, capsys):
    notebook = nbformat.read(workshop[1], as_version=4)
    notebook.cells[1].execution_count = 1
    nbformat.write(notebook, workshop[1])
    code, out = check_of(monkeypatch, capsys)
    assert code == 1 and "a gardé sa sortie" in out


def test_un_exercice_sans_source_est_vu(workshop, monkeypatch, capsys):
    workshop[0].rename(workshop[0].with_name("essai_8.py"))
    code, out = check_of(monkeypatch, capsys)
    assert code == 1 and "essai_9.ipynb n'a pas de source" in out and "essai_8.ipynb n'existe pas" in out


def test_un_debut_de_nom_choisit_les_sources(workshop, monkeypatch, capsys):
    chapter = build_notebooks.SOURCES / "10_09_Essai.py"
    chapter.write_text("# %%\n1 + 1\n", encoding="utf-8")
    workshop[1].unlink()
    monkeypatch.setattr(sys, "argv", ["build_notebooks.py", "essai_9"])
    assert build_notebooks.main() == 0
    assert workshop[1].exists() and list(build_notebooks.NOTEBOOKS.iterdir()) == []
    monkeypatch.setattr(sys, "argv", ["build_notebooks.py", "11_"])
    assert build_notebooks.main() == 1


# --- L'exécution ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_la_solution_s_execute_de_bout_en_bout_et_check_la_dit_juste(name, tmp_path):
    text = execute(source_notebook(name), tmp_path)
    challenge = name == "compression_challenge"
    for checked in CHECKS.get(name, [name]):
        assert f"Exercice {checked} : {'contrat rempli' if challenge else 'juste.'}" in text
    assert "à compléter" not in text
    if challenge:
        assert "exactitude 6,0 sur 6, taille 6,0 sur 6." in text


@pytest.fixture(scope="module")
def released(tmp_path_factory):
    """Ce que nbgrader distribue, depuis une copie du cours ; le gradebook naît et meurt avec elle."""
    course = tmp_path_factory.mktemp("cours")
    shutil.copy(ROOT / "exercises" / "nbgrader_config.py", course)
    shutil.copytree(ROOT / "exercises" / "source", course / "source")
    scripts = Path(sys.executable).parent  # nbgrader y cherche alembic
    environment = os.environ | {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    for name in NAMES:
        command = [sys.executable, "-m", "nbgrader", "generate_assignment", name]
        done = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
    return course / "release"


@pytest.mark.parametrize("name", NAMES)
def test_la_version_distribuee_nomme_les_fonctions_et_ne_contient_aucune_solution(name, released):
    assert [path.name for path in (released / name).iterdir()] == [f"{name}.ipynb"]
    notebook = nbformat.read(released / name / f"{name}.ipynb", as_version=4)
    text = "\n".join(cell.source for cell in notebook.cells)
    for function in FUNCTIONS[name]:
        assert re.search(rf"^def {function}\(", text, re.M)
    whole = "\n".join(cell.source for cell in source_notebook(name).cells)
    public = SOLUTION.sub("", whole)  # une ligne banale peut aussi se trouver dans l'énoncé
    for solution in SOLUTION.findall(whole):
        for line in filter(lambda line: len(line) > 30, map(str.strip, solution.splitlines())):
            assert line in public or line not in text
    assert "SOLUTION" not in text


@pytest.mark.parametrize("name", NAMES)
def test_la_version_distribuee_s_execute_de_bout_en_bout_et_dit_a_completer(name, released, tmp_path):
    text = execute(nbformat.read(released / name / f"{name}.ipynb", as_version=4), tmp_path)
    for checked in CHECKS.get(name, [name]):
        assert f"Exercice {checked} : à compléter." in text
    assert text.count("à compléter") >= 3
