"""Des réseaux venus d'ailleurs, et ce qu'un entraînement ne doit ni taire, ni dire en anglais."""

import functools
import math
import re

import pytest
import torch
import torch.utils.checkpoint
from accelerate import Accelerator
from accelerate.state import AcceleratorState, GradientState
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

from kdcourse import (
    MLP,
    Choice,
    Split,
    TensorDistillation,
    born_again,
    compare_distillation_methods,
    convert_to_tensor_train,
    digits_student,
    digits_teacher,
    distill,
    distill_seeds,
    grid,
    load_dataset,
    model_error,
    parameter_count,
    predict_features,
    progressive_self_distillation,
    ps_kd,
    train_epochs,
    train_many,
    train_one,
)
from kdcourse.training.frozen_teacher import frozen_copy, predict
from kdcourse.training.many_students import initial_model


@pytest.fixture(scope="module")
def data():
    return load_dataset().train.where(slice(0, 65))


def loader(data, size=20, **options):
    return DataLoader(TensorDataset(*data), size, **options)


# Chaque façon d'entraîner : (make_model, données, teacher) → un entraînement d'une époque.
TRAINERS = {
    "train_one": lambda make, d: train_one(make, d, epochs=1),
    "train_many": lambda make, d: train_many(make, d, seeds=[0, 1], epochs=1),
    "distill": lambda make, d: distill(make, d, method="seul", epochs=1),
    "compare": lambda make, d: compare_distillation_methods(
        make, digits_teacher().to(next(make().parameters()).dtype), d, d, {"KD": Choice(0.5)}, seeds=[0, 1], epochs=1
    ),
    "train_epochs": lambda make, d: list(
        train_epochs(make(), loader(d), lambda model, x, y: nn.functional.cross_entropy(model(x), y), 1)
    ),
    "progressive": lambda make, d: progressive_self_distillation(make(), loader(d), 1),
    "born_again": lambda make, d: born_again(make, loader(d), 2, epochs=1),
    "10.6": lambda make, d: TensorDistillation.distill_to_compressed_student(digits_teacher(), make(), loader(d), 1),
}
every_trainer = pytest.mark.parametrize("train", TRAINERS.values(), ids=TRAINERS)


# --- Un réseau d'une autre bibliothèque


class Foreign(nn.Module):
    """À la façon de timm : ``forward_features`` rend un tenseur."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(64, 32), nn.Linear(32, 10)

    def forward_features(self, images):
        return self.body(images.flatten(1)).relu()

    def forward(self, images):
        return self.head(self.forward_features(images))


class ByName(Foreign):
    def forward(self, images):
        return {"logits": super().forward(images)}


class Auxiliary(Foreign):
    """À la façon de torchvision : une seconde tête, seulement à l'entraînement."""

    def forward(self, images):
        logits = super().forward(images)
        return (logits, 2 * logits) if self.training else logits


@pytest.mark.parametrize("method", ["seul", "KD", "DKD", "DIST", "LSKD", "PS-KD"])
def test_une_methode_de_logits_entraine_un_reseau_d_ailleurs_et_en_apprend(method, data):
    teacher = None if method in ("seul", "PS-KD") else Foreign()
    distill(Foreign, data, teacher, method=method, epochs=1)
    logits = predict(Foreign(), data.images)
    train_many(Foreign, data, logits, seeds=[0, 1], epochs=1)


@pytest.mark.parametrize("method", ["hint", "attention", "SP", "RKD"])
def test_une_methode_de_features_refuse_un_reseau_d_ailleurs_en_francais(method, data):
    with pytest.raises(TypeError, match="forward_features : Tensor reçu, Features.* attendu"):
        distill(Foreign, data, digits_teacher(), method=method, epochs=1)
    with pytest.raises(TypeError, match="forward_features : Tensor reçu, Features.* attendu"):
        predict_features(Foreign(), data.images)


