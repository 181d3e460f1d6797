"""La barre de progression du cours : elle paraît après une seconde, et ne laisse rien derrière elle."""

from tqdm.auto import tqdm


class Progress(tqdm):
    """``tqdm``, qui dans un notebook s'efface de la cellule une fois finie.

    ``tqdm`` ferme son widget mais laisse sa vue dans la cellule : un notebook enregistré puis rouvert y montrerait
    « model not found ».
    """

    def __init__(self, *args, **options):
        self.view = None
        # Deux fois par seconde : qui ne lit les messages qu'à la fin (nbval) les perd au-delà de mille par cellule.
        super().__init__(*args, leave=False, delay=1, mininterval=0.5, **options)

    def display(self, *args, check_delay: bool = True, **options):
        if not hasattr(self, "container"):  # un terminal
            return super().display(*args, **options)
        if check_delay and not self.displayed:
            from IPython.display import display

            self.view, self.displayed = display(self.container, display_id=True), True
        return super().display(*args, check_delay=check_delay, **options)

    def close(self):
        super().close()
        if container := getattr(self, "container", None):
            close_whole(container)
        if self.view:
            self.view, view = None, self.view
            view.update({}, raw=True)


def close_whole(widget) -> None:
    """Ferme un widget et ce qu'il a fait avec lui : ses parties, leur mise en page, leur style."""
    for part in (*getattr(widget, "children", ()), widget.layout, getattr(widget, "style", None)):
        if part is not None:
            close_whole(part) if hasattr(part, "layout") else part.close()
    widget.close()
