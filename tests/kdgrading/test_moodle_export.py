"""Ce que ``nbgrader export`` rend à Moodle, lu comme Moodle le lit."""

import csv
import io
import json
import os
import re
import shutil
import zipfile

import pytest

pytest.importorskip("nbgrader")
from nbgrader.api import Gradebook  # noqa: E402
from support.moodle_course import NAME, course_at, find_alembic, nbgrader  # noqa: E402

from kdgrading import (  # noqa: E402
    moodle_export,
)
from kdgrading.intake import fingerprint  # noqa: E402
from kdgrading.moodle_worksheet import (  # noqa: E402
    Worksheet,
)

EXPORT = ["export", "--exporter", "kdgrading.moodle_export.MoodleExport"]


@pytest.fixture(scope="module", autouse=True)
def commands_of_this_environment():
    with pytest.MonkeyPatch.context() as patch:
        find_alembic(patch)
        yield


# Identifiant, prénom, nom, courriel, note sur 20 (rien : pas de remise), correction manuelle en attente.
STUDENTS = [
    ("101", "Marie", "Lefèvre", "marie@exemple.fr", 20.0, False),
    ("102", "Anne-Sophie", "d'Arc, comtesse", None, 12.5, False),
    ("103", "=HYPERLINK(0)", "-2+3", None, 3.14159, False),
    ("104", "Jean_Luc", "Le/Goff", None, 7.0, True),
    ("105", "Pas", "Remis", None, None, False),
    ("jdupont", "Jules", "Dupont", "Jules@Exemple.fr", 10.0, False),
]
WORKSHEET = (
    '\ufeffIdentifiant,"Nom complet","Adresse de courriel",Statut,Note,"Note maximale","La note peut être modifiée",'
    '"Dernière modification (note)","Feedback par commentaires"\r\n'
    'Participant101,"Marie Lefèvre",marie@exemple.fr,"Remis",,"100,00",Oui,-,"<p>Une ligne,\r\nune ""autre"".</p>"\r\n'
    'Participant 102,"Anne-Sophie d\'Arc, comtesse",,Remis,"3,00","100,00",Oui,-,\r\n'
    "Participant104,Jean Luc,,Remis,,100.00,Oui,-,\r\n"
    'Participant105,"Pas Remis",,"Aucune remise",,"100,00",Oui,-,\r\n'
    'Participant777,"Jules Dupont",jules@exemple.fr,Remis,,"100,00",Oui,-,\r\n'
)


@pytest.fixture(scope="module")
def graded(tmp_path_factory):
    course = course_at(tmp_path_factory.mktemp("export") / "cours")
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "kdcourse") as gradebook:
        gradebook.add_assignment(NAME)
        gradebook.add_assignment("size_study")
        gradebook.add_notebook(NAME, NAME)
        gradebook.add_grade_cell("points", NAME, NAME, max_score=20, cell_type="code")
        gradebook.add_solution_cell("reponse", NAME, NAME)
        for number, first, last, email, score, pending in STUDENTS:
            gradebook.add_student(number, first_name=first, last_name=last, email=email)
            if score is None:
                continue
            gradebook.add_submission(NAME, number)
            grade = gradebook.find_grade("points", NAME, NAME, number)
            grade.auto_score, grade.needs_manual_grade = score, pending
            page = course / "feedback" / number / NAME / f"{NAME}.html"
            if number != "102":
                page.parent.mkdir(parents=True)
                page.write_text(f"<p>{number}</p>", encoding="utf-8")
        gradebook.db.commit()
    (course / "submitted" / "106" / NAME).mkdir(parents=True)
    (course / "formulaire.csv").write_bytes(WORKSHEET.encode())
    return course


@pytest.fixture(scope="module")
def exported(graded):
    return nbgrader(graded, *EXPORT), graded / "moodle"


def moodle_table(content: bytes, separator: str = ",") -> list[dict]:
    """Ce que lit Moodle : csv_import_reader ôte la marque UTF-8, puis prend la première ligne pour noms de colonnes."""
    text = content.decode("utf-8").removeprefix("\ufeff")
    return list(csv.DictReader(io.StringIO(text, newline=""), delimiter=separator))