@pytest.mark.parametrize("model, received", [(ByName, "dict"), (Auxiliary, "tuple")])
@pytest.mark.parametrize("name", ["train_one", "train_many", "distill", "progressive", "born_again"])
def test_un_student_qui_ne_rend_pas_un_tenseur_est_refuse_en_francais(name, model, received, data):
    with pytest.raises(
        TypeError, match=rf"{received} reçu, (des logits \(N, C\) attendus|un tenseur de forme)|received"
    ):
        if name == "train_epochs":
            raise TypeError("received : sa perte est à l'appelant")
        TRAINERS[name](model, data)


def test_un_teacher_qui_rend_un_dictionnaire_est_refuse_en_francais(data):
    for train in (
        lambda: distill(digits_student, data, ByName(), method="KD", epochs=1),
        lambda: TensorDistillation.distill_to_compressed_student(ByName(), digits_student(), loader(data), 1),
    ):
        with pytest.raises(TypeError, match=r"dict reçu, des logits \(N, C\) attendus ; donnez un nn.Module"):
            train()


def test_un_teacher_torchscript_enseigne(data):
    scripted = torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 10)))
    trained = distill(digits_student, data, scripted, method="KD", epochs=1)
    assert math.isfinite(trained.history[-1]["loss"])
    assert frozen_copy(scripted) is not scripted and next(scripted.parameters()).requires_grad


# --- La même graine, le même student


def lazy():
    return nn.Sequential(nn.Flatten(), nn.LazyLinear(16), nn.ReLU(), nn.LazyLinear(10))


def test_des_couches_paresseuses_ont_les_poids_de_leur_graine_partout(data):
    first, second = (train_one(lazy, data, seed=3, epochs=1)(data.images) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, train_one(lazy, data, seed=4, epochs=1)(data.images))
    together = train_many(lazy, data, seeds=[3, 4], epochs=1)
    torch.testing.assert_close(together[0](data.images), first, rtol=1e-4, atol=1e-5)
    apart = [distill(lazy, data, method="seul", seed=3, epochs=1).model(data.images) for _ in range(2)]
    assert torch.equal(*apart)


def test_une_boucle_refuse_un_modele_dont_les_poids_n_existent_pas_encore(data):
    with pytest.raises(ValueError, match="model : des couches paresseuses sans poids reçues"):
        progressive_self_distillation(lazy(), loader(data), 1)


# --- Le type des images


@every_trainer
@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16, torch.uint8, torch.int64])
def test_des_images_d_un_autre_type_sont_refusees_partout_de_la_meme_facon(train, dtype, data):
    with pytest.raises(TypeError, match=rf"images : {dtype} .*reçu, .*attendu.* ; convertissez par \."):
        train(digits_student, Split(data.images.to(dtype), data.labels))


def test_des_images_du_type_des_poids_sont_acceptees_en_float64(data):
    wide = Split(data.images.double(), data.labels)
    for name in ("train_one", "train_many", "distill", "progressive", "born_again"):
        TRAINERS[name](lambda: digits_student().double(), wide)


def test_un_plongement_lit_des_entiers_et_autocast_change_de_type(data):
    words = Split(torch.randint(20, (40, 5)).float(), data.labels[:40])
    embedded = nn.Sequential(nn.Embedding(20, 8), nn.Flatten(), nn.Linear(40, 10))
    assert predict(embedded, words.images.long()).shape == (40, 10)
    with torch.autocast("cpu", torch.bfloat16):
        assert predict(digits_student(), data.images.bfloat16()).shape == (65, 10)


# --- Un entraînement qui diverge


def deep():
    return MLP(hidden=(32,) * 12)


DIVERGING = {
    "train_one": lambda d: train_one(deep, d, epochs=20, learning_rate=1e3),
    "train_many": lambda d: train_many(deep, d, seeds=[0, 1], epochs=20, learning_rate=1e3),
    "compare": lambda d: compare_distillation_methods(
        deep, digits_teacher(), d, d, {"KD": Choice(0.5)}, seeds=[0, 1], epochs=20, learning_rate=1e3
    ),
    "train_epochs": lambda d: list(
        train_epochs(deep(), loader(d), lambda m, x, y: nn.functional.cross_entropy(m(x), y), 20, learning_rate=1e3)
    ),
}


