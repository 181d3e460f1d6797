"""Fabrique les notebooks à partir de leurs sources, ou vérifie qu'ils n'en ont pas dérivé.

Un chapitre est exécuté, et gardé avec ses sorties. Un exercice va dans le cours nbgrader sans être exécuté : nbgrader
ôterait les sorties ; ses cellules gardent les métadonnées qu'il lit.

python tools/build_notebooks.py                toutes les sources
python tools/build_notebooks.py 10_01          celles dont le nom commence ainsi
python tools/build_notebooks.py multi_teacher  un exercice, de même
python tools/build_notebooks.py --check    compare seulement le code et la prose ; code de sortie 1 s'ils diffèrent
"""

import argparse
import hashlib
import os
import sys
import time
from pathlib import Path

import bootstrap
import chapter_rules
import jupytext
import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from kdcourse.formats import typeset

ROOT = Path(__file__).resolve().parent.parent
SOURCES, NOTEBOOKS = ROOT / "sources", ROOT / "notebooks"
EXERCISE_SOURCES, EXERCISES = SOURCES / "exercises", ROOT / "exercises" / "source"
CELL_TIMEOUT = 300  # secondes
WORDS = Path(__file__).with_name("figure_words.py")
WIDGET_VIEW = "application/vnd.jupyter.widget-view+json"


def read_source(path: Path, address: str | None = None) -> nbformat.NotebookNode:
    """Le notebook d'une source, sans sorties, avec des identifiants de cellule qui ne dépendent que de leur texte.

    ``address`` est celle du dépôt des étudiants ; par défaut, celle de ``pyproject.toml``.
    """
    notebook = jupytext.read(path)
    public = f"{'exercises' if path.parent.name == EXERCISE_SOURCES.name else NOTEBOOKS.name}/{path.stem}.ipynb"
    bootstrap.stamp(notebook, public, bootstrap.public_repository() if address is None else address)
    seen = {}
    for cell in notebook.cells:
        digest = hashlib.sha1(f"{cell.cell_type}\n{cell.source}".encode()).hexdigest()[:10]
        seen[digest] = seen.get(digest, 0) + 1
        if cell.cell_type == "markdown":
            cell.source = typeset(cell.source)
        cell.id = f"{digest}-{seen[digest]}"
        cell.metadata = nbformat.NotebookNode({k: v for k, v in cell.metadata.items() if k in ("tags", "nbgrader")})
        if chapter_rules.FOLDED in chapter_rules.tags(cell):  # JupyterLab, puis Colab ; le site lit l'étiquette
            cell.metadata.jupyter = {"source_hidden": True}
            cell.metadata.cellView = "form"
    notebook.metadata = nbformat.from_dict(
        {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python"},
        }
    )
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    return notebook


def clean(notebook: nbformat.NotebookNode) -> None:
    """Ne garde que ce qui s'affiche sans noyau : une vue de widget sans son état dirait « model not found »."""
    notebook.metadata.pop("widgets", None)
    notebook.metadata["language_info"] = {"name": "python"}
    for cell in notebook.cells:
        if cell.cell_type != "code":
            continue
        kept = []
        for output in cell.outputs:
            data = output.get("data", {})
            if output.output_type == "display_data" and (not data or WIDGET_VIEW in data and "image/png" not in data):
                continue  # une barre de progression : elle n'a rien à dire une fois finie
            data.pop(WIDGET_VIEW, None)
            kept.append(output)
        cell.outputs = kept


def open_with_picture(notebook: nbformat.NotebookNode) -> None:
    """Donne à la première cellule l'image de celle qui porte ``opening`` : ce que le chapitre mesurera.

    Une cellule étiquetée aussi ``moved`` ne la garde pas : l'image n'y serait qu'une seconde fois.
    """
    for cell in notebook.cells:
        if chapter_rules.OPENING in chapter_rules.tags(cell):
            pictures = [o.data["image/png"] for o in cell.outputs if "image/png" in o.get("data", {})]
            if len(pictures) != 1:
                sys.exit(f"La cellule {chapter_rules.OPENING} affiche {len(pictures)} images, une seule attendue.")
            notebook.cells[0].attachments = {chapter_rules.PICTURE: {"image/png": pictures[0]}}
            if chapter_rules.MOVED in chapter_rules.tags(cell):
                cell.outputs = [output for output in cell.outputs if "image/png" not in output.get("data", {})]


def execute(notebook: nbformat.NotebookNode, *preludes: Path) -> None:
    """Remplit les sorties, comme JupyterLab le ferait dans le dossier des notebooks ; ``preludes`` y est joué avant."""
    resources = {"metadata": {"path": str(NOTEBOOKS)}}
    client = NotebookClient(notebook, timeout=CELL_TIMEOUT, kernel_name="python3", resources=resources)
    client.record_timing = False  # des horodatages changeraient le fichier à chaque exécution
    client.extra_arguments = [f"--IPKernelApp.exec_files={prelude}" for prelude in (WORDS, *preludes)]
    client.execute()


