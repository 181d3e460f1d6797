"""Construit le site du cours dans build/site/ : il se lit sans rien installer, en ligne ou dans un dossier.

Chaque chapitre est exécuté une fois : les notebooks rangés ne gardent des curseurs qu'une image, et le site a besoin de
ce qui les fait bouger. Le résultat est gardé dans build/chapitres/ tant que rien de ce dont il dépend ne change.

python tools/build_site.py            tout le site
python tools/build_site.py 10_01      les chapitres dont le nom commence ainsi : un essai, dans build/site-essai/
"""

import argparse
import base64
import contextlib
import hashlib
import html
import os
import platform
import re
import shutil
import sys
import tempfile
from importlib import metadata
from pathlib import Path

import bootstrap
import build_notebooks
import chapter_rules
import make_release
import nbformat
import site_markup
import site_pages
from nbclient.exceptions import CellExecutionError
from sphinx.cmd.build import build_main
from tqdm import tqdm

ROOT = build_notebooks.ROOT
BUILD, PAGES = ROOT / "build", ROOT / "website"
CACHE = BUILD / "chapitres"
FRAGMENTS = Path(__file__).with_name("slider_fragments.py")


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefixes", nargs="*", help="débuts de noms de chapitres, tous par défaut")
    prefixes = tuple(parser.parse_args(arguments).prefixes)
    chapters = [p for p in sorted(build_notebooks.SOURCES.glob("10_*.py")) if p.name.startswith(prefixes or ("",))]
    if not chapters:
        print(f"Aucun chapitre ne commence par {' '.join(prefixes)}.", file=sys.stderr)
        return 1
    try:
        played = {path.stem: executed(path) for path in tqdm(chapters, desc="Chapitres", unit="chapitre")}
        BUILD.mkdir(exist_ok=True)
        # Un dossier à soi : deux constructions à la fois ne se marchent pas dessus.
        with tempfile.TemporaryDirectory(dir=BUILD, prefix="chantier-") as scratch:
            source = write_source(played, Path(scratch, "source"))
            return publish(source, BUILD / ("site-essai" if prefixes else "site"))
    except (ValueError, CellExecutionError, OSError) as error:
        print(f"Le site n'est pas construit : {error}", file=sys.stderr)
        return 1


def executed(path: Path) -> nbformat.NotebookNode:
    """Le chapitre avec ses curseurs, repris du cache si rien de ce dont il dépend n'a changé."""
    notebook = build_notebooks.read_source(path, address="")
    kept = CACHE / f"{path.stem}-{key(notebook)}.ipynb"
    with contextlib.suppress(FileNotFoundError, nbformat.reader.NotJSONError, nbformat.ValidationError):
        return nbformat.read(kept, as_version=4)
    build_notebooks.execute(notebook, FRAGMENTS)
    build_notebooks.clean(notebook)
    build_notebooks.open_with_picture(notebook)
    CACHE.mkdir(parents=True, exist_ok=True)
    for old in CACHE.glob(f"{path.stem}-*.ipynb"):
        old.unlink(missing_ok=True)
    build_notebooks.replace(kept, notebook)
    return notebook


def key(notebook: nbformat.NotebookNode) -> str:
    """Ce dont dépend l'exécution : le code du chapitre et du cours, les bibliothèques qui calculent ou dessinent."""
    digest = hashlib.sha256(build_notebooks.WORDS.read_bytes() + FRAGMENTS.read_bytes())
    for cell in notebook.cells:
        digest.update(f"{cell.cell_type} {cell.source} {chapter_rules.tags(cell)}".encode())
    for path in sorted((ROOT / "kdcourse").rglob("*")):
        if path.suffix in (".py", ".json", ".js", ".css"):
            digest.update(path.read_bytes())
    versions = [metadata.version(name) for name in ("torch", "numpy", "matplotlib", "scikit-learn")]
    digest.update(" ".join([platform.python_version(), *versions]).encode())
    return digest.hexdigest()[:16]


