"""10.5 : chaque cible est la prédiction antérieure du même exemple ; les formules, contre des boucles en float64."""

import math
import re

import pytest
import torch
import torch.nn.functional as F

from kdcourse import LossTerms, SelfDistillation, label_smoothing_probabilities, ps_kd_loss

HALVES = [torch.float16, torch.bfloat16]


@pytest.fixture(autouse=True)
def seed():
    torch.manual_seed(0)


@pytest.fixture
def batch():
    """Logits actuels et antérieurs ``(7, 5)`` en float64, et étiquettes."""
    return torch.randn(7, 5).double() * 3, torch.randn(7, 5).double() * 3, torch.randint(0, 5, (7,))


def softmax(row, temperature=1.0):
    powers = [math.exp(value / temperature) for value in row]
    return [power / sum(powers) for power in powers]


def naive_cross_entropy(logits, labels):
    return sum(-math.log(softmax(row)[y]) for row, y in zip(logits, labels, strict=True)) / len(labels)


def naive_kd(current, previous, temperature):
    total = 0.0
    for row, earlier in zip(current, previous, strict=True):
        p, q = softmax(row, temperature), softmax(earlier, temperature)
        for c in range(len(row)):
            total += q[c] * (math.log(q[c]) - math.log(p[c]))
    return temperature**2 * total / len(current)


def naive_ps_kd(logits, previous, labels, alpha):
    total = 0.0
    for row, earlier, y in zip(logits, previous, labels, strict=True):
        p = softmax(row)
        for c in range(len(row)):
            target = (1 - alpha) * (c == y) + alpha * earlier[c]
            total -= target * math.log(p[c])
    return total / len(logits)


# --- Les pertes -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("temperature", "alpha"), [(4.0, 0.5), (1.0, 0.3), (20.0, 1.0), (2.5, 0.0)])
def test_self_distillation_est_sa_formule(batch, temperature, alpha):
    current, previous, labels = batch
    terms = SelfDistillation(temperature)(current, previous, labels, alpha=alpha)
    soft = naive_kd(current.tolist(), previous.tolist(), temperature)
    hard = naive_cross_entropy(current.tolist(), labels.tolist())
    assert terms.distillation.item() == pytest.approx(soft, rel=1e-12)
    assert terms.hard.item() == pytest.approx(hard, rel=1e-12)
    assert terms.total.item() == pytest.approx(alpha * soft + (1 - alpha) * hard, rel=1e-12)


def test_self_distillation_rend_des_loss_terms_avec_alpha_un_demi(batch):
    terms = SelfDistillation()(*batch)
    assert isinstance(terms, LossTerms)
    assert terms.item() == pytest.approx(((terms.distillation + terms.hard) / 2).item())


def test_self_distillation_de_logits_identiques_est_nulle(batch):
    current, _, labels = batch
    assert abs(SelfDistillation()(current, current, labels).distillation.item()) < 1e-14


def test_self_distillation_n_envoie_aucun_gradient_aux_logits_anterieurs(batch):
    current, previous, labels = (part.requires_grad_() if part.is_floating_point() else part for part in batch)
    SelfDistillation()(current, previous, labels).backward()
    assert previous.grad is None and current.grad is not None


def test_self_distillation_a_le_gradient_de_ses_differences_finies(batch):
    current, previous, labels = batch
    loss = SelfDistillation(2.0)
    assert torch.autograd.gradcheck(lambda z: loss(z, previous, labels, 0.4).total, current.requires_grad_())


@pytest.mark.parametrize("alpha", [0.0, 0.3, 0.8, 1.0])
def test_ps_kd_est_sa_formule(batch, alpha):
    logits, previous, labels = batch
    probabilities = previous.softmax(-1)
    expected = naive_ps_kd(logits.tolist(), probabilities.tolist(), labels.tolist(), alpha)
    assert ps_kd_loss(logits, probabilities, labels, alpha).item() == pytest.approx(expected, rel=1e-12)


