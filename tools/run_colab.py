"""Exécute les notebooks comme Colab : ses versions, un dossier vide, kdcourse installé par leur première cellule.

python tools/run_colab.py           tous les chapitres et tous les exercices
python tools/run_colab.py 10_01     ceux dont le nom commence ainsi

L'adresse inscrite dans les notebooks est celle d'un dépôt git local, fait de l'arbre que reçoivent les étudiants. Ce
que Colab a de plus que pip (GPU, Drive, son interface) n'est pas là.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import bootstrap
import make_release
import nbformat

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv-colab"
# Ce que Colab préinstalle, et ce que nbval demande en plus. Ici des versions exactes : ce sont elles que l'on essaie.
STACK = [
    "torch==2.11.*", "torchvision==0.26.*", "numpy==2.1.3", "matplotlib==3.10.0", "ipywidgets==7.7.1",
    "anywidget==0.9.21", "ipython==7.34.0", "ipykernel==6.17.1", "jupyter_client==7.4.9", "scipy", "scikit-learn",
    "accelerate", "tqdm", "pillow", "setuptools", "pytest==8.*", "nbval",
]  # fmt: skip
CELL_TIMEOUT = 300  # secondes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("prefixes", nargs="*", help="débuts de noms de notebooks, tous par défaut")
    prefixes = tuple(parser.parse_args().prefixes or [""])
    python = prepare()
    with tempfile.TemporaryDirectory(prefix="colab-") as scratch:
        repository, folder = Path(scratch, "depot"), Path(scratch, "content")
        tree = make_release.contents()
        publish(tree, repository)
        folder.mkdir()
        names = unpack(tree, repository.as_uri(), folder, prefixes)
        if not names:
            print(f"Aucun notebook ne commence par {prefixes}.", file=sys.stderr)
            return 1
        before = packages(python)
        command = [str(python), "-m", "pytest", "-p", "no:cacheprovider", "--nbval-lax", "--nbval-current-env"]
        failed = subprocess.run(
            [*command, f"--nbval-cell-timeout={CELL_TIMEOUT}", *names], cwd=folder, env=environment()
        ).returncode
        return failed or unchanged(before, packages(python))


def prepare() -> Path:
    """L'environnement de Colab, gardé d'une fois à l'autre si ses versions ne changent pas ; kdcourse en est ôté."""
    python, record, interpreter = VENV / "bin" / "python", VENV / ".versions.json", find_python()
    wanted = json.dumps([version(interpreter), *STACK])
    if not (python.exists() and record.is_file() and record.read_text() == wanted):
        print(f"Environnement de Colab dans {VENV.name}, {version(interpreter)} ; quelques minutes.", flush=True)
        subprocess.run([*interpreter, "-m", "venv", "--clear", str(VENV)], check=True, env=environment())
        pip(python, "install", "--quiet", *STACK)
        # Le module que les notebooks cherchent ; vide, car ils ne s'en servent pas.
        site = subprocess.run([str(python), "-c", "import site; print(site.getsitepackages()[0])"],
                              capture_output=True, text=True, check=True).stdout.strip()  # fmt: skip
        Path(site, "google", "colab").mkdir(parents=True)
        Path(site, "google", "colab", "__init__.py").touch()
        record.write_text(wanted)
    pip(python, "uninstall", "--quiet", "--yes", "kdcourse")
    print(f"Environnement de Colab : {version([str(python)])}.", flush=True)
    return python


def find_python() -> list[str]:
    """Python 3.13, celui de Colab, s'il est là, sous son nom ou chez pyenv ; sinon, celui du projet."""
    candidates = [["python3.13"]]
    if pyenv := shutil.which("pyenv"):
        found = subprocess.run([pyenv, "prefix", "3.13"], capture_output=True, text=True)
        candidates += [[str(Path(found.stdout.strip(), "bin", "python3.13"))]] * (found.returncode == 0)
    for command in candidates:
        try:
            run = subprocess.run([*command, "-c", "import ensurepip, venv"], capture_output=True)
        except OSError:
            continue
        if run.returncode == 0:
            return command
    return [sys.executable]


def version(python: list[str]) -> str:
    return subprocess.run([*python, "--version"], capture_output=True, text=True, check=True).stdout.strip()


def pip(python: Path, *arguments: str) -> None:
    command = [str(python), "-m", "pip", "--disable-pip-version-check", *arguments]
    if subprocess.run(command, env=environment()).returncode:
        sys.exit(f"pip {arguments[0]} a échoué : il lui faut le réseau. Relancez make colab ensuite.")


def environment() -> dict[str, str]:
    """Celui de la machine, sans ce qui mènerait à un autre Python ou au kdcourse d'ici."""
    hidden = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "JUPYTER_PATH", "JUPYTER_CONFIG_DIR", "PYENV_VERSION")
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return kept | {"PATH": os.pathsep.join([str(VENV / "bin"), os.environ["PATH"]]), "MPLBACKEND": ""}


def publish(tree: dict[str, bytes], repository: Path) -> None:
    """Le dépôt public, en un seul commit."""
    for name, content in tree.items():
        (repository / name).parent.mkdir(parents=True, exist_ok=True)
        (repository / name).write_bytes(content)
    author = ["-c", "user.name=kdcourse", "-c", "user.email=kdcourse@example.org", "-c", "commit.gpgsign=false"]
    commit = [*author, "commit", "--quiet", "--no-verify", "-m", "Le cours"]
    # Appelé depuis un hook, git désignerait par GIT_DIR le dépôt de l'auteur : c'est là que le commit irait.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    for command in (["init", "--quiet"], ["add", "--all", "--force"], commit):
        subprocess.run(["git", *command], cwd=repository, env=environment, check=True)


def unpack(tree: dict[str, bytes], address: str, folder: Path, prefixes: tuple[str, ...]) -> list[str]:
    """Écrit dans le dossier vide les notebooks demandés, avec l'adresse du dépôt ; rend leurs noms."""
    paths = [name for name in tree if name.endswith(".ipynb") and Path(name).name.startswith(prefixes)]
    for path in paths:
        notebook = nbformat.reads(tree[path].decode("utf-8"), as_version=4)
        bootstrap.stamp(notebook, path, address)
        nbformat.write(notebook, folder / Path(path).name)
    return sorted(Path(path).name for path in paths)


def packages(python: Path) -> dict[str, str]:
    listed = subprocess.run([str(python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
                            capture_output=True, text=True, check=True, env=environment())  # fmt: skip
    return {package["name"]: package["version"] for package in json.loads(listed.stdout)}


def unchanged(before: dict[str, str], after: dict[str, str]) -> int:
    """0 si les notebooks n'ont ajouté que kdcourse."""
    added = {name: number for name, number in after.items() if before.get(name) != number}
    if list(added) == ["kdcourse"] and not before.keys() - after.keys():
        print(f"Ajouté par les notebooks : kdcourse {added['kdcourse']}, et rien d'autre.")
        return 0
    print(f"Les notebooks devaient n'ajouter que kdcourse ; ils ont changé {added or 'rien'}.", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
