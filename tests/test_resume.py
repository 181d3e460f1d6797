"""Tué et repris, ou jamais tué : le même student. Un point de reprise abîmé est refusé, le dernier entier sert."""

import csv
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import engine_killed
import pytest
import torch
from engine_runs import interrupted, make_student, run

from kdcourse import CNN
from kdcourse._checkpoints import load_checkpoint

HERE = Path(__file__).parent
SPOILS = {
    "vide": lambda content: b"",
    "coupé au milieu": lambda content: content[: len(content) // 2],
    "coupé d'un octet": lambda content: content[:-1],
    "un octet changé": lambda content: content[:-500] + bytes([content[-500] ^ 1]) + content[-499:],
}


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """Les dossiers de tous les entraînements tués : ``killed / méthode / moment``."""
    if not hasattr(os, "fork"):
        pytest.skip("Ce système n'a pas fork.")
    folder = tmp_path_factory.mktemp("tués")
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(HERE.parent), environment.get("PYTHONPATH", "")])
    command = [sys.executable, str(HERE / "engine_killed.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("moment", engine_killed.MOMENTS)
@pytest.mark.parametrize("method", engine_killed.METHODS)
def test_tue_en_pleine_epoque_puis_repris_egale_jamais_tue(killed, method, moment):
    options, folder = engine_killed.options_of(method), killed / method / moment
    state, _ = load_checkpoint(folder)
    assert (state["epoch"], state["step"]) == engine_killed.MOMENTS[moment]
    resumed, whole = run(method, output=folder, resume=True, **options), run(method, **options)
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert _without_seconds(resumed.history) == _without_seconds(whole.history)
    assert not list(folder.glob("*.partiel")) and not (folder / "reprise-nouvelle.pt").exists()


def _without_seconds(history):
    return [{name: value for name, value in row.items() if name != "secondes"} for row in history]


@pytest.fixture
def folder(tmp_path):
    """Un dossier qui n'existe pas encore."""
    return tmp_path / "essai"


# Six pas par époque, un point de reprise à chacun.
OPTIONS = dict(examples=69, batch_size=12, epochs=2, checkpoint_every=1)


@pytest.mark.parametrize("spoil", SPOILS)
def test_un_point_de_reprise_abime_est_refuse_et_le_precedent_sert(folder, capsys, spoil):
    interrupted("KD", 7, output=folder, **OPTIONS)
    path, previous = folder / "reprise.pt", folder / "reprise-precedente.pt"
    path.write_bytes(SPOILS[spoil](path.read_bytes()))
    whole_one = previous.read_bytes()
    state, refused = load_checkpoint(folder)
    assert len(refused) == 1 and (state["epoch"], state["step"]) == (2, 0)
    assert previous.read_bytes() == whole_one
    resumed = run("KD", output=folder, resume=True, **OPTIONS)
    assert (
        "reprise.pt : fichier tronqué ou abîmé, refusé ; reprise du précédent, 6 pas faits." in capsys.readouterr().out
    )
    torch.testing.assert_close(resumed.model.state_dict(), run("KD", **OPTIONS).model.state_dict(), rtol=0, atol=0)


def test_le_seul_point_entier_survit_a_une_reprise_puis_a_une_nouvelle_coupure(folder):
    """Après un refus, écrire le point suivant ne doit pas ranger le fichier abîmé à la place du bon."""
    interrupted("KD", 8, output=folder, **OPTIONS)
    path = folder / "reprise.pt"
    path.write_bytes(path.read_bytes()[:-1])
    interrupted("KD", 1, output=folder, resume=True, **OPTIONS)
    path.write_bytes(path.read_bytes()[:-1])
    state, refused = load_checkpoint(folder)
    assert len(refused) == 1 and (state["epoch"], state["step"]) == (2, 1)


def test_sans_aucun_point_entier_la_reprise_est_refusee_et_rien_n_est_efface(folder):
    interrupted("KD", 7, output=folder, **OPTIONS)
    for name in ("reprise.pt", "reprise-precedente.pt"):
        (folder / name).write_bytes((folder / name).read_bytes()[:-1])
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    with pytest.raises(ValueError, match="Aucun point de reprise entier ne reste : videz"):
        run("KD", output=folder, resume=True, **OPTIONS)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_un_disque_plein_se_dit_et_laisse_le_dernier_point_intact(folder, monkeypatch):
    interrupted("KD", 7, output=folder, **OPTIONS)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="output : .* n'a pas pu s'écrire .* Les fichiers d'avant sont intacts"):
        run("KD", output=folder, resume=True, **OPTIONS)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_sans_resume_un_entrainement_existant_n_est_pas_ecrase(folder):
    run("KD", output=folder, **OPTIONS)
    before = (folder / "reprise.pt").read_bytes()
    with pytest.raises(ValueError, match="contient déjà un entraînement ; resume=True"):
        run("KD", output=folder, **OPTIONS)
    assert (folder / "reprise.pt").read_bytes() == before


def test_resume_sur_un_dossier_vide_part_du_debut(folder):
    result = run("KD", output=folder, resume=True, **OPTIONS)
    assert [row["epoque"] for row in result.history] == [1, 2]


def test_reprendre_un_entrainement_fini_ne_fait_plus_un_pas(folder, monkeypatch):
    finished = run("KD", output=folder, **OPTIONS)

    def no_step(*_, **__):
        raise AssertionError("un pas de trop")

    monkeypatch.setattr(torch.optim.Adam, "step", no_step)
    again = run("KD", output=folder, resume=True, **OPTIONS)
    torch.testing.assert_close(again.model.state_dict(), finished.model.state_dict(), rtol=0, atol=0)
    assert again.history == finished.history and not again.model.training


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (dict(learning_rate=0.1), "learning_rate : 0.003 au point de reprise, 0.1 demandé"),
        (dict(method="DKD"), "method : KD au point de reprise, DKD demandé"),
        (dict(epochs=3), "epochs : 2 au point de reprise, 3 demandé"),
        (dict(examples=70), "donnees : "),
        (dict(mixed_precision="bf16"), "precision : no au point de reprise, bf16 demandé"),
    ],
)
def test_reprendre_avec_un_autre_reglage_est_refuse(folder, change, message):
    run("KD", output=folder, **OPTIONS)
    with pytest.raises(ValueError, match=message):
        run(change.pop("method", "KD"), output=folder, resume=True, **OPTIONS | change)


