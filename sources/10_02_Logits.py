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
# # 10.2 Distiller les logits
#
# La perte de distillation a deux réglages : la température $T$ et le poids $\alpha$. 10.1 les avait fixés d'avance. Ce
# chapitre ouvre la perte, regarde ce que chaque réglage fait au gradient, puis entraîne un student pour chaque couple de
# réglages et dessine la carte.

# %% tags=["bootstrap"]
from kdcourse import describe_environment

print(describe_environment())

# %% [markdown]
# ## Objectifs
#
# À la fin de ce chapitre, vous saurez :
#
# - écrire la perte de distillation sans piège numérique ;
# - expliquer le facteur $T^2$, et dire vers quoi tend la distillation quand $T$ grandit ;
# - lire une carte $T \times \alpha$, et choisir ces réglages sur la validation ;
# - distiller sans aucune étiquette, et même sans aucune image du problème.
#
# **Durée** : deux heures de lecture ; le notebook entier s'exécute en une minute environ.
#
# **Prérequis** : [10.1](10_01_Principes.ipynb), dont le glossaire ; dériver un softmax.
#
# ## Un exemple pour commencer
#
# Où pousse le gradient de la distillation ? Prenons le teacher de 10.1, un student neuf, et l'image de validation où le
# teacher hésite le plus.

# %%
import torch
from kdcourse import digits_student, digits_teacher, french, load_dataset
from kdcourse import train_one
from kdcourse.measures import most_uncertain
from kdcourse.plots import plot_gradients

torch.set_num_threads(1)  # deux fils ne gagnent rien ici
digits = load_dataset("digits")
teacher = train_one(digits_teacher, digits.train, epochs=30)
torch.manual_seed(0)
novice = digits_student()
with torch.no_grad():
    teacher_logits = teacher(digits.train.images)
    index = most_uncertain(teacher, digits.validation)
    image = digits.validation.images[index]
    pair = novice(image)[0], teacher(image)[0]
print("étiquette :", digits.validation.labels[index].item())
plot_gradients(*pair, temperatures=[0.5, 1, 2, 4, 8, 32])

# %% [markdown]
# Chaque barre est le gradient d'un logit du student. La descente **baisse** un logit dont la barre est positive, et
# **relève** un logit dont la barre est négative. Les carrés bleus sont une limite que nous allons calculer.
#
# À basse température, les premières classes du teacher sont relevées, et toutes les autres baissées à peu près du **même**
# montant : rien ne les distingue. Quand $T$ monte, chaque classe reçoit sa propre poussée, et les barres rejoignent les
# carrés. La température choisit donc **ce que le student apprend** : la réponse, ou toute la hiérarchie.
#
# Le curseur montre la même image et les deux prédictions, et ajoute une question : que vaut ce gradient si l'on oublie le facteur $T^2$ de la perte ?

# %%
from kdcourse.widgets import GradientExplorer

GradientExplorer(image[0], *pair)

# %% [markdown]
# En haut, les deux prédictions ; dessous, classe par classe, le gradient : une barre monte quand le student en dit trop.
# Amenez $T$ à 0,5 : les barres orange (sans $T^2$) dépassent les vertes. À 128, les deux prédictions se ressemblent, les barres
# orange ont disparu, et les vertes se posent sur les carrés bleus.
#
# ## La perte et son gradient
#
# La perte de 10.1, pour un lot de $B$ images, est
#
# $$\mathcal{L}_{KD} = T^2 \, \frac{1}{B} \sum_b \mathrm{KL}\big(p^t_b(T) \,\|\, p^s_b(T)\big), \qquad
# p(T) = \mathrm{softmax}(z / T).$$
#
# Son gradient par rapport aux logits du student tient en une ligne. La dérivée de la KL par rapport à $z^s/T$
# est $p^s - p^t$ ; celle de $z^s / T$ par rapport à $z^s$ est $1/T$ ; et $T^2$ est devant. Il reste
#
# $$\frac{\partial \mathcal{L}_{KD}}{\partial z^s_b} = \frac{T}{B} \big(p^s_b(T) - p^t_b(T)\big).$$
#
# Écrivons la perte en quatre lignes, comparons-la à celle de `kdcourse`, et son gradient à celui d'*autograd*.

# %%
import torch.nn.functional as F
from kdcourse import kd_loss

def distillation(student, teacher, temperature):
    log_student = F.log_softmax(student / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher / temperature, dim=-1)
    kl = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1)
    return temperature**2 * kl.mean()

student, guide = torch.randn(2, 8, 10, dtype=torch.float64)
student.requires_grad_()
for T in (0.5, 4.0, 20.0):
    loss = distillation(student, guide, T)
    torch.testing.assert_close(loss, kd_loss(student, guide, T))
    (automatic,) = torch.autograd.grad(loss, student)
    gap = (student / T).softmax(dim=-1) - (guide / T).softmax(dim=-1)
    torch.testing.assert_close(automatic, T * gap / 8)
print("perte et gradient : égaux à l'arrondi près, à T = 0,5, 4 et 20")

