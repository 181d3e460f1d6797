"""Ouvrir l'archive d'un devoir Moodle (« Télécharger tous les travaux remis ») sans lui faire confiance.

``MoodleExtractor`` est un greffon de ``nbgrader zip_collect`` : il tire de l'archive les notebooks, et eux seuls.
"""

import io
import os
import re
import stat
import time
import unicodedata
import zipfile
from collections.abc import Callable
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from nbgrader.plugins import ExtractorPlugin

# Moodle ne laisse aucun « _ » dans un nom : ce qui précède le premier est le nom, entier. Avant Moodle 4.1, un « _ »
# finit le nom du dossier ; quand Moodle ne fait pas de dossiers, le nom du fichier suit.
_SUBMISSION = re.compile(r"(?P<name>[^_/]+)_(?P<number>\d+)_assignsubmission_(?P<plugin>[a-z]+)(?:_(?P<file>.*))?")
_NOTEBOOK = re.compile(r"(?P<stem>.+)\.ipynb(?:\.txt|\.json)?", re.I)  # certains navigateurs ajoutent .txt ou .json
_LARGEST_FILE = 50 * 10**6  # octets : cent fois un notebook avec ses figures
_LARGEST_SUBMISSION, _MOST_NOTEBOOKS = 100 * 10**6, 50  # par personne


class Submission(NamedTuple):
    """Ce que dit le chemin d'un fichier remis : le nom et le numéro de participant, puis le chemin dans la remise."""

    name: str
    number: str
    plugin: str
    file: PurePosixPath

    @property
    def folder(self) -> str:
        return f"{self.name}_{self.number}_assignsubmission_{self.plugin}"


def parse_path(path: PurePosixPath) -> Submission | None:
    """La remise d'un fichier, d'après son chemin dans l'archive ; rien si aucun dossier n'y nomme un participant."""
    for position, part in enumerate(path.parts):
        if match := _SUBMISSION.fullmatch(part):  # le premier : plus loin, c'est l'étudiant qui a choisi les noms
            rest = [match["file"]] if match["file"] else []
            file = PurePosixPath(*rest, *path.parts[position + 1 :])
            return Submission(match["name"], match["number"], match["plugin"], file)
    return None


def composed(name: str) -> str:
    """Un nom aux accents composés : macOS les décompose, et la même personne aurait deux noms."""
    return unicodedata.normalize("NFC", name)


class MoodleExtractor(ExtractorPlugin):
    """Extrait les notebooks remis ; une remise abîmée ou hostile n'arrête pas celles des autres.

    nbgrader décompresse tout, zip imbriqués compris, sans borner les tailles : un seul fichier d'étudiant y suffirait
    à remplir la mémoire, ou à interrompre la collecte.
    """

    def extract(self, archive_path: str, extracted_path: str) -> None:
        self._spent = {}  # par participant : octets lus, notebooks gardés
        files = [path for path in sorted(Path(archive_path).rglob("*")) if path.is_file() and not path.is_symlink()]
        if not files:
            self.parent.fail(f"Aucun fichier dans {archive_path} : l'archive téléchargée de Moodle y est attendue.")
        for path in files:
            relative = PurePosixPath(composed(path.relative_to(archive_path).as_posix()))
            if path.suffix.lower() == ".zip" and parse_path(relative) is None:
                try:
                    archive = zipfile.ZipFile(path)
                except (OSError, zipfile.BadZipFile) as error:
                    self.parent.fail(f"{path} : archive illisible ({error}) ; téléchargez-la de nouveau.")
                self._unzip(archive, PurePosixPath(), Path(extracted_path) / composed(path.stem))
            else:  # une archive que l'enseignant a déjà ouverte

                def read(limit, path=path):
                    return _read(path.open("rb"), limit)

                self._keep(relative, read, Path(extracted_path), path.stat().st_mtime)

    def _unzip(self, archive: zipfile.ZipFile, inside: PurePosixPath, destination: Path, date: float = 0) -> None:
        """Garde les notebooks d'un zip ; ``inside`` : le chemin d'un zip remis, vide pour celui de Moodle."""
        with archive:
            entries = [entry for entry in archive.infolist() if not entry.is_dir()]
            # Moodle 4.1 date ses fichiers du téléchargement, non de la remise : ces dates n'ordonnent que les archives.
            date = date or max((time.mktime((*entry.date_time, 0, 0, -1)) for entry in entries), default=0)
            for entry in entries:

                def read(limit, entry=entry):
                    return _read(archive.open(entry), limit)

                name = composed(_decoded(entry))
                if reason := _refusal(entry, name):
                    self.log.warning("%s : %s, ignoré.", inside / name, reason)
                else:
                    self._keep(inside / name, read, destination, date, nested=bool(inside.parts))

    def _keep(self, path: PurePosixPath, read: Callable, destination: Path, date: float, nested: bool = False) -> None:
        """Range un fichier remis si c'est un notebook ; ouvre un zip remis, mais pas ceux qu'il contient."""
        if any(part in ("__MACOSX", ".ipynb_checkpoints") or part.startswith("._") for part in path.parts):
            return
        if (submission := parse_path(path)) is None:
            self.log.warning("%s : hors d'un dossier « Nom_numéro_assignsubmission_file », ignoré.", path)
            return
        folder = destination / submission.folder
        folder.mkdir(parents=True, exist_ok=True)  # vide, il dira que cette personne a remis autre chose
        notebook = _NOTEBOOK.fullmatch(submission.file.name)
        zipped = path.suffix.lower() == ".zip" and not nested
        if not notebook and not zipped:
            self.log.info("%s : pas un notebook, ignoré.", path)
            return
        spent = self._spent.setdefault(submission.number, {"bytes": 0, "notebooks": 0})
        try:
            if spent["notebooks"] >= _MOST_NOTEBOOKS:
                raise ValueError(f"plus de {_MOST_NOTEBOOKS} notebooks dans cette remise")
            content = read(min(_LARGEST_FILE, _LARGEST_SUBMISSION - spent["bytes"]))
            spent["bytes"] += len(content)
            if zipped:
                self._unzip(zipfile.ZipFile(io.BytesIO(content)), path, destination, date)
                return
            spent["notebooks"] += 1
            target = _free(folder / submission.file.parent / f"{notebook['stem']}.ipynb")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content)
            os.utime(target, (date, date))
        except Exception as error:  # zip abîmé ou chiffré, nom trop long : le contenu, à l'étudiant, peut tout lever
            self.log.warning("%s : %s, ignoré.", path, error)


def _decoded(entry: zipfile.ZipInfo) -> str:
    """Le nom d'une entrée ; d'anciens Moodle l'écrivent en UTF-8 sans le dire, et Python le lit alors en cp437."""
    if not entry.flag_bits & 0x800:
        try:
            return entry.filename.encode("cp437").decode("utf-8")
        except UnicodeError:
            pass
    return entry.filename


def _refusal(entry: zipfile.ZipInfo, name: str) -> str | None:
    if name.startswith("/") or "\\" in name or ".." in name.split("/"):
        return "chemin hors de l'archive"
    return "lien symbolique" if stat.S_ISLNK(entry.external_attr >> 16) else None


def _read(stream, limit: int) -> bytes:
    """Lit au plus ``limit`` octets : la taille qu'annonce une archive n'engage qu'elle."""
    with stream:
        content = stream.read(limit + 1)
    if len(content) > limit:
        raise ValueError(f"plus de {limit // 10**6} Mo une fois décompressé")
    return content


def _free(path: Path) -> Path:
    while path.exists():
        path = path.with_stem(path.stem + " bis")
    return path