@pytest.mark.parametrize("train", DIVERGING.values(), ids=DIVERGING)
def test_un_entrainement_qui_diverge_le_dit_avec_l_epoque_et_le_pas(train, data):
    with pytest.raises(ValueError, match=r"diverge à l'époque \d+.*learning_rate : 1000 reçu, un pas plus petit"):
        train(data)


class NanGradient(nn.Module):
    """Une perte finie, et un gradient qui n'est plus un nombre."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images):
        return self.head(images.flatten(1)) + (0 * self.head.bias.sum()).abs().sqrt()


LAST_STEP = {
    "train_one": lambda make, d: train_one(make, d, epochs=1, learning_rate=1e3),
    "train_many": lambda make, d: train_many(make, d, seeds=[0, 1], epochs=1, learning_rate=1e3),
    "distill": lambda make, d: distill(make, d, method="seul", epochs=1, learning_rate=1e3),
    "progressive": lambda make, d: progressive_self_distillation(make(), loader(d, 65), 1, learning_rate=1e3),
}


@pytest.mark.parametrize("train", LAST_STEP.values(), ids=LAST_STEP)
@pytest.mark.parametrize("make", [lambda: MLP(hidden=(32,) * 12), NanGradient])
def test_un_modele_qui_diverge_au_dernier_pas_n_est_pas_rendu(train, make, data):
    with pytest.raises(ValueError, match="diverge à l'époque 1"):
        train(make, data)


def test_un_dossier_au_nom_trop_long_est_dit(data):
    with pytest.raises(ValueError, match=r"output : a+ ne s'ouvre pas, nom trop long"):
        distill(MLP, data, method="seul", epochs=1, output="a" * 300)


def test_un_point_de_reprise_ne_garde_pas_un_parametre_perdu(data, tmp_path):
    with pytest.raises(ValueError, match="Le dernier point de reprise est intact"):
        distill(NanGradient, data, method="seul", epochs=1, output=tmp_path / "essai", checkpoint_every=1)
    assert not list((tmp_path / "essai").glob("*.pt"))


def test_une_boucle_qui_refuse_des_logits_nan_dit_a_quelle_epoque(data):
    with pytest.raises(ValueError, match="NaN ou infinie") as raised:
        progressive_self_distillation(deep(), loader(data), 20, learning_rate=1e3)
    assert raised.value.__notes__[0].startswith("C'était à l'époque ")


def test_seules_les_graines_qui_divergent_sont_nommees(data):
    def make():
        model = digits_student()
        if torch.initial_seed() == 5:
            nn.init.constant_(model.head.bias, float("inf"))
        return model

    with pytest.raises(ValueError, match=r"NaN|\(graine 5\)"):
        train_many(make, data, seeds=[4, 5, 6], epochs=1)


# --- Un lot d'un seul exemple


def normed():
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.BatchNorm1d(32), nn.Linear(32, 10))


ALONE = {
    "train_one": lambda d: train_one(normed, d, epochs=1, batch_size=32),
    "distill": lambda d: distill(normed, d, method="seul", epochs=1, batch_size=32),
    "progressive": lambda d: progressive_self_distillation(normed(), loader(d, 32), 1),
    "born_again": lambda d: born_again(normed, loader(d, 32), 2, epochs=1),
    "10.6": lambda d: TensorDistillation.distill_to_compressed_student(digits_teacher(), normed(), loader(d, 32), 1),
    "lot de 1": lambda d: train_one(normed, d.where(slice(0, 10)), epochs=1, batch_size=1),
}


@pytest.mark.parametrize("train", ALONE.values(), ids=ALONE)
def test_un_lot_d_un_exemple_devant_batchnorm_est_refuse_avant_le_premier_pas(train, data):
    with pytest.raises(ValueError, match=r"batch_size : \d+ reçu avec \d+ exemples, un lot d'un seul exemple"):
        train(data)


def test_le_meme_reseau_s_entraine_avec_un_autre_lot_ou_sans_le_dernier(data):
    train_one(normed, data, epochs=1, batch_size=33)
    progressive_self_distillation(normed(), loader(data, 32, drop_last=True), 1)
    maps = lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(144, 10))  # noqa: E731
    train_one(maps, data, epochs=1, batch_size=32)  # 36 pixels par canal : un exemple suffit


class Named(torch.utils.data.Dataset):
    """Des exemples que seul son ``collate_fn`` sait mettre en lot, comme chez Hugging Face."""

    def __init__(self, data):
        self.data = data

    def __len__(self):
        return len(self.data.labels)

    def __getitem__(self, index):
        return {
            "pixel": (255 * self.data.images[index].numpy()).astype("uint8"),
            "label": self.data.labels[index].item(),
        }

    def collate(self, items):
        images = torch.stack([torch.from_numpy(item["pixel"]) for item in items]) / 255
        return images, torch.tensor([item["label"] for item in items])


@pytest.mark.parametrize("size", [1, 16, 32, 20])
def test_un_chargeur_a_collate_fn_s_entraine_quel_que_soit_le_dernier_lot(data, size):
    named = Named(data)
    (one,) = born_again(MLP, DataLoader(named, batch_size=size, collate_fn=named.collate), 1, epochs=1)
    assert len(one.history) == 1


def test_le_dernier_lot_est_celui_du_tirage_non_celui_des_donnees(data):
    some = TensorDataset(*data)
    sampled = lambda n: torch.utils.data.SubsetRandomSampler(range(n))  # noqa: E731
    born_again(normed, DataLoader(some, batch_size=32, sampler=sampled(64)), 1, epochs=1)
    with pytest.raises(ValueError, match="batch_size : 32 reçu avec 33 exemples, un lot d'un seul exemple"):
        born_again(normed, DataLoader(some, batch_size=32, sampler=sampled(33)), 1, epochs=1)
    batches = [torch.arange(64), torch.arange(64, 65)]
    with pytest.raises(ValueError, match="dataloader : un exemple reçu, un lot d'un seul exemple"):
        born_again(normed, [(data.images[rows], data.labels[rows]) for rows in batches], 1, epochs=1)
    one_pixel = lambda: nn.Sequential(nn.Conv2d(1, 4, 8), nn.InstanceNorm2d(4), nn.Flatten(), nn.Linear(4, 10))  # noqa: E731
    with pytest.raises(ValueError, match="images : une carte d'un seul pixel reçue devant InstanceNorm"):
        train_one(one_pixel, data, epochs=1)


# --- Une sortie qui n'est pas des logits


class Answering(nn.Module):
    """Un réseau dont la sortie a une autre forme."""

    def __init__(self, wrap):
        super().__init__()
        self.head, self.wrap = nn.Linear(64, 10), wrap

    def forward(self, images):
        return self.wrap(self.head(images.flatten(1)))


FOREIGN = {
    "dict": (lambda z: {"logits": z}, "model(images) : dict reçu, des logits (N, C) attendus"),
    "tuple": (lambda z: (z,), "model(images) : tuple reçu"),
    "None": (lambda z: None, "model(images) : NoneType reçu"),
    "carte": (lambda z: z[..., None, None], "model(images) : forme (20, 10, 1, 1) reçue, (N, C) attendue"),
}


@pytest.mark.parametrize("name", FOREIGN)
def test_une_sortie_qui_n_est_pas_des_logits_est_dite_par_ps_kd_et_par_l_erreur(name, data):
    wrap, said = FOREIGN[name]
    few = data.where(slice(0, 20))
    indexed = [(*few, torch.arange(20))]
    with pytest.raises((TypeError, ValueError), match=re.escape(said)):
        ps_kd(Answering(wrap), indexed, 1)
    with pytest.raises((TypeError, ValueError), match=re.escape(said)):
        model_error(Answering(wrap), few)


def test_l_erreur_d_images_d_un_autre_type_ou_d_etiquettes_hors_des_classes_est_refusee(data):
    with pytest.raises(TypeError, match="images : torch.float64 reçu, torch.float32 attendu"):
        model_error(MLP(), Split(data.images.double(), data.labels))
    for wrong in (-100, 10):
        with pytest.raises(ValueError, match=f"labels : valeur {wrong} reçue, de 0 à 9 attendu"):
            model_error(MLP(), Split(data.images, torch.full_like(data.labels, wrong)))
    students = train_many(MLP, data, seeds=[0, 1], alphas=0.0, epochs=1)
    for images in (data.images.double(), (255 * data.images).byte()):
        with pytest.raises(TypeError, match="images : torch.* reçu, torch.float32 attendu, le type des poids de ces"):
            students.errors(Split(images, data.labels))
    with pytest.raises(ValueError, match="labels : valeur 10 reçue"):
        students.errors(Split(data.images, torch.full_like(data.labels, 10)))
    assert model_error(nn.Flatten(), Split(torch.eye(3), torch.tensor([0, 1, 0]))) == pytest.approx(100 / 3)


# --- Ce que la pile ne saurait pas suivre


class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images):
        return torch.utils.checkpoint.checkpoint(self.head, images.flatten(1), use_reentrant=False)


def with_hook():
    model = MLP()
    next(model.parameters()).register_hook(lambda gradient: 0 * gradient)
    return model


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: torch.jit.script(nn.Sequential(nn.Flatten(), nn.Linear(64, 10))), "compilé par TorchScript"),
        (with_hook, "un poids qui porte un hook"),
        (Checkpointed, "torch.vmap n'empile pas"),
    ],
    ids=["TorchScript", "hook", "checkpoint"],
)
def test_train_many_dit_en_francais_ce_qu_il_n_empile_pas(make, reason, data):
    with pytest.raises(ValueError, match=f"make_model : .*{reason}.*train_one les entraîne"):
        train_many(make, data, seeds=[0, 1], alphas=0.0, epochs=1)


def test_une_couche_paresseuse_sans_poids_est_dite_partout():
    lazy = nn.Sequential(nn.Flatten(), nn.LazyLinear(10))
    for ask in (parameter_count, lambda model: convert_to_tensor_train(model, 2)):
        with pytest.raises(ValueError, match="model : des couches paresseuses sans poids reçues"):
            ask(lazy)


# --- Même graine, même student


def dropped():
    return nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 10))


SEEDED = {
    "train_one": lambda d: train_one(dropped, d, seed=3, epochs=3)(d.images),
    "train_many": lambda d: train_many(dropped, d, seeds=[3, 4], epochs=3).logits(d.images),
}


@pytest.mark.parametrize("train", SEEDED.values(), ids=SEEDED)
def test_avec_du_dropout_la_meme_graine_rend_le_meme_student(train, data):
    first, before = train(data), torch.get_rng_state()
    torch.rand(3)
    assert torch.equal(train(data), first)
    torch.set_rng_state(before)
    train(data)
    assert torch.equal(torch.get_rng_state(), before)  # le générateur global est rendu


# --- Ce qui se partage


def test_des_generations_ou_des_graines_qui_partagent_une_memoire_sont_refusees(data):
    norm, weight, backbone = nn.BatchNorm1d(64, affine=False), torch.rand(10, 64), nn.Linear(64, 32)

    def with_weight():
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
        model[1].weight = nn.Parameter(weight)
        return model

    for make in (with_weight, lambda: nn.Sequential(nn.Flatten(), norm, nn.Linear(64, 10))):
        with pytest.raises(ValueError, match="un réseau qui partage des poids avec une génération d'avant"):
            born_again(make, loader(data), 2, epochs=1)
    shared = lambda: nn.Sequential(nn.Flatten(), backbone, nn.Linear(32, 10))  # noqa: E731
    with pytest.raises(ValueError, match="make_model : des poids communs à deux students"):
        distill_seeds(shared, data, None, [0, 1], method="seul", epochs=1)


# --- Ce qu'une pile ne peut garder


class HiddenInTraining(nn.Module):
    """Un ensemble tiré dans ``__init__``, qui n'agit qu'en ``train``."""

    def __init__(self, kind):
        super().__init__()
        self.head, drawn = nn.Linear(64, 10), torch.randperm(64)[:32]
        mask = torch.ones(64).index_fill(0, drawn, 0)
        box = type("Box", (), {"mask": mask})()
        self.kept = {
            "ensemble": set(drawn.tolist()),
            "objet": box,
            "partial": functools.partial(torch.mul, mask),
            "fermeture": lambda images: images * mask,
        }[kind]

    def forward(self, images):
        images = images.flatten(1)
        if self.training and isinstance(self.kept, set):
            images = images * torch.tensor([float(index not in self.kept) for index in range(64)])
        elif self.training:
            images = self.kept(images) if callable(self.kept) else images * self.kept.mask
        return self.head(images)


@pytest.mark.parametrize("kind", ["ensemble", "objet", "partial", "fermeture"])
def test_un_etat_cache_qui_n_agit_qu_a_l_entrainement_est_refuse(kind, data):
    with pytest.raises(ValueError, match="un état hors des paramètres et des tampons"):
        train_many(lambda: HiddenInTraining(kind), data, seeds=[0, 1], alphas=0.0, epochs=1)


class Recurrent(nn.Module):
    def __init__(self):
        super().__init__()
        self.gru, self.head = nn.GRU(8, 16, batch_first=True), nn.Linear(16, 10)

    def forward(self, images):
        return self.head(self.gru(images[:, 0])[0][:, -1])


class Linear(nn.Module):
    def __init__(self):
        super().__init__()
        self.head = nn.Linear(64, 10)

    def forward(self, images):
        return self.head(images.flatten(1))


class Projected(Linear):
    """Un tenseur tiré au hasard, rangé dans ``self`` sans ``register_buffer``."""

    def __init__(self):
        super().__init__()
        self.projection = torch.randn(64, 64)

    def forward(self, images):
        return self.head(images.flatten(1) @ self.projection)


class Scaled(Linear):
    """Un nombre tiré dans ``__init__``, au fond d'une structure, lu seulement à l'entraînement."""

    def __init__(self):
        super().__init__()
        self.options = {"scale": [float(torch.rand(()))]}

    def forward(self, images):
        return super().forward(images * (self.options["scale"][0] if self.training else 1))


class Hidden(Linear):
    """Le même, caché dans une fonction : aucun attribut ne le montre."""

    def __init__(self):
        super().__init__()
        scale = float(torch.rand(()))
        self.transform = lambda images: images * scale

    def forward(self, images):
        return super().forward(self.transform(images))


class Counting(Linear):
    """Un tampon remplacé à chaque passage."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, images):
        if self.training:
            self.count = self.count + 1
        return super().forward(images * (1 + self.count))


