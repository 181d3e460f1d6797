"""L'arbre que reçoivent les étudiants, ouvert fichier par fichier : rien n'y manque, et aucune réponse n'en sort."""

import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
import zipfile
from functools import cache
from pathlib import Path

import pytest

from kdcourse.exercises.graded import ANSWERS

pytest.importorskip("nbgrader")
import make_release  # noqa: E402

ROOT = Path(__file__).parent.parent.parent
CANARY = "canary_answer = sum(range(12_345)) + 67_890"
COMMENT_CANARY = "# la réponse attendue tient en une ligne, celle-ci"
MARKS = {"schema_version": 3, "locked": False, "grade": False, "solution": True, "task": False, "points": 0}


def cell(source: str, grade_id: str, **marks) -> dict:
    metadata = {"nbgrader": MARKS | {"grade_id": grade_id} | marks}
    return {"cell_type": "code", "source": source, "metadata": metadata, "outputs": [], "execution_count": None}


def exercise(*cells: dict) -> str:
    heading = {"cell_type": "markdown", "source": "# Exercice d'essai", "metadata": {}}
    return json.dumps({"cells": [heading, *cells], "metadata": {}, "nbformat": 4, "nbformat_minor": 4})


def release(project: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "tools/make_release.py", *arguments]
    return subprocess.run(command, cwd=project, capture_output=True, text=True)


def git(project: Path, *arguments: str) -> str:
    return subprocess.run(["git", *arguments], cwd=project, capture_output=True, text=True, check=True).stdout


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Le projet, copié dans un dépôt à lui, avec un exercice qui porte un canari et un fichier que git ne suit pas."""
    project = tmp_path_factory.mktemp("projet")
    for name in git(ROOT, "ls-files", "-z", "--cached", "--others", "--exclude-standard").split("\0"):
        if name and (ROOT / name).is_file():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, project / name)
    answer = f"def f():\n    ### BEGIN SOLUTION\n    {COMMENT_CANARY}\n    {CANARY}\n    ### END SOLUTION"
    hidden = f"assert True\n### BEGIN HIDDEN TESTS\n{CANARY}\n### END HIDDEN TESTS"
    graded = cell(hidden, "essai-test", solution=False, grade=True, locked=True, points=1)
    graded["outputs"] = [{"output_type": "stream", "name": "stdout", "text": CANARY}]
    source = project / "exercises/source/essai/essai.ipynb"
    source.parent.mkdir(parents=True)
    source.write_text(exercise(cell(answer, "essai-solution"), graded), encoding="utf-8")
    git(project, "init", "--quiet")
    git(project, "add", "--all")
    author = ["-c", "user.name=essai", "-c", "user.email=essai@example.org"]
    git(project, *author, "commit", "--quiet", "--no-verify", "-m", "essai", "--date", "2026-03-04T05:06:07Z")
    (project / "kdcourse" / "brouillon.py").write_text(CANARY, encoding="utf-8")
    return project


@pytest.fixture(scope="module")
def tree(project):
    process = release(project)
    assert process.returncode == 0, process.stderr
    return project / "release" / "kdcourse"


@pytest.fixture(scope="module")
def again(project, tree, tmp_path_factory):
    """Une seconde fabrication, à la place d'un clone du dépôt public."""
    target = tmp_path_factory.mktemp("public")
    (target / "kdcourse" / ".git").mkdir(parents=True)
    (target / "kdcourse" / ".git" / "HEAD").write_text("ref: refs/heads/main\n", encoding="utf-8")
    (target / "kdcourse" / "perime.py").write_text("", encoding="utf-8")
    assert release(project, str(target)).returncode == 0
    return target


@cache
def texts(tree: Path) -> dict[str, str]:
    files = {path.relative_to(tree).as_posix(): path for path in tree.rglob("*") if path.is_file()}
    return {name: path.read_text(encoding="utf-8") for name, path in files.items() if path.suffix != ".gif"}


def exercises(folder: Path) -> list[dict]:
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.ipynb"))]


