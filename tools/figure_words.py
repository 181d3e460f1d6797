"""Joué dans le noyau qui exécute un chapitre, avant lui : chaque figure y emporte en mots ce qu'elle montre.

Les mots sont ceux de son titre, gardés dans les métadonnées de l'image : un export HTML en fait l'attribut ``alt``.
"""


def _install() -> None:
    # Ici plutôt qu'en tête : le chapitre commence dans un espace de noms vide.
    import re

    import matplotlib.pyplot  # noqa: F401 (%matplotlib inline a besoin qu'il soit là)
    from IPython import get_ipython
    from matplotlib.figure import Figure

    def words(figure: Figure) -> str:
        title = figure.get_suptitle() or " ; ".join(filter(None, (ax.get_title().strip() for ax in figure.axes)))
        plain = re.sub(r"\^\{?([^{}$]+)\}?", r" puissance \1", " ".join(title.split()))
        return plain.translate(str.maketrans("", "", "${}"))

    get_ipython().run_line_magic("matplotlib", "inline")  # il ôterait, plus tard, ce qui suit
    png = get_ipython().display_formatter.formatters["image/png"]
    drawn = png.for_type(Figure)
    png.for_type(Figure, lambda figure: (drawn(figure), {"alt": words(figure)}))


_install()
del _install
