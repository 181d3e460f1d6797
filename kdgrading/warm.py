"""Converser avec une réponse enfermée : un processus chaud, un enfant par tâche, des limites tenues de l'extérieur."""

import contextlib
import itertools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

from kdgrading import sandbox
from kdgrading.sandbox import Sandbox, SandboxError

_WORKER = Path(__file__).parent / "child" / "worker.py"
_MAX_BYTES = 32 << 20  # ce qu'un enfant peut dire, en tout
_WATCH_EVERY = 0.1  # seconde
# Quand root corrige, chaque enfant devient un utilisateur que rien d'autre ne porte, jamais deux fois le même : ce que
# le noyau range par utilisateur (trousseaux, nombre de processus) n'est commun à personne.
_FIRST_USER = 1_900_000_000


@dataclass(frozen=True)
class Limits:
    """Ce qu'une tâche peut consommer : secondes, octets, processus."""

    wall: float = 20.0
    cpu: int = 15
    memory: int = 2 << 30
    processes: int = 64
    disk: int = 64 << 20


@dataclass
class Outcome:
    """Ce que l'enfant a dit, et comment il a fini : ``"fini"``, sinon la limite atteinte, en un mot ou deux."""

    messages: list[dict] = field(default_factory=list)
    end: str = "fini"

    @property
    def error(self) -> str | None:
        """Ce que la réponse a levé, si elle a levé quelque chose."""
        found = next((message["error"] for message in self.messages if "error" in message), None)
        return None if found is None else str(found)[:500]


class WarmWorker:
    """Le processus où torch est déjà importé. Un seul suffit à toutes les copies d'une correction."""

    def __init__(self, isolated: bool = True):
        self.isolated = isolated
        self.users = itertools.count(_FIRST_USER)
        self._start()

    def _start(self) -> None:
        self.control, theirs = socket.socketpair()
        environment = {"PATH": "/usr/bin:/bin", "LANG": "C.UTF-8", "PYTHONPATH": str(sandbox.PACKAGE.parent)}
        environment |= {f"{name}_NUM_THREADS": "1" for name in ("OMP", "MKL", "OPENBLAS")}
        environment |= {"MPLBACKEND": "agg", "MPLCONFIGDIR": sandbox.TMP, "LOGNAME": "etudiant", "USER": "etudiant"}
        environment |= {"TORCHDYNAMO_DISABLE": "1"}  # pas de compilateur là-dedans : torch.compile n'y change rien
        self.process = subprocess.Popen(
            [sys.executable, "-s", str(_WORKER), str(theirs.fileno()), "isolated" if self.isolated else "open"],
            pass_fds=[theirs.fileno()],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=environment,
        )
        theirs.close()
        self.ready = False

    def _wait(self) -> None:
        """Attend qu'il ait importé torch ; il s'y prépare pendant que le parent fait autre chose."""
        if not self.ready and not self.control.recv(64):
            reason = self.process.stderr.read().decode(errors="replace").strip()[-300:]
            raise SandboxError(f"le processus de correction ne démarre pas : {reason}")
        self.ready = True

    def close(self) -> None:
        """Arrête le processus chaud."""
        self.control.close()
        self.process.kill()
        self.process.wait()
        self.process.stderr.close()

    @contextlib.contextmanager
    def room(self, hidden: tuple[str, ...] = ()) -> Iterator["Room"]:
        """Un bac à sable neuf, le temps d'un bloc ; ``hidden`` nomme ce que l'on y masque en plus."""
        room = Room(self, sandbox.open_sandbox(hidden) if self.isolated else None)
        try:
            yield room
        finally:
            room.close()

    def spawn(self, order: dict, conversation: socket.socket) -> int:
        """Demande un enfant au bout d'une conversation ; rend son numéro. Un processus chaud mort est remplacé."""
        for attempt in (1, 2):
            self._wait()
            with contextlib.suppress(OSError):
                socket.send_fds(self.control, [json.dumps(order).encode()], [conversation.fileno()])
                if reply := self.control.recv(64):
                    return json.loads(reply)
            if attempt == 1:
                self.close()
                self._start()
        raise SandboxError("le processus de correction s'arrête dès qu'on lui confie une copie.")


