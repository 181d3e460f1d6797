"""Où le notebook tourne : versions, appareil, et comment avoir un GPU."""

import platform
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec

import torch

from kdcourse.formats import typeset


def best_device() -> torch.device:
    """Le GPU s'il y en a un, sinon le processeur."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def describe_environment() -> str:
    """Une phrase : versions de Python, de torch et de kdcourse, appareil, et comment allumer un GPU.

    Sur Colab, une seconde dit comment garder son travail.
    """
    try:
        course = version("kdcourse")
    except PackageNotFoundError:  # importé d'un dossier, sans être installé
        course = "(copie locale)"
    where = f"Python {platform.python_version()}, torch {torch.__version__}, kdcourse {course}"
    if torch.cuda.is_available():
        lines = [f"{where}. Appareil : GPU {torch.cuda.get_device_name()}."]
    else:
        threads = torch.get_num_threads()
        lines = [
            f"{where}. Appareil : processeur, {threads} fil{'s' if threads > 1 else ''} de calcul. Le cours entier "
            "s'en contente ; sur Colab, un GPU s'allume par Exécution > Modifier le type d'exécution."
        ]
    if on_colab():
        lines.append("Rien n'est gardé de cette page : Fichier > Enregistrer une copie dans Drive, dès maintenant.")
    return typeset("\n".join(lines))


def on_colab() -> bool:
    """Vrai si le notebook tourne sur Google Colab."""
    return bool(find_spec("google") and find_spec("google.colab"))
