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
# # 10.3 Distiller les features
#
# Jusqu'ici, le student imitait les réponses du teacher. Il peut aussi imiter son travail intermédiaire : ce que
# ses couches calculent en chemin. Ce sont ses *features*.
#
# Deux façons de faire : le *hint*, qui compare les cartes elles-mêmes, et le transfert d'attention (*attention
# transfer*), qui compare seulement **où** elles sont actives.

# %% tags=["bootstrap"]
from kdcourse import describe_environment

print(describe_environment())

# %% [markdown]
# ## Objectifs
#
# À la fin de ce chapitre, vous saurez :
#
# - dire pourquoi il faut adapter les canaux, et qui entraîne l'adaptateur ;
# - calculer une carte d'attention, et expliquer le facteur $\beta$ de 1 000 que l'on met devant sa perte ;
# - choisir la couche à imiter en la mesurant ;
# - reconnaître les cas où imiter des features n'aide pas, ou fait perdre.
#
# **Durée** : une heure et demie de lecture ; le notebook entier s'exécute en moins d'une minute.
#
# **Prérequis** : le chapitre 10.1 (ses mots, sa perte, sa fonction `train_many`), et ce qu'est une convolution.
#
# | Dans ce chapitre | Sens |
# |---|---|
# | étage (*stage*) | un bloc du réseau : convolution, normalisation, ReLU ; numérotés 0, 1, 2, comme en Python |
# | carte (*feature map*) | la sortie d'un étage, `(B, C, H, W)` : C canaux de H×W pixels |
# | *hint* | la carte du teacher que le student doit retrouver |
# | adaptateur (*adapter*, *regressor*) | la couche apprise qui met la carte du student au nombre de canaux du teacher |
# | carte d'attention (*attention map*) | une image H×W : où les canaux sont actifs |
#
# ## Pourquoi regarder à l'intérieur
#
# Une prédiction tient en dix nombres. Les cartes en contiennent des milliers : elles disent ce que le teacher a vu, et où.
# Quand les étiquettes sont rares, c'est une aide de plus. Le schéma montre où elle entre.

# %%
from kdcourse.plots import plot_feature_scheme

plot_feature_scheme()

# %% [markdown]
# Lisez de gauche à droite. L'image traverse trois étages dans chaque réseau. À droite, la flèche de 10.2 : on compare les
# logits. Avant elle, le hint compare deux cartes. Celle du student a 8 canaux, celle du teacher 32 : une convolution 1×1 les
# met d'accord. Plus à gauche, l'attention compare deux images sans canaux : elle n'a besoin de rien.
#
# ## Les données, le teacher, le student
#
# Les chiffres de 10.1, agrandis de 8×8 à 10×10 pixels par interpolation bilinéaire. Aucun détail n'est ajouté : les cartes
# ont seulement quelques pixels de plus. La taille a été choisie sur la validation, parmi quatre. Le teacher apprend sur 1 000 images. Le student, dix fois plus
# petit, n'en aura que quelques dizaines.

# %%
import torch
from kdcourse import CNN, error_rate, french, load_dataset
from kdcourse import parameter_count, predict_features, thousands, train_one

torch.set_num_threads(1)  # deux fils n'accélèrent rien ici
digits = load_dataset("digits").resized(10)

def small_student():
    return CNN(channels=(8, 8, 8))

def big():
    return CNN(channels=(16, 32, 32))

teacher = train_one(big, digits.train, epochs=15, learning_rate=0.01)
for name, model in [("teacher", teacher), ("student", small_student())]:
    maps = predict_features(model, digits.train.images[:1]).maps
    shapes = ", ".join("×".join(map(str, m.shape[1:])) for m in maps)
    print(name, ":", thousands(parameter_count(model)), "paramètres ; cartes", shapes)
error = error_rate(teacher(digits.test.images), digits.test.labels)
print(f"erreur de test du teacher : {french(error)} %")

# %% [markdown]
# ## Le hint, et son adaptateur
#
# L'idée vient des FitNets (Romero et al., 2015). Prenons la carte $f^s$ du student et la carte $f^t$ du teacher, au même
# étage. On demande à la première de ressembler à la seconde :
#
# $$\mathcal{L}_{\text{hint}} = \frac{1}{N} \sum_n \big( r(f^s)_n - f^t_n \big)^2$$
#
# où $N$ est le nombre total d'éléments. Sans la fonction $r$, cette différence n'a pas de sens : 8 canaux d'un côté, 32 de
# l'autre. Et même à nombres égaux, rien ne dit que le canal 5 du student doive valoir le canal 5 du teacher. L'ordre des
# canaux est le hasard d'un entraînement.
#
# $r$ est l'adaptateur : une convolution 1×1, donc une matrice 32×8 appliquée en chaque pixel. Cette matrice, personne ne la
# connaît d'avance. **Elle s'apprend avec le student.** Le teacher, lui, reste figé. Après l'entraînement, on jette
# l'adaptateur : le student garde sa taille.

# %%
from kdcourse import AdaptationLayer, FeatureDistillationLoss, hint_loss

