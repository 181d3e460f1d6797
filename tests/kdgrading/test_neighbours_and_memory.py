"""Les voisins et la mémoire, notés dans le bac à sable : les deux fonctions, chacune pour ses points."""

import math

import pytest
import torch
from support.submissions_multi_teacher import hostile
from support.submissions_neighbours_and_memory import RIGHT, WRONG_MEMORY, WRONG_NEIGHBOURS, memory, neighbours

from kdgrading.answer import Answer
from kdgrading.mark_neighbours_and_memory import NAMES, QUESTIONS, grade

NEIGHBOURS = ("ex4-voisins", "ex4-voisins-gradient", "ex4-voisins-limites")
MEMORY = ("ex4-memoire", "ex4-memoire-visites", "ex4-memoire-limites")


def graded(worker, text, seed=3):
    marks, measures = grade(Answer(worker, [["code", text]], NAMES), seed)
    assert measures == {} and set(marks) == {*NEIGHBOURS, *MEMORY}
    return marks


def shares(marks, criteria):
    return tuple(round(marks[name].share, 3) for name in criteria)


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_une_reponse_juste_a_tous_ses_points(worker, name, seed):
    marks = graded(worker, RIGHT[name], seed)
    assert {mark.share for mark in marks.values()} == {1.0}, [mark.feedback for mark in marks.values()]


@pytest.mark.parametrize("criteria, wrong, name", [
    *((NEIGHBOURS, WRONG_NEIGHBOURS, name) for name in WRONG_NEIGHBOURS),
    *((MEMORY, WRONG_MEMORY, name) for name in WRONG_MEMORY),
])  # fmt: skip
def test_une_faute_est_nommee_et_ne_touche_pas_l_autre_fonction(worker, criteria, wrong, name):
    text, expected, said = wrong[name]
    other, criteria_of_other = (memory(), MEMORY) if criteria is NEIGHBOURS else (neighbours(), NEIGHBOURS)
    marks = graded(worker, text + other)
    assert shares(marks, criteria_of_other) == (1, 1, 1)
    if expected is not None:
        assert shares(marks, criteria) == expected
    assert sum(shares(marks, criteria)) < 3
    assert said in " ".join(marks[name].feedback for name in criteria)


@pytest.mark.parametrize("name", hostile("/cours", "/source"))
@pytest.mark.parametrize("function", NAMES)
def test_une_attaque_ne_rapporte_rien(worker, name, function):
    header, _, rest = hostile("/cours", "/source")[name].partition("def multi_teacher_loss(")
    text = f"{header}def {function}(student_logits, *others, **options):\n{rest.split('):', 1)[1]}"
    marks = graded(worker, text)
    assert {mark.share for mark in marks.values()} == {0.0}
    assert "GAGNÉ" not in " ".join(mark.feedback for mark in marks.values())


def test_une_attaque_ne_gene_pas_la_copie_suivante(worker):
    assert shares(graded(worker, RIGHT["tenseurs"]), (*NEIGHBOURS, *MEMORY)) == (1,) * 6


# --- Les références, contre des boucles simples


def neighbours_by_hand(student, teacher, temperature):
    def logs(f, i):
        norms = [math.sqrt(sum(x * x for x in row)) for row in f]
        found = {
            j: sum(x * y for x, y in zip(f[i], f[j], strict=True)) / (norms[i] * norms[j] * temperature)
            for j in range(len(f))
            if j != i
        }
        high = max(found.values())
        total = high + math.log(sum(math.exp(z - high) for z in found.values()))
        return {j: z - total for j, z in found.items()}

    kl = 0.0
    for i in range(len(student)):
        p, q = logs(teacher, i), logs(student, i)
        kl += sum(math.exp(p[j]) * (p[j] - q[j]) for j in p)
    return kl / len(student)


def memory_by_hand(probabilities, indices, momentum):
    history, targets = {}, []
    for p, batch in zip(probabilities, indices, strict=True):
        for now, image in zip(p, batch, strict=True):
            past = history.setdefault(image, [])
            weights = [momentum ** (len(past) - 1 - k) for k in range(len(past))]
            mean = [sum(w * q[c] for w, q in zip(weights, past, strict=True)) for c in range(len(now))]
            targets.append([value / sum(weights) for value in mean] if past else [1 / len(now)] * len(now))
        for now, image in zip(p, batch, strict=True):
            history[image].append(now)
    return targets


@pytest.mark.parametrize("seed", range(4))
def test_les_references_egalent_les_boucles_simples(seed):
    for case in QUESTIONS[0].draw(seed):
        student, teacher = (value.double() for value in case.inputs)
        if case.tied:
            teacher = teacher + student
        expected = neighbours_by_hand(student.tolist(), teacher.tolist(), case.options["temperature"])
        assert QUESTIONS[0].solve(case, QUESTIONS[0].reference)[0].item() == pytest.approx(expected, rel=1e-9)
    for case in QUESTIONS[1].draw(seed):
        probabilities, indices = case.inputs
        found = QUESTIONS[1].solve(case, QUESTIONS[1].reference)[0]
        expected = memory_by_hand(probabilities.double().tolist(), indices.tolist(), case.options["momentum"])
        torch.testing.assert_close(found.flatten(0, 1), torch.tensor(expected, dtype=torch.float64))


@pytest.mark.parametrize("seed", range(8))
def test_aucune_erreur_ne_se_confond_avec_la_reponse_ni_avec_une_autre(seed):
    for question in QUESTIONS:
        cases = question.draw(seed)
        formulas = {"juste": question.reference} | question.mistakes
        values = {hint: [question.solve(case, formula)[0] for case in cases] for hint, formula in formulas.items()}
        names = list(values)
        for i, mine in enumerate(names):
            for other in names[i + 1 :]:
                same = (
                    a.shape == b.shape and torch.allclose(a, b, rtol=1e-3, atol=1e-4, equal_nan=True)
                    for a, b in zip(values[mine], values[other], strict=True)
                )
                assert not all(same), (mine, other)


def test_une_image_revient_dans_chaque_cas_de_la_memoire():
    """Sinon, rendre l'uniforme partout y serait juste."""
    for seed in range(50):
        for case in QUESTIONS[1].draw(seed):
            assert case.inputs[1].unique().numel() < case.inputs[1].numel()
