"""La compression de vrais réseaux : leur fichier, ceux qui lisent un poids sans appeler, ce qui pend à une couche."""

import io
from collections import deque
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
import torchvision
from safetensors.torch import save as save_safely
from torch import nn
from torch.nn.utils import parameters_to_vector, parametrizations, prune

from kdcourse import TTLinear, convert_to_tensor_train, tt_svd, tucker2_conv
from kdcourse.training.frozen_teacher import copy_of, frozen_copy


def file_size(model):
    buffer = io.BytesIO()
    torch.save(model.state_dict(), buffer)
    return buffer.tell()


def storages(model):
    return [(name, part.untyped_storage().nbytes() - part.nbytes, part.is_contiguous())
            for name, part in model.named_parameters()]  # fmt: skip


# --- Le fichier


@pytest.mark.parametrize(
    "layer",
    [
        lambda: TTLinear.from_linear(nn.Linear(512, 512), 8),
        lambda: TTLinear.from_linear(nn.Linear(64, 27), 1),
        lambda: TTLinear(
            tt_svd(torch.randn(8, 8, 8), 2)[0][..., None, :].unsqueeze(0)[0][None][0].split(1, dim=-1)[:1]
        ),
        lambda: tucker2_conv(nn.Conv2d(64, 32, 3), 4),
        lambda: tucker2_conv(nn.Conv2d(64, 32, 3), 1),
        lambda: tucker2_conv(nn.Conv2d(64, 32, 1).half(), 4),
    ],
    ids=["matrice", "rang 1", "une tranche donnée", "Tucker", "Tucker au rang 1", "Tucker en fp16"],
)
def test_chaque_parametre_est_contigu_et_seul_dans_sa_memoire(layer):
    assert {(extra, contiguous) for _, extra, contiguous in storages(layer())} == {(0, True)}


def test_une_couche_de_4096_au_rang_8_pese_cent_kilooctets_et_non_deux_megaoctets():
    assert file_size(TTLinear.from_linear(nn.Linear(4096, 4096), 8)) < 1.1 * 4 * (3 * 16 * 16 * 8 * 8)


def test_le_rapport_annonce_est_celui_des_fichiers_tampons_compris():
    model = torchvision.models.resnet18()
    compressed = convert_to_tensor_train(model, 16)
    assert compressed.compression_report.ratio == pytest.approx(file_size(model) / file_size(compressed), rel=0.1)
    parameters = compressed.compression_report.parameters_before / compressed.compression_report.parameters_after
    assert compressed.compression_report.ratio < parameters  # les statistiques de BatchNorm, elles, ne rétrécissent pas


def test_un_reseau_compresse_se_traite_comme_un_autre():
    """safetensors, un vecteur de paramètres, LBFGS et l'élagage refusent une vue ou une mémoire partagée."""
    torch.manual_seed(0)
    model = convert_to_tensor_train(nn.Sequential(nn.Conv2d(16, 32, 3), nn.Flatten(), nn.Linear(32 * 36, 512)), 2)
    images = torch.randn(4, 16, 8, 8)
    assert len(save_safely(model.state_dict())) < 1.2 * file_size(model)
    assert parameters_to_vector(model.parameters()).numel() == model.compression_report.parameters_after
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=5)

    def loss():
        optimizer.zero_grad()
        value = (model(images) - 1).square().mean()
        value.backward()
        return value

    assert optimizer.step(loss) > loss()
    cores = [(model[2].cores, name) for name, _ in model[2].cores.named_parameters()]
    prune.global_unstructured(cores, prune.L1Unstructured, amount=0.5)
    pruned = torch.cat([core.flatten() for core in model[2].cores])
    assert (pruned == 0).float().mean() == pytest.approx(0.5, abs=0.01)
    torch.testing.assert_close(model[2](torch.eye(32 * 36)).T - model[2].bias[:, None], model[2].weight)


# --- Ceux qui lisent le poids


def test_le_poids_d_une_couche_compressee_se_lit_et_se_derive():
    layer = TTLinear.from_linear(nn.Linear(64, 27), 3)
    inputs = torch.randn(5, 64)
    torch.testing.assert_close(F.linear(inputs, layer.weight, layer.bias), layer(inputs))
    assert layer.weight.dtype == torch.float32 and layer.weight.device.type == "cpu"
    called, read = (torch.autograd.grad(f().square().sum(), list(layer.cores))
                    for f in (lambda: layer(inputs), lambda: F.linear(inputs, layer.weight, layer.bias)))  # fmt: skip
    for ours, theirs in zip(called, read, strict=True):
        torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 1}, {"dilation": 2, "bias": False}])
