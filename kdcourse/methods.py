"""Les méthodes de distillation du cours. Chacune est une valeur : sa perte, ce qu'elle lit, ce qu'elle demande.

Les entraînements, la comparaison, la commande et les figures interrogent cette valeur ; aucun ne regarde un nom.
Ajouter une méthode, c'est ajouter son entrée à ``METHODS``, sa perte et son test.
"""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib.resources import files

from torch import Tensor, nn

from kdcourse.losses.checks import check_alpha, check_integer, check_module_temperature, check_non_negative
from kdcourse.losses.features import attention_loss, hint_loss
from kdcourse.losses.logits import dist_loss, dkd_loss, kd_loss, standardized_kd_loss
from kdcourse.losses.relations import (
    cosine_relation_loss,
    rkd_angle_loss,
    rkd_distance_loss,
    similarity_preserving_loss,
)
from kdcourse.losses.self_distillation import ps_kd_loss
from kdcourse.models import Features

Distillation = Callable[[Features, Features, Tensor], Tensor]
"""``distillation(student, teacher, labels)`` : les features d'un lot, ``(B, …)``, chez l'un et chez l'autre, et ses
étiquettes, qu'elle peut ignorer ; elle rend un scalaire."""


@dataclass(frozen=True)
class Choice:
    """Les réglages d'une méthode ; chacun est vérifié ici, et gardé en nombre de Python.

    Args:
        alpha: poids de la distillation, dans [0, 1].
        scale: facteur ≥ 0 du terme propre à la méthode.
        temperature: T > 0, sans unité.
        stage: étage dont hint et attention comparent les cartes, à partir de 0.

    Raises:
        TypeError, ValueError: réglage hors de son domaine, nommé dans le message.
    """

    alpha: float
    scale: float = 1.0
    temperature: float = 4.0
    stage: int = 1

    def __post_init__(self):
        check_alpha(self.alpha)
        check_non_negative("scale", self.scale)
        check_module_temperature(self.temperature)
        for name in ("alpha", "scale", "temperature"):
            object.__setattr__(self, name, float(getattr(self, name)))
        stage = check_integer("stage", self.stage, 0, 2**31, "le numéro d'un étage, un entier ≥ 0,")
        object.__setattr__(self, "stage", stage)


