"""MNIST, Fashion-MNIST et CIFAR : entiers ou refusés, par le réseau ou sans lui.

Les fichiers sont écrits par les tests, dans les formats d'origine, et téléchargés par torchvision d'un petit serveur de
cette machine ; ses sommes MD5 sont remplacées par les leurs.
"""

import errno
import gzip
import hashlib
import os
import pickle
import re
import shutil
import socket
import struct
import tarfile
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets

from kdcourse import load_dataset
from kdcourse.data import downloads as _downloads
from kdcourse.data.downloads import default_folder
from kdcourse.data.splits import shift_images

T10K = Path(__file__).parent.parent.parent.parent / "shared" / "data" / "mnist_t10k"
needs_t10k = pytest.mark.skipif(not T10K.exists(), reason="Les images de test de MNIST ne sont pas à côté du projet.")
MNIST_FILES = [f"{part}-{kind}-ubyte.gz" for part in ("train", "t10k") for kind in ("images-idx3", "labels-idx1")]
NOWHERE = "http://127.0.0.1:9/"  # personne n'écoute sur ce port : « réseau absent », sans attendre


class Handler(SimpleHTTPRequestHandler):
    """Sert un dossier ; coupe la connexion au milieu de chaque fichier de ``coupe/``, et refuse ceux de ``refuse/``."""

    def do_GET(self):
        if "/refuse/" in self.path:
            return self.send_error(503)
        if "/coupe/" in self.path:
            self.send_response(200)
            self.send_header("Content-Length", "1000")
            self.end_headers()
            return self.wfile.write(b"?" * 500)
        return super().do_GET()

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def address(tmp_path_factory):
    """L'adresse d'un dossier servi par HTTP : ``address(dossier)``."""
    root = tmp_path_factory.getbasetemp()
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(root)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield lambda path: f"http://127.0.0.1:{server.server_port}/{path.relative_to(root).as_posix()}"
    server.shutdown()
    server.server_close()


def idx(array):
    header = struct.pack(f">BBBB{array.ndim}I", 0, 0, 8, array.ndim, *array.shape)
    return gzip.compress(header + array.tobytes(), compresslevel=1)


def write_mnist(folder, train=120, test=40):
    """Quatre fichiers idx ; le pixel (0, 0) d'une image est son étiquette, le suivant son rang."""
    folder.mkdir(parents=True)
    for part, size in (("train", train), ("t10k", test)):
        images, labels = np.zeros((size, 28, 28), np.uint8), (np.arange(size) % 10).astype(np.uint8)
        images[:, 0, 0], images[:, 0, 1] = labels, np.arange(size) % 256
        images[:, 0, 2] = 255
        (folder / f"{part}-images-idx3-ubyte.gz").write_bytes(idx(images))
        (folder / f"{part}-labels-idx1-ubyte.gz").write_bytes(idx(labels))


def md5(path):
    return hashlib.md5(path.read_bytes()).hexdigest()


def publish_mnist(monkeypatch, source, folder, mirror):
    monkeypatch.setattr(source, "resources", [(name, md5(folder / name)) for name in MNIST_FILES])
    monkeypatch.setattr(source, "mirrors", [mirror])


@pytest.fixture
def mnist(tmp_path, monkeypatch, address):
    """L'adresse de MNIST est un dossier de cette machine, qu'un test peut vider ou abîmer."""
    write_mnist(tmp_path / "serveur")
    publish_mnist(monkeypatch, datasets.MNIST, tmp_path / "serveur", address(tmp_path / "serveur") + "/")
    return tmp_path / "serveur"


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "données"


def write_cifar(server, source, coarse):
    """L'archive et ses lots ``pickle`` ; le premier pixel rouge, vert et bleu vaut l'étiquette, 100 et 200."""
    classes = 10 if source is datasets.CIFAR10 else 100
    base = server / source.base_folder
    base.mkdir(parents=True)
    names = [name for name, _ in source.train_list + source.test_list]
    for name in names:
        size = 1000 if classes == 100 else 40
        labels = [index % classes for index in range(size)]
        pixels = np.zeros((size, 3, 32, 32), np.uint8)
        pixels[:, 0, 0, 0], pixels[:, 1, 0, 1], pixels[:, 2, 1, 0] = labels, 100, 200
        key = "fine_labels" if coarse else "labels"
        (base / name).write_bytes(pickle.dumps({"data": pixels.reshape(size, -1), key: labels}))
    meta = base / source.meta["filename"]
    meta.write_bytes(pickle.dumps({source.meta["key"]: [str(label) for label in range(classes)]}))
    with tarfile.open(server / source.filename, "w:gz", compresslevel=1) as archive:
        archive.add(base, source.base_folder)
    return base


