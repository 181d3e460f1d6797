"""Les pages du site tirées d'ailleurs : l'installation du README, la référence du code, les mesures, le guide."""

import html.parser
import importlib
import inspect
import json
import re
from pathlib import Path
from urllib.parse import unquote

import make_release

from kdcourse.formats import french, thousands
from kdcourse.measures.intervals import markdown_table
from kdcourse.measures.stored import day

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"
FACES = {
    "kdcourse": "Pertes, modèles, entraînements",
    "kdcourse.measures": "Ce que les chapitres mesurent",
    "kdcourse.plots": "Les figures",
    "kdcourse.widgets": "Les curseurs",
}


def write(source: Path, first: str, address: str) -> None:
    """Range dans ``source`` toutes les pages tirées d'ailleurs ; l'accueil y mène au premier chapitre, et au dépôt."""
    pages = {"installer.md": install(), "enseigner.md": teach(), "mesures.md": measures()}
    pages["reference.md"] = "# Référence\n\nToutes les fonctions, par dossier.\n\n```{toctree}\n" + "\n".join(
        name.replace(".", "_") for name in FACES) + "\n```\n"  # fmt: skip
    pages |= {f"{face.replace('.', '_')}.md": reference(face, title) for face, title in FACES.items()}
    home = (source / "index.md").read_text(encoding="utf-8").replace("PREMIER", first)
    pages["index.md"] = home.replace("</p>", f'<a href="{address}">Le dépôt</a></p>', 1) if address else home
    for name, text in pages.items():
        (source / name).write_text(text, encoding="utf-8")


def install() -> str:
    """« Commencer », du README que reçoivent les étudiants."""
    text = make_release.for_students("README.md", (ROOT / "README.md").read_text(encoding="utf-8"))
    found = re.search(r"^## Commencer\n(.*?)^## ", text, flags=re.M | re.S)
    if found is None:
        raise ValueError("README.md : la section « Commencer » n'est plus là.")
    return "# Exécuter chez soi\n" + found[1]


def teach() -> str:
    """Le guide de correction, qui ne contient aucune solution."""
    return (ROOT / "exercises" / "README.md").read_text(encoding="utf-8")


def reference(face: str, title: str) -> str:
    """Tous les noms publics d'une façade, dans son ordre, chapitre par chapitre."""
    module, lines = importlib.import_module(face), [f"# {title}", "", f"`from {face} import …`", ""]
    for home, name in public_names(Path(module.__file__).read_text(encoding="utf-8")):
        if not home:
            lines += [f"## {name}", ""]
            continue
        thing = getattr(module, name)
        if not inspect.getdoc(thing):
            raise ValueError(f"{face}.{name} n'a pas de docstring : la référence ne saurait qu'en dire.")
        if inspect.isclass(thing):
            entry = [f".. autoclass:: {face}.{name}", "   :members:"]
        elif callable(thing):
            entry = [f".. autofunction:: {face}.{name}"]
        else:  # une donnée se documente là où elle est écrite
            entry = [f".. autodata:: {home}.{name}", "   :no-value:"]
        lines += ["```{eval-rst}", *entry, "```", ""]
    return "\n".join(lines)


def public_names(text: str) -> list[tuple[str, str]]:
    """Ce que dit le bloc ``TYPE_CHECKING`` d'une façade : ``(module, nom)``, ou ``("", titre)``, dans l'ordre."""
    found, home = [], ""
    for line in text.partition("if TYPE_CHECKING:")[2].splitlines():
        if heading := re.match(r"    # (.+)", line):
            found.append(("", heading[1][0].upper() + heading[1][1:]))
        if origin := re.match(r"    from (\S+) import", line):
            home = origin[1]
        found += [(home, name) for name in re.findall(r"\b(\w+) as \1\b", line)]
    return found


