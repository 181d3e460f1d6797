"""Les trois étapes que nbgrader exécute pour chaque copie : remettre le notebook en ordre, en garder des sorties sans
danger, le corriger enfermé. ``nbgrader_config.py`` les met à la place de celles de nbgrader, qui exécutent le notebook
de l'élève dans son propre noyau.
"""

import re
import secrets
from importlib import import_module
from pathlib import Path

import nbformat
from nbformat.v4 import new_markdown_cell, new_output
from nbgrader.api import Gradebook
from nbgrader.preprocessors import NbGraderPreprocessor
from nbgrader.utils import rmtree
from traitlets import Bool, Integer

from kdcourse.formats import short
from kdgrading.intake import fingerprint
from kdgrading.isolation import Isolation
from kdgrading.plain_copy import clean, new_cell, plain_copy, without_html
from kdgrading.sandbox import SandboxError

# Importés au besoin : noter multi_teacher ne charge pas scikit-learn.
_EXERCISES = {
    "multi_teacher": "mark_multi_teacher",
    "size_study": "mark_size_study",
    "compression_challenge": "mark_challenge",
    "neighbours_and_memory": "mark_neighbours_and_memory",
}
_ANCHOR = re.compile(r"<!--.*?-->")


class RestoreCells(NbGraderPreprocessor):
    """Rend aux cellules notées leur identité, d'après le carnet de notes seul.

    Ce que l'élève a fait des métadonnées ne compte pas : effacées, recopiées ou forgées, elles sont réécrites. Une
    réponse rédigée qui a perdu les siennes se retrouve par son ancre, ``<!-- réponse … -->``. Une cellule disparue
    revient à la fin du notebook, telle qu'elle a été distribuée.
    """

    def preprocess(self, nb, resources):
        """Réécrit toutes les cellules, sans exécuter quoi que ce soit."""
        Isolation.get()  # le processus chaud met quelques secondes à s'apprêter : qu'il commence
        info = resources["nbgrader"]
        with Gradebook(info["db_url"]) as gradebook:
            notebook = gradebook.find_notebook(info["notebook"], info["assignment"])
            points = {cell.name: cell.max_score for cell in notebook.grade_cells}
            solutions = {cell.name for cell in notebook.solution_cells}
            known = {
                cell.name: (cell.cell_type, cell.source, _metadata(cell, points.get(cell.name), cell.name in solutions))
                for cell in notebook.source_cells
            }
        cells = [plain_copy(cell) for cell in nb.cells]
        unreadable = clean(nb.metadata.get("kdcourse_unreadable") or "")[:200]
        nb.metadata = {"language_info": {"name": "python"}} | (
            {"kdcourse_unreadable": unreadable} if unreadable else {}
        )
        owners = _owners(nb.cells, known)
        if not unreadable and not owners and any(map(_grade_id, nb.cells)):
            unreadable = nb.metadata["kdcourse_unreadable"] = "le notebook d'un autre exercice"
        if not unreadable and not owners:
            self.log.warning("%s : aucune cellule de l'exercice dans la copie.", info["student"])
        if unreadable:
            self.log.warning("%s : copie illisible, %s ; sa note attend votre lecture.", info["student"], unreadable)
        given = {source.strip() for _, source, _ in known.values()} | self._statement(
            info["assignment"], info["notebook"]
        )
        beside = {}
        for name, (kind, source, metadata) in known.items():
            index = owners.get(name)
            if index is None:
                cells.append(new_cell(kind, source))
                index = len(cells) - 1
                self.log.warning("%s : cellule %s absente de la copie, remise à la fin.", info["student"], name)
            elif cells[index].cell_type != kind:
                cells[index] = new_cell(kind, cells[index].source)
            if cells[index].source.strip() == source.strip():
                cells[index].source = source  # sans réponse : nbgrader le reconnaît à la somme de contrôle
                if kind != "code" and (near := _written_near(cells, index, set(owners.values()), given)):
                    added, pictures = near
                    cells[index].source = f"{source}\n\n*Écrit dans une cellule voisine :*\n\n{added}"
                    if pictures:
                        cells[index]["attachments"] = pictures
            elif metadata["locked"]:  # nbgrader y remettra l'énoncé : ce que l'élève y a écrit se lit dessous
                known_lines = {line.strip() for line in source.splitlines()}
                lines = [line for line in cells[index].source.splitlines() if line.strip() not in known_lines]
                beside[index] = "\n".join(lines)
            cells[index].metadata["nbgrader"] = metadata
        for index in sorted(beside, reverse=True):
            text = f"*Écrit dans la cellule de test :*\n\n{_fenced(beside[index])}"
            cells.insert(index + 1, new_markdown_cell(text))
        untouched = {source for _, source, _ in known.values()}
        for cell in cells:
            if cell.cell_type != "code" and cell.source not in untouched:
                cell.source = without_html(cell.source)
        nb.cells = cells
        return nb, resources

    def _statement(self, assignment: str, notebook: str) -> set[str]:
        """Les textes de l'énoncé distribué : ce qui n'en est pas est de l'élève."""
        coursedir = self.parent.parent.coursedir
        path = Path(coursedir.format_path(coursedir.release_directory, ".", assignment), f"{notebook}.ipynb")
        return {cell.source.strip() for cell in nbformat.read(path, as_version=4).cells} if path.is_file() else set()


