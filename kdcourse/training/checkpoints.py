"""Ce qu'un entraînement écrit : ses points de reprise, son histoire. Un fichier n'a son nom qu'une fois entier.

``torch.load`` refuse un fichier tronqué, mais accepte un octet changé : un point de reprise porte donc sa propre somme.
"""

import csv
import hashlib
import io
import json
import os
import re
from pathlib import Path

import torch

from kdcourse.system_errors import reason

_MAGIC = b"kdcourse reprise 2\n"
_NAMES = ("reprise.pt", "reprise-precedente.pt")
SAVED = ("settings", "epoch", "step", "history", "epoch_shuffle", "previous")  # tels quels dans l'état de la boucle
_KEYS = {*SAVED, "total", "today", "seconds", "random", "model", "optimizer"}


def make_folder(folder: Path) -> int | None:
    """Crée le dossier et le réserve : un seul entraînement y écrit à la fois. Rend ce que ``release`` fermera.

    Le système libère lui-même le dossier d'un processus tué. Un disque qui ne sait pas réserver ne l'empêche pas
    d'écrire.

    Raises:
        OSError: le dossier ne peut pas être créé.
        ValueError: un autre entraînement y écrit en ce moment.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OSError(f"output : {folder} ne s'écrit pas ({reason(error)}) ; donnez un autre dossier.") from None
    try:
        import fcntl

        lock = os.open(folder, os.O_RDONLY)
    except (ImportError, OSError):  # Windows
        return None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        raise ValueError(
            f"output : un autre entraînement écrit en ce moment dans {folder} ; attendez sa fin, ou donnez un autre "
            "dossier."
        ) from None
    except OSError:  # certains disques réseau
        pass
    return lock


def release(lock: int | None) -> None:
    """Rend le dossier que ``make_folder`` a réservé."""
    if lock is not None:
        os.close(lock)


def write_whole(path: Path, content: bytes) -> None:
    """Écrit sous un nom provisoire, puis renomme : une coupure ou un disque plein laisse l'ancien fichier intact.

    Raises:
        OSError: le disque refuse.
    """
    partial = path.with_name(path.name + ".partiel")
    try:
        with open(partial, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())  # sinon le nouveau nom pourrait survivre à une panne, et pas le contenu
        os.replace(partial, path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise OSError(
            f"output : {path} n'a pas pu s'écrire ({reason(error)}) ; libérez de la place, ou donnez un autre "
            "dossier. Les fichiers d'avant sont intacts."
        ) from None


def torch_bytes(state) -> bytes:
    """Ce que ``torch.save`` écrirait."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    return buffer.getvalue()


def save_checkpoint(folder: Path, state: dict) -> None:
    """Écrit le point de reprise ; celui d'avant, entier, reste à côté jusqu'au suivant."""
    current, previous = (folder / name for name in _NAMES)
    fresh = folder / "reprise-nouvelle.pt"
    payload = torch_bytes(state)
    write_whole(fresh, _MAGIC + hashlib.sha256(payload).digest() + payload)
    if current.exists():
        os.replace(current, previous)
    os.replace(fresh, current)


def has_checkpoint(folder: Path) -> bool:
    """Vrai si le dossier contient déjà un point de reprise, entier ou non."""
    return any((folder / name).exists() for name in _NAMES)


def load_checkpoint(folder: Path) -> tuple[dict | None, list[str]]:
    """Le dernier point de reprise entier (``None`` s'il n'y en a aucun), et les refus qu'il a fallu prononcer.

    Raises:
        ValueError: il y en a, mais aucun n'est entier.
    """
    refused = []
    for path in (folder / name for name in _NAMES):
        if not path.exists():
            continue
        content = path.read_bytes() if path.is_file() else b""
        head, payload = content[: len(_MAGIC)], content[len(_MAGIC) + 32 :]
        if head == _MAGIC and content[len(_MAGIC) :][:32] == hashlib.sha256(payload).digest():
            state = torch.load(io.BytesIO(payload), map_location="cpu", weights_only=True)
            if isinstance(state, dict) and state.keys() >= _KEYS:
                return state, refused
        other = head != _MAGIC and head.startswith(_MAGIC[:-2])
        wrong = "écrit par une autre version de kdcourse" if other else "fichier tronqué ou abîmé"
        refused.append(f"{path} : {wrong}, refusé")
    if refused:
        raise ValueError(
            f"output : {' ; '.join(refused)}. Aucun point de reprise entier ne reste : videz {folder} et recommencez."
        )
    return None, []


def promote_previous(folder: Path) -> None:
    """Le fichier refusé cède sa place au précédent, entier : sinon le suivant écraserait le seul qui le soit."""
    current, previous = (folder / name for name in _NAMES)
    if previous.exists():
        os.replace(previous, current)


def has_history(folder: Path) -> bool:
    """Vrai si ``histoire.json`` se lit."""
    try:
        return isinstance(json.loads((folder / "histoire.json").read_text(encoding="utf-8")), dict)
    except (OSError, ValueError):
        return False


def write_history(folder: Path, settings: dict, history: list[dict]) -> None:
    """``histoire.csv``, une ligne par époque ; ``histoire.json``, les mêmes et les réglages."""
    text = io.StringIO()
    writer = csv.DictWriter(text, fieldnames=list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_whole(folder / "histoire.csv", text.getvalue().encode())
    write_json(folder / "histoire.json", {"settings": settings, "epochs": history})


def add_results(folder: Path, results: dict) -> None:
    """Joint les erreurs finales à ``histoire.json``."""
    path = folder / "histoire.json"
    write_json(path, json.loads(path.read_text(encoding="utf-8")) | {"results": results})


def write_json(path: Path, record: dict) -> None:
    """Écrit un fichier JSON lisible, à la place de l'ancien une fois entier ; une liste y tient sur une ligne."""
    text = json.dumps(record, ensure_ascii=False, indent=2)
    text = re.sub(r"\[\n *([^\[\]{}]*?)\n *\]", lambda found: "[" + re.sub(r"\n *", " ", found[1]) + "]", text)
    write_whole(path, (text + "\n").encode())


def fingerprint(*tensors: torch.Tensor) -> str:
    """Une empreinte des valeurs : reprendre avec un autre teacher ou d'autres données se voit."""
    digest = hashlib.sha256()
    for tensor in tensors:
        digest.update(str((tensor.dtype, tuple(tensor.shape))).encode())
        digest.update(tensor.detach().cpu().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()[:16]
