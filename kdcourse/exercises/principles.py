"""Les exercices de 10.1."""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.exercises.exercise import ANY, Exercise, Prediction
from kdcourse.formats import short


def _random(seed: int, batch: int, classes: int) -> Tensor:
    return 5 * torch.randn(batch, classes, generator=torch.Generator().manual_seed(seed))


_LOGITS = _random(101, 6, 4)


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


def _with_answers(seed: int, answers: list[float], classes: int, share: float) -> tuple[Tensor, float]:
    """Des logits dont les températures cherchées sont ``answers``, et la première classe tantôt 0, tantôt une autre."""
    z = _random(seed, len(answers), classes).double()
    z = torch.stack([row.roll(int(column - row.argmax())) for column, row in enumerate(z)])
    return (z * (torch.tensor(answers) / _temperature(z, share))[:, None]).float(), share


# Des réponses sous 1, entre 1 et 7, au-dessus de 20 ; ni la première ni la dernière ne sont la plus petite ou la plus
# grande, aucune n'est sur une grille. La part est sous 1/C, puis au-dessus.
_SHARES = (
    _with_answers(110, [0.6183, 0.1327, 47.93, 1.744, 6.886, 4.237], 4, share=0.1),
    _with_answers(111, [2.673, 0.3728, 29.36, 0.8134, 6.384], 5, share=0.4),
    _with_answers(112, [1.326, 62.74, 0.2437, 38.63, 3.577], 3, share=0.55),
)


def _only_if(possible: bool, temperatures: Tensor) -> Tensor:
    """Sans solution, une recherche rend une de ses bornes, laquelle dépend de qui l'écrit."""
    return temperatures if possible else torch.full_like(temperatures, ANY)


def _within(low: float, high: float, temperatures: Tensor, exact: Tensor | None = None) -> Tensor:
    """Ces températures ; n'importe lesquelles là où la bonne réponse sort de [low, high]."""
    exact = temperatures if exact is None else exact
    return temperatures.masked_fill((exact < low) | (exact > high), ANY)


def _on_grid(step: float, pick: Callable[[Tensor, float], Tensor]) -> Callable[[Tensor, float], Tensor]:
    """La réponse de qui essaie des températures de ``step`` en ``step``, où que sa grille commence et finisse."""
    grid = torch.arange(1, 20 + step / 2, step, dtype=torch.float64)

    def answer(z: Tensor, share: float) -> Tensor:
        weights = torch.stack([_others(F.softmax(z.double() / T, dim=-1)) for T in grid])
        return _within(1, 20, grid[pick(weights, share)], _temperature(z, share))

    return answer


def _nearest(weights: Tensor, share: float) -> Tensor:
    return (weights - share).abs().argmin(dim=0)


def _first_above(weights: Tensor, share: float) -> Tensor:
    return (weights >= share).int().argmax(dim=0)


def _two_classes(z: Tensor, share: float) -> Tensor:
    first, second = z.topk(2, dim=-1).values.unbind(dim=-1)
    return (first - second) / torch.tensor((1 - share) / share).log()


