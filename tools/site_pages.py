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
SOURCES = ROOT / "sources"
RESULTS = ROOT / "benchmarks" / "results"
FACES = {
    "kdcourse": "Pertes, modèles, entraînements",
    "kdcourse.measures": "Ce que les chapitres mesurent",
    "kdcourse.plots": "Les figures",
    "kdcourse.widgets": "Les curseurs",
}


def write(source: Path, cards: list[str], doors: list[str], address: str) -> None:
    """Range dans ``source`` toutes les pages tirées d'ailleurs, et dans l'accueil ses portes et ses chapitres."""
    pages = {"installer.md": install(address), "enseigner.md": teach(), "mesures.md": measures()}
    faces = "\n".join(name.replace(".", "_") for name in FACES)
    pages["reference.md"] = ("# Référence\n\nTout ce que les chapitres importent, par module.\n\n"
                             f"```{{toctree}}\n:maxdepth: 1\n\n{faces}\n```\n")  # fmt: skip
    pages |= {f"{face.replace('.', '_')}.md": reference(face, title) for face, title in FACES.items()}
    home = (source / "index.md").read_text(encoding="utf-8")
    home = home.replace("PORTES", f'<p class="kd-doors">{"".join(doors)}</p>')
    pages["index.md"] = home.replace("CARTES", f'<div class="kd-cards">{"".join(cards)}</div>')
    for name, text in pages.items():
        (source / name).write_text(text, encoding="utf-8")


def install(address: str) -> str:
    """« Commencer », du README que reçoivent les étudiants."""
    text = make_release.for_students("README.md", (ROOT / "README.md").read_text(encoding="utf-8"))
    found = re.search(r"^## Commencer\n(.*?)^## ", text, flags=re.M | re.S)
    if found is None:
        raise ValueError("README.md : la section « Commencer » n'est plus là.")
    origin = f"`git clone {address}`" if address else "`kdcourse.zip`, de qui vous a donné ces pages"
    text = re.sub(r"\*\*Pour lire seulement\*\*.*?\n\n", "", found[1], flags=re.S)
    return f"# Exécuter chez soi\n\nIl faut le cours entier, notebooks et code : {origin}.\n{text}"


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
            entry = [f".. autoclass:: {face}.{name}{arguments(thing)}", "   :members:"]
        elif callable(thing):
            entry = [f".. autofunction:: {face}.{name}"]
        else:  # une donnée se documente là où elle est écrite
            entry = [f".. autodata:: {home}.{name}", "   :no-value:"]
        lines += ["```{eval-rst}", *entry, "```", ""]
    return "\n".join(lines)


def arguments(thing: type) -> str:
    """La signature d'une classe, sans ses types ; Sphinx, d'un widget, prendrait celle d'ipywidgets."""
    parameters = [one.replace(annotation=one.empty) for one in inspect.signature(thing).parameters.values()]
    return str(inspect.Signature(parameters))


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
        "`make bench` les refait, sauf le dernier, par `python -m benchmarks compare`.",
        *section("Ce site", results, "site", "d'un dossier, sans cache, jusqu'à la première image et au premier "
                 "curseur déplacé ; à côté, JupyterLab, de son démarrage au même point du même chapitre. Le poids est "
                 "comprimé, figures et curseurs compris",
                 ["chapitre", "image (s)", "image, JupyterLab (s)", "curseur (s)", "curseur, JupyterLab (s)",
                  "Mo"], site_rows),
        *section("Les curseurs", results, "widgets", "du geste à l'image peinte, dans le vrai JupyterLab, noyau vivant "
                 "puis arrêté ; « interact » est celui d'ipywidgets. À droite, ce que la page reçoit, comprimé",
                 ["curseur", "médiane (ms)", "95 % des gestes (ms)", "noyau arrêté (ms)", "fois plus vite qu'interact",
                  "états", "ko"], slider_rows),
        *section("Les chapitres", results, "notebooks", "de la première à la dernière cellule, et de combien de "
                 "graines vient chaque intervalle calculé. Moins de dix : les cellules « Sur GPU », "
                 "réduites ici, et le tableau de Hinton, dont les cinq graines prennent une demi-heure",
                 ["chapitre", "secondes", "intervalles", "graines, médiane", "moins de dix graines"], chapter_rows),
        *section("Le moteur", results, "vectorised", "entraîner beaucoup de students à la fois, contre un par un",
                 ["façon de faire", "secondes"], engine_rows),
        *section("Les pertes", results, "losses", "un aller et retour, à côté de torchdistill, sur processeur",
                 ["perte", "formes", "kdcourse (ms)", "torchdistill (ms)", "rapport"], loss_rows),
        *section("La correction", results, "grading", "des copies enfermées, à côté de nbgrader tel quel",
                 ["correction", "secondes"], grading_rows),
        *section("Toutes les méthodes", results, "compare", "régler et mesurer les méthodes du Bilan",
                 ["ce qui est compté", "nombre"], compare_rows),
    ]  # fmt: skip
    return "\n\n".join(sections) + "\n"


