"""Les exercices notés : leurs références, leurs erreurs reconnues, et le retour immédiat de ``check``."""

import json
import math
import statistics

import numpy as np
import pytest
import torch

from kdcourse import check
from kdcourse.exercises import graded
from kdgrading import reference_multi_teacher, reference_size_study, stored_numbers

NUMBERS = json.loads(stored_numbers.TARGET.read_text(encoding="utf-8"))
DEFAULTS = {"weights": None, "temperature": 4.0, "alpha": 0.7, "combine": "probabilities"}


# --- Les nombres rangés ----------------------------------------------------------------------------------------------


def same_numbers(mine, other):
    if isinstance(mine, dict):
        return mine.keys() == other.keys() and all(same_numbers(mine[key], other[key]) for key in mine)
    if isinstance(mine, list):
        return len(mine) == len(other) and all(map(same_numbers, mine, other))
    if isinstance(mine, float) and isinstance(other, float):
        return math.isclose(mine, other, rel_tol=1e-7, abs_tol=1e-9)
    return mine == other


def test_le_fichier_de_nombres_suit_les_references_et_les_erreurs():
    assert same_numbers(NUMBERS, stored_numbers.numbers())


def test_un_nombre_change_se_voit():
    drifted = json.loads(json.dumps(NUMBERS))
    drifted["multi_teacher"]["cases"][0]["value"] += 1e-4
    assert not same_numbers(drifted, NUMBERS)


def test_le_fichier_ne_contient_que_des_nombres_et_du_texte():
    text = stored_numbers.TARGET.read_text(encoding="utf-8")
    assert "softmax(" not in text and "lambda" not in text and "def " not in text


# --- multi_teacher : la référence ------------------------------------------------------------------------------------


def softened(logits, temperature):
    highest = max(logits)
    powers = [math.exp((z - highest) / temperature) for z in logits]
    return [power / sum(powers) for power in powers]


def loss_by_hand(student, teachers, labels, *, weights, temperature, alpha, combine):
    """La perte de l'énoncé, en boucles simples, sur des listes."""
    weights = [1.0] * len(teachers) if weights is None else weights
    shares = [weight / sum(weights) for weight in weights]
    kl = hard = 0.0
    for b, label in enumerate(labels):
        if combine == "probabilities":
            each = [softened(teacher[b], temperature) for teacher in teachers]
            committee = [sum(w * p[c] for w, p in zip(shares, each, strict=True)) for c in range(len(student[b]))]
        else:
            mean = [sum(w * t[b][c] for w, t in zip(shares, teachers, strict=True)) for c in range(len(student[b]))]
            committee = softened(mean, temperature)
        q = softened(student[b], temperature)
        kl += sum(p * math.log(p / r) for p, r in zip(committee, q, strict=True) if p > 0)
        hard -= math.log(softened(student[b], 1.0)[label])
    return alpha * temperature**2 * kl / len(labels) + (1 - alpha) * hard / len(labels)


def drawn(seed, count=3, batch=5, classes=4, scale=3.0):
    generator = torch.Generator().manual_seed(seed)
    logits = scale * torch.randn(count + 1, batch, classes, generator=generator, dtype=torch.float64)
    return logits[0], list(logits[1:]), torch.randint(classes, (batch,), generator=generator)


OPTIONS = [
    DEFAULTS,
    DEFAULTS | {"combine": "logits"},
    {"weights": [3.0, 0.0, 1.5], "temperature": 2.5, "alpha": 0.3, "combine": "probabilities"},
    {"weights": [3.0, 0.0, 1.5], "temperature": 2.5, "alpha": 0.3, "combine": "logits"},
    {"weights": [0.2, 0.1, 0.4], "temperature": 1.0, "alpha": 1.0, "combine": "probabilities"},
    {"weights": None, "temperature": 8.0, "alpha": 0.0, "combine": "logits"},
]


