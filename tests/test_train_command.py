"""``python -m kdcourse.train`` : ce qu'il imprime, range et refuse."""

import json
import os
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from kdcourse import AdaptedStudent, load_choices, load_dataset, train
from kdcourse.formats import short
from kdcourse.train import load_model, main
from kdcourse.training.large_student import distill, model_error

ROOT = Path(__file__).parent.parent
T10K = ROOT.parent / "shared" / "data" / "mnist_t10k"
QUICK = ["--epochs", "1", "--batch-size", "200"]
CHOSEN = [*QUICK, "--temperature", "3,5", "--alpha", "0.25", "--seed", "4", "--output"]


def record(folder):
    return json.loads((folder / "histoire.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """Les chiffres, teacher entraîné d'abord, student par KD."""
    folder = tmp_path_factory.mktemp("essai") / "kd"
    assert main([*CHOSEN, str(folder)]) == 0
    return folder


LAUNCHERS = {  # accelerate launch ne lance qu'un processus sur processeur ; torchrun, qu'il appelle sur GPU, deux
    "accelerate launch": (["accelerate.commands.launch", "--cpu", "--num_processes=1"], 1),
    "torchrun": (["torch.distributed.run", "--standalone", "--nproc_per_node=2"], 2),
}


@pytest.mark.parametrize("launcher", LAUNCHERS)
def test_lancee_autrement_la_commande_donne_le_meme_student(trained, tmp_path, launcher):
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    words, count = LAUNCHERS[launcher]
    command = [sys.executable, "-m", *words, "-m", "kdcourse.train", *CHOSEN, str(tmp_path / "kd")]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Erreur de test sur 500 images : teacher,") == 1  # un seul processus parle
    assert record(tmp_path / "kd")["settings"]["processes"] == count
    student, expected = (load_model(folder / "student.pt").state_dict() for folder in (tmp_path / "kd", trained))
    torch.testing.assert_close(student, expected, rtol=1e-4, atol=1e-5)


def test_les_options_arrivent_a_distill(trained):
    expected = dict(method="KD", temperature=3.5, alpha=0.25, scale=1.0, seed=4, epochs=1, batch_size=200)
    assert expected.items() <= record(trained)["settings"].items()
    assert record(trained / "teacher")["settings"]["method"] == "seul"


def test_les_erreurs_de_test_rangees_sont_celles_des_modeles_ranges(trained):
    test, results = load_dataset().test, record(trained)["results"]
    assert results["test_error_student"] == model_error(load_model(trained / "student.pt"), test)
    assert results["test_error_teacher"] == model_error(load_model(trained / "teacher" / "student.pt"), test)


def test_un_student_pt_sert_de_teacher_sans_etre_reentraine(trained, tmp_path, capsys):
    teacher = trained / "teacher" / "student.pt"
    options = ["--method", "SP", "--student", "digits_teacher", "--teacher", str(teacher), "--output", str(tmp_path)]
    assert main([*QUICK, *options]) == 0
    assert not (tmp_path / "teacher").exists()
    chosen = load_choices()["SP"]
    said = f"(alpha = {short(chosen.alpha)}, facteur = {short(chosen.scale)}, T = {short(chosen.temperature)})"
    assert f"méthode SP {said}" in capsys.readouterr().out
    assert asdict(load_choices()["SP"]).items() <= record(tmp_path)["settings"].items()


def test_l_adaptateur_de_hint_ne_reste_pas_dans_le_student_range(trained, tmp_path):
    teacher = trained / "teacher" / "student.pt"
    options = ["--method", "KD + hint", "--student", "digits_teacher", "--teacher", str(teacher)]
    assert main([*QUICK, *options, "--output", str(tmp_path)]) == 0
    model = load_model(tmp_path / "student.pt")
    assert not isinstance(model, AdaptedStudent) and not model.training
    assert model_error(model, load_dataset().test) == record(tmp_path)["results"]["test_error_student"]


def test_la_commande_relancee_avec_resume_retrouve_tout(trained, capsys):
    before = {path: path.read_bytes() for path in trained.rglob("student.pt")}
    assert main([*CHOSEN, str(trained), "--resume"]) == 0
    assert "Erreur de test" in capsys.readouterr().out
    assert all(
        torch.equal(a, b)
        for path, content in before.items()
        for a, b in zip(load_model(path).state_dict().values(), _state(content, path.parent), strict=True)
    )


def _state(content, folder):
    copy = folder / "copie.pt"
    copy.write_bytes(content)
    return load_model(copy).state_dict().values()


@pytest.mark.skipif(not T10K.exists(), reason="Les images de test de MNIST ne sont pas à côté du projet.")
def test_mnist_se_lit_d_un_dossier_et_choisit_ses_architectures(tmp_path, capsys):
    options = ["--data", "mnist_t10k", "--folder", str(T10K), "--method", "seul", "--student", "mnist_student"]
    assert main([*options, "--epochs", "1", "--batch-size", "500", "--output", str(tmp_path)]) == 0
    assert "Erreur de test sur 2000 images" in capsys.readouterr().out
    assert record(tmp_path)["results"]["test_error_student"] < 25


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--method", "KDD"], "--method : 'KDD' reçu, une de seul, KD"),
        (["--data", "mnits"], "name : 'mnits' reçu, un de 'digits', 'mnist'"),
        (["--student", "resnet"], "--student : 'resnet' reçu, une de digits_teacher"),
        (["--alpha", "2"], "alpha : 2.0 reçu, un nombre de [0, 1] attendu"),
        (["--teacher", "absent.pt"], "--teacher : absent.pt reçu, une architecture (digits_teacher"),
        (["--method", "seul", "--teacher", "digits_teacher"], "--teacher : 'digits_teacher' reçu avec --method seul"),
        (["--method", "seul", "--epochs", "0"], "epochs : 0 reçu"),
        (["--method", "seul", "--learning-rate", "-1"], "learning_rate : -1.0 reçu"),
    ],
)
def test_une_demande_impossible_se_dit_en_une_phrase(options, message, tmp_path, capsys):
    assert main([*options, "--output", str(tmp_path / "essai")]) == 1
    error = capsys.readouterr().err
    assert error.startswith("Erreur. ") and message in error and error.count("\n") == 1


