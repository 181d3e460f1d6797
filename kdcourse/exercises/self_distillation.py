"""Les exercices de 10.5."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.exercises.exercise import Exercise
from kdcourse.losses.self_distillation import label_smoothing_probabilities
from kdcourse.measures.calibration import expected_calibration_error


def _predictions(seed: int, count: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.softmax(2 * torch.randn(count, classes, generator=generator), dim=-1)
    return probabilities, torch.randint(classes, (count,), generator=generator)


_FEW, _MANY = _predictions(105, 7, 4), _predictions(106, 60, 3)


def _ece(probabilities: Tensor, labels: Tensor, bins: int) -> Tensor:
    return expected_calibration_error(probabilities.log(), labels, bins) / 100


def _ece_by(probabilities, labels, bins, weight=None, gap=torch.abs, confidence=None, ranked=None):
    """L'ECE dont un détail change : le poids des tranches, l'écart, la confiance, ou ce qui range les images."""
    best, answer = probabilities.max(-1)
    confidence, ranked = (best if f is None else f(probabilities, labels) for f in (confidence, ranked))
    right, which = (answer == labels).float(), (ranked * bins).ceil().long()
    groups = [which == k for k in which.unique()]
    weights = [g.float().mean() if weight is None else weight(len(groups), bins) for g in groups]
    gaps = [gap(right[g].mean() - confidence[g].mean()) for g in groups]
    return sum(w * g for w, g in zip(weights, gaps, strict=True))


def _of_label(probabilities, labels):
    return probabilities.gather(1, labels[:, None])[:, 0]


def _targets(labels, previous, epoch, epochs, largest):
    weight = largest * epoch / epochs
    return (1 - weight) * F.one_hot(labels, previous.shape[-1]) + weight * previous


EXERCISES = {
    "10.5 a": Exercise(
        cases=((_FEW[1], 4, 0.2), (_MANY[1], 3, 0.35)),
        reference=label_smoothing_probabilities,
        mistakes={
            "Les epsilon sont répartis sur les C - 1 autres classes ; dans la définition, la bonne en reçoit aussi sa "
            "part : epsilon / C partout.":
                lambda y, c, e: torch.where(F.one_hot(y, c) == 1, torch.tensor(1 - e), torch.tensor(e / (c - 1))),
            "La bonne classe reçoit aussi sa part, epsilon / C : ici la somme n'atteint pas 1.":
                lambda y, c, e: torch.where(F.one_hot(y, c) == 1, torch.tensor(1 - e), torch.tensor(e / c)),
            "L'uniforme partage epsilon entre les C classes, la bonne comprise : epsilon / C, non epsilon / (C - 1).":
                lambda y, c, e: (1 - e) * F.one_hot(y, c) + e / (c - 1),
            "La somme dépasse 1 : la bonne classe doit perdre ce que les autres reçoivent.":
                lambda y, c, e: F.one_hot(y, c) + e / c,
            "Les deux poids sont échangés : epsilon est la part de l'uniforme.":
                lambda y, c, e: e * F.one_hot(y, c) + (1 - e) / c,
            "Chaque classe reçoit epsilon entier : il se partage entre les C classes.":
                lambda y, c, e: (1 - e) * F.one_hot(y, c) + e,
            "Ce sont les étiquettes seules : où est epsilon ?": lambda y, c, e: F.one_hot(y, c).float(),
        },
    ),
    "10.5 b": Exercise(
        cases=((*_MANY, 10), (*_FEW, 5)),
        reference=_ece,
        mistakes={
            "Chaque tranche compte autant : elle doit compter pour sa part des images.":
                lambda p, y, b: _ece_by(p, y, b, weight=lambda filled, bins: 1 / filled),
            "Vous divisez par le nombre de tranches : chacune compte pour sa part des images, une vide pour rien.":
                lambda p, y, b: _ece_by(p, y, b, weight=lambda filled, bins: 1 / bins),
            "Le nombre de tranches est l'argument bins, non les 15 du chapitre.": lambda p, y, b: _ece(p, y, 15),
            "Il manque la valeur absolue : les tranches trop sûres et les trop prudentes se compensent.":
                lambda p, y, b: _ece_by(p, y, b, gap=lambda x: x),
            "L'écart est au carré : la définition prend sa valeur absolue.":
                lambda p, y, b: _ece_by(p, y, b, gap=torch.square),
            "La confiance est la plus grande probabilité, non celle de la bonne classe.":
                lambda p, y, b: _ece_by(p, y, b, confidence=_of_label),
            "La confiance, et donc la tranche, vient de la plus grande probabilité, non de celle de la bonne classe.":
                lambda p, y, b: _ece_by(p, y, b, confidence=_of_label, ranked=_of_label),
            "La confiance d'une tranche est la moyenne de celles de ses images, non le milieu de la tranche.":
                lambda p, y, b: _ece_by(p, y, b, confidence=lambda p, y: ((p.max(-1).values * b).ceil() - 0.5) / b),
            "L'écart se prend tranche par tranche, entre deux moyennes ; vous le prenez image par image.":
                lambda p, y, b: ((p.argmax(-1) == y).float() - p.max(-1).values).abs().mean(),
            "Une seule tranche : l'écart des moyennes. Il faut ranger les images par confiance d'abord.":
                lambda p, y, b: _ece(p, y, 1),
            "C'est un pourcentage : on le demande entre 0 et 1.": lambda p, y, b: 100 * _ece(p, y, b),
        },
        differentiable=False,
    ),
    "10.5 c": Exercise(
        cases=((_FEW[1], _FEW[0], 3, 10, 0.8), (_MANY[1], _MANY[0], 5, 8, 0.6)),
        reference=_targets,
        mistakes={
            "Le poids de la prédiction d'hier ne dépend pas de l'époque : il doit croître jusqu'à sa plus grande "
            "valeur.": lambda y, p, e, n, a: _targets(y, p, n, n, a),
            "Les deux poids sont échangés : la prédiction d'hier commence à peser peu.":
                lambda y, p, e, n, a: (a * e / n) * F.one_hot(y, p.shape[-1]) + (1 - a * e / n) * p,
            "Le poids de l'étiquette ne diminue pas : la somme dépasse 1.":
                lambda y, p, e, n, a: F.one_hot(y, p.shape[-1]) + (a * e / n) * p,
            "Seule la réponse d'hier est gardée : sa distribution entière doit l'être.":
                lambda y, p, e, n, a: _targets(y, F.one_hot(p.argmax(-1), p.shape[-1]), e, n, a),
            "La prédiction d'hier est moyennée sur le lot : chaque exemple a la sienne. C'est le bug du chapitre.":
                lambda y, p, e, n, a: _targets(y, p.mean(0).expand_as(p), e, n, a),
            "La prédiction d'hier est celle d'un autre exemple, décalée d'un rang. C'est le bug du chapitre.":
                lambda y, p, e, n, a: _targets(y, p.roll(1, 0), e, n, a),
            "L'époque va de 1 à epochs : à la dernière, le poids vaut exactement la plus grande valeur.":
                lambda y, p, e, n, a: _targets(y, p, e - 1, n, a),
            "Le poids part de zéro : il vaut déjà largest / epochs à la première époque, car il suit epoch / epochs.":
                lambda y, p, e, n, a: _targets(y, p, e - 1, n - 1, a),
            "La plus grande valeur de alpha est l'argument largest, non le 0,8 du chapitre.":
                lambda y, p, e, n, a: _targets(y, p, e, n, 0.8),
            "La plus grande valeur de alpha manque : le poids monte jusqu'à 1.":
                lambda y, p, e, n, a: _targets(y, p, e, n, 1.0),
        },
    ),
}  # fmt: skip
