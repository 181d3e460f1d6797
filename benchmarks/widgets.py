"""De la touche à l'image peinte : chaque curseur du cours, noyau vivant puis arrêté, ``interact``, et un plancher.

Le vrai JupyterLab, un vrai Chromium. Une flèche du clavier déplace le curseur d'un cran ; le chronomètre part à l'heure
que le navigateur donne à la touche et s'arrête quand la page est peinte avec une autre image. Le plancher est ce qu'un
curseur qui passe par le noyau fait de mieux : deux images prêtes, que le noyau envoie tour à tour. Les sujets passent
tour à tour : une machine qui ralentit les ralentit tous.

Viennent avec : le temps que chaque curseur met à se construire, sur un cœur, et ce que ses états pèsent.
"""

import gzip
import json
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import nbformat
import torch

from benchmarks import _widget_cases as cases
from benchmarks._jupyterlab import chromium, jupyterlab, open_notebook, run_all, show_cell
from benchmarks._report import publish, targets
from kdcourse.command_line import FrenchParser, positive
from kdcourse.formats import french, short

PROBE = Path(__file__).with_name("_browser_probe.js")
ROUNDS, WARM_UP = 4, 2
BURSTS, BURST_MOVES, BURST_SECONDS = 3, 60, 1.0
# Les cibles.
OF_FLOOR, SPEEDUP, BURST_FRAMES, SECONDS, ZIPPED_KB, RAW_KB = 0.25, 20, 55, 3, 100, 1_000
HEAVIER_KB = {"RelationExplorer": 250}  # vingt-quatre matrices de ressemblances
FLOOR, STOPPED = "plancher", "noyau arrêté"