few = digits.train.where(slice(0, 25))
hints = predict_features(teacher, few.images)
torch.manual_seed(0)
student, adapter = small_student(), AdaptationLayer(8, 32)
ours = student.forward_features(few.images).maps[2]
theirs = hints.maps[2]
try:
    hint_loss(ours, theirs)
except ValueError as error:
    print(error)
by_hand = ((adapter(ours) - theirs) ** 2).mean()
torch.testing.assert_close(by_hand, hint_loss(adapter(ours), theirs))
print("les deux hints sont égaux ; un student neuf :", french(by_hand, 2))
both = FeatureDistillationLoss(student_channels=[8], teacher_channels=[32])
print("paramètres à apprendre dans la perte :", parameter_count(both))

# %% [markdown]
# `kdcourse` refuse deux cartes de canaux différents. PyTorch seul laisse parfois passer : si l'une n'a qu'un canal, il la
# recopie sans rien dire (au mieux un avertissement), et la perte compare autre chose que ce que l'on croit.
#
# La classe `FeatureDistillationLoss` réunit les hints de plusieurs couches, leurs adaptateurs et l'entropie croisée. C'est une perte
# **qui a des paramètres** : 32×8 poids et 32 biais par couche. Ils doivent rejoindre l'optimiseur :
# `Adam([*student.parameters(), *loss.parameters()])`.
#
# ## La boucle nue
#
# Voici tout l'entraînement par hint, sur 25 images. Deux choses changent : la perte, et la liste donnée à l'optimiseur. Elle
# contient les paramètres du student **et** ceux de l'adaptateur. Le hint a un facteur 10 devant lui, choisi
# sur la validation ; $\alpha$ vaut 0,5.

# %%
import torch.nn.functional as F

torch.manual_seed(0)
student, adapter = small_student(), AdaptationLayer(8, 32)
trained = [*student.parameters(), *adapter.parameters()]
optimizer = torch.optim.Adam(trained, lr=0.02)
shuffle = torch.Generator().manual_seed(0)
for _ in range(10):
    for batch in torch.randperm(25, generator=shuffle).split(10):
        features = student.forward_features(few.images[batch])
        gap = adapter(features.maps[2]) - hints.maps[2][batch]
        hard = F.cross_entropy(features.logits, few.labels[batch])
        loss = 0.5 * 10 * (gap**2).mean() + 0.5 * hard
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
print("perte du dernier lot :", french(loss.item(), 2))

# %% [markdown]
# La fonction `train_many` du cours sait entraîner beaucoup de students guidés à la fois. Il lui faut deux choses : ce que le
# teacher calcule (`teacher`), et une perte entre deux `Features`, qui reçoit aussi les étiquettes (`distillation`). `AdaptedStudent` range le
# student et son adaptateur dans un seul module : l'optimiseur reçoit donc les deux. Le student est construit le premier : à
# graine égale, ses poids de départ sont ceux du student sans adaptateur. Vérifions les deux.

# %%
from kdcourse import AdaptedStudent, train_many

def adapted(stage):
    channels = (16, 32, 32)[stage]
    return lambda: AdaptedStudent(small_student(), stage, 8, channels)

def hint(stage):
    return lambda s, t, labels: 10 * hint_loss(s.maps[stage], t.maps[stage])

three = train_many(
    adapted(2), few, seeds=range(3), alphas=0.5, distillation=hint(2),
    teacher=hints, epochs=10, batch_size=10, learning_rate=0.02)
ours, theirs = (m.eval()(digits.test.images) for m in (three.one(seed=0), student))
gap = (ours - theirs).abs().max()
print(f"plus grand écart entre les logits des deux boucles : {gap:.0e}")
starts = []
for make in (small_student, lambda: adapted(2)().student):
    torch.manual_seed(0)
    starts.append(torch.cat([p.flatten() for p in make().parameters()]))
print("mêmes poids de départ :", torch.equal(*starts))

# %% [markdown]
# L'écart est celui des arrondis. Nous pouvons passer aux dix graines, mais d'abord, la seconde idée.
#
# ## La carte d'attention
#
# Zagoruyko et Komodakis (2017) renoncent aux canaux. Ils n'en gardent que l'énergie, pixel par pixel, et la normalisent :
#
# $$Q = \frac{a}{\lVert a \rVert_2}, \qquad a_{hw} = \frac{1}{C} \sum_c f_{chw}^2, \qquad
# \mathcal{L}_{\text{AT}} = \frac{1}{B\,HW} \sum_{b,h,w} \big( Q^s_{bhw} - Q^t_{bhw} \big)^2$$
#
# $Q$ est une image de norme 1 : elle dit où le réseau est actif, non ce qu'il y trouve. Le nombre de canaux a disparu, donc
# l'adaptateur aussi. Si les deux cartes n'ont pas la même taille, on ramène la plus grande à la plus petite **avant** de
# normaliser ; après, leur norme ne vaudrait plus 1.

# %%
from kdcourse import attention_loss, attention_map, AttentionTransfer

def attention_by_hand(features):
    energy = (features**2).mean(dim=1)
    return energy / energy.flatten(1).norm(dim=1)[:, None, None]

