"""Les mesures de 10.4."""

import pytest
import torch
import torch.nn.functional as F

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
from kdcourse.measures import class_contrast, relation_state, sorted_by_class


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
