"""Les curseurs de 10.4 : ce que chaque perte ignore d'un nuage, et la matrice d'un student, époque après époque."""

from collections.abc import Mapping, Sequence

import torch
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from torch import Tensor, nn

from kdcourse.data.splits import Split
from kdcourse.formats import french
from kdcourse.losses.checks import check_finite, check_floating
from kdcourse.measures.relations import (
    RELATIONS,
    TRANSFORMATIONS,
    ZERO,
    cloud_state,
    relation_state,
    sorted_by_class,
)
from kdcourse.plots.common import COLORS, MARKERS, comma_axis
from kdcourse.plots.relations import draw_relations
from kdcourse.training.students import Students
from kdcourse.widgets.slider_figure import DPI, Slider, SliderFigure, choice, slider, unclipped

_MOST = 100


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
                bar.set_width(loss if loss >= ZERO else 0)
                text.set_x(1.3 * max(loss, lowest))
                text.set_text(french(loss, 5) if loss >= ZERO else "0")
            moved = TRANSFORMATIONS[transformation].says(amount)
            still = f"{transformation}, 0 % : le nuage du student est encore celui du teacher"
            heading.set_text(f"le nuage du student : {moved}" if amount else still)

        super().__init__(
            figure,
            [*unclipped(links, after), *bars, *texts, heading],
            update,
            {
                "transformation": choice("Transformation", list(TRANSFORMATIONS)),
                "amount": Slider("Ampleur", tuple(amounts), tuple(f"{10 * step} %" for step in range(11)), 0.6),
            },
        )


class RelationExplorer(SliderFigure):
    """Deux curseurs, l'époque et le poids : la matrice du student à côté de celle du teacher, son écart et son erreur.

    Args:
        snapshots: époque → les students à la fin de cette époque, un par poids, dans le même ordre.
        weights: combien la relation y pèse face aux étiquettes, 0 pour le student seul.
        teacher: le modèle à imiter.
        part: images où les comparer, dix au moins par classe.
    """

    def __init__(self, snapshots: Mapping[int, Students], weights: Sequence[float], teacher: nn.Module, part: Split):
        epochs = list(snapshots)
        states = {
            (epoch, weight): relation_state(students[index], teacher, part)
            for epoch, students in snapshots.items()
            for index, weight in enumerate(weights)
        }
        labels = sorted_by_class(part).labels
        figure = Figure(figsize=(10, 3.7), dpi=DPI, layout="constrained")
        left, middle, right = figure.subplots(1, 3, width_ratios=(1, 1, 1.25))
        draw_relations(left, relation_state(teacher, teacher, part).relations, labels)
        left.set_title("teacher")
        picture = draw_relations(middle, states[epochs[0], weights[0]].relations, labels)
        middle.set_title("student")
        for rank, weight in enumerate(weights):
            values = [states[epoch, weight].error for epoch in epochs]
            right.plot(epochs, values, color="0.8", lw=1, zorder=0)
            place = rank % len(epochs)  # chacun à une autre époque : ils ne se recouvrent pas
            right.annotate(f"λ = {french(weight, 0)}", (epochs[-1 - place], values[-1 - place]), (0, 3),
                           textcoords="offset points", ha="center", fontsize=7.5, color="0.45")  # fmt: skip
        (line,) = right.plot([], [], color=COLORS["distilled"], lw=2)
        (point,) = right.plot([], [], MARKERS["distilled"], color=COLORS["distilled"], ms=10)
        right.set(xscale="log", xlabel="époque (échelle log)", ylabel="erreur (%)", ylim=(0, 100))
        right.set_xticks(epochs, [str(epoch) for epoch in epochs])
        right.minorticks_off()
        right.set_title("gris : les autres poids", fontsize=9)
        comma_axis(right.yaxis)
        heading = figure.suptitle("0", fontsize=11)

        def update(epoch: float, weight: float) -> None:
            state = states[int(epoch), weight]
            picture.set_data(state.relations.cpu().numpy())
            line.set_data(epochs, [states[e, weight].error for e in epochs])
            point.set_data([epoch], [state.error])
            role = "distilled" if weight else "student"
            line.set_color(COLORS[role])
            point.set(color=COLORS[role], marker=MARKERS[role])
            heading.set_text(
                f"époque {int(epoch)}, poids {french(weight, 0)} : écart au teacher {french(state.loss, 4)}, "
                f"erreur {french(state.error)} %"
            )

        super().__init__(
            figure,
            [*unclipped(picture), line, point, heading],
            update,
            {
                "epoch": slider("Époque", epochs, epochs[-1], digits=0),
                "weight": slider("Poids λ de la relation", weights, weights[0], digits=0),
            },
        )