features, losses = student.forward_features(few.images), []
for ours, theirs in zip(features.maps, hints.maps):
    q_s, q_t = attention_by_hand(ours), attention_by_hand(theirs)
    torch.testing.assert_close(q_s[:, None], attention_map(ours))
    losses.append(((q_s - q_t) ** 2).mean())
    torch.testing.assert_close(losses[-1], attention_loss(ours, theirs))
    size = f"{ours.shape[2]}×{ours.shape[3]}"
    print(f"carte {size} : perte d'attention {french(losses[-1], 4)}")
module = AttentionTransfer(alpha=0.5, scale=1000)
terms = module(features.maps, hints.maps, features.logits, few.labels)
torch.testing.assert_close(terms.distillation, 1000 * sum(losses) / 3)
print(f"AttentionTransfer : {french(terms.distillation)} (attention),",
      french(terms.hard), "(étiquettes)")

# %% [markdown]
# Les deux versions sont égales. `AttentionTransfer` en fait une perte complète : la moyenne sur les étages, multipliée par un
# facteur, `scale` ($\beta$ chez les auteurs), et l'entropie croisée. Remarquez la taille des trois premiers nombres : ils sont bien plus petits qu'une entropie croisée.
#
# ## Pourquoi β = 1 000
#
# Une carte $Q$ est de norme 1 sur HW pixels : la moyenne des carrés de ses écarts est au plus $2/HW$. Sur une carte 10×10,
# c'est au plus 0,02. Les auteurs multiplient donc cette perte par $\beta = 1\,000$, sur des cartes de 8×8 à 32×32.
# Pour que toutes les tailles se valent, prenons $\beta = 10 \cdot HW$ : c'est 1 000 sur une carte 10×10, et 90 sur une carte 3×3.
#
# Préparons deux fonctions pour tout le chapitre : la perte d'attention sur les étages que l'on veut, et l'entraînement,
# toujours le même : 1 600 images vues, par lots de 10 (le dernier lot d'une époque peut être plus petit), dix graines.
#
# Que pèse l'attention à côté de l'entropie croisée ? Ce qui compte n'est pas la valeur d'une perte, c'est son **gradient**.
# Mesurons sa norme sur les paramètres du student, pour les étiquettes et pour chaque étage : au départ, puis après 20 époques
# guidées avec $\beta = 10 \cdot HW$.
#
# **À vous de parier** : à l'étage 0, combien de fois le gradient de l'attention est-il plus petit que celui des étiquettes ?

# %%
from kdcourse import grid

seeds = list(range(10))

def attention(*stages, beta=None):
    def guide(s, t, labels):
        terms = [attention_loss(s.maps[k], t.maps[k]) for k in stages]
        pixels = [s.maps[k][0, 0].numel() for k in stages]
        betas = [beta or 10 * hw for hw in pixels]
        return sum(b * q for b, q in zip(betas, terms)) / len(stages)
    return guide

def train(make, guide, size, alphas=0.5, epochs=None):
    part = digits.train.where(slice(0, size))
    return train_many(
        make, part, **grid(alphas=alphas, seeds=seeds), distillation=guide,
        teacher=predict_features(teacher, part.images),
        epochs=epochs or 1600 // size, batch_size=10, learning_rate=0.02,
    )

# %%
from kdcourse.measures import gradient_norms
from kdcourse.plots import plot_gradient_norms

def new_student(seed):
    torch.manual_seed(seed)
    return small_student()

def norms(models):
    rows = [gradient_norms(model, few, hints) for model in models]
    return torch.stack(rows, dim=1)

new = [new_student(seed) for seed in seeds]
started = train(small_student, attention(0, 1, 2), 25, epochs=20)
sizes = [m[0, 0].numel() for m in hints.maps]
plot_gradient_norms({
    "au départ": norms(new),
    "après 20 époques": norms(started),
}, sizes)

# %% [markdown]
# Tirets : le gradient des étiquettes. Ronds : celui de l'attention, telle quelle. À l'étage 0, il est si petit que le student ne
# le sent pas ; plus la carte est petite, plus l'écart se réduit. Triangles : le même, multiplié par $10 \cdot HW$.
#
# À gauche, au départ, cette règle dépasse l'équilibre : l'attention domine, et de plus en plus sur les petites cartes. Mais
# elle s'apprend vite. À droite, après 20 époques, les deux gradients sont du même ordre, **à chaque étage** : c'est là que la règle
# sert. Avec $\beta = 1\,000$ partout, l'étage 2 pèserait onze fois trop. Le $HW$
# est donc un changement d'unité. Le 10, lui, a été choisi sur la validation ; la liste des essais est plus bas.
#
# ## Le poids α de l'attention
#
# Allons au bout. Dix graines, 25 images ; pour chaque graine, cinq students de mêmes poids et de mêmes lots, qui
# ne diffèrent que par $\alpha$. L'attention porte sur les trois étages, moyennés. À $\alpha = 0$, c'est le student seul. Un
# sixième student n'a que $\beta = 1$, à $\alpha = 0{,}5$.
#
# **À vous de parier** : que vaut, à $\alpha = 1$, un student qui imite parfaitement les cartes d'attention ?

# %%
from kdcourse import markdown_table, mean_interval, points

