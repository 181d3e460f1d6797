"""Le processus chaud : torch y est importé une fois ; chaque tâche s'exécute dans un enfant, enfermé d'abord.

Lancé comme un script, jamais importé par le reste : il ne contient ni réponse de référence, ni cas caché, ni note. Le
parent (``warm.py``) lui envoie, par une socket, le numéro du bac à sable et un bout de conversation ; il se dédouble,
l'enfant entre dans les espaces de noms du bac à sable, abandonne ses droits, borne ses ressources, puis obéit à
``tasks.py``. L'enfant n'écrit que des données dans la conversation ; c'est le parent qui juge.
"""

import ctypes
import json
import os
import resource
import signal
import socket
import sys
import traceback

_NAMESPACES = {"mnt": 0x20000, "uts": 0x4000000, "ipc": 0x8000000, "pid": 0x20000000, "net": 0x40000000}
_USER_NAMESPACE = 0x10000000
_PR_SET_DUMPABLE, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 4, 24, 38
_LAST_CAPABILITY = 40
_CAPABILITY_VERSION_3 = 0x20080522


def main(control: socket.socket, isolated: bool) -> None:
    import tasks  # le fichier voisin ; il charge torch, une fois pour toutes

    rules = None
    if isolated:  # libseccomp n'existe que sous Linux
        from calls import build_filter

        rules = build_filter()
    sys.path.remove(os.path.dirname(os.path.abspath(__file__)))  # une réponse ne doit pas pouvoir importer ces fichiers
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # les enfants finis disparaissent d'eux-mêmes
    control.send(b"pret")
    while True:
        message, fds, _, _ = socket.recv_fds(control, 65536, 1)
        if not message:
            return
        order = json.loads(message)
        if (child := os.fork()) == 0:
            control.close()
            _or_die(_enter, order, socket.socket(fileno=fds[0]), tasks, rules)
        os.close(fds[0])
        control.send(json.dumps(child).encode())


def _or_die(step, *arguments) -> None:
    """Un enfant qui n'a pas pu s'enfermer ne continue pas : il le dit sur stderr, et disparaît."""
    try:
        step(*arguments)
    except BaseException:
        traceback.print_exc()
        os._exit(1)


def _enter(order: dict, conversation: socket.socket, tasks, rules) -> None:
    """Entre dans le bac à sable ; un second dédoublement est nécessaire pour y avoir un numéro de processus."""
    os.setsid()  # sans bac à sable, c'est ce groupe que le parent tue
    isolated = order["sandbox"] is not None
    libc = ctypes.CDLL(None, use_errno=True)
    if isolated:
        pidfd = os.pidfd_open(order["sandbox"])
        flags = sum(_NAMESPACES.values()) | (_USER_NAMESPACE if order["user_namespace"] else 0)
        if libc.setns(pidfd, flags):
            raise OSError(ctypes.get_errno(), "setns")
        os.close(pidfd)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if (inner := os.fork()) == 0:
        if isolated:
            os.setsid()
            _or_die(_abandon_privileges, libc, order, rules)
        _or_die(_run, order, conversation, tasks)
    _, status = os.waitpid(inner, 0)
    # La ligne vide achève celle qu'un enfant tué aurait laissée à moitié.
    conversation.sendall(f'\n{{"exit": {os.waitstatus_to_exitcode(status)}}}\n'.encode())
    os._exit(0)


def _abandon_privileges(libc, order: dict, rules) -> None:
    """Ni root, ni capacité, ni moyen d'en regagner : ce que bubblewrap ferait pour un programme qu'il lancerait."""
    if not order["user_namespace"]:
        user = order["user"]
        os.setgroups([])
        os.setresgid(user, user, user)
        os.setresuid(user, user, user)
    else:
        for capability in range(_LAST_CAPABILITY + 1):
            libc.prctl(_PR_CAPBSET_DROP, capability, 0, 0, 0)
        header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
        if libc.capset(header, (ctypes.c_uint32 * 6)()):
            raise OSError(ctypes.get_errno(), "capset")
    if libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no_new_privs")
    libc.prctl(_PR_SET_DUMPABLE, 1, 0, 0, 0)  # sinon /proc/self lui est fermé
    rules.load()


def _run(order: dict, conversation: socket.socket, tasks) -> None:
    null = os.open(os.devnull, os.O_RDWR)
    for standard in (0, 1, 2):  # ce que la réponse imprime ne va nulle part
        os.dup2(null, standard)
    channel = os.dup2(conversation.detach(), 3)
    os.closerange(4, 65536)
    limits = order["limits"]
    bounds = {
        # Une limite d'adresses, au-delà de ce que torch a déjà réservé : un tableau de 5 Go est refusé, non tué.
        resource.RLIMIT_AS: _address_space() + limits["memory"],
        resource.RLIMIT_NPROC: limits["processes"],
        resource.RLIMIT_FSIZE: limits["disk"],
        resource.RLIMIT_NOFILE: 256,
        resource.RLIMIT_CORE: 0,
    }
    for name, value in bounds.items():
        _, hard = resource.getrlimit(name)
        if value is not None:
            value = value if hard == resource.RLIM_INFINITY else min(value, hard)
            resource.setrlimit(name, (value, value))
    # Un processus est prévenu une seconde avant d'être tué : le parent reconnaît ainsi le temps dépassé.
    resource.setrlimit(resource.RLIMIT_CPU, (limits["cpu"], limits["cpu"] + 1))
    os.environ.update(HOME=order["home"], TMPDIR=order["tmp"])
    os.chdir(order["home"])
    tasks.serve(socket.socket(fileno=channel))
    os._exit(0)


def _address_space() -> int:
    try:
        with open("/proc/self/statm", encoding="ascii") as statm:
            return int(statm.read().split()[0]) * resource.getpagesize()
    except OSError:  # ailleurs que sous Linux
        return 8 << 30


if __name__ == "__main__":
    main(socket.socket(fileno=int(sys.argv[1])), isolated=sys.argv[2] == "isolated")
