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
# **Que peut-on apprendre en n'imitant que des ressemblances ?**
#
# Regardez le student du milieu. Il a vu les 1 000 images du teacher, sans aucune étiquette, sans aucune réponse. Il ne sait qu'une
# chose : à quel point deux images se ressemblent, aux yeux du teacher. Il n'a donc aucun nom à donner. Nommez-lui **dix images**,
# une par classe : il reconnaît plus de neuf chiffres sur dix.
#
# ![Trois tableaux de ressemblances : uniforme chez le student neuf, en dix blocs chez le student guidé comme chez le teacher ; dessous, avec dix images nommées, le student guidé se trompe bien moins que les trois témoins](attachment:ouverture.png)
#
# Ce chapitre dit ce qu'est une ressemblance, ce qu'elle apprend, et ce qu'elle ne dira jamais.

# %% tags=["bootstrap", "hide-input"]
from kdcourse import describe_environment, say

say(describe_environment())

# %% [markdown]
# ## Objectifs
#
# À la fin de ce chapitre, vous saurez :
#
# - écrire une perte de relations, et dire pourquoi elle n'a besoin ni d'adaptateur ni de dimensions égales ;
# - reconnaître une relation à ce qu'elle ignore : rotation, translation, échelle ;
# - régler son poids, et reconnaître un poids trop lourd ;
# - comparer les relations aux logits, sans vous fier à un seul budget.
#
# **Durée : une heure** de lecture ; le notebook s'exécute en une minute.
#
# **Prérequis** : 10.1 (la distillation, l'intervalle à 95 %, `train_many`) ; le produit de matrices. Un mot de 10.3, *adaptateur* : une
# couche apprise qui met les vecteurs de deux réseaux à la même taille. Les petites fonctions d'affichage (`say`, `markdown_table`…)
# naissent dans les cellules pliées.
#
# <details><summary>Les mots du chapitre</summary>
#
# | Dans ce chapitre | Sens |
# |---|---|
# | *embedding* | le vecteur qui résume une image, juste avant les logits |
# | relation | un nombre qui lie deux exemples d'un lot (ou trois) : ressemblance, distance, angle |
# | similarité cosinus | le cosinus de l'angle entre deux embeddings : 1 s'ils pointent dans la même direction |
# | matrice de Gram | tous les produits scalaires d'un lot, $FF^\top$, de forme $B \times B$ |
# | poids λ | combien de fois la distillation pèse les étiquettes |
# | budget | le nombre de pas d'entraînement |
# </details>
#
# ## Deux réseaux, deux langues
#
# Reprenons le teacher et le student de 10.1. Chacun résume l'image par un vecteur, son *embedding*. Mais ces vecteurs n'ont
# pas la même taille, et leurs dimensions n'ont pas le même sens : les soustraire ne voudrait rien dire.
#
# Posons-leur plutôt une question à laquelle chacun répond dans sa langue : **ces deux images se ressemblent-elles ?**
# Prenons cinq images de test, dont deux 3, et le cosinus de leurs embeddings, deux à deux.

# %%
import torch
from kdcourse import cosine_relations, digits_student, digits_teacher, load_dataset
from kdcourse import predict_features, train_one
from kdcourse.measures import sorted_by_class
from kdcourse.plots import plot_small_batch

torch.set_num_threads(1)  # petits réseaux : deux fils n'y gagnent rien
digits = load_dataset("digits")
teacher = train_one(digits_teacher, digits.train, epochs=30)
target = predict_features(teacher, digits.train.images)  # calculé une fois
torch.manual_seed(0)
fresh = digits_student().eval()
seen = predict_features(fresh, digits.train.images[:25]).embedding
say(f"Embedding du teacher : {target.embedding.shape[1]} nombres ; "
    f"du student : {seen.shape[1]}.")
small = sorted_by_class(digits.test, per_class=2).images[[6, 7, 18, 10, 0]]
plot_small_batch(small, {  # deux 3, un 9, un 5, un 0
    name: cosine_relations(predict_features(model, small).embedding)
    for name, model in [("teacher", teacher), ("student neuf", fresh)]})

# %% [markdown]
# Chaque case compare l'image de sa ligne à celle de sa colonne. Le teacher sépare : les deux 3 se ressemblent, les
# autres couples bien moins, et pas tous autant. Le student neuf, lui, trouve que tout ressemble à tout. Les deux
# matrices ont la même taille, $5 \times 5$, celle du lot. Voilà ce que l'on peut comparer.
#
# ## La perte, à la main
#
# Notons $F$ les embeddings d'un lot, de forme $(B, D)$, et $\hat F$ la même matrice dont chaque ligne est divisée par
# sa norme. La matrice des relations et la perte s'écrivent
#
# $$R = \hat F \hat F^\top, \qquad
# \mathcal{L}_{\text{cosine}} = \frac{1}{B^2} \sum_{i,j} \left(R^s_{ij} - R^t_{ij}\right)^2$$
#
# Deux lignes de code suffisent à la première, une à la seconde. Essayons aussi la perte des *hints* de 10.3 sur les mêmes embeddings.

# %%
import torch.nn.functional as F
from kdcourse import french, hint_loss

def my_relations(features):
    rows = F.normalize(features, dim=1)
    return rows @ rows.T

def my_cosine_loss(student, teacher):
    return F.mse_loss(my_relations(student), my_relations(teacher))

