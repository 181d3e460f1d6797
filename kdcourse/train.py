"""Entraîner un student en une commande, sur une machine ou plusieurs.

    python -m kdcourse.train --data mnist --teacher mnist_teacher --student mnist_student --method KD
    accelerate launch --num_processes 2 -m kdcourse.train --data cifar10 --mixed-precision fp16 --resume

Un teacher désigné par son architecture est d'abord entraîné sur les étiquettes ; désigné par le ``student.pt`` d'un
entraînement, il est relu. La commande relancée avec ``--resume`` repart de là où elle s'est arrêtée.
"""

import argparse
import sys
from collections.abc import Callable
from dataclasses import fields, replace
from functools import partial
from pathlib import Path

import torch
from torch import nn

from kdcourse import models
from kdcourse.command_line import FrenchParser, integer, number
from kdcourse.data.datasets import DATASETS, load_dataset
from kdcourse.data.splits import Dataset
from kdcourse.formats import french, short
from kdcourse.measures.cost import out_of_memory
from kdcourse.methods import ALONE, METHODS, Choice, Method, find_method, settled_choice
from kdcourse.models import AdaptedStudent
from kdcourse.training.checkpoints import add_results, torch_bytes, write_whole
from kdcourse.training.checks import check_output
from kdcourse.training.large_student import distill, model_error
from kdcourse.training.processes import leave, processes

ARCHITECTURES = (
    "digits_teacher", "digits_student", "mnist_teacher", "mnist_student", "color_teacher", "color_student",
)  # fmt: skip
_BUDGET = ("epochs", "batch_size", "learning_rate", "jitter", "seed", "mixed_precision", "checkpoint_every", "resume")


