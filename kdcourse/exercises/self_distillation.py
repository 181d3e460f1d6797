"""Les exercices de 10.5."""

import torch
import torch.nn.functional as F
from torch import Tensor

from kdcourse.exercises.exercise import ANY, Exercise, Prediction
from kdcourse.losses.self_distillation import label_smoothing_probabilities
from kdcourse.measures.calibration import expected_calibration_error


def _predictions(seed: int, count: int, classes: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    probabilities = torch.softmax(2 * torch.randn(count, classes, generator=generator), dim=-1)
    labels = torch.randint(classes, (count,), generator=generator)
    lucky = torch.rand(count, generator=generator) < 0.4  # des tranches trop sûres, d'autres trop prudentes
    return probabilities, torch.where(lucky, probabilities.argmax(-1), labels)


_FEW, _MANY = _predictions(105, 9, 4), _predictions(106, 60, 3)


def _ece(probabilities: Tensor, labels: Tensor, bins: int) -> Tensor:
    return expected_calibration_error(probabilities.log(), labels, bins) / 100


def _ece_by(probabilities, labels, bins, weight=None, gap=torch.abs, confidence=None, ranked=None, shared=False):
    """L'ECE dont un détail change : le poids, l'écart, la confiance, ce qui range les images, l'exactitude."""
    best, answer = probabilities.max(-1)
    confidence, ranked = (best if f is None else f(probabilities, labels) for f in (confidence, ranked))
    right, which = (answer == labels).float(), (ranked * bins).ceil().long()
    right = right.mean().expand_as(right) if shared else right
    groups = [which == k for k in which.unique()]
    weights = [g.float().mean() if weight is None else weight(len(groups), bins) for g in groups]
    gaps = [gap(right[g].mean() - confidence[g].mean()) for g in groups]
    return sum(w * g for w, g in zip(weights, gaps, strict=True))


def _of_label(probabilities, labels):
    return probabilities.gather(1, labels[:, None])[:, 0]


def _largest_gap(probabilities, labels, bins):
    confidence, answer = probabilities.max(-1)
    which, gaps = (confidence * bins).ceil(), (answer == labels).float() - confidence
    return torch.stack([gaps[which == k].mean().abs() for k in which.unique()]).max()


def _equal_counts(probabilities, labels, bins):
    """Des tranches de même effectif ; si elles ne tombent pas juste, chacun répartit le reste à sa façon."""
    if len(labels) % bins:
        return torch.tensor(ANY)
    confidence, answer = probabilities.max(-1)
    gaps = ((answer == labels).float() - confidence)[confidence.argsort()]
    return gaps.view(bins, -1).mean(1).abs().mean()


def _stretched(probabilities, labels, bins):
    """Des tranches qui vont de la plus petite à la plus grande confiance reçues, non de 0 à 1."""
    best = probabilities.max(-1).values
    low, high = best.min(), best.max()
    return _ece_by(probabilities, labels, bins, ranked=lambda p, y: ((best - low) / (high - low)).clamp(min=1e-6))


def _smoothed_by(labels, classes, epsilon):
    """Sans le nombre de classes, ``one_hot`` compte celles qu'il voit dans le lot."""
    return (1 - epsilon) * F.one_hot(labels) + epsilon / classes


def _orders(seed: int, count: int, classes: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    predicted, _ = _predictions(seed, count, classes)
    return predicted, *(torch.randperm(count, generator=generator) for _ in range(2))


def _remembered(predicted, yesterday, today):
    return predicted[yesterday.argsort()][today]


EXERCISES = {
    "10.5 a": Exercise(
        cases=((_FEW[1], 4, 0.2), (_MANY[1], 5, 0.35)),  # le second lot ne contient ni la classe 3 ni la 4
        reference=label_smoothing_probabilities,
        mistakes={
            "F.one_hot(labels) compte les classes que ce lot contient ; donnez-lui le nombre de classes : un lot peut "
            "ne pas les avoir toutes.": _smoothed_by,
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
            "epsilon se partage entre les classes, non entre les exemples du lot.":
                lambda y, c, e: (1 - e) * F.one_hot(y, c) + e / len(y),
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
            "C'est la racine de la moyenne des carrés ; l'ECE est la moyenne des valeurs absolues.":
                lambda p, y, b: _ece_by(p, y, b, gap=torch.square).sqrt(),
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
            "C'est la plus grande erreur de tranche (MCE) : l'ECE en est la moyenne, pesée par la part des images.":
                _largest_gap,
            "Ce sont déjà des probabilités : un softmax de plus les aplatit.":
                lambda p, y, b: _ece(p.softmax(-1), y, b),
            "Vos tranches ont le même effectif ; celles de l'énoncé ont la même largeur.": _equal_counts,
            "Vos tranches vont de la plus petite à la plus grande confiance reçues ; celles de l'énoncé, de 0 à 1.":
                _stretched,
            "Il y a une tranche de moins que demandé : linspace(0, 1, bins) donne les bords de bins - 1 tranches.":
                lambda p, y, b: _ece(p, y, b - 1),
            "L'exactitude est celle de toutes les images : chaque tranche a la sienne.":
                lambda p, y, b: _ece_by(p, y, b, shared=True),
        },
        differentiable=False,
    ),
    "10.5 c": Exercise(
        cases=(_orders(107, 8, 4), _orders(108, 30, 3)),
        reference=_remembered,
        mistakes={
            "C'est le bug du chapitre : la ligne i va à l'image qui passe aujourd'hui en i, quelle qu'elle soit.":
                lambda p, h, t: p,
            "La ligne i de predicted est celle de l'image yesterday[i] : today ne dit pas encore quelle ligne lire.":
                lambda p, h, t: p[t],
            "Les prédictions sont rangées par image, dans l'ordre 0, 1, 2… : il reste à suivre l'ordre de today.":
                lambda p, h, t: p[h.argsort()],
            "yesterday[i] dit quelle image est en i ; il faut l'inverse, à quel rang est une image.":
                lambda p, h, t: p[h][t],
            "Vous lisez predicted dans l'ordre d'hier : predicted y est déjà.": lambda p, h, t: p[h],
            "today est pris à l'envers : today[i] est déjà l'image qui passe en i.":
                lambda p, h, t: p[h.argsort()][t.argsort()],
            "yesterday et today sont échangés.": lambda p, h, t: p[t.argsort()][h],
            "Ce sont les rangs de today qui sont inversés, non ceux de yesterday.": lambda p, h, t: p[h][t.argsort()],
            "Aucun des deux ordres n'est inversé : il faut savoir à quel rang chaque image passait hier.":
                lambda p, h, t: p[t][h],
            "Toutes reçoivent la prédiction moyenne : chaque image a la sienne.":
                lambda p, h, t: p.mean(0).expand_as(p),
        },
    ),
}  # fmt: skip


PREDICTIONS = {
    "10.5 d": Prediction(
        expected=0.0,
        mistakes={
            'C\'est le gain sur le student seul : comparez à errors(1000, "lissage").': 1.1,
            "Ce sont les étiquettes seules, ou le teacher à T = 1 : gardez les logits nuls, et alpha = 0.9.": -1.15,
            "C'est le teacher qui guide, non l'uniforme : gardez les logits nuls.": -0.45,
            "Ce lissage-là est appris sur 100 images : gardez-en 1 000.": -9.1,
            "À alpha = 1, la cible ne contient plus l'étiquette : epsilon vaut 0,9.": -86.1,
        },
        tolerance=0.3,
        lesson="L'étiquette reste la première classe de la cible, l'erreur n'en sait pas plus ; l'ECE, elle, explose.",
    ),
}
