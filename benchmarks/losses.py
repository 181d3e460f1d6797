"""Nos pertes contre celles de torchdistill, aller et retour, en temps et en valeur ; pour RKD, la mémoire aussi.

Les deux bibliothèques reçoivent les mêmes tenseurs et tournent en alternance, dans un ordre qui s'inverse à chaque
tour : une machine qui ralentit les ralentit toutes deux. Chaque chiffre est une médiane sur les tours, puis sur cinq
tirages des entrées.
"""

import argparse
import time
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import version
from statistics import median

import torch
from torch import Tensor, nn

from benchmarks._report import existing_device, publish, targets
from benchmarks._torchdistill import Loss, adapt, kd
from kdcourse import attention_loss, hint_loss, kd_loss, rkd_angle_loss, rkd_distance_loss, similarity_preserving_loss
from kdcourse.command_line import FrenchParser, number, positive
from kdcourse.formats import french
from kdcourse.measures.cost import peak_bytes

# Selon l'endroit où tombent les entrées, l'allocateur réutilise ses pages ou les redemande au système : du simple au
# quintuple sur des cartes de 4 Mo. D'où plusieurs tirages, et le rapport médian.
DRAWS = 5
MEMORY = (
    "Mémoire : le plus haut total des octets alloués par PyTorch pendant un aller et retour, entrées non comprises ; "
    "sur CPU, les allocations relevées par torch.profiler, sur GPU, torch.cuda.max_memory_allocated."
)


@dataclass
class Case:
    """Une perte à une taille : ce qu'on a mesuré de nous et de torchdistill."""

    loss: str
    shape: tuple[int, ...]
    ours_ms: float
    peer_ms: float
    ratio: float
    same_value: bool
    ours_mb: float | None = None
    peer_mb: float | None = None
    memory_ratio: float | None = None


