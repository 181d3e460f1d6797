"""Ce que les exercices impriment, relu sans les espaces insécables : les indices attendus s'écrivent au clavier."""

import pytest


@pytest.fixture
def capsys(capsys):
    class Plain:
        def readouterr(self):
            return type(read := capsys.readouterr())(*(text.replace("\N{NO-BREAK SPACE}", " ") for text in read))

    return Plain()