def measures() -> str:
    """La fiche de mesures : ce que ``benchmarks/results/`` contient, et rien d'autre."""
    results = {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(RESULTS.glob("*.json"))}
    sections = [
        "# Fiche de mesures", "Ce que le projet a mesuré de lui-même. Chaque tableau dit sa date et sa machine ; "
        "`make bench` refait les quatre premiers.",
        *section("Les curseurs", results["widgets"], "du geste à l'image peinte, dans le vrai JupyterLab ; "
                 "« interact » est celui d'ipywidgets",
                 ["curseur", "médiane (ms)", "95 % des gestes (ms)", "fois plus vite qu'interact"], slider_rows),
        *section("Les chapitres", results["notebooks"], "de la première à la dernière cellule",
                 ["chapitre", "secondes"], chapter_rows),
        *section("Le moteur", results["vectorised"], "entraîner beaucoup de students à la fois, contre un par un",
                 ["", "secondes"], engine_rows),
        *section("Les pertes", results["losses"], "un aller et retour, à côté de torchdistill, sur processeur",
                 ["perte", "formes", "kdcourse (ms)", "torchdistill (ms)", "rapport"], loss_rows),
        *section("La correction", results["grading"], "des copies enfermées, à côté de nbgrader tel quel",
                 ["", "secondes"], grading_rows),
        *section("Toutes les méthodes", results["compare"], "régler et mesurer les méthodes du Bilan",
                 ["", ""], compare_rows),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def section(title: str, result: dict, what: str, header: list[str], rows) -> list[str]:
    origin = result["provenance"]
    where = f"{origin['processor']}, {origin['threads']} fils, torch {origin['torch']}"
    return [f"## {title}", f"{what[0].upper()}{what[1:]}. Mesuré le {day(result)} ({where}).",
            markdown_table(header, rows(result)), *missed(result)]  # fmt: skip


def missed(result: dict) -> list[str]:
    """Les buts que la mesure n'a pas atteints, dits."""
    failed = [target["target"] for target in result.get("targets", []) if not target["met"]]
    return [f"**But non atteint** : {'; '.join(failed)}."] if failed else []


def slider_rows(result: dict) -> list[list]:
    return [[name, french(found["median_ms"]), french(found["p95_ms"]), french(found["speedup"])]
            for name, found in result["widgets"].items() if "speedup" in found]  # fmt: skip


def chapter_rows(result: dict) -> list[list]:
    rows = [[name.replace("_", " ", 1).replace("10 0", "10."), french(found["seconds"])]
            for name, found in result["notebooks"].items()]  # fmt: skip
    return [*rows, ["le cours entier", french(result["total_s"])]]


def engine_rows(result: dict) -> list[list]:
    students = f"{result['students']} students, {result['epochs']} époques"
    return [[f"`train_many`, {students}", french(result["train_many_s"], 2)],
            ["la boucle ordinaire", french(result["plain_s"], 2)],
            ["la boucle ordinaire, dans deux processus", french(result["two_processes_s"], 2)],
            ["rapport (boucle / `train_many`)", french(result["ratio"], 2)]]  # fmt: skip


def loss_rows(result: dict) -> list[list]:
    return [[case["loss"], " × ".join(map(str, case["shape"])), french(case["ours_ms"], 2), french(case["peer_ms"], 2),
             french(case["ratio"], 2)] for case in result["cases"]]  # fmt: skip


def grading_rows(result: dict) -> list[list]:
    return [[f"{result['copies']} copies, isolées", french(result["isolated_s"])],
            [f"les mêmes, nbgrader {result['nbgrader']}", french(result["stock_s"])]]  # fmt: skip


def compare_rows(result: dict) -> list[list]:
    tried = sum(len(own) for budget in result["trials"].values() for own in budget.values())
    return [["réglages essayés sur la validation", thousands(tried)],
            ["secondes de calcul, sur un cœur", thousands(result["seconds"])]]  # fmt: skip


class Anchors(html.parser.HTMLParser):
    """Les liens d'une page, et les ancres qu'elle porte."""

    def __init__(self):
        super().__init__()
        self.links, self.ids = [], set()

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.ids |= {attrs[name] for name in ("id", "name") if attrs.get(name)}
        self.links += [attrs[name] for name in ("href", "src") if attrs.get(name)]


def broken_links(site: Path) -> list[str]:
    """Les liens internes dont le fichier ou l'ancre n'existe pas."""
    pages = {}
    for path in site.glob("*.html"):
        pages[path.name] = Anchors()
        pages[path.name].feed(path.read_text(encoding="utf-8"))
    found = []
    for name, page in pages.items():
        for link in page.links:
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            file = unquote(path.partition("?")[0]) or name
            if not (site / file).exists():
                found.append(f"{name} : {link}")
            elif anchor and file in pages and unquote(anchor) not in pages[file].ids:
                found.append(f"{name} : {link}")
    return sorted(set(found))
