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
# Chaque affirmation de ce chapitre est mesurée sous vos yeux, sur plusieurs graines, avec un intervalle.

# %%
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
# | rappel (*recall*) | parmi les images d'une classe, la part que le modèle reconnaît |
#
# Ces mots ne seront plus traduits ; *teacher*, *student* et *logits* s'emploient comme des mots français.

# %% [markdown]
# ## Pourquoi distiller
#
# Le schéma montre toute l'idée. Une image passe dans deux réseaux. Le *teacher*, figé, donne ses probabilités. Le
# *student* cherche à les imiter, **et** à retrouver l'étiquette.

# %%
from kdcourse import plot_scheme

plot_scheme()

# %% [markdown]
# Suivez les flèches. La distillation compare deux prédictions, celle du teacher et celle du student. L'entropie croisée
# compare le student à l'étiquette. Aucune flèche ne relie l'étiquette au teacher : il a fini d'apprendre.
#
# Le poids $\alpha$ partage l'effort : $\alpha$ pour le teacher, $1-\alpha$ pour les étiquettes. Les articles n'ont pas
# tous cette convention, et nous verrons ce qu'il en coûte de les confondre.

# %% [markdown]
# ## Les données et le teacher
#
# Nous travaillons sur les 1 797 chiffres manuscrits de scikit-learn, des images de 8×8 pixels. Ils sont livrés avec la
# bibliothèque : aucun réseau n'est nécessaire. Le partage est fixé une fois pour toutes. On règle sur la validation ; le
# test ne sert qu'à mesurer.

# %%
from kdcourse import load_dataset

digits = load_dataset("digits")
for name, part in zip(digits._fields, digits):
    print(f"{name:10} {len(part.labels):5} images {tuple(part.images.shape[1:])}")

# %% [markdown]
# Le teacher est un réseau convolutif à trois étages. Le student est un perceptron à deux couches de 32 unités.

# %%
from kdcourse import CNN, MLP, parameter_count


def make_teacher():
    return CNN(channels=(16, 32, 64))


def make_student():
    return MLP(hidden=(32, 32))


print("teacher :", parameter_count(make_teacher()), "paramètres")
print("student :", parameter_count(make_student()), "paramètres")

# %%
import torch
from kdcourse import error_rate, french, train_one

teacher = train_one(make_teacher, digits.train, epochs=30)
with torch.no_grad():
    teacher_logits = teacher(digits.train.images)
    for name, part in zip(digits._fields, digits):
        print(
            f"erreur du teacher, {name:10} : {french(error_rate(teacher(part.images), part.labels))} %"
        )

# %% [markdown]
# Le teacher ne se trompe sur aucune image d'entraînement. On pourrait croire que ses prédictions n'apprennent alors rien
# de plus que les étiquettes. C'est le contraire, et c'est toute la surprise.

# %% [markdown]
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
from kdcourse import most_uncertain, plot_prediction

ambiguous = int(most_uncertain(teacher, digits.validation)[0])
plot_prediction(teacher, digits.validation, ambiguous, temperatures=[1, 2, 4, 8, 20])

# %% [markdown]
# À $T = 1$, les premières classes se partagent presque tout. Quand $T$ monte, les suivantes sortent de terre, dans
# l'ordre où le teacher les trouve plausibles. À $T = 20$, presque tout s'égalise. Sous chaque température, l'entropie,
# en bits : 0 pour une certitude, $\log_2 10 \approx 3{,}32$ pour dix classes à égalité.
#
# Cette hiérarchie, l'étiquette ne la contient pas. Hinton l'appelle la connaissance cachée (*dark knowledge*).
#
# **À vous de parier** : pour une image ordinaire, où le teacher est sûr de lui, à partir de quelle température voit-on
# la deuxième classe ? Le curseur répond.

# %%
from kdcourse import TemperatureExplorer

TemperatureExplorer(teacher, digits.validation)

# %% [markdown]
# Amenez $T$ à 1, puis à 20, sur la première image : la courbe de droite dit combien d'information la prédiction contient.
# Passez ensuite à la douzième image : à $T = 1$ elle est presque une étiquette, et il faut monter plus haut pour que ses
# voisines apparaissent. La température se règle donc sur l'assurance du teacher.

