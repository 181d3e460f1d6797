"""Réglages de nbgrader pour ce cours. Le dossier peut être copié ailleurs : aucun chemin n'y est absolu."""

from pathlib import Path

c = get_config()  # noqa: F821 (nbgrader fournit ce nom)

c.CourseDirectory.course_id = "kdcourse"
c.CourseDirectory.root = str(Path(__file__).resolve().parent)

# Une ébauche ne lève rien : le notebook distribué s'exécute de bout en bout.
c.ClearSolutions.code_stub = {"python": '# VOTRE RÉPONSE ICI\nprint("à compléter")'}
c.ClearSolutions.text_stub = "*Votre réponse ici.*"

# La correction : le code des élèves ne tourne jamais dans le noyau de nbgrader, mais enfermé, et rend des nombres.
_OURS = "kdgrading.marking"
c.Autograde.pre_convert_hook = "kdgrading.intake.mend_notebooks"
c.Autograde.sanitize_preprocessors = [
    f"{_OURS}.RestoreCells",
    "nbgrader.preprocessors.OverwriteKernelspec",
    "nbgrader.preprocessors.OverwriteCells",
    "nbgrader.preprocessors.CheckCellMetadata",
]
c.Autograde.autograde_preprocessors = [
    f"{_OURS}.IsolatedGrade",
    "nbgrader.preprocessors.SaveAutoGrades",
    "nbgrader.preprocessors.AssignLatePenalties",
    "nbgrader.preprocessors.CheckCellMetadata",
]

# La collecte d'une archive Moodle. L'export garde son greffon par défaut ; le README nomme celui de Moodle.
c.ZipCollectApp.extractor_plugin = "kdgrading.moodle_extract.MoodleExtractor"
c.ZipCollectApp.collector_plugin = "kdgrading.moodle_collect.MoodleCollector"
