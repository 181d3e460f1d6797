"""Ce que 10.1 mesure d'une prédiction."""

import math

import pytest
import torch

from kdcourse.measures import seen_second
from kdcourse.measures.principles import entropy


def test_l_entropie_est_en_nats():
    assert entropy(torch.full((10,), 0.1)) == pytest.approx(math.log(10), rel=1e-6)
    assert entropy(torch.tensor([1.0, 0.0])) == 0


def test_les_images_ou_la_classe_vient_en_second_la_plus_disputee_d_abord():
    logits = torch.tensor([[5.0, 4.0, 0.0], [9.0, 1.0, 0.0], [0.0, 4.0, 9.0], [4.5, 4.0, 3.0], [0.0, 9.0, 1.0]])
    assert seen_second(logits, label=1, count=3).tolist() == [3, 0, 2]
    assert seen_second(logits, label=1, count=9).tolist() == [3, 0, 2, 1]
