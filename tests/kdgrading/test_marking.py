"""Le correcteur, par la vraie commande ``nbgrader autograde`` : des copies justes, fausses, absentes, hostiles.

Une seule correction note toutes les copies de multi_teacher, l'une après l'autre : si l'une gênait les suivantes,
leurs notes le diraient.
"""

import json
import re
import shutil
from base64 import b64encode

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_output
from support.grading_course import ENVIRONMENT, ROOT, Course, find
from support.submissions_compression_challenge import HASHES
from support.submissions_multi_teacher import BROKEN, CRITERIA, FULL, MISTAKES, RIGHT, ZERO, answer, hostile, loss

pytestmark = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap absent : apt install bubblewrap.")

SEED = 20261125  # des notes attendues au point près : les cas cachés sont ceux-là
CELL, WRITTEN = "ex1-solution", "ex1-reponse"


def deleted_cells(course):
    """Il ne reste que la réponse, sans métadonnées."""
    notebook = course.notebook("release")
    notebook.cells = [new_markdown_cell("bonjour"), new_code_cell(loss())]
    return notebook


def duplicated_cells(course):
    """La réponse est copiée en tête ; l'ébauche, avec les mêmes métadonnées, reste après."""
    notebook = course.notebook("release")
    copy = find(notebook, CELL).copy()
    copy.source = loss()
    notebook.cells.insert(1, nbformat.from_dict(copy))
    return notebook


def moved_cells(course):
    """Tout est à l'envers : les imports sont après la réponse, elle après les tests."""
    notebook = course.answered(loss(), CELL)
    notebook.cells = notebook.cells[::-1]
    return notebook


def retyped_cells(course):
    """La cellule de réponse est devenue du texte, celle de texte du code."""
    notebook = course.answered(loss(), CELL)
    code, text = find(notebook, CELL), find(notebook, WRITTEN)
    swapped = {id(code): new_markdown_cell(code.source), id(text): new_code_cell(text.source)}
    for old in (code, text):
        swapped[id(old)].metadata = old.metadata
    notebook.cells = [swapped.get(id(cell), cell) for cell in notebook.cells]
    return notebook


def saved_by_colab(course):
    """Colab réécrit les métadonnées : noyau, identifiants, cellules anonymes."""
    notebook = course.answered(loss(), CELL)
    written = find(notebook, WRITTEN)
    written.source = written.source.replace("*Votre réponse ici.*", "Le comité gagne.")
    notebook.metadata = {"colab": {"provenance": []}, "kernelspec": {"name": "python3", "display_name": "Python 3"}}
    for number, cell in enumerate(notebook.cells):
        cell.metadata = {"id": f"c{number}", "colab": {"base_uri": "https://localhost:8080/"}}
    return notebook


def foreign_kernel(course):
    notebook = course.answered(loss(), CELL)
    notebook.metadata.kernelspec = {"name": "ir", "display_name": "R", "language": "R"}
    notebook.metadata.language_info = {"name": "R"}
    return notebook


def with_magics(course):
    notebook = course.answered(f"%%time\n%pip install rien\n!ls\n{loss()}", CELL)
    notebook.cells.insert(0, new_code_cell("%matplotlib inline\nget_ipython().system('ls')\n?print"))
    notebook.cells.insert(0, new_code_cell("%%bash\nrm -rf /"))
    return notebook