# %% [markdown]
# ## La perte, à la main
#
# La distance entre deux prédictions adoucies est la divergence de Kullback-Leibler. La perte complète y ajoute les
# étiquettes :
#
# $$\mathcal{L} = \alpha \, T^2 \, \frac{1}{B} \sum_b \mathrm{KL}\big(p^t_b(T) \,\|\, p^s_b(T)\big)
# + (1 - \alpha)\, \frac{1}{B} \sum_b -\log p^s_b(1)[y_b]$$
#
# Le facteur $T^2$ compense la division par $T$ : sans lui, le gradient de la distillation s'éteint quand $T$ monte. Le
# chapitre 10.2 le mesure. Écrivons cette perte en quatre lignes.

# %%
import torch.nn.functional as F


def distillation_loss(
    student_logits, teacher_logits, labels, temperature=4.0, alpha=0.9
):
    log_student = F.log_softmax(student_logits / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    soft = (
        temperature**2
        * (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1).mean()
    )
    return alpha * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)


# %% [markdown]
# La version de `kdcourse` fait le même calcul, vérifie ses arguments et rend ses trois termes.

# %%
from kdcourse import KnowledgeDistillationLoss

with torch.no_grad():
    student_logits = make_student()(digits.train.images)
loss = KnowledgeDistillationLoss(temperature=4.0, alpha=0.9)(
    student_logits, teacher_logits, digits.train.labels
)
by_hand = distillation_loss(student_logits, teacher_logits, digits.train.labels)
torch.testing.assert_close(loss.total, by_hand)
print(
    f"total {loss.total:.4f} = 0.9 × distillation {loss.distillation:.4f} + 0.1 × étiquettes {loss.hard:.4f}"
)

# %% [markdown]
# ## Un student, dans la boucle nue
#
# Supposons que la collecte ait coûté cher : il ne reste que 100 images pour entraîner le student. Le teacher, lui, en
# avait vu 1 000. Voici toute la boucle ; il n'y a rien d'autre à savoir pour distiller.


# %%
def train_by_hand(loss_function, seed, images, labels, teacher_logits, epochs=600):
    torch.manual_seed(seed)
    student = make_student()
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(labels), generator=shuffle).split(100):
            loss = loss_function(
                student(images[batch]), teacher_logits[batch], labels[batch]
            )
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return student.eval()


hundred = digits.train.where(slice(0, 100))
by_hand = train_by_hand(distillation_loss, 0, *hundred, teacher_logits[:100])
print(
    "erreur de validation :",
    french(error_rate(by_hand(digits.validation.images), digits.validation.labels)),
    "%",
)

# %% [markdown]
# Remarquez `teacher_logits[batch]` : les logits du teacher sont calculés une fois, puis pris dans le même ordre que les
# images. Remarquez aussi ce qui manque : le teacher n'est pas dans l'optimiseur, et aucun gradient ne le traverse.
#
# `train_many` fait ce calcul pour beaucoup de students à la fois : leurs paramètres sont empilés, et un seul passage les
# sert tous. Vérifions que la graine 0 y donne le même student.

# %%
from kdcourse import train_many

check_run = train_many(
    make_student,
    hundred,
    teacher_logits[:100],
    seeds=[0, 1],
    temperatures=4.0,
    alphas=0.9,
    epochs=600,
)
gap = (
    (check_run[0](digits.test.images) - by_hand(digits.test.images)).abs().max().item()
)
print("plus grand écart entre les logits des deux versions :", f"{gap:.0e}")

# %% [markdown]
# L'écart est celui des arrondis. Nous pouvons donc entraîner des dizaines de students en quelques secondes, et ne plus
# croire une différence sur la foi d'un seul essai.

# %% [markdown]
# ## Seul ou distillé : l'expérience
#
# Dix graines. Pour chacune, deux students : l'un n'apprend que des étiquettes ($\alpha = 0$), l'autre est distillé à
# $T = 4$ et $\alpha = 0{,}9$, réglages fixés d'avance (10.2 les fera varier). Ils partent des **mêmes poids** et voient
# les **mêmes lots** : leur différence est appariée.
#
# Combien d'images donner au student ? Nous essayons cinq régimes, tous listés, à 600 pas d'entraînement chacun (dix
# lots par époque pour 1 000 images, un seul pour 100), et nous choisissons **sur la validation**.

# %%
from kdcourse import mean_interval

