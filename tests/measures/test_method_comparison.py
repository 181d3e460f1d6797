"""La comparaison des méthodes : mêmes students que ``train_many``, mêmes pertes que les fonctions, coûts sensés."""

import json
from pathlib import Path

import pytest
import torch

import kdcourse
from kdcourse import (
    CNN,
    attention_loss,
    compare_distillation_methods,
    dist_loss,
    dkd_loss,
    hint_loss,
    kd_loss,
    load_choices,
    load_dataset,
    mean_interval,
    predict_features,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
    standardized_kd_loss,
    train_many,
)
from kdcourse.measures.cost import peak_bytes, step_ratios
from kdcourse.measures.method_comparison import MethodRow, Problem, method_table, one_step, train_method
from kdcourse.methods import METHODS, Choice
from kdcourse.plots import plot_methods

STUDENT, TEACHER = (lambda: CNN(channels=(4, 8))), (lambda: CNN(channels=(8, 12)))
CHOICES = {method: Choice(0.5, 1.0, 2.0) for method in METHODS if method != "seul"}


@pytest.fixture(scope="module")
def digits():
    return load_dataset()


@pytest.fixture(scope="module")
def teacher():
    torch.manual_seed(0)
    return TEACHER().eval()


@pytest.fixture(scope="module")
def problem(digits, teacher):
    data = digits.train.where(slice(0, 24))
    return Problem(STUDENT, predict_features(teacher, data.images), data, epochs=1, batch_size=12)


@pytest.fixture(scope="module")
def rows(digits, teacher):
    data, test = digits.train.where(slice(0, 24)), digits.test.where(slice(0, 60))
    return compare_distillation_methods(STUDENT, teacher, data, test, CHOICES, seeds=[1, 2], epochs=1, batch_size=12)


def test_chaque_methode_a_sa_ligne_et_le_student_seul_est_en_tete(rows):
    assert [row.method for row in rows] == list(METHODS.values())
    assert rows[0].gain is None and rows[0].step_ratio == 1.0 and rows[0].extra_bytes == 0
    for row in rows[1:]:
        torch.testing.assert_close(torch.tensor(row.gain.mean), (rows[0].errors - row.errors).mean())


def test_seul_un_adaptateur_ajoute_des_parametres(rows):
    extra = {row.method.name: row.extra_parameters for row in rows}
    assert {name for name, count in extra.items() if count} == {"hint", "KD + hint"}
    assert extra["hint"] == 8 * 12 + 12  # une convolution 1×1 et son biais


def test_le_tableau_a_une_ligne_par_methode_et_dit_toutes_ses_mesures(rows):
    lines = [[cell.strip() for cell in line.strip("|").split("|")] for line in method_table(rows).splitlines()]
    assert len(lines) == len(rows) + 2 and {len(line) for line in lines} == {6}
    assert lines[3][:3] == [rows[1].method.name, str(rows[1].error), str(rows[1].gain)] and lines[2][2] == ""


def test_la_comparaison_n_affiche_rien(digits, teacher, capsys):
    data = digits.train.where(slice(0, 24))
    compare_distillation_methods(STUDENT, teacher, data, data, {"KD": Choice(0.5)}, seeds=[1, 2], epochs=1)
    assert capsys.readouterr().out == ""


def test_la_figure_classe_les_methodes_par_gain(rows):
    gains, times = plot_methods(rows).axes
    names = [tick.get_text() for tick in gains.get_yticklabels()]
    by_gain = sorted(rows[1:], key=lambda row: row.gain.mean, reverse=True)
    assert names == [row.method.name for row in by_gain]
    assert [bar.get_width() for bar in times.patches] == [row.step_ratio for row in by_gain]


