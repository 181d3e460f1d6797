"""Fabrique ce que reçoivent les étudiants, sans solution ni correcteur : un arbre prêt à publier, et son archive.

python tools/make_release.py            release/kdcourse/ et release/kdcourse.zip, et le site s'il est construit
python tools/make_release.py DOSSIER    les mêmes, dans un autre dossier

L'arbre ne vient que de fichiers que git suit. S'il est déjà le clone du dépôt public, son .git est gardé.
"""

import argparse
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import bootstrap
import nbformat

ROOT = Path(__file__).resolve().parent.parent
SITE = ROOT / "build" / "site"
PUBLIC = (
    "kdcourse/", "notebooks/", "docs/", "tools/jupyterlab_overrides.json",
    ".gitattributes", "LICENSE", "README.md", "pyproject.toml", "environment.yml", "Makefile", ".gitignore",
)  # fmt: skip
MARKS = ("[auteur]", "[/auteur]", "[étudiants]", "[/étudiants]")
FORBIDDEN = ("BEGIN SOLUTION", "END SOLUTION", "BEGIN HIDDEN TESTS", "BEGIN MARK SCHEME", "kdgrading", str(ROOT))


def for_students(name: str, text: str) -> str:
    """Le texte sans ce qui y est marqué ``[auteur]``, et avec ce qui y est caché sous ``[étudiants]``.

    Une ligne qui ne porte que ``[auteur]`` ouvre un passage, ``[/auteur]`` le ferme ; une ligne qui finit par cette
    marque s'en va seule. Les deux marques ``[étudiants]`` s'en vont, et ce qu'elles cachaient reste.
    """
    kept, opened = [], {}
    for number, line in enumerate(text.splitlines(keepends=True), start=1):
        mark = line.strip(" #<>!-\t\n")
        if mark in ("[auteur]", "[étudiants]") and not opened:
            opened = {f"[/{mark[1:]}": number}
        elif opened.pop(mark, None) is None:
            if mark == "[auteur]" or any(word in line for word in MARKS[1:]):
                sys.exit(
                    f"{name}, ligne {number} : une marque qui ne répond à aucune ; chaque passage s'ouvre et se ferme."
                )
            if "[auteur]" not in line and "[/auteur]" not in opened:
                kept.append(line)
    for closing, number in opened.items():
        sys.exit(f"{name} : le passage ouvert ligne {number} n'est pas fermé par {closing}.")
    return "".join(kept)


def release_exercises(files: list[str], scratch: Path) -> dict[str, bytes]:
    """Les notebooks que ``nbgrader generate_assignment`` tire des sources, dans une copie du cours, sans sa base."""
    for name in files:
        if name == "exercises/nbgrader_config.py" or name.startswith("exercises/source/"):
            (scratch / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, scratch / name)
    course = scratch / "exercises"
    # nbgrader appelle alembic par son nom ; les réglages de la personne qui publie n'ont pas à entrer ici.
    environment = os.environ | {"JUPYTER_CONFIG_DIR": str(scratch / "reglages")}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), environment["PATH"]])
    for source in sorted(course.glob("source/*/")):
        command = [sys.executable, "-m", "nbgrader", "generate_assignment", source.name]
        process = subprocess.run(command, cwd=course, env=environment, capture_output=True, text=True)
        if process.returncode:
            sys.exit(f"{source.name} : nbgrader generate_assignment a échoué.\n{process.stderr}")
    return {f"exercises/{path.name}": path.read_bytes() for path in sorted(course.glob("release/*/*.ipynb"))}


