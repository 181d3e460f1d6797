"""Des entraînements tués par SIGKILL : chaque cas part dans un processus enfant, qui se tue au moment voulu."""

import os
import signal
import sys
from pathlib import Path

import torch
from support.large_runs import run

from kdcourse import MLP
from kdcourse.training import checkpoints as _checkpoints

# Six pas par époque, un point de reprise au quatrième et à la fin.
OPTIONS = dict(examples=69, batch_size=12, epochs=3, checkpoint_every=4)
METHODS = {"PS-KD": dict(jitter=1), "KD + hint": {}, "seul": {}}
# À chaque moment, le point de reprise qui doit rester : époque, pas faits.
MOMENTS = {"au milieu d'un pas": (2, 4), "en écrivant": (3, 0), "entre deux noms": (2, 0)}


class Dropping(MLP):
    """Un student dont chaque pas tire au hasard : la reprise doit retrouver le générateur où il en était."""

    def __init__(self):
        super().__init__(hidden=(16,), dropout=0.5)


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def count_down(function, calls):
    """La même fonction, qui tue le processus à son n-ième appel."""

    def counted(*args, **kwargs):
        nonlocal calls
        calls -= 1
        if calls == 0:
            die()
        return function(*args, **kwargs)

    return counted


def options_of(method):
    make = {"make_model": Dropping} if method != "KD + hint" else {}
    return OPTIONS | METHODS[method] | make


def killed_run(method, moment, output):
    if moment == "au milieu d'un pas":
        torch.optim.Adam.step = count_down(torch.optim.Adam.step, 11)  # le cinquième de l'époque 2
    elif moment == "en écrivant":
        os.fsync = count_down(os.fsync, 9)  # le point de l'époque 3, pas 4
    else:
        _checkpoints.os.replace = count_down(os.replace, 10)  # l'ancien est déjà renommé, le nouveau pas encore
    run(method, output=output, **options_of(method))


def main(folder):
    torch.set_num_threads(1)
    run("seul", examples=12, epochs=1)  # ce que torch n'importe qu'au premier pas l'est une fois pour tous les enfants
    for method in METHODS:
        for moment in MOMENTS:
            child = os.fork()
            if not child:
                killed_run(method, moment, folder / method / moment)
                os._exit(0)
            _, status = os.waitpid(child, 0)
            assert os.WIFSIGNALED(status) and os.WTERMSIG(status) == signal.SIGKILL, (method, moment, status)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
