"""De la touche au pixel : chaque curseur du cours, la même figure par ``interact``, et le plancher.

Le vrai JupyterLab, un vrai Chromium. Une flèche du clavier déplace le curseur d'un cran ; le chronomètre part à l'heure
que le navigateur donne à la touche et s'arrête quand la page est peinte avec une autre image. Le temps du noyau est
pris dans le noyau ; le reste se partage entre le navigateur et le transport aux heures où la page envoie la valeur et
reçoit l'image. Les sujets passent tour à tour : une machine qui ralentit les ralentit tous.

Dans une rafale, le nombre des images dépend aussi de Chromium : après une touche, il remet à plus tard les messages et
les images reçus (``DeferRendererTasksAfterInput``). À soixante touches par seconde, il lui arrive de les retenir une
demi-seconde, même pour le plancher ; sans ce réglage, toutes les rafales essayées montrent une vingtaine d'images.
"""

import json
import statistics
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import nbformat

from benchmarks import _widget_cases as cases
from benchmarks._jupyterlab import chromium, jupyterlab, open_notebook, run_all, show_cell
from benchmarks._report import publish
from kdcourse.command_line import FrenchParser, positive
from kdcourse.formats import french, short

PROBE = Path(__file__).with_name("_browser_probe.js")
ROUNDS, WARM_UP = 4, 2
BURST_MOVES, BURST_SECONDS, BURST_LIMIT_MS = 60, 1.0, 150
SPEEDUP, OVER_FLOOR, MEDIAN_MS = 3, 1.6, 50  # les cibles ; les deux dernières pour la température seule
FLOOR = "plancher"


def main(arguments: list[str]) -> None:
    parser = FrenchParser("python -m benchmarks widgets", __doc__.splitlines()[0])
    parser.add_argument("--widgets", nargs="*", choices=list(cases.WIDGETS), default=list(cases.WIDGETS), metavar="NOM",
                        help=f"parmi : {', '.join(cases.WIDGETS)} (tous par défaut)")  # fmt: skip
    parser.add_argument("--presses", type=positive, default=40, help="touches par sujet (40 par défaut)")
    options = parser.parse_args(arguments)
    subjects = {FLOOR: "floor()"}
    for name in options.widgets:
        subjects |= {name: f"show({name!r})", f"interact {name}": f"stock({name!r})"}
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
            presses = defaultdict(list)
            for turn in range(ROUNDS):
                for name in subjects:
                    presses[name] += hand.presses(name, turn, WARM_UP + -(-options.presses // ROUNDS))
            kernel = kernel_times(page, folder, len(subjects) + 1)
            bursts = {name: hand.burst(name, presses[name]) for name in subjects}
    whole = set(options.widgets) == set(cases.WIDGETS)
    publish("widgets", report(presses, kernel, bursts), whole)


def write_notebook(path: Path, calls) -> None:
    sources = ["from benchmarks import _widget_cases as cases", *(f"cases.{call}" for call in calls)]
    sources.append("import json, pathlib\n_ = pathlib.Path('noyau.json').write_text(json.dumps(cases.times))")
    cells = [nbformat.v4.new_code_cell(source) for source in sources]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), path)


def kernel_times(page, folder: Path, index: int) -> dict[str, list[float]]:
    """Ce que le noyau a chronométré jusqu'ici, écrit par la dernière cellule."""
    target = folder / "noyau.json"
    target.unlink(missing_ok=True)
    page.evaluate(
        """index => { jupyterapp.shell.currentWidget.content.activeCellIndex = index;
            return jupyterapp.commands.execute('notebook:run-cell'); }""",
        index,
    )
    deadline = time.monotonic() + 30
    while not (target.exists() and target.read_text().endswith("}")):
        if time.monotonic() > deadline:
            raise TimeoutError("Le noyau n'a pas rendu ses temps en 30 s.")
        time.sleep(0.1)
    return json.loads(target.read_text())


