# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3 (ipykernel)
#     language: python
#     name: python3
# ---

# %% [markdown]
# # 10.4 Distiller les relations
#
# Le teacher ne dit pas seulement « cette image est un 3 ». Il dit aussi « ces deux images se ressemblent, celle-ci leur
# ressemble moins ». Ce chapitre apprend au student à voir les mêmes ressemblances.

# %% tags=["bootstrap"]
from kdcourse import describe_environment

print(describe_environment())

# %% [markdown]
# ## Objectifs
#
# À la fin de ce chapitre, vous saurez :
#
# - écrire une perte de relations, et dire pourquoi elle n'a besoin ni d'adaptateur ni de dimensions égales ;
# - choisir une relation d'après ce qu'elle ignore : rotation, translation, échelle ;
# - prévoir son coût quand le lot grandit ;
# - comparer honnêtement les relations aux logits, et reconnaître le réglage où elles nuisent.
#
# **Durée** : une heure et demie de lecture ; le notebook entier s'exécute en moins d'une minute.
#
# **Prérequis** : 10.1 (la distillation, l'intervalle à 95 %) ; le produit de matrices. 10.3 aide, sans être nécessaire.
#
# | Dans ce chapitre | Sens |
# |---|---|
# | relation | un nombre qui lie deux exemples d'un lot (ou trois) : ressemblance, distance, angle |
# | similarité cosinus | le cosinus de l'angle entre deux embeddings : 1 s'ils pointent dans la même direction |
# | matrice de Gram | tous les produits scalaires d'un lot, $FF^\top$, de forme $B \times B$ |
#
# ## Deux réseaux, deux langues
#
# Reprenons le teacher et le student de 10.1. Juste avant ses logits, chacun résume l'image par un vecteur, son
# *embedding*. Mais ces vecteurs n'ont pas la même taille, et leurs dimensions n'ont pas le même sens : les soustraire
# n'a pas de sens non plus.

# %%
import torch
from kdcourse import digits_student, digits_teacher, error_rate, french
from kdcourse import load_dataset, predict_features, thousands, train_one

torch.set_num_threads(1)  # petits réseaux : deux fils n'y gagnent rien
digits = load_dataset("digits")
teacher = train_one(digits_teacher, digits.train, epochs=30)
guide = predict_features(teacher, digits.train.images)  # calculé une fois
torch.manual_seed(0)
fresh = digits_student()

test_logits = predict_features(teacher, digits.test.images).logits
error = error_rate(test_logits, digits.test.labels)
width = predict_features(fresh, digits.test.images).embedding.shape[1]
print(f"erreur du teacher, test : {french(error)} %")
print(f"embedding : {guide.embedding.shape[1]} nombres chez le teacher, "
      f"{width} chez le student")

# %% [markdown]
# Posons aux deux réseaux une question à laquelle chacun peut répondre dans sa langue : **ces deux images se
# ressemblent-elles ?** Prenons cinq images de test, dont deux 3, et le cosinus de leurs embeddings, deux à deux.

# %%
from kdcourse import cosine_relations
from kdcourse.measures import sorted_by_class
from kdcourse.plots import plot_small_batch

pairs = sorted_by_class(digits.test, per_class=2).images
small = pairs[[6, 7, 18, 10, 0]]  # deux 3, un 9, un 5, un 0
plot_small_batch(small, {
    name: cosine_relations(predict_features(model, small).embedding)
    for name, model in [("teacher", teacher), ("student neuf", fresh)]
})

# %% [markdown]
# Chaque case compare l'image de sa ligne à celle de sa colonne. Le teacher sépare : les deux 3 se ressemblent, les
# autres couples bien moins, et pas tous autant. Le student neuf, lui, trouve que tout ressemble à tout. Les deux
# matrices ont la même taille, $5 \times 5$ : celle du lot. Voilà ce que l'on peut comparer.
#
# ## La perte, à la main
#
# Notons $F$ les embeddings d'un lot, de forme $(B, D)$, et $\hat F$ la même matrice dont chaque ligne est divisée par
# sa norme. La matrice des relations et la perte s'écrivent
#
# $$R = \hat F \hat F^\top, \qquad
# \mathcal{L}_{\text{cosine}} = \frac{1}{B^2} \sum_{i,j} \left(R^s_{ij} - R^t_{ij}\right)^2$$
#
# Une ligne de code suffit à chacune. Vérifions-les contre `kdcourse`, puis essayons la perte des *hints* de 10.3 sur les
# mêmes embeddings. Enfin, le module `RelationDistillation` joint les étiquettes à la perte de relations, avec la
# convention du cours : $\alpha$ pour le teacher, $1-\alpha$ pour elles.

# %%
import torch.nn.functional as F
from kdcourse import cosine_relation_loss, hint_loss, RelationDistillation

lot, labels = digits.train.images[:25], digits.train.labels[:25]
with torch.no_grad():
    seen = fresh.forward_features(lot)
