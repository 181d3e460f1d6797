"""Un fichier public, entier ou rien : sa somme MD5 est vérifiée à chaque chargement, et son nom n'existe que complet.

torchvision télécharge, mais ses classes MNIST croient un fichier décompressé sur sa seule présence : interrompu en
pleine décompression, il passe pour entier. On ne garde donc que l'archive, dont torchvision donne la somme.
"""

import os
import socket
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from http.client import HTTPException
from pathlib import Path
from urllib.error import HTTPError, URLError

from torchvision.datasets.utils import check_integrity, download_url

from kdcourse.system_errors import REASONS

_TIMEOUT = 30  # secondes sans rien recevoir : sans limite, un serveur muet bloquerait le notebook


class FolderError(OSError):
    """Le dossier des données ne se lit ou ne s'écrit pas."""


def default_folder() -> Path:
    """Le dossier de cache de l'utilisateur : ``$XDG_CACHE_HOME/kdcourse``, ou ``~/.cache/kdcourse``."""
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "kdcourse"
    except RuntimeError:  # un utilisateur que le système ne connaît pas, sans HOME
        raise FolderError("folder : None reçu, un dossier attendu ; votre dossier personnel est introuvable.") from None


def fetch(filename: str, urls: Sequence[str], md5: str, folders: Sequence[Path]) -> Path:
    """Le chemin du fichier, vérifié, dans le premier dossier qui l'a ; sinon, il est téléchargé dans le dernier.

    Raises:
        ConnectionError: rien d'entier n'a pu venir du réseau.
        FolderError: le dossier ne se lit ou ne s'écrit pas.
    """
    paths, folder = [folder / filename for folder in folders], folders[-1]
    with usable(folder):
        for path in paths:
            if check_integrity(path, md5):
                return path
    reasons = []
    for url in urls:
        try:
            with staging(folder) as partial, _socket_timeout():
                print(f"Téléchargement de {filename} dans {folder}.", flush=True)
                download_url(url, partial, filename, md5)
                os.replace(partial / filename, folder / filename)
            return folder / filename
        except FolderError:
            raise
        except (OSError, RuntimeError, HTTPException) as error:
            reasons.append(f"{url} : {_reason(error)}")
    damaged = next((path for path in paths if path.exists()), None)
    found = f"{damaged} est abîmé ou tronqué (somme MD5 inattendue)" if damaged else f"{filename} manque"
    raise ConnectionError(
        f"{found}, et le réseau ne l'a pas donné ({' ; '.join(reasons)}). Vérifiez la connexion et recommencez, ou "
        f"prenez ce fichier sur une autre machine et rangez-le dans {folder}. Sans réseau, load_dataset('digits') "
        "suffit à tout le cours."
    )


def _reason(error: Exception) -> str:
    if isinstance(error, HTTPError):
        return f"le serveur répond {error.code}"
    if isinstance(error, RuntimeError):
        return "ce qui est arrivé n'est pas le fichier attendu (somme MD5 inattendue)"
    if isinstance(error, TimeoutError) or isinstance(getattr(error, "reason", None), TimeoutError):
        return f"aucune réponse en {_TIMEOUT} secondes"
    return "serveur injoignable"


@contextmanager
def usable(folder: Path) -> Iterator[None]:
    """Dit en français qu'un dossier est plein, interdit ou n'en est pas un ; les erreurs du réseau passent."""
    try:
        yield
    except OSError as error:
        if isinstance(error, URLError) or error.errno not in REASONS:
            raise
        raise FolderError(
            f"folder : {folder} ne se lit ou ne s'écrit pas ({REASONS[error.errno]}) ; donnez un autre dossier "
            "par folder=…."
        ) from None


@contextmanager
def staging(folder: Path) -> Iterator[Path]:
    """Un dossier provisoire, dans ``folder`` : ce qu'on en sort par ``os.replace`` apparaît d'un coup, entier."""
    with usable(folder):
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partiel-", dir=folder) as partial:
            yield Path(partial)


@contextmanager
def _socket_timeout() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_TIMEOUT)  # le seul réglage d'urllib que torchvision laisse atteindre
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
