"""Rendre les notes à Moodle : un CSV qu'il importe, et un zip de feedback dans les dossiers qu'il attend."""

import csv
import html
import io
import json
import os
import re
import zipfile
from collections.abc import Callable
from glob import glob
from pathlib import Path
from typing import NamedTuple

from nbgrader.plugins import ExportPlugin
from traitlets import Bool, Enum, Unicode

from kdgrading.intake import fingerprint
from kdgrading.moodle_worksheet import Worksheet


class Mark(NamedTuple):
    """La note d'une personne à un devoir."""

    student: str
    name: str
    email: str
    score: float
    maximum: float
    shown: float
    """La note que montre une page de feedback : avant pénalité de retard."""
    comments: tuple[str, ...] = ()
    """Ce que le correcteur a écrit, et qu'elle montre aussi."""

    @property
    def number(self) -> str:
        """Numéro de participant, que la collecte prend pour identifiant ; vide si ce n'en est pas un."""
        return self.student if re.fullmatch(r"[0-9]+", self.student) else ""


class MoodleExport(ExportPlugin):
    """Greffon de ``nbgrader export`` ; ``--to`` y nomme un dossier, ``moodle`` par défaut.

    Seules les personnes notées y figurent : qui n'a rien remis garde dans Moodle une note vide, et non 0.
    """

    worksheet = Unicode(
        "", help="Formulaire d'évaluation téléchargé de Moodle : ses notes sont remplies, le reste n'est pas touché."
    ).tag(config=True)
    separator = Enum([",", ";"], ",", help="Séparateur du CSV écrit sans formulaire d'évaluation.").tag(config=True)
    decimal_comma = Bool(
        False, help="Écrire 12,50 plutôt que 12.50. Moodle en anglais n'en lirait que 12 ; en français il lit les deux."
    ).tag(config=True)
    accept_pending = Bool(False, help="Exporter aussi les notes qui attendent une correction manuelle.").tag(
        config=True
    )

    def export(self, gradebook) -> None:
        known = [assignment.name for assignment in gradebook.assignments]
        wanted = [str(name) for name in self.assignment] or [a.name for a in gradebook.assignments if a.submissions]
        if unknown := sorted(set(wanted) - set(known)):
            self.parent.fail(f"assignment : {', '.join(unknown)} reçu, un de ceux-ci attendu : {', '.join(known)}.")
        if self.worksheet and len(wanted) != 1:
            self.parent.fail(
                f"worksheet : un formulaire vaut pour un devoir, {len(wanted)} notés ; ajoutez --assignment."
            )
        folder = Path(self.to or "moodle")
        if folder.suffix.lower() == ".csv" or folder.is_file():
            self.parent.fail(f"to : {folder} reçu, le nom d'un dossier attendu.")
        folder.mkdir(parents=True, exist_ok=True)
        for name in wanted:
            marks = self._marks(gradebook, name)
            self._check_fresh(name, marks)
            try:
                content, numbers = self._filled(marks) if self.worksheet else self._table(marks)
            except (OSError, ValueError) as error:
                self.parent.fail(f"worksheet : {self.worksheet} : {error}")
            _replace(folder / f"{name}_notes.csv", lambda path, content=content: path.write_bytes(content))
            self.log.info(
                "%s écrit (notes écrites : %d).",
                folder / f"{name}_notes.csv",
                len(numbers) if self.worksheet else len(marks),
            )
            self._write_feedback(folder / f"{name}_feedback.zip", name, marks, numbers)

    def _marks(self, gradebook, name: str) -> list[Mark]:
        chosen, marks, pending, graded = [str(student) for student in self.student], [], [], set()
        for submission in gradebook.assignment_submissions(name):
            student = submission.student
            graded.add(student.id)
            if chosen and student.id not in chosen:
                continue
            full_name = " ".join(filter(None, (student.first_name, student.last_name)))
            score = max(0.0, submission.score - (submission.late_submission_penalty or 0.0))
            if score > submission.max_score:  # Moodle ignorerait la ligne, sans le dire
                self.log.warning("%s : %s ramené à %s.", full_name or student.id, score, submission.max_score)
                score = submission.max_score
            comments = tuple(
                comment.manual_comment
                for notebook in submission.notebooks for comment in notebook.comments if comment.manual_comment
            )  # fmt: skip
            mark = Mark(
                student.id, full_name, student.email or "", score, submission.max_score, submission.score, comments
            )
            if submission.needs_manual_grade:
                pending.append(mark)
                if not self.accept_pending:
                    continue
            marks.append(mark)
        if pending:
            fate = (
                "exportées quand même" if self.accept_pending else "non exportées (--MoodleExport.accept_pending=True)"
            )
            who = ", ".join(mark.name or mark.student for mark in pending)
            self.log.warning("%s : notes qui attendent une correction manuelle, %s : %s.", name, fate, who)
        coursedir = self.parent.coursedir
        handed_in = glob(coursedir.format_path(coursedir.submitted_directory, "*", name))
        if ungraded := sorted({Path(folder).parent.name for folder in handed_in} - graded):
            self.log.warning("%s : remises que nbgrader autograde n'a pas corrigées : %s.", name, ", ".join(ungraded))
        return sorted(marks, key=lambda mark: (mark.name.casefold(), mark.student))

    def _check_fresh(self, name: str, marks: list[Mark]) -> None:
        """Rien ne s'écrit tant qu'une note, ou une page, n'est pas celle de la dernière remise."""
        coursedir = self.parent.coursedir
        changed, outdated = [], []
        for mark in marks:
            folders = (coursedir.submitted_directory, coursedir.autograded_directory, coursedir.feedback_directory)
            handed_in, graded, pages = (Path(coursedir.format_path(place, mark.student, name)) for place in folders)
            record = _record(graded / f"{name}.ipynb")
            if handed_in.is_dir() and record.get("submitted", "") not in ("", fingerprint(handed_in)):
                changed.append(mark.name or mark.student)
            if any(_outdated(page, graded / f"{page.stem}.ipynb", mark) for page in pages.glob("*.html")):
                outdated.append(mark.name or mark.student)
        if changed:
            who = ", ".join(changed)
            self.parent.fail(
                f"{name} : remise changée depuis sa correction : {who} ; relancez nbgrader autograde {name} --force."
            )
        if outdated:
            who = ", ".join(outdated)
            self.parent.fail(
                f"{name} : page d'une autre note, d'une autre remise ou d'un autre commentaire : {who} ; relancez "
                f"nbgrader generate_feedback {name} --force."
            )

    def _filled(self, marks: list[Mark]) -> tuple[bytes, dict[str, str]]:
        """Le formulaire rempli, et le numéro de participant de chaque personne qui s'y trouve."""
        by_number = {mark.number: mark for mark in marks if mark.number}
        by_email = {mark.email.casefold(): mark for mark in marks if mark.email}
        numbers = {}

        def choose(number: str, email: str, maximum: float | None) -> str | None:
            mark = by_number.get(number) or by_email.get(email.casefold())
            if mark is None:
                return None
            numbers[mark.student] = number
            return self._number(mark.score * (maximum or mark.maximum) / (mark.maximum or 1))

        content = Worksheet(Path(self.worksheet).read_bytes()).fill(choose)
        for mark in marks:
            if mark.student not in numbers:
                self.log.warning("%s (%s) n'est pas dans le formulaire : note non écrite.", mark.name, mark.student)
        # Moodle donne à chacun un numéro par devoir : si pas un ne convient, les courriels ne prouvent rien.
        foreign = by_number and not by_number.keys() & set(numbers.values())
        if marks and (not numbers or foreign):
            raise ValueError(
                "aucune des personnes notées n'y est ; c'est le formulaire d'un autre devoir, ou d'un autre cours"
            )
        return content, numbers

    def _table(self, marks: list[Mark]) -> tuple[bytes, dict[str, str]]:
        """Un CSV qui se lit comme un formulaire d'évaluation en français, ou dans le carnet de notes par courriel."""
        table = io.StringIO(newline="")
        writer = csv.writer(table, delimiter=self.separator)
        writer.writerow(
            [
                "Identifiant",
                "Nom complet",
                "Adresse de courriel",
                "Note",
                "Note maximale",
                "Dernière modification (note)",
            ]
        )
        for mark in marks:
            # Moodle retire d'abord « Participant », avec son espace en anglais : sans elle, il perdrait un chiffre.
            identifier = f"Participant {mark.number}" if mark.number else mark.student
            texts = [_harmless(text) for text in (identifier, mark.name, mark.email)]
            writer.writerow([*texts, self._number(mark.score), self._number(mark.maximum), "-"])
        # La marque UTF-8 (BOM) montre les accents à Excel ; Moodle l'ôte.
        return table.getvalue().encode("utf-8-sig"), {mark.student: mark.number for mark in marks if mark.number}

    def _number(self, value: float) -> str:
        return f"{value:.2f}".replace(".", "," if self.decimal_comma else ".")

    def _write_feedback(self, path: Path, name: str, marks: list[Mark], numbers: dict[str, str]) -> None:
        coursedir, files = self.parent.coursedir, {}
        for mark in marks:
            pages = sorted(Path(coursedir.format_path(coursedir.feedback_directory, mark.student, name)).glob("*.html"))
            if mark.student not in numbers or not pages:
                why = "nbgrader generate_feedback reste à lancer" if not pages else "numéro de participant inconnu"
                self.log.warning("%s (%s) : pas de feedback, %s.", mark.name, mark.student, why)
                continue
            # Moodle coupe ce nom aux « _ » : le nom de la personne ne peut pas en contenir.
            person = re.sub(r'[\\/:*?"<>|_\x00-\x1f]+', " ", mark.name).strip(" .") or "Participant"
            files |= {f"{person}_{numbers[mark.student]}_assignfeedback_file/{page.name}": page for page in pages}
        path.unlink(missing_ok=True)  # l'archive d'un export plus ancien dirait d'autres notes
        if files:
            _replace(path, lambda partial: _zip(partial, files))
            self.log.info("%s écrit (pages de feedback : %d).", path, len(files))


