"""Un nombre tel qu'il s'écrit en français : virgule décimale, vrai signe moins, milliers séparés."""


def french(value: float, digits: int = 1) -> str:
    """Un nombre et ses décimales, zéros compris. ``french(-3.14) == "−3,1"``."""
    return _written(f"{value:.{digits}f}")


def short(value: float) -> str:
    """Un nombre sans zéro inutile, à six chiffres au plus. ``short(0.50) == "0,5"``, ``short(4.0) == "4"``."""
    return _written(f"{value:g}")


def thousands(count: int) -> str:
    """Un entier dont les milliers sont séparés par une espace insécable."""
    return _written(f"{count:_}").replace("_", "\N{NO-BREAK SPACE}")


def _written(text: str) -> str:
    if float(text) == 0:
        text = text.lstrip("-")  # un « −0,0 » n'apprend rien
    return text.replace(".", ",").replace("-", "−")
