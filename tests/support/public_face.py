"""Un programme ordinaire, que ``mypy`` vérifie : la façade a bien les types qu'elle annonce."""

from typing import assert_type

import torch
from torch import Tensor, nn

from kdcourse import (
    METHODS,
    KnowledgeDistillationLoss,
    LossTerms,
    Method,
    RelationDistillation,
    attention_loss,
    digits_student,
    distill,
    kd_loss,
    load_dataset,
    mean_interval,
    ps_kd_loss,
)


def total(student: Tensor, teacher: Tensor, labels: Tensor) -> float:
    """Quelques pertes, leurs arguments et leurs résultats."""
    assert_type(kd_loss(student, teacher, temperature=2.0), Tensor)
    assert_type(ps_kd_loss(student, teacher.softmax(-1), labels, alpha=0.5), Tensor)
    assert_type(attention_loss(student[:, :, None, None], teacher[:, :, None, None]), Tensor)
    loss: nn.Module = RelationDistillation(relation="SP")
    terms: LossTerms = KnowledgeDistillationLoss(temperature=2.0)(student, teacher, labels)
    return terms.item() + sum(parameter.numel() for parameter in loss.parameters())


def main() -> str:
    """Un entraînement, et son erreur."""
    method: Method = METHODS["KD"]
    digits = load_dataset("digits")
    trained = distill(digits_student, digits.train, digits_student(), method=method, epochs=1)
    labels = digits.test.labels
    return str(
        mean_interval(torch.stack([(trained.model(digits.test.images).argmax(-1) != labels).float().mean()] * 2))
    )
