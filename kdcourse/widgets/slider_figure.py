"""Le mécanisme commun des curseurs, ``SliderFigure`` ; chaque widget y apporte sa figure et sa fonction d'état.

Rien ne s'entraîne ici : un curseur se promène sur des logits ou des mesures déjà là. Tous les états sont dessinés une
fois, quand la cellule s'exécute ; ``player.js`` les joue dans la page, noyau vivant ou arrêté.
"""

import base64
import html
import io
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from math import prod
from numbers import Real
from pathlib import Path

import anywidget
import matplotlib
import traitlets
from matplotlib.artist import Artist
from matplotlib.figure import Figure
from matplotlib.text import Text

from kdcourse.formats import french, thousands
from kdcourse.training.progress import Progress
from kdcourse.widgets.drawing import Drawing
from kdcourse.widgets.saved_state import hold

DPI = 100
MAX_STATES = 2_000
_PLAYER, _STYLE = (Path(__file__).with_name(f"player.{kind}").read_text("utf-8") for kind in ("js", "css"))
_PAGE = """<!DOCTYPE html>
<html lang="fr">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
:root {{ color-scheme: light dark; }}
body {{ margin: 1rem; font-family: system-ui, sans-serif; overflow-wrap: anywhere; }}
{css}</style>
</head>
<body>
<main>
<h1>{title}</h1>
{figure}
</main>
<script type="module">
{player}
playAll();
</script>
</body>
</html>
"""


@dataclass(frozen=True)
class Slider:
    """Un curseur : son nom, ses valeurs et leurs textes dans l'ordre, et celle du départ."""

    label: str
    values: tuple
    texts: tuple[str, ...]
    start: float | str
    named: bool = False
    """Des noms plutôt que des nombres : une liste les montre mieux qu'une échelle."""

    def __post_init__(self):
        plain = (value.item() if hasattr(value, "item") else value for value in self.values)
        object.__setattr__(self, "values", tuple(plain))
        if any(isinstance(value, float) and not math.isfinite(value) for value in self.values):
            raise ValueError(f"values : {list(self.values)} reçu, des nombres finis attendus.")
        if len(self.texts) != len(self.values):
            raise ValueError(f"texts : {len(self.texts)} textes reçus, {len(self.values)} attendus, un par valeur.")
        for field, shown in (("values", self.values), ("texts", self.texts)):
            if not shown or len(set(shown)) != len(shown):
                raise ValueError(f"{field} : {list(shown)} reçu, des valeurs toutes différentes attendues.")
        if self.start not in self.values:
            raise ValueError(f"start : {self.start!r} reçu, une valeur du curseur attendue : {', '.join(self.texts)}.")


def slider(label: str, values: Sequence[float], start: float, digits: int | None = None) -> Slider:
    """Un curseur de nombres, écrits à la française.

    Sans ``digits``, autant de décimales qu'il en faut pour écrire chaque valeur, trois au plus.
    """
    if not all(isinstance(value, Real) or getattr(value, "ndim", 1) == 0 for value in values):
        raise TypeError(f"values : {list(values)} reçu, des nombres attendus ; des noms se donnent par choice.")
    if digits is None:
        digits = next((d for d in range(3) if all(abs(round(v, d) - v) < 1e-6 for v in values)), 3)
    numbers = tuple(float(value) for value in values)
    return Slider(label, numbers, tuple(french(value, digits) for value in numbers), float(start))


def choice(label: str, names: Sequence[str]) -> Slider:
    """Une liste de noms ; le premier est choisi."""
    return Slider(label, tuple(names), tuple(names), next(iter(names), ""), named=True)


def unclipped(*artists: Artist) -> list[Artist]:
    """Des artistes qui ne sortent jamais de leur cadre : sans coupe, la page les affiche plus vite."""
    for artist in artists:
        artist.set_clip_on(False)
    return list(artists)


