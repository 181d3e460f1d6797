"""Les curseurs du cours : ``slider_figure`` pour leur mécanisme, puis un fichier par chapitre."""

from typing import TYPE_CHECKING

from kdcourse.lazy import face

__getattr__, __dir__ = face(__name__)

if TYPE_CHECKING:  # d'où vient chaque nom : ``face`` le lit ici, les outils de types aussi
    from kdcourse.widgets.features import AttentionExplorer as AttentionExplorer
    from kdcourse.widgets.logits import GradientExplorer as GradientExplorer, MapExplorer as MapExplorer
    from kdcourse.widgets.principles import BiasExplorer as BiasExplorer, TemperatureExplorer as TemperatureExplorer
    from kdcourse.widgets.relations import (
        InvarianceExplorer as InvarianceExplorer,
        RelationExplorer as RelationExplorer,
    )
    from kdcourse.widgets.self_distillation import CalibrationExplorer as CalibrationExplorer
    from kdcourse.widgets.tensor_train import RankExplorer as RankExplorer, TTSVDExplorer as TTSVDExplorer
