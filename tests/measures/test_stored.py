"""Ce que de longues mesures ont rangé : le jour, à la française."""

import pytest

from benchmarks import _report
from kdcourse.measures.stored import day, stored


def test_le_jour_d_une_mesure_s_ecrit_jour_mois_annee():
    assert day({"provenance": {"date": "2026-11-28"}}) == "28/11/2026"


@pytest.mark.parametrize("name", ["relations", "self_distillation", "tensor_train", "features", "hinton", "comparison"])
def test_une_mesure_montree_n_est_rangee_que_dans_le_paquet(name):
    assert stored(name)["provenance"] and not (_report.RESULTS / f"{name}.json").exists()


def test_une_mesure_rangee_garde_sa_provenance():
    assert {"date", "processor", "torch"} <= stored("features")["provenance"].keys()
