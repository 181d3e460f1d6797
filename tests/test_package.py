"""Le paquet s'importe vite, expose ses noms, suit son plan, et s'installe comme environment.yml le dit."""

import ast
import re
import shutil
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest
import yaml

import kdcourse
import kdcourse.exercises
import kdcourse.measures
import kdcourse.plots
import kdcourse.widgets

ROOT = Path(__file__).parent.parent
FACES = [kdcourse, kdcourse.exercises, kdcourse.measures, kdcourse.plots, kdcourse.widgets]
SEED = [
    "KnowledgeDistillationLoss", "FeatureDistillationLoss", "AdaptationLayer", "AttentionTransfer", "attention_map",
    "RelationDistillation", "SelfDistillation", "progressive_self_distillation", "TTLinear", "TensorDistillation",
    "convert_to_tensor_train", "compare_distillation_methods",
]  # fmt: skip


def test_importer_kdcourse_ne_charge_rien():
    code = "import sys; before = set(sys.modules); import kdcourse; print(sorted(set(sys.modules) - before))"
    out = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    loaded = set(ast.literal_eval(out.stdout))
    assert {"kdcourse", "kdcourse.lazy"} <= loaded and not loaded & {"torch", "numpy", "matplotlib", "ast", "pathlib"}


@pytest.mark.parametrize("module, name", [(module, name) for module in FACES for name in module.__all__])
def test_chaque_nom_public_existe_et_se_documente(module, name):
    value = getattr(module, name)
    assert value.__doc__ and value.__doc__.strip()
    assert name in dir(module)


def test_la_facade_est_courte_et_chaque_nom_n_y_est_qu_une_fois():
    names = [name for module in FACES for name in module.__all__]
    assert len(kdcourse.__all__) <= 80 and set(SEED) <= set(kdcourse.__all__)
    assert len(names) == len(set(names))


def test_un_nom_inconnu_donne_ceux_qui_existent():
    with pytest.raises(AttributeError, match="'kd_los'.*kd_loss"):
        kdcourse.kd_los  # noqa: B018


def test_une_bibliotheque_absente_est_nommee_et_l_extra_aussi(tmp_path):
    """Ce que voit qui a installé kdcourse sans l'extra, et demande un entraînement."""
    code = """
import sys
sys.modules["tqdm"] = sys.modules["tqdm.auto"] = None
import kdcourse
print(kdcourse.kd_loss.__name__, kdcourse.METHODS["KD"].name, kdcourse.digits_student().__class__.__name__)
try:
    kdcourse.train_many
except ModuleNotFoundError as error:
    print(error)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT)
    assert out.stdout.splitlines()[0] == "kd_loss KD MLP"
    assert re.fullmatch(r"train_many demande tqdm\S*, qui n'est pas installé : pip install 'kdcourse\[cours\]'.*",
                        out.stdout.splitlines()[1])  # fmt: skip


ALONE = """
import inspect, sys, torch

class Refuse:
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in {"torch", "pertes", *sys.stdlib_module_names}:
            raise ModuleNotFoundError(f"{name} : ici, il n'y a que torch", name=name)

sys.meta_path.insert(0, Refuse())
import pertes

torch.manual_seed(0)
z, other, labels = torch.randn(4, 5), torch.randn(4, 5), torch.tensor([0, 1, 2, 3])
maps = torch.randn(4, 5, 2, 2)
given = {"student_logits": z, "teacher_logits": other, "logits": z, "previous_probabilities": other.softmax(-1),
         "labels": labels, "alpha": 0.5, "student": maps, "teacher": maps.flip(0)}
texts = given | {"student_logits": z[None], "teacher_logits": other[None]}
losses = {name: value for name, value in vars(pertes).items() if name.endswith("_loss")}
for name, loss in losses.items():
    inputs = texts if loss.__module__.endswith("sequences") else given
    value = loss(**{key: inputs[key] for key in inspect.signature(loss).parameters if key in inputs})
    assert value.isfinite() and value > 0, name
