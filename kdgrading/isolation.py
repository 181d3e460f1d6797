"""Quel niveau d'isolation cette machine offre, dit une fois ; sans lui, un refus qui donne la marche à suivre."""

import atexit

from kdgrading.sandbox import SandboxError
from kdgrading.warm import Limits, WarmWorker

_SANDBOX = (
    "bubblewrap (espaces de noms neufs pour chaque copie : ni réseau, ni carnet, ni autres copies ; "
    "temps, mémoire, processus et disque bornés)"
)
_NOTHING = "AUCUNE (le code des élèves tourne avec vos droits ; seuls le temps et la mémoire sont bornés)"


class Isolation:
    """Le processus chaud d'une correction, et le niveau d'isolation que ses enfants auront."""

    _current: "Isolation | None" = None

    def __init__(self):
        self._isolated, self.unchecked = True, True
        self._worker = WarmWorker(isolated=True)
        atexit.register(self.close)

    @classmethod
    def get(cls) -> "Isolation":
        """Celle de cette correction. Le premier appel lance le processus chaud, sans l'attendre."""
        if cls._current is None:
            cls._current = cls()
        return cls._current

    def worker(self, accept_no_sandbox: bool) -> WarmWorker:
        """Le processus chaud, une fois vérifié que ses enfants sont bien enfermés et savent calculer.

        Raises:
            SandboxError: aucun bac à sable ici, et l'option qui s'en passe n'est pas donnée.
        """
        if self.unchecked:
            try:
                self._probe()
            except SandboxError as error:
                if not accept_no_sandbox:
                    raise SandboxError(
                        f"Correction refusée, sans bac à sable : {error} Pour corriger malgré tout des copies "
                        "auxquelles vous faites confiance : --IsolatedGrade.accept_no_sandbox=True."
                    ) from None
                self.close()
                self._isolated, self._worker = False, WarmWorker(isolated=False)
            self.unchecked = False
        return self._worker

    @property
    def level(self) -> str:
        """Une phrase : ce qui sépare le code des élèves du reste."""
        return _SANDBOX if self._isolated else _NOTHING

    def close(self) -> None:
        """Arrête le processus chaud."""
        self._worker.close()

    def _probe(self) -> None:
        with self._worker.room() as room:
            outcome = room.ask({"task": "probe"}, Limits())
        if outcome.messages != [{"ok": True}]:
            raise SandboxError("bubblewrap s'ouvre, mais torch n'y calcule pas ; ses fichiers y sont-ils lisibles ?")