def test_le_titre_ne_nomme_qu_un_ajout_que_les_graines_etablissent():
    def row(method, errors):
        errors = torch.tensor(errors)
        return MethodRow(METHODS[method], errors, mean_interval(errors), mean_interval(10 - errors), 1.0, 0, 0)

    rows = [row("seul", [10.0, 10.1, 9.9]), row("KD", [8.0, 8.1, 7.9]), row("KD + SP", [7.0, 7.1, 6.9])]
    assert "ajouts qui battent KD : KD + SP" in plot_methods(rows).get_suptitle()
    rows[-1] = row("KD + SP", [7.0, 9.1, 7.9])
    assert "ajouts qui battent KD : aucun" in plot_methods(rows).get_suptitle()


@pytest.mark.parametrize(
    "method, expected",
    [
        ("KD", lambda s, t, y: kd_loss(s.logits, t.logits, 2.0)),
        ("DKD", lambda s, t, y: dkd_loss(s.logits, t.logits, y, 2.0, beta=3.0)),
        ("DIST", lambda s, t, y: 3 * dist_loss(s.logits, t.logits, 2.0)),
        ("LSKD", lambda s, t, y: 3 * standardized_kd_loss(s.logits, t.logits, 2.0)),
        ("attention", lambda s, t, y: 3 * attention_loss(s.maps[0], t.maps[0])),
        ("SP", lambda s, t, y: 3 * similarity_preserving_loss(s.embedding, t.embedding)),
        (
            "KD + RKD",
            lambda s, t, y: (
                kd_loss(s.logits, t.logits, 2.0)
                + 75 * rkd_distance_loss(s.embedding, t.embedding)
                + 150 * rkd_angle_loss(s.embedding, t.embedding)
            ),
        ),
    ],
)
def test_chaque_perte_est_celle_de_ses_fonctions_pures(problem, method, expected):
    torch.manual_seed(3)
    student = STUDENT().forward_features(problem.data.images)
    arguments = student, problem.teacher_features, problem.data.labels
    loss = METHODS[method].distillation(Choice(0.5, 3.0, 2.0, stage=0))
    torch.testing.assert_close(loss(*arguments), expected(*arguments))


def test_le_hint_s_entraine_avec_son_adaptateur(problem):
    make = problem.make_model(METHODS["hint"], Choice(0.5))
    model = make()
    student = model.forward_features(problem.data.images)
    assert student.maps[1].shape[1] == problem.teacher_features.maps[1].shape[1]
    loss = METHODS["hint"].distillation(Choice(0.5))(student, problem.teacher_features, problem.data.labels)
    torch.testing.assert_close(loss, hint_loss(student.maps[1], problem.teacher_features.maps[1]))
    assert problem.make_model(METHODS["attention"], Choice(0.5)) is STUDENT


def test_l_adaptateur_est_a_l_etage_choisi(problem):
    student = problem.make_model(METHODS["hint"], Choice(0.5, stage=0))().forward_features(problem.data.images)
    assert [part.shape[1] for part in student.maps] == [8, 8]  # 4 canaux adaptés à 8, puis 8 laissés tels quels


def test_la_figure_se_passe_de_kd(rows):
    kept = [row for row in rows if row.method is not METHODS["KD"]]
    assert "ajouts qui battent KD : aucun" in plot_methods(kept).get_suptitle()


def test_les_students_compares_sont_ceux_de_train_many(problem, digits):
    images = digits.test.images[:30]
    ours = train_method(problem, METHODS["KD"], Choice(0.5, 1.0, 2.0), [4, 5], images)
    theirs = train_many(
        STUDENT, problem.data, problem.teacher_features.logits, seeds=[4, 5], temperatures=2.0, alphas=0.5, epochs=1,
        batch_size=12,
    ).logits(images)  # fmt: skip
    torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_toutes_les_methodes_partent_des_memes_poids_et_voient_les_memes_lots(problem, digits):
    """Un alpha nul les rend toutes égales au student seul."""
    images = digits.test.images[:30]
    alone = train_method(problem, METHODS["seul"], Choice(0.0), [4], images)
    for method in METHODS.values():
        ours = train_method(problem, method, Choice(0.0, 1.0, 2.0), [4], images)
        torch.testing.assert_close(ours, alone, rtol=1e-3, atol=1e-4, msg=method.name)


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS)
def test_un_pas_mesure_entraine_vraiment(problem, method):
    made = []

    def make_student():
        made.append(STUDENT())
        return made[-1]

    step = one_step(problem._replace(make_student=make_student), method, Choice(0.5, 1.0, 2.0))
    parameters = list(made[-1].parameters())
    before = [p.detach().clone() for p in parameters]
    step()
    assert any(not torch.equal(a, b) for a, b in zip(before, parameters, strict=True))


