"""Le contrat d'une perte, en un tableau : une ligne par perte, une colonne par promesse ; chaque case est un test.

Une perte nouvelle y ajoute sa ligne. Ce qu'une perte ne promet pas est dans ``EXCEPTIONS``, avec sa raison.
"""

from collections.abc import Callable
from typing import NamedTuple

import pytest
import torch
from support.loss_contract import (
    assert_compiles,
    assert_contiguity_does_not_matter,
    assert_finite,
    assert_gradcheck,
    assert_low_precision_matches,
    assert_same_on_gpu,
    assert_teacher_gets_no_gradient,
    assert_unchanged_by_autocast,
    assert_vmaps,
    needs_gpu,
    pair,
    value_and_gradient,
)
from torch import Tensor

from kdcourse import (
    attention_loss,
    cosine_relation_loss,
    dist_loss,
    dkd_loss,
    forward_kl_loss,
    generalized_jsd_loss,
    hint_loss,
    kd_loss,
    ps_kd_loss,
    reverse_kl_loss,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
    standardized_kd_loss,
)


def dkd(student, teacher):
    return dkd_loss(student, teacher, teacher.argmax(-1))  # l'étiquette d'un exemple le suit quand le lot se mélange


def ps_kd(student, teacher):
    return ps_kd_loss(student, teacher.softmax(-1), teacher.argmin(-1), alpha=0.8)


class Row(NamedTuple):
    """Une perte, et les formes d'un couple qu'elle accepte : le lot d'abord."""

    loss: Callable[[Tensor, Tensor], Tensor]
    student: tuple[int, ...]
    teacher: tuple[int, ...]

    def pair(self, batch: int | None = None) -> tuple[Tensor, Tensor]:
        batch = batch or self.student[0]
        return pair(batch, *self.student[1:], teacher_shape=(batch, *self.teacher[1:]))


LOSSES = {
    "kd": Row(kd_loss, (4, 5), (4, 5)),
    "dkd": Row(dkd, (4, 5), (4, 5)),
    "standardized_kd": Row(standardized_kd_loss, (4, 5), (4, 5)),
    "dist": Row(dist_loss, (4, 5), (4, 5)),
    "hint": Row(hint_loss, (3, 2, 3, 2), (3, 2, 3, 2)),
    "attention": Row(attention_loss, (3, 2, 3, 3), (3, 5, 3, 3)),
    "attention entre tailles": Row(attention_loss, (3, 2, 4, 2), (3, 3, 2, 4)),
    "cosine": Row(cosine_relation_loss, (5, 3), (5, 2)),
    "SP": Row(similarity_preserving_loss, (5, 3), (5, 2)),
    "RKD distance": Row(rkd_distance_loss, (5, 3), (5, 2)),
    "RKD angle": Row(rkd_angle_loss, (5, 3), (5, 2)),
    "ps_kd": Row(ps_kd, (4, 5), (4, 5)),
    "KL directe": Row(forward_kl_loss, (3, 2, 5), (3, 2, 5)),
    "KL inverse": Row(reverse_kl_loss, (3, 2, 5), (3, 2, 5)),
    "JSD": Row(generalized_jsd_loss, (3, 2, 5), (3, 2, 5)),
}
NOT_ALONE = "un exemple seul n'a pas de relation : la perte et son gradient sont nuls"
EXCEPTIONS = {
    ("ps_kd", "deux côtés égaux"): "son minimum est l'entropie de la cible",
    ("ps_kd", "fp16"): "une probabilité arrondie en fp16 n'est plus la même cible ; test_self_distillation la borne",
    ("ps_kd", "bf16"): "une probabilité arrondie en bf16 n'est plus la même cible ; test_self_distillation la borne",
    ("cosine", "un exemple suffit"): NOT_ALONE,
    ("SP", "un exemple suffit"): NOT_ALONE,
    ("RKD distance", "un exemple suffit"): NOT_ALONE,
    ("RKD angle", "un exemple suffit"): NOT_ALONE,
}


def equal_sides(row):
    student, _ = row.pair()
    value, gradient = value_and_gradient(row.loss, student, student.clone())
    assert value.abs() < 1e-14 and gradient.abs().max() < 1e-14


def batch_order(row):
    student, teacher = row.pair()
    order = torch.arange(len(student)).roll(1).flip(0)
    torch.testing.assert_close(row.loss(student[order], teacher[order]), row.loss(student, teacher))


def pairing(row):
    student, teacher = row.pair()
    assert not torch.isclose(row.loss(student, teacher.roll(1, dims=0)), row.loss(student, teacher))


def one_example(row):
    value, gradient = value_and_gradient(row.loss, *row.pair(batch=1))
    assert value > 0 and gradient.abs().sum() > 0


def lonely_graph(row):
    assert_finite(row.loss, *row.pair(batch=1))


def dtypes(row):
    student, teacher = row.pair()
    assert row.loss(student, teacher).dtype == row.loss(student.float(), teacher).dtype == torch.float64
    assert row.loss(student.float(), teacher.float()).dtype == torch.float32


def own_teacher(row):
    students, teachers = (torch.stack([side, 2 * side.flip(0) + 1, side - 3]) for side in row.pair())
    expected = torch.stack([row.loss(s, t) for s, t in zip(students, teachers, strict=True)])
    torch.testing.assert_close(torch.vmap(row.loss)(students, teachers), expected)


CONTRACT = {
    "deux côtés égaux": equal_sides,
    "l'ordre du lot": batch_order,
    "à chacun son teacher": pairing,
    "un exemple suffit": one_example,
    "un exemple a un graphe": lonely_graph,
    "fp16": lambda row: assert_low_precision_matches(row.loss, *row.pair(), torch.float16),
    "bf16": lambda row: assert_low_precision_matches(row.loss, *row.pair(), torch.bfloat16),
    "autocast": lambda row: assert_unchanged_by_autocast(row.loss, *row.pair()),
    "float64 reste float64": dtypes,
    "contiguïté": lambda row: assert_contiguity_does_not_matter(row.loss, *row.pair()),
    "le teacher est détaché": lambda row: assert_teacher_gets_no_gradient(row.loss, *row.pair()),
    "gradcheck": lambda row: assert_gradcheck(row.loss, *row.pair()),
    "torch.compile": lambda row: assert_compiles(row.loss, *row.pair()),
    "vmap": lambda row: assert_vmaps(row.loss, *row.pair()),
    "vmap, un teacher par student": own_teacher,
}
GPU = {
    "même valeur": lambda row: assert_same_on_gpu(row.loss, *row.pair()),
    "autocast": lambda row: assert_unchanged_by_autocast(row.loss, *row.pair(), device="cuda"),
}


@pytest.mark.parametrize("promise", CONTRACT)
@pytest.mark.parametrize("name", LOSSES)
def test_la_perte_tient_sa_promesse(name, promise):
    if (name, promise) not in EXCEPTIONS:
        CONTRACT[promise](LOSSES[name])
    else:  # une exception qui n'en est plus une doit quitter la liste
        with pytest.raises(AssertionError):
            CONTRACT[promise](LOSSES[name])


@needs_gpu
@pytest.mark.parametrize("promise", GPU)
@pytest.mark.parametrize("name", LOSSES)
def test_la_perte_tient_sa_promesse_sur_gpu(name, promise):
    GPU[promise](LOSSES[name])


def test_chaque_perte_de_la_facade_a_sa_ligne():
    import kdcourse.losses

    offered = {name for name in vars(kdcourse.losses) if name.endswith("_loss")}
    assert {row.loss.__name__.removesuffix("_loss") + "_loss" for row in LOSSES.values()} == offered
