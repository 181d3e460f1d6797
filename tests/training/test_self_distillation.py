"""10.5 à l'entraînement : la cible d'un exemple est la sienne, lots mélangés et dernier lot plus petit compris."""

import math
import re

import pytest
import torch
import torch.nn.functional as F
from support.small_training import Recorder, data, linear, loader, manual_epochs
from torch import nn

from kdcourse import KnowledgeDistillationLoss, born_again, progressive_self_distillation, ps_kd
from kdcourse.training import self_distillation
from kdcourse.training.frozen_teacher import frozen_logits


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_progressive_prend_pour_cible_la_prediction_passee_du_meme_exemple():
    images, labels = data()
    model, reference = linear(), linear()
    reference.load_state_dict(model.state_dict())
    past = []

    def loss_of_batch(epoch, x, y):
        if len(past) <= epoch:  # au début de l'époque : les poids de la fin de la précédente
            past.append((reference.weight.detach().clone(), reference.bias.detach().clone()))
        z = reference(x)
        if epoch == 0:
            return F.cross_entropy(z, y)
        weight, bias = past[epoch]
        earlier = torch.stack([weight @ row + bias for row in x])  # un exemple à la fois : le sien, pas un autre
        divergence = F.kl_div((z / 4).log_softmax(-1), (earlier / 4).softmax(-1), reduction="batchmean")
        return 0.3 * 16 * divergence + 0.7 * F.cross_entropy(z, y)

    batches = loader(images, labels)
    epochs = [list(batches) for _ in range(3)]
    expected, weights = manual_epochs(reference, epochs, loss_of_batch, 3, learning_rate=0.1)
    history = progressive_self_distillation(model, loader(images, labels), epochs=3, learning_rate=0.1)
    assert [len(y) for _, y in epochs[0]] == [4, 4, 2]
    assert history == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(model.state_dict(), weights[-1])


def test_progressive_demande_au_modele_fige_exactement_le_lot_courant(monkeypatch):
    asked, current = [], []
    monkeypatch.setattr(
        self_distillation, "frozen_logits", lambda m, x: (asked.append(x.clone()), frozen_logits(m, x))[1]
    )
    model = Recorder()
    model.register_forward_pre_hook(lambda module, inputs: current.append(inputs[0]) if module is model else None)
    progressive_self_distillation(model, loader(*data()), epochs=2)
    assert len(asked) == 3
    assert all(torch.equal(a, b) for a, b in zip(asked, current[3:-1], strict=True))  # le dernier : le modèle rendu


def test_progressive_fige_son_passe_en_eval_et_sans_gradient(monkeypatch):
    seen = []

    def spy(previous, images):
        seen.append((previous.training, previous.dropout.training, any(p.requires_grad for p in previous.parameters())))
        logits = frozen_logits(previous, images)
        seen[-1] += (logits.requires_grad,)
        return logits

    monkeypatch.setattr(self_distillation, "frozen_logits", spy)
    progressive_self_distillation(Recorder(), loader(*data()), epochs=2)
    assert set(seen) == {(False, False, False, False)}


def test_progressive_ignore_les_indices_d_un_lot_qui_en_a():
    images, labels = data()
    first, second = linear(), linear()
    second.load_state_dict(first.state_dict())
    plain = progressive_self_distillation(first, loader(images, labels), epochs=2)
    assert progressive_self_distillation(second, loader(images, labels, indexed=True), epochs=2) == plain


def test_progressive_a_alpha_nul_est_l_entrainement_par_les_etiquettes():
    images, labels = data()
    first, second = linear(), linear()
    second.load_state_dict(first.state_dict())
    history = progressive_self_distillation(first, loader(images, labels), epochs=3, alpha=0)
    batches = loader(images, labels)
    epochs = [list(batches) for _ in range(3)]
    expected, _ = manual_epochs(second, epochs, lambda _, x, y: F.cross_entropy(second(x), y), 3)
    assert history == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("drop_last", [False, True])
def test_ps_kd_prend_pour_cible_la_prediction_rangee_du_meme_exemple(drop_last):
    images, labels = data()
    model, reference = linear(), linear()
    reference.load_state_dict(model.state_dict())
    memory = {}

    def loss_of_batch(epoch, x, y, indices):
        rows, z = [], reference(x)
        for row, label, index in zip(z, y, indices.tolist(), strict=True):
            one_hot = torch.eye(3)[label]
            alpha = 0.8 * (epoch + 1) / 4
            target = (1 - alpha) * one_hot + alpha * memory.get(index, one_hot)
            rows.append(-(target * row.log_softmax(-1)).sum())
            memory[index] = row.detach().softmax(-1)
        return sum(rows) / len(rows)

    batches = loader(images, labels, indexed=True, drop_last=drop_last)
    epochs = [list(batches) for _ in range(4)]
    expected, weights = manual_epochs(reference, epochs, loss_of_batch, 4, learning_rate=0.1)
    again = loader(images, labels, indexed=True, drop_last=drop_last)
    assert ps_kd(model, again, epochs=4, learning_rate=0.1) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(model.state_dict(), weights[-1])