def write_source(played: dict[str, nbformat.NotebookNode], source: Path) -> Path:
    """Ce que lit Sphinx : les pages de website/, les chapitres, et les pages tirées du code et des mesures."""
    shutil.copytree(PAGES, source)
    address = bootstrap.public_repository()
    for name, notebook in played.items():
        write_chapter(source, name, notebook, address)
    first = min(played)
    (source / "apercu.html").write_text(fragment(first, played[first]), encoding="utf-8")
    doors = [f'<a href="{first}.html">Lire</a>', '<a href="installer.html">Exécuter chez soi</a>']
    site_pages.write(source, [card(name, notebook) for name, notebook in played.items()],
                     [*doors, *colab(first, address)], address)  # fmt: skip
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
    for cell in (cell for cell in notebook.cells if cell.cell_type == "code"):
        if cell.execution_count is None and cell.source.strip():
            raise ValueError(f"{name} : une cellule n'a pas été exécutée.")
        for output in (output for output in cell.outputs if output.get("name") == "stderr"):
            print(f"{name} : une cellule écrit sur stderr, et la page le tait :\n{output.text}", file=sys.stderr)
        cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
        for output in cell.outputs:
            if output.output_type == "error":
                raise ValueError(f"{name} : une cellule est en erreur, {output.ename}.")
            data = output.get("data", {})
            if "text/html" not in data and "image/png" in data:
                count += 1
                alt = html.escape(output.metadata.get("image/png", {}).get("alt", ""))
                if not alt:
                    raise ValueError(f"{name} : la figure {count} n'a pas de titre, donc pas d'alternative en mots.")
                file = pictures / f"{name}-{count}.png"
                file.write_bytes(base64.b64decode(data["image/png"]))
                output.data = {"text/html": f'<img src="_static/figures/{file.name}" alt="{alt}" loading="lazy">'}
    for cell in (cell for cell in notebook.cells if cell.cell_type == "markdown"):
        cell.source = site_markup.folds_in_html(cell.source)
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
    parts = [f"Lecture : {duration(name, notebook)}",
             f'<a href="_static/{name}.ipynb" download>Télécharger le notebook</a>', *colab(name, address)]  # fmt: skip
    note = "Ici, les curseurs bougent ; le code s'exécute, et les exercices se font, dans le notebook."
    return f'<p class="kd-links">{" · ".join(parts)}<br>{note}</p>\n'


def duration(name: str, notebook: nbformat.NotebookNode) -> str:
    """Le temps de lecture que le chapitre annonce."""
    prose = " ".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    found = re.search(r"\*\*Durée[*\s:]+(une (?:demi-)?heure)", prose)
    if found is None:
        raise ValueError(f"{name} : sa durée n'est pas annoncée, par « **Durée : une heure** ».")
    return found[1]


def colab(name: str, address: str) -> list[str]:
    """Le lien vers Colab, si une adresse est donnée."""
    if found := bootstrap.GITHUB.fullmatch(address):
        url = f"https://colab.research.google.com/github/{found[1]}/blob/main/notebooks/{name}.ipynb"
        return [f'<a href="{url}">Ouvrir dans Colab</a>']
    return []


def card(name: str, notebook: nbformat.NotebookNode) -> str:
    """Un chapitre sur l'accueil : son image d'ouverture, son titre, sa question."""
    found = re.match(r"# (.+?)\n+\*\*(.+?)\*\*", notebook.cells[0].source)
    if found is None:
        raise ValueError(f"{name} : la première cellule donne un titre, puis une question en gras.")
    title, question = (html.escape(text.replace("*", "")) for text in found.groups())
    return (f'<a href="{name}.html"><img src="_static/figures/{name}-0.png" alt="" loading="lazy">'
            f"<b>{title}</b><span>{question}</span><small>{duration(name, notebook)}</small></a>")  # fmt: skip


def publish(source: Path, target: Path) -> int:
    """Le site, qui ne remplace l'ancien que s'il est entier et que tout lien y mène quelque part."""
    partial = source.parent / "site"
    options = ["-q", "-W", "--keep-going", "-b", "html", "-d", str(source.parent / "doctrees")]
    status = build_main([*options, str(source), str(partial)])
    if status:
        print("Le site n'est pas construit : Sphinx a dit pourquoi ci-dessus.", file=sys.stderr)
        return status
    for extra in ("_sources", "objects.inv", ".buildinfo", "_static/webpack-macros.html"):
        path = partial / extra
        shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)
    for path in (partial / "_modules").rglob("*.html"):
        # D'un nom que deux façades offrent, Sphinx reviendrait à la mauvaise.
        code = re.sub(r'<a class="viewcode-back".*?</a>', "", path.read_text(encoding="utf-8"))
        path.write_text(code, encoding="utf-8")
    if broken := site_pages.broken_links(partial):
        print("Le site n'est pas construit, ces liens ne mènent nulle part :", *broken, sep="\n- ", file=sys.stderr)
        return 1
    make_release.put(partial, target)
    size = sum(path.stat().st_size for path in target.rglob("*") if path.is_file()) / 1e6
    print(f"{os.path.relpath(target)}/index.html : {len(list(target.glob('*.html')))} pages, {size:.1f} Mo")
    return 0


if __name__ == "__main__":
    sys.exit(main())