pair = seen, target.embedding[:25]
say(f"Perte de relations d'un student neuf : {french(my_cosine_loss(*pair), 2)}.")
try:
    hint_loss(*pair)
except ValueError as reason:
    say(f"Perte des hints : {reason}")

# %% [markdown]
# La perte des *hints* refuse : elle compare les vecteurs eux-mêmes, et il lui faudrait un adaptateur. La relation n'en
# veut pas : $D$ disparaît dans le produit, il ne reste que $B \times B$.
#
# Il faut encore peser cette perte. À $\alpha = 0{,}5$, relation et étiquettes se partagent la perte à égalité, mais leurs échelles
# diffèrent. Seul leur rapport compte, ou presque : Adam ignore une échelle commune. Nous réglons donc un seul nombre, le
# **poids** $\lambda = \alpha / (1-\alpha)$ : la distillation pèse $\lambda$ fois les étiquettes. À $\lambda = 0$, le student est
# seul ; à $\lambda = \infty$, il n'a plus d'étiquettes. `run` est l'entraînement de tout le chapitre.

# %%
from math import inf
from kdcourse import grid, kd_loss, train_many
from kdcourse.measures import alpha_of  # le α de chaque poids

def run(guide, weights, size=100, steps=400, batch=25, features=target, seeds=10,
        device="cpu"):
    part = digits.train.where(slice(0, size)).to(device)
    seen = features.map(lambda f: f[:size].to(device))
    return train_many(
        digits_student, part, seen, distillation=guide,
        **grid(alphas=[alpha_of(weight) for weight in weights], seeds=range(seeds)),
        epochs=steps * batch // size, batch_size=batch,
    )

def cosine(s, t, labels):
    return my_cosine_loss(s.embedding, t.embedding)

def logits(s, t, labels):
    return kd_loss(s.logits, t.logits, 4.0)

# %% [markdown]
# ## Ni étiquette, ni réponse
#
# Refaisons l'image d'ouverture. Le student voit les 1 000 images du teacher, sans étiquettes, par lots de 25 ; seule la
# relation l'entraîne ($\lambda = \infty$). Ensuite, dix images reçoivent leur nom, une par classe. Un chiffre de test
# prend le nom de celle dont l'embedding lui ressemble le plus.
#
# Trois témoins reçoivent les mêmes dix noms : les pixels, sans réseau ; le student entraîné sur ces dix images, 160 pas ; le
# student guidé par un teacher **qui n'a rien appris**. Chaque graine a son tirage de dix images.
#
# **À vous de parier** : avec dix noms, combien d'erreurs, sur cent chiffres ? Et un teacher neuf suffirait-il ?

# %%
from kdcourse import thousands
from kdcourse.measures import nearest_class_error

labels = digits.train.labels
draws = torch.stack([(labels == c).nonzero()[:10, 0] for c in range(10)], dim=1)

def ten_names(represent):
    found = []
    for seed, ten in enumerate(draws):  # dix images, une par classe
        known, unknown = (represent(seed, part.images)
                          for part in (digits.train.where(ten), digits.test))
        found.append(nearest_class_error(
            known, labels[ten], unknown, digits.test.labels))
    return torch.stack(found)

def embeddings(students):
    return lambda k, images: predict_features(students[k], images).embedding

torch.manual_seed(0)
untrained = predict_features(digits_teacher().eval(), digits.train.images)

# %%
guided = {steps: run(cosine, [inf], size=1000, steps=steps) for steps in (400, 1600)}
named = {steps: ten_names(embeddings(students)) for steps, students in guided.items()}
raw = ten_names(embeddings(run(cosine, [inf], size=1000, features=untrained)))
answered = {"la relation, 400 pas": guided[400].errors(digits.test)}
for steps in guided:
    told = run(logits, [inf], size=1000, steps=steps)
    answered[f"les logits (KD), {thousands(steps)} pas"] = told.errors(digits.test)
pixels = ten_names(lambda seed, images: images)
ten_labels = torch.stack([
    train_many(digits_student, digits.train.where(ten), alphas=[0.0], seeds=[seed],
               epochs=160, batch_size=10).errors(digits.test)[0]
    for seed, ten in enumerate(draws)])

# %% tags=["hide-input", "opening"]
from kdcourse import markdown_table, mean_interval
from kdcourse.measures import relation_state
from kdcourse.plots import plot_without_labels
rows = {f"dix noms, le teacher, {thousands(n)} pas": few for n, few in named.items()}
rows["dix noms, un teacher neuf, 400 pas"] = raw
rows |= {f"aucun nom, sortie du student : {n}": e for n, e in answered.items()}
say(markdown_table(["student guidé, sans étiquette", "erreur de test (%)"],
                   [[name, mean_interval(errors)] for name, errors in rows.items()]))
few, shown = named[1600], {
    "student neuf": fresh, "student guidé": guided[1600][0], "teacher": teacher}
matrices = {name: relation_state(model, teacher, digits.test).relations
            for name, model in shown.items()}
plot_without_labels(matrices, sorted_by_class(digits.test).labels, {
    "student entraîné sur ces dix images": (ten_labels, "student"),
    "pixels, sans réseau": (pixels, "neutral"),
    "ressemblances d'un teacher neuf": (raw, "other"),
    "ressemblances du teacher, 400 pas": (named[400], "distilled"),
    "les mêmes, 1 600 pas": (few, "distilled"),
}, f"Ni étiquette, ni réponse, puis dix noms : {french(few.mean())} % d'erreur ; "
   f"le meilleur témoin, {french(min(e.mean() for e in (ten_labels, pixels, raw)))}")

