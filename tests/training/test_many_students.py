"""``train_many`` donne les students de la boucle nue ; chaque mauvais réglage est refusé en français."""

import pytest
import torch
from torch import nn

from kdcourse import (
    CNN,
    MLP,
    Split,
    attention_loss,
    cosine_relation_loss,
    dkd_loss,
    kd_loss,
    load_dataset,
    predict_features,
    rkd_distance_loss,
    train_many,
    train_one,
)
from kdcourse.training.loop import threads_for

SEEDS, TEMPERATURES, ALPHAS = [3, 4, 3], [1.0, 4.0, 20.0], [0.0, 0.5, 1.0]


@pytest.fixture(scope="module")
def data():
    # 130 exemples par lots de 50 : le dernier lot, de 30, compte autant que les autres.
    return load_dataset().train.where(slice(0, 130))


@pytest.fixture(scope="module")
def teacher_logits(data):
    return 5 * torch.randn(len(data.labels), 10, generator=torch.Generator().manual_seed(1))


def assert_same_parameters(ours, theirs, rtol, atol):
    for one, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=rtol, atol=atol)


@pytest.mark.parametrize(
    "make_model",
    [lambda: MLP(hidden=(16, 16)), lambda: CNN(channels=(4, 8))],
    ids=["mlp", "cnn"],
)
@pytest.mark.parametrize("distilled", [True, False], ids=["distillé", "seul"])
def test_trois_students_ensemble_ou_l_un_apres_l_autre_ont_les_memes_parametres(
    make_model, data, teacher_logits, distilled
):
    targets = teacher_logits if distilled else None
    options = {"epochs": 4, "batch_size": 50}
    together = train_many(make_model, data, targets, seeds=SEEDS, temperatures=TEMPERATURES, alphas=ALPHAS, **options)
    for index, (seed, temperature, alpha) in enumerate(zip(SEEDS, TEMPERATURES, ALPHAS, strict=True)):
        single = train_one(make_model, data, targets, seed=seed, temperature=temperature, alpha=alpha, **options)
        assert_same_parameters(together[index], single, rtol=1e-4, atol=1e-5)


def test_chaque_student_peut_avoir_son_teacher_et_son_modele_de_depart(data, teacher_logits):
    teachers = torch.stack([teacher_logits, -teacher_logits, 2 * teacher_logits.roll(1, dims=1)])
    starts = [MLP(hidden=(8,)) for _ in SEEDS]
    models, options = iter(starts), {"epochs": 2, "batch_size": 50}
    together = train_many(lambda: next(models), data, teachers, seeds=SEEDS, **options)
    for index, seed in enumerate(SEEDS):
        single = train_one(lambda start=starts[index]: start, data, teachers[index], seed=seed, **options)
        assert_same_parameters(together[index], single, rtol=1e-4, atol=1e-5)


def test_des_teachers_en_autre_nombre_que_les_graines_sont_refuses(data, teacher_logits):
    with pytest.raises(ValueError, match="teacher : 2 teachers reçus, 3 attendus, un par graine"):
        train_many(lambda: MLP(), data, torch.stack([teacher_logits] * 2), seeds=SEEDS, epochs=1)
    with pytest.raises(ValueError, match=r"forme \(2, 130, 10\) reçue, \(N, C\) attendue"):
        train_one(lambda: MLP(), data, torch.stack([teacher_logits] * 2), epochs=1)
    with pytest.raises(ValueError, match="teacher : 100 exemples reçus, 130 attendus"):
        train_many(lambda: MLP(), data, torch.stack([teacher_logits[:100]] * 3), seeds=SEEDS, epochs=1)


def test_train_one_est_la_boucle_ecrite_en_toutes_lettres(data, teacher_logits):
    torch.manual_seed(7)
    model = MLP(hidden=(16,))
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    shuffle = torch.Generator().manual_seed(7)
    for _ in range(3):
        for batch in torch.randperm(130, generator=shuffle).split(50):
            logits, targets, labels = model(data.images[batch]), teacher_logits[batch], data.labels[batch]
            soft_teacher, soft_student = (targets / 2).softmax(-1), (logits / 2).softmax(-1)
            kl = (soft_teacher * (soft_teacher.log() - soft_student.log())).sum() / len(batch)
            hard = -logits.log_softmax(-1)[range(len(batch)), labels].mean()
            optimizer.zero_grad()
            (0.8 * 4 * kl + 0.2 * hard).backward()
            optimizer.step()
    ours = train_one(
        lambda: MLP(hidden=(16,)), data, teacher_logits, temperature=2.0, alpha=0.8, seed=7, epochs=3, batch_size=50
    )
    assert_same_parameters(ours, model, rtol=1e-4, atol=1e-5)


