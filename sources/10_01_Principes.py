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
# # 10.1 Principes de la distillation
#
# Un grand réseau se trompe rarement, mais il est lourd. Un petit réseau est léger, mais il se trompe. La distillation
# (*knowledge distillation*) fait passer ce que le grand a compris dans le petit.
#
# Les résultats de ce chapitre sont mesurés sous vos yeux, sur plusieurs graines, avec un intervalle.

# %% tags=["bootstrap"]
from kdcourse import describe_environment

print(describe_environment())

# %% [markdown]
# ## Objectifs
#
# À la fin de ce chapitre, vous saurez :
#
# - dire ce qu'un *teacher* sait et que l'étiquette ne dit pas ;
# - écrire la perte de distillation, et expliquer ses deux réglages, la température $T$ et le poids $\alpha$ ;
# - mesurer honnêtement ce que la distillation apporte, et reconnaître les cas où elle n'apporte rien ;
# - expliquer comment un *student* reconnaît un chiffre qu'il n'a jamais vu.
#
# **Durée** : une heure et demie de lecture ; le notebook entier s'exécute en moins d'une minute.
#
# **Prérequis** : PyTorch (un module, une boucle d'entraînement), le softmax et l'entropie croisée.
#
# | Dans ce cours | Sens |
# |---|---|
# | *teacher* | le grand modèle, déjà entraîné, figé, qui guide |
# | *student* | le petit modèle, que l'on entraîne |
# | *logits* | les sorties du réseau avant le softmax |
# | étiquette (*hard label*) | la bonne classe, seule |
# | prédiction adoucie (*soft label*) | les probabilités du *teacher* à une température $T$ |
# | graine (*seed*) | le nombre qui fixe les poids de départ et l'ordre des lots |
# | lot (*batch*) | les exemples d'un pas d'entraînement |
# | carte (*feature map*) | la sortie d'une couche intermédiaire |
# | *embedding* | le vecteur qui précède les logits |
# | exactitude (*accuracy*) | la part de bonnes réponses : 100 % moins l'erreur |
# | rappel (*recall*) | parmi les images d'une classe, la part que le modèle reconnaît |
#
# Ces mots ne seront plus traduits ; *teacher*, *student* et *logits* s'emploient comme des mots français.
#
# ## Pourquoi distiller
#
# Le schéma montre toute l'idée. Une image passe dans deux réseaux. Le *teacher*, figé, donne ses probabilités. Le
# *student* cherche à les imiter, **et** à retrouver l'étiquette.

# %%
from kdcourse.plots import plot_scheme

plot_scheme()

# %% [markdown]
# Suivez les flèches. La distillation compare deux prédictions, celle du teacher et celle du student. L'entropie croisée
# compare le student à l'étiquette. Aucune flèche ne relie l'étiquette au teacher : il a fini d'apprendre.
#
# Le poids $\alpha$ partage l'effort : $\alpha$ pour le teacher, $1-\alpha$ pour les étiquettes. Les articles n'ont pas
# tous cette convention, et nous verrons ce qu'il en coûte de les confondre.
#
# ## Les données et le teacher
#
# Nous travaillons sur les 1 797 chiffres manuscrits de scikit-learn, des images de 8×8 pixels. Ils sont livrés avec la
# bibliothèque : aucune connexion n'est nécessaire. Le partage est fixé une fois pour toutes. On règle sur la validation ; le
# test ne sert qu'à mesurer.
#
# Le teacher est un réseau convolutif à trois étages, c'est-à-dire trois convolutions à la suite. Le student est un perceptron à deux couches
# cachées de 32 unités.

# %%
import torch
from kdcourse import digits_student, digits_teacher, error_rate, french, load_dataset
from kdcourse import parameter_count, thousands, train_one

digits = load_dataset("digits")
for name, part in zip(digits._fields, digits):
    print(f"{name:10} {thousands(len(part.labels)):>5} images {tuple(part.images.shape[1:])}")

print("teacher :", thousands(parameter_count(digits_teacher())), "paramètres")
print("student :", thousands(parameter_count(digits_student())), "paramètres")
torch.set_num_threads(1)  # de si petits réseaux ne gagnent rien à deux fils
teacher = train_one(digits_teacher, digits.train, epochs=30)
with torch.no_grad():
    teacher_logits = teacher(digits.train.images)
    for name, part in zip(digits._fields, digits):
        error = error_rate(teacher(part.images), part.labels)
        print(f"erreur du teacher, {name:10} : {french(error)} %")

