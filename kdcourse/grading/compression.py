"""Exercice 10.3 : les images cachées. Le teacher et le barème sont publics, dans ``kdcourse.exercises.compression``."""

import torch

from kdcourse.data import Split, load_dataset, shift_and_noise
from kdcourse.exercises.compression import (  # noqa: F401 (ce que la correction emploie est ici, d'où que cela vienne)
    ACCURACY,
    SIZE,
    accuracy_share,
    answer_size,
    compression_teacher,
    size_share,
)

teacher = compression_teacher


def hidden_set(seed: int) -> Split:
    """Les 500 images de test, décalées et bruitées au hasard comme l'énoncé le dit, et dans un ordre au hasard."""
    test, generator = load_dataset("digits").test, torch.Generator().manual_seed(seed)
    order = torch.randperm(len(test.labels), generator=generator)
    return Split(shift_and_noise(test.images[order], generator=generator), test.labels[order])
