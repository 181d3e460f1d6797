"""Joué de même, pour le site seulement : un curseur s'y affiche par ce qui le fera bouger sans noyau."""


def _install() -> None:
    from IPython import get_ipython

    from kdcourse.widgets.slider_figure import SliderFigure

    html = get_ipython().display_formatter.formatters["text/html"]
    html.for_type(SliderFigure, lambda widget: widget.to_fragment())


_install()
del _install
