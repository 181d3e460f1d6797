"""Reconnaître les remises d'un devoir Moodle : qui a remis quoi, et lequel de ses notebooks est retenu."""

import json
import re
import unicodedata
from pathlib import Path, PurePosixPath

from nbgrader.api import Gradebook, MissingEntry
from nbgrader.plugins import FileNameCollectorPlugin

from kdgrading.moodle_extract import composed, parse_path


class MoodleCollector(FileNameCollectorPlugin):
    """Greffon de ``nbgrader zip_collect`` : une personne est le numéro de participant que porte son dossier.

    Ce numéro devient son identifiant dans nbgrader ; l'export et le zip de feedback le rendent à Moodle. Son nom est
    gardé dans le carnet de notes, sauf si l'enseignant en a déjà donné un.
    """

    def collect(self, submitted_file: str) -> dict | None:
        if not hasattr(self, "_chosen"):
            self._chosen = self._choose_all()
        if (number := self._chosen.get(Path(submitted_file))) is None:
            return None
        # Moodle ne donne pas la date de la remise : aucune n'est rendue, sans quoi nbgrader compterait de faux retards.
        return {"student_id": number, "file_id": self.parent.coursedir.assignment_id}

    def _choose_all(self) -> dict[Path, str]:
        """Le notebook retenu pour chaque personne, et son numéro."""
        app = self.parent
        structure = app.collect_directory_structure.format(
            downloaded=app.downloaded_directory,
            assignment_id=app.coursedir.assignment_id,
            collect_step=app.extracted_directory,
        )
        root, names, notebooks = Path(app.coursedir.root) / structure, {}, {}
        for path in sorted(root.rglob("*")):
            submission = parse_path(PurePosixPath(composed(path.relative_to(root).as_posix())))
            if submission is None:
                continue
            names.setdefault(submission.number, submission.name)
            if path.suffix == ".ipynb" and path.is_file():
                notebooks.setdefault(submission.number, []).append(path)
        for number in sorted(names.keys() - notebooks.keys(), key=int):
            self.log.warning("%s (%s) n'a remis aucun notebook.", names[number], number)
        self._remember({number: names[number] for number in notebooks})
        return {self._choose(paths, f"{names[number]} ({number})"): number for number, paths in notebooks.items()}

    def _choose(self, paths: list[Path], who: str) -> Path:
        coursedir = self.parent.coursedir
        assignment = coursedir.assignment_id
        if len(paths) == 1:
            if not _named(paths[0], assignment):
                self.log.warning("%s : « %s » est pris pour %s.", who, paths[0].name, assignment)
            return paths[0]
        released = Path(coursedir.format_path(coursedir.release_directory, ".", assignment), f"{assignment}.ipynb")
        statement = _sources(released)
        best, *others = sorted(paths, key=lambda path: _merit(path, assignment, statement), reverse=True)
        self.log.warning(
            "%s a remis %d notebooks : « %s » est retenu ; écartés : %s. Ordre de préférence : rempli plutôt que "
            "vierge ou illisible, nommé %s, de l'archive la plus récente, copie la plus tardive.",
            *(who, len(paths), best.name, ", ".join(f"« {path.name} »" for path in others), assignment),
        )
        return best

    def _remember(self, names: dict[str, str]) -> None:
        coursedir = self.parent.coursedir
        with Gradebook(coursedir.db_url, coursedir.course_id) as gradebook:
            for number, name in names.items():
                try:
                    student = gradebook.find_student(number)
                    known = student.first_name or student.last_name
                except MissingEntry:
                    known = False
                if not known:  # Moodle ne dit pas où finit le prénom ; les deux, réunis, redonnent le nom entier
                    first, last = name.split(" ", 1) if " " in name else ("", name)
                    gradebook.update_or_create_student(number, first_name=first, last_name=last)


def _named(path: Path, assignment: str) -> bool:
    """Vrai si un nom contient celui du devoir, aux espaces, tirets et majuscules près : « Copie de … », « … (1) »."""
    name = re.sub(r"[\s_-]+", "_", unicodedata.normalize("NFKC", path.stem).casefold())
    return re.search(rf"{re.escape(assignment.casefold())}(?!\d)", name) is not None


def _merit(path: Path, assignment: str, statement: list[str] | None) -> tuple:
    sources = _sources(path)
    quality = 0 if sources is None else 1 if sources == statement else 2
    number = re.search(r"\((\d+)\)$", path.stem)  # ce qu'ajoutent les navigateurs, et Moodle à un second dépôt
    copies = int(number[1]) if number else len(re.findall(r"copie|copy", path.stem.casefold()))
    return quality, _named(path, assignment), path.stat().st_mtime, copies


def _sources(path: Path) -> list[str] | None:
    """Le texte des cellules d'un notebook ; rien s'il est illisible."""
    try:
        cells = json.loads(path.read_text(encoding="utf-8-sig"))["cells"]
        return ["".join(cell["source"]) for cell in cells]
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
