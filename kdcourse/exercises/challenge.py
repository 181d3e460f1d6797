"""Le défi de compression : son teacher et son barème, que l'énoncé, ``check`` et la correction partagent."""

import ast
import copy
import math
import zlib
from functools import cache

import torch
from torch import nn

from kdcourse.data.datasets import load_dataset
from kdcourse.data.splits import Split, shift_and_noise
from kdcourse.models import digits_teacher
from kdcourse.training.many_students import train_one

LABELLED = 100
"""Images étiquetées du défi, les premières du train ; les autres n'ont que le teacher."""
# Exactitude en %, sur des images décalées et bruitées : rien jusqu'à la première, tout à partir de la seconde. Sur la
# validation, dix tirages : le student de 10.1 distillé fait 83, le réseau de la solution 89 sur ses étiquettes seules,
# la solution 95, le teacher 98.
ACCURACY = (80.0, 91.0)
# Octets, artefact et code ensemble : tout jusqu'au premier, rien à partir du second, linéaire en log2 entre les deux.
# La solution pèse 2,5 ko, dont 1 de code ; le même student en int8, 4,1 ; en float32, 14.
SIZE = (3000, 12000)
# Les données n'ont pas leur place dans le code : au-delà de ces octets, ses constantes pèsent dix fois. Sans cela, une
# table des images publiques à un bit par pixel ferait 97 % d'exactitude pour moins de 4 ko.
FREE_LITERALS, LITERAL_FACTOR, LONGEST_NAME = 300, 10, 40


def compression_teacher() -> nn.Module:
    """Le teacher du défi : un ``digits_teacher`` entraîné sur vingt versions décalées et bruitées du train.

    Le même à chaque appel, à l'arrondi de la machine près ; une copie, que l'on peut modifier. Le premier appel
    l'entraîne (une dizaine de secondes), les suivants non.
    """
    return copy.deepcopy(_trained_teacher())


@cache
def _trained_teacher() -> nn.Module:
    train, generator = load_dataset("digits").train, torch.Generator().manual_seed(0)
    images = torch.cat([shift_and_noise(train.images, generator=generator) for _ in range(20)])
    return train_one(digits_teacher, Split(images, train.labels.repeat(20)), epochs=8)


def accuracy_share(accuracy: float) -> float:
    """Part des points de justesse, de 0 à 1, pour une justesse en %."""
    low, high = ACCURACY
    return min(max((accuracy - low) / (high - low), 0.0), 1.0)


def size_share(size: int, accuracy: float) -> float:
    """Part des points de taille, de 0 à 1, pour une taille en octets.

    Multipliée par ``accuracy_share`` : un artefact minuscule qui ne reconnaît rien n'a rien compressé.
    """
    small, large = SIZE
    share = math.log2(large / max(size, 1)) / math.log2(large / small)
    return min(max(share, 0.0), 1.0) * accuracy_share(accuracy)


def answer_size(artifact: bytes, code: str) -> int:
    """Octets d'une réponse : l'artefact, le code une fois compressé, et ce que pèsent en plus ses données.

    Le code compte compressé : des noms longs et clairs ne coûtent presque rien.

    Args:
        artifact: ce que ``compress`` rend.
        code: le code de ``compress``, de ``predict`` et de ce qu'ils emploient, sans commentaire ni docstring.
    """
    nodes = list(ast.walk(ast.parse(code)))
    written = sum(len(repr(node.value)) for node in nodes if isinstance(node, ast.Constant))
    # Un nom peut aussi cacher des données : s'il n'est pas ASCII, ou s'il est plus long que tout nom honnête.
    names = {value for node in nodes for value in vars(node).values() if isinstance(value, str)} - {
        node.value for node in nodes if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    written += sum(len(name.encode()) for name in names if not name.isascii() or len(name) > LONGEST_NAME)
    extra = max(0, written - FREE_LITERALS)
    return len(artifact) + len(zlib.compress(code.encode(), 9)) + (LITERAL_FACTOR - 1) * extra
