"""Les pièces du correcteur, sans nbgrader : le bac à sable, le découpage, les notes des autres exercices."""

import contextlib
import json
import re
import shutil
import socket
import textwrap
from pathlib import Path

import jupytext
import nbformat
import pytest
import torch
from hypothesis import given, settings, strategies as st
from slicing import slice_answer
from support.submissions_compression_challenge import HASHES

from kdcourse import error_rate, load_dataset
from kdcourse.exercises.challenge import ACCURACY, LABELLED, SIZE, compression_teacher
from kdgrading import (
    mark_challenge,
    mark_multi_teacher,
    mark_neighbours_and_memory,
    mark_size_study,
    sandbox,
)
from kdgrading.answer import Answer
from kdgrading.intake import mend_notebooks
from kdgrading.pareto import Entry, entries, front, plot_front
from kdgrading.sandbox import SandboxError
from kdgrading.warm import Limits, Outcome

ROOT = Path(__file__).parent.parent.parent

needs_bubblewrap = pytest.mark.skipif(shutil.which("bwrap") is None, reason="bubblewrap absent.")


def solution(name):
    """Les cellules de la source d'un exercice, solution comprise."""
    notebook = jupytext.read(ROOT / "sources" / "exercises" / f"{name}.py")
    return [[cell.cell_type, cell.source] for cell in notebook.cells]


def code(*texts):
    return [["code", textwrap.dedent(text)] for text in texts]


def shares(marks):
    return {name: mark.share for name, mark in marks.items()}


def told(marks):
    return " ".join(mark.feedback for mark in marks.values())


# --- le découpage


def test_seul_ce_dont_la_fonction_a_besoin_est_garde():
    cells = code(
        "import torch\nimport matplotlib.pyplot as plt\nEPS = 1e-8",
        "teacher = train(10 ** 9)\nplt.plot(teacher)",
        "def helper(x):\n    '''doc'''\n    return x + EPS  # note\nTABLE = {}\nTABLE['a'] = 1",
        "def f(teacher):\n    'doc'\n    return helper(teacher) * torch.ones(1) * TABLE['a']",
    )
    expected = """\
        import torch
        EPS = 1e-08
        def helper(x):
            return x + EPS
        TABLE = {}
        TABLE['a'] = 1
        def f(teacher):
            return helper(teacher) * torch.ones(1) * TABLE['a']
    """
    source = slice_answer(cells, ["f"])["sources"]["f"]
    assert source == textwrap.dedent(expected)


def test_la_derniere_definition_qui_n_est_pas_l_ebauche_l_emporte():
    stub = "def f():\n    'doc'\n    print('à compléter')"
    cells = code("def f():\n    return 1", "def f():\n    return 2", stub)
    assert "return 2" in slice_answer(cells, ["f"])["sources"]["f"]
    assert slice_answer(code(stub), ["f"])["stubs"] == ["f"]


def test_une_fonction_absente_ou_illisible_est_dite():
    found = slice_answer(code("def f(:\n  pass", "x = 1"), ["f", "g"])
    assert found["missing"] == ["f", "g"]
    assert found["problems"][0]["cell"] == 1 and found["problems"][0]["names"] == ["f"]


@given(st.lists(st.tuples(st.sampled_from(["code", "markdown", "raw"]), st.text(max_size=60)), max_size=6))
def test_aucun_notebook_n_arrete_le_decoupage(cells):
    found = slice_answer([list(cell) for cell in cells], ["f"])
    assert found["sources"].keys() | set(found["missing"]) == {"f"}