def contents() -> dict[str, bytes]:
    """Chaque fichier de l'arbre et ses octets."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True)
    if listed.returncode:
        sys.exit(f"git ne dit pas quels fichiers il suit : {listed.stderr.strip()}")
    files = sorted(filter(None, listed.stdout.split("\0")))
    if missing := [name for name in files if not (ROOT / name).is_file()]:
        sys.exit(f"Suivis par git, mais absents du dossier : {', '.join(missing)}.")
    tree = {name: (ROOT / name).read_bytes() for name in files if name.startswith(PUBLIC)}
    for name in (name for name in tree if "/" not in name):
        tree[name] = for_students(name, tree[name].decode("utf-8")).encode("utf-8")
    with tempfile.TemporaryDirectory() as scratch:
        return dict(sorted((tree | release_exercises(files, Path(scratch))).items()))


def leaks(tree: dict[str, bytes]) -> list[str]:
    """Ce qui ne doit jamais sortir ; les tests cherchent plus loin."""
    found = []
    for name, content in tree.items():
        found += [f"{name} contient « {word} »" for word in (*FORBIDDEN, *MARKS) if word.encode() in content]
        if name == "README.md":
            links = re.findall(r"\]\((?!\w+:)([^)#]+)", content.decode("utf-8"))
            found += [f"README.md mène à {link}, que git ne suit pas" for link in links if link not in tree]
        if name.startswith("exercises/"):
            cells = json.loads(content)["cells"]
            found += [f"{name} garde une sortie" for cell in cells if cell.get("outputs")]
    return found


def stale(tree: dict[str, bytes]) -> list[str]:
    """Les notebooks qui n'ont pas l'adresse de ``pyproject.toml`` : leurs liens seraient morts, ou manqueraient."""
    address, found = bootstrap.public_repository(), []
    for name in (name for name in tree if name.endswith(".ipynb")):
        notebook = nbformat.reads(tree[name].decode("utf-8"), as_version=4)
        before = [cell.source for cell in notebook.cells]
        bootstrap.stamp(notebook, name, address)
        found += [name] * (before != [cell.source for cell in notebook.cells])
    return found


def commit_date() -> tuple[int, ...]:
    """La date du dernier commit, à la seconde ; celle d'aujourd'hui si le dossier s'en écarte.

    Décompressé sur une version plus ancienne, un fichier changé doit être plus récent : Python garderait sinon le .pyc
    d'un module de même taille. Et les mêmes fichiers font toujours la même archive.
    """
    show = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True)
    status = subprocess.run(["git", "status", "--porcelain", "-uno"], cwd=ROOT, capture_output=True, text=True)
    committed = show.stdout.strip() if show.returncode == 0 and not status.stdout.strip() else ""
    return time.gmtime(int(committed) if committed else None)[:6]


def write(tree: dict[str, bytes], target: Path) -> None:
    """L'archive et l'arbre, remplacés seulement une fois entiers."""
    target.mkdir(parents=True, exist_ok=True)
    final, partial = target / "kdcourse", target / "kdcourse.partiel"
    recover(final)  # l'ancien arbre porte peut-être un .git
    shutil.rmtree(partial, ignore_errors=True)
    for name, content in tree.items():
        (partial / name).parent.mkdir(parents=True, exist_ok=True)
        (partial / name).write_bytes(content)
    archive = zipped({f"kdcourse/{name}": content for name, content in tree.items()}, target / "kdcourse.zip")
    if (final / ".git").exists():
        shutil.copytree(final / ".git", partial / ".git", symlinks=True)
    put(partial, final)
    os.replace(archive, target / "kdcourse.zip")


def recover(final: Path) -> None:
    """Remet l'ancien dossier en place si un remplacement a été interrompu ; sinon, ôte ce qu'il en reste."""
    old = final.with_name(f"{final.name}.ancien")
    if old.exists() and not final.exists():
        os.replace(old, final)
    shutil.rmtree(old, ignore_errors=True)


def put(partial: Path, final: Path) -> None:
    """Met un dossier entier à la place de l'ancien, qui revient si le remplacement échoue."""
    recover(final)
    if final.exists():
        os.replace(final, final.with_name(f"{final.name}.ancien"))
    try:
        os.replace(partial, final)
    finally:
        recover(final)


def zipped(entries: dict[str, bytes], final: Path) -> Path:
    """L'archive de ces fichiers, datés du commit, à côté de celle qu'elle remplacera."""
    archive, dated = final.with_name(f"{final.name}.partiel"), commit_date()
    with zipfile.ZipFile(archive, "w") as opened:
        for name, content in entries.items():
            entry = zipfile.ZipInfo(name, dated)
            entry.external_attr, entry.compress_type = 0o644 << 16, zipfile.ZIP_DEFLATED
            opened.writestr(entry, content)
    return archive


def write_site(site: Path, target: Path) -> None:
    """Le site construit, en une archive : décompressée, elle se lit sans rien installer, par son index.html."""
    files = sorted(path for path in site.rglob("*") if path.is_file())
    entries = {f"kdcourse-site/{path.relative_to(site).as_posix()}": path.read_bytes() for path in files}
    final = target / "kdcourse-site.zip"
    os.replace(zipped(entries, final), final)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="?", type=Path, default=ROOT / "release", metavar="DOSSIER")
    target = parser.parse_args().target
    tree = contents()
    if not any(name.startswith("exercises/") for name in tree):
        sys.exit("Aucun exercice dans exercises/source/ : construisez-les par make notebooks, et suivez-les dans git.")
    if found := leaks(tree):
        print("Rien n'est écrit, ceci sortirait :", *found, sep="\n- ", file=sys.stderr)
        return 1
    if old := stale(tree):
        sys.exit(
            f"Rien n'est écrit : {', '.join(old)} n'a pas la première cellule, ou l'adresse, que make notebooks écrit."
        )
    write(tree, target)
    size = sum(map(len, tree.values())) / 1e6
    print(f"{target / 'kdcourse'} : {len(tree)} fichiers, {size:.1f} Mo ; archive : {target / 'kdcourse.zip'}")
    if (SITE / "index.html").is_file():
        write_site(SITE, target)
        print(f"Le site, à décompresser et à ouvrir par index.html : {target / 'kdcourse-site.zip'}")
    else:
        (target / "kdcourse-site.zip").unlink(missing_ok=True)  # celui d'une version passée
        print("Le site n'est pas construit, et n'est pas joint ; make site, puis make release.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