# %% [markdown]
# Le teacher ne se trompe sur aucune image d'entraînement. On pourrait croire que ses prédictions n'apprennent alors rien
# de plus que les étiquettes. C'est le contraire, et c'est toute la surprise.
#
# ## Ce que le teacher sait et que l'étiquette ne dit pas
#
# Un chiffre mal écrit ressemble à deux classes à la fois. L'étiquette n'en dit rien : elle vaut 1 pour l'une, 0 pour les
# autres. Prenons l'image de validation où le teacher hésite le plus.
#
# Pour voir au-delà de sa première réponse, divisons ses logits $z$ par une température $T$ avant le softmax :
#
# $$p_c(T) = \frac{e^{z_c / T}}{\sum_k e^{z_k / T}}$$
#
# Plus $T$ est grand, plus la prédiction s'adoucit. L'ordre des classes, lui, ne change pas.

# %%
from IPython.display import Markdown, display
from kdcourse.measures import most_uncertain
from kdcourse.plots import plot_prediction

order = most_uncertain(teacher, digits.validation, len(digits.validation.labels))
ambiguous, typical = int(order[0]), int(order[len(order) // 2])
with torch.no_grad():
    probabilities = torch.softmax(teacher(digits.validation.images[[ambiguous]])[0], dim=-1)
first, second = probabilities.argsort(descending=True)[:2].tolist()
for index in (ambiguous, typical):
    display(plot_prediction(teacher, digits.validation, index, [1, 2, 4, 8, 20]))
display(Markdown(
    f"En haut, étiquette {digits.validation.labels[ambiguous]} : à $T = 1$, le teacher répond "
    f"{first} ({french(100 * probabilities[first], 0)} %), puis {second} "
    f"({french(100 * probabilities[second], 0)} %)."
))

# %% [markdown]
# En haut, l'image où le teacher hésite le plus. À $T = 1$, deux classes se partagent presque tout ; même quand la première
# réponse est fausse, la bonne n'est pas loin. Quand $T$ monte, les autres sortent de terre, dans l'ordre où le teacher les
# trouve plausibles. À $T = 20$, presque tout s'égalise.
#
# En bas, une image ordinaire, à la moitié du classement. À $T = 1$, une seule barre : on croirait l'étiquette. Il faut
# chauffer pour que les voisines apparaissent.
#
# Au-dessus de chaque graphique, l'entropie en bits : 0 pour une certitude, $\log_2 10 \approx 3{,}32$ pour dix classes à
# égalité. Cette hiérarchie des classes, l'étiquette ne la contient pas. On l'appelle la connaissance cachée (*dark
# knowledge*).
#
# **À vous de parier** : sur l'image dont le teacher est le plus sûr, à partir de quelle température la deuxième classe
# se voit-elle ? Le curseur répond ; la douzième image est celle-là.

# %%
from kdcourse.widgets import TemperatureExplorer

TemperatureExplorer(teacher, digits.validation)

# %% [markdown]
# Amenez $T$ à 1, puis à 20, sur la première image : la courbe de droite donne l'entropie, donc l'incertitude affichée.
# Quand elle est presque nulle, seule la première classe se voit ; à son maximum, toutes les classes se valent, et il n'y a
# plus rien à lire. Passez aux images suivantes, jusqu'à la douzième : plus le teacher est sûr de lui, plus il faut chauffer pour voir
# ses voisines. Quelle température choisir pour apprendre ? 10.2 le mesurera.
#
# ## La perte, à la main
#
# L'écart entre deux prédictions adoucies se mesure par la divergence de Kullback-Leibler,
# $\mathrm{KL}(p\,\|\,q) = \sum_c p_c \log(p_c/q_c)$, en nats (le logarithme est népérien). Elle est nulle si $p = q$, et
# n'est pas symétrique : le teacher vient en premier. La perte complète y ajoute les étiquettes :
#
# $$\mathcal{L} = \alpha \, T^2 \, \frac{1}{B} \sum_b \mathrm{KL}\big(p^t_b(T) \,\|\, p^s_b(T)\big)
# + (1 - \alpha)\, \frac{1}{B} \sum_b -\log p^s_b(1)[y_b]$$
#
# Ici $p^t_b$ et $p^s_b$ sont les prédictions du teacher et du student pour l'image $b$ d'un lot de $B$ images, et $y_b$
# son étiquette. Le facteur $T^2$ compense la division par $T$ : sans lui, le gradient de la distillation s'éteint quand $T$ monte. Le
# chapitre 10.2 le mesure. Écrivons cette perte en quatre lignes, et
# comparons-la à celle de `kdcourse`, qui fait le même calcul, vérifie ses arguments et rend ses trois termes.

# %%
import torch.nn.functional as F
from kdcourse import KnowledgeDistillationLoss

def distillation_loss(student, teacher, labels, temperature=4.0, alpha=0.9):
    log_student = F.log_softmax(student / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher / temperature, dim=-1)
    kl = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1).mean()
    return alpha * temperature**2 * kl + (1 - alpha) * F.cross_entropy(student, labels)

torch.manual_seed(0)
with torch.no_grad():
    student_logits = digits_student()(digits.train.images)
    arguments = student_logits, teacher_logits, digits.train.labels
    loss = KnowledgeDistillationLoss(temperature=4.0, alpha=0.9)(*arguments)
    torch.testing.assert_close(loss.total, distillation_loss(*arguments))
print("les deux pertes sont égales ; un student neuf :", french(loss.total, 2), "nats, dont")
print(f"0,9 × {french(loss.distillation, 2)} (teacher, facteur T² compris) et 0,1 × {french(loss.hard, 2)} (étiquettes)")

# %% [markdown]
# ## Un student, dans la boucle nue
#
# Supposons les images rares : nous n'en avons que 100 pour entraîner le student. Le teacher, lui, en avait vu 1 000. Voici toute la boucle ; il n'y a rien d'autre à savoir pour distiller.

# %%
def train_by_hand(loss_function, data, teacher_logits, seed, epochs):
    torch.manual_seed(seed)
    student = digits_student()
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.labels), generator=shuffle).split(100):
            student_logits = student(data.images[batch])
            loss = loss_function(student_logits, teacher_logits[batch], data.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return student.eval()

hundred = digits.train.where(slice(0, 100))
by_hand = train_by_hand(distillation_loss, hundred, teacher_logits[:100], seed=0, epochs=50)
error = error_rate(by_hand(digits.validation.images), digits.validation.labels)
print("erreur de validation après 50 époques :", french(error), "%")

# %% [markdown]
# Cinquante époques d'un seul lot font cinquante pas : c'est trop peu, et l'erreur le dit. L'expérience en fera 600.
#
# Remarquez `teacher_logits[batch]` : les logits du teacher sont calculés une fois, puis pris dans le même ordre que les
# images. Remarquez aussi ce qui manque : le teacher n'est pas dans l'optimiseur, et aucun gradient ne le traverse.
#
# `train_many` fait ce calcul pour beaucoup de students à la fois : leurs paramètres sont empilés, et un seul passage les
# sert tous. Vérifions que la graine 0 y donne le même student.

# %%
from kdcourse import train_many

settings = dict(temperatures=4.0, alphas=0.9, epochs=50)
four = train_many(digits_student, hundred, teacher_logits[:100], seeds=range(4), **settings)
gap = (four.one(seed=0)(digits.test.images) - by_hand(digits.test.images)).abs().max()
print(f"plus grand écart entre les logits des deux versions : {gap:.0e}")

# %% [markdown]
# L'écart est celui des arrondis : les deux boucles font le même calcul. Nous pouvons donc entraîner
# beaucoup de students à la fois, et ne plus croire une différence sur la foi d'un seul essai.
#
# ## Seul ou distillé : l'expérience
#
# Dix graines. Pour chacune, deux students : l'un n'apprend que des étiquettes ($\alpha = 0$), l'autre est distillé à
# $T = 4$ et $\alpha = 0{,}9$, réglages fixés d'avance (10.2 les fera varier). Ils partent des **mêmes poids** et voient
# les **mêmes lots** : leur différence est appariée.
#
# Combien d'images donner au student ? Nous essayons cinq tailles (nous dirons : régimes), toutes listées, à 600 pas d'entraînement chacune (dix
# lots par époque pour 1 000 images, un seul pour 100), et nous choisissons **sur la validation**.
#
# `grid` prépare les arguments de `train_many`, chaque réglage avec chaque graine ; `**` les lui passe. `students.table` rend les
# erreurs, une ligne par réglage, une colonne par graine ; `students.rows` range de même toute autre mesure.

# %%
from kdcourse import grid, mean_interval, points

seeds, sizes = list(range(10)), [50, 100, 200, 500, 1000]
errors = {"validation": [], "test": []}
for size in sizes:
    few, few_logits = digits.train.where(slice(0, size)), teacher_logits[:size]
    students = train_many(
        digits_student, few, few_logits, epochs=600 * 100 // max(size, 100),
        **grid(temperatures=4, alphas=[0, 0.9], seeds=seeds),
    )
    for name in errors:  # pour chaque régime : (seul ou distillé, graine)
        errors[name].append(students.table(getattr(digits, name)))
gains = [mean_interval(alone - distilled) for alone, distilled in errors["validation"]]
for size, gain in zip(sizes, gains):
    print(f"{thousands(size):>5} images : gain en validation {points(gain)}")

# %% [markdown]
# Le gain est la différence appariée des erreurs, en points de pourcentage, avec son intervalle de confiance à 95 % sur les
# graines (par la loi *t* d'un statisticien qui signait « Student » ; rien à voir avec les nôtres). Cet intervalle ignore l'échantillonnage des images (sur 500 images de test, une seule compte pour 0,2 point),
# et il n'y a ici qu'un seul teacher et un seul choix des images du student.
#
# Gardons le régime où l'intervalle de validation est le plus loin de zéro, et ouvrons le test.

# %%
from kdcourse.plots import plot_paired

chosen = max(range(len(sizes)), key=lambda index: gains[index].low)
alone, distilled = errors["test"][chosen]
gain = mean_interval(alone - distilled)
display(plot_paired(alone, distilled), Markdown(
    f"Régime choisi sur la validation : {sizes[chosen]} images. Chaque trait gris relie deux "
    f"students jumeaux. L'erreur moyenne passe de **{french(alone.mean())} %** à "
    f"**{french(distilled.mean())} %**. Le gain apparié vaut {points(gain)} : l'intervalle "
    f"{'exclut' if gain.excludes_zero else 'contient'} 0."
))

# %% [markdown]
# Rien n'a changé dans le student : ni sa taille, ni ses images, ni son nombre de pas. Seule la question qu'on lui pose a
# changé. L'étiquette dit « c'est un 8 » ; le teacher peut dire « c'est un 8, qui ressemble un peu à un 3 ».
#
# ## Quand la distillation n'aide pas
#
# Regardons maintenant tous les régimes.

# %%
from kdcourse.plots import plot_curves

alone_all, distilled_all = torch.stack(errors["test"], dim=1)  # (régime, graine)
last = mean_interval(alone_all[-1] - distilled_all[-1])
plot_curves(
    sizes,
    {"seul": (alone_all, "student"), "distillé": (distilled_all, "distilled")},
    xlabel="images d'entraînement du student (échelle log)", ylabel="erreur de test (%)",
    title=f"Le gain fond avec les données : {points(gain.mean)} à {sizes[chosen]} images, "
    f"{french(last.mean)} à {thousands(sizes[-1])}", log=True,
)

# %% [markdown]
# Plus le student a d'images, moins le teacher lui apprend. Les deux courbes se rejoignent presque. Comparez, à 1 000
# images, le gain du test et celui de la validation : ce qui les sépare est l'échantillonnage des images, que l'intervalle
# ignore. Et rien ne retient ici le student seul d'apprendre par cœur : 10.5 lui donnera une étiquette adoucie sans teacher.
#
# Deux autres façons de ne rien gagner, avec 1 000 images cette fois : une température de 1, où un teacher sûr de lui ne
# dit guère plus que l'étiquette ; et un student **trop petit** pour imiter le teacher. Mesurons-les ensemble, sur deux
# largeurs et vingt graines, à $\alpha = 0{,}9$ ; le plus petit, aussi avec quatre fois plus d'époques.

# %%
from kdcourse import MLP

twenty, losers = list(range(20)), {}
for width, epochs, hot in ((4, 60, (1, 4, 20)), (4, 240, (4, 20)), (32, 60, (1, 4, 20))):
    students = train_many(
        lambda: MLP(hidden=(width, width)), digits.train, teacher_logits, epochs=epochs,
        **grid(temperatures=hot, alphas=0.9, seeds=twenty, alone=True),  # alone : le seul, en tête
    )
    alone_w, *distilled_w = students.table(digits.test)
    print(f"deux couches de {width} unités, {epochs} époques, seul : {mean_interval(alone_w)} %")
    for temperature, values in zip(hot, distilled_w):
        losers[width, epochs, temperature] = mean_interval(alone_w - values)
        print(f"    T = {temperature:2}   gain {points(losers[width, epochs, temperature])}")

# %% [markdown]
# Lisez les signes et les intervalles.
#
# - À $T = 1$, le gain est nul ou presque, quelle que soit la largeur : l'information était au-delà de la première classe.
# - En 60 époques, le student de 4 unités **perd** à être distillé, à $T = 4$ comme à $T = 20$. Lui manque-t-il de la place, ou
#   du temps ? Avec quatre fois plus d'époques, la perte n'est plus établie à $T = 4$ : le temps comptait peut-être. À
#   $T = 20$, elle demeure. On parle alors d'écart de capacité (*capacity gap*, Mirzadeh et al., 2020) : il n'aurait pas de quoi imiter
#   toutes les nuances. Ses intervalles sont larges : d'une graine à l'autre, il change beaucoup.
# - Le student de 32 unités gagne peu : avec 1 000 images, les étiquettes lui suffisaient presque.
#
# La distillation n'est ni gratuite ni toujours utile. Elle sert quand le student peut suivre et que les étiquettes seules
# ne suffisent pas.
#
# ## Le 3 mystique
#
# Voici l'expérience la plus étonnante de l'article de Hinton, Vinyals et Dean (2015). Retirons **tous les 3** des données
# du student. Il n'en verra jamais un seul. Le teacher, lui, en a vu.
#
# **À vous de parier** : quelle part des 3 du test le student distillé reconnaîtra-t-il ?
#
# Trois students, 20 graines : distillé à $T = 20$, distillé à $T = 1$ (tous deux avec $\alpha = 1$ : les prédictions du
# teacher, sans étiquettes), et seul.
#
# N'ayant jamais eu à répondre « 3 », le student hésite à le faire : son logit du 3 est trop bas. L'article relève le biais
# de cette classe, c'est-à-dire ajoute une constante à ce logit. Nous faisons de même, avec une différence : l'article règle ce biais sur le **test** ; nous le
# réglons sur la **validation**, en cherchant la plus petite erreur globale, et de la **même façon pour les trois**. Un
# grand biais achète du rappel au prix de l'erreur ; c'est pourquoi l'erreur globale l'accompagne toujours.

# %%
from kdcourse.measures import bias_sweep, tune_bias

no_three = digits.train.without_class(3)
three_logits = teacher_logits[digits.train.labels != 3]
students = train_many(
    digits_student, no_three, three_logits,
    **grid(temperatures=[20, 1], alphas=1.0, seeds=twenty, alone=True),
)
biases = torch.arange(0, 30.01, 0.25)

def sweep_each(students, part):  # une mesure par réglage
    logits = students.rows(students.logits(part.images))
    return [bias_sweep(z, part.labels, label=3, biases=biases) for z in logits]

print("3 dans les données du student :", (no_three.labels == 3).sum().item())
print("3 dans le test :", (digits.test.labels == 3).sum().item())
runner_up = no_three.labels[three_logits.argsort(dim=-1)[:, -2] == 3]
counts = sorted(enumerate(runner_up.bincount(minlength=10).tolist()), key=lambda x: -x[1])
print("le teacher y voit un 3 en second :", ", ".join(f"{n} images de {c}" for c, n in counts[:4]))

# %%
from kdcourse import markdown_table

names = ["seul", "distillé, T = 20", "distillé, T = 1"]  # les réglages, dans l'ordre de grid
valid, test = (dict(zip(names, sweep_each(students, part)))
               for part in (digits.validation, digits.test))
tuned = {name: tune_bias(sweep) for name, sweep in valid.items()}
best = {name: test[name].at(tuned[name]) for name in names}  # rappel, erreur
shown = [*names[1:], names[0]]
rows = [[name, *(mean_interval(values[:, 0]) for values in test[name]),
         french(biases[tuned[name]].mean()), *map(mean_interval, best[name])]
        for name in shown]
header = ["student", "rappel des 3, brut (%)", "erreur, brute (%)", "biais réglé",
          "rappel des 3, réglé (%)", "erreur, réglée (%)"]
recall, error = best[shown[0]]
gap_one, gap_none = (mean_interval(recall - best[name][0]) for name in shown[1:])
display(Markdown(markdown_table(header, rows)), Markdown(
    f"Le student à $T = 20$ reconnaît **{french(recall.mean())} %** des 3 qu'il n'a jamais "
    f"vus, pour {french(error.mean())} % d'erreur globale. Écart apparié de rappel : {gap_one} "
    f"points avec $T = 1$, {points(gap_none)} avec le student seul (20 graines)."
))

# %%
from kdcourse.plots import plot_bias_sweep

roles = zip(shown, ["distilled", "neutral", "student"])
panels = {name: (test[name], tuned[name], role) for name, role in roles}
plot_bias_sweep(biases, panels, label=3)

# %% [markdown]
# Trait plein : le rappel des 3. Tirets : l'erreur globale. Les petites barres du bas sont les biais réglés, une par graine.
# À gauche, l'erreur **descend** pendant que le rappel monte : les 3 gagnés sont de vrais 3. Au milieu, le rappel monte
# aussi, mais l'erreur ne baisse presque pas avant de remonter. À droite, le rappel reste nul très longtemps, et ne vient
# qu'avec l'erreur : avant cela, l'erreur ne dépend presque pas du biais, et pour presque toutes les graines le biais réglé
# n'est que le milieu de ce plateau.
#
# D'où vient ce savoir ? Des images qui ne sont pas des 3, mais où le teacher voit un 3 en second : la première cellule les a
# comptées. À $T = 20$, les écarts entre classes sont petits, mais le facteur $T^2$ leur rend leur poids ; à $T = 1$, la
# probabilité du 3 est écrasée par celle de la première classe, et s'apprend lentement. Le student seul n'a rien à exploiter : il a appris à mettre
# son logit du 3 bas partout.
#
# Est-ce la température, ou le budget ? Donnons quatre fois plus d'époques aux deux students distillés, dix graines, même
# réglage.

# %%
longer = train_many(
    digits_student, no_three, three_logits, epochs=240,
    **grid(temperatures=[20, 1], alphas=1.0, seeds=seeds),
)
parts = (sweep_each(longer, part) for part in (digits.validation, digits.test))
measured = [after.at(tune_bias(before)) for before, after in zip(*parts)]
(recall_hot, _), (recall_cold, _) = measured
gap_long = mean_interval(recall_hot - recall_cold)
for name, pair in zip(shown, measured):
    recall, error = map(mean_interval, pair)
    print(f"{name}, 240 époques : rappel {recall} %, erreur {error} %")
print(f"écart apparié de rappel : {points(gap_long)}")

# %% [markdown]
# L'écart fond : une grande part venait du nombre de pas. À $T = 1$, le student finit par apprendre ces nuances, mais il lui
# en faut bien plus ; une température élevée les lui donne tout de suite.
#
# Le curseur reprend le premier budget, chiffres à l'appui.

# %%
from kdcourse.widgets import BiasExplorer

BiasExplorer(biases, panels, label=3)

# %% [markdown]
# Le biais part de 5 : à $T = 20$, le rappel est haut et l'erreur près du plus bas. Amenez-le à 15 : à $T = 1$, presque tous
# les 3 sont reconnus, et plus de la moitié des réponses sont fausses. Un rappel cité sans son erreur ne prouve rien.
#
# Les chiffres de l'article, sur MNIST (10 000 images de test, dont 1 010 chiffres 3) :
#
# | Hinton, Vinyals et Dean 2015, section 3 | erreurs | dont sur les 3 |
# |---|---|---|
# | student distillé, rien de retiré | 74 | non donné |
# | student distillé qui n'a jamais vu de 3 | 206 | 133 |
# | le même, biais du 3 relevé de 3,5 (réglé sur le test) | 109 | 14, soit 98,6 % de 3 reconnus |
#
# Ce sont leurs mesures, pas les nôtres : d'autres images, d'autres réseaux. Dans l'article, 87 % des 3 sont reconnus avant
# tout réglage (1 010 − 133 sur 1 010) ; ici presque aucun : c'est le biais réglé qui les révèle. Une fois réglé, le student
# en reconnaît la plupart dans les deux cas.
#
# ## La carte du domaine
#
# Imiter les logits n'est qu'une façon de guider. Les chapitres suivants en mesurent d'autres.

# %%
from kdcourse.plots import plot_field_map

plot_field_map()

# %% [markdown]
# | Chapitre | Ce que l'on compare | Ce qu'il faut |
# |---|---|---|
# | 10.2 Logits | les prédictions | les sorties du teacher, rien d'autre |
# | 10.3 Features | les cartes intermédiaires | l'intérieur du teacher, et un adaptateur |
# | 10.4 Relations | les ressemblances entre exemples | l'embedding du teacher, et un lot assez grand |
# | 10.5 Auto-distillation | les prédictions d'hier et d'aujourd'hui | aucun teacher |
# | 10.6 Compression | un teacher et sa version en tenseurs | les poids du teacher |
#
# ## Chasse au bug
#
# Un collègue a recopié une perte. Il veut refaire le 3 mystique, avec le biais du 3 relevé de 5, en 20 époques et dix
# graines : il met `alpha=1.0`, « tout pour le teacher ». Son student ne reconnaît aucun 3. Lisez sa perte, et cherchez avant de
# dérouler la réponse.

# %%
def colleague_loss(student, teacher, labels, temperature=20.0, alpha=1.0):
    log_student = F.log_softmax(student / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher / temperature, dim=-1)
    kl = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1).mean()
    return alpha * F.cross_entropy(student, labels) + (1 - alpha) * temperature**2 * kl