# %% [markdown]
# Trois détails de ces lignes comptent, et la *chasse au bug* y reviendra : les deux côtés restent en **logarithmes**
# jusqu'au bout ; la somme porte sur les **classes** ; la moyenne porte sur les **exemples**.
#
# ## Pourquoi $T^2$
#
# $p^s - p^t$ rétrécit quand $T$ monte : les deux prédictions s'aplatissent ensemble. Mesurons la norme du gradient pour
# dix students neufs, sur 100 images, avec et sans le facteur $T^2$.
#
# **À vous de parier** : avec $T^2$, la norme reste-t-elle constante ?

# %%
from kdcourse.measures import matching_gradient
from kdcourse.plots import plot_temperature_gradients

hundred = digits.train.where(slice(0, 100))
seeds, swept = list(range(10)), [0.5, 1, 2, 4, 8, 16, 32, 64, 128]
fresh = []
for seed in seeds:
    torch.manual_seed(seed)
    fresh.append(digits_student()(hundred.images).double())
fresh = torch.stack(fresh).detach().requires_grad_()  # (10, 100, 10)
guide = teacher_logits[:100].double()
with_factor, without_factor = [], []
for T in swept:
    loss = sum(distillation(student, guide, T) for student in fresh)
    with_factor += torch.autograd.grad(loss, fresh)
    without_factor.append(with_factor[-1] / T**2)
limit = matching_gradient(fresh.detach(), guide) / 100
plot_temperature_gradients(swept, *map(torch.stack, (with_factor, without_factor)), limit)

# %% [markdown]
# À gauche : sans $T^2$, le gradient s'éteint. La pente du titre est mesurée sur la seconde moitié des températures :
# presque $-2$. Une descente de gradient ordinaire demanderait alors un pas $T^2$ fois plus grand, soit 400 fois à $T = 20$ ;
# surtout, l'entropie croisée, elle, n'aurait pas rétréci : $\alpha$ ne voudrait plus dire la même chose à chaque température.
#
# Avec $T^2$, la norme n'est **pas constante** : elle croît, dépasse sa limite, puis y redescend et **converge**. C'est
# pourquoi on dit que $T^2$ « garde l'ordre de grandeur ».
#
# À droite : aux températures usuelles, le gradient est encore loin de sa limite ; c'est ensuite seulement que l'écart décroît,
# à peu près comme $1/T$.
#
# ## $T \to \infty$ : égaler les logits
#
# Développons le softmax pour $T$ grand : $e^{z/T} \approx 1 + z/T$. Le gradient devient
#
# $$\frac{\partial \mathcal{L}_{KD}}{\partial z^s_b} \;\longrightarrow\; \frac{1}{B\,C}
# \Big[(z^s_b - \bar z^s_b) - (z^t_b - \bar z^t_b)\Big],$$
#
# où $\bar z$ est la moyenne des $C$ logits d'une image. C'est le gradient d'un écart quadratique entre logits **centrés** :
# à haute température, distiller, c'est égaler les logits (*logit matching*), ce que proposaient Ba et Caruana en 2014.
#
# Une limite de gradient dit-elle quelque chose des students entraînés ? Vérifions : dix graines, 100 images, $\alpha = 1$.
# D'un côté l'écart quadratique, de l'autre la distillation à plusieurs températures. Quelle part des images de test
# reçoit une réponse **différente** ?

# %%
from kdcourse import grid, mean_interval, points, predict_features, train_many
from kdcourse.plots import plot_curves

def matching(student, teacher, labels):
    gap = student.logits - teacher.logits
    return (gap - gap.mean(dim=-1, keepdim=True)).square().mean() / 2

features, budget = predict_features(teacher, hundred.images), dict(epochs=120, batch_size=50)
matched = train_many(digits_student, hundred, seeds=seeds, alphas=1.0, **budget,
                     distillation=matching, teacher=features)
hot = [1, 4, 16, 64, 256]
students = train_many(digits_student, hundred, teacher_logits[:100], **budget,
                      **grid(temperatures=hot, alphas=1.0, seeds=seeds))
first, others = (s.logits(digits.test.images).argmax(-1) for s in (matched, students))
apart = 100 * (students.rows(others) != first).float().mean(dim=-1)
gap = matched.errors(digits.test) - students.table(digits.test)[hot.index(16)]
print("erreur, logits égalés moins T = 16 :", points(mean_interval(gap)))
plot_curves(hot, {"distillé à T, contre logits égalés": (apart, "distilled")},
            "température T", "réponses de test différentes (%)",
            "Plus T monte, plus les deux students se ressemblent", log=True)

# %% [markdown]
# Même graine, mêmes lots : à $T = 1$ les deux students répondent autrement sur une image sur dix environ ; à $T = 256$, ils
# ne diffèrent presque plus. La limite se voit donc sur de vrais students.
#
# Alors pourquoi garder la KL ? Parce qu'à $T = 16$, le student distillé se trompe moins que celui dont on égale les logits :
# c'est l'écart imprimé, apparié, pour ce student et ce budget. La carte dira si la bonne température dépend du student.
#
# ## La carte $T \times \alpha$ : choisir les régimes
#
# Où dessiner la carte (un tableau coloré, non une carte de features) ? Un **régime** est ici un student et un nombre d'images. Sondons-en six, avec un seul réglage
# ($T = 8$, $\alpha = 0{,}9$), dix graines, et lisons le gain **en validation**.

