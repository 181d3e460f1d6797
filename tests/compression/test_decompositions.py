"""10.6, les décompositions : reconstructions comparées à celles de tensorly, borne de l'erreur, cas limites."""

import math
import re

import pytest
import tensorly
import torch
from hypothesis import given, settings, strategies as st
from tensorly.decomposition import tensor_train

from kdcourse import tt_reconstruct, tt_svd
from kdcourse.compression.decompositions import balanced_factors

shapes = st.lists(st.integers(1, 6), min_size=1, max_size=5).map(tuple)
ranks = st.integers(1, 12)
FULL = 10**6


def random(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def naive_entry(cores, indices):
    """Un coefficient du train, en boucles : la somme sur tous les chemins d'indices de rang."""
    row = [1.0]
    for core, i in zip(cores, indices, strict=True):
        left, _, right = core.shape
        row = [sum(row[a] * core[a, i, b].item() for a in range(left)) for b in range(right)]
    return row[0]


@settings(max_examples=40, deadline=None)
@given(shapes.filter(lambda shape: len(shape) > 1), ranks, st.integers(0, 99))
def test_tt_svd_reconstruit_comme_tensorly(shape, rank, seed):
    tensor = random(shape, seed)
    peer = tensorly.tt_to_tensor(tensor_train(tensor.numpy(), rank=[1, *[rank] * (len(shape) - 1), 1]))
    torch.testing.assert_close(tt_reconstruct(tt_svd(tensor, rank)), torch.as_tensor(peer), rtol=1e-9, atol=1e-9)


@settings(max_examples=40, deadline=None)
@given(shapes, st.integers(0, 99))
def test_tt_svd_reconstruit_a_plein_rang(shape, seed):
    tensor = random(shape, seed)
    assert (tt_reconstruct(tt_svd(tensor, FULL)) - tensor).abs().max() < 1e-10


@settings(max_examples=40, deadline=None)
@given(shapes, ranks, st.integers(0, 99))
def test_l_erreur_de_tt_svd_respecte_la_borne_d_oseledets(shape, rank, seed):
    tensor = random(shape, seed)
    tails = 0.0
    for k in range(1, len(shape)):
        singular = torch.linalg.svdvals(tensor.reshape(math.prod(shape[:k]), -1))
        tails += singular[rank:].square().sum().item()
    error = (tt_reconstruct(tt_svd(tensor, rank)) - tensor).square().sum().item()
    assert error <= tails * (1 + 1e-9) + 1e-18


@settings(max_examples=40, deadline=None)
@given(shapes, ranks)
def test_les_coeurs_ont_la_forme_r_n_r(shape, rank):
    cores = tt_svd(random(shape), rank)
    left = 1
    for size, core in zip(shape, cores, strict=True):
        assert core.shape[:2] == (left, size)
        left = core.shape[2]
        assert left <= rank or size == shape[-1]
    assert left == 1


def test_le_rang_est_un_plafond_a_chaque_lien():
    assert [core.shape[2] for core in tt_svd(random((2, 5, 5, 5, 2)), 4)] == [2, 4, 4, 2, 1]


def test_a_deux_modes_tt_svd_est_la_svd_tronquee():
    matrix = random((6, 5))
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    torch.testing.assert_close(tt_reconstruct(tt_svd(matrix, 2)), u[:, :2] @ torch.diag(s[:2]) @ vh[:2])


def test_un_tenseur_de_rang_1_se_retrouve_au_rang_1():
    tensor = torch.einsum("i,j,k->ijk", random((4,)), random((3,), 1), random((5,), 2))
    torch.testing.assert_close(tt_reconstruct(tt_svd(tensor, 1)), tensor)


@pytest.mark.parametrize("shape", [(4,), (1,), (1, 6), (6, 1), (1, 1, 1), (3, 1, 4)])
def test_les_dimensions_1_et_l_ordre_1_se_decomposent(shape):
    tensor = random(shape)
    torch.testing.assert_close(tt_reconstruct(tt_svd(tensor, 8)), tensor)


def test_un_tenseur_nul_reste_nul_et_fini():
    assert torch.equal(tt_reconstruct(tt_svd(torch.zeros(3, 4, 2), 2)), torch.zeros(3, 4, 2))


def test_tt_reconstruct_est_le_produit_des_coeurs():
    cores = [random((1, 3, 2)), random((2, 4, 3), 1), random((3, 2, 1), 2)]
    tensor = tt_reconstruct(cores)
    for i, j, k in [(0, 0, 0), (2, 3, 1), (1, 2, 0), (0, 3, 1)]:
        assert tensor[i, j, k].item() == pytest.approx(naive_entry(cores, (i, j, k)), rel=1e-12)


def test_tt_reconstruct_ne_perd_pas_une_dimension_1():
    assert tt_reconstruct([random((1, 1, 2)), random((2, 1, 1))]).shape == (1, 1)


def test_un_tenseur_non_contigu_se_decompose_pareil():
    tensor = random((4, 3, 5)).permute(2, 0, 1)
    torch.testing.assert_close(tt_reconstruct(tt_svd(tensor, 2)), tt_reconstruct(tt_svd(tensor.contiguous(), 2)))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_en_demi_precision_la_svd_se_fait_en_float32(dtype):
    tensor = random((4, 3, 5)).to(dtype)
    cores = tt_svd(tensor, FULL)
    assert {core.dtype for core in cores} == {torch.float32}
    torch.testing.assert_close(tt_reconstruct(cores), tensor.float())


def test_le_gradient_traverse_tt_reconstruct():
    cores = [random((1, 3, 2)).requires_grad_(), random((2, 4, 1), 1).requires_grad_()]
    assert torch.autograd.gradcheck(lambda *cores: tt_reconstruct(cores), cores)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="demande un GPU")