def repaired_loss(student, teacher, labels):
    return distillation_loss(student, teacher, labels, temperature=20.0, alpha=1.0)

for name, loss_function in [("collègue", colleague_loss), ("réparée", repaired_loss)]:
    found = [train_by_hand(loss_function, no_three, three_logits, seed, 20) for seed in seeds]
    test_logits = torch.stack([student(digits.test.images).detach() for student in found])
    sweep = bias_sweep(test_logits, digits.test.labels, 3, biases=torch.tensor([5.0]))
    recall, error = (mean_interval(values[:, 0]) for values in sweep)
    print(f"perte {name} : rappel des 3 {recall} %, erreur globale {error} %")

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# Les deux poids sont échangés. Avec `alpha=1.0`, cette perte n'est faite **que** d'étiquettes : le teacher n'y entre pas.
# Le symptôme est celui du student seul. Rien ne plante, et la perte descend : seul le 3 trahit
# l'erreur. La perte réparée, avec le même biais et aussi peu d'époques, retrouve presque tous les 3.
#
# Les deux conventions existent : certains articles écrivent $\alpha$ devant les étiquettes. Dans ce cours, $\alpha$
# pondère **toujours** la distillation.
# </details>
#
# ## À vous de jouer
#
# **Exercice 10.1 a.** Écrivez `soften(logits, temperature)`, qui rend la prédiction adoucie, `(B, C)` vers `(B, C)`.
# La vérification est immédiate, et reconnaît les erreurs classiques.