def build(path: Path) -> None:
    """Exécute une source, et ne remplace le notebook que lorsque le nouveau est entier."""
    start = time.perf_counter()
    notebook = read_source(path)
    target = NOTEBOOKS / f"{path.stem}.ipynb"
    execute(notebook)
    clean(notebook)
    open_with_picture(notebook)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if output.get("name") == "stderr":
                print(f"{target.name} : une cellule écrit sur stderr :\n{output.text}", file=sys.stderr)
    replace(target, notebook)
    print(f"{target.name} : {time.perf_counter() - start:.1f} s, {target.stat().st_size / 1e3:.0f} ko")


def build_exercise(path: Path) -> None:
    """Écrit l'exercice dans son devoir nbgrader, un dossier du même nom."""
    notebook, target = read_source(path), exercise_target(path)
    nbformat.validate(notebook)
    target.parent.mkdir(parents=True, exist_ok=True)
    replace(target, notebook)
    print(f"{target.name} : {target.stat().st_size / 1e3:.0f} ko")


def exercise_target(path: Path) -> Path:
    return EXERCISES / path.stem / f"{path.stem}.ipynb"


def replace(target: Path, notebook: nbformat.NotebookNode) -> None:
    partial = target.with_suffix(".partiel")
    nbformat.write(notebook, partial)
    os.replace(partial, target)


def drift(path: Path) -> str | None:
    """Ce qui sépare un notebook de sa source, ou des règles d'un chapitre ; rien s'il les suit."""
    target = NOTEBOOKS / f"{path.stem}.ipynb"
    if not target.exists():
        return f"{target.name} n'existe pas."
    notebook = nbformat.read(target, as_version=4)
    if problem := text_drift(target, notebook, read_source(path)):
        return problem
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    if [cell.execution_count for cell in code] != list(range(1, len(code) + 1)):
        return f"{target.name} : les cellules n'ont pas été exécutées dans l'ordre 1, 2, 3…"
    if any(output.output_type == "error" for cell in code for output in cell.outputs):
        return f"{target.name} : une cellule est en erreur."
    if "widgets" in notebook.metadata:
        return f"{target.name} : metadata.widgets est resté."
    if path.stem.startswith(chapter_rules.FOLLOWED):
        return "\n".join(f"{target.name} : {problem}" for problem in chapter_rules.problems(notebook)) or None
    return None


def text_drift(target: Path, notebook: nbformat.NotebookNode, source: nbformat.NotebookNode) -> str | None:
    """La première cellule dont le texte ou les métadonnées diffèrent."""
    ours, theirs = ([(c.cell_type, c.id, c.source, c.metadata) for c in n.cells] for n in (notebook, source))
    for number, (mine, other) in enumerate(zip(ours, theirs, strict=False), start=1):
        if mine != other:
            return f"{target.name} : la cellule {number} diffère de sa source."
    if len(ours) != len(theirs):
        return f"{target.name} : {len(ours)} cellules, {len(theirs)} dans la source."
    return None


def exercise_drift(path: Path) -> str | None:
    """De même pour un exercice, sans sortie, et seul dans son dossier : nbgrader distribue tout ce qu'il y trouve."""
    target = exercise_target(path)
    if not target.exists():
        return f"{target.name} n'existe pas."
    notebook = nbformat.read(target, as_version=4)
    if problem := text_drift(target, notebook, read_source(path)):
        return problem
    if any(cell.get("outputs") or cell.get("execution_count") for cell in notebook.cells):
        return f"{target.name} : une cellule a gardé sa sortie."
    others = sorted(p.name for p in target.parent.iterdir() if p != target)
    return f"{target.name} : {others[0]} est à côté, et serait distribué." if others else None


def orphans() -> list[str]:
    """Les notebooks et les devoirs dont la source a disparu."""
    chapters = {p.stem for p in NOTEBOOKS.glob("*.ipynb")} - {p.stem for p in SOURCES.glob("10_*.py")}
    assignments = {p.name for p in EXERCISES.glob("*")} - {p.stem for p in EXERCISE_SOURCES.glob("*.py")}
    return [f"{name}.ipynb n'a pas de source." for name in sorted(chapters | assignments)]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefixes", nargs="*", help="débuts de noms de sources, toutes par défaut")
    parser.add_argument("--check", action="store_true", help="compare sans exécuter")
    arguments = parser.parse_args()
    prefixes = tuple(arguments.prefixes or [""])
    chapters, exercises = (
        [p for p in sorted(folder.glob(pattern)) if p.name.startswith(prefixes)]
        for folder, pattern in ((SOURCES, "10_*.py"), (EXERCISE_SOURCES, "*.py"))
    )
    if not chapters and not exercises:
        print(f"Aucune source ne commence par {arguments.prefixes} dans {SOURCES.name}/.", file=sys.stderr)
        return 1
    if arguments.check:
        found = [*map(drift, chapters), *map(exercise_drift, exercises), *orphans()]
        problems = [problem for problem in found if problem]
        print(
            "\n".join(problems + ["Reconstruisez par make notebooks."])
            if problems
            else "Les notebooks suivent leurs sources."
        )
        return bool(problems)
    for path in exercises:
        build_exercise(path)
    for path in chapters:
        try:
            build(path)
        except CellExecutionError as error:
            print(f"{path.name} : l'ancien notebook est gardé, une cellule a échoué.\n{error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