def test_ps_kd_ne_calcule_rien_deux_fois():
    model = Recorder()
    ps_kd(model, loader(*data(), indexed=True), epochs=3)
    assert len(model.calls) == 3 * 3 + 1  # et une fois, à la fin : que répond le modèle rendu ?


def test_ps_kd_accepte_un_modele_en_demi_precision_et_en_float64():
    for dtype in (torch.bfloat16, torch.float64):
        images, labels = data()
        history = ps_kd(linear().to(dtype), loader(images.to(dtype), labels, indexed=True), epochs=2)
        assert all(map(math.isfinite, history))


@pytest.mark.parametrize("train", [progressive_self_distillation, ps_kd])
def test_le_meme_tirage_donne_les_memes_pertes(train):
    images, labels = data()

    def once():
        torch.manual_seed(5)
        return train(Recorder(), loader(images, labels, indexed=True), epochs=3)

    assert once() == once()


@pytest.mark.parametrize("train", [progressive_self_distillation, ps_kd])
def test_le_modele_entraine_finit_en_eval_apres_avoir_ete_en_train(train):
    model = Recorder().eval()
    train(model, loader(*data(), indexed=True), epochs=2)
    assert not model.training and not model.dropout.training
    *trained, (_, answering, _) = model.calls
    assert all(training for _, training, _ in trained) and not answering


@pytest.mark.skipif(not torch.cuda.is_available(), reason="demande un GPU")
@pytest.mark.parametrize("train", [progressive_self_distillation, ps_kd])
def test_les_donnees_rejoignent_le_modele_sur_gpu(train):
    model = linear().cuda()
    assert len(train(model, loader(*data(), indexed=True), epochs=2)) == 2


# --- Les générations --------------------------------------------------------------------------------------------------


def test_born_again_instruit_chaque_reseau_par_le_precedent():
    images, labels = data()
    made = []

    def make_model():
        made.append(linear())
        return made[-1]

    lineage = born_again(make_model, loader(images, labels, shuffle=False), 3, epochs=2, learning_rate=0.1)
    start, teacher = linear(), lineage[1].model
    torch.manual_seed(0)
    loss = KnowledgeDistillationLoss(4.0, 0.7)
    data()  # remet le générateur où il était à la création du premier réseau
    starts = [linear() for _ in range(3)]
    start.load_state_dict(starts[2].state_dict())
    batches = list(loader(images, labels, shuffle=False))
    expected, weights = manual_epochs(
        start, [batches, batches], lambda _, x, y: loss(start(x), teacher(x).detach(), y).total, 2, learning_rate=0.1
    )
    assert [row["loss"] for row in lineage[2].history] == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(made[2].state_dict(), weights[-1])


def test_born_again_instruit_la_premiere_generation_par_les_etiquettes():
    images, labels = data()
    torch.manual_seed(1)
    lineage = born_again(linear, loader(images, labels), 1, epochs=2)
    torch.manual_seed(1)
    alone = linear()
    batches = loader(images, labels)
    epochs = [list(batches), list(batches)]
    expected, _ = manual_epochs(alone, epochs, lambda _, x, y: F.cross_entropy(alone(x), y), 2)
    assert [row["loss"] for row in lineage[0].history] == pytest.approx(expected, rel=1e-6)


def test_born_again_prend_pour_teacher_une_copie_figee_jamais_le_student(monkeypatch):
    pairs = []
    made = []
    monkeypatch.setattr(self_distillation, "frozen_logits", lambda t, x: (pairs.append(t), frozen_logits(t, x))[1])
    born_again(lambda: (made.append(linear()), made[-1])[1], loader(*data()), 3, epochs=1)
    assert len({id(teacher) for teacher in pairs}) == 2
    students = {id(p) for model in made for p in model.parameters()}
    for teacher in pairs:
        assert not teacher.training
        assert all(not p.requires_grad and p.grad is None and id(p) not in students for p in teacher.parameters())


def test_born_again_ne_change_plus_une_generation_une_fois_entrainee():
    images, labels = data()
    torch.manual_seed(1)
    one = born_again(linear, loader(images, labels, shuffle=False), 1, epochs=2)
    torch.manual_seed(1)
    three = born_again(linear, loader(images, labels, shuffle=False), 3, epochs=2)
    torch.testing.assert_close(three[0].model.state_dict(), one[0].model.state_dict())


def test_born_again_rend_des_reseaux_distincts_en_eval():
    lineage = born_again(Recorder, loader(*data()), 3, epochs=1)
    assert len({id(generation.model) for generation in lineage}) == 3
    assert not any(generation.model.training for generation in lineage)


def test_born_again_refuse_un_make_model_qui_rend_le_meme_objet():
    model = linear()
    with pytest.raises(ValueError, match=r"make_model : un réseau qui partage des poids .*, un réseau neuf attendu"):
        born_again(lambda: model, loader(*data()), 2, epochs=1)