@pytest.mark.parametrize("options", OPTIONS)
def test_la_reference_multi_teacher_egale_les_boucles_simples(options):
    for seed in range(3):
        student, teachers, labels = drawn(seed)
        value = reference_multi_teacher.reference(student, teachers, labels, **options)
        expected = loss_by_hand(student.tolist(), [t.tolist() for t in teachers], labels.tolist(), **options)
        assert value.dtype == torch.float64 and value.item() == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("options", OPTIONS)
def test_le_gradient_de_la_reference_multi_teacher_est_celui_des_differences_finies(options):
    student, teachers, labels = drawn(5)
    student.requires_grad_()
    assert torch.autograd.gradcheck(
        lambda s: reference_multi_teacher.reference(s, teachers, labels, **options), (student,), atol=1e-6
    )


def test_aucun_gradient_ne_traverse_les_teachers_de_la_reference():
    student, teachers, labels = drawn(6)
    leaves = [teacher.requires_grad_() for teacher in teachers]
    value = reference_multi_teacher.reference(student.requires_grad_(), leaves, labels, **DEFAULTS)
    assert torch.autograd.grad(value, leaves, allow_unused=True) == (None, None, None)


def test_la_moyenne_des_divergences_a_le_meme_gradient_mais_pas_la_meme_valeur():
    hint = next(hint for hint in reference_multi_teacher.MISTAKES if "moyenne des divergences" in hint)
    for combine, same_gradient in (("probabilities", True), ("logits", False)):
        results = []
        for formula in (reference_multi_teacher.reference, reference_multi_teacher.MISTAKES[hint]):
            student, teachers, labels = drawn(7)
            value = formula(student.requires_grad_(), teachers, labels, **(DEFAULTS | {"combine": combine}))
            results.append((value.item(), torch.autograd.grad(value, student)[0]))
        assert abs(results[0][0] - results[1][0]) > 1e-2
        assert torch.allclose(results[0][1], results[1][1]) is same_gradient


def test_les_erreurs_de_multi_teacher_sont_numeriquement_distinctes_entre_elles_et_de_la_bonne_reponse():
    values = {"juste": [case["value"] for case in NUMBERS["multi_teacher"]["cases"]]} | NUMBERS["multi_teacher"][
        "mistakes"
    ]
    names = list(values)
    for i, mine in enumerate(names):
        for other in names[i + 1 :]:
            gaps = [
                math.inf if (a is None) != (b is None) else 0 if a is None else abs(a - b) / max(1, abs(a))
                for a, b in zip(values[mine], values[other], strict=True)
            ]
            assert max(gaps) > 2e-3, (mine, other)


# --- multi_teacher : check -------------------------------------------------------------------------------------------


def answer_of(formula):
    def answer(student_logits, teacher_logits, labels, *, weights=None, temperature=4.0, alpha=0.7,
               combine="probabilities"):  # fmt: skip
        options = {"weights": weights, "temperature": temperature, "alpha": alpha, "combine": combine}
        return formula(student_logits, teacher_logits, labels, **options)

    return answer


right_loss = answer_of(reference_multi_teacher.reference)


def test_la_bonne_perte_est_juste(capsys):
    assert check("multi_teacher", right_loss) is True
    assert capsys.readouterr().out == "Exercice multi_teacher : juste.\n"


def test_une_autre_facon_d_ecrire_la_perte_est_juste():
    def other(s, ts, y, *, weights=None, temperature=4.0, alpha=0.7, combine="probabilities"):
        weights = np.ones(len(ts)) if weights is None else np.array(weights)
        weights = weights / weights.sum()
        with torch.no_grad():
            if combine == "logits":
                p = (sum(w * t for w, t in zip(weights, ts, strict=True)) / temperature).softmax(-1)
            else:
                p = sum(w * (t / temperature).softmax(-1) for w, t in zip(weights, ts, strict=True))
        kl = torch.nn.functional.kl_div((s / temperature).log_softmax(-1), p, reduction="batchmean")
        return alpha * kl * temperature**2 + (1 - alpha) * torch.nn.CrossEntropyLoss()(s, y)

    assert check("multi_teacher", other)


