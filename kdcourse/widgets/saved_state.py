"""Ce qu'un notebook enregistré garde des curseurs : l'état de ceux que montrent ses cellules, et rien de plus.

JupyterLab enregistre tous les modèles vivants. Une cellule exécutée de nouveau ferme donc ceux de la fois d'avant, sauf
qu'une autre cellule les montre : sans cela, le fichier grossirait d'un demi-mégaoctet à chaque exécution.
"""

import ipywidgets
from IPython import get_ipython

from kdcourse.training.progress import close_whole

_held: dict[str, tuple[int, list[ipywidgets.Widget]]] = {}  # cellule → son exécution, et ce qu'elle a fait ou montré


def hold(widget: ipywidgets.Widget) -> None:
    """Retient que la cellule en cours a fait, ou montre, ce widget ; ferme ceux qu'elle seule tenait avant."""
    shell = get_ipython()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    cell = parent.get("metadata", {}).get("cellId")
    if cell is None:  # hors d'un notebook, ou une page qui ne nomme pas ses cellules
        return
    execution, widgets = _held.pop(cell, (shell.execution_count, []))
    if execution != shell.execution_count:
        elsewhere = {id(other) for _, others in _held.values() for other in others}
        for old in widgets:
            if id(old) not in elsewhere and old is not widget:
                close_whole(old)
        widgets = []
    _held[cell] = (shell.execution_count, [*(other for other in widgets if other is not widget), widget])