modules = [
    pertes.KnowledgeDistillationLoss()(z, other, labels), pertes.SelfDistillation()(z, other, labels),
    pertes.FeatureDistillationLoss()([maps], [maps + 1], z, labels),
    pertes.AttentionTransfer()([maps], [maps[:, :3]], z, labels),
    pertes.RelationDistillation()(z, other, z, labels),
]
assert all(terms.total > 0 for terms in modules)
print(*losses)
"""


def test_le_dossier_des_pertes_voyage_seul_avec_torch(tmp_path):
    """Copié sous un autre nom, là où rien d'autre que torch ne s'importe, chaque perte se calcule."""
    shutil.copytree(ROOT / "kdcourse/losses", tmp_path / "pertes", ignore=shutil.ignore_patterns("__pycache__"))
    done = subprocess.run([sys.executable, "-c", ALONE], capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert set(done.stdout.split()) == {name for name in kdcourse.__all__ if name.endswith("_loss")}


def test_sans_extra_le_paquet_ne_demande_que_torch_et_numpy():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert sorted(re.match(r"\w+", line)[0] for line in project["dependencies"]) == ["numpy", "torch"]
    extras = project["optional-dependencies"]
    assert all("kdcourse[cours]" in extras[name] for name in ("lab", "test", "grading"))


# --- Le plan

# Les flèches vont vers le bas : un dossier n'importe que ce qui le précède ici, ou lui-même.
ROLES = (
    ["lazy", "formats", "system_errors", "command_line", "environment"], ["losses"], ["data", "models"], ["methods"],
    ["training"], ["compression"], ["measures"], ["plots", "exercises"], ["widgets", "train"],
)  # fmt: skip
RANK = {role: rank for rank, roles in enumerate(ROLES) for role in roles}


def modules() -> dict[str, Path]:
    files = [*(ROOT / "kdcourse").rglob("*.py"), *(ROOT / "kdgrading").rglob("*.py")]
    return {".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__"): path for path in files}


def imports(name: str, path: Path, known) -> set[str]:
    """Les modules à nous qu'un fichier importe, où que ce soit ; ni lui-même, ni ce que lisent les outils de types."""
    package, found = name if path.name == "__init__.py" else name.rpartition(".")[0], set()
    tree = ast.parse(path.read_text(encoding="utf-8"))
    typed = [node for node in tree.body if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"]
    hidden = {id(inner) for node in typed for inner in ast.walk(node)}
    for node in ast.walk(tree):
        if id(node) in hidden:
            continue
        if isinstance(node, ast.ImportFrom):
            base = f"{package}.{node.module}" if node.level else node.module
            found |= {full if (full := f"{base}.{alias.name}") in known else base for alias in node.names}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return {module for module in found & set(known) if module != name}


def role(name: str) -> str:
    return name.split(".")[1] if "." in name else ""


def test_les_fleches_vont_toutes_dans_le_meme_sens():
    known = modules()
    wrong = []
    for name, path in known.items():
        for used in imports(name, path, known):
            if name.startswith("kdcourse.") and used != "kdcourse":
                wrong += [(name, used)] * (used.startswith("kdgrading") or RANK[role(used)] > RANK[role(name)])
    assert wrong == []


def test_les_pertes_n_importent_rien_d_autre_a_nous():
    known = modules()
    ours = {used for name in known if role(name) == "losses" for used in imports(name, known[name], known)}
    assert {role(used) for used in ours} == {"losses"}


def test_aucun_cercle_d_imports():
    known = modules()
    uses = {name: imports(name, path, known) for name, path in known.items()}
    left = dict(uses)
    while free := [name for name, used in left.items() if not used & left.keys()]:
        for name in free:
            del left[name]
    assert left == {}


def test_peu_de_fichiers_a_la_racine_et_aucun_trop_long():
    assert len([path for path in (ROOT / "kdcourse").iterdir() if path.is_file()]) <= 10
    assert {name: n for name, path in modules().items() if (n := len(path.read_text("utf-8").splitlines())) > 300} == {}


def test_la_roue_ne_contient_pas_le_cote_de_l_enseignant(tmp_path):
    command = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "--quiet",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    project = shutil.copytree(ROOT / "kdcourse", tmp_path / "projet/kdcourse").parent
    shutil.copytree(ROOT / "kdgrading", project / "kdgrading")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, project)
    subprocess.run([*command, project], check=True, capture_output=True)
    with zipfile.ZipFile(next(tmp_path.glob("kdcourse-*.whl"))) as wheel:
        names = wheel.namelist()
    assert "kdcourse/py.typed" in names and "kdcourse/measures/method_choices.json" in names
    assert [name for name in names if "grading" in name] == []


def test_environment_yml_ne_repete_aucune_dependance():
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    conda, pip = [d for d in environment["dependencies"] if isinstance(d, str)], environment["dependencies"][-1]["pip"]
    assert [d.split(">")[0] for d in conda] == ["python", "pip"]
    assert pip == ["-e .[lab]"]


@pytest.mark.network
def test_la_partie_pip_d_environment_yml_installe_le_cours(tmp_path):
    """Dans un environnement neuf, exactement ce que le fichier nomme ; conda lui-même n'est pas essayé ici."""
    probe = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--no-cache-dir", "--retries=0"]
    probe += ["--timeout=10", "-d", str(tmp_path), "jupyterlab-language-pack-fr-FR"]
    if subprocess.run(probe, capture_output=True).returncode:
        pytest.skip("Réseau absent : l'installation ne peut pas être essayée.")
    project = tmp_path / "projet"
    project.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE", "environment.yml"):
        shutil.copy(ROOT / name, project)
    shutil.copytree(ROOT / "kdcourse", project / "kdcourse", ignore=shutil.ignore_patterns("__pycache__"))
    environment = yaml.safe_load((project / "environment.yml").read_text(encoding="utf-8"))
    requirements = project / "pip.txt"
    requirements.write_text("\n".join(environment["dependencies"][-1]["pip"]) + "\n", encoding="utf-8")

    venv.create(tmp_path / "neuf", with_pip=True)
    python = tmp_path / "neuf" / "bin" / "python"
    install = [python, "-m", "pip", "install", "--quiet", "-r", str(requirements)]
    done = subprocess.run(install, cwd=project, capture_output=True, text=True)
    if done.returncode and "NewConnectionError" in done.stderr:
        pytest.skip("Réseau perdu pendant l'installation.")
    assert done.returncode == 0, done.stderr
    code = "import kdcourse; [getattr(kdcourse, name) for name in kdcourse.__all__]; import jupyterlab, jupytext"
    done = subprocess.run([python, "-c", code], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