# --- Les refus --------------------------------------------------------------------------------------------------------

progressive = progressive_self_distillation
OUT_OF_RANGE = (torch.zeros(2, 4), torch.tensor([0, 7]), torch.arange(2))
INFINITE = (torch.full((2, 4), math.inf), torch.tensor([0, 1]))
REFUSALS = {
    "model : function reçu, un modèle (torch.nn.Module) attendu": lambda batches: progressive(linear, batches),
    "model : aucun paramètre à entraîner reçu": lambda batches: progressive(nn.ReLU(), batches),
    "epochs : 0 reçu, un entier ≥ 1 attendu": lambda batches: progressive(linear(), batches, epochs=0),
    "epochs : 1.5 (float) reçu, un entier ≥ 1 attendu": lambda batches: progressive(linear(), batches, epochs=1.5),
    "alpha : 2 reçu, un nombre de [0, 1] attendu": lambda batches: progressive(linear(), batches, alpha=2),
    "temperature : 0 reçu": lambda batches: progressive(linear(), batches, temperature=0),
    "learning_rate : 0 reçu": lambda batches: progressive(linear(), batches, learning_rate=0),
    "dataloader : aucun lot reçu, au moins un par époque": lambda batches: progressive(linear(), []),
    "un itérateur s'épuise": lambda batches: progressive(linear(), iter(list(batches))),
    "dataloader : lot (Tensor) reçu, (images, labels) attendu": lambda batches: progressive(linear(), INFINITE[:1]),
    "labels : valeur 7 reçue, de 0 à 2 attendu": lambda batches: progressive(linear(), [OUT_OF_RANGE]),
    "model(images) : 6 valeur(s) NaN ou infinie(s)": lambda batches: progressive(linear(), [INFINITE]),
    "alpha : 1.2 reçu": lambda batches: ps_kd(linear(), batches, alpha=1.2),
    "lot (images, labels) reçu, (images, labels, indices) attendu": lambda batches: ps_kd(linear(), batches),
    "lot (images, labels, torch.float32 (2,)) reçu": lambda batches: ps_kd(linear(), [(*INFINITE, torch.ones(2))]),
    "labels : valeur 7 reçue": lambda batches: ps_kd(linear(), [OUT_OF_RANGE]),
    "model(images) : 6 valeur(s)": lambda batches: ps_kd(linear(), [(*INFINITE, torch.arange(2))]),
    "generations : 0 reçu, un entier ≥ 1 attendu": lambda batches: born_again(linear, batches, generations=0),
    "make_model : NoneType reçu, un modèle": lambda batches: born_again(lambda: None, batches),
    "alpha : -1 reçu": lambda batches: born_again(linear, batches, alpha=-1),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_les_entrainements_refusent_et_disent_pourquoi(message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        REFUSALS[message](loader(*data()))


def test_ps_kd_retrouve_chaque_exemple_quel_que_soit_l_ordre_de_ses_indices():
    """La cible de la deuxième époque est la prédiction du même exemple, aussi quand les lots ont changé."""
    images, labels = torch.randn(4, 3), torch.tensor([0, 1, 0, 1])
    epochs = [[[3, 1], [0, 2]], [[2, 3], [1, 0]]]
    predictions, targets = {}, []

    class Recorder(torch.nn.Linear):
        def forward(self, x):
            logits = super().forward(x)
            targets.append(logits.detach().softmax(-1))
            return logits

    class Orders:
        def __iter__(self):
            for batch in map(torch.tensor, epochs.pop(0)):
                yield images[batch], labels[batch], batch

    torch.manual_seed(0)
    model = Recorder(3, 2)
    history = ps_kd(model, Orders(), 2, alpha=1.0, learning_rate=1e-12)
    predictions = dict(zip([3, 1, 0, 2], torch.cat(targets[:2]), strict=True))
    # Le modèle n'a pas bougé : à l'époque 2, alpha = 1, la perte est l'entropie de ses propres prédictions.
    expected = -sum((p * p.log()).sum() for p in predictions.values()) / 4
    assert history[1] == pytest.approx(expected.item(), rel=1e-4)


def test_ps_kd_refuse_un_indice_negatif():
    batches = [(torch.randn(2, 3), torch.tensor([0, 1]), torch.tensor([-1, 0]))]
    with pytest.raises(ValueError, match="dataloader : indice -1 reçu, de 0 à N - 1 attendu"):
        ps_kd(torch.nn.Linear(3, 2), batches)


def test_ps_kd_refuse_des_indices_qui_ne_designent_pas_un_exemple():
    """Des indices propres au lot, 0 à B - 1 : c'est le bug du chapitre."""
    batches = [(torch.randn(2, 3), torch.tensor([0, 1]), torch.arange(2)),
               (torch.randn(2, 3), torch.tensor([1, 0]), torch.arange(2))]  # fmt: skip
    with pytest.raises(ValueError, match="dataloader : un indice revient avec une autre étiquette"):
        ps_kd(torch.nn.Linear(3, 2), batches)
