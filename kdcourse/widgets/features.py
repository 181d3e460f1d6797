"""Le curseur de 10.3 : les cartes d'attention de students vraiment entraînés, alpha par alpha."""

from collections.abc import Sequence
from typing import NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

from kdcourse.formats import french, short
from kdcourse.measures.features import map_similarity
from kdcourse.measures.intervals import mean_interval
from kdcourse.plots.common import COLORS, MARKERS, as_picture, comma_axis, mean_curve
from kdcourse.plots.features import UNIT_SQUARE, digit_outline, draw_outline, show_map
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
    """Curseurs sur alpha, l'image et l'étage : les cartes du teacher et du student, sous le contour du chiffre.

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
        figure = Figure(figsize=(9, 2.8), dpi=DPI, layout="constrained")
        picture, left, right, curve = figure.subplots(1, 4, width_ratios=(1, 1, 1, 1.5))
        digit = picture.imshow(as_picture(images[0]), cmap="gray_r", extent=UNIT_SQUARE, vmin=0, vmax=1)
        # Une même étendue pour toutes les tailles de carte : changer d'étage ne change pas le cadre.
        shown = [show_map(ax, teacher[0][0, 0], 1.0) for ax in (left, right)]
        outlines = [draw_outline(ax, images[0]) for ax in (left, right)]
        titles = [ax.set_title("", fontsize=10) for ax in (picture, left, right)]
        picture.set(xticks=[], yticks=[])
        bar = figure.colorbar(shown[1], ax=right, fraction=0.05, pad=0.03, ticks=[0, 1])
        bar.ax.set_yticklabels(["0", "max."], fontsize=8)
        caption = right.text(0.5, -0.12, "", transform=right.transAxes, ha="center", va="center", fontsize=9)
        intervals = [mean_interval(row) for row in errors]
        mean_curve(curve, alphas, errors, "neutral", line="-")
        (point,) = curve.plot([], [], MARKERS["distilled"], color=COLORS["distilled"], ms=10)
        curve.set(
            xlabel="α (bande : intervalle à 95 %)", ylabel="erreur de test (%)", xlim=(-0.05, 1.05), xticks=alphas
        )
        curve.set_ylim(0, 100)
        curve.set_box_aspect(0.85)
        heading = curve.text(0.03, 0.93, "", transform=curve.transAxes, va="center", weight="bold", fontsize=9.5)
        comma_axis(curve.xaxis, curve.yaxis)
        position = {float(alpha): index for index, alpha in enumerate(alphas)}
        contours = [digit_outline(image) for image in images]

        def update(alpha: float, image: int, stage: int) -> None:
            index, number = position[alpha], int(image) - 1
            state = attention_state(teacher, student, index, number, int(stage))
            top = max(state.teacher.max().item(), state.student.max().item())
            digit.set_data(as_picture(images[number]))
            for artist, values in zip(shown, (state.teacher, state.student), strict=True):
                artist.set_data((values / top).cpu().numpy())
            for outline in outlines:
                outline.set_segments(contours[number])
            names = f"image {number + 1}", f"teacher, étage {stage:g}", f"student, α = {short(alpha)}"
            for title, name in zip(titles, names, strict=True):
                title.set_text(name)
            caption.set_text(f"ressemblance : {french(state.similarity, 2)}")
            point.set_data([alpha], [intervals[index].mean])
            heading.set_text(f"erreur : {french(intervals[index].mean)} %")

        super().__init__(
            figure,
            [*unclipped(digit, *shown, *outlines, caption, point), *titles, heading],
            update,
            {
                "alpha": slider("Poids α de l'attention", alphas, alphas[0], digits=2),
                "image": slider("Image", range(1, len(images) + 1), 1, digits=0),
                "stage": slider("Étage", range(len(teacher)), len(teacher) // 2, digits=0),
            },
        )
