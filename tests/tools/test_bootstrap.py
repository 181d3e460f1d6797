"""La pastille Colab et la première cellule de code : ce que l'adresse du dépôt public y met, ce que Colab en fait."""

import importlib.util
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import bootstrap
import build_notebooks
import nbformat
import pytest
import run_colab

from kdcourse import describe_environment

ROOT = Path(__file__).parent.parent.parent

SOURCES = [*sorted((ROOT / "sources").glob("10_*.py")), *sorted((ROOT / "sources/exercises").glob("*.py"))]
ADDRESS = "https://github.com/compte/cours"


@pytest.fixture(params=SOURCES, ids=lambda path: path.stem)
def source(request):
    return request.param


def cell(address: str = ADDRESS) -> str:
    """La première cellule de code d'un chapitre, à cette adresse."""
    return build_notebooks.read_source(SOURCES[0], address).cells[1].source


@pytest.fixture
def colab(monkeypatch):
    """Google Colab, vu de la cellule : ce que ``find_spec`` trouve, ce que pip reçoit, ce qu'il répond."""
    seen = SimpleNamespace(kdcourse=None, commands=[], returncode=0)

    def find_spec(name, package=None):
        if name in ("google", "google.colab"):
            return SimpleNamespace(origin="ici")
        return seen.kdcourse

    def run(command, **_):
        seen.commands.append(command)
        seen.kdcourse = seen.kdcourse if seen.returncode else SimpleNamespace(origin="installé")
        return SimpleNamespace(returncode=seen.returncode)

    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(subprocess, "run", run)
    return seen


def test_chaque_notebook_a_une_seule_cellule_d_amorce_juste_apres_son_titre(source):
    cells = build_notebooks.read_source(source, "").cells
    assert [index for index, c in enumerate(cells) if bootstrap.TAG in c.metadata.get("tags", ())] == [1]
    assert cells[0].cell_type == "markdown" and cells[0].source.startswith("# ")


def test_sans_adresse_aucun_lien_vers_colab_ni_installation(source):
    text = "\n".join(c.source for c in build_notebooks.read_source(source, "").cells)
    assert "colab.research.google.com" not in text and "git+" not in text


def test_la_pastille_ouvre_le_notebook_du_depot_public(source):
    folder = "exercises" if source.parent.name == "exercises" else "notebooks"
    first = build_notebooks.read_source(source, ADDRESS).cells[0].source
    link = f"https://colab.research.google.com/github/compte/cours/blob/main/{folder}/{source.stem}.ipynb"
    assert first.startswith("[![Ouvrir dans Colab](") and f"]({link})" in first.splitlines()[0]
    assert "\n# " in first


def test_colab_n_ouvre_que_github_ailleurs_la_cellule_installe_sans_pastille():
    cells = build_notebooks.read_source(SOURCES[0], "https://git.example.org/cours").cells
    assert "colab" not in cells[0].source and "kdcourse[cours] @ git+https://git.example.org/cours" in cells[1].source


def test_l_adresse_ne_change_que_deux_cellules(source):
    bare, full = (build_notebooks.read_source(source, address).cells for address in ("", ADDRESS))
    assert len(bare) == len(full)
    assert [i for i, pair in enumerate(zip(bare, full, strict=True)) if pair[0].source != pair[1].source] == [0, 1]


def test_une_nouvelle_adresse_remplace_l_ancienne():
    once, twice, bare = (build_notebooks.read_source(SOURCES[0], a) for a in (ADDRESS, "file:///ailleurs", ""))
    bootstrap.stamp(twice, "notebooks/10_01_Principes.ipynb", ADDRESS)
    assert [c.source for c in twice.cells] == [c.source for c in once.cells]
    bootstrap.stamp(twice, "notebooks/10_01_Principes.ipynb", "")
    assert [c.source for c in twice.cells] == [c.source for c in bare.cells]


def test_changer_l_adresse_fait_deriver_les_notebooks(tmp_path, monkeypatch):
    source = tmp_path / "10_99_Essai.py"
    source.write_text('# %% [markdown]\n# # Essai\n\n# %% tags=["bootstrap"]\n1 + 1\n', encoding="utf-8")
    monkeypatch.setattr(build_notebooks, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(bootstrap, "public_repository", lambda: "")
    nbformat.write(build_notebooks.read_source(source), tmp_path / "10_99_Essai.ipynb")
    assert "exécutées" in build_notebooks.drift(source)  # seule l'exécution manque
    monkeypatch.setattr(bootstrap, "public_repository", lambda: ADDRESS)
    assert "la cellule 1 diffère" in build_notebooks.drift(source)


def test_hors_de_colab_la_cellule_n_installe_rien_et_n_imprime_que_les_versions(monkeypatch, capfd):
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: pytest.fail("pip a été appelé"))
    exec(cell(), {})
    out, err = capfd.readouterr()
    assert out == describe_environment() + "\n" and "Drive" not in out and err == ""


