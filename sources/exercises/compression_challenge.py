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
# # Exercice 10.3 : le défi de compression
#
# Un teacher de 26 000 paramètres, un capteur qui cadre mal, cent étiquettes, et presque pas de mémoire. Vous distillez,
# élaguez et quantifiez un student jusqu'à ce qu'il tienne dans une suite d'octets, puis vous montrez qu'il reconnaît
# encore les chiffres.

# %% tags=["bootstrap"]
from kdcourse import describe_environment

print(describe_environment())

# %% [markdown]
# ## Objectifs
#
# - enchaîner distillation, élagage (*pruning*) et quantification ;
# - écrire un modèle dans des octets, et le relire ailleurs, sans rien d'autre ;
# - mesurer, à deux budgets, ce que la distillation apporte quand les étiquettes sont rares ;
# - défendre un compromis entre exactitude et taille par des mesures.
#
# **Temps** : 20 minutes de lecture, trois heures de travail, deux minutes de machine pour tout exécuter. **Barème** :
# 20 points, dont 16 pour le code et 4 pour la réponse écrite.
#
# **Prérequis** : les chapitres 10.1 et 10.2, et, dans 10.6, la page « Tailler, arrondir, ranger en octets ».
#
# La correction cherche vos fonctions par leur nom, où qu'elles soient : vous pouvez ajouter des cellules et des fonctions
# d'aide ; leur code compte dans la taille. Laissez en place la réponse écrite.
#
# ## Énoncé
#
# Écrivez deux fonctions.
#
# | fonction | ce qu'elle reçoit | ce qu'elle rend |
# |---|---|---|
# | `compress(teacher, images, labels)` | le teacher, en mode `eval` ; des images `(N, 1, 8, 8)` float32 de 0 à 1 ; les étiquettes `(L,)` int64 **des L premières seulement** | `bytes` : l'**artefact** |
# | `predict(artifact, images)` | cet artefact ; des images `(B, 1, 8, 8)` float32 | des logits `(B, 10)` flottants et finis |
#
# À la correction, N = 1 000 et L = 100 ; `check` commence par N = 100 et L = 10. Neuf images sur dix n'ont donc pas
# d'étiquette, mais le teacher répond pour toutes.
#
# Le **capteur** décale chaque image d'un pixel au plus dans chaque direction, au hasard, et lui ajoute un bruit
# gaussien d'écart-type 0,1 : c'est `shift_and_noise`, du paquet `kdcourse`, avec ses valeurs par défaut. `compress`
# reçoit les images nettes, et peut appeler `shift_and_noise` autant de fois qu'elle veut.
#
# **La correction** appelle `compress`, garde les octets, puis appelle `predict` dans un processus neuf qui ne contient
# que l'artefact, le code de votre réponse (et `torch`, `numpy`, `kdcourse`), et d'autres images : les images
# de test, passées par le capteur avec un tirage que vous n'avez pas. Ni réseau, ni fichier, ni jeu de données :
# scikit-learn y est hors d'atteinte. Les dix classes y sont renumérotées au hasard, pour le teacher comme pour les
# étiquettes : ce que `predict` sait, `compress` doit l'avoir appris de ce qu'elle reçoit.
#
# - **Temps** : 120 secondes de calcul pour `compress`, sur un seul fil.
# - **Taille** : les octets de l'artefact, plus ceux du code de `compress`, de `predict` et de ce qu'elles emploient. Ce
#   code est compté une fois compressé par `zlib`, sans commentaire ni docstring : des noms clairs ne coûtent presque
#   rien. Les données n'y ont pas leur place : au-delà de 300 octets, ses constantes pèsent dix fois, et un nom trop
#   long ou accentué aussi.
# - **Contrat** (4 points) : des octets, puis des logits de la bonne forme, dans un processus neuf.
# - **Exactitude** (6 points) : rien jusqu'à 80 % d'images reconnues, tout à partir de 91 %, en proportion entre les
#   deux.
# - **Taille** (6 points) : tout jusqu'à 3 000 octets, rien à partir de 12 000 ; entre les deux, chaque doublement coûte
#   3 points. Ces points sont multipliés par la part d'exactitude : un artefact minuscule qui ne reconnaît rien n'a rien
#   compressé.
#
# Le même barème est dans `kdcourse.exercises.challenge`, et `check` l'applique aux images de validation.
#
# ## Le teacher, et ce que voit le capteur
#
# `compression_teacher()` entraîne le teacher de la correction, en une dizaine de secondes la première fois.

# %%
import matplotlib.pyplot as plt
import numpy as np
import torch
from kdcourse import CNN, kd_loss, shift_and_noise

torch.set_num_threads(1)  # comme à la correction

# %%
from kdcourse import error_rate, french
from kdcourse.exercises import compression_teacher
from kdcourse import load_dataset, parameter_count, thousands

