"""Le vrai JupyterLab et un vrai Chromium, pour les mesures, les essais et les captures d'écran."""

import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
TOKEN = "kdcourse-test"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@contextmanager
def jupyterlab(folder: Path, scratch: Path) -> Iterator[str]:
    """JupyterLab sur un dossier de notebooks, avec les réglages de ``make lab`` ; rend son adresse.

    Le noyau importe ``kdcourse`` et ``benchmarks`` de cette copie du projet. Configuration, réglages et journal vont
    dans ``scratch`` : ceux de la personne qui mesure ne sont ni lus ni changés.
    """
    port, log = free_port(), scratch / "jupyterlab.log"
    private = {name: str(scratch / name) for name in ("JUPYTER_CONFIG_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTER_DATA_DIR")}
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ServerApp.ip=127.0.0.1",
        f"--ServerApp.port={port}", "--ServerApp.port_retries=0", f"--IdentityProvider.token={TOKEN}",
        f"--ServerApp.root_dir={folder}", "--LabApp.expose_app_in_browser=True",
        f"--LabApp.user_settings_dir={scratch / 'settings'}", f"--LabApp.workspaces_dir={scratch / 'workspaces'}",
    ]  # fmt: skip
    with log.open("w") as output:
        server = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | private | {"PYTHONPATH": path}
        )
        address = f"http://127.0.0.1:{port}"
        try:
            deadline = time.monotonic() + 60
            while True:
                try:
                    urllib.request.urlopen(f"{address}/api?token={TOKEN}", timeout=2).close()
                    break
                except OSError as error:
                    if server.poll() is not None or time.monotonic() > deadline:
                        raise RuntimeError(f"JupyterLab n'a pas répondu en 60 s.\n{log.read_text()}") from error
                    time.sleep(0.3)
            yield address
        finally:
            server.terminate()
            server.wait(timeout=20)


@contextmanager
def chromium(width: int = 1280, height: int = 900, zoom: float = 1.0):
    """Une page de Chromium, sans accélération graphique ; ``zoom`` est celui du navigateur."""
    if not CHROMIUM:
        raise RuntimeError("Chromium introuvable : sous Debian, apt install chromium.")
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
             "--disable-component-update", "--disable-sync"]  # fmt: skip
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = browser.new_page(
            # Zoomer, c'est montrer moins de pixels CSS, chacun plus gros.
            viewport={"width": round(width / zoom), "height": round(height / zoom)},
            device_scale_factor=zoom,
            locale="fr-FR",
        )
        try:
            yield page
        finally:
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


def open_notebook(page, address: str, name: str) -> None:
    """Ouvre un notebook et attend son noyau."""
    page.goto(f"{address}/lab/tree/{name}?token={TOKEN}")
    page.wait_for_selector(".jp-Notebook .jp-Cell", timeout=60_000)
    page.wait_for_function("() => jupyterapp.shell.currentWidget?.sessionContext?.session?.kernel?.status === 'idle'")


def append_cell(page, source: str) -> None:
    """Ajoute une cellule à la fin, l'exécute, et attend sa réponse."""
    page.evaluate(
        """async source => {
            const {content} = jupyterapp.shell.currentWidget;
            content.activeCellIndex = content.widgets.length - 1;
            await jupyterapp.commands.execute('notebook:insert-cell-below');
            content.activeCell.model.sharedModel.setSource(source);
            await jupyterapp.commands.execute('notebook:run-cell');
        }""",
        source,
    )


def last_text(page) -> str:
    """Ce que la dernière cellule a rendu, en texte."""
    return page.evaluate(
        """() => jupyterapp.shell.currentWidget.content.widgets.at(-1).model.outputs.toJSON()
            .map(output => output.data?.['text/plain'] ?? output.text ?? output.evalue).join('')"""
    )


def run_all(page, seconds: float) -> list[dict]:
    """Exécute toutes les cellules du notebook ouvert, et rend leur état une fois la dernière finie."""
    # Partir de zéro : les sorties enregistrées ne doivent pas passer pour celles d'aujourd'hui.
    page.evaluate("() => jupyterapp.commands.execute('editmenu:clear-all')")
    page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
    deadline = time.monotonic() + seconds
    while True:
        cells = code_cells(page)
        if any(cell["errors"] for cell in cells) or all(cell["count"] and not cell["running"] for cell in cells):
            return cells
        if time.monotonic() > deadline:
            raise TimeoutError(f"Le notebook n'a pas fini en {seconds} s.")
        time.sleep(0.5)


def show_cell(page, index: int) -> None:
    page.evaluate("index => jupyterapp.shell.currentWidget.content.scrollToItem(index, 'center')", index)
