"""Ce que de longues mesures ont rangé : le jour, à la française."""

from kdcourse.measures.stored import day, stored


def test_le_jour_d_une_mesure_s_ecrit_jour_mois_annee():
    assert day({"provenance": {"date": "2026-11-28"}}) == "28/11/2026"


def test_une_mesure_rangee_garde_sa_provenance():
    assert {"date", "processor", "torch"} <= stored("features")["provenance"].keys()
