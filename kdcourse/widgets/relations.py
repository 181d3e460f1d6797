"""Les curseurs de 10.4 : ce que chaque perte ignore d'un nuage, et la matrice d'un student, époque après époque."""

import math
from collections.abc import Callable, Mapping
from typing import NamedTuple

import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor, nn

from kdcourse.data.splits import Split
from kdcourse.formats import french
from kdcourse.losses.checks import check_finite, check_floating
from kdcourse.losses.relations import (
    cosine_relation_loss,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
)
from kdcourse.measures.relations import relation_state, sorted_by_class
from kdcourse.plots.common import COLORS, MARKERS, comma_axis
from kdcourse.plots.relations import draw_relations
from kdcourse.training.students import Students
from kdcourse.widgets.slider_figure import DPI, Slider, SliderFigure, choice, slider, unclipped

RELATIONS = {
    "cosine": cosine_relation_loss,
    "SP": similarity_preserving_loss,
    "RKD distance": rkd_distance_loss,
    "RKD angle": rkd_angle_loss,
}
_MOST = 100
_ZERO = 1e-12  # en float64, le bruit d'arrondi d'une perte nulle reste dessous


class Transformation(NamedTuple):
    """Une façon de déplacer un nuage, d'autant plus que ``amount`` va de 0 à 1."""

    move: Callable[[Tensor, float], Tensor]
    says: Callable[[float], str]


def _rotated(points: Tensor, amount: float) -> Tensor:
    angle = math.pi * amount
    turn = [[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]]
    return points @ points.new_tensor(turn)


def _row_scales(points: Tensor, amount: float) -> Tensor:
    """Un facteur par point, de 1/2 à 2 au plus fort ; deux voisins n'ont pas le même."""
    ranks = torch.arange(len(points), dtype=points.dtype) * 7 % len(points) / max(1, len(points) - 1)
    return points * 2 ** (amount * (2 * ranks - 1))[:, None]


TRANSFORMATIONS = {
    "translation": Transformation(
        lambda points, amount: points + amount * points.abs().max() * points.new_tensor([0.8, -0.6]),
        lambda amount: "translaté",
    ),
    "rotation": Transformation(_rotated, lambda amount: f"tourné de {french(180 * amount, 0)}°"),
    "même échelle pour tous": Transformation(
        lambda points, amount: points * 2**amount, lambda amount: f"multiplié par {french(2**amount, 2)}"
    ),
    "une échelle par exemple": Transformation(
        _row_scales,
        lambda amount: f"chaque point multiplié par un nombre, de {french(2**-amount, 2)} à {french(2**amount, 2)}",
    ),
    "une échelle par dimension": Transformation(
        lambda points, amount: points * points.new_tensor([2**amount, 2**-amount]),
        lambda amount: f"largeur multipliée par {french(2**amount, 2)}, hauteur par {french(2**-amount, 2)}",
    ),
}


class CloudState(NamedTuple):
    """Ce que montre ``InvarianceExplorer`` : le nuage déplacé ``(B, 2)``, et la perte de chaque relation."""

    points: Tensor
    losses: dict[str, float]


def cloud_state(points: Tensor, transformation: str, amount: float) -> CloudState:
    """Un nuage ``(B, 2)``, déplacé, et ce qu'en disent les relations, le nuage d'origine servant de teacher."""
    moved = TRANSFORMATIONS[transformation].move(points, amount)
    return CloudState(moved, {name: loss(moved, points).item() for name, loss in RELATIONS.items()})