both_sides = seen.embedding, guide.embedding[:25]
normalized = (F.normalize(features, dim=1) for features in both_sides)
mine = F.mse_loss(*(rows @ rows.T for rows in normalized))
torch.testing.assert_close(cosine_relation_loss(*both_sides), mine)
print("perte de relations :", french(mine, 3), "dans les deux versions")
try:
    hint_loss(*both_sides)
except ValueError as reason:
    print("perte des hints    :", reason)
module = RelationDistillation(alpha=0.5, relation="cosine")
terms = module(*both_sides, seen.logits, labels)
torch.testing.assert_close(terms.total, 0.5 * mine + 0.5 * terms.hard)
print(f"relations {french(terms.distillation, 3)}, étiquettes "
      f"{french(terms.hard, 3)}, total {french(terms.total, 3)}")

# %% [markdown]
# La perte des *hints* refuse : elle compare les vecteurs eux-mêmes, et il lui faut un adaptateur de 32 vers 256
# nombres, que l'on entraîne avec le student. La relation n'en veut pas : $D$ disparaît dans le produit, il ne reste que
# $B \times B$.
#
# Regardez la dernière ligne : à poids égal, les relations pèsent bien moins que les étiquettes. Il leur faudra
# un facteur d'échelle, comme $T^2$ pour les logits ou $\beta$ pour l'attention ; il sera réglé sur la validation.
#
# ## Quatre relations
#
# Le cosinus n'est qu'un choix. Les articles en ont fait d'autres.
#
# | Relation | Ce que l'on compare | Source |
# |---|---|---|
# | *cosine* (similarité cosinus) | $\hat F \hat F^\top$ : on normalise, puis on multiplie | ce cours |
# | SP (*similarity-preserving*) | $FF^\top$, puis chaque ligne divisée par sa norme : on multiplie, puis on normalise | Tung et Mori, 2019 |
# | RKD distance (*relational knowledge distillation*) | $\lVert f_i - f_j \rVert$, divisée par la moyenne des distances du lot | Park et al., 2019 |
# | RKD angle | le cosinus de l'angle en $i$ du triangle $j\,i\,k$ | Park et al., 2019 |
#
# Les deux premières prennent l'écart quadratique moyen. Les RKD prennent *smooth-L1*, quadratique près de zéro,
# linéaire au-delà. Les trois premières lient des couples, la dernière des triplets : $B^3$ nombres.
#
# Une relation se définit aussi par ce qu'elle **ignore**. Une rotation garde toutes les distances et tous les angles : ce
# n'est qu'un changement de repère, et il vaut mieux que la perte n'en dise rien.
#
# Voici un nuage de douze points, les embeddings d'un teacher qui n'aurait que deux dimensions. Le student est le même nuage,
# transformé.
#
# **À vous de parier** : déplacez, tournez, étirez. Quelles pertes restent nulles ?

# %%
from kdcourse.widgets import InvarianceExplorer

torch.manual_seed(0)
centers = torch.tensor([[1.5, 1.0], [-1.2, 1.3], [0.5, -1.4]])
cloud = centers.repeat_interleave(4, 0) + 0.35 * torch.randn(12, 2)
InvarianceExplorer(cloud)

# %% [markdown]
# Choisissez une transformation, puis poussez son ampleur : ce qu'une perte ignore reste à **0**. Les vrais embeddings du teacher
# ont 256 dimensions. Les pertes y répondent-elles de même aux mêmes transformations ?

# %%
from IPython.display import Markdown, display
from kdcourse import markdown_table, rkd_angle_loss, rkd_distance_loss
from kdcourse import similarity_preserving_loss

losses = {
    "cosine": cosine_relation_loss, "SP": similarity_preserving_loss,
    "RKD distance": rkd_distance_loss, "RKD angle": rkd_angle_loss}
f, normal = guide.embedding[:50].double(), torch.randn(256, 256).double()
changed = {
    "rotation": f @ torch.linalg.qr(normal).Q,
    "translation": f + normal[0] * f.norm(dim=1).mean() / 16,
    "même échelle pour tous (× 3)": 3 * f,
    "une échelle par exemple": f * torch.empty(50, 1).uniform_(0.5, 2),
    "une échelle par dimension": f * torch.empty(256).uniform_(0.5, 2),
}
values = {name: [loss(g, f).item() for loss in losses.values()]
          for name, g in changed.items()}
rows = [[name, *("**0**" if v < 1e-12 else french(v, 5) for v in line)]
        for name, line in values.items()]
display(Markdown(markdown_table(["transformation", *losses], rows)))

# %% [markdown]
# Chaque case est la perte entre les embeddings et leurs transformés, calculée en float64 ; **0** veut dire sous
# $10^{-12}$.
#
# Comme dans le nuage, toutes ignorent la rotation et l'échelle commune : c'est le moins que l'on demande. Les deux RKD ignorent aussi la
# translation, car elles ne voient que des différences $f_i - f_j$. Le cosinus, et lui seul, ignore la norme de chaque
# exemple. Aucune n'ignore une échelle par dimension : étirer les axes inégalement change vraiment les
# ressemblances.
#
# ## Ce que cela coûte
#
# On lit souvent que les pertes de relations sont lentes. Mesurons : le temps d'un aller-retour de chaque perte (le plus
# court de quelques essais), pour des lots de 32 à 512 exemples, à côté d'un aller-retour du student sans distillation.
# Deux students : celui du cours, minuscule, et un petit réseau convolutif sur des images de 32×32 pixels.