def forged_metadata(course):
    """Des points multipliés, un vieux schéma, des sorties toutes faites, des noms inconnus, du HTML."""
    notebook = course.answered(answer("return student_logits.sum() * 0"), CELL)
    for cell in notebook.cells:
        if cell.metadata.get("nbgrader", {}).get("grade"):
            cell.metadata.nbgrader |= {"points": 1000, "schema_version": 1, "grade": True}
            if cell.cell_type == "code":
                cell.outputs = [new_output("execute_result", data={"text/plain": "4.0"}, execution_count=1)]
    notebook.cells.append(new_code_cell("1", metadata={"nbgrader": {"grade_id": "autre", "grade": True, "points": 50}}))
    notebook.cells.append(new_code_cell("2", metadata={"nbgrader": ["n'importe quoi"]}))
    script = "<script>alert(1)</script> <img src=x onerror=alert(1)>"
    notebook.cells.append(new_markdown_cell(f"avant {script} $a<b$"))
    links = ["[a](javascript:alert(1))", "[b](&#106;avascript:alert(1))", "![c]( JaVascript:alert(1))", "[d][e]"]
    links += ["[e]: javascript:alert(1)", r"$\\href{javascript:alert(1)}{x}$", "[sûr](https://exemple.org)"]
    notebook.cells.append(new_markdown_cell("\n\n".join(links)))
    notebook.cells.append(nbformat.v4.new_raw_cell(script, metadata={"raw_mimetype": "text/html"}))
    find(notebook, WRITTEN).source += script
    notebook.metadata.title = script
    picture = new_output("display_data", data={"image/png": '"><script>alert(1)</script>'})
    notebook.cells.append(new_code_cell("4", outputs=[picture, new_output("stream", text=script)]))
    html = new_output("display_data", data={"text/html": "<script>alert(1)</script>", "text/plain": "dessin"})
    notebook.cells.append(new_code_cell("3", outputs=[html]))
    return notebook


def half_characters(course):
    """Des demi-caractères, qu'UTF-8 ne sait pas écrire, dans le texte, les sorties et l'erreur."""
    notebook = course.answered(answer("raise ValueError(chr(0xD800))"), CELL)
    notebook.cells.append(new_markdown_cell("ici"))
    notebook.cells.append(new_code_cell("'ici'", outputs=[new_output("stream", text="ici")]))
    return nbformat.writes(notebook).replace('"ici"', '"\\ud800"').encode()


def too_many_cells(course):
    notebook = course.answered(loss(), CELL)
    notebook.cells += [new_markdown_cell("x") for _ in range(2500)]
    return notebook


def syntax_error(course):
    return course.answered(loss().replace("return alpha", "return return alpha"), CELL)


def missing_function(course):
    return course.answered(loss().replace("multi_teacher_loss", "ma_perte"), CELL)


def beside(cell, offset=1, remade=False):
    """La réponse rédigée est laissée vide, ou refaite ; son texte est dans une cellule à soi, juste après ou avant."""

    def build(course):
        notebook = course.answered(loss(), CELL)
        place = notebook.cells.index(find(notebook, WRITTEN))
        notebook.cells.insert(place + offset, cell)
        if remade:
            notebook.cells.remove(find(notebook, WRITTEN))
        return notebook

    return build


PIXEL = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def drawing(name):
    return f'<svg xmlns="http://www.w3.org/2000/svg" onload="alert(\'{name}\')"><script>alert(1)</script></svg>'


def encoded(name):
    return b64encode(drawing(name).encode()).decode()


def with_pictures(course):
    """Une image collée, une dans le texte, un script déguisé ; une cellule sans sorties ; nbformat 4.4 et des ids."""
    notebook = course.answered(loss(), CELL)
    written = find(notebook, WRITTEN)
    written.source += f"\n\n![ma courbe](attachment:courbe.png) ![point](data:image/png;base64,{PIXEL})"
    written.source += "\n\n[piège](data:text/html;base64,PHNjcmlwdD4=)"
    written.source += f"\n\n![schéma](attachment:y.svg) ![trait](data:image/svg+xml;base64,{encoded('trait')})"
    written.source += "\n\n![e](<attachment:mon image.png>) ![r][ici] ![lourde](attachment:lourde.png)"
    written.source += '\n\n<img src="attachment:large.png" width=300>\n\n[ici]: attachment:r.png'
    written["attachments"] = {
        **{name: {"image/png": PIXEL} for name in ("mon image.png", "r.png", "large.png")},
        "lourde.png": {"image/png": "A" * 9_000_000},
        "photo.webp": {"image/webp": "UklGRg=="},
        "courbe.png": {"image/png": PIXEL},
        "x.svg": {"image/svg+xml": "<svg onload=alert(1)>"},
        "y.svg": {"image/svg+xml": encoded("y")},
    }
    svg = new_output("display_data", data={"image/svg+xml": drawing("sortie"), "text/plain": "<Figure>"})
    notebook.cells.append(new_code_cell("plt.show()", outputs=[svg]))
    output = {"output_type": "stream", "name": "stdout", "text": "mesure faite"}
    notebook.cells += [new_code_cell("a", outputs=[nbformat.from_dict(output)]), new_code_cell("b")]
    content = json.loads(nbformat.writes(notebook))
    content["nbformat_minor"] = 4
    del content["cells"][-1]["outputs"]
    return json.dumps(content).encode()


