"""La solution que publie un chapitre est juste, telle que le lecteur la copie."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdcourse import check
from kdcourse.exercises.checking import EXERCISES

CHAPTERS = ("10.1", "10.2", "10.3", "10.4", "10.5", "10.6", "Bilan")
SOURCES = Path(__file__).parents[2] / "sources"
_STATEMENT = re.compile(r"\*\*Exercice (\S+ [a-z])\b")
_SOLUTION = re.compile(r"<summary>Une solution(?: de (\S+ [a-z]))?</summary>.*?```python\n(.*?)```", re.S)


def published(chapter):
    """Exercice → sa solution, celles d'avant comprises : le notebook les garde."""
    (path,) = SOURCES.glob(f"*{chapter.replace('.', '_0')}*.py")
    text = re.sub(r"^# ?", "", path.read_text(encoding="utf-8"), flags=re.M)
    found, code = {}, ""
    for solution in _SOLUTION.finditer(text):
        code += solution[2]
        found[solution[1] or _STATEMENT.findall(text[: solution.start()])[-1]] = code
    asked = re.findall(r'check\("(\S+ [a-z])", (\w+)\)', text)
    return {name: (found.get(name, ""), function) for name, function in asked}


SOLUTIONS = {name: solution for chapter in CHAPTERS for name, solution in published(chapter).items()}


@pytest.mark.parametrize("name", [name for name in EXERCISES if name.startswith(CHAPTERS)])
def test_la_solution_publiee_est_juste(name, capsys):
    code, function = SOLUTIONS[name]
    notebook = {"torch": torch, "F": F, "np": np}
    exec(code, notebook)
    assert check(name, notebook[function]), capsys.readouterr().out
