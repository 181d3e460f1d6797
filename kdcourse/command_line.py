"""Ce que partagent les commandes du projet : des options et des refus en français."""

import argparse
import re


class FrenchParser(argparse.ArgumentParser):
    """``argparse``, dont l'aide et les refus se lisent en français ; une option ne s'abrège pas."""

    def __init__(self, prog: str, description: str, **options):
        super().__init__(
            prog, "%(prog)s [options]", description, add_help=False, allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter, **options,
        )  # fmt: skip
        self.add_argument("-h", "--help", action="help", help="affiche cette aide")

    def error(self, message: str) -> None:
        """Dit le refus en une phrase, et quitte avec le code 2."""
        for english, french in _MESSAGES.items():
            message = re.sub(english, french, message)
        self.exit(2, f"Erreur. {message.rstrip('.')}. L'option --help les donne toutes.\n")


_MESSAGES = {
    "unrecognized arguments:": "option inconnue :",
    r"argument (\S+): ": r"option \1 : ",
    "expected one argument": "une valeur attendue",
    "expected at least one argument": "au moins une valeur attendue",
    "expected 2 arguments": "deux valeurs attendues",
    "invalid choice: ": "",
    r"\(choose from ": "reçu (une de ",
}


def number(text: str) -> float:
    """Un nombre, que sa décimale suive un point ou une virgule."""
    try:
        return float(text.replace(",", "."))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} reçu, un nombre attendu") from None


def integer(text: str) -> int:
    """Un entier."""
    try:
        return int(text)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} reçu, un entier attendu") from None


def positive(text: str) -> int:
    """Un nombre de choses : un entier ≥ 1."""
    if integer(text) < 1:
        raise argparse.ArgumentTypeError(f"{text} reçu, un entier ≥ 1 attendu")
    return int(text)


def several(text: str) -> int:
    """Assez de choses pour un intervalle : un entier ≥ 2."""
    if integer(text) < 2:
        raise argparse.ArgumentTypeError(f"{text} reçu, un entier ≥ 2 attendu : un intervalle veut deux mesures")
    return int(text)
