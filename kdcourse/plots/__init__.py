"""Les figures du cours : ``common`` pour ce qu'elles partagent, puis un fichier par chapitre."""

from typing import TYPE_CHECKING

from kdcourse.lazy import face

__getattr__, __dir__ = face(__name__)

if TYPE_CHECKING:  # d'où vient chaque nom : ``face`` le lit ici, les outils de types aussi
    from kdcourse.plots.common import (
        gain_summary as gain_summary,
        plot_budgets as plot_budgets,
        plot_curves as plot_curves,
        plot_gains as plot_gains,
        plot_intervals as plot_intervals,
        plot_paired as plot_paired,
        plot_tiles_and_bars as plot_tiles_and_bars,
    )
    from kdcourse.plots.features import (
        plot_adapter as plot_adapter,
        plot_attention_maps as plot_attention_maps,
        plot_feature_scheme as plot_feature_scheme,
    )
    from kdcourse.plots.logits import (
        plot_gain_curves as plot_gain_curves,
        plot_gradients as plot_gradients,
        plot_temperature_gradients as plot_temperature_gradients,
        plot_temperature_maps as plot_temperature_maps,
    )
    from kdcourse.plots.method_comparison import plot_methods as plot_methods
    from kdcourse.plots.method_ranking import (
        plot_key_points as plot_key_points,
        plot_misordered as plot_misordered,
        plot_rankings as plot_rankings,
    )
    from kdcourse.plots.principles import (
        plot_bias_sweep as plot_bias_sweep,
        plot_field_map as plot_field_map,
        plot_gap as plot_gap,
        plot_prediction as plot_prediction,
        plot_scheme as plot_scheme,
    )
    from kdcourse.plots.relations import (
        plot_by_weight as plot_by_weight,
        plot_cost as plot_cost,
        plot_invariances as plot_invariances,
        plot_relation_budgets as plot_relation_budgets,
        plot_relation_matrices as plot_relation_matrices,
        plot_small_batch as plot_small_batch,
        plot_without_labels as plot_without_labels,
    )
    from kdcourse.plots.self_distillation import (
        plot_bargain as plot_bargain,
        plot_batch_pairing as plot_batch_pairing,
        plot_generations as plot_generations,
        plot_reliability as plot_reliability,
        plot_targets as plot_targets,
        plot_two_axes as plot_two_axes,
    )
    from kdcourse.plots.tensor_train import (
        plot_front as plot_front,
        plot_layer_cut as plot_layer_cut,
        plot_matrices as plot_matrices,
        plot_reconstructions as plot_reconstructions,
        plot_tt_steps as plot_tt_steps,
        plot_tucker as plot_tucker,
    )
