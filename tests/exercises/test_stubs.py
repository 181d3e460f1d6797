"""« À compléter » se dit d'une ébauche, jamais d'un return oublié : ni dans un chapitre, ni à un exercice noté."""

import functools

import pytest
import torch
from torch import nn

from kdcourse import check
from kdcourse.exercises import graded


def documented(*_, **__):
    """Ce qu'il faudra rendre."""


def passing(*_, **__):
    pass


def commented(*_, **__):
    """Ce qu'il faudra rendre."""
    # d'abord ceci, puis cela
    ...


def returning_early(logits, *_, **__):
    return
    return logits


def returning_none(*_, **__):
    return None


def constant(*_, **__):
    1  # noqa: B018


def printing(*_, **__):
    print("à", "compléter", end=" ")


def behind_false(logits, *_, **__):
    if False:
        return logits


def not_implemented(*_, **__):
    raise NotImplementedError("à compléter")


def closing_over(unused):
    def stub(*_, **__):
        if False:
            return unused

    return stub


class Called:
    def __call__(self, *_, **__): ...

    def method(self, *_, **__): ...


class Forward(nn.Module):
    def forward(self, *_, **__):
        pass


STUBS = {
    "docstring": documented,
    "pass": passing,
    "commentaire": commented,
    "return nu": returning_early,
    "return None": returning_none,
    "return ...": lambda *_, **__: ...,
    "constante": constant,
    "print": printing,
    "if False": behind_false,
    "NotImplementedError": not_implemented,
    "fermeture": closing_over(1),
    "objet": Called(),
    "méthode": Called().method,
    "module": Forward(),
    "module sans forward": nn.Module(),
    "partial": functools.partial(functools.partial(passing), temperature=1),
    "décorée": torch.no_grad()(passing),
    "points de suspension": ...,
    "None": None,
}


@pytest.mark.parametrize("stub", STUBS.values(), ids=STUBS)
@pytest.mark.parametrize("name", ["10.1 a", "10.2 c", *graded.ANSWERS])
def test_une_ebauche_affiche_a_completer(name, stub, capsys):
    assert check(name, *[stub] * len(graded.ANSWERS.get(name, "1"))) is False
    assert capsys.readouterr().out.splitlines()[-1].endswith(f"Exercice {name} : à compléter.")


def discarded(*inputs, **__):
    len(inputs)


def stored(*inputs, **__):
    result = inputs  # noqa: F841


def sometimes(*inputs, **__):
    if not inputs:
        return 1


def bare(*inputs, **__):
    _ = inputs
    return


def nested(*inputs, **__):
    def answer():
        return inputs


class Discarding:
    def __call__(self, *inputs, **__):
        len(inputs)


FORGOTTEN = {
    "calcul perdu": discarded,
    "calcul rangé": stored,
    "une branche": sometimes,
    "return nu": bare,
    "fonction dedans": nested,
    "objet": Discarding(),
    "partial": functools.partial(discarded, temperature=1),
    "lambda": lambda *inputs, **__: print(inputs),
    "décorée": torch.no_grad()(discarded),
}


@pytest.mark.parametrize("answer", FORGOTTEN.values(), ids=FORGOTTEN)
@pytest.mark.parametrize("name", ["10.1 a", "10.2 c", *graded.ANSWERS])
def test_un_return_oublie_se_dit(name, answer, capsys):
    assert check(name, *[answer] * len(graded.ANSWERS.get(name, "1"))) is False
    assert "ne rend rien : il manque return" in capsys.readouterr().out


def generator(*_, **__):
    yield 1


async def coroutine(*_, **__): ...


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("answer", [generator, coroutine])
@pytest.mark.parametrize("name", ["10.1 a", *graded.ANSWERS])
def test_yield_et_async_se_disent(name, answer, capsys):
    assert check(name, *[answer] * len(graded.ANSWERS.get(name, "1"))) is False
    assert "return, non yield" in capsys.readouterr().out
