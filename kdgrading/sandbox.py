"""Le bac à sable d'une copie : bubblewrap, ce qu'il montre, ce qu'il cache, et ce qu'on fait quand il manque.

Un bac à sable est un jeu d'espaces de noms neufs (fichiers, processus, réseau, IPC) que bubblewrap prépare en quelques
millisecondes. On n'y voit que Python, ses bibliothèques et ``kdcourse``, jamais ``kdgrading`` ; /tmp et le dossier
personnel y sont en mémoire, bornés, et disparaissent avec lui.
"""

import contextlib
import functools
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

import kdcourse

HOME, TMP = "/home/etudiant", "/tmp"
_SCRATCH = 64 << 20  # octets de chaque dossier inscriptible
PACKAGE = Path(kdcourse.__file__).resolve().parent


class SandboxError(RuntimeError):
    """Le bac à sable ne peut pas être ouvert ; le message dit pourquoi, et que faire."""


@dataclass
class Sandbox:
    """Un bac à sable ouvert : ``pid`` est le premier processus de ses espaces de noms, vu de l'extérieur."""

    pid: int
    process: subprocess.Popen
    user_namespace: bool

    def close(self) -> None:
        """Tue tout ce qui s'y trouve : la mort du premier processus emporte les autres, où qu'ils se cachent."""
        with contextlib.suppress(ProcessLookupError):
            leader = os.pidfd_open(self.pid)
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(leader, signal.SIGKILL)
            select.select([leader], [], [], 10)
            os.close(leader)
        self.process.kill()
        self.process.wait()
        self.process.stdin.close()
        self.process.stdout.close()


def open_sandbox(hidden: tuple[str, ...] = ()) -> Sandbox:
    """Ouvre un bac à sable vide ; ``hidden`` nomme des paquets (``"sklearn"``) ou leurs dossiers à y masquer."""
    read, write = os.pipe()
    try:
        process = subprocess.Popen(
            _command(hidden, write),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[write],
            env={"PATH": "/usr/bin:/bin"},
        )
    except OSError as error:
        os.close(read)
        raise SandboxError(f"bubblewrap ne se lance pas : {error}.") from None
    finally:
        os.close(write)
    with os.fdopen(read, "rb") as information:
        data = information.read()
    # cat répond une fois que bubblewrap a tout monté : avant, on entrerait dans une maison sans murs.
    try:
        process.stdin.write(b"?")
        process.stdin.flush()
    except BrokenPipeError:
        pass
    if process.stdout.read(1) != b"?":
        process.wait()
        raise SandboxError(_said(process.stderr.read().decode(errors="replace").strip()))
    process.stderr.close()
    return Sandbox(json.loads(data)["child-pid"], process, needs_user_namespace())


_FORBIDDEN = ("uid map", "RTM_NEWADDR", "creating new namespace", "No permissions to create")


def _said(answer: str) -> str:
    """La réponse de bubblewrap ; et le remède quand c'est AppArmor qui l'arrête, comme sur Ubuntu depuis 23.10."""
    if not needs_user_namespace() or not any(words in answer for words in _FORBIDDEN):
        return f"bubblewrap ne s'ouvre pas : {answer}."
    return (
        f"bubblewrap ne s'ouvre pas ({answer}) : le noyau refuse un espace de noms à qui n'est pas root. Sur Ubuntu, "
        "c'est AppArmor ; le fichier apparmor-bwrap, à côté de nbgrader_config.py, rend ce droit à bubblewrap seul : "
        "sudo cp apparmor-bwrap /etc/apparmor.d/bwrap && sudo systemctl reload apparmor. Ailleurs : sudo sysctl "
        "kernel.unprivileged_userns_clone=1."
    )


def needs_user_namespace() -> bool:
    """Vrai pour qui n'est pas root ; root n'en a pas besoin, l'enfant le quitte pour un utilisateur sans droits."""
    return os.geteuid() != 0


def _command(hidden: tuple[str, ...], information: int) -> list[str]:
    command = [_bubblewrap(), "--die-with-parent", "--new-session", "--cap-drop", "ALL", "--clearenv"]
    command += ["--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--hostname", "bac-a-sable"]
    if needs_user_namespace():
        command += ["--unshare-user"]
    command += ["--info-fd", str(information), "--proc", "/proc", "--dev", "/dev"]
    for folder in ("/dev/shm", TMP, HOME):
        command += ["--perms", "1777", "--size", str(_SCRATCH), "--tmpfs", folder]
    for parent in _parents():  # bubblewrap les créerait illisibles pour qui n'est pas root
        command += ["--perms", "0755", "--dir", parent]
    for source in _visible():
        command += ["--ro-bind", source, source]
    for link in ("/lib", "/lib64"):
        if os.path.islink(link):
            command += ["--symlink", os.readlink(link), link]
    for folder in _masked(hidden):
        command += ["--tmpfs", folder, "--remount-ro", folder]
    command += ["--remount-ro", "/dev", "--remount-ro", "/"]
    return [*command, "--", shutil.which("cat", path="/usr/bin:/bin")]


@functools.cache
def _bubblewrap() -> str:
    found = shutil.which("bwrap")
    if found is None:
        raise SandboxError("bubblewrap est introuvable : installez-le (Debian, Ubuntu : apt install bubblewrap).")
    return found


@functools.cache
def _visible() -> tuple[str, ...]:
    """Les dossiers que la réponse peut lire : les bibliothèques du système, Python, ses paquets, et le nôtre."""
    paths = sysconfig.get_paths()
    wanted = [paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")]
    wanted += [sysconfig.get_config_var("LIBDIR") or "", str(PACKAGE), shutil.which("cat", path="/usr/bin:/bin")]
    wanted += [folder for folder in ("/usr/lib", "/usr/lib64", "/lib", "/lib64") if not os.path.islink(folder)]
    wanted += ["/etc/ld.so.cache"]
    wanted = sorted({os.path.realpath(path) if path.startswith("/usr/bin") else path for path in wanted if path})
    kept = []
    for path in wanted:
        if os.path.exists(path) and not any(path.startswith(f"{parent}/") for parent in kept):
            kept.append(path)
    return tuple(kept)


def _parents() -> list[str]:
    return sorted({str(parent) for path in _visible() for parent in Path(path).parents[:-1]})


def _masked(hidden: tuple[str, ...]) -> list[str]:
    """``kdgrading`` et les dossiers demandés, partout où un Python visible les garde."""
    folders = []
    homes = {Path(path) for path in sys.path if path} | {PACKAGE.parent}
    roots = [Path("/usr/lib"), Path(sysconfig.get_config_var("LIBDIR") or "/usr/lib")]
    homes |= {found for root in roots for kind in ("dist", "site") for found in root.glob(f"python3*/{kind}-packages")}
    for home in homes:
        folders += [str(home / name) for name in ("kdgrading", *hidden) if (home / name).is_dir()]
    inside = tuple(f"{path}/" for path in _visible())
    return sorted(folder for folder in set(folders) if folder.startswith(inside))