@pytest.fixture(params=["cifar10", "cifar100"])
def cifar(request, tmp_path, monkeypatch, address):
    source = {"cifar10": datasets.CIFAR10, "cifar100": datasets.CIFAR100}[request.param]
    server = tmp_path / "serveur"
    base = write_cifar(server, source, coarse=request.param == "cifar100")
    monkeypatch.setattr(source, "url", address(server / source.filename))
    monkeypatch.setattr(source, "tgz_md5", md5(server / source.filename))
    for parts in ("train_list", "test_list"):
        monkeypatch.setattr(source, parts, [[name, md5(base / name)] for name, _ in getattr(source, parts)])
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": md5(base / source.meta["filename"])})
    shutil.rmtree(base)
    return request.param, source, server


def disconnect(monkeypatch, source):
    for name in ("url", "mirrors"):
        if hasattr(source, name):
            monkeypatch.setattr(source, name, [NOWHERE] if name == "mirrors" else NOWHERE + source.filename)


def leftovers(folder):
    return [path for path in folder.rglob("*") if "partiel" in path.name]


def test_mnist_se_telecharge_puis_se_passe_du_reseau(mnist, folder, monkeypatch):
    first = load_dataset("mnist", folder)
    disconnect(monkeypatch, datasets.MNIST)
    second = load_dataset("mnist", str(folder))
    assert all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for a, b in zip(first, second, strict=True)
    )
    assert not leftovers(folder)


def test_un_serveur_muet_ne_bloque_pas(mnist, folder, monkeypatch):
    seen, download = [], _downloads.download_url
    watched = lambda *args: (seen.append(socket.getdefaulttimeout()), download(*args))  # noqa: E731
    monkeypatch.setattr(_downloads, "download_url", watched)
    load_dataset("mnist", folder)
    assert set(seen) == {30} and socket.getdefaulttimeout() is None


def test_la_validation_de_mnist_est_un_douzieme_de_l_entrainement_en_memes_proportions(mnist, folder):
    data = load_dataset("mnist", folder)
    assert [len(part.labels) for part in data] == [110, 10, 40]
    assert data.validation.labels.bincount().tolist() == [1] * 10
    ranks = torch.cat([data.train.images[:, 0, 0, 1], data.validation.images[:, 0, 0, 1]]) * 255
    assert sorted(ranks.round().int().tolist()) == list(range(120))  # disjointes, et rien de perdu


def test_chaque_image_garde_son_etiquette_et_ses_pixels_vont_de_0_a_1(mnist, folder):
    for part in load_dataset("mnist", folder):
        assert part.images.dtype == torch.float32 and part.labels.dtype == torch.int64
        assert part.images.shape[1:] == (1, 28, 28) and part.images.max() == 1
        torch.testing.assert_close(part.images[:, 0, 0, 0] * 255, part.labels.float())


def test_mnist_entier_se_partage_en_55_000_5_000_et_10_000(tmp_path, monkeypatch):
    write_mnist(tmp_path / "plein", 60_000, 10_000)
    publish_mnist(monkeypatch, datasets.MNIST, tmp_path / "plein", NOWHERE)
    data = load_dataset("mnist", tmp_path / "plein")  # à même le dossier : rien à télécharger
    assert [len(part.labels) for part in data] == [55_000, 5_000, 10_000]


@pytest.mark.parametrize("spoil", [lambda content: content[:-20], lambda content: content[:50] + b"?" + content[51:]])
@pytest.mark.parametrize("name", MNIST_FILES)
def test_un_fichier_tronque_ou_abime_est_remplace_si_le_reseau_est_la(mnist, folder, name, spoil):
    expected = load_dataset("mnist", folder)
    path = folder / "MNIST" / "raw" / name
    path.write_bytes(spoil(path.read_bytes()))
    again = load_dataset("mnist", folder)
    assert all(
        torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels)
        for a, b in zip(expected, again, strict=True)
    )
    assert md5(path) == md5(mnist / name)


