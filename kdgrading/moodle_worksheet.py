"""Le formulaire d'évaluation d'un devoir Moodle : y écrire les notes sans toucher au reste du fichier."""

import re
from collections.abc import Callable

# Les noms que Moodle donne aux colonnes, en français et en anglais.
_IDENTIFIER, _EMAIL = ("identifiant", "identifier"), ("adresse de courriel", "email address")
_GRADE, _MAXIMUM = ("note", "grade"), ("note maximale", "maximum grade")


class Worksheet:
    """Un formulaire lu : pour chaque participant, la place de sa note dans le texte.

    Args:
        content: les octets du fichier, tels que Moodle les a donnés.

    Raises:
        ValueError: ni UTF-8, ni CSV, ou une colonne nécessaire manque.
    """

    def __init__(self, content: bytes):
        try:
            self.text = content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise ValueError(
                "le formulaire n'est pas en UTF-8 ; donnez celui que Moodle a produit, sans le réenregistrer."
            ) from error
        header = self.text.splitlines()[0] if self.text else ""
        self.separator = max(",;\t", key=header.count)
        spans, *self._rows = _split(self.text, self.separator)
        names = [self._value(span).strip().casefold() for span in spans]
        self._columns = {
            known: next((names.index(name) for name in known if name in names), None)
            for known in (_IDENTIFIER, _EMAIL, _GRADE, _MAXIMUM)
        }
        for known in (_IDENTIFIER, _GRADE):
            if self._columns[known] is None:
                raise ValueError(f"colonnes {', '.join(names)} lues, « {known[0]} » (ou « {known[1]} ») attendue.")

    def fill(self, choose: Callable[[str, str, float | None], str | None]) -> bytes:
        """Les octets du formulaire, notes écrites ; une ligne sans note reste telle qu'elle est.

        Args:
            choose: reçoit le numéro de participant, l'adresse de courriel et la note maximale (rien si le
                formulaire ne la dit pas) d'une ligne ; rend la note à écrire, ou rien.
        """
        pieces, end = [], 0
        for row in self._rows:
            grade = choose(self._number(row), self._field(row, _EMAIL), self._maximum(row))
            if grade is not None:
                start, stop = row[self._columns[_GRADE]]
                pieces += [self.text[end:start], f'"{grade}"' if self.separator in grade else grade]
                end = stop
        return "".join([*pieces, self.text[end:]]).encode("utf-8")

    def _number(self, row: list) -> str:
        found = re.search(
            r"\d+$", self._field(row, _IDENTIFIER)
        )  # « Participant 12345 », collés ou non selon la langue
        return found[0] if found else ""

    def _maximum(self, row: list) -> float | None:
        text = re.sub(r"\s", "", self._field(row, _MAXIMUM)).replace(",", ".")
        if text in ("", "-"):
            return None
        try:
            return float(text)
        except ValueError as error:
            raise ValueError(
                f"note maximale : {text!r} lu, un nombre attendu (un barème ne se remplit pas)."
            ) from error

    def _field(self, row: list, known: tuple) -> str:
        column = self._columns[known]
        return "" if column is None else self._value(row[column]).strip()

    def _value(self, span: tuple[int, int]) -> str:
        raw = self.text[slice(*span)].removeprefix("\ufeff")
        return raw[1:-1].replace('""', '"') if raw.startswith('"') else raw


def _split(text: str, separator: str) -> list[list[tuple[int, int]]]:
    """La place de chaque champ de chaque ligne ; le module csv rendrait les valeurs, mais pas leur place."""
    field = re.compile(rf'(\ufeff?"(?:[^"]|"")*"|[^"{separator}\r\n]*)({separator}|\r\n|\n|\r|\Z)')
    rows, position, ended = [[]], 0, False
    while not ended:
        match = field.match(text, position)
        if match is None:
            raise ValueError(f"ligne {text.count(chr(10), 0, position) + 1} : guillemets mal fermés.")
        rows[-1].append(match.span(1))
        position, ended = match.end(), match[2] == ""
        if match[2] not in ("", separator):
            rows.append([])
    rows = [row for row in rows if len(row) > 1 or row[0][0] < row[0][1]]  # sans les lignes vides
    for number, row in enumerate(rows, start=1):
        if len(row) != len(rows[0]):
            raise ValueError(f"enregistrement {number} : {len(row)} champs lus, {len(rows[0])} attendus.")
    return rows or [[]]
