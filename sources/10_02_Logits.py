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
# **Quelle température, quel poids, et pourquoi T² ?**
#
# Voici un student qui n'a jamais vu de chiffre. On ne lui a montré que des pixels tirés au hasard, et ce qu'un teacher en
# disait. Aucune étiquette.
#
# ![À gauche, quatre images de bruit, comme celles que le student a vues, et ses réponses à quatre chiffres du test. À droite, la part du test qu'il reconnaît, à deux budgets, à côté d'un student qui a vu cent chiffres étiquetés : plus de la moitié, puis plus des trois quarts.](attachment:ouverture.png)
#
# Tout ce qu'il sait lui est venu par les logits du teacher. Ce chapitre apprend à les écouter : à quelle température, avec
# quel poids, et pendant combien de pas.

# %% tags=["bootstrap", "hide-input"]
from kdcourse import describe_environment

print(describe_environment())

# %% [markdown]
# ## Objectifs
#
# À la fin de ce chapitre, vous saurez :
#
# - écrire le gradient de la distillation, et expliquer le facteur $T^2$ ;
# - dire vers quoi tend la distillation quand $T$ grandit ;
# - lire une carte $T \times \alpha$, et choisir ces réglages sur la validation ;
# - vérifier un verdict à un second budget, avant d'y croire ;
# - distiller sans aucune étiquette.
#
# **Durée : une heure** de lecture, et les exercices. Les deux annexes et l'exercice c sont facultatifs. Le notebook entier s'exécute en
# un peu plus d'une minute.
#
# **Prérequis** : [10.1](10_01_Principes.ipynb) ; dériver un softmax.
#
# <details><summary>Les mots de ce chapitre</summary>
#
# | Mot | Sens |
# |---|---|
# | gain | erreur du student seul, moins celle du student distillé de même graine ; en points, positif si distiller aide ; calculé avant tout arrondi |
# | recul | un gain négatif : distillé, le student se trompe davantage |
# | carte $T \times \alpha$ | un tableau coloré : le gain pour chaque température et chaque poids (rien à voir avec une *feature map*) |
# | régime | une largeur de student et un nombre d'images |
# | pas (*step*) | une mise à jour des poids, sur un lot |
# | budget | le nombre de pas d'un entraînement : ici 240 puis 960, sauf pour la première image et l'annexe A |
# | logits centrés | les logits d'une image, moins leur moyenne |
#
# Les autres mots sont dans le glossaire de [10.1](10_01_Principes.ipynb).
# </details>
#
# ## Un student instruit par du bruit
#
# La perte de 10.1 pèse le teacher par $\alpha$ et les étiquettes par $1 - \alpha$. À $\alpha = 1$, elle ne lit aucune
# étiquette : le teacher peut donc annoter n'importe quelle image. Donnons-lui 1 000 images de bruit, où chaque pixel est tiré
# entre 0 et 1. Le teacher est celui de 10.1 ; lui a appris sur de vrais chiffres. Voici comment la première image a été mesurée.

# %%
import torch
from IPython.display import display
from kdcourse import digits_student, digits_teacher, grid, load_dataset
from kdcourse import predict_features, train_many, train_one

torch.set_num_threads(1)  # deux fils ne gagnent rien ici
digits = load_dataset("digits")
teacher = train_one(digits_teacher, digits.train, epochs=30)
teacher_logits = predict_features(teacher, digits.train.images).logits
noise = torch.rand(1000, 1, 8, 8, generator=torch.Generator().manual_seed(0))
noise_logits = predict_features(teacher, noise).logits
unread = torch.zeros(1000, dtype=torch.int64)  # à alpha = 1, personne ne les lit
hundred, seeds, noisy, labelled = digits.train.where(slice(0, 100)), range(10), {}, {}
for steps in (300, 1200):  # des lots de cent images
    noisy[steps] = train_many(
        digits_student, (noise, unread), noise_logits, epochs=steps // 10,
        **grid(seeds=seeds, temperatures=8, alphas=1))
    labelled[steps] = train_many(
        digits_student, hundred, teacher_logits[:100], epochs=steps,
        **grid(seeds=seeds, temperatures=8, alphas=0))

# %% tags=["hide-input", "opening", "moved"]
from kdcourse import french, mean_interval, points, say, thousands
from kdcourse.plots import plot_tiles_and_bars

known = {name: {f"{thousands(steps)} pas": 100 - students.errors(digits.test)
                for steps, students in by_steps.items()}
         for name, by_steps in (("bruit", noisy), ("100 étiquettes", labelled))}
shown = predict_features(noisy[1200].one(seed=0), digits.test.images[:4]).logits
told = [f"répond {said}" + f"\nc'est un {label}" * (said != label)
        for said, label in zip(shown.argmax(-1).tolist(), digits.test.labels.tolist())]
longest = f"{thousands(1200)} pas"
share = french(known["bruit"][longest].mean(), 0)
display(plot_tiles_and_bars(
    torch.cat([noise[:4], digits.test.images[:4]]),
    ["vu"] * 4 + told,
    dict(zip(known, zip(known.values(), ("distilled", "student")))), "test reconnu (%)",
    f"Il n'a vu que du bruit, et reconnaît {share} % du test ({longest})",
    "en haut, quatre images de bruit ; en bas, les quatre premières du test, graine 0"))
heard, read = (rates[longest] for rates in known.values())
say(f"Instruit par du bruit, il reconnaît {share} % du test à {longest}. Il reste "
    f"derrière les cent étiquettes, de {points(mean_interval(read - heard))}.")

