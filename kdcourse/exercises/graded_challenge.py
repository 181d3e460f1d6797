"""Le retour immédiat du défi de compression : le contrat sur peu d'images, puis la mesure, sur la validation."""

import inspect
import time
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from kdcourse.data.datasets import load_dataset
from kdcourse.data.splits import Split, shift_and_noise
from kdcourse.exercises import challenge
from kdcourse.exercises.answer_code import alone, code_of, reachable, travels
from kdcourse.exercises.exercise import TODO, reason, unfinished
from kdcourse.formats import french, thousands
from kdcourse.losses.checks import shape_of
from kdcourse.models import digits_teacher
from kdcourse.training.many_students import initial_model
from kdcourse.training.students import error_rate

_FEW, _SECONDS, _DRAWS = 100, 120, 10
_POINTS = 6  # ceux de l'exactitude, et ceux de la taille
_TEACHER_BYTES = 4 * 25978
_COLLAPSE = 15.0  # points d'exactitude perdus entre images nettes et images du capteur
_PICKLED = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # torch.save et pickle
_DEAF = (
    "Remarque : un autre teacher donne les mêmes octets ; votre student n'écoute pas le teacher, que l'on a pour "
    "toutes les images. Dites dans votre réponse ce que cela coûte ou rapporte."
)


class _Refused(Exception):
    """Ce que la réponse a de faux, en une phrase : la vérification s'arrête là."""


