"""Une cellule d'élève, réduite à ce qui ne peut rien faire dans le navigateur du correcteur : texte et images."""

import re
from base64 import b64encode
from urllib.parse import quote

from nbformat.v4 import new_code_cell, new_markdown_cell, new_output, new_raw_cell

_MAX_TEXT, _MAX_PICTURE = 20_000, 8_000_000  # caractères gardés d'une sortie, et d'une image codée (6 Mo)
_PICTURES = ("image/png", "image/jpeg", "image/gif")  # celles que montre nbconvert
# Un SVG peut porter un script, qu'aucun navigateur n'exécute dans une balise <img> : il n'est gardé que là.
_IN_TAGS = ("image/svg+xml", "image/webp")
_SAFE = r"https?://|#|attachment:|data:image/(?:png|jpeg|gif|webp|svg\+xml);base64,"  # où un lien peut mener
_ANCHOR = re.compile(r"<!-- réponse [\w. ]+ -->")


def new_cell(kind: str, source: str):
    """Une cellule neuve : code, texte, ou brute."""
    return {"code": new_code_cell, "markdown": new_markdown_cell}.get(kind, new_raw_cell)(source)


def plain_copy(cell):
    """La même cellule, réduite à son texte, à ses images et à des sorties qui ne peuvent rien faire."""
    copy = new_cell(cell.cell_type, clean(cell.source))
    if cell.cell_type == "code":
        copy.outputs = [kept for output in cell.get("outputs", []) if (kept := _harmless(output)) is not None]
    else:
        copy.source, pictures = _pictures(copy.source, cell.get("attachments", {}))
        if pictures:
            copy["attachments"] = pictures
    return copy


def without_html(text: str) -> str:
    """Le même texte, sans balise, entité ni lien actif : une espace sans chasse en sépare les deux premiers signes.

    Le correcteur lit les copies dans Formgrader : un script y changerait les notes. Restent les liens http, les ancres
    et les images.
    """
    anchor = _ANCHOR.match(text)
    kept = anchor[0] if anchor else ""
    text = re.sub(r"(<(?=[A-Za-z/!?])|&(?=[#A-Za-z])|\\(?=href|require))", "\\1\u200b", text[len(kept) :])
    return kept + re.sub(rf"\](?=\s*\((?!\s*(?:{_SAFE}))|:(?!\s*(?:{_SAFE})))", "]\u200b", text)


def clean(text) -> str:
    """Un texte qui s'écrit en UTF-8 : un demi-caractère isolé deviendrait sinon une copie sans note."""
    return str(text).encode("utf-8", "replace").decode()


def _pictures(source: str, attachments: dict) -> tuple[str, dict]:
    """Les images collées dans une cellule, si ce sont des images, et son texte, qui dit celles qui n'y sont plus."""
    kept, renamed = {}, {}
    for name, bundle in attachments.items():
        if pictures := {kind: data for kind, data in bundle.items() if kind in _PICTURES + _IN_TAGS and _encoded(data)}:
            renamed[name] = re.sub(r"[^\w.-]", "_", name)  # un nom à espaces ne se lit qu'entre chevrons
            kept[renamed[name]] = pictures
    source = re.sub(r"""<img\b[^>]*?src=["']attachment:([^"'>]+)["'][^>]*>""", r"![image](<attachment:\1>)", source)
    for name in sorted(renamed, key=len, reverse=True):
        for written in {name, quote(name)}:
            source = source.replace(f"<attachment:{written}>", f"attachment:{renamed[name]}")
            source = source.replace(f"attachment:{written}", f"attachment:{renamed[name]}")
    known = "|".join(re.escape(name) for name in sorted(kept, key=len, reverse=True)) or "(?!)"
    gone = rf"<?attachment:(?!(?:{known})(?![\w.-]))"
    return re.sub(gone, "image ôtée, trop lourde ou d'un type inconnu, à voir dans la remise : ", source), kept


def _encoded(data) -> bool:
    return isinstance(data, str) and len(data) < _MAX_PICTURE and re.fullmatch(r"[A-Za-z0-9+/=\s]+", data) is not None


def _harmless(output):
    """Du texte et des images : ni HTML ni JavaScript de l'élève, que le navigateur du correcteur exécuterait."""
    kind = output.get("output_type")
    if kind == "stream":
        return new_output("stream", name="stdout", text=clean(output.get("text", ""))[:_MAX_TEXT])
    if kind == "error":
        return new_output(
            "stream", name="stdout", text=clean(f"{output.get('ename')} : {output.get('evalue')}")[:_MAX_TEXT]
        )
    data = output.get("data", {})
    kept = {kind: data[kind] for kind in _PICTURES if _encoded(data.get(kind))}
    text = data.get("text/plain", "") if kept else data.get("text/markdown", data.get("text/plain", ""))
    for kind in () if kept else _IN_TAGS:
        content = data.get(kind)
        if isinstance(content, str) and kind == "image/svg+xml":
            content = b64encode(content.encode("utf-8", "replace")).decode()
        if _encoded(content):
            kept["text/html"] = f'<img alt="Figure de la copie" src="data:{kind};base64,{content}">'
    if not kept and any(kind in data for kind in _PICTURES + _IN_TAGS):
        text = f"{text}\n(image ôtée, trop lourde : voyez la remise)"
    kept["text/plain"] = clean(text)[:_MAX_TEXT]
    return new_output("display_data", data=kept)
