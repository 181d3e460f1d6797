"""Le paquet s'importe vite, expose ses noms, et s'installe comme environment.yml le dit."""

import ast
import importlib
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest
import yaml

import kdcourse

ROOT = Path(__file__).parent.parent


def test_importer_kdcourse_ne_charge_ni_torch_ni_matplotlib():
    code = (
        "import sys, kdcourse; print([m for m in ('torch', 'matplotlib', 'sklearn', 'ipywidgets') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize("name", kdcourse.__all__)
def test_chaque_nom_public_existe_et_se_documente(name):
    value = getattr(kdcourse, name)
    assert value.__doc__ and value.__doc__.strip()


def test_un_nom_inconnu_donne_ceux_qui_existent():
    with pytest.raises(AttributeError, match="'kd_los'.*kd_loss"):
        kdcourse.kd_los  # noqa: B018


# Une perte s'emporte sans le cours : son module n'importe que torch et les contrôles communs.
LOSS_MODULES = ["logits", "features", "relations"]


@pytest.mark.parametrize("name", LOSS_MODULES)
def test_un_module_de_perte_n_importe_que_torch_et_les_controles_communs(name):
    source = Path(importlib.import_module(f"kdcourse.{name}").__file__).read_text(encoding="utf-8")
    imported = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            imported |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(node.module)
    ours = {module for module in imported if module.startswith("kdcourse")}
    assert ours <= {"kdcourse._common", "kdcourse._numerics"}


def test_environment_yml_ne_repete_aucune_dependance():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda, pip = [d for d in environment["dependencies"] if isinstance(d, str)], environment["dependencies"][-1]["pip"]
    assert [d.split(">")[0] for d in conda] == ["python", "pip"]
    assert pip == ["-e .[lab]"]


@pytest.mark.network
def test_la_partie_pip_d_environment_yml_installe_le_cours(tmp_path):
    """Dans un environnement neuf, exactement ce que le fichier nomme ; conda lui-même n'est pas essayé ici."""
    probe = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--retries=0"]
    probe += ["--timeout=10", "-d", str(tmp_path), "jupyterlab-language-pack-fr-FR"]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("Réseau absent : l'installation ne peut pas être essayée.")
    project = tmp_path / "projet"
    project.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "environment.yml"):
        shutil.copy(ROOT / name, project)
    shutil.copytree(ROOT / "kdcourse", project / "kdcourse", ignore=shutil.ignore_patterns("__pycache__"))
    environment = yaml.safe_load((project / "environment.yml").read_text(encoding="utf-8"))
    requirements = project / "pip.txt"
    requirements.write_text("\n".join(environment["dependencies"][-1]["pip"]) + "\n", encoding="utf-8")

    venv.create(tmp_path / "neuf", with_pip=True)
    python = tmp_path / "neuf" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-r", str(requirements)]
    done = subprocess.run(install, cwd=project, capture_output=True, text=True)
    if done.returncode and "NewConnectionError" in done.stderr:
        pytest.skip("Réseau perdu pendant l'installation.")
    assert done.returncode == 0, done.stderr
    code = "import kdcourse; [getattr(kdcourse, name) for name in kdcourse.__all__]; import jupyterlab, jupytext"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