def moodle_file_owner(path: str) -> tuple[str, str, str, str] | None:
    """is_valid_filename_for_import de mod/assign/feedback/file/importziplib.php : participant, greffon, fichier."""
    parts = ("/import/" + path).split("/")
    if parts[-1].startswith((".", "~")):
        return None
    while parts:
        info = parts.pop(0).split("_", 4)
        if len(info) < 4 or not info[1].isdigit():
            continue
        info += [""] * (5 - len(info))
        return info[1], info[2], info[3], "/".join([info[4], *parts])
    return None


def test_le_csv_se_lit_comme_moodle_le_lit(exported):
    process, folder = exported
    assert process.returncode == 0, process.stderr
    assert sorted(path.name for path in folder.iterdir()) == [f"{NAME}_feedback.zip", f"{NAME}_notes.csv"]
    rows = {row["Identifiant"]: row for row in moodle_table((folder / f"{NAME}_notes.csv").read_bytes())}
    grades = {identifier: row["Note"] for identifier, row in rows.items()}
    assert grades == {
        "Participant 101": "20.00",
        "Participant 102": "12.50",
        "Participant 103": "3.14",
        "jdupont": "10.00",
    }
    # importgradeslib.php retire la longueur de « Participant  » (anglais) ou de « Participant » (français).
    for word in ("Participant ", "Participant"):
        assert sorted(int(i[len(word) :]) for i in rows if i.startswith("Participant")) == [101, 102, 103]
    assert rows["Participant 102"]["Nom complet"] == "Anne-Sophie d'Arc, comtesse"
    assert {row["Note maximale"] for row in rows.values()} == {"20.00"}


def test_le_csv_montre_ses_accents_a_un_tableur_et_n_y_execute_rien(exported):
    content = (exported[1] / f"{NAME}_notes.csv").read_bytes()
    assert content.startswith(b"\xef\xbb\xbf")
    cells = [cell for row in moodle_table(content) for cell in row.values()]
    assert "'=HYPERLINK(0) -2+3" in cells
    assert [cell for cell in cells if cell[:1] in tuple("=+@")] == []


def test_une_note_en_attente_de_correction_est_dite_et_non_exportee(exported):
    process, folder = exported
    assert "attendent une correction manuelle, non exportées" in process.stderr
    assert "accept_pending=True) : Jean_Luc Le/Goff." in process.stderr
    assert b"104" not in (folder / f"{NAME}_notes.csv").read_bytes()


def test_une_remise_jamais_corrigee_est_dite(exported):
    assert "remises que nbgrader autograde n'a pas corrigées : 106." in exported[0].stderr


def test_moodle_rend_chaque_feedback_a_son_participant(exported):
    with zipfile.ZipFile(exported[1] / f"{NAME}_feedback.zip") as archive:
        owners = {moodle_file_owner(name): archive.read(name).decode() for name in archive.namelist()}
    page = ("assignfeedback", "file", f"/{NAME}.html")
    assert owners == {("101", *page): "<p>101</p>", ("103", *page): "<p>103</p>"}
    assert "d'Arc, comtesse (102) : pas de feedback, nbgrader generate_feedback reste à lancer" in exported[0].stderr
    assert "Dupont (jdupont) : pas de feedback, numéro de participant inconnu" in exported[0].stderr


def test_point_virgule_virgule_decimale_et_notes_en_attente_s_ils_sont_demandes(graded):
    options = ["--MoodleExport.separator=;", "--MoodleExport.decimal_comma=True", "--MoodleExport.accept_pending=True"]
    process = nbgrader(graded, *EXPORT, "--to", "autre/dossier", "--assignment", NAME, *options)
    assert process.returncode == 0, process.stderr
    rows = {
        row["Identifiant"]: row for row in moodle_table((graded / f"autre/dossier/{NAME}_notes.csv").read_bytes(), ";")
    }
    assert rows["Participant 104"]["Note"] == "7,00" and rows["Participant 102"]["Note"] == "12,50"
    with zipfile.ZipFile(graded / f"autre/dossier/{NAME}_feedback.zip") as archive:
        owner = [name for name in archive.namelist() if "_104_" in name]
    assert owner == [f"Jean Luc Le Goff_104_assignfeedback_file/{NAME}.html"]


