"""La pastille Colab et la première cellule de code de chaque notebook, tirées d'une seule ligne de ``pyproject.toml``.

``public_repository`` y donne l'adresse du dépôt que reçoivent les étudiants, celui que fabrique ``make release``. Vide,
la pastille n'existe pas et la cellule n'installe rien : aucun lien mort. ``make notebooks`` écrit le reste partout.
"""

import re
import tomllib
from pathlib import Path

import nbformat

ROOT = Path(__file__).resolve().parent.parent
TAG = "bootstrap"
GITHUB = re.compile(r"https://github\.com/([\w.-]+/[\w.-]+)", re.ASCII)
# Ni mot de passe (@), ni ce qui viendrait d'une barre d'adresse (?, #).
ADDRESS = re.compile(r"(https://[\w.-]+/|file:///)[^\s\"'\\{}@?#<>]+", re.ASCII)
BADGE = (
    "[![Ouvrir dans Colab](https://colab.research.google.com/assets/colab-badge.svg)]"
    "(https://colab.research.google.com/github/{repository}/blob/main/{path})\n\n"
)
# Du Python seul, sans commande %pip : un échec de pip s'y voit. Tout est dans une fonction : une réponse d'étudiant qui
# nommerait « course » ou « sys » n'emporterait pas ces lignes à la correction. Un dossier nommé kdcourse, un clone par
# exemple, n'est pas le paquet : Python le trouve, mais sans origine, et le garde s'il l'a déjà importé.
INSTALL = """\
# Sur Colab, installe le cours et garde le torch déjà là ; ailleurs, rien.
def _install_on_colab(course):
    import importlib.util, subprocess, sys
    found = importlib.util.find_spec
    colab = found("google") and found("google.colab")
    if not colab or getattr(found("kdcourse"), "origin", None):
        return
    pip = [sys.executable, "-m", "pip", "install", "--quiet"]
    if subprocess.run([*pip, course]).returncode:
        raise RuntimeError(f"{{course}} ne s'installe pas. Vérifiez le "
                           "réseau, puis relancez cette cellule.")
    importlib.invalidate_caches()
    if not getattr(sys.modules.get("kdcourse"), "__file__", None):
        sys.modules.pop("kdcourse", None)

_install_on_colab("kdcourse[cours] @ git+{address}")

"""
# Le mauvais noyau se dit en une phrase, avant l'import qui échouerait.
KERNEL = """\
import importlib.util
if getattr(importlib.util.find_spec("kdcourse"), "origin", None) is None:
    raise ModuleNotFoundError(
        "Ce noyau n'a pas kdcourse : choisissez celui de .venv, ou "
        "installez-y le cours (« Noyaux », dans le README).")

"""


def public_repository(pyproject: Path = ROOT / "pyproject.toml") -> str:
    """L'adresse du dépôt des étudiants, ``""`` si elle n'est pas donnée ; une que pip ne lirait pas est refusée."""
    settings = tomllib.loads(pyproject.read_text(encoding="utf-8"))
    address = settings.get("tool", {}).get("kdcourse", {}).get("public_repository", "")
    return check_address(address)


def check_address(address: str) -> str:
    if address == "":
        return ""
    short = address.rstrip("/").removesuffix(".git") if isinstance(address, str) else ""
    github = "github.com/" in short.lower()
    if not ADDRESS.fullmatch(short) or (github and not GITHUB.fullmatch(short)):
        raise SystemExit(
            f"public_repository : {address!r} reçu, une adresse que pip lit sans mot de passe attendue "
            "(https://github.com/COMPTE/NOM), ou rien."
        )
    return short


def stamp(notebook: nbformat.NotebookNode, path: str, address: str) -> None:
    """Met dans un notebook, rangé en ``path`` dans le dépôt public, ce qu'``address`` permet, et ôte ce qui y était.

    Le nombre de cellules ne change pas : la pastille ouvre la première, l'installation ouvre celle qui porte ``TAG``.
    """
    first, tagged = notebook.cells[0], [cell for cell in notebook.cells if TAG in cell.metadata.get("tags", ())]
    if not tagged:
        return
    first.source = re.sub(r"\A\[!\[Ouvrir dans Colab\].*\n\n", "", first.source)
    tagged[0].source = re.sub(r"\A# Sur Colab, [\s\S]*?^_install_on_colab\(.*\)\n\n", "", tagged[0].source, flags=re.M)
    tagged[0].source = KERNEL + tagged[0].source.removeprefix(KERNEL)
    if found := GITHUB.fullmatch(address):  # Colab n'ouvre que GitHub ; ailleurs, il n'y a rien à lier
        first.source = BADGE.format(repository=found[1], path=path) + first.source
    if address:
        tagged[0].source = INSTALL.format(address=address) + tagged[0].source