@pytest.mark.parametrize("hint", reference_multi_teacher.MISTAKES)
def test_chaque_erreur_de_multi_teacher_recoit_son_indice(hint, capsys):
    assert check("multi_teacher", answer_of(reference_multi_teacher.MISTAKES[hint])) is False
    assert capsys.readouterr().out == f"Exercice multi_teacher : pas encore. {hint}\n"


def test_le_logarithme_d_un_poids_nul_se_voit(capsys):
    def logged(s, ts, y, *, weights=None, temperature=4.0, alpha=0.7, combine="probabilities"):
        weights = [1.0] * len(ts) if weights is None else weights
        logs = [math.log(w / sum(weights)) for w in weights] if combine == "probabilities" else []
        assert len(logs) in (0, len(ts))
        return right_loss(s, ts, y, weights=weights, temperature=temperature, alpha=alpha, combine=combine)

    assert check("multi_teacher", logged) is False
    assert "s'arrête sur ValueError" in (out := capsys.readouterr().out) and "poids 3, 0, 2" in out


def test_un_nan_sur_les_logits_extremes_n_est_pas_pris_pour_un_epsilon(capsys):
    def answer(s, *inputs, **options):
        return right_loss(s, *inputs, **options) * (float("nan") if s.abs().max() > 100 else 1.0)

    assert check("multi_teacher", answer) is False
    assert "son logarithme vaut -inf" in capsys.readouterr().out


def nothing(*_, **__):
    print("à compléter")


def ellipsis(*_, **__):
    return ...


def not_implemented(*_, **__):
    raise NotImplementedError


def leave(*_, **__):
    raise SystemExit(3)


@pytest.mark.parametrize("stub", [nothing, ellipsis, not_implemented])
@pytest.mark.parametrize("name", graded.ANSWERS)
def test_une_ebauche_d_exercice_note_affiche_a_completer(name, stub, capsys):
    assert check(name, *[stub] * len(graded.ANSWERS[name])) is False
    assert capsys.readouterr().out.splitlines()[-1] == f"Exercice {name} : à compléter."


@pytest.mark.parametrize("name", graded.ANSWERS)
def test_une_reponse_qui_quitte_python_n_arrete_pas_le_notebook(name, capsys):
    assert check(name, *[leave] * len(graded.ANSWERS[name])) is False
    assert "s'arrête sur SystemExit" in capsys.readouterr().out


def test_le_nombre_de_fonctions_est_verifie():
    with pytest.raises(TypeError, match=r"1 réponse\(s\) reçue\(s\), 2 attendue"):
        check("compression_challenge", nothing)
    with pytest.raises(TypeError, match=r"2 réponse\(s\) reçue\(s\), 1 attendue"):
        check("10.1 a", nothing, nothing)


def leaking(s, ts, y, *, weights=None, temperature=4.0, alpha=0.7, combine="probabilities"):
    w = torch.ones(len(ts)) if weights is None else torch.tensor(weights)
    w = (w / w.sum())[:, None, None]
    t = torch.stack(ts)
    if combine == "logits":
        log_p = ((w * t).sum(0) / temperature).log_softmax(-1)
    else:
        log_p = torch.logsumexp((t / temperature).log_softmax(-1) + w.log(), 0)
    kl = (log_p.exp() * (log_p - (s / temperature).log_softmax(-1))).sum(-1).mean()
    return alpha * temperature**2 * kl + (1 - alpha) * torch.nn.functional.cross_entropy(s, y)


