"""Le site entier, ouvert d'un dossier dans Chromium, réseau refusé ; ``make site`` le construit s'il n'est pas là."""

import os
import re

import build_notebooks
import build_site
import pytest
import site_pages
from axe_playwright_python.sync_playwright import Axe

from benchmarks import _jupyterlab as lab
from benchmarks.site import PAGE_MB, own_bytes

CHAPTERS = [path.stem for path in sorted(build_notebooks.SOURCES.glob("10_*.py"))]
REFERENCE = [face.replace(".", "_") for face in site_pages.FACES]
OTHERS = ["index", "installer", "enseigner", "mesures", "reference", *REFERENCE, "search"]
# Une question, telle qu'on la tape, accents ou non ; un chapitre qui y répond est parmi les trois premiers.
QUERIES = {
    "température": "10_01_Principes",
    "temperatures": "10_01_Principes",
    "chiffre mythique": "10_01_Principes",
    "gradients": "10_02_Logits",
    "attention": "10_03_Features",
    "adaptateurs": "10_03_Features",
    "similarités": "10_04_Relations",
    "invariance": "10_04_Relations",
    "calibration": "10_05_Self_Distillation",
    "lissage d'étiquettes": "10_05_Self_Distillation",
    "élagage": "10_06_Tensor_Compression",
    "tenseurs": "10_06_Tensor_Compression",
    "laboratoires": "10_Bilan",
}

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def site():
    """Le site, tel que la commande le construit ; les chapitres déjà exécutés ne le sont pas deux fois."""
    if lab.CHROMIUM is None and not os.environ.get("KDCOURSE_BROWSER_REQUIRED"):
        pytest.skip("Chromium introuvable : sous Debian, apt install chromium.")
    assert build_site.main([]) == 0
    return build_site.BUILD / "site"


@pytest.fixture(scope="module")
def page(site):
    """Une page qui note ses erreurs, refuse toute requête hors du dossier, et la compte."""
    with lab.chromium() as page:
        page.problems = []
        page.on("console", lambda message: page.problems.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: page.problems.append(str(error)))

        def answer(route):
            if route.request.url.startswith(("file:", "data:", "blob:")):
                return route.continue_()
            page.problems.append(route.request.url)
            return route.abort()

        page.route("**/*", answer)
        yield page


def opened(page, site, name, width=1100, dark=False):
    page.problems.clear()
    page.set_viewport_size({"width": width, "height": 800})
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.goto((site / f"{name}.html").as_uri())
    page.wait_for_load_state("networkidle")


def test_toutes_les_pages_sont_essayees(site):
    assert {path.stem for path in site.glob("*.html")} == {*CHAPTERS, *OTHERS}


@pytest.mark.parametrize("width", [360, 1280])
@pytest.mark.parametrize("name", [*CHAPTERS, *OTHERS, "_modules/kdcourse/losses/logits"])
def test_une_page_ne_demande_rien_et_ne_deborde_pas(site, page, name, width):
    opened(page, site, name, width)
    assert page.problems == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.evaluate("document.documentElement.lang") == "fr"


@pytest.mark.parametrize("name", ["index", *CHAPTERS])
def test_chaque_curseur_bouge_et_change_l_image(site, page, name):
    opened(page, site, name)
    players = page.locator(".kd-player")
    assert players.count() == (site / f"{name}.html").read_text("utf-8").count('<div class="kd-figure">')
    for player in players.all():
        for control in player.locator("input, select").all():
            before = player.locator("svg").inner_html()
            control.focus()
            page.keyboard.press("ArrowLeft" if control.evaluate("e => e.value === e.max") else "ArrowRight")
            if player.locator("svg").inner_html() == before:  # une liste s'ouvre d'abord
                control.evaluate(
                    "e => { e.selectedIndex += 1; e.dispatchEvent(new Event('change', {bubbles: true})); }"
                )
            assert player.locator("svg").inner_html() != before, control.evaluate("e => e.outerHTML")


