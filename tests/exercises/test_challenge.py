"""Le défi de compression : son barème, ses images cachées, sa solution, et le retour immédiat de ``check``."""

import ast
import math
import re
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from kdcourse import check, error_rate, french, kd_loss, load_dataset, shift_and_noise
from kdcourse.exercises import challenge
from kdcourse.exercises.challenge import compression_teacher
from kdgrading.mark_challenge import hidden_set

ROOT = Path(__file__).parent.parent.parent

# --- le barème ----------------------------------------------------------------------------------------------


def test_le_jeu_cache_ne_depend_que_de_sa_graine():
    first, again, other = hidden_set(1), hidden_set(1), hidden_set(2)
    assert torch.equal(first.images, again.images) and torch.equal(first.labels, again.labels)
    assert not torch.equal(first.images, other.images) and not torch.equal(first.labels, other.labels)


def test_le_jeu_cache_est_le_test_decale_d_un_pixel_au_plus_et_bruite():
    images, labels = hidden_set(3)
    test = load_dataset("digits").test
    assert torch.equal(labels.bincount(), test.labels.bincount())
    # Chaque image cachée est une des neuf versions d'une image de test de même étiquette, à 0,1 près par pixel.
    padded = torch.nn.functional.pad(test.images, (1, 1, 1, 1))
    moved = [padded[:, :, i : i + 8, j : j + 8].flatten(1) for i in range(3) for j in range(3)]
    distances = torch.stack([torch.cdist(images.flatten(1), shifted) for shifted in moved])  # (9, 500, 500)
    assert (test.labels[distances.amin(0).argmin(1)] == labels).float().mean() > 0.98
    assert distances.amin((0, 2)).median() == pytest.approx(0.1 * math.sqrt(64), rel=0.1)
    assert distances.amin(2).argmin(0).bincount(minlength=9).min() > 500 / 9 / 2  # les neuf décalages, à parts égales


def test_les_parts_vont_de_rien_a_tout_et_sont_monotones():
    low, high = challenge.ACCURACY
    small, large = challenge.SIZE
    assert [challenge.accuracy_share(a) for a in (0, low, (low + high) / 2, high, 100)] == [0, 0, 0.5, 1, 1]
    assert challenge.size_share(small, 100) == challenge.size_share(1, 100) == 1
    assert challenge.size_share(large, 100) == challenge.size_share(10 * large, 100) == 0
    assert challenge.size_share(math.isqrt(small * large), 100) == pytest.approx(0.5, abs=1e-3)


def test_un_artefact_vide_qui_ne_reconnait_rien_n_a_aucun_point():
    assert challenge.size_share(0, 10) == 0


def zipped(code):
    return len(zlib.compress(code.encode(), 9))


def test_le_code_compte_une_fois_compresse_et_l_artefact_tel_quel():
    code = "def predict(artifact, images):\n    return images * 0.5\n"
    assert challenge.answer_size(b"abc", code) == 3 + zipped(code)


def test_les_donnees_ecrites_dans_le_code_pesent_dix_fois():
    for table in (repr("x" * 4998), repr(b"x" * 4997), "[" + ", ".join(["12345"] * 1000) + "]"):
        code = f"TABLE = {table}\n"
        assert challenge.answer_size(b"", code) == zipped(code) + 9 * (5000 - challenge.FREE_LITERALS)


@pytest.mark.parametrize("name", ["\u4e19" * 700, "x" * 2000])
def test_un_nom_qui_cache_des_donnees_pese_comme_elles(name):
    code = f"def {name}():\n    pass\n"
    written = len(name.encode())
    assert challenge.answer_size(b"", code) == zipped(code) + 9 * (written - challenge.FREE_LITERALS)


# --- check --------------------------------------------------------------------------------------------------


def received():
    """Ce que reçoit ``compress`` : toutes les images du train, les étiquettes des premières."""
    images, labels = load_dataset("digits").train
    return images, labels[: challenge.LABELLED]


def nearest_labels(teacher, images, labels):
    """Un artefact vite fait, qui écoute le teacher : la moyenne de chaque classe, et ses logits moyens."""
    with torch.no_grad():
        guide = teacher(images).argmax(-1)
    means = torch.stack([images[guide == c].mean(0) if (guide == c).any() else torch.zeros(1, 8, 8) for c in range(10)])
    return means.numpy().astype(np.float32).tobytes()


def still_mean(artifact, images):
    means = torch.tensor(np.frombuffer(artifact, np.float32)).view(10, 64)
    return -torch.cdist(images.flatten(1), means)


