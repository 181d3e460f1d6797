"""Construit le site du cours dans build/site/ : il se lit sans rien installer, en ligne ou dans un dossier.

Chaque chapitre est exécuté une fois : les notebooks rangés ne gardent des curseurs qu'une image, et le site a besoin de
ce qui les fait bouger. Le résultat est gardé dans build/chapitres/ tant que rien de ce dont il dépend ne change.

python tools/build_site.py            tout le site
python tools/build_site.py 10_01      les chapitres dont le nom commence ainsi : un essai, dans build/site-essai/
"""

import argparse
import base64
import hashlib
import html
import os
import platform
import re
import shutil
import sys
from importlib import metadata
from pathlib import Path

import bootstrap
import build_notebooks
import chapter_rules
import nbformat
import site_pages
from nbclient.exceptions import CellExecutionError
from sphinx.cmd.build import build_main
from tqdm import tqdm

ROOT = build_notebooks.ROOT
BUILD, PAGES = ROOT / "build", ROOT / "website"
CACHE = BUILD / "chapitres"
# Ce que le site demande à un noyau : l'HTML d'un curseur, et en mots ce qu'une figure montre.
PRELUDE = """
from IPython import get_ipython
import matplotlib.pyplot
from matplotlib.figure import Figure
from kdcourse.widgets.slider_figure import SliderFigure

def words(figure, printer, cycle):
    titles = [figure.get_suptitle() or "", *(ax.get_title() for ax in figure.axes)]
    told = ". ".join(" ".join(title.split()) for title in titles if title.strip())
    printer.text("TITRE : " + told.translate(str.maketrans("", "", "$^{}")))

get_ipython().run_line_magic("matplotlib", "inline")  # il ôterait, plus tard, ce qui suit
formatters = get_ipython().display_formatter.formatters
formatters["text/html"].for_type(SliderFigure, lambda widget: widget.to_fragment())
formatters["text/plain"].for_type(Figure, words)
"""
WORDS_A_MINUTE, LINES_A_MINUTE = 110, 10  # ce qu'ont mis les lecteurs des chapitres : prose, puis code ouvert


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefixes", nargs="*", help="débuts de noms de chapitres, tous par défaut")
    prefixes = tuple(parser.parse_args().prefixes)
    chapters = [p for p in sorted(build_notebooks.SOURCES.glob("10_*.py")) if p.name.startswith(prefixes or ("",))]
    if not chapters:
        print(f"Aucun chapitre ne commence par {' '.join(prefixes)}.", file=sys.stderr)
        return 1
    try:
        played = {path.stem: executed(path) for path in tqdm(chapters, desc="Chapitres", unit="chapitre")}
        source = write_source(played)
    except (ValueError, CellExecutionError) as error:
        print(f"Le site n'est pas construit : {error}", file=sys.stderr)
        return 1
    return publish(source, BUILD / ("site-essai" if prefixes else "site"))


def executed(path: Path) -> nbformat.NotebookNode:
    """Le chapitre avec ses curseurs, repris du cache si rien de ce dont il dépend n'a changé."""
    notebook = build_notebooks.read_source(path, address="")
    kept = CACHE / f"{path.stem}-{key(notebook)}.ipynb"
    if kept.exists():
        return nbformat.read(kept, as_version=4)
    notebook.cells.insert(0, nbformat.v4.new_code_cell(PRELUDE))
    build_notebooks.execute(notebook)
    del notebook.cells[0]
    build_notebooks.clean(notebook)
    build_notebooks.open_with_picture(notebook)
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob(f"{path.stem}-*.ipynb"):
        old.unlink()
    build_notebooks.replace(kept, notebook)
    return notebook


def key(notebook: nbformat.NotebookNode) -> str:
    """Ce dont dépend l'exécution : le code du chapitre et du cours, les bibliothèques qui calculent ou dessinent."""
    digest = hashlib.sha256(PRELUDE.encode())
    for cell in notebook.cells:
        digest.update(f"{cell.cell_type} {cell.source} {chapter_rules.tags(cell)}".encode())
    for path in sorted((ROOT / "kdcourse").rglob("*")):
        if path.suffix in (".py", ".json", ".js", ".css"):
            digest.update(path.read_bytes())
    versions = [metadata.version(name) for name in ("torch", "numpy", "matplotlib", "scikit-learn")]
    digest.update(" ".join([platform.python_version(), *versions]).encode())
    return digest.hexdigest()[:16]


def write_source(played: dict[str, nbformat.NotebookNode]) -> Path:
    """Ce que lit Sphinx : les pages de website/, les chapitres, et les pages tirées du code et des mesures."""
    source = BUILD / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(PAGES, source)
    address, first = bootstrap.public_repository(), None
    for name, notebook in played.items():
        first = first or fragment(name, notebook)
        write_chapter(source, name, notebook, address)
    (source / "apercu.html").write_text(first, encoding="utf-8")
    site_pages.write(source, min(played), address)
    widgets = ROOT / "kdcourse" / "widgets"
    script = (widgets / "player.js").read_text(encoding="utf-8")
    # Un module ne se charge pas d'un dossier ouvert par file:// : le même texte, en script ordinaire.
    plain = re.sub(r"^export (default|function)", lambda m: "const widget =" if m[1] == "default" else "function",
                   script, flags=re.M)  # fmt: skip
    (source / "_static" / "player.js").write_text(f"(() => {{\n{plain}\nplayAll();\n}})();\n", encoding="utf-8")
    shutil.copy(widgets / "player.css", source / "_static" / "player.css")
    return source


