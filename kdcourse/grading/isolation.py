"""Quel niveau d'isolation cette machine offre, dit une fois ; sans lui, un refus qui donne la marche à suivre."""

import atexit

import torch

from kdcourse.grading.sandbox import SandboxError
from kdcourse.grading.warm import Limits, WarmWorker

_SANDBOX = (
    "bubblewrap (espaces de noms neufs pour chaque copie : ni réseau, ni carnet, ni autres copies ; "
    "temps, mémoire, processus et disque bornés)"
)
_NOTHING = "AUCUNE (le code des élèves tourne avec vos droits ; seuls le temps et la mémoire sont bornés)"


class Isolation:
    """Le processus chaud d'une correction, et le niveau d'isolation que ses enfants auront."""

    _current: "Isolation | None" = None

    def __init__(self, isolated: bool):
        torch.set_num_threads(1)  # le parent ne compare que de petits tenseurs : deux fils s'y attendraient
        self._isolated = isolated
        self._announced = False
        self._worker = WarmWorker(isolated)
        atexit.register(self.close)
        self._probe()

    @classmethod
    def get(cls, accept_no_sandbox: bool) -> "Isolation":
        """L'isolation de cette correction, ouverte à la première copie.

        Raises:
            SandboxError: aucun bac à sable ici, et l'option qui s'en passe n'est pas donnée.
        """
        if cls._current is None:
            try:
                cls._current = cls(isolated=True)
            except SandboxError as error:
                if not accept_no_sandbox:
                    raise SandboxError(
                        f"Correction refusée, sans bac à sable : {error} Pour corriger malgré tout des copies "
                        "auxquelles vous faites confiance : --IsolatedGrade.accept_no_sandbox=True."
                    ) from None
                cls._current = cls(isolated=False)
        return cls._current

    @property
    def level(self) -> str:
        """Une phrase : ce qui sépare le code des élèves du reste."""
        return _SANDBOX if self._isolated else _NOTHING

    def worker(self) -> WarmWorker:
        """Le processus chaud."""
        return self._worker

    def announce(self) -> bool:
        """Vrai la première fois seulement."""
        first, self._announced = not self._announced, True
        return first

    def close(self) -> None:
        """Arrête le processus chaud."""
        self._worker.close()

    def _probe(self) -> None:
        with self._worker.room() as room:
            outcome = room.ask({"task": "probe"}, Limits())
        if outcome.messages != [{"ok": True}]:
            self.close()
            raise SandboxError(
                "bubblewrap s'ouvre, mais torch n'y calcule pas : les fichiers de Python y sont-ils lisibles ?"
            )
