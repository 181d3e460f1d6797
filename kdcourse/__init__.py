"""kdcourse : les pertes, les modèles et les outils du cours de distillation de connaissances.

Chaque nom public s'importe d'ici (``from kdcourse import kd_loss``) ou de son module. Les modules ne sont chargés qu'à
la première utilisation (PEP 562) : ``import kdcourse`` ne coûte rien.
"""

from importlib import import_module

__version__ = "0.1.0"

_MODULES = {
    "logits": ["KnowledgeDistillationLoss", "dist_loss", "dkd_loss", "kd_loss", "standardized_kd_loss"],
    "features": [
        "AdaptationLayer",
        "AttentionTransfer",
        "FeatureDistillationLoss",
        "attention_loss",
        "attention_map",
        "hint_loss",
    ],
    "relations": [
        "RelationDistillation",
        "cosine_relation_loss",
        "cosine_relations",
        "rkd_angle_loss",
        "rkd_distance_loss",
        "similarity_preserving_loss",
    ],
    "loop": ["train_epochs"],
    "self_distillation": [
        "SelfDistillation",
        "born_again",
        "label_smoothing_probabilities",
        "progressive_self_distillation",
        "ps_kd",
        "ps_kd_loss",
    ],
    "tensor_train": ["TTLinear", "TensorDistillation", "convert_to_tensor_train", "tt_reconstruct", "tt_svd"],
    "tucker": ["tucker2_conv"],
    "calibration": ["expected_calibration_error", "reliability", "tune_temperature"],
    "data": ["Batches", "Dataset", "Split", "load_dataset", "shift_and_noise", "shift_images"],
    "models": [
        "AdaptedStudent",
        "CNN",
        "Features",
        "MLP",
        "Trained",
        "color_student",
        "color_teacher",
        "digits_student",
        "digits_teacher",
        "mnist_student",
        "mnist_teacher",
        "parameter_count",
        "predict_features",
    ],
    "engine": ["distill", "distill_seeds", "model_error"],
    "train": ["load_model"],
    "training": ["initial_model", "train_many", "train_one"],
    "students": ["Students", "grid"],
    "comparison": [
        "Interval",
        "bias_sweep",
        "error_rate",
        "french",
        "markdown_table",
        "mean_interval",
        "points",
        "thousands",
        "tune_bias",
    ],
    "hinton": ["hinton_table"],
    "environment": ["best_device", "describe_environment"],
    "exercises.checking": ["check"],
    "exercises.compression": ["compression_teacher"],
    "methods": ["KD", "METHODS", "Choice", "Method", "load_choices"],
    "method_comparison": ["compare_distillation_methods", "method_table"],
    "temperature_map": ["TemperatureMap"],
    "plots.common": ["gain_summary", "log_slope", "plot_curves", "plot_gains", "plot_intervals", "plot_paired"],
    "plots.features": [
        "gradient_norms",
        "map_similarity",
        "model_attention",
        "plot_alpha_maps",
        "plot_attention_maps",
        "plot_feature_scheme",
        "plot_gradient_norms",
    ],
    "plots.logits": [
        "logit_gradient",
        "matching_gradient",
        "plot_gradients",
        "plot_image_rows",
        "plot_map_curves",
        "plot_temperature_gradients",
        "plot_temperature_maps",
    ],
    "plots.method_comparison": ["plot_methods"],
    "plots.tensor_train": [
        "RankSweep",
        "plot_front",
        "plot_rank_curves",
        "plot_reconstructions",
        "rank_sweep",
    ],
    "widgets.tensor_train": ["RankExplorer"],
    "plots.principles": [
        "most_uncertain",
        "plot_bias_sweep",
        "plot_field_map",
        "plot_prediction",
        "plot_scheme",
    ],
    "plots.relations": [
        "class_contrast",
        "plot_cost",
        "plot_relation_matrices",
        "plot_small_batch",
        "plot_weights",
        "sorted_by_class",
    ],
    "plots.self_distillation": ["plot_generations", "plot_reliability", "plot_targets", "plot_two_axes"],
    "widgets.features": ["AttentionExplorer"],
    "widgets.logits": ["GradientExplorer", "MapExplorer"],
    "widgets.principles": ["BiasExplorer", "TemperatureExplorer"],
    "widgets.relations": ["RelationExplorer", "relation_state"],
    "widgets.self_distillation": ["CalibrationExplorer"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names} | {"LossTerms": "_common"}
__all__ = sorted(_MODULE_OF)


def __getattr__(name: str):
    if name not in _MODULE_OF:
        raise AttributeError(f"kdcourse n'a pas de nom {name!r} ; il a : {', '.join(__all__)}.")
    value = getattr(import_module(f"kdcourse.{_MODULE_OF[name]}"), name)
    globals()[name] = value  # la prochaine fois, sans détour
    return value


def __dir__() -> list[str]:
    return sorted(set(globals()) | set(__all__))
