"""Les exercices des chapitres : ``checking`` les vérifie ; un fichier par chapitre dit leurs erreurs classiques."""