# %% tags=["nbval-check-output"]
from kdcourse import check

def soften(logits, temperature):
    ...  # à compléter

_ = check("10.1 a", soften)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# def soften(logits, temperature):
#     return torch.softmax(logits / temperature, dim=-1)
# ```
# </details>
#
# **Exercice 10.1 b.** Sans regarder plus haut, écrivez la perte complète : distillation pondérée par `alpha`,
# étiquettes par `1 - alpha`, chacune moyennée sur le lot.

# %% tags=["nbval-check-output"]
def my_loss(student, teacher, labels, temperature, alpha):
    ...  # à compléter

_ = check("10.1 b", my_loss)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# def my_loss(student, teacher, labels, temperature, alpha):
#     log_student = torch.log_softmax(student / temperature, dim=-1)
#     soft_teacher = torch.softmax(teacher / temperature, dim=-1)
#     kl = F.kl_div(log_student, soft_teacher, reduction="batchmean")
#     return alpha * temperature**2 * kl + (1 - alpha) * F.cross_entropy(student, labels)
# ```
#
# Cette solution a une limite : une probabilité du teacher qui s'annule en virgule flottante perd son information. La
# version du cours garde des logarithmes de bout en bout. 10.2 montre la différence.
# </details>
#
# ## Quiz
#
# Choisissez, puis déroulez l'option.
#
# **1. À quoi compare-t-on le student dans l'entropie croisée ?**
#
# <details><summary>Aux prédictions du teacher</summary>Non : c'est le rôle de la divergence KL. L'entropie croisée est
# le terme qui reste quand il n'y a pas de teacher.</details>
# <details><summary>Aux étiquettes</summary>Oui, à T = 1, et avec le poids 1 − α.</details>
# <details><summary>À la première classe du teacher</summary>Non : sur ces données d'entraînement cela ne changerait rien,
# car le teacher n'y fait aucune faute ; sur d'autres, on apprendrait ses erreurs.</details>
#
# **2. On monte la température. Que devient la prédiction du teacher ?**
#
# <details><summary>Sa première classe change</summary>Non : diviser tous les logits par T ne change pas leur ordre.</details>
# <details><summary>Elle se rapproche de l'uniforme</summary>Oui : l'entropie monte vers log₂ 10, et les classes
# secondaires deviennent visibles.</details>
# <details><summary>Elle devient plus juste</summary>Non : l'erreur du teacher est la même à toute température.</details>
#
# **3. Relevez assez le biais : le student distillé à T = 1 reconnaît presque tous les 3. Est-ce la preuve qu'il a
# appris le 3 ?**
#
# <details><summary>Oui, il reconnaît les 3</summary>Non : regardez son erreur globale au même biais. Il répond « 3 » à
# beaucoup d'images qui n'en sont pas.</details>
# <details><summary>Non, il faut l'erreur globale à côté</summary>Oui : un rappel s'achète, l'erreur en est le prix.</details>
#
# **4. Pourquoi donner les mêmes graines aux deux students comparés ?**
#
# <details><summary>Pour que le résultat soit reproductible</summary>C'est vrai de toute graine fixée, mais ce n'est pas
# la raison d'en partager.</details>
# <details><summary>Pour que leur différence soit appariée</summary>Oui : mêmes poids, mêmes lots. Le hasard commun
# s'annule dans la différence, et l'intervalle se resserre.</details>
# <details><summary>Pour aller plus vite</summary>Non : le temps de calcul est le même.</details>
#
# **5. Un student de deux couches de 4 unités, 1 000 images, 60 époques, T = 20, α = 0,9. Que prévoyez-vous ?**
#
# <details><summary>Un grand gain : c'est le plus petit qui a le plus à apprendre</summary>Non : mesuré plus haut, il perd.</details>
# <details><summary>Aucun gain, ou une perte</summary>Oui : il perd, et quatre fois plus d'époques n'y suffisent
# pas. On soupçonne un écart de capacité (*capacity gap*) ; 10.2 essaiera un budget bien plus long.</details>
#
# ## Sur GPU
#
# La fonction `train_many` suit les données : sur un GPU, elle mène des centaines de graines au lieu de dix, et 10.2 s'en sert.
#
# Et un seul student, trop gros pour que l'on en empile des centaines ? La fonction `distill` l'entraîne par lots, en précision mixte
# si l'on veut, sur un GPU ou sur plusieurs. Elle note chaque époque, et reprend où elle s'est arrêtée : une session Colab
# peut mourir. `distill_seeds` l'appelle une fois par graine. Avec un GPU, la cellule prend MNIST et les réseaux de Hinton ;
# sans GPU, nos chiffres.

