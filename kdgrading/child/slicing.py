"""Retrouver une réponse par son nom dans un notebook quelconque, avec ce dont elle a besoin et rien d'autre.

Les cellules ont pu être copiées, déplacées, changées de type ou à moitié effacées. On lit donc toutes les instructions
du notebook, et l'on garde la dernière définition de la fonction qui ne soit pas l'ébauche, puis, de proche en proche,
les imports, fonctions et variables globales qu'elle nomme. L'entraînement long et les figures restent dehors.

Le texte est hostile : ce fichier s'exécute dans le bac à sable, avant tout code de l'élève.
"""

import ast
import re
import symtable
from dataclasses import dataclass

from IPython.core.inputtransformer2 import TransformerManager

_TRANSPARENT_MAGIC = re.compile(r"\s*%%(time|timeit|capture|prun)\b[^\n]*\n")
_SETTING = re.compile(r"^(set_|use_|manual_seed|seed)|seed")


@dataclass
class _Statement:
    node: ast.stmt
    code: bool  # vient d'une cellule de code
    binds: frozenset[str]
    uses: frozenset[str]
    touches: frozenset[tuple[str, str]]  # (nom, attribut) qu'elle modifie sans le définir : x[0] = 1, x.append(2)


def slice_answer(cells: list[list[str]], names: list[str]) -> dict:
    """Le code de chaque nom, et celui de leur réunion.

    Args:
        cells: ``[type, source]`` de chaque cellule, dans l'ordre.
        names: fonctions cherchées.

    Returns:
        ``sources`` : nom → code, sans commentaire ni docstring ; ``code`` : leur réunion ; ``stubs`` : noms dont il ne
        reste que l'ébauche ; ``missing`` : noms introuvables ; ``problems`` : cellules illisibles.
    """
    statements, problems = _read(cells, names)
    sources, kept, stubs, missing = {}, set(), [], []
    for name in names:
        chosen = _definition(statements, name)
        if chosen is None:
            missing.append(name)
            continue
        if _is_stub(chosen.node):
            stubs.append(name)
        needed = _closure(statements, chosen, name, names)
        kept |= {id(statement) for statement in needed}
        sources[name] = _source(needed)
    union = _source([statement for statement in statements if id(statement) in kept])
    return {"sources": sources, "code": union, "stubs": stubs, "missing": missing, "problems": problems}


def _read(cells, names) -> tuple[list[_Statement], list[dict]]:
    statements, problems = [], []
    for number, (kind, text) in enumerate(cells, start=1):
        is_code = kind == "code"
        mentions = [name for name in names if re.search(rf"\bdef\s+{re.escape(name)}\b", text)]
        if not is_code:
            if not mentions:
                continue
            text = re.sub(r"^\s*(```|~~~).*$", "", text, flags=re.M)
        try:
            tree = ast.parse(_without_magics(text))
            found = [_statement(node, is_code) for node in tree.body]
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            problems.append({"cell": number, "names": mentions, "reason": _syntax(error)})
            continue
        statements += found
    return statements, problems


def _without_magics(text: str) -> str:
    while match := _TRANSPARENT_MAGIC.match(text):
        text = text[match.end() :]
    if text.lstrip().startswith("%%"):  # %%bash, %%html : pas du Python
        return ""
    return TransformerManager().transform_cell(text)


def _syntax(error: Exception) -> str:
    if isinstance(error, SyntaxError):
        return f"ligne {error.lineno} : {error.msg}"
    return type(error).__name__


def _statement(node: ast.stmt, code: bool) -> _Statement:
    table = symtable.symtable(ast.unparse(node), "<cellule>", "exec")
    binds, uses = set(), set()
    for symbol in table.get_symbols():
        if symbol.is_assigned() or symbol.is_imported():
            binds.add(symbol.get_name())
        if symbol.is_referenced():
            uses.add(symbol.get_name())
    for inner in _descendants(table):
        uses |= {symbol.get_name() for symbol in inner.get_symbols() if symbol.is_global()}
        binds |= {s.get_name() for s in inner.get_symbols() if s.is_declared_global() and s.is_assigned()}
    return _Statement(node, code, frozenset(binds), frozenset(uses), frozenset(_touched(node)))


def _descendants(table):
    for child in table.get_children():
        yield child
        yield from _descendants(child)