def fragment(name: str, notebook: nbformat.NotebookNode) -> str:
    """Le premier curseur d'un chapitre."""
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            if "kd-figure" in output.get("data", {}).get("text/html", ""):
                return output.data["text/html"]
    raise ValueError(f"{name} n'a aucun curseur : SliderFigure.to_fragment n'a rien donné.")


def write_chapter(source: Path, name: str, notebook: nbformat.NotebookNode, address: str) -> None:
    """Le notebook que lit MyST : chaque image dans son fichier, avec les mots qui la disent."""
    notebook = nbformat.from_dict(notebook)
    notebook.cells = [cell for cell in notebook.cells if bootstrap.TAG not in chapter_rules.tags(cell)]  # rien à y lire
    pictures, count = source / "_static" / "figures", 0
    pictures.mkdir(parents=True, exist_ok=True)
    for cell in notebook.cells:
        if cell.cell_type == "code" and cell.execution_count is None and cell.source.strip():
            raise ValueError(f"{name} : une cellule n'a pas été exécutée.")
        for output in cell.get("outputs", []):
            if output.output_type == "error":
                raise ValueError(f"{name} : une cellule est en erreur, {output.ename}.")
            data = output.get("data", {})
            if "text/html" not in data and "image/png" in data:
                count += 1
                words = data["text/plain"]
                if not words.startswith("TITRE : ") or len(words) < 10:
                    raise ValueError(f"{name} : la figure {count} n'a pas de titre, donc pas d'alternative en mots.")
                file = pictures / f"{name}-{count}.png"
                file.write_bytes(base64.b64decode(data["image/png"]))
                alt = html.escape(words.removeprefix("TITRE : "))
                output.data = {"text/html": f'<img src="_static/figures/{file.name}" alt="{alt}" loading="lazy">'}
    first = notebook.cells[0]
    opening = first.pop("attachments", {}).get(chapter_rules.PICTURE, {}).get("image/png")
    if opening is None:
        raise ValueError(f"{name} : l'image d'ouverture manque.")
    (pictures / f"{name}-0.png").write_bytes(base64.b64decode(opening))
    first.source = first.source.replace(f"attachment:{chapter_rules.PICTURE}", f"_static/figures/{name}-0.png")
    title, _, rest = first.source.partition("\n")
    first.source = f"{title}\n\n{links(name, notebook, address)}\n{rest}"
    shutil.copy(build_notebooks.NOTEBOOKS / f"{name}.ipynb", source / "_static" / f"{name}.ipynb")
    nbformat.write(notebook, source / f"{name}.ipynb")


def links(name: str, notebook: nbformat.NotebookNode, address: str) -> str:
    """Sous le titre : le temps de lecture, le notebook à emporter, et Colab si une adresse est donnée."""
    prose = " ".join(re.sub(r"<details>.*?</details>", "", cell.source, flags=re.S)
                     for cell in notebook.cells if cell.cell_type == "markdown")  # fmt: skip
    lines = sum(len(cell.source.splitlines()) for cell in notebook.cells
                if cell.cell_type == "code" and chapter_rules.FOLDED not in chapter_rules.tags(cell))  # fmt: skip
    minutes = 5 * round((len(prose.split()) / WORDS_A_MINUTE + lines / LINES_A_MINUTE) / 5)
    parts = [f"Lecture : {minutes} min environ", f'<a href="_static/{name}.ipynb" download>Télécharger le notebook</a>']
    if found := bootstrap.GITHUB.fullmatch(address):
        url = f"https://colab.research.google.com/github/{found[1]}/blob/main/notebooks/{name}.ipynb"
        parts.append(f'<a href="{url}">Ouvrir dans Colab</a>')
    return f'<p class="kd-links">{" · ".join(parts)}</p>\n'


def publish(source: Path, target: Path) -> int:
    """Le site, qui ne remplace l'ancien que s'il est entier et que tout lien y mène quelque part."""
    partial = BUILD / "site.partiel"
    shutil.rmtree(partial, ignore_errors=True)
    status = build_main(
        ["-q", "-W", "--keep-going", "-b", "html", "-d", str(BUILD / "doctrees"), str(source), str(partial)]
    )
    if status:
        print("Le site n'est pas construit : Sphinx a dit pourquoi ci-dessus.", file=sys.stderr)
        return status
    for extra in ("_sources", "objects.inv", ".buildinfo"):
        path = partial / extra
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    if broken := site_pages.broken_links(partial):
        print("Le site n'est pas construit, ces liens ne mènent nulle part :", *broken, sep="\n- ", file=sys.stderr)
        return 1
    shutil.rmtree(target, ignore_errors=True)
    os.replace(partial, target)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) / 1e6
    print(f"{target.relative_to(ROOT)}/index.html : {len(list(target.glob('*.html')))} pages, {size:.1f} Mo")
    return 0


if __name__ == "__main__":
    sys.exit(main())