@pytest.mark.parametrize("spoil", [lambda content: content[:-20], lambda content: content[:50] + b"?" + content[51:]])
def test_un_fichier_tronque_ou_abime_est_refuse_sans_reseau(mnist, folder, monkeypatch, spoil):
    load_dataset("mnist", folder)
    path = folder / "MNIST" / "raw" / MNIST_FILES[2]
    spoilt = spoil(path.read_bytes())
    path.write_bytes(spoilt)
    disconnect(monkeypatch, datasets.MNIST)
    with pytest.raises(ConnectionError, match=r"t10k-images-idx3-ubyte.gz est abîmé ou tronqué .* rangez-le dans"):
        load_dataset("mnist", folder)
    assert path.read_bytes() == spoilt  # rien n'est effacé avant d'avoir mieux


def test_un_fichier_decompresse_a_moitie_par_torchvision_ne_sert_pas(mnist, folder):
    """``MNIST(root, download=True)`` interrompu laisse un idx tronqué, qu'il croit entier ensuite."""
    raw = folder / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for name in MNIST_FILES:
        (raw / name.removesuffix(".gz")).write_bytes(gzip.decompress((mnist / name).read_bytes())[:60])
    assert len(load_dataset("mnist", folder).test.labels) == 40


def test_sans_reseau_le_message_dit_ce_qui_manque_et_quoi_faire(mnist, folder, monkeypatch):
    disconnect(monkeypatch, datasets.MNIST)
    with pytest.raises(ConnectionError) as caught:
        load_dataset("mnist", folder)
    message = str(caught.value)
    assert "train-images-idx3-ubyte.gz manque" in message and "serveur injoignable" in message
    assert str(folder / "MNIST" / "raw") in message and "load_dataset('digits')" in message
    assert caught.value.__cause__ is None and caught.value.__suppress_context__ or caught.value.__context__ is None
    assert not leftovers(folder)


def test_un_telechargement_interrompu_ou_remplace_par_une_page_n_est_jamais_garde(mnist, folder):
    (mnist / MNIST_FILES[0]).write_bytes((mnist / MNIST_FILES[0]).read_bytes()[:100])
    with pytest.raises(ConnectionError, match="n'est pas le fichier attendu"):
        load_dataset("mnist", folder)
    assert not [path for path in folder.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("path", "reason"), [("refuse", "le serveur répond 503"), ("coupe", "n'est pas le fichier attendu")]
)
def test_un_serveur_qui_refuse_ou_qui_coupe_ne_laisse_rien(mnist, folder, monkeypatch, address, path, reason):
    monkeypatch.setattr(datasets.MNIST, "mirrors", [address(mnist) + f"/{path}/"])
    with pytest.raises(ConnectionError, match=reason):
        load_dataset("mnist", folder)
    assert not [path for path in folder.rglob("*") if path.is_file()]


def test_un_miroir_qui_manque_laisse_sa_place_au_suivant(mnist, folder, monkeypatch, address):
    monkeypatch.setattr(datasets.MNIST, "mirrors", [NOWHERE, address(mnist) + "/"])
    assert len(load_dataset("mnist", folder).test.labels) == 40


def test_fashion_mnist_ne_prend_pas_les_fichiers_de_mnist_du_meme_nom(mnist, tmp_path, monkeypatch, address):
    other = tmp_path / "mode"
    write_mnist(other, train=240)
    publish_mnist(monkeypatch, datasets.FashionMNIST, other, address(other) + "/")
    before = {name: md5(mnist / name) for name in MNIST_FILES}
    assert len(load_dataset("fashion_mnist", mnist).train.labels) == 220  # ``mnist`` contient ceux de l'autre
    assert {name: md5(mnist / name) for name in MNIST_FILES} == before