class Deciding(Linear):
    def forward(self, images):
        return super().forward(images if images.mean() > self.head.bias.sum() else -images)


class InPlace(Linear):
    def forward(self, images):
        total = torch.zeros(len(images), 10)
        total += super().forward(images)
        return total


STACKS = {
    Recurrent: "un modèle que torch.vmap n'empile pas reçu", Deciding: "un modèle que torch.vmap n'empile pas reçu",
    InPlace: "un modèle que torch.vmap n'empile pas reçu", Projected: "un état hors des paramètres et des tampons",
    Scaled: "un état hors des paramètres et des tampons", Hidden: "un état hors des paramètres et des tampons",
    Counting: "le tampon count est remplacé à chaque passage",
}  # fmt: skip


@pytest.mark.parametrize("model", STACKS, ids=lambda model: model.__name__)
def test_ce_que_la_pile_ne_garderait_pas_est_refuse_et_train_one_l_entraine(model, data):
    with pytest.raises(ValueError, match=f"make_model : {STACKS[model]}.*train_one les entraîne, graine par graine"):
        train_many(model, data, seeds=[0, 1], epochs=1)
    train_one(model, data, epochs=1)


def test_des_tailles_qui_changent_avec_la_graine_sont_refusees(data):
    def make():
        return MLP(hidden=(int(torch.randint(8, 64, ())),))

    with pytest.raises(ValueError, match="make_model : d'autres tailles reçues pour la graine 1 que pour la graine 0"):
        train_many(make, data, seeds=[0, 1], epochs=1)


