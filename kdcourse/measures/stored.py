"""Ce qu'une mesure plus longue qu'un notebook a rangé dans le paquet : ses nombres, et le jour où elle les a pris."""

import json
from importlib.resources import files


def stored(name: str) -> dict:
    """Les nombres rangés sous ce nom par ``python -m benchmarks``, et leur provenance."""
    return json.loads(files("kdcourse.measures").joinpath(f"{name}_results.json").read_text(encoding="utf-8"))


def origin(result: dict) -> str:
    """Quand, sur quel processeur, avec quelle version : « mesurés le 28/11/2026 (…, torch …) »."""
    taken = result["provenance"]
    return f"mesurés le {day(result)} ({taken['processor']}, torch {taken['torch']})"


def day(result: dict) -> str:
    """Le jour de la mesure, à la française : « 28/11/2026 »."""
    return "/".join(reversed(result["provenance"]["date"].split("-")))