class Hand:
    """Une main sur le clavier : elle choisit un curseur, appuie sur une flèche, et lit ce que la page a noté."""

    def __init__(self, page, cells: dict[str, int]):
        self.page, self.cells = page, cells
        self.browser = page.context.new_cdp_session(page)

    def handles(self, name: str):
        return self.page.locator(f'.jp-Cell[data-windowed-list-index="{self.cells[name]}"] .noUi-handle')

    def focus(self, name: str, number: int):
        show_cell(self.page, self.cells[name])
        handle = self.handles(name).nth(number % max(1, self.handles(name).count()))
        handle.wait_for(timeout=20_000)
        handle.focus()
        self.page.wait_for_timeout(300)  # la page finit de défiler, le noyau de se taire
        return handle

    def press(self, key: str) -> None:
        code = {"ArrowRight": 39, "ArrowLeft": 37}[key]
        event = {"key": key, "code": key, "windowsVirtualKeyCode": code}
        self.browser.send("Input.dispatchKeyEvent", {"type": "rawKeyDown", **event})
        self.browser.send("Input.dispatchKeyEvent", {"type": "keyUp", **event})

    def direction(self, handle, key: str) -> str:
        """La même flèche, ou l'autre au bout du curseur."""
        low, now, high = (float(handle.get_attribute(f"aria-value{part}")) for part in ("min", "now", "max"))
        return "ArrowRight" if now <= low else "ArrowLeft" if now >= high else key

    def presses(self, name: str, number: int, count: int) -> list[dict]:
        """Des touches espacées : chacune attend que la précédente soit peinte et le noyau au repos."""
        handle, key, measured = self.focus(name, number), "ArrowRight", []
        for rank in range(count):
            key = self.direction(handle, key)
            self.page.evaluate("() => probe.reset()")
            self.press(key)
            self.page.evaluate("() => probe.painted(1, 3000)")
            self.page.wait_for_timeout(80)
            seen = self.page.evaluate("() => probe.report()")
            if not seen["changes"]:
                raise RuntimeError(f"{name} : aucune image peinte en 3 s après une touche.")
            first, key_down = seen["changes"][0], seen["keys"][0]
            sent = next(at for at in seen["sends"] if at > key_down)
            received = max(at for at in seen["receipts"] if at < first["loaded"])
            measured.append({
                "total": first["painted"] - key_down, "round_trip": received - sent, "sent": sent - key_down,
                "painted": first["painted"] - received, "digest": first["digest"],
                "counted": rank >= WARM_UP,  # les premières, la page vient de défiler
            })  # fmt: skip
        return measured

    def burst(self, name: str, measured: list[dict]) -> dict:
        """Soixante touches en une seconde ; la dernière image doit être celle de la dernière valeur."""
        handle, key = self.focus(name, 0), "ArrowRight"
        low, now, high = (int(float(handle.get_attribute(f"aria-value{part}"))) for part in ("min", "now", "max"))
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
        reached = int(float(handle.get_attribute("aria-valuenow")))
        # La même position, atteinte sans hâte : un cran de côté, puis retour.
        aside = "ArrowLeft" if reached > low else "ArrowRight"
        for key in (aside, "ArrowRight" if aside == "ArrowLeft" else "ArrowLeft"):
            self.page.evaluate("() => probe.reset()")
            self.press(key)
            self.page.evaluate("() => probe.painted(1, 3000)")
            self.page.wait_for_timeout(80)
        expected = self.page.evaluate("() => probe.report()")["changes"][-1]["digest"]
        after = seen["changes"][-1]["painted"] - seen["keys"][-1]
        return {
            "moves": len(seen["keys"]),
            "seconds": round((seen["keys"][-1] - seen["keys"][0]) / 1000, 2),
            "frames": len(seen["changes"]),
            "last_shown": reached == now and seen["changes"][-1]["digest"] == expected,
            "last_ms": round(after),
        }