def test_les_logits_empiles_sont_ceux_de_chaque_student(data):
    students = train_many(lambda: MLP(), data, seeds=[0, 1], epochs=1)
    images = load_dataset().train.images[:600]  # plus d'un passage d'évaluation
    stacked = students.logits(images)
    for index in range(len(students)):
        torch.testing.assert_close(stacked[index], students[index](images).detach())


def test_la_perte_de_l_historique_est_la_moyenne_par_exemple(data):
    # Un pas d'apprentissage négligeable : la perte de l'époque est celle du modèle de départ.
    students = train_many(lambda: MLP(), data, seeds=[5], epochs=2, batch_size=50, learning_rate=1e-9)
    expected = nn.functional.cross_entropy(students[0](data.images), data.labels)
    torch.testing.assert_close(students.losses, expected.detach().expand(1, 2), rtol=1e-4, atol=1e-5)


def test_deux_students_de_meme_graine_et_memes_reglages_sont_identiques(data, teacher_logits):
    students = train_many(lambda: MLP(), data, teacher_logits, seeds=[2, 2], epochs=2)
    assert all(torch.equal(p[0], p[1]) for p in students.parameters.values())


def test_le_generateur_global_n_est_pas_touche(data):
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    train_many(lambda: MLP(), data, seeds=[1], epochs=1)
    train_one(lambda: MLP(), data, seed=1, epochs=1)
    assert torch.equal(torch.rand(3), expected)


def test_le_dropout_differe_d_un_student_a_l_autre_et_se_tait_a_l_evaluation(data):
    students = train_many(lambda: MLP(dropout=0.5), data, seeds=[1, 1], epochs=1)
    assert any(not torch.equal(p[0], p[1]) for p in students.parameters.values())
    assert torch.equal(students.logits(data.images), students.logits(data.images))


def test_un_petit_modele_s_entraine_sur_un_fil_et_le_reglage_est_rendu():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads_for(MLP()):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
        with threads_for(MLP(784, (1200, 1200))):
            assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_batchnorm_est_refuse_avec_le_remede(data):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.BatchNorm1d(8), nn.Linear(8, 10))
    with pytest.raises(ValueError, match="make_model : .*BatchNorm.*GroupNorm"):
        train_many(lambda: model, data, seeds=[0], epochs=1)


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"temperatures": 0.0}, ValueError, "temperature : 0.0 reçu, un nombre fini strictement positif"),
        ({"temperatures": [1.0, -2.0]}, ValueError, "temperature : -2.0 reçu"),
        ({"alphas": True}, TypeError, r"alpha : True \(bool\) reçu"),
        ({"alphas": 1.5}, ValueError, r"alpha : 1.5 reçu, un nombre de \[0, 1\]"),
        ({"alphas": [0.1, 0.2, 0.3]}, ValueError, "alphas : 3 valeurs reçues, 2 attendues"),
        ({"seeds": []}, ValueError, "seeds : suite vide"),
        ({"seeds": 3}, TypeError, "seeds : 3 reçu"),
        ({"seeds": [0.5, 1]}, TypeError, r"seeds : 0.5 \(float\) reçu, un entier"),
        ({"seeds": [-1]}, ValueError, "seeds : -1 reçu, un entier de 0 à"),
        ({"epochs": 0}, ValueError, "epochs : 0 reçu"),
        ({"batch_size": 1.5}, TypeError, r"batch_size : 1.5 \(float\) reçu, un entier ≥ 1 attendu"),
        ({"learning_rate": -1.0}, ValueError, "learning_rate : -1.0 reçu"),
    ],
)
def test_un_mauvais_reglage_est_refuse(data, teacher_logits, changes, error, message):
    options = {"seeds": [0, 1], "epochs": 1} | changes
    with pytest.raises(error, match=message):
        train_many(lambda: MLP(), data, teacher_logits, **options)


def test_des_logits_de_teacher_d_un_autre_jeu_sont_refuses(data, teacher_logits):
    with pytest.raises(ValueError, match="teacher : 100 exemples reçus, 130 attendus"):
        train_one(lambda: MLP(), data, teacher_logits[:100], epochs=1)