@pytest.mark.parametrize(
    "cells",
    [
        ["import functools\ndef f(x): return x + 1", "f = functools.lru_cache(f)"],
        ["def f(x): return x + 1", "old = f\ndef f(x): return old(x)"],
        ["table = []\nfor i in range(5):\n    table.append(i)", "def f(x): return table[x + 1]"],
        ["c = {}\nif True: c['a'], c['b'] = 1, 0", "def f(x): return x + c['a']"],
        [
            "R = {}\ndef register(n):\n    def keep(g):\n        R[n] = g\n        return g\n    return keep",
            "@register('l')\ndef _l(x): return x + 1",
            "def f(x): return R['l'](x)",
        ],
        ["import math\nbig = 1 / 0\nmath.floor(big)\nmath.isclose(f(1), 2)", "def f(x): return math.floor(x) + 1"],
        ["from __future__ import annotations", "def f(x: Absent): return x + 1"],
        ["%%time\n%%capture\ndef f(x): return x + 1"],
        ["f = lambda x: x + 1"],
        ["class A:\n    @staticmethod\n    def g(x): return x + 1\nf = A.g"],
        ["STEP = 0\nSTEP += 1\ndef f(x): return g(x)\ndef g(x): return x + STEP"],
        ["try:\n    import absent\nexcept ImportError:\n    one = 1", "def f(x): return x + one"],
    ],
)
def test_une_facon_honnete_d_ecrire_reste_entiere(cells):
    namespace = {}
    exec(slice_answer(code(*cells), ["f"])["sources"]["f"], namespace)
    assert namespace["f"](1) == 2


# --- le bac à sable


@needs_bubblewrap
@pytest.mark.parametrize("user_namespace", [False, True], ids=["root", "utilisateur"])
def test_l_enfant_n_a_ni_droit_ni_reseau_ni_fichier(worker, user_namespace, monkeypatch):
    if not user_namespace and sandbox.needs_user_namespace():
        pytest.skip("Sans être root, il faut un espace de noms utilisateur.")
    monkeypatch.setattr(sandbox, "needs_user_namespace", lambda: user_namespace)
    probe = """
        def compress(teacher, images, labels):
            import ctypes, json, os, socket
            libc, keyctl = ctypes.CDLL(None), 250 if os.uname().machine == "x86_64" else 219
            status = dict(line.split(":") for line in open("/proc/self/status") if ":" in line and line.count(":") == 1)
            seen = {
                "caps": [status[name].strip() for name in ("CapEff", "CapPrm", "CapAmb")],
                "privileges": status["NoNewPrivs"].strip(),
                "processes": [name for name in os.listdir("/proc") if name.isdigit()].__len__(),
                "interfaces": [line.split(":")[0].strip() for line in open("/proc/net/dev") if ":" in line],
                "denied": [libc.syscall(keyctl, 0, -4, 0), libc.unshare(0x10000000), libc.ptrace(0, 0, 0, 0)],
                "root": sorted(os.listdir("/")),
                "package": os.path.isdir(os.path.dirname(__import__("kdcourse").__file__) + "/losses"),
                "grading": __import__("importlib.util").util.find_spec("kdgrading") is not None,
                "descriptors": sorted(os.listdir("/proc/self/fd")),
                "environment": sorted(os.environ),
            }
            return json.dumps(seen).encode()
    """
    artifact, reason = mark_challenge._make(Answer(worker, code(probe), ("compress",)), 0, torch.arange(10))
    assert artifact is not None, reason
    seen = json.loads(artifact)
    assert set(seen["caps"]) == {"0" * 16} and seen["privileges"] == "1"
    assert seen["interfaces"] == ["lo"] and seen["processes"] <= 5
    assert seen["grading"] is False and seen["denied"] == [-1, -1, -1]
    assert seen["descriptors"] == ["0", "1", "2", "3", "4"]  # 4 : le dossier que l'on est en train de lire
    assert not {name for name in seen["environment"] if "TOKEN" in name or "KEY" in name or name.startswith("CI")}


@needs_bubblewrap
def test_deux_copies_ne_se_voient_pas(worker):
    leaves = "def compress(*a):\n    open('/tmp/trace', 'w').write('x')\n    return b'x'"
    looks = "def compress(*a):\n    import os\n    return repr(os.listdir('/tmp') + os.listdir('.')).encode()"
    assert mark_challenge._make(Answer(worker, code(leaves), ("compress",)), 0, torch.arange(10))[0] == b"x"
    seen, _ = mark_challenge._make(Answer(worker, code(looks), ("compress",)), 0, torch.arange(10))
    assert seen.startswith(b"[") and b"trace" not in seen