class Buffered(Linear):
    """Le même tenseur, dans un tampon, changé sur place : la pile le garde, chacun le sien."""

    def __init__(self):
        super().__init__()
        self.register_buffer("projection", torch.randn(64, 64))
        self.register_buffer("count", torch.zeros(()))

    def forward(self, images):
        if self.training:
            self.count.add_(1)
        return self.head(images.flatten(1) @ self.projection)


def test_un_tampon_change_sur_place_reste_celui_de_sa_graine(data):
    students = train_many(
        Buffered,
        data,
        **grid(seeds=[0, 1], alphas=[0.0, 0.5]),
        teacher=predict(digits_teacher(), data.images),
        epochs=2,
    )
    for index, seed in enumerate([0, 1]):
        alone = train_one(Buffered, data, seed=seed, epochs=2)
        torch.testing.assert_close(students[index].projection, initial_model(Buffered, seed).projection)
        torch.testing.assert_close(students[index].count, alone.count)


class Sharpened(Linear):
    """Un paramètre scalaire, et un autre vide."""

    def __init__(self):
        super().__init__()
        self.scale, self.nothing = nn.Parameter(torch.tensor(2.0)), nn.Parameter(torch.zeros(0))

    def forward(self, images):
        return self.scale * super().forward(images)


def test_un_parametre_scalaire_ou_vide_s_empile_comme_les_autres(data):
    students = train_many(Sharpened, data, seeds=[0, 1], alphas=0.0, epochs=2)
    alone = train_one(Sharpened, data, seed=1, epochs=2)
    torch.testing.assert_close(students[1].scale, alone.scale)


