"""Ce qu'on calcule pour le montrer : des intervalles, une calibration, un coût, et ce que mesure chaque chapitre."""

from typing import TYPE_CHECKING

from kdcourse.lazy import face

__getattr__, __dir__ = face(__name__)

if TYPE_CHECKING:  # d'où vient chaque nom : ``face`` le lit ici, les outils de types aussi
    from kdcourse.measures.calibration import reliability as reliability
    from kdcourse.measures.features import (
        FeatureBudgets as FeatureBudgets,
        gradient_norms as gradient_norms,
        map_similarity as map_similarity,
        mean_map as mean_map,
        model_attention as model_attention,
        uniform_map as uniform_map,
    )
    from kdcourse.measures.hinton import hinton_table as hinton_table
    from kdcourse.measures.intervals import bias_sweep as bias_sweep, log_slope as log_slope, tune_bias as tune_bias
    from kdcourse.measures.logits import logit_gradient as logit_gradient, matching_gradient as matching_gradient
    from kdcourse.measures.method_comparison import method_needs as method_needs, method_table as method_table
    from kdcourse.measures.method_ranking import (
        Pairs as Pairs,
        StoredComparison as StoredComparison,
        independent_runs as independent_runs,
        misordered as misordered,
        other_laboratories as other_laboratories,
        shared_seeds as shared_seeds,
    )
    from kdcourse.measures.principles import most_uncertain as most_uncertain, seen_second as seen_second
    from kdcourse.measures.relations import (
        RelationBudgets as RelationBudgets,
        alpha_of as alpha_of,
        center_errors as center_errors,
        class_contrast as class_contrast,
        nearest_class_error as nearest_class_error,
        relation_state as relation_state,
        sorted_by_class as sorted_by_class,
    )
    from kdcourse.measures.self_distillation import SelfDistillationBudgets as SelfDistillationBudgets
    from kdcourse.measures.temperature_map import TemperatureMap as TemperatureMap, main_confusions as main_confusions
    from kdcourse.measures.tensor_train import (
        CompressionRuns as CompressionRuns,
        RankSweep as RankSweep,
        rank_sweep as rank_sweep,
        tt_svd_steps as tt_svd_steps,
    )