@pytest.mark.parametrize("name", ["index", *CHAPTERS])
def test_chaque_image_dit_ce_qu_elle_montre(site, page, name):
    opened(page, site, name)
    told = page.locator("article .cell_output img, article .kd-player svg").evaluate_all(
        "all => all.map(one => one.getAttribute('alt') ?? one.getAttribute('aria-label') ?? '')"
    )
    assert [text for text in told if len(text) < 10 or re.search(r"\.png|[$\\{}]", text)] == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_un_chapitre_se_plie_se_lit_et_reste_leger(site, page, name):
    opened(page, site, name)
    folded = page.locator("article details").evaluate_all("all => all.filter(one => !one.open).length")
    assert folded == page.locator("article details").count() > 5
    for fold in page.locator("article details").all()[:3]:
        fold.locator("summary").first.click()
        assert fold.evaluate("one => one.open")
    assert page.locator("article math").count() or name == "10_Bilan"
    prose = page.evaluate(
        """() => { const copy = document.querySelector('article').cloneNode(true);
            for (const code of copy.querySelectorAll('pre, code, script, .kd-player')) code.remove();
            return copy.textContent; }"""
    )
    assert re.findall(r".{20}[$`].{20}|\*\*.{20}|.{10}”.{10}", prose) == []
    assert own_bytes(site / f"{name}.html") <= 1e6 * PAGE_MB


@pytest.mark.parametrize("query", QUERIES)
def test_une_question_francaise_trouve_son_chapitre(site, page, query):
    page.goto((site / "search.html").as_uri() + f"?q={query}")
    page.locator("#search-results li a").first.wait_for()
    page.locator("#search-results .search-summary").wait_for()
    found = page.locator("#search-results li a").evaluate_all("all => all.slice(0, 3).map(a => a.getAttribute('href'))")
    assert QUERIES[query] in " ".join(found), found


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("name", ["index", CHAPTERS[0], "kdcourse"])
def test_axe_ne_trouve_rien(site, page, name, dark):
    opened(page, site, name, dark=dark)
    found = Axe().run(page).response["violations"]
    assert [(one["id"], [node["target"] for node in one["nodes"]][:3]) for one in found] == []


@pytest.mark.parametrize("name", CHAPTERS)
def test_le_papier_montre_tout(site, page, name):
    """Aucun bloc ne dépasse la largeur d'une feuille : ce qui défile à l'écran serait coupé à l'impression."""
    opened(page, site, name, width=718)  # A4, marges ôtées, à 96 points par pouce
    page.emulate_media(media="print")
    cut = page.evaluate(
        """() => [...document.querySelectorAll('article pre, article table, article img, article svg, article math')]
            .filter(one => one.checkVisibility() && one.getBoundingClientRect().right > 719)
            .map(one => one.outerHTML.slice(0, 120))"""
    )
    clipped = page.evaluate("getComputedStyle(document.querySelector('.bd-article-container')).overflowX")
    page.emulate_media(media="screen")
    assert cut == [] and clipped == "visible"  # sinon, la fin d'une longue page manque


def test_imprimer_deplie_tout_en_clair_puis_rend_la_page_comme_elle_etait(site, page):
    opened(page, site, CHAPTERS[0], dark=True)
    state = "[document.querySelectorAll('details:not([open])').length, document.documentElement.dataset.theme]"
    before = page.evaluate(state)
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.evaluate(state) == [0, "light"]
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.evaluate(state) == before and before[0] > 0 and before[1] == "dark"


def test_aucun_lien_interne_n_est_casse(site):
    assert site_pages.broken_links(site) == []


def test_une_seconde_construction_n_execute_rien(site, monkeypatch):
    monkeypatch.setattr(build_notebooks, "execute", lambda *_: pytest.fail("un chapitre a été exécuté deux fois"))
    assert [build_site.executed(path).cells[0].source[:4] for path in build_notebooks.SOURCES.glob("10_*.py")] == [
        "# 10"
    ] * len(CHAPTERS)