def nearest_mean(artifact, images):
    padded = torch.nn.functional.pad(images, (1, 1, 1, 1))
    moved = [padded[:, :, i : i + 8, j : j + 8] for i in range(3) for j in range(3)]
    return torch.stack([still_mean(artifact, image) for image in moved]).amax(0)


def test_le_contrat_et_l_estimation_sont_dits(capsys):
    assert check("compression_challenge", nearest_labels, nearest_mean) is False
    out = capsys.readouterr().out
    assert re.search(
        r"contrat rempli\. \d+,\d % d'images reconnues \(validation, vues par le capteur\) ; \d \d{3} octets, "
        r"dont \d+ pour le code, environ\. Estimation : exactitude \d,\d sur 6, taille \d,\d sur 6\.",
        out,
    )
    assert "Remarque" not in out


def test_une_reponse_qui_ecoute_un_peu_le_teacher_n_a_pas_de_remarque(capsys):
    check("compression_challenge", lambda t, i, y: trained_means(t, i, y, alpha=0.1), nearest_mean)
    assert "contrat rempli" in (out := capsys.readouterr().out) and "Remarque" not in out


def test_une_reponse_sans_teacher_est_juste_si_elle_a_tous_ses_points(capsys, monkeypatch):
    monkeypatch.setattr(challenge, "ACCURACY", (10.0, 20.0))
    monkeypatch.setattr(challenge, "SIZE", (10_000, 20_000))
    assert check("compression_challenge", labels_only, nearest_mean) is True
    assert capsys.readouterr().out.endswith("Dites dans votre réponse ce que cela coûte ou rapporte.\n")


def test_l_exactitude_annoncee_est_celle_de_la_cellule_du_notebook(capsys):
    check("compression_challenge", nearest_labels, nearest_mean)
    artifact = nearest_labels(compression_teacher(), *received())
    (images, labels), generator = load_dataset("digits").validation, torch.Generator().manual_seed(0)
    draws = [nearest_mean(artifact, shift_and_noise(images, generator=generator)) for _ in range(10)]
    right = 100 - error_rate(torch.stack(draws), labels).mean().item()
    assert f"{french(right)} % d'images reconnues" in capsys.readouterr().out


LETTERS = "abcdefghijklmnopqrst" * 100


def with_table(artifact, images):
    return nearest_mean(artifact, images) + 0 * len(LETTERS)


GLOBAL_MEANS = torch.rand(10, 64)
STEP = 0.5


def helped(images):
    return -torch.cdist(images.flatten(1), GLOBAL_MEANS)


def mixed_batch(artifact, images):
    return nearest_mean(artifact, images - images.mean(0))


def exact_table(teacher, images, labels):
    with torch.no_grad():
        guide = teacher(images).argmax(-1)
    keys = [image.numpy().tobytes() for image in images]
    return b"".join(key[:256] + bytes([label]) for key, label in zip(keys, guide.tolist(), strict=True))


def exact_lookup(artifact, images):
    table = {artifact[i : i + 256]: artifact[i + 256] for i in range(0, len(artifact), 257)}
    found = [table.get(image.numpy().tobytes(), 0) for image in images]
    return 5.0 * torch.eye(10)[found]


def pickled(teacher, images, labels):
    import io

    buffer = io.BytesIO()
    torch.save({"means": torch.tensor(np.frombuffer(nearest_labels(teacher, images, labels), np.float32))}, buffer)
    return buffer.getvalue()


def unpickled(artifact, images):
    import io

    return nearest_mean(torch.load(io.BytesIO(artifact))["means"].numpy().tobytes(), images)


def own_images(images):
    return (GLOBAL_MEANS + images.mean()).numpy().tobytes()


def labels_only(teacher, images, labels):
    return nearest_labels(lambda x: torch.eye(10)[labels], images[: len(labels)], labels)


def trained_means(teacher, images, labels, alpha):
    """Les moyennes de chaque classe, apprises par descente de gradient avec une perte de distillation."""
    images = images[: len(labels)]
    with torch.no_grad():
        guide = teacher(images)
    means = torch.zeros(10, 64, requires_grad=True)
    for _ in range(5):
        logits = -torch.cdist(images.flatten(1), means)
        loss = alpha * kd_loss(logits, guide, 2.0) + (1 - alpha) * torch.nn.functional.cross_entropy(logits, labels)
        means = (means - torch.autograd.grad(loss, means)[0]).detach().requires_grad_()
    return means.detach().numpy().tobytes()


def without_distillation(teacher, images, labels):
    return trained_means(teacher, images, labels, alpha=0.0)


