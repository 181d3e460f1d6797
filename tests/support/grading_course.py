"""Un cours nbgrader jetable : exercises/ copié, un devoir distribué, des copies, la vraie ligne de commande."""

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat
from nbgrader.api import Gradebook, MissingEntry

ROOT = Path(__file__).parent.parent.parent
# nbgrader lance alembic par son seul nom : il le faut dans PATH, même quand l'environnement n'est pas activé.
ENVIRONMENT = os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


@dataclass
class Course:
    """Le dossier du cours et le devoir que l'on y corrige."""

    root: Path
    assignment: str

    @classmethod
    def make(cls, root: Path, assignment: str) -> "Course":
        """Copie exercises/, et distribue un devoir par ``nbgrader generate_assignment``."""
        shutil.copytree(ROOT / "exercises" / "source" / assignment, root / "source" / assignment)
        shutil.copy(ROOT / "exercises" / "nbgrader_config.py", root)
        course = cls(root, assignment)
        course.run("generate_assignment").check_returncode()
        return course

    def run(self, command: str, *options: str, environment: dict | None = None) -> subprocess.CompletedProcess:
        """``nbgrader COMMANDE DEVOIR options`` dans le dossier du cours."""
        line = [sys.executable, "-m", "nbgrader", command, self.assignment, *options]
        return subprocess.run(
            line, cwd=self.root, env=environment or ENVIRONMENT, capture_output=True, text=True, timeout=900
        )

    def notebook(self, folder: str) -> nbformat.NotebookNode:
        """Le notebook de ``source`` (avec la solution) ou de ``release`` (celui de l'élève)."""
        return nbformat.read(self.root / folder / self.assignment / f"{self.assignment}.ipynb", as_version=4)

    def answered(self, code: str, cell: str) -> nbformat.NotebookNode:
        """Le notebook distribué, dont une cellule contient cette réponse."""
        notebook = self.notebook("release")
        find(notebook, cell).source = code
        return notebook

    def submit(self, student: str, notebook: nbformat.NotebookNode | bytes, name: str | None = None) -> Path:
        """Dépose une copie."""
        folder = self.root / "submitted" / student / self.assignment
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / (name or f"{self.assignment}.ipynb")
        path.write_bytes(notebook if isinstance(notebook, bytes) else nbformat.writes(notebook).encode())
        return path

    def scores(self, student: str) -> dict[str, float | None] | None:
        """Note automatique de chaque cellule ; rien si la copie n'a pas été corrigée."""
        with Gradebook(f"sqlite:///{self.root / 'gradebook.db'}") as gradebook:
            try:
                submission = gradebook.find_submission_notebook(self.assignment, self.assignment, student)
            except MissingEntry:
                return None
            return {grade.name: grade.auto_score for grade in submission.grades}

    def graded(self, student: str) -> nbformat.NotebookNode:
        """Le notebook corrigé."""
        path = self.root / "autograded" / student / self.assignment / f"{self.assignment}.ipynb"
        return nbformat.read(path, as_version=4)

    def feedback(self, student: str) -> dict[str, str]:
        """La phrase rendue à l'élève, par critère."""
        cells = [cell for cell in self.graded(student).cells if cell.cell_type == "code" and cell.outputs]
        graded = [cell for cell in cells if cell.metadata.get("nbgrader", {}).get("grade")]
        return {cell.metadata.nbgrader.grade_id: cell.outputs[0].text for cell in graded}


def find(notebook: nbformat.NotebookNode, grade_id: str) -> nbformat.NotebookNode:
    """La cellule de ce nom."""
    return next(c for c in notebook.cells if c.metadata.get("nbgrader", {}).get("grade_id") == grade_id)
