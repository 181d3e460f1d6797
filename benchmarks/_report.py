"""Ce que chaque mesure écrit : la machine, les versions, la date, et sa dernière ligne JSON."""

import argparse
import json
import platform
from datetime import UTC, datetime
from pathlib import Path

import torch

import kdcourse
from kdcourse.training.checkpoints import write_json

RESULTS = Path(__file__).parent / "results"
SHOWN = Path(kdcourse.__file__).parent / "measures"  # ce qu'un chapitre montre est dans le paquet, et n'est que là


def provenance() -> dict:
    """Machine, versions et date, pour qu'un chiffre garde son contexte."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d"),
        "processor": _processor(),
        "threads": torch.get_num_threads(),
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


def existing_device(text: str) -> str:
    """L'appareil d'une mesure, option ``--appareil``."""
    if text not in ("cpu", "cuda"):
        raise argparse.ArgumentTypeError(f"{text!r} reçu, cpu ou cuda attendu")
    if text == "cuda" and not torch.cuda.is_available():
        raise argparse.ArgumentTypeError("cuda reçu, mais PyTorch ne voit aucun GPU sur cette machine")
    return text


def targets(met: dict[str, bool | None]) -> list[dict]:
    """Les cibles d'une mesure : chacune en une phrase, et si elle est atteinte (``None`` : non mesurée)."""
    return [{"target": sentence, "met": reached} for sentence, reached in met.items()]


def publish(name: str, result: dict, whole: bool = True, folder: Path | None = None) -> None:
    """Range le résultat dans ``results/NOM.json``, ou dans ``folder``, et l'imprime en une ligne, la dernière.

    Un essai réduit (``whole`` faux) ne remplace pas la mesure entière : il est seulement imprimé.
    """
    folder = folder or RESULTS
    if whole:
        folder.mkdir(exist_ok=True)
        write_json(folder / f"{name}.json", {**result, "provenance": provenance()})
    else:
        print(f"Essai réduit : {name}.json n'est pas remplacé.")
    print(json.dumps(result, ensure_ascii=False))
