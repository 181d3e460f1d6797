"""Les pages exportées, ouvertes d'un dossier dans un vrai Chromium : elles bougent, se lisent, et montrent ce que
matplotlib dessine.

Chaque curseur du cours y passe, tel que son chapitre le montre.
"""

import io
import os
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
from matplotlib.text import Text
from PIL import Image, ImageChops, ImageFilter

from benchmarks import _jupyterlab as lab, _widget_cases as cases

pytestmark = pytest.mark.browser
# Deux dessins d'une même figure diffèrent au bord des traits, que chacun lisse à sa façon : de 9 à 26 sur 255, mesuré,
# quand deux états voisins de la même figure diffèrent de 45 à 255.
BLUR, TOLERANCE = 3, 30.0

if lab.CHROMIUM is None and not os.environ.get("KDCOURSE_BROWSER_REQUIRED"):
    pytest.skip("Chromium introuvable : sous Debian, apt install chromium.", allow_module_level=True)


@pytest.fixture(scope="module")
def page():
    with lab.chromium() as page:
        page.problems = []
        page.on("console", lambda message: page.problems.append(message.text))
        page.on("pageerror", lambda error: page.problems.append(str(error)))
        page.on("request", lambda request: page.problems.append(request.url) if "http" in request.url[:5] else None)
        yield page


@pytest.fixture(scope="module", params=cases.WIDGETS)
def exported(request, tmp_path_factory):
    """Un curseur, et l'adresse de sa page."""
    widget = cases.WIDGETS[request.param]()()
    path = tmp_path_factory.mktemp("pages") / f"{request.param}.html"
    path.write_text(widget.to_html(request.param), encoding="utf-8")
    return widget, path.as_uri()


def opened(page, address, dark=False):
    page.problems.clear()
    page.emulate_media(color_scheme="dark" if dark else "light")
    page.goto(address)
    page.locator(".kd-player svg").wait_for()


def chosen(page, widget, values) -> None:
    """Met chaque curseur à sa valeur, comme le ferait la main."""
    for control, value, place in zip(widget.sliders.values(), values, page.locator("input, select").all(), strict=True):
        position = control.values.index(value)
        place.evaluate(
            "(e, position) => { e.type === 'range' ? (e.value = position) : (e.selectedIndex = position);"
            " e.dispatchEvent(new Event('input', {bubbles: true})); }",
            position,
        )


def picture(page) -> str:
    return page.locator(".kd-player svg").inner_html()


def test_chaque_curseur_repond_au_clavier_et_dit_sa_valeur(page, exported):
    widget, address = exported
    opened(page, address)
    for control, place in zip(widget.sliders.values(), page.locator("input, select").all(), strict=True):
        start = control.values.index(control.start)
        keys = ["ArrowLeft", "ArrowRight"] if start else ["ArrowRight", "ArrowLeft"]
        if control.named:
            keys = ["ArrowUp", "ArrowDown"] if start else ["ArrowDown", "ArrowUp"]
        before, said = picture(page), page.locator("[role=status]").inner_text()
        place.focus()
        page.keyboard.press(keys[0])
        moved = control.texts[start - 1 if start else 1]
        assert picture(page) != before
        if not control.named:
            assert place.get_attribute("aria-valuetext") == moved
            assert page.locator("output", has_text=moved).count()
        page.wait_for_function("said => document.querySelector('[role=status]').innerText !== said", arg=said)
        assert f"{control.label} : {moved}" in page.locator("[role=status]").inner_text()
        page.keyboard.press(keys[1])
        assert picture(page) == before
        if not control.named:
            for key, position in (("End", -1), ("Home", 0)):
                page.keyboard.press(key)
                assert place.get_attribute("aria-valuetext") == control.texts[position]
            page.keyboard.press("PageUp")
            assert place.get_attribute("aria-valuetext") != control.texts[0] or len(control.texts) == 1
            chosen(page, widget, [c.start for c in widget.sliders.values()])
    assert page.problems == []  # ni erreur, ni message, ni rien demandé au réseau