def lines(text: str) -> set[str]:
    """Les lignes assez longues pour ne pas se ressembler par hasard, aux espaces près."""
    normal = (" ".join(line.split()) for line in text.splitlines())
    return {line for line in normal if len(line) > 25}


def source_cells(project: Path) -> list[str]:
    folders = sorted((project / "exercises/source").iterdir())
    return ["".join(c["source"]) for folder in folders for notebook in exercises(folder) for c in notebook["cells"]]


REGION = re.compile(r"### BEGIN (?:SOLUTION|HIDDEN TESTS)\n(.*?)\n\s*### END (?:SOLUTION|HIDDEN TESTS)", re.S)


def test_aucune_ligne_de_solution_ne_sort(project, tree):
    cells = source_cells(project)
    answers = set().union(*(lines(region) for text in cells for region in REGION.findall(text)))
    assert {CANARY, COMMENT_CANARY} <= answers
    # Une ligne que l'énoncé ou un chapitre montre déjà n'apprend rien.
    chapters = [path.read_text(encoding="utf-8") for path in sorted((ROOT / "sources").glob("10_*.py"))]
    shown = set().union(*map(lines, chapters), *(lines(REGION.sub("", text)) for text in cells))
    secret = answers - shown
    assert len(secret) > 0.8 * len(answers)
    found = {}
    for name, text in texts(tree).items():
        if name.endswith(".ipynb"):
            text = "\n".join("".join(c["source"]) for c in json.loads(text)["cells"])
        if leaked := lines(text) & secret:
            found[name] = leaked
    assert found == {}
    assert not [name for name, text in texts(tree).items() if CANARY in text]


@pytest.mark.parametrize(
    "word", ["BEGIN SOLUTION", "HIDDEN TESTS", "kdgrading", "MISTAKES", "[auteur]", "[/auteur]", "étudiants]"]
)
def test_un_mot_du_correcteur_ne_sort_pas(tree, word):
    assert [name for name, text in texts(tree).items() if word in text] == []


def code_lines(text: str) -> set[str]:
    return {line for line in lines(text) if not line.startswith(("import ", "from "))}


def test_aucune_reference_ni_autre_fonction_du_correcteur_ne_sort(project, tree):
    assert not (tree / "kdgrading").exists()
    hidden = {path: code_lines(path.read_text("utf-8")) for path in (project / "kdgrading").rglob("*.py")}
    assert len(hidden) > 10
    # Deux lignes peuvent se ressembler ; une fonction entière en partagerait davantage.
    shared = [
        (p, name) for p, held in hidden.items() for name, t in texts(tree).items() if len(held & code_lines(t)) > 2
    ]
    assert shared == []


def test_les_exercices_sont_vierges_et_nomment_chaque_fonction_notee(project, tree):
    released = {path.stem for path in (tree / "exercises").glob("*.ipynb")}
    assert released == {path.name for path in (project / "exercises/source").iterdir()}
    for notebook in exercises(tree / "exercises"):
        code = [c for c in notebook["cells"] if c["cell_type"] == "code"]
        assert [c for c in code if c["outputs"] or c["execution_count"]] == []
    text = "\n".join("".join(c["source"]) for n in exercises(tree / "exercises") for c in n["cells"])
    assert len(released) > 4  # celui de ces tests compris
    for function in itertools.chain(*ANSWERS.values()):
        assert f"def {function}(" in text
    assert "à compléter" in text


def test_tout_fichier_est_suivi_par_git_ou_un_exercice(project, tree):
    tracked = set(git(project, "ls-files").splitlines())
    assert sorted(set(texts(tree)) - tracked) == sorted(f"exercises/{p.name}" for p in (tree / "exercises").iterdir())
    assert not (tree / "kdcourse" / "brouillon.py").exists()


def test_aucun_chemin_de_la_machine_ne_sort(project, tree):
    for place in (str(ROOT), str(project), str(Path.home()) + "/"):
        assert [name for name, text in texts(tree).items() if place in text] == []