alphas = [0.0, 0.25, 0.5, 0.75, 1.0]
weighed = train(small_student, attention(0, 1, 2), 25, alphas)
by_alpha = weighed.table(digits.test)
beta_one = train(small_student, attention(0, 1, 2, beta=1.0), 25)
gain_one = mean_interval(by_alpha[0] - beta_one.errors(digits.test))
for alpha, row in zip(alphas, by_alpha):
    gain = mean_interval(by_alpha[0] - row)
    print(f"α = {french(alpha, 2)} : erreur {mean_interval(row)} %"
          + (f", gain {points(gain)}" if alpha else ""))
print(f"α = 0,50 et β = 1 : gain {points(gain_one)}")

# %% [markdown]
# Le gain est la différence appariée des erreurs de test, avec son intervalle à 95 % sur les graines. Cet intervalle ignore
# l'échantillonnage des images : il n'y a ici qu'un teacher, et un seul choix des 25 images.
#
# - À $\alpha = 0{,}25$ et $0{,}5$, l'attention gagne : l'intervalle du gain exclut 0. À $0{,}75$, ces graines ne l'établissent plus.
# - À $\alpha = 1$, le student répond au hasard : savoir **où** regarder ne dit pas **quoi** répondre. Aucune étiquette, aucun
#   logit n'a entraîné sa dernière couche.
# - Avec $\beta = 1$, rien ne distingue ce student du student seul.
#
# ## Avant, après
#
# Regardons trois chiffres, à l'étage 1 (5×5 pixels) : le teacher, le student neuf, le student entraîné seul, et le student guidé
# ($\alpha = 0{,}5$). Même graine pour les trois students. La ressemblance est le cosinus entre la carte du student et celle du
# teacher, moyen sur les images de test : 1 si elles coïncident ; le tableau la donne en centièmes. La seconde figure fait
# varier $\alpha$ sur un des chiffres, avec l'erreur dessous.

# %%
from IPython.display import Markdown, display
from kdcourse.measures import map_similarity, model_attention

groups = {"neuf": new, "seul": [weighed.one(alpha=0, seed=k) for k in seeds],
          "guidé": [weighed.one(alpha=0.5, seed=k) for k in seeds]}
targets = model_attention(teacher, digits.test.images)
similarity = {}  # (étage, graine)
for name, models in groups.items():
    maps = [model_attention(model, digits.test.images) for model in models]
    similarity[name] = torch.stack([
        map_similarity(torch.stack(ours), theirs)
        for ours, theirs in zip(zip(*maps), targets)
    ])
rows = [[k, *map(mean_interval, 100 * s)] for k, s in similarity.items()]
for name, guess in (("repère : carte uniforme", torch.ones_like),
                    ("repère : carte moyenne", lambda t: t.mean(0).expand_as(t))):
    flat = [guess(t) / guess(t)[0].norm() for t in targets]
    close = [map_similarity(f[None], t)[0] for f, t in zip(flat, targets)]
    rows.append([name, *(french(100 * value) for value in close)])
table = markdown_table(["ressemblance (%)", "étage 0", "étage 1", "étage 2"], rows)

# %%
from kdcourse.plots import plot_alpha_maps, plot_attention_maps

chosen = [int((digits.test.labels == c).nonzero()[0]) for c in (0, 4, 7)]
images = digits.test.images[chosen]
columns = {"teacher": targets[1][chosen]}
for name, models in groups.items():
    columns[name] = model_attention(models[0], images)[1]
close = {k: french(s[1].mean(), 2) for k, s in similarity.items()}
per_alpha = [weighed.one(alpha=alpha, seed=0) for alpha in alphas]
attentions = [model_attention(m, images)[1][1] for m in per_alpha]
title = (f"Ressemblance au teacher, étage 1 : guidé {close['guidé']}, "
         f"seul {close['seul']} (dix graines)")
display(plot_attention_maps(images, columns, title), Markdown(table),
        plot_alpha_maps(images[1], targets[1][chosen[1]], alphas,
                        torch.stack(attentions), by_alpha))

# %% [markdown]
# Plus un pixel est sombre, plus les canaux y sont actifs. Dans le tableau, lisez d'abord les deux repères. Une carte
# **uniforme**, qui ne regarde rien, ressemble déjà beaucoup à celle du teacher : à l'étage 1, ni le student neuf ni le student
# seul ne font mieux. La carte **moyenne** du teacher, la même pour toutes les images, fait mieux encore. Seul le student guidé
# dépasse les deux repères, et il le fait à tous les étages : lui seul suit le teacher image par image.
#
# Quand $\alpha$ quitte 0, la carte se rapproche aussitôt de celle du teacher, puis ne change presque plus. L'erreur, elle, suit
# une autre histoire : elle baisse, puis explose à $\alpha = 1$. Imiter n'est pas réussir.
#
# Le curseur parcourt ces students-là, vraiment entraînés, sur six images et trois étages.

# %%
from kdcourse.widgets import AttentionExplorer

first = digits.test.images[:6]
maps = zip(*(model_attention(model, first) for model in per_alpha))
AttentionExplorer(
    first, model_attention(teacher, first),
    [torch.stack(stage) for stage in maps], alphas, by_alpha,
)

