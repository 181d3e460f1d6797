"""``distill`` dans un processus : la même boucle que ``train_one``, ses précisions, ses refus."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from support import large_runs
from support.large_runs import CHOICE, few, make_student, make_teacher, run
from torch import nn

from kdcourse import (
    CNN,
    MLP,
    AdaptedStudent,
    Batches,
    error_rate,
    initial_model,
    load_dataset,
    predict_features,
    ps_kd,
    train_one,
)
from kdcourse.methods import METHODS, Choice
from kdcourse.training import large_student
from kdcourse.training.large_student import distill, distill_seeds, model_error
from kdcourse.training.many_students import adapted

BUDGET = dict(epochs=3, batch_size=32, learning_rate=3e-3)  # trois époques : le poids de PS-KD en a une du milieu


class Plain(nn.Module):
    """Un modèle qui ne rend que ses logits, et note ce qu'il a vu."""

    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(64, 10), []

    def forward(self, images):
        self.seen.append((images.detach().clone(), self.training, torch.is_grad_enabled()))
        return self.linear(images.flatten(1))


@pytest.mark.parametrize(("name", "stage"), [*((name, 1) for name in METHODS), ("attention", 0), ("hint", 0)])
def test_distill_egale_la_boucle_nue(name, stage):
    data, method, choice = few(69), METHODS[name], replace(CHOICE, stage=stage)
    if method.remembers:
        expected = initial_model(make_student, 0)
        ps_kd(expected, Batches(data, 0, 32), 3, alpha=CHOICE.alpha, learning_rate=3e-3)
    elif method.needs_teacher:
        features, make_model = predict_features(make_teacher(), data.images), make_student
        if method.needs_adapter:
            make_model = adapted(make_student, data.images[:1], features, stage)
        expected = train_one(
            make_model, data, distillation=method.distillation(choice), teacher=features, alpha=CHOICE.alpha,
            **BUDGET,
        )  # fmt: skip
    else:
        expected = train_one(make_student, data, **BUDGET)
    found = run(name, choice=choice, **BUDGET).model.state_dict()
    torch.testing.assert_close(found, expected.state_dict(), rtol=1e-4, atol=1e-6)


def test_distill_seeds_entraine_un_student_par_graine():
    found = distill_seeds(make_student, few(40), make_teacher(), [3, 4], method="KD", choice=CHOICE, epochs=1)
    for model, seed in zip(found, (3, 4), strict=True):
        expected = distill(make_student, few(40), make_teacher(), method="KD", choice=CHOICE, epochs=1, seed=seed)
        torch.testing.assert_close(model.state_dict(), expected.model.state_dict(), rtol=0, atol=0)


def test_un_couple_de_tenseurs_vaut_un_split():
    images, labels = few(40)
    expected = run("KD", examples=40, epochs=1, validation=few(20)).model.state_dict()
    couple = distill(
        make_student, (images, labels), make_teacher(), choice=CHOICE, epochs=1, batch_size=32, learning_rate=3e-3,
        validation=tuple(few(20)),
    )  # fmt: skip
    torch.testing.assert_close(couple.model.state_dict(), expected, rtol=0, atol=0)


def test_des_nombres_de_numpy_valent_ceux_de_python(tmp_path):
    options = dict(
        learning_rate=np.float64(3e-3), seed=np.int64(2), epochs=1, output=tmp_path,
        choice=Choice(np.float32(0.5), np.float64(2), torch.tensor(3.0)),
    )  # fmt: skip
    first = run("KD", **options)
    again = run("KD", resume=True, **options)
    expected = run("KD", choice=CHOICE, seed=2, epochs=1)
    torch.testing.assert_close(first.model.state_dict(), expected.model.state_dict(), rtol=0, atol=0)
    torch.testing.assert_close(again.model.state_dict(), expected.model.state_dict(), rtol=0, atol=0)


def test_le_student_s_entraine_meme_construit_en_eval_et_apres_la_mesure_d_une_epoque():
    modes = []

    class Watched(Plain):
        def forward(self, images):
            modes.append(self.training)
            return super().forward(images)

    distill(lambda: Watched().eval(), few(40), method="seul", epochs=2, batch_size=20, validation=few(10))
    last = len(modes) - modes[::-1].index(True)
    assert modes[last - 5 : last] == [True, True, False, True, True]  # deux lots, la validation, deux lots


def test_la_mesure_de_l_erreur_eteint_le_dropout():
    torch.manual_seed(0)
    model, part = MLP(dropout=0.9).train(), load_dataset().test
    expected = error_rate(model.eval()(part.images), part.labels).item()
    assert model_error(model.train(), part) == pytest.approx(expected)