def test_le_teacher_n_est_pas_entraine_pour_rien(tmp_path, capsys, trained):
    """Ce que le student refuserait, ou un dossier déjà pris, se dit avant."""
    for options, message in (
        (["--method", "hint"], "digits_student ne peut pas apprendre de digits_teacher (teacher : forme (2, 32, 4, 4)"),
        (["--method", "KD", "--student", "mnist_student"], "mnist_student ne peut pas apprendre de digits_teacher"),
        (["--method", "attention", "--student", "digits_teacher", "--stage", "7"], "stage : 7 reçu, de 0 à 2 attendu"),
    ):
        assert main([*QUICK, *options, "--output", str(tmp_path / "essai")]) == 1
        assert message in capsys.readouterr().err
        assert not (tmp_path / "essai").exists()
    shutil.rmtree(shutil.copytree(trained, tmp_path / "pris") / "teacher")
    assert main([*CHOSEN, str(tmp_path / "pris")]) == 1
    assert "contient déjà un entraînement" in capsys.readouterr().err
    assert not (tmp_path / "pris" / "teacher").exists()


def test_chaque_option_du_budget_arrive_a_distill(tmp_path, monkeypatch):
    calls = []

    def watched(*args, **kwargs):
        calls.append(kwargs)
        return distill(*args, **kwargs)

    monkeypatch.setattr(train, "distill", watched)
    given = dict(
        epochs=2, batch_size=100, learning_rate=0.002, jitter=1, seed=3, mixed_precision="bf16", checkpoint_every=7
    )
    options = [word for name, value in given.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    options += ["--method", "attention", "--student", "digits_teacher", "--stage", "2", "--output", str(tmp_path)]
    assert main(options) == 0
    first_try, teacher, student = calls
    assert (first_try["choice"].stage, student["choice"].stage) == (2, 2)
    for call in (teacher, student):
        assert given.items() <= call.items() and call["resume"] is False
        assert call["validation"] is not None
    assert "validation_error" in record(tmp_path)["epochs"][0]


def test_reprendre_avec_une_autre_architecture_se_dit_en_une_phrase(tmp_path, capsys):
    options = [*QUICK, "--method", "seul", "--output", str(tmp_path)]
    assert main(options) == 0
    capsys.readouterr()
    assert main([*options, "--resume", "--student", "digits_teacher"]) == 1
    error = capsys.readouterr().err
    assert "model : MLP" in error and error.startswith("Erreur. ") and error.count("\n") == 1


@pytest.mark.parametrize(
    ("raised", "status", "message"),
    [
        (KeyboardInterrupt(), 130, "La même commande avec --resume continue"),
        (RuntimeError("CUDA out of memory. Tried…"), 1, "La mémoire n'y suffit pas"),
        (RuntimeError("[gloo] Connection closed by peer [::1]"), 1, "Un autre processus s'est arrêté"),
    ],
)
def test_un_arret_se_dit_en_une_phrase(monkeypatch, capsys, raised, status, message):
    def stop(_):
        raise raised

    monkeypatch.setattr(train, "run", stop)
    assert main([]) == status
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_une_erreur_de_torch_inconnue_garde_sa_trace(monkeypatch):
    def stop(_):
        raise RuntimeError("un bug")

    monkeypatch.setattr(train, "run", stop)
    with pytest.raises(RuntimeError, match="un bug"):
        main([])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--batch-size"], "Erreur. option --batch-size : une valeur attendue. L'option --help"),
        (["--epo", "3"], "option inconnue : --epo 3"),
        (["--alpha", "fort"], "'fort' reçu, un nombre attendu."),
        (["--epochs", "2.5"], "'2.5' reçu, un entier attendu."),
        (["--temperatrue", "3"], "option inconnue : --temperatrue 3"),
    ],
)
def test_une_option_illisible_est_refusee_en_francais(options, message, capsys):
    with pytest.raises(SystemExit) as caught:
        main(options)
    assert caught.value.code == 2 and message in capsys.readouterr().err


def test_l_aide_decrit_chaque_option_en_francais(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert "affiche cette aide" in text and "--mixed-precision" in text and "accelerate launch" in text


@pytest.mark.parametrize("spoil", [lambda c: c[: len(c) // 2], lambda c: b"", lambda c: b"autre chose"])
def test_un_teacher_abime_est_refuse(trained, tmp_path, spoil, capsys):
    path = tmp_path / "student.pt"
    path.write_bytes(spoil((trained / "student.pt").read_bytes()))
    assert main(["--teacher", str(path), "--output", str(tmp_path / "essai")]) == 1
    assert "un student.pt entier attendu" in capsys.readouterr().err