# %%
from kdcourse import best_device, Choice, distill, distill_seeds
from kdcourse import mnist_student, mnist_teacher, model_error

on_gpu = best_device().type == "cuda"
if on_gpu:
    data, small = load_dataset("mnist"), mnist_student
    big = distill(mnist_teacher, data.train, method="seul", epochs=20, jitter=2,
                  output="runs/mnist-teacher", resume=True).model
else:
    data, small, big = digits._replace(train=hundred), digits_student, teacher
for method in ("seul", "KD"):
    found = distill_seeds(small, data.train, big, range(3), method=method,
                          choice=Choice(alpha=0.9), epochs=20 if on_gpu else 200, batch_size=100,
                          learning_rate=0.001 if on_gpu else 0.003,
                          output="runs/10_01" if on_gpu else None)
    errors_big = torch.tensor([model_error(model, data.test) for model in found])
    print(f"{method:4} : erreur de test {mean_interval(errors_big)} %, trois graines")

# %% [markdown]
# Trois graines donnent une indication, pas un résultat : l'intervalle le dit. Hors du notebook, la même fonction est une
# commande. Aux réglages que 10.2 reprendra : `python -m kdcourse.train --data mnist --method KD --temperature 20 --alpha 0.7`.
# Plusieurs GPU se la partagent quand `accelerate launch -m kdcourse.train` la lance, avec les mêmes options.
#
# ## À retenir

