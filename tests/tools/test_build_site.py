"""Comment le site se construit : un chapitre d'essai, les pages tirées du code et des mesures, et ce qui est refusé."""

import json
import re
from pathlib import Path

import build_notebooks
import build_site
import nbformat
import pytest
import site_pages
from support.slider_cell import SLIDER_CELL

import kdcourse

OPENING = "# 10.9 Un essai\n\n**Une *question* ?** Et $T^2$.\n\n![Deux barres](attachment:ouverture.png)"
FOLD = "<details><summary>Oui, $k$ et `a < b`</summary>Le **bon**.</details>\n\nUne moitié : $0,5$."
FIGURE = """import matplotlib.pyplot as plt
figure, ax = plt.subplots()
ax.set_title('Deux « barres »')
plt.close(figure)
figure"""
CELLS = (
    ("markdown", OPENING),
    (
        "markdown",
        f"## Objectifs\n\n**Durée : une heure**.\n\n$$q_c = \\frac{{e^{{z_c}}}}{{\\sum_k e^{{z_k}}}}$$\n\n{FOLD}",
    ),
    ("code", SLIDER_CELL),
    ("code", FIGURE),
)


@pytest.fixture(scope="module")
def chapter():
    """Un chapitre exécuté comme ceux du cours, avec un curseur et une figure."""
    make = {"markdown": nbformat.v4.new_markdown_cell, "code": nbformat.v4.new_code_cell}
    cells = [make[kind](source) for kind, source in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    cells[-1].metadata["tags"] = ["hide-input", "opening"]
    build_notebooks.execute(notebook, build_site.FRAGMENTS)
    build_notebooks.clean(notebook)
    build_notebooks.open_with_picture(notebook)
    return notebook


@pytest.fixture(scope="module")
def site(chapter, tmp_path_factory):
    """Le site, dont l'essai est le seul chapitre."""
    folder = tmp_path_factory.mktemp("site")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(build_notebooks, "NOTEBOOKS", folder)
        nbformat.write(chapter, folder / "10_9_Essai.ipynb")
        source = build_site.write_source({"10_9_Essai": chapter}, folder / "chantier/source")
        assert build_site.publish(source, folder / "site") == 0
    return folder / "site"


def test_une_figure_dit_son_titre_et_une_formule_est_du_mathml(site):
    text = (site / "10_9_Essai.html").read_text(encoding="utf-8")
    assert 'alt="Deux « barres »"' in text and "<math" in text and "attachment:" not in text
    assert "10_9_Essai.ipynb" in text and "Colab" not in text
    assert "<mi>k</mi>" in text and "<code>a &lt; b</code>" in text and "<b>bon</b>" in text
    assert "<mtext>,</mtext>" in text and "$" not in text.partition("<article")[2].partition("</article>")[0]


def test_la_reference_a_tous_les_noms_publics():
    pages = {face: site_pages.reference(face, "titre") for face in site_pages.FACES}
    for name in kdcourse.__all__:
        assert re.search(rf":: kdcourse\.{name}(\(.*\))?\n|\.{name}\n   :no-value:", pages["kdcourse"]), name


def test_un_widget_montre_ses_vrais_arguments():
    assert "MapExplorer(measured, start=None)\n" in site_pages.reference("kdcourse.widgets", "titre")


def test_un_nom_sans_docstring_arrete_la_reference(monkeypatch):
    monkeypatch.setattr(kdcourse, "kd_loss", lambda: None, raising=False)
    with pytest.raises(ValueError, match=r"kdcourse\.kd_loss n'a pas de docstring"):
        site_pages.reference("kdcourse", "titre")


def test_la_fiche_ne_dit_que_ce_qui_est_range_et_avoue_un_but_manque(monkeypatch, tmp_path):
    for path in site_pages.RESULTS.glob("*.json"):
        result = json.loads(path.read_text(encoding="utf-8"))
        if path.stem == "vectorised":
            result |= {"ratio": 123.45, "targets": [{"target": "aller vite", "met": False}]}
        (tmp_path / path.name).write_text(json.dumps(result), encoding="utf-8")
    monkeypatch.setattr(site_pages, "RESULTS", tmp_path)
    text = site_pages.measures()
    assert "123,45" in text and "**But non atteint**, pour une ligne au moins : aller vite." in text


def test_un_lien_casse_est_nomme(tmp_path):
    (tmp_path / "a.html").write_text(
        '<p id="ici"><a href="b.html#la">1</a><a href="#ici">2</a><a href="c.html">3</a></p>'
    )
    (tmp_path / "b.html").write_text('<p id="autre"></p>')
    assert site_pages.broken_links(tmp_path) == ["a.html : b.html#la", "a.html : c.html"]


def test_un_chapitre_non_execute_ou_une_figure_muette_sont_refuses(chapter, tmp_path):
    (tmp_path / "_static").mkdir()
    empty = nbformat.from_dict(chapter)
    empty.cells[2].execution_count = None
    with pytest.raises(ValueError, match="10_9 : une cellule n'a pas été exécutée"):
        build_site.write_chapter(tmp_path, "10_9", empty, "")
    silent = nbformat.from_dict(chapter)
    silent.cells[3].outputs[0].metadata.clear()
    with pytest.raises(ValueError, match="la figure 1 n'a pas de titre"):
        build_site.write_chapter(tmp_path, "10_9", silent, "")


def test_colab_et_le_depot_ne_sont_lies_que_si_une_adresse_est_donnee(chapter):
    address = "https://github.com/compte/cours"
    assert "Colab" not in build_site.links("10_9", chapter, "")
    assert f"{address.removeprefix('https://github.com/')}/blob/main" in build_site.links("10_9", chapter, address)


def test_le_cache_depend_du_code_et_du_cours(chapter, monkeypatch, tmp_path):
    first = build_site.key(chapter)
    changed = nbformat.from_dict(chapter)
    changed.cells[2].source += "\n1"
    assert build_site.key(changed) != first == build_site.key(nbformat.from_dict(chapter))
    (tmp_path / "kdcourse").mkdir()
    Path(tmp_path, "kdcourse", "a.py").write_text("1")
    monkeypatch.setattr(build_site, "ROOT", tmp_path)
    assert build_site.key(chapter) != first


def test_un_site_mal_lie_laisse_l_ancien_en_place(site, monkeypatch, tmp_path):
    target = tmp_path / "site"
    target.mkdir()
    (target / "index.html").write_text("l'ancien")
    (tmp_path / "chantier").mkdir()
    source = tmp_path / "chantier" / "source"
    source.mkdir()
    (source / "conf.py").write_text("language = 'fr'")
    (source / "index.rst").write_text("Accueil\n=======\n\n`ailleurs <absent.html>`_\n")
    assert build_site.publish(source, target) == 1
    assert (target / "index.html").read_text() == "l'ancien"


def test_un_cache_abime_est_refait(chapter, monkeypatch, tmp_path):
    monkeypatch.setattr(build_site, "CACHE", tmp_path)
    monkeypatch.setattr(build_notebooks, "read_source", lambda path, address: nbformat.from_dict(chapter))
    ran = []
    monkeypatch.setattr(build_notebooks, "execute", lambda notebook, *preludes: ran.append(1))
    for expected in (1, 1):
        build_site.executed(Path("10_9_Essai.py"))
        assert len(ran) == expected
    (cached,) = tmp_path.glob("*.ipynb")
    cached.write_text(cached.read_text("utf-8")[:1000], encoding="utf-8")
    build_site.executed(Path("10_9_Essai.py"))
    assert len(ran) == 2


def test_un_chapitre_qui_echoue_est_dit_sans_toucher_au_site(monkeypatch, capsys):
    def fails(path):
        raise ValueError("10_01_Principes : une cellule n'a pas été exécutée.")

    monkeypatch.setattr(build_site, "executed", fails)
    assert build_site.main(["10_01"]) == 1
    assert "Le site n'est pas construit : 10_01_Principes" in capsys.readouterr().err
    assert build_site.main(["10_99"]) == 1
    assert "Aucun chapitre ne commence par 10_99." in capsys.readouterr().err
