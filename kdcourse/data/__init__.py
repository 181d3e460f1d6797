"""Les données : parties et lots (``splits``), jeux du cours (``datasets``), leurs fichiers (``downloads``)."""
