"""Corriger des copies de multi_teacher : nbgrader tel quel, qui exécute chaque notebook, contre le correcteur isolé.

Les deux corrigent les mêmes copies par la même commande, ``nbgrader autograde``, l'une après l'autre. Le notebook est
réduit à ses imports, à la réponse et aux cellules notées : le correcteur isolé n'exécute jamais l'entraînement, et le
laisser à l'autre l'avantagerait. Les tests donnés à nbgrader tel quel sont les mêmes cas, comparés dans le noyau.
"""

import ast
import os
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import nbformat

from benchmarks._report import publish, targets
from kdcourse.command_line import FrenchParser, positive
from kdcourse.formats import french

ROOT = Path(__file__).resolve().parent.parent
ASSIGNMENT = "multi_teacher"
CRITERIA = ("ex1-probabilites", "ex1-logits", "ex1-poids", "ex1-gradient", "ex1-limites")
# La même exigence que le correcteur isolé, écrite comme un enseignant l'écrirait dans une cellule de test.
STOCK_TEST = """### BEGIN HIDDEN TESTS
from kdgrading.mark_multi_teacher import QUESTION
from kdgrading.reference_multi_teacher import reference

for _case in QUESTION.draw(1):
    if _case.criterion == {criterion!r}:
        _value, _gradient = QUESTION.solve(_case, reference)
        _student, _teachers, _labels = _case.inputs
        _leaf = _student.clone().requires_grad_()
        _teachers = [t + _leaf if _case.tied else t for t in _teachers]
        _result = multi_teacher_loss(_leaf, _teachers, _labels, **_case.options)
        assert torch.allclose(_result.double(), _value, rtol=5e-5, atol=2e-5)
        if _case.tied:
            assert torch.allclose(torch.autograd.grad(_result, _leaf)[0].double(), _gradient, rtol=1e-3, atol=1e-5)
### END HIDDEN TESTS"""


def main(argv: list[str] | None = None) -> None:
    parser = FrenchParser("python -m benchmarks grading", __doc__.splitlines()[0])
    parser.add_argument("--copies", type=positive, default=40, help="copies à corriger (40 par défaut)")
    options = parser.parse_args(argv)
    if shutil.which("bwrap") is None:
        raise SystemExit("bubblewrap, sans qui l'isolation ne se mesure pas, est absent : apt install bubblewrap.")
    with tempfile.TemporaryDirectory(prefix="kdcourse-") as folder:
        times = {name: _grade(Path(folder, name), name == "isolé", options.copies) for name in ("isolé", "tel quel")}
    ratio = times["tel quel"] / times["isolé"]
    print(f"{options.copies} copies de multi_teacher, nbgrader {version('nbgrader')}")
    for name, seconds in times.items():
        print(f"  {name:<9}{french(seconds):>7} s, soit {french(seconds / options.copies, 2)} s par copie")
    print(f"  rapport  {french(ratio):>7}")
    result = {
        "copies": options.copies,
        "nbgrader": version("nbgrader"),
        "isolated_s": round(times["isolé"], 2),
        "stock_s": round(times["tel quel"], 2),
        "ratio": round(ratio, 2),
        "targets": targets({"au moins 5 fois plus vite que nbgrader tel quel": ratio >= 5}),
    }
    publish("grading", result, whole=options.copies >= 40)


def _grade(course: Path, isolated: bool, copies: int) -> float:
    """Secondes d'une correction complète, lancement de nbgrader compris ; les notes sont vérifiées."""
    source = course / "source" / ASSIGNMENT / f"{ASSIGNMENT}.ipynb"
    source.parent.mkdir(parents=True)
    solution = _reduced(nbformat.read(ROOT / "exercises" / "source" / ASSIGNMENT / source.name, as_version=4))
    if isolated:
        shutil.copy(ROOT / "exercises" / "nbgrader_config.py", course)
    else:
        (course / "nbgrader_config.py").write_text("c = get_config()\nc.CourseDirectory.course_id = 'kdcourse'\n")
        for cell in solution.cells:
            name = cell.metadata.get("nbgrader", {}).get("grade_id")
            if name in CRITERIA:
                cell.source = STOCK_TEST.format(criterion=name)
    nbformat.write(solution, source)
    _nbgrader(course, "generate_assignment")
    for number in range(copies):
        copy = course / "submitted" / f"eleve_{number:02}" / ASSIGNMENT / source.name
        copy.parent.mkdir(parents=True)
        shutil.copy(source, copy)
    start = time.perf_counter()
    _nbgrader(course, "autograde")
    seconds = time.perf_counter() - start
    _check_scores(course, copies)
    return seconds


def _reduced(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    for cell in notebook.cells:
        if cell.cell_type == "code" and "nbgrader" not in cell.metadata:
            nodes = [node for node in ast.parse(cell.source).body if isinstance(node, ast.Import | ast.ImportFrom)]
            cell.source = "\n".join(map(ast.unparse, nodes))
    graded = [cell for cell in notebook.cells if "nbgrader" in cell.metadata]
    imports = [cell for cell in notebook.cells if cell.cell_type == "code" and cell not in graded and cell.source]
    notebook.cells = imports + graded
    return notebook


def _nbgrader(course: Path, command: str) -> None:
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # alembic doit s'y trouver
    line = [sys.executable, "-m", "nbgrader", command, ASSIGNMENT]
    done = subprocess.run(line, cwd=course, env=os.environ | {"PATH": path}, capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"nbgrader {command} a échoué :\n{done.stderr[-2000:]}")


def _check_scores(course: Path, copies: int) -> None:
    from nbgrader.api import Gradebook

    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        scores = [submission.score for submission in gradebook.assignment_submissions(ASSIGNMENT)]
    if scores != [15.0] * copies:
        raise SystemExit(f"Les copies justes devaient avoir 15 points ; notes reçues : {sorted(set(scores))}.")