# %% [markdown]
# Amenez $\alpha$ de 0 à 0,25 : aux étages 0 et 1, la carte du student rejoint celle du teacher ; à l'étage 2, la première image
# attend 0,75. Puis amenez $\alpha$ à 1 : la carte ressemble toujours autant, et l'erreur est celle du hasard. Passez aux autres
# images : le poids qu'il leur faut change, non l'histoire.
#
# ## Quelle couche imiter
#
# Le hint peut porter sur l'étage 0, 1 ou 2 ; l'attention sur un seul, ou sur les trois. Mesurons tout, sur 25 images et dix
# graines, et choisissons **sur la validation**.
#
# **À vous de parier** : l'étage d'entrée, celui du milieu ou le dernier ?

# %%
from kdcourse.plots import gain_summary, plot_gains

runs, layers = {}, {}
for k in range(3):
    runs[f"hint, étage {k}"] = train(adapted(k), hint(k), 25)
for k in range(3):
    runs[f"attention, étage {k}"] = train(small_student, attention(k), 25)
validation = weighed.table(digits.validation)
for name, run in runs.items():
    layers[name] = validation[0] - run.errors(digits.validation)
layers["attention, tous"] = validation[0] - validation[alphas.index(0.5)]
best = {family: max((name for name in layers if name.startswith(family)),
                    key=lambda name: layers[name].mean())
        for family in ("hint", "attention")}
panel = {"25 images, validation": layers}
display(plot_gains(panel, f"Gain par couche imitée : {gain_summary(panel)}"))
for name in best.values():
    print(f"retenu : {name}, gain {points(mean_interval(layers[name]))}")
for other in ("attention, tous", "attention, étage 2"):
    print(f"étage 1 contre {other} :", mean_interval(layers["attention, étage 1"] - layers[other]))

# %% [markdown]
# La forme dit le verdict : triangle, la méthode gagne ; rond, elle perd ; losange, l'intervalle contient 0. Imiter l'entrée du
# réseau est ce qui apporte le moins au hint : peut-être parce que ces premières couches ne séparent pas encore les classes. Le dernier
# étage est ce qui lui apporte le plus. L'attention, elle, gagne
# nettement plus à l'étage 1 qu'au dernier ; entre l'étage 1 et les trois réunis, la mesure ne tranche pas. Imiter une couche au
# hasard, c'est risquer de ne rien gagner.
#
# Les facteurs ont été essayés de la même façon, sur la validation, avant ce notebook : 1, 3, 10, 30 et 100 pour le hint (à partir
# de 10, dix graines ne les départagent plus) ; 0,1, 0,3, 1, 3, 10 et 30 fois HW pour l'attention.
#
# ## L'expérience
#
# Quatre méthodes contre le student seul : KD (10.2, $T = 4$), le hint et l'attention, chacun à la couche que la validation vient de
# choisir, et l'attention avec KD, leurs deux pertes ajoutées. Partout $\alpha = 0{,}5$, mêmes poids de départ, mêmes lots,
# mêmes 1 600 images vues (160 pas, 192 à 25 images). Trois régimes : 25, 50 et 100 images étiquetées.
#
# Tout ce qui a été essayé pour en arriver là : des images de 8, 10, 12 et 16 pixels de côté ; des lots de 10, 25 et 50 ; des pas d'apprentissage de
# 0,003, 0,005, 0,01 et 0,02 ; de 60 à 480 pas ; des students de 4, 8 ou 16 canaux par étage ; KD à $\alpha = 0{,}9$ ; le hint avec KD ; et un
# student à deux étages seulement. Les réglages gardés ont été choisis **sur la validation**.

# %%
from kdcourse import kd_loss

def kd(s, t, labels):
    return kd_loss(s.logits, t.logits, 4.0)

last = best["attention"][-1]  # un chiffre, ou le s de « tous »
guide = attention(*([int(last)] if last.isdigit() else [0, 1, 2]))
stage = int(best["hint"][-1])
methods = {
    "hint": (adapted(stage), hint(stage)),
    "attention": (small_student, guide),
    "attention + KD": (small_student, lambda *batch: guide(*batch) + kd(*batch)),
}

# %%
regimes, names = [25, 50, 100], ["seul", "KD", *methods]
test, valid = {}, {}
for size in regimes:
    pair = train(small_student, kd, size, alphas=[0, 0.5])  # seul, puis KD
    students = {}
    for name, (make, guided_by) in methods.items():
        # À 25 images, deux d'entre eux sont déjà entraînés.
        done = runs.get(best.get(name)) if size == 25 else None
        students[name] = done or train(make, guided_by, size)
    for part, errors in [(digits.test, test), (digits.validation, valid)]:
        errors[size, "seul"], errors[size, "KD"] = pair.table(part)
        for name, group in students.items():
            errors[size, name] = group.errors(part)

def gain_of(size, name, errors=test):
    return mean_interval(errors[size, "seul"] - errors[size, name])

# %%
from kdcourse.plots import plot_paired

