"""La perte KD d'un grand vocabulaire, aller et retour, en Go/s : la nôtre, ses pairs, et une simple copie.

Les versions reçoivent les mêmes logits et passent tour à tour, dans un ordre qui s'inverse à chaque tour ; chaque temps
est une médiane. De liger-kernel, seule la divergence KL est mesurée sur son noyau : il attend des log-probabilités et
des probabilités, que torch calcule (log_softmax, softmax), dans le temps compté.
"""

import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib.metadata import version

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks._report import existing_device, publish, targets
from benchmarks._torchdistill import Loss, kd
from kdcourse import best_device, french, kd_loss
from kdcourse.command_line import FrenchParser, positive
from kdcourse.measures.cost import out_of_memory, peak_bytes

TEMPERATURE, ROUNDS, WARMUP = 4.0, 20, 3  # la mise en route s'ajoute aux tours
COPY, OURS, COMPILED = "copie", "kd_loss", ", torch.compile"
DEFINITION = (
    "Go/s : le trafic minimal d'un aller et retour (lire une fois les logits du student et ceux du teacher, écrire une "
    "fois le gradient du student : 3·B·C·octets par nombre) divisé par le temps médian ; pour la copie, 2·B·C·octets."
)
LIGER = "liger-kernel : son noyau KL, sur log_softmax et softmax calculés par torch ; multiplier par T² reste à torch."
BFLOAT16 = "En bfloat16, kd_loss calcule en float32 ; ses pairs arrondissent en chemin, d'où les « non », s'il y en a."
TARGET = "kd_loss compilée pas plus lente que la plus rapide des autres"


def main(argv: list[str] | None = None) -> None:
    parser = FrenchParser("python -m benchmarks bandwidth", __doc__.splitlines()[0])
    parser.add_argument(
        "--appareil", type=existing_device, default=best_device().type, help="cuda ou cpu ; le GPU s'il y en a un"
    )
    parser.add_argument(
        "--forme", type=positive, nargs=2, metavar=("B", "C"), help="8192 32000 sur GPU, 256 8000 ailleurs"
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "bfloat16"], help="type des logits")
    options = parser.parse_args(argv)
    if options.appareil == "cpu":
        torch.set_num_threads(1)  # deux fils qui s'attendent mesurent surtout le voisinage
    shape = options.forme or ((8192, 32000) if options.appareil == "cuda" else (256, 8000))
    torch.manual_seed(0)
    print(f"Perte KD à T = {TEMPERATURE:.0f}, {options.appareil}, {shape[0]} × {shape[1]}, {options.dtype}.")
    print(DEFINITION)
    try:
        logits = [torch.randn(shape, device=options.appareil, dtype=getattr(torch, options.dtype)) for _ in range(2)]
        rows, skipped = measure(logits, options.appareil)
    except RuntimeError as error:
        if not out_of_memory(error):
            raise
        raise SystemExit(f"--forme {shape[0]} {shape[1]} : la mémoire de l'appareil n'y suffit pas.") from None
    for name, row in rows.items():
        print(describe(name, row))
    notes = [LIGER] * any("liger" in name for name in rows) + [BFLOAT16] * (options.dtype == "bfloat16")
    print(*notes, *skipped, sep="\n")
    result = {
        "device": options.appareil, "shape": list(shape), "dtype": options.dtype, "definition": DEFINITION,
        "notes": notes, "rounds": ROUNDS, "versions": [{"name": name, **row} for name, row in rows.items()],
        "skipped": skipped, "targets": targets({TARGET: target(rows)}),
    }  # fmt: skip
    # Un fichier par appareil et par type : une mesure ne remplace que la même.
    name = "bandwidth" + "-cpu" * (options.appareil == "cpu") + "-bfloat16" * (options.dtype == "bfloat16")
    publish(name, result)