def test_la_perte_de_l_histoire_est_la_moyenne_des_exemples():
    weights = torch.zeros(64, 10)
    result = distill(lambda: _linear(weights), few(69), method="seul", epochs=1, batch_size=32, learning_rate=1e-12)
    assert result.history[0]["loss"] == pytest.approx(torch.tensor(10.0).log().item(), rel=1e-5)


def _linear(weights):
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    with torch.no_grad():
        model[1].weight.copy_(weights.T)
        model[1].bias.zero_()
    return model


def test_l_erreur_de_validation_est_celle_du_modele_a_la_fin_de_l_epoque():
    validation = load_dataset().validation
    result = run("KD", validation=validation, epochs=2)
    expected = error_rate(result.model(validation.images), validation.labels).item()
    assert result.history[-1]["validation_error"] == pytest.approx(expected)
    assert model_error(result.model, validation) == pytest.approx(expected)
    assert [row["epoch"] for row in result.history] == [1, 2]


def test_la_mesure_de_l_erreur_ne_depend_pas_du_decoupage():
    train = load_dataset().train  # 1 000 images : deux passages
    model = initial_model(make_student, 3)
    assert model_error(model.train(), train) == pytest.approx(error_rate(model(train.images), train.labels).item())
    assert model.training


@pytest.mark.parametrize("method", [method for method in METHODS.values() if not method.reads_features])
def test_un_modele_qui_ne_rend_que_ses_logits_convient_aux_methodes_de_logits(method):
    teacher = Plain() if method.needs_teacher else None
    result = distill(Plain, few(40), teacher, method=method, choice=CHOICE, epochs=1, batch_size=20)
    assert not torch.equal(result.model.linear.weight, initial_model(Plain, 0).linear.weight)


def test_le_teacher_reste_en_eval_sans_gradient_et_n_apprend_rien():
    teacher = nn.Sequential(nn.Dropout(0.5), Plain()).train()
    before = teacher[1].linear.weight.detach().clone()
    distill(Plain, few(40), teacher, method="KD", choice=CHOICE, epochs=1, batch_size=20)
    assert torch.equal(teacher[1].linear.weight, before) and teacher.training
    assert teacher[1].seen == []  # seule sa copie figée a servi


def test_le_teacher_passe_sans_graphe():
    graphs = set()

    class Watched(Plain):
        def forward(self, images):
            graphs.add((self.training, torch.is_grad_enabled()))
            return super().forward(images)

    distill(Plain, few(40), Watched(), choice=CHOICE, epochs=1, batch_size=20)
    assert graphs == {(False, False)}


def test_le_student_et_le_teacher_voient_la_meme_image_decalee(monkeypatch):
    seen = {"teacher": [], "student": []}

    class Watched(Plain):
        def forward(self, images):
            if len(images) > 4:  # au-delà de l'essai
                seen["student" if self.training else "teacher"].append(images.clone())
            return super().forward(images)

    data = few(40)
    distill(Watched, data, Watched(), method="KD", choice=CHOICE, epochs=2, batch_size=20, jitter=1)
    assert len(seen["student"]) == 4
    assert all(map(torch.equal, seen["student"], seen["teacher"]))
    known = {image.numpy().tobytes() for image in data.images}
    kept = [image.numpy().tobytes() in known for batch in seen["student"] for image in batch]
    assert 0 < sum(kept) < len(kept) / 3  # un décalage sur neuf est nul
    first, second = ({i.numpy().tobytes() for b in seen["student"][e : e + 2] for i in b} for e in (0, 2))
    assert len(first & second) < 20  # d'une époque à l'autre, les décalages changent


@pytest.mark.parametrize("method", ["hint", "KD + hint"])
def test_l_adaptateur_apprend_avec_le_student(method):
    trained = run(method).model
    start = initial_model(lambda: AdaptedStudent(make_student(), 1, 8, 12), 0)
    assert isinstance(trained, AdaptedStudent)
    assert not torch.equal(trained.adapter.adapt.weight, start.adapter.adapt.weight)


def test_l_entrainement_ne_touche_pas_au_generateur_global():
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    distill(lambda: MLP(dropout=0.5), few(40), method="seul", epochs=1, batch_size=20)
    assert torch.equal(torch.rand(3), expected)


def test_les_reglages_par_defaut_sont_ceux_de_la_comparaison(tmp_path):
    run("SP", choice=None, epochs=1, output=tmp_path)
    settings = json.loads((tmp_path / "histoire.json").read_text(encoding="utf-8"))["settings"]
    from kdcourse import load_choices

    assert asdict(load_choices()["SP"]).items() <= settings.items()


@pytest.mark.parametrize("method", METHODS)
def test_cent_pas_en_bf16_ne_donnent_ni_nan_ni_infini(method):
    assert _finite_after_100_steps(method, "bf16")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="fp16 demande un GPU.")