_SCORE = re.compile(r"\(Score:?\s*([0-9.]+)\s*/")


def _outdated(page: Path, graded: Path, mark: Mark) -> bool:
    """Une page plus ancienne que la correction, ou qui n'en montre pas la note et les commentaires."""
    if graded.is_file() and page.stat().st_mtime < graded.stat().st_mtime - 1:
        return True
    text = page.read_text("utf-8")
    if any(abs(float(score) - mark.shown) > 0.006 for score in _SCORE.findall(text)[:1]):
        return True
    words = re.findall(r"\w+", html.unescape(re.sub(r"<[^>]*>", " ", text)))
    return not all(_said(re.findall(r"\w+", comment), words, comment) for comment in mark.comments)


def _said(comment: list[str], page: list[str], written: str) -> bool:
    """Les mots d'un commentaire se suivent dans la page ; d'un commentaire à liens ou à formules, la plupart y sont."""
    if re.search(r"[\[$<`]", written):
        return sum(word in page for word in comment) >= 0.9 * len(comment)
    return f" {' '.join(comment)} " in f" {' '.join(page)} "


def _record(graded: Path) -> dict:
    """Ce que la correction a noté d'elle-même dans le notebook corrigé."""
    try:
        return json.loads(graded.read_text(encoding="utf-8"))["metadata"]["kdcourse"]
    except (OSError, ValueError, KeyError):
        return {}


def _zip(path: Path, files: dict[str, Path]) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, source in files.items():
            archive.write(source, name)


def _harmless(text: str) -> str:
    """Un tableur exécuterait un texte qui commence comme une formule ; une apostrophe l'en empêche."""
    return f"'{text}" if text.lstrip()[:1] in tuple("=+-@") else text


def _replace(path: Path, write: Callable[[Path], object]) -> None:
    """Écrit à côté, puis remplace : l'ancien fichier reste tant que le nouveau n'est pas entier."""
    partial = path.with_name(path.name + ".partiel")
    write(partial)
    os.replace(partial, path)
