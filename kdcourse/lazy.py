"""La façade d'un paquet : ses noms y sont écrits une fois, et ne se chargent qu'à leur premier emploi (PEP 562)."""

import sys
from collections.abc import Callable
from functools import cache
from importlib import import_module


def face(package: str) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Les ``__getattr__`` et ``__dir__`` d'un paquet, tirés des imports de son bloc ``if TYPE_CHECKING:``.

    Ce bloc ne s'exécute jamais : les éditeurs et les vérificateurs de types y lisent d'où vient chaque nom, et nous
    l'y lisons aussi. Un nom n'est donc écrit qu'une fois, et importer le paquet ne charge rien.

    Args:
        package: le nom du paquet, ``__name__`` dans son ``__init__.py``.
    """

    @cache
    def homes() -> dict[str, str]:
        import ast  # n'a rien à faire avant le premier emploi

        with open(sys.modules[package].__file__, encoding="utf-8") as source:
            (block,) = (node for node in ast.parse(source.read()).body if isinstance(node, ast.If))
        return {alias.name: node.module for node in block.body for alias in node.names}

    def load(name: str) -> object:
        if name == "__all__":
            return list(homes())
        if name not in homes():
            raise AttributeError(f"{package} n'a pas de nom {name!r} ; il a : {', '.join(sorted(homes()))}.")
        try:
            value = getattr(import_module(homes()[name]), name)
        except ModuleNotFoundError as error:
            if error.name.startswith("kdcourse"):
                raise
            raise ModuleNotFoundError(
                f"{name} demande {error.name}, qui n'est pas installé : pip install 'kdcourse[cours]' apporte ce que "
                "les pertes seules ne demandent pas.",
                name=error.name,
            ) from None
        vars(sys.modules[package])[name] = value  # la prochaine fois, sans détour
        return value

    return load, lambda: sorted({*vars(sys.modules[package]), *homes()})
