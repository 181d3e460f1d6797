"""La perte KD d'un grand vocabulaire, aller et retour, en Go/s : la nôtre, ses pairs, et une simple copie.

Un aller et retour ne peut faire moins que lire les logits des deux modèles et écrire un gradient : trois tenseurs. Le
débit affiché est ce minimum divisé par le temps, celui d'une copie (lire, écrire) compte deux tenseurs. Les versions
passent tour à tour ; chaque temps est une médiane.
"""

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._report import publish
from kdcourse import best_device, french, kd_loss

TEMPERATURE, ROUNDS = 4.0, 20
Loss = Callable[[Tensor, Tensor], Tensor]


def main(argv: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks bandwidth", description=__doc__.splitlines()[0])
    parser.add_argument("--appareil", default=best_device().type, help="cuda ou cpu ; le GPU s'il y en a un")
    parser.add_argument("--forme", type=int, nargs=2, metavar=("B", "C"), help="8192 32000 sur GPU, 256 8000 ailleurs")
    parser.add_argument("--type", default="float32", choices=["float32", "bfloat16"], help="celui des logits")
    options = parser.parse_args(argv)
    shape = options.forme or ((8192, 32000) if options.appareil == "cuda" else (256, 8000))
    torch.manual_seed(0)
    try:
        logits = [torch.randn(shape, device=options.appareil, dtype=getattr(torch, options.type)) for _ in range(2)]
        rows, skipped = measure(logits, options.appareil)
    except torch.OutOfMemoryError:
        raise SystemExit(f"--forme {shape[0]} {shape[1]} : la mémoire de l'appareil n'y suffit pas.") from None
    for name, row in rows.items():
        same = "" if row["meme_gradient"] is None else f"   même gradient : {'oui' if row['meme_gradient'] else 'non'}"
        print(f"{name:34}{french(row['ms'], 3):>10} ms{french(row['go_s']):>9} Go/s{same}")
    print(*skipped, sep="\n", end="\n" if skipped else "")
    ours = rows.get("kd_loss, torch.compile", rows["kd_loss"])["ms"]
    others = [row["ms"] for name, row in rows.items() if not name.startswith(("kd_loss", "copie"))]
    result = {
        "appareil": options.appareil, "forme": list(shape), "type": options.type, "debit": __doc__.splitlines()[2:5],
        "mesures": rows, "absents": skipped,
        "cibles": {"kd_loss compilée : pas plus lente qu'un pair": not others or ours <= min(others)},
    }  # fmt: skip
    publish("bandwidth" if options.appareil == "cuda" else "bandwidth-cpu", result)


def measure(logits: list[Tensor], device: str) -> tuple[dict[str, dict], list[str]]:
    """Chaque version : médiane en ms, débit, accord de son gradient avec le nôtre ; et ce qui manque, en une phrase."""
    student, teacher = logits[0].requires_grad_(), logits[1]
    losses, skipped = candidates(student, teacher)
    reference, runs = gradient(losses["kd_loss"], student, teacher), {"copie": lambda: teacher.clone()}
    runs |= {name: lambda loss=loss: gradient(loss, student, teacher) for name, loss in losses.items()}
    times = {name: [] for name in runs}
    for turn in range(ROUNDS + 3):
        for name, run in runs.items():
            seconds = timed(run, device)
            if turn >= 3:
                times[name].append(1000 * seconds)
    size, rows = student.numel() * student.element_size(), {}
    for name, values in times.items():
        ms = statistics.median(values)
        same = None if name == "copie" else agrees(gradient(losses[name], student, teacher), reference)
        traffic = (2 if name == "copie" else 3) * size
        rows[name] = {"ms": round(ms, 4), "go_s": round(traffic / ms / 1e6, 1), "meme_gradient": same}
    return rows, skipped


def candidates(student: Tensor, teacher: Tensor) -> tuple[dict[str, Loss], list[str]]:
    """Les versions qui tournent ici ; les autres, avec ce qui leur manque."""
    found: dict[str, Loss] = {"kd_loss": lambda s, t: kd_loss(s, t, TEMPERATURE)}
    skipped = []
    try:
        from torchdistill.losses.mid_level import KDLoss

        peer = KDLoss("m", "output", "m", "output", temperature=TEMPERATURE, alpha=0.0)
        # Avec alpha = 0, torchdistill oublie T² ; nous le remettons.
        found[f"torchdistill {version('torchdistill')}"] = lambda s, t: (
            TEMPERATURE**2 * peer({"m": {"output": s}}, {"m": {"output": t}}, None)
        )
    except ImportError:
        skipped.append("torchdistill n'est pas installé : pip install -e '.[bench]'.")
    for name, loss in list(found.items()):
        try:
            compiled = torch.compile(loss)
            gradient(compiled, student, teacher)
            found[f"{name}, torch.compile"] = compiled
        except Exception as error:  # sans compilateur C++, torch._inductor lève l'une ou l'autre de ses erreurs
            skipped.append(f"torch.compile ne compile pas {name} ici : {str(error).splitlines()[0]}")
    try:
        from liger_kernel.transformers import LigerKLDIVLoss

        kernel = LigerKLDIVLoss(reduction="batchmean")
        # Liger attend des log-probabilités et des probabilités : les softmax restent à torch.
        found[f"liger-kernel {version('liger-kernel')}, KL seule"] = lambda s, t: (
            TEMPERATURE**2 * kernel(F.log_softmax(s / TEMPERATURE, -1), F.softmax(t / TEMPERATURE, -1))
        )
    except ImportError:
        skipped.append("liger-kernel n'est pas installé (il demande un GPU) : pip install liger-kernel.")
    return found, skipped


def gradient(loss: Loss, student: Tensor, teacher: Tensor) -> Tensor:
    (found,) = torch.autograd.grad(loss(student, teacher), student)
    return found


def agrees(found: Tensor, reference: Tensor) -> bool:
    tolerance = 1e-3 if reference.dtype == torch.float32 else 3e-2
    return bool((found - reference).abs().max() <= tolerance * reference.abs().max())


def timed(run: Callable[[], object], device: str) -> float:
    """Secondes d'un passage, file du GPU vidée avant et après."""
    synchronize = torch.cuda.synchronize if device == "cuda" else (lambda: None)
    synchronize()
    start = time.perf_counter()
    run()
    synchronize()
    return time.perf_counter() - start
