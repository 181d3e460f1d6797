"""32 students MLP à la fois, contre la meilleure boucle nue, l'un après l'autre, puis en deux processus.

La boucle nue choisit ce qui l'avantage : un ou deux fils, Adam fusionné ou non. Chaque candidate est chronométrée
plusieurs fois, et son essai le plus rapide compte, comme celui de ``train_many`` : une machine occupée ne nous flatte
pas. Les deux côtés font les mêmes pas sur les mêmes données, avec la même perte ; les tenseurs de chaque époque sont
permutés d'avance des deux côtés.

``--tailles 16 64 256 1024`` mesure plutôt, sur un seul appareil, ``train_many`` à ces nombres de students contre la
boucle nue. Celle-ci n'est courue que sur seize students ; pour un autre nombre, son temps est estimé à proportion : ce
mode est celui du GPU.
"""

import multiprocessing
import statistics
import time

import torch
import torch.nn.functional as F

from benchmarks._report import existing_device, publish, targets
from kdcourse import best_device
from kdcourse.command_line import FrenchParser, positive
from kdcourse.data.datasets import load_dataset
from kdcourse.losses.logits import kd_loss
from kdcourse.models import MLP
from kdcourse.training.many_students import initial_model, train_many

STUDENTS, EPOCHS, BATCH = 32, 60, 100
CANDIDATE_STUDENTS, CANDIDATE_RUNS = 2, 7  # de quoi choisir la boucle nue
SIZES, TIMED = (16, 64, 256, 1024), 16


def make_student():
    return MLP(hidden=(32, 32))


def plain_loop(seeds, data, teacher_logits, epochs: int, fused: bool) -> None:
    """La boucle nue la plus rapide que nous sachions écrire, un student après l'autre."""
    for seed in seeds:
        model = initial_model(make_student, seed).to(data.images.device)
        optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, fused=fused)
        shuffle = torch.Generator().manual_seed(seed)
        for _ in range(epochs):
            order = torch.randperm(len(data.labels), generator=shuffle).to(data.images.device)
            epoch = zip(
                data.images[order].split(BATCH),
                data.labels[order].split(BATCH),
                teacher_logits[order].split(BATCH),
                strict=True,
            )
            for images, labels, guides in epoch:
                logits = model(images)
                loss = 0.7 * kd_loss(logits, guides, 4.0) + 0.3 * F.cross_entropy(logits, labels)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()


def all_at_once(data, teacher_logits, count: int, epochs: int = EPOCHS) -> None:
    """``train_many`` ; il prend de lui-même un seul fil pour d'aussi petits modèles."""
    train_many(make_student, data, teacher_logits, seeds=range(count), epochs=epochs, batch_size=BATCH)


def seconds(function, *arguments) -> float:
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def half(seeds, fused, ready, go, done) -> None:
    """Un des deux processus : prépare tout, attend le départ, entraîne sa moitié sur un fil."""
    torch.set_num_threads(1)
    data, teacher_logits = problem()
    plain_loop(seeds[:1], data, teacher_logits, 1, fused)
    ready.release()
    go.wait()
    plain_loop(seeds, data, teacher_logits, EPOCHS, fused)
    done.release()


