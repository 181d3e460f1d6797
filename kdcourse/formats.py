"""Ce qui s'écrit en français : les nombres (virgule décimale, vrai signe moins, milliers séparés), les phrases."""

import re

# Le code, les formules, les adresses des liens et les balises ne sont pas de la prose.
_NOT_PROSE = re.compile(r"(```.*?```|`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]*\$|\]\([^)]*\)|<[^>]*>)", re.S)


def french(value: float, digits: int = 1) -> str:
    """Un nombre et ses décimales, zéros compris. ``french(-3.14) == "−3,1"``."""
    return _written(f"{value:.{digits}f}")


def short(value: float) -> str:
    """Un nombre sans zéro inutile, à six chiffres au plus. ``short(0.50) == "0,5"``, ``short(4.0) == "4"``."""
    return _written(f"{value:g}")


def thousands(count: int) -> str:
    """Un entier dont les milliers sont séparés par une espace insécable."""
    return _written(f"{count:_}").replace("_", "\N{NO-BREAK SPACE}")


def typeset(text: str) -> str:
    """Le même texte, avec les espaces insécables du français : ``typeset("1 000 : oui ?")``."""
    parts = _NOT_PROSE.split(text)
    for index in range(0, len(parts), 2):  # un rang sur deux est du texte, l'autre ce qu'on ne touche pas
        parts[index] = re.sub(r" ([:;?!%»])", "\N{NO-BREAK SPACE}\\1", parts[index])
        parts[index] = re.sub(r"« ", "«\N{NO-BREAK SPACE}", parts[index])
        parts[index] = re.sub(r"(?<=\d) (?=\d{3}\b)", "\N{NO-BREAK SPACE}", parts[index])
    # Après une formule, un mot de code ou une balise, l'espace ouvre le texte qui suit.
    return "".join(parts)


def say(*parts: object) -> None:
    """Affiche des phrases ou des tableaux Markdown sous la cellule, un paragraphe chacun."""
    from IPython.display import Markdown, display  # un notebook l'a ; les pertes seules ne le demandent pas

    display(Markdown(typeset("\n\n".join(map(str, parts)))))


def _written(text: str) -> str:
    if float(text) == 0:
        text = text.lstrip("-")  # un « −0,0 » n'apprend rien
    return text.replace(".", ",").replace("-", "−")