def in_locked(course, kind="code"):
    """La réponse rédigée, écrite dans une cellule de test ; elle contient de quoi fermer un bloc."""
    notebook = course.answered(loss(), CELL)
    cell = find(notebook, "ex1-probabilites")
    if kind != "code":
        notebook.cells[notebook.cells.index(cell)] = new_markdown_cell(cell.source, metadata=cell.metadata)
        cell = find(notebook, "ex1-probabilites")
    cell.source += "\n# Le comité gagne, écrit dans le test.\n```\n<b>fin</b>"
    return notebook


def pasted_beside(course):
    """Une image collée dans la cellule qui suit une réponse laissée vide."""
    notebook = course.answered(loss(), CELL)
    find(notebook, WRITTEN).source = find(course.notebook("release"), WRITTEN).source
    added = new_markdown_cell(
        "Voici : ![courbe](attachment:courbe.png)", attachments={"courbe.png": {"image/png": PIXEL}}
    )
    notebook.cells.insert(notebook.cells.index(find(notebook, WRITTEN)) + 1, added)
    return notebook


FORMS = {
    "ecrit-dessous": (beside(new_markdown_cell("Le comité gagne, écrit dessous.")), FULL, "juste"),
    "ecrit-en-code": (beside(new_code_cell("# Le comité gagne, écrit en code.")), FULL, "juste"),
    "ecrit-dessus": (beside(new_markdown_cell("Le comité gagne, écrit dessus."), offset=0), FULL, "juste"),
    "refaite": (beside(new_markdown_cell("Le comité gagne, cellule refaite."), remade=True), FULL, "juste"),
    "images": (with_pictures, FULL, "juste"),
    "ecrit-dans-le-test": (in_locked, FULL, "juste"),
    "test-en-texte": (lambda course: in_locked(course, "markdown"), FULL, "juste"),
    "image-a-cote": (pasted_beside, FULL, "juste"),
    "utf-16": (lambda course: nbformat.writes(course.answered(loss(), CELL)).encode("utf-16"), FULL, "juste"),
    "page-web": (lambda course: b"<!DOCTYPE html><html>Connexion</html>", ZERO, "illisible (page web"),
    "fichier-vide": (lambda course: b" \n", ZERO, "illisible (fichier vide"),
    "autre-exercice": (
        lambda course: (ROOT / "exercises/source/size_study/size_study.ipynb").read_bytes(),
        ZERO,
        "le notebook d'un autre exercice",
    ),
    "effacees": (deleted_cells, FULL, "juste"),
    "dupliquees": (duplicated_cells, FULL, "juste"),
    "deplacees": (moved_cells, FULL, "juste"),
    "changees-de-type": (retyped_cells, FULL, "juste"),
    "colab": (saved_by_colab, FULL, "juste"),
    "noyau-r": (foreign_kernel, FULL, "juste"),
    "magies": (with_magics, FULL, "juste"),
    "metadonnees-forgees": (forged_metadata, ZERO, "fausse"),
    "syntaxe": (syntax_error, ZERO, "ne se lit pas (ligne"),
    "autre-nom": (missing_function, ZERO, "introuvable"),
    "vide": (lambda course: course.notebook("release"), ZERO, "à compléter"),
    "solution": (lambda course: course.notebook("source"), FULL, "juste"),
    "demi-caracteres": (half_characters, ZERO, "ValueError"),
    "trop-de-cellules": (too_many_cells, ZERO, "2000 au plus"),
    "json-casse": (lambda course: b'{"cells": [{"cell_type": "code", "sour', ZERO, "illisible (JSON invalide"),
    "pas-du-json": (lambda course: b"\xff\xfe\x00PK", ZERO, "illisible"),
    "imbrique": (lambda course: b"[" * 200_000, ZERO, "illisible"),
    "cellules-folles": (
        lambda course: (
            b'{"cells": [3, {"cell_type": "code"}, {"source": ["def multi_teacher_loss(*a, **k):\\n",'
            b' "    return 0"], "cell_type": "code", "metadata": []}], "nbformat": 4}'
        ),
        ZERO,
        "fausse",
    ),
}


