"""Ce que vaut un tableau : des couples, des tirages, et des classements dont on connaît la réponse."""

import json
from itertools import combinations
from pathlib import Path

import pytest
import torch

import kdcourse
from kdcourse import METHODS, load_choices, mean_interval
from kdcourse.measures import (
    Pairs,
    StoredComparison,
    independent_runs,
    misordered,
    other_laboratories,
    shared_seeds,
)
from kdcourse.plots import plot_misordered, plot_rankings

DRAWS = (independent_runs, shared_seeds, other_laboratories)


def made(gaps, laboratories=10, seeds=20, noise=1.0, common=0.0) -> torch.Tensor:
    """Des erreurs dont on connaît l'ordre : un écart par méthode, un bruit à chacune, un bruit commun par graine."""
    generator = torch.Generator().manual_seed(1)
    shape = laboratories, seeds
    own = noise * torch.randn(len(gaps), *shape, generator=generator)
    return 10 + torch.tensor(gaps)[:, None, None] + own + common * torch.randn(shape, generator=generator)


def test_les_couples_etablis_sont_ceux_dont_l_intervalle_exclut_zero():
    errors = made([0.0, 0.05, 3.0])
    pairs = Pairs.established(errors)
    expected = set()
    for first, second in combinations(range(3), 2):
        difference = mean_interval((errors[second] - errors[first]).mean(dim=1))
        if difference.excludes_zero:
            expected.add((first, second) if difference.mean > 0 else (second, first))
    assert set(zip(pairs.better.tolist(), pairs.worse.tolist(), strict=True)) == expected
    assert {(0, 2), (1, 2)} <= expected and (pairs.gap > 0).all()


@pytest.mark.parametrize("draw", DRAWS)
def test_sans_bruit_aucun_tableau_ne_se_trompe(draw):
    errors = made([0.0, 1.0, 2.0], noise=1e-6)
    assert misordered(errors, Pairs.established(errors), draw, runs=1).max() == 0


@pytest.mark.parametrize("draw", DRAWS)
def test_plus_d_essais_se_trompent_moins(draw):
    errors = made([0.0, 0.7], noise=1.0)
    pairs = Pairs.established(errors)
    one, ten = (misordered(errors, pairs, draw, runs).item() for runs in (1, 10))
    assert ten < one / 3 and 15 < one < 45  # deux normales à 0,7 σ : Φ(−0,7/√2) = 31 %


def test_les_memes_graines_effacent_le_bruit_qu_elles_ont_en_commun():
    errors = made([0.0, 0.7], noise=0.1, common=3.0)
    pairs = Pairs.established(errors)
    apart, shared = (misordered(errors, pairs, draw, runs=1).item() for draw in (independent_runs, shared_seeds))
    assert shared == 0 and apart > 30


def test_une_egalite_compte_a_moitie():
    errors = torch.full((2, 10, 20), 5.0)
    pairs = Pairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([1.0]))
    assert misordered(errors, pairs, shared_seeds, runs=3).item() == 50


def test_un_tableau_de_toutes_les_graines_est_exact_dans_son_laboratoire():
    errors = made([0.0, 1.0], laboratories=4, seeds=5)
    pairs = Pairs(torch.tensor([0]), torch.tensor([1]), torch.tensor([1.0]))
    inside = (errors[0].mean(dim=1) > errors[1].mean(dim=1)).double().mean() * 100
    assert misordered(errors, pairs, independent_runs, 5, 4000).item() == pytest.approx(inside.item(), abs=4)


def test_trop_d_essais_est_refuse():
    errors = made([0.0, 1.0], laboratories=4, seeds=5)
    pairs = Pairs.established(errors)
    with pytest.raises(ValueError, match="runs : 6 reçu, de 1 à 5 attendu"):
        misordered(errors, pairs, shared_seeds, 6)


def test_les_mesures_rangees_couvrent_les_methodes_et_les_budgets_regles():
    comparison = StoredComparison.load()
    for epochs in comparison.steps:
        assert list(comparison.errors[epochs]) == list(METHODS)
        assert set(load_choices(epochs)) == set(METHODS) - {"seul"}
        assert comparison.stacked(epochs).shape == (len(METHODS), 10, 20)
    assert list(comparison.steps.values()) == [100, 400]
    by_hand = (comparison.errors[25]["seul"] - comparison.errors[25]["KD"]).mean(dim=1)
    assert torch.equal(comparison.gain(25, "KD"), by_hand)


def test_chaque_somme_d_une_autre_temperature_que_kd_a_son_temoin():
    comparison = StoredComparison.load()
    for epochs in comparison.steps:
        choices = load_choices(epochs)
        sums = {choice.temperature for name, choice in choices.items() if " + " in name}
        assert set(comparison.controls[epochs]) == {f"KD, T = {T:g}" for T in sums - {choices["KD"].temperature}}
        for name, own in comparison.controls[epochs].items():
            assert own.shape == (10, 20)
            expected = (own - comparison.errors[epochs]["KD + RKD"]).mean(dim=1)
            assert torch.equal(comparison.gain(epochs, "KD + RKD", name), expected)


def test_les_mesures_rangees_sont_celles_du_fichier():
    comparison = StoredComparison.load()
    raw = json.loads((Path(kdcourse.__file__).parent / "measures/comparison_results.json").read_text(encoding="utf-8"))
    assert comparison.errors[25]["KD"][3, 4].item() == pytest.approx(raw["errors"]["25"]["KD"][3][4] / 5)


def test_les_figures_nomment_les_methodes_et_leurs_erreurs():
    figure = plot_rankings({"A": {"KD": 3.0, "SP": 4.0}, "B": {"KD": 5.0, "SP": 2.0}}, {"KD": "student"}, "titre")
    texts = [text.get_text() for text in figure.axes[0].texts]
    assert texts == ["3,0 KD", "4,0 SP", "SP 2,0", "KD 5,0"]
    lines = [line.get_ydata().tolist() for line in figure.axes[0].lines]
    assert lines == [[0, 1], [1, 0]]
    figure = plot_misordered(
        [1, 3], {"a": ([30, 10], "student")}, torch.tensor([1.0, 2.0]), {1: torch.tensor([30.0, 5.0])}, "t"
    )
    assert figure.axes[0].lines[0].get_ydata().tolist() == [30, 10]


def test_les_graines_du_reglage_ne_sont_pas_celles_de_la_mesure():
    from benchmarks import compare

    assert not set(compare.TUNING_SEEDS) & set(range(compare.SEEDS))


def test_une_echelle_se_prolonge_du_cote_ou_le_meilleur_est_au_bord():
    from benchmarks.compare import widened

    assert widened([1, 4, 16], 1) == [1, 4, 16]
    assert widened([1, 4, 16], 2) == [1, 4, 16, 64]
    assert widened([1, 4, 16], 0) == [0.25, 1, 4, 16]


def test_le_reglage_trouve_un_sommet_hors_de_l_echelle_de_depart():
    from benchmarks.compare import initial_choice, tune

    method = METHODS["SP"]
    choice, tried = tune(method, initial_choice(method, {}), lambda c: abs(c.alpha - 0.7) + abs(c.scale - 3e5) / 3e5)
    assert (choice.alpha, choice.scale) == (0.7, 3e5) and tried[choice] == min(tried.values())


def test_ce_qu_une_methode_demande_se_dit():
    from kdcourse.measures import method_needs

    assert method_needs(METHODS["seul"]) == "rien"
    assert method_needs(METHODS["KD + hint"]) == "un teacher, ses cartes, un adaptateur"
    assert method_needs(METHODS["PS-KD"]) == "l'indice de chaque image"