def test_cifar_se_telecharge_puis_se_passe_du_reseau(cifar, folder, monkeypatch):
    name, source, _ = cifar
    data = load_dataset(name, folder)
    disconnect(monkeypatch, source)
    again = load_dataset(name, folder)
    assert all(torch.equal(a.images, b.images) for a, b in zip(data, again, strict=True))
    total = 200 if name == "cifar10" else 1000
    assert [len(part.labels) for part in data] == [total * 9 // 10, total // 10, 40 if name == "cifar10" else 1000]
    for part in data:
        assert part.images.shape[1:] == (3, 32, 32) and part.images.dtype == torch.float32
        torch.testing.assert_close(part.images[:, 0, 0, 0] * 255, part.labels.float())
        assert (part.images[:, 1, 0, 1] * 255).unique() == 100 and (part.images[:, 2, 1, 0] * 255).unique() == 200
    assert not leftovers(folder)


@pytest.mark.parametrize("damaged", ["batch", "meta", "archive"])
def test_un_lot_de_cifar_abime_se_retire_de_l_archive_et_une_archive_abimee_du_reseau(cifar, folder, damaged):
    name, source, _ = cifar
    expected = load_dataset(name, folder)
    base = folder / source.base_folder
    truncated = base / {"meta": source.meta["filename"]}.get(damaged, source.train_list[0][0])
    truncated.write_bytes(truncated.read_bytes()[:-5])
    if damaged == "archive":
        archive = folder / source.filename
        archive.write_bytes(archive.read_bytes()[:-5])
    again = load_dataset(name, folder)
    assert all(torch.equal(a.images, b.images) for a, b in zip(expected, again, strict=True))
    assert not leftovers(folder)


def test_cifar_tronque_est_refuse_sans_reseau(cifar, folder, monkeypatch):
    name, source, server = cifar
    folder.mkdir()
    (folder / source.filename).write_bytes((server / source.filename).read_bytes()[:-5])
    disconnect(monkeypatch, source)
    with pytest.raises(ConnectionError, match=f"{source.filename} est abîmé ou tronqué"):
        load_dataset(name, folder)


def test_un_disque_plein_ne_passe_pas_pour_une_panne_de_reseau(mnist, folder, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disque plein") as caught:
        load_dataset("mnist", folder)
    assert not isinstance(caught.value, ConnectionError)


def test_un_fichier_a_la_place_du_dossier_se_dit(mnist, tmp_path):
    (tmp_path / "fichier").write_text("")
    with pytest.raises(OSError, match="fichier.* ne se lit ou ne s'écrit pas .ce n'est pas un dossier"):
        load_dataset("mnist", tmp_path / "fichier")


def test_le_dossier_par_defaut_est_le_cache_de_l_utilisateur(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    assert default_folder() == Path.home() / ".cache" / "kdcourse"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert default_folder() == tmp_path / "kdcourse"


def test_un_dossier_qui_n_est_pas_un_chemin_est_refuse():
    with pytest.raises(TypeError, match="folder : int reçu, un chemin"):
        load_dataset("mnist", 3)


@needs_t10k
def test_les_10_000_images_de_test_se_partagent_en_7_000_1_000_et_2_000():
    data = load_dataset("mnist_t10k", T10K)
    assert [len(part.labels) for part in data] == [7000, 1000, 2000]
    labels = sum(part.labels.bincount(minlength=10) for part in data)
    assert labels.tolist() == [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]  # celles de MNIST


@needs_t10k
def test_les_vraies_images_de_mnist_ont_leur_etiquette():
    """Une régression linéaire ne lirait pas 85 % de chiffres mal rangés."""
    data = load_dataset("mnist_t10k", T10K)
    x, y = (part.images.flatten(1) for part in (data.train, data.test))
    weights = torch.linalg.lstsq(x.T @ x + 10 * torch.eye(784), x.T @ torch.eye(10)[data.train.labels]).solution
    assert ((y @ weights).argmax(dim=1) == data.test.labels).float().mean() > 0.8


def test_chaque_image_se_decale_de_son_propre_nombre_de_pixels():
    images = torch.rand(3, 2, 5, 4)
    shifts = torch.tensor([[0, 0], [1, -2], [-2, 1]])
    shifted = shift_images(images, shifts, pixels=2)
    expected = torch.zeros_like(images)
    for index, (down, right) in enumerate(shifts.tolist()):
        for row in range(5):
            for column in range(4):
                if 0 <= row - down < 5 and 0 <= column - right < 4:
                    expected[index, :, row, column] = images[index, :, row - down, column - right]
    assert torch.equal(shifted, expected)


@pytest.mark.parametrize(
    ("shifts", "message"),
    [
        (torch.zeros(2, 2, dtype=int), "(2, 2) reçues"),
        (torch.full((3, 2), 3), "3 reçu, 2 au plus"),
        (torch.zeros(3, 2), "shifts : torch.float32 reçu, des entiers attendus"),
    ],
)
def test_un_decalage_qui_ne_convient_pas_est_refuse(shifts, message):
    with pytest.raises((ValueError, TypeError), match=re.escape(message)):
        shift_images(torch.rand(3, 1, 5, 4), shifts, pixels=2)


def test_un_dossier_qui_n_en_est_pas_un_est_dit():
    with pytest.raises(
        ValueError, match="folder : '~personne-de-ce-nom/x' reçu, dont le dossier personnel n'existe pas"
    ):
        load_dataset("mnist", "~personne-de-ce-nom/x")
    with pytest.raises(ValueError, match="folder : .* reçu, un chemin de dossier attendu"):
        load_dataset("mnist", "a\0b")
