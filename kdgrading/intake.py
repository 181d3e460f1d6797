"""Avant la correction : un fichier de notebook abîmé est mis de côté, et remplacé par un notebook lisible.

Sans cela, nbgrader abandonnerait la copie sans note ni retour. L'original reste à côté, sous le nom ``….ipynb.recu``.
"""

import hashlib
import json
import os
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_raw_cell
from nbgrader.utils import parse_utc

_MAX_BYTES, _MAX_CELLS = 50 << 20, 2_000


def mend_notebooks(*, assignment: str, student: str, notebooks: list[str]) -> None:
    """Le crochet ``pre_convert_hook`` de nbgrader : rend lisibles les notebooks d'une copie, et leur donne le bon nom.

    Args:
        assignment: nom du devoir, qui est aussi celui de son notebook.
        student: non utilisé ; nbgrader le donne.
        notebooks: chemins des notebooks de la copie, changés sur place.
    """
    expected = f"{assignment}.ipynb"
    files = [path for path in map(Path, notebooks) if path.is_file()]
    if files and expected not in {Path(path).name for path in notebooks}:
        fullest = max(files, key=lambda path: path.stat().st_size)
        renamed = fullest.with_name(expected)
        _replace(renamed, fullest.read_bytes())
        notebooks[:] = [str(renamed)]
    for path in map(Path, notebooks):
        _drop_bad_timestamp(path.with_name("timestamp.txt"))
        mended = _mended(path)
        if mended is not None:
            kept = path.with_name(f"{path.name}.recu")
            if not kept.exists():
                os.replace(path, kept)
            _replace(path, nbformat.writes(mended).encode())


def fingerprint(folder: Path) -> str:
    """L'empreinte d'une remise : ses notebooks, tels qu'ils sont. Corrigée puis remise encore, elle change."""
    digest = hashlib.sha256()
    for path in sorted(filter(Path.is_file, folder.glob("*.ipynb"))):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def _drop_bad_timestamp(path: Path) -> None:
    """Une date illisible arrêterait nbgrader avant toute note ; sans date, il corrige."""
    if path.exists():
        try:
            parse_utc(path.read_text(encoding="utf-8").strip())
        except Exception:  # tout ce que dateutil peut lever
            os.replace(path, path.with_name("timestamp.txt.recu"))


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.partiel")
    partial.write_bytes(content)
    os.replace(partial, path)


def _mended(path: Path) -> nbformat.NotebookNode | None:
    """Un notebook lisible à la place de celui-ci ; rien s'il l'est déjà."""
    if path.is_dir():
        return _empty("un dossier, non un notebook")
    if path.stat().st_size > _MAX_BYTES:
        return _empty(f"{path.stat().st_size >> 20} Mo, 50 au plus attendus")
    try:
        with open(path, encoding="utf-8") as file:
            notebook = nbformat.read(file, as_version=4)
        nbformat.validate(notebook)
        return None if len(notebook.cells) <= _MAX_CELLS else _empty(_too_many(notebook.cells))
    except Exception:  # le fichier est à l'élève : tout peut arriver
        pass
    try:
        raw = path.read_bytes()
        content = json.loads(raw.decode(json.detect_encoding(raw), errors="replace"))
    except (ValueError, RecursionError) as error:
        if not raw.strip():
            return _empty("fichier vide")
        if raw.lstrip().startswith(b"<<<<<<<"):
            return _empty("conflit de fusion de git")
        if raw.lstrip()[:1] == b"<":
            return _empty("page web, non un notebook")
        where = f", ligne {error.lineno}" if isinstance(error, json.JSONDecodeError) else ""
        return _empty(f"JSON invalide{where}")
    cells = content.get("cells") if isinstance(content, dict) else None
    if not isinstance(cells, list):
        return _empty("aucune cellule")
    if len(cells) > _MAX_CELLS:
        return _empty(_too_many(cells))
    return new_notebook(cells=[cell for cell in map(_cell, cells) if cell is not None])


def _too_many(cells: list) -> str:
    return f"{len(cells)} cellules, {_MAX_CELLS} au plus attendues"


def _cell(cell) -> nbformat.NotebookNode | None:
    if not isinstance(cell, dict):
        return None
    source = cell.get("source", "")
    if isinstance(source, list):
        source = "".join(map(str, source))
    kinds = {"code": new_code_cell, "markdown": new_markdown_cell}
    made = kinds.get(str(cell.get("cell_type")), new_raw_cell)(str(source))
    metadata = cell.get("metadata")
    grade_id = metadata.get("nbgrader", {}).get("grade_id") if _has_nbgrader(metadata) else None
    if isinstance(grade_id, str):
        made.metadata["nbgrader"] = {"grade_id": grade_id}
    for name, kinds in (("outputs", list), ("attachments", dict)):
        if isinstance(cell.get(name), kinds) and (name == "outputs") == (made.cell_type == "code"):
            trial = nbformat.from_dict({**made, name: cell[name]})
            if nbformat.validator.isvalid(new_notebook(cells=[trial])):
                made = trial
    return made


def _has_nbgrader(metadata) -> bool:
    return isinstance(metadata, dict) and isinstance(metadata.get("nbgrader"), dict)


def _empty(reason: str) -> nbformat.NotebookNode:
    notebook = new_notebook()
    notebook.metadata["kdcourse_unreadable"] = reason
    return notebook
