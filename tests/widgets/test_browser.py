"""Le vrai JupyterLab, un vrai Chromium : les curseurs répondent au clavier, noyau vivant, arrêté ou absent."""

import json
import os
import shutil
from pathlib import Path

import pytest

from benchmarks import _jupyterlab as lab, _widget_cases as cases
from benchmarks.widgets import write_notebook

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parent.parent.parent
SCREENSHOTS = ROOT / "tests" / "screenshots"
NOTEBOOK_SECONDS = 240
PAIR = ("ArrowRight", "ArrowLeft")

if lab.CHROMIUM is None and not os.environ.get("KDCOURSE_BROWSER_REQUIRED"):
    pytest.skip("Chromium introuvable : sous Debian, apt install chromium.", allow_module_level=True)


@pytest.fixture
def jupyterlab(tmp_path):
    """JupyterLab sur une copie des notebooks ; rend son adresse."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(notebook, folder)
    with lab.jupyterlab(folder, tmp_path) as address:
        yield address


@pytest.fixture
def page():
    with lab.chromium() as page:
        yield page
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / "dernier_etat.png")


def player(page, cell: int):
    """Le curseur d'une cellule, amené à l'écran."""
    lab.show_cell(page, cell)
    place = page.locator(f'.jp-Cell[data-windowed-list-index="{cell}"] .kd-player')
    place.locator("svg").wait_for(timeout=20_000)
    return place


def moves(page, cell: int) -> bool:
    """Une touche sur chaque curseur d'une cellule change-t-elle son image, et l'autre la rend-elle ?"""
    place = player(page, cell)
    for control in place.locator("input, select").all():
        forward, back = ("ArrowDown", "ArrowUp") if control.evaluate("e => e.type !== 'range'") else PAIR
        if control.evaluate("e => e.type === 'range' ? e.value === e.max : e.selectedIndex === e.length - 1"):
            forward, back = back, forward
        before = place.locator("svg").inner_html()
        control.focus()
        page.keyboard.press(forward)
        changed = place.locator("svg").inner_html() != before
        page.keyboard.press(back)
        if not changed or place.locator("svg").inner_html() != before:
            return False
    return True


def test_le_curseur_de_temperature_repond_au_clavier(jupyterlab, page):
    lab.open_notebook(page, jupyterlab, "10_01_Principes.ipynb")
    cells = lab.run_all(page, NOTEBOOK_SECONDS)
    assert [cell["errors"] for cell in cells if cell["errors"]] == []

    place = player(page, next(cell["index"] for cell in cells if "TemperatureExplorer(" in cell["source"]))
    handle, picture = place.locator("input").first, place.locator("svg")
    before = picture.inner_html()
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "10_01_temperature.png")
    assert picture.inner_html() != before and place.locator("output").first.inner_text() == "2,5"
    # Ce que le lecteur d'écran reçoit : un nom, la valeur et non son rang, l'image en mots.
    assert page.get_by_label("Température T").first.get_attribute("aria-valuetext") == "2,5"
    status = place.locator("[role=status]")
    page.wait_for_function("e => e.innerText.startsWith('Température T : 2,5.')", arg=status.element_handle())
    assert "T = 2,5 ; entropie : " in status.inner_text()


@pytest.fixture
def sliders(jupyterlab, page, tmp_path):
    """Un notebook où chaque curseur du cours est une cellule, exécuté ; ses cellules, et son fichier."""
    path = tmp_path / "notebooks" / "curseurs.ipynb"
    write_notebook(path, [f"show({name!r})" for name in cases.WIDGETS])
    lab.open_notebook(page, jupyterlab, path.name)
    assert [cell["errors"] for cell in lab.run_all(page, NOTEBOOK_SECONDS) if cell["errors"]] == []
    return {name: index + 1 for index, name in enumerate(cases.WIDGETS)}, path


def saved(page, path: Path) -> dict:
    """Le notebook, une fois enregistré."""
    page.evaluate("() => jupyterapp.shell.currentWidget.context.save()")
    return json.loads(path.read_text())


def test_chaque_curseur_bouge_noyau_vivant_arrete_puis_copie_rouverte(jupyterlab, page, sliders):
    cells, path = sliders
    assert [name for name, cell in cells.items() if not moves(page, cell)] == []
    # Python apprend les valeurs que la main a choisies.
    place = player(page, cells["RankExplorer"])
    place.locator("input").focus()
    page.keyboard.press("End")
    page.wait_for_timeout(1000)
    lab.append_cell(page, "cases.shown['RankExplorer'].rank")
    assert lab.last_text(page) == "64.0"

    first = saved(page, path)
    weight = path.stat().st_size
    lab.run_all(page, NOTEBOOK_SECONDS)
    again = saved(page, path)
    assert abs(path.stat().st_size - weight) < 0.02 * weight  # une exécution de plus ne fait pas grossir le fichier
    state = "application/vnd.jupyter.widget-state+json"
    models = [len(notebook["metadata"]["widgets"][state]["state"]) for notebook in (first, again)]
    assert models[0] == models[1] and weight < 4_000_000

    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    assert [name for name, cell in cells.items() if not moves(page, cell)] == []

    # Rouverte : le noyau qui démarre n'a rien exécuté, puis il n'y en a plus.
    page.goto("about:blank")
    lab.open_notebook(page, jupyterlab, path.name)
    assert [name for name, cell in cells.items() if not moves(page, cell)] == []
    page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
    assert [name for name, cell in cells.items() if not moves(page, cell)] == []
    assert "model not found" not in "".join(page.locator(".jp-OutputArea").all_inner_texts())

    # Venue d'ailleurs, JupyterLab ne s'y fie pas : les images, sans un mot.
    copy = path.with_name("copie.ipynb")
    copy.write_text(json.dumps(again | {"metadata": again["metadata"] | {"title": "copie"}}))
    page.goto("about:blank")
    lab.open_notebook(page, jupyterlab, copy.name)
    shown = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden)")  # l'autre onglet est resté ouvert
    shown.locator(".jp-OutputArea img").first.wait_for()
    assert not shown.locator(".kd-player").count()
    assert not {"model not found", "Loading widget"} & set(shown.locator(".jp-OutputArea").all_inner_texts())


def test_l_interface_est_en_francais_et_sans_annonce(jupyterlab, page):
    page.goto(f"{jupyterlab}/lab?token={lab.TOKEN}")
    page.wait_for_selector(".lm-MenuBar-itemLabel", timeout=60_000)
    menus = page.locator(".lm-MenuBar-itemLabel").all_inner_texts()
    assert "Fichier" in menus
    page.wait_for_timeout(2000)  # le temps qu'une annonce apparaisse, s'il y en avait une
    assert page.locator(".Toastify__toast").count() == 0