@pytest.fixture(scope="module")
def course(tmp_path_factory):
    """Toutes les copies, corrigées en une fois."""
    course = Course.make(tmp_path_factory.mktemp("cours"), "multi_teacher")
    for name, code in RIGHT.items():
        course.submit(name, course.answered(code, CELL))
    for name, (code, *_) in (MISTAKES | BROKEN).items():
        course.submit(name, course.answered(code, CELL))
    for name, code in attacks(course).items():
        course.submit(name, course.answered(code, CELL))
    for name, (build, *_) in FORMS.items():
        course.submit(name, build(course))
    course.submit("autre-fichier", course.answered(loss(), CELL), name="multi_teacher (1).ipynb")
    course.submit("deux-fichiers", course.answered(loss(), CELL), name="final.ipynb")
    course.submit("deux-fichiers", b"", name="brouillon.ipynb")
    (course.submit("date-folle", course.answered(loss(), CELL)).parent / "timestamp.txt").write_bytes(b"\xff hier")
    course.done = course.run("autograde", f"--IsolatedGrade.seed={SEED}")
    return course


def attacks(course):
    return hostile(str(course.root), str(ROOT / "exercises" / "source"))


def graded(course, student):
    scores = course.scores(student)
    assert scores is not None, course.done.stderr[-3000:]
    return tuple(scores[name] for name in CRITERIA)


def test_la_correction_va_au_bout_et_dit_son_isolation(course):
    assert course.done.returncode == 0, course.done.stderr[-3000:]
    assert "Isolation : bubblewrap" in course.done.stderr
    assert len(list((course.root / "submitted").iterdir())) == len(list((course.root / "autograded").iterdir()))


@pytest.mark.parametrize("student", [*RIGHT, "autre-fichier", "deux-fichiers", "date-folle"])
def test_une_reponse_juste_a_tous_ses_points(course, student):
    assert graded(course, student) == FULL


@pytest.mark.parametrize("student", MISTAKES | BROKEN)
def test_une_erreur_coute_ce_qu_elle_doit_et_est_nommee(course, student):
    _, expected, said = (MISTAKES | BROKEN)[student]
    if expected is not None:
        assert graded(course, student) == expected
    assert sum(graded(course, student)) < sum(FULL)
    assert said in "\n".join(course.feedback(student).values())


@pytest.mark.parametrize("student", FORMS)
def test_une_reponse_se_retrouve_quelle_que_soit_la_forme_du_notebook(course, student):
    _, expected, said = FORMS[student]
    assert graded(course, student) == expected
    assert said in "\n".join(course.feedback(student).values())


ATTACKS = hostile("cours", "source")


@pytest.mark.parametrize("student", ATTACKS)
def test_une_attaque_ne_rapporte_rien_et_ne_touche_personne(course, student):
    assert graded(course, student) == ZERO
    assert "GAGNÉ" not in "\n".join(course.feedback(student).values())


def test_une_attaque_ne_laisse_rien_derriere_elle(course):
    strays = [p for name in ("intrus.txt", "note.txt", "notes.txt", "cache.txt") for p in course.root.rglob(name)]
    strays += list(ROOT.glob("kdcourse/intrus.txt"))
    assert strays == []
    assert (course.root / "gradebook.db").stat().st_size > 0


