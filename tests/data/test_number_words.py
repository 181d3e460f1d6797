"""La langue du complément : l'orthographe par des tables écrites à la main, le teacher exact par ses règles."""

import itertools
import math

import pytest
import torch

from kdcourse.data.number_words import (
    ACCENTS,
    END,
    END_RANK,
    HIGHEST,
    LONGEST,
    LOWEST,
    VOCABULARY,
    decode,
    encode,
    positions,
    spell,
    teacher_probabilities,
    write_lists,
)

BY_HAND = {
    60: ("soixante", "soixante", "soixante"),
    61: ("soixante et un", "soixante et un", "soixante et un"),
    69: ("soixante neuf", "soixante neuf", "soixante neuf"),
    70: ("soixante dix", "septante", "septante"),
    71: ("soixante et onze", "septante et un", "septante et un"),
    72: ("soixante douze", "septante deux", "septante deux"),
    76: ("soixante seize", "septante six", "septante six"),
    77: ("soixante dix sept", "septante sept", "septante sept"),
    80: ("quatre vingts", "quatre vingts", "huitante"),
    81: ("quatre vingt un", "quatre vingt un", "huitante et un"),
    84: ("quatre vingt quatre", "quatre vingt quatre", "huitante quatre"),
    90: ("quatre vingt dix", "nonante", "nonante"),
    91: ("quatre vingt onze", "nonante et un", "nonante et un"),
    97: ("quatre vingt dix sept", "nonante sept", "nonante sept"),
    99: ("quatre vingt dix neuf", "nonante neuf", "nonante neuf"),
}
EVERY = list(itertools.product(range(LOWEST, HIGHEST + 1), ACCENTS))


def list_of(*parts):
    """Une liste de nombres et son texte : ``(97, "nonante sept")``…"""
    words = " , ".join([text for _, text in parts] + [""]).split()
    return torch.tensor([number for number, _ in parts]), encode(words)


@pytest.mark.parametrize("number", BY_HAND)
def test_un_nombre_s_ecrit_comme_a_la_main(number):
    assert tuple(" ".join(spell(number, accent)) for accent in ACCENTS) == BY_HAND[number]


def test_deux_nombres_ne_s_ecrivent_jamais_pareil():
    for accent in ACCENTS:
        assert len({tuple(spell(number, accent)) for number in range(LOWEST, HIGHEST + 1)}) == 40


def test_encoder_puis_decoder_rend_le_texte():
    for number, accent in EVERY:
        assert decode(encode(spell(number, accent))) == " ".join(spell(number, accent))
    assert decode(encode(["nonante", "sept", END, "soixante", END])) == "nonante sept, soixante,"


def test_write_lists_ecrit_ce_que_spell_epelle():
    generator = torch.Generator().manual_seed(0)
    numbers = torch.randint(LOWEST, HIGHEST + 1, (50, 6), generator=generator)
    accents = torch.randint(3, (50,), generator=generator)
    for row, accent, text in zip(numbers, accents, write_lists(numbers, accents, 6 * LONGEST), strict=True):
        words = " ".join(" ".join([*spell(n, ACCENTS[accent]), END]) for n in row.tolist()).split()
        assert [VOCABULARY[rank] for rank in text.tolist()] == words + [END] * (6 * LONGEST - len(words))


def test_positions_suit_les_virgules():
    numbers, text = list_of((97, "nonante sept"), (60, "soixante"))
    current, rank, live = positions(numbers, torch.cat([text, torch.tensor([END_RANK])]))
    assert current[:5].tolist() == [97, 97, 97, 60, 60]
    assert rank[:5].tolist() == [0, 1, 2, 0, 1]
    assert live.tolist() == [True] * 5 + [False]


# --- Le teacher exact


def probability(probabilities, place, word):
    return probabilities[place, encode([word])[0]].item()


def test_le_premier_mot_est_partage_entre_les_accents():
    numbers, text = list_of((97, "nonante sept"))
    found, _ = teacher_probabilities(numbers, text, 1e-3)
    assert probability(found, 0, "nonante") == pytest.approx(2 / 3 * 0.999 + 1e-3 / 24, rel=1e-5)
    assert probability(found, 0, "quatre") == pytest.approx(1 / 3 * 0.999 + 1e-3 / 24, rel=1e-5)
    torch.testing.assert_close(found.sum(-1), torch.ones(len(text)))