# %% [markdown]
# Le hasard en reconnaîtrait 10 %. Le student imite une **fonction**, et une fonction se laisse interroger partout, même là où il
# n'y a rien à voir. C'est aussi un avertissement : un modèle dont on lit librement les logits peut se copier.
#
# Que disent donc ces logits, et que change la température ? Regardons le gradient.
#
# ## Ce que la température change au gradient
#
# Prenons un student neuf et, parmi les images de validation que le teacher reconnaît, celle où il hésite le plus. En haut, les
# deux prédictions. En bas, le gradient de chaque logit du student. La descente va contre le gradient : elle **relève** un logit
# dont la barre est négative, et **baisse** un logit dont la barre est positive.

# %%
from kdcourse import initial_model
from kdcourse.measures import most_uncertain
from kdcourse.plots import plot_gradients
from kdcourse.widgets import GradientExplorer

replies = predict_features(teacher, digits.validation.images).logits.argmax(-1)
right = digits.validation.where(replies == digits.validation.labels)
image, label = (part[most_uncertain(teacher, right)] for part in right)
novice = initial_model(digits_student, seed=0)
pair = [predict_features(model, image).logits[0] for model in (novice, teacher)]
display(plot_gradients(image[0], label.item(), *pair, temperatures=[1, 2, 4, 8, 32]),
        GradientExplorer(image[0], *pair))

# %% [markdown]
# À $T = 1$, les premières classes du teacher sont relevées, et toutes les autres baissées à peu près du **même** montant : rien
# ne les distingue. Quand $T$ monte, chaque classe reçoit sa propre poussée ; le titre général en donne l'étendue. Suivez le 7, qui
# ressemble à ce 1 : baissé comme les autres à $T = 1$, il est relevé à $T = 8$. À basse température, le student apprend la
# réponse ; à haute température, toute la hiérarchie.
#
# Les carrés sont la limite du gradient quand $T$ tend vers l'infini ; nous la calculerons plus bas. L'« écart » de
# chaque panneau est la norme de leur différence, rapportée à celle de la limite.
#
# Le curseur ajoute une question : que vaut ce gradient si l'on oublie le facteur $T^2$ de la perte ? Amenez $T$ à 128 : les deux
# prédictions se confondent, les barres grises et creuses, sans $T^2$, ont disparu, et les vertes se posent sur les carrés.
#
# ## Pourquoi $T^2$
#
# Pour un lot de $B$ images, la perte de distillation est
#
# $$\mathcal{L}_{KD} = T^2 \, \frac{1}{B} \sum_b \mathrm{KL}\big(p^t_b(T) \,\|\, p^s_b(T)\big), \qquad
# p(T) = \mathrm{softmax}(z / T).$$
#
# Son gradient se trouve en trois facteurs. La dérivée de la KL par rapport à $z^s/T$ est $p^s - p^t$. Celle de $z^s / T$ par
# rapport à $z^s$ est $1/T$. Et $T^2$ est devant. Il reste
#
# $$\frac{\partial \mathcal{L}_{KD}}{\partial z^s_b} = \frac{T}{B} \big(p^s_b(T) - p^t_b(T)\big).$$
#
# Quand $T$ monte, les deux prédictions s'aplatissent ensemble, et $p^s - p^t$ rétrécit. Mesurons la norme du gradient pour
# dix students neufs, sur 100 images, avec et sans $T^2$.
#
# **À vous de parier** : avec $T^2$, la norme reste-t-elle constante ?

# %%
from kdcourse.measures import logit_gradient, matching_gradient
from kdcourse.plots import plot_temperature_gradients

swept = [0.5, 1, 2, 4, 8, 16, 32, 64, 128]
fresh = torch.stack([
    predict_features(initial_model(digits_student, seed), hundred.images).logits
    for seed in seeds
]).double()  # (graines, images, classes)
guide = teacher_logits[:100].double()
with_factor = torch.stack([logit_gradient(fresh, guide, T) / 100 for T in swept])
without_factor = torch.stack([g / T**2 for g, T in zip(with_factor, swept)])
limit = matching_gradient(fresh, guide) / 100
plot_temperature_gradients(swept, with_factor, without_factor, limit)

# %% [markdown]
# Avec $T^2$, la norme n'est **pas constante** : elle croît, dépasse sa limite, puis y redescend. Le facteur garde l'ordre de
# grandeur du gradient, et rien de plus.
#
# Sans $T^2$, le gradient s'éteint : l'exposant du titre, mesuré sur la seconde moitié des températures, est proche de $-2$. Or
# l'entropie croisée avec les étiquettes, elle, ne rétrécit pas. Un même $\alpha$ ne voudrait donc plus dire la même chose à
# chaque température. À $T = 8$, croire choisir $\alpha = 0{,}5$, ce serait choisir
# $\frac{0{,}5/64}{0{,}5/64 + 0{,}5} \approx 0{,}015$.
#
# ### Que coûte l'oubli de $T^2$ ?
#
# Rien ne plante. Entraînons de vrais students, de 32 unités par couche, sur 100 images étiquetées : dix graines, avec et sans
# $T^2$, à deux budgets.
#
# **À vous de parier** : que reste-t-il, sans $T^2$, du gain de la distillation ?

# %%
from kdcourse import kd_loss

features = predict_features(teacher, hundred.images)

def forgetful(student, teacher, labels):  # T = 8, sans le facteur T²
    return kd_loss(student.logits, teacher.logits, 8.0) / 8**2

