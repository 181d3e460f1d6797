"""Ce que « compare » met à côté d'une somme : KD, à la température de cette somme."""

from dataclasses import replace

from benchmarks.compare import witnesses
from kdcourse import KD, METHODS, Choice


def test_chaque_temperature_d_une_somme_que_kd_n_a_pas_a_son_temoin():
    choices = {method: Choice(0.5, temperature=4) for method in METHODS.values()}
    choices[METHODS["KD + RKD"]] = Choice(0.9, temperature=16)
    choices[METHODS["KD + hint"]] = Choice(0.3, temperature=8)
    choices[METHODS["DKD"]] = Choice(0.5, temperature=2)  # ce n'est pas une somme
    expected = {f"KD, T = {heat}": replace(choices[KD], temperature=heat) for heat in (8, 16)}
    assert witnesses(choices) == expected


def test_la_temperature_d_une_somme_est_cherchee_comme_celle_de_kd():
    for method in METHODS.values():
        if method.base is KD:
            assert method.tried["temperature"] == KD.tried["temperature"]