panels, rows = {}, []
for size in regimes:
    panels[f"{size} images"] = {
        name: test[size, "seul"] - test[size, name] for name in names[1:]}
    for part, errors in [("validation", valid), ("test", test)]:
        means = (mean_interval(errors[size, name]) for name in names)
        rows.append([f"{size}, {part}", *means])
display(plot_gains(panels, f"Gains au test : {gain_summary(panels)}"))
display(Markdown(markdown_table(["erreur (%)", *names], rows)))
pairs = [(size, name) for size in regimes for name in names[1:]]
size, name = max(pairs, key=lambda pair: gain_of(*pair, valid).low)
display(plot_paired(test[size, "seul"], test[size, name], ("seul", name)))
more = [f"{mean_interval(test[n, 'KD'] - test[n, names[-1]])} à {n}" for n in regimes]
display(Markdown(
    f"Choisi sur la validation : **{name}, {size} images** ; gain au test "
    f"{points(gain_of(size, name))}. Attention + KD, gain sur KD seul : {', '.join(more)}."))

# %% [markdown]
# Lisez la première figure de gauche à droite.
#
# - À 25 images, les gains sont les plus grands. L'attention et KD ensemble : l'une dit où, l'autre dit quoi. Ce que
#   l'attention ajoute à KD seul est imprimé sous la figure (les deux pertes s'additionnent sous le même $\alpha$) : net à
#   25 images, il se réduit à 50 et, à 100, n'est plus établi.
# - Quand les étiquettes augmentent, les gains fondent, et celui de l'attention seule est le moins sûr.
#
# La seconde figure est la comparaison de référence : le régime et la méthode dont l'intervalle de **validation** est le plus
# loin de 0, mesurés au test. Chaque trait gris relie deux students jumeaux.
#
# ## Quand les features font perdre
#
# Le dernier étage du student nourrit directement ses logits. Imposons-lui la carte d'attention du teacher, à cet étage seul, avec
# 100 images. À côté, le hint au même étage, mesuré plus haut.
#
# **À vous de parier** : le hint gagne au dernier étage. L'attention aussi ?

# %%
deep = train(small_student, attention(2), 100).errors(digits.test)
last_stage = {
    "attention, étage 2": test[100, "seul"] - deep,
    f"hint, étage {stage}": test[100, "seul"] - test[100, "hint"],
}
panel = {"100 images, test": last_stage}
display(plot_gains(panel, f"Au dernier étage : {gain_summary(panel)}"))
for name, values in last_stage.items():
    print(f"{name} : gain {points(mean_interval(values))}")
twice = train(small_student, attention(2), 100, alphas=[0, 0.5], epochs=32)
alone, guided = twice.table(digits.test)
longer = mean_interval(alone - guided)
print(f"attention, étage 2, deux fois plus de pas : gain {points(longer)}")

# %% [markdown]
# Même étage, mêmes images, et l'attention y perd. Une explication plausible : le hint passe par un adaptateur, qui laisse au student le choix
# de ses canaux. L'attention au dernier étage contraint l'énergie des 8 canaux dont il a besoin pour classer, sans rien lui apprendre sur les
# classes. Le budget peut y être pour quelque chose : comparez la première et la dernière ligne imprimées.
#
# Des tableaux publiés montrent aussi des pertes. Voici trois des treize couples du README de RepDistiller. Exactitude sur
# CIFAR-100, en %, une valeur par case, sans intervalle :
#
# | RepDistiller (README du dépôt) | teacher | student seul | KD | FitNet (hint) | AT |
# |---|---|---|---|---|---|
# | resnet32x4 → resnet8x4 | 79,42 | 72,50 | 73,33 | 73,50 | 73,44 |
# | wrn-40-2 → wrn-16-2 | 75,61 | 73,26 | 74,92 | 73,58 | 74,08 |
# | vgg13 → MobileNetV2 | 74,64 | 64,60 | 67,37 | 64,14 | 59,40 |
#
# Ce sont leurs mesures, pas les nôtres. Dans les deux premières lignes, où les réseaux sont de la même famille, hint et AT
# gagnent un point ou moins. De vgg13 à MobileNetV2, deux architectures différentes, AT est cinq points **sous** le student seul ;
# le hint, un demi-point dessous, ce qu'une valeur sans intervalle ne permet pas d'affirmer : relancée cinq fois, une expérience
# de ce genre (DKD, resnet32x4 → resnet8x4) a donné de 75,80 à 76,20
# ([mdistiller, ticket 7](https://github.com/megvii-research/mdistiller/issues/7)). KD, qui ne regarde que les sorties, gagne dans
# les trois cas.
#
# ## Chasse au bug
#
# Une collègue reprend le hint, sur 25 images. Elle fige le teacher, comme il se doit. Ses students gagnent bien moins que les
# nôtres, et elle en conclut que les hints servent peu. Regardez la courbe, lisez sa fonction, et cherchez avant de dérouler la réponse.

# %%
from kdcourse.plots import plot_curves

def colleague_student():
    model = AdaptedStudent(small_student(), 2, 8, 32)
    model.adapter.requires_grad_(False)  # côté teacher, tout est figé
    return model

