"""Le site, ouvert d'un dossier, à côté de JupyterLab : la première image d'un chapitre, son premier curseur, son poids.

Le site est celui de ``make site``. Chaque page s'ouvre dans un profil neuf, sans cache ; le chronomètre part quand on
demande la page. Pour un curseur, il s'arrête quand une flèche du clavier a changé l'image. JupyterLab démarre, ouvre le
même chapitre et montre l'image rangée ; pour son curseur, il faut exécuter les cellules qui le précèdent.
"""

import gzip
import re
import shutil
import statistics
import tempfile
import time
from pathlib import Path

from benchmarks._jupyterlab import ROOT, chromium, jupyterlab, open_notebook
from benchmarks._report import publish, targets
from kdcourse.command_line import FrenchParser, positive
from kdcourse.formats import french

SITE = ROOT / "build" / "site"
PICTURE = """() => [...document.querySelectorAll('article img, .jp-Notebook img')].some(
    image => image.complete && image.naturalWidth)"""
PICTURE_S, SLIDER_S, PAGE_MB, TIMEOUT = 2, 3, 1.5, 300


def main(arguments: list[str]) -> None:
    parser = FrenchParser("python -m benchmarks site", __doc__.splitlines()[0])
    parser.add_argument("prefixes", nargs="*", help="débuts de noms de chapitres, tous par défaut")
    parser.add_argument("--repeats", type=positive, default=5, help="ouvertures de chaque page (5 par défaut)")
    options = parser.parse_args(arguments)
    pages = [path for path in sorted(SITE.glob("10_*.html")) if path.name.startswith(tuple(options.prefixes or [""]))]
    if not pages:
        raise SystemExit(f"{SITE.relative_to(ROOT)} n'a pas de chapitre à mesurer : construisez-le par make site.")
    found = {}
    for page in pages:
        print(page.stem, flush=True)
        alive = "kd-figure" in page.read_text(encoding="utf-8")
        found[page.stem] = one = {"page_mb": round(own_bytes(page) / 1e6, 3)}
        one |= opened(page, options.repeats, alive) | in_jupyterlab(f"{page.stem}.ipynb", alive)
        print("  ", ", ".join(f"{name} {french(value, 2)}" for name, value in one.items()), flush=True)
    size = sum(path.stat().st_size for path in SITE.rglob("*") if path.is_file())
    worst = {name: max(one.get(name, 0) for one in found.values()) for name in ("picture_s", "slider_s", "page_mb")}
    publish("site", {
        "pages": found,
        "site_mb": round(size / 1e6, 1),
        "targets": targets({
            f"première image en moins de {PICTURE_S} s": worst["picture_s"] < PICTURE_S,
            f"premier curseur en moins de {SLIDER_S} s": worst["slider_s"] < SLIDER_S,
            f"une page de {french(PAGE_MB)} Mo au plus": worst["page_mb"] <= PAGE_MB,
        }),
    }, whole=not options.prefixes)  # fmt: skip


def own_bytes(page: Path) -> int:
    """Ce qu'une page a en propre, comprimé : son texte, ses curseurs et ses figures."""
    text = page.read_text(encoding="utf-8")
    figures = {SITE / name for name in re.findall(r'src="(_static/figures/[^"]+|_images/[^"]+)"', text)}
    return sum(len(gzip.compress(path.read_bytes())) for path in (page, *figures))


def opened(path: Path, repeats: int, alive: bool) -> dict[str, float]:
    """La médiane des ouvertures ; un chapitre sans curseur n'a que sa première image."""
    times = {"picture_s": [], "slider_s": []}
    for _ in range(repeats):
        with chromium() as page:
            start = time.perf_counter()
            page.goto(path.as_uri(), wait_until="commit")
            page.wait_for_function(PICTURE)
            times["picture_s"].append(time.perf_counter() - start)
            if alive:
                times["slider_s"].append(moved(page) - start)
    return {name: round(statistics.median(measured), 2) for name, measured in times.items() if measured}


def moved(page) -> float:
    """L'heure à laquelle le premier curseur a changé son image."""
    page.locator(".kd-player svg").first.wait_for(timeout=1000 * TIMEOUT)
    before = page.locator(".kd-player svg").first.inner_html()
    page.locator(".kd-player input[type=range], .kd-player select").first.focus()
    page.keyboard.press("ArrowRight")
    page.wait_for_function("before => document.querySelector('.kd-player svg').innerHTML !== before", arg=before)
    return time.perf_counter()


def in_jupyterlab(name: str, alive: bool) -> dict[str, float]:
    """De même dans JupyterLab, de son démarrage à l'image rangée, puis au curseur que le noyau a construit."""
    with tempfile.TemporaryDirectory(prefix="kdcourse-") as scratch:
        folder = Path(scratch, "notebooks")
        folder.mkdir()
        shutil.copy(ROOT / "notebooks" / name, folder)  # JupyterLab enregistrerait l'original
        start = time.perf_counter()
        with jupyterlab(folder, Path(scratch)) as address, chromium() as page:
            open_notebook(page, address, name)
            page.wait_for_function(PICTURE)
            times = {"lab_picture_s": time.perf_counter() - start}
            if alive:
                page.evaluate("() => { jupyterapp.commands.execute('notebook:run-all-cells'); }")
                times["lab_slider_s"] = moved(page) - start
    return {name: round(seconds, 1) for name, seconds in times.items()}