def _metadata(cell, points: float | None, solution: bool) -> dict:
    metadata = {"grade_id": cell.name, "grade": points is not None, "solution": solution, "locked": cell.locked}
    metadata |= {"task": False, "schema_version": 3, "cell_type": cell.cell_type, "checksum": cell.checksum}
    return metadata if points is None else metadata | {"points": points}


def _owners(cells, known: dict) -> dict[str, int]:
    """Rang de la cellule qui porte chaque nom ; parmi des copies, la dernière que l'élève a modifiée."""
    owners = {}
    for name, (_, source, _) in known.items():
        anchor = _ANCHOR.search(source)
        found = [i for i, cell in enumerate(cells) if _grade_id(cell) == name]
        if anchor:
            found += [i for i, cell in enumerate(cells) if anchor[0] in cell.source and i not in found]
        changed = [i for i in sorted(found) if cells[i].source.strip() != source.strip()]
        if found:
            owners[name] = (changed or sorted(found))[-1]
    taken = {}
    for name, index in owners.items():
        taken.setdefault(index, name)
    return {name: index for index, name in taken.items()}


def _written_near(cells, index: int, owned: set[int], given: set[str]) -> tuple[str, dict] | None:
    """Ce que l'élève a écrit dans ses propres cellules autour d'une réponse vide, entre les deux cellules notées
    voisines ; dans toute la copie si la cellule de la réponse n'y était plus. Le texte, et ses images.
    """
    lost = index not in owned
    first = max((place for place in owned if place < index and not lost), default=-1)
    last = min((place for place in owned if place > index), default=len(cells))
    texts, pictures = [], {}
    for place in range(first + 1, last):
        text = cells[place].source.strip()
        if text and place not in {index, *owned} and text not in given:
            for name, bundle in cells[place].get("attachments", {}).items():
                text = text.replace(f"attachment:{name}", f"attachment:{place}-{name}")
                pictures[f"{place}-{name}"] = bundle
            texts.append(_fenced(text) if cells[place].cell_type == "code" else text)
    return ("\n\n".join(texts), pictures) if texts else None


def _fenced(text: str) -> str:
    """Un texte en bloc de code, qu'aucune de ses lignes ne peut fermer."""
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _grade_id(cell) -> str | None:
    metadata = cell.get("metadata", {}).get("nbgrader")
    return metadata.get("grade_id") if isinstance(metadata, dict) else None


