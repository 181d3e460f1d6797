"""Des copies de multi_teacher : justes, fausses, absentes, hostiles. Le texte de la fonction, les notes attendues."""

import textwrap

CRITERIA = ("ex1-probabilites", "ex1-logits", "ex1-poids", "ex1-gradient", "ex1-limites")
FULL, ZERO = (4, 3, 3, 3, 2), (0, 0, 0, 0, 0)

_DEF = (
    "def multi_teacher_loss(student_logits, teacher_logits, labels, *, weights=None, temperature=4.0, alpha=0.7,\n"
    '                       combine="probabilities"):\n'
)
_IMPORTS = "import torch\nimport torch.nn.functional as F\n\n\n"


def answer(body: str, before: str = "") -> str:
    """Une cellule de réponse : les imports, ce qui précède, la fonction."""
    return _IMPORTS + textwrap.dedent(before) + _DEF + textwrap.indent(textwrap.dedent(body).strip(), "    ") + "\n"


def loss(
    *,
    shares="w / w.sum()",
    detach=".detach()",
    target='mixture if combine == "probabilities" else pooled',
    soft="temperature**2 * F.kl_div(log_q, log_p, reduction='batchmean', log_target=True)",
    total="alpha * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)",
) -> str:
    """La bonne réponse, dont on peut remplacer un morceau par une faute."""
    return answer(f"""
        w = torch.ones(len(teacher_logits)) if weights is None else torch.tensor(weights)
        w = ({shares})[:, None, None]
        t = torch.stack(list(teacher_logits)){detach}
        mixture = torch.logsumexp((t / temperature).log_softmax(-1) + w.log(), 0)
        pooled = ((w * t).sum(0) / temperature).log_softmax(-1)
        log_p = {target}
        log_q = (student_logits / temperature).log_softmax(-1)
        soft = {soft}
        return {total}
    """)


def wrapped(form: str) -> str:
    """La bonne réponse, rendue sous une autre forme."""
    return loss(total=form.format("(alpha * soft + (1 - alpha) * F.cross_entropy(student_logits, labels))"))


LOOPS = answer(
    """
    parts = [1 / len(teacher_logits)] * len(teacher_logits) if weights is None else normalize(weights)
    if combine == "logits":
        target = softened(sum(w * t for w, t in zip(parts, teacher_logits)), temperature)
    else:
        target = sum(w * softened(t, temperature) for w, t in zip(parts, teacher_logits))
    target = target.detach()
    soft = F.kl_div(torch.log_softmax(student_logits / temperature, 1), target, reduction="batchmean")
    return soft * temperature ** 2 * alpha + F.cross_entropy(student_logits, labels) * (1 - alpha)
    """,
    before="""\
    def normalize(weights):
        return [w / sum(weights) for w in weights]


    def softened(logits, temperature):
        return torch.softmax(logits / temperature, dim=1)


    """,
)
WRITES_AT_HOME = answer(
    """
    import os, pathlib, tempfile, warnings

    warnings.warn("un avertissement ne coûte rien")
    print("ni ce que j'imprime", file=__import__("sys").stderr)
    (pathlib.Path.home() / "notes.txt").write_text("à moi")
    pathlib.Path("cache.txt").write_text("aussi")
    with tempfile.NamedTemporaryFile("w") as file:
        file.write("encore")
    w = torch.ones(len(teacher_logits)) if weights is None else torch.tensor(weights)
    t = torch.stack(list(teacher_logits))
    if combine == "logits":
        virtual = (w / w.sum() @ t.flatten(1)).view_as(student_logits)
    else:
        log_mean = torch.logsumexp((t / temperature).log_softmax(-1) + (w / w.sum()).log()[:, None, None], 0)
        virtual = temperature * log_mean
    return KnowledgeDistillationLoss(temperature, alpha)(student_logits, virtual, labels).total
    """,
    before="from kdcourse import KnowledgeDistillationLoss\n\n\n",
)

RIGHT = {"logarithmes": loss(), "boucles": LOOPS, "fichiers": WRITES_AT_HOME}

