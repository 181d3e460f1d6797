"""Les mesures de 10.6."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from benchmarks import _report, tensor_train
from kdcourse import tt_reconstruct, tt_svd
from kdcourse.measures import CompressionRuns, rank_sweep, tt_svd_steps

ROOT = Path(__file__).parent.parent.parent

FULL = 16


def random(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture
def weight():
    return random(64, 27)


@pytest.fixture
def sweep(weight):
    return rank_sweep(weight, [1, 3, FULL])


def test_l_erreur_du_train_est_celle_de_sa_reconstruction(weight, sweep):
    for state in sweep.states:
        expected = 100 * (weight - state.matrix).norm() / weight.norm()
        assert state.error == pytest.approx(expected.item(), abs=1e-3)
    assert sweep.at(FULL).error < 1e-3 < sweep.at(3).error < sweep.at(1).error


def test_les_parametres_du_train_sont_comptes_a_la_main(sweep):
    # 64 = 4·4·4 et 27 = 3·3·3 : trois cœurs de 12 indices ; au rang plein, 12.
    assert [state.parameters for state in sweep.states] == [3 * 12, 12 * 3 + 12 * 9 + 12 * 3, 12 * 12 * (1 + 12 + 1)]


def test_la_svd_comparee_est_la_meilleure_qui_tienne_dans_autant_de_parametres(weight, sweep):
    for state in sweep.states:
        rank = state.svd_rank
        assert rank == 1 or rank * (64 + 27) <= state.parameters < (rank + 1) * (64 + 27)
        u, s, vh = np.linalg.svd(weight.double().numpy())
        approximation = (u[:, :rank] * s[:rank]) @ vh[:rank]
        expected = 100 * np.linalg.norm(weight.double().numpy() - approximation) / np.linalg.norm(weight.double())
        assert state.svd_error == pytest.approx(expected, rel=1e-4)


def test_le_filtre_exponentiel_est_un_train_de_rang_trois():
    place = torch.arange(64.0)
    band = torch.exp(-(place[:, None] - place).abs() / 8)
    state = rank_sweep(band, [3]).at(3)
    assert state.error < 0.01 and state.svd_error > 10


def test_le_balayage_ne_touche_ni_au_poids_ni_a_son_gradient(weight):
    parameter = torch.nn.Parameter(weight.clone())
    sweep = rank_sweep(parameter, [2])
    assert not sweep.weight.requires_grad and torch.equal(parameter, weight)


@pytest.mark.parametrize(
    "wrong, message",
    [
        (torch.zeros(8), "weight : forme"),
        (torch.zeros(8, 8, dtype=torch.int64), "weight : dtype"),
        (torch.full((8, 8), float("nan")), "weight : 64 valeur"),
        (torch.zeros(97, 8), "97 reçu"),
    ],
)
def test_une_matrice_qui_ne_se_replie_pas_est_refusee(wrong, message):
    with pytest.raises((TypeError, ValueError), match=message):
        rank_sweep(wrong, [2])


@pytest.mark.parametrize("rank", [1, 2, 3, 9])
@pytest.mark.parametrize("shape", [(4, 5), (4, 5, 6), (2, 3, 4, 5)])
def test_les_pas_de_la_tt_svd_menent_a_son_train(shape, rank):
    tensor = torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    steps = tt_svd_steps(tensor, rank)
    assert [step.action for step in steps] == ["tenseur", *["déplier", "couper"] * (len(shape) - 1), "recoller"]
    for mine, ours in zip(steps[-1].cores, tt_svd(tensor, rank), strict=True):
        torch.testing.assert_close(mine.abs(), ours.abs())  # une SVD n'est unique qu'au signe près
    torch.testing.assert_close(steps[-1].rest, tt_reconstruct(tt_svd(tensor, rank)))
    assert (tensor - steps[-1].rest).norm().item() == pytest.approx(steps[-1].dropped, abs=1e-12)
    unfolded = [tensor.reshape(tensor.shape[:k].numel(), -1) for k in range(1, tensor.dim())]
    bound = sum(torch.linalg.svdvals(matrix)[rank:].square().sum() for matrix in unfolded) ** 0.5
    assert steps[-1].dropped <= bound.item() + 1e-12
    for before, after in zip(steps[1:-1:2], steps[2::2], strict=True):  # une coupe jette la fin du spectre
        lost = (before.rest - after.cores[-1].reshape(-1, after.rank) @ after.rest).norm().item()
        assert lost == pytest.approx(after.singular[after.rank :].norm().item(), abs=1e-12)
        assert after.dropped == pytest.approx((before.dropped**2 + lost**2) ** 0.5)


def test_sans_coupe_chaque_depliement_a_les_valeurs_singulieres_du_tenseur():
    tensor = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    first, second = tt_svd_steps(tensor, 100)[1:-1:2]
    torch.testing.assert_close(first.singular, torch.linalg.svdvals(tensor.reshape(3, 20)))
    expected = torch.linalg.svdvals(tensor.reshape(12, 5))
    torch.testing.assert_close(second.singular[: len(expected)], expected)
    assert tt_svd_steps(tensor, 100)[-1].dropped == 0


def test_les_pas_refusent_ce_que_la_tt_svd_refuse():
    with pytest.raises(ValueError, match="tensor : forme"):
        tt_svd_steps(torch.randn(4), 2)
    with pytest.raises(ValueError, match="rank : 0 reçu"):
        tt_svd_steps(torch.randn(4, 4), 0)
    with pytest.raises(ValueError, match="tensor : "):
        tt_svd_steps(torch.full((2, 2), float("nan")), 1)


def test_le_paquet_porte_les_students_que_la_mesure_demande():
    kept = json.loads((ROOT / "kdcourse/measures/tensor_train_results.json").read_text(encoding="utf-8"))
    asked = list(tensor_train.asked_runs())
    assert [{name: run[name] for name in asked[0]} for run in kept["runs"]] == asked
    assert all(len(run[part]) == 10 for run in kept["runs"] for part in ("validation", "test", "int8"))


def test_les_students_se_lisent_par_leur_forme_leur_taille_et_leur_budget():
    stored = CompressionRuns.load()
    (raw,) = [run for run in stored.runs if (run["shape"], run["size"], run["budget"]) == ("SVD", 8, 4)]
    assert stored.run("SVD", 8, 4)["test"].tolist() == pytest.approx(raw["test"])
    sizes, errors = stored.front("SVD", 4)
    assert sizes == [576 * r + 1024 * r + 512 * 2 + 5130 for r in (2, 4, 6, 8, 16)]
    assert errors.shape == (5, 10) and errors[3].tolist() == pytest.approx(raw["test"])
    fresh, usual = (stored.run("TT", 4, 1, start=start)["test"] for start in ("neuf", "teacher"))
    name, gains = stored.duel(("TT", 4), ("SVD", 8), 4)
    assert name == "TT 8\N{NO-BREAK SPACE}458 contre SVD 18\N{NO-BREAK SPACE}954"
    assert torch.equal(gains, stored.run("SVD", 8, 4)["test"] - stored.run("TT", 4, 4)["test"])
    assert not torch.equal(fresh, usual) and "mesurés le" in stored.origin


def test_un_essai_reduit_mesure_chaque_forme_et_ne_range_rien(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_report, "SHOWN", tmp_path)
    monkeypatch.setattr(tensor_train, "RATES", (0.01,))
    monkeypatch.setattr(tensor_train, "STEPS", 40)
    sizes = {"TT": (2,), "SVD": (2,), "petit dense": (8,)}
    monkeypatch.setattr(tensor_train, "FRONT", sizes)
    threads = torch.get_num_threads()
    tensor_train.main(["--graines", "2"])
    torch.set_num_threads(threads)
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert [run["shape"] for run in result["runs"][:6:2]] == list(sizes)
    assert all(len(run["test"]) == 2 and max(run["test"]) <= 100 for run in result["runs"])
    assert not list(tmp_path.iterdir())


def test_la_svd_de_plein_rang_est_la_couche():
    linear = torch.nn.Linear(6, 4)
    inputs = torch.randn(3, 6)
    torch.testing.assert_close(tensor_train.low_rank(linear, 4)(inputs), linear(inputs))