# %% [markdown]
# À 400 pas, les trois témoins se trompent quatre fois plus, ou davantage : l'aide vient bien de ce que le teacher a appris. Ses
# ressemblances suffisent à ranger les chiffres en dix groupes, que dix noms éclairent d'un coup.
#
# Lisez les dernières lignes. Sans aucun nom, le student guidé par la relation répond **au hasard** : il a rangé, il ne sait pas
# nommer. Guidé par les logits, il répond juste, et en moyenne mieux, à pas égaux, que la relation et ses dix noms : un logit porte le
# nom de sa classe. Une relation, jamais.
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
# Une relation se reconnaît à ce qu'elle **ignore**. Voici un nuage de douze points, les embeddings d'un teacher qui n'aurait
# que deux dimensions. Le student est le même nuage, transformé.
#
# **À vous de parier** : translation, rotation, échelle commune, échelle propre à chaque point, axes étirés. Quelles
# pertes restent nulles ?

# %%
from IPython.display import display
from kdcourse.plots import plot_invariances
from kdcourse.widgets import InvarianceExplorer

torch.manual_seed(0)
centers = torch.tensor([[1.5, 1.0], [-1.2, 1.3], [0.5, -1.4]])
cloud = centers.repeat_interleave(4, 0) + 0.35 * torch.randn(12, 2)
display(plot_invariances(cloud))
InvarianceExplorer(cloud)

# %% [markdown]
# La figure montre chaque transformation au plus fort ; les curseurs font bouger le nuage pas à pas. Une perte qui ignore la
# transformation reste à 0 : c'est une *invariance*. Pour la rotation, la raison tient en une ligne : si $Q$ en est une, $(FQ)(FQ)^\top = FQQ^\top F^\top = FF^\top$. Amenez « une échelle par point » à 100 % : chaque point glisse sur son rayon, et le cosinus ne voit rien. Passez à
# « translation » : le cosinus et SP partent de l'origine, les RKD ne regardent que les écarts entre points.
#
# Les vrais embeddings du teacher ont 256 dimensions. Les quatre pertes y répondent-elles de même ?

# %%
from kdcourse import cosine_relation_loss, rkd_angle_loss, rkd_distance_loss
from kdcourse import similarity_preserving_loss

losses = {
    "cosine": cosine_relation_loss, "SP": similarity_preserving_loss,
    "RKD distance": rkd_distance_loss, "RKD angle": rkd_angle_loss}
f, normal = target.embedding[:50].double(), torch.randn(256, 256).double()
changed = {
    "translation": f + normal[0] * f.norm(dim=1).mean() / 16,
    "rotation": f @ torch.linalg.qr(normal).Q,
    "échelle commune (× 3)": 3 * f,
    "une échelle par point": f * torch.empty(50, 1).uniform_(0.5, 2),
    "une échelle par dimension": f * torch.empty(256).uniform_(0.5, 2),
}
rows = []
for name, g in changed.items():
    values = [loss(g, f).item() for loss in losses.values()]
    rows.append([name, *("**0**" if v < 1e-12 else french(v, 5) for v in values)])
say(markdown_table(["transformation", *losses], rows))

# %% [markdown]
# Toutes ignorent la rotation et l'échelle commune : tourner ou agrandir tout le nuage ne change aucune ressemblance. Les RKD ignorent aussi la
# translation ; le cosinus, et lui seul, la norme de chaque point. Aucune n'ignore une échelle par dimension : étirer
# les axes inégalement change vraiment les ressemblances. (**0** : sous $10^{-12}$, en float64.)
#
# ## Relations ou logits ?
#
# Rendons au student ses étiquettes : cent images, 400 pas, dix graines, les mêmes poids de départ et les mêmes lots pour
# tous. À ce budget, la validation a choisi le poids de chaque méthode, parmi six au moins ; les logits gardent $T = 4$, comme en 10.1.
# Ces poids, et les mesures plus longues, sont lus dans un fichier que refait `python -m benchmarks relations`. L'angle, plus lent, n'est
# pas refait ici : ses mesures paraissent plus bas.
#
# **À vous de parier** : une relation peut-elle faire aussi bien que les logits, qu'elle ne regarde pas ?

# %%
from kdcourse import points
from kdcourse.measures import RelationBudgets
from kdcourse.plots import plot_gains
stored = RelationBudgets.load()
def guided_by(loss):
    return lambda s, t, labels: loss(s.embedding, t.embedding)
guides = {"logits": logits, "cosine": cosine, "SP": guided_by(losses["SP"]),
          "RKD distance": guided_by(losses["RKD distance"])}
chosen = {name: stored.weight(100, name, 400) for name in guides}
alone = run(cosine, [0]).errors(digits.test)
test = {name: run(guide, [chosen[name]]).errors(digits.test)
        for name, guide in guides.items()}
over_alone, over_logits = (
    {f"{name}, λ = {chosen[name]}": base - errors for name, errors in test.items()
     if errors is not base} for base in (alone, test["logits"]))
best, reference = ((alone - test[name]).mean().item() for name in ("SP", "logits"))
plot_gains({"sur le student seul": over_alone, "sur les logits": over_logits}, (
    f"SP, sans voir un logit, gagne {points(best)}, les logits {french(reference)} : "
    "l'écart n'est pas établi"))