class IsolatedGrade(NbGraderPreprocessor):
    """Corrige les cellules de test : le code de l'élève tourne enfermé et rend des nombres, le parent les juge.

    Chaque cellule notée reçoit une phrase et ses points ; ``SaveAutoGrades``, de nbgrader, les range.
    """

    seed = Integer(
        None,
        allow_none=True,
        help="Graine des cas cachés ; tirée au hasard pour chaque copie, et imprimée avec le retour. "
        "La redonner refait exactement la même correction.",
    ).tag(config=True)
    accept_no_sandbox = Bool(
        False, help="Corriger même sans bac à sable : le code des élèves tourne alors avec vos droits."
    ).tag(config=True)

    def preprocess(self, nb, resources):
        """Note le notebook ; le carnet n'est pas touché ici."""
        assignment = resources["nbgrader"]["assignment"]
        if assignment not in _EXERCISES:
            raise ValueError(
                f"Devoir {assignment!r} reçu, un de ceux que ce cours sait corriger attendu : {', '.join(_EXERCISES)}."
            )
        # torch se charge ici, pendant que le processus chaud s'apprête.
        from kdgrading.answer import Answer, Mark

        exercise = import_module(f"kdgrading.{_EXERCISES[assignment]}")
        isolation, worker = Isolation.get(), self._worker(resources)
        seed = secrets.randbelow(2**31) if self.seed is None else self.seed
        cells = [[cell.cell_type, cell.source] for cell in nb.cells if not _is_test(cell)]
        unreadable = nb.metadata.get("kdcourse_unreadable")
        marks, measures = {}, {}
        if not unreadable:
            marks, measures = exercise.grade(Answer(worker, cells, exercise.NAMES), seed)
        for cell in filter(_is_written, nb.cells):  # toujours lue : sans somme, nbgrader ne lui donne pas 0 d'office
            cell.metadata.nbgrader.pop("checksum", None)
        for cell in filter(_is_test, nb.cells):
            name = cell.metadata.nbgrader.grade_id
            _write(cell, marks.get(name, Mark(0.0, f"le fichier rendu est illisible ({unreadable})")))
        coursedir, info = self.parent.parent.coursedir, resources["nbgrader"]
        handed_in = Path(coursedir.format_path(coursedir.submitted_directory, info["student"], info["assignment"]))
        record = {"seed": seed, "isolation": isolation.level, "submitted": fingerprint(handed_in)} | measures
        nb.metadata["kdcourse"] = record
        note = f"Correction automatique, graine {seed}. Isolation : {isolation.level}."
        nb.cells.append(new_markdown_cell(note))
        self.log.info("%s : graine %d.", resources["nbgrader"]["student"], seed)
        return nb, resources

    def _worker(self, resources):
        isolation, first = Isolation.get(), Isolation.get().unchecked
        try:
            worker = isolation.worker(self.accept_no_sandbox)
        except SandboxError as error:
            # Rien n'est noté, et rien ne reste à moitié : la prochaine correction reprendra cette copie.
            converter, info = self.parent.parent, resources["nbgrader"]
            rmtree(converter._format_dest(info["assignment"], info["student"]))
            raise SystemExit(str(error)) from None
        if first:
            self.log.warning("Isolation : %s.", isolation.level)
        return worker


def _is_test(cell) -> bool:
    metadata = cell.metadata.get("nbgrader", {})
    return cell.cell_type == "code" and bool(metadata.get("grade")) and not metadata.get("solution")


def _is_written(cell) -> bool:
    metadata = cell.metadata.get("nbgrader", {})
    return cell.cell_type != "code" and bool(metadata.get("grade")) and bool(metadata.get("solution"))


def _write(cell, mark) -> None:
    points = cell.metadata.nbgrader.points
    earned = round(points * min(max(mark.share, 0.0), 1.0), 2)
    feedback = clean(" ".join(mark.feedback.split())).rstrip(".")
    cell.execution_count = 1
    cell.outputs = [
        new_output("stream", name="stdout", text=f"{short(earned)} sur {short(points)} — {feedback}.\n"),
        new_output("execute_result", data={"text/plain": repr(earned)}, execution_count=1),
    ]
