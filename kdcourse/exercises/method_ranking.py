"""Les exercices du Bilan."""

import torch
from torch import Tensor

from kdcourse.exercises.exercise import Exercise, Prediction


def _runs(gap: Tensor, spread: Tensor, quantile: float = 1.96) -> Tensor:
    return (quantile * spread / gap).square().ceil()


_CASES = (
    (torch.tensor([0.4, 1.1, 0.25, 2.3]), torch.tensor([1.7, 0.9, 2.2, 3.1])),
    (torch.tensor([0.7, 0.15, 1.9]), torch.tensor([2.6, 0.8, 5.3])),
)

EXERCISES = {
    "Bilan a": Exercise(
        differentiable=False,
        cases=_CASES,
        reference=_runs,
        mistakes={
            "Il manque le carré : la largeur décroît comme la racine du nombre de graines.":
                lambda gap, spread: (1.96 * spread / gap).ceil(),
            "Il manque le 1,96 : l'intervalle est à 95 %, non à une erreur type.":
                lambda gap, spread: _runs(gap, spread, 1.0),
            "Un nombre de graines est entier : arrondissez vers le haut.":
                lambda gap, spread: (1.96 * spread / gap).square(),
            "Vous arrondissez vers le bas : avec une graine de moins, l'intervalle est encore trop large.":
                lambda gap, spread: (1.96 * spread / gap).square().floor(),
            "Vous arrondissez au plus proche : vers le bas, l'intervalle est encore trop large.":
                lambda gap, spread: (1.96 * spread / gap).square().round(),
            "C'est une graine de trop : la demi-largeur peut égaler le gain.":
                lambda gap, spread: (1.96 * spread / gap).square().floor() + 2,
            "Vous comparez la largeur entière au gain : c'est la demi-largeur.":
                lambda gap, spread: _runs(gap, spread, 2 * 1.96),
            "La différence est déjà appariée : pas de facteur 2 pour deux students.":
                lambda gap, spread: _runs(gap, spread, 2**0.5 * 1.96),
            "spread est un écart type : il entre au carré, comme gap.":
                lambda gap, spread: (1.96**2 * spread / gap**2).ceil(),
            "La fraction est à l'envers : plus le gain est petit, plus il faut de graines.":
                lambda gap, spread: _runs(spread, gap),
        },
    ),
}  # fmt: skip

PREDICTIONS = {
    "Bilan b": Prediction(
        expected=0.3,
        mistakes={
            "Ce sont les gains à 400 pas : on demande 100 pas, donc l'époque short.": 0.7,
            "C'est le laboratoire A seul : gain rend un nombre par laboratoire.": 1.3,
            "C'est le hint moins KD : comparez au student seul.": -3.8,
        },
        tolerance=0.15,
        lesson="Dix graines d'un laboratoire ne font pas dix laboratoires : elles partagent son teacher et ses images.",
    )
}
