"""10.6, le modèle : Tucker-2, copie compressée, bilan."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from kdcourse import TTLinear, convert_to_tensor_train, tucker2_conv
from kdcourse.compression.report import all_parameters
from kdcourse.models import CNN, MLP

FULL = 10**6


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def conv(in_channels=6, out_channels=8, kernel=3, **options):
    return nn.Conv2d(in_channels, out_channels, kernel, dtype=torch.float64, **options)


def images(channels=6):
    return torch.randn(2, channels, 9, 7).double()


# --- Tucker-2 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"stride": 2},
        {"stride": (1, 3), "padding": (2, 1)},
        {"padding": "same", "dilation": 2},
        {"padding": 1, "padding_mode": "reflect"},
        {"padding": 1, "padding_mode": "circular", "bias": False},
        {"kernel": (1, 3)},
        {"kernel": 1},
        {"in_channels": 1, "out_channels": 8},
    ],
    ids=str,
)
def test_a_plein_rang_tucker2_est_la_convolution(options):
    layer = conv(**options)
    inputs = images(layer.in_channels)
    torch.testing.assert_close(tucker2_conv(layer, FULL)(inputs), layer(inputs), rtol=1e-10, atol=1e-10)


def test_au_rang_tronque_tucker2_est_la_convolution_de_son_noyau():
    layer, inputs = conv(stride=2, padding=1), images()
    layers = tucker2_conv(layer, 3)
    expected = F.conv2d(inputs, layers.weight, layer.bias, stride=2, padding=1)
    torch.testing.assert_close(layers(inputs), expected)


def test_tucker2_projette_sur_les_premiers_vecteurs_singuliers():
    layer = conv()
    weight = layer.weight.detach()
    out_basis = torch.linalg.eigh(torch.einsum("oihw,pihw->op", weight, weight)).eigenvectors[:, -3:]
    in_basis = torch.linalg.eigh(torch.einsum("oihw,ojhw->ij", weight, weight)).eigenvectors[:, -3:]
    expected = torch.einsum("op,pihw,ij->ojhw", out_basis @ out_basis.T, weight, in_basis @ in_basis.T)
    torch.testing.assert_close(tucker2_conv(layer, 3).weight, expected)


def test_tucker2_enchaine_1x1_kxk_1x1():
    shapes = [tuple(layer.weight.shape) for layer in tucker2_conv(conv(6, 8, 3), 4)]
    assert shapes == [(4, 6, 1, 1), (4, 4, 3, 3), (8, 4, 1, 1)]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_tucker2_garde_le_dtype(dtype):
    layers = tucker2_conv(conv().to(dtype), 3)
    assert {parameter.dtype for parameter in layers.parameters()} == {dtype}


def test_tucker2_garde_gele_ce_qui_l_est_et_laisse_la_convolution_intacte():
    layer = conv().requires_grad_(False)
    before, state = copy.deepcopy(layer.state_dict()), torch.get_rng_state()
    layers = tucker2_conv(layer, FULL)
    assert not any(parameter.requires_grad for parameter in layers.parameters())
    layers[2].bias.zero_()
    torch.testing.assert_close(layer.state_dict(), before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), state)


def test_une_convolution_nulle_reste_nulle():
    layer = conv(bias=False)
    nn.init.zeros_(layer.weight)
    assert tucker2_conv(layer, 2)(images()).abs().max() == 0


# --- La copie compressée ----------------------------------------------------------------------------------------------


class Model(nn.Module):
    """Un cas de chaque sorte."""

    def __init__(self):
        super().__init__()
        self.conv, self.grouped = nn.Conv2d(16, 32, 3, padding=1), nn.Conv2d(32, 32, 3, padding=1, groups=2)
        self.norm, self.wide, self.tiny = nn.GroupNorm(4, 32), nn.Linear(128, 64), nn.Linear(8, 8)
        self.prime, self.head = nn.Linear(64, 97), nn.Linear(97, 10)
        self.special = nn.modules.linear.NonDynamicallyQuantizableLinear(64, 64)
        self.tied = nn.Linear(64, 64)
        self.tied_too = nn.Linear(64, 64)
        self.tied_too.weight = self.tied.weight

    def forward(self, images):
        hidden = F.adaptive_avg_pool2d(self.norm(self.grouped(self.conv(images))), 2).flatten(1)
        hidden = self.tied_too(self.tied(self.special(self.wide(hidden))))
        return self.head(self.prime(self.tiny(hidden.unflatten(1, (8, 8))).flatten(1)))


@pytest.fixture
def compressed():
    return convert_to_tensor_train(Model(), rank=4)


def test_les_couches_qui_retrecissent_sont_remplacees(compressed):
    assert isinstance(compressed.wide, TTLinear) and isinstance(compressed.conv, nn.Sequential)


def test_chaque_couche_gardee_l_est_pour_sa_raison(compressed):
    assert {layer.name: layer.reason for layer in compressed.compression_report.layers if layer.reason} == {
        "grouped": "2 groupes",
        "tiny": "ne rétrécit pas : 104 paramètres",
        "prime": "97 n'a pas 3 facteurs ≥ 2",
        "head": "97 n'a pas 3 facteurs ≥ 2",
        "special": "sous-classe (NonDynamicallyQuantizableLinear)",
        "tied": "poids partagé avec une autre couche",
        "tied_too": "poids partagé avec une autre couche",
    }


def test_une_couche_gardee_reste_elle_meme(compressed):
    assert compressed.tied.weight is compressed.tied_too.weight
    assert type(compressed.grouped) is nn.Conv2d and compressed.grouped.groups == 2


@pytest.mark.parametrize("make_model", [Model, CNN, lambda: MLP(hidden=(64, 64))])
@pytest.mark.parametrize("rank", [1, 4, FULL])
def test_la_copie_n_est_jamais_plus_grosse(make_model, rank):
    model = make_model()
    assert all_parameters(convert_to_tensor_train(model, rank)) <= all_parameters(model)


def test_le_modele_d_origine_reste_intact():
    model = Model().eval()
    before, modules = copy.deepcopy(model.state_dict()), list(model.modules())
    compressed = convert_to_tensor_train(model, 4)
    with torch.no_grad():
        for parameter in compressed.parameters():
            parameter.zero_()
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert list(model.modules()) == modules and not hasattr(model, "compression_report")


def test_la_copie_garde_le_mode_et_calcule():
    compressed = convert_to_tensor_train(Model().eval(), 4)
    assert not any(module.training for module in compressed.modules())
    assert compressed(torch.randn(2, 16, 5, 5)).shape == (2, 10)


def test_au_rang_qui_suffit_la_copie_rend_les_memes_logits():
    model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 64)).double()
    with torch.no_grad():  # des matrices qui sont déjà des trains de rang 2
        for index in (0, 2):
            model[index].weight.copy_(TTLinear.from_linear(model[index], 2).weight_matrix())
    compressed, inputs = convert_to_tensor_train(model, 2), torch.randn(3, 64).double()
    assert all_parameters(compressed) < all_parameters(model)
    torch.testing.assert_close(compressed(inputs), model(inputs))


def test_sans_tucker2_les_convolutions_sont_gardees():
    compressed = convert_to_tensor_train(Model(), 4, conv=None)
    assert type(compressed.conv) is nn.Conv2d and isinstance(compressed.wide, TTLinear)


def test_un_modele_qui_n_est_qu_une_couche_se_compresse():
    compressed = convert_to_tensor_train(nn.Linear(64, 64), 2)
    assert isinstance(compressed, TTLinear) and compressed.compression_report.layers[0].name == ""


def test_une_couche_employee_deux_fois_reste_une_seule_couche():
    layer = nn.Linear(64, 64)
    compressed = convert_to_tensor_train(nn.Sequential(layer, nn.ReLU(), layer), 2)
    assert isinstance(compressed[0], TTLinear) and compressed[0] is compressed[2]


def test_un_modele_sans_rien_a_compresser_donne_une_copie():
    model = nn.Sequential(nn.ReLU())
    compressed = convert_to_tensor_train(model)
    assert compressed is not model and compressed.compression_report.ratio == 1


def test_compresser_n_avance_pas_le_generateur():
    model, state = Model(), torch.get_rng_state()
    convert_to_tensor_train(model, 4)
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="demande un GPU")
def test_sur_gpu_la_copie_y_reste():
    assert convert_to_tensor_train(Model().cuda(), 4)(torch.randn(2, 16, 5, 5).cuda()).is_cuda


# --- Le bilan ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("make_model", [Model, CNN])
def test_les_totaux_du_bilan_sont_les_vrais_nombres_de_parametres(make_model):
    model = make_model()
    compressed = convert_to_tensor_train(model, 2)
    report = compressed.compression_report
    assert report.parameters_before == sum(p.numel() for p in model.parameters())
    assert report.parameters_after == sum(p.numel() for p in compressed.parameters())


def test_chaque_ligne_du_bilan_compte_sa_couche(compressed):
    model = Model()
    for layer in compressed.compression_report.layers:
        assert layer.before == sum(p.numel() for p in model.get_submodule(layer.name).parameters())
        assert layer.after == sum(p.numel() for p in compressed.get_submodule(layer.name).parameters())


def test_l_erreur_du_bilan_est_celle_du_poids():
    model = Model()
    compressed = convert_to_tensor_train(model, 4)
    errors = {layer.name: layer.error for layer in compressed.compression_report.layers}
    for name, approximation in [
        ("wide", compressed.wide(torch.eye(128)).T - compressed.wide.bias[:, None]),
        ("conv", compressed.conv.weight),
    ]:
        weight = model.get_submodule(name).weight
        assert errors[name] == pytest.approx(((weight - approximation).norm() / weight.norm()).item(), rel=1e-4)


def test_l_erreur_d_un_poids_nul_est_nulle():
    layer = nn.Linear(64, 64)
    nn.init.zeros_(layer.weight)
    assert convert_to_tensor_train(layer, 2).compression_report.layers[0].error == 0


def test_le_bilan_s_affiche_en_tableau_francais():
    model = MLP(64, (512, 512))
    with torch.no_grad():
        model.stages[0][0].weight.zero_()
    lines = str(convert_to_tensor_train(model, 4).compression_report).replace("\N{NO-BREAK SPACE}", " ").splitlines()
    assert re.split(r" {2,}", lines[0]) == ["Couche", "Forme", "Rangs", "Avant", "Après", "Erreur", "Gardée parce que"]
    assert re.split(r" {2,}", lines[2]) == ["stages.0.0", "512×64", "4·4", "33 280", "1 280", "0,0 %"]
    assert re.split(r" {2,}", lines[4]) == ["head", "10×512", "—", "5 130", "5 130", "—", "10 n'a pas 3 facteurs ≥ 2"]
    assert re.split(r" {2,}", lines[5]) == ["Modèle entier", "301 066", "8 458", "35,6 fois moins lourd"]


# --- Les refus --------------------------------------------------------------------------------------------------------

NAN = nn.Conv2d(2, 2, 1)
nn.init.constant_(NAN.weight, float("nan"))
REFUSALS = {
    "conv : Linear reçu, nn.Conv2d attendu": lambda: tucker2_conv(nn.Linear(4, 3), 2),
    "conv : groups = 2 reçu, 1 attendu": lambda: tucker2_conv(conv(groups=2), 2),
    "conv.weight : 4 valeur(s) NaN": lambda: tucker2_conv(NAN, 2),
    "rank : -1 reçu, un entier ≥ 1 attendu": lambda: tucker2_conv(conv(), -1),
    "model : type reçu, un modèle (torch.nn.Module) attendu": lambda: convert_to_tensor_train(Model),
    "rank : 0 reçu, un entier ≥ 1 attendu": lambda: convert_to_tensor_train(MLP(), 0),
    "conv : 'svd' reçu, 'tucker2' ou None attendu": lambda: convert_to_tensor_train(MLP(), 2, conv="svd"),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_la_compression_refuse_et_dit_pourquoi(message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        REFUSALS[message]()