# %%
import time

def shortest_ms(function, repeats):
    function()  # le premier appel prépare ses tampons
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        times.append(1000 * (time.perf_counter() - start))
    return min(times)  # celui que rien d'autre n'a dérangé

def loss_ms(loss, size, repeats=7):
    student = torch.randn(size, 32, requires_grad=True)
    target = torch.randn(size, 256)
    return shortest_ms(lambda: loss(student, target).backward(), repeats)

def step_ms(model, shape, size, repeats=3):
    x, y = torch.randn(size, *shape), torch.randint(10, (size,))
    return shortest_ms(
        lambda: F.cross_entropy(model(x), y).backward(), repeats)

# %%
from kdcourse import color_student
from kdcourse.plots import plot_cost

batches = [32, 64, 128, 256, 512]
cost = {name: [loss_ms(loss, b) for b in batches]
        for name, loss in losses.items() if name != "RKD angle"}
cost["RKD angle"] = [loss_ms(rkd_angle_loss, b, 3) for b in batches[:4]]
small, large = "student du cours, 8×8", "student convolutif, 32×32"
network = color_student()
steps = {
    small: [step_ms(fresh, (1, 8, 8), b, 7) for b in batches],
    large: [step_ms(network, (3, 32, 32), b) for b in batches[:4]]}
share = {name: [100 * t / step for t, step in zip(times, steps[large])]
         for name, times in cost.items()}
print("en % d'un aller-retour du student convolutif :")
for name, (_, _, at_128, at_256) in share.items():
    print(f"{name:12}   B = 128 : {french(at_128):>5}   "
          f"B = 256 : {french(at_256):>5}")
plot_cost(batches, cost, steps)

# %% [markdown]
# Les axes sont logarithmiques : une loi $B^p$ y est une droite de pente $p$. Les pentes sont calculées sur les
# trois plus grands lots de chaque courbe.
#
# Cosinus, SP et distance ne sont **pas** lentes. Face au student du cours, qui n'a presque rien à calculer, elles
# coûtent plus que tout son aller-retour ; face au réseau convolutif, elles pèsent peu. (Le passage du teacher n'est pas compté.) L'angle est l'exception : il compare $B^3$ triplets. À petit
# lot, il reste discret face au réseau convolutif ; puis chaque doublement du lot le multiplie par cinq à huit, et sa part ne cesse de monter.
# C'est pourquoi nous travaillerons avec des lots de 25.
#
# ## Relations ou logits : l'expérience
#
# Cent images, dix graines, 100 époques de quatre lots de 25 : 400 pas, les mêmes pour tous. Mêmes poids de départ,
# mêmes lots. « Logits » est KD, à $T = 4$.
#
# Chaque perte a besoin d'un facteur d'échelle. Les auteurs de RKD donnent 25 (distance) et 50 (angle) ; nous les
# gardons. Ceux de SP donnent 3 000, pour d'autres réseaux et d'autres lots : des essais préalables, que ce notebook ne
# refait pas, nous ont conduits à 300, et à 30 pour le cosinus. Puis $\alpha$ est choisi **sur la validation**, parmi 0,1, 0,5 et 0,9 : le rapport entre
# teacher et étiquettes va ainsi de 1/9 à 9. L'angle, lui, garde $\alpha = 0{,}5$, seul ou avec la distance : le régler
# prendrait les secondes que ce notebook n'a plus. Ses lignes sont donc à lire avec indulgence.
#
# **À vous de parier** : à ce budget, une relation peut-elle faire aussi bien que les logits, qu'elle ne regarde pas ?

# %%
from kdcourse import Features, grid, kd_loss, train_many

def guided_by(loss, scale):
    return lambda s, t, labels: scale * loss(s.embedding, t.embedding)

def added(*names):
    return lambda *batch: sum(methods[name](*batch) for name in names)

scales = {"cosine": 30, "SP": 300, "RKD distance": 25, "RKD angle": 50}
methods = {"logits": lambda s, t, labels: kd_loss(s.logits, t.logits, 4.0)}
methods |= {name: guided_by(losses[name], scales[name]) for name in losses}
methods["RKD distance + angle"] = added("RKD distance", "RKD angle")

def run(name, alphas, size=100, seeds=10, device="cpu", **options):
    seen = [t[:size].to(device) for t in (guide.embedding, guide.logits)]
    return train_many(
        digits_student, digits.train.where(slice(0, size)).to(device),
        distillation=methods[name], teacher=Features([], *seen),
        **grid(alphas=alphas, seeds=range(seeds)),
        **dict(epochs=100, batch_size=25) | options)

# %%
alphas, valid, test = [0.1, 0.5, 0.9], {}, {}

