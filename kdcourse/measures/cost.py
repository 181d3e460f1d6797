"""Ce que coûte un pas d'entraînement : son temps, à côté d'un autre, et sa mémoire."""

import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from statistics import median

import torch
from torch.profiler import ProfilerActivity, profile


def step_ratios(steps: Sequence[Callable[[], None]], rounds: int = 15, device: str = "cpu") -> list[float]:
    """Temps de chaque pas, rapporté au premier : médiane, sur les tours, du rapport pris dans un même tour.

    Les pas tournent en alternance, dans un ordre qui s'inverse à chaque tour : une machine qui ralentit les ralentit
    tous.
    """
    ratios = [[] for _ in steps]
    for turn in range(rounds + 1):
        order = range(len(steps)) if turn % 2 else reversed(range(len(steps)))
        seconds = [0.0] * len(steps)
        for index in order:
            start = time.perf_counter()
            steps[index]()
            if device == "cuda":
                torch.cuda.synchronize()
            seconds[index] = time.perf_counter() - start
        if turn:  # le premier tour prépare les tampons
            for found, value in zip(ratios, seconds, strict=True):
                found.append(value / seconds[0])
    return [median(found) for found in ratios]


def out_of_memory(error: Exception) -> bool:
    """Sur CPU, PyTorch lève une ``RuntimeError`` ordinaire : son texte seul la distingue."""
    return any(text in str(error) for text in ("out of memory", "allocate memory", "not enough memory"))


@contextmanager
def _silent_stderr() -> Iterator[None]:
    """Le profileur dit sur stderr, sous Python, qu'il ne trouve pas de GPU : un notebook l'afficherait."""
    kept = os.dup(2)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(nowhere, 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)
        os.close(nowhere)


def peak_bytes(step: Callable[[], None], device: str = "cpu") -> int:
    """Le plus haut total d'octets alloués par PyTorch pendant un appel, ce qui existait déjà non compris.

    Sur CPU, les allocations relevées par ``torch.profiler`` ; sur GPU, ``torch.cuda.max_memory_allocated``.
    """
    if device == "cuda":
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        step()
        return torch.cuda.max_memory_allocated() - before
    with _silent_stderr(), profile(activities=[ProfilerActivity.CPU], profile_memory=True) as record:
        step()
    live = peak = 0
    events = [event for event in record.profiler.kineto_results.events() if event.name() == "[memory]"]
    for event in sorted(events, key=lambda event: event.start_ns()):  # une libération compte négativement
        live += event.nbytes()
        peak = max(peak, live)
    return peak
