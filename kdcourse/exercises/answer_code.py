"""Ce que des fonctions d'un notebook emportent avec elles : leurs fonctions d'aide, leurs imports, leurs constantes."""

import ast
import builtins
import inspect
import textwrap
import types
from collections.abc import Callable

import torch

_PLAIN = (int, float, complex, str, bytes, type(None), types.EllipsisType, torch.dtype, torch.device)


def reachable(*functions: Callable) -> dict[str, object]:
    """Les variables globales que ces fonctions nomment, de proche en proche, par leurs fonctions d'aide."""
    pending, found = [inspect.unwrap(function) for function in functions], {}
    home = pending[0].__globals__
    while pending:
        for name in _names(pending.pop()):
            if name in home and name not in found:
                found[name] = home[name]
                if _is_local(home[name], home):
                    pending.append(inspect.unwrap(home[name]))
    return found


def travels(value: object) -> bool:
    """Vrai pour ce qui existera à la correction (module, fonction, constante), faux pour un tenseur, un modèle."""
    if isinstance(value, tuple | list | set | frozenset):
        return all(map(travels, value))
    if isinstance(value, dict):
        return all(travels(key) and travels(item) for key, item in value.items())
    return isinstance(value, (*_PLAIN, types.ModuleType, type)) or inspect.isroutine(value)


def alone(function: Callable, found: dict[str, object]) -> Callable:
    """La même fonction, dans un espace de noms qui ne contient que ce qui voyage."""
    function = inspect.unwrap(function)
    home, fresh = function.__globals__, {"__builtins__": builtins, "__name__": "__main__"}
    rebuilt = {name: _rebound(value, fresh) if _is_function(value, home) else value for name, value in found.items()}
    fresh.update((name, value) for name, value in rebuilt.items() if travels(value))
    return _rebound(function, fresh)


def code_of(functions: dict[str, Callable], found: dict[str, object]) -> str | None:
    """Le code que ces fonctions emportent, sans commentaire ni docstring ; rien s'il ne se lit pas."""
    home = inspect.unwrap(next(iter(functions.values()))).__globals__
    lines = []
    try:
        for name, value in (found | functions).items():
            if _is_local(value, home):
                lines.append(_bare(textwrap.dedent(inspect.getsource(inspect.unwrap(value)))))
            elif isinstance(value, types.ModuleType):
                lines.append(f"import {value.__name__} as {name}")
            elif isinstance(value, type) or inspect.isroutine(value):
                lines.append(f"from {getattr(value, '__module__', None) or 'torch'} import {name}")
            elif travels(value):
                lines.append(f"{name} = {value!r}")
        return "\n".join(lines) + "\n"
    except (OSError, TypeError, SyntaxError):
        return None


def _names(value: object) -> set[str]:
    """Les noms que lit le code d'une fonction, ou celui des méthodes d'une classe."""
    if isinstance(value, type):
        bases = {base.__name__ for base in value.__mro__[1:]}
        return bases.union(*(_names(inspect.unwrap(m)) for m in vars(value).values() if inspect.isfunction(m)))
    codes, names = [value.__code__], set()
    while codes:
        code = codes.pop()
        names |= set(code.co_names)
        codes += [constant for constant in code.co_consts if isinstance(constant, types.CodeType)]
    return names


def _is_function(value: object, home: dict) -> bool:
    core = inspect.unwrap(value) if callable(value) and not isinstance(value, type) else None
    return inspect.isfunction(core) and core.__globals__ is home


def _is_local(value: object, home: dict) -> bool:
    """Vrai pour une fonction ou une classe écrite dans le notebook lui-même."""
    return _is_function(value, home) or (isinstance(value, type) and value.__module__ == home.get("__name__"))


def _rebound(function: Callable, namespace: dict) -> Callable:
    core = inspect.unwrap(function)
    copy = types.FunctionType(core.__code__, namespace, core.__name__, core.__defaults__, core.__closure__)
    copy.__kwdefaults__ = core.__kwdefaults__
    return copy


def _bare(source: str) -> str:
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree)