repaired = runs["hint, étage 2"]
frozen = train(colleague_student, hint(2), 25)
ratio = frozen.losses[:, -1].mean() / repaired.losses[:, -1].mean()
display(plot_curves(
    range(1, 65),
    {"collègue": (frozen.losses.T, "neutral"),
     "réparé": (repaired.losses.T, "distilled")},
    "époque", "perte d'entraînement",
    f"À la fin, perte {french(ratio)} fois plus haute chez la collègue",
))
ours, theirs = (run.errors(digits.test) for run in (repaired, frozen))
for name, errors in {"le student seul": test[25, "seul"], "la collègue": theirs}.items():
    print(f"réparé : gain sur {name} {points(mean_interval(errors - ours))}")

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# L'adaptateur n'est pas du côté du teacher. Figé, il reste la matrice tirée au hasard au départ : on demande au student que huit
# canaux, mélangés par une matrice 32×8 quelconque, redonnent les 32 canaux du teacher. C'est en général impossible. La perte
# reste haute, et son gradient tire le student vers un mauvais compromis.
#
# Le symptôme est une perte qui plafonne ; l'erreur seule ne dit rien d'anormal. La réparation : donner les paramètres de
# l'adaptateur à l'optimiseur. Le même bug a une forme plus discrète : ranger l'adaptateur dans une liste Python, que
# `parameters()` ne voit pas. `nn.ModuleList` la remplace.
# </details>
#
# ## À vous de jouer
#
# **Exercice 10.3 a.** Écrivez `my_map(features)`, la carte d'attention : `(B, C, H, W)` vers `(B, 1, H, W)`, chaque
# carte de norme L2 égale à 1.

# %% tags=["nbval-check-output"]
from kdcourse import check

def my_map(features):
    ...  # à compléter

_ = check("10.3 a", my_map)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# def my_map(features):
#     energy = features.square().mean(dim=1, keepdim=True)
#     return F.normalize(energy.flatten(1), dim=1).view_as(energy)
# ```
# </details>
#
# **Exercice 10.3 b.** Écrivez `my_attention_loss(student, teacher)`. Les cartes du teacher sont plus grandes : ramenez-les à la
# taille de celles du student par `F.adaptive_avg_pool2d`, au bon moment.

# %% tags=["nbval-check-output"]
def my_attention_loss(student, teacher):
    ...  # à compléter

_ = check("10.3 b", my_attention_loss)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# def my_attention_loss(student, teacher):
#     energy = teacher.detach().square().mean(dim=1, keepdim=True)
#     energy = F.adaptive_avg_pool2d(energy, student.shape[2:])
#     target = F.normalize(energy.flatten(1), dim=1)
#     return F.mse_loss(my_map(student).flatten(1), target)
# ```
#
# Normaliser, puis réduire, donnerait une carte dont la norme dépend de l'image : c'est une erreur courante.
# </details>
#
# **Exercice 10.3 c.** Un pas de descente de gradient pour l'adaptateur. Écrivez
# `adapter_step(student, teacher, weight, learning_rate)` : les cartes du student et du teacher, la matrice `(canaux du teacher,
# canaux du student)` de l'adaptateur, sans biais ; rendez cette matrice après un pas sur la perte du hint (facteur 1).

# %% tags=["nbval-check-output"]
def adapter_step(student, teacher, weight, learning_rate):
    ...  # à compléter

_ = check("10.3 c", adapter_step)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# def adapter_step(student, teacher, weight, learning_rate):
#     weight = weight.clone().requires_grad_()
#     adapted = F.conv2d(student, weight[:, :, None, None])
#     loss = F.mse_loss(adapted, teacher)
#     (gradient,) = torch.autograd.grad(loss, weight)
#     return (weight - learning_rate * gradient).detach()
# ```
#
# C'est ce que fait l'optimiseur, à condition de connaître `weight` (Adam y ajoute sa propre mise à l'échelle).
# </details>
#
# ## Quiz
#
# Choisissez, puis déroulez l'option.
#
# **1. Le student et le teacher ont tous deux 32 canaux. L'adaptateur sert-il encore ?**
#
# <details><summary>Non, les formes sont égales</summary>Les formes, oui ; le sens des canaux, non. Rien ne dit que le canal 5 de
# l'un soit le canal 5 de l'autre. (`AdaptationLayer` rend alors l'identité, par convention : à vous d'y mettre une convolution
# 1×1.)</details>
# <details><summary>Oui, l'ordre des canaux est arbitraire</summary>Oui : sans lui, on impose au student de ranger ses canaux
# comme le teacher.</details>
#
# **2. Qui entraîne l'adaptateur ?**
#
# <details><summary>Personne : le teacher est figé</summary>Non : c'est le bug de la chasse. Figé, il reste un mélange au
# hasard.</details>
# <details><summary>L'optimiseur du student</summary>Oui : ses paramètres s'ajoutent à ceux du student, et on le jette à la fin.</details>
# <details><summary>L'optimiseur du teacher</summary>Non : le teacher a fini d'apprendre, il n'a plus d'optimiseur.</details>
#
# **3. Pourquoi l'attention n'a-t-elle pas besoin d'adaptateur ?**
#
# <details><summary>Elle fait la moyenne sur les canaux</summary>Oui : il ne reste qu'une image H×W, dont la taille se règle par une
# moyenne.</details>
# <details><summary>Sa perte est trop petite</summary>Non : elle est petite, mais c'est $\beta$ qui s'en occupe.</details>
#
# **4. Une perte d'attention avec $\alpha = 0{,}5$ et $\beta = 1$ : que prévoyez-vous ?**
#
# <details><summary>Un bon compromis, moitié-moitié</summary>Non : la moitié d'un gradient bien trop petit ne pèse rien. Rien
# ne distingue ce student du student seul.</details>
# <details><summary>Le student seul, ou presque</summary>Oui : comparez le gain à $\beta = 1$ à celui de la règle
# $10 \cdot HW$.</details>
#
# **5. À $\alpha = 1$, la carte du student est presque celle du teacher. Pourquoi répond-il au hasard ?**
#
# <details><summary>Il n'a pas convergé</summary>Non : ses cartes sont presque celles du teacher.</details>
# <details><summary>Rien n'a entraîné sa dernière couche</summary>Oui : la carte dit où regarder. Ce qu'il faut répondre vient des
# étiquettes, ou des logits du teacher.</details>
#
# ## Sur GPU
#
# `train_many` tourne sur GPU sans un changement. Et sur de vraies photos ? La fonction `distill` de 10.1 entraîne un student
# à la fois, par lots : le hint y reçoit son adaptateur, et l'optimiseur avec lui. Avec un GPU, la cellule prend CIFAR-10 et des réseaux de trois et quatre étages ; sans GPU,
# nos chiffres et 25 images. Les facteurs des méthodes sont ceux que 10.6 a réglés sur les chiffres.

