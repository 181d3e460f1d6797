"""L'état d'un entraînement de ``distill`` : tout ce qu'il faut pour l'arrêter n'importe où et le reprendre."""

import hashlib
import math
from contextlib import contextmanager
from pathlib import Path

import torch
from accelerate.utils import gather_object
from torch import Tensor, nn

from kdcourse.data.splits import Split
from kdcourse.losses.self_distillation import label_smoothing_probabilities
from kdcourse.training.checkpoints import (
    SAVED,
    fingerprint,
    has_history,
    load_checkpoint,
    make_folder,
    promote_previous,
    release,
    save_checkpoint,
    write_history,
)
from kdcourse.training.frozen_teacher import answers
from kdcourse.training.loop import drawn_from


class RunState:
    """Où en est la boucle : époque (dès 1), pas faits dans l'époque, pertes, mémoire, générateurs."""

    def __init__(
        self, accelerator, model: nn.Module, optimizer, data: Split, classes: int, seed: int, output, remembers: bool
    ):
        self.accelerator, self.model, self.optimizer, self.data = accelerator, model, optimizer, data
        self.folder = None if output is None else Path(output)
        self.seed = seed
        self.epoch, self.step, self.seconds = 1, 0, 0.0
        self.history: list[dict[str, float]] = []
        self.total = torch.zeros((), device=accelerator.device)
        self.shuffle = torch.Generator().manual_seed(seed)
        self.epoch_shuffle = self.shuffle.get_state()
        self.previous = self.today = self.lock = None
        if remembers:  # les logits de l'époque d'avant ; avant la première, ceux de l'étiquette seule
            self.previous = label_smoothing_probabilities(data.labels, classes, smoothing=0).log().clamp(min=-1e4)
            self.today = torch.zeros_like(self.previous)

    @property
    def steps_done(self) -> int:
        """Pas faits depuis le début."""
        return self.step + sum(row["steps"] for row in self.history)

    @contextmanager
    def isolated(self):
        """Le générateur global est emprunté le temps de l'entraînement ; chaque processus a le sien (*dropout*).

        Le dossier que ``start`` a réservé est rendu à la sortie.
        """
        try:
            with drawn_from(self.seed + self.accelerator.process_index, self.accelerator.device):
                yield
        finally:
            release(self.lock)

    def start(self, settings: dict, teacher: nn.Module | None, validation: Split | None, resume: bool) -> None:
        """Reprend l'entraînement, s'il est demandé et qu'il y en a un."""
        if self.folder is None:
            return
        self.settings = settings | {
            "precision": self.accelerator.mixed_precision,
            "processes": self.accelerator.num_processes,
            "model": _architecture(self.model),
            "data": fingerprint(*self.data),
            "validation": None if validation is None else fingerprint(*validation),
            "teacher": None if teacher is None else fingerprint(*teacher.state_dict().values()),
        }
        self.accelerator.wait_for_everyone()  # chacun a vu le dossier avant que rien n'y bouge
        if self.accelerator.is_main_process:
            self.lock = make_folder(self.folder)
        state, refused = load_checkpoint(self.folder) if resume else (None, [])
        self.accelerator.wait_for_everyone()
        if refused and self.accelerator.is_main_process:
            promote_previous(self.folder)
        if state is not None:
            self._restore(state)
            for refusal in refused:
                self.accelerator.print(f"{refusal} ; reprise du précédent, {self.steps_done} pas faits.")
            if self.history and self.accelerator.is_main_process and not has_history(self.folder):
                write_history(self.folder, self.settings, self.history)

    def add(self, loss: Tensor, logits: Tensor, indices: Tensor) -> None:
        """Un pas de plus : sa perte, et, s'il se souvient, ce que le student a prédit de ses exemples."""
        self.step += 1
        self.total += loss
        if self.today is not None:
            self.today[indices.to(logits.device)] = logits[: len(indices)].float()

    def end_epoch(self, seconds: float, error: float | None, last: bool) -> dict[str, float]:
        """Clôt l'époque : une ligne d'histoire, un point de reprise ; la dernière, si le modèle répond des nombres."""
        self.total, self.today = self._shared()
        loss = self.total.item() / len(self.data.labels)
        self._check_finite(loss, *(answers(self.model, self.data.images[:4]) if last else ()))
        row = {"epoch": self.epoch, "steps": self.step, "loss": loss}
        row |= {} if error is None else {"validation_error": error}
        self.history.append(row | {"seconds": round(self.seconds + seconds, 3)})
        self.epoch, self.step, self.seconds = self.epoch + 1, 0, 0.0
        self.total, self.epoch_shuffle = torch.zeros_like(self.total), self.shuffle.get_state()
        if self.today is not None:
            self.previous, self.today = self.today, torch.zeros_like(self.today)
        if self.folder is not None and self.accelerator.is_main_process:
            write_history(self.folder, self.settings, self.history)
        self.save(0.0)
        return self.history[-1]

    def save(self, seconds: float) -> None:
        """Écrit le point de reprise ; tous les processus l'appellent, un seul écrit."""
        if self.folder is None:
            return
        total, today = self._shared()
        self._check_finite(total.item())
        state = {name: getattr(self, name) for name in SAVED} | {"total": total, "today": today}
        state |= {"seconds": self.seconds + seconds, "random": gather_object([_random_states(self.accelerator)])}
        state |= {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        if self.accelerator.scaler is not None:
            state["scaler"] = self.accelerator.scaler.state_dict()
        if self.accelerator.is_main_process:
            save_checkpoint(self.folder, state)

    def _shared(self) -> tuple[Tensor, Tensor | None]:
        """La perte et les prédictions de l'époque, de tous les processus ; chaque exemple n'est vu que d'un seul."""
        today = None if self.today is None else self.accelerator.reduce(self.today, "sum")
        return self.accelerator.reduce(self.total, "mean"), today

    def _restore(self, state: dict) -> None:
        wrong = [
            f"{name} : {state['settings'].get(name)} au point de reprise, {value} demandé"
            for name, value in self.settings.items()
            if state["settings"].get(name) != value
        ]
        if wrong:
            raise ValueError(
                f"output : {self.folder} contient un autre entraînement ({' ; '.join(wrong)}). Reprenez les mêmes "
                "réglages, ou donnez un autre dossier."
            )
        device = self.accelerator.device
        for name in SAVED:
            setattr(self, name, state[name])
        self.seconds, self.total = state["seconds"], state["total"].to(device)
        if state["today"] is not None:
            self.previous, self.today = state["previous"].to(device), state["today"].to(device)
        if not self.accelerator.is_main_process:  # ce qui fut réuni n'est compté qu'une fois
            self.today = None if self.today is None else torch.zeros_like(self.today)
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        if self.accelerator.scaler is not None:
            self.accelerator.scaler.load_state_dict(state["scaler"])
        self.shuffle.set_state(self.epoch_shuffle)  # la boucle retire l'ordre de l'époque, et saute les pas faits
        random = state["random"][self.accelerator.process_index]
        torch.set_rng_state(random["cpu"])
        if device.type == "cuda" and "cuda" in random:  # absent d'un point écrit sur processeur
            torch.cuda.set_rng_state(random["cuda"], device)

    def _check_finite(self, loss: float, *answered: Tensor) -> None:
        how = "baissez learning_rate, ou quittez la précision mixte. Le dernier point de reprise est intact."
        if not math.isfinite(loss):
            raise ValueError(f"loss : {loss} reçue à l'époque {self.epoch}, un nombre fini attendu ; {how}")
        if not all(part.isfinite().all() for part in (*self.model.parameters(), *answered)):
            raise ValueError(
                f"L'entraînement diverge à l'époque {self.epoch} : un paramètre ou une réponse n'est plus un nombre ; "
                f"{how}"
            )


def _architecture(model: nn.Module) -> str:
    """Le nom du modèle, et l'empreinte de ses couches : reprendre avec un autre student se voit."""
    shapes = {name: tuple(values.shape) for name, values in model.state_dict().items()}
    return f"{type(model).__name__} {hashlib.sha256(f'{model} {shapes}'.encode()).hexdigest()[:8]}"


def _random_states(accelerator) -> dict[str, Tensor]:
    states = {"cpu": torch.get_rng_state()}
    if accelerator.device.type == "cuda":
        states["cuda"] = torch.cuda.get_rng_state(accelerator.device)
    return states
