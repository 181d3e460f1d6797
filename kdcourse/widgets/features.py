"""Le curseur de 10.3 : les cartes d'attention de students vraiment entraînés, alpha par alpha."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

from kdcourse.formats import french
from kdcourse.measures.features import map_similarity
from kdcourse.measures.intervals import mean_interval
from kdcourse.plots.common import COLORS, MARKERS, as_picture, comma_axis, mean_curve
from kdcourse.widgets.slider_figure import DPI, SliderFigure, slider, unclipped


class AttentionState(NamedTuple):
    """Ce que montre ``AttentionExplorer`` : deux cartes ``(H, W)``, et leur cosinus."""

    teacher: Tensor
    student: Tensor
    similarity: float


def attention_state(teacher: Sequence[Tensor], student: Sequence[Tensor], alpha: int, image: int, stage: int):
    """Les cartes d'une image à un étage : listes de ``(N, 1, H, W)`` et de ``(A, N, 1, H, W)``, une par étage."""
    ours, theirs = student[stage][alpha, image], teacher[stage][image]
    return AttentionState(theirs[0], ours[0], map_similarity(ours[None], theirs[None]).item())


class AttentionExplorer(SliderFigure):
    """Curseurs sur alpha, l'image et l'étage : la carte du student à côté de celle du teacher, et l'erreur mesurée.

    Args:
        images: N images, ``(N, 1, h, w)``.
        teacher: cartes du teacher, une ``(N, 1, H, W)`` par étage.
        student: cartes d'un student par alpha, une ``(A, N, 1, H, W)`` par étage.
        alphas: A valeurs croissantes.
        errors: erreurs de test en %, ``(A, graines)``.
    """

    def __init__(
        self, images: Tensor, teacher: list[Tensor], student: list[Tensor], alphas: Sequence[float], errors: Tensor
    ):
        figure = Figure(figsize=(9, 3.2), dpi=DPI, layout="constrained")
        picture, left, right, curve = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.6))
        shown = []
        for ax, name, cmap in zip(
            (picture, left, right), ("image", "teacher", "student"), ("gray_r", "viridis_r", "viridis_r"), strict=True
        ):
            # Une même étendue pour toutes les tailles de carte : changer d'étage ne change pas le cadre.
            shown.append(ax.imshow([[0.0]], cmap=cmap, extent=(0, 1, 0, 1), vmin=0, vmax=1, interpolation="nearest"))
            ax.set(xticks=[], yticks=[])
            ax.set_title(name, fontsize=10)
        caption = right.text(0.5, -0.12, "", transform=right.transAxes, ha="center", va="center", fontsize=9)
        intervals = [mean_interval(row) for row in errors]
        mean_curve(curve, alphas, errors, "neutral", line="-")
        (point,) = curve.plot([], [], MARKERS["distilled"], color=COLORS["distilled"], ms=10)
        curve.set(xlabel="α (bande : intervalle à 95 %)", ylabel="erreur de test (%)", xlim=(-0.05, 1.05))
        curve.set_ylim(0, 100)
        heading = curve.text(0.03, 0.93, "", transform=curve.transAxes, va="center", weight="bold", fontsize=9.5)
        comma_axis(curve.xaxis, curve.yaxis)
        position = {float(alpha): index for index, alpha in enumerate(alphas)}

        def update(alpha: float, image: int, stage: int) -> None:
            index, number = position[alpha], int(image) - 1
            state = attention_state(teacher, student, index, number, int(stage))
            top = max(state.teacher.max().item(), state.student.max().item())
            shown[0].set_data(as_picture(images[number]))
            for artist, values in zip(shown[1:], (state.teacher, state.student), strict=True):
                artist.set_data(values.cpu().numpy())
                artist.set_clim(0, top)
            caption.set_text(f"ressemblance : {french(state.similarity, 2)}")
            point.set_data([alpha], [intervals[index].mean])
            heading.set_text(f"erreur : {intervals[index]} %")

        super().__init__(
            figure,
            [*unclipped(*shown, caption, point), heading],
            update,
            {
                "alpha": slider("Poids α de l'attention", alphas, alphas[0], digits=2),
                "image": slider("Image", range(1, len(images) + 1), 1, digits=0),
                "stage": slider("Étage", range(len(teacher)), 0, digits=0),
            },
        )