def test_reprendre_avec_un_autre_teacher_est_refuse(folder, monkeypatch):
    run("KD", output=folder, **OPTIONS)
    monkeypatch.setattr("engine_runs.make_teacher", lambda: CNN(channels=(8, 12)))
    with pytest.raises(ValueError, match="teacher : "):
        run("KD", output=folder, resume=True, **OPTIONS)


def test_resume_sans_dossier_est_refuse():
    with pytest.raises(ValueError, match="output : None reçu avec resume=True"):
        run("KD", resume=True)


def test_l_histoire_s_ecrit_en_csv_et_en_json(folder):
    history = run("KD", output=folder, **OPTIONS).history
    with open(folder / "histoire.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == history
    record = json.loads((folder / "histoire.json").read_text(encoding="utf-8"))
    assert record["epoques"] == history and record["reglages"]["method"] == "KD"


def test_sans_dossier_rien_ne_s_ecrit(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run("KD", epochs=1)
    assert not list(tmp_path.iterdir())


def test_le_student_repris_garde_ses_parametres_de_depart_si_rien_n_a_ete_fait(folder):
    interrupted("KD", 0, output=folder, **OPTIONS)
    assert load_checkpoint(folder) == (None, [])
    resumed = run("KD", output=folder, resume=True, **OPTIONS)
    torch.testing.assert_close(resumed.model.state_dict(), run("KD", **OPTIONS).model.state_dict(), rtol=0, atol=0)
    assert isinstance(resumed.model, type(make_student()))