def test_la_reponse_redigee_attend_une_note_humaine(course):
    assert course.scores("solution")[WRITTEN] is None
    assert course.scores("colab")[WRITTEN] is None
    assert "Le comité gagne." in find(course.graded("colab"), WRITTEN).source
    assert course.scores("vide")[WRITTEN] is None  # laissée vide, elle attend aussi : le texte est peut-être ailleurs


@pytest.mark.parametrize("student, text", [
    ("ecrit-dessous", "écrit dessous."), ("ecrit-en-code", "écrit en code."), ("ecrit-dessus", "écrit dessus."),
    ("refaite", "cellule refaite."),
])  # fmt: skip
def test_un_texte_ecrit_a_cote_de_la_reponse_y_est_montre_et_attend_une_note(course, student, text):
    assert course.scores(student)[WRITTEN] is None
    shown = find(course.graded(student), WRITTEN).source
    assert "Écrit dans une cellule voisine" in shown and text in shown


@pytest.mark.parametrize("student", ["ecrit-dans-le-test", "test-en-texte"])
def test_un_texte_ecrit_dans_une_cellule_de_test_se_lit_dessous(course, student):
    notebook = course.graded(student)
    place = notebook.cells.index(find(notebook, "ex1-probabilites"))
    assert "Écrit dans la cellule de test" in notebook.cells[place + 1].source
    assert "Le comité gagne, écrit dans le test." in notebook.cells[place + 1].source
    assert "<b>" not in notebook.cells[place + 1].source and "comité" not in notebook.cells[place].source


def test_une_image_collee_a_cote_suit_le_texte_montre_dans_la_reponse(course):
    written = find(course.graded("image-a-cote"), WRITTEN)
    ((name, bundle),) = written.attachments.items()
    assert f"![courbe](attachment:{name})" in written.source and bundle == {"image/png": PIXEL}


def test_les_images_de_l_eleve_restent_et_ce_qui_s_executerait_non(course):
    notebook = course.graded("images")
    written = find(notebook, WRITTEN)
    assert written.attachments == {
        **{name: {"image/png": PIXEL} for name in ("mon_image.png", "r.png", "large.png")},
        "photo.webp": {"image/webp": "UklGRg=="},
        "courbe.png": {"image/png": PIXEL},
        "y.svg": {"image/svg+xml": encoded("y")},
    }
    assert "](attachment:courbe.png)" in written.source and f"](data:image/png;base64,{PIXEL})" in written.source
    assert "](data:text/html" not in written.source
    assert "mesure faite" in "".join(o.get("text", "") for c in notebook.cells for o in c.get("outputs", []))
    assert course.run("generate_feedback", "--student=images").returncode == 0
    page = (course.root / "feedback/images/multi_teacher/multi_teacher.html").read_text(encoding="utf-8")
    assert page.count(PIXEL[:40]) == 5 and "<script>alert" not in page and "onload" not in page
    assert "image ôtée, trop lourde" in page and "lourde.png" in page and "attachment:" not in page
    # Un SVG n'est que dans des balises <img>, où le navigateur n'en exécute rien.
    for name in ("y", "trait", "sortie"):
        picture = re.escape(f"data:image/svg+xml;base64,{encoded(name)}")
        assert re.search(f"""<img[^>]* src=["']{picture}["']""", page), name


@pytest.mark.parametrize("student, why", [
    ("json-casse", "JSON invalide"), ("page-web", "page web, non un notebook"), ("fichier-vide", "fichier vide"),
    ("autre-exercice", "le notebook d'un autre exercice"), ("trop-de-cellules", "2000 au plus"),
])  # fmt: skip
def test_une_copie_illisible_ou_d_un_autre_exercice_est_nommee_et_attend(course, student, why):
    assert re.search(rf"{student} : copie illisible, .*{why}.* ; sa note attend votre lecture", course.done.stderr)
    assert course.scores(student)[WRITTEN] is None


