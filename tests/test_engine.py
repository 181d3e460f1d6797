"""Le grand moteur dans un processus : la même boucle que ``train_one``, ses précisions, ses refus."""

import json

import engine_runs
import pytest
import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from engine_runs import CHOICE, few, make_student, make_teacher, run
from torch import nn

from kdcourse import (
    CNN,
    MLP,
    AdaptedStudent,
    Batches,
    engine,
    error_rate,
    initial_model,
    load_dataset,
    predict_features,
    ps_kd,
    train_one,
)
from kdcourse.engine import distill, model_error
from kdcourse.method_comparison import METHODS, Choice, Problem, distillation_of

BUDGET = dict(epochs=2, batch_size=32, learning_rate=3e-3)


class Plain(nn.Module):
    """Un modèle qui ne rend que ses logits, et note ce qu'il a vu."""

    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(64, 10), []

    def forward(self, images):
        self.seen.append((images.detach().clone(), self.training, torch.is_grad_enabled()))
        return self.linear(images.flatten(1))


@pytest.mark.parametrize("method", METHODS)
def test_le_moteur_egale_la_boucle_nue(method):
    data, teacher = few(69), make_teacher()
    if method == "seul":
        expected = train_one(make_student, data, **BUDGET)
    elif method == "PS-KD":
        expected = initial_model(make_student, 0)
        ps_kd(expected, Batches(data, 0, 32), 2, alpha=CHOICE.alpha, learning_rate=3e-3)
    else:
        features = predict_features(teacher, data.images)
        make_model = Problem(make_student, features, data, 1, 2, 32).make_model(method)
        expected = train_one(
            make_model, data, distillation=distillation_of(method, CHOICE, 1), teacher_features=features,
            alpha=CHOICE.alpha, **BUDGET,
        )  # fmt: skip
    torch.testing.assert_close(run(method).model.state_dict(), expected.state_dict(), rtol=1e-4, atol=1e-6)


def test_la_perte_de_l_histoire_est_la_moyenne_des_exemples():
    weights = torch.zeros(64, 10)
    result = distill(lambda: _linear(weights), few(69), method="seul", epochs=1, batch_size=32, learning_rate=1e-12)
    assert result.history[0]["perte"] == pytest.approx(torch.tensor(10.0).log().item(), rel=1e-5)


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
    assert result.history[-1]["erreur_validation"] == pytest.approx(expected)
    assert model_error(result.model, validation) == pytest.approx(expected)
    assert [row["epoque"] for row in result.history] == [1, 2]


def test_la_mesure_de_l_erreur_ne_depend_pas_du_decoupage():
    train = load_dataset().train  # 1 000 images : deux passages
    model = initial_model(make_student, 3)
    assert model_error(model.train(), train) == pytest.approx(error_rate(model(train.images), train.labels).item())
    assert model.training


@pytest.mark.parametrize("method", ["seul", "KD", "DKD", "PS-KD"])
def test_un_modele_qui_ne_rend_que_ses_logits_convient_aux_methodes_de_logits(method):
    teacher = None if method in ("seul", "PS-KD") else Plain()
    result = distill(Plain, few(40), teacher, method=method, choice=CHOICE, epochs=1, batch_size=20)
    assert not torch.equal(result.model.linear.weight, initial_model(Plain, 0).linear.weight)


def test_le_teacher_reste_en_eval_sans_gradient_et_n_apprend_rien():
    teacher = nn.Sequential(nn.Dropout(0.5), Plain()).train()
    before = teacher[1].linear.weight.detach().clone()
    distill(Plain, few(40), teacher, method="KD", choice=CHOICE, epochs=1, batch_size=20)
    assert torch.equal(teacher[1].linear.weight, before) and teacher.training
    assert teacher[1].seen == []  # seule sa copie figée a servi


def test_le_student_et_le_teacher_voient_la_meme_image_decalee(monkeypatch):
    seen = {"teacher": [], "student": []}

    class Watched(Plain):
        def forward(self, images):
            if len(images) > 1:
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
    settings = json.loads((tmp_path / "histoire.json").read_text(encoding="utf-8"))["reglages"]
    from kdcourse import load_choices

    assert {name: settings[name] for name in Choice._fields} == load_choices()["SP"]._asdict()


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

    monkeypatch.setattr(engine, "make_accelerator", make)
    return scalers


