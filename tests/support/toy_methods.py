"""Des méthodes qui ne sont pas du cours : une entrée chacune, et tous les entraînements les suivent."""

from dataclasses import replace

from kdcourse import Method, similarity_preserving_loss
from kdcourse.methods import METHODS, added_to, on_maps


def spread(embedding):
    return (embedding - embedding.mean(dim=0)).square().mean()


TOY = Method(
    "dispersion",
    lambda student, teacher, labels, choice: (
        choice.scale * (spread(student.embedding) - spread(teacher.embedding)).square()
    ),
    reads=("embedding",),
    whole_batch=True,
)
ON_MAPS = Method("SP des cartes", on_maps(similarity_preserving_loss), reads=("map",), whole_batch=True)
BY_LABEL = Method(  # elle lit les étiquettes du lot entier, et les logits
    "dispersion par classe",
    lambda student, teacher, labels, choice: spread((student.logits * (labels % 2)[:, None]).mean(dim=0)),
    whole_batch=True,
)
FORGETFUL = replace(TOY, name="dispersion, part par part", whole_batch=False)
MEMORY = Method(  # elle se souvient, et lie les exemples du lot
    "mémoire du lot",
    lambda student, teacher, labels, choice: (spread(student.logits) - spread(teacher.logits.softmax(1))).square(),
    needs_teacher=False,
    remembers=True,
    whole_batch=True,
)
ADAPTED = added_to(METHODS["DIST"], METHODS["hint"])  # le lot entier, et un adaptateur
TOYS = {method.name: method for method in (TOY, ON_MAPS, BY_LABEL, ADAPTED)}
