"""Filme les curseurs du README dans le vrai JupyterLab : le clavier les déplace, chaque état est photographié.

python tools/record_widgets.py    remplace docs/10_01_temperature.gif
"""

import io
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # un script de tools/ ne voit pas benchmarks/ de lui-même

from benchmarks._jupyterlab import chromium, code_cells, jupyterlab, open_notebook, show_cell  # noqa: E402

NOTEBOOK, WIDGET = "10_01_Principes.ipynb", "TemperatureExplorer("
CELLS_SECONDS = 240
# La température d'une image ambiguë monte puis redescend ; puis l'image la plus sûre, à la même température.
MOVES = [(0, "ArrowRight", 18), (0, "ArrowLeft", 14), (1, "End", 1), (0, "ArrowRight", 14)]
FRAME_MS, PAUSE_MS = 130, 1200


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="kdcourse-") as scratch:
        folder = Path(scratch, "notebooks")
        folder.mkdir()
        shutil.copy(ROOT / "notebooks" / NOTEBOOK, folder)
        with jupyterlab(folder, Path(scratch)) as address, chromium() as page:
            open_notebook(page, address, NOTEBOOK)
            index = run_until_widget(page)
            page.evaluate("() => jupyterapp.shell.collapseLeft()")
            show_cell(page, index)
            page.wait_for_timeout(1500)
            frames, pauses = film(page)
    durations = [PAUSE_MS if number in pauses else FRAME_MS for number in range(len(frames))]
    # Une palette commune : d'une image à l'autre, seuls changent les pixels qui ont bougé.
    palette = frames[len(frames) // 2].quantize(64, Image.Quantize.MAXCOVERAGE)
    frames = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    write(
        "10_01_temperature.gif",
        lambda partial: frames[0].save(
            partial, "gif", save_all=True, append_images=frames[1:], duration=durations, loop=0, optimize=True
        ),
    )


def run_until_widget(page) -> int:
    """Exécute le chapitre jusqu'au curseur compris ; rend le numéro de sa cellule."""
    page.evaluate("() => jupyterapp.commands.execute('editmenu:clear-all')")
    index = next(cell["index"] for cell in code_cells(page) if WIDGET in cell["source"])
    page.evaluate(
        """index => { jupyterapp.shell.currentWidget.content.activeCellIndex = index + 1;
            jupyterapp.commands.execute('notebook:run-all-above'); }""",
        index,
    )
    deadline = time.monotonic() + CELLS_SECONDS
    while True:
        cells = [cell for cell in code_cells(page) if cell["index"] <= index]
        if errors := [cell["errors"] for cell in cells if cell["errors"]]:
            raise SystemExit(f"{NOTEBOOK} : une cellule a échoué. {errors[0]}")
        if all(cell["count"] and not cell["running"] for cell in cells):
            return index
        if time.monotonic() > deadline:
            raise SystemExit(f"{NOTEBOOK} : le curseur n'est pas arrivé en {CELLS_SECONDS} s.")
        time.sleep(0.5)


def film(page) -> tuple[list[Image.Image], set[int]]:
    """Chaque état du curseur ; les numéros des états où s'arrêter."""
    box = page.locator(".kd-player").first
    box.wait_for(timeout=20_000)
    frames, pauses = [shot(page)], {0}
    for number, key, count in MOVES:
        box.locator("input").nth(number).focus()
        for _ in range(count):
            page.keyboard.press(key)
            page.wait_for_timeout(60)
            frames.append(shot(page))
        pauses.add(len(frames) - 1)
    return frames, pauses


def shot(page) -> Image.Image:
    """Les curseurs et l'image, sans la marge de droite."""
    box, picture = (page.locator(".kd-player" + part).first.bounding_box() for part in ("", " svg"))
    right, bottom = picture["x"] + picture["width"], picture["y"] + picture["height"]
    clip = {"x": box["x"], "y": box["y"], "width": right - box["x"], "height": bottom - box["y"]}
    return Image.open(io.BytesIO(page.screenshot(clip=clip))).convert("RGB")


def write(name: str, save) -> None:
    """L'ancienne image ne disparaît que devant une nouvelle, entière."""
    target = ROOT / "docs" / name
    partial = target.with_suffix(".partiel")
    save(partial)
    os.replace(partial, target)
    print(f"docs/{name} : {target.stat().st_size / 1e3:.0f} ko")


if __name__ == "__main__":
    main()