def test_des_nan_du_teacher_sont_refuses_avant_l_entrainement(data, teacher_logits):
    wrong = teacher_logits.clone()
    wrong[0, 0] = float("nan")
    with pytest.raises(ValueError, match="teacher : 1 valeur"):
        train_one(lambda: MLP(), data, wrong, epochs=1)


def test_des_donnees_qui_ne_sont_pas_une_paire_sont_refusees():
    with pytest.raises(TypeError, match="data : list reçu"):
        train_one(lambda: MLP(), [1, 2], epochs=1)


def test_une_etiquette_hors_des_classes_du_teacher_est_refusee(data, teacher_logits):
    wrong = Split(data.images, data.labels.clone().fill_(10))
    with pytest.raises(ValueError, match="labels : valeur 10 reçue, de 0 à 9"):
        train_one(lambda: MLP(), wrong, teacher_logits, epochs=1)


def plain():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 10))


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.first = nn.Linear(64, 64)
        self.again = self.first
        self.head = nn.Linear(64, 10)

    def forward(self, images):
        return self.head(self.again(self.first(images.flatten(1)).relu()).relu())


@pytest.mark.parametrize(
    "make_model, error, message",
    [
        (MLP(), TypeError, "make_model : MLP reçu, une fonction"),
        (lambda: MLP().requires_grad_(False), ValueError, "make_model : un modèle sans paramètre à entraîner"),
        (lambda: MLP(classes=5), ValueError, "labels : valeur 9 reçue, de 0 à 4"),
        (Tied, ValueError, "make_model : un modèle aux poids partagés"),
    ],
)
def test_un_modele_que_train_many_ne_peut_entrainer_est_refuse(data, make_model, error, message):
    with pytest.raises(error, match=message):
        train_many(make_model, data, seeds=[0], epochs=1)


def test_un_student_d_un_autre_nombre_de_classes_que_le_teacher_est_refuse(data, teacher_logits):
    with pytest.raises(ValueError, match="teacher : 10 classes reçues, 12 attendues"):
        train_one(lambda: MLP(classes=12), data, teacher_logits, epochs=1)


def test_des_images_entieres_sont_refusees_avec_le_remede(data):
    with pytest.raises(TypeError, match=r"data.images : torch.uint8 .*\.float\(\)"):
        train_one(lambda: MLP(), Split((255 * data.images).byte(), data.labels), epochs=1)


@pytest.fixture(scope="module")
def teacher_features(data):
    torch.manual_seed(2)
    return predict_features(CNN(channels=(8, 12)), data.images)


def relations_and_logits(student, teacher, labels):
    return cosine_relation_loss(student.embedding, teacher.embedding) + kd_loss(student.logits, teacher.logits)


@pytest.mark.parametrize(
    "make_model, distillation",
    [
        (lambda: MLP(hidden=(16,)), relations_and_logits),
        (lambda: CNN(channels=(4, 8)), lambda s, t, y: 100 * attention_loss(s.maps[0], t.maps[1])),
        (lambda: MLP(hidden=(16,)), lambda s, t, y: 25 * rkd_distance_loss(s.embedding, t.embedding)),
    ],
    ids=["relations et logits", "attention", "rkd"],
)
def test_des_students_guides_par_des_features_sont_ceux_de_la_boucle_nue(
    make_model, distillation, data, teacher_features
):
    options = {"epochs": 3, "batch_size": 50, "distillation": distillation, "teacher": teacher_features}
    together = train_many(make_model, data, seeds=SEEDS, alphas=ALPHAS, **options)
    for index, (seed, alpha) in enumerate(zip(SEEDS, ALPHAS, strict=True)):
        single = train_one(make_model, data, seed=seed, alpha=alpha, **options)
        assert_same_parameters(together[index], single, rtol=1e-3, atol=1e-5)


def test_une_distillation_qui_est_kd_loss_donne_le_student_des_logits(data, teacher_features):
    options = {"epochs": 3, "batch_size": 50, "alpha": 0.6}
    ours = train_one(
        lambda: MLP(), data, distillation=lambda s, t, y: kd_loss(s.logits, t.logits, 2.0),
        teacher=teacher_features, **options,
    )  # fmt: skip
    theirs = train_one(lambda: MLP(), data, teacher_features.logits, temperature=2.0, **options)
    assert_same_parameters(ours, theirs, rtol=1e-4, atol=1e-5)