@pytest.mark.parametrize("method", METHODS)
def test_cent_pas_en_fp16_sur_processeur_ne_donnent_ni_nan_ni_infini(fp16_on_cpu, method):
    assert _finite_after_100_steps(method, None)


def test_l_echelle_des_gradients_fp16_survit_a_une_reprise(fp16_on_cpu, tmp_path):
    options = dict(batch_size=12, epochs=4, checkpoint_every=1)
    engine_runs.interrupted("KD", 15, output=tmp_path, **options)
    resumed = run("KD", output=tmp_path, resume=True, **options)
    whole = run("KD", **options)
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert fp16_on_cpu[1].state_dict() == fp16_on_cpu[2].state_dict()
    assert fp16_on_cpu[1].get_scale() != 2.0**16


def _finite_after_100_steps(method, precision):
    result = run(method, examples=100, batch_size=10, epochs=10, mixed_precision=precision)
    assert sum(row["pas"] for row in result.history) == 100
    losses = torch.tensor([row["perte"] for row in result.history])
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
        distill(broken, few(40), method="seul", epochs=1, batch_size=20, output=tmp_path)
    assert not list(tmp_path.glob("*.pt"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="Il y a un GPU.")
def test_fp16_sur_processeur_est_refuse():
    with pytest.raises(ValueError, match="mixed_precision : 'fp16' reçu sur un processeur, 'no' ou 'bf16' attendu"):
        run("KD", mixed_precision="fp16")


def test_la_precision_d_accelerate_launch_est_suivie_ou_refusee(monkeypatch, tmp_path):
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    run("KD", epochs=1, output=tmp_path)
    assert json.loads((tmp_path / "histoire.json").read_text(encoding="utf-8"))["reglages"]["precision"] == "bf16"
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "fp8")
    with pytest.raises(ValueError, match="mixed_precision : 'fp8' reçu"):
        run("KD", epochs=1)


REFUSALS = {
    "method": (dict(method="RKD+KD"), "method : 'RKD.KD' reçu, une de seul, KD"),
    "choice": (dict(choice=0.5), "choice : float reçu, Choice"),
    "alpha": (dict(choice=Choice(1.5)), "alpha : 1.5 reçu"),
    "temperature": (dict(choice=Choice(0.5, temperature=0)), "temperature : 0 reçu"),
    "weight": (dict(choice=Choice(0.5, -1)), "weight : -1 reçu"),
    "stage": (dict(method="hint", stage=2), "stage : 2 reçu, de 0 à 1 attendu, un étage de teacher"),
    "epochs": (dict(epochs=0), "epochs : 0 reçu"),
    "batch_size": (dict(batch_size=0), "batch_size : 0 reçu"),
    "learning_rate": (dict(learning_rate=0), "learning_rate : 0 reçu"),
    "jitter": (dict(jitter=-1), "jitter : -1 reçu"),
    "output": (dict(output=5), "output : int reçu, un chemin de dossier"),
    "checkpoint_every": (dict(checkpoint_every=0), "checkpoint_every : 0 reçu"),
    "mixed_precision": (dict(mixed_precision="fp8"), "mixed_precision : 'fp8' reçu, un de no, fp16, bf16"),
    "validation": (dict(validation=few(5).where(slice(0, 0))), "validation.images"),
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
        ("seul", make_teacher(), "teacher : CNN reçu avec method='seul', None attendu"),
        ("RKD", Plain(), "teacher : Plain reçu, un modèle qui a forward_features attendu pour 'RKD'"),
        ("attention", MLP(), r"teacher : forme .40, 32. reçue, .B, C, H, W. attendue"),
    ],
)
def test_un_teacher_qui_ne_convient_pas_a_la_methode_est_refuse(method, teacher, message):
    with pytest.raises((ValueError, TypeError), match=message):
        distill(make_student, few(40), teacher, method=method, choice=CHOICE, epochs=1)


def test_un_student_sans_features_est_refuse_pour_une_perte_de_relations():
    with pytest.raises(TypeError, match="make_model : Plain reçu, un modèle qui a forward_features"):
        distill(Plain, few(40), CNN(channels=(4, 8)), method="RKD", choice=CHOICE, epochs=1)


def test_les_cas_des_deux_processus_couvrent_toutes_les_methodes():
    assert set(METHODS) <= set(engine_runs.CASES)