# %%
from kdcourse import error_rate, MLP, thousands

def few(count):  # les premières images, les logits du teacher, un budget
    options = {100: dict(epochs=120, batch_size=50),
               1000: dict(epochs=60, batch_size=100)}[count]
    return digits.train.where(slice(0, count)), teacher_logits[:count], options

def make_student(width):
    return lambda: MLP(hidden=(width, width))

for count in (100, 1000):
    for width in (6, 12, 32):
        part, logits, options = few(count)
        probe = train_many(
            make_student(width), part, logits, **options,
            **grid(temperatures=8.0, alphas=[0, 0.9], seeds=seeds))
        alone, distilled = probe.table(digits.validation)
        print(f"{thousands(count):>5} images, {width:2} unités : seul "
              f"{french(alone.mean()):>4} %, gain {mean_interval(alone - distilled)}")

# %% [markdown]
# Avec 100 images, le student de 32 unités gagne beaucoup, et les deux plus étroits **perdent** à ce réglage. Avec 1 000 images,
# le plus large n'a presque plus rien à gagner, et celui de 6 unités perd encore en moyenne (lisez son intervalle : d'une
# graine à l'autre, il change beaucoup).
#
# Nous cartographions deux extrêmes : 32 unités avec 100 images, où le gain est le plus grand, et 6 unités avec 1 000 images,
# qui n'a pas l'excuse du manque de données.
#
# Sept températures, six poids (quatre pour la seconde carte), dix graines, et le student seul : plus de 700 students, tous
# entraînés maintenant. La boucle d'abord, une fois, pour un seul d'entre eux : c'est celle de 10.1.

# %%
def train_by_hand(data, targets, seed, temperature, alpha, epochs, batch_size):
    torch.manual_seed(seed)
    student = digits_student()
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        order = torch.randperm(len(data.labels), generator=shuffle)
        for batch in order.split(batch_size):
            logits = student(data.images[batch])
            soft = distillation(logits, targets[batch], temperature)
            hard = F.cross_entropy(logits, data.labels[batch])
            optimizer.zero_grad()
            (alpha * soft + (1 - alpha) * hard).backward()
            optimizer.step()
    return student.eval()

part, logits, options = few(100)
one = train_by_hand(part, logits, 0, temperature=8.0, alpha=0.9, **options)
error = error_rate(one(digits.validation.images), digits.validation.labels)
print(f"erreur de validation d'un student, à la main : {french(error)} %")

# %%
from kdcourse.measures import TemperatureMap

temperatures = [0.5, 1, 2, 4, 8, 16, 32]
alphas = [0.2, 0.4, 0.6, 0.8, 0.9, 1.0]

def draw(width, count, alphas):
    part, logits, options = few(count)
    asked = grid(temperatures=temperatures, alphas=alphas, seeds=seeds, alone=True)
    students = train_many(make_student(width), part, logits, **asked,
                          validation=digits.validation, **options)
    measured = TemperatureMap.measure(students, temperatures, alphas, digits.test)
    return students, measured

students, wide = draw(32, 100, alphas)
same = students.one(temperature=8, alpha=0.9, seed=0)
gap = (same(digits.test.images) - one(digits.test.images)).abs().max()
print(f"{len(students)} students ; écart avec la boucle à la main : {gap:.0e}")

# %%
from IPython.display import Markdown, display
from kdcourse.plots import plot_temperature_maps

_, narrow = draw(6, 1000, [0.2, 0.5, 0.8, 1.0])
maps = {"32 unités, 100 images": wide, "6 unités, 1 000 images": narrow}
display(plot_temperature_maps(maps))
for name, measured in maps.items():
    i, j = measured.best()
    T, alpha = french(measured.temperatures[i]), french(measured.alphas[j])
    by_t, by_alpha = (measured.gains().mean(axis=k) for k in (1, 0))
    display(Markdown(
        f"**{name}.** Seul : {mean_interval(measured.alone)} % d'erreur de test. "
        f"Meilleure case en validation : $T = {T}$, $\\alpha = {alpha}$ ; au test, "
        f"{mean_interval(measured.errors[i, j])} %, gain apparié "
        f"{points(measured.gain(i, j))}. Cases que la validation n'en distingue "
        f"pas : {measured.as_good_as_best()} sur {measured.gains().size}. "
        f"Le gain moyen varie de {points(by_t.max() - by_t.min())} d'un $T$ à "
        f"l'autre, de {french(by_alpha.max() - by_alpha.min())} d'un $\\alpha$ à l'autre."
    ))