def measure(name, alphas):
    students = run(name, alphas)
    valid[name], test[name] = (
        students.table(part) for part in (digits.validation, digits.test))

measure("logits", [0.0, *alphas])  # alpha = 0 : le student seul
alone_valid, valid["logits"] = valid["logits"][0], valid["logits"][1:]
alone, test["logits"] = test["logits"][0], test["logits"][1:]
tuned = ["logits", "cosine", "SP", "RKD distance"]
for name in tuned[1:]:
    measure(name, alphas)
best = min(tuned[1:], key=lambda name: valid[name].mean(1).min())
both = f"logits + {best}"
methods[both] = added("logits", best)
measure(both, alphas)
for name in ("RKD angle", "RKD distance + angle"):
    measure(name, [0.5])

# %%
from kdcourse.plots import plot_weights

chosen = {name: int(valid[name].mean(1).argmin()) for name in valid}
last = {name: valid[name][-1].mean() for name in tuned[1:]}
worst = max(last, key=last.get)
plot_weights(
    alphas, {name: valid[name] for name in [*tuned, both]}, alone_valid,
    f"À α = 0,9 et 400 pas, {worst} mène à {french(last[worst])} % d'erreur ; "
    f"le student seul, à {french(alone_valid.mean())} %",
)

# %% [markdown]
# Les logits supportent tous les poids. Les relations, non : la distance remonte, sans dépasser le student seul ; le cosinus
# et SP, trop forts, rendent le student **pire que seul**, à 400 pas. Une relation dit quelles images se ressemblent, jamais
# comment s'appelle leur classe. Seules les étiquettes le disent ; couvertes par le teacher, elles s'apprennent lentement
# (nous doublerons les pas plus bas). Ajoutez les logits du teacher, qui nomment les classes : l'accident disparaît (dernier
# panneau).
#
# Le rapport le plus lourd de SP, $300 \times 0{,}9 / 0{,}1 = 2\,700$ fois celui des étiquettes, est à peu près celui de
# ses auteurs : un facteur ne se recopie pas d'un article, il se règle.
#
# Prenons pour chaque méthode le $\alpha$ choisi sur la validation, et regardons le test.

# %%
from kdcourse import mean_interval, points
from kdcourse.measures import class_contrast, relation_state
from kdcourse.plots import plot_gains

order = [*tuned, "RKD angle", "RKD distance + angle", both]
kept = {name: test[name][chosen[name]] for name in order}
gains = {name: alone - kept[name] for name in order}
over_logits = {name: kept["logits"] - kept[name] for name in order[1:]}
first = ["seul", "0", french(alone_valid.mean()), mean_interval(alone)]
rows = [first + ["", ""]]
for name in order:
    alpha = alphas[chosen[name]] if len(valid[name]) > 1 else 0.5
    rows.append([
        name, french(alpha), french(valid[name][chosen[name]].mean()),
        mean_interval(kept[name]), mean_interval(gains[name]),
        mean_interval(over_logits[name]) if name in over_logits else ""])
header = ["méthode", "α", "validation (%)", "test (%)",
          "gain sur seul (points)", "gain sur les logits (points)"]
display(Markdown(markdown_table(header, rows)))

# %%
def winners(gains):
    return [name for name in gains if mean_interval(gains[name]).low > 0]

plot_gains(
    {"sur le student seul": gains, "sur les logits": over_logits},
    f"Battent le student seul : {len(winners(gains))} méthodes sur "
    f"{len(gains)}. Battent les logits : {len(winners(over_logits))} sur "
    f"{len(over_logits)} (100 images, 10 graines)",
)

# %% [markdown]
# À gauche, les gains sont grands : les ressemblances du teacher, sans une seule de ses prédictions, apportent à peu
# près ce qu'apportent ses logits. À droite, le losange gris dit « ces graines ne tranchent pas ». Ici, la
# somme des deux gagne le plus, en moyenne ; la section suivante dira si cela tient ailleurs.
#
# La comparaison penche du côté des relations : les logits choisissent le bord de leur grille, et n'ont pas eu d'échelle à
# régler.
#
# Ces intervalles portent sur les graines ; ils ignorent l'échantillonnage des 500 images de test. Et à force de
# comparer, on finit par trouver : même sans aucun effet, un intervalle à 95 % sur vingt, en moyenne, exclut zéro.
#
# ## D'autres régimes, et un échec
#
# Refaisons la comparaison avec 50 et 1 000 images, toujours 400 pas, en gardant les $\alpha$ choisis à 100 images.
# Les trois régimes sont montrés. Un quatrième, 200 images, a été essayé avant ce notebook, qui ne le refait pas.