def report(presses: dict[str, list[dict]], kernel: dict[str, list[float]], bursts: dict[str, dict]) -> dict:
    """Les tableaux imprimés, et le résultat rangé."""
    lines = {name: summary(measured, kernel[name], bursts[name]) for name, measured in presses.items()}
    bottom = lines.pop(FLOOR)
    print(f"{'médianes, en ms':32}{'touche→pixel':>13}{'p95':>6}{'noyau':>7}{'transport':>10}{'navigateur':>11}"
          f"{'/plancher':>10}{'interact/':>10}   rafale")  # fmt: skip
    for name, line in ({FLOOR: bottom} | lines).items():
        line["over_floor"] = round(line["median_ms"] / bottom["median_ms"], 2)
        ratio = ""
        if other := lines.get(f"interact {name}"):
            line["speedup"] = round(other["median_ms"] / line["median_ms"], 2)
            ratio = french(line["speedup"])
        burst = line["burst"]
        right = "juste" if burst["last_shown"] else "FAUSSE"
        print(f"{name:32}{french(line['median_ms']):>13}{french(line['p95_ms'], 0):>6}{french(line['kernel_ms']):>7}"
              f"{french(line['transport_ms']):>10}{french(line['browser_ms']):>11}"
              f"{french(line['over_floor'], 2):>10}{ratio:>10}"
              f"   {burst['moves']} touches en {short(burst['seconds'])} s, {burst['frames']} images, "
              f"la dernière {right} à {burst['last_ms']} ms")  # fmt: skip
    ours = {name: line for name, line in lines.items() if not name.startswith("interact ")}
    stock = {name.removeprefix("interact "): line for name, line in lines.items() if name not in ours}
    missed = [reason for name, line in ours.items() for reason in misses(name, line)]
    print("\n".join(missed or ["Toutes les cibles sont atteintes."]))
    return {"widgets": ours, "interact": stock, "floor": bottom, "missed": missed}


def misses(name: str, line: dict) -> list[str]:
    """Les cibles qu'un curseur manque, et où va son temps."""
    kernel, transport, browser = (short(line[f"{part}_ms"]) for part in ("kernel", "transport", "browser"))
    where = f"noyau {kernel} ms, transport {transport}, navigateur {browser}"
    reasons = []
    if line["speedup"] < SPEEDUP:
        reasons.append(f"{short(line['speedup'])} fois plus vite qu'interact, {SPEEDUP} attendu")
    if name == "TemperatureExplorer" and (line["over_floor"] > OVER_FLOOR or line["median_ms"] > MEDIAN_MS):
        reasons.append(f"{short(line['median_ms'])} ms et {short(line['over_floor'])} fois le plancher, au plus "
                       f"{MEDIAN_MS} et {short(OVER_FLOOR)} attendus")  # fmt: skip
    if not line["burst"]["last_shown"] or line["burst"]["last_ms"] > BURST_LIMIT_MS:
        reasons.append(f"rafale : dernière valeur à {line['burst']['last_ms']} ms, au plus {BURST_LIMIT_MS} attendu")
    return [f"{name} : {reason} ({where})." for reason in reasons]


def summary(measured: list[dict], kernel: list[float], burst: dict) -> dict:
    """Une ligne du tableau. Deux images de suite identiques ne seraient pas un changement : elles font échouer."""
    if any(a["digest"] == b["digest"] for a, b in zip(measured, measured[1:], strict=False)):
        raise RuntimeError("Une touche n'a changé aucun pixel : ce n'est pas son image qui a été chronométrée.")
    if len(kernel) != len(measured):
        raise RuntimeError(f"{len(measured)} touches, mais {len(kernel)} passages dans le noyau.")
    kernel, measured = zip(*[(k, one) for k, one in zip(kernel, measured, strict=True) if one["counted"]], strict=True)
    totals = [one["total"] for one in measured]
    part_ms = {part: statistics.median(one[part] for one in measured) for part in ("sent", "round_trip", "painted")}
    return {
        "median_ms": round(statistics.median(totals), 1),
        "p95_ms": round(statistics.quantiles(totals, n=20, method="inclusive")[-1], 1),
        "kernel_ms": round(statistics.median(kernel), 1),
        "transport_ms": round(statistics.median(
            one["round_trip"] - inside for one, inside in zip(measured, kernel, strict=True)), 1),
        "browser_ms": round(part_ms["sent"] + part_ms["painted"], 1),
        "presses": len(measured),
        "burst": burst,
    }  # fmt: skip
