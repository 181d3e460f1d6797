"""Une archive de Moodle, collectée par la vraie commande ``nbgrader zip_collect``."""

import io
import json
import stat
import unicodedata
import zipfile

import pytest

pytest.importorskip("nbgrader")
from nbgrader.api import Gradebook  # noqa: E402
from support.moodle_course import NAME, course_at, find_alembic, nbgrader  # noqa: E402


@pytest.fixture(scope="module", autouse=True)
def commands_of_this_environment():
    with pytest.MonkeyPatch.context() as patch:
        find_alembic(patch)
        yield


def notebook(*sources: str) -> bytes:
    cells = [
        {"cell_type": "code", "source": s, "metadata": {}, "outputs": [], "execution_count": None} for s in sources
    ]
    return json.dumps({"cells": cells, "metadata": {}, "nbformat": 4, "nbformat_minor": 4}).encode()


def zipped(*files: tuple[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return content.getvalue()


def with_entry(mode: int, name: str, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
    entry = zipfile.ZipInfo(name)
    entry.external_attr = mode << 16
    return entry, data


def of(name: str, number: int, file: str, ending: str = "") -> str:
    return f"{name}_{number}_assignsubmission_file{ending}/{file}"


class UnmarkedName(zipfile.ZipInfo):
    """Une entrée d'ancien Moodle : son nom est en UTF-8, et rien ne le dit."""

    def _encodeFilenameFlags(self):
        return self.filename.encode("utf-8"), self.flag_bits & ~0x800


STATEMENT = notebook("def f(): ...")
BOMB = zipped((f"{NAME}.ipynb", b"0" * 60_000_000))
LAST_YEAR = (2025, 1, 1, 12, 0, 0)


def dated(date: tuple, name: str, data: bytes) -> tuple[zipfile.ZipInfo, bytes]:
    return zipfile.ZipInfo(name, date), data


# Ce que contient l'archive, et le notebook attendu de chacun (rien : aucun n'est retenu).
SUBMITTED = [
    (of("Marie Lefèvre", 101, f"{NAME}.ipynb"), b"marie"),
    (of(unicodedata.normalize("NFD", "Zoé Müller"), 102, f"{NAME}.ipynb", ending="_"), b"zoe"),
    (f"Anne-Sophie d'Arc_103_assignsubmission_file_{NAME}.ipynb", b"anne"),
    (of("Groupe A-Jean Le Goff", 104, f"{NAME} (1).ipynb"), notebook("première copie")),
    (of("Groupe A-Jean Le Goff", 104, f"{NAME} (2).ipynb"), notebook("seconde copie")),
    (of("Groupe A-Jean Le Goff", 104, "brouillon (9).ipynb"), notebook("brouillon")),
    (of("O'Neill Siân", 105, f"Copie de {NAME}.ipynb"), b"colab"),
    (of("Participant", 106, "Exercice 10 1.IPYNB"), b"majuscules"),
    (of("Lou", 107, "rapport.pdf"), b"%PDF"),
    (of("Lou", 107, "exercice.py"), b"print()"),
    (of("Kim Texte", 108, f"{NAME}.ipynb.txt"), b"texte"),
    (of("Ali Zip", 109, "devoir.zip"), zipped((f"dossier/{NAME}.ipynb", b"zip"), ("__MACOSX/._a.ipynb", b"mac"))),
    (of("Ève Vierge", 110, f"{NAME} (1).ipynb"), STATEMENT),
    (of("Ève Vierge", 110, f"{NAME}.ipynb"), notebook("def f(): return 1")),
    (of("Ève Vierge", 110, f".ipynb_checkpoints/{NAME}-checkpoint.ipynb"), notebook("ancien")),
    (of("Luc Bombe", 111, "bombe.zip"), BOMB),
    (of("Luc Gros", 112, f"{NAME}.ipynb"), b"0" * 60_000_000),
    (of("Max Abîmé", 113, "abime.zip"), zipped((f"{NAME}.ipynb", b"x" * 999))[:-40]),
    (of("Eva Échappe", 114, "fuite.zip"), zipped(("../../../../evasion.ipynb", b"evasion"))),
    with_entry(stat.S_IFLNK | 0o777, of("Léo Lien", 115, f"{NAME}.ipynb"), b"/etc/passwd"),
    (of("Ida Autre", 116, "imite.zip"), zipped((of("Marie Lefèvre", 101, f"{NAME}.ipynb"), b"usurpation"))),
    with_entry(stat.S_IFREG, of("Tom Droits", 117, f"{NAME}.ipynb"), b"sans droits"),
    ("Uma En-Ligne_118_assignsubmission_onlinetext/onlinetext.html", b"<p>"),
    ("../hors.ipynb", b"hors"),
    ("Groupe par défaut_assignsubmission_file/x.ipynb", b"sans numero"),
    (of("Nils Long", 119, "n" * 300 + ".ipynb"), b"trop long"),
    (of("Doudou Poupée", 120, "a.zip"), zipped(("b.zip", zipped((f"{NAME}.ipynb", b"poupee"))))),
    (of("Rémi Ancien", 121, f"{NAME}.ipynb"), b"nouvelle archive"),
    (UnmarkedName(of("Chloë Façade", 123, f"{NAME}.ipynb", ending="_")), b"sans marque"),
]
EXPECTED = {
    "101": b"marie",
    "102": b"zoe",
    "103": b"anne",
    "104": notebook("seconde copie"),
    "105": b"colab",
    "106": b"majuscules",
    "108": b"texte",
    "109": b"zip",
    "110": notebook("def f(): return 1"),
    "116": b"usurpation",
    "117": b"sans droits",
    "121": b"nouvelle archive",
    "123": b"sans marque",
}


@pytest.fixture(scope="module")
def collected(tmp_path_factory):
    course = course_at(tmp_path_factory.mktemp("moodle") / "cours")
    archive = course / "downloaded" / NAME / "archive"
    archive.mkdir(parents=True)
    (course / "release" / NAME).mkdir(parents=True)
    (course / "release" / NAME / f"{NAME}.ipynb").write_bytes(STATEMENT)
    (archive / "M2-Distillation-42.zip").write_bytes(zipped(*SUBMITTED))
    older = dated(LAST_YEAR, of("Rémi Ancien", 121, f"{NAME} (3).ipynb"), b"ancienne archive")
    (archive / "Z-plus-ancienne.zip").write_bytes(zipped(older))
    # Une remise que l'enseignant a déjà sortie de son archive.
    opened = archive / "deja ouvert" / "Noé Ouvert_122_assignsubmission_file"
    opened.mkdir(parents=True)
    (opened / f"{NAME}.ipynb").write_bytes(b"ouvert")
    link = archive / "deja ouvert" / "Lia Lien_124_assignsubmission_file"
    link.mkdir()
    (link / f"{NAME}.ipynb").symlink_to("/etc/passwd")
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}", "kdcourse") as gradebook:
        gradebook.add_student("105", first_name="Siân", last_name="O'Neill")
    return course, nbgrader(course, "zip_collect", NAME)


def test_la_collecte_retient_un_notebook_par_personne(collected):
    course, process = collected
    assert process.returncode == 0, process.stderr
    files = {path.parent.parent.name: path for path in (course / "submitted").rglob("*") if path.is_file()}
    assert {number: path.read_bytes() for number, path in files.items()} == EXPECTED | {"122": b"ouvert"}
    assert {path.name for path in files.values()} == {f"{NAME}.ipynb"}


def test_la_collecte_n_ecrit_rien_hors_du_cours(collected):
    course, _ = collected
    assert [path.name for path in course.parent.iterdir()] == ["cours"]
    assert not list(course.rglob("evasion*")) and not list(course.rglob("hors*"))
    assert not [path for path in (course / "downloaded" / NAME / "extracted").rglob("*") if path.is_symlink()]


@pytest.mark.parametrize(
    "message",
    [
        "Lou (107) n'a remis aucun notebook",
        "Uma En-Ligne (118) n'a remis aucun notebook",
        "Groupe A-Jean Le Goff (104) a remis 3 notebooks : « multi_teacher (2).ipynb » est retenu",
        "bombe.zip/multi_teacher.ipynb : plus de 50 Mo une fois décompressé, ignoré",
        "Luc Gros (112) n'a remis aucun notebook",
        "abime.zip : File is not a zip file, ignoré",
        "fuite.zip/../../../../evasion.ipynb : chemin hors de l'archive, ignoré",
        "lien symbolique, ignoré",
        "../hors.ipynb : chemin hors de l'archive, ignoré",
        "Groupe par défaut_assignsubmission_file/x.ipynb : hors d'un dossier",
        "Nils Long (119) n'a remis aucun notebook",
    ],
)
def test_la_collecte_dit_ce_qu_elle_ecarte(collected, message):
    assert message in collected[1].stderr


def test_les_noms_sont_gardes_entiers_et_celui_de_l_enseignant_prevaut(collected):
    with Gradebook(f"sqlite:///{collected[0] / 'gradebook.db'}", "kdcourse") as gradebook:
        names = {student.id: f"{student.first_name} {student.last_name}" for student in gradebook.students}
    assert names["101"] == "Marie Lefèvre"
    assert names["102"] == unicodedata.normalize("NFC", "Zoé Müller")
    assert names["103"] == "Anne-Sophie d'Arc"
    assert names["123"] == "Chloë Façade"
    assert names["105"] == "Siân O'Neill"
    assert "107" not in names


@pytest.mark.parametrize("content", [b"pas un zip", None], ids=["illisible", "absente"])
def test_une_archive_illisible_ou_absente_arrete_la_collecte(tmp_path, content):
    course = course_at(tmp_path / "cours")
    archive = course / "downloaded" / NAME / "archive"
    archive.mkdir(parents=True)
    if content:
        (archive / "a.zip").write_bytes(content)
    process = nbgrader(course, "zip_collect", NAME)
    assert process.returncode == 1
    assert ("archive illisible" if content else "Aucun fichier dans") in process.stderr
