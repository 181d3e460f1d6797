"""Les chiffres embarqués : un partage fixe, disjoint, stratifié."""

import pytest
import torch

from kdcourse import load_dataset, shift_and_noise


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


def shifted_by_hand(image, down, right):
    height, width = image.shape
    moved = torch.zeros_like(image)
    for i in range(height):
        for j in range(width):
            if 0 <= i - down < height and 0 <= j - right < width:
                moved[i, j] = image[i - down, j - right]
    return moved


def test_sans_bruit_chaque_image_est_une_des_neuf_images_decalees_a_la_main():
    images = torch.rand(60, 2, 5, 7)
    moved = shift_and_noise(images, noise=0.0, generator=torch.Generator().manual_seed(0))
    seen = set()
    for image, result in zip(images, moved, strict=True):
        found = [
            (down, right)
            for down in (-1, 0, 1)
            for right in (-1, 0, 1)
            if all(torch.equal(shifted_by_hand(c, down, right), r) for c, r in zip(image, result, strict=True))
        ]
        assert len(found) == 1
        seen.update(found)
    assert len(seen) == 9


def test_le_bruit_a_l_ecart_type_demande_et_n_est_pas_rogne(digits):
    images = digits.train.images
    clean = shift_and_noise(images, shift=0, noise=0.0, generator=torch.Generator().manual_seed(1))
    noisy = shift_and_noise(images, shift=0, noise=0.1, generator=torch.Generator().manual_seed(1))
    assert torch.equal(clean, images)
    assert (noisy - clean).std().item() == pytest.approx(0.1, rel=0.02)
    assert noisy.min() < 0


def test_deux_pixels_de_decalage_sont_tous_tires():
    images = torch.zeros(400, 1, 7, 7)
    images[:, 0, 3, 3] = 1
    moved = shift_and_noise(images, shift=2, noise=0.0, generator=torch.Generator().manual_seed(0))
    assert {tuple(place) for place in moved[:, 0].nonzero()[:, 1:].tolist()} == {
        (i, j) for i in range(1, 6) for j in range(1, 6)
    }


def test_meme_generateur_memes_images_et_l_entree_ne_change_pas(digits):
    images = digits.test.images
    before = images.clone()
    first, second = (shift_and_noise(images, generator=torch.Generator().manual_seed(4)) for _ in range(2))
    assert torch.equal(first, second) and torch.equal(images, before)
    assert first.dtype == images.dtype and first.shape == images.shape


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"images": torch.rand(3, 8, 8)}, r"images : forme \(3, 8, 8\) reçue"),
        ({"images": torch.ones(3, 1, 8, 8, dtype=torch.int64)}, "images : dtype torch.int64 reçu"),
        ({"shift": -1}, "shift : -1 reçu"),
        ({"shift": 0.5}, "shift : 0.5"),
        ({"noise": -0.1}, "noise : -0.1 reçu"),
        ({"generator": 0}, "generator : int reçu"),
    ],
)
def test_shift_and_noise_refuse_un_mauvais_argument(changes, message):
    images = changes.pop("images", torch.rand(2, 1, 8, 8))
    options = {"generator": torch.Generator().manual_seed(0)} | changes
    with pytest.raises((TypeError, ValueError), match=message):
        shift_and_noise(images, **options)
