"""La boucle nue : appareil, modes, perte moyenne de l'époque."""

import copy

import pytest
import torch
import torch.nn.functional as F
from support.small_training import Recorder, data, linear, loader
from torch import nn

from kdcourse import train_epochs
from kdcourse.models import evaluating
from kdcourse.training.frozen_teacher import frozen_copy, frozen_logits


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_les_donnees_rejoignent_l_appareil_du_modele():
    seen = []

    def loss_of_batch(model, images, labels):
        seen.append((images.device.type, labels.device.type))
        return model(images).sum()

    with pytest.raises(Exception, match="meta"):  # rien ne se calcule sur meta : on n'y regarde que l'appareil
        list(train_epochs(linear().to("meta"), loader(*data()), loss_of_batch, epochs=1))
    assert set(seen) == {("meta", "meta")}


def test_la_perte_d_une_epoque_pese_chaque_lot_par_sa_taille():
    losses = iter([1.0, 2.0, 6.0])
    model = linear()
    epochs = train_epochs(model, loader(*data()), lambda m, x, y: 0 * m(x).sum() + next(losses), epochs=1)
    assert list(epochs) == [pytest.approx((4 * 1 + 4 * 2 + 2 * 6) / 10)]


def test_la_boucle_rend_la_main_en_eval_a_chaque_epoque():
    model = Recorder()
    modes = [model.training for _ in train_epochs(model, loader(*data()), lambda m, x, y: m(x).sum(), epochs=3)]
    assert modes == [False] * 3


def test_la_boucle_laisse_les_parametres_geles():
    model = nn.Sequential(nn.Linear(4, 4).requires_grad_(False), linear())
    before = copy.deepcopy(model.state_dict())
    list(train_epochs(model, loader(*data()), lambda m, x, y: F.cross_entropy(m(x), y), epochs=1))
    assert torch.equal(model[0].weight, before["0.weight"])
    assert not torch.equal(model[1].weight, before["1.weight"])


def test_une_copie_figee_ne_suit_plus_le_modele():
    model = linear()
    frozen = frozen_copy(model)
    with torch.no_grad():
        model.weight.zero_()
    assert frozen.weight.abs().sum() > 0


def test_une_copie_figee_est_en_eval_et_laisse_le_modele_en_train():
    model = Recorder().train()
    assert not any(module.training for module in frozen_copy(model).modules()) and model.dropout.training


def test_les_logits_figes_n_ont_pas_de_graphe():
    assert not frozen_logits(linear(), torch.zeros(2, 4)).requires_grad


def test_le_teacher_retrouve_ses_modes_meme_apres_une_erreur():
    teacher = nn.Sequential(nn.Dropout(), nn.BatchNorm1d(3).eval())
    with pytest.raises(RuntimeError), evaluating(teacher):
        assert not any(module.training for module in teacher.modules())
        raise RuntimeError
    assert [module.training for module in teacher.modules()] == [True, True, False]