@pytest.mark.parametrize("method", METHODS)
def test_cent_pas_en_fp16_ne_donnent_ni_nan_ni_infini(method):
    assert _finite_after_100_steps(method, "fp16")


@pytest.fixture
def fp16_on_cpu(monkeypatch):
    """accelerate n'active fp16 que sur GPU ; torch en sait autant sur processeur, mise à l'échelle comprise."""
    scalers = []

    def make(_):
        AcceleratorState._reset_state()
        accelerator = Accelerator(mixed_precision="fp16")
        accelerator.native_amp, accelerator.scaler = True, torch.amp.GradScaler("cpu", growth_interval=20)
        scalers.append(accelerator.scaler)
        return accelerator

    monkeypatch.setattr(large_student, "make_accelerator", make)
    return scalers


@pytest.mark.parametrize("method", METHODS)
def test_cent_pas_en_fp16_sur_processeur_ne_donnent_ni_nan_ni_infini(fp16_on_cpu, method):
    assert _finite_after_100_steps(method, None)


def test_l_echelle_des_gradients_fp16_survit_a_une_reprise(fp16_on_cpu, tmp_path):
    options = dict(batch_size=12, epochs=4, checkpoint_every=1)
    large_runs.interrupted("KD", 15, output=tmp_path, **options)
    resumed = run("KD", output=tmp_path, resume=True, **options)
    whole = run("KD", **options)
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert fp16_on_cpu[1].state_dict() == fp16_on_cpu[2].state_dict()
    assert fp16_on_cpu[1].get_scale() != 2.0**16


def _finite_after_100_steps(method, precision):
    result = run(method, examples=100, batch_size=10, epochs=10, mixed_precision=precision)
    assert sum(row["steps"] for row in result.history) == 100
    losses = torch.tensor([row["loss"] for row in result.history])
    assert losses[-1] < losses[0]
    return all(values.isfinite().all() for values in [*result.model.state_dict().values(), losses])


def forward_dtypes(precision):
    """Les types des logits de student et de teacher, à leur sortie : ``(en entraînement, type)``."""
    kinds = set()

    class Watched(MLP):
        def forward_features(self, images):
            features = super().forward_features(images)
            kinds.add((self.training, features.logits.dtype))
            return features

    torch.manual_seed(0)
    distill(Watched, few(40), Watched(), method="KD", choice=CHOICE, epochs=1, batch_size=20, mixed_precision=precision)
    return kinds


def test_bf16_calcule_vraiment_en_bf16():
    assert {(True, torch.bfloat16), (False, torch.bfloat16)} <= forward_dtypes("bf16")


def test_fp16_calcule_vraiment_en_fp16(fp16_on_cpu):
    assert {(True, torch.float16), (False, torch.float16)} <= forward_dtypes(None)


def test_une_precision_n_engage_pas_l_entrainement_suivant():
    expected = run("KD", epochs=1).model.state_dict()
    run("KD", epochs=1, mixed_precision="bf16")
    torch.testing.assert_close(run("KD", epochs=1, mixed_precision="no").model.state_dict(), expected)


def test_une_perte_qui_n_est_plus_un_nombre_arrete_l_entrainement(tmp_path):
    def broken():
        return _linear(torch.full((64, 10), float("nan")))

    with pytest.raises(ValueError, match="loss : nan reçue à l'époque 1.*learning_rate"):
        distill(broken, few(40), method="seul", epochs=1, batch_size=20, output=tmp_path, checkpoint_every=1)
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="Il y a un GPU.")
def test_fp16_sur_processeur_est_refuse():
    with pytest.raises(ValueError, match="mixed_precision : 'fp16' reçu sur un processeur, 'no' ou 'bf16' attendu"):
        run("KD", mixed_precision="fp16")