class InvarianceExplorer(SliderFigure):
    """Une transformation et son ampleur : le nuage du teacher, celui du student, et quatre pertes qui bougent ou non.

    Args:
        points: embeddings de deux nombres, ``(B, 2)``, B de 3 à 100, aucun à l'origine.
    """

    def __init__(self, points: Tensor):
        check_floating("points", points, (2,), "(B, 2)")
        check_finite("points", points)
        if not 3 <= len(points) <= _MOST or points.shape[1] != 2:  # les angles lient des triplets : B³ nombres
            raise ValueError(f"points : forme {tuple(points.shape)} reçue, (B, 2) attendue, B de 3 à {_MOST}.")
        if not points.norm(dim=1).gt(0).all():
            raise ValueError("points : un point à l'origine reçu, des points qui ont une direction attendus.")
        points = points.detach().cpu().double()
        amounts = [step / 10 for step in range(11)]
        states = {(name, a): cloud_state(points, name, a) for name in TRANSFORMATIONS for a in amounts}
        reach = 1.1 * max(state.points.abs().max().item() for state in states.values())
        highest = max(max(state.losses.values()) for state in states.values())

        figure = Figure(figsize=(9, 4), dpi=DPI, layout="constrained")
        cloud, chart = figure.subplots(1, 2, width_ratios=(1, 1.2))
        cloud.set(xlim=(-reach, reach), ylim=(-reach, reach), aspect="equal", xticks=[], yticks=[])
        cloud.plot(0, 0, "k+", ms=10)
        cloud.annotate("origine", (0, 0), (4, -10), textcoords="offset points", fontsize=8)
        (before,) = cloud.plot(*points.T, MARKERS["teacher"], mfc="none", color=COLORS["teacher"], label="teacher")
        links = cloud.add_collection(LineCollection([], color="0.7", lw=0.8, zorder=0))
        (after,) = cloud.plot([], [], MARKERS["student"], color=COLORS["student"], label="student", ms=5)
        cloud.legend(handles=[before, after], frameon=False, fontsize=8, loc="upper left", ncols=2)
        names, lowest = list(RELATIONS), 1e-6
        bars = chart.barh(names, [lowest] * len(names), color=COLORS["distilled"])
        texts = [chart.text(lowest * 1.3, y, "", va="center", fontsize=9, label=name) for y, name in enumerate(names)]
        chart.invert_yaxis()
        chart.set(xscale="log", xlim=(lowest, 30 * highest), xlabel="perte (échelle log)")
        heading = figure.suptitle("0", fontsize=11)

        def update(transformation: str, amount: float) -> None:
            state = states[transformation, amount]
            after.set_data(*state.points.T.numpy())
            links.set_segments(torch.stack([points, state.points], 1).numpy())
            for bar, text, loss in zip(bars, texts, state.losses.values(), strict=True):
                bar.set_width(loss if loss >= _ZERO else 0)
                text.set_x(1.3 * max(loss, lowest))
                text.set_text(french(loss, 5) if loss >= _ZERO else "0")
            moved = TRANSFORMATIONS[transformation].says(amount)
            still = f"{transformation}, 0 % : le nuage du student est encore celui du teacher"
            heading.set_text(f"le nuage du student : {moved}" if amount else still)

        super().__init__(
            figure,
            [*unclipped(links, after), *bars, *texts, heading],
            update,
            {
                "transformation": choice("Transformation", list(TRANSFORMATIONS)),
                "amount": Slider("Ampleur", tuple(amounts), tuple(f"{10 * step} %" for step in range(11)), 0.0),
            },
        )


class RelationExplorer(SliderFigure):
    """Deux curseurs, l'époque et alpha : la matrice du student à côté de celle du teacher, son écart et son erreur.

    Args:
        snapshots: époque → les students à la fin de cette époque, un par alpha, dans le même ordre.
        teacher: le modèle à imiter.
        part: images où les comparer, dix au moins par classe.
    """

    def __init__(self, snapshots: Mapping[int, Students], teacher: nn.Module, part: Split):
        epochs, alphas = list(snapshots), next(iter(snapshots.values())).alphas.tolist()
        states = {
            (epoch, alpha): relation_state(students[index], teacher, part)
            for epoch, students in snapshots.items()
            for index, alpha in enumerate(alphas)
        }
        labels = sorted_by_class(part).labels
        figure = Figure(figsize=(10, 3.7), dpi=DPI, layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.25))
        draw_relations(left, relation_state(teacher, teacher, part).relations, labels)
        left.set_title("teacher")
        picture = draw_relations(middle, states[epochs[0], alphas[0]].relations, labels)
        middle.set_title("student")
        for alpha in alphas:
            values = [states[epoch, alpha].error for epoch in epochs]
            right.plot(epochs, values, color="0.8", lw=1, zorder=0)
        (line,) = right.plot([], [], color=COLORS["distilled"], lw=2)
        (point,) = right.plot([], [], MARKERS["distilled"], color=COLORS["distilled"], ms=10)
        right.set(xscale="log", xlabel="époque (échelle log)", ylabel="erreur (%)", ylim=(0, 100))
        right.set_xticks(epochs, [str(epoch) for epoch in epochs])
        right.minorticks_off()
        right.set_title("gris : les autres α", fontsize=9)
        comma_axis(right.yaxis)
        heading = figure.suptitle("0", fontsize=11)

        def update(epoch: float, alpha: float) -> None:
            state = states[int(epoch), alpha]
            picture.set_data(state.relations.cpu().numpy())
            line.set_data(epochs, [states[e, alpha].error for e in epochs])
            point.set_data([epoch], [state.error])
            role = "distilled" if alpha else "student"
            line.set_color(COLORS[role])
            point.set(color=COLORS[role], marker=MARKERS[role])
            heading.set_text(
                f"époque {int(epoch)}, α = {french(alpha)} : écart au teacher {french(state.loss, 4)}, "
                f"erreur {french(state.error)} %"
            )

        super().__init__(
            figure,
            [*unclipped(picture), line, point, heading],
            update,
            {
                "epoch": slider("Époque", epochs, epochs[-1], digits=0),
                "alpha": slider("Poids α des relations", alphas, alphas[0]),
            },
        )
