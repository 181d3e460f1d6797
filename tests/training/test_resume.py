"""Tué et repris, ou jamais tué : le même student. Un point de reprise abîmé est refusé, le dernier entier sert."""

import csv
import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import killed_runs
from support.large_runs import few, interrupted, make_student, run

from kdcourse import CNN, MLP
from kdcourse.training.checkpoints import load_checkpoint, make_folder, release, save_checkpoint, write_whole
from kdcourse.training.large_student import distill

ROOT = Path(__file__).parent.parent.parent
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
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests"), environment.get("PYTHONPATH", "")])
    command = [sys.executable, str(ROOT / "tests/support/killed_runs.py"), str(folder)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    return folder


@pytest.mark.parametrize("moment", killed_runs.MOMENTS)
@pytest.mark.parametrize("method", killed_runs.METHODS)
def test_tue_en_pleine_epoque_puis_repris_egale_jamais_tue(killed, method, moment):
    options, folder = killed_runs.options_of(method), killed / method / moment
    state, _ = load_checkpoint(folder)
    assert (state["epoch"], state["step"]) == killed_runs.MOMENTS[moment]
    resumed, whole = run(method, output=folder, resume=True, **options), run(method, **options)
    torch.testing.assert_close(resumed.model.state_dict(), whole.model.state_dict(), rtol=0, atol=0)
    assert _without_seconds(resumed.history) == _without_seconds(whole.history)
    assert not list(folder.glob("*.partiel")) and not (folder / "reprise-nouvelle.pt").exists()


def _without_seconds(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


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
    assert [row["epoch"] for row in result.history] == [1, 2]


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
        (dict(examples=70), "data : "),
        (dict(mixed_precision="bf16"), "precision : no au point de reprise, bf16 demandé"),
    ],
)
def test_reprendre_avec_un_autre_reglage_est_refuse(folder, change, message):
    run("KD", output=folder, **OPTIONS)
    with pytest.raises(ValueError, match=message):
        run(change.pop("method", "KD"), output=folder, resume=True, **OPTIONS | change)


def test_reprendre_avec_un_autre_teacher_est_refuse(folder, monkeypatch):
    run("KD", output=folder, **OPTIONS)
    monkeypatch.setattr("support.large_runs.make_teacher", lambda: CNN(channels=(8, 12)))
    with pytest.raises(ValueError, match="teacher : "):
        run("KD", output=folder, resume=True, **OPTIONS)


def dropping(dropout, hidden=16):
    return lambda: MLP(hidden=(hidden,), dropout=dropout)


@pytest.mark.parametrize("other", [dropping(0.0), dropping(0.5, hidden=17), make_student])
def test_reprendre_avec_un_autre_student_est_refuse(folder, other):
    run("seul", output=folder, make_model=dropping(0.5), **OPTIONS)
    with pytest.raises(ValueError, match="model : MLP .* au point de reprise, (MLP|CNN) .* demandé"):
        run("seul", output=folder, resume=True, make_model=other, **OPTIONS)


@pytest.mark.parametrize(("before", "after"), [(None, few(20)), (few(20), None), (few(20), few(10))])
def test_reprendre_avec_une_autre_validation_est_refuse(folder, before, after):
    interrupted("KD", 7, output=folder, validation=before, **OPTIONS)
    with pytest.raises(ValueError, match="validation : "):
        run("KD", output=folder, resume=True, validation=after, **OPTIONS)


def test_reprendre_avec_d_autres_etiquettes_est_refuse(folder):
    data = few(69)
    options = dict(method="seul", epochs=1, output=folder)
    distill(make_student, data, **options)
    with pytest.raises(ValueError, match="data : "):
        distill(make_student, data._replace(labels=data.labels.roll(1)), resume=True, **options)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows ne réserve pas un dossier.")
def test_un_dossier_ou_l_on_ecrit_deja_est_refuse_puis_rendu(folder):
    lock = make_folder(folder)
    with pytest.raises(ValueError, match="un autre entraînement écrit en ce moment dans"):
        run("KD", output=folder, resume=True, **OPTIONS)
    release(lock)
    run("KD", output=folder, resume=True, **OPTIONS)
    release(make_folder(folder))  # l'entraînement fini l'a rendu


def test_un_entrainement_arrete_rend_son_dossier(folder):
    interrupted("KD", 7, output=folder, **OPTIONS)
    release(make_folder(folder))


def test_un_dossier_qui_ne_se_cree_pas_se_dit(folder, monkeypatch):
    def read_only(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system")

    monkeypatch.setattr(Path, "mkdir", read_only)
    with pytest.raises(OSError, match="output : .* ne s'écrit pas .lecture seule. ; donnez un autre dossier"):
        run("KD", output=folder, **OPTIONS)


@pytest.mark.parametrize("state", [{"x": 1}, [1, 2]])
def test_un_point_entier_mais_d_une_autre_origine_est_refuse(folder, state):
    folder.mkdir()
    save_checkpoint(folder, state)
    with pytest.raises(ValueError, match="Aucun point de reprise entier ne reste"):
        run("KD", output=folder, resume=True, **OPTIONS)


def test_un_point_d_une_autre_version_ou_un_dossier_a_sa_place_est_refuse(folder):
    run("KD", output=folder, **OPTIONS)
    path = folder / "reprise.pt"
    path.write_bytes(b"kdcourse reprise 3" + path.read_bytes()[18:])
    assert len(load_checkpoint(folder)[1]) == 1
    path.unlink()
    path.mkdir()
    assert len(load_checkpoint(folder)[1]) == 1


def test_une_ecriture_coupee_laisse_le_fichier_d_avant(tmp_path, monkeypatch):
    path = tmp_path / "histoire.json"
    write_whole(path, b"avant")

    def full(_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="disque plein"):
        write_whole(path, b"apres")
    assert path.read_bytes() == b"avant" and [p.name for p in tmp_path.iterdir()] == ["histoire.json"]


@pytest.mark.parametrize("content", [None, "{"])
def test_l_histoire_perdue_d_un_entrainement_fini_se_retrouve(folder, content):
    expected = run("KD", output=folder, **OPTIONS).history
    path = folder / "histoire.json"
    path.unlink() if content is None else path.write_text(content, encoding="utf-8")
    run("KD", output=folder, resume=True, **OPTIONS)
    assert json.loads(path.read_text(encoding="utf-8"))["epochs"] == expected


def test_les_secondes_d_avant_la_coupure_comptent(folder):
    interrupted("KD", 4, output=folder, **OPTIONS)
    spent = load_checkpoint(folder)[0]["seconds"]
    assert 0 < spent <= run("KD", output=folder, resume=True, **OPTIONS).history[0]["seconds"] + 5e-4


def test_resume_sans_dossier_est_refuse():
    with pytest.raises(ValueError, match="output : None reçu avec resume=True"):
        run("KD", resume=True)


def test_l_histoire_s_ecrit_en_csv_et_en_json(folder):
    history = run("KD", output=folder, **OPTIONS).history
    with open(folder / "histoire.csv", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    assert [{name: float(value) for name, value in row.items()} for row in rows] == history
    record = json.loads((folder / "histoire.json").read_text(encoding="utf-8"))
    assert record["epochs"] == history and record["settings"]["method"] == "KD"


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