def test_mesurer_la_validation_ne_change_pas_l_entrainement(data):
    """Entre deux époques, le student évalué revient en mode ``train`` : son dropout aussi."""
    found = []
    for options in ({}, {"validation": load_dataset().validation}):
        torch.manual_seed(0)
        found.append(train_many(lambda: MLP(dropout=0.5), data, seeds=[1], epochs=3, **options).parameters)
    torch.testing.assert_close(*found, rtol=0, atol=0)


def test_une_perte_de_logits_se_passe_des_features(data, teacher_logits):
    """Avec des logits pour teacher, ni lui ni le student n'ont besoin de ``forward_features``."""
    options = {"epochs": 3, "batch_size": 50, "distillation": lambda s, t, y: kd_loss(s.logits, t.logits, 2.0)}
    ours = train_one(plain, data, teacher_logits, alpha=0.6, **options)
    theirs = train_one(plain, data, teacher_logits, alpha=0.6, temperature=2.0, epochs=3, batch_size=50)
    together = train_many(plain, data, teacher_logits, alphas=0.6, seeds=[0], **options)
    for other in (theirs, together[0]):
        assert_same_parameters(ours, other, rtol=1e-4, atol=1e-5)


def test_des_features_sans_autre_perte_donnent_la_distillation_des_logits(data, teacher_features):
    options = {"epochs": 2, "batch_size": 50, "temperature": 2.0}
    ours = train_one(lambda: MLP(), data, teacher_features, **options)
    theirs = train_one(lambda: MLP(), data, teacher_features.logits, **options)
    assert_same_parameters(ours, theirs, rtol=0, atol=0)


def test_l_erreur_de_validation_de_chaque_epoque_est_celle_du_student_a_cette_epoque(data, teacher_logits):
    validation = load_dataset().validation
    students = train_many(lambda: MLP(), data, teacher_logits, seeds=[0, 1], epochs=3, validation=validation)
    shorter = train_many(lambda: MLP(), data, teacher_logits, seeds=[0, 1], epochs=2)
    assert students.validation_errors.shape == (2, 3)
    torch.testing.assert_close(students.validation_errors[:, 2], students.errors(validation))
    torch.testing.assert_close(students.validation_errors[:, 1], shorter.errors(validation))
    assert shorter.validation_errors is None


@pytest.mark.parametrize(
    "changes, error, message",
    [
        ({"teacher": None}, ValueError, "teacher : None reçu avec distillation"),
        ({"distillation": "kd"}, TypeError, "distillation : str reçu, une fonction"),
        ({"teacher": CNN()}, TypeError, "teacher : CNN reçu, ses logits .* ou les Features"),
        ({"teacher": torch.zeros(130, 10)}, TypeError, "student : NoneType reçu, un tenseur"),
    ],
)
def test_une_distillation_de_features_mal_donnee_est_refusee(data, teacher_features, changes, error, message):
    options = {"distillation": relations_and_logits, "teacher": teacher_features, "epochs": 1} | changes
    with pytest.raises(error, match=message):
        train_many(lambda: MLP(), data, seeds=[0], **options)


def test_les_features_d_un_autre_jeu_et_un_modele_sans_features_sont_refuses(data, teacher_features):
    short = data.where(slice(0, 100))
    options = {"distillation": relations_and_logits, "teacher": teacher_features, "epochs": 1}
    with pytest.raises(ValueError, match="teacher : 130 exemples reçus, 100 attendus"):
        train_one(lambda: MLP(), short, **options)
    with pytest.raises(TypeError, match="make_model : Sequential reçu, un modèle qui a forward_features"):
        train_one(plain, data, **options)


def test_un_simple_couple_vaut_un_split(data, teacher_logits):
    ours = train_many(lambda: MLP(), tuple(data), teacher_logits, seeds=[0], epochs=1)
    theirs = train_many(lambda: MLP(), data, teacher_logits, seeds=[0], epochs=1)
    assert all(torch.equal(ours.parameters[name], theirs.parameters[name]) for name in theirs.parameters)


def test_une_distillation_a_trois_arguments_recoit_les_etiquettes(data, teacher_features):
    def dkd(student, teacher, labels):
        return dkd_loss(student.logits, teacher.logits, labels, 2.0, beta=2.0)

    options = {"epochs": 3, "batch_size": 50, "distillation": dkd, "teacher": teacher_features}
    together = train_many(lambda: MLP(hidden=(16,)), data, seeds=SEEDS, alphas=ALPHAS, **options)
    for index, (seed, alpha) in enumerate(zip(SEEDS, ALPHAS, strict=True)):
        single = train_one(lambda: MLP(hidden=(16,)), data, seed=seed, alpha=alpha, **options)
        assert_same_parameters(together[index], single, rtol=1e-3, atol=1e-5)


