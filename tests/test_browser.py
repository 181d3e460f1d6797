"""Le vrai JupyterLab, un vrai Chromium : le chapitre s'exécute, et son curseur répond au clavier."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.browser
ROOT = Path(__file__).parent.parent
SCREENSHOTS = ROOT / "tests" / "screenshots"
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TOKEN = "kdcourse-test"
NOTEBOOK_SECONDS = 240

if CHROMIUM is None and not os.environ.get("KDCOURSE_BROWSER_REQUIRED"):
    pytest.skip("Chromium introuvable : sous Debian, apt install chromium.", allow_module_level=True)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def jupyterlab(tmp_path):
    """JupyterLab sur une copie des notebooks, avec les réglages de `make lab` ; rend son adresse."""
    folder = tmp_path / "notebooks"
    folder.mkdir()
    for notebook in (ROOT / "notebooks").glob("*.ipynb"):
        shutil.copy(notebook, folder)
    port = free_port()
    private = {name: str(tmp_path / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR")}
    log = (tmp_path / "jupyterlab.log").open("w")
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True",
        f"--LabApp.user_settings_dir={tmp_path / 'settings'}", f"--LabApp.workspaces_dir={tmp_path / 'workspaces'}",
    ]  # fmt: skip
    server = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | private)
    address = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=2).close()
                break
            except OSError:
                assert server.poll() is None, (tmp_path / "jupyterlab.log").read_text()
                assert time.monotonic() < deadline, "JupyterLab n'a pas répondu en 60 s."
                time.sleep(0.3)
        yield address
    finally:
        server.terminate()
        server.wait(timeout=20)
        log.close()


@pytest.fixture
def page(tmp_path):
    assert CHROMIUM, "Chromium introuvable, alors que KDCOURSE_BROWSER_REQUIRED l'exige."
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(viewport={"width": 1280, "height": 900}, locale="fr-FR")
        yield page
        SCREENSHOTS.mkdir(exist_ok=True)
        page.screenshot(path=SCREENSHOTS / "dernier_etat.png")
        browser.close()


def code_cells(page) -> list[dict]:
    """Les cellules de code telles que JupyterLab les tient : texte, numéro d'exécution, erreurs."""
    return page.evaluate(
        """() => jupyterapp.shell.currentWidget.content.widgets.map((cell, index) => ({cell, index}))
            .filter(({cell}) => cell.model.type === 'code')
            .map(({cell, index}) => ({index, source: cell.model.sharedModel.getSource(),
                count: cell.model.executionCount,
                running: cell.model.executionState === 'running',
                errors: cell.model.outputs.toJSON().filter(o => o.output_type === 'error').map(o => o.evalue)}))"""
    )


def open_and_run(page, address: str, name: str) -> list[dict]:
    """Ouvre un notebook, exécute toutes ses cellules, et rend leur état une fois la dernière finie."""
    page.goto(f"{address}/lab/tree/{name}?token={TOKEN}")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_function("() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")
    # Partir de zéro : les sorties enregistrées ne doivent pas passer pour celles d'aujourd'hui.
    page.evaluate("() => jupyterapp.commands.execute('editmenu:clear-all')")
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
    deadline = time.monotonic() + NOTEBOOK_SECONDS
    while True:
        cells = code_cells(page)
        if any(cell["errors"] for cell in cells) or all(cell["count"] and not cell["running"] for cell in cells):
            return cells
        assert time.monotonic() < deadline, f"{name} n'a pas fini en {NOTEBOOK_SECONDS} s."
        time.sleep(0.5)


def show_cell(page, index: int) -> None:
    page.evaluate("index => jupyterapp.shell.currentWidget.content.scrollToItem(index, 'center')", index)


def test_le_curseur_de_temperature_repond_au_clavier(jupyterlab, page):
    cells = open_and_run(page, jupyterlab, "10_01_Principes.ipynb")
    assert [cell["errors"] for cell in cells if cell["errors"]] == []

    widget = next(cell["index"] for cell in cells if "TemperatureExplorer(" in cell["source"])
    show_cell(page, widget)
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


def test_l_interface_est_en_francais_et_sans_annonce(jupyterlab, page):
    page.goto(f"{jupyterlab}/lab?token={TOKEN}")
    page.wait_for_selector(".lm-MenuBar-itemLabel", timeout=60_000)
    menus = page.locator(".lm-MenuBar-itemLabel").all_inner_texts()
    assert "Fichier" in menus
    page.wait_for_timeout(2000)  # le temps qu'une annonce apparaisse, s'il y en avait une
    assert page.locator(".Toastify__toast").count() == 0