def section(title: str, results: dict, name: str, what: str, header: list[str], rows) -> list[str]:
    if name not in results:
        return [f"## {title}", f"Pas encore mesuré : `python -m benchmarks {name}`."]
    result, origin = results[name], results[name]["provenance"]
    where = f"{origin['processor']}, {origin['threads']} fil{'s' * (origin['threads'] > 1)}, torch {origin['torch']}"
    return [f"## {title}", f"{what[0].upper()}{what[1:]}. Mesuré le {day(result)} ({where}).",
            markdown_table(header, rows(result)), *missed(result)]  # fmt: skip


def missed(result: dict) -> list[str]:
    """Les buts que la mesure n'a pas atteints, dits."""
    failed = [target["target"] for target in result.get("targets", []) if not target["met"]]
    return [f"**But non atteint**, pour une ligne au moins : {' ; '.join(failed)}."] if failed else []


def site_rows(result: dict) -> list[list]:
    def seconds(found: dict, name: str, digits: int) -> str:
        return french(found[name], digits) if name in found else "aucun"

    return [[chapter(name), seconds(found, "picture_s", 2), seconds(found, "lab_picture_s", 1),
             seconds(found, "slider_s", 2), seconds(found, "lab_slider_s", 1), french(found["page_mb"], 2)]
            for name, found in result["pages"].items()] + [
                ["le site entier, non comprimé", "", "", "", "", french(result["site_mb"])]]  # fmt: skip


def slider_rows(result: dict) -> list[list]:
    return [[name, french(found["median_ms"]), french(found["p95_ms"]),
             french(result["widgets"][f"{name}, noyau arrêté"]["median_ms"]), french(found["speedup"]),
             result["built"][name]["states"], result["built"][name]["zipped_kb"]]
            for name, found in result["widgets"].items() if name in result["built"]]  # fmt: skip


def chapter_rows(result: dict) -> list[list]:
    rows = [[chapter(name), french(found["seconds"]), found["intervals"], found["median_seeds"], found["below_ten"]]
            for name, found in result["notebooks"].items()]  # fmt: skip
    total = [sum(found[name] for found in result["notebooks"].values()) for name in ("intervals", "below_ten")]
    return [*rows, ["le cours entier", french(result["total_s"]), total[0], "", total[1]]]


def chapter(name: str) -> str:
    """Le titre d'un chapitre, pris à sa source."""
    found = re.search(r"^# # (.+)$", (SOURCES / f"{name}.py").read_text(encoding="utf-8"), flags=re.M)
    return found[1] if found else name


def engine_rows(result: dict) -> list[list]:
    students = f"{result['students']} students, {result['epochs']} époques"
    return [[f"`train_many`, {students}", french(result["train_many_s"], 2)],
            ["la boucle ordinaire", french(result["plain_s"], 2)],
            ["la boucle ordinaire, dans deux processus", french(result["two_processes_s"], 2)],
            ["rapport (boucle / `train_many`)", french(result["ratio"], 2)]]  # fmt: skip


def loss_rows(result: dict) -> list[list]:
    return [[case["loss"], " × ".join(map(thousands, case["shape"])), french(case["ours_ms"], 2),
             french(case["peer_ms"], 2), french(case["ratio"], 2)] for case in result["cases"]]  # fmt: skip


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
    for path in site.resolve().rglob("*.html"):
        pages[path] = Anchors()
        pages[path].feed(path.read_text(encoding="utf-8"))
    found = set()
    for page, read in pages.items():
        for link in read.links:
            if re.match(r"[a-z]+:", link):
                continue
            path, _, anchor = link.partition("#")
            name = unquote(path.partition("?")[0])
            target = (page.parent / name).resolve() if name else page
            missing = anchor and target in pages and unquote(anchor) not in pages[target].ids
            if not target.exists() or missing:
                found.add(f"{page.relative_to(site.resolve())} : {link}")
    return sorted(found)
