"""Chaque curseur du cours, tel que son chapitre le montre : mêmes figures, mêmes crans, modèles vite entraînés.

Le temps d'un mouvement dépend des artistes et des tailles, non de ce que les modèles ont appris : quelques époques
suffisent, et la mesure commence en quelques secondes.
"""

import io
from collections.abc import Callable
from functools import cache, partial

import torch
from IPython.display import display
from ipywidgets import Image, SelectionSlider, VBox, interact

from benchmarks._stock import Rebuilt
from kdcourse import cosine_relation_loss, grid, load_dataset, predict_features, train_many
from kdcourse.measures import TemperatureMap, alpha_of, bias_sweep, model_attention, rank_sweep, tune_bias
from kdcourse.models import MLP, digits_student, digits_teacher
from kdcourse.training.frozen_teacher import frozen_logits
from kdcourse.widgets import (
    AttentionExplorer,
    BiasExplorer,
    CalibrationExplorer,
    GradientExplorer,
    InvarianceExplorer,
    MapExplorer,
    RankExplorer,
    RelationExplorer,
    TemperatureExplorer,
    TTSVDExplorer,
)
from kdcourse.widgets.slider_figure import DPI

digits = cache(load_dataset)


@cache
def teacher() -> torch.nn.Module:
    return train_many(digits_teacher, digits().train, seeds=[0], alphas=0.0, epochs=8)[0]


@cache
def students():
    """Trois groupes de vingt students, comme au *3 mystique*."""
    targets = frozen_logits(teacher(), digits().train.images)
    asked = grid(temperatures=[20, 1], alphas=1.0, seeds=range(20), alone=True)
    return train_many(digits_student, digits().train, targets, **asked, epochs=2)


@cache
def temperature() -> Callable:
    return partial(TemperatureExplorer, teacher(), digits().validation)


@cache
def bias() -> Callable:
    biases = torch.arange(0, 30.01, 0.25)
    logits = students().rows(students().logits(digits().test.images))
    sweeps = [bias_sweep(z, digits().test.labels, 3, biases) for z in logits]
    roles = {"seul": "student", "distillé, T = 20": "distilled", "distillé, T = 1": "neutral"}
    panels = {name: (sweep, tune_bias(sweep), roles[name]) for name, sweep in zip(roles, sweeps, strict=True)}
    return partial(BiasExplorer, biases, panels, label=3)


@cache
def gradient() -> Callable:
    image = digits().validation.images[:1]
    return partial(GradientExplorer, image[0], students()[0](image)[0].detach(), teacher()(image)[0].detach())


@cache
def measured_map() -> TemperatureMap:
    temperatures, alphas = [0.5, 1, 2, 4, 8, 16, 32], [0.2, 0.4, 0.6, 0.8, 0.9, 1.0]
    part = digits().train.where(slice(0, 100))
    asked = grid(temperatures=temperatures, alphas=alphas, seeds=range(3), alone=True)
    targets = frozen_logits(teacher(), part.images)
    trained = train_many(digits_student, part, targets, **asked, validation=digits().validation, epochs=60)
    return TemperatureMap.measure(trained, temperatures, alphas, digits().test)


@cache
def temperature_map() -> Callable:
    return partial(MapExplorer, measured_map())


@cache
def attention() -> Callable:
    first, alphas = digits().test.images[:6], [0.0, 0.25, 0.5, 0.75, 1.0]
    torch.manual_seed(0)
    maps = zip(*(model_attention(digits_teacher().eval(), first) for _ in alphas), strict=True)
    errors = 10 * torch.rand(len(alphas), 10)
    return partial(
        AttentionExplorer,
        first,
        model_attention(teacher(), first),
        [torch.stack(list(stage)) for stage in maps],
        alphas,
        errors,
    )


@cache
def invariance() -> Callable:
    centers = torch.tensor([[1.5, 1.0], [-1.2, 1.3], [0.5, -1.4]]).repeat_interleave(4, 0)
    return partial(InvarianceExplorer, centers + 0.35 * torch.randn(12, 2, generator=torch.Generator().manual_seed(0)))


RELATION_WEIGHTS = [0, 3, 30, 300]


@cache
def snapshots() -> dict:
    guide = predict_features(teacher(), digits().train.images)

    def distance(student, target, labels):
        return cosine_relation_loss(student.embedding, target.embedding)

    alphas = [alpha_of(weight) for weight in RELATION_WEIGHTS]
    return {
        epochs: train_many(
            digits_student, digits().train, **grid(alphas=alphas, seeds=[0]), distillation=distance,
            teacher=guide, epochs=epochs,
        )
        for epochs in (1, 2, 3, 5, 10, 20)
    }  # fmt: skip


@cache
def relations() -> Callable:
    return partial(RelationExplorer, snapshots(), RELATION_WEIGHTS, teacher(), digits().test)


@cache
def calibration() -> Callable:
    logits = students().logits(digits().test.images)
    roles = {"seul": "student", "lissage": "other", "PS-KD": "distilled"}
    models = {name: (logits[20 * i : 20 * i + 20], role) for i, (name, role) in enumerate(roles.items())}
    return partial(CalibrationExplorer, models, digits().test.labels)


@cache
def sweep():
    torch.manual_seed(0)
    wide = train_many(lambda: MLP(hidden=(512, 512)), digits().train, seeds=[0], alphas=0.0, epochs=1)[0]
    weight = next(p for p in wide.parameters() if p.shape == (512, 512))
    return rank_sweep(weight, [2, 3, 4, 8, 16, 32, 64])


@cache
def rank() -> Callable:
    return partial(RankExplorer, sweep())


@cache
def tt_svd() -> Callable:
    generator = torch.Generator().manual_seed(0)
    return partial(TTSVDExplorer, {name: torch.randn(4, 4, 4, generator=generator) for name in ("filtre", "couche")})


# Chacun rend son constructeur, données prêtes : les préparer ne fait pas partie d'un mouvement.
WIDGETS = {
    "TemperatureExplorer": temperature,
    "BiasExplorer": bias,
    "GradientExplorer": gradient,
    "MapExplorer": temperature_map,
    "AttentionExplorer": attention,
    "InvarianceExplorer": invariance,
    "RelationExplorer": relations,
    "CalibrationExplorer": calibration,
    "TTSVDExplorer": tt_svd,
    "RankExplorer": rank,
}


shown = {}


def show(name: str) -> None:
    """Le curseur du cours, que ``shown`` garde."""
    shown[name] = WIDGETS[name]()()
    display(shown[name])


def stock(name: str) -> None:
    """La même figure par ``interact`` ; ses nombres partent du milieu, où chaque curseur change l'image."""
    rebuilt = Rebuilt(WIDGETS[name]())
    middle = {key: c.start if c.named else c.values[len(c.values) // 2] for key, c in rebuilt.sliders.items()}
    interact(lambda **values: display(rebuilt.figure(**values)), **{
        key: SelectionSlider(options=list(zip(control.texts, control.values, strict=True)), value=middle[key])
        for key, control in rebuilt.sliders.items()
    })  # fmt: skip


def floor() -> None:
    """Le plancher : deux images prêtes, les deux premières de ``TemperatureExplorer``, que chaque mouvement alterne."""
    explorer, stored = temperature()(), []
    for explorer.temperature in (1.0, 2.0):
        target = io.BytesIO()
        explorer.figure.savefig(target, format="png", dpi=DPI)
        stored.append(target.getvalue())
    control, image = SelectionSlider(options=range(41)), Image(value=stored[0])
    control.observe(lambda _: setattr(image, "value", stored[control.value % 2]), names="value")
    display(VBox([control, image]))
