"""Les exercices de 10.1."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.exercises.exercise import ANY, Exercise, Prediction


def _random(seed: int, *scales: float, classes: int) -> Tensor:
    """Des logits, un exemple par échelle."""
    generator = torch.Generator().manual_seed(seed)
    return torch.tensor(scales)[:, None] * torch.randn(len(scales), classes, generator=generator)


_LOGITS = _random(101, 5, 5, 5, 5, 5, 5, classes=4)
# À chaque jeu, des réponses sous 1, entre 1 et 20, au-dessus de 20. La part est d'abord sous 1/C, puis au-dessus.
_SHARES = (
    (_random(110, 0.5, 0.9, 4, 7, 50, 90, classes=4), 0.1),
    (_random(111, 0.5, 3, 10, 40, 50, classes=5), 0.4),
    (_random(112, 0.2, 0.6, 2, 10, 60, classes=3), 0.55),
)


def _others(p: Tensor) -> Tensor:
    return 1 - p.amax(dim=-1)


def _temperature(z: Tensor, share: float, weight: Callable[[Tensor], Tensor] = _others) -> Tensor:
    """La température où ``weight`` des prédictions adoucies vaut ``share``, si elle croît avec T : une dichotomie."""
    low, high = (torch.full(z.shape[:1], bound, dtype=torch.float64) for bound in (-14.0, 14.0))
    for _ in range(60):
        middle = (low + high) / 2
        below = weight(F.softmax(z / middle.exp()[:, None], dim=-1)) < share
        low, high = torch.where(below, middle, low), torch.where(below, high, middle)
    return high.exp()


def _only_if(possible: bool, temperatures: Tensor) -> Tensor:
    """Sans solution, une recherche rend une de ses bornes, laquelle dépend de qui l'écrit."""
    return temperatures if possible else torch.full_like(temperatures, ANY)


def _first_column(z: Tensor, share: float) -> Tensor:
    return _temperature(z, share).masked_fill(z.argmax(dim=-1) != 0, ANY)


def _on_integers(z: Tensor, share: float) -> Tensor:
    grid = torch.arange(1.0, 21.0)
    weights = torch.stack([_others(F.softmax(z / T, dim=-1)) for T in grid])
    return grid[(weights - share).abs().argmin(dim=0)]


def _two_classes(z: Tensor, share: float) -> Tensor:
    first, second = z.topk(2, dim=-1).values.unbind(dim=-1)
    return (first - second) / torch.tensor((1 - share) / share).log()


EXERCISES = {
    "10.1 a": Exercise(
        cases=((_LOGITS, 3.0), (_LOGITS, 7.0)),
        reference=lambda z, T: F.softmax(z / T, dim=-1),
        mistakes={
            "La température n'apparaît pas : à T = 1 comme à T = 20, vous rendez la même chose.":
                lambda z, T: F.softmax(z, dim=-1),
            "Vous multipliez par T : la prédiction se durcit au lieu de s'adoucir.":
                lambda z, T: F.softmax(z * T, dim=-1),
            "Vous divisez après le softmax : la somme ne fait plus 1. Où la température doit-elle agir ?":
                lambda z, T: F.softmax(z, dim=-1) / T,
            "La somme fait 1 le long du lot, non le long des classes : regardez dim.":
                lambda z, T: F.softmax(z / T, dim=0),
            "La somme fait 1 sur tout le lot : chaque ligne doit avoir la sienne.":
                lambda z, T: F.softmax((z / T).flatten(), dim=0).view_as(z),
            "Ce sont encore des logits : il manque le softmax.": lambda z, T: z / T,
            "Ce sont des logarithmes : on attend les probabilités.": lambda z, T: F.log_softmax(z / T, dim=-1),
        },
    ),
    "10.1 b": Exercise(
        differentiable=False,
        tolerance=1e-3,
        cases=_SHARES,
        reference=_temperature,
        mistakes={
            "Toutes ces températures sont entre 1 et 20 : la réponse est parfois plus froide, parfois plus chaude.":
                lambda z, share: _temperature(z, share).clamp(1, 20),
            "Aucune de ces températures ne dépasse 20 : celle de l'image le peut. Jusqu'où cherchez-vous ?":
                lambda z, share: _temperature(z, share).clamp(max=20),
            "Aucune de ces températures n'est sous 1 : que faire d'une prédiction déjà trop douce à T = 1 ?":
                lambda z, share: _temperature(z, share).clamp(min=1),
            "Vous n'essayez que des températures entières, de 1 à 20 : la réponse tombe entre elles, ou hors d'elles.":
                _on_integers,
            "Une seule température pour tout le lot, où les parts valent share en moyenne : chaque image a la sienne.":
                lambda z, share: _temperature(z, share, lambda p: _others(p).mean().expand(len(p))),
            "Toutes les images ont la plus petite des températures : que décide la comparaison, si une seule passe ?":
                lambda z, share: _temperature(z, share).amin().expand(len(z)),
            "Toutes les images ont la plus grande des températures : que décide la comparaison, si une seule passe ?":
                lambda z, share: _temperature(z, share).amax().expand(len(z)),
            "Toutes les images ont la température de la première : chacune a la sienne.":
                lambda z, share: _temperature(z, share)[:1].expand(len(z)),
            "Ici, c'est la première classe qui pèse share : combien pèsent alors les autres ?":
                lambda z, share: _only_if(share > 1 / z.shape[-1], _temperature(z, 1 - share)),
            "La deuxième classe pèse share à elle seule : où sont passées les suivantes ?":
                lambda z, share: _only_if(
                    share < 1 / z.shape[-1], _temperature(z, share, lambda p: p.topk(2).values[:, 1])
                ),
            "Les autres classes pèsent share en moyenne : elles doivent le peser ensemble.":
                lambda z, share: _only_if(
                    share < 1 / z.shape[-1], _temperature(z, share, lambda p: _others(p) / (p.shape[-1] - 1))
                ),
            "Les autres classes pèsent share fois la première : share est une part du total.":
                lambda z, share: _temperature(z, share / (1 + share)),
            "C'est juste quand la classe la plus probable est la colonne 0 : où est-elle, ailleurs ?": _first_column,
            "Cette formule oppose la première classe à la deuxième, seules : les autres pèsent aussi.": _two_classes,
            "C'est 1/T. Par quoi divise-t-on les logits ?": lambda z, share: 1 / _temperature(z, share),
            "C'est le logarithme de la température : comment en revenir ?":
                lambda z, share: _temperature(z, share).log(),
            "C'est le logarithme décimal de la température : comment en revenir ?":
                lambda z, share: _temperature(z, share).log10(),
            "C'est la part des autres classes à T = 1 : on demande la température où elle vaut share.":
                lambda z, share: _others(F.softmax(z, dim=-1)),
            "Vous rendez la part, qui vaut bien share : on demande la température où elle le vaut.":
                lambda z, share: torch.full(z.shape[:1], share),
            "Le softmax est appliqué deux fois : c'est aux logits, non aux probabilités, que T s'applique.":
                lambda z, share: _temperature(F.softmax(z, dim=-1), share),
        },
    ),
}  # fmt: skip

PREDICTIONS = {
    "10.1 c": Prediction(
        expected=3.0,
        mistakes={
            "C'est le gain des bonnes étiquettes : donnez noisy à train_many.": -0.2,
            "Ce sont 1 200 pas : on en demande 300, donc 30 époques de dix lots.": 10.4,
        },
        tolerance=1.5,
        lesson="Le teacher a appris sur de bonnes étiquettes : il corrige celles du student.",
    )
}