class OneOf(traitlets.TraitType):
    """Le trait d'un curseur : une de ses valeurs, et rien d'autre."""

    def __init__(self, choices: Slider):
        super().__init__(default_value=choices.start)
        self.choices = choices

    def validate(self, obj, value):
        value = value.item() if getattr(value, "ndim", 1) == 0 else value
        for known in self.choices.values:
            near = isinstance(known, float) and isinstance(value, Real) and math.isclose(value, known, rel_tol=1e-6)
            if near or type(value) in (str, int, float, bool) and value == known:  # 0,1 de float32 est 0,1
                return known
        shown = ", ".join(self.choices.texts)
        raise ValueError(f"{self.name} : {value!r} reçu, une valeur du curseur attendue : {shown}.")


class SliderFigure(anywidget.AnyWidget):
    """Des curseurs au-dessus d'une figure, que chaque mouvement met à jour sans rien demander au noyau.

    Chaque curseur est un attribut : ``widget.temperature`` se lit et se change.

    Args:
        figure: la figure, avec tout ce qui ne bouge pas.
        artists: les artistes que ``update`` modifie, dessinés par-dessus le reste, dans cet ordre.
        update: fonction qui reçoit les valeurs des curseurs, par leur nom, et modifie ``artists``.
        sliders: nom → curseur.

    Raises:
        ValueError: plus de ``MAX_STATES`` états, ou un état que matplotlib ne dessine pas.
    """

    _esm, _css = _PLAYER, _STYLE  # des textes : d'un chemin, anywidget suivrait le fichier et garderait chaque widget
    _ipython_display_ = None  # ipywidgets 7 passerait par là, sans l'image qui accompagne la vue
    played = traitlets.Dict().tag(sync=True)

    def __init__(
        self, figure: Figure, artists: Sequence[Artist], update: Callable[..., None], sliders: Mapping[str, Slider]
    ):
        self._check(figure, artists, sliders)
        self.figure, self.artists, self.update, self.sliders = figure, list(artists), update, dict(sliders)
        played = self._drawn()
        self._draw(*(control.start for control in self.sliders.values()))
        target = io.BytesIO()
        with matplotlib.rc_context({"savefig.bbox": None}):
            figure.savefig(target, format="png", dpi=DPI)
        self._png = target.getvalue()
        super().__init__(played=played)
        self.add_traits(**{name: OneOf(control).tag(sync=True) for name, control in self.sliders.items()})
        hold(self)
        # La figure suit : ``widget.figure.savefig(…)`` enregistre l'état que la page montre.
        self.observe(lambda _: self._draw(*(getattr(self, name) for name in self.sliders)), names=list(self.sliders))

    def _check(self, figure: Figure, artists: Sequence[Artist], sliders: Mapping[str, Slider]) -> None:
        """Des artistes de cette figure, chacun une fois, et des curseurs dont le nom est libre."""
        if not isinstance(sliders, Mapping) or not sliders:
            raise TypeError(f"sliders : {sliders!r} reçu, un dictionnaire nom → curseur attendu.")
        own = {"figure", "artists", "update", "sliders"}
        if taken := [name for name in sliders if not name.isidentifier() or name in own or hasattr(type(self), name)]:
            raise ValueError(
                f"sliders : {', '.join(taken)} reçu, un nom qui n'est pas déjà celui d'un attribut attendu."
            )
        if not isinstance(artists, Sequence) or not all(isinstance(artist, Artist) for artist in artists):
            raise TypeError("artists : une liste d'artistes de matplotlib attendue.")
        if len(set(artists)) < len(artists) or any(artist.get_figure() is not figure for artist in artists):
            raise ValueError("artists : des artistes de cette figure attendus, chacun une fois.")

    def _draw(self, *values) -> None:
        self.update(**dict(zip(self.sliders, values, strict=True)))

    @contextmanager
    def _drawable(self, values: Sequence) -> Iterator[None]:
        """Un état qui ne se dessine pas est dit par les valeurs de ses curseurs."""
        try:
            yield
        except Exception as error:
            state = ", ".join(
                f"{key} = {control.texts[control.values.index(value)]}"
                for (key, control), value in zip(self.sliders.items(), values, strict=True)
            )
            reason = f"{type(error).__name__} : {error}"
            name = type(self).__name__
            raise ValueError(f"{name} : l'état {state} ne se dessine pas ({reason}).") from error

    def _drawn(self) -> dict:
        """Ce que joue ``player.js`` : le fond, les morceaux, et ceux de chaque état, le dernier curseur d'abord."""
        controls, name = self.sliders.values(), type(self).__name__
        count = prod(len(control.values) for control in controls)
        if count > MAX_STATES:
            sizes = " × ".join(str(len(control.values)) for control in controls)
            raise ValueError(f"{name} : {thousands(count)} états ({sizes}), {thousands(MAX_STATES)} au plus attendus.")
        start = [control.start for control in controls]
        with self._drawable(start):
            self._draw(*start)
            drawing = Drawing(self.figure, self.artists)
        pieces, frames, words = {}, [], []
        with drawing, Progress(total=count, desc="États dessinés") as bar:
            for values in product(*(control.values for control in controls)):
                with self._drawable(values):
                    self._draw(*values)
                    frames.append([pieces.setdefault(piece, len(pieces)) for piece in drawing.pieces()])
                words.append(self._words())
                bar.update()
            background = drawing.background()
        described = [
            {"name": key, "label": c.label, "values": list(c.values), "texts": list(c.texts), "named": c.named}
            for key, c in self.sliders.items()
        ]
        return {
            "width": drawing.width, "height": drawing.height, "background": background,
            "pieces": list(pieces), "frames": frames, "words": words, "sliders": described,
        }  # fmt: skip

    def _words(self) -> str:
        """Ce que l'image écrit ; un nombre qui ne dit pas de quoi il parle le dit par son ``label``."""
        texts = [a for a in self.artists if isinstance(a, Text) and a.get_text() and a.get_visible()]
        return ". ".join(" : ".join(filter(None, [text.get_label(), text.get_text()])) for text in texts)

    def positions(self) -> list[int]:
        """Le rang de la valeur de chaque curseur."""
        return [control.values.index(getattr(self, name)) for name, control in self.sliders.items()]

    def state(self) -> int:
        """Le rang de l'état montré."""
        rank = 0
        for position, control in zip(self.positions(), self.sliders.values(), strict=True):
            rank = rank * len(control.values) + position
        return rank

    def svg(self) -> str:
        """L'image montrée, en un document SVG."""
        played, size = self.played, (self.played["width"], self.played["height"])
        shown = "".join(played["pieces"][piece] for piece in played["frames"][self.state()])
        return (
            '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
            f'viewBox="0 0 {size[0]} {size[1]}">{played["background"]}{shown}</svg>'
        )

    def to_fragment(self) -> str:
        """Le morceau de page que ``playAll`` de ``player.js`` met en mouvement : une figure du site, par exemple."""
        content = json.dumps({"played": self.played, "positions": self.positions()}, ensure_ascii=False)
        content = content.replace("<", "\\u003c")  # aucun texte ne peut fermer la balise
        return f'<div class="kd-figure"><script type="application/json">{content}</script></div>'

    def to_html(self, title: str = "Figure à curseurs") -> str:
        """Une page complète, sans rien d'extérieur : enregistrée, elle s'ouvre et bouge sans noyau ni réseau."""
        return _PAGE.format(title=html.escape(title), css=_STYLE, player=_PLAYER, figure=self.to_fragment())

    def _repr_mimebundle_(self, **kwargs):
        hold(self)
        # L'image accompagne la vue : GitHub et le papier montrent le premier état.
        data, metadata = super()._repr_mimebundle_(**kwargs)
        data["image/png"] = base64.b64encode(self._png).decode()
        metadata["image/png"] = {"alt": self.played["words"][self.state()]}
        data["text/plain"] = f"{type(self).__name__} : exécutez la cellule pour déplacer les curseurs."
        return data, metadata