def test_ps_kd_a_le_gradient_de_self_distillation_a_temperature_1(batch):
    logits, previous, labels = batch
    logits.requires_grad_()
    (ps,) = torch.autograd.grad(ps_kd_loss(logits, previous.softmax(-1), labels, 0.6), logits)
    (sd,) = torch.autograd.grad(SelfDistillation(1.0)(logits, previous, labels, 0.6).total, logits)
    torch.testing.assert_close(ps, sd)


def test_ps_kd_passe_sous_vmap_avec_un_alpha_par_modele(batch):
    logits, previous, labels = batch
    logits, alphas = torch.stack([logits, 2 * logits]), torch.tensor([0.2, 0.9], dtype=torch.float64)
    together = torch.vmap(ps_kd_loss, in_dims=(0, None, None, 0))(logits, previous.softmax(-1), labels, alphas)
    apart = [ps_kd_loss(z, previous.softmax(-1), labels, a.item()) for z, a in zip(logits, alphas, strict=True)]
    torch.testing.assert_close(together, torch.stack(apart))


@pytest.mark.parametrize("smoothing", [0.0, 0.1, 0.9, 1.0])
def test_lisser_les_etiquettes_est_apprendre_du_teacher_degenere(batch, smoothing):
    logits, _, labels = batch
    q = label_smoothing_probabilities(labels, 5, smoothing)
    soft = -(q * logits.log_softmax(-1)).sum(-1).mean()
    torch.testing.assert_close(soft, F.cross_entropy(logits, labels, label_smoothing=smoothing), rtol=1e-6, atol=0)


def test_lisser_les_etiquettes_est_ps_kd_avec_un_passe_uniforme(batch):
    logits, _, labels = batch
    loss = ps_kd_loss(logits, torch.full_like(logits, 1 / 5), labels, 0.1)
    torch.testing.assert_close(loss, F.cross_entropy(logits, labels, label_smoothing=0.1))


def test_le_teacher_degenere_ne_sait_que_l_etiquette():
    q = label_smoothing_probabilities(torch.tensor([2, 0]), 4, 0.2)
    torch.testing.assert_close(q, torch.tensor([[0.05, 0.05, 0.85, 0.05], [0.85, 0.05, 0.05, 0.05]]))


def test_le_teacher_degenere_est_le_meme_compile_et_sous_vmap():
    labels = torch.randint(0, 5, (3, 7))
    expected = torch.stack([label_smoothing_probabilities(row, 5) for row in labels])
    compiled = torch.compile(label_smoothing_probabilities, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(torch.vmap(lambda row: label_smoothing_probabilities(row, 5))(labels), expected)
    torch.testing.assert_close(compiled(labels[0], 5), expected[0])


# --- Les extrêmes -----------------------------------------------------------------------------------------------------


def both_losses(logits, previous, labels):
    yield SelfDistillation()(logits, previous, labels).total
    yield ps_kd_loss(logits, previous.detach().float().softmax(-1).to(logits.dtype), labels, 0.8)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, *HALVES])
@pytest.mark.parametrize(("size", "scale"), [(7, 1e4), (1, 1.0), (1, 1e4), (7, 0.0)])
def test_le_fini_reste_fini_en_valeur_et_en_gradient(dtype, size, scale):
    sign = torch.randint(0, 2, (size, 5)) * 2.0 - 1
    previous, labels = (-scale * sign).to(dtype), torch.randint(0, 5, (size,))
    for index in range(2):
        logits = (scale * sign).to(dtype).requires_grad_()
        loss = list(both_losses(logits, previous, labels))[index]
        loss.backward()
        assert torch.isfinite(loss) and torch.isfinite(logits.grad).all()


@pytest.mark.parametrize("dtype", HALVES)
def test_en_demi_precision_la_perte_est_calculee_en_float32(batch, dtype):
    current, previous = (part.to(dtype) for part in batch[:2])
    for loss, exact in zip(
        both_losses(current, previous, batch[2]),
        both_losses(current.double(), previous.double(), batch[2]),
        strict=True,
    ):
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(exact.item(), rel=3e-3)  # l'arrondi des probabilités antérieures en bf16


