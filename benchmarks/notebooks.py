"""Secondes de chaque notebook, de ses cellules les plus lentes, et des imports ; graines de chaque intervalle."""

import json
import statistics
import subprocess
import sys
import time
from datetime import datetime
from pathlib import Path

import nbformat
from nbclient import NotebookClient

from benchmarks._jupyterlab import ROOT
from benchmarks._report import publish
from kdcourse.command_line import FrenchParser, positive
from kdcourse.formats import french

CELL_TIMEOUT = 600  # secondes
COUNTER = Path(__file__).with_name("_interval_counter.py")
IMPORTS = {
    "torch": "import torch",
    "torch, matplotlib": "import torch, matplotlib",
    "kdcourse": "import kdcourse",
    "kdcourse, tous ses noms": "import kdcourse; [getattr(kdcourse, name) for name in kdcourse.__all__]",
}


def main(arguments: list[str]) -> None:
    parser = FrenchParser("python -m benchmarks notebooks", __doc__)
    parser.add_argument("prefixes", nargs="*", help="débuts de noms de notebooks, tous par défaut")
    parser.add_argument("--cells", type=positive, default=3, help="cellules lentes à montrer (3 par défaut)")
    parser.add_argument("--repeats", type=positive, default=5, help="mesures de chaque import (5 par défaut)")
    options = parser.parse_args(arguments)
    paths = sorted(ROOT.joinpath("notebooks").glob("*.ipynb"))
    paths = [path for path in paths if path.name.startswith(tuple(options.prefixes or [""]))]
    if not paths:
        raise SystemExit(f"prefixes : {options.prefixes} reçu, aucun notebook de notebooks/ ne commence ainsi.")

    imports = import_seconds(options.repeats)
    reference = imports["torch, matplotlib"]
    for name, seconds in imports.items():
        print(f"import {name:26}{french(seconds, 2):>7} s   {french(seconds / reference, 2):>5} × torch, matplotlib")
    notebooks = {}
    for path in paths:
        notebooks[path.stem] = measure(path, options.cells)
        print(f"\n{path.stem} : {french(notebooks[path.stem]['seconds'])} s")
        for cell in notebooks[path.stem]["slowest"]:
            print(f"   cellule {cell['cell']:3} {french(cell['seconds']):>6} s   {cell['code']}", flush=True)
    total = sum(one["seconds"] for one in notebooks.values())
    print(f"\n{len(notebooks)} notebook(s) : {french(total / 60)} min")
    publish(
        "notebooks",
        {
            "notebooks": notebooks,
            "total_s": round(total, 1),
            "imports": [{"name": name, "seconds": round(seconds, 3)} for name, seconds in imports.items()],
            "import_ratio": round(imports["kdcourse"] / reference, 3),
            "import_all_ratio": round(imports["kdcourse, tous ses noms"] / reference, 3),
        },
        whole=not options.prefixes,
    )


def import_seconds(repeats: int) -> dict[str, float]:
    """Médiane de chaque import, chacun dans un Python neuf, à tour de rôle ; le premier tour ne compte pas."""
    times = {name: [] for name in IMPORTS}
    for turn in range(repeats + 1):
        for name, code in IMPORTS.items():
            timed = f"import time; start = time.perf_counter()\n{code}\nprint(time.perf_counter() - start)"
            run = subprocess.run([sys.executable, "-c", timed], cwd=ROOT, capture_output=True, text=True, check=True)
            if turn:  # au premier, les fichiers viennent du disque
                times[name].append(float(run.stdout))
    return {name: statistics.median(values) for name, values in times.items()}


def measure(path, count: int) -> dict:
    """Un notebook exécuté en mémoire : le fichier reste ce qu'il est. Le démarrage du noyau compte."""
    notebook = nbformat.read(path, as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell("print(_seeds)"))
    client = NotebookClient(
        notebook, timeout=CELL_TIMEOUT, kernel_name="python3", resources={"metadata": {"path": str(path.parent)}}
    )
    client.extra_arguments = [f"--IPKernelApp.exec_files={COUNTER}"]
    start = time.perf_counter()
    client.execute()
    seconds = time.perf_counter() - start
    seeds = json.loads(notebook.cells.pop().outputs[0].text)
    cells = [
        {"cell": number, "seconds": round(cell_seconds(cell), 2), "code": title(cell.source)}
        for number, cell in enumerate(notebook.cells)
        if cell.cell_type == "code"
    ]
    slowest = sorted(cells, key=lambda cell: cell["seconds"], reverse=True)[:count]
    return {
        "seconds": round(seconds, 1), "slowest": slowest, "intervals": len(seeds),
        "median_seeds": statistics.median_low(seeds) if seeds else 0,
        "below_ten": sum(number < 10 for number in seeds),
    }  # fmt: skip


def cell_seconds(cell) -> float:
    start, end = (cell.metadata.execution[key] for key in ("iopub.execute_input", "shell.execute_reply"))
    return (datetime.fromisoformat(end) - datetime.fromisoformat(start)).total_seconds()


def title(source: str) -> str:
    """La dernière ligne d'une cellule, celle qui dit le mieux ce qu'elle fait, coupée à 70 signes."""
    lines = [line.strip() for line in source.splitlines() if line.strip() and not line.startswith("#")]
    return next((line for line in reversed(lines) if len(line) > 3), "")[:70]
