"""Les exercices des chapitres : ``checking`` les vérifie ; un fichier par chapitre dit leurs erreurs classiques."""

from typing import TYPE_CHECKING

from kdcourse.lazy import face

__getattr__, __dir__ = face(__name__)

if TYPE_CHECKING:  # d'où vient chaque nom : ``face`` le lit ici, les outils de types aussi
    from kdcourse.exercises.challenge import compression_teacher as compression_teacher