def main(argv: list[str] | None = None) -> None:
    parser = FrenchParser("python -m benchmarks losses", __doc__.splitlines()[0])
    parser.add_argument(
        "--secondes", type=number, default=3.0, help="durée visée par perte et par taille (3 par défaut)"
    )
    parser.add_argument("--appareil", type=existing_device, default="cpu", help="cpu (par défaut) ou cuda")
    parser.add_argument(
        "--fils",
        type=positive,
        default=1,
        help="fils de calcul ; 1 par défaut : deux fils qui s'attendent mesurent surtout le voisinage",
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(options.fils)
    peers = _peers()
    torch.manual_seed(0)
    cases = []
    print(f"Aller et retour, {options.appareil}, médianes ; rapport = nous / torchdistill {version('torchdistill')}.")
    print(f"{'perte':<14}{'forme':<20}{'nous':>11}{'eux':>11}{'rapport':>9}  {'même valeur':<12}mémoire nous / eux")
    for name, (ours, peer, shapes, difference) in peers.items():
        for shape in shapes:
            cases.append(_measure(name, ours, peer, shape, options))
            print(_row(cases[-1]), flush=True)
        if difference:
            print(f"  {name} chez torchdistill : {difference}")
    print(MEMORY)
    result = {
        "device": options.appareil,
        "torchdistill": version("torchdistill"),
        "cases": [_rounded(asdict(case)) for case in cases],
        "differences": {name: difference for name, (*_, difference) in peers.items() if difference},
        "memory": MEMORY,
        "targets": targets(_targets(cases)),
    }
    publish("losses" if options.appareil == "cpu" else f"losses-{options.appareil}", result)


def _peers() -> dict[str, tuple[Loss, Loss, list[tuple[int, ...]], str]]:
    """Chaque perte : la nôtre, celle de torchdistill, trois tailles, ce que l'autre calcule de différent."""
    try:
        from torchdistill.losses import mid_level as peer
    except ImportError as error:
        raise SystemExit(
            "torchdistill, à qui cette mesure se compare, n'est pas installé. "
            "Installez l'extra « bench » : pip install -e '.[bench]'."
        ) from error
    where = {"path": "m", "io": "output"}
    hint = peer.SimpleLossWrapper(
        nn.MSELoss(),
        input={"is_from_teacher": False, "module_path": "m", "io": "output"},
        target={"is_from_teacher": True, "module_path": "m", "io": "output"},
    )
    maps = [(32, 64, 8, 8), (64, 64, 16, 16), (64, 128, 32, 32)]
    rows = [(64, 128), (128, 256), (256, 512)]

    return {
        "KD": (
            kd_loss,
            kd(temperature=4.0),
            [(64, 10), (128, 100), (256, 1000)],
            "quand alpha = 0, le facteur T² est oublié ; nous le remettons ici (× 16) pour comparer les valeurs.",
        ),
        "hint": (hint_loss, adapt(hint), maps, ""),
        "AT": (attention_loss, adapt(peer.ATLoss({"p": {"student": where, "teacher": where}})), maps, ""),
        "SP": (
            similarity_preserving_loss,
            adapt(peer.SPKDLoss("m", "m", "batchmean")),
            [(64, 128), (128, 512), (256, 4096)],
            "les lignes de la matrice de Gram sont normalisées en L1 ; l'article les normalise en L2.",
        ),
        "RKD distance": (rkd_distance_loss, adapt(peer.RKDLoss("m", "m", 1.0, 0.0, "mean")), rows, ""),
        "RKD angle": (rkd_angle_loss, adapt(peer.RKDLoss("m", "m", 0.0, 1.0, "mean")), rows, ""),
    }


def _measure(name: str, ours: Loss, peer: Loss, shape: tuple[int, ...], options: argparse.Namespace) -> Case:
    draws = []
    for _ in range(DRAWS):
        student, teacher = (torch.randn(shape, device=options.appareil) for _ in range(2))
        student.requires_grad_()
        draws.append(_interleaved([ours, peer], student, teacher, options.secondes / DRAWS))
    ours_ms, peer_ms = (median(times) for times in zip(*draws, strict=True))
    values = [loss(student, teacher).item() for loss in (ours, peer)]
    same_value = abs(values[0] - values[1]) <= 1e-4 * abs(values[0])
    case = Case(name, shape, ours_ms, peer_ms, median(mine / other for mine, other in draws), same_value)
    if name.startswith("RKD"):
        case.ours_mb, case.peer_mb = (
            peak_bytes(partial(_round_trip, loss, student, teacher), options.appareil) / 1e6 for loss in (ours, peer)
        )
        case.memory_ratio = case.ours_mb / case.peer_mb
    return case


def _round_trip(loss: Loss, student: Tensor, teacher: Tensor) -> None:
    student.grad = None
    loss(student, teacher).backward()
    if student.is_cuda:
        torch.cuda.synchronize()


def _interleaved(losses: list[Loss], student: Tensor, teacher: Tensor, seconds: float) -> list[float]:
    """Médiane, en millisecondes, de chaque perte : au moins 3 tours, au plus 2000, dans la durée visée."""
    times = [[] for _ in losses]
    for loss in losses * 3:
        _round_trip(loss, student, teacher)
    start, turn = time.perf_counter(), 0
    while turn < 3 or (turn < 2000 and time.perf_counter() - start < seconds):
        for index in (range(len(losses)), reversed(range(len(losses))))[turn % 2]:
            before = time.perf_counter()
            _round_trip(losses[index], student, teacher)
            times[index].append(1000 * (time.perf_counter() - before))
        turn += 1
    return [median(series) for series in times]


def _rounded(measure: dict) -> dict:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in measure.items()}


def _targets(cases: list[Case]) -> dict[str, bool]:
    angle = next(case for case in cases if case.loss == "RKD angle" and case.shape == (256, 512))
    return {
        "jamais plus de 1,1 fois torchdistill": all(case.ratio <= 1.1 for case in cases),
        "RKD angle (256, 512) : au plus 1/4 du temps": angle.ratio <= 1 / 4,
        "RKD angle (256, 512) : au plus 1/2 de la mémoire": angle.memory_ratio <= 1 / 2,
    }


def _row(case: Case) -> str:
    shape = "×".join(map(str, case.shape))
    row = f"{case.loss:<14}{shape:<20}{french(case.ours_ms, 2):>8} ms{french(case.peer_ms, 2):>8} ms"
    row += f"{french(case.ratio, 2):>9}  {'oui' if case.same_value else 'non':<12}"
    if case.memory_ratio is not None:
        row += f"{french(case.ours_mb)} / {french(case.peer_mb)} Mo, soit {french(case.memory_ratio, 3)}"
    return row