# %%
from kdcourse import best_device, color_student, color_teacher
from kdcourse import distill, distill_seeds, model_error

gpu = best_device().type == "cuda"
if gpu:
    data, small = load_dataset("cifar10"), color_student
    large = distill(color_teacher, data.train, method="seul", epochs=20, jitter=2,
                    output="runs/cifar10-teacher", resume=True).model
else:
    data, small, large = digits._replace(train=few), small_student, teacher
for method in ("seul", "hint", "attention"):
    found = distill_seeds(small, data.train, large, range(3), method=method,
                          epochs=20 if gpu else 30, batch_size=128 if gpu else 10,
                          learning_rate=0.001 if gpu else 0.02,
                          output="runs/cifar10" if gpu else None)
    errors_big = torch.tensor([model_error(model, data.test) for model in found])
    print(f"{method:9} : erreur de test {mean_interval(errors_big)} %, trois graines")

# %% [markdown]
# Trois graines donnent une indication, pas un résultat ; et sur CIFAR-10, les facteurs restent à régler.
#
# ## À retenir

# %%
stuck = mean_interval(test[25, "seul"] - frozen.errors(digits.test))
display(Markdown(f"""
- Le hint passe par un adaptateur, **appris avec le student**. Appris, il
  fait gagner {points(gain_of(25, "hint"))} à 25 images ; figé, {stuck}.
- La perte d'attention est de l'ordre de $1/HW$ : à $\\beta = 1$, son gain,
  {points(gain_one)}, n'est pas établi ; à $10 \\cdot HW$, il vaut
  {mean_interval(by_alpha[0] - by_alpha[alphas.index(0.5)])}.
- L'attention dit où, non quoi : à $\\alpha = 1$, le student se trompe dans
  {french(by_alpha[-1].mean())} % des cas. Ajoutée à KD, elle gagne
  sur KD seul {more[0]} images ; {more[-1]}, où rien n'est établi.
- La couche compte : le hint donne {mean_interval(layers["hint, étage 0"])}
  points à l'étage 0, {mean_interval(layers["hint, étage 2"])} à l'étage 2
  (validation).
- Au mauvais endroit, l'attention fait perdre : au dernier étage, à 100
  images, {points(mean_interval(test[100, "seul"] - deep))} de gain ; avec
  plus de pas, {longer}. Mesurez avant de choisir.
"""))

# %% [markdown]
# ## Références
#
# - A. Romero et al., *FitNets: Hints for Thin Deep Nets*, 2015, [arXiv:1412.6550](https://arxiv.org/abs/1412.6550). Le hint et
#   son adaptateur (section 2.2), en deux phases chez eux, une seule ici.
# - S. Zagoruyko, N. Komodakis, *Paying More Attention to Attention*, 2017,
#   [arXiv:1612.03928](https://arxiv.org/abs/1612.03928). La carte d'attention (section 3.1).
# - Y. Tian, D. Krishnan, P. Isola, *Contrastive Representation Distillation*, 2020,
#   [arXiv:1910.10699](https://arxiv.org/abs/1910.10699), et le README de
#   [RepDistiller](https://github.com/HobbitLong/RepDistiller), d'où viennent les exactitudes sur CIFAR-100.
# - G. Hinton, O. Vinyals, J. Dean, *Distilling the Knowledge in a Neural Network*, 2015,
#   [arXiv:1503.02531](https://arxiv.org/abs/1503.02531). La distillation des logits.
#
# **La suite** : 10.4 ne compare plus deux cartes, mais les ressemblances entre exemples.
