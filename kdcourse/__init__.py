"""kdcourse : les pertes, les modèles et les entraînements du cours de distillation de connaissances.

Chaque nom s'importe d'ici (``from kdcourse import kd_loss``), dans l'ordre des chapitres. Les figures sont dans
``kdcourse.plots``, les curseurs dans ``kdcourse.widgets``, ce qu'un chapitre mesure dans ``kdcourse.measures``. Rien
n'est chargé avant son premier emploi : ``import kdcourse`` ne coûte rien.
"""

from typing import TYPE_CHECKING

from kdcourse.lazy import face

__version__ = "0.1.0"
__getattr__, __dir__ = face(__name__)

if TYPE_CHECKING:  # d'où vient chaque nom : ``face`` le lit ici, les outils de types aussi
    # 10.1, et tous les chapitres : des données, des modèles, un entraînement, une erreur et son intervalle
    from kdcourse.data.datasets import load_dataset as load_dataset
    from kdcourse.data.splits import (
        Batches as Batches,
        Dataset as Dataset,
        Split as Split,
        shift_and_noise as shift_and_noise,
    )
    from kdcourse.environment import best_device as best_device, describe_environment as describe_environment
    from kdcourse.exercises.checking import check as check
    from kdcourse.formats import french as french, say as say, thousands as thousands
    from kdcourse.measures.intervals import (
        Interval as Interval,
        markdown_table as markdown_table,
        mean_interval as mean_interval,
        points as points,
    )
    from kdcourse.models import (
        CNN as CNN,
        MLP as MLP,
        AdaptedStudent as AdaptedStudent,
        Features as Features,
        color_student as color_student,
        color_teacher as color_teacher,
        digits_student as digits_student,
        digits_teacher as digits_teacher,
        mnist_student as mnist_student,
        mnist_teacher as mnist_teacher,
        parameter_count as parameter_count,
        predict_features as predict_features,
    )
    from kdcourse.train import load_model as load_model
    from kdcourse.training.large_student import (
        distill as distill,
        distill_seeds as distill_seeds,
        model_error as model_error,
    )
    from kdcourse.training.loop import Trained as Trained, train_epochs as train_epochs
    from kdcourse.training.many_students import (
        initial_model as initial_model,
        train_many as train_many,
        train_one as train_one,
    )
    from kdcourse.training.students import Students as Students, error_rate as error_rate, grid as grid

    # 10.2 : les logits
    from kdcourse.losses.logits import (
        KnowledgeDistillationLoss as KnowledgeDistillationLoss,
        dist_loss as dist_loss,
        dkd_loss as dkd_loss,
        kd_loss as kd_loss,
        standardized_kd_loss as standardized_kd_loss,
    )
    from kdcourse.losses.numerics import LossTerms as LossTerms

    # 10.3 : les features
    from kdcourse.losses.features import (
        AdaptationLayer as AdaptationLayer,
        AttentionTransfer as AttentionTransfer,
        FeatureDistillationLoss as FeatureDistillationLoss,
        attention_loss as attention_loss,
        attention_map as attention_map,
        hint_loss as hint_loss,
    )

    # 10.4 : les relations
    from kdcourse.losses.relations import (
        RelationDistillation as RelationDistillation,
        cosine_relation_loss as cosine_relation_loss,
        cosine_relations as cosine_relations,
        rkd_angle_loss as rkd_angle_loss,
        rkd_distance_loss as rkd_distance_loss,
        similarity_preserving_loss as similarity_preserving_loss,
    )

    # 10.5 : l'auto-distillation
    from kdcourse.losses.self_distillation import (
        SelfDistillation as SelfDistillation,
        label_smoothing_probabilities as label_smoothing_probabilities,
        ps_kd_loss as ps_kd_loss,
    )
    from kdcourse.measures.calibration import (
        expected_calibration_error as expected_calibration_error,
        tune_temperature as tune_temperature,
    )
    from kdcourse.training.self_distillation import (
        born_again as born_again,
        progressive_self_distillation as progressive_self_distillation,
        ps_kd as ps_kd,
    )

    # 10.6 : la compression, et toutes les méthodes côte à côte
    from kdcourse.compression.decompositions import tt_reconstruct as tt_reconstruct, tt_svd as tt_svd
    from kdcourse.compression.tensor_train import (
        TensorDistillation as TensorDistillation,
        TTLinear as TTLinear,
        convert_to_tensor_train as convert_to_tensor_train,
    )
    from kdcourse.compression.tucker import tucker2_conv as tucker2_conv
    from kdcourse.measures.method_comparison import compare_distillation_methods as compare_distillation_methods
    from kdcourse.methods import (
        KD as KD,
        METHODS as METHODS,
        Choice as Choice,
        Method as Method,
        load_choices as load_choices,
    )

    # Complément : les modèles qui écrivent
    from kdcourse.losses.sequences import (
        forward_kl_loss as forward_kl_loss,
        generalized_jsd_loss as generalized_jsd_loss,
        reverse_kl_loss as reverse_kl_loss,
    )