def two_processes(fused: bool) -> float:
    """Secondes des 32 students en deux processus d'un fil, démarrage et imports non comptés."""
    context = multiprocessing.get_context("spawn")
    ready, done, go = context.Semaphore(0), context.Semaphore(0), context.Event()
    halves = [range(0, STUDENTS // 2), range(STUDENTS // 2, STUDENTS)]
    processes = [context.Process(target=half, args=(list(seeds), fused, ready, go, done)) for seeds in halves]
    for process in processes:
        process.start()
    for _ in processes:
        ready.acquire()
    start = time.perf_counter()
    go.set()
    for _ in processes:
        done.acquire()
    elapsed = time.perf_counter() - start
    for process in processes:
        process.join()
    return elapsed


def problem():
    data = load_dataset("digits").train
    return data, 5 * torch.randn(len(data.labels), 10, generator=torch.Generator().manual_seed(0))


def by_size(sizes, device: str, repeats: int) -> dict:
    """Secondes de ``train_many`` à chaque nombre de students, et de la boucle nue, pour un student ; leur rapport."""
    torch.set_num_threads(1)  # ce qui va le mieux à la boucle nue
    data, teacher_logits = (part.to(device) for part in problem())

    def synchronized(function, *arguments):
        function(*arguments)
        if device == "cuda":
            torch.cuda.synchronize()

    synchronized(
        all_at_once, data, teacher_logits, 1, 1
    )  # les imports tardifs, et la mise en route du GPU, ne comptent pas
    synchronized(plain_loop, range(1), data, teacher_logits, 1, True)
    plain = {
        fused: min(
            seconds(synchronized, plain_loop, range(TIMED), data, teacher_logits, EPOCHS, fused) / TIMED
            for _ in range(repeats)
        )
        for fused in (True, False)
    }
    one, rows = min(plain.values()), {}
    for count in sizes:
        together = statistics.median(
            seconds(synchronized, all_at_once, data, teacher_logits, count) for _ in range(repeats)
        )
        how = "mesuré" if count == TIMED else f"estimé sur {TIMED}"
        rows[str(count)] = {
            "train_many_s": round(together, 3), "one_by_one_s": round(count * one, 1), "one_by_one": how,
            "ratio": round(count * one / together, 1),
        }  # fmt: skip
        print(f"{count:5} students : {together:7.2f} s ; un par un, {count * one:7.1f} s ({how}), "
              f"soit {rows[str(count)]['ratio']} fois plus", flush=True)  # fmt: skip
    large = [row["ratio"] for count, row in rows.items() if int(count) >= 64]
    return {
        "device": device, "plain_s_per_student": round(one, 3), "timed_students": TIMED, "sizes": rows,
        "epochs": EPOCHS,
        "targets": targets({"20 fois à 64 students et plus": min(large) >= 20 if large else None}),
    }  # fmt: skip


def main(arguments: list[str]) -> None:
    parser = FrenchParser("python -m benchmarks vectorised", __doc__)
    parser.add_argument("--repeats", type=positive, default=5, help="mesures de chaque côté (5 par défaut)")
    parser.add_argument("--tailles", type=positive, nargs="+", help="nombres de students ; sur GPU, 16 64 256 1024")
    parser.add_argument(
        "--appareil", type=existing_device, default=best_device().type, help="cuda ou cpu ; le GPU s'il y en a un"
    )
    options = parser.parse_args(arguments)
    repeats = options.repeats
    if options.tailles or options.appareil == "cuda":
        publish(f"vectorised-{options.appareil}", by_size(options.tailles or SIZES, options.appareil, repeats))
        return
    data, teacher_logits = problem()
    threads_tried = sorted({1, torch.get_num_threads()})

    def plain(threads, fused, count=STUDENTS):
        torch.set_num_threads(threads)
        plain_loop(range(count), data, teacher_logits, EPOCHS, fused)

    all_at_once(data, teacher_logits, 1, 1)  # les imports tardifs ne comptent pas
    options = {}
    for threads in threads_tried:
        for fused in (True, False):
            runs = [seconds(plain, threads, fused, CANDIDATE_STUDENTS) for _ in range(CANDIDATE_RUNS)]
            options[threads, fused] = min(runs) / CANDIDATE_STUDENTS
            name = "fusionné" if fused else "ordinaire"
            print(f"boucle nue, {threads} fil(s), Adam {name:9} : {options[threads, fused]:.2f} s par student")
    best_plain = min(options, key=options.get)

    times = {"train_many": [], "boucle": [], "deux processus": []}
    for _ in range(repeats):
        times["train_many"].append(seconds(all_at_once, data, teacher_logits, STUDENTS))
        times["boucle"].append(seconds(plain, *best_plain))
        times["deux processus"].append(two_processes(best_plain[1]))
    kept = {name: min(values) for name, values in times.items()}
    kept["boucle"] = min(kept["boucle"], STUDENTS * options[best_plain])
    for name, values in times.items():
        print(f"{name:15} compte {kept[name]:6.2f} s   ({', '.join(f'{v:.2f}' for v in values)})")
    publish(
        "vectorised",
        {
            "ratio": round(kept["boucle"] / kept["train_many"], 2),
            "ratio_of_slowest_run": round(kept["boucle"] / max(times["train_many"]), 2),
            "ratio_two_processes": round(kept["deux processus"] / kept["train_many"], 2),
            "train_many_s": round(kept["train_many"], 2),
            "plain_s": round(kept["boucle"], 2),
            "plain_best": {"threads": best_plain[0], "fused": best_plain[1]},
            "two_processes_s": round(kept["deux processus"], 2),
            "students": STUDENTS,
            "epochs": EPOCHS,
        },
    )
