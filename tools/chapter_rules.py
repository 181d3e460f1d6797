"""Ce qu'un chapitre doit au lecteur et qu'une machine peut voir : ``make check`` le demande à ceux de ``FOLLOWED``.

Une cellule qui ne fait que dessiner, imprimer ou mettre en forme porte l'étiquette ``hide-input`` : JupyterLab, Colab
et le site la plient, sa sortie se lit seule. Ce qui enseigne (une perte, une boucle, une expérience) reste ouvert.
"""

import ast
import re
from collections import Counter

from nbformat import NotebookNode

from kdcourse.formats import typeset

FOLLOWED: tuple[str, ...] = ("10_01", "10_02", "10_03", "10_04", "10_05", "10_06", "10_Bilan")
"""Les chapitres déjà récrits ; les autres y viendront avec leur réécriture."""
FOLDED, OPENING, MOVED, REPAIR = "hide-input", "opening", "moved", "repair"
PICTURE = "ouverture.png"
COLUMNS = 88
SHORT = (
    3  # lignes, imports non compris : une cellule aussi courte se lit d'un coup d'œil, même si elle ne fait que montrer
)
TEACHES = {"train_many", "train_one", "distill", "distill_seeds", "backward", "grad"}
SHOWS = {
    "say", "display", "print", "french", "short", "points", "thousands", "mean_interval", "markdown_table",
    "dict", "enumerate", "float", "int", "len", "list", "map", "max", "min", "range", "round", "sorted", "str", "sum",
    "tuple", "zip",
    "append", "index", "items", "join", "keys", "mean", "text", "tolist", "values",
}  # fmt: skip
INTERVAL = re.compile(r"\[−?\d[\d,]*\s;\s−?\d[\d,]*\]")


def problems(notebook: NotebookNode) -> list[str]:
    """Ce qui manque à un chapitre exécuté, une phrase chacun."""
    found, code = opening(notebook), [cell for cell in notebook.cells if cell.cell_type == "code"]
    drawn = {name for cell in code for name in drawing_names(cell.source)}
    for cell in code:
        rank = f"cellule {notebook.cells.index(cell) + 1}"
        found += [f"{rank} : {problem}" for problem in [*columns(cell), *folding(cell, drawn), *rendered(cell)]]
    text = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    return found + quiz(text)


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def opening(notebook: NotebookNode) -> list[str]:
    """La question et l'image la plus étonnante d'abord, puis le bootstrap."""
    first, second, *_ = notebook.cells
    found = []
    if f"](attachment:{PICTURE})" not in first.source or "![](" in first.source:
        found.append(f"la première cellule montre ![une phrase](attachment:{PICTURE}).")
    if PICTURE not in first.get("attachments", {}):
        found.append(f"aucune cellule d'une image ne porte l'étiquette {OPENING}.")
    if "bootstrap" not in tags(second):
        found.append("le bootstrap est la deuxième cellule.")
    return found


def columns(cell: NotebookNode) -> list[str]:
    """Les lignes trop longues ; celles du bootstrap viennent de ``make notebooks``."""
    lines = [line for line in cell.source.splitlines() if len(line) > COLUMNS]
    return [f"une ligne de {len(line)} colonnes, {COLUMNS} au plus : {line.strip()[:40]}…" for line in lines]


def drawing_names(source: str) -> set[str]:
    """Les figures et les curseurs qu'une cellule importe."""
    imports = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom))
    return {alias.name for node in imports if node.module in ("kdcourse.plots", "kdcourse.widgets")
            for alias in node.names}  # fmt: skip


def folding(cell: NotebookNode, drawn: set[str]) -> list[str]:
    """Plier ce qui ne fait que montrer, et cela seulement."""
    tree = ast.parse(cell.source)
    called = {getattr(node.func, "id", getattr(node.func, "attr", "")) for node in ast.walk(tree)
              if isinstance(node, ast.Call)}  # fmt: skip
    defines = any(isinstance(node, ast.FunctionDef) for node in ast.walk(tree))
    lines = [line for line in cell.source.splitlines() if line.strip() and not line.startswith(("from ", "import "))]
    if FOLDED in tags(cell):
        if not {"bootstrap", REPAIR} & set(tags(cell)) and (defines or called & TEACHES):
            return [f"pliée, alors qu'elle enseigne ({', '.join(sorted(called & TEACHES)) or 'une fonction'})."]
        return []
    if called and not defines and called <= SHOWS | drawn and len(lines) > SHORT:
        return [f"elle ne fait que montrer : étiquette {FOLDED}."]
    return []


def rendered(cell: NotebookNode) -> list[str]:
    """La typographie de ce que la cellule écrit, et ses intervalles : un par phrase, trois par paragraphe."""
    found = []
    for output in cell.outputs:
        text = output.get("text") or output.get("data", {}).get("text/markdown", "")
        if typeset(text) != text:
            found.append(f"une espace insécable manque dans sa sortie : {text[:60]!r}…")
        if "text/markdown" not in output.get("data", {}):
            continue
        prose = re.sub(r"^\|.*$", "", text, flags=re.M)
        for paragraph in re.split(r"\n\n|\n(?=- )", prose):
            sentences = re.split(r"(?<=[.?!…])\s+", paragraph)
            counts = [len(INTERVAL.findall(sentence)) for sentence in sentences]
            if max(counts) > 1 or sum(counts) > 3:
                found.append(f"trop d'intervalles (un par phrase, trois par paragraphe) : {paragraph.strip()[:60]}…")
    return found


def quiz(text: str) -> list[str]:
    """Trois ou quatre options, une seule bonne (« Oui »), et pas toujours à la même place."""
    part = text.partition("## Quiz\n")[2].partition("\n## ")[0]
    found, places = [], Counter()
    questions = re.split(r"^\*\*(\d+)\. ", part, flags=re.M)[1:]
    for number, body in zip(questions[::2], questions[1::2], strict=True):
        answers = re.findall(r"<summary>.*?</summary>\s*(\w+)", body, flags=re.S)
        right = [place for place, word in enumerate(answers, start=1) if word == "Oui"]
        if not 3 <= len(answers) <= 4 or len(right) != 1:
            found.append(f"quiz {number} : {len(answers)} options et {len(right)} « Oui », 3 ou 4 et 1 attendus.")
        places.update(right)
    if not questions or max(places.values(), default=0) > (len(questions) // 2 + 1) // 2:
        found.append(f"quiz : les bonnes réponses sont aux places {dict(places)}, à répartir.")
    return found
