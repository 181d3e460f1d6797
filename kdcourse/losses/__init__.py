"""Les pertes du cours, un fichier par chapitre. Ce dossier voyage seul, sous le nom qu'on veut, avec torch seul.

``numerics`` et ``checks`` sont ce que les chapitres se partagent.
"""

from .features import (
    AdaptationLayer as AdaptationLayer,
    AttentionTransfer as AttentionTransfer,
    FeatureDistillationLoss as FeatureDistillationLoss,
    attention_loss as attention_loss,
    attention_map as attention_map,
    hint_loss as hint_loss,
)
from .logits import (
    KnowledgeDistillationLoss as KnowledgeDistillationLoss,
    dist_loss as dist_loss,
    dkd_loss as dkd_loss,
    kd_loss as kd_loss,
    standardized_kd_loss as standardized_kd_loss,
)
from .numerics import LossTerms as LossTerms
from .relations import (
    RelationDistillation as RelationDistillation,
    cosine_relation_loss as cosine_relation_loss,
    cosine_relations as cosine_relations,
    rkd_angle_loss as rkd_angle_loss,
    rkd_distance_loss as rkd_distance_loss,
    similarity_preserving_loss as similarity_preserving_loss,
)
from .self_distillation import (
    SelfDistillation as SelfDistillation,
    label_smoothing_probabilities as label_smoothing_probabilities,
    ps_kd_loss as ps_kd_loss,
)
from .sequences import (
    forward_kl_loss as forward_kl_loss,
    generalized_jsd_loss as generalized_jsd_loss,
    reverse_kl_loss as reverse_kl_loss,
)