class Room:
    """Un bac à sable et ce qui s'y passe. Chaque ``ask`` y fait naître un enfant neuf."""

    def __init__(self, worker: WarmWorker, box: Sandbox | None):
        self.worker, self.box, self.children = worker, box, []
        self.scratch = None if box else tempfile.TemporaryDirectory(prefix="kdcourse-")

    def ask(self, task: dict, limits: Limits, on_call: Callable[[list], dict] | None = None) -> Outcome:
        """Confie une tâche à un enfant, et rend tout ce qu'il a dit avant de finir ou d'être arrêté.

        Args:
            task: la tâche, en JSON.
            limits: ce qu'elle peut consommer.
            on_call: répond aux questions que la réponse pose au parent, s'il y en a.
        """
        ours, theirs = socket.socketpair()
        order = {
            "sandbox": self.box.pid if self.box else None,
            "user_namespace": bool(self.box and self.box.user_namespace),
            "user": next(self.worker.users),
            "home": sandbox.HOME if self.box else self.scratch.name,
            "tmp": sandbox.TMP if self.box else self.scratch.name,
            "limits": {"cpu": limits.cpu, "memory": limits.memory, "disk": limits.disk}
            # Sans bac à sable, la limite compterait tous les processus de l'enseignant.
            | {"processes": limits.processes if self.box else None},
        }
        with ours, theirs:
            child = self.worker.spawn(order, theirs)
            theirs.close()
            self.children.append(child)
            return _Conversation(ours, self, limits, on_call).run(task)

    def excess(self, limits: Limits) -> str | None:
        """La limite que le bac à sable entier dépasse, en un mot ; rien s'il n'y en a pas, ou pas de bac à sable."""
        inside = self._processes()
        if len(inside) > limits.processes:  # d'abord : une fourche sans fin n'attend pas que l'on compte sa mémoire
            return "processus"
        memory = 0
        for entry in inside:
            with contextlib.suppress(OSError):
                rollup = Path(f"/proc/{entry}/smaps_rollup").read_text()
                # La part proportionnelle : une page commune à dix processus n'est comptée qu'une fois.
                kinds = ("Pss_Anon:", "Pss_Shmem:")
                memory += sum(int(line.split()[1]) << 10 for line in rollup.splitlines() if line.startswith(kinds))
        return "mémoire" if memory > limits.memory else None

    def _processes(self) -> list[str]:
        if self.box is None:
            return []
        found, home = [], None
        with contextlib.suppress(OSError):
            home = os.stat(f"/proc/{self.box.pid}/ns/pid").st_ino
        for entry in filter(str.isdigit, os.listdir("/proc")):
            with contextlib.suppress(OSError):
                if os.stat(f"/proc/{entry}/ns/pid").st_ino == home:
                    found.append(entry)
        return found

    def close(self) -> None:
        """Tue tout, et efface ce qui a été écrit."""
        if self.box:
            self.box.close()
        for child in self.children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(child, signal.SIGKILL)
        if self.scratch:
            self.scratch.cleanup()


class _Conversation:
    """Une tâche, du premier octet à la fin : délais, volume, mémoire."""

    def __init__(self, link: socket.socket, room: Room, limits: Limits, on_call):
        self.link, self.room, self.limits, self.on_call = link, room, limits, on_call
        self.deadline = time.monotonic() + limits.wall
        self.next_look = time.monotonic() + _WATCH_EVERY
        self.buffer, self.heard = bytearray(), 0
        link.setblocking(False)

    def run(self, task: dict) -> Outcome:
        outcome = Outcome()
        self.outgoing = json.dumps(task).encode() + b"\n"
        while True:
            end = self._limit_reached()
            if end is None:
                end = self._exchange(outcome)
            if end is not None:
                return replace(outcome, end=end)

    def _limit_reached(self) -> str | None:
        now = time.monotonic()
        if now > self.deadline:
            return "temps"
        if now > self.next_look:
            self.next_look = now + _WATCH_EVERY
            return self.room.excess(self.limits)
        return None

    def _exchange(self, outcome: Outcome) -> str | None:
        """Un tour : écrit ce qui attend, lit ce qui vient ; rend la fin si elle est là."""
        sending = [self.link] if self.outgoing else []
        readable, writable, _ = select.select([self.link], sending, [], _WATCH_EVERY)
        if writable:
            try:
                self.outgoing = self.outgoing[self.link.send(self.outgoing[: 1 << 20]) :]
            except OSError:
                return "mort"
        if not readable:
            return None
        try:
            data = self.link.recv(1 << 20)
        except OSError:
            return "mort"
        if not data:
            return "mort"
        self.heard += len(data)
        if self.heard > _MAX_BYTES:
            return "volume"
        self.buffer += data
        if b"\n" not in data:
            return None
        *lines, rest = bytes(self.buffer).split(b"\n")
        self.buffer = bytearray(rest)
        for line in lines:
            end = self._hear(line, outcome)
            if end is not None:
                return end
        return None

    def _hear(self, line: bytes, outcome: Outcome) -> str | None:
        if not line:
            return None
        try:
            message = json.loads(line, parse_int=float)  # un entier de mille chiffres devient infini
        except (ValueError, RecursionError):  # UnicodeDecodeError est une ValueError
            return "illisible"
        if not isinstance(message, dict):
            return "illisible"
        if message.get("done") is True:
            return "fini"
        if "exit" in message:
            return "temps" if message["exit"] == -signal.SIGXCPU else "mort"
        if "call" in message and self.on_call is not None:
            self.outgoing += json.dumps(self.on_call(message["call"])).encode() + b"\n"
        else:
            outcome.messages.append(message)
        return None
