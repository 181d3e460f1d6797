"""Le côté de l'enseignant : corriger sans faire confiance, puis rendre les notes. Rien d'autre n'importe ce paquet."""