# nom → (réponse, notes attendues, ce que le retour doit dire quelque part)
MISTAKES = {
    "sans-t2": (
        loss(soft="F.kl_div(log_q, log_p, reduction='batchmean', log_target=True)"),
        (1, 1, 2, 0, 1),
        "Il manque le facteur T²",
    ),
    "kl-a-l-envers": (
        loss(soft="temperature**2 * F.kl_div(log_p, log_q, reduction='batchmean', log_target=True)"),
        ZERO,
        "à l'envers",
    ),
    "alpha-echange": (
        loss(total="(1 - alpha) * soft + alpha * F.cross_entropy(student_logits, labels)"),
        ZERO,
        "échangés",
    ),
    "mean": (
        loss(soft="temperature**2 * F.kl_div(log_q, log_p, reduction='mean', log_target=True)"),
        ZERO,
        "batchmean",
    ),
    "sans-poids": (loss(shares="torch.ones(len(w)) / len(w)"), (4, 3, 0, 3, 2), "weights n'est pas pris en compte"),
    "poids-bruts": (
        loss(shares="w if weights is not None else w / w.sum()"),
        (4, 3, 0, 3, 2),
        "pas divisés par leur somme",
    ),
    "sans-combine": (loss(target="mixture"), (4, 0, 2, 1.5, 1.5), "combine n'est pas lu"),
    "combine-echange": (
        loss(target='pooled if combine == "probabilities" else mixture'),
        (0, 0, 0, 0, 0.5),
        "échangées",
    ),
    "sans-detach": (loss(detach=""), (4, 3, 3, 0, 2), "un gradient traverse les teachers"),
    "item": (
        wrapped("{}.item()"),
        (4, 3, 3, 0, 2),
        "aucun gradient",
    ),
    "log-de-softmax": (
        loss(soft="temperature**2 * (log_p.exp() * (log_p.exp().log() - log_q.exp().log())).sum(-1).mean()"),
        (4, 3, 3, 3, 1),
        "Restez en logarithmes",
    ),
}

BROKEN = {
    "nan": (answer("return student_logits.sum() * float('nan')"), ZERO, "NaN"),
    "entier": (wrapped("{}.long()"), ZERO, "dtype int64"),
    "demi": (wrapped("{}.half()"), None, "dtype float16"),
    "par-exemple": (
        loss(soft="temperature**2 * (log_p.exp() * (log_p - log_q)).sum(-1)"),
        ZERO,
        "un scalaire attendu",
    ),
    "exception": (answer("return teacher_logits.softmax(-1)"), ZERO, "AttributeError"),
    "boucle": (answer("while True: pass"), ZERO, "temps accordé"),
    "dort": (answer("import time\ntime.sleep(1000)"), ZERO, "temps accordé"),
    "cinq-giga": (answer("return torch.zeros(5 << 28, dtype=torch.float32).sum()"), ZERO, "s'arrête sur"),
    "fourche": (
        answer("import os, time\nfor _ in range(5000):\n    os.fork()\ntime.sleep(1000)"),
        ZERO,
        "s'arrête sur",
    ),
    "os-exit": (answer("import os\nos._exit(0)"), ZERO, "s'est arrêté net"),
    "sys-exit": (answer("raise SystemExit(0)"), ZERO, "SystemExit"),
    "bavard": (
        answer("for _ in range(200):\n    print('x' * 1_000_000)\nreturn student_logits.sum() * 0"),
        ZERO,
        "sur",
    ),
}