EXERCISES = {
    "10.1 a": Exercise(
        cases=((_LOGITS, 3.0), (_LOGITS, 7.0)),
        reference=lambda z, T: F.softmax(z / T, dim=-1),
        mistakes={
            "La température ne change rien : à T = 1 comme à T = 20, vous rendez la même chose.":
                lambda z, T: F.softmax(z, dim=-1),
            "Vous divisez toujours par 4 : la température est celle que l'on vous donne.":
                lambda z, T: F.softmax(z / 4, dim=-1),
            "Vous multipliez par T : la prédiction se durcit au lieu de s'adoucir.":
                lambda z, T: F.softmax(z * T, dim=-1),
            "Vous divisez après le softmax : la somme ne fait plus 1. Où la température doit-elle agir ?":
                lambda z, T: F.softmax(z, dim=-1) / T,
            "C'est la puissance 1/T des probabilités : leur somme fait-elle encore 1 ?":
                lambda z, T: F.softmax(z, dim=-1) ** (1 / T),
            "Le softmax est appliqué deux fois : ce sont les logits que T divise, non les probabilités.":
                lambda z, T: F.softmax(F.softmax(z, dim=-1) / T, dim=-1),
            "Le softmax est appliqué deux fois : une fois adoucie, la prédiction est déjà faite.":
                lambda z, T: F.softmax(F.softmax(z / T, dim=-1), dim=-1),
            "Ce sont des exponentielles : leur somme fait-elle 1 ?": lambda z, T: (z / T).exp(),
            "Les exponentielles sont à T, leur somme à T = 1 : divisez par la somme de ce que vous rendez.":
                lambda z, T: (z / T).exp() / z.exp().sum(dim=-1, keepdim=True),
            "Une sigmoïde juge chaque classe à part : ici, elles se partagent 1.": lambda z, T: torch.sigmoid(z / T),
            "C'est un choix dur, 0 ou 1 : on attend la prédiction entière, chaque classe avec sa probabilité.":
                lambda z, T: F.one_hot(z.argmax(dim=-1), z.shape[-1]).float(),
            "La classe la plus probable est devenue la moins probable : regardez le signe.":
                lambda z, T: F.softmax(-z / T, dim=-1),
            "La somme fait T : une prédiction adoucie n'a pas de facteur devant elle.":
                lambda z, T: T * F.softmax(z / T, dim=-1),
            "La somme fait T² : ce facteur est celui de la perte, non de la prédiction.":
                lambda z, T: T**2 * F.softmax(z / T, dim=-1),
            "Vous divisez par T², ou deux fois par T : c'est trop doux.": lambda z, T: F.softmax(z / T**2, dim=-1),
            "La somme fait 1 le long du lot, non le long des classes : regardez dim.":
                lambda z, T: F.softmax(z / T, dim=0),
            "La somme fait 1 sur tout le lot : chaque ligne doit avoir la sienne.":
                lambda z, T: F.softmax((z / T).flatten(), dim=0).view_as(z),
            "Ce sont encore des logits : il manque le softmax.": lambda z, T: z / T,
            "Ce sont les logits reçus, inchangés.": lambda z, T: z.clone(),
            "Ce sont des logarithmes : on attend les probabilités.": lambda z, T: F.log_softmax(z / T, dim=-1),
        },
    ),
    "10.1 b": Exercise(
        differentiable=False,
        tolerance=1e-3,
        cases=_SHARES,
        reference=_temperature,
        mistakes={
            "Toutes les images ont la plus petite des températures : que décide la comparaison, si une seule passe ?":
                lambda z, share: _temperature(z, share).amin().expand(len(z)),
            "Toutes les images ont la plus grande des températures : que décide la comparaison, si une seule passe ?":
                lambda z, share: _temperature(z, share).amax().expand(len(z)),
            "Toutes les images ont la température de la première : chacune a la sienne.":
                lambda z, share: _temperature(z, share)[:1].expand(len(z)),
            "Toutes les images ont la température de la dernière : que garde votre boucle, d'une image à l'autre ?":
                lambda z, share: _temperature(z, share)[-1:].expand(len(z)),
            "Une seule température pour tout le lot, où les parts valent share en moyenne : chaque image a la sienne.":
                lambda z, share: _temperature(z, share, lambda p: _others(p).mean().expand(len(p))),
            "C'est la moyenne des températures du lot : chaque image a la sienne.":
                lambda z, share: _temperature(z, share).mean().expand(len(z)),
            "C'est la part des autres classes à T = 1 : on demande la température où elle vaut share.":
                lambda z, share: _others(F.softmax(z, dim=-1)),
            "Vous rendez la part, qui vaut bien share : on demande la température où elle le vaut.":
                lambda z, share: torch.full(z.shape[:1], share),
            "C'est 1/T. Par quoi divise-t-on les logits ?": lambda z, share: 1 / _temperature(z, share),
            "C'est le logarithme de la température : comment en revenir ?":
                lambda z, share: _temperature(z, share).log(),
            "C'est le logarithme décimal de la température : comment en revenir ?":
                lambda z, share: _temperature(z, share).log10(),
            "C'est le logarithme de base 2 de la température : comment en revenir ?":
                lambda z, share: _temperature(z, share).log2(),
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
            "La dernière classe pèse share à elle seule : où sont passées celles d'avant ?":
                lambda z, share: _only_if(share < 1 / z.shape[-1], _temperature(z, share, lambda p: p.amin(dim=-1))),
            "Les autres classes pèsent share fois la première : share est une part du total.":
                lambda z, share: _temperature(z, share / (1 + share)),
            "Cette formule oppose la première classe à la deuxième, seules : les autres pèsent aussi.": _two_classes,
            "Le softmax est appliqué deux fois : c'est aux logits, non aux probabilités, que T s'applique.":
                lambda z, share: _only_if(
                    share < 1 / z.shape[-1], _temperature(F.softmax(z, dim=-1), share)
                ),
            "Des réponses au-dessus de 20 sont fausses, les autres sont justes : jusqu'où cherchez-vous ?":
                lambda z, share: _within(0, 20, _temperature(z, share)),
            "Des réponses sous 1 sont fausses, les autres sont justes, ou presque : d'où part votre recherche, et son "
            "pas y est-il assez fin ?": lambda z, share: _within(1, float("inf"), _temperature(z, share)),
            "Des réponses sous 1 et au-dessus de 20 sont fausses, les autres sont justes, ou presque : d'où part votre "
            "recherche, et où finit-elle ?": lambda z, share: _within(1, 20, _temperature(z, share)),
            "C'est juste quand la classe la plus probable est la colonne 0 : où est-elle, ailleurs ?":
                lambda z, share: _temperature(z, share).masked_fill(z.argmax(dim=-1) != 0, ANY),
        } | {
            f"Vous essayez les températures de {short(step)} en {short(step)}, et gardez {kept} : la réponse tombe "
            "entre deux. Comment y chercher encore ?": _on_grid(step, pick)
            for step in (1.0, 0.5, 0.1)
            for kept, pick in (("la meilleure", _nearest), ("la première où les autres pèsent assez", _first_above))
        },
    ),
}  # fmt: skip

PREDICTIONS = {
    "10.1 c": Prediction(
        expected=3.0,
        mistakes={
            "C'est le gain des bonnes étiquettes : donnez noisy à train_many.": -0.2,
            "Ce sont 1 200 pas : on en demande 300, donc 30 époques de dix lots.": 10.4,
            "Ce sont 3 000 pas : 300 époques de dix lots. On demande 300 pas.": 20.4,
            "Ce sont 30 pas : trois époques de dix lots. On demande 300 pas.": -12.4,
            "C'est le gain en validation : on demande celui du test.": 1.4,
        },
        tolerance=1.5,
        lesson="Le teacher a appris sur de bonnes étiquettes : il corrige celles du student, à T = 1 comme à T = 20.",
    )
}