def alive(pid):
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    return False


@needs_bubblewrap
@pytest.mark.parametrize(
    "body, end",
    [
        ("while True: pass", "temps"),
        ("import time; time.sleep(60)", "temps"),
        ("import os; os._exit(0)", "mort"),
        ("import os; os.kill(os.getpid(), 9)", "mort"),
        ("import ctypes; ctypes.string_at(0)", "mort"),
        ("import os; os.write(3, b'[1]' + bytes([10])); return 0", "illisible"),
        ("import os\nwhile True: os.write(3, b'x' * 10**6)", "volume"),
        ("x = [b'a' * (1 << 20) for _ in range(700)]; import time; time.sleep(9)", "mémoire"),
    ],
)
def test_chaque_limite_est_tenue_et_nommee(worker, body, end):
    source = "def f(*a):\n" + textwrap.indent(body, "    ")
    task = {"task": "size_study", "name": "f", "source": source, "cases": [{"widths": [1], "seeds": [1]}]}
    with worker.room() as room:
        outcome = room.ask(task, Limits(wall=3.0, cpu=2, memory=600 << 20))
        leader = room.box.pid
    assert outcome.end == end or "MemoryError" in str(outcome.messages)
    assert not alive(leader)


@needs_bubblewrap
@pytest.mark.parametrize("grab", ["mmap.mmap(-1, 1 << 29)", "open('/dev/shm/x', 'wb')"], ids=["mmap", "shm"])
def test_la_memoire_partagee_compte_aussi(worker, grab):
    body = f"""
        import mmap, os, time
        def f(*a):
            os.fork()
            block = {grab}
            for _ in range(512):
                block.write(bytes(1 << 20))
            time.sleep(9)
    """
    task = {
        "task": "size_study",
        "name": "f",
        "source": textwrap.dedent(body),
        "cases": [{"widths": [1], "seeds": [1]}],
    }
    with worker.room() as room:
        outcome = room.ask(task, Limits(wall=8.0, cpu=8, memory=600 << 20))
    assert outcome.end == "mémoire" or "OSError" in str(outcome.messages)


@needs_bubblewrap
def test_un_processus_chaud_tue_est_remplace(worker):
    worker.process.kill()
    worker.process.wait()
    with worker.room() as room:
        assert room.ask({"task": "probe"}, Limits()).messages == [{"ok": True}]


@needs_bubblewrap
def test_une_fourche_sans_fin_est_contenue(worker):
    source = "import os\ndef f(*a):\n    for _ in range(2000): os.fork()"
    task = {"task": "size_study", "name": "f", "source": source, "cases": [{"widths": [1], "seeds": [1]}]}
    with worker.room() as room:
        outcome = room.ask(task, Limits(wall=5.0, cpu=3))
        assert len(room._processes()) < 100
    assert outcome.end == "processus" or "BlockingIOError" in str(outcome.messages)


def test_le_volume_de_ce_que_dit_un_enfant_est_borne_et_rien_n_y_est_execute():
    """Un faux enfant dit n'importe quoi : le parent n'en tire que des données."""
    ours, theirs = socket.socketpair()
    theirs.sendall(b'{"a": ' + b"9" * 5000 + b'}\n{"b": NaN}\n\n{"done": true}\n')
    from kdgrading.warm import _Conversation

    class NoRoom:
        def excess(self, limits):
            return None

    with ours, theirs:
        outcome = _Conversation(ours, NoRoom(), Limits(wall=2.0), None).run({})
    assert outcome.end == "fini" and outcome.messages[0] == {"a": float("inf")}


JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5) | st.sampled_from(["float64", "float32", "AAAA"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                [
                    "result",
                    "gradient",
                    "shape",
                    "dtype",
                    "data",
                    "type",
                    "error",
                    "rows",
                    "gain",
                    "ci_low",
                    "mean_alone",
                ]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=12,
)


class Liar:
    """Une réponse dont l'enfant ment : elle rend les messages qu'on lui donne."""

    size, sources = 10, {}

    def __init__(self, messages, calls=()):
        self.messages, self.calls = messages, calls

    def absence(self, *names):
        return None

    def ask(self, task, name, limits, *, on_call=None, **data):
        for call in self.calls:
            if on_call is not None:
                json.dumps(on_call(call))
        return Outcome(self.messages)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.fixed_dictionaries({"case": JSON}) | st.fixed_dictionaries({"error": JSON}), max_size=18), st.data())
def test_aucun_mensonge_ne_rapporte_de_point_ni_n_arrete_la_correction(messages, data):
    calls = data.draw(st.lists(st.lists(JSON, max_size=5) | JSON, max_size=4))
    for module in (mark_multi_teacher, mark_size_study, mark_neighbours_and_memory):
        marks, _ = module.grade(Liar(messages, calls), 0)
        assert set(shares(marks).values()) == {0.0}
        assert all(isinstance(mark.feedback, str) for mark in marks.values())


@settings(deadline=None, max_examples=60)
@given(JSON, JSON, JSON)
def test_aucun_mensonge_sur_l_artefact_ou_les_logits_n_arrete_la_correction(artifact, logits, wrong):
    for messages in ([{"artifact": artifact}], [{"artifact": "AAAA", "logits": logits}], [{"wrong": wrong}]):
        marks, _ = mark_challenge.grade(Liar(messages), 0)
        assert shares(marks)["ex3-exactitude"] == 0.0


# --- size_study


STUDY = """
    import numpy as np
    from scipy import stats

    def size_study(train_one, widths, seeds):
        table = []
        for width in widths:
            alone = np.array([train_one(width, False, seed) for seed in seeds])
            distilled = np.array([train_one(width, True, seed) for seed in seeds])
            gain = alone - distilled
            half = stats.t.ppf(0.975, len(seeds) - 1) * gain.std(ddof=1) / np.sqrt(len(seeds))
            table.append({"width": width, "mean_alone": alone.mean(), "mean_distilled": distilled.mean(),
                          "gain": gain.mean(), "ci_low": gain.mean() - half, "ci_high": gain.mean() + half})
        return table
"""
THREADS = """from concurrent.futures import ThreadPoolExecutor
            with ThreadPoolExecutor(4) as pool:
                alone = np.array(list(pool.map(lambda seed: train_one(width, False, seed), seeds)))"""
EX2 = ("ex2-moyennes", "ex2-gain", "ex2-intervalle", "ex2-appels")