def main(arguments: list[str]) -> None:
    parser = FrenchParser("python -m benchmarks widgets", __doc__.splitlines()[0])
    parser.add_argument("--widgets", nargs="*", choices=list(cases.WIDGETS), default=list(cases.WIDGETS), metavar="NOM",
                        help=f"parmi : {', '.join(cases.WIDGETS)} (tous par défaut)")  # fmt: skip
    parser.add_argument("--presses", type=positive, default=40, help="touches par sujet (40 par défaut)")
    options = parser.parse_args(arguments)
    built = {name: build(name) for name in options.widgets}
    subjects = {name: f"show({name!r})" for name in options.widgets}
    subjects |= {FLOOR: "floor()"} | {f"interact {name}": f"stock({name!r})" for name in options.widgets}
    presses, bursts = defaultdict(list), {}
    with tempfile.TemporaryDirectory(prefix="kdcourse-") as scratch:
        folder = Path(scratch, "notebooks")
        folder.mkdir()
        write_notebook(folder / "curseurs.ipynb", subjects.values())
        with jupyterlab(folder, Path(scratch)) as address, chromium() as page:
            page.add_init_script(path=PROBE)
            open_notebook(page, address, "curseurs.ipynb")
            failed = [cell["errors"] for cell in run_all(page, 300) if cell["errors"]]
            if failed:
                raise SystemExit(f"Un curseur ne s'est pas construit : {failed[0]}")
            hand = Hand(page, {name: index + 1 for index, name in enumerate(subjects)})
            for turn in range(ROUNDS):
                for name in subjects:
                    presses[name] += hand.presses(name, turn, WARM_UP + -(-options.presses // ROUNDS))
            bursts |= {name: hand.bursts(name) for name in subjects}
            page.evaluate("() => jupyterapp.shell.currentWidget.sessionContext.shutdown()")
            for name in options.widgets:
                stopped = f"{name}, {STOPPED}"
                for turn in range(ROUNDS):
                    presses[stopped] += hand.presses(name, turn, WARM_UP + -(-options.presses // ROUNDS))
                bursts[stopped] = hand.bursts(name)
    whole = set(options.widgets) == set(cases.WIDGETS)
    publish("widgets", report(presses, bursts, built), whole)


def build(name: str) -> dict:
    """Le temps de construction, sur un cœur, et le poids de ce que la page reçoit."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        make = cases.WIDGETS[name]()
        start = time.perf_counter()
        played = make().played
        seconds = time.perf_counter() - start
    finally:
        torch.set_num_threads(threads)
    raw = json.dumps(played, ensure_ascii=False).encode()
    return {
        "states": len(played["frames"]),
        "seconds": round(seconds, 2),
        "raw_kb": round(len(raw) / 1e3),
        "zipped_kb": round(len(gzip.compress(raw)) / 1e3),
    }


def write_notebook(path: Path, calls) -> None:
    sources = ["from benchmarks import _widget_cases as cases", *(f"cases.{call}" for call in calls)]
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


class Hand:
    """Une main sur le clavier : elle choisit un curseur, appuie sur une flèche, et lit ce que la page a noté."""

    def __init__(self, page, cells: dict[str, int]):
        self.page, self.cells = page, cells
        self.browser = page.context.new_cdp_session(page)

    def handles(self, name: str):
        cell = f'.jp-Cell[data-windowed-list-index="{self.cells[name]}"]'
        return self.page.locator(f"{cell} .noUi-handle, {cell} .kd-player input[type=range]")

    def focus(self, name: str, number: int):
        show_cell(self.page, self.cells[name])
        self.handles(name).first.wait_for(timeout=20_000)
        handle = self.handles(name).nth(number % self.handles(name).count())
        handle.focus()
        self.page.wait_for_timeout(1000)  # la page finit de défiler, le noyau d'apprendre la valeur d'avant
        return handle

    def press(self, key: str) -> None:
        code = {"ArrowRight": 39, "ArrowLeft": 37}[key]
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.browser.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **event})
        self.browser.send("Input.dispatchKeyEvent", {"type": "keyUp", **event})

    def range(self, handle) -> tuple[int, int, int]:
        """Le premier cran, le cran actuel et le dernier."""
        values = handle.evaluate(
            "e => e.type === 'range' ? [e.min, e.value, e.max]"
            " : ['min', 'now', 'max'].map(part => e.getAttribute(`aria-value${part}`))"
        )
        return tuple(int(float(value)) for value in values)

    def presses(self, name: str, number: int, count: int) -> list[dict]:
        """Des touches espacées : chacune attend que la précédente soit peinte et le noyau au repos."""
        handle, key, measured = self.focus(name, number), "ArrowRight", []
        for rank in range(count):
            low, now, high = self.range(handle)
            key = "ArrowRight" if now <= low else "ArrowLeft" if now >= high else key
            seen = self.pressed(key)
            if not seen["changes"]:
                raise RuntimeError(f"{name} : aucune image peinte en 3 s après une touche.")
            first = seen["changes"][0]
            # Les premières ne comptent pas : la page vient de défiler.
            measured.append({"ms": first["painted"] - seen["keys"][0], "digest": first["digest"],
                             "counted": rank >= WARM_UP})  # fmt: skip
        return measured

    def pressed(self, key: str) -> dict:
        self.page.evaluate("() => probe.reset()")
        self.press(key)
        self.page.evaluate("() => probe.painted(1, 3000)")
        self.page.wait_for_timeout(80)
        return self.page.evaluate("() => probe.report()")

    def bursts(self, name: str) -> dict:
        """La médiane de trois rafales ; la dernière image doit être juste à chacune."""
        seen = sorted((self.burst(name) for _ in range(BURSTS)), key=lambda burst: burst["frames"])
        return seen[BURSTS // 2] | {"last_shown": all(burst["last_shown"] for burst in seen)}

    def burst(self, name: str) -> dict:
        """Soixante touches en une seconde ; la dernière image doit être celle de la dernière valeur."""
        handle, key = self.focus(name, 0), "ArrowRight"
        low, now, high = self.range(handle)
        keys = []
        for _ in range(BURST_MOVES):
            key = "ArrowRight" if now <= low else "ArrowLeft" if now >= high else key
            now += 1 if key == "ArrowRight" else -1
            keys.append(key)
        self.page.evaluate("() => probe.reset()")
        start = time.perf_counter()
        for number, key in enumerate(keys):
            time.sleep(max(0.0, start + number * BURST_SECONDS / BURST_MOVES - time.perf_counter()))
            self.press(key)
        self.page.wait_for_timeout(1500)
        seen = self.page.evaluate("() => probe.report()")
        reached = self.range(handle)[1]
        # La même position, atteinte sans hâte : un cran de côté, puis retour.
        aside = "ArrowLeft" if reached > low else "ArrowRight"
        self.pressed(aside)
        expected = self.pressed("ArrowRight" if aside == "ArrowLeft" else "ArrowLeft")["changes"][-1]["digest"]
        return {
            "moves": len(seen["keys"]),
            "seconds": round((seen["keys"][-1] - seen["keys"][0]) / 1000, 2),
            "frames": len(seen["changes"]),
            "last_shown": reached == now and seen["changes"][-1]["digest"] == expected,
        }


def report(presses: dict[str, list[dict]], bursts: dict[str, dict], built: dict[str, dict]) -> dict:
    """Les tableaux imprimés, et le résultat rangé."""
    lines = {name: summary(name, measured) | {"burst": bursts[name]} for name, measured in presses.items()}
    print(f"{'de la touche à l’image peinte, ms':40}{'médiane':>9}{'p95':>7}{'interact/':>11}   rafale")
    for name, line in lines.items():
        stock, ratio = lines.get(f"interact {name.removesuffix(f', {STOPPED}')}"), ""
        if stock and stock is not line:
            line["speedup"] = round(stock["median_ms"] / line["median_ms"], 1)
            ratio = french(line["speedup"])
        burst = line["burst"]
        right = "juste" if burst["last_shown"] else "FAUSSE"
        moved = (
            f"{burst['moves']} touches en {short(burst['seconds'])} s, {burst['frames']} images, la dernière {right}"
        )
        print(f"{name:40}{french(line['median_ms']):>9}{french(line['p95_ms']):>7}{ratio:>11}   {moved}")
    print(f"\n{'construction, sur un cœur':40}{'états':>9}{'s':>7}{'ko':>11}{'ko gzip':>9}")
    for name, one in built.items():
        print(f"{name:40}{one['states']:>9}{french(one['seconds'], 2):>7}{one['raw_kb']:>11}{one['zipped_kb']:>9}")
    ours = {name: line for name, line in lines.items() if "speedup" in line}
    floor = lines[FLOOR]
    slowest = max(line["p95_ms"] for line in ours.values())
    met = {
        f"p95 au plus au quart du plancher ({french(slowest)} ms pour {french(floor['p95_ms'])})":
            slowest <= OF_FLOOR * floor["p95_ms"],
        f"{SPEEDUP} fois plus vite qu'interact": min(line["speedup"] for line in ours.values()) >= SPEEDUP,
        f"{BURST_FRAMES} images pour {BURST_MOVES} touches en une seconde, la dernière juste":
            all(line["burst"]["frames"] >= BURST_FRAMES and line["burst"]["last_shown"] for line in ours.values()),
        f"construits en {SECONDS} s": all(one["seconds"] <= SECONDS for one in built.values()),
        f"{ZIPPED_KB} ko compressés ({', '.join(f'{n} : {kb}' for n, kb in HEAVIER_KB.items())}), {RAW_KB} bruts":
            all(one["zipped_kb"] <= HEAVIER_KB.get(name, ZIPPED_KB) and one["raw_kb"] <= RAW_KB
                for name, one in built.items()),
    }  # fmt: skip
    print("\n" + "\n".join(f"{'atteint' if reached else 'MANQUÉ '} : {sentence}" for sentence, reached in met.items()))
    return {"floor": floor, "widgets": lines, "built": built, "targets": targets(met)}


def summary(name: str, measured: list[dict]) -> dict:
    """Une ligne du tableau. Deux images de suite identiques ne seraient pas un changement : elles font échouer."""
    if any(a["digest"] == b["digest"] for a, b in zip(measured, measured[1:], strict=False)):
        raise RuntimeError(f"{name} : une touche n'a rien changé à l'image, ce n'est pas elle qui a été chronométrée.")
    times = [one["ms"] for one in measured if one["counted"]]
    return {
        "median_ms": round(statistics.median(times), 1),
        "p95_ms": round(statistics.quantiles(times, n=20, method="inclusive")[-1], 1),
        "presses": len(times),
    }