def test_les_sorties_de_l_eleve_restent_sauf_ce_qu_un_navigateur_executerait(course):
    done = course.run("generate_feedback", "--student=metadonnees-forgees")
    assert done.returncode == 0, done.stderr[-3000:]
    page = course.root / "feedback" / "metadonnees-forgees" / "multi_teacher" / "multi_teacher.html"
    text = page.read_text(encoding="utf-8")
    assert "dessin" in text and "avant" in text and "Correction automatique, graine" in text
    assert "<script>alert" not in text and "<img src=x" not in text
    assert not re.search(r"(href|src)=.{0,3}\s*(javascript|data:text|&)", text, re.I) and "\\href" not in text
    assert 'href="https://exemple.org"' in text


def test_le_fichier_illisible_est_garde(course):
    folder = course.root / "submitted" / "json-casse" / "multi_teacher"
    assert (folder / "multi_teacher.ipynb.recu").read_bytes().startswith(b'{"cells": [{')


@pytest.mark.parametrize("assignment", ["size_study", "compression_challenge", "neighbours_and_memory"])
def test_la_solution_a_tout_et_le_notebook_distribue_zero(assignment, tmp_path):
    other = Course.make(tmp_path / "cours", assignment)
    for student, folder in (("solution", "source"), ("vide", "release")):
        other.submit(student, other.notebook(folder))
    if assignment == "compression_challenge":
        tabled = other.notebook("release")
        tabled.cells = [new_code_cell(HASHES)]
        other.submit("table", tabled)
    done = other.run("autograde")
    assert done.returncode == 0, done.stderr[-3000:]
    notebook = other.notebook("source")
    automatic = {c.metadata.nbgrader.grade_id: c.metadata.nbgrader.points for c in notebook.cells if is_test(c)}
    written = [name for name in other.scores("solution") if name not in automatic]
    assert other.scores("solution") == automatic | {name: None for name in written}
    assert other.scores("vide") == {name: 0 for name in automatic} | {name: None for name in written}
    if assignment == "compression_challenge":
        assert other.scores("table") == {"ex3-contrat": 4, "ex3-exactitude": 0, "ex3-taille": 0, "ex3-reponse": None}


def is_test(cell):
    metadata = cell.metadata.get("nbgrader", {})
    return metadata.get("grade") and not metadata.get("solution")


def regrade(course, student, *options):
    done = course.run("autograde", "--force", f"--student={student}", *options)
    assert done.returncode == 0, done.stderr[-3000:]
    return course.graded(student)


def test_la_graine_rendue_refait_exactement_la_meme_correction(course):
    before = course.graded("sans-combine")
    seed = before.metadata.kdcourse.seed
    assert f"graine {seed}" in before.cells[-1].source
    other = regrade(course, "sans-combine")
    assert other.metadata.kdcourse.seed != seed
    again = regrade(course, "sans-combine", f"--IsolatedGrade.seed={seed}")
    assert [c.get("outputs") for c in again.cells] == [c.get("outputs") for c in before.cells]
    assert again.metadata.kdcourse.seed == seed


def without_bubblewrap(tmp_path):
    """Un PATH où tout est, sauf bwrap."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("alembic", "cat", "env", "sh", "python3"):
        (tools / name).symlink_to(shutil.which(name, path=ENVIRONMENT["PATH"]))
    return ENVIRONMENT | {"PATH": str(tools)}


def test_sans_bac_a_sable_la_correction_refuse_sauf_si_on_l_accepte(course, tmp_path):
    environment = without_bubblewrap(tmp_path)
    kept = course.scores("solution")
    options = ["--force", "--student=solution"]
    refused = course.run("autograde", *options, environment=environment)
    assert refused.returncode != 0
    assert "Correction refusée, sans bac à sable" in refused.stderr and "apt install bubblewrap" in refused.stderr
    assert "Traceback" not in refused.stderr.split("Correction refusée")[1]
    assert not (course.root / "autograded" / "solution" / "multi_teacher").exists()
    assert course.scores("solution") == kept
    accepted = course.run("autograde", *options, "--IsolatedGrade.accept_no_sandbox=True", environment=environment)
    assert accepted.returncode == 0, accepted.stderr[-3000:]
    assert "Isolation : AUCUNE" in accepted.stderr
    assert graded(course, "solution") == FULL