def challenge_verdict(compress: Callable, predict: Callable) -> tuple[bool, str]:
    """Vrai si le contrat est rempli et que la validation promet tous les points ; et ce que l'on en dit."""
    digits = load_dataset("digits")
    few, labelled = digits.train.images[:_FEW], digits.train.labels[: challenge.LABELLED]
    try:
        found = reachable(compress, predict) if _readable(compress) and _readable(predict) else None
        compress_alone = _isolated("compress", compress, found, "ses trois arguments")
        predict_alone = _isolated("predict", predict, found, "l'artefact")
        # Deux teachers sans entraînement suffisent à ces essais, et ne coûtent rien : une ébauche se dit sans attendre.
        untrained = [initial_model(digits_teacher, seed).eval() for seed in (0, 1)]
        artifact, other = (_artifact(compress_alone, teacher, few, labelled[: _FEW // 10])[0] for teacher in untrained)
        _check_logits(predict_alone, artifact, digits.validation.images[:20])
        deaf = other == artifact
        artifact, seconds = _artifact(compress_alone, challenge.compression_teacher(), digits.train.images, labelled)
        if seconds > _SECONDS:
            raise _Refused(f"compress a pris {french(seconds, 0)} s de calcul, {_SECONDS} au plus sont accordées.")
        clean, seen = _accuracies(predict_alone, artifact, digits.validation)
    except _Refused as refused:
        return False, str(refused)
    code = None if found is None else code_of({"compress": compress, "predict": predict}, found)
    right, message = _estimate(artifact, code, clean, seen)
    return right, f"{message} {_DEAF}" if deaf else message


def _readable(function: Callable) -> bool:
    """Vrai pour une fonction écrite en Python, décorée ou non."""
    return inspect.isfunction(inspect.unwrap(function))


def _artifact(compress: Callable, teacher: nn.Module, images: Tensor, labels: Tensor) -> tuple[bytes, float]:
    """L'artefact et ses secondes de calcul ; mêmes tirages à chaque appel, sur un fil comme à la correction."""
    torch.manual_seed(0)
    np.random.seed(0)
    threads, start = torch.get_num_threads(), time.process_time()
    torch.set_num_threads(1)
    try:
        artifact = compress(teacher, images.clone(), labels.clone())
    finally:
        torch.set_num_threads(threads)
    if isinstance(artifact, bytearray | memoryview):
        artifact = bytes(artifact)
    if not isinstance(artifact, bytes):
        raise _Refused(f"compress rend des octets (bytes), {type(artifact).__name__} reçu.")
    return artifact, time.process_time() - start


def _isolated(name: str, function: Callable, found: dict | None, source: str) -> Callable:
    """``compress`` ou ``predict`` sans les variables du notebook : elle dit laquelle lui manque."""
    kept = function if found is None else alone(function, found)
    left = {name: type(value).__name__ for name, value in (found or {}).items() if not travels(value)}

    def called(*inputs):
        try:
            result = kept(*inputs)
        except NotImplementedError:
            result = ...
        except NameError as error:
            if error.name in left:
                raise _Refused(
                    f"{name} lit la variable {error.name} du notebook ({left[error.name]}) : à la correction, elle "
                    f"n'existe pas. Tout ce dont {name} a besoin est dans {source}."
                ) from None
            raise _Refused(f"{name} s'arrête sur {reason(error)}") from None
        except (Exception, SystemExit) as error:
            raise _Refused(f"{name} s'arrête sur {reason(error)} ({len(inputs[1])} images)") from None
        if problem := unfinished(function, result):
            raise _Refused(problem[1] if problem is TODO else f"{name} : {problem[1]}")
        return result

    return called


def _check_logits(predict: Callable, artifact: bytes, images: Tensor) -> None:
    """Le contrat de ``predict``, sur un lot et sur une seule image."""
    logits = _logits(predict, artifact, images)
    one = _logits(predict, artifact, images[:1])
    if not torch.equal(logits, _logits(predict, artifact, images)):
        raise _Refused(
            "deux appels de predict diffèrent : un dropout encore actif (eval() manque), ou un tirage au hasard."
        )
    if not torch.allclose(logits[:1], one, rtol=1e-3, atol=1e-3):
        raise _Refused("la réponse pour une image dépend des autres images du lot : une normalisation en mode train ?")
    if (logits >= 0).all() and torch.allclose(logits.sum(-1), torch.ones(len(logits)).to(logits), atol=1e-3):
        raise _Refused("predict rend des probabilités : des logits sont attendus, avant softmax.")


def _logits(predict: Callable, artifact: bytes, images: Tensor) -> Tensor:
    logits = predict(artifact, images.clone())
    logits = torch.from_numpy(logits) if isinstance(logits, np.ndarray) else logits
    if not isinstance(logits, Tensor):
        raise _Refused(f"predict rend un tenseur de logits, {type(logits).__name__} reçu.")
    if logits.shape == images.shape[:1]:
        raise _Refused("predict rend une classe par image : des logits (B, 10) sont attendus, avant argmax.")
    if logits.shape != (len(images), 10):
        raise _Refused(
            f"predict : forme {shape_of(logits)} reçue pour {len(images)} image(s), {(len(images), 10)} attendue."
        )
    if not logits.is_floating_point():
        raise _Refused(f"predict : dtype {logits.dtype} reçu, des logits flottants attendus.")
    if not logits.isfinite().all():
        raise _Refused("predict : NaN ou infini dans les logits.")
    return logits.detach()


def _accuracies(predict: Callable, artifact: bytes, data: Split) -> tuple[float, float]:
    """Exactitude en % sur les images nettes, et sur dix passages par le capteur, ceux du notebook."""
    sensor = torch.Generator().manual_seed(0)
    clean = error_rate(_logits(predict, artifact, data.images), data.labels)
    draws = [shift_and_noise(data.images, generator=sensor) for _ in range(_DRAWS)]
    seen = torch.stack([error_rate(_logits(predict, artifact, images), data.labels) for images in draws])
    return 100 - clean.item(), 100 - seen.mean().item()


def _estimate(artifact: bytes, code: str | None, clean: float, seen: float) -> tuple[bool, str]:
    size = len(artifact) if code is None else challenge.answer_size(artifact, code)
    right, small = challenge.accuracy_share(seen), challenge.size_share(size, seen)
    written = f"dont {thousands(size - len(artifact))} pour le code, environ"
    detail = "code non lu, compté pour rien" if code is None else written
    message = (
        f"contrat rempli. {french(seen)} % d'images reconnues (validation, vues par le capteur) ; {thousands(size)} "
        f"octets, {detail}. Estimation : exactitude {french(_POINTS * right)} sur {_POINTS}, taille "
        f"{french(_POINTS * small)} sur {_POINTS}."
    )
    return right == small == 1, f"{message} {_hint(artifact, code, clean, seen)}".rstrip()


def _hint(artifact: bytes, code: str | None, clean: float, seen: float) -> str:
    """Ce qui coûte le plus de points, si on le reconnaît."""
    if clean - seen > _COLLAPSE:
        return (
            f"Sur les images nettes, {french(clean)} % : l'exactitude s'effondre dès que l'image bouge. "
            "Distillez sur des images passées par shift_and_noise."
        )
    if seen < 20:
        return (
            "C'est à peu près le hasard : l'artefact est-il relu comme il a été écrit ? Une table des images exactes "
            "ne retrouve aucune image décalée."
        )
    if len(artifact) >= _TEACHER_BYTES:
        return f"L'artefact est plus gros que le teacher ({thousands(_TEACHER_BYTES)} octets)."
    if artifact.startswith(_PICKLED):
        return (
            "L'artefact est un objet Python sérialisé (torch.save ou pickle) : noms et formes y pèsent. Rangez les "
            "nombres seuls."
        )
    if code is not None and challenge.answer_size(b"", code) > len(code.encode()):
        return (
            "Le code contient des données, qui pèsent dix fois : compress doit les calculer, l'artefact les contenir."
        )
    return ""