def test_l_archive_contient_l_arbre_et_se_refait_a_l_identique(tree, again):
    with zipfile.ZipFile(tree.parent / "kdcourse.zip") as archive:
        packed = {name.removeprefix("kdcourse/"): archive.read(name) for name in archive.namelist()}
    assert packed == {p.relative_to(tree).as_posix(): p.read_bytes() for p in tree.rglob("*") if p.is_file()}
    assert (again / "kdcourse.zip").read_bytes() == (tree.parent / "kdcourse.zip").read_bytes()


def test_un_remplacement_qui_echoue_rend_l_ancien_dossier(tmp_path, monkeypatch):
    final, partial = tmp_path / "site", tmp_path / "partiel"
    for folder, text in ((final, "ancien"), (partial, "nouveau")):
        folder.mkdir()
        (folder / "index.html").write_text(text)
    moved = os.replace

    def full(source, target):
        if Path(source) == partial:
            raise OSError("No space left on device")
        moved(source, target)

    monkeypatch.setattr(make_release.os, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        make_release.put(partial, final)
    assert (final / "index.html").read_text() == "ancien" and partial.exists()
    monkeypatch.setattr(make_release.os, "replace", moved)
    final.rename(tmp_path / "site.ancien")  # tué entre les deux
    make_release.put(partial, final)
    assert (final / "index.html").read_text() == "nouveau" and not (tmp_path / "site.ancien").exists()


def test_le_site_construit_est_joint_et_celui_d_une_version_passee_ne_reste_pas(tree, project):
    assert not (tree.parent / "kdcourse-site.zip").exists()
    pages = {"index.html": "<p>Accueil</p>", "_static/a.png": "image"}
    for name, content in pages.items():
        (project / "build/site" / name).parent.mkdir(parents=True, exist_ok=True)
        (project / "build/site" / name).write_text(content, encoding="utf-8")
    assert "kdcourse-site.zip" in release(project).stdout
    with zipfile.ZipFile(tree.parent / "kdcourse-site.zip") as archive:
        assert {name: archive.read(name).decode() for name in archive.namelist()} == {
            f"kdcourse-site/{name}": content for name, content in pages.items()
        }
    shutil.rmtree(project / "build")
    assert "make site" in release(project).stdout
    assert not (tree.parent / "kdcourse-site.zip").exists()


def test_chaque_entree_de_l_archive_est_datee_du_commit(project, tree):
    committed = time.gmtime(int(git(project, "log", "-1", "--format=%ct")))[:6]
    with zipfile.ZipFile(tree.parent / "kdcourse.zip") as archive:
        found = {entry.date_time for entry in archive.infolist()}
    assert found == {(*committed[:5], committed[5] // 2 * 2)}  # zip compte les secondes deux par deux


def test_une_mise_a_jour_de_meme_taille_est_bien_celle_qui_s_execute(tmp_path, monkeypatch):
    """Décompressée sur l'ancienne version, dont Python a déjà gardé le .pyc."""
    import importlib

    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    for number, day in ((1, (2026, 1, 1, 0, 0, 0)), (2, (2026, 2, 1, 0, 0, 0))):
        monkeypatch.setattr(make_release, "commit_date", lambda day=day: day)
        make_release.write({"essai_de_version.py": f"VERSION = {number}\n".encode()}, tmp_path / "release")
        # Comme unzip : chaque fichier garde la date de son entrée.
        with zipfile.ZipFile(tmp_path / "release/kdcourse.zip") as archive:
            for entry in archive.infolist():
                (tmp_path / Path(entry.filename).name).write_bytes(archive.read(entry))
                stamp = time.mktime((*entry.date_time, 0, 0, -1))
                os.utime(tmp_path / Path(entry.filename).name, (stamp, stamp))
        importlib.invalidate_caches()
        sys.modules.pop("essai_de_version", None)
        assert importlib.import_module("essai_de_version").VERSION == number


def test_un_dossier_qui_s_ecarte_du_dernier_commit_est_date_d_aujourd_hui(project, tree):
    path = project / "LICENSE"
    before = path.read_text(encoding="utf-8")
    path.write_text(before + "\n", encoding="utf-8")
    try:
        command = [sys.executable, "-c", "import make_release; print(make_release.commit_date()[:3])"]
        out = subprocess.run(command, cwd=project / "tools", capture_output=True, text=True, check=True).stdout
    finally:
        path.write_text(before, encoding="utf-8")
    assert out.strip() in {str(time.gmtime(moment)[:3]) for moment in (time.time(), time.time() - 60)}


def test_le_paquet_s_installe_s_importe_et_verifie_un_exercice(tree, tmp_path):
    copied = shutil.copytree(tree, tmp_path / "copie")  # pip y laisserait ses fichiers
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation", "--no-index"]
    subprocess.run([*install, "--target", str(tmp_path / "site"), str(copied)], check=True, capture_output=True)
    code = """
import kdcourse
for name in kdcourse.__all__:
    getattr(kdcourse, name)
from kdcourse.exercises.checking import EXERCISES
from kdcourse.exercises.graded import ANSWERS
for name in EXERCISES:
    assert kdcourse.check(name, lambda *inputs: None) is False
for name, answers in ANSWERS.items():
    assert kdcourse.check(name, *[lambda *inputs, **options: print("à compléter")] * len(answers)) is False
print(kdcourse.__file__)
"""
    environment = os.environ | {"PYTHONPATH": str(tmp_path / "site"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code]
    process = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    assert process.stdout.count("à compléter") >= 10
    assert process.stdout.splitlines()[-1] == str(tmp_path / "site/kdcourse/__init__.py")
    assert {p.suffix for p in (tmp_path / "site/kdcourse").rglob("*") if p.is_file()} >= {".json", ".py"}
    ours = {p.relative_to(tree).as_posix() for p in (tree / "kdcourse").rglob("*") if p.is_file()}
    assert [name for name in ours if not (tmp_path / "site" / name).exists()] == []


def test_pyproject_ne_propose_que_ce_que_l_etudiant_installe(tree):
    project = tomllib.loads((tree / "pyproject.toml").read_text(encoding="utf-8"))
    original = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert list(project["project"].pop("optional-dependencies")) == ["cours", "lab"]
    original["project"].pop("optional-dependencies")
    assert project["project"] == original["project"]
    assert list(project["tool"]) == ["setuptools"] and project["tool"]["setuptools"] == original["tool"]["setuptools"]


def test_make_ouvre_jupyterlab_sur_les_chapitres_et_les_exercices(tree):
    help_text = subprocess.run(["make", "help"], cwd=tree, capture_output=True, text=True, check=True).stdout
    assert re.findall(r"^make (\w+)", help_text, re.M) == ["lab", "clean"]
    plan = subprocess.run(["make", "-n", "lab"], cwd=tree, capture_output=True, text=True, check=True).stdout
    assert "--ServerApp.root_dir=." in plan and "exercises/perso" in plan and '-e ".[lab]"' in plan


def test_git_ignore_les_copies_de_l_etudiant_et_rien_de_ce_qu_il_recoit(tree, tmp_path):
    copied = shutil.copytree(tree, tmp_path / "clone")
    git(copied, "init", "--quiet")
    own = ["notebooks/perso/10_01.ipynb", "exercises/perso/multi_teacher.ipynb", ".venv/bin/python"]
    assert git(copied, "check-ignore", *own).splitlines() == own
    everything = [path.relative_to(copied).as_posix() for path in copied.rglob("*") if ".git/" not in str(path)]
    ignored = subprocess.run(["git", "check-ignore", *everything], cwd=copied, capture_output=True, text=True)
    assert ignored.stdout == ""


def test_le_readme_nomme_chaque_exercice_par_son_titre(project, tree):
    text = (tree / "README.md").read_text(encoding="utf-8")
    for path in sorted((tree / "exercises").glob("*.ipynb")):
        if path.stem == "essai":  # celui de ces tests
            continue
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        title = re.search(r"^# (.+)$", "\n".join("".join(c["source"]) for c in cells), re.M)[1]
        assert f"[{title}](exercises/{path.name})".replace("\u00a0", " ") in text


@pytest.mark.parametrize(
    "text, kept",
    [
        ("a\n# [auteur]\nb\n# [/auteur]\nc\n", "a\nc\n"),
        ("a\n<!-- [auteur] -->\nb\n<!-- [/auteur] -->\nc\n", "a\nc\n"),
        ("\techo a # [auteur]\nb\n", "b\n"),
        ("a <!-- [auteur] -->\nb\n", "b\n"),
        ("<!-- [étudiants]\n## Rendre\n[/étudiants] -->\nb\n", "## Rendre\nb\n"),
    ],
)
def test_une_marque_ote_ou_montre_ce_qu_elle_couvre(text, kept):
    assert make_release.for_students("README.md", text) == kept


@pytest.mark.parametrize(
    "text",
    [
        "# [auteur]\nb\n",
        "a\n# [/auteur]\n",
        "# [auteur]\n# [auteur]\nb\n# [/auteur]\n",
        "a # [/auteur]\n",
        "<!-- [étudiants]\nb\n",
        "b\n[/étudiants] -->\n",
        "# [auteur]\nb\n[/étudiants] -->\n",
    ],
)
def test_une_marque_orpheline_arrete_la_publication(text):
    with pytest.raises(SystemExit, match=r"Makefile.*(marque qui ne répond à aucune|n'est pas fermé par)"):
        make_release.for_students("Makefile", text)


def test_un_lien_du_readme_que_git_ne_suit_pas_arrete_la_publication(project, tree):
    path = project / "README.md"
    before = path.read_text(encoding="utf-8")
    path.write_text(before + "\n[10.7](notebooks/10_07_Essai.ipynb)\n", encoding="utf-8")
    try:
        process = release(project)
    finally:
        path.write_text(before, encoding="utf-8")
    assert process.returncode == 1 and "README.md mène à notebooks/10_07_Essai.ipynb" in process.stderr


def test_le_readme_ne_renvoie_qu_a_ce_qui_est_la(tree):
    text = (tree / "README.md").read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)]+)\)", text) if "://" not in link]
    assert len(links) > 8 and [link for link in links if not (tree / link).exists()] == []
    assert not re.search(r"make test|sources/|tests/|benchmarks|CONTRIBUTING|CHANGELOG", text)