def test_une_entree_non_contigue_ne_change_rien(batch):
    current, previous, labels = batch
    strided = current.T.contiguous().T
    assert not strided.is_contiguous()
    for loss, expected in zip(
        both_losses(strided, previous, labels), both_losses(current, previous, labels), strict=True
    ):
        torch.testing.assert_close(loss, expected)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="demande un GPU")
def test_sur_gpu_les_pertes_sont_les_memes(batch):
    on_gpu = [part.cuda() for part in batch]
    for loss, expected in zip(both_losses(*on_gpu), both_losses(*batch), strict=True):
        torch.testing.assert_close(loss.cpu(), expected)


# --- Les refus --------------------------------------------------------------------------------------------------------

LOGITS, LABELS = torch.zeros(3, 5), torch.tensor([0, 1, 2])
NAN = torch.full((3, 5), float("nan"))
REFUSALS = {
    "temperature : 0 reçu, un nombre fini strictement positif attendu": lambda: SelfDistillation(0),
    "temperature : '4' (str) reçu": lambda: SelfDistillation("4"),
    "alpha : 1.5 reçu, un nombre de [0, 1] attendu": lambda: SelfDistillation()(LOGITS, LOGITS, LABELS, 1.5),
    "previous_logits : forme (2, 5) reçue, (3, 5) attendue, celle de current_logits": lambda: SelfDistillation()(
        LOGITS, LOGITS[:2], LABELS
    ),
    "previous_logits : NoneType reçu, un tenseur": lambda: SelfDistillation()(LOGITS, None, LABELS),
    "current_logits : forme (5,) reçue, (B, C) attendue": lambda: SelfDistillation()(LOGITS[0], LOGITS, LABELS),
    "previous_logits : sur meta, cpu attendu, l'appareil de current_logits": lambda: SelfDistillation()(
        LOGITS, LOGITS.to("meta"), LABELS
    ),
    "previous_logits : 15 valeur(s) NaN": lambda: SelfDistillation()(LOGITS, NAN, LABELS),
    "current_logits : 15 valeur(s) NaN": lambda: SelfDistillation()(NAN, LOGITS, LABELS),
    "labels : valeur 5 reçue, de 0 à 4 attendu": lambda: SelfDistillation()(LOGITS, LOGITS, LABELS + 3),
    "labels : dtype torch.int32 reçu": lambda: SelfDistillation()(LOGITS, LOGITS, LABELS.int()),
    "logits : dtype torch.int64 reçu, un dtype flottant attendu": lambda: ps_kd_loss(LABELS[None], NAN, LABELS, 0.5),
    "previous_probabilities : forme (3, 4) reçue, (3, 5) attendue, celle de logits": lambda: ps_kd_loss(
        LOGITS, LOGITS[:, :4], LABELS, 0.5
    ),
    "labels : forme (2,) reçue, (3,) attendue, une étiquette par ligne de logits": lambda: ps_kd_loss(
        LOGITS, LOGITS, LABELS[:2], 0.5
    ),
    "alpha : -0.1 reçu, un nombre de [0, 1] attendu": lambda: ps_kd_loss(LOGITS, LOGITS, LABELS, -0.1),
    "smoothing : 1.1 reçu, un nombre de [0, 1] attendu": lambda: label_smoothing_probabilities(LABELS, 5, 1.1),
    "classes : 0 reçu, un entier ≥ 1 attendu": lambda: label_smoothing_probabilities(LABELS, 0),
    "labels : list reçu, un tenseur int64": lambda: label_smoothing_probabilities([0, 1], 5),
}


@pytest.mark.parametrize("message", REFUSALS)
def test_les_pertes_refusent_et_disent_pourquoi(message):
    with pytest.raises((TypeError, ValueError), match=re.escape(message)):
        REFUSALS[message]()
