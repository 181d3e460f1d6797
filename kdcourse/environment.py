"""Où le notebook tourne : versions, appareil, et comment avoir un GPU."""

import platform
from importlib.metadata import version

import torch


def best_device() -> torch.device:
    """Le GPU s'il y en a un, sinon le processeur."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_environment() -> str:
    """Une phrase : versions de Python, de torch et de kdcourse, appareil, et comment allumer un GPU."""
    where = f"Python {platform.python_version()}, torch {torch.__version__}, kdcourse {version('kdcourse')}"
    if torch.cuda.is_available():
        return f"{where}. Appareil : GPU {torch.cuda.get_device_name()}."
    threads = torch.get_num_threads()
    return (
        f"{where}. Appareil : processeur, {threads} fil{'s' if threads > 1 else ''} de calcul. Le cours entier s'en "
        "contente ; sur Colab, un GPU s'allume par Exécution > Modifier le type d'exécution."
    )