@pytest.mark.parametrize(
    "change, expected, said",
    [
        (("", ""), (1, 1, 1, 1), "juste"),
        (("stats.t.ppf(0.975, len(seeds) - 1)", "1.96"), (1, 1, 0, 1), "celui d'une loi normale"),
        (("ddof=1", "ddof=0"), (1, 1, 0, 1), "n - 1"),
        (("/ np.sqrt(len(seeds))", ""), (1, 1, 0, 1), "racine de n"),
        (("alone - distilled", "distilled - alone"), (1, 0, 0, 1), "à l'envers"),
        (("return table", "return sorted(table, key=lambda row: row['width'])"), (0, 0, 0, 1), "triées"),
        (("gain.std(ddof=1)", "np.sqrt(alone.var(ddof=1) + distilled.var(ddof=1))"), (1, 1, 0, 1), "indépendants"),
        (("table = []", "table = [train_one(widths[0], True, seeds[0])][:0]"), (1, 1, 1, 0), "plusieurs fois"),
        (
            ("for seed in seeds])\n            distilled", "for seed in seeds[:3]])\n            distilled"),
            None,
            "s'arrête",
        ),
        (('"gain": gain.mean(), ', ""), (1, 0, 1, 1), "clé gain absente"),
        (("table.append({", "table.append({'label': 'taille', 'all': alone, "), (1, 1, 1, 1), "juste"),
        (("alone.mean(), ", "alone.mean(keepdims=True), "), (1, 1, 1, 1), "juste"),
        (("alone = np.array([train_one(width, False, seed) for seed in seeds])", THREADS), (1, 1, 1, 1), "juste"),
        (("half =", "back = -gain.mean(); half ="), (1, 1, 1, 1), "juste"),
        (("gain.mean() - half", "-gain.mean() - half"), (1, 1, 0, 1), ""),
        (
            ("gain = alone - distilled", "alone, distilled = distilled, alone; gain = alone - distilled"),
            None,
            "échangés",
        ),
        (("return table", "return table[0]"), (0, 0, 0, 0), "dict reçu, une liste"),
        (("return table", "return table[:2]"), (0, 0, 0, 0), "2 lignes reçues"),
        (("return table", "return [[float('nan')]]"), (0, 0, 0, 0), "list reçu"),
        (
            ("train_one(width, True, seed)", "train_one(width + 1, True, seed)"),
            (0, 0, 0, 0),
            "un des nombres de widths",
        ),
        (
            ("table = []", "table = []; import os; [os.write(3, b'{\"call\": [0, 1, 2]}\\n') for _ in range(9)]"),
            None,
            "",
        ),
    ],
)
def test_chaque_faute_de_l_etude_coute_son_critere(worker, change, expected, said):
    marks, _ = mark_size_study.grade(Answer(worker, code(STUDY.replace(*change)), mark_size_study.NAMES), 3)
    if expected is not None:
        assert tuple(shares(marks)[name] for name in EX2) == expected
    assert said in told(marks)


@pytest.mark.parametrize("seed", range(4))
def test_la_solution_de_l_etude_a_tout_et_une_reponse_inventee_rien(worker, seed):
    cells = solution("size_study")
    assert set(shares(mark_size_study.grade(Answer(worker, cells, ("size_study",)), seed)[0]).values()) == {1.0}
    invented = """
        def size_study(train_one, widths, seeds):
            keys = ("width", "mean_alone", "mean_distilled", "gain", "ci_low", "ci_high")
            return [dict(zip(keys, (width, 12.0, 10.0, 2.0, 1.0, 3.0))) for width in widths]
    """
    assert set(shares(mark_size_study.grade(Answer(worker, code(invented), ("size_study",)), seed)[0]).values()) == {
        0.0
    }


# --- le défi de compression


def grade_compression(worker, text, seed=5):
    return mark_challenge.grade(Answer(worker, code(text), mark_challenge.NAMES), seed)


def test_la_solution_du_defi_a_tous_ses_points_et_son_artefact_est_mesure(worker):
    answer = Answer(worker, solution("compression_challenge"), mark_challenge.NAMES)
    marks, measures = mark_challenge.grade(answer, 5)
    assert set(shares(marks).values()) == {1.0}
    assert 500 < measures["bytes"] < SIZE[0] and measures["accuracy"] > ACCURACY[1]


KNOWN_BY_HEART = """
    import torch

    def compress(teacher, images, labels):
        # Un classifieur appris d'avance tiendrait dans le code ; ici, le teacher d'origine en tient lieu.
        return bytes((teacher(images[: len(labels)]).argmax(1) == labels).to(torch.uint8))

    def predict(artifact, images):
        return torch.tensor([[float(artifact[0] == 1)] * 10] * len(images))
"""


def test_le_teacher_et_les_etiquettes_sont_renumerotes_ensemble(worker):
    artifact, reason = mark_challenge._make(
        Answer(worker, code(KNOWN_BY_HEART), ("compress", "predict")), 3, torch.arange(10).roll(3)
    )
    assert artifact is not None, reason
    assert len(artifact) == LABELLED and sum(artifact) > 0.97 * LABELLED


