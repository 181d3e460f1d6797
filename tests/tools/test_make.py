"""``make lab`` avec un faux Python, qui note ce qu'on lui demande : ni réseau, ni installation."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent.parent
# Il note sa ligne de commande et ce que pip lirait ; il crée un .venv qui contient sa copie.
STUB = """#!/bin/sh
echo "$* PIP_USER=$PIP_USER PYTHONPATH=$PYTHONPATH PIP_TARGET=$PIP_TARGET" >> "{log}"
case "$*" in
  "-m venv --clear .venv") rm -rf .venv; mkdir -p .venv/bin; touch .venv/pyvenv.cfg; cp "$0" .venv/bin/python;;
  "-m pip --version") [ ! -e .venv/sans-pip ];;
  "-m ensurepip --upgrade") [ ! -e .venv/sans-ensurepip ] && rm -f .venv/sans-pip;;
  "-c import sys, venv"*) [ ! -e .venv/ancien ];;
  "-c import torch") false;;
  "--version") echo "Python 3.12";;
  *"--index-url"*) [ -e index-repond ];;
  "-c import torchvision") [ ! -e desaccord ];;
esac
"""


@pytest.fixture
def project(tmp_path):
    project = tmp_path / "cours"
    for name in ("Makefile", "pyproject.toml", "tools/jupyterlab_overrides.json", "kdgrading/pyproject.toml"):
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, project / name)
    stub = tmp_path / "bin/python3"
    stub.parent.mkdir()
    stub.write_text(STUB.format(log=tmp_path / "journal"), encoding="utf-8")
    stub.chmod(0o755)
    return project


def make(project: Path, *arguments: str, goal: str = "lab", **variables: str):
    """Ce que ``make`` imprime, et ce que le faux Python a reçu."""
    log = project.parent / "journal"
    log.unlink(missing_ok=True)
    environment = os.environ | {"PATH": f"{project.parent / 'bin'}:/usr/bin:/bin", "DISPLAY": ":0"} | variables
    done = subprocess.run(["make", goal, "NVIDIA=/absent", *arguments], cwd=project, env=environment,
                          capture_output=True, text=True)  # fmt: skip
    return done, log.read_text(encoding="utf-8").splitlines() if log.exists() else []


def installs(calls: list[str]) -> list[str]:
    return [call for call in calls if "pip install" in call and "--index-url" not in call]


def test_la_premiere_fois_installe_et_la_seconde_non(project):
    done, calls = make(project)
    assert done.returncode == 0, done.stderr
    assert "créé avec Python 3.12" in done.stdout and len(installs(calls)) == 1 and "jupyterlab" in calls[-1]
    done, calls = make(project)
    assert installs(calls) == [] and "jupyterlab" in calls[-1] and "créé" not in done.stdout


@pytest.mark.parametrize("name", ["pyproject.toml", "tools/jupyterlab_overrides.json"])
def test_une_mise_a_jour_se_voit_a_son_contenu_et_non_a_sa_date(project, name):
    make(project)
    path = project / name
    before = path.stat()
    path.write_bytes(path.read_bytes().replace(b"e", b"o", 1))  # de même taille, et datée d'avant l'installation
    os.utime(path, ns=(before.st_atime_ns - 10**15, before.st_mtime_ns - 10**15))
    assert len(installs(make(project)[1])) == 1
    assert installs(make(project)[1]) == []


def test_un_dossier_deplace_se_reinstalle_sans_perdre_son_environnement(project):
    make(project)
    (project / ".venv/paquet").touch()
    moved = project.rename(project.with_name("ailleurs"))
    done, calls = make(moved)
    assert done.returncode == 0 and len(installs(calls)) == 1 and (moved / ".venv/paquet").exists()


def test_un_python_desinstalle_se_dit_et_l_environnement_se_refait(project):
    make(project)
    (project / ".venv/bin/python").unlink()
    (project / ".venv/bin/python").symlink_to("/nulle/part/python3")
    done, calls = make(project)
    assert done.returncode == 0 and "n'est plus là : l'environnement est refait" in done.stdout
    assert len(installs(calls)) == 1 and "jupyterlab" in calls[-1]


@pytest.mark.parametrize("theirs", ["dossier", "fichier", "windows"])
def test_ce_qui_n_est_pas_un_environnement_d_ici_n_est_jamais_efface(project, theirs):
    venv = project / ".venv"
    if theirs == "fichier":
        venv.write_text("à moi", encoding="utf-8")
    else:
        (venv / ("Scripts" if theirs == "windows" else "photos")).mkdir(parents=True)
        (venv / "pyvenv.cfg").touch() if theirs == "windows" else (venv / "photos/une.jpg").touch()
    done, calls = make(project)
    assert done.returncode and ".venv existe, et n'est pas un environnement de ce système" in done.stderr
    assert calls == [] and venv.exists() and (venv.is_file() or any(venv.iterdir()))


def test_un_environnement_d_un_vieux_python_est_refuse_et_garde(project):
    make(project)
    (project / ".venv/ancien").touch()
    done, calls = make(project)
    assert done.returncode and "Le Python de .venv ne convient pas : 3.11, 3.12 ou 3.13 attendu" in done.stderr
    assert installs(calls) == [] and (project / ".venv/ancien").exists()


def test_un_environnement_sans_pip_est_complete_et_garde_ses_paquets(project):
    make(project)
    for name in ("sans-pip", "paquet"):
        (project / ".venv" / name).touch()
    done, calls = make(project)
    assert done.returncode == 0 and (project / ".venv/paquet").exists()
    assert any("-m ensurepip" in call for call in calls)


def test_un_environnement_que_rien_ne_complete_est_refuse_et_garde_ses_paquets(project):
    make(project)
    for name in ("sans-pip", "sans-ensurepip", "paquet"):
        (project / ".venv" / name).touch()
    done, _ = make(project)
    assert done.returncode and "n'a pas pip, et ensurepip ne le lui donne pas" in done.stderr
    assert (project / ".venv/paquet").exists()


def test_les_reglages_des_autres_python_n_entrent_pas(project):
    _, calls = make(project, PIP_USER="1", PYTHONPATH="/ailleurs", PIP_TARGET="/ailleurs")
    assert {call.split(" PIP_USER=")[1] for call in calls} == {"0 PYTHONPATH= PIP_TARGET="}


@pytest.mark.skipif(os.geteuid() == 0, reason="root écrit partout.")
def test_un_dossier_en_lecture_seule_se_dit(project):
    project.chmod(0o555)
    try:
        done, _ = make(project)
    finally:
        project.chmod(0o755)
    assert done.returncode and "en lecture seule : copiez-le chez vous" in done.stderr


def test_sans_gpu_torch_pour_processeur_est_demande_une_fois_et_un_index_muet_n_arrete_rien(project):
    done, calls = make(project)
    (asked,) = [call for call in calls if "--index-url" in call]
    assert "https://download.pytorch.org/whl/cpu torch>=2.11 torchvision" in asked
    assert "--isolated" in asked and "--timeout 10 --retries 0" in asked  # aucun autre index ne s'y mêle
    assert "ne répond pas : pip prend le torch de votre index habituel" in done.stdout and len(installs(calls)) == 1


def test_sans_gpu_l_index_qui_repond_suffit(project):
    (project / "index-repond").touch()
    done, _ = make(project)
    assert "torch pour processeur" in done.stdout and "ne répond pas" not in done.stdout


def test_un_torchvision_qui_ne_va_pas_avec_torch_est_ote_et_pip_choisit(project):
    for name in ("index-repond", "desaccord"):
        (project / name).touch()
    done, calls = make(project)
    assert any("pip uninstall --quiet --yes torch torchvision" in call for call in calls)
    assert "pip prend le torch de votre index habituel" in done.stdout and len(installs(calls)) == 1


@pytest.mark.parametrize(
    ("arguments", "variables"),
    [(["TORCH=default"], {}), ([], {"TORCH": "default"}), ([f"NVIDIA={__file__}"], {})],
    ids=["demandé", "par l'environnement", "GPU"],
)
def test_avec_un_gpu_ou_sur_demande_pip_choisit(project, arguments, variables):
    _, calls = make(project, *arguments, **variables)
    assert [call for call in calls if "--index-url" in call] == [] and len(installs(calls)) == 1


def test_make_check_installe_le_cote_de_l_auteur_et_lab_n_a_plus_rien_a_faire(project):
    done, calls = make(project, goal="check")
    assert done.returncode == 0, done.stderr
    assert [call for call in installs(calls) if "-e ./kdgrading" in call] and any(
        "ruff check" in call for call in calls
    )
    assert installs(make(project)[1]) == []
    assert installs(make(project, goal="check")[1]) == []
    (project / "kdgrading/pyproject.toml").write_text("# changé\n", encoding="utf-8")
    assert len(installs(make(project, goal="check")[1])) == 1
