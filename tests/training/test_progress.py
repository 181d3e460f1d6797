"""La barre de progression : ce qu'elle laisse derrière elle, dans un notebook et dans un terminal."""

import subprocess
import sys

import nbformat
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from kdcourse.training.progress import Progress

LOOP = """
import time
from kdcourse.training.progress import Progress
for step in Progress(range(3), desc="essai"):
    time.sleep(0.6)
    if step == {stop}:
        raise ValueError("arrêt")
"""


def outputs(source: str) -> list:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(source)])
    try:
        NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    except CellExecutionError:
        pass
    return notebook.cells[0].outputs


@pytest.mark.parametrize("stop", [None, 2])
def test_dans_un_notebook_une_barre_montree_ne_laisse_aucune_vue(stop):
    bar, *rest = outputs(LOOP.format(stop=stop))
    assert bar.output_type == "display_data" and bar.data == {}  # elle a paru, puis s'est effacée
    assert [output.output_type for output in rest] == ([] if stop is None else ["error"])


DISTILL = """
import time
from kdcourse import MLP, distill, load_dataset
class Slow(MLP):
    calls = 0
    def forward(self, images):
        Slow.calls += self.training
        time.sleep(0.3 * self.training)
        if Slow.calls == 7:
            raise {error}
        return super().forward(images)
distill(Slow, load_dataset().train.where(slice(0, 200)), method="seul", epochs=1, batch_size=20)
"""


@pytest.mark.parametrize("error", ["RuntimeError('plus de mémoire')", "KeyboardInterrupt"])
def test_un_entrainement_arrete_ne_laisse_pas_sa_barre(error):
    bar, failure = outputs(DISTILL.format(error=error))
    assert bar.data == {} and failure.output_type == "error"


def test_une_boucle_courte_n_en_montre_pas():
    assert outputs(LOOP.format(stop=None).replace("0.6", "0.01")) == []


def test_dans_un_terminal_elle_s_efface():
    done = subprocess.run([sys.executable, "-c", LOOP.format(stop=None)], capture_output=True)
    *_, erased, after = done.stderr.decode().split("\r")
    assert done.returncode == 0 and done.stdout == b"" and "essai" in done.stderr.decode()
    assert erased.strip() == "" and after == ""


def test_elle_ne_parle_que_deux_fois_par_seconde(monkeypatch):
    told, now = [], [0.0]
    monkeypatch.setattr(Progress, "refresh", lambda self, **_: told.append(now[0]))
    bar = Progress(total=1000)
    bar._time, bar.start_t, bar.last_print_t = lambda: now[0], 0.0, 0.0
    for _ in range(1000):  # cent pas par seconde, dix secondes
        now[0] += 0.01
        bar.update()
    assert 10 <= len(told) <= 20
    bar.close()