def test_une_convolution_compressee_repond_comme_une_convolution(options):
    conv, images = nn.Conv2d(6, 8, 3, **options), torch.randn(2, 6, 9, 9)
    layers = tucker2_conv(conv, 3)
    for name in (
        "in_channels",
        "out_channels",
        "kernel_size",
        "stride",
        "padding",
        "dilation",
        "padding_mode",
        "groups",
    ):
        assert getattr(layers, name) == getattr(conv, name), name
    torch.testing.assert_close(
        F.conv2d(images, layers.weight, layers.bias, layers.stride, layers.padding, layers.dilation), layers(images)
    )
    assert layers.weight.shape == conv.weight.shape and layers.weight.requires_grad


class Reader(nn.Module):
    """Une attention écrite à la main : elle lit le poids, son dtype et son appareil, et n'appelle pas la couche."""

    def __init__(self):
        super().__init__()
        self.qkv, self.encoder = nn.Linear(64, 64), nn.Linear(64, 512)

    def forward(self, inputs):
        inputs = inputs.to(self.qkv.weight.device, self.qkv.weight.dtype)
        hidden = F.linear(inputs, self.qkv.weight, self.qkv.bias)
        return F.linear(F.relu(self.encoder(hidden)), self.encoder.weight.T)  # décodeur lié à l'encodeur


