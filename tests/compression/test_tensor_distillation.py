"""10.6, la distillation vers un modèle compressé : le teacher ressort intact, la perte est celle de l'époque."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from support.small_training import Recorder, data, linear, loader, manual_epochs
from torch import nn

from kdcourse import TensorDistillation, convert_to_tensor_train

distill = TensorDistillation.distill_to_compressed_student


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def test_compress_teacher_est_convert_to_tensor_train():
    model, inputs = nn.Linear(64, 64), torch.randn(2, 64)
    compressed = TensorDistillation.compress_teacher_with_tensor_train(model, rank=4)
    torch.testing.assert_close(compressed(inputs), convert_to_tensor_train(model, 4)(inputs))


def test_compress_teacher_a_le_rang_32_par_defaut():
    compressed = TensorDistillation.compress_teacher_with_tensor_train(nn.Linear(512, 512))
    assert compressed.cores[1].shape == (32, 8, 8, 32)


def test_distiller_rend_la_perte_moyenne_de_chaque_epoque():
    inputs, labels = data()
    teacher, student, reference = linear(), linear(), linear()
    reference.load_state_dict(student.state_dict())

    def loss_of_batch(_, x, y):
        z, t = reference(x), teacher(x).detach()
        divergence = F.kl_div((z / 4).log_softmax(-1), (t / 4).softmax(-1), reduction="batchmean")
        return 0.7 * 16 * divergence + 0.3 * F.cross_entropy(z, y)

    batches = loader(inputs, labels)
    expected, weights = manual_epochs(reference, [list(batches) for _ in range(3)], loss_of_batch, 3)
    assert distill(teacher, student, loader(inputs, labels), epochs=3) == pytest.approx(expected, rel=1e-5)
    torch.testing.assert_close(student.state_dict(), weights[-1])


def test_le_teacher_ressort_intact_dans_ses_modes():
    teacher = nn.Sequential(nn.BatchNorm1d(4), Recorder(), nn.Dropout().eval())
    before = copy.deepcopy(teacher.state_dict())
    modes = [module.training for module in teacher.modules()]
    distill(teacher, linear(), loader(*data()), epochs=2)
    torch.testing.assert_close(teacher.state_dict(), before, rtol=0, atol=0)
    assert [module.training for module in teacher.modules()] == modes
    assert all(parameter.grad is None and parameter.requires_grad for parameter in teacher.parameters())


def test_le_teacher_predit_en_eval_et_sans_gradient():
    teacher = Recorder()
    distill(teacher, linear(), loader(*data()), epochs=2)
    assert len(teacher.calls) == 6
    assert {(training, graph) for _, training, graph in teacher.calls} == {(False, False)}


def test_un_student_en_train_de_tenseurs_apprend():
    inputs = torch.randn(64, 64)
    teacher = nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 3))
    student = TensorDistillation.compress_teacher_with_tensor_train(teacher, rank=2)
    history = distill(teacher, student, [(inputs, teacher(inputs).argmax(-1))] * 5, epochs=20)
    assert history[-1] < 0.9 * history[0]


def test_le_meme_tirage_donne_la_meme_distillation():
    inputs, labels = data()

    def once():
        torch.manual_seed(1)
        return distill(linear(), Recorder(), loader(inputs, labels), epochs=2)

    assert once() == once()


@pytest.mark.skipif(not torch.cuda.is_available(), reason="demande un GPU")
@pytest.mark.parametrize("teacher_device", ["cpu", "cuda"])
def test_les_donnees_rejoignent_le_student_sur_gpu(teacher_device):
    assert len(distill(linear().to(teacher_device), linear().cuda(), loader(*data()), epochs=2)) == 2


SAME = linear()
REFUSALS = {
    "teacher_model : NoneType reçu, un modèle": lambda: distill(None, linear(), []),
    "teacher_model : type reçu, un modèle": lambda: TensorDistillation.compress_teacher_with_tensor_train(nn.Linear),
    "student_model : str reçu, un modèle": lambda: distill(linear(), "student", []),
    "student_model : des poids de teacher_model reçus": lambda: distill(SAME, SAME, []),
    "dataloader : aucun lot reçu": lambda: distill(linear(), linear(), []),
    "epochs : 0 reçu": lambda: distill(linear(), linear(), loader(*data()), epochs=0),
    "teacher_logits : forme (4, 5) reçue, (4, 3) attendue": lambda: distill(nn.Linear(4, 5), linear(), loader(*data())),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_la_distillation_refuse_et_dit_pourquoi(message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        REFUSALS[message]()
