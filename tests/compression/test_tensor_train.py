"""10.6, la couche : TTLinear est la couche dense de sa matrice, en valeur et en gradient, sans jamais la former."""

import copy
import re

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call, stack_module_state
from torch.utils._python_dispatch import TorchDispatchMode

from kdcourse import TTLinear

FULL = 10**6
SIZES = [(64, 27), (8, 512), (12, 12), (100, 8)]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


def dense(in_features=64, out_features=27, **options):
    return nn.Linear(in_features, out_features, dtype=torch.float64, **options)


@pytest.mark.parametrize(("in_features", "out_features"), SIZES)
@pytest.mark.parametrize("bias", [True, False])
def test_a_plein_rang_la_couche_est_la_couche_dense(in_features, out_features, bias):
    linear = dense(in_features, out_features, bias=bias)
    inputs = torch.randn(5, in_features).double()
    torch.testing.assert_close(TTLinear.from_linear(linear, FULL)(inputs), linear(inputs), rtol=1e-10, atol=1e-10)


def test_a_plein_rang_le_gradient_des_entrees_est_celui_de_la_couche_dense():
    linear, weights = dense(), torch.randn(5, 27).double()
    gradients = []
    for layer in (linear, TTLinear.from_linear(linear, FULL)):
        inputs = torch.linspace(-1, 1, 5 * 64).double().reshape(5, 64).requires_grad_()
        (layer(inputs).sin() * weights).sum().backward()
        gradients.append(inputs.grad)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("rank", [1, 3, FULL])
@pytest.mark.parametrize("order", [2, 3])
def test_au_rang_tronque_la_couche_est_la_couche_dense_de_sa_matrice(rank, order):
    layer = TTLinear.from_linear(dense(), rank, order)
    inputs = torch.randn(5, 64).double()
    torch.testing.assert_close(layer(inputs), F.linear(inputs, layer.weight_matrix(), layer.bias))


def test_la_matrice_est_celle_des_coeurs_en_boucles():
    layer = TTLinear.from_linear(dense(8, 12), 2)
    matrix, (first, second, third) = layer.weight_matrix(), layer.cores
    for j in range(12):
        for i in range(8):
            # Écritures mixtes : 12 = 2·2·3 pour la sortie, 8 = 2·2·2 pour l'entrée, chiffre de poids fort en premier.
            j1, j2, j3, i1, i2, i3 = j // 6, j // 3 % 2, j % 3, i // 4, i // 2 % 2, i % 2
            entry = sum(
                first[0, j1, i1, a] * second[a, j2, i2, b] * third[b, j3, i3, 0] for a in range(2) for b in range(2)
            )
            assert matrix[j, i].item() == pytest.approx(entry.item(), rel=1e-12)


def test_le_gradient_des_coeurs_est_celui_des_differences_finies():
    layer = TTLinear.from_linear(dense(8, 8), 2)
    names, values = zip(*layer.named_parameters(), strict=True)
    inputs = torch.randn(3, 8).double().requires_grad_()

    def forward(inputs, *values):
        return functional_call(layer, dict(zip(names, values, strict=True)), (inputs,))

    assert torch.autograd.gradcheck(forward, (inputs, *values))