digits, teacher = load_dataset("digits"), compression_teacher()

def accuracy(model):  # en %, dix passages de la validation par le capteur
    images, labels = digits.validation
    draw = torch.Generator().manual_seed(0)
    seen = [shift_and_noise(images, generator=draw) for _ in range(10)]
    with torch.no_grad():
        logits = torch.stack([model(images) for images in seen])
    return 100 - error_rate(logits, labels).mean().item()

def measured(size, right):
    size = thousands(size)
    return f"{size} octets, {french(right)} % d'images reconnues"

count = parameter_count(teacher)
print(f"teacher, {thousands(count)} paramètres en float32 : "
      f"{measured(4 * count, accuracy(teacher))}")

# %%
draw = torch.Generator().manual_seed(0)
seen = shift_and_noise(digits.train.images[:8], generator=draw)
figure, axes = plt.subplots(2, 8, figsize=(8, 2.2), layout="constrained")
for row, images in zip(axes, (digits.train.images, seen)):
    for ax, image in zip(row, images):
        ax.imshow(image[0], cmap="gray_r", vmin=0, vmax=1)
        ax.set(xticks=[], yticks=[])
title = "Huit images nettes, et les mêmes vues par le capteur"
_ = figure.suptitle(title, fontsize=11)

# %% [markdown]
# ## Un point de départ
#
# Le student de 10.1, distillé sur dix passages de chaque image, sans une étiquette, gardé en float32 : aucune
# compression. Il faut faire plus juste, et bien plus petit.

# %%
from kdcourse import digits_student, Split, train_one

images, labels = digits.train.images, digits.train.labels[:100]
draw = torch.Generator().manual_seed(1)

def through_sensor(images, passes):
    seen = [shift_and_noise(images, generator=draw) for _ in range(passes)]
    return torch.cat(seen)

every = through_sensor(images, 10)  # toutes les images
with torch.no_grad():
    guide = teacher(every)
every = Split(every, guide.argmax(-1))  # les réponses du teacher
few = Split(through_sensor(images[:100], 100), labels.repeat(100))
start = train_one(digits_student, every, guide, alpha=1.0, epochs=8)
size = 4 * parameter_count(start)
print(f"point de départ : {measured(size, accuracy(start))}")

# %% [markdown]
# ## Votre réponse : compress
#
# Trois outils, dans l'ordre qui vous convient : un student plus petit ou d'une autre forme, distillé sur des images
# fraîchement décalées ; des poids mis à zéro ; des poids arrondis à quelques niveaux. Le chapitre 10.6 les montre, à la
# page « Tailler, arrondir, ranger en octets ».
#
# Comme `predict`, `compress` s'exécutera seule : elle ne lit que ses trois arguments, jamais `digits`, `train` ou une
# autre variable du notebook.

# %% nbgrader={"grade": false, "grade_id": "ex3-solution-compress", "locked": false, "schema_version": 3, "solution": true, "task": false}
import zlib

def compress(teacher, images, labels):
    """L'artefact : un student distillé, élagué, quantifié, en octets."""
    ### BEGIN SOLUTION
    torch.manual_seed(0)
    generator = torch.Generator().manual_seed(0)
    student = CNN(channels=(12, 12, 12))
    names, weights = zip(*student.named_parameters())
    masks = [torch.ones_like(weight) for weight in weights]

    def coded(weight, mask):  # des niveaux entiers, et leur pas
        # 15 niveaux pour une matrice, 255 pour un biais
        kept = (weight * mask).detach()
        step = kept.abs().max() / (7 if weight.dim() > 1 else 127)
        return (kept / step).round(), step

    def used(weight, mask):  # le poids arrondi
        # le gradient passe comme si l'arrondi n'existait pas
        levels, step = coded(weight, mask)
        kept = weight * mask
        return kept + (levels * step - kept).detach()

    epochs, lots = 160, images.split(100)
    optimizer = torch.optim.Adam(weights, lr=0.01, fused=True)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.01, total_steps=epochs * len(lots))
    for epoch in range(epochs):
        late = epoch >= epochs // 2
        if epoch == epochs // 2:  # élaguer la moitié de chaque matrice,
            # puis réapprendre, arrondi compris
            masks = [w.abs() > w.abs().quantile(0.5) if w.dim() > 1 else m
                     for w, m in zip(weights, masks)]
        seen = shift_and_noise(images, generator=generator)
        with torch.no_grad():
            guide = teacher(seen)  # étiquetées ou non
        order = torch.randperm(len(images), generator=generator)
        for lot in order.split(100):
            now = map(used, weights, masks) if late else weights
            logits = torch.func.functional_call(
                student, dict(zip(names, now)), seen[lot])
            loss = kd_loss(logits, guide[lot], 2.0)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    levels, steps = zip(*map(coded, weights, masks))
    levels = torch.cat([level.flatten() for level in levels])
    parts = torch.stack(steps), levels.to(torch.int8)
    data = b"".join(part.numpy().tobytes() for part in parts)
    return zlib.compress(data, 9)
    ### END SOLUTION

