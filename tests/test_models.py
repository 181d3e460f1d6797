"""Les modèles rendent leurs logits, et tout le chemin en un seul passage."""

import pytest
import torch

from kdcourse import (
    CNN,
    MLP,
    color_student,
    color_teacher,
    digits_student,
    digits_teacher,
    mnist_student,
    mnist_teacher,
    parameter_count,
)

BUILDERS = {
    "digits_teacher": (digits_teacher, (1, 8, 8)),
    "digits_student": (digits_student, (1, 8, 8)),
    "mnist_teacher": (mnist_teacher, (1, 28, 28)),
    "mnist_student": (mnist_student, (1, 28, 28)),
    "color_teacher": (lambda: color_teacher(100), (3, 32, 32)),
    "color_student": (color_student, (3, 32, 32)),
    "cnn 28×28": (lambda: CNN(channels=(8, 16)), (1, 28, 28)),
}


@pytest.mark.parametrize("name", BUILDERS)
def test_forward_rend_les_logits_de_forward_features(name):
    build, shape = BUILDERS[name]
    model, images = build().eval(), torch.rand(5, *shape)
    features = model.forward_features(images)
    assert torch.equal(model(images), features.logits)
    assert features.logits.shape == (5, model.head.out_features)
    assert torch.equal(model.head(features.embedding), features.logits)
    assert len(features.maps) == len(model.stages)


def test_chaque_etage_du_cnn_divise_la_taille_par_deux():
    maps = CNN(channels=(8, 16, 32)).forward_features(torch.rand(2, 1, 28, 28)).maps
    assert [tuple(m.shape[1:]) for m in maps] == [(8, 28, 28), (16, 14, 14), (32, 7, 7)]


def test_le_nombre_de_parametres_est_celui_du_calcul_a_la_main():
    assert parameter_count(MLP(64, (32, 32), 10)) == (64 * 32 + 32) + (32 * 32 + 32) + (32 * 10 + 10)
    assert parameter_count(CNN(1, (8,), 10)) == 9 * 8 + 2 * 8 + (4 * 8 * 10 + 10)


def test_les_tailles_annoncees_sont_les_vraies():
    assert (parameter_count(digits_teacher()), parameter_count(digits_student())) == (25_978, 3_466)


@pytest.mark.parametrize(
    "teacher, student",
    [(digits_teacher, digits_student), (mnist_teacher, mnist_student), (color_teacher, color_student)],
)
def test_un_student_est_plus_petit_que_son_teacher(teacher, student):
    assert parameter_count(student()) < parameter_count(teacher())


def test_le_dropout_n_agit_qu_a_l_entrainement():
    model, images = MLP(dropout=0.5, input_dropout=0.2), torch.rand(4, 1, 8, 8)
    assert not torch.equal(model(images), model(images))
    model.eval()
    assert torch.equal(model(images), model(images))


@pytest.mark.parametrize(
    "build, images, message",
    [
        (lambda: MLP(), torch.rand(2, 1, 28, 28), r"images : forme \(2, 1, 28, 28\) reçue, 64 pixels"),
        (lambda: MLP(), torch.rand(2, 64), r"images : forme \(2, 64\) reçue, \(B, canaux"),
        (lambda: CNN(), torch.rand(2, 3, 8, 8), r"images : 3 canal\(aux\) reçu\(s\), 1 attendu"),
    ],
)
def test_une_image_de_mauvaise_forme_est_refusee(build, images, message):
    with pytest.raises(ValueError, match=message):
        build()(images)


@pytest.mark.parametrize("hidden", [(), 32, (32, 0), (32, "a")])
def test_des_largeurs_impossibles_sont_refusees(hidden):
    with pytest.raises((ValueError, TypeError), match="hidden"):
        MLP(hidden=hidden)


def test_des_canaux_qui_ne_se_groupent_pas_sont_refuses():
    with pytest.raises(ValueError, match="channels : .*multiples de groups = 4"):
        CNN(channels=(6,))