class Largest(TorchDispatchMode):
    """Note la taille du plus gros tenseur que crée une opération, dans les deux sens."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, (tuple, list)) else [result]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


def test_la_matrice_dense_n_est_jamais_formee():
    layer, inputs = TTLinear.from_linear(nn.Linear(512, 512), 4), torch.randn(2, 512, requires_grad=True)
    with Largest() as largest:
        layer(inputs).sum().backward()
    # Le plus gros état est (B, n_1, r, m_2·m_3) : 2·8·4·64, contre 512·512 pour la matrice.
    assert largest.elements <= 2 * 8 * 4 * 64


def test_la_mesure_verrait_la_matrice_dense():
    layer, inputs = TTLinear.from_linear(nn.Linear(512, 512), 4), torch.randn(2, 512)
    with Largest() as largest:
        F.linear(inputs, layer.weight_matrix())
    assert largest.elements >= 512 * 512


def test_les_coeurs_pesent_ce_qu_annonce_leur_forme():
    layer = TTLinear.from_linear(nn.Linear(512, 512), 4)
    assert [tuple(core.shape) for core in layer.cores] == [(1, 8, 8, 4), (4, 8, 8, 4), (4, 8, 8, 1)]
    assert sum(p.numel() for p in layer.parameters()) == 64 * 4 + 4 * 64 * 4 + 4 * 64 + 512


@pytest.mark.parametrize("lead", [(), (1,), (0,), (2, 3), (2, 1, 4)])
def test_les_dimensions_de_tete_sont_gardees(lead):
    layer = TTLinear.from_linear(dense(), 3)
    inputs = torch.randn(*lead, 64).double()
    torch.testing.assert_close(layer(inputs), F.linear(inputs, layer.weight_matrix(), layer.bias))


def test_une_entree_non_contigue_donne_la_meme_sortie():
    layer, inputs = TTLinear.from_linear(dense(), 3), torch.randn(64, 5).double().T
    torch.testing.assert_close(layer(inputs), layer(inputs.contiguous()))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_la_couche_garde_le_dtype_de_la_couche_dense(dtype):
    layer = TTLinear.from_linear(dense().to(dtype), 3)
    inputs = torch.randn(5, 64, dtype=dtype)
    expected = F.linear(inputs.double(), layer.double().weight_matrix(), layer.bias)
    output = layer.to(dtype)(inputs)
    assert output.dtype == dtype
    torch.testing.assert_close(output.double(), expected, rtol=0, atol=20 * torch.finfo(dtype).eps)


def test_sous_autocast_la_sortie_est_en_bf16_comme_celle_d_une_couche_dense():
    linear, inputs = nn.Linear(64, 27), torch.randn(5, 64)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert TTLinear.from_linear(linear, 3)(inputs).dtype == linear(inputs).dtype == torch.bfloat16


def test_une_matrice_nulle_donne_le_biais():
    linear = dense()
    nn.init.zeros_(linear.weight)
    inputs = torch.randn(5, 64).double()
    torch.testing.assert_close(TTLinear.from_linear(linear, 3)(inputs), linear.bias.expand(5, 27))


def test_la_couche_dense_reste_intacte_et_ne_partage_rien():
    linear = dense()
    before = copy.deepcopy(linear.state_dict())
    layer = TTLinear.from_linear(linear, FULL)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    torch.testing.assert_close(linear.state_dict(), before, rtol=0, atol=0)


def test_compresser_n_avance_pas_le_generateur():
    linear, state = dense(), torch.get_rng_state()
    TTLinear.from_linear(linear, 3)
    assert torch.equal(torch.get_rng_state(), state)


def test_les_parametres_geles_le_restent():
    linear = dense()
    linear.weight.requires_grad_(False)
    assert {name: p.requires_grad for name, p in TTLinear.from_linear(linear, 3).named_parameters()} == {
        "cores.0": False,
        "cores.1": False,
        "cores.2": False,
        "bias": True,
    }


def test_un_pas_d_optimiseur_change_chaque_parametre():
    layer = TTLinear.from_linear(nn.Linear(64, 27), 3)
    before = [parameter.detach().clone() for parameter in layer.parameters()]
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.1)
    layer(torch.randn(5, 64)).square().sum().backward()
    optimizer.step()
    assert not any(torch.equal(old, new) for old, new in zip(before, layer.parameters(), strict=True))


def test_un_state_dict_se_recharge():
    first, second = (TTLinear.from_linear(dense(), 3) for _ in range(2))
    second.load_state_dict(first.state_dict())
    inputs = torch.randn(5, 64).double()
    assert torch.equal(first(inputs), second(inputs))


def test_une_copie_profonde_est_independante():
    layer = TTLinear.from_linear(dense(), 3)
    twin, inputs = copy.deepcopy(layer), torch.randn(5, 64).double()
    expected = layer(inputs)
    with torch.no_grad():
        layer.cores[0].zero_()
    assert torch.equal(twin(inputs), expected)


def test_la_couche_passe_sous_vmap_parametres_empiles():
    layers, inputs = [TTLinear.from_linear(dense(), 3) for _ in range(3)], torch.randn(5, 64).double()
    parameters, _ = stack_module_state(layers)
    skeleton = copy.deepcopy(layers[0]).to("meta")
    together = torch.vmap(lambda p, x: functional_call(skeleton, p, (x,)), in_dims=(0, None))(parameters, inputs)
    torch.testing.assert_close(together, torch.stack([layer(inputs) for layer in layers]))


def test_la_couche_compilee_est_la_meme():
    layer, inputs = TTLinear.from_linear(dense(), 3), torch.randn(5, 64).double()
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(inputs), layer(inputs))


def test_la_couche_change_d_appareil_toute_entiere():
    layer = TTLinear.from_linear(dense(), 3).to("meta")
    assert layer(torch.empty(5, 64, dtype=torch.float64, device="meta")).device.type == "meta"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="demande un GPU")
def test_sur_gpu_la_couche_est_la_meme():
    linear, inputs = dense(), torch.randn(5, 64).double()
    expected = TTLinear.from_linear(linear, 3)(inputs)
    torch.testing.assert_close(TTLinear.from_linear(linear.cuda(), 3)(inputs.cuda()).cpu(), expected)


def test_la_couche_affiche_ses_facteurs_et_ses_rangs():
    assert "64 → 27 (4·4·4 → 3·3·3, rangs 3·3), bias=True" in repr(TTLinear.from_linear(nn.Linear(64, 27), 3))


CORES = [torch.zeros(1, 2, 2, 3), torch.zeros(3, 2, 4, 1)]
NAN = nn.Linear(64, 27)
nn.init.constant_(NAN.weight, float("nan"))
REFUSALS = {
    "cores : suite vide reçu, une suite d'au moins un cœur (r, n, m, r')": lambda: TTLinear([]),
    "cores[0] : forme (1, 2, 3) reçue, (r, n, m, r') attendue": lambda: TTLinear([CORES[0][:, 0]]),
    "cores[1] : rang gauche 1 reçu, 3 attendu": lambda: TTLinear([CORES[0], CORES[0]]),
    "bias : forme (8,) reçue, (4,) attendue": lambda: TTLinear(CORES, torch.zeros(8)),
    "linear : Conv2d reçu, nn.Linear attendu": lambda: TTLinear.from_linear(nn.Conv2d(8, 8, 3), 2),
    "rank : 0 reçu, un entier ≥ 1 attendu": lambda: TTLinear.from_linear(nn.Linear(64, 27), 0),
    "order : 0 reçu, un entier ≥ 1 attendu": lambda: TTLinear.from_linear(nn.Linear(64, 27), 2, 0),
    "linear.out_features : 10 reçu, un produit de 3 facteurs ≥ 2": lambda: TTLinear.from_linear(nn.Linear(64, 10), 2),
    "linear.in_features : 97 reçu, un produit de 3 facteurs ≥ 2": lambda: TTLinear.from_linear(nn.Linear(97, 64), 2),
    "linear.weight : 1728 valeur(s) NaN ou infinie(s)": lambda: TTLinear.from_linear(NAN, 2),
    "inputs : forme (5, 7) reçue, (…, 8) attendue": lambda: TTLinear(CORES)(torch.zeros(5, 7)),
    "inputs : list reçu, un tenseur (…, 8) attendu": lambda: TTLinear(CORES)([1.0]),
    "inputs : dtype torch.float64 reçu, torch.float32 attendu": lambda: TTLinear(CORES)(torch.zeros(5, 8).double()),
    "inputs : sur meta, cpu attendu": lambda: TTLinear(CORES)(torch.zeros(5, 8, device="meta")),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_la_couche_refuse_et_dit_pourquoi(message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        REFUSALS[message]()