# %% [markdown]
# ## Votre réponse : predict
#
# Elle s'exécutera seule : aucune variable de ce notebook n'existera autour d'elle, sauf les fonctions et les imports
# qu'elle nomme.

# %% nbgrader={"grade": false, "grade_id": "ex3-solution-predict", "locked": false, "schema_version": 3, "solution": true, "task": false}
def predict(artifact, images):
    """Les logits (B, 10) du student que l'artefact contient."""
    ### BEGIN SOLUTION
    student, data = CNN(channels=(12, 12, 12)), zlib.decompress(artifact)
    weights = list(student.parameters())
    steps = np.frombuffer(data, np.float32, len(weights))
    levels = np.frombuffer(data, np.int8, offset=steps.nbytes)
    levels = torch.tensor(levels).split([w.numel() for w in weights])
    with torch.no_grad():
        for weight, level, step in zip(weights, levels, steps):
            weight.copy_(level.view_as(weight) * float(step))
        return student(images)
    ### END SOLUTION

# %% [markdown]
# `check` essaie d'abord vos fonctions sur peu d'images, puis en entier, et estime vos points sur la validation.
# La taille du code y est estimée ; la correction la mesure dans votre notebook, à quelques dizaines d'octets près.

# %%
from kdcourse import check

_ = check("compression_challenge", compress, predict)

# %% [markdown]
# ## Votre compromis

# %%
from kdcourse.plots.common import COLORS, MARKERS

artifact = compress(teacher, images, labels)
if artifact is None:
    print("à compléter")
else:
    read = accuracy(lambda images: predict(artifact, images))
    points = {
        "teacher, float32": (4 * count, accuracy(teacher)),
        "point de départ": (4 * parameter_count(start), accuracy(start)),
        "votre artefact": (len(artifact), read)}
    for name, point in points.items():
        print(f"{name:17} : {measured(*point)}")

# %%
def plot_points(points):
    figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    for role, name in zip(("teacher", "student", "distilled"), points):
        ax.plot(*points[name], MARKERS[role], color=COLORS[role], ms=8,
                label=name)
    ax.set_xscale("log", base=2)
    ax.xaxis.set_major_formatter(lambda size, _: thousands(round(size)))
    _, (before, _), (size, right) = points.values()
    ax.set(xlabel="octets, sans le code (échelle log)",
           ylabel="images de validation reconnues (%)",
           title=f"Octets divisés par {french(before / size)}, "
                 f"{french(right)} % d'images reconnues")
    ax.legend(frameon=False)

if artifact is None:
    print("à compléter")
else:
    plot_points(points)

# %% [markdown]
# ## La distillation avait-elle sa chance ?
#
# Mesurez-le, avant d'élaguer et d'arrondir : la même forme de student, entraînée de deux façons, dix graines chacune.
# **Seul**, il n'a que les étiquettes : `few`, cent passages des cent images étiquetées. **Distillé**, il n'a que le
# teacher : `every`, dix passages de toutes les images. Les deux parties comptent 10 000 images : mêmes poids de départ,
# mêmes lots, même nombre de pas. Les différences sont appariées.

# %%
from kdcourse import mean_interval, train_many

images_seen, truth = digits.validation
watched = Split(through_sensor(images_seen, 10), truth.repeat(10))
make, seeds = (lambda: CNN(channels=(12, 12, 12))), range(10)

# %% nbgrader={"grade": false, "grade_id": "ex3-mesure", "locked": false, "schema_version": 3, "solution": true, "task": false}
def measure(epochs):
    """Les dix gains, un par graine : erreur seul, moins distillé."""
    ### BEGIN SOLUTION
    run = dict(seeds=seeds, epochs=epochs, learning_rate=0.01)
    alone = train_many(make, few, **run).errors(watched)
    told = train_many(make, every, **run).errors(watched)
    soft = dict(temperatures=2.0, alphas=1.0)  # told n'a que les réponses
    taught = train_many(make, every, guide, **soft, **run).errors(watched)
    names = "étiquettes", "réponses du teacher", "logits du teacher"
    for name, errors in zip(names, (alone, told, taught)):
        error = french(errors.mean().item())
        print(f"{100 * epochs} pas, {name} : {error} % d'erreur")
    print("des réponses aux logits :", mean_interval(told - taught))
    return alone - taught
    ### END SOLUTION

# %%
for epochs in (1, 4):
    gains = measure(epochs)
    if gains is None:
        print("à compléter")
        break
    gain = mean_interval(gains)
    print(f"{100 * epochs} pas : gain de validation {gain}")

