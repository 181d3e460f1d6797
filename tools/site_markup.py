"""Ce que les pages du site écrivent en HTML : les formules, et le début d'un pli."""

import html
import re

from latex2mathml.converter import convert


def mathml(text: str, **options) -> str:
    """Une formule. La virgule de « 0,5 » n'est pas celle d'une liste : aucun blanc ne la suit."""
    return convert(re.sub(r"(?<=\d),(?=\d)", r"\\text{,}", text), **options)


def folds_in_html(source: str) -> str:
    """Une cellule, dont chaque pli commence en HTML : jusqu'à une ligne vide, Markdown n'y lit rien."""
    return re.sub(r"^<details>.*?(?=\n\n|\Z)", lambda fold: in_html(fold[0]), source, flags=re.M | re.S)


def in_html(text: str) -> str:
    """Formules, code, gras et italique, en HTML."""
    text = re.sub(r"\$([^$\n]+)\$", lambda formula: mathml(formula[1]), text)
    text = re.sub(r"`([^`\n]+)`", lambda code: f"<code>{html.escape(code[1])}</code>", text)
    text = re.sub(r"\*\*([^*\n]+)\*\*", r"<b>\1</b>", text)
    return re.sub(r"(?<![\w*])\*([^*\n]+)\*(?![\w*])", r"<i>\1</i>", text)
