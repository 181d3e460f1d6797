"""Complément : relire des listes écrites à la main."""

import pytest
import torch

from kdcourse.data.number_words import ACCENTS, END_RANK, LONGEST, encode, write_lists
from kdcourse.measures.writers import judge, spelled

NUMBERS = torch.tensor([97, 84, 65])


def written(text, length=20):
    words = encode(text.replace(",", " ,").split())
    return torch.cat([words, torch.full((length - len(words),), END_RANK)])


@pytest.mark.parametrize(
    ("text", "valid", "accents"),
    [
        ("quatre vingt dix sept, quatre vingt quatre, soixante cinq,", True, [True, False, False]),
        ("nonante sept, quatre vingt quatre, soixante cinq,", True, [False, True, False]),
        ("nonante sept, huitante quatre, soixante cinq,", True, [False, False, True]),
        ("quatre vingt dix sept, huitante quatre, soixante cinq,", True, [False, False, False]),  # deux accents mêlés
        ("nonante six, quatre vingt quatre, soixante cinq,", False, [False, False, False]),
        ("nonante, quatre vingt quatre, soixante cinq,", False, [False, False, False]),
        ("nonante sept sept, quatre vingt quatre, soixante cinq,", False, [False, False, False]),
    ],
)
def test_une_liste_est_jugee_comme_on_la_lit(text, valid, accents):
    found = judge(NUMBERS, written(text))
    assert found.valid.item() is valid and found.accents.tolist() == accents and found.kept.item() is any(accents)


def test_une_liste_coupee_n_est_pas_valide():
    text = written("nonante sept, quatre vingt quatre, soixante cinq,")[:8]
    assert not judge(NUMBERS, text).valid
    assert spelled(NUMBERS, text).any(-1).all()  # rien d'écrit n'y est faux


def test_les_listes_du_teacher_sont_toutes_de_leur_accent():
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(60, 100, (5, 40, 6), generator=generator)
    accents = torch.randint(len(ACCENTS), (5, 40), generator=generator)
    found = judge(numbers, write_lists(numbers, accents, 6 * LONGEST))
    assert found.valid.all() and found.accents.gather(-1, accents.unsqueeze(-1)).all()


def test_de_60_a_69_une_liste_est_des_trois_accents():
    assert judge(torch.tensor([60, 61]), written("soixante, soixante et un,")).accents.all()