def main(argv: list[str] | None = None) -> int:
    """Lit les options, entraîne, imprime l'erreur de test ; une demande impossible se dit en une phrase."""
    options = _parse(argv)
    try:
        run(options)
    except (ValueError, TypeError, OSError) as error:
        print(f"Erreur. {error}", file=sys.stderr)
        return 1
    except RuntimeError as error:
        sentence = _known(error)
        if sentence is None:
            raise
        print(f"Erreur. {sentence}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("Interrompu. La même commande avec --resume continue du dernier point de reprise.", file=sys.stderr)
        return 130
    return 0


def _known(error: RuntimeError) -> str | None:
    """Ce que veut dire une erreur de torch que l'utilisateur peut rencontrer ; rien pour les autres."""
    if out_of_memory(error):
        return "La mémoire n'y suffit pas : réduisez --batch-size, --jitter, ou prenez un plus petit modèle."
    if any(text in str(error) for text in ("closed by peer", "reset by peer", "Broken pipe")):
        return "Un autre processus s'est arrêté : il en dit la raison."
    return None


def run(options: argparse.Namespace) -> None:
    """Le teacher, s'il en faut un ; puis le student ; puis leurs erreurs de test, lues une seule fois."""
    method = find_method(options.method, "--method")
    family = {"digits": "digits", "cifar10": "color", "cifar100": "color"}.get(options.data, "mnist")
    student_name, teacher_name = options.student or f"{family}_student", options.teacher or f"{family}_teacher"
    given = {part.name: getattr(options, part.name) for part in fields(Choice)}
    choice = replace(
        settled_choice(None, method), **{name: value for name, value in given.items() if value is not None}
    )
    output = Path(options.output or f"runs/{options.data}-{method.name.replace(' ', '')}")
    if options.teacher and not method.needs_teacher:
        raise ValueError(f"--teacher : {options.teacher!r} reçu avec --method {method.name}, qui n'en a pas.")
    _builder(student_name, 10)  # une faute de frappe se dit avant des heures d'entraînement du teacher
    check_output(output, options.resume)
    process = processes()
    with process.local_main_process_first():  # un seul télécharge
        data = load_dataset(options.data, options.folder)
    teacher, results = None, {}
    if method.needs_teacher:
        if teacher_name in ARCHITECTURES:
            _try_one_step(student_name, teacher_name, data, options, method, choice)
            process.print(f"Teacher : {teacher_name}, entraîné sur les étiquettes, dans {output / 'teacher'}.")
            teacher = _train(teacher_name, data, output / "teacher", options, method=ALONE)
        else:
            teacher = load_model(teacher_name).to(process.device)
        results["teacher"] = model_error(teacher, data.test)
    process.print(f"Student : {student_name}, méthode {method.name}{_describe(method, choice)}, dans {output}.")
    student = _train(student_name, data, output, options, teacher, method=method, choice=choice)
    results["student"] = model_error(student, data.test)
    errors = " ; ".join(f"{who}, {french(error, 2)} %" for who, error in results.items())
    process.print(f"Erreur de test sur {len(data.test.labels)} images : {errors}.")
    if process.is_main_process:
        add_results(output, {f"test_error_{who}": error for who, error in results.items()})


def _try_one_step(student_name: str, teacher_name: str, data: Dataset, options, method: Method, choice: Choice) -> None:
    """Un pas sur deux images : ce que la méthode refuse se dit avant des heures d'entraînement du teacher."""
    student, teacher = (_builder(name, _classes(data)) for name in (student_name, teacher_name))
    few = dict(epochs=1, batch_size=2, jitter=options.jitter, mixed_precision=options.mixed_precision)
    try:
        distill(student, data.train.where(slice(0, 2)), teacher(), method=method, choice=choice, **few)
    except (ValueError, TypeError) as error:
        advice = " Cette méthode compare des cartes : digits_teacher, color_teacher et color_student en ont."
        raise ValueError(
            f"--method {method.name} : {student_name} ne peut pas apprendre de {teacher_name} "
            f"({str(error).rstrip('.')}).{advice * method.reads_maps}"
        ) from None


def _classes(data: Dataset) -> int:
    return int(max(part.labels.max() for part in data)) + 1


def _train(name: str, data: Dataset, output: Path, options, teacher=None, **method) -> nn.Module:
    """Entraîne une architecture nommée, et range ses poids dans ``output/student.pt``."""
    classes = _classes(data)
    budget = {option: getattr(options, option) for option in _BUDGET}
    student = distill(
        _builder(name, classes), data.train, teacher, validation=data.validation, output=output, **budget, **method
    ).model
    student = student.student if isinstance(student, AdaptedStudent) else student  # l'adaptateur a fait son temps
    if processes().is_main_process:
        record = {"architecture": name, "classes": classes, "poids": student.state_dict()}
        write_whole(output / "student.pt", torch_bytes(record))
    return student


def load_model(path: str | Path) -> nn.Module:
    """Le modèle qu'un entraînement a rangé dans un ``student.pt``, en ``eval``, sur processeur.

    Raises:
        ValueError: fichier absent, abîmé, ou d'une autre origine.
    """
    if not Path(path).is_file():
        raise ValueError(
            f"--teacher : {path} reçu, une architecture ({', '.join(ARCHITECTURES)}) ou le student.pt d'un "
            "entraînement attendu."
        )
    try:
        record = torch.load(path, map_location="cpu", weights_only=True)
        model = _builder(record["architecture"], record["classes"])()
        model.load_state_dict(record["poids"])
    except Exception:  # torch.load lève selon l'octet qui manque : RuntimeError, EOFError, UnpicklingError…
        raise ValueError(
            f"--teacher : {path} reçu, un student.pt entier attendu ; celui-ci est tronqué ou vient d'ailleurs."
        ) from None
    return model.eval()


def _describe(method: Method, choice: Choice) -> str:
    if method.loss is None:
        return ""
    scale = f", {method.scale_name} = {short(choice.scale)}" if method.scale_name else ""
    return f" (alpha = {short(choice.alpha)}{scale}, T = {short(choice.temperature)})"


def _builder(name: str, classes: int) -> Callable[[], nn.Module]:
    if name not in ARCHITECTURES:
        raise ValueError(f"--student : {name!r} reçu, une de {', '.join(ARCHITECTURES)} attendue.")
    build = getattr(models, name)
    return partial(build, classes) if name.startswith("color") else build


def _parse(argv: list[str] | None) -> argparse.Namespace:
    parser = FrenchParser("python -m kdcourse.train", __doc__)
    add = parser.add_argument
    add("--data", default="digits", help=f"données : {', '.join(DATASETS)} (digits par défaut)")
    add("--folder", help="dossier des données (~/.cache/kdcourse par défaut)")
    add("--teacher", help="architecture à entraîner d'abord, ou student.pt d'un entraînement")
    add("--student", help=f"architecture : {', '.join(ARCHITECTURES)} ; celle des données par défaut")
    add("--method", default="KD", help=f"méthode : {', '.join(METHODS)} (KD par défaut)")
    tuned = "par défaut, celui réglé sur les chiffres"
    add("--temperature", type=number, help=f"température T > 0 ; {tuned}")
    add("--alpha", type=number, help=f"poids de la distillation, dans [0, 1] ; {tuned}")
    add("--scale", type=number, help=f"facteur du terme propre à la méthode ; {tuned}")
    add("--stage", type=integer, help=f"étage dont hint et attention comparent les cartes ; {tuned}")
    add("--epochs", type=integer, default=10, help="passages sur les données (10 par défaut)")
    add("--batch-size", type=integer, default=128, help="exemples par lot, tous processus réunis (128 par défaut)")
    add("--learning-rate", type=number, default=1e-3, help="pas d'Adam (0.001 par défaut)")
    add("--jitter", type=integer, default=0, help="décalage au hasard de chaque image, en pixels (0 par défaut)")
    add("--seed", type=integer, default=0, help="graine (0 par défaut)")
    add("--mixed-precision", help="no, fp16 ou bf16 ; celle d'accelerate launch par défaut")
    add("--output", help="dossier des résultats (runs/DONNÉES-MÉTHODE par défaut)")
    add("--checkpoint-every", type=integer, default=200, help="pas entre deux points de reprise (200 par défaut)")
    add("--resume", action="store_true", help="continue l'entraînement qui est dans --output, s'il y en a un")
    return parser.parse_args(argv)


if __name__ == "__main__":
    leave(main())