# %% [markdown]
# À gauche, les gains sont grands. À droite, aucun écart entre une relation et les logits n'est établi : ces graines ne les distinguent
# pas. L'écart d'une relation à l'autre, donc ce que coûte ce qu'elle ignore, n'est pas mesuré ici. (Triangle : la méthode gagne ; rond : elle perd ; losange : l'intervalle contient 0. Il porte sur les
# graines, et ignore l'échantillonnage des images.)
#
# ## Un poids trop lourd, et pourquoi
#
# Le poids n'a pas été choisi au hasard. Voici l'erreur de validation selon $\lambda$, à deux budgets.

# %% tags=["hide-input"]
from kdcourse.plots import plot_by_weight

roles = {400: ("400 pas", "other"), 1600: ("1 600 pas", "distilled")}
curves = {name: {text: (*stored.by_weight(100, name, steps), role)
                 for steps, (text, role) in roles.items()}
          for name in ("logits", "cosine", "SP", "RKD distance", "RKD angle")}
lonely = sum(stored.errors[100]["seul"]["validation"][1]) / 10
heaviest = {steps: stored.by_weight(100, "SP", steps) for steps in roles}
(weights, at_400), (_, at_1600) = heaviest.values()
plot_by_weight(curves, lonely, (
    f"SP, λ = {thousands(weights[-1])} : {french(at_400[-1])} % d'erreur à 400 pas, "
    f"{french(at_1600[-1])} à 1 600 ; seul, 400 pas : {french(lonely)}"))

# %% [markdown]
# À 100 images, les logits supportent tous les poids essayés. Les relations, non : à 400 pas, trop lourdes, elles rendent le student
# **pire que seul** (pour l'angle, d'un point à peine, sur quatre poids). Avec quatre fois plus de pas, l'accident disparaît : la plage
# des bons poids s'élargit.
#
# Que manque-t-il au student trop guidé ? Une hypothèse : il a bien rangé les images, mais n'a pas eu le temps d'apprendre leurs
# noms. Elle se teste : ignorons la dernière couche du student, et nommons chaque chiffre par la classe dont le **centre** (l'embedding
# moyen de ses images d'entraînement) lui ressemble le plus.

# %%
from kdcourse.measures import center_errors

named_part, heavy, rows = digits.train.where(slice(0, 100)), {}, []
for steps in (400, 1600):
    heavy[steps] = run(cosine, [0, 30, 300], steps=steps)
    by_head = heavy[steps].table(digits.test)
    by_center = heavy[steps].rows(center_errors(heavy[steps], named_part, digits.test))
    for weight, *pair in zip((0, 30, 300), by_head, by_center):
        rows.append([weight, thousands(steps), *map(mean_interval, pair)])
        if (weight, steps) == (300, 400):
            saved = mean_interval(pair[0] - pair[1])
say(markdown_table(["poids λ", "pas", "dernière couche : erreur (%)",
                    "centre le plus proche : erreur (%)"], rows),
    f"À λ = 300 et 400 pas, les centres font gagner {points(saved)} "
    f"sur la dernière couche.")

# %% [markdown]
# La première moitié de l'hypothèse tient. À $\lambda = 300$ et 400 pas, la dernière couche se trompe souvent, mais les embeddings, eux,
# sont presque aussi bien rangés qu'au bon poids : les noms manquent, non le rangement. Le temps compte aussi : quatre fois plus de pas
# rattrapent presque tout. Pourquoi la dernière couche apprend si lentement, nous ne l'avons pas mesuré.
#
# ## Et avec plus de pas ?
#
# Un verdict à un seul budget ne prouve rien. Voici les gains de 200 à 1 600 pas, à 100 puis à 1 000 images étiquetées. **Le
# poids est choisi de nouveau, sur la validation, pour chaque budget.** La seconde figure agrandit l'échelle : le gain de chaque
# méthode **sur les logits**. À 100 images, il est mesuré deux fois, sur les 297 images de validation et sur les 500 de test :
# les students sont les mêmes.

# %% tags=["hide-input"]
from kdcourse.plots import plot_relation_budgets
panels = {name: {f"{thousands(size)} images": (stored.gains(size, name), role)
                 for size, role in ((100, "distilled"), (1000, "other"))}
          for name in ("logits", "cosine", "SP", "RKD distance")}
first, last = (mean_interval(stored.gain(100, "SP", n)) for n in (400, 1600))
say(f"Ces résultats sont enregistrés, {stored.origin}. À 100 images, SP gagne "
    f"{points(first)} à 400 pas. Il gagne {points(last)} à 1 600.")
least, most = torch.stack([stored.gains(size, name).mean(1) for size in (100, 1000)
                           for name in ("cosine", "SP")]).aminmax()
display(plot_relation_budgets(stored.steps, panels, "le student seul", (
    f"Test : SP et le cosinus gagnent de {french(least)} à {points(most.item())}, "
    "selon le budget et les images")))
# %% tags=["hide-input"]
seen = {"100 images, validation": (100, "validation", "neutral"),
        "100 images, test": (100, "test", "distilled"),
        "1 000 images, test": (1000, "test", "other")}
panels = {name: {text: (stored.gains(size, name, "logits", part), role)
                 for text, (size, part, role) in seen.items()}
          for name in ("cosine", "SP")}