def test_hors_de_colab_un_kdcourse_absent_ne_s_installe_pas_seul(colab, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name, package=None: None)
    with pytest.raises(ModuleNotFoundError, match="Ce noyau n'a pas kdcourse"):
        exec(cell(), {})
    assert colab.commands == []


@pytest.mark.parametrize("spec", [None, SimpleNamespace(origin=None)], ids=["absent", "dossier"])
def test_un_noyau_sans_kdcourse_le_dit_en_une_phrase_avec_l_issue(spec, monkeypatch):
    found = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name, *rest: spec if name == "kdcourse" else found(name, *rest)
    )
    with pytest.raises(ModuleNotFoundError, match="Ce noyau n'a pas kdcourse : choisissez celui de .venv"):
        exec(cell(), {})


def test_sur_colab_la_cellule_installe_le_cours_et_son_extra(colab):
    exec(cell(), {})
    (command,) = colab.commands
    assert command[:4] == [sys.executable, "-m", "pip", "install"]
    assert command[4:] == ["--quiet", f"kdcourse[cours] @ git+{ADDRESS}"]  # sans --upgrade : torch, s'il suffit, reste


def test_sur_colab_la_deuxieme_execution_n_installe_rien(colab):
    colab.kdcourse = SimpleNamespace(origin="kdcourse/__init__.py")
    exec(cell(), {})
    assert colab.commands == []


def test_un_dossier_nomme_kdcourse_n_est_pas_le_paquet(colab):
    colab.kdcourse = SimpleNamespace(origin=None)
    exec(cell(), {})
    assert len(colab.commands) == 1


def test_une_installation_manquee_se_dit_en_une_phrase_avec_l_issue(colab):
    colab.returncode = 1
    with pytest.raises(
        RuntimeError, match=r"^kdcourse\[cours\] @ git\+https://.* ne s'installe pas\. Vérifiez le réseau"
    ):
        exec(cell(), {})


def test_sur_colab_on_apprend_a_garder_sa_copie(monkeypatch):
    monkeypatch.setattr("kdcourse.environment.on_colab", lambda: True)
    assert describe_environment().endswith("Fichier > Enregistrer une copie dans Drive, dès maintenant.")


@pytest.mark.parametrize(
    "address",
    [
        "git@github.com:compte/cours", "github.com/compte/cours", "https://a b", 3, "https://", "https://github.com/x",
        "https://github.com/x/y/tree/main", "https://github.com/x/y?tab=r", "https://github.com/x/y#lisez",
        "https://qui:secret@github.com/x/y", "https://www.github.com/x/y", "https://github.com/COMPTE/DÉPÔT",
    ],
)  # fmt: skip
def test_une_adresse_que_pip_ne_lirait_pas_est_refusee(address, tmp_path):
    with pytest.raises(SystemExit, match="^public_repository : .* reçu, .*attendue"):
        bootstrap.check_address(address)


@pytest.mark.parametrize("written", [ADDRESS, ADDRESS + "/", ADDRESS + ".git"])
def test_l_adresse_se_lit_dans_pyproject(written, tmp_path):
    (tmp_path / "pyproject.toml").write_text(f'[tool.kdcourse]\npublic_repository = "{written}"\n', encoding="utf-8")
    assert bootstrap.public_repository(tmp_path / "pyproject.toml") == ADDRESS


def test_le_depot_public_ne_s_ecrit_pas_dans_celui_que_git_designe(tmp_path, monkeypatch):
    author = tmp_path / "auteur"
    subprocess.run(["git", "init", "--quiet", str(author)], check=True)
    monkeypatch.setenv("GIT_DIR", str(author / ".git"))
    run_colab.publish({"LICENSE": b"x"}, tmp_path / "depot")
    assert (tmp_path / "depot" / ".git").is_dir() and not list((author / ".git/refs/heads").iterdir())


def test_la_cellule_n_ajoute_rien_a_la_reponse_d_un_etudiant():
    from slicing import slice_answer

    answer = "import sys\ndef course(x):\n    return x\nfound = 3\ndef f(x):\n    return course(found) + sys.maxsize"
    bare, full = (slice_answer([["code", first], ["code", answer]], ["f"]) for first in (cell(""), cell()))
    assert "sys.maxsize" in full["sources"]["f"] and full["code"] == bare["code"]


def test_les_notebooks_de_colab_ne_doivent_ajouter_que_kdcourse(capsys):
    before = {"torch": "2.11.0", "numpy": "2.1.3"}
    assert run_colab.unchanged(before, before | {"kdcourse": "0.1.0"}) == 0
    assert run_colab.unchanged(before, before | {"kdcourse": "0.1.0", "numpy": "2.4.6"}) == 1
    assert run_colab.unchanged(before, before) == 1  # rien d'installé : un autre kdcourse a répondu
    assert "'numpy': '2.4.6'" in capsys.readouterr().err