# %% [markdown]
# Lisez d'abord la carte de gauche. Sous $T = 2$, presque rien : le teacher ne dit que l'étiquette, déjà connue. Au-dessus,
# un plateau. (À $T = 0{,}5$, un petit gain : les courbes plus bas montrent un student qui descend plus vite.) La ligne compte, la colonne bien moins. Sans
# doute parce que ce teacher ne se trompe sur aucune image d'entraînement : étiquettes et teacher ne se contredisent jamais.
#
# Ne retenez pas « la meilleure case ». Beaucoup d'autres n'en sont pas distinguables : le nombre est imprimé. Un autre jeu de
# graines pourrait en élire une autre. Retenez le plateau.
#
# À droite, le même teacher, un student cinq fois plus étroit, et **la carte se renverse**. Le coin en haut à droite, $T$ et
# $\alpha$ élevés, coûte très cher. La colonne compte : avec $\alpha = 0{,}2$, les étiquettes protègent ; avec $\alpha = 1$, rien
# ne retient le student de poursuivre toute la hiérarchie du teacher. En bas à droite, $\alpha = 1$ ne coûte rien : à basse
# température, imiter le teacher revient à lire l'étiquette.
#
# Est-ce l'écart de capacité annoncé en 10.1, donc un manque de place, ou seulement trop peu d'époques ? **À vous de parier.**
# Donnons-en dix fois plus, à $\alpha = 1$.

# %%
part, logits, options = few(1000)
longer = train_many(
    make_student(6), part, logits, epochs=600, batch_size=100,
    **grid(temperatures=[4, 16], alphas=1.0, seeds=seeds, alone=True))
alone, *distilled = longer.table(digits.test)
for T, errors in zip((4, 16), distilled):
    before = narrow.gain(temperatures.index(T), -1)
    patient = mean_interval(alone - errors)
    print(f"T = {T:2} : gain {before} à 60 époques, {patient} à 600")

# %% [markdown]
# C'était surtout du temps. Avec dix fois plus d'époques, plus rien n'établit une perte, même à $T = 16$ : ce que l'on prenait
# pour un manque de place était en grande partie un manque de pas. Un student étroit apprend la hiérarchie, mais lentement, et
# d'autant plus que $T$ est élevée. (À 4 unités, en 10.1, la perte demeurait à $T = 20$ après quatre fois plus d'époques.)
# Avant d'invoquer la capacité, changez donc le budget.
#
# Les courbes d'apprentissage, à 60 époques, racontent la même histoire, un panneau par température : d'abord 32 unités, puis 6.

# %%
from kdcourse.plots import plot_map_curves

for measured in maps.values():
    display(plot_map_curves(measured, column=-1))

# %% [markdown]
# En haut, 32 unités : à température élevée, le student distillé descend d'abord **moins vite**, puis croise l'autre et
# continue de descendre quand celui-ci s'est arrêté. Distiller demande de la patience. En bas, 6 unités : plus $T$ monte,
# plus la courbe distillée traîne : elle n'a pas encore rejoint l'autre.
#
# Les curseurs choisissent une case : sa courbe, son intervalle, et les chiffres qu'elle confond.

# %%
from kdcourse.widgets import MapExplorer

display(MapExplorer(wide), MapExplorer(narrow))

# %% [markdown]
# En haut, 32 unités. Montez $T$ de 0,5 à 8, $\alpha$ au maximum : la matrice de droite pâlit. Puis laissez $T$ et déplacez
# $\alpha$ : presque rien ne bouge.
#
# En bas, 6 unités. À $T = 32$, passez $\alpha$ de 0,2 à 1 : la matrice noircit. Quels chiffres le petit student confond-il
# alors ?
#
# ## Distiller sans étiquettes
#
# À $\alpha = 1$, la perte ne lit **aucune étiquette**. Le teacher peut donc annoter des images que personne n'a étiquetées.
# Une image annotée par le teacher vaut-elle une image étiquetée ? Le student de 32 unités, 600 pas, $T = 8$, et autant
# d'images des deux côtés. (Ces images ont servi à entraîner le teacher : leurs étiquettes passent par lui, mais pas
# jusqu'au student.)

# %%
sizes, measured = [100, 300, 1000], []
for size in sizes:
    part = digits.train.where(slice(0, size))
    both = train_many(digits_student, part, teacher_logits[:size], epochs=60_000 // size,
                      **grid(temperatures=8.0, alphas=[0, 1], seeds=seeds))
    measured.append(both.table(digits.test))
labelled, unlabelled = torch.stack(measured, dim=1)
for size, gap in zip(sizes, labelled - unlabelled):
    print(f"{thousands(size):>5} images : {points(mean_interval(gap))} en faveur du teacher")
curves = {"étiquettes, sans teacher": (labelled, "student"),
          "teacher, sans étiquette": (unlabelled, "distilled")}
first = mean_interval(labelled[0] - unlabelled[0])
plot_curves(sizes, curves, "images données au student", "erreur de test (%)",
            f"Avec 100 images, l'avis du teacher vaut {points(first)}", log=True)

# %% [markdown]
# À nombre égal, les images sans étiquette mais avec l'avis du teacher enseignent **mieux**, surtout quand elles sont peu
# nombreuses. Une étiquette donne un mot ; le teacher donne dix nombres.
#
# Poussons plus loin. Le student n'a plus que 100 vraies images, et nous en fabriquons 1 000 autres : des **mélanges** de deux
# d'entre elles, $\lambda x + (1-\lambda) x'$ ; des images dont chaque **pixel** est pris dans une image tirée au hasard ; du **bruit**
# uniforme. Le teacher les annote toutes ; $\alpha = 1$, 600 pas.
#
# **À vous de parier** : un student qui n'a vu que du bruit, sans un seul chiffre, se trompe sur quelle part du test ?
# (Au hasard : 90 %.)