others = [[name, part, *(mean_interval(stored.gain(100, name, n, "logits", part))
                         for n in stored.steps)]
          for name in ("RKD distance", "RKD angle", "logits + SP")
          for part in ("validation", "test")]
early, late = (stored.gain(100, "SP", n, "logits").mean() for n in (200, 1600))
display(plot_relation_budgets(stored.steps, panels, "les logits", (
    f"SP contre les logits, 100 images, test : {french(early)} points à 200 pas, "
    f"{french(late)} à 1 600")))
headings = ["gain sur les logits (points)", "mesuré sur"]
headings += [f"{thousands(n)} pas" for n in stored.steps]
say("<details><summary>Les RKD et la somme « logits + SP », à 100 images</summary>",
    markdown_table(headings, others), "</details>")

# %% [markdown]
# Que gagne-t-on, donc, à n'imiter que des ressemblances ? La première figure répond : au test, SP et le cosinus battent le student
# seul à tous les budgets, à 100 comme à 1 000 images. Les gains fondent quand les étiquettes abondent, comme en 10.1.
#
# La seconde ajoute une nuance : **à 200 pas, SP devance les logits**, de plusieurs points, en validation comme au test. Le cosinus ne le
# fait nettement qu'à 1 000 images. Ensuite, l'avance fond : à 100 images, elle n'est plus établie au test dès 400 pas ; à 1 000, il ne
# reste à SP, à 1 600 pas, qu'un demi-point trop près de 0 pour être défendu. (À 800 pas et 100 images, le cosinus passe derrière au test,
# non en validation : n'en concluez rien.) Pourquoi va-t-elle
# plus vite ? Nous ne l'avons pas testé. Quant à la somme « logits + SP » (le tableau plié), passé 200 pas, rien n'établit qu'elle batte les logits.
#
# Comparez enfin validation et test : les mêmes students, jugés sur d'autres images, changent parfois de signe. Un intervalle sur
# les graines ignore cet échantillonnage ; un écart qui frôle 0 ne se défend pas. Et la validation a déjà servi, à choisir les poids.
#
# <details><summary>Comment nous avons réglé</summary>
#
# Le poids de chaque méthode est choisi sur la validation, pour chaque budget et chaque nombre d'images : de quatre poids (l'angle)
# à huit, d'un facteur trois de l'un à l'autre, moyenne de dix graines. Le meilleur n'est jamais au bord de la grille, sauf pour les
# logits à 1 000 images et 200 pas : le plus petit poids, 0,03, où ils perdent un peu. L'avance des relations y est donc peut-être
# flattée. Le facteur publié ne se recopie pas : les
# auteurs de SP donnent 3 000, pour d'autres réseaux et d'autres lots ; ceux de RKD, 25 et 50. « Logits + SP » garde, à chaque
# budget, le rapport des deux meilleurs poids, et règle leur poids commun. À 1 000 images, l'angle et la somme n'ont pas été
# mesurés. À l'ouverture, le student entraîné sur dix images fait 160 pas. Il n'y a ici qu'un teacher, et un seul choix des 100 images.
# </details>
#
# ## Ce que cela coûte
#
# Voici le temps d'un passage avant et arrière de chaque perte, et celui d'un petit student
# convolutif sur des images de 32×32 pixels, sans distillation. Le temps est le plus court de quelques essais.

# %%
import time
from kdcourse import color_student
from kdcourse.plots import plot_cost

def shortest_ms(step):
    times = []
    for _ in range(4):  # le premier essai prépare ses tampons
        start = time.perf_counter()
        step().backward()
        times.append(1000 * (time.perf_counter() - start))
    return min(times[1:])

batches, network, cost, steps = [32, 64, 128, 256], color_student(), {}, []
for size in batches:
    ours, theirs = torch.randn(size, 32, requires_grad=True), torch.randn(size, 256)
    for name, loss in losses.items():
        cost.setdefault(name, []).append(shortest_ms(lambda: loss(ours, theirs)))
    x, y = torch.randn(size, 3, 32, 32), torch.randint(10, (size,))
    steps.append(shortest_ms(lambda: F.cross_entropy(network(x), y)))
plot_cost(batches, cost, {"student, 32×32": steps})

# %% [markdown]
# Cosinus, SP et distance pèsent peu à côté du réseau. L'angle compare $B^3$ triplets, les autres $B^2$ couples : peu de chose dans un
# petit lot, sa pente est la plus raide. Ces lois ne se lisent qu'à peu près : les frais fixes dominent d'abord. (Le passage du teacher
# n'est pas compté ; une pente, mesurée sur les trois plus grands lots, dépend de la machine.)
#
# ## Voir les relations s'apprendre
#
# Trions par classe 100 images de test, dix de chacune. Un bon embedding montre alors dix blocs clairs sur la diagonale.
# Voici un student, graine 0, seul puis guidé au poids 30, à trois moments. Le **contraste** d'une matrice est la ressemblance moyenne
# dans une classe, moins celle de deux classes différentes ; le titre le donne en moyenne sur dix students.

# %%
from kdcourse.measures import class_contrast
from kdcourse.plots import plot_relation_matrices
from kdcourse.widgets import RelationExplorer

shades, names = [0, 3, 30, 300], sorted_by_class(digits.test).labels
snapshots = {epoch: run(cosine, shades, steps=4 * epoch, seeds=1)
             for epoch in (1, 2, 5, 10, 25, 50, 100)}