def _touched(node: ast.stmt) -> set[tuple[str, str]]:
    """Ce qu'une instruction modifie, boucles et conditions comprises ; un décorateur peut inscrire sa fonction."""
    pending, targets = [node], []
    while pending:
        current = pending.pop()
        if isinstance(current, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            targets += [getattr(decorator, "func", decorator) for decorator in current.decorator_list]
            continue
        if isinstance(current, ast.Assign):
            targets += current.targets
        elif isinstance(current, (ast.AugAssign, ast.AnnAssign)):
            targets.append(current.target)
        elif isinstance(current, ast.Expr) and isinstance(current.value, ast.Call):
            targets.append(current.value.func)
        pending += ast.iter_child_nodes(current)
    touched = set()
    while targets:
        target = targets.pop()
        if isinstance(target, (ast.Tuple, ast.List)):
            targets += target.elts
        elif (base := _base(target)) and (not isinstance(target, ast.Name) or _is_decorator(node, target)):
            touched.add((base, "@" if _is_decorator(node, target) else getattr(target, "attr", "")))
    return touched


def _is_decorator(node: ast.stmt, target: ast.expr) -> bool:
    return any(getattr(decorator, "func", decorator) is target for decorator in getattr(node, "decorator_list", []))


def _base(node: ast.expr) -> str | None:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return node.id if isinstance(node, ast.Name) else None


def _definition(statements: list[_Statement], name: str) -> _Statement | None:
    """La dernière définition qui ne soit pas l'ébauche, d'abord parmi les cellules de code."""
    found = [statement for statement in statements if name in statement.binds]
    for wanted in (lambda s: s.code and not _is_stub(s.node), lambda s: not _is_stub(s.node), lambda s: True):
        chosen = [statement for statement in found if wanted(statement)]
        if chosen:
            return chosen[-1]
    return None


def _is_stub(node: ast.stmt) -> bool:
    """Une fonction qui ne fait qu'imprimer, passer ou lever NotImplementedError, docstring mise à part."""
    if not isinstance(node, ast.FunctionDef):
        return False
    return all(_does_nothing(statement) for statement in node.body)


def _does_nothing(node: ast.stmt) -> bool:
    if isinstance(node, ast.Pass):
        return True
    if isinstance(node, ast.Return):
        return node.value is None or (isinstance(node.value, ast.Constant) and node.value.value in (None, ...))
    if isinstance(node, ast.Raise):
        return "NotImplementedError" in ast.unparse(node)
    if isinstance(node, ast.Expr):
        value = node.value
        is_print = isinstance(value, ast.Call) and isinstance(value.func, ast.Name) and value.func.id == "print"
        return isinstance(value, ast.Constant) or is_print
    return False


def _closure(statements: list[_Statement], chosen: _Statement, name: str, graded: list[str]) -> list[_Statement]:
    order = {id(statement): rank for rank, statement in enumerate(statements)}
    imported = {bound for s in statements if isinstance(s.node, (ast.Import, ast.ImportFrom)) for bound in s.binds}
    reads = {bound: s.uses for s in statements if isinstance(s.node, ast.FunctionDef) for bound in s.binds}
    # Une fonction qui s'appelle elle-même n'a pas besoin de ses anciennes versions ; f = wraps(f), si.
    pending = set(chosen.uses) - ({name} if isinstance(chosen.node, ast.FunctionDef) else set())
    kept, names = {id(chosen)}, set(pending)
    while pending:
        wanted, pending = pending, set()
        for statement in statements:
            if id(statement) in kept or _is_try(statement, graded):
                continue
            if name in statement.binds and (order[id(statement)] > order[id(chosen)] or _is_stub(statement.node)):
                continue
            if statement.binds & wanted or any(_matters(touch, wanted, imported, reads) for touch in statement.touches):
                kept.add(id(statement))
                pending |= statement.uses - names
        names |= pending
    return [s for s in statements if id(s) in kept or _always_runs(s.node)]


def _matters(touch: tuple[str, str], wanted: set[str], imported: set[str], reads: dict) -> bool:
    """Modifier une variable compte ; appeler un module, seulement pour le régler (graine, type par défaut)."""
    base, attribute = touch
    if attribute == "@":  # un décorateur du notebook inscrit sa fonction dans ce qu'il lit
        return bool(({base} | reads.get(base, set())) & (wanted - imported))
    return base in wanted and (base not in imported or _SETTING.search(attribute) is not None)


def _is_try(statement: _Statement, graded: list[str]) -> bool:
    """Un essai de la réponse, qui ne définit rien : il peut échouer, ou durer."""
    return isinstance(statement.node, ast.Expr) and bool(statement.uses & set(graded))


def _always_runs(node: ast.stmt) -> bool:
    """``from x import *`` peut définir n'importe quoi, ``from __future__`` change la lecture."""
    return isinstance(node, ast.ImportFrom) and (node.module == "__future__" or any(a.name == "*" for a in node.names))


def _source(statements: list[_Statement]) -> str:
    # ast.unparse a déjà ôté les commentaires ; une docstring n'est pas du code non plus, et ne pèse rien.
    nodes = [_without_docstrings(ast.parse(ast.unparse(statement.node)).body[0]) for statement in statements]
    nodes.sort(key=lambda node: not (isinstance(node, ast.ImportFrom) and node.module == "__future__"))
    return "\n".join(map(ast.unparse, nodes)) + "\n"


def _without_docstrings(node: ast.stmt) -> ast.stmt:
    for inner in ast.walk(node):
        if isinstance(inner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            body = [s for s in inner.body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
            inner.body = body or [ast.Pass()]
    return node