class _OwnAdapter(nn.Module):
    """Une perte qui cache des paramètres : l'optimiseur ne les verrait pas."""

    def __init__(self):
        super().__init__()
        self.adapter = nn.Linear(16, 48)

    def forward(self, student, teacher, labels):
        return (self.adapter(student.embedding) - teacher.embedding).square().mean()


@pytest.mark.parametrize(
    "distillation, error, message",
    [
        (_OwnAdapter(), ValueError, "distillation : un module qui a des paramètres à apprendre.*AdaptedStudent"),
        (lambda s, t, y: s.logits.mean(1), TypeError, r"distillation : forme \(4,\) reçu, un scalaire"),
        (lambda s, t, y: 0.0, TypeError, "distillation : float reçu, un scalaire"),
        (lambda s, t, y: t.logits.mean(), ValueError, "distillation : une perte sans gradient"),
        (lambda s, t, y, z: s.logits.mean(), TypeError, "distillation : <lambda> reçu, qui a d'autres arguments"),
        (lambda s, t: s.logits.mean(), TypeError, r"une fonction \(student, teacher, labels\) attendue"),
    ],
)
@pytest.mark.parametrize("train", [train_one, lambda *a, **k: train_many(*a, seeds=[0], **k)], ids=["un", "tous"])
def test_une_perte_que_train_many_ne_saurait_suivre_est_refusee(
    train, distillation, error, message, data, teacher_features
):
    with pytest.raises(error, match=message):
        train(lambda: MLP(hidden=(16,)), data, distillation=distillation, teacher=teacher_features, epochs=1)


def test_un_module_sans_parametre_est_une_perte_comme_une_autre(data, teacher_features):
    class Loss(nn.Module):
        def forward(self, student, teacher, labels):
            return dkd_loss(student.logits, teacher.logits, labels)

    options = {"seeds": [0], "teacher": teacher_features, "epochs": 1}
    ours = train_many(lambda: MLP(hidden=(8,)), data, distillation=Loss(), **options)
    theirs = train_many(
        lambda: MLP(hidden=(8,)), data, distillation=lambda s, t, y: dkd_loss(s.logits, t.logits, y), **options
    )
    assert all(torch.equal(ours.parameters[name], theirs.parameters[name]) for name in theirs.parameters)


def test_aucun_gradient_n_atteint_le_teacher_qui_a_rendu_ses_features_avec_un_graphe(data):
    teacher = MLP(hidden=(16,))
    live = teacher.forward_features(data.images)
    train_one(
        lambda: MLP(hidden=(16,)), data, distillation=lambda s, t, y: (s.embedding - t.embedding).square().mean(),
        teacher=live, epochs=2,
    )  # fmt: skip
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize(
    "spoil, message",
    [
        (lambda v: Split(v.images * float("nan"), v.labels), "validation.images : .* NaN"),
        (lambda v: Split(v.images, v.labels + 50), "labels : valeur .* reçue, de 0 à 9 attendu"),
        (lambda v: Split(v.images[:0], v.labels[:0]), "validation.images : "),
        (lambda v: Split(v.images.double(), v.labels), "validation.images : torch.float64"),
    ],
)
def test_une_validation_inutilisable_est_refusee(spoil, message, data):
    with pytest.raises((TypeError, ValueError), match=message):
        train_many(lambda: MLP(), data, seeds=[0], epochs=1, validation=spoil(load_dataset().validation))


def test_une_temperature_negative_dans_un_tenseur_est_refusee(data, teacher_logits):
    with pytest.raises(ValueError, match="temperature : -4.0 reçu"):
        train_many(lambda: MLP(), data, teacher_logits, seeds=[0], temperatures=[torch.tensor(-4.0)], epochs=1)
    with pytest.raises(ValueError, match="temperature : -4.0 reçu"):
        train_one(lambda: MLP(), data, teacher_logits, temperature=torch.tensor(-4.0), epochs=1)


def test_un_modele_qui_n_est_pas_neuf_a_chaque_appel_est_refuse(data):
    model = MLP()
    with pytest.raises(ValueError, match="make_model : le même objet reçu deux fois"):
        train_many(lambda: model, data, seeds=[0, 1], epochs=1)