def test_le_formulaire_de_moodle_est_rempli_et_le_reste_intact_a_l_octet(graded):
    process = nbgrader(graded, *EXPORT, "--to", "formulaire", "--MoodleExport.worksheet=formulaire.csv")
    assert process.returncode == 0, process.stderr
    expected = WORKSHEET.replace('"Remis",,"100', '"Remis",100.00,"100').replace('"3,00"', "62.50")
    expected = expected.replace('fr,Remis,,"100', 'fr,Remis,50.00,"100')  # reconnu à son courriel
    assert (graded / f"formulaire/{NAME}_notes.csv").read_bytes() == expected.encode()
    assert "-2+3 (103) n'est pas dans le formulaire : note non écrite" in process.stderr
    with zipfile.ZipFile(graded / f"formulaire/{NAME}_feedback.zip") as archive:
        assert sorted(moodle_file_owner(name)[0] for name in archive.namelist()) == ["101", "777"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--assignment", "exercice_99"], "exercice_99 reçu, un de ceux-ci attendu : multi_teacher, size_study"),
        (["--to", "notes.csv"], "to : notes.csv reçu, le nom d'un dossier attendu"),
        (["--MoodleExport.worksheet=absente.csv"], "absente.csv"),
    ],
)
def test_un_mauvais_argument_arrete_l_export_sans_rien_ecrire(graded, options, message):
    before = sorted(graded.rglob("*_notes.csv"))
    process = nbgrader(graded, *EXPORT, *options)
    assert process.returncode == 1 and message in process.stderr
    assert sorted(graded.rglob("*_notes.csv")) == before


def constant(number, email, maximum):
    return "1,50"


def test_un_formulaire_garde_son_separateur_et_ses_guillemets():
    assert (
        Worksheet(b'Identifier;Grade\nParticipant 1;"2"\n').fill(constant) == b"Identifier;Grade\nParticipant 1;1,50\n"
    )
    assert Worksheet(b"Identifier,Grade\nParticipant 1,").fill(constant) == b'Identifier,Grade\nParticipant 1,"1,50"'


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("Identifiant,Note\né".encode("latin-1"), "UTF-8"),
        (b"", "attendue"),
        (b"Nom,Note\nA,1\n", "« identifiant »"),
        (b'Identifiant,Note\nParticipant 1,"a\\" b"\n', "guillemets mal fermés"),
        (b"Identifiant,Note\nParticipant 1\n", "enregistrement 2 : 1 champs lus, 2 attendus"),
        (b"Identifiant,Note,Note maximale\nParticipant 1,,Acquis\n", "'Acquis' lu, un nombre attendu"),
    ],
)
def test_un_formulaire_mal_forme_est_refuse_avec_sa_raison(content, message):
    with pytest.raises(ValueError, match=message):
        Worksheet(content).fill(constant)


def test_un_export_interrompu_laisse_l_ancien_fichier_entier(tmp_path):
    target = tmp_path / "notes.csv"
    target.write_text("ancien", encoding="utf-8")

    def interrupted(path):
        path.write_text("nou", encoding="utf-8")
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        moodle_export._replace(target, interrupted)
    assert target.read_text(encoding="utf-8") == "ancien"


# --- Des notes qui ne sont plus les bonnes


OUTDATED = "page d'une autre note, d'une autre remise ou d'un autre commentaire"


@pytest.fixture
def copied(graded, tmp_path):
    """Le cours, à soi : on peut l'abîmer. Marie (101) a rendu une copie, corrigée."""
    course = shutil.copytree(graded, tmp_path / "cours")
    handed_in = course / "submitted/101" / NAME
    handed_in.mkdir(parents=True)
    (handed_in / f"{NAME}.ipynb").write_text("première version", encoding="utf-8")
    corrected = course / "autograded/101" / NAME
    corrected.mkdir(parents=True)
    record = {"metadata": {"kdcourse": {"submitted": fingerprint(handed_in)}}}
    (corrected / f"{NAME}.ipynb").write_text(json.dumps(record), encoding="utf-8")
    shutil.rmtree(course / "moodle", ignore_errors=True)
    for page in course.glob("feedback/*/*/*.html"):
        page.touch()  # écrite après la correction
    return course


