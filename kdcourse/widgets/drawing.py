"""Une figure à curseurs en SVG : son fond une fois, puis, pour chaque état, les seuls artistes qui bougent.

Tout est dessiné par matplotlib ; n'importe quel artiste qu'il sait écrire en SVG convient. Un morceau identique d'un
état à l'autre n'est gardé qu'une fois, et les coordonnées sont arrondies au dixième de point.
"""

import base64
import hashlib
import io
import re
from collections.abc import Sequence
from contextlib import ExitStack
from functools import lru_cache
from itertools import count, pairwise

import matplotlib
import numpy as np
from matplotlib.artist import Artist
from matplotlib.backends.backend_svg import RendererSVG
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from PIL import Image

_POINTS = 72  # points par pouce, l'unité d'un SVG de matplotlib
_salts = count()
_ANONYMOUS = dict.fromkeys(("Date", "Creator", "Format", "Type"))  # des milliers de morceaux, aucun n'a de notice
_NUMBER = re.compile(r"-?\d+\.\d+")
_COORDINATES = re.compile(r' (?:d|x|y|width|height|points)="[^"]*"|translate\([^)]*\)')
_NOISE = re.compile(r"<!--.*?-->|<\?xml.*?\?>|<!DOCTYPE.*?>|\n", re.S)
_STYLE = (
    '<defs><style type="text/css">*{stroke-linejoin: round; stroke-linecap: butt}</style></defs>'  # dans player.css
)
_TAG = re.compile(r"<[^<>]+>")  # ce que les données écrivent est échappé : rien n'y est touché
_USELESS = re.compile(
    r"""(?<=<g) id="[^"]*"| font-family: 'DejaVu Sans'[^;"]*;?| transform="rotate\(-?0 [^)]*\)"| id="image[^"]*\""""
)
_PICTURE = re.compile(r"(?<=data:image/png;base64,)[^\"]*")
_SHARED = re.compile(r'<(clipPath|pattern) id="([^"]*)".*?</\1>', re.S)
_REFERENCE = re.compile(r"(?<=url\(#)\w+")


class Drawing:
    """Le fond d'une figure, ses morceaux et les formes où ils sont coupés, tous en SVG.

    Args:
        figure: la figure, avec tout ce qui ne bouge pas.
        moving: les artistes qui bougent, du plus profond au plus proche.

    Se dessine dans un bloc ``with``, qui rend la figure à sa résolution.
    """

    def __init__(self, figure: Figure, moving: Sequence[Artist]):
        self.figure, self.moving = figure, list(moving)
        for image in figure.findobj(lambda artist: type(artist) is AxesImage):
            image.set_interpolation("none")  # chacune à sa propre résolution, non à celle de la figure
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # la mise en page est faite : plus rien ne bouge que les artistes
        self.width, self.height = (_POINTS * inches for inches in figure.get_size_inches())
        # Le texte reste du texte : un lecteur d'écran le lit. Le sel rend les noms stables, et propres à cette figure.
        self._salt = f"kd{next(_salts)}"
        self._style = {
            "svg.fonttype": "none",
            "svg.hashsalt": self._salt,
            "svg.image_inline": True,
            "savefig.bbox": None,
        }
        self._shared: dict[str, str] = {}
        self._open = ExitStack()

    def __enter__(self) -> "Drawing":
        self._open.enter_context(matplotlib.rc_context(self._style))
        self._open.callback(self.figure.set_dpi, self.figure.dpi)
        self.figure.dpi = _POINTS
        return self

    def __exit__(self, *error) -> None:
        self._open.close()

    def pieces(self) -> list[str]:
        """Un morceau par artiste, dans l'état où il est ; vide s'il est invisible."""
        target, ends = io.StringIO(), []
        renderer = RendererSVG(self.width, self.height, target, image_dpi=_POINTS, metadata=_ANONYMOUS)
        for artist in (None, *self.moving):
            if artist:
                artist.draw(renderer)
            renderer._markers.clear()  # un morceau ne renvoie pas à la forme d'un autre, qui peut changer
            renderer.writer.flush()
            ends.append(target.tell())
        renderer.finalize()
        svg = target.getvalue()
        named = self._keep(svg[ends[-1] :])
        return [_light(svg[start:end], named) for start, end in pairwise(ends)]

    def background(self) -> str:
        """Le fond, sans les artistes qui bougent ; à demander une fois tous les morceaux dessinés."""
        shown = [artist.get_visible() for artist in self.moving]
        target = io.StringIO()
        for artist in self.moving:
            artist.set_visible(False)
        self.figure.savefig(target, format="svg", metadata=_ANONYMOUS)
        for artist, visible in zip(self.moving, shown, strict=True):
            artist.set_visible(visible)
        svg = _NOISE.sub("", target.getvalue())
        named = self._keep(svg)
        inside = svg[svg.index(">", svg.index("<svg")) + 1 : svg.rindex("</svg>")]
        return f"<defs>{''.join(self._shared.values())}</defs>{_light(_SHARED.sub('', inside), named)}"

    def _keep(self, svg: str) -> dict[str, str]:
        """Retient les formes de coupe et les hachures, communes à tous les morceaux ; rend leurs nouveaux noms.

        matplotlib les nomme par leur rang dans un document : d'un état à l'autre, deux formes auraient le même nom.
        """
        named = {}
        for found in _SHARED.finditer(svg):
            body = _NOISE.sub("", found[0]).replace(f' id="{found[2]}"', "", 1)
            named[found[2]] = name = f"{self._salt}-{hashlib.sha256(body.encode()).hexdigest()[:10]}"
            self._shared[name] = body.replace(f"<{found[1]}", f'<{found[1]} id="{name}"', 1)
        return named


def _light(svg: str, named: dict[str, str]) -> str:
    """Un fragment de SVG, allégé, dont les renvois suivent les nouveaux noms ; ses textes ne sont pas touchés."""

    def lighter(found: re.Match) -> str:
        tag = _REFERENCE.sub(lambda name: named.get(name[0], name[0]), _USELESS.sub("", found[0]))
        tag = _COORDINATES.sub(lambda part: _NUMBER.sub(_tenth, part[0]), tag)
        return _PICTURE.sub(lambda picture: _with_palette(picture[0]), tag)

    svg = re.sub(r">\s+<", "><", _NOISE.sub("", svg)).strip().replace(_STYLE, "")
    return _TAG.sub(lighter, svg).replace("<defs></defs>", "")


def _tenth(number: re.Match) -> str:
    text = f"{float(number[0]):.1f}".removesuffix(".0")
    return "0" if text == "-0" else text


@lru_cache
def _with_palette(encoded: str) -> str:
    """Le même PNG, un octet par pixel s'il n'a que 256 couleurs, ce qu'a toujours une carte de couleurs."""
    pixels = np.asarray(Image.open(io.BytesIO(base64.b64decode(encoded))).convert("RGBA"))
    colors, ranks = np.unique(pixels.reshape(-1, 4), axis=0, return_inverse=True)
    if len(colors) > 256:
        return encoded
    picture, target = Image.fromarray(ranks.reshape(pixels.shape[:2]).astype(np.uint8)), io.BytesIO()
    picture.putpalette(colors.tobytes(), "RGBA")
    picture.save(target, format="png", optimize=True)
    return base64.b64encode(target.getvalue()).decode()