def measure(logits: list[Tensor], device: str) -> tuple[dict[str, dict], list[str]]:
    """Chaque version : médiane en ms, débit, accord avec ``kd_loss``, mémoire ; et ce qui manque, en une phrase."""
    student, teacher = logits[0].requires_grad_(), logits[1]
    losses, skipped = candidates(student, teacher, device)
    buffer = torch.empty_like(teacher)
    runs = {COPY: partial(buffer.copy_, teacher)}
    runs |= {name: partial(value_and_gradient, loss, student, teacher) for name, loss in losses.items()}
    times = {name: [] for name in runs}
    for turn in range(ROUNDS + WARMUP):
        for name in list(runs)[:: -1 if turn % 2 else 1]:
            seconds = timed(runs[name], device)
            if turn >= WARMUP:
                times[name].append(1000 * seconds)
    del buffer, runs[COPY]
    reference, rows = runs[OURS](), {}
    tolerance = 3e-2 if student.dtype == torch.bfloat16 else 1e-3
    for name, series in times.items():
        ms = statistics.median(series)
        rows[name] = {"ms": round(ms, 4), "gb_s": round(traffic(student, 2 if name == COPY else 3) / ms / 1e6, 1)}
        if name != COPY:
            same = [agrees(found, right, tolerance) for found, right in zip(runs[name](), reference, strict=True)]
            rows[name] |= {"same_value": same[0], "same_gradient": same[1]}
            if device == "cuda":
                rows[name]["peak_mb"] = round(peak_bytes(runs[name], device) / 1e6, 1)
    return rows, skipped


def traffic(tensor: Tensor, passes: int) -> int:
    """Octets de ``passes`` parcours d'un tenseur, lus ou écrits."""
    return passes * tensor.numel() * tensor.element_size()


def peers(device: str) -> tuple[dict[str, Loss], list[str]]:
    """Les pairs installés, et une phrase par absent."""
    found, skipped = {}, []
    try:
        found[f"torchdistill {version('torchdistill')}"] = kd(TEMPERATURE)
    except ImportError:
        skipped.append("torchdistill n'est pas installé : pip install -e '.[bench]'.")
    if device != "cuda":
        return found, [*skipped, "liger-kernel ne tourne que sur un GPU : il n'est pas mesuré ici."]
    try:
        from liger_kernel.transformers import LigerKLDIVLoss

        kernel = LigerKLDIVLoss(reduction="batchmean")
        found[f"liger-kernel {version('liger-kernel')}"] = lambda s, t: (
            TEMPERATURE**2 * kernel(F.log_softmax(s / TEMPERATURE, -1), F.softmax(t / TEMPERATURE, -1))
        )
    except ImportError:
        skipped.append("liger-kernel n'est pas installé : pip install liger-kernel.")
    return found, skipped


def candidates(student: Tensor, teacher: Tensor, device: str) -> tuple[dict[str, Loss], list[str]]:
    """Les versions qui tournent ici, essayées une fois ; les autres, avec ce qui leur manque."""
    others, skipped = peers(device)
    losses = {OURS: lambda s, t: kd_loss(s, t, TEMPERATURE), **others}
    losses |= {name + COMPILED: torch.compile(loss) for name, loss in losses.items() if "liger" not in name}
    for name, loss in list(losses.items()):
        try:
            value_and_gradient(loss, student, teacher)
        except Exception as error:  # un compilateur C++ ou Triton absent se dit par bien des exceptions
            if name == OURS or out_of_memory(error):
                raise
            del losses[name]
            skipped.append(f"{name} ne tourne pas ici : {(str(error).splitlines() or [type(error).__name__])[0]}")
    return losses, skipped


def value_and_gradient(loss: Loss, student: Tensor, teacher: Tensor) -> tuple[Tensor, Tensor]:
    value = loss(student, teacher)
    return value.detach(), torch.autograd.grad(value, student)[0]


def agrees(found: Tensor, reference: Tensor, tolerance: float = 1e-3) -> bool:
    """Partout à ``tolerance`` près, rapportée au plus grand nombre attendu."""
    return bool((found - reference).abs().max() <= tolerance * reference.abs().max())


def target(rows: dict[str, dict]) -> bool | None:
    """Notre version compilée contre toutes les autres ; ``None`` sans elle, ou sans aucun pair."""
    others = {name: row["ms"] for name, row in rows.items() if name not in (COPY, OURS + COMPILED)}
    if OURS + COMPILED not in rows or set(others) <= {OURS}:
        return None
    return rows[OURS + COMPILED]["ms"] <= min(others.values())


def timed(run: Callable[[], object], device: str) -> float:
    """Secondes d'un passage ; sur GPU, entre deux événements de sa file, vidée avant et après."""
    if device != "cuda":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    start.record()
    run()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1000


def describe(name: str, row: dict) -> str:
    text = f"{name:34}{french(row['ms'], 3):>10} ms{french(row['gb_s']):>9} Go/s"
    if "same_value" in row:
        answers = {True: "oui", False: "non"}
        text += f"   même valeur : {answers[row['same_value']]}, même gradient : {answers[row['same_gradient']]}"
    return text + (f"   pic {french(row['peak_mb'])} Mo" if "peak_mb" in row else "")
