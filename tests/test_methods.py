"""Une méthode est une valeur : chaque entraînement la suit sans connaître son nom, et la même partout."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from support import large_runs
from support.large_runs import CHOICE, few, make_student, make_teacher, run
from support.toy_methods import TOY, TOYS
from torch import nn

from kdcourse import (
    Method,
    compare_distillation_methods,
    distill,
    load_choices,
    predict_features,
    train_many,
    train_one,
)
from kdcourse.measures.method_comparison import Problem, one_step, train_method
from kdcourse.methods import KD, METHODS, Choice, added_to, find_method, settled_choice
from kdcourse.training.many_students import adapted

BUDGET = dict(epochs=2, batch_size=32, learning_rate=3e-3)
WITH_LOSS = [method for method in METHODS.values() if method.loss]


@pytest.mark.parametrize("name", TOYS)
def test_une_methode_ajoutee_s_entraine_partout_de_meme(name):
    method, data = TOYS[name], few(69)
    features = predict_features(make_teacher(), data.images)
    guided = dict(distillation=method.distillation(CHOICE), teacher=features)
    make_model = adapted(make_student, data.images[:1], features, 1) if method.needs_adapter else make_student
    single = train_one(make_model, data, alpha=CHOICE.alpha, **guided, **BUDGET)
    together = train_many(make_model, data, alphas=CHOICE.alpha, seeds=[0, 1], **guided, **BUDGET)
    large = run(method, **BUDGET).model
    for other in (together[0], large):
        torch.testing.assert_close(other.state_dict(), single.state_dict(), rtol=1e-3, atol=1e-5)


def test_une_methode_ajoutee_se_compare_aux_autres():
    data = few(24)
    rows = compare_distillation_methods(
        make_student, make_teacher(), data, data, {TOY: CHOICE, "KD": CHOICE}, seeds=[0, 1], epochs=1
    )
    assert [row.method for row in rows] == [METHODS["seul"], TOY, KD]


def test_les_cas_des_deux_processus_ont_les_methodes_ajoutees():
    assert set(TOYS) <= set(large_runs.CASES)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_un_autre_nom_ne_change_pas_l_entrainement(method):
    renamed = replace(method, name="x")
    ours, theirs = (run(value, epochs=1, examples=40).model.state_dict() for value in (renamed, method))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    data = few(24)
    problem = Problem(make_student, predict_features(make_teacher(), data.images), data, 1, 12)
    ours, theirs = (train_method(problem, value, CHOICE, [0], data.images) for value in (renamed, method))
    torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
    one_step(problem, renamed, CHOICE)()


def test_une_methode_qui_lit_plus_qu_elle_ne_dit_echoue_au_premier_essai():
    """Sur plusieurs processus, ce qu'elle lit sans le dire n'aurait été que sa part du lot."""
    sly = replace(TOY, loss=lambda s, t, y, choice: TOY.loss(s, t, y, choice) + s.logits.mean())
    with pytest.raises(AttributeError, match="NoneType"):
        run(sly, epochs=1, examples=40)


@pytest.mark.parametrize("reads", ["logits", ("embeding",), ("logits", "carte")])
def test_ce_qu_une_methode_lit_porte_un_nom_connu(reads):
    with pytest.raises(ValueError, match="reads : .* reçu, une suite de 'logits', 'map' ou 'embedding' attendue"):
        replace(TOY, reads=reads)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (dict(name=""), "name : '' reçu"),
        (dict(name="../x"), "name : '../x' reçu"),
        (dict(loss="kd"), "loss : str reçu, une fonction de quatre arguments"),
        (dict(loss=nn.Linear(2, 2)), "loss : des paramètres à apprendre reçus"),
        (dict(needs_teacher=False), "needs_teacher, remembers : l'un des deux attendu avec une perte"),
        (dict(remembers=True), "needs_teacher, remembers : l'un des deux attendu avec une perte"),
        (dict(loss=None), "needs_teacher, remembers : l'un des deux attendu avec une perte"),
        (dict(needs_teacher=False, remembers=True), r"reads : \('embedding',\) reçu avec remembers"),
    ],
)
def test_une_methode_qui_se_contredit_est_refusee_a_sa_naissance(wrong, message):
    with pytest.raises((ValueError, TypeError), match=message):
        replace(TOY, **wrong)


def test_seules_des_methodes_a_teacher_s_additionnent():
    for pair in ((METHODS["PS-KD"], KD), (KD, METHODS["PS-KD"]), (KD, METHODS["seul"])):
        with pytest.raises(ValueError, match="reçu, une méthode qui a un teacher attendue"):
            added_to(*pair)


def test_une_memoire_a_sa_perte_dans_la_comparaison_aussi():
    """Et son premier souvenir, l'étiquette, est fini : une KL s'en arrange."""
    data = few(24)
    memory = Method("mémoire KL", KD.loss, needs_teacher=False, remembers=True)
    problem = Problem(make_student, predict_features(make_teacher(), data.images), data, 2, 12)
    ours = train_method(problem, memory, CHOICE, [3], data.images)[0]
    theirs = distill(
        make_student, data, method=memory, choice=CHOICE, seed=3, epochs=2, batch_size=12, learning_rate=3e-3
    )
    torch.testing.assert_close(ours, theirs.model(data.images).detach())
    assert not torch.allclose(ours, train_method(problem, METHODS["PS-KD"], CHOICE, [3], data.images)[0], atol=1e-4)


@pytest.mark.parametrize(
    ("loss", "error", "message"),
    [
        (lambda s, t, y, choice: 0.5, TypeError, "distillation : float reçu, un scalaire"),
        (lambda s, t, y, choice: t.logits.mean(), ValueError, "distillation : une perte sans gradient"),
        (lambda s, t, y, choice: s.logits.mean(1), TypeError, "distillation : forme .* reçu, un scalaire"),
    ],
)
def test_distill_essaie_la_perte_avant_d_entrainer(loss, error, message):
    with pytest.raises(error, match=message):
        run(Method("fausse", loss), examples=40)


def test_une_somme_garde_ce_que_demandent_ses_deux_termes():
    both = added_to(METHODS["DIST"], METHODS["hint"])
    assert both.whole_batch and both.needs_adapter and set(both.reads) == {"logits", "map"}


@pytest.mark.parametrize(
    "method", [m for m in METHODS.values() if m.loss], ids=[m.name for m in METHODS.values() if m.loss]
)
def test_une_methode_qui_lie_les_exemples_le_dit(method):
    """Une moyenne sur les exemples se prend moitié par moitié ; une relation, non."""
    data = few(24)
    student, teacher = (model.forward_features(data.images) for model in (large_runs.make_student(), make_teacher()))
    teacher = teacher._replace(maps=[teacher.maps[0][:, :4], teacher.maps[1][:, :8]])
    loss = method.distillation(CHOICE)
    halves = [
        loss(*(side.map(lambda part, half=half: part[half]) for side in (student, teacher)), data.labels[half])
        for half in (slice(0, 12), slice(12, 24))
    ]
    same = torch.isclose(sum(halves) / 2, loss(student, teacher, data.labels), rtol=1e-4, atol=1e-7)
    assert same.item() is not method.whole_batch


def test_une_somme_additionne_les_deux_pertes_sous_le_meme_alpha():
    both, base, term = METHODS["KD + RKD"], METHODS["KD"], METHODS["RKD"]
    data = few(24)
    student, teacher = (model.forward_features(data.images) for model in (make_student(), make_teacher()))
    values = (m.distillation(CHOICE)(student, teacher, data.labels) for m in (both, base, term))
    total, first, second = values
    torch.testing.assert_close(total, first + second)
    assert both.base is base and both.whole_batch and set(both.reads) == {"logits", "embedding"}


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        (dict(alpha=1.5), ValueError, r"alpha : 1.5 reçu, un nombre de \[0, 1\]"),
        (dict(alpha="0.5"), TypeError, "alpha : '0.5'"),
        (dict(alpha=0.5, scale=-1), ValueError, "scale : -1 reçu"),
        (dict(alpha=0.5, temperature=0), ValueError, "temperature : 0 reçu"),
        (dict(alpha=0.5, temperature=torch.tensor(-4.0)), ValueError, "temperature : -4.0 reçu"),
        (dict(alpha=0.5, stage="a"), TypeError, r"stage : 'a' \(str\) reçu, le numéro d'un étage"),
        (dict(alpha=0.5, stage=-1), ValueError, "stage : -1 reçu, le numéro d'un étage"),
    ],
)
def test_un_reglage_hors_de_son_domaine_est_refuse_a_sa_naissance(settings, error, message):
    with pytest.raises(error, match=message):
        Choice(**settings)


def test_des_reglages_de_numpy_ou_de_torch_deviennent_des_nombres_de_python():
    choice = Choice(np.float32(0.5), np.int64(2), torch.tensor(3.0), np.int64(1))
    assert [type(value) for value in vars(choice).values()] == [float, float, float, int]
    assert choice == Choice(0.5, 2.0, 3.0, 1)


def test_un_nom_ou_la_valeur_donnent_la_meme_methode():
    assert find_method("RKD") is METHODS["RKD"] is find_method(METHODS["RKD"])
    assert [method.name for method in METHODS.values()] == list(METHODS)


def test_une_methode_que_le_cours_n_a_pas_reglee_demande_ses_reglages():
    with pytest.raises(TypeError, match=r"choice : NoneType reçu pour la méthode dispersion, Choice\(alpha, …\)"):
        settled_choice(None, TOY)
    assert settled_choice(None, METHODS["seul"]).alpha == 0.0
    assert settled_choice(None, KD) == load_choices()["KD"]