seeds, sizes = list(range(10)), [50, 100, 200, 500, 1000]
errors = {"validation": [], "test": []}
for size in sizes:
    students = train_many(
        make_student,
        digits.train.where(slice(0, size)),
        teacher_logits[:size],
        seeds=seeds * 2,
        temperatures=4.0,
        alphas=[0.0] * 10 + [0.9] * 10,
        epochs=600 * 100 // max(size, 100),
    )
    for name in errors:
        part = getattr(digits, name)
        errors[name].append(
            error_rate(students.logits(part.images), part.labels).reshape(2, 10)
        )
errors = {
    name: torch.stack(values) for name, values in errors.items()
}  # (régime, seul ou distillé, graine)
gains = [mean_interval(alone - distilled) for alone, distilled in errors["validation"]]
for size, gain in zip(sizes, gains):
    print(f"{size:5} images : gain en validation {gain} points")

# %% [markdown]
# Le gain est la différence appariée des erreurs, en points de pourcentage, avec son intervalle à 95 % sur les graines.
# Il ignore l'échantillonnage des images : avec 500 images de test, une seule compte pour 0,2 point.
#
# Gardons le régime où l'intervalle de validation est le plus loin de zéro, et ouvrons le test.

# %%
from kdcourse import plot_paired

chosen = max(range(len(sizes)), key=lambda index: gains[index].low)
alone, distilled = errors["test"][chosen]
print(f"régime choisi sur la validation : {sizes[chosen]} images")
plot_paired(alone, distilled)

# %%
from IPython.display import Markdown, display

gain = mean_interval(alone - distilled)
display(
    Markdown(
        f"Chaque trait gris relie deux students jumeaux. Avec {sizes[chosen]} images, l'erreur moyenne passe de "
        f"**{french(alone.mean())} %** à **{french(distilled.mean())} %**. Le gain apparié vaut {gain} points : "
        + (
            "l'intervalle exclut 0."
            if gain.excludes_zero
            else "l'intervalle contient 0."
        )
    )
)

# %% [markdown]
# Rien n'a changé dans le student : ni sa taille, ni ses images, ni son nombre de pas. Seule la question qu'on lui pose a
# changé. L'étiquette lui disait « c'est un 8 » ; le teacher lui dit « c'est un 8, qui ressemble un peu à un 3, et pas du
# tout à un 4 ».

# %% [markdown]
# ## Quand la distillation n'aide pas
#
# Regardons maintenant tous les régimes.

# %%
from kdcourse import plot_curves

largest = mean_interval(errors["test"][-1, 0] - errors["test"][-1, 1])
plot_curves(
    sizes,
    {
        "seul": (errors["test"][:, 0], "student"),
        "distillé": (errors["test"][:, 1], "distilled"),
    },
    xlabel="images d'entraînement du student (échelle log)",
    ylabel="erreur de test (%)",
    log=True,
    title=f"Le gain fond avec les données : {french(gain.mean)} points à {sizes[chosen]} images, "
    f"{french(largest.mean)} à {sizes[-1]}",
)

# %% [markdown]
# Plus le student a d'images, moins le teacher lui apprend. Les deux courbes se rejoignent presque.
#
# Deux autres façons de ne rien gagner, avec 1 000 images cette fois : une température de 1, où un teacher sûr de lui ne
# dit guère plus que l'étiquette ; et un student **trop petit** pour imiter le teacher. Mesurons-les ensemble, sur deux
# largeurs.

# %%
settings = {"T = 1": 1.0, "T = 4": 4.0, "T = 20": 20.0}
for width in (4, 32):
    students = train_many(
        lambda: MLP(hidden=(width, width)),
        digits.train,
        teacher_logits,
        seeds=seeds * 4,
        temperatures=[4.0] * 10 + [t for t in settings.values() for _ in seeds],
        alphas=[0.0] * 10 + [0.9] * 30,
    )
    alone_w, *distilled_w = error_rate(
        students.logits(digits.test.images), digits.test.labels
    ).reshape(4, 10)
    print(f"deux couches de {width:2} unités, seul : {mean_interval(alone_w)} %")
    for name, values in zip(settings, distilled_w):
        print(f"    {name:7} gain {mean_interval(alone_w - values)} points")

