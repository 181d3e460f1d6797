"""Deux processus gloo égalent un seul : même lot, mêmes paramètres à l'arrondi près, quelle que soit la perte."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from support import large_runs
from support.toy_methods import FORGETFUL

ROOT = Path(__file__).parent.parent.parent


@pytest.fixture(scope="module")
def two_processes(tmp_path_factory):
    path = tmp_path_factory.mktemp("deux") / "parametres.pt"
    environment = os.environ | {"ACCELERATE_USE_CPU": "1", "OMP_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join([str(ROOT), str(ROOT / "tests"), environment.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    done = subprocess.run(
        [*command, str(ROOT / "tests/support/large_runs.py"), str(path)],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return torch.load(path, weights_only=True)


@pytest.mark.parametrize("case", [case for case in large_runs.CASES if case != FORGETFUL.name])
def test_deux_processus_egalent_un_seul(two_processes, case):
    assert two_processes["processes"] == 2
    torch.testing.assert_close(two_processes[case], large_runs.run_case(case), rtol=1e-4, atol=2e-6)


def test_une_relation_qui_n_aurait_que_sa_part_du_lot_serait_une_autre_perte(two_processes):
    """Le piège : la même relation, qui oublie de dire ``whole_batch``, s'entraîne sans un mot et autrement."""
    with pytest.raises(AssertionError):
        torch.testing.assert_close(
            two_processes[FORGETFUL.name], large_runs.run_case(FORGETFUL.name), rtol=1e-4, atol=2e-6
        )


def test_deux_processus_arretes_puis_repris_egalent_un_seul_jamais_arrete(two_processes):
    """PS-KD range ce que chaque processus a prédit : la reprise ne doit ni l'oublier, ni le compter deux fois."""
    expected = large_runs.parameters("PS-KD", **large_runs.RESUMED)
    torch.testing.assert_close(two_processes["reprise"], expected, rtol=1e-4, atol=2e-6)


def test_chaque_processus_a_son_hasard_et_le_retrouve_a_la_reprise(two_processes):
    assert len(set(two_processes["tirages"])) == 2
    torch.testing.assert_close(two_processes["hasard repris"], two_processes["hasard"], rtol=0, atol=0)


BUSY = """
import sys, threading
import torch
from kdcourse.training.processes import leave

def hold_tensors():
    tensor = torch.randn(100)
    while True:
        tensor + tensor

torch.distributed.init_process_group("gloo", init_method=f"file://{sys.argv[1]}", rank=0, world_size=1)
threading.Thread(target=hold_tensors, daemon=True).start()
print("fini")
leave(3)
"""


def test_un_fil_qui_tient_encore_des_tenseurs_ne_fait_pas_avorter_la_sortie(tmp_path):
    """Le fil de gloo en tient un instant ; celui-ci en tient toujours, et sans ``leave`` le processus avorte."""
    done = subprocess.run([sys.executable, "-c", BUSY, str(tmp_path / "rendez-vous")], capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (3, "fini\n"), done.stderr[-3000:]