NETWORKS = {
    "swin": (lambda: torchvision.models.swin_t().eval(), (1, 3, 64, 64)),
    "vit": (lambda: torchvision.models.VisionTransformer(32, 8, 2, 4, 64, 512).eval(), (1, 3, 32, 32)),
    "convnext": (lambda: torchvision.models.convnext_tiny().eval(), (1, 3, 64, 64)),
    "transformer": (lambda: nn.TransformerEncoderLayer(64, 4, 512, batch_first=True).eval(), (2, 5, 64)),
    "poids lus": (Reader, (3, 64)),
    "lstm": (lambda: nn.Sequential(nn.LSTM(64, 64), nn.Identity())[0], (3, 2, 64)),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_un_vrai_reseau_compresse_tourne_et_s_entraine(name):
    build, shape = NETWORKS[name]
    torch.manual_seed(0)
    model = build()
    compressed = convert_to_tensor_train(model, 4)
    outputs, expected = (network(torch.randn(shape)) for network in (compressed, model))
    outputs, expected = (out[0] if isinstance(out, tuple) else out for out in (outputs, expected))
    assert outputs.shape == expected.shape and outputs.isfinite().all()
    outputs.sum().backward()
    assert [n for n, p in compressed.named_parameters() if p.grad is None or not p.grad.isfinite().all()] == []


def test_a_plein_rang_un_transformer_compresse_rend_les_memes_sorties_par_ses_deux_chemins():
    model = nn.TransformerEncoderLayer(64, 4, 512, batch_first=True).eval()
    exact = nn.TransformerEncoderLayer(64, 4, 512, batch_first=True).eval()
    exact.load_state_dict(model.state_dict())
    exact.linear1, exact.linear2 = (TTLinear.from_linear(layer, 10**6) for layer in (model.linear1, model.linear2))
    inputs = torch.randn(2, 5, 64)
    with torch.no_grad():  # le chemin rapide lit les poids
        torch.testing.assert_close(exact(inputs), model(inputs), rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(exact(inputs), model(inputs), rtol=1e-3, atol=1e-4)


# --- Ce qui pend à une couche


def hooked(register):
    def build(layer):
        getattr(layer, register)(lambda *_: None)
        return layer

    return build


HANGING = {
    "hook": (hooked("register_forward_hook"), "porte un hook"),
    "hook d'avant": (hooked("register_forward_pre_hook"), "porte un hook"),
    "hook du gradient": (hooked("register_full_backward_hook"), "porte un hook"),
    "hook du fichier": (hooked("register_state_dict_post_hook"), "porte un hook"),
    "ancien weight norm": (nn.utils.weight_norm, "porte un hook"),
    "weight norm": (parametrizations.weight_norm, "sous-classe (ParametrizedLinear)"),
    "spectral norm": (nn.utils.spectral_norm, "porte un hook"),
    "hook du poids": (lambda layer: (layer.weight.register_hook(lambda g: 0 * g), layer)[1], "son poids porte un hook"),
    "hook du biais": (lambda layer: (layer.bias.register_hook(lambda g: 0 * g), layer)[1], "son poids porte un hook"),
    "forward": (lambda layer: (setattr(layer, "forward", lambda x: 0 * x), layer)[1], "son forward a été remplacé"),
    "tampon": (lambda layer: (layer.register_buffer("scale", torch.ones(1)), layer)[1], "(scale)"),
    "LoRA": (lambda layer: (layer.add_module("lora", nn.Linear(64, 2)), layer)[1], "(lora)"),
    "masque": (lambda layer: prune.l1_unstructured(layer, "weight", 0.3), "porte un hook"),
}


@pytest.mark.filterwarnings("ignore::FutureWarning")
@pytest.mark.parametrize("name", HANGING)
def test_une_couche_qui_porte_quelque_chose_est_gardee_et_le_bilan_le_dit(name):
    hang, reason = HANGING[name]
    model = nn.Sequential(hang(nn.Linear(64, 64)), nn.ReLU(), nn.Linear(64, 512)).eval()
    model(torch.randn(2, 64))  # un modèle qui a déjà tourné : son poids calculé ne se copie pas de lui-même
    compressed = convert_to_tensor_train(model, 2)
    kept, *_, changed = compressed.compression_report.layers
    assert reason in kept.reason and changed.reason == ""
    inputs = torch.randn(2, 64)
    torch.testing.assert_close(compressed[0](inputs), model[0](inputs))


def test_un_hook_de_l_original_agit_encore_dans_la_copie():
    seen, model = [], nn.Sequential(nn.Linear(64, 64), nn.Linear(64, 512))
    model[0].register_forward_hook(lambda *_: seen.append(1))
    convert_to_tensor_train(model, 2)(torch.randn(2, 64))
    assert seen == [1]


class Held(nn.Module):
    """Tient ses couches par autre chose que ses sous-modules, et les appelle par là."""

    def __init__(self, hold):
        super().__init__()
        self.first, self.second = nn.Linear(64, 64), nn.Linear(64, 64)
        self.calls = hold(self.first, self.second)

    def forward(self, inputs):
        for call in self.calls.values() if isinstance(self.calls, dict) else self.calls:
            inputs = call(inputs)
        return inputs


@pytest.mark.parametrize(
    "hold",
    [
        lambda *layers: list(layers),
        lambda *layers: dict(enumerate(layers)),
        lambda *layers: deque(layers),
        lambda *layers: [layer.forward for layer in layers],
    ],
    ids=["liste", "dictionnaire", "file", "méthodes"],
)
def test_une_couche_que_le_modele_tient_ailleurs_est_gardee_et_le_bilan_le_dit(hold):
    model = Held(hold)
    compressed = convert_to_tensor_train(model, 1)
    assert [row.reason for row in compressed.compression_report.layers] == ["rangée aussi hors des sous-modules"] * 2
    compressed(torch.randn(2, 64)).sum().backward()
    assert compressed.first.weight.grad is not None  # c'est bien la copie qui calcule


class Caching(nn.Module):
    """Garde ce qu'elle a calculé, à plat et dans des structures."""

    def __init__(self):
        super().__init__()
        self.layer, self.log, self.recent = nn.Linear(64, 64), [{}], deque(maxlen=2)
        self.box = SimpleNamespace()

    def forward(self, inputs):
        self.last = self.layer(inputs)
        self.log[0]["features"] = (self.last.exp(), [self.last])
        self.recent.append(self.last.sin())
        self.box.last = self.last.cos()
        return self.last


@pytest.mark.parametrize("copy", [copy_of, frozen_copy, lambda model: convert_to_tensor_train(model, 2)])
def test_un_modele_qui_a_garde_un_tenseur_calcule_se_copie(copy):
    model, inputs = Caching(), torch.randn(2, 64)
    expected = model(inputs).detach()
    copied = copy(model)
    assert copied.last is not model.last and not copied.last.requires_grad
    torch.testing.assert_close(copied.log[0]["features"][0], expected.exp())
    assert copied(inputs).shape == expected.shape
