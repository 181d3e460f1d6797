"""L'écriture des nombres en français, en un seul endroit."""

import pytest

from kdcourse.formats import french, short, thousands


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
