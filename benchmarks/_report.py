"""Ce que chaque mesure écrit : la machine, les versions, la date, et sa dernière ligne JSON."""

import json
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch

from kdcourse._checkpoints import write_whole

RESULTS = Path(__file__).parent / "results"


def provenance() -> dict:
    """Machine, versions et date, pour qu'un chiffre garde son contexte."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processeur": _processor(),
        "fils": torch.get_num_threads(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:  # ailleurs que sous Linux
        return platform.processor() or platform.machine()
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), platform.machine())


def publish(name: str, result: dict) -> None:
    """Range le résultat dans ``results/NOM.json``, et l'imprime en une ligne, la dernière."""
    RESULTS.mkdir(exist_ok=True)
    write_json(RESULTS / f"{name}.json", {**result, "provenance": provenance()})
    print(json.dumps(result, ensure_ascii=False))


def write_json(path: Path, content: dict) -> None:
    """Écrit un fichier JSON lisible, à la place de l'ancien une fois entier."""
    write_whole(path, (json.dumps(content, ensure_ascii=False, indent=2) + "\n").encode("utf-8"))