@dataclass(frozen=True, eq=False)
class Method:
    """Une méthode de distillation.

    Args:
        name: son nom, partout le même.
        loss: ``loss(student, teacher, labels, choice)`` rend le terme de distillation d'un lot, scalaire ; ``choice``
            est un ``Choice``. ``None`` : les étiquettes seules.
        reads: ce qu'elle lit du teacher et du student, parmi ``"logits"``, ``"map"`` (la carte d'un étage) et
            ``"embedding"``.
        needs_teacher: faux si elle se passe de teacher.
        remembers: vrai si son teacher est le modèle lui-même, à l'époque précédente, dont le poids croît d'époque en
            époque jusqu'à alpha (PS-KD) ; ``teacher.logits`` est alors ce qu'il prédisait du même exemple, et d'abord
            l'étiquette (0 pour elle, -10⁴ ailleurs).
        needs_adapter: vrai si le student a besoin d'un adaptateur pour que les canaux se comparent.
        whole_batch: vrai si elle lie les exemples d'un lot : à plusieurs processus, il lui faut le lot entier.
        scale_name: comment on appelle son facteur, ``Choice.scale`` ; ``None`` si elle n'en a pas.
        base: la méthode à laquelle elle ajoute un terme (KD), s'il y en a une.
        tried: ce que ``python -m benchmarks compare`` essaie sur la validation, réglage par réglage.
    """

    name: str
    loss: Callable[[Features, Features, Tensor, Choice], Tensor] | None
    reads: tuple[str, ...] = ("logits",)
    needs_teacher: bool = True
    remembers: bool = False
    needs_adapter: bool = False
    whole_batch: bool = False
    scale_name: str | None = None
    base: "Method | None" = None
    tried: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def __post_init__(self):
        if not isinstance(self.name, str) or not self.name.strip() or set(self.name) & set("/\\\0\n"):
            raise ValueError(f"name : {self.name!r} reçu, un nom attendu, dont on puisse nommer un dossier.")
        if not isinstance(self.reads, tuple | list) or not set(self.reads) <= {"logits", "map", "embedding"}:
            raise ValueError(f"reads : {self.reads!r} reçu, une suite de 'logits', 'map' ou 'embedding' attendue.")
        object.__setattr__(self, "reads", tuple(self.reads))
        if self.loss is not None and not callable(self.loss):
            raise TypeError(f"loss : {type(self.loss).__name__} reçu, une fonction de quatre arguments attendue.")
        if isinstance(self.loss, nn.Module) and any(p.requires_grad for p in self.loss.parameters()):
            raise ValueError(
                "loss : des paramètres à apprendre reçus, aucun attendu ; l'optimiseur ne les verrait pas."
            )
        if (self.loss is not None) != (self.needs_teacher != self.remembers):
            raise ValueError(
                "needs_teacher, remembers : l'un des deux attendu avec une perte, et aucun sans perte ; une perte se "
                "compare à un teacher, ou à la mémoire du student."
            )
        if self.remembers and self.reads_features:
            raise ValueError(f"reads : {self.reads!r} reçu avec remembers, ('logits',) attendu, ce que l'on retient.")

    @property
    def reads_maps(self) -> bool:
        """Vrai si elle compare des cartes."""
        return "map" in self.reads

    @property
    def reads_embeddings(self) -> bool:
        """Vrai si elle compare des embeddings."""
        return "embedding" in self.reads

    @property
    def reads_features(self) -> bool:
        """Vrai si les logits ne lui suffisent pas : les modèles doivent avoir ``forward_features``."""
        return not set(self.reads) <= {"logits"}

    def read(self, features: Features, choice: Choice, function: Callable[[Tensor], Tensor] = lambda x: x) -> Features:
        """Ce que la méthode dit lire, ``function`` appliquée ; ``None`` à la place du reste."""
        maps = [
            function(part) if self.reads_maps and stage == choice.stage else None
            for stage, part in enumerate(features.maps)
        ]
        embedding, logits = (
            function(getattr(features, part)) if part in self.reads else None for part in ("embedding", "logits")
        )
        return Features(maps, embedding, logits)

    def distillation(self, choice: Choice) -> Distillation | None:
        """La perte à ces réglages, telle que ``train_one`` et ``train_many`` la prennent ; rien si elle n'en a pas."""
        if self.loss is None:
            return None
        return lambda student, teacher, labels: self.loss(
            self.read(student, choice), self.read(teacher, choice), labels, choice
        )


