"""Le curseur de 10.4 : la matrice de ressemblances d'un student, époque après époque, à côté de celle du teacher."""

from collections.abc import Mapping

from matplotlib.figure import Figure
from torch import nn

from kdcourse.data.splits import Split
from kdcourse.formats import french
from kdcourse.measures.relations import relation_state, sorted_by_class
from kdcourse.plots.common import COLORS, MARKERS, comma_axis
from kdcourse.plots.relations import draw_relations
from kdcourse.training.students import Students
from kdcourse.widgets.slider_figure import DPI, SliderFigure, slider


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
            [picture, line, point, heading],
            update,
            {
                "epoch": slider("Époque", epochs, epochs[-1], digits=0),
                "alpha": slider("Poids α des relations", alphas, alphas[0]),
            },
        )
