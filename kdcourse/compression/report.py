"""10.6 : ce qu'une compression a fait de chaque couche, en tableau."""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor, nn

from kdcourse.formats import french, thousands


def all_parameters(model: nn.Module) -> int:
    """Nombre de paramètres, gelés compris : ce que le modèle pèse, non ce qui s'entraîne."""
    return sum(parameter.numel() for parameter in model.parameters())


def stored_bytes(model: nn.Module) -> int:
    """Octets que ``torch.save`` écrit du ``state_dict`` : chaque mémoire une fois, entière, tampons compris."""
    storages = (tensor.untyped_storage() for tensor in model.state_dict().values() if isinstance(tensor, Tensor))
    return sum({storage._cdata: storage.nbytes() for storage in storages}.values())


class LayerReport(NamedTuple):
    """Une couche : ce qu'elle était, ce qu'elle est devenue, ou pourquoi elle est restée."""

    name: str
    shape: tuple[int, ...]
    """Forme de son poids : ``(out, in)`` ou ``(out, in, k, k)``."""
    ranks: tuple[int, ...]
    """Rangs du train (r_1, …, r_{d-1}), ou (r_in, r_out) d'une convolution ; vide si la couche est gardée."""
    before: int
    after: int
    error: float
    """Erreur relative du poids, ‖W - Ŵ‖ / ‖W‖ (Frobenius) ; 0 si la couche est gardée."""
    reason: str
    """Pourquoi elle est gardée ; vide si elle est compressée."""


@dataclass(frozen=True, repr=False)
class CompressionReport:
    """Le bilan d'une compression ; ``print`` en montre le tableau."""

    layers: list[LayerReport]
    parameters_before: int
    """Paramètres de tout le modèle, couches non citées comprises."""
    parameters_after: int
    bytes_before: int
    """Taille enregistrée : paramètres et tampons persistants, ce qu'un fichier contient."""
    bytes_after: int

    @property
    def ratio(self) -> float:
        """Combien de fois moins lourd, une fois enregistré ; 1 si rien n'a été compressé."""
        return self.bytes_before / self.bytes_after if self.bytes_after else 1.0

    def __repr__(self) -> str:
        rows = [("Couche", "Forme", "Rangs", "Avant", "Après", "Erreur", "Gardée parce que")]
        for layer in self.layers:
            shape, ranks = "×".join(map(str, layer.shape)), "·".join(map(str, layer.ranks)) or "—"
            error = "—" if layer.reason else f"{french(100 * layer.error)} %"
            counts = thousands(layer.before), thousands(layer.after)
            rows.append((layer.name or "(le modèle)", shape, ranks, *counts, error, layer.reason))
        counts = thousands(self.parameters_before), thousands(self.parameters_after)
        rows.append(("Modèle entier", "", "", *counts, "", f"{french(self.ratio)} fois moins lourd"))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        aligned = [
            "  ".join(
                cell.rjust(width) if column in (3, 4, 5) else cell.ljust(width)  # les nombres à droite
                for column, (cell, width) in enumerate(zip(row, widths, strict=True))
            ).rstrip()
            for row in rows
        ]
        return "\n".join([aligned[0], "─" * max(map(len, aligned)), *aligned[1:]])