# %%
trio = "logits", best, both
regimes = {50: {}, 100: {n: gains[n] for n in trio}, 1000: {}}
for size in (50, 1000):
    for name in trio:
        kept_alpha = alphas[chosen[name]]
        weights = [0, kept_alpha] if name == "logits" else [kept_alpha]
        students = run(name, weights, size, epochs=400 * 25 // size)
        errors = students.table(digits.test)
        if name == "logits":
            reference = errors[0]  # alpha = 0 : le student seul
        regimes[size][name] = reference - errors[-1]
for size, panel in regimes.items():
    print(f"{thousands(size):>5} images : gain de {both} sur {best}", mean_interval(panel[both] - panel[best]))
failures = [f"{name} à {thousands(size)} images" for size, panel in regimes.items()
            for name in panel if name not in winners(panel)]
plot_gains(
    {f"{thousands(size)} images": panel for size, panel in regimes.items()},
    "Ne battent pas le student seul : "
    + (" ; ".join(failures) or "aucun cas, dans aucun régime"))

# %% [markdown]
# Les gains fondent quand les étiquettes abondent, comme en 10.1. Le titre nomme
# les échecs. Avec 1 000 images, 400 pas ne font que dix époques : les logits n'ont guère le temps de servir ; la
# relation, elle, gagne davantage. Un lot de 25 images lui donne 300 couples à apprendre.
#
# Et la somme des deux ? Face à la relation seule, elle gagne à 50 images, ne s'en distingue pas à 100, et perd à 1 000 : les
# écarts appariés sont imprimés. Additionner n'est pas une règle non plus.
#
# Est-ce une loi, ou une question de budget ? Doublons les pas, à 100 images, et suivons l'erreur de validation.

# %%
from kdcourse.plots import plot_curves

def long(name, weights):
    students = run(name, weights, epochs=200, validation=digits.validation)
    wrong = students.logits(digits.test.images).argmax(-1) != digits.test.labels
    return students.rows(students.validation_errors), 100 * students.rows(wrong.float())

curves, faults = long("logits", [0.0, alphas[chosen["logits"]]])
best_curves, best_faults = long(best, [alphas[chosen[best]]])
gap = faults[1] - best_faults[0]  # (graines, images)
late_valid = mean_interval(curves[1, :, -1] - best_curves[0, :, -1])
late, by_image = mean_interval(gap.mean(1)), mean_interval(gap.mean(0))
print(f"gain de {best} sur les logits à 800 pas : validation {late_valid}, test {late} ;")
print(f"au test, l'intervalle sur les images au lieu des graines : {by_image}")
_, (heavy,) = long("cosine", [0.9])
print(f"cosine, α = 0,9, test : {mean_interval(test['cosine'][-1])} % à 400 "
      f"pas, {mean_interval(heavy.mean(1))} % à 800")

# %%
lines = {"seul": (curves[0], "student"), "logits": (curves[1], "neutral"),
         best: (best_curves[0], "distilled")}
shown = [19, 29, 39, 49, 59, 79, 99, 149, 199]  # époques, à partir de 0
plot_curves(
    [4 * (epoch + 1) for epoch in shown],
    {n: (curve[:, shown].T, role) for n, (curve, role) in lines.items()},
    xlabel="pas d'entraînement", ylabel="erreur de validation (%)",
    title=f"Gain de {best} sur les logits (test) : "
    f"{mean_interval(over_logits[best])} à 400 pas, {late} à 800")

# %% [markdown]
# Le student seul part devant : il n'écoute que les étiquettes. Les deux autres apprennent davantage, et cela prend du
# temps ; ils le dépassent ensuite, puis continuent de descendre quand lui ne bouge plus. Des deux, la relation est la
# première à son plateau.
#
# Comparez les deux budgets. L'avance mesurée à 400 pas n'est pas une loi. À 800, l'écart **change de signe** : la relation est
# devant en validation, les logits au test. Les students sont pourtant les mêmes, graine par graine : seules les images changent.
# Lisez les deux intervalles, qui frôlent 0, puis l'intervalle sur les 500 images de test, à la ligne suivante : il contient 0. Nos intervalles
# habituels ignorent cet échantillonnage ; le voici à l'œuvre.
#
# Et le cosinus trop lourd, qui ruinait le student à 400 pas, ne le ruine plus à 800. Une comparaison qui ne dit pas son
# budget ne prouve rien.
#
# Les chiffres publiés invitent à la même prudence. Exactitude sur CIFAR-100 (%), README de RepDistiller :
#
# | teacher → student | teacher | seul | logits | SP | RKD | CRD |
# |---|---|---|---|---|---|---|
# | resnet32x4 → resnet8x4 | 79,42 | 72,50 | 73,33 | 72,94 | **71,90** | 75,51 |
# | wrn-40-2 → wrn-16-2 | 75,61 | 73,26 | 74,92 | 73,83 | 73,35 | 75,48 |
# | vgg13 → MobileNetV2 | 74,64 | 64,60 | 67,37 | 66,30 | **64,52** | 69,73 |
#
# RKD y passe deux fois **sous** le student seul (en gras) : une fois de 0,60 point, une fois de 0,08. Sans
# intervalle, la seconde ne veut rien dire, et la première dépasse à peine les 0,40 point observés ailleurs d'une exécution à
# l'autre (10.3). Ce sont leurs mesures, pas les nôtres : d'autres images,
# d'autres réseaux, toutes les étiquettes, et 240 époques. Nos plus grands gains viennent d'un student qui manque
# d'étiquettes.
#
# La dernière colonne, CRD (*contrastive representation distillation*, Tian et al., 2020), pousse l'idée plus loin.
# L'embedding du student doit désigner, parmi des milliers d'exemples gardés dans une mémoire, **le même** exemple chez
# le teacher : proche de sa propre image, loin de toutes les autres. Il y faut une projection de 128 dimensions de
# chaque côté, deux mémoires, et une température (0,07). Nous ne le programmons pas ici.
#
# ## Voir les relations s'apprendre
#
# Trions par classe 100 images de test, dix de chacune. Un bon embedding montre alors dix blocs clairs sur la diagonale.
# `train_many`, rappelée avec plus d'époques et la même graine, passe exactement par les mêmes students (la cellule le
# vérifie) : voici donc un student à trois moments, le curseur en montrera sept.

# %%
from kdcourse.plots import plot_relation_matrices

snapshots = {k: run("cosine", [0.0, 0.1, 0.5, 0.9], epochs=k, seeds=1)
             for k in (1, 2, 5, 10, 25, 50, 100)}
assert torch.equal(snapshots[10].losses, snapshots[100].losses[:, :10])
test_labels = sorted_by_class(digits.test).labels
columns, contrast = {}, {}
for name, alpha in ("seul", 0), ("guidé (α = 0,5)", 0.5):
    states = {k: relation_state(snapshots[k].one(seed=0, alpha=alpha), teacher, digits.test)
              for k in (1, 10, 100)}
    columns[name] = {f"époque {k}, écart {french(state.loss, 3)}":
                     state.relations for k, state in states.items()}
    contrast[name] = class_contrast(states[100].relations, test_labels)
target = relation_state(teacher, teacher, digits.test).relations
columns["seul"]["teacher"] = target
contrast["teacher"] = class_contrast(target, test_labels)
summary = " ; ".join(f"{n} {french(v, 2)}" for n, v in contrast.items())
plot_relation_matrices(
    columns, test_labels,
    f"Contraste (ressemblance dans une classe moins entre classes) : {summary}")

# %% [markdown]
# En haut, le student seul, puis le teacher ; en bas, le même student guidé par le cosinus. Au départ, tout ressemble à
# tout ; quatre pas suffisent à la relation pour creuser des écarts. À la fin, en bas, dix blocs se détachent comme chez
# le teacher. En haut, ils se devinent : le student seul laisse se ressembler des classes que le teacher sépare. Le
# titre mesure ce contraste.
#
# L'écart au-dessus de chaque matrice est la perte, sur des images de test : le student n'a pas appris ces couples par
# cœur.

# %%
from kdcourse.widgets import RelationExplorer

RelationExplorer(snapshots, teacher, digits.test)

# %% [markdown]
# Faites défiler les époques à $\alpha = 0$, puis à $\alpha = 0{,}5$. Puis restez à l'époque 100 et montez $\alpha$ de
# 0,1 à 0,9 : comparez l'écart au teacher et l'erreur. Un écart plus petit ne veut pas dire une erreur plus petite : à
# 0,9, la matrice a ses blocs, mais le student apprend trop lentement quel nom donner à chacun.
#
# ## Chasse au bug
#
# Une collègue a programmé SP d'après l'article. Sa perte descend, ses matrices se ressemblent, tout s'exécute. Mais
# avec le facteur 300 et les mêmes $\alpha$ que nous, elle gagne bien moins à $\alpha = 0{,}5$. Lisez sa perte, et
# regardez le symptôme.

# %%
def colleague_loss(student, teacher):
    def normalized_gram(features):
        gram = features @ features.mT
        return F.normalize(gram, p=1, dim=-1)
    return F.mse_loss(normalized_gram(student), normalized_gram(teacher))

methods["SP, collègue"] = guided_by(colleague_loss, 300)
measure("SP, collègue", alphas)
middle = alphas.index(0.5)
lost = mean_interval(test["SP, collègue"][middle] - test["SP"][middle])
embeddings = predict_features(fresh, digits.train.images).embedding
for size in (10, 25, 50, 100, 200):
    pair = embeddings[:size], guide.embedding[:size]
    ratio = similarity_preserving_loss(*pair) / colleague_loss(*pair)
    print(f"B = {size:3} : perte de kdcourse / perte de la collègue = "
          f"{french(ratio, 0)}")
plot_weights(
    alphas, {n: valid[n] for n in ("SP", "SP, collègue")}, alone_valid,
    f"La collègue, à α = 0,5 : {points(lost)} d'erreur de test en plus")

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# `p=1` : ses lignes ont une **somme** de 1, celles de l'article une **norme** de 1. Ses valeurs sont de l'ordre de
# $1/B$ au lieu de $1/\sqrt{B}$, et leur carré d'autant plus petit : la perte est divisée par un facteur proportionnel à
# $B$ (imprimé), qu'aucune erreur ne signale. Le symptôme est une perte trop faible pour le poids qu'on lui donne ; à $\alpha = 0{,}9$, ce
# facteur compense par hasard un poids trop fort, et la collègue pourrait conclure que tout va bien. Puis elle change la
# taille du lot, et tout se dérègle.
#
# La réparation tient en un caractère, `p=2` ; le panneau de gauche la mesure.
# </details>
#
# ## À vous de jouer
#
# **Exercice 10.4 a.** Écrivez `relations(features)`, les similarités cosinus d'un lot, `(B, D)` vers `(B, B)`.

# %% tags=["nbval-check-output"]
from kdcourse import check

def relations(features):
    ...  # à compléter

_ = check("10.4 a", relations)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# def relations(features):
#     rows = features / features.norm(dim=1, keepdim=True)
#     return rows @ rows.T
# ```
# </details>
#
# **Exercice 10.4 b.** Écrivez la perte RKD distance : distances euclidiennes, chacune divisée par la moyenne des
# distances **entre exemples différents** de son côté, puis `F.smooth_l1_loss` sur toutes les cases.

# %% tags=["nbval-check-output"]
def my_rkd_distance(student, teacher):
    ...  # à compléter

_ = check("10.4 b", my_rkd_distance)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# def my_rkd_distance(student, teacher):
#     def ratios(features):
#         distances = torch.cdist(features, features)
#         return distances / distances[distances > 0].mean()
#
#     return F.smooth_l1_loss(ratios(student), ratios(teacher))
# ```
#
# `torch.cdist` passe par le produit de matrices quand le lot est grand : deux exemples presque confondus y perdent leur
# distance. La version du cours centre le lot et calcule en float64.
# </details>
#
# **Exercice 10.4 c.** Écrivez la perte SP : matrices de Gram, chaque ligne divisée par sa norme, écart quadratique
# divisé par $B^2$.

# %% tags=["nbval-check-output"]
def my_sp(student, teacher):
    ...  # à compléter

_ = check("10.4 c", my_sp)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# def my_sp(student, teacher):
#     def normalized_gram(features):
#         return F.normalize(features @ features.T, dim=1)
#
#     return F.mse_loss(normalized_gram(student), normalized_gram(teacher))
# ```
# </details>
#
# ## Quiz
#
# Choisissez, puis déroulez l'option.
#
# **1. Pourquoi une perte de relations n'a-t-elle pas besoin d'adaptateur ?**
#
# <details><summary>Parce que les deux embeddings ont la même taille</summary>Non : ici 256 et 32 nombres.</details>
# <details><summary>Parce qu'elle compare deux matrices B × B</summary>Oui : la dimension disparaît dans le produit scalaire ou
# la distance.</details>
# <details><summary>Parce que les lignes sont normalisées</summary>Non : la normalisation retire l'échelle, pas la
# différence de taille.</details>
#
# **2. Un teacher ajoute le même vecteur à tous ses embeddings. Quelle perte ne change pas ?**
#
# <details><summary>Cosinus</summary>Non : les angles vus de l'origine changent.</details>
# <details><summary>SP</summary>Non : les produits scalaires changent.</details>
# <details><summary>RKD distance</summary>Oui : elle ne voit que des différences. RKD angle ne change pas non plus.</details>
#
# **3. Vous passez le lot de 64 à 256. Par combien se multiplie le coût de RKD angle ?**
#
# <details><summary>Par 4</summary>Non : ce serait une perte linéaire.</details>
# <details><summary>Par 16</summary>Non : c'est la loi des couples, celle de la distance, une fois les petits frais
# fixes oubliés.</details>
# <details><summary>Par 64, ou presque</summary>Oui : un triplet a trois indices, et 4³ = 64 ; la pente mesurée, sous 3,
# donne un peu moins.</details>
#
# **4. L'écart de relations au teacher baisse, mais l'erreur du student monte. Est-ce possible ?**
#
# <details><summary>Non, la perte mesure la qualité</summary>Non : le curseur l'a montré. Ressembler au teacher n'est pas nommer
# les classes.</details>
# <details><summary>Oui, si le poids des relations étouffe les étiquettes</summary>Oui, au budget donné : les relations ne disent jamais quelle
# classe porte quel nom.</details>
#
# **5. La mémoire manque : vous coupez chaque lot en deux et faites la moyenne des deux pertes de relations. Est-ce la
# même perte ?**
#
# <details><summary>Oui, comme pour l'entropie croisée</summary>Non : l'entropie croisée est une moyenne sur les exemples. Une relation
# lie deux exemples.</details>
# <details><summary>Non, les couples à cheval sur les deux moitiés sont perdus</summary>Oui : un peu plus de la moitié des couples disparaît, et la
# moyenne de RKD n'est plus celle du lot.</details>
#
# ## Sur GPU
#
# Une relation vit dans le lot : que devient-elle quand il est petit ? Mêmes 100 images, mêmes 400 pas, perte cosinus à
# $\alpha = 0{,}5$, contre le student seul au même lot. Un GPU essaie cinq tailles de lot et cent graines ; un
# processeur deux tailles et dix graines.
#
# Sur de vraies photos, la fonction `distill` de 10.1 prend la relation dans le lot **entier** : à plusieurs GPU, chacun reçoit
# les embeddings des autres, sinon ce serait une autre perte. Avec un GPU, la seconde cellule prend CIFAR-10 ; sans GPU, nos
# chiffres et 100 images. Les facteurs sont ceux que 10.6 a réglés sur les chiffres.

# %%
from kdcourse import best_device

device = best_device()
on_gpu = device.type == "cuda"
seeds, lots = (100, (5, 10, 25, 50, 100)) if on_gpu else (10, (5, 50))
test_part = digits.test.to(device)
for size in lots:
    students = run("cosine", [0.0, 0.5], epochs=400 * size // 100,
                   batch_size=size, seeds=seeds, device=device)
    lonely, guided = students.table(test_part).cpu()
    print(f"lot de {size:3} : seul {mean_interval(lonely)} %, "
          f"gain de la relation {points(mean_interval(lonely - guided))}")

# %%
from kdcourse import color_teacher, distill, distill_seeds, model_error

if on_gpu:
    data, small = load_dataset("cifar10"), color_student
    big = distill(color_teacher, data.train, method="seul", epochs=20, jitter=2,
                  output="runs/cifar10-teacher", resume=True).model
else:
    few = digits.train.where(slice(0, 100))
    data, small, big = digits._replace(train=few), digits_student, teacher
for method in ("seul", "cosine", "RKD"):
    found = distill_seeds(small, data.train, big, range(3), method=method,
                          epochs=20 if on_gpu else 60, batch_size=128,
                          learning_rate=0.001 if on_gpu else 0.01,
                          output="runs/cifar10" if on_gpu else None)
    errors_big = torch.tensor([model_error(model, data.test) for model in found])
    print(f"{method:7} : erreur de test {mean_interval(errors_big)} %, trois graines")

# %% [markdown]
# Un gain négatif est une perte. Avec cinq images par lot, il n'y a que dix couples par pas, et 400 pas ne font que vingt
# époques : à ce budget, le facteur réglé pour 25 images couvre les étiquettes. Qui change de taille de lot règle de nouveau
# le facteur, et le nombre de pas.
#
# Dans la seconde cellule, trois graines donnent une indication, pas un résultat. Sans GPU, essayez 45 époques au lieu de 60 : à un
# budget si court, RKD (ici, distance et angle) change beaucoup. Sur CIFAR-10, les facteurs restent à régler.
#
# ## À retenir

# %%
cheap = max(share[name][2] for name in losses if name != "RKD angle")
many = {name: mean_interval(regimes[1000][name]) for name in trio}
before, after = french(alone.mean()), french(kept[best].mean())
extra = {name: mean_interval(over_logits[name]) for name in (best, both)}
angle = french(share["RKD angle"][2])
display(Markdown(f"""
- Une relation compare des tableaux indexés par les exemples ($B \\times B$, ou
  $B^3$ pour l'angle) : ni adaptateur, ni dimensions égales. RKD ignore la translation ; le cosinus, la norme de
  chaque exemple ; toutes, la rotation et l'échelle commune.
- À 100 images et 400 pas, {best} mène de {before} % à {after} % d'erreur :
  gain {points(mean_interval(gains[best]))}. Gain sur les logits :
  {extra[best]} ; avec « {both} », {extra[both]} ;
  à 800 pas, {best} contre les logits : {late_valid} en validation, {late} au test, rien d'établi.
- À 1 000 images et 400 pas, gain sur le student seul : logits
  {many["logits"]}, {best} {many[best]}.
- Le poids décide. À 400 pas et $\\alpha = 0{{,}}9$, {worst} : {french(last[worst])} %
  d'erreur de validation ; le student seul, {french(alone_valid.mean())} %.
- À $B = 128$, face au student convolutif, cosine, SP et distance coûtent
  au plus {french(cheap)} % de plus ; l'angle ({angle} %) croît en $B^3$.
"""))

# %% [markdown]
# ## Références
#
# - W. Park, D. Kim, Y. Lu, M. Cho, *Relational Knowledge Distillation*, 2019,
#   [arXiv:1904.05068](https://arxiv.org/abs/1904.05068). Distances et angles.
# - F. Tung, G. Mori, *Similarity-Preserving Knowledge Distillation*, 2019,
#   [arXiv:1907.09682](https://arxiv.org/abs/1907.09682). SP.
# - Y. Tian, D. Krishnan, P. Isola, *Contrastive Representation Distillation*, 2020,
#   [arXiv:1910.10699](https://arxiv.org/abs/1910.10699). CRD ; la table vient de son code,
#   [RepDistiller](https://github.com/HobbitLong/RepDistiller).
# - *Optical Recognition of Handwritten Digits*, UCI, 1998, [doi:10.24432/C50P49](https://doi.org/10.24432/C50P49).
#
# **La suite** : 10.5 se passe de teacher.