# %%
g = torch.Generator().manual_seed(0)
i, j = torch.randint(100, (2, 1000), generator=g)
share = torch.rand(1000, 1, 1, 1, generator=g)
pixels = hundred.images.flatten(1)
source = torch.randint(100, (1000, 64), generator=g)
made = {
    "1 000 mélanges des 100":
        share * hundred.images[i] + (1 - share) * hundred.images[j],
    "1 000 images aux pixels mêlés":
        pixels.gather(0, source).view(-1, 1, 8, 8),
    "1 000 images de bruit": torch.rand(1000, 1, 8, 8, generator=g),
}
measures = {"100 images, étiquettes": (labelled[0], "student"),
            "100 images, teacher": (unlabelled[0], "distilled")}
unread = torch.zeros(1000, dtype=torch.int64)  # la perte ne les lit pas
for name, images in made.items():
    targets = predict_features(teacher, images).logits
    taught = train_many(digits_student, (images, unread), targets,
                        seeds=seeds, temperatures=8.0, alphas=1.0)
    measures[name] = taught.errors(digits.test), "neutral"

# %%
from kdcourse.plots import plot_image_rows, plot_intervals

display(plot_image_rows({"100 vraies images": hundred.images[:8]}
                        | {name: images[:8] for name, images in made.items()},
                        "Quatre façons d'interroger le teacher : de moins en moins un chiffre"))

noise = mean_interval(measures["1 000 images de bruit"][0])
mixed = mean_interval(unlabelled[0] - measures["1 000 mélanges des 100"][0])
print(f"les mélanges gagnent {points(mixed)} sur les 100 images du teacher")
torn = measures["1 000 images aux pixels mêlés"][0]
print(f"pixels mêlés, contre 100 étiquettes : {mean_interval(labelled[0] - torn)}")
known = french(100 - noise.mean, 0)
plot_intervals(measures, "erreur de test (%)",
               f"Sans avoir vu un chiffre, le student en reconnaît {known} %")

# %% [markdown]
# Les mélanges enseignent à peu près autant que les 100 images dont ils viennent : l'écart, petit, est imprimé. Les pixels mêlés, qui
# ne ressemblent à rien, valent 100 étiquettes, aux intervalles près. Et le bruit pur enseigne encore beaucoup : le student imite une **fonction**,
# et une fonction se laisse interroger partout. Mais pas également bien : les images proches de celles à reconnaître enseignent
# nettement mieux.
#
# C'est aussi un avertissement : un modèle dont on lit librement les logits peut se copier.
#
# ## Ouvrir la KL : DKD
#
# La KL mêle deux questions : le teacher est-il sûr de la **cible** $y$ ? et comment classe-t-il **les autres** ? Zhao et al.
# (2022) les séparent : c'est DKD (*decoupled knowledge distillation*), somme de TCKD (*target class*) et de NCKD (*non-target
# class*). Avec $u = (p_y, 1 - p_y)$ et $q_c = p_c / (1 - p_y)$ pour $c \neq y$,
#
# $$\mathrm{KL}(p^t \| p^s) = \underbrace{\mathrm{KL}(u^t \| u^s)}_{\mathrm{TCKD}}
# + (1 - p^t_y)\, \underbrace{\mathrm{KL}(q^t \| q^s)}_{\mathrm{NCKD}}$$
#
# Regardez le poids $1 - p^t_y$ : un teacher sûr de lui **fait taire** la hiérarchie des autres classes, au moment où il la
# connaît le mieux. DKD remplace ce poids par une constante $\beta$. (Les `alpha` et `beta` de `dkd_loss` pondèrent TCKD et NCKD ; ce n'est pas
# le $\alpha$ du cours.) Mesurons ce poids sur nos 1 000 images, et vérifions l'identité sur 50 d'entre elles.

# %%
from kdcourse import dkd_loss

labels = digits.train.labels
print("   T   poids moyen de NCKD   identité : plus grand écart")
with torch.no_grad():
    start = novice(digits.train.images).double()
    guide = teacher_logits.double()
    for T in (1.0, 2.0, 4.0, 8.0, 32.0):
        weight = 1 - torch.softmax(guide / T, -1)[range(1000), labels]
        worst = 0.0
        for n in range(50):  # l'identité vaut exemple par exemple
            one, y = (start[[n]], guide[[n]]), labels[[n]]
            parts = dkd_loss(*one, y, T, alpha=1.0, beta=0.0)
            parts += weight[n] * dkd_loss(*one, y, T, alpha=0.0, beta=1.0)
            worst = max(worst, (parts - kd_loss(*one, T)).abs().item())
        print(f"{french(T):>4} {french(100 * weight.mean(), 2):>14} %{worst:20.0e}")

# %% [markdown]
# À $T = 1$, le poids de la hiérarchie est presque nul. Monter la température le relève : c'est une deuxième façon de
# comprendre pourquoi la carte de gauche ne se colore franchement qu'à partir de $T = 2$. DKD l'obtient par $\beta$, sans changer $T$ ;
# 10.6 comparera toutes les méthodes.
#
# ## Chasse au bug
#
# Un collègue a lu la carte de gauche : « $\alpha$ ne compte pas, je prends 0,2 ». Il écrit sa perte, $T = 8$, 100 images,
# dix graines. Il gagne bien moins que la carte ne le promet. Lisez sa perte et cherchez.

