"""La même figure qu'un curseur du cours, telle qu'``interact`` la montre : construite de nouveau à chaque mouvement.

C'est le code du curseur lui-même qui la construit. Ce qu'un chapitre calcule une fois pour toutes (prédictions,
intervalles, curseurs) est enregistré à la première construction et rejoué ensuite, dans le même ordre : ``interact``
n'en paie rien, seulement la figure.
"""

import sys
from collections.abc import Callable
from unittest.mock import patch

from matplotlib.figure import Figure

from kdcourse.widgets.slider_figure import SliderFigure

_COMPUTED = (
    "bits", "calibration_state", "choice", "cloud_state", "logit_gradient", "map_state", "matching_gradient",
    "mean_interval", "most_uncertain", "predict", "relation_state", "slider", "softened", "sorted_by_class",
    "temperature_state", "tt_svd_steps",
)  # fmt: skip


class Rebuilt:
    """``figure(**valeurs)`` rend la figure d'un curseur, neuve ; ``sliders`` en sont les curseurs."""

    def __init__(self, make: Callable[[], SliderFigure]):
        self._make, self._tape = make, []
        self._module = sys.modules[type(make()).__module__]
        self.sliders = self._build(self._recorded)[2]

    def figure(self, **values) -> Figure:
        self._position = 0
        figure, update, _ = self._build(self._replayed)
        update(**values)
        return figure

    def _build(self, through: Callable) -> tuple:
        captured = []

        def capture(_self, figure, artists, update, sliders):
            captured.extend((figure, update, sliders))

        names = {name: through(vars(self._module)[name]) for name in _COMPUTED if name in vars(self._module)}
        with patch.object(SliderFigure, "__init__", capture), patch.multiple(self._module, **names):
            self._make()
        return tuple(captured)

    def _recorded(self, function: Callable) -> Callable:
        def call(*args, **kwargs):
            before = len(self._tape)
            result = function(*args, **kwargs)
            self._tape[before:] = [result]  # ce que la fonction a elle-même appelé ne sera pas rejoué
            return result

        return call

    def _replayed(self, function: Callable) -> Callable:
        def call(*args, **kwargs):
            self._position += 1
            return self._tape[self._position - 1]

        return call
