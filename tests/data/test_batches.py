"""``Batches`` : les lots de ``train_one``, chaque exemple une fois par époque."""

import pytest
import torch
import torch.nn.functional as F

from kdcourse import MLP, Batches, Split, load_dataset, train_one
from kdcourse.training.many_students import initial_model


def test_batches_donne_les_lots_de_train_one():
    data = load_dataset().train.where(slice(0, 70))
    expected = train_one(lambda: MLP(hidden=(8,)), data, seed=4, epochs=3, batch_size=30)
    model, batches = initial_model(lambda: MLP(hidden=(8,)), 4), Batches(data, seed=4, batch_size=30)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for _ in range(3):
        for images, labels, _ in batches:
            optimizer.zero_grad()
            F.cross_entropy(model(images), labels).backward()
            optimizer.step()
    for ours, theirs in zip(model.parameters(), expected.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_chaque_epoque_passe_une_fois_sur_chaque_exemple_et_dit_lequel():
    data = Split(torch.arange(7.0)[:, None], torch.arange(7))
    batches = Batches(data, batch_size=3)
    first, second = ([batch[2] for batch in batches] for _ in range(2))
    assert [len(b) for b in first] == [3, 3, 1]
    assert sorted(torch.cat(first).tolist()) == list(range(7)) == sorted(torch.cat(second).tolist())
    assert torch.cat(first).tolist() != torch.cat(second).tolist()
    for images, labels, indices in batches:
        assert images[:, 0].tolist() == labels.tolist() == indices.tolist()


def test_une_taille_de_lot_nulle_est_refusee():
    with pytest.raises(ValueError, match="batch_size : 0 reçu"):
        Batches(Split(torch.zeros(2, 1), torch.zeros(2).long()), batch_size=0)


@pytest.fixture
def labels():
    return torch.arange(40) % 4