def hostile(course: str, source: str) -> dict[str, str]:
    """Des réponses qui attaquent. Celle qui réussit lève « GAGNÉ » : le retour le montrerait."""
    return {
        "rapiece": answer("""
            import builtins, math, sys
            import kdcourse, numpy

            always = lambda *a, **k: True
            torch.allclose = math.isclose = numpy.allclose = torch.equal = always
            torch.autograd.grad = lambda *a, **k: [student_logits.detach() * 0]
            torch.Tensor.__eq__ = always
            builtins.abs = builtins.round = lambda *a: 0
            builtins.__import__ = None
            kdcourse.kd_loss = lambda *a, **k: 0
            return student_logits.sum() * 0
        """),
        "sortie-forgee": answer(f"""
            import json, os, pathlib, sys

            lines = ['{{"done": true}}', '{{"case": {{"result": 1.0}}}}', 'ex1-probabilites 4', '20.0']
            for line in lines:
                print(line, flush=True)
                os.write(1, line.encode() + b"\\n")
                os.write(2, line.encode() + b"\\n")
            for name in ("correction.json", "feedback.txt", "gradebook.db", "score"):
                pathlib.Path(name).write_text("20")
            for folder in ({course!r}, {course!r} + "/autograded"):
                try:
                    pathlib.Path(folder, "note.txt").write_text("20")
                    pathlib.Path(folder, "gradebook.db").write_bytes(b"")
                except OSError:
                    pass
            return student_logits.sum() * 0
        """),
        "lit-tout": answer(f"""
            import glob, os

            seen = []
            for path in ({course!r}, {course!r} + "/gradebook.db", {course!r} + "/source", {source!r}):
                if os.path.exists(path):
                    seen.append(path)
            seen += glob.glob("/**/*multi_teacher*", recursive=True) + glob.glob("/**/*.ipynb", recursive=True)
            try:
                import kdgrading.reference_multi_teacher
                seen.append("grading")
            except ImportError:
                pass
            import sys
            seen += [name for name in sys.modules if "multi_teacher" in name or "grading" in name]
            if seen:
                raise RuntimeError("GAGNÉ " + repr(seen))
            return student_logits.sum() * 0
        """),
        "reseau": answer("""
            import socket

            for address in (("127.0.0.1", 22), ("1.1.1.1", 53), ("10.0.0.1", 80)):
                try:
                    socket.create_connection(address, timeout=1)
                    raise RuntimeError("GAGNÉ")
                except OSError:
                    pass
            socket.getaddrinfo("pypi.org", 443)
        """),
        "ecrit-dehors": answer(f"""
            import kdcourse, os, pathlib

            folders = ["/", "/etc", "/usr/lib", "/dev", "/proc/sys/kernel", {course!r}, os.path.dirname({course!r})]
            folders += [os.path.dirname(module.__file__) for module in (kdcourse, torch, os)]
            won = []
            for folder in folders:
                try:
                    pathlib.Path(folder, "intrus.txt").write_text("x")
                    won.append(folder)
                except OSError:
                    pass
            if won:
                raise RuntimeError("GAGNÉ " + repr(won))
            return student_logits.sum() * 0
        """),
        "tue-son-parent": answer("""
            import os, signal

            for pid in (1, os.getppid(), -1, *range(2, 200)):
                if pid != os.getpid():
                    try:
                        os.kill(pid, signal.SIGKILL)
                    except OSError:
                        pass
            return student_logits.sum() * 0
        """),
        "truque-le-correcteur": answer("""
            import gc, json, os, sys

            for module in list(sys.modules.values()):
                for name in ("_call", "encode", "_describe"):
                    if hasattr(module, name):
                        setattr(module, name, lambda *a, **k: {"result": 0.0, "type": "Tensor", "share": 1.0})
            for thing in gc.get_objects():
                if isinstance(thing, dict) and "cases" in thing:
                    thing["cases"] = thing["cases"][:1] * 16
            forged = {"case": {"result": 0.0, "type": "Tensor", "score": 4, "share": 1.0}}
            for descriptor in range(3, 16):
                try:
                    os.write(descriptor, (json.dumps(forged) + chr(10)).encode() * 16 + b'{"done": true}' + bytes([10]))
                except OSError:
                    pass
            return student_logits.sum() * 0
        """),
        "trousseau": answer("""
            import ctypes

            libc, secret = ctypes.CDLL(None), b"ma reponse"
            libc.syscall.restype = ctypes.c_long
            key = libc.syscall(248, b"user", b"kdcourse", secret, len(secret), -4)
            if key > 0 or libc.syscall(250, 10, -4, b"user", b"kdcourse", 0) > 0:
                raise RuntimeError("GAGNÉ")
            return student_logits.sum() * 0
        """),
        "inonde": answer("""
            import os

            while True:
                os.write(3, b'{"case": {}}' * 1000)
        """),
        "nombres-fous": answer("""
            import os

            numbers = b'9' * 5000, b'1e999', b'NaN', b'"x"', b'[[]]', b'true', b'{}'
            for number in numbers:
                for key in (b"result", b"gradient", b"shape", b"dtype", b"error"):
                    os.write(3, b'{"case": {"' + key + b'": ' + number + b'}}' + bytes([10]))
            os.write(3, b'[' * 100000)
        """),
    }
