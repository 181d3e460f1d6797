"""Les exercices de 10.6."""

import numpy as np
import torch
from torch import Tensor

from kdcourse.exercises.exercise import Exercise, Prediction


def _random(seed: int, *shape: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def _with_spectrum(seed: int, spectrum: tuple[float, ...], left: int) -> Tensor:
    """Une matrice ``(left, …)`` dont le dépliage, carré, a ces valeurs singulières."""
    u, _, vh = torch.linalg.svd(_random(seed, len(spectrum), len(spectrum)))
    return ((u * torch.tensor(spectrum)) @ vh).reshape(left, -1)


def _dropped(s: Tensor) -> Tensor:
    """Ce que jette une coupe au rang 0, 1, 2… : la norme de ce qui suit."""
    return torch.cat([s.square().flip(0).cumsum(0).flip(0).sqrt(), torch.zeros(1)])


def _step(rest: Tensor, size: int, error: float, dropped=_dropped, more: int = 0, shares=(0.0, 1.0), order=None,
          transposed: bool = False, last: bool = False) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Un pas de TT-SVD et ses variantes fausses : ce que l'on croit jeter, le rang, où vont les valeurs singulières."""
    left = len(rest)
    unfolded = rest.reshape(left, size, -1)
    unfolded = (unfolded if order is None else unfolded.permute(order)).reshape(left * size, -1)
    u, s, vh = torch.linalg.svd(unfolded, full_matrices=False)
    rank = min(max(int((dropped(s) > error).sum()) + more, 1), len(s))
    kept = slice(-rank, None) if last else slice(0, rank)
    vh = vh.T if transposed else vh
    core, rest = u[:, kept] * s[kept] ** shares[0], s[kept, None] ** shares[1] * vh[kept]
    return core.reshape(left, size, -1), rest


def _seen(answer, rest: Tensor, size: int, error: float) -> Tensor | str:
    """Ce qui ne dépend pas du signe des vecteurs singuliers : cœur × reste, la norme du reste, le rang."""
    if not (isinstance(answer, (tuple, list)) and len(answer) == 2 and all(isinstance(one, Tensor) for one in answer)):
        return "deux tenseurs sont attendus, le cœur puis le reste : return core, rest."
    core, left_over = answer
    if core.dim() != 3 or core.shape[:2] != (len(rest), size):
        return f"le cœur : forme {tuple(core.shape)} reçue, ({len(rest)}, {size}, r) attendue."
    expected = (core.shape[2], rest.shape[1] // size)
    if left_over.shape != expected:
        return f"le reste : forme {tuple(left_over.shape)} reçue, {expected} attendue, le rang du cœur d'abord."
    product, gram = core.flatten(0, 1) @ left_over, left_over.T @ left_over
    return torch.cat([product.flatten(), gram.flatten(), product.new_tensor([core.shape[2]])])


def _quantize(weight: Tensor, levels: float = 127, scale: Tensor | None = None, rounding=torch.round) -> Tensor:
    scale = weight.abs().amax(dim=1, keepdim=True) / levels if scale is None else scale
    return rounding(weight / scale).clamp(-levels, levels) * scale


def _asymmetric(weight: Tensor, dim: int | None) -> Tensor:
    """Du minimum au maximum en 255 pas, avec un point zéro."""
    low, high = (weight.min(), weight.max()) if dim is None else (weight.amin(dim, True), weight.amax(dim, True))
    scale = (high - low) / 255
    zero = (-low / scale).round()
    return ((weight / scale).round() + zero).clamp(0, 255).sub(zero) * scale


def _blob(seed: int, rows: int, columns: int) -> bytes:
    codes = _random(seed, rows, columns).mul(60).round().clamp(-127, 127).to(torch.int8).numpy()
    scales = _random(seed + 1, rows).abs().add(0.1).numpy()
    return np.array([rows, columns], np.uint16).tobytes() + scales.tobytes() + codes.tobytes()


def _parts(blob: bytes, codes=np.int8, scales="<f4", offset: int = 0) -> tuple[Tensor, Tensor]:
    rows, columns = (int(size) for size in np.frombuffer(blob, np.uint16, 2))
    read = np.frombuffer(blob, scales, rows, offset=4).astype(np.float32)
    levels = np.frombuffer(blob, codes, rows * columns, offset=4 + 4 * rows - offset)
    return torch.tensor(read), torch.tensor(levels).float().view(rows, columns)


def _layer(blob: bytes, **options) -> Tensor:
    scales, codes = _parts(blob, **options)
    return codes * scales[:, None]


# Le plus grand coefficient d'une ligne, divisé par 127, donne une puissance de deux : il tombe sur ±127 exactement, de
# quelque façon qu'on écrive la division. Ceux de la diagonale paire sont négatifs : oublier abs se voit.
_WEIGHT, _OTHER = _random(64, 5, 7), 3 * _random(65, 4, 4)
for _matrix, _top in ((_WEIGHT, 127 / 32), (_OTHER, 127 / 8)):
    for _row in range(len(_matrix)):
        _matrix[_row, _row] = _top if _row % 2 else -_top
        _matrix[_row] /= 2**_row  # chaque ligne a son échelle

EXERCISES = {
    "10.6 a": Exercise(
        differentiable=False,
        # La somme, le plus grand, la somme des carrés de ce qui est jeté mènent chacun à un autre couple de rangs.
        cases=((_with_spectrum(61, (4, 1.4, 1.2, 0.9, 0.9, 0.7), 2), 3, 1.5),
               (_with_spectrum(62, (2, 1, 0.4, 0.3, 0.2, 0.1), 3), 2, 0.5)),
        reference=_step,
        read=_seen,
        mistakes={
            "Vous comparez une seule valeur singulière à error : ce que la coupe jette est la norme de toutes celles "
            "qui suivent.": lambda *case: _step(*case, dropped=lambda s: s),
            "Vous sommez les valeurs singulières jetées : leur norme est la racine de la somme de leurs carrés.":
                lambda *case: _step(*case, dropped=lambda s: s.flip(0).cumsum(0).flip(0)),
            "Il manque la racine : la somme des carrés n'est pas une norme.":
                lambda *case: _step(*case, dropped=lambda s: _dropped(s).square()),
            "error est ici une norme, non une part de celle de rest.":
                lambda *case: _step(*case, dropped=lambda s: _dropped(s) / s.norm()),
            "Il y a un rang de trop : le précédent tenait déjà dans error.": lambda *case: _step(*case, more=1),
            "Il manque un rang : cette coupe jette plus que error.": lambda *case: _step(*case, more=-1),
            "Rien n'est coupé : gardez le plus petit rang qui convient.": lambda *case: _step(*case, more=100),
            "Les valeurs singulières manquent : le reste est S·Vᵀ.": lambda *case: _step(*case, shares=(0.0, 0.0)),
            "Les valeurs singulières sont dans le cœur : elles vont au reste, que le pas suivant coupera.":
                lambda *case: _step(*case, shares=(1.0, 0.0)),
            "Les valeurs singulières entrent deux fois : seul le reste les porte.":
                lambda *case: _step(*case, shares=(1.0, 1.0)),
            "Les valeurs singulières sont partagées par leur racine : seul le reste les porte.":
                lambda *case: _step(*case, shares=(0.5, 0.5)),
            "Le reste a la racine des valeurs singulières : l'autre moitié manque.":
                lambda *case: _step(*case, shares=(0.0, 0.5)),
            "torch.linalg.svd rend déjà V transposée : elle l'est ici une fois de trop.":
                lambda *case: _step(*case, transposed=True),
            "Ce sont les plus petites valeurs singulières : elles sont rangées par ordre décroissant.":
                lambda *case: _step(*case, last=True),
            "Le dépliage mêle l'ordre : reshape(left * size, -1) suffit, sans permutation.":
                lambda *case: _step(*case, order=(1, 0, 2)),
        },
    ),
    "10.6 b": Exercise(
        differentiable=False,
        cases=((_WEIGHT,), (_OTHER,)),
        reference=_quantize,
        mistakes={
            "C'est une seule échelle pour toute la matrice : chaque ligne a la sienne.":
                lambda w: _quantize(w, scale=w.abs().max() / 127),
            "C'est une échelle par colonne : chaque ligne a la sienne.":
                lambda w: _quantize(w, scale=w.abs().amax(dim=0, keepdim=True) / 127),
            "C'est une quantification asymétrique, avec un point zéro : ici, 0 reste 0, de -127 à 127.":
                lambda w: _asymmetric(w, 1),
            "C'est une quantification asymétrique, avec un point zéro, et une seule échelle : ici, symétrique, une "
            "échelle par ligne.": lambda w: _asymmetric(w, None),
            "Le maximum se prend sur la valeur absolue : là où le plus grand coefficient est négatif, il est écrêté.":
                lambda w: _quantize(w, scale=w.amax(dim=1, keepdim=True) / 127),
            "Le maximum se prend sur la valeur absolue : ici des codes passent sous -127, hors de l'octet.":
                lambda w: (w / (w.amax(dim=1, keepdim=True) / 127)).round() * (w.amax(dim=1, keepdim=True) / 127),
            "Diviser par 255 déborde de l'octet signé, et la moitié des valeurs est écrêtée : de -127 à 127.":
                lambda w: _quantize(w, scale=w.abs().amax(dim=1, keepdim=True) / 255),
            "255 niveaux de chaque côté : cela ne tient pas dans un octet signé.": lambda w: _quantize(w, levels=255),
            "256 niveaux de chaque côté : cela ne tient pas dans un octet signé.": lambda w: _quantize(w, levels=256),
            "-128 n'a pas d'opposé dans un octet signé : l'échelle symétrique s'arrête à 127.":
                lambda w: _quantize(w, levels=128),
            "L'échelle est le maximum sur 128, puis les codes s'arrêtent à 127 : le plus grand poids est écrêté.":
                lambda w: _quantize(w, scale=w.abs().amax(dim=1, keepdim=True) / 128),
            "L'échelle est le maximum sur 127,5 : les codes entiers vont de -127 à 127.":
                lambda w: _quantize(w, scale=w.abs().amax(dim=1, keepdim=True) / 127.5),
            "C'est une troncature vers zéro : l'arrondi au plus proche fait une erreur deux fois plus petite.":
                lambda w: _quantize(w, rounding=torch.trunc),
            "C'est un arrondi vers le bas : il décale tous les poids.": lambda w: _quantize(w, rounding=torch.floor),
            "C'est un arrondi vers le haut : il décale tous les poids.": lambda w: _quantize(w, rounding=torch.ceil),
            "Ce sont les entiers : multipliez-les par l'échelle pour revenir aux poids.":
                lambda w: _quantize(w) / (w.abs().amax(dim=1, keepdim=True) / 127),
            "Les poids sont ramenés à [-1, 1] : il faut leur rendre leur échelle.":
                lambda w: _quantize(w) / w.abs().amax(dim=1, keepdim=True),
            "L'échelle est quatre fois l'écart-type : le plus grand poids de la ligne doit tomber sur 127.":
                lambda w: _quantize(w, scale=4 * w.std(dim=1, keepdim=True) / 127),
            "L'échelle est trois fois l'écart-type : le plus grand poids de la ligne doit tomber sur 127.":
                lambda w: _quantize(w, scale=3 * w.std(dim=1, keepdim=True) / 127),
            "Sept niveaux de chaque côté, c'est int4 : un octet en a 127.": lambda w: _quantize(w, levels=7),
            "Rien n'est arrondi : les poids sont restés flottants.": lambda w: w,
        },
    ),
    "10.6 c": Exercise(
        differentiable=False,
        # Carrée d'abord : une échelle mise sur les colonnes, ou une transposée, ne plantent pas.
        cases=((_blob(66, 4, 4),), (_blob(68, 3, 5),)),
        reference=_layer,
        mistakes={
            "Les codes sont signés : np.int8, non np.uint8.": lambda blob: _layer(blob, codes=np.uint8),
            "Les échelles sont lues à l'envers : l'octet faible vient d'abord, comme tobytes l'écrit ici.":
                lambda blob: _layer(blob, scales=">f4"),
            "Ce sont les codes : multipliez chaque ligne par son échelle.": lambda blob: _parts(blob)[1],
            "Les codes sont divisés par l'échelle : ils se multiplient.":
                lambda blob: _parts(blob)[1] / _parts(blob)[0][:, None],
            "Seule la première échelle sert : chaque ligne a la sienne.":
                lambda blob: _parts(blob)[1] * _parts(blob)[0][0],
            "Les codes sont rangés ligne par ligne : ici, ils sont lus colonne par colonne.":
                lambda blob: (_parts(blob)[1].flatten().view(_parts(blob)[1].shape[::-1]).T * _parts(blob)[0][:, None]),
            "Les codes commencent après les échelles, 4 octets chacune : ici, ils débutent sur des échelles.":
                lambda blob: _layer(blob, offset=4 * len(_parts(blob)[0])),
            "Les codes commencent après les deux tailles et les échelles : les tailles occupent 4 octets.":
                lambda blob: _layer(blob, offset=4),
            "Les tailles sont deux uint16, 4 octets à elles deux, non 2.": lambda blob: _layer(blob, offset=2),
            "Les poids sont encore divisés par 127 : l'échelle l'a déjà fait.": lambda blob: _layer(blob) / 127,
            "L'échelle entre deux fois.": lambda blob: _layer(blob) * _parts(blob)[0][:, None],
        },
    ),
}  # fmt: skip

PREDICTIONS = {
    "10.6 d": Prediction(
        expected=1.8,
        mistakes={
            "C'est le train de rang 4 qui est coupé : prenez truncate(model, 8).": -0.3,
            "Ce sont 100 images qui réparent : gardez les 1 000.": 7.1,
            "C'est la SVD de rang 6 qui est coupée : prenez truncate(model, 8).": 10.9,
        },
        tolerance=1.0,
        lesson="Les premiers termes de la SVD contiennent ce que le teacher a appris ; les cœurs de rang 4, non.",
    ),
}