def test_une_remise_changee_depuis_sa_correction_arrete_l_export_et_la_personne_est_nommee(copied):
    assert nbgrader(copied, *EXPORT).returncode == 0
    shutil.rmtree(copied / "moodle")
    (copied / "submitted/101" / NAME / f"{NAME}.ipynb").write_text("seconde version", encoding="utf-8")
    process = nbgrader(copied, *EXPORT)
    assert process.returncode != 0 and not list((copied / "moodle").glob("*"))
    assert "remise changée depuis sa correction : Marie Lefèvre ; relancez nbgrader autograde" in process.stderr


def test_une_page_qui_montre_une_autre_note_arrete_l_export(copied):
    page = copied / "feedback/101" / NAME / f"{NAME}.html"
    page.write_text("<h4>exercice (Score: 5.0 / 20.0)</h4>", encoding="utf-8")
    process = nbgrader(copied, *EXPORT)
    assert process.returncode != 0 and not list((copied / "moodle").glob("*"))
    assert f"{OUTDATED} : Marie Lefèvre ; relancez nbgrader generate_feedback" in process.stderr
    page.write_text("<h4>exercice (Score: 20.0 / 20.0)</h4> (Score: 3.0 / 4.0)", encoding="utf-8")
    assert nbgrader(copied, *EXPORT).returncode == 0


def test_une_page_d_une_autre_remise_ou_d_un_autre_commentaire_arrete_l_export(copied):
    page, corrected = (copied / place / "101" / NAME / f"{NAME}" for place in ("feedback", "autograded"))
    page, corrected = page.with_suffix(".html"), corrected.with_suffix(".ipynb")
    os.utime(page, (0, corrected.stat().st_mtime - 60))  # corrigée de nouveau, la note n'a pas changé
    process = nbgrader(copied, *EXPORT)
    assert process.returncode != 0 and f"{OUTDATED} : Marie Lefèvre" in process.stderr
    page.write_text("<h4>exercice (Score: 20.0 / 20.0)</h4><p>Bien, <em>mais</em> relisez la question 2.</p>")
    for comment, fresh in (("Bien, mais relisez la question 2.", True), ("Bien, mais relisez la question 3.", False)):
        with Gradebook(f"sqlite:///{copied / 'gradebook.db'}", "kdcourse") as gradebook:
            notebook = gradebook.find_submission_notebook(NAME, NAME, "101")
            notebook.comments[0].manual_comment = comment
            gradebook.db.commit()
        process = nbgrader(copied, *EXPORT)
        assert (process.returncode == 0) == fresh, process.stderr


@pytest.mark.parametrize("same_emails", [False, True])
def test_le_formulaire_d_un_autre_devoir_est_refuse_avant_d_ecrire(copied, same_emails):
    other = WORKSHEET
    for number in ("101", "102", "103", "104", "106", "777"):
        other = re.sub(rf"Participant ?{number}", f"Participant 9{number}", other)
    other = other if same_emails else other.replace("@exemple.fr", "@ailleurs.fr")
    (copied / "autre.csv").write_bytes(other.encode())
    process = nbgrader(copied, *EXPORT, "--assignment", NAME, "--MoodleExport.worksheet=autre.csv")
    assert process.returncode != 0 and "aucune des personnes notées n'y est" in process.stderr
    assert not list((copied / "moodle").glob("*"))


def test_l_archive_d_un_export_plus_ancien_ne_reste_pas(copied):
    assert nbgrader(copied, *EXPORT).returncode == 0
    archive = copied / "moodle" / f"{NAME}_feedback.zip"
    assert archive.exists()
    shutil.rmtree(copied / "feedback")
    assert nbgrader(copied, *EXPORT).returncode == 0
    assert not archive.exists()