# %%
def colleague(student, teacher, labels, T=8.0):
    log_student = F.log_softmax(student.logits / T, dim=-1)
    log_teacher = F.log_softmax(teacher.logits / T, dim=-1)
    return T**2 * (log_teacher.exp() * (log_teacher - log_student)).mean()

def repaired(student, teacher, labels):
    return kd_loss(student.logits, teacher.logits, 8.0)

bars = {"seul": (wide.alone, "student")}
for name, loss in (("collègue", colleague), ("réparée", repaired)):
    guided = train_many(digits_student, hundred, seeds=seeds, alphas=0.2,
                        distillation=loss, teacher=features, **budget)
    bars[name] = guided.errors(digits.test), "neutral" if loss is colleague else "distilled"
repair = mean_interval(bars["collègue"][0] - bars["réparée"][0])
plot_intervals(bars, "erreur de test (%)",
               f"La perte réparée gagne {points(repair)} sur celle du collègue")

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# `.mean()` divise par **tous** les éléments, $B \times C$, alors que la KL est une somme sur les classes : la perte est
# $C = 10$ fois trop petite. Rien ne plante. Le vrai poids de la distillation, face aux étiquettes, n'est plus
# $\alpha = 0{,}2$ mais $0{,}02 / (0{,}02 + 0{,}8) \approx 0{,}024$ ; sur mille classes ce serait pire. À $\alpha = 1$ on ne verrait
# rien : Adam ne sent pas l'échelle d'une perte. Un bug qui dépend de $\alpha$ et du nombre de classes se cache bien.
#
# `F.kl_div(…, reduction="mean")`, qui est son réglage par défaut, fait la même division, et PyTorch vous en avertit ;
# il faut `reduction="batchmean"`.
# </details>
#
# **Second bug.** Pour aller plus vite, le collègue passe en demi-précision (*fp16*), essaie une température basse, et écrit la
# KL comme dans les livres : $\sum_c p_c \log (p_c / q_c)$. À la première itération, la perte vaut NaN.

# %% tags=["nbval-check-output"]
half = teacher_logits[:100].half()
other = fresh[0].detach().half()

def textbook(student, teacher, T):
    p, q = ((z / T).softmax(dim=-1) for z in (teacher, student))
    return T**2 * (p * (p / q).log()).sum(dim=-1).mean()

for T in (0.5, 2.0, 4.0):
    p = torch.softmax(half / T, -1)
    zero = "oui" if (p == 0).any() else "non"
    losses = textbook(other, half, T), kd_loss(other, half, T)
    book, ours = ("finie" if x.isfinite() else "NaN" for x in losses)
    print(f"T = {french(T)} : probabilités nulles : {zero} ; "
          f"perte du livre : {book}, de kdcourse : {ours}")

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# En demi-précision, une probabilité sous $3 \cdot 10^{-8}$ devient 0. Alors $p \log p = 0 \times (-\infty)$ : NaN. La
# température élevée cache le bug, car elle relève les petites probabilités. Deux remèdes à la fois : rester en logarithmes
# (`log_softmax` ne passe jamais par une probabilité nulle) et calculer en float32. `kd_loss` fait les deux. `F.kl_div` traite bien $p = 0$, mais
# `softmax(…).log()` pour le student donnerait encore l'infini, ou NaN.
# </details>
#
# ## À vous de jouer
#
# **Exercice 10.2 a.** Écrivez le gradient de la perte de distillation (avec $T^2$, moyenne sur le lot) par rapport aux
# logits du student, sans *autograd* : `(B, C)` vers `(B, C)`.
#
# **Exercice 10.2 b.** Écrivez la perte de distillation. La vérification essaie aussi des logits très grands : le résultat
# doit rester fini, et juste.

# %% tags=["nbval-check-output"]
from kdcourse import check

def kd_gradient(student, teacher, temperature):
    ...  # à compléter

def stable_kd(student, teacher, temperature):
    ...  # à compléter

_ = check("10.2 a", kd_gradient), check("10.2 b", stable_kd)

# %% [markdown]
# <details><summary>Une solution de 10.2 a</summary>
#
# ```python
# def kd_gradient(student, teacher, temperature):
#     p_student = torch.softmax(student / temperature, dim=-1)
#     p_teacher = torch.softmax(teacher / temperature, dim=-1)
#     return temperature * (p_student - p_teacher) / len(student)
# ```
# </details>
# <details><summary>Une solution de 10.2 b</summary>
#
# ```python
# def stable_kd(student, teacher, temperature):
#     log_student = F.log_softmax(student / temperature, dim=-1)
#     log_teacher = F.log_softmax(teacher / temperature, dim=-1)
#     kl = F.kl_div(log_student, log_teacher, reduction="batchmean", log_target=True)
#     return temperature**2 * kl
# ```
# </details>
#
# **Exercice 10.2 c.** Écrivez NCKD, exemple par exemple : la KL entre les prédictions adoucies **parmi les classes qui ne
# sont pas la cible**, sans facteur $T^2$ : `(B, C)`, `(B, C)`, `(B,)` vers `(B,)`.