def test_une_solution_restee_arrete_tout_et_garde_l_ancienne_version(project, tree):
    source = project / "exercises/source/essai/essai.ipynb"
    config = project / "exercises/nbgrader_config.py"
    before = {path: path.read_text(encoding="utf-8") for path in (source, config)}
    left = cell(f"### BEGIN SOLUTION\n{CANARY}\n### END SOLUTION", "libre", solution=False, locked=True)
    source.write_text(exercise(left), encoding="utf-8")
    # nbgrader n'efface plus rien : reste le contrôle de make_release.
    config.write_text(before[config] + "\nc.GenerateAssignment.preprocessors = []\n", encoding="utf-8")
    archive = (tree.parent / "kdcourse.zip").read_bytes()
    try:
        process = release(project)
    finally:
        for path, text in before.items():
            path.write_text(text, encoding="utf-8")
    assert process.returncode == 1
    assert "exercises/essai.ipynb contient « BEGIN SOLUTION »" in process.stderr
    assert (tree.parent / "kdcourse.zip").read_bytes() == archive and tree.exists()


def test_le_depot_public_garde_son_histoire(again):
    assert (again / "kdcourse" / ".git" / "HEAD").read_text(encoding="utf-8") == "ref: refs/heads/main\n"
    assert not (again / "kdcourse" / "perime.py").exists()
    assert sorted(path.name for path in again.iterdir()) == ["kdcourse", "kdcourse.zip"]


def test_des_notebooks_sans_la_nouvelle_adresse_ne_sortent_pas(project, tree):
    pyproject = project / "pyproject.toml"
    before = pyproject.read_text(encoding="utf-8")
    line = 'public_repository = "https://github.com/compte/ailleurs"'
    pyproject.write_text(re.sub(r"^public_repository = .*$", line, before, flags=re.M), encoding="utf-8")
    try:
        process = release(project)
    finally:
        pyproject.write_text(before, encoding="utf-8")
    assert process.returncode == 1 and "que make notebooks écrit" in process.stderr and tree.exists()
