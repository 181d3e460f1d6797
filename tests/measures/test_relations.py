"""Les mesures de 10.4."""

import json
import math
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from benchmarks import _report, relations
from kdcourse import (
    MLP,
    Features,
    Split,
    cosine_relations,
    digits_student,
    load_dataset,
    predict_features,
    train_many,
)
from kdcourse.measures import (
    RelationBudgets,
    alpha_of,
    class_contrast,
    nearest_class_error,
    relation_state,
    sorted_by_class,
)

STORED = Path(__file__).parents[2] / "kdcourse/measures/relations_results.json"


def test_les_exemples_sont_tries_par_classe_dans_l_ordre_du_lot():
    images = torch.arange(6.0).view(6, 1, 1, 1)
    chosen = sorted_by_class(Split(images, torch.tensor([1, 0, 1, 0, 1, 0])), per_class=2)
    assert chosen.labels.tolist() == [0, 0, 1, 1]
    assert chosen.images.flatten().tolist() == [1, 3, 0, 2]


def test_une_classe_trop_rare_est_refusee():
    with pytest.raises(ValueError, match="per_class : 3 reçu, 2 au plus"):
        sorted_by_class(Split(torch.zeros(5, 1, 1, 1), torch.tensor([0, 0, 0, 1, 1])), per_class=3)


def test_le_contraste_ne_compte_pas_la_diagonale():
    relations = torch.tensor([[1.0, 0.6, 0.1], [0.6, 1.0, 0.3], [0.1, 0.3, 1.0]])
    assert class_contrast(relations, torch.tensor([0, 0, 1])) == pytest.approx(0.6 - 0.2)


@pytest.fixture(scope="module")
def training():
    torch.manual_seed(0)
    teacher, data = MLP(hidden=(16,)).eval(), load_dataset().train.where(slice(0, 40))
    guide = predict_features(teacher, data.images)

    def distance(student: Features, target: Features, labels):
        return (cosine_relations(student.embedding) - cosine_relations(target.embedding)).square().mean()

    snapshots = {
        epochs: train_many(
            digits_student, data, seeds=[0, 0], alphas=[0.0, 0.9], distillation=distance, teacher=guide,
            epochs=epochs, batch_size=20,
        )
        for epochs in (1, 4)
    }  # fmt: skip
    return snapshots, teacher, load_dataset().validation


def test_l_etat_est_l_ecart_au_teacher_et_l_erreur_sur_toute_la_partie(training):
    snapshots, teacher, part = training
    model = snapshots[4][1]
    state = relation_state(model, teacher, part)
    images = sorted_by_class(part).images
    with torch.no_grad():
        rows = [F.normalize(network.forward_features(images).embedding, dim=1) for network in (model, teacher)]
        error = 100 * (model(part.images).argmax(1) != part.labels).float().mean()
    expected, target = (row @ row.T for row in rows)
    torch.testing.assert_close(state.relations, expected)
    assert state.loss == pytest.approx(((expected - target) ** 2).mean().item(), rel=1e-4)
    assert state.error == pytest.approx(error.item())


def test_le_teacher_n_a_aucun_ecart_avec_lui_meme(training):
    _, teacher, part = training
    assert relation_state(teacher, teacher, part).loss == 0


def test_le_poids_est_le_rapport_de_la_distillation_aux_etiquettes():
    assert alpha_of(0) == 0 and alpha_of(math.inf) == 1
    assert alpha_of(30) / (1 - alpha_of(30)) == pytest.approx(30)


def test_chaque_exemple_prend_le_nom_du_centre_qui_lui_ressemble_le_plus():
    known = torch.tensor([[2.0, 0.0], [1.0, 1.0], [0.0, 5.0]])  # le centre de la classe 0 est entre ses deux exemples
    unknown = torch.tensor([[1.0, 0.4], [0.1, 9.0], [0.3, 0.35], [0.2, 1.0]])
    named = torch.tensor([0, 1, 0, 1])
    found = nearest_class_error(known, torch.tensor([0, 0, 1]), unknown, named)
    assert found.item() == 0
    assert nearest_class_error(known, torch.tensor([0, 0, 1]), unknown, 1 - named).item() == 100


def test_les_gains_ranges_sont_des_differences_appariees():
    stored, raw = RelationBudgets.load(), json.loads(STORED.read_text(encoding="utf-8"))
    rows = raw["errors"]["100"]
    for against, part in (("seul", "test"), ("logits", "validation")):
        pairs = zip(rows[against][part], rows["SP"][part], strict=True)
        expected = [[a - b for a, b in zip(*pair, strict=True)] for pair in pairs]
        torch.testing.assert_close(stored.gains(100, "SP", against, part), torch.tensor(expected), atol=1e-4, rtol=0)
    torch.testing.assert_close(stored.gain(100, "SP", 1600, "logits", "validation"), torch.tensor(expected[-1]),
                               atol=1e-4, rtol=0)  # fmt: skip
    assert "mesurés le" in stored.origin


def test_le_poids_range_est_le_meilleur_de_la_validation():
    stored = RelationBudgets.load()
    for size, methods in stored.errors.items():
        for name, rows in methods.items():
            for steps, found in zip(stored.steps, rows["validation"], strict=True):
                weights, means = stored.by_weight(size, name, steps)
                best = min(means)
                assert means[weights.index(stored.weight(size, name, steps))] == best
                assert sum(found) / 10 == pytest.approx(best, abs=0.01) and len(found) == 10


def test_le_paquet_porte_les_relations_que_la_mesure_demande():
    kept = json.loads(STORED.read_text(encoding="utf-8"))
    assert kept["steps"] == list(relations.STEPS)
    for size, names in relations.SIZES.items():
        own = kept["errors"][str(size)]
        assert {name: rows["weights"] for name, rows in own.items()} == {n: relations.METHODS[n][1] for n in names}


def test_un_essai_reduit_mesure_chaque_methode_et_ne_range_rien(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_report, "SHOWN", tmp_path)
    monkeypatch.setattr(relations, "STEPS", (4,))
    threads = torch.get_num_threads()
    relations.main(["--graines", "2"])
    torch.set_num_threads(threads)
    result = json.loads(capsys.readouterr().out.strip().splitlines()[-1])
    assert {int(size): list(own) for size, own in result["errors"].items()} == relations.SIZES
    assert all(len(rows["test"][0]) == 2 for own in result["errors"].values() for rows in own.values())
    assert not list(tmp_path.iterdir())
