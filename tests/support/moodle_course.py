"""Un cours vide aux vrais réglages, et les vraies commandes : commun aux tests de la collecte et de l'export."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

NAME = "multi_teacher"
CONFIG = Path(__file__).parent.parent.parent / "exercises" / "nbgrader_config.py"


def nbgrader(course: Path, *arguments: str) -> subprocess.CompletedProcess:
    """Lance une commande, sans les réglages nbgrader de la personne qui teste."""
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(course / "reglages"), "PYTHONUTF8": "1"}
    command = [sys.executable, "-m", "nbgrader", *arguments]
    return subprocess.run(command, cwd=course, capture_output=True, text=True, env=environment)


def course_at(path: Path) -> Path:
    path.mkdir()
    shutil.copy(CONFIG, path)
    return path


def find_alembic(patch) -> None:
    """nbgrader appelle ``alembic`` par son nom : un environnement non activé ne le trouverait pas."""
    patch.setenv("PATH", str(Path(sys.executable).parent), prepend=os.pathsep)