def test_une_reponse_apprise_d_avance_repond_a_cote(worker):
    """La vraie classe, sans rien apprendre de compress : juste pour les chiffres, fausse une fois renumérotés."""
    labels = mark_challenge.hidden_set(5).labels.tolist()
    text = f"""
        import torch

        def compress(teacher, images, labels):
            return bytes({labels})

        def predict(artifact, images):
            return torch.nn.functional.one_hot(torch.tensor(list(artifact)), 10).float()
    """
    _, measures = grade_compression(worker, text)
    assert measures["accuracy"] < 40


def test_une_table_de_hachage_ne_paie_pas(worker):
    marks, measures = grade_compression(worker, HASHES)
    assert measures["accuracy"] < 20 and measures["bytes"] < 6000
    assert shares(marks) == {"ex3-contrat": 1.0, "ex3-exactitude": 0.0, "ex3-taille": 0.0}


@pytest.mark.parametrize(
    "text, contract, said",
    [
        ("def compress(*a): return 'x'\ndef predict(*a): return 0", 0.0, "des octets (bytes) attendus"),
        ("def compress(*a): return b'x'\ndef predict(a, x): return x.flatten(1)", 0.5, "(500, 64) reçue"),
        ("def compress(*a): return b'x'\ndef predict(a, x): return x.flatten(1)[:, :10] / 0", 0.5, "NaN ou infini"),
        ("def compress(*a): return b'x'\ndef predict(a, x): return x.flatten(1)[:, :10].tolist()", 0.5, "list reçu"),
        (
            "MODEL = {}\ndef compress(*a): MODEL[0] = 1; return b'x'\ndef predict(a, x): return MODEL[0]",
            0.5,
            "KeyError",
        ),
        (
            "def compress(*a):\n    open('/tmp/poids', 'w').write('x'); return b'x'\n"
            "def predict(a, x): return open('/tmp/poids').read()",
            0.5,
            "FileNotFoundError",
        ),
        (
            "def compress(*a): return b'x'\ndef predict(a, x):\n    from sklearn.datasets import load_digits\n"
            "    return load_digits()",
            0.5,
            "ModuleNotFoundError",
        ),
        (
            "def compress(*a):\n    from kdcourse import load_dataset\n    return bytes(load_dataset().test.labels)\n"
            "def predict(a, x): return 0",
            0.0,
            "FileNotFoundError",
        ),
        ("def compress(*a): return b'x'", 0.0, "predict est introuvable"),
    ],
)
def test_un_contrat_rompu_est_dit(worker, text, contract, said):
    marks, measures = grade_compression(worker, text)
    assert shares(marks) == {"ex3-contrat": contract, "ex3-exactitude": 0.0, "ex3-taille": 0.0}
    assert said in told(marks) and measures == {}


def test_les_images_cachees_dependent_de_la_graine_et_restent_lisibles():
    first, again, other = (mark_challenge.hidden_set(seed) for seed in (1, 1, 2))
    assert torch.equal(first.images, again.images) and not torch.equal(first.images, other.images)
    with torch.no_grad():
        assert error_rate(compression_teacher()(first.images), first.labels) < 5
    public = {image.numpy().tobytes() for part in load_dataset() for image in part.images}
    assert not public & {image.numpy().tobytes() for image in first.images}


# --- le reste