def test_une_methode_inconnue_donne_celles_qui_existent(digits, teacher):
    with pytest.raises(ValueError, match=r"choices : 'CRD' reçu, une de .*PS-KD.* attendue"):
        compare_distillation_methods(STUDENT, teacher, digits.train, digits.test, {"CRD": Choice(0.5)})


def test_les_reglages_livres_couvrent_toutes_les_methodes_et_disent_d_ou_ils_viennent():
    choices = load_choices()
    assert set(choices) == set(METHODS) - {"seul"}
    stored = json.loads((Path(kdcourse.__file__).parent / "measures/method_choices.json").read_text(encoding="utf-8"))
    assert {"date", "torch", "processor"} <= set(stored["provenance"])
    assert [set(own) for own in stored["choices"].values()] == [set(choices)] * 2
    assert load_choices(100) != choices == load_choices(25)
    with pytest.raises(ValueError, match="epochs : 30 reçu, un de 25, 100 attendu"):
        load_choices(30)


def test_le_temps_est_un_rapport_au_premier_et_la_memoire_un_sommet():
    small, large = torch.randn(8, 8), torch.randn(500, 500)
    ratios = step_ratios([lambda: small @ small, lambda: large @ large], rounds=5)
    assert ratios[0] == 1.0 and ratios[1] > 1.0
    assert peak_bytes(lambda: large + large) >= 500 * 500 * 4
    assert peak_bytes(lambda: [large + large for _ in range(3)]) >= 3 * 500 * 500 * 4


def test_une_seule_graine_ou_un_reglage_qui_n_en_est_pas_un_est_refuse_avant_d_entrainer(digits, teacher):
    options = STUDENT, teacher, digits.train, digits.test
    with pytest.raises(ValueError, match=r"seeds : \[0\] reçu, deux graines distinctes"):
        compare_distillation_methods(*options, {"KD": Choice(0.5)}, seeds=[0])
    with pytest.raises(TypeError, match="choice : tuple reçu pour la méthode KD, Choice"):
        compare_distillation_methods(*options, {"KD": (0.5, 1.0)})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(seeds=[0, 0]), r"seeds : \[0, 0\] reçu, deux graines distinctes"),
        (dict(choices=["KD"]), "choices : list reçu, un dictionnaire"),
        (dict(choices={"KD": Choice(0.5), METHODS["KD"]: Choice(0.9)}), "choices : une méthode reçue deux fois"),
        (dict(choices={"hint": Choice(0.5, stage=7)}), "stage : 7 reçu, de 0 à 1 attendu"),
        (dict(teacher=None), "teacher : NoneType reçu"),
        (dict(test=(1, 2)), "test : tuple reçu, Split"),
    ],
)
def test_une_comparaison_impossible_est_refusee_avant_d_entrainer(digits, teacher, change, message):
    given = dict(teacher=teacher, data=digits.train, test=digits.test, choices={"KD": Choice(0.5)}) | change
    with pytest.raises((ValueError, TypeError), match=message):
        compare_distillation_methods(STUDENT, **given)


def test_un_test_mal_etiquete_est_refuse_avant_d_entrainer(digits, teacher):
    wrong = digits.test._replace(labels=digits.test.labels + 5)
    with pytest.raises(ValueError, match="labels : valeur 14 reçue, de 0 à 9"):
        compare_distillation_methods(STUDENT, teacher, digits.train, wrong, {"KD": Choice(0.5)})
