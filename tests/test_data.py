"""Les chiffres embarqués : un partage fixe, disjoint, stratifié."""

import pytest
import torch

from kdcourse import load_dataset


@pytest.fixture(scope="module")
def digits():
    return load_dataset("digits")


def test_les_trois_parties_couvrent_les_1797_chiffres_sans_se_recouper(digits):
    rows = torch.cat([part.images.flatten(1) for part in digits])
    from sklearn.datasets import load_digits

    original = torch.tensor(load_digits().data, dtype=torch.float32) / 16
    assert _sorted_rows(rows) == _sorted_rows(original)


def _sorted_rows(rows):
    return sorted(tuple((row * 16).int().tolist()) for row in rows)


def test_le_partage_est_de_1000_297_et_500_images(digits):
    assert [len(part.labels) for part in digits] == [1000, 297, 500]


def test_les_images_sont_des_float32_de_0_a_1(digits):
    for part in digits:
        assert part.images.dtype == torch.float32 and part.labels.dtype == torch.int64
        assert part.images.shape[1:] == (1, 8, 8)
        assert part.images.min() == 0 and part.images.max() == 1


def test_le_partage_est_le_meme_a_chaque_chargement(digits):
    again = load_dataset("digits")
    assert all(torch.equal(a.images, b.images) for a, b in zip(digits, again, strict=True))


def test_chaque_partie_a_toutes_les_classes_en_memes_proportions(digits):
    for part in digits:
        shares = torch.bincount(part.labels, minlength=10) / len(part.labels)
        assert shares.min() > 0.09 and shares.max() < 0.11


def test_sans_une_classe_il_n_en_reste_aucun_exemple(digits):
    kept = digits.train.without_class(3)
    assert 3 not in kept.labels
    assert len(kept.labels) == (digits.train.labels != 3).sum()


def test_un_nom_inconnu_donne_ceux_qui_existent():
    with pytest.raises(ValueError, match="'chiffres' reçu.*'digits'"):
        load_dataset("chiffres")