def errors_at(steps, alpha, loss=None):  # deux lots de 50 par époque
    return train_many(
        digits_student, hundred, features, distillation=loss, temperatures=8.0,
        alphas=alpha, seeds=seeds, epochs=steps // 2, batch_size=50).errors(digits.test)

squared = {}
for steps in (240, 960):
    alone, with_t2 = errors_at(steps, 0.0), errors_at(steps, 0.5)
    without = errors_at(steps, 0.5, forgetful)
    squared[steps] = {"avec T²": alone - with_t2, "sans T²": alone - without}

# %% tags=["hide-input"]
from kdcourse.plots import plot_gains

left = {steps: [french(gains.mean()) for gains in both.values()]
        for steps, both in squared.items()}
display(plot_gains(
    {f"{steps} pas": both for steps, both in squared.items()},
    f"Sans T², le gain tombe de {' à '.join(left[240])} points en 240 pas, "
    f"de {' à '.join(left[960])} en 960"))
forgotten = {steps: mean_interval(both["avec T²"] - both["sans T²"])
             for steps, both in squared.items()}
costs = [both["avec T²"] - both["sans T²"] for both in squared.values()]
say(f"Ce que l'oubli coûte : {points(forgotten[240])} en 240 pas. "
    f"En 960 pas : {points(forgotten[960])}. "
    f"C'est {points(mean_interval(costs[0] - costs[1]))} de moins.")

# %% [markdown]
# L'oubli n'annule pas le gain : même à ce poids infime, le teacher aide encore. Mais il coûte, de façon établie aux deux budgets,
# moins au second. Ce prix n'est pas universel : oublier $T^2$, c'est choisir un $\alpha$ bien plus petit **sans le savoir**, et un
# petit $\alpha$ est parfois le bon (nous en verrons un cas). À $\alpha = 1$, l'oubli ne coûterait rien : plus rien ne fait face à la distillation, et Adam
# ne sent pas l'échelle d'une perte.
#
# ## $T \to \infty$ : égaler les logits
#
# Quand $T$ est grand devant les logits, $e^{z/T} \approx 1 + z/T$. Divisons par la somme de ces exponentielles sur les $C$ classes :
#
# $$p_c(T) \approx \frac{1 + z_c/T}{C + \sum_k z_k/T} \approx \frac{1}{C}\Big(1 + \frac{z_c - \bar z}{T}\Big),$$
#
# où $\bar z$ est la moyenne des $C$ logits de l'image. Dans la différence $p^s - p^t$, les 1 se retranchent ; le facteur $T$ du
# gradient mange le $1/T$ qui reste :
#
# $$\frac{\partial \mathcal{L}_{KD}}{\partial z^s_b} \;\longrightarrow\; \frac{1}{B\,C}
# \Big[(z^s_b - \bar z^s_b) - (z^t_b - \bar z^t_b)\Big].$$
#
# C'est le gradient de $\frac{1}{2BC} \sum (\tilde z^s - \tilde z^t)^2$, l'écart quadratique des logits **centrés** : à haute température, distiller revient à égaler les logits
# (*logit matching*), ce que Ba et Caruana proposaient en 2014.
#
# Cette limite se voit-elle sur des students entraînés ? Dix graines, 100 images, $\alpha = 1$. D'un côté, l'écart quadratique ;
# de l'autre, la distillation à quatre températures. Quelle part des images de test reçoit deux réponses **différentes** ?

# %%
from kdcourse import mean_interval

def matching(student, teacher, labels):
    gap = student.logits - teacher.logits
    return (gap - gap.mean(dim=-1, keepdim=True)).square().mean() / 2

heats, apart, cost = {240: [1, 8, 64, 256], 960: [8]}, {}, {}
for steps, temperatures in heats.items():
    budget = dict(epochs=steps // 2, batch_size=50)  # deux lots par époque
    matched = train_many(digits_student, hundred, features, distillation=matching,
                         seeds=seeds, alphas=1.0, **budget)
    heated = train_many(digits_student, hundred, teacher_logits[:100], **budget,
                        **grid(temperatures=temperatures, alphas=1.0, seeds=seeds))
    one, other = (x.logits(digits.test.images).argmax(-1) for x in (matched, heated))
    # rows : une ligne par température, une colonne par graine
    apart[steps] = 100 * (heated.rows(other) != one).float().mean(dim=-1)
    gaps = matched.errors(digits.test) - heated.table(digits.test)
    cost[steps] = mean_interval(gaps[temperatures.index(8)])

# %% tags=["hide-input"]
from kdcourse.plots import plot_curves

coldest, hottest = (french(apart[240][k].mean(), 0) for k in (0, -1))
curve = {"distillé à T, contre logits égalés": (apart[240], "distilled")}
display(plot_curves(
    heats[240], curve, "température T", "réponses de test différentes (%)",
    f"{coldest} % de réponses différentes à T = 1, {hottest} % à T = 256", log=True))
say(f"Égaler les logits coûte, par rapport à $T = 8$, {points(cost[240])} en 240 pas. "
    f"En 960 pas : {points(cost[960])}.")

# %% [markdown]
# La limite se voit sur de vrais students : à $T = 256$, les deux méthodes ne se séparent presque plus.
#
# Alors pourquoi garder la KL ? En 240 pas et sans étiquette, parce qu'à $T = 8$ le student fait moins d'erreurs. En 960 pas, l'écart
# n'est plus établi : rien ici ne les départage. La KL laisse, elle, choisir $T$.
#
# ## La carte $T \times \alpha$
#
# Quelle température, et quel poids ? Un student de 32 unités par couche, 100 images. Pour chaque température et chaque poids, dix
# students, comparés à leurs dix jumeaux sans teacher, en 240 pas : 250 students, tous entraînés maintenant.
#
# <details><summary>Comment nous avons réglé</summary>
#
# Nous avions sondé six régimes en validation, à $T = 8$ et $\alpha = 0{,}9$ : 6, 12 et 32 unités, 100 et 1 000 images. Le gain le
# plus grand était celui de 32 unités et 100 images : c'est la carte qui suit. Les deux régimes de la section suivante n'en changent
# qu'une chose chacun. Le régime de 6 unités et 1 000 images est celui de l'exercice 10.2 d. Partout, 240 pas de 50
# images, et le taux d'apprentissage de 10.1.
# </details>

# %%
from kdcourse import MLP
from kdcourse.measures import TemperatureMap

def measure(width, count, temperatures, alphas, times=1):
    epochs = {100: 120, 1000: 12}[count]  # 240 pas, par lots de 50
    students = train_many(
        lambda: MLP(hidden=(width, width)), digits.train.where(slice(0, count)),
        teacher_logits[:count], epochs=times * epochs, batch_size=50,
        validation=digits.validation,
        **grid(temperatures=temperatures, alphas=alphas, seeds=seeds, alone=True),
    )
    return TemperatureMap.measure(students, temperatures, alphas, digits.test)

wide = measure(32, 100, [1, 2, 4, 8, 16, 32], [0.2, 0.5, 0.8, 1.0])

# %% tags=["hide-input"]
from kdcourse.plots import plot_temperature_maps
from kdcourse.widgets import MapExplorer

display(plot_temperature_maps({"32 unités, 100 images": wide}))
row, column = wide.best()
chosen = wide.temperatures[row], wide.alphas[column]
by_t, by_alpha = (wide.gains().mean(axis=k) for k in (1, 0))
say(f"Le student seul se trompe sur {french(wide.alone.mean())} % du test. La "
    f"validation choisit $T = {chosen[0]}$ et $\\alpha = {french(chosen[1])}$ ; le "
    f"gain de test y est de {points(wide.gain(row, column))}. Mais la validation ne "
    f"distingue pas cette case de {wide.as_good_as_best() - 1} autres.",
    f"En moyenne, le gain varie de {points(by_t.max() - by_t.min())} d'une température "
    f"à l'autre, et de {french(by_alpha.max() - by_alpha.min())} d'un poids à l'autre.")
display(MapExplorer(wide))

# %% [markdown]
# À $T = 1$, presque rien : le teacher, sûr de lui, ne dit guère plus que l'étiquette. Puis le gain monte, et de $T = 4$ à $T = 32$, c'est
# un plateau. La température compte ; le poids, entre 0,2 et 1, bien moins. (Très en dessous, il compterait : c'est là que tombait l'oubli
# de $T^2$.) Ne retenez pas « la meilleure case » : la validation en laisse bien d'autres, et d'autres graines pourraient en élire une
# autre. Retenez le plateau.
#
# Regardez la dernière colonne : à $\alpha = 1$, le student n'a lu **aucune étiquette** (le teacher, lui, les avait lues), et son gain est
# voisin. Une étiquette donne un mot ; le teacher donne dix nombres.
#
# Les curseurs choisissent une case, et montrent sa courbe d'apprentissage et les chiffres que ses students confondent. L'axe compte
# en époques : une époque fait ici deux pas. Mettez $\alpha$ au maximum, et montez $T$ de 1 à 8 : la courbe descend d'abord moins
# vite que celle du student seul, puis elle passe dessous, et la matrice de droite pâlit. Laissez $T$, et déplacez $\alpha$ :
# la fin de la courbe bouge peu ; son départ, lui, est plus lent à grand $\alpha$.
#
# ## Changer une chose à la fois
#
# Cette carte vaut-elle pour un autre student, pour d'autres données ? Changeons d'abord la **largeur** seule : 6 unités, les
# mêmes 100 images. Puis les **images** seules : 32 unités, 1 000 images, et toujours 240 pas de 50 images.
#
# **À vous de parier** : que devient le gain dans chaque cas ? Plus grand, plus petit, négatif ?

# %%
from kdcourse.plots import plot_temperature_maps
from kdcourse.widgets import MapExplorer

few_t, few_alphas = [1, 4, 8, 32], [0.2, 0.5, 1.0]
narrow = measure(6, 100, few_t, few_alphas)
rich = measure(32, 1000, [1, 8, 32], [0.2, 1.0])
maps = {"6 unités, 100 images": narrow, "32 unités, 1 000 images": rich}
display(plot_temperature_maps(maps), MapExplorer(narrow, start=(32, 1.0)))

# %% [markdown]
# Réponse du pari : il ne grandit nulle part. C'était à prévoir : des six régimes que nous avions sondés, la première carte
# est celle du plus grand gain. Voyons où il est passé. (À 1 000 images et autant de pas, chaque image est vue dix fois moins.)
#
# **Moins large** : aucun gain n'est plus établi, et il y a un recul dans le coin en haut à droite, $T$ et $\alpha$ élevés. Le poids
# compte maintenant : à $\alpha = 0{,}2$, aucun recul n'est établi. En bas, à $T = 1$, imiter le teacher revient presque à lire
# l'étiquette : aucun coût n'est établi.
#
# **Plus d'images** : aucun gain n'est établi en 240 pas ; à $\alpha = 1$ et température élevée, c'est même un petit recul. Est-ce
# l'abondance d'étiquettes, ou le budget ? Nous allons le voir.
#
# Les curseurs sont ceux du student étroit, et s'ouvrent sur ce coin : à $T = 32$ et $\alpha = 1$, la courbe traîne au-dessus de
# celle du student seul. Ramenez $\alpha$ à 0,2 : elles se rejoignent, et la matrice pâlit. Quels chiffres se confondent dans le
# coin ? Cherchez-les dans la matrice, puis déroulez la réponse.

# %% tags=["hide-input"]
from kdcourse import markdown_table
from kdcourse.measures import main_confusions

pushed = narrow.confusions[few_t.index(32), few_alphas.index(1.0)]
alone = narrow.alone_confusion
rows = [(f"{label} lu {answer}", french(count), french(alone[label, answer]))
        for label, answer, count in main_confusions(pushed, 5)]
kept, known = (100 * c.diagonal() / c.sum(dim=1) for c in (pushed, alone))
victim = int((known - kept).argmax())
say("<details><summary>Réponse</summary>",
    markdown_table(("faute", "fois par graine, T = 32, α = 1", "student seul"), rows),
    f"Le chiffre qui en souffre le plus est le {victim} : le student seul en reconnaît "
    f"{french(known[victim], 0)} %, le student distillé {french(kept[victim], 0)} %.",
    "Ces cinq fautes dominent chez le student distillé ; le student seul les fait "
    "aussi, moins souvent en moyenne. C'est en partie l'effet de ce choix, et ces "
    "moyennes ne disent pas qu'il apprend de travers.", "</details>")

# %% [markdown]
# ### Manque de place, ou manque de pas ?
#
# Un petit student qui recule quand on le distille : on parle d'écart de capacité (*capacity gap*, Mirzadeh et al., 2020, quand le teacher
# est trop grand pour lui), comme s'il manquait de place. Avant d'y croire, donnons quatre fois plus de pas à chaque régime, à $T = 8$ (et à $T = 1$ pour le premier).
#
# **À vous de parier** : les gains du plateau s'effacent-ils ? Et le recul du petit student ?

# %%
regimes = {"32 unités, 100 images": (32, 100, [1, 8], [0.2, 1.0]),
           "6 unités, 100 images": (6, 100, [8], [0.2, 1.0]),
           "32 unités, 1 000 images": (32, 1000, [8], [1.0])}
longer = {name: measure(*asked, times=4) for name, asked in regimes.items()}

# %% tags=["hide-input"]
from itertools import product
from kdcourse.plots import plot_gain_curves

per_epoch = dict(zip(regimes, (2, 2, 20)))
tight = longer["6 unités, 100 images"]
ends = (tight.alone_curve - tight.curves[0, -1]).mean(dim=0)[[119, -1]]
display(plot_gain_curves(
    {name: (longer[name], per_epoch[name]) for name in regimes}, "En validation, 6 "
    f"unités, α = 1 : {french(ends[0])} points à 240 pas, {french(ends[1])} à 960"))
rows, table = [], dict(zip(regimes, (wide, narrow, rich)))
for name, (_, _, *asked) in regimes.items():
    for T, alpha in product(*asked):
        rows.append([name, str(T), french(alpha)])
        for m in (table[name], longer[name]):
            gain = m.gain(m.temperatures.index(T), m.alphas.index(alpha))
            rows[-1] += [french(m.alone.mean()), gain]
header = "régime", "T", "α", "seul, 240 pas (%)", "gain", "seul, 960 pas (%)", "gain"
small = [m.alone - m.errors[m.temperatures.index(8), -1] for m in (narrow, tight)]
say("De 240 à 960 pas, le gain du student de 6 unités à $\\alpha = 1$ remonte de "
    f"{points(mean_interval(small[1] - small[0]))}.", markdown_table(header, rows))

# %% [markdown]
# - **32 unités, 100 images.** Le gain du plateau grandit. À $T = 1$, il reste loin derrière, même avec quatre fois plus de pas :
#   la température compte aux deux budgets.
# - **6 unités.** En 240 pas, le student seul faisait encore près d'une faute sur deux : il n'avait pas fini d'apprendre. En 960 pas,
#   le recul à $\alpha = 1$ n'est plus établi, et à $\alpha = 0{,}2$ il y a maintenant un gain. Le premier verdict tenait donc en
#   partie au budget (la remontée est établie). Est-ce toujours le cas ? L'exercice d le demande.
# - **1 000 images.** Au test, le petit recul est devenu un gain ; en validation, la courbe finit près de zéro.
#
# Imiter demande de la **patience** ; Beyer et al. (2022) en font une règle. Une piste, que nous n'avons pas testée : à haute température,
# le student doit caler dix nombres par image, où l'étiquette n'en demande qu'un. Un verdict ne vaut donc qu'avec son budget. Et
# l'intervalle ne couvre que les graines : avec un autre teacher et dix autres graines, nous avons retrouvé le plateau, aux deux
# budgets ; les deux reculs n'y étaient pas établis, et nous ne savons pas lequel des deux changements en décide.
#
# ## La mesure qui a lancé le domaine
#
# Hinton, Vinyals et Dean (2015) distillent sur MNIST un teacher de deux couches de 1 200 unités dans un student de deux couches de
# 800, à $T = 20$. Voici leurs erreurs, à côté des nôtres, que refait `python -m benchmarks hinton` :

# %% tags=["hide-input"]
from kdcourse.measures import hinton_table

say(hinton_table())

# %% [markdown]
# Les deux colonnes ne se comparent pas : l'article apprend sur 60 000 images, nous sur 7 000 ; il règle le biais du 3 sur le test,
# nous en validation (ce réglage, une constante ajoutée au logit du 3, est celui de 10.1). Le sens est le même : distillé, le student se rapproche de son teacher, et reconnaît la plupart des 3 qu'il
# n'a jamais vus.
#
# Les auteurs ajoutent qu'avec 300 unités par couche ou plus, toute température au-dessus de 8 se vaut à peu près, et qu'avec 30
# unités les meilleures sont entre 2,5 et 4. Nous trouvons un plateau semblable, mais à 32 unités, et à 6 unités un recul à
# grand $\alpha$ : autres images, autre budget.
#
# ## Chasse au bug
#
# Un collègue a lu la première carte : « $\alpha$ compte peu, je prends 0,2 ». Il écrit sa perte, à $T = 8$. En 240 pas, il gagne
# bien moins que la carte ne le promet. Il n'a pourtant pas oublié $T^2$. Lisez sa perte et cherchez.

# %%
import torch.nn.functional as F
from kdcourse import points
from kdcourse.plots import plot_intervals

def colleague(student, teacher, labels, T=8.0):
    log_student = F.log_softmax(student.logits / T, dim=-1)
    log_teacher = F.log_softmax(teacher.logits / T, dim=-1)
    return T**2 * (log_teacher.exp() * (log_teacher - log_student)).mean()

found = errors_at(240, 0.2, colleague)
promised = wide.errors[wide.temperatures.index(8), wide.alphas.index(0.2)]
bars = {"seul": (wide.alone, "student"), "le collègue": (found, "neutral"),
        "la carte, même case": (promised, "distilled")}
missing = mean_interval(found - promised)
plot_intervals(bars, "erreur de test (%)", f"Il manque {points(missing)} au collègue")

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# `.mean()` divise par **tous** les éléments, $B \times C$, alors que la KL est une somme sur les classes : la perte est $C = 10$
# fois trop petite. Face aux étiquettes, le poids de la distillation n'est plus $\alpha = 0{,}2$ mais
# $0{,}02 / (0{,}02 + 0{,}8) \approx 0{,}024$ ; sur mille classes, ce serait pire. Et à $\alpha = 1$ on ne verrait rien.
#
# `F.kl_div(…, reduction="mean")`, son réglage par défaut, fait la même division, et PyTorch en avertit : il faut
# `reduction="batchmean"`.
# </details>

# %% tags=["hide-input", "repair"]
far = longer["32 unités, 100 images"]  # la perte juste, à ce réglage
promised_later = far.errors[far.temperatures.index(8), far.alphas.index(0.2)]
later = mean_interval(errors_at(960, 0.2, colleague) - promised_later)
say(f"Réparée, sa perte est celle de la carte : elle évite {points(missing)} d'erreur "
    f"en 240 pas. En 960 pas : {points(later)}.")

# %% [markdown]
# Avec quatre fois plus de pas, dix graines n'établissent plus ce que ce bug coûte : il n'en est que plus difficile à trouver.
#
# ## À vous de jouer
#
# **Exercice 10.2 a.** Écrivez le gradient de la perte de distillation (avec $T^2$, moyenne sur le lot) par rapport aux
# logits du student, sans *autograd* : `(B, C)` vers `(B, C)`.
#
# **Exercice 10.2 b.** Écrivez la perte de distillation. La vérification essaie aussi des logits très grands : le résultat
# doit rester fini, et juste. (L'annexe B montre ce qui casse.)
#
# **Exercice 10.2 c** (facultatif ; l'annexe A dit à quoi il sert). Écrivez NCKD, exemple par exemple : la KL entre les deux
# prédictions adoucies **parmi les classes qui ne sont pas la cible** $y$, renormalisées, sans facteur $T^2$ :
#
# $$\mathrm{NCKD} = \mathrm{KL}(q^t \| q^s), \qquad q_c = \frac{p_c(T)}{1 - p_y(T)} \quad \text{pour } c \neq y.$$
#
# Formes : `(B, C)`, `(B, C)`, `(B,)` vers `(B,)`.

# %% tags=["nbval-check-output"]
from kdcourse import check

def kd_gradient(student, teacher, temperature):
    ...  # à compléter

def stable_kd(student, teacher, temperature):
    ...  # à compléter

def nckd(student, teacher, labels, temperature):
    ...  # à compléter

_ = (check("10.2 a", kd_gradient), check("10.2 b", stable_kd),
     check("10.2 c", nckd))

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
# <details><summary>Une solution de 10.2 c</summary>
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
# **Exercice 10.2 d. Prévoir, changer, lire.** À $T = 32$ et $\alpha = 1$, le student de 6 unités reculait, avec 100 images.
# Donnez-lui 1 000 images, même case, mêmes 240 pas : il n'a plus l'excuse du manque de données.
#
# 1. Écrivez votre prévision : `"gain"`, `"recul"` ou `"rien d'établi"`.
# 2. Complétez `experiment`, qui rend les dix gains appariés au test. `measure` fait presque tout : ce qu'elle rend a `.alone`, les
#    erreurs du student seul, et `.errors[0, 0]`, celles de la première case demandée.
# 3. Exécutez, et écrivez ce que dit l'intervalle dans `reading`, avec les mêmes mots.

# %% tags=["nbval-check-output"]
prediction = ...  # à compléter

def experiment():
    ...  # à compléter

reading = ...  # à compléter, une fois le gain affiché

_ = check("10.2 d", prediction, experiment, reading)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# prediction = "gain"  # se tromper ici est permis
#
# def experiment():
#     measured = measure(6, 1000, [32], [1.0])
#     return measured.alone - measured.errors[0, 0]
#
# reading = "recul"
# ```
#
# Dix fois plus d'images, à pas égaux, n'ont pas aidé. Essayez `times=4`, puis `times=10` : le recul survit au second budget ; au
# troisième, il n'est plus établi, mais rien n'est gagné. Manque de place, ou de pas ? Ces budgets ne le disent pas.
# </details>
#
# ## Quiz
#
# Choisissez, puis déroulez l'option.
#
# **1. On passe de $T = 64$ à $T = 128$ en oubliant $T^2$. Que devient le gradient de la distillation ?**
#
# <details><summary>Il ne change presque pas</summary>Non : c'est le rôle de T², que l'on vient d'oublier.</details>
# <details><summary>Il est à peu près deux fois plus petit</summary>Non : la différence des prédictions est divisée par deux, mais la
# dérivée de z / T l'est aussi.</details>
# <details><summary>Il est à peu près quatre fois plus petit</summary>Oui : sans T², il décroît presque comme 1/T², et le
# vrai poids de la distillation avec lui.</details>
#
# **2. Sur la première carte, quel réglage déplace le plus le gain moyen ?**
#
# <details><summary>La température</summary>Oui : les deux variations sont écrites sous la carte. À T = 1, presque rien ; à
# partir de T = 4, un plateau.</details>
# <details><summary>Le poids alpha</summary>Non : d'un alpha à l'autre, le gain moyen bouge bien moins. C'est sur la carte du
# student étroit qu'il compte.</details>
# <details><summary>Les deux autant</summary>Non : comparez les deux variations écrites sous la carte.</details>
#
# **3. Un student minuscule recule quand on le distille à haute température. Que conclure ?**
#
# <details><summary>Il n'a pas la place d'imiter son teacher</summary>Pas si vite : c'est une hypothèse. À 100 images, le recul du
# nôtre n'était plus établi une fois le budget changé.</details>
# <details><summary>La distillation ne convient pas aux petits students</summary>Non : le même, avec plus de pas et un petit alpha, y
# gagne.</details>
# <details><summary>Il lui faut une température plus haute</summary>Non : c'est de ce côté de la carte qu'il recule.</details>
# <details><summary>Rien encore : il faut un second budget</summary>Oui : et, en attendant, une température ou un alpha plus
# petits, choisis sur la validation.</details>
#
# **4. À $\alpha = 1$, on pousse $T$ très haut, avec $T^2$. À quoi la distillation revient-elle ?**
#
# <details><summary>À imiter l'étiquette</summary>Non : c'est plutôt ce qui arrive quand T descend vers 1.</details>
# <details><summary>À égaler les logits centrés</summary>Oui : les students des deux méthodes finissent par donner les mêmes réponses.</details>
# <details><summary>À ne plus rien apprendre : tout est plat</summary>Non : les prédictions s'aplatissent, mais T² garde au gradient sa
# taille.</details>
#
# **5. Le student de la première image n'a vu que du bruit. Pourquoi apprend-il quelque chose ?**
#
# <details><summary>Il imite la fonction du teacher, que le bruit interroge aussi</summary>Oui : dix nombres par image, et
# chacun dit quelque chose de cette fonction.</details>
# <details><summary>Le bruit contient par hasard des chiffres</summary>Non : des pixels uniformes et indépendants n'en
# forment pas.</details>
# <details><summary>Les étiquettes l'aident</summary>Non : à alpha = 1, la perte n'en lit aucune.</details>
#
# ## Sur GPU
#
# Avec un GPU, la cellule refait sur MNIST entier les trois premières lignes du tableau de Hinton : un teacher, puis trois graines de
# chaque student, une indication. Sans GPU, passez.

# %%
from kdcourse import best_device, Choice, distill, distill_seeds, french
from kdcourse import mnist_student, mnist_teacher, model_error, say

if best_device().type == "cuda":
    mnist, hot = load_dataset("mnist"), Choice(alpha=0.7, temperature=20.0)
    big = distill(mnist_teacher, mnist.train, method="seul", epochs=60, batch_size=100,
                  jitter=2, output="runs/10_02-teacher", resume=True).model
    say(f"teacher : erreur de test {french(model_error(big, mnist.test), 2)} %")
    for method in ("seul", "KD"):
        models = distill_seeds(
            mnist_student, mnist.train, big, range(3), method=method, choice=hot,
            epochs=30, batch_size=100, learning_rate=0.001, output="runs/10_02")
        errors = torch.tensor([model_error(model, mnist.test) for model in models])
        say(f"{method}, trois graines : erreur de test {mean_interval(errors)} %")
else:
    say("Pas de GPU ici : rien n'a été entraîné.")

# %% [markdown]
# ## À retenir

# %% tags=["hide-input"]
corner = narrow.errors[few_t.index(8), few_alphas.index(1.0)]
setback = mean_interval(corner - narrow.alone)
say(f"""
- Le gradient de la distillation est $T\\,(p^s - p^t)/B$ : sans $T^2$, il s'éteint comme
  $1/T^2$ ; avec, il tend vers l'écart des logits centrés.
- Oublier $T^2$, c'est prendre sans le savoir un $\\alpha$ bien plus petit : à $T = 8$
  et $\\alpha = 0,5$, en 240 pas, cela coûte {points(forgotten[240])}.
- En 240 pas, 32 unités et 100 images, la carte a un plateau dès $T = 4$, où $\\alpha$
  compte peu : la case choisie en validation gagne {points(wide.gain(row, column))}.
- Un verdict ne vaut qu'avec son budget : un student de 6 unités recule
  de {points(setback)} à $T = 8$ et $\\alpha = 1$ ; avec quatre fois plus de pas, ou
  avec un autre teacher, rien n'est établi.
- Le student peut se passer d'étiquettes (son teacher les a lues) : du bruit annoté
  par le teacher suffit à reconnaître {share} % du test, en {longest}.
""")

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
#   [arXiv:2106.05237](https://arxiv.org/abs/2106.05237). Distiller longtemps.
# - S. Mirzadeh et al., *Improved Knowledge Distillation via Teacher Assistant*, 2020,
#   [arXiv:1902.03393](https://arxiv.org/abs/1902.03393). L'écart de capacité.
#
# **La suite** : 10.3 regarde à l'intérieur du teacher. Les deux annexes ne sont pas nécessaires pour continuer.
#
# ## Annexe A : séparer la cible du reste (DKD)
#
# La KL mêle deux questions. Le teacher est-il sûr de la **cible** $y$ ? Comment classe-t-il **les autres** ? Zhao et al. (2022)
# les séparent : c'est DKD (*decoupled knowledge distillation*). Avec $u = (p_y, 1 - p_y)$, et $q_c = p_c / (1 - p_y)$ pour
# $c \neq y$,
#
# $$\mathrm{KL}(p^t \| p^s) = \underbrace{\mathrm{KL}(u^t \| u^s)}_{\mathrm{TCKD}}
# + (1 - p^t_y)\, \underbrace{\mathrm{KL}(q^t \| q^s)}_{\mathrm{NCKD}}$$
#
# Regardez le poids $1 - p^t_y$ : un teacher sûr de lui **fait taire** la hiérarchie des autres classes. DKD le remplace par une
# constante $\beta$, ici 1. (Les `alpha` et `beta` de `dkd_loss` pèsent TCKD et NCKD ; ce n'est pas le $\alpha$ du cours, ici 0,9.)

# %%
from kdcourse import dkd_loss

duels = {}
for steps in (60, 240):
    duels[f"{steps} pas"] = {}
    for T in (1.0, 8.0):
        def dkd(s, t, labels, T=T):
            return dkd_loss(s.logits, t.logits, labels, T, alpha=1.0, beta=1.0)

        common = dict(seeds=seeds, alphas=0.9, epochs=steps // 2, batch_size=50)
        pair = (
            train_many(digits_student, hundred, features, distillation=dkd, **common),
            train_many(digits_student, hundred, features, temperatures=T, **common))
        ours, plain = (students.errors(digits.test) for students in pair)
        duels[f"{steps} pas"][f"T = {T:.0f}"] = plain - ours

# %% tags=["hide-input"]
targets, left = digits.train.labels[:, None], []
for T in (1, 8):
    sure = (teacher_logits / T).softmax(dim=-1).gather(1, targets)
    left.append(french(100 * (1 - sure.mean())))
say("Sur les images d'entraînement du teacher, le poids moyen que la KL laisse à NCKD "
    f"est de "
    f"{left[0]} % à $T = 1$, de {left[1]} % à $T = 8$.")
cold, hot = (french(duels["240 pas"][f"T = {T}"].mean()) for T in (1, 8))
plot_gains(duels, f"En 240 pas, DKD gagne {cold} points sur KD à T = 1, {hot} à T = 8")

# %% [markdown]
# À $T = 1$, la KL ne laisse presque rien à la hiérarchie ; DKD lui rend la parole, et gagne nettement. À $T = 8$, la température
# l'a déjà fait, et dix graines n'y établissent aucun gain de DKD. Chauffer, ou peser les autres classes : deux façons d'écouter la même hiérarchie.
#
# ## Annexe B : la demi-précision
#
# Pour aller plus vite, le collègue passe en *fp16*, essaie une température basse, et écrit la KL comme dans les livres :
# $\sum_c p_c \log (p_c / q_c)$. À la première itération, sa perte vaut NaN.

# %% tags=["nbval-check-output"]
from kdcourse import markdown_table

half, other = teacher_logits[:100].half(), fresh[0].half()

def textbook(student, teacher, T):
    p, q = ((z / T).softmax(dim=-1) for z in (teacher, student))
    return T**2 * (p * (p / q).log()).sum(dim=-1).mean()

rows = []
for T in (0.5, 2.0, 4.0):
    zeros = "oui" if ((half / T).softmax(dim=-1) == 0).any() else "non"
    losses = textbook(other, half, T), kd_loss(other, half, T)
    said = ("finie" if loss.isfinite() else "NaN" for loss in losses)
    rows.append((french(T), zeros, *said))
say(markdown_table(("T", "probabilités nulles", "perte du livre", "kd_loss"), rows))

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# En demi-précision, une probabilité sous $3 \cdot 10^{-8}$ devient 0. Alors $p \log p = 0 \times (-\infty)$ : NaN. La
# température élevée cache le bug, car elle relève les petites probabilités. Deux remèdes à la fois : rester en logarithmes
# (`log_softmax` ne passe jamais par une probabilité nulle), et calculer en float32. `kd_loss` fait les deux.
# </details>