# %% [markdown]
# Lisez les signes et les intervalles.
#
# - À $T = 1$, le gain est nul ou presque, quelle que soit la largeur : l'information était au-delà de la première classe.
# - Le student de 4 unités **perd** en moyenne à être distillé, et perd plus encore à $T = 20$ : il dépense le peu qu'il a à
#   imiter des nuances hors de sa portée. Ses intervalles sont larges : une graine le change beaucoup.
# - Le student de 32 unités gagne peu : avec 1 000 images, les étiquettes lui suffisaient presque.
#
# La distillation n'est pas gratuite ni toujours utile. Elle paie quand le student peut suivre et que les étiquettes seules
# ne suffisent pas.

# %% [markdown]
# ## Le 3 mystique
#
# Voici l'expérience la plus étonnante de l'article de Hinton, Vinyals et Dean (2015). Retirons **tous les 3** des données
# du student. Il n'en verra jamais un seul. Le teacher, lui, en a vu.
#
# **À vous de parier** : quelle part des 3 du test le student distillé reconnaîtra-t-il ?
#
# Trois students, 20 graines : distillé à $T = 20$, distillé à $T = 1$ (tous deux avec $\alpha = 1$ : les prédictions du
# teacher, sans étiquettes), et sans distillation.

# %%
no_three = digits.train.without_class(3)
three_logits = teacher_logits[digits.train.labels != 3]
runs = 20
students = train_many(
    make_student,
    no_three,
    three_logits,
    seeds=list(range(runs)) * 3,
    temperatures=[20.0] * runs + [1.0] * runs + [4.0] * runs,
    alphas=[1.0] * runs * 2 + [0.0] * runs,
)
print("3 dans les données du student :", (no_three.labels == 3).sum().item())
print("3 dans le test                :", (digits.test.labels == 3).sum().item())

# %% [markdown]
# N'ayant jamais eu à répondre « 3 », le student hésite à le faire : le biais de cette classe est trop bas. L'article le
# relève d'une constante. Nous faisons de même, avec une différence : l'article règle ce biais sur le **test** ; nous le
# réglons sur la **validation**, en cherchant la plus petite erreur globale, et de la **même façon pour les trois**. Un
# grand biais achète du rappel à bon compte ; c'est pourquoi l'erreur globale l'accompagne toujours.

# %%
from kdcourse import bias_sweep, tune_bias

biases = torch.arange(0, 20.01, 0.25)
names, roles = (
    ["T = 20", "T = 1", "sans distillation"],
    ["distilled", "neutral", "student"],
)
sweeps, raw, tuned = {}, {}, {}
logits = {
    part: students.logits(getattr(digits, part).images).reshape(3, runs, -1, 10)
    for part in ("validation", "test")
}
for index, (name, role) in enumerate(zip(names, roles)):
    chosen_bias = tune_bias(
        bias_sweep(logits["validation"][index], digits.validation.labels, 3, biases)
    )
    test = bias_sweep(logits["test"][index], digits.test.labels, 3, biases)
    sweeps[name] = (test, chosen_bias, role)
    raw[name], tuned[name] = (test.recall[:, 0], test.error[:, 0]), test.at(chosen_bias)

# %%
rows = [
    f"| {name} | {mean_interval(raw[name][0])} | {mean_interval(raw[name][1])} | "
    f"{french(biases[sweeps[name][1]].mean(), 1)} | {mean_interval(tuned[name][0])} | {mean_interval(tuned[name][1])} |"
    for name in names
]
display(
    Markdown(
        "| student | rappel des 3, brut (%) | erreur, brute (%) | biais réglé | rappel des 3, réglé (%) | erreur, réglée (%) |\n"
        "|---|---|---|---|---|---|\n"
        + "\n".join(rows)
        + f"\n\nMoyennes de {runs} graines, intervalle à 95 %."
    )
)

# %%
gap_one, gap_none = (
    mean_interval(tuned["T = 20"][0] - tuned[name][0]) for name in names[1:]
)
display(
    Markdown(
        f"Le student distillé à $T = 20$ reconnaît, biais réglé, **{french(tuned['T = 20'][0].mean())} %** des 3 qu'il n'a "
        f"jamais vus, pour {french(tuned['T = 20'][1].mean())} % d'erreur globale. L'écart apparié de rappel vaut {gap_one} "
        f"points avec $T = 1$, et {gap_none} points avec le student sans distillation."
    )
)

# %% [markdown]
# D'où vient ce savoir ? Des 8, des 5 et des 2 que le teacher trouve *un peu* semblables à un 3. À $T = 20$, ces nuances
# pèsent dans la perte ; à $T = 1$, elles sont écrasées par la première classe. Le student sans distillation n'a rien à
# exploiter : son logit du 3 a seulement appris à être bas partout.
#
# Voyons ce que le biais achète, et à quel prix.