# %% tags=["nbval-check-output"]
def nckd(student, teacher, labels, temperature):
    ...  # à compléter

_ = check("10.2 c", nckd)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# def nckd(student, teacher, labels, temperature):
#     keep = torch.ones_like(student, dtype=torch.bool).scatter(1, labels[:, None], False)
#     rest = [z[keep].view(len(z), -1) / temperature for z in (student, teacher)]
#     log_student, log_teacher = (F.log_softmax(z, dim=-1) for z in rest)
#     return (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1)
# ```
#
# Mettre le logit de la cible à $-\infty$ conviendrait aussi, mais $0 \times \infty$ guette : retirer la colonne est plus sûr.
# </details>
#
# ## Quiz
#
# Choisissez, puis déroulez l'option.
#
# **1. On passe de $T = 64$ à $T = 128$ en oubliant $T^2$. Que devient le gradient de la distillation ?**
#
# <details><summary>Il ne change presque pas</summary>Non : c'est le rôle de T², que l'on vient d'oublier.</details>
# <details><summary>Il est à peu près quatre fois plus petit</summary>Oui : sans T², il décroît presque comme 1/T², et le
# vrai poids de la distillation avec lui.</details>
# <details><summary>Il est deux fois plus grand</summary>Non : les deux prédictions s'aplatissent, leur différence
# rétrécit.</details>
#
# **2. Sur la première carte, quel réglage déplace le plus le gain moyen ?**
#
# <details><summary>La température</summary>Oui : les deux variations sont imprimées sous la carte. Sous T = 2, bien peu ;
# au-dessus, un plateau.</details>
# <details><summary>Le poids alpha</summary>Non : d'un alpha à l'autre, le gain moyen bouge bien moins. Sur la seconde carte, il
# compte davantage.</details>
# <details><summary>Les deux autant</summary>Non : comparez les deux variations imprimées sous la carte.</details>
#
# **3. Un student minuscule perd à être distillé à haute température. Qu'essayer d'abord, en validation ?**
#
# <details><summary>Une température plus basse, un alpha plus petit, ou bien plus d'époques</summary>Oui : le bas et la gauche de
# la seconde carte, ou le budget : avec dix fois plus d'époques, la perte du nôtre n'était plus établie.</details>
# <details><summary>Une température plus haute</summary>Non : c'est là que la carte perd le plus.</details>
# <details><summary>Rien : il n'a pas la place d'imiter</summary>Pas si vite : mesurez d'abord ce que change le budget.</details>
#
# **4. Dans `F.kl_div`, la réduction « mean » au lieu de « batchmean » divise la perte…**
#
# <details><summary>par B</summary>Non : les deux divisent par B.</details>
# <details><summary>par C de trop</summary>Oui : et le poids de la distillation est C fois trop faible.</details>
# <details><summary>par T</summary>Non : la température n'y entre pas.</details>
#
# **5. Le student a été distillé sur des images de bruit. Pourquoi apprend-il quelque chose ?**
#
# <details><summary>Le bruit contient par hasard des chiffres</summary>Non : des pixels uniformes et indépendants n'en
# forment pas.</details>
# <details><summary>Il imite la fonction du teacher, que le bruit interroge aussi</summary>Oui : moins bien que des images
# proches du problème, comme la figure le montre.</details>
# <details><summary>Les étiquettes l'aident</summary>Non : à alpha = 1, la perte n'en lit aucune.</details>
#
# ## Sur GPU
#
# Sur GPU, la même fonction entraîne plus d'un millier de students à la fois. La première cellule resserre la carte autour de
# $T = 8$, avec plus de graines si l'appareil le permet.
#
# Sur de plus grandes données, voici la mesure qui a lancé le domaine (Hinton, Vinyals et Dean 2015, section 3) : sur MNIST, un
# teacher de deux couches de 1 200 unités, avec *dropout* et translations, et un student de deux couches de 800. Nous l'avons
# refaite par `python -m benchmarks hinton`, une demi-heure sur processeur. La seconde cellule montre les erreurs de l'article à
# côté des nôtres. Puis, avec un GPU, elle refait les trois premières lignes sur MNIST entier, par la fonction `distill` de
# 10.1 ; sans GPU, elle essaie les mêmes réglages, $T = 20$ et $\alpha = 0{,}7$, sur nos 100 images.

# %%
import time
from kdcourse import best_device

device = best_device()
many = list(range(256 if device.type == "cuda" else 10))
fine = [4.0, 6.0, 8.0, 12.0, 16.0]
start = time.perf_counter()
students = train_many(
    digits_student, hundred.to(device), teacher_logits[:100].to(device), **budget,
    **grid(temperatures=fine, alphas=0.9, seeds=many))
errors = students.table(digits.validation.to(device)).cpu()
seconds = time.perf_counter() - start
where = "GPU" if device.type == "cuda" else "processeur"
print(f"{len(students)} students en {french(seconds)} s sur {where}")
for T, values in zip(fine, errors):
    print(f"T = {T:2.0f} : {mean_interval(values)} % d'erreur de validation, "
          f"{mean_interval(values - errors[fine.index(8)])} de plus qu'à T = 8")

