"""Le processus chaud des corrections, ouvert une fois par fichier de tests."""

import shutil

import pytest

from kdgrading.warm import WarmWorker


@pytest.fixture(scope="module")
def worker():
    if shutil.which("bwrap") is None:
        pytest.skip("bubblewrap absent : apt install bubblewrap.")
    worker = WarmWorker()
    yield worker
    worker.close()