# %%
from kdcourse import plot_bias_sweep

plot_bias_sweep(biases, sweeps, label=3)

# %% [markdown]
# Trait plein : le rappel des 3. Tirets : l'erreur globale. Les petites barres du bas sont les biais réglés, une par graine.
# À gauche, le rappel monte quand l'erreur est encore au plus bas : le creux des tirets est large et profond. À droite, le
# rappel ne vient qu'avec l'erreur : le modèle finit par répondre « 3 » à tout.
#
# Le curseur montre la même chose, chiffres à l'appui.

# %%
from kdcourse import BiasExplorer

BiasExplorer(biases, sweeps, label=3)

# %% [markdown]
# Amenez le biais vers 5 : à $T = 20$, le rappel est haut et l'erreur au plus bas. Amenez-le à 15 : le rappel des trois
# monte, l'erreur aussi. Un rappel cité sans son erreur ne prouve rien.
#
# Les chiffres de l'article, sur MNIST (10 000 images de test, dont 1 010 trois), avec un biais réglé sur le test :
#
# | Hinton 2015, section 3 | erreurs | dont sur les 3 |
# |---|---|---|
# | student qui n'a jamais vu de 3 | 206 | 133 |
# | le même, biais du 3 relevé de 3,5 | 109 | 14, soit 98,6 % de 3 reconnus |
#
# Ce sont leurs mesures, pas les nôtres : d'autres images, d'autres réseaux. Le phénomène est le même.

# %% [markdown]
# ## La carte du domaine
#
# Imiter les logits n'est qu'une façon de guider. Les chapitres suivants en mesurent d'autres.

# %%
from kdcourse import plot_field_map

plot_field_map()

# %% [markdown]
# | Chapitre | Ce que l'on compare | Ce qu'il faut |
# |---|---|---|
# | 10.2 Logits | les prédictions | les sorties du teacher, rien d'autre |
# | 10.3 Features | les cartes intermédiaires | l'intérieur du teacher, et un adaptateur |
# | 10.4 Relations | les ressemblances entre exemples | l'embedding du teacher, et un lot assez grand |
# | 10.5 Auto-distillation | les prédictions d'hier et d'aujourd'hui | aucun teacher |
# | 10.6 Compression | un teacher et sa version en tenseurs | les poids du teacher |

# %% [markdown]
# ## Chasse au bug
#
# Un collègue a recopié la perte d'un article où $\alpha$ pesait les *étiquettes*. Il veut refaire le 3 mystique : il met
# donc `alpha=1.0`, « tout pour le teacher ». Son student ne reconnaît aucun 3. Lisez sa perte, et cherchez avant de
# dérouler la réponse.


# %%
def colleague_loss(student_logits, teacher_logits, labels, temperature=20.0, alpha=1.0):
    log_student = F.log_softmax(student_logits / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher_logits / temperature, dim=-1)
    soft = (
        temperature**2
        * (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1).mean()
    )
    return alpha * F.cross_entropy(student_logits, labels) + (1 - alpha) * soft


def repaired_loss(student_logits, teacher_logits, labels):
    return distillation_loss(
        student_logits, teacher_logits, labels, temperature=20.0, alpha=1.0
    )


recalls = {}
for name, loss_function in {
    "perte du collègue": colleague_loss,
    "perte réparée": repaired_loss,
}.items():
    found = [
        train_by_hand(loss_function, seed, *no_three, three_logits, epochs=20)
        for seed in seeds
    ]
    test_logits = torch.stack(
        [student(digits.test.images).detach() for student in found]
    )
    recalls[name] = bias_sweep(test_logits, digits.test.labels, 3, biases)
    at_five = recalls[name].recall[:, biases.tolist().index(5.0)]
    print(f"{name:18} rappel des 3 au biais 5 : {mean_interval(at_five)} %")

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# Les deux poids sont échangés. Avec `alpha=1.0`, cette perte n'est faite **que** d'étiquettes : le teacher n'y entre pas.
# Le symptôme est celui du student sans distillation. Rien ne plante, la perte descend, l'erreur sur les neuf autres
# chiffres est bonne : seul le 3 trahit l'erreur.
#
# Les deux conventions existent. Hinton donne à l'objectif dur « un poids bien plus faible » sans le nommer ; d'autres
# écrivent $\alpha$ devant les étiquettes. Dans ce cours, $\alpha$ pèse **toujours** la distillation.
# </details>