# %%
from kdcourse import Choice, distill, distill_seeds
from kdcourse.measures import hinton_table
from kdcourse import mnist_student, mnist_teacher, model_error

display(Markdown(hinton_table()))
on_gpu = device.type == "cuda"
if on_gpu:
    data, small = load_dataset("mnist"), mnist_student
    big = distill(mnist_teacher, data.train, method="seul", epochs=60, batch_size=100,
                  jitter=2, output="runs/10_02-teacher", resume=True).model
else:
    data, small, big = digits._replace(train=hundred), digits_student, teacher
print(f"teacher : erreur de test {french(model_error(big, data.test), 2)} %")
for method in ("seul", "KD"):
    found = distill_seeds(small, data.train, big, range(3), method=method, batch_size=100,
                          choice=Choice(alpha=0.7, temperature=20.0), epochs=30 if on_gpu else 200,
                          learning_rate=0.001 if on_gpu else 0.003,
                          output="runs/10_02" if on_gpu else None)
    errors_big = torch.tensor([model_error(model, data.test) for model in found])
    print(f"{method:4} : erreur de test {mean_interval(errors_big)} %, trois graines")

# %% [markdown]
# Les cinq températures d'abord, à $\alpha = 0{,}9$ : avec dix graines, aucun écart apparié avec $T = 8$ n'exclut 0. Ce plateau
# n'a pas de sommet que l'on puisse nommer.
#
# La table ensuite, avec deux différences à garder en tête. L'article apprend sur les 60 000 images de MNIST ; nous n'avions que ses
# 10 000 images de test, partagées entre apprentissage, validation et test : comparez les rapports, pas les colonnes. Et
# l'article a réglé le biais du 3 sur le test ; nous, sur la validation. Le sens est le même : distillé, le student se
# rapproche de son teacher, et reconnaît la plupart des 3 qu'il n'a jamais vus, une fois le biais réglé.
#
# Les auteurs ajoutent que toute température au-dessus de 8 donne à peu près le même résultat quand les couches ont 300
# unités ou plus, et qu'avec 30 unités, les meilleures sont entre 2,5 et 4. Notre carte va dans le même sens, à une autre
# échelle : ces images 8×8 sont plus simples, et 32 unités y sont déjà assez larges.
#
# Les trois graines des dernières lignes donnent une indication, pas un résultat.
#
# ## À retenir

# %%
i, j = wide.best()
near, far = (mean_interval(apart[k]) for k in (0, -1))
display(Markdown(f"""
- Le gradient de la distillation est $T\\,(p^s - p^t)/B$. Sans $T^2$, il s'éteint
  comme $1/T^2$ ; avec, il converge vers la différence des logits centrés, divisée par
  $BC$ : à $T = 256$,
  le student distillé et le student aux logits égalés ne diffèrent plus que sur
  {french(far.mean)} % du test, contre {french(near.mean)} % à $T = 1$.
- Avec 100 images, la distillation fait passer le student de 32 unités de
  {french(wide.alone.mean())} % à {french(wide.errors[i, j].mean())} % d'erreur (gain
  {points(wide.gain(i, j))}) ; la température compte, $\\alpha$ presque pas.
- Un student de 6 unités, lui, **perd** dans le coin $T = 32$, $\\alpha = 1$ :
  {points(narrow.gain(-1, -1))} en 60 époques. Question de temps surtout : à $T = 16$,
  le gain passe de {before} à {patient} quand il en a 600.
- Sans une étiquette, 100 images annotées par le teacher valent mieux que 100 étiquettes
  ({points(mean_interval(labelled[0] - unlabelled[0]))}) ; sur du bruit pur, le student
  reconnaît encore {known} % des chiffres.
- La KL est une somme sur les classes et une moyenne sur les exemples, en logarithmes
  jusqu'au bout : le collègue y a perdu {points(repair.mean)}, puis toute sa perte.
"""))

# %% [markdown]
# ## Références
#
# - G. Hinton, O. Vinyals, J. Dean, *Distilling the Knowledge in a Neural Network*, 2015,
#   [arXiv:1503.02531](https://arxiv.org/abs/1503.02531). La limite des hautes températures (section 2.1), MNIST (section 3).
# - J. Ba, R. Caruana, *Do Deep Nets Really Need to be Deep?*, 2014, [arXiv:1312.6184](https://arxiv.org/abs/1312.6184).
#   Égaler les logits.
# - B. Zhao, Q. Cui, R. Song, Y. Qiu, J. Liang, *Decoupled Knowledge Distillation*, CVPR 2022,
#   [arXiv:2203.08679](https://arxiv.org/abs/2203.08679). TCKD et NCKD.
# - L. Beyer et al., *Knowledge distillation: A good teacher is patient and consistent*, CVPR 2022,
#   [arXiv:2106.05237](https://arxiv.org/abs/2106.05237). Distiller longtemps, sur des images mélangées.
# - S. Mirzadeh et al., *Improved Knowledge Distillation via Teacher Assistant*, 2020,
#   [arXiv:1902.03393](https://arxiv.org/abs/1902.03393). L'écart de capacité.
#
# **La suite** : 10.3 regarde à l'intérieur du teacher.