# --- Ce qui appartient à d'autres


def test_des_generations_qui_partagent_des_poids_sont_refusees(data):
    backbone = nn.Sequential(nn.Flatten(), nn.Linear(64, 64))
    with pytest.raises(ValueError, match="make_model : un réseau qui partage des poids avec une génération"):
        born_again(lambda: nn.Sequential(backbone, nn.Linear(64, 10)), loader(data), 3, epochs=1)


def test_l_accelerator_d_ailleurs_garde_ses_reglages(data):
    AcceleratorState._reset_state()
    mine = Accelerator(cpu=True, gradient_accumulation_steps=4, mixed_precision="bf16")
    distill(digits_student, data, method="seul", epochs=1, mixed_precision="no")
    with pytest.raises(ValueError):
        distill(digits_student, data, method="seul", epochs=0)
    assert mine.gradient_accumulation_steps == 4 and mine.mixed_precision == "bf16"
    AcceleratorState._reset_state()
    GradientState._reset_state()


def test_ps_kd_aussi_refuse_une_etiquette_hors_des_classes(data):
    wrong = TensorDataset(data.images, data.labels.clone().index_fill_(0, torch.tensor([3]), -100), torch.arange(65))
    with pytest.raises(ValueError, match="labels : valeur -100 reçue, de 0 à 9 attendu"):
        ps_kd(digits_student(), DataLoader(wrong, 20), 1)
