"""L'image de la classe pour le défi de compression : exactitude contre octets, sans aucun nom.

python -m kdgrading.pareto DOSSIER_DU_COURS            écrit pareto_compression_challenge.png dans ce dossier
"""

import argparse
import os
import sys
from pathlib import Path
from typing import NamedTuple

import nbformat

from kdcourse.formats import thousands

_ASSIGNMENT = "compression_challenge"


class Entry(NamedTuple):
    """Une copie : sa taille en octets, son exactitude en %."""

    size: float
    accuracy: float


def entries(course: Path) -> list[Entry]:
    """Les mesures que la correction a rangées dans les notebooks corrigés."""
    found = []
    for path in sorted(course.glob(f"autograded/*/{_ASSIGNMENT}/{_ASSIGNMENT}.ipynb")):
        record = nbformat.read(path, as_version=4).metadata.get("kdcourse", {})
        if "bytes" in record:
            found.append(Entry(record["bytes"], record["accuracy"]))
    return found


def front(points: list[Entry]) -> list[Entry]:
    """Les copies qu'aucune autre ne bat à la fois en taille et en exactitude, de la plus petite à la plus grande."""
    kept, best = [], float("-inf")
    for point in sorted(points, key=lambda point: (point.size, -point.accuracy)):
        if point.accuracy > best:
            kept.append(point)
            best = point.accuracy
    return kept


def plot_front(points: list[Entry]):
    """La figure : un point par copie, la ligne du front en escalier.

    Raises:
        ValueError: aucune copie.
    """
    from matplotlib.figure import Figure

    if not points:
        raise ValueError("points : aucune copie reçue, au moins une attendue.")
    best = front(points)
    figure = Figure(figsize=(7, 4.5), layout="constrained")
    axes = figure.subplots()
    axes.scatter(*zip(*points, strict=True), color="#0072B2", marker="o", label="une copie")
    axes.step(*zip(*best, strict=True), where="post", color="#D55E00", linewidth=2, label="front : nul ne fait mieux")
    axes.set_xscale("log", base=2)
    axes.set(xlabel="artefact et code, en octets (échelle log)", ylabel="exactitude, en % des images cachées")
    axes.xaxis.set_major_formatter(lambda size, _: thousands(round(size)))
    plural = "s" if len(best) > 1 else ""
    axes.set_title(f"{len(best)} copie{plural} sur {len(points)} tien{'nent' if plural else 't'} le front")
    axes.legend(loc="lower right")
    axes.grid(alpha=0.3)
    return figure


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m kdgrading.pareto", description=__doc__.splitlines()[0])
    parser.add_argument("course", type=Path, help="dossier du cours, celui de nbgrader_config.py")
    course = parser.parse_args().course
    points = entries(course)
    if not points:
        where = course / "autograded"
        print(f"Aucune copie notée dans {where} : lancez d'abord nbgrader autograde {_ASSIGNMENT}.", file=sys.stderr)
        return 1
    target = course / f"pareto_{_ASSIGNMENT}.png"
    partial = target.with_suffix(".partiel")
    plot_front(points).savefig(partial, format="png", dpi=120)
    os.replace(partial, target)
    print(f"{target} : {len(points)} copies, {len(front(points))} sur le front.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