@pytest.mark.parametrize(
    "answer, hint",
    [
        (3, "multi_teacher_loss : une fonction est attendue, int reçu"),
        (leaking, "gradient traverse les teachers"),
        (lambda *a, **k: right_loss(*a, **k).detach(), "aucun gradient n'atteint"),
        (lambda *a, **k: right_loss(*a, **k).item(), "un tenseur est attendu, float reçu"),
        (lambda *a, **k: right_loss(*a, **k)[None], r"forme (1,) reçue, () attendue"),
        (lambda *a, **k: right_loss(*a, **k).half(), "dtype torch.float16 reçu"),
        (lambda *a, **k: right_loss(*a, **k) * float("nan"), "NaN ou infini"),
        (lambda *a, **k: right_loss(*a, **k) * 1.37, "fausse sur tous les cas"),
        (lambda *a, **k: right_loss(*a, **k).detach() + 0 * a[0].sum(), "pas le gradient pour le student"),
        (lambda s, ts, y: right_loss(s, ts, y), "TypeError"),
        (lambda s, ts, y, **k: right_loss(s, ts, y, **k) + 0.1 * len(k), "fausse sur « probabilités, poids"),
        (lambda *a, **k: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_chaque_faute_de_contrat_de_multi_teacher_est_dite(answer, hint, capsys):
    assert check("multi_teacher", answer) is False
    assert hint in capsys.readouterr().out


def test_une_erreur_connue_se_reconnait_meme_avec_un_nan_sur_les_logits_extremes(capsys):
    def naive(s, ts, y, *, weights=None, temperature=4.0, alpha=0.7, combine="probabilities"):
        value = right_loss(s, ts, y, weights=weights, temperature=temperature, alpha=1 - alpha, combine=combine)
        return value * (float("nan") if s.abs().max() > 100 else 1.0)

    assert check("multi_teacher", naive) is False
    assert "sont échangés" in capsys.readouterr().out


# --- size_study ------------------------------------------------------------------------------------------------------

# Quantiles de Student à 97,5 %, d'une table.
QUANTILE = {2: 4.302653, 4: 2.776445, 9: 2.262157}


def rows_by_hand(alone, distilled, widths):
    rows = []
    for width, a, d in zip(widths, alone, distilled, strict=True):
        gains = [x - y for x, y in zip(a, d, strict=True)]
        mean = sum(gains) / len(gains)
        spread = math.sqrt(sum((gain - mean) ** 2 for gain in gains) / (len(gains) - 1))
        half = QUANTILE[len(gains) - 1] * spread / math.sqrt(len(gains))
        rows.append([width, sum(a) / len(a), sum(d) / len(d), mean, mean - half, mean + half])
    return rows


@pytest.mark.parametrize("seeds", [3, 5, 10])
def test_la_reference_size_study_egale_les_boucles_simples(seeds):
    rng = np.random.default_rng(seeds)
    alone, distilled = rng.uniform(2, 30, (2, 4, seeds))
    rows = reference_size_study.reference(alone, distilled, [64, 4, 8, 16])
    values = [[row[key] for key in reference_size_study.KEYS] for row in rows]
    np.testing.assert_allclose(values, rows_by_hand(alone.tolist(), distilled.tolist(), [64, 4, 8, 16]), rtol=1e-5)


def test_les_erreurs_de_size_study_sont_numeriquement_distinctes_entre_elles_et_de_la_bonne_reponse():
    tables = {"juste": [case["rows"] for case in NUMBERS["size_study"]["cases"]]} | NUMBERS["size_study"]["mistakes"]
    names = list(tables)
    for i, mine in enumerate(names):
        for other in names[i + 1 :]:
            gap = max(np.abs(np.array(a) - b).max() for a, b in zip(tables[mine], tables[other], strict=True))
            assert gap > 5 * graded._ROUNDING, (mine, other)


def study_of(formula):
    def study(train_one, widths, seeds):
        alone, distilled = ([[train_one(w, flag, s) for s in seeds] for w in widths] for flag in (False, True))
        return formula(alone, distilled, widths)

    return study


right_study = study_of(reference_size_study.reference)


def test_le_bon_tableau_est_juste(capsys):
    assert check("size_study", right_study) is True
    assert capsys.readouterr().out == "Exercice size_study : juste.\n"


def test_un_tableau_arrondi_a_deux_decimales_est_juste():
    def rounded(*inputs):
        return [{key: round(value, 2) for key, value in row.items()} for row in reference_size_study.reference(*inputs)]

    assert check("size_study", study_of(rounded))


def test_une_autre_facon_d_ecrire_l_etude_est_juste():
    from scipy import stats

    def other(train_one, widths, seeds):
        rows = []
        for width in widths:
            pairs = [
                (train_one(width=width, distilled=False, seed=s), train_one(width=width, distilled=True, seed=s))
                for s in seeds
            ]
            gains = np.array([a - d for a, d in pairs])
            low, high = stats.t.interval(0.95, len(gains) - 1, gains.mean(), stats.sem(gains))
            means = [statistics.fmean(column) for column in zip(*pairs, strict=True)]
            values = (width, *means, torch.tensor(gains.mean()), np.float64(low), high)
            rows.append(dict(zip(reference_size_study.KEYS, values, strict=True)))
        return rows

    assert check("size_study", other)


def test_des_cles_de_plus_de_tout_type_ne_genent_pas():
    def richer(*inputs):
        extra = {"gains": torch.zeros(3), "note": "appariée", 0: None, ("a", 1): {"b": [1]}}
        return [extra | row for row in reference_size_study.reference(*inputs)]

    assert check("size_study", study_of(richer))


def test_un_dictionnaire_de_lignes_se_lit_dans_l_ordre_des_largeurs():
    assert check("size_study", lambda t, w, s: {row["width"]: row for row in right_study(t, w, s)})
    assert not check("size_study", lambda t, w, s: {row["width"]: row for row in right_study(t, w, s)[::-1]})


@pytest.mark.parametrize("hint", reference_size_study.MISTAKES)
def test_chaque_erreur_de_size_study_recoit_son_indice(hint, capsys):
    assert check("size_study", study_of(reference_size_study.MISTAKES[hint])) is False
    assert capsys.readouterr().out == f"Exercice size_study : pas encore. {hint}\n"


def changed_rows(change):
    return study_of(lambda *inputs: [change(row) for row in reference_size_study.reference(*inputs)])


def wasteful(train_one, widths, seeds):
    train_one(widths[0], True, seeds[0])
    return right_study(train_one, widths, seeds)


def numbered(train_one, widths, seeds):
    return right_study(train_one, widths, range(len(seeds)))


@pytest.mark.parametrize(
    "answer, hint",
    [
        (wasteful, "des 30 students, 1 entraîné(s) plusieurs fois"),
        (numbered, "train_one, seed : 0 reçu, un de [3, 11, 5, 20, 8] attendu"),
        (lambda t, w, s: right_study(lambda w, d, s: t(w, "oui" if d else "non", s), w, s), "True ou False attendu"),
        (lambda t, w, s: iter(right_study(t, w, s)), "liste de dictionnaires est attendue, list_iterator reçu"),
        (
            lambda t, w, s: {key: [row[key] for row in right_study(t, w, s)] for key in reference_size_study.KEYS},
            "chaque ligne est un dictionnaire, list reçu",
        ),
        (lambda t, w, s: right_study(t, w, s)[:1], "1 lignes reçues, 3 attendues"),
        (lambda t, w, s: [list(row.values()) for row in right_study(t, w, s)], "chaque ligne est un dictionnaire"),
        (changed_rows(lambda row: {k: v for k, v in row.items() if k != "gain"}), "clé 'gain' absente"),
        (changed_rows(lambda row: row | {"gain": "1,0"}), "gain : str reçu, un nombre attendu"),
        (changed_rows(lambda row: row | {"ci_low": float("nan")}), "NaN ou infini"),
        (changed_rows(lambda row: row | {"ci_low": row["ci_low"] - 0.5}), "Colonnes fausses : ci_low."),
        (lambda t, w, s: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_chaque_faute_de_contrat_de_size_study_est_dite(answer, hint, capsys):
    assert check("size_study", answer) is False
    assert hint in capsys.readouterr().out