def on_maps(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """Une perte entre deux cartes, au facteur près, comme ``Method.loss`` la veut."""
    return lambda s, t, labels, choice: choice.scale * loss(s.maps[choice.stage], t.maps[choice.stage])


def on_embeddings(loss: Callable[[Tensor, Tensor], Tensor]) -> Callable:
    """Une perte entre deux embeddings, au facteur près, comme ``Method.loss`` la veut."""
    return lambda s, t, labels, choice: choice.scale * loss(s.embedding, t.embedding)


def added_to(base: Method, method: Method) -> Method:
    """La méthode qui additionne les deux pertes, sous le même alpha."""

    for name, term in (("base", base), ("method", method)):
        if not term.needs_teacher:
            raise ValueError(f"{name} : {term.name} reçu, une méthode qui a un teacher attendue.")

    def loss(student: Features, teacher: Features, labels: Tensor, choice: Choice) -> Tensor:
        return base.loss(student, teacher, labels, choice) + method.loss(student, teacher, labels, choice)

    return replace(
        method, name=f"{base.name} + {method.name}", loss=loss, base=base, reads=(*base.reads, *method.reads),
        needs_adapter=base.needs_adapter or method.needs_adapter,
        whole_batch=base.whole_batch or method.whole_batch, tried={**base.tried, **method.tried},
    )  # fmt: skip


def _relation(name: str, loss: Callable[[Tensor, Tensor], Tensor], *scales: float) -> Method:
    return Method(
        name, on_embeddings(loss), ("embedding",), whole_batch=True, scale_name="facteur", tried={"scale": scales}
    )


ALONE = Method("seul", None, reads=(), needs_teacher=False)
KD = Method(
    "KD", lambda s, t, y, choice: kd_loss(s.logits, t.logits, choice.temperature), tried={"temperature": (2, 4, 8, 16)}
)
_LOGITS = (
    Method(
        "DKD", lambda s, t, y, choice: dkd_loss(s.logits, t.logits, y, choice.temperature, beta=choice.scale),
        scale_name="beta", tried={"scale": (0.25, 1, 4), "temperature": (2, 4, 8, 16)},
    ),
    Method(
        "DIST", lambda s, t, y, choice: choice.scale * dist_loss(s.logits, t.logits, choice.temperature),
        whole_batch=True, scale_name="facteur", tried={"scale": (0.3, 1, 3), "temperature": (1, 4, 16)},
    ),
    Method(
        "LSKD", lambda s, t, y, choice: choice.scale * standardized_kd_loss(s.logits, t.logits, choice.temperature),
        scale_name="facteur", tried={"scale": (3, 9, 30), "temperature": (1, 2, 4)},
    ),
)  # fmt: skip
# Le terme de chacune est dans l'échelle de son article ; les facteurs essayés encadrent ce qu'un balayage préférait.
_TERMS = (
    Method(
        "hint", on_maps(hint_loss), ("map",), needs_adapter=True, scale_name="facteur", tried={"scale": (0.1, 1, 10)}
    ),
    Method("attention", on_maps(attention_loss), ("map",), scale_name="beta", tried={"scale": (1.6, 16, 160)}),
    _relation("cosine", cosine_relation_loss, 0.3, 3, 30),
    _relation("SP", similarity_preserving_loss, 3, 30, 300, 3000),
    _relation("RKD", lambda s, t: 25 * rkd_distance_loss(s, t) + 50 * rkd_angle_loss(s, t), 0.1, 1, 3, 10),
)
# L'entropie croisée avec la prédiction antérieure ; alpha y joint l'étiquette, comme partout.
_PS_KD = Method(
    "PS-KD", lambda s, t, y, choice: ps_kd_loss(s.logits, t.logits.softmax(dim=-1), y, alpha=1.0),
    needs_teacher=False, remembers=True,
)  # fmt: skip
METHODS = {
    method.name: method
    for method in (ALONE, KD, *_LOGITS, *_TERMS, _PS_KD, *(added_to(KD, term) for term in _TERMS))
}  # fmt: skip
"""Nom → méthode : le student seul, KD, les autres pertes de logits, de features et de relations, PS-KD, les sommes."""


def find_method(method, argument: str = "method") -> Method:
    """Une ``Method``, ou celle du cours qui porte ce nom.

    Raises:
        ValueError: aucune méthode de ce nom ; le message donne celles qui existent.
    """
    if isinstance(method, Method):
        return method
    if not isinstance(method, str) or method not in METHODS:
        raise ValueError(f"{argument} : {method!r} reçu, une de {', '.join(METHODS)} attendue, ou une Method.")
    return METHODS[method]


def load_choices(epochs: int | None = None) -> dict[str, Choice]:
    """Les réglages que ``python -m benchmarks compare`` a choisis sur la validation, méthode par méthode.

    Args:
        epochs: le budget pour lequel ils ont été choisis, un des deux de la mesure ; par défaut, le plus court.

    Raises:
        ValueError: un budget qui n'a pas été réglé ; le message donne ceux qui l'ont été.
    """
    text = files("kdcourse").joinpath("measures/method_choices.json").read_text(encoding="utf-8")
    budgets = json.loads(text)["choices"]
    epochs = next(iter(budgets)) if epochs is None else str(epochs)
    if epochs not in budgets:
        raise ValueError(f"epochs : {epochs} reçu, un de {', '.join(budgets)} attendu, les budgets réglés.")
    return {name: Choice(**choice) for name, choice in budgets[epochs].items()}


def settled_choice(choice, method: Method) -> Choice:
    """Les réglages donnés ; sinon, ceux que le cours a choisis pour cette méthode.

    Raises:
        TypeError: autre chose qu'un ``Choice`` ; rien, pour une méthode que le cours n'a pas réglée.
    """
    if choice is None:
        choice = Choice(0.0) if method.loss is None else load_choices().get(method.name)
    if not isinstance(choice, Choice):
        raise TypeError(
            f"choice : {type(choice).__name__} reçu pour la méthode {method.name}, Choice(alpha, …) attendu."
        )
    return choice