def test_une_fois_l_accent_montre_il_est_garde():
    numbers, text = list_of((97, "nonante sept"), (84, "huitante quatre"), (75, "septante cinq"))
    found, _ = teacher_probabilities(numbers, text, 1e-6)
    # « nonante » exclut la France : 84 est belge ou suisse ; « huitante » ne laisse que la Suisse.
    assert probability(found, 3, "quatre") == pytest.approx(0.5, abs=1e-4)
    assert probability(found, 3, "huitante") == pytest.approx(0.5, abs=1e-4)
    assert probability(found, 6, "septante") == pytest.approx(1, abs=1e-4)


def test_la_croyance_suit_la_regle_de_bayes_lapsus_compris():
    """Une liste qui mêle deux accents : chaque accent y a un lapsus, comptés à la main."""
    numbers, text = list_of((97, "nonante sept"), (75, "soixante quinze"), (90, "nonante"))
    epsilon, size = 0.1, len(VOCABULARY)
    right, wrong = 1 - epsilon + epsilon / size, epsilon / size
    # France attend « quatre vingt dix », puis « soixante quinze , » ; les autres, « nonante sept , septante cinq , ».
    france = wrong**3 * right**3
    others = right**3 * wrong**2 * right
    belief = france / (france + 2 * others)
    found, _ = teacher_probabilities(numbers, text, epsilon)
    assert probability(found, 6, "quatre") == pytest.approx((1 - epsilon) * belief + epsilon / size, rel=1e-5)


def test_la_probabilite_d_une_liste_est_celle_de_ses_mots():
    """Le produit des probabilités, mot après mot, égale le mélange des trois accents : aucun mot n'est oublié."""
    numbers, text = list_of((97, "nonante sept"), (84, "quatre vingt quatre"))
    found, live = teacher_probabilities(numbers, text, 0.05)
    product = found.gather(-1, text.unsqueeze(-1)).squeeze(-1)[live].double().prod().item()
    right, wrong = 0.95 + 0.05 / 24, 0.05 / 24
    # France : trois lapsus sur 97 ; Suisse : trois sur 84, où elle attend « huitante quatre , ».
    by_accent = [wrong**3 * right**4, right**7, right**4 * wrong**3]
    assert product == pytest.approx(sum(by_accent) / 3, rel=1e-4)


def test_un_lot_est_la_suite_de_ses_listes():
    generator = torch.Generator().manual_seed(1)
    numbers = torch.randint(LOWEST, HIGHEST + 1, (2, 4, 3), generator=generator)
    text = torch.randint(len(VOCABULARY), (2, 4, 12), generator=generator)
    found, live = teacher_probabilities(numbers, text)
    for i, j in itertools.product(range(2), range(4)):
        alone, alone_live = teacher_probabilities(numbers[i, j], text[i, j])
        torch.testing.assert_close(found[i, j], alone)
        assert (live[i, j] == alone_live).all()


def test_le_mot_a_predire_n_est_pas_lu():
    numbers, text = list_of((97, "nonante sept"), (84, "huitante quatre"))
    changed = text.clone()
    changed[3] = encode(["quatre"])[0]
    before, after = (teacher_probabilities(numbers, one)[0] for one in (text, changed))
    torch.testing.assert_close(before[:4], after[:4])
    assert not torch.allclose(before[4], after[4])


# --- Les refus


@pytest.mark.parametrize("number", [59, 100, -1])
def test_un_nombre_hors_de_l_intervalle_est_refuse(number):
    with pytest.raises(ValueError, match=f"number : {number} reçu, un entier de 60 à 99 attendu"):
        spell(number, "France")


def test_un_mauvais_argument_est_dit():
    with pytest.raises(TypeError, match="number : 61.5"):
        spell(61.5, "France")
    with pytest.raises(ValueError, match="accent : 'Québec' reçu, l'un de France, Belgique, Suisse attendu"):
        spell(61, "Québec")
    with pytest.raises(ValueError, match="words : octante reçu"):
        encode(["octante"])
    numbers, text = list_of((97, "nonante sept"))
    for epsilon in (0.0, 1.0, math.nan):
        with pytest.raises(ValueError, match="epsilon"):
            teacher_probabilities(numbers, text, epsilon)
    with pytest.raises(ValueError, match="numbers : 37 reçu, de 60 à 99 attendu"):
        teacher_probabilities(numbers - 60, text)
    with pytest.raises(TypeError, match=r"text : dtype torch\.float32 reçu"):
        teacher_probabilities(numbers, text.float())
    with pytest.raises(ValueError, match="text : forme"):
        teacher_probabilities(numbers.expand(2, 1), text)
    with pytest.raises(ValueError, match="length : 3 reçu, 5 au moins attendu"):
        write_lists(numbers, torch.tensor(0), 3)