columns, contrast = {}, {}
for name, place in ("seul", 0), ("guidé (λ = 30)", 1):
    # seul : le poids 0, le premier de shades ; guidé : 30, le troisième
    states = {epoch: relation_state(snapshots[epoch][2 * place], teacher, digits.test)
              for epoch in (1, 10, 100)}
    columns[name] = {f"époque {epoch}, écart {french(state.loss, 3)}": state.relations
                     for epoch, state in states.items()}
    ten = (heavy[400][10 * place + seed] for seed in range(10))  # poids 0, puis 30
    contrast[name] = torch.tensor([class_contrast(
        relation_state(one, teacher, digits.test).relations, names) for one in ten])
columns["seul"]["teacher"] = matrices["teacher"]

# %% tags=["hide-input"]
aim = class_contrast(matrices["teacher"], names)
summary = ", ".join(f"{name} {french(values.mean(), 2)}"
                    for name, values in contrast.items())
display(plot_relation_matrices(columns, names, (
    f"Contraste, moyenne de dix students : {summary} ; teacher {french(aim, 2)}")))
RelationExplorer(snapshots, shades, teacher, digits.test)

# %% [markdown]
# Dès la première époque, quatre pas, la relation a creusé des écarts ; le student seul, non. À la fin, en bas, dix blocs se
# détachent comme chez le teacher ; en haut, le student seul laisse se ressembler des classes que le teacher sépare. L'écart
# au-dessus de chaque matrice est la perte, sur des images de test : ces couples n'ont pas été appris par cœur.
#
# Dans le curseur, regardez pourtant la courbe d'erreur : à $\lambda = 30$, ce student reste longtemps **derrière** le student seul, et ne
# le dépasse qu'à la fin. Il range d'abord, il nomme ensuite : c'est pourquoi le poids se choisit pour chaque budget. Restez à l'époque
# 100 et passez à $\lambda = 300$ : la matrice ressemble encore plus à celle du teacher, et l'erreur remonte. Les blocs sont là ; les
# noms manquent.
#
# ## Chasse au bug
#
# Une collègue a programmé SP d'après l'article. Sa perte descend, tout s'exécute. Au même poids que nous, elle gagne pourtant
# bien moins. Lisez sa perte, regardez le symptôme, et cherchez avant de dérouler la réponse.

# %%
def colleague_loss(student, teacher):
    def normalized_gram(features):
        gram = features @ features.mT
        return F.normalize(gram, p=1, dim=-1)
    return F.mse_loss(normalized_gram(student), normalized_gram(teacher))

hers = run(guided_by(colleague_loss), [chosen["SP"]]).errors(digits.test)
lost = mean_interval(hers - test["SP"])
plot_gains({f"100 images, 400 pas, λ = {chosen['SP']}": {
    "SP": alone - test["SP"], "SP, collègue": alone - hers}},
    f"La collègue fait {points(lost.mean)} d'erreur de plus")

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# `p=1` : ses lignes ont une **somme** (de valeurs absolues) de 1, celles de l'article une **norme** de 1. Ses valeurs sont de l'ordre de
# $1/B$ au lieu de $1/\sqrt{B}$ : la perte est divisée par un facteur qui croît comme $B$, qu'aucune erreur ne signale. Tout se passe comme si
# le poids était trop faible ; il changerait avec la taille du lot.
#
# La réparation tient en un caractère, `p=2`. La cellule suivante mesure le facteur, puis rend à la collègue le poids perdu.
# </details>

# %% tags=["hide-input", "repair"]
ratios = {}
for size in (10, 25, 50, 100, 200):
    batch = (predict_features(fresh, digits.train.images[:size]).embedding,
             target.embedding[:size])
    ratios[size] = (similarity_preserving_loss(*batch) / colleague_loss(*batch)).item()
heavier = chosen["SP"] * ratios[25]
mended = run(guided_by(colleague_loss), [heavier]).errors(digits.test)
left = mean_interval(mended - test["SP"])
say(markdown_table(["taille du lot B", *map(str, ratios)],
                   [["perte de kdcourse / perte de la collègue",
                     *(french(ratio, 0) for ratio in ratios.values())]]),
    f"Avec {french(ratios[25], 0)} fois plus de poids, elle fait encore "
    f"{points(left)} d'erreur de plus que SP.")

# %% [markdown]
# ## À vous de jouer
#
# **Exercice 10.4 a.** Écrivez la perte RKD distance : distances euclidiennes, chacune divisée par la moyenne des
# distances **entre exemples différents** de son côté, puis `F.smooth_l1_loss` sur toutes les cases.
#
# **Exercice 10.4 b.** Reconnaître une relation à ce qu'elle ignore. Écrivez `ignored(loss, features)` : `loss` est une perte
# inconnue, `loss(student, teacher)`, et `features` un lot de float64, `(B, D)`. Transformez `features` de cinq façons (translation,
# rotation, échelle commune, une échelle par point, une échelle par dimension), et rendez cinq nombres dans cet ordre,
# `torch.tensor([...])` : 1.0 si la perte entre le transformé et l'original reste nulle, 0.0 sinon. `check` essaie des
# pertes du chapitre, puis d'autres.

# %% tags=["nbval-check-output"]
from kdcourse import check

def my_rkd_distance(student, teacher):
    ...  # à compléter

def ignored(loss, features):
    ...  # à compléter

_ = check("10.4 a", my_rkd_distance)
_ = check("10.4 b", ignored)