@pytest.mark.parametrize("answer, root, advice", [
    ("bwrap: setting up uid map: Permission denied", False, "apparmor-bwrap /etc/apparmor.d/bwrap"),
    ("bwrap: loopback: Failed RTM_NEWADDR: Operation not permitted", False, "systemctl reload apparmor"),
    ("bwrap: Can't find source path /absent: No such file", False, "ne s'ouvre pas : bwrap: Can't find"),
    ("bwrap: setting up uid map: Permission denied", True, "ne s'ouvre pas : bwrap: setting up"),
])  # fmt: skip
def test_un_bubblewrap_qu_apparmor_arrete_dit_quel_profil_le_libere(answer, root, advice, tmp_path, monkeypatch):
    fake = tmp_path / "bwrap"
    fake.write_text(f'#!/bin/sh\necho "{answer}" >&2\nexit 1\n', encoding="utf-8")
    fake.chmod(0o755)
    monkeypatch.setattr(sandbox, "_bubblewrap", lambda: str(fake))
    monkeypatch.setattr(sandbox, "needs_user_namespace", lambda: not root)
    with pytest.raises(SandboxError, match=re.escape(answer[:20])) as raised:
        sandbox.open_sandbox()
    assert advice in str(raised.value)
    assert (ROOT / "exercises/apparmor-bwrap").read_text(encoding="utf-8").count("userns") >= 1


def test_sans_bubblewrap_le_refus_donne_la_marche_a_suivre(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda *a, **k: None)
    sandbox._bubblewrap.cache_clear()
    with pytest.raises(SandboxError, match="apt install bubblewrap"):
        sandbox.open_sandbox()
    sandbox._bubblewrap.cache_clear()


def test_un_notebook_sain_n_est_pas_touche_un_autre_est_mis_de_cote(tmp_path):
    sound = tmp_path / "multi_teacher.ipynb"
    sound.write_text(nbformat.writes(nbformat.v4.new_notebook()))
    before = sound.read_bytes()
    mend_notebooks(assignment="multi_teacher", student="x", notebooks=[str(sound)])
    assert sound.read_bytes() == before and len(list(tmp_path.iterdir())) == 1
    sound.write_bytes(b"pas du json")
    for _ in range(2):  # une seconde correction ne perd pas l'original
        mend_notebooks(assignment="multi_teacher", student="x", notebooks=[str(sound)])
    assert (tmp_path / "multi_teacher.ipynb.recu").read_bytes() == b"pas du json"
    assert nbformat.read(sound, as_version=4).metadata.kdcourse_unreadable.startswith("JSON invalide")


def test_le_front_ne_garde_que_les_copies_que_nulle_autre_ne_bat():
    points = [Entry(100, 50), Entry(200, 40), Entry(200, 80), Entry(300, 80), Entry(400, 90)]
    assert front(points) == [Entry(100, 50), Entry(200, 80), Entry(400, 90)]
    title = plot_front(points).axes[0].get_title()
    assert title == "3 copies sur 5 tiennent le front"


def test_les_mesures_de_la_classe_viennent_des_notebooks_corriges(tmp_path):
    for student, record in {"a": {"bytes": 10, "accuracy": 50.0}, "b": {"seed": 1}}.items():
        folder = tmp_path / "autograded" / student / "compression_challenge"
        folder.mkdir(parents=True)
        notebook = nbformat.v4.new_notebook(metadata={"kdcourse": record})
        nbformat.write(notebook, folder / "compression_challenge.ipynb")
    assert entries(tmp_path) == [Entry(10, 50.0)]


def test_un_dossier_nomme_comme_un_notebook_ou_une_fusion_inachevee_est_dit(tmp_path):
    folder = tmp_path / "multi_teacher.ipynb"
    folder.mkdir()
    (folder / "photo.png").touch()
    mend_notebooks(assignment="multi_teacher", student="x", notebooks=[str(folder)])
    mended = nbformat.read(folder, as_version=4)
    assert mended.metadata.kdcourse_unreadable == "un dossier, non un notebook"
    assert (tmp_path / "multi_teacher.ipynb.recu/photo.png").exists()
    merged = tmp_path / "fusion" / "multi_teacher.ipynb"
    merged.parent.mkdir()
    merged.write_text('<<<<<<< HEAD\n{"cells": []}\n=======\n', encoding="utf-8")
    mend_notebooks(assignment="multi_teacher", student="x", notebooks=[str(merged)])
    assert nbformat.read(merged, as_version=4).metadata.kdcourse_unreadable == "conflit de fusion de git"
