"""Le vrai JupyterLab, un vrai Chromium : le chapitre s'exécute, et son curseur répond au clavier."""

import os
import shutil
from pathlib import Path

import pytest

from benchmarks import _jupyterlab as lab

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parent.parent.parent
SCREENSHOTS = ROOT / "tests" / "screenshots"
NOTEBOOK_SECONDS = 240

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


def test_le_curseur_de_temperature_repond_au_clavier(jupyterlab, page):
    lab.open_notebook(page, jupyterlab, "10_01_Principes.ipynb")
    cells = lab.run_all(page, NOTEBOOK_SECONDS)
    assert [cell["errors"] for cell in cells if cell["errors"]] == []

    widget = next(cell["index"] for cell in cells if "TemperatureExplorer(" in cell["source"])
    lab.show_cell(page, widget)
    handle = page.locator(".noUi-handle").first
    handle.wait_for(timeout=20_000)
    picture = page.locator(".jp-Cell:has(.noUi-handle) .widget-image, .jp-Cell:has(.noUi-handle) img").first
    readout = page.locator(".widget-readout").first
    before, value = picture.get_attribute("src"), readout.inner_text()
    handle.focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    page.wait_for_function(
        "([old, value]) => document.querySelector('.widget-readout').innerText !== value", arg=[before, value]
    )
    page.wait_for_function(
        "old => document.querySelector('.jp-Cell .widget-image, .jp-Cell img.widget-image').src !== old", arg=before
    )
    SCREENSHOTS.mkdir(exist_ok=True)
    page.screenshot(path=SCREENSHOTS / "10_01_temperature.png")
    assert readout.inner_text() == "2,5"
    # Ce que le lecteur d'écran reçoit : un nom, la valeur et non son rang, l'image en mots.
    assert handle.get_attribute("aria-label") == "Température T"
    assert handle.get_attribute("aria-valuetext") == "2,5"
    page.wait_for_function("() => document.querySelector('.kdcourse-sliders img').alt.includes('T = 2,5')")
    assert page.locator(".kdcourse-sliders [role=status]").first.inner_text().startswith("Température T : 2,5.")


def test_l_interface_est_en_francais_et_sans_annonce(jupyterlab, page):
    page.goto(f"{jupyterlab}/lab?token={lab.TOKEN}")
    page.wait_for_selector(".lm-MenuBar-itemLabel", timeout=60_000)
    menus = page.locator(".lm-MenuBar-itemLabel").all_inner_texts()
    assert "Fichier" in menus
    page.wait_for_timeout(2000)  # le temps qu'une annonce apparaisse, s'il y en avait une
    assert page.locator(".Toastify__toast").count() == 0