# %% [markdown]
# <details><summary>Une solution de 10.4 a</summary>
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
# <details><summary>Une solution de 10.4 b</summary>
#
# ```python
# def ignored(loss, features):
#     torch.manual_seed(0)
#     rows, columns = features.shape
#     rotation = torch.linalg.qr(torch.randn(columns, columns).double()).Q
#     moved = [
#         features + torch.randn(columns).double(),  # le même vecteur pour tous
#         features @ rotation,
#         3 * features,
#         features * torch.linspace(0.5, 2, rows).double()[:, None],
#         features * torch.linspace(0.5, 2, columns).double(),
#     ]
#     values = [loss(each, features).item() for each in moved]
#     return torch.tensor([float(abs(value) < 1e-10) for value in values])
# ```
#
# Une matrice tirée au hasard n'est pas une rotation : `qr` l'orthogonalise. Et comparer à 0 exactement échouerait :
# l'arrondi laisse un reste.
# </details>
#
# **Exercice 10.4 c.** Prévoir, puis mesurer. À 400 pas et par lots de 25, le cosinus gagne au poids 30. Passez à des lots de
# **5** images : même poids, même nombre de pas ; chaque student verra donc cinq fois moins d'images.
#
# 1. Dans `prediction`, écrivez ce que vous attendez : `"gain"`, `"perte"` ou `"rien d'établi"`.
# 2. `experiment` entraîne les deux students, seul et guidé, et rend dix gains : l'erreur de test du student seul moins
#    celle du student guidé. `run(cosine, [0, 30])` entraîne les deux, et son argument `batch` règle le lot ;
#    `students.table(digits.test)` a une ligne par poids.
# 3. Lisez l'intervalle, et complétez `reading` avec les mêmes mots.

# %% tags=["nbval-check-output"]
prediction = ...  # à compléter

def experiment():
    ...  # à compléter

reading = ...  # à compléter
_ = check("10.4 c", prediction, experiment, reading)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# prediction = "gain"  # votre prévision peut différer : elle ne compte pas
#
# def experiment():
#     lonely, guided = run(cosine, [0, 30], batch=5).table(digits.test)
#     return lonely - guided
#
# reading = "perte"
# ```
#
# Le poids 30 a été réglé pour des lots de 25 ; à cinq images, il est trop lourd. La section *Sur GPU* choisit de nouveau ce poids.
# </details>
#
# ## Quiz
#
# Choisissez, puis déroulez l'option.
#
# **1. Pourquoi une perte de relations n'a-t-elle pas besoin d'adaptateur ?**
#
# <details><summary>Les deux embeddings ont la même taille</summary>Non : ici 256 et 32 nombres.</details>
# <details><summary>Elle compare deux matrices B × B</summary>Oui : la dimension disparaît dans le produit scalaire ou
# la distance.</details>
# <details><summary>Ses lignes sont normalisées</summary>Non : la normalisation retire l'échelle, pas la
# différence de taille.</details>
# <details><summary>Le teacher est figé</summary>Non : il l'est aussi pour le hint, qui en a besoin.</details>
#
# **2. Une perte ignore la rotation et la translation, mais n'est plus nulle si les embeddings du student sont deux fois plus longs.
# Laquelle est-ce ?**
#
# <details><summary>RKD distance, telle quelle</summary>Non : elle divise par la distance moyenne, et ignore donc l'échelle
# commune.</details>
# <details><summary>Le cosinus</summary>Non : il ignore l'échelle, et voit la translation.</details>
# <details><summary>SP</summary>Non : elle ignore l'échelle commune, et voit la translation.</details>
# <details><summary>Les distances, sans les diviser par leur moyenne</summary>Oui : c'est cette division qui rend RKD
# insensible à l'échelle.</details>
#
# **3. Vous passez le lot de 64 à 256. Par combien se multiplie le coût de RKD angle, une fois les frais fixes oubliés ?**
#
# <details><summary>Par 64, ou presque</summary>Oui : un triplet a trois indices, et 4³ = 64.</details>
# <details><summary>Par 4</summary>Non : ce serait une perte linéaire.</details>
# <details><summary>Par 16</summary>Non : c'est la loi des couples, celle de la distance.</details>
#
# **4. À 400 pas et poids trop lourd, l'écart de relations au teacher baisse et l'erreur monte. Qu'est-ce qui manque au
# student ?**
#
# <details><summary>De bons embeddings</summary>Non : par le centre le plus proche, il se trompe bien moins.</details>
# <details><summary>Un teacher plus sûr</summary>Non : c'est le même teacher qu'au bon poids.</details>
# <details><summary>Le nom des classes</summary>Oui : les embeddings sont bien rangés, mais en 400 pas la dernière couche ne sait pas
# encore les nommer.</details>
#
# **5. La mémoire manque : vous coupez chaque lot en deux et faites la moyenne des deux pertes de relations. Est-ce la
# même perte ?**
#
# <details><summary>Oui, comme pour l'entropie croisée</summary>Non : l'entropie croisée est une moyenne sur les exemples.
# Une relation lie deux exemples.</details>
# <details><summary>Non, les couples à cheval sur les deux moitiés sont perdus</summary>Oui : un peu plus de la moitié des
# couples disparaît, et la moyenne de RKD n'est plus celle du lot.</details>
# <details><summary>Oui, si les deux moitiés ont la même taille</summary>Non : deux exemples de moitiés différentes ne se
# rencontrent pas.</details>
# <details><summary>Non, elle est deux fois plus grande</summary>Non : une moyenne de moyennes ne double pas ; ce sont
# les couples qui changent.</details>
#
# ## Sur GPU
#
# Une relation vit dans le lot. Quand il change, son poids se règle de nouveau : ici sur la validation, pour chaque taille de
# lot. Mêmes 100 images, mêmes 400 pas. Un GPU essaie cinq tailles et cent graines ; un processeur deux tailles et dix
# graines.