# %% [markdown]
# ## Votre réponse écrite
#
# 1. Quels compromis avez-vous essayés, dans quel ordre, et qu'ont-ils coûté ou rapporté, en octets et en exactitude ?
#    Donnez vos mesures, y compris ce qui n'a pas marché.
# 2. Qu'a apporté la distillation, à chacun des deux budgets ? D'où vient ce gain : des images, ou de ce que le teacher
#    dit de plus qu'une étiquette ? Dites quelle mesure les séparerait, et faites-la si vous le pouvez.
# 3. Que ferait ici une table qui associerait à chaque image du jeu de données son étiquette ? Et un plus proche voisin ?
#
# Une dizaine de lignes.
#
# **Quatre points** : 1 pour la première question, 2 pour la deuxième, 1 pour la troisième.

# %% [markdown] nbgrader={"grade": true, "grade_id": "ex3-reponse", "locked": false, "points": 4, "schema_version": 3, "solution": true, "task": false}
# <!-- réponse compression_challenge -->
# ### BEGIN SOLUTION
# 1. D'abord la forme : un petit réseau convolutif supporte mieux les décalages que le perceptron du point de départ,
#    pour autant de paramètres. Puis les images : un tirage neuf à chaque époque compte plus que tout réglage. Le même
#    réseau, distillé sur un seul passage du capteur, ne reconnaît que 88 % des images ; sur des passages neufs, 97 %.
#    Puis les octets, en moyenne de deux graines, sur la validation : 255 niveaux à la fin ne coûtent rien (97 %, 3 090
#    octets au lieu de 13 048) ; 15 niveaux à la fin coûtent 2 à 3 points (94,5 %, 1 660 octets) ; arrondir **pendant** la
#    seconde moitié de l'apprentissage, le gradient passant à travers, n'en coûte que la moitié d'un (96,6 %). Élaguer
#    alors la moitié des poids coûte encore un point (95,5 %) et ne gagne que 200 octets, car l'arrondi en avait déjà
#    mis beaucoup à zéro. Deux graines ne donnent pas d'intervalle : ces écarts disent un ordre, non une décimale.
# 2. Elle avait sa chance, et l'a prise. Dix graines, différences appariées, validation : le distillé gagne 5 points à
#    100 pas, 6 à 400, et les deux intervalles excluent 0 largement. La mesure qui sépare les deux causes donne au student
#    les **réponses** du teacher sur les mêmes images, sans ses logits : à 100 pas, on ne distingue pas les deux ; à 400,
#    les logits gagnent un point de plus, et l'intervalle exclut 0. L'essentiel du gain vient donc des neuf cents images
#    que le teacher étiquette ; ce qu'il dit de plus qu'une étiquette ne se voit qu'au plus long budget. À 1 600 pas, et
#    avec le même code que `compress`, les étiquettes seules laissent l'artefact à 89 % sur la validation, deux graines :
#    plus de calcul ne remplace pas le teacher. Nous n'avons pas ajouté les cent étiquettes à la perte. Ces intervalles
#    portent sur la graine du student ; ils ignorent le teacher, entraîné une fois, et le choix des cent images.
# 3. Une table de hachage exacte ne retrouve aucune image : un décalage ou un bruit change le hachage, et elle répond au
#    hasard. Un plus proche voisin, lui, marche : il cherche l'image la plus proche parmi celles qu'il garde, à un
#    décalage près. Mais il garde des images, 256 octets chacune en float32, huit à un bit par pixel. Celles de
#    l'entraînement, à un bit, pèsent plusieurs fois le student ; celles du test, il faudrait les écrire dans le code,
#    dont les constantes pèsent dix fois.
#
# Réglages essayés sur la validation avant de noter l'exactitude de 80 à 91 % : 400 et 1 600 pas ; les étiquettes seules, le
# teacher sur les cent images étiquetées, ses réponses sur toutes, ses logits sur toutes.
# ### END SOLUTION

# %% [markdown]
# ## Barème
#
# Les cellules qui suivent portent les points : laissez-les en place. Les essais de la correction n'y sont pas.

# %% nbgrader={"grade": true, "grade_id": "ex3-contrat", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# 4 points : compress rend des octets, et predict, dans un processus neuf,
# des logits (B, 10) flottants et finis.

# %% nbgrader={"grade": true, "grade_id": "ex3-exactitude", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# 6 points : la part des images cachées que predict reconnaît,
# de 80 % (rien) à 91 % (tout).

# %% nbgrader={"grade": true, "grade_id": "ex3-taille", "locked": true, "points": 6, "schema_version": 3, "solution": false, "task": false}
# 6 points : les octets de l'artefact et du code, de 12 000 (rien)
# à 3 000 (tout), multipliés par la part d'exactitude.