# %%
hot_recall, cold_recall, alone_recall = (french(best[name][0].mean()) for name in shown)
display(Markdown(f"""
- Le teacher en sait plus que l'étiquette : à température élevée, ses probabilités classent
  *toutes* les classes.
- Avec {sizes[chosen]} images, le même student passe de {french(alone.mean())} % à
  {french(distilled.mean())} % d'erreur : gain apparié {points(gain)} (10 graines).
- Ce gain fond quand les étiquettes abondent : {points(last)} à {thousands(sizes[-1])} images. À
  $T = 1$, il vaut {points(losers[32, 60, 1])} ; pour un student de 4 unités, à $T = 20$,
  {points(losers[4, 60, 20])} en 60 époques, {losers[4, 240, 20]} en 240 (20 graines).
- Distillé à $T = 20$, un student reconnaît {hot_recall} % des 3 qu'il n'a jamais
  vus ; à $T = 1$, {cold_recall} % ; seul, {alone_recall} %. Avec quatre fois plus
  d'époques, l'écart entre $T = 20$ et $T = 1$ n'est plus que de {points(gap_long)}.
- $\\alpha$ pondère la distillation, $1 - \\alpha$ les étiquettes : vérifiez la convention avant de
  recopier une perte.
"""))

# %% [markdown]
# ## Références
#
# - G. Hinton, O. Vinyals, J. Dean, *Distilling the Knowledge in a Neural Network*, 2015,
#   [arXiv:1503.02531](https://arxiv.org/abs/1503.02531). La température (section 2), le 3 mystique (section 3).
# - C. Buciluă, R. Caruana, A. Niculescu-Mizil, *Model Compression*, KDD 2006,
#   [doi:10.1145/1150402.1150464](https://doi.org/10.1145/1150402.1150464). L'idée, avant le nom.
# - J. Ba, R. Caruana, *Do Deep Nets Really Need to be Deep?*, 2014, [arXiv:1312.6184](https://arxiv.org/abs/1312.6184).
# - S. Mirzadeh et al., *Improved Knowledge Distillation via Teacher Assistant*, 2020,
#   [arXiv:1902.03393](https://arxiv.org/abs/1902.03393). L'écart de capacité.
# - S. Stanton et al., *Does Knowledge Distillation Really Work?*, 2021,
#   [arXiv:2106.05945](https://arxiv.org/abs/2106.05945). Un student imite moins bien qu'on ne le croit.
# - *Optical Recognition of Handwritten Digits*, UCI, 1998, [doi:10.24432/C50P49](https://doi.org/10.24432/C50P49).
#
# **La suite** : 10.2 ouvre la perte : pourquoi $T^2$, et quelle température choisir.