# %%
from kdcourse import best_device

device = best_device()
on_gpu = device.type == "cuda"
seeds, lots = (100, (5, 10, 25, 50, 100)) if on_gpu else (10, (5, 50))
tried = [0, 1, 3, 10, 30, 100]
rows = []
for size in lots:
    students = run(cosine, tried, batch=size, seeds=seeds, device=device)
    validation, errors = (students.table(part.to(device)).cpu()
                          for part in (digits.validation, digits.test))
    place = int(validation[1:].mean(1).argmin()) + 1
    rows.append([size, tried[place], mean_interval(errors[0]),
                 mean_interval(errors[0] - errors[place])])
say(markdown_table(["lot", "poids choisi", "seul (%)", "gain de la relation (points)"],
                   rows))

# %% [markdown]
# Réglée pour son lot, la relation gagne même par lots de cinq, à un poids bien plus faible.
#
# Et sur de vraies photos ? La fonction `distill` de 10.1 prend la relation dans le lot **entier** : à plusieurs GPU, chacun
# reçoit les embeddings des autres. Avec un GPU, la cellule prend CIFAR-10 ; sans GPU, elle refait trois de nos students de 100
# images, aux mêmes poids et au même budget.

# %%
from kdcourse import Choice, color_teacher, distill, distill_seeds, model_error

if on_gpu:
    data, small_model = load_dataset("cifar10"), color_student
    big = distill(color_teacher, data.train, method="seul", epochs=20, jitter=2,
                  output="runs/cifar10-teacher", resume=True).model
else:
    data = digits._replace(train=digits.train.where(slice(0, 100)))
    small_model, big = digits_student, teacher
choices = {"seul": None, "SP": Choice(alpha_of(300))}
for method, choice in choices.items():
    found = distill_seeds(
        small_model, data.train, big, range(3), method=method, choice=choice,
        epochs=20 if on_gpu else 100, batch_size=128 if on_gpu else 25,
        learning_rate=0.001 if on_gpu else 0.003,
        output="runs/cifar10" if on_gpu else None)
    found_errors = torch.tensor([model_error(model, data.test) for model in found])
    say(f"{method} : erreur de test {mean_interval(found_errors)} %, trois graines")

# %% [markdown]
# Trois graines donnent une indication, pas un résultat. Sur CIFAR-10, le lot, les images et les réseaux changent : ces poids
# n'y sont pas réglés, et un mauvais résultat n'y condamnerait que le poids.
#
# ## À retenir

# %% tags=["hide-input"]
say(f"""
- Les ressemblances suffisent à ranger : sans étiquette ni réponse, puis avec dix
  noms, le student fait {mean_interval(few)} % d'erreur.
- Une relation compare des tableaux $B \\times B$ : ni adaptateur, ni dimensions
  égales ; ce qu'elle ignore (translation, norme) la distingue d'une autre.
- Avec 100 étiquettes et 400 pas, SP gagne {points(mean_interval(alone - test["SP"]))}
  sur le student seul, sans voir un logit.
- SP va plus vite que les logits : à 100 images et 200 pas, elle les devance de
  {points(mean_interval(stored.gain(100, "SP", 200, "logits")))} ; rien d'établi
  ensuite, au test.
- Une relation range, elle ne nomme pas : à un poids trop lourd et 400 pas, nommer
  par les centres des classes regagne {points(saved)}.
""")

# %% [markdown]
# ## Références
#
# - W. Park, D. Kim, Y. Lu, M. Cho, *Relational Knowledge Distillation*, CVPR 2019,
#   [arXiv:1904.05068](https://arxiv.org/abs/1904.05068). Distances et angles (section 3.2).
# - F. Tung, G. Mori, *Similarity-Preserving Knowledge Distillation*, ICCV 2019,
#   [arXiv:1907.09682](https://arxiv.org/abs/1907.09682). SP (section 2.1).
# - Y. Tian, D. Krishnan, P. Isola, *Contrastive Representation Distillation*, ICLR 2020,
#   [arXiv:1910.10699](https://arxiv.org/abs/1910.10699). CRD : l'embedding du student doit désigner, parmi des milliers d'autres,
#   le même exemple chez le teacher ; nous ne le programmons pas.
# - G. Hinton, O. Vinyals, J. Dean, *Distilling the Knowledge in a Neural Network*, 2015,
#   [arXiv:1503.02531](https://arxiv.org/abs/1503.02531). La distillation des logits.
# - J. Snell, K. Swersky, R. Zemel, *Prototypical Networks for Few-shot Learning*, NeurIPS 2017,
#   [arXiv:1703.05175](https://arxiv.org/abs/1703.05175). Nommer par le centre de classe le plus proche.
# - E. Alpaydin, C. Kaynak, *Optical Recognition of Handwritten Digits*, UCI, 1998,
#   [doi:10.24432/C50P49](https://doi.org/10.24432/C50P49).
#
# **La suite** : 10.5 se passe de teacher.
