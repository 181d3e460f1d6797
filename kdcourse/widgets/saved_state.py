"""Ce qu'un notebook enregistré garde des curseurs : l'état de ceux que montrent ses cellules, et rien de plus.

JupyterLab enregistre tous les modèles vivants. Une cellule exécutée de nouveau ferme donc ceux de la fois d'avant :
sans cela, le fichier grossirait d'un demi-mégaoctet à chaque exécution.
"""

import ipywidgets
from IPython import get_ipython

from kdcourse.training.progress import close_whole

_made: dict[str, tuple[int, list[ipywidgets.Widget]]] = {}  # cellule → son exécution, et ce qu'elle a fait


def replaces_previous(widget: ipywidgets.Widget) -> None:
    """Retient que la cellule en cours a fait ce widget, et ferme ceux qu'elle avait faits en s'exécutant avant."""
    shell = get_ipython()
    parent = shell.get_parent() if hasattr(shell, "get_parent") else {}
    cell = parent.get("metadata", {}).get("cellId")
    if cell is None:  # hors d'un notebook, ou une page qui ne nomme pas ses cellules
        return
    execution, widgets = _made.get(cell, (shell.execution_count, []))
    if execution != shell.execution_count:
        for old in widgets:
            close_whole(old)
        widgets = []
    _made[cell] = (shell.execution_count, [*widgets, widget])