@pytest.mark.parametrize("dark", [False, True], ids=["clair", "sombre"])
def test_axe_ne_trouve_aucune_faute(page, exported, dark):
    from axe_playwright_python.sync_playwright import Axe

    opened(page, exported[1], dark)
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()


@pytest.mark.parametrize(("width", "zoom"), [(320, 1), (1280, 2), (1280, 4)], ids=["étroite", "200 %", "400 %"])
def test_rien_ne_deborde_d_une_fenetre_etroite_ou_agrandie(page, exported, width, zoom):
    page.set_viewport_size({"width": width // zoom, "height": 800 // zoom})
    try:
        opened(page, exported[1])
        assert page.evaluate("() => document.documentElement.scrollWidth <= innerWidth")
        for place in page.locator("input, select, label, output, .kd-player svg").all():
            box = place.bounding_box()
            assert box["x"] >= 0 and box["x"] + box["width"] <= width // zoom + 0.5
    finally:
        page.set_viewport_size({"width": 1280, "height": 900})


def test_le_curseur_choisi_se_voit(page, exported):
    opened(page, exported[1])
    page.keyboard.press("Tab")
    outline = page.locator("input, select").first.evaluate("e => getComputedStyle(e).outlineStyle")
    assert outline == "solid" and page.locator("input, select").first.evaluate("e => e === document.activeElement")


def some_states(widget) -> list[tuple]:
    """Cinq états, le premier et le dernier compris, tous les curseurs bougeant ensemble."""
    numbers = np.linspace(0, 1, 5)
    controls = widget.sliders.values()
    return [tuple(c.values[round(share * (len(c.values) - 1))] for c in controls) for share in numbers]


def shown_by(widget, values) -> Image.Image:
    """L'image qu'en fait matplotlib, sans ses textes."""
    for name, value in zip(widget.sliders, values, strict=True):
        setattr(widget, name, value)
    texts = [text for text in widget.figure.findobj(Text) if text.get_visible()]
    for text in texts:
        text.set_visible(False)
    target = io.BytesIO()
    widget.figure.savefig(target, format="png", dpi=100)
    for text in texts:
        text.set_visible(True)
    return Image.open(target).convert("RGB")


def written(widget) -> list[str]:
    """Les textes que matplotlib met dans un SVG de la même figure."""
    target = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        widget.figure.savefig(target, format="svg")
    root = ElementTree.fromstring(target.getvalue())
    return ["".join("".join(text.itertext()).split()) for text in root.iter("{http://www.w3.org/2000/svg}text")]


def distance(first: Image.Image, second: Image.Image) -> float:
    """L'écart du pire centième des pixels, les deux images floues : un trait décalé d'un demi-pixel y compte peu."""
    size = min(first.width, second.width), min(first.height, second.height)
    blurred = (image.crop((0, 0, *size)).filter(ImageFilter.GaussianBlur(BLUR)) for image in (first, second))
    gaps = np.sort(np.asarray(ImageChops.difference(*blurred)).max(-1).ravel())
    return gaps[-len(gaps) // 100 :].mean()


def test_chromium_montre_ce_que_matplotlib_dessine(page, exported):
    widget, address = exported
    opened(page, address)
    # Les textes se comparent mot à mot : chacun lisse les siens à sa façon. À un pixel entier : décalé d'un demi, tout
    # trait différerait.
    page.add_style_tag(content=".kd-player svg { position: fixed; top: 0; left: 0 } .kd-player text { opacity: 0 }")
    states, gaps = some_states(widget), []
    images = [shown_by(widget, values) for values in states]
    for values in states:
        chosen(page, widget, values)
        shown_by(widget, values)
        shown = ["".join(text.split()) for text in page.locator(".kd-player svg text").all_text_contents()]
        assert sorted(shown) == sorted(written(widget))
        shot = Image.open(io.BytesIO(page.locator(".kd-player svg").screenshot())).convert("RGB")
        gaps.append([distance(shot, image) for image in images])
    gaps = np.array(gaps)
    assert gaps.diagonal().max() <= TOLERANCE
    assert (gaps.diagonal() <= gaps.min(1) + 1).all()  # aucun autre état ne ressemble davantage