# %% [markdown]
# ## À vous de jouer
#
# **Exercice 10.1 a.** Écrivez `soften(logits, temperature)`, qui rend les probabilités adoucies, `(B, C)` vers `(B, C)`.
# La vérification est immédiate, et reconnaît les erreurs classiques.

# %%
from kdcourse import check


def soften(logits, temperature): ...  # à compléter


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
# **Exercice 10.1 b.** Sans regarder plus haut, écrivez la perte complète : distillation pesée par `alpha`, étiquettes
# par `1 - alpha`.


# %%
def my_loss(
    student_logits, teacher_logits, labels, temperature, alpha
): ...  # à compléter


_ = check("10.1 b", my_loss)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# def my_loss(student_logits, teacher_logits, labels, temperature, alpha):
#     log_student = torch.log_softmax(student_logits / temperature, dim=-1)
#     teacher = torch.softmax(teacher_logits / temperature, dim=-1)
#     soft = temperature**2 * F.kl_div(log_student, teacher, reduction="batchmean")
#     return alpha * soft + (1 - alpha) * F.cross_entropy(student_logits, labels)
# ```
#
# Cette solution a une limite : une probabilité du teacher qui s'annule en virgule flottante perd son information. La
# version du cours garde des logarithmes de bout en bout. 10.2 montre la différence.
# </details>

# %% [markdown]
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
# **3. Le student sans distillation atteint 90 % de rappel des 3 en relevant assez le biais. Est-ce une preuve ?**
#
# <details><summary>Oui, il reconnaît les 3</summary>Non : regardez son erreur globale au même biais. Il répond « 3 » à
# presque tout.</details>
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
# **5. Un student très petit, 1 000 images, T = 20. Que prévoyez-vous ?**
#
# <details><summary>Un grand gain : c'est le plus petit qui a le plus à apprendre</summary>Non : mesuré plus haut, il perd
# en moyenne. Il ne peut pas suivre.</details>
# <details><summary>Aucun gain, ou une perte</summary>Oui : c'est l'écart de capacité (*capacity gap*).</details>

# %% [markdown]
# ## Sur GPU
#
# Le même moteur tourne sur GPU sans un changement : il suit les données. Un GPU sert alors non à aller plus vite, mais à
# mesurer plus : des centaines de graines au lieu de dix. La cellule choisit selon l'appareil.

# %%
import time

from kdcourse import best_device

device = best_device()
many_seeds = list(range(512 if device.type == "cuda" else 16))
start = time.perf_counter()
students = train_many(
    make_student,
    hundred.to(device),
    teacher_logits[:100].to(device),
    seeds=many_seeds,
    alphas=0.9,
    epochs=600,
)
many_errors = error_rate(
    students.logits(digits.test.images.to(device)), digits.test.labels.to(device)
).cpu()
seconds = time.perf_counter() - start
print(
    f"{len(many_seeds)} students en {french(seconds)} s sur {device.type}, erreur {mean_interval(many_errors)} %"
)

# %% [markdown]
# Avec plus de graines l'intervalle se resserre, en $1/\sqrt{n}$. L'échantillonnage du test, lui, reste ce qu'il est : pour
# le réduire, il faut plus d'images.

# %% [markdown]
# ## À retenir

# %%
display(
    Markdown(f"""
- Le teacher en sait plus que l'étiquette : à température élevée, ses probabilités classent *toutes* les classes.
- Avec {sizes[chosen]} images, le même student passe de {french(alone.mean())} % à {french(distilled.mean())} % d'erreur :
  gain apparié {gain} points.
- Ce gain fond quand les étiquettes abondent : {largest} points à {sizes[-1]} images. À $T = 1$ il est presque nul, et un
  student trop petit y perd.
- Distillé à $T = 20$, un student reconnaît {french(tuned["T = 20"][0].mean())} % des 3 qu'il n'a jamais vus ; à $T = 1$,
  {french(tuned["T = 1"][0].mean())} % ; sans teacher, {french(tuned["sans distillation"][0].mean())} %.
- $\\alpha$ pèse la distillation, $1 - \\alpha$ les étiquettes : vérifiez la convention avant de recopier une perte.
""")
)

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
