"""L'écriture des nombres et des phrases en français, en un seul endroit."""

import pytest

from kdcourse.formats import french, say, short, thousands, typeset


@pytest.mark.parametrize(
    "value, digits, text", [(3.14159, 2, "3,14"), (-0.5, 1, "−0,5"), (-0.01, 1, "0,0"), (12, 0, "12")]
)
def test_un_nombre_s_ecrit_a_la_francaise(value, digits, text):
    assert french(value, digits) == text


@pytest.mark.parametrize(
    "value, text", [(0.50, "0,5"), (4.0, "4"), (-0.25, "−0,25"), (-0.0, "0"), (1e-5, "1e−05"), (1 / 3, "0,333333")]
)
def test_un_nombre_court_n_a_pas_de_zero_inutile(value, text):
    assert short(value) == text


@pytest.mark.parametrize(
    "count, text", [(999, "999"), (12345, "12\u00a0345"), (1_000_000, "1\u00a0000\u00a0000"), (-1234, "−1\u00a0234")]
)
def test_un_entier_separe_ses_milliers(count, text):
    assert thousands(count) == text


@pytest.mark.parametrize(
    "text, expected",
    [
        ("Voici : 1 797 images ; bien ?", "Voici\u00a0: 1\u00a0797 images\u00a0; bien\u00a0?"),
        ("« cité » à 5 %", "«\u00a0cité\u00a0» à 5\u00a0%"),
        ("`a : 1 000`, $x : y$ : fin", "`a : 1 000`, $x : y$\u00a0: fin"),
        ("[lien](https://a.b/c : d)", "[lien](https://a.b/c : d)"),
        ("```python\nx = a if b else c  # note : 1 000\n```", "```python\nx = a if b else c  # note : 1 000\n```"),
    ],
)
def test_les_espaces_insecables_n_entrent_ni_dans_le_code_ni_dans_les_formules(text, expected):
    assert typeset(text) == expected


def test_une_phrase_et_un_tableau_s_affichent_chacun_en_paragraphe(monkeypatch):
    shown = []
    monkeypatch.setattr("IPython.display.display", shown.append)
    say("Gain : 2 %", "| a |")
    assert shown[0].data == "Gain\u00a0: 2\u00a0%\n\n| a |"