def test_sur_gpu_la_reconstruction_est_la_meme():
    tensor = random((4, 6, 5))
    torch.testing.assert_close(tt_reconstruct(tt_svd(tensor.cuda(), 3)).cpu(), tt_reconstruct(tt_svd(tensor, 3)))


@pytest.mark.parametrize(
    ("size", "factors"),
    [(512, (8, 8, 8)), (64, (4, 4, 4)), (784, (7, 8, 14)), (1200, (10, 10, 12)), (100, (4, 5, 5)), (8, (2, 2, 2))],
)
def test_la_factorisation_est_la_plus_equilibree(size, factors):
    assert balanced_factors(size, 3) == factors


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 400))
def test_la_factorisation_est_celle_d_une_recherche_exhaustive(size):
    divisors = [d for d in range(2, size + 1) if size % d == 0]
    triples = [(a, b, size // a // b) for a in divisors for b in divisors if size % (a * b) == 0]
    found = balanced_factors(size, 3)
    best = min((sum(triple) for triple in triples if min(triple) >= 2), default=None)
    assert (found is None) == (best is None)
    assert found is None or (math.prod(found) == size and sum(found) == best and sorted(found) == list(found))


@pytest.mark.parametrize("size", [1, 2, 10, 97])
def test_une_taille_sans_trois_facteurs_n_a_pas_de_factorisation(size):
    assert balanced_factors(size, 3) is None


CORE = torch.zeros(1, 3, 2)
REFUSALS = {
    "rank : 0 reçu, un entier ≥ 1 attendu": lambda: tt_svd(CORE, 0),
    "rank : 2.0 (float) reçu, un entier ≥ 1 attendu": lambda: tt_svd(CORE, 2.0),
    "rank : True (bool) reçu": lambda: tt_svd(CORE, True),
    "tensor : list reçu, un tenseur de forme (n_1, …, n_d) attendu": lambda: tt_svd([[1.0]], 1),
    "tensor : dtype torch.int64 reçu, un dtype flottant attendu": lambda: tt_svd(CORE.long(), 1),
    "tensor : forme () reçue, (n_1, …, n_d) attendue": lambda: tt_svd(torch.tensor(1.0), 1),
    "tensor : forme (2, 0) reçue": lambda: tt_svd(torch.zeros(2, 0), 1),
    "cores : suite vide reçu, une suite d'au moins un cœur": lambda: tt_reconstruct([]),
    "cores : Tensor reçu, une suite d'au moins un cœur": lambda: tt_reconstruct(CORE),
    "cores[0] : forme (3, 2) reçue, (r, n, r') attendue": lambda: tt_reconstruct([CORE[0]]),
    "cores[1] : rang gauche 1 reçu, 2 attendu": lambda: tt_reconstruct([CORE, CORE]),
    "cores[0] : rang gauche 2 reçu, 1 attendu": lambda: tt_reconstruct([CORE.transpose(0, 2)]),
    "cores[0] : forme (1, 3, 2) reçue, dernier rang 1 attendu": lambda: tt_reconstruct([CORE]),
    "cores[1] : dtype torch.float64 reçu, torch.float32 attendu": lambda: tt_reconstruct(
        [CORE, torch.zeros(2, 3, 1, dtype=torch.float64)]
    ),
    "cores[1] : sur meta, cpu attendu": lambda: tt_reconstruct([CORE, torch.zeros(2, 3, 1, device="meta")]),
    "size : 0 reçu": lambda: balanced_factors(0, 3),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_les_decompositions_refusent_et_disent_pourquoi(message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        REFUSALS[message]()