@pytest.mark.parametrize(
    "compress, predict, hint",
    [
        (3, nearest_mean, "compress : une fonction est attendue, int reçu"),
        (lambda *_: torch.zeros(3), nearest_mean, "compress rend des octets (bytes), Tensor reçu"),
        (lambda *_: "texte", nearest_mean, "compress rend des octets (bytes), str reçu"),
        (lambda *_: 1 / 0, nearest_mean, "compress s'arrête sur ZeroDivisionError"),
        (lambda t, i, y: own_images(i), nearest_mean, "compress lit la variable GLOBAL_MEANS du notebook (Tensor)"),
        (lambda t, i, y: own_images(i), nearest_mean, "Tout ce dont compress a besoin est dans ses trois arguments."),
        (lambda t, i, y: undefined, nearest_mean, "compress s'arrête sur NameError"),  # noqa: F821
        (labels_only, nearest_mean, "Remarque : un autre teacher donne les mêmes octets"),
        (without_distillation, nearest_mean, "Remarque : un autre teacher donne les mêmes octets"),
        (nearest_labels, lambda a, x: helped(x), "predict lit la variable GLOBAL_MEANS du notebook (Tensor)"),
        (nearest_labels, lambda a, x: nearest_mean(a, x).argmax(-1), "avant argmax"),
        (nearest_labels, lambda a, x: nearest_mean(a, x).softmax(-1), "predict rend des probabilités"),
        (nearest_labels, lambda a, x: nearest_mean(a, x)[:, :9], r"forme (20, 9) reçue pour 20 image(s)"),
        (nearest_labels, lambda a, x: nearest_mean(a, x).squeeze(), r"forme (10,) reçue pour 1 image(s)"),
        (nearest_labels, lambda a, x: nearest_mean(a, x).round().long(), "dtype torch.int64 reçu"),
        (nearest_labels, lambda a, x: nearest_mean(a, x) / 0, "NaN ou infini"),
        (nearest_labels, lambda a, x: nearest_mean(a, x).tolist(), "un tenseur de logits, list reçu"),
        (nearest_labels, lambda a, x: torch.dropout(nearest_mean(a, x), 0.5, True), "deux appels de predict diffèrent"),
        (nearest_labels, mixed_batch, "dépend des autres images du lot"),
        (nearest_labels, lambda a, x: undefined, "NameError"),  # noqa: F821
        (nearest_labels, still_mean, "s'effondre dès que l'image bouge"),
        (exact_table, exact_lookup, "Une table des images exactes ne retrouve"),
        (pickled, unpickled, "objet Python sérialisé"),
        (
            lambda *a: nearest_labels(*a) + bytes(200_000),
            lambda a, x: nearest_mean(a[:2560], x),
            "plus gros que le tea",
        ),
        (nearest_labels, lambda a, x: nearest_mean(a, x).roll(3, 1), "C'est à peu près le hasard"),
        (nearest_labels, with_table, "Le code contient des données"),
    ],
)
def test_chaque_erreur_du_defi_recoit_son_indice(compress, predict, hint, capsys):
    assert check("compression_challenge", compress, predict) is False
    assert hint in capsys.readouterr().out


def test_une_constante_et_une_fonction_d_aide_du_notebook_voyagent(capsys):
    check("compression_challenge", nearest_labels, lambda a, x: nearest_mean(a, x) * STEP)
    assert "contrat rempli" in capsys.readouterr().out


def test_un_teacher_modifie_par_la_reponse_ne_derange_pas_la_suivante():
    def vandal(teacher, images, labels):
        with torch.no_grad():
            for parameter in teacher.parameters():
                parameter.zero_()
        images.zero_()
        return b"rien"

    before = compression_teacher().state_dict()
    check("compression_challenge", vandal, nearest_mean)
    assert all(torch.equal(value, before[name]) for name, value in compression_teacher().state_dict().items())


def test_la_solution_du_defi_a_tous_ses_points_sur_dix_tirages():
    import build_notebooks

    cells = build_notebooks.read_source(ROOT / "sources" / "exercises" / "compression_challenge.py").cells
    code = "\n".join(
        c.source for c in cells if c.metadata.get("nbgrader", {}).get("grade_id", "").startswith("ex3-sol")
    )
    imports = ["numpy as np", "torch"]
    names = "".join(f"import {name}\n" for name in imports) + "from kdcourse import CNN, kd_loss, shift_and_noise\n"
    exec(names + code, answer := {})
    artifact = answer["compress"](compression_teacher(), *received())
    size = challenge.answer_size(artifact, ast.unparse(ast.parse(names + code)))
    assert size < 0.95 * challenge.SIZE[0]
    for seed in range(10):
        images, labels = hidden_set(seed)
        accuracy = 100 * (answer["predict"](artifact, images).argmax(-1) == labels).float().mean().item()
        assert accuracy > challenge.ACCURACY[1]
        assert challenge.size_share(size, accuracy) == 1