def test_la_precision_d_accelerate_launch_est_suivie_ou_refusee(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    run("KD", epochs=1, output=tmp_path)
    assert json.loads((tmp_path / "histoire.json").read_text(encoding="utf-8"))["settings"]["precision"] == "bf16"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(ValueError, match="mixed_precision : 'fp8' reçu"):
        run("KD", epochs=1)


REFUSALS = {
    "method": (dict(method="RKD+KD"), "method : 'RKD.KD' reçu, une de seul, KD"),
    "choice": (dict(choice=0.5), "choice : float reçu pour la méthode KD, Choice"),
    "stage": (
        dict(method="hint", choice=Choice(0.5, stage=2)),
        "stage : 2 reçu, de 0 à 1 attendu, un étage de teacher",
    ),
    "epochs": (dict(epochs=0), "epochs : 0 reçu"),
    "batch_size": (dict(batch_size=0), "batch_size : 0 reçu"),
    "learning_rate": (dict(learning_rate=0), "learning_rate : 0 reçu"),
    "jitter": (dict(jitter=-1), "jitter : -1 reçu"),
    "output": (dict(output=5), "output : int reçu, un chemin de dossier"),
    "checkpoint_every": (dict(checkpoint_every=0), "checkpoint_every : 0 reçu"),
    "mixed_precision": (dict(mixed_precision="fp8"), "mixed_precision : 'fp8' reçu, un de no, fp16, bf16"),
    "validation": (dict(validation=few(5).where(slice(0, 0))), "validation.images"),
    "une validation qui n'en est pas une": (dict(validation="x"), "validation : str reçu, Split"),
    "une liste de méthodes": (dict(method=["KD"]), r"method : \['KD'\] reçu, une de seul"),
    "une graine en lettres": (dict(seed="a"), r"seed : 'a' \(str\) reçu, un entier de 0 à"),
    "une graine à virgule": (dict(seed=1.5), r"seed : 1.5 \(float\) reçu"),
    "une graine trop grande": (dict(seed=2**64), "seed : 18446744073709551616 reçu, un entier de 0 à"),
    "un décalage plus grand que l'image": (dict(jitter=9), r"jitter : 9 reçu avec des données \(69, 1, 8, 8\)"),
    "resume": (dict(resume="non"), "resume : 'non' reçu, True ou False attendu"),
    "un dossier sans nom": (dict(output=""), "output : '' reçu, un chemin de dossier"),
    "un dossier impossible": (dict(output="a\0b"), "output : 'a.x00b' reçu, un chemin de dossier"),
    "un fichier pour dossier": (dict(output=__file__), "output : .* reçu, un dossier attendu ; c'est un fichier"),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_un_argument_hors_de_son_domaine_est_nomme(name):
    options, message = REFUSALS[name]
    with pytest.raises((ValueError, TypeError), match=message):
        run(options.get("method", "KD"), **{key: value for key, value in options.items() if key != "method"})


@pytest.mark.parametrize(
    ("method", "teacher", "message"),
    [
        ("KD", None, "teacher : NoneType reçu, un modèle"),
        ("seul", make_teacher(), "teacher : CNN reçu avec la méthode seul, None attendu"),
        ("RKD", Plain(), "teacher : Plain reçu, un modèle qui a forward_features attendu"),
        ("attention", MLP(), r"teacher : forme .4, 32. reçue, .B, C, H, W. attendue"),
    ],
)
def test_un_teacher_qui_ne_convient_pas_a_la_methode_est_refuse(method, teacher, message):
    with pytest.raises((ValueError, TypeError), match=message):
        distill(make_student, few(40), teacher, method=method, choice=CHOICE, epochs=1)


def test_un_student_sans_features_est_refuse_pour_une_perte_de_relations():
    with pytest.raises(TypeError, match="make_model : Plain reçu, un modèle qui a forward_features"):
        distill(Plain, few(40), CNN(channels=(4, 8)), method="RKD", choice=CHOICE, epochs=1)


@pytest.mark.parametrize(
    ("make_model", "message"),
    [
        (lambda: None, "make_model.. : NoneType reçu, un modèle"),
        (nn.Linear, "make_model : Linear reçu, qui a d'autres arguments, une fonction sans argument attendue"),
        (make_student(), "make_model : CNN reçu, une fonction sans argument attendue"),
        (lambda: make_student().double(), "images : torch.float32 reçu, torch.float64 attendu, le type des poids"),
    ],
)
def test_un_student_qui_ne_se_construit_pas_est_refuse(make_model, message):
    with pytest.raises(TypeError, match=message):
        distill(make_model, few(40), method="seul", epochs=1)


def test_un_teacher_d_un_autre_type_ou_plein_de_nan_est_refuse():
    with pytest.raises(TypeError, match="images : torch.float32 reçu, torch.bfloat16 attendu.*teacher"):
        distill(make_student, few(40), make_teacher().bfloat16(), epochs=1)
    broken = make_teacher()
    torch.nn.init.constant_(next(broken.parameters()), float("nan"))
    with pytest.raises(ValueError, match=r"teacher\(images\) : 10 valeur"):
        distill(make_student, few(40), broken, epochs=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(seeds=3), "seeds : 3 reçu, une suite d'entiers"),
        (dict(seeds=[]), "seeds : suite vide reçue"),
        (dict(output=5), "output : int reçu"),
        (dict(method="KDD"), "method : 'KDD' reçu"),
    ],
)
def test_distill_seeds_refuse_avant_d_entrainer(change, message):
    options = dict(seeds=[0], method="KD", output=None) | change
    with pytest.raises((ValueError, TypeError), match=message):
        distill_seeds(make_student, few(40), make_teacher(), options.pop("seeds"), **options)


def test_les_cas_des_deux_processus_couvrent_toutes_les_methodes():
    assert set(METHODS) <= set(large_runs.CASES)
