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
# **Que sait un *teacher* que l'étiquette ne dit pas ?**
#
# **Distiller**, c'est entraîner un petit réseau, le *student*, à imiter les probabilités d'un grand, le *teacher*.
#
# Ôtons tous les 3 des images d'entraînement du student. Entraîné sans aide, il ne reconnaît presque aucun 3, et c'est bien
# normal. Distillé, et une fois une seule constante réglée sur la validation, il en reconnaît la plupart. Le teacher lui a dit au
# passage : « ce 9 ressemble un peu à un 3 ».
#
# ![À gauche, huit chiffres qui ne sont pas des 3, où le teacher voit un 3 en second. À droite, la part des 3 du test que reconnaît un student qui n'en a jamais vu, à deux budgets : presque aucun s'il apprend seul, la plupart s'il est distillé à T = 20, moins à T = 1.](attachment:ouverture.png)

# %% tags=["bootstrap", "hide-input"]
from kdcourse import describe_environment

print(describe_environment())

# %% [markdown]
# ## Objectifs
#
# À la fin de ce chapitre, vous saurez :
#
# - dire ce qu'un teacher sait et que l'étiquette ne dit pas ;
# - écrire la perte de distillation, et expliquer ses deux réglages, la température $T$ et le poids $\alpha$ ;
# - mesurer ce que la distillation apporte, selon les données et le nombre de pas, et reconnaître les cas où elle fait perdre ;
# - expliquer comment un student reconnaît un chiffre qu'il n'a jamais vu.
#
# **Durée** : une heure de lecture, et les exercices. Le notebook entier s'exécute en une minute.
#
# **Prérequis** : PyTorch (un module, une boucle d'entraînement), le softmax et l'entropie croisée.
#
# <details><summary><b>Les mots du cours</b> (glossaire)</summary>
#
# | Dans ce cours | Sens |
# |---|---|
# | *teacher* | le grand modèle, déjà entraîné, figé, qui guide |
# | *student* | le petit modèle, que l'on entraîne |
# | *logits* | les sorties du réseau avant le softmax |
# | étiquette (*hard label*) | la bonne classe, seule |
# | prédiction adoucie (*soft label*) | les probabilités du teacher à une température $T$ : ses logits, divisés par $T$ avant le softmax |
# | biais | une constante ajoutée à un logit |
# | gain apparié | l'erreur du student seul, moins celle du student distillé de même graine, en points |
# | budget | le nombre de pas d'entraînement que l'on accorde à un student |
# | graine (*seed*) | le nombre qui fixe les poids de départ et l'ordre des lots |
# | lot (*batch*) | les exemples d'un pas d'entraînement |
# | carte (*feature map*) | la sortie d'une couche intermédiaire |
# | *embedding* | le vecteur qui précède les logits |
# | exactitude (*accuracy*) | la part de bonnes réponses : 100 % moins l'erreur |
# | rappel (*recall*) | parmi les images d'une classe, la part que le modèle reconnaît |
#
# Ces mots ne seront plus traduits ; *teacher*, *student* et *logits* s'emploient comme des mots français.
# </details>
#
# ## Un grand réseau, un petit
#
# Nous travaillons sur les 1 797 chiffres manuscrits de scikit-learn, des images de 8×8 pixels. Ils sont livrés avec la
# bibliothèque : aucune connexion n'est nécessaire. 1 000 servent à entraîner, 297 à régler (la validation), 500 à mesurer (le test).
#
# Le teacher est un réseau de trois convolutions. Le student a deux couches cachées de 32 unités. Que gagne-t-on à remplacer
# l'un par l'autre ? Comptons les paramètres, et mesurons le temps.

# %%
import torch
from kdcourse import digits_student, digits_teacher, error_rate, french, load_dataset
from kdcourse import markdown_table, parameter_count, say, thousands, train_one
from statistics import median
from timeit import repeat

digits = load_dataset("digits")
torch.set_num_threads(1)  # de si petits réseaux ne gagnent rien à deux fils
teacher = train_one(digits_teacher, digits.train, epochs=30)

@torch.no_grad()
def microseconds(model, count):  # par image, dans un lot de count images
    images = digits.test.images[:count]
    calls = repeat(lambda: model(images), number=10, repeat=30)
    return 1e6 * median(calls) / (10 * count)

models = {"teacher": teacher, "student": digits_student().eval()}
costs = {name: (parameter_count(net), microseconds(net, 1), microseconds(net, 100))
         for name, net in models.items()}

# %% tags=["hide-input"]
with torch.no_grad():
    seen, unseen = (error_rate(teacher(part.images), part.labels).item()
                    for part in (digits.train, digits.test))
smaller, quicker, faster = (big / small for big, small in zip(*costs.values()))
header = ["réseau", "paramètres", "µs par image, une à une", "µs par image, par 100"]
rows = [[name, count, french(one, 0), french(many, 2)]
        for name, (count, one, many) in costs.items()]
say(markdown_table(header, rows),
    f"Le student est {french(smaller)} fois plus petit. Par lots de 100, sur cette "
    f"machine, il répond {french(faster, 0)} fois plus vite ; image par image, "
    f"{french(quicker, 0)} fois. Le teacher se trompe sur "
    f"{french(unseen)} % du test, et sur {french(seen)} % des "
    f"{thousands(len(digits.train.labels))} images de son entraînement.")

# %% [markdown]
# Voilà ce que l'on achète : un réseau plus petit et plus rapide. Reste à ne pas le payer en erreurs.
#
# Remarquez la dernière phrase : sur les images d'entraînement, le teacher donne toujours la bonne réponse. On pourrait croire
# que ses prédictions n'apprennent alors rien de plus que les étiquettes. Il n'en est rien.
#
# ## Ce que le teacher sait et que l'étiquette ne dit pas
#
# Un chiffre mal écrit ressemble à deux classes à la fois. L'étiquette n'en dit rien : elle vaut 1 pour l'une, 0 pour les
# autres. Prenons l'image de validation où le teacher hésite le plus sans se tromper (l'écart de ses deux premiers logits est le plus petit), puis
# une image ordinaire, à la moitié du classement.
#
# Pour voir au-delà de sa première réponse, on divise ses logits $z$ par une température $T$ avant le softmax :
# `torch.softmax(z / T, dim=-1)`. Au-dessus de chaque graphique, l'entropie mesure l'hésitation affichée, en nats (le logarithme
# est népérien) : 0 pour une certitude, $\ln 10 \approx 2{,}30$ pour dix classes à égalité.

# %%
from IPython.display import display
from kdcourse.measures import most_uncertain
from kdcourse.plots import plot_prediction

with torch.no_grad():
    teacher_logits = teacher(digits.train.images)  # ils serviront à tous les students
part = digits.validation
order = most_uncertain(teacher, part, len(part.labels)).tolist()
with torch.no_grad():
    right = teacher(part.images).argmax(dim=-1) == part.labels
ambiguous = next(index for index in order if right[index])
ordinary, surest = order[len(order) // 2], order[-1]
for index in (ambiguous, ordinary):
    display(plot_prediction(teacher, part, index, temperatures=[1, 2, 4, 8, 20]))

# %% [markdown]
# En haut, à $T = 1$, deux classes se partagent presque tout. Quand $T$ monte, les autres sortent de terre, dans l'ordre où le
# teacher les trouve plausibles. À $T = 20$, presque tout s'égalise. En bas, à $T = 1$, une seule barre : on croirait
# l'étiquette. Il faut chauffer pour que les voisines apparaissent. L'ordre des classes, lui, ne change jamais. Les deux images ont la
# même étiquette, et pas les mêmes voisines.
#
# Cette hiérarchie des classes, l'étiquette ne la contient pas. On l'appelle la connaissance cachée (*dark knowledge*).
#
# **À vous de parier** : sur l'image dont le teacher est le plus sûr, à partir de quelle température la deuxième classe
# pèse-t-elle 5 % ? Cette image est la douzième du curseur : cherchez-y la réponse. (La première est une erreur du teacher.)

# %% tags=["hide-input"]
from kdcourse.plots import plot_scheme
from kdcourse.widgets import TemperatureExplorer

display(TemperatureExplorer(teacher, digits.validation))
with torch.no_grad():
    sure = teacher(digits.validation.images[[surest]])[0]
scale = torch.arange(1, 32.1, 0.5)
second = torch.softmax(sure / scale[:, None], dim=-1).topk(2).values[:, 1]
warm = scale[(second >= 0.05).nonzero()[0]].item()
power = int(second[0].log10().floor())
say("<details><summary>Réponse du pari</summary>",
    f"À partir de $T = {french(warm)}$. À $T = 1$, la deuxième classe de cette image "
    f"pèse de l'ordre de $10^{{{power}}}$.", "</details>")
plot_scheme()

# %% [markdown]
# Plus le teacher est sûr de lui, plus il faut chauffer pour voir ses voisines. Quelle température choisir pour apprendre ? 10.2 le
# mesurera.
#
# Le schéma montre l'usage que l'on en fait. Une image passe dans les deux réseaux. Le student cherche à imiter les
# probabilités du teacher, **et** à retrouver l'étiquette. Aucune flèche ne relie l'étiquette au teacher : il a fini d'apprendre.
# Le poids $\alpha$ partage l'effort : $\alpha$ pour le teacher, $1-\alpha$ pour les étiquettes. Que sont la KL, et ce $T^2$ ? Les
# voici.
#
# ## La perte, à la main
#
# Comment mesurer l'écart entre deux prédictions ? Vous connaissez une mesure : l'entropie croisée, où l'étiquette est remplacée
# par les probabilités du teacher. La distillation emploie sa cousine, la divergence de Kullback-Leibler (KL). Prenons un
# student neuf, jamais entraîné, $T = 4$, la même image ambiguë, et comparons leurs gradients.

# %%
import torch.nn.functional as F
from kdcourse import initial_model
from kdcourse.plots import plot_gap

T = 4.0
with torch.no_grad():
    image = part.images[[ambiguous]]
    teacher_z, student_z = teacher(image), initial_model(digits_student, seed=0)(image)
student_z.requires_grad_()
p_teacher = torch.softmax(teacher_z / T, dim=-1)
log_student = F.log_softmax(student_z / T, dim=-1)
cross_entropy = -(p_teacher * log_student).sum()
teacher_entropy = -(p_teacher * p_teacher.log()).sum()
kl = cross_entropy - teacher_entropy
(gradient,) = torch.autograd.grad(kl, student_z, retain_graph=True)
torch.testing.assert_close(gradient, *torch.autograd.grad(cross_entropy, student_z))
say(f"{french(cross_entropy, 3)} − {french(teacher_entropy, 3)} = {french(kl, 3)} "
    "nat : entropie croisée, moins entropie du teacher, égale KL.")
plot_gap(image[0], student_z[0].detach(), teacher_z[0], T, gradient[0])

# %% [markdown]
# La KL est l'entropie croisée moins l'entropie du teacher : $\mathrm{KL}(p^t\,\|\,p^s) = H(p^t, p^s) - H(p^t)$. Le second terme
# ne dépend pas du student : **le gradient est le même**. La KL a seulement le mérite de valoir 0 quand le student imite
# parfaitement.
#
# À droite, ce gradient. Il se calcule en une ligne, puisque $\partial \log p_k / \partial z_c = (\mathbb{1}[k = c] - p_c) / T$ :
#
# $$\frac{\partial\, \mathrm{KL}}{\partial z^s_c} = -\sum_k p^t_k\, \frac{\mathbb{1}[k = c] - p^s_c}{T} = \frac{p^s_c - p^t_c}{T}.$$
#
# Multiplié par $T$, c'est l'écart des deux prédictions. La descente relève les logits dont le gradient est négatif (rayés), et baisse
# les autres. Une étiquette n'en relèverait qu'un, et baisserait les autres selon ce que croit déjà le student, non selon leur
# ressemblance avec l'image. Le teacher, lui, dose chacun.
#
# La perte complète ajoute les étiquettes. Pour un lot de $B$ images, $y_b$ étant l'étiquette de l'image $b$ :
#
# $$\mathcal{L} = \alpha \, T^2 \, \frac{1}{B} \sum_b \mathrm{KL}\big(p^t_b(T) \,\|\, p^s_b(T)\big)
# + (1 - \alpha)\, \frac{1}{B} \sum_b -\log p^s_b(1)[y_b]$$
#
# Le facteur $T^2$ compense deux choses : le gradient est divisé par $T$, et l'écart $p^s - p^t$ décroît à son tour comme $1/T$
# (10.2 le mesure). Sans lui, chauffer ferait taire le teacher devant les étiquettes. Voici la perte en quatre lignes, à côté de celle de `kdcourse`, qui fait le même calcul, vérifie ses arguments et rend ses
# termes.

# %%
from kdcourse import KnowledgeDistillationLoss

def distillation_loss(student, teacher, labels, temperature=4.0, alpha=0.9):
    log_student = F.log_softmax(student / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher / temperature, dim=-1)
    kl = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1).mean()
    return alpha * temperature**2 * kl + (1 - alpha) * F.cross_entropy(student, labels)

torch.manual_seed(0)
with torch.no_grad():
    student_logits = digits_student()(digits.train.images)
    batch = student_logits, teacher_logits, digits.train.labels
    terms = KnowledgeDistillationLoss(temperature=4.0, alpha=0.9)(*batch)
    torch.testing.assert_close(terms.total, distillation_loss(*batch))
say(f"Les deux pertes sont égales. Un student neuf : {french(terms.total, 2)} nats, "
    f"soit 0,9 × {french(terms.distillation, 2)} (teacher, facteur T² compris) et "
    f"0,1 × {french(terms.hard, 2)} (étiquettes).")

# %% [markdown]
# ## Un student, dans la boucle nue
#
# Supposons les images rares : on n'a plus les 1 000 du teacher, seulement 100. Voici toute la boucle ; il n'y a
# rien d'autre à savoir pour distiller.

# %%
def train_by_hand(loss_function, data, targets, seed, epochs):
    torch.manual_seed(seed)
    student = digits_student()
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3)
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(epochs):
        for batch in torch.randperm(len(data.labels), generator=shuffle).split(100):
            logits = student(data.images[batch])
            loss = loss_function(logits, targets[batch], data.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return student.eval()

hundred, targets = digits.train.where(slice(0, 100)), teacher_logits[:100]
by_hand = train_by_hand(distillation_loss, hundred, targets, seed=0, epochs=300)
error = error_rate(by_hand(digits.test.images), digits.test.labels)
say(f"Distillé, 300 pas, graine 0 : {french(error)} % d'erreur au test.")

# %% [markdown]
# Un seul essai ne prouve rien encore. Remarquez que les logits du teacher sont calculés une fois, puis pris dans
# le même ordre que les images. Remarquez aussi ce qui manque : le teacher n'est pas dans l'optimiseur, et aucun gradient ne le
# traverse.
#
# La fonction `train_many` fait ce calcul pour beaucoup de students à la fois : leurs paramètres sont empilés, et un seul passage
# les sert tous. Vérifions une fois pour tout le cours que la graine 0 y donne le même student.

# %%
from kdcourse import train_many

four = train_many(digits_student, hundred, targets, seeds=range(4),
                  temperatures=4.0, alphas=0.9, epochs=300)
ours, theirs = by_hand(digits.test.images), four.one(seed=0)(digits.test.images)
gap = (ours - theirs).abs().max()
say(f"Plus grand écart entre les logits des deux versions : {gap:.0e}.")

# %% [markdown]
# L'écart est celui des arrondis. Nous ne croirons plus une différence sur la foi d'un seul essai.
#
# ## Seul ou distillé : l'expérience
#
# Dix graines. Pour chacune, deux students : l'un n'apprend que des étiquettes ($\alpha = 0$), l'autre est distillé à
# $T = 4$ et $\alpha = 0{,}9$, réglages fixés d'avance. Ils partent des **mêmes poids** et voient les **mêmes lots** : leur
# différence est appariée. Entre crochets, vous lirez toujours l'intervalle de confiance à 95 % (par la loi de Student, le statisticien) d'une moyenne sur
# les graines ; il ne couvre ni un autre teacher, ni d'autres images.
#
# Combien d'images donner au student ? Essayons trois tailles, à 300 pas chacune. `grid` prépare les arguments de `train_many`, chaque réglage avec chaque
# graine ; `table` rend les erreurs, une ligne par réglage, une colonne par graine.
#
# **À vous de parier** : à quelle taille le teacher aide-t-il le plus ?

# %%
from kdcourse import grid, mean_interval, points

seeds, sizes = list(range(10)), [100, 300, 1000]
measured = {}
for size in sizes:
    few, few_logits = digits.train.where(slice(0, size)), teacher_logits[:size]
    students = train_many(
        digits_student, few, few_logits, epochs=300 * 100 // size,  # lots de 100
        **grid(temperatures=4, alphas=[0, 0.9], seeds=seeds))
    alone, distilled = students.table(digits.test)
    measured[size] = {"seul": alone, "distillé": distilled}

# %% tags=["hide-input"]
from kdcourse.plots import plot_curves, plot_paired

curves = {name: (torch.stack([measured[size][name] for size in sizes]), role)
          for name, role in (("seul", "student"), ("distillé", "distilled"))}
constant = torch.full((len(sizes), len(seeds)), unseen)
curves["teacher (1 000 images)"] = constant, "teacher"
alone, distilled = measured[100].values()
gain = mean_interval(alone - distilled)
title = f"À 300 pas et 100 images, le teacher ôte {points(gain.mean)} d'erreur"
display(plot_curves(sizes, curves, "images d'entraînement du student (échelle log)",
                    "erreur de test (%)", title, log=True))
display(plot_paired(alone, distilled))
say(f"À 100 images, l'erreur moyenne au test passe de "
    f"**{french(alone.mean(), 2)} %** à **{french(distilled.mean(), 2)} %** : gain "
    f"apparié {gain.text(2)} points.")

# %% [markdown]
# À 300 pas, c'est à 100 images que le teacher aide le plus. Rien n'a changé dans le student : ni sa taille, ni ses images,
# ni son nombre de pas. Seule la question qu'on lui pose a changé. Chaque trait gris relie deux students jumeaux.
#
# L'erreur du teacher est loin sous les deux courbes : il a plus de paramètres, et il a vu 1 000 images. À droite de la
# première figure, le gain a disparu. Le teacher ne sert-il plus quand les étiquettes abondent ?
#
# ## Quand la distillation fait perdre
#
# Un seul budget ne suffit pas pour le dire. Refaisons la mesure à 80, 300 et 1 200 pas, en changeant aussi la
# température (à $T = 1$, un teacher sûr de lui ne dit guère plus que l'étiquette) et la taille du student (deux couches de 4 unités,
# à $T = 20$, vingt graines).
#
# **À vous de parier** : à 1 000 images, que devient le gain avec quatre fois plus de pas ?

# %%
from kdcourse import MLP

def errors_of(make_student, size, steps, guide, **settings):  # (réglage, graine)
    few = digits.train.where(slice(0, size))
    students = train_many(make_student, few, guide[:size], epochs=100 * steps // size,
                          **grid(alphas=0.9, **settings))
    return students.table(digits.test)

def tiny_student():
    return MLP(hidden=(4, 4))

budgets = [80, 300, 1200]
wide, tiny = {100: {}, 1000: {}}, {}
for steps in budgets:
    for size, hot in ((100, []), (1000, [20])):
        wide[size][steps] = errors_of(
            digits_student, size, steps, teacher_logits, temperatures=[1, 4, *hot],
            seeds=seeds, alone=True)  # alone : aussi le student seul, en tête
    tiny[steps] = errors_of(tiny_student, 1000, steps, teacher_logits,
                            temperatures=20, seeds=range(20), alone=True)

# %% tags=["hide-input"]
from kdcourse.plots import plot_budgets

colors = {"T = 1": "neutral", "T = 4": "distilled", "T = 20": "other"}
shown = {"100 images": (wide[100], colors),
         "1 000 images": (wide[1000], colors),
         "1 000 images, 4 unités": (tiny, {"T = 20": "other"})}
panels, gains = {}, {}
for name, (by_steps, roles) in shown.items():
    gains[name] = torch.stack([t[0] - t[1:] for t in by_steps.values()], dim=1)
    panels[name] = budgets, dict(zip(roles, zip(gains[name], roles.values())))
first, _, last = map(mean_interval, gains["1 000 images"][1])
cold, narrow = (mean_interval(gains[name][0, -1]) for name in list(shown)[1:])
final = wide[1000][1200][1:].mean(dim=-1)  # T = 1, 4, 20
display(plot_budgets(panels, "Le verdict dépend du budget : à 1 000 images et T = 4, "
                     f"{points(first.mean)} à 80 pas, {french(last.mean)} à 1 200"))
say(f"À 1 000 images et 1 200 pas, $T = 4$ gagne {points(last)}. À $T = 1$, le gain "
    f"est de {points(cold)}. Pour le student de 4 unités, à $T = 20$, il est de "
    f"{points(narrow)} : seul, il se trompait sur {french(tiny[1200][0].mean(), 0)} %.",
    f"Le meilleur, à 1 000 images et 1 200 pas ($T = {[1, 4, 20][final.argmin()]}$), "
    f"se trompe encore sur {french(final.min())} % du test.")

# %% [markdown]
# Réponse du pari : il apparaît.
#
# - **Trop peu de pas.** À 80 pas, $T = 4$ perd, à 100 comme à 1 000 images, et $T = 20$ à 1 000, la seule taille essayée ; ensuite ils
#   rattrapent le student seul, puis le dépassent. À 1 000 images, le croisement vient plus tard : à 300 pas, on conclurait que la distillation ne sert à
#   rien ; à 1 200, elle sert. Pourquoi ce retard ? 10.2 donne une piste.
# - **Une température de 1.** À 1 000 images, ni gain ni perte. À 100, un gain lent, la moitié de l'autre à 1 200 pas.
# - **Un student très petit.** À $T = 20$, celui de 4 unités perd à 300 pas comme à 1 200, là où celui de 32 unités finit par gagner (nous
#   n'avons essayé que cette température). On parle d'écart de capacité (*capacity gap*, Mirzadeh et al., 2020) : il n'aurait pas de quoi imiter
#   toutes les nuances. Ou lui faut-il plus de temps encore ? 10.2 rouvre la question, avec 6 unités.
#
# La distillation n'est ni gratuite ni toujours utile. Un verdict ne vaut que pour son budget : ce cours le
# dira toujours, et montrera ses grands verdicts à deux budgets.
#
# ## Est-ce bien ce que sait le teacher ?
#
# Le gain vient-il de la hiérarchie des classes, ou seulement d'une cible moins tranchée que l'étiquette ? Prenons un faux teacher :
# mêmes logits, même première classe, mais les neuf autres sont **brassées** au hasard, image par image. Il est aussi sûr de lui que le
# vrai, et ce qu'il dit des autres classes est faux. Puis un teacher **vague** : aussi sûr de
# lui que le vrai à $T = 4$, il partage le reste à parts égales. Il ne dit plus rien des autres classes, ni vrai ni faux.
#
# **À vous de parier** : combien du gain restera-t-il, avec l'un, avec l'autre ?

# %%
def shuffle_others(logits, generator):  # la première classe reste à sa place
    first = logits.argmax(dim=-1, keepdim=True)
    drawn = torch.rand(logits.shape, generator=generator).scatter(1, first, 2.0)
    order = drawn.argsort(dim=-1, descending=True)
    values = logits.sort(dim=-1, descending=True).values
    return torch.empty_like(logits).scatter(1, order, values)

def level_others(logits, T=4.0):  # la première classe garde sa probabilité à T
    first = F.one_hot(logits.argmax(dim=-1), 10).bool()
    rest = (logits / T).masked_fill(first, -torch.inf).logsumexp(-1, keepdim=True)
    return torch.where(first, logits, T * (rest - torch.tensor(9.0).log()))

liars = {"brassé": shuffle_others(teacher_logits, torch.Generator().manual_seed(0)),
         "vague": level_others(teacher_logits)}
fake = {(name, size): [
    errors_of(digits_student, size, steps, liars[name], temperatures=4, seeds=seeds)[0]
    for steps in budgets[1:]]
    for name, size in (("vague", 100), ("brassé", 100), ("vague", 1000))}

# %% tags=["hide-input"]
panels, lead = {}, {}
for size in wide:
    tables = torch.stack([wide[size][steps] for steps in budgets[1:]])
    alone, _, true, *_ = tables.unbind(dim=1)  # seul, puis T = 1, 4
    told = {"le vrai": (true, "distilled"),
            **{name: (torch.stack(fake[name, size]), role) for name, role in
               (("vague", "other"), ("brassé", "neutral")) if (name, size) in fake}}
    panels[f"{thousands(size)} images"] = budgets[1:], {
        name: (alone - found, role) for name, (found, role) in told.items()}
    lead[size] = {name: [mean_interval(gap) for gap in found - true]  # par budget
                  for name, (found, _) in list(told.items())[1:]}
early, worth = lead[100]["vague"]
display(plot_budgets(panels, "À 100 images et 1 200 pas, le vrai teacher devance le "
                             f"vague de {points(worth.mean)}"))
say(f"À 100 images, le vrai teacher devance le vague de {points(early)} à 300 pas.",
    f"À 1 200 pas, de {points(worth)}. Il devance alors le brassé de "
    f"{points(lead[100]['brassé'][-1])}.",
    "À 1 000 images et 1 200 pas, il devance le vague de "
    f"{points(lead[1000]['vague'][-1])}.")

# %% [markdown]
# Réponse du pari : cela dépend des images, et du budget. À 100 images, le teacher vague fait gagner aussi, mais moins, aux deux
# budgets : une cible moins tranchée aide, **et** la hiérarchie des classes ajoute sa part. Le brassé aide à 300 pas, lui aussi ; à 1 200,
# il fait reculer : sans doute le student a-t-il fini par apprendre ce qu'il dit de faux. À 1 000 images, dix graines ne distinguent pas
# le vague du vrai : une cible adoucie, sans hiérarchie, y gagne à peu près autant. (Chacune est vue dix fois moins.) 10.5 ira plus loin,
# sans aucun teacher.
#
# ## Le 3 mythique
#
# Revenons à la première image, où le savoir du teacher ne fait aucun doute. L'expérience est celle de Hinton, Vinyals et Dean
# (2015), pour qui le 3 devient un chiffre « mythique » (*a mythical digit*) : on en parle au student, il n'en a jamais vu. Nous
# retirons **tous les 3** de ses données ; le teacher, lui, en a vu. Trois students : seul, distillé à $T = 20$
# comme dans l'article, et distillé à $T = 1$ (les deux distillés à $\alpha = 1$, sans étiquettes). Deux budgets : 30 et 120 époques, soit 270 et 1 080 pas. Un
# dixième du test est fait de 3 : qui n'en reconnaît aucun se trompe au moins 10 fois sur 100.
#
# N'ayant jamais eu à répondre « 3 », le student hésite à le faire : son logit du 3 est trop bas. L'article ajoute donc une
# constante à ce logit : il relève son **biais**. Nous faisons de même, pour les trois students, en cherchant la plus petite
# erreur globale sur la **validation** (l'article le règle sur le test). La validation contient des 3, avec leur étiquette : il n'en
# sort qu'un nombre. Voici ce réglage à la main, pour un seul student, et la part des 3 qu'il reconnaît : le **rappel**. L'erreur a un creux : c'est
# lui qui choisit le biais. La cellule d'après le refait pour trente students et deux budgets, sur une échelle plus fine ; le rappel et
# l'erreur y sont mesurés au test.

# %%
no_three = digits.train.without_class(3)
three_logits = teacher_logits[digits.train.labels != 3]

def imitate(student, teacher, labels):
    return distillation_loss(student, teacher, labels, temperature=20.0, alpha=1.0)

one = train_by_hand(imitate, no_three, three_logits, seed=0, epochs=120)
rows = []
for bias in (0, 1, 2, 4, 8, 16):
    logits = one(part.images).detach()
    logits[:, 3] += bias
    found = logits.argmax(dim=-1)[part.labels == 3] == 3
    rows.append([bias, french(100 * found.float().mean()),
                 french(error_rate(logits, part.labels))])
say(markdown_table(["biais", "rappel des 3, validation (%)", "erreur (%)"], rows))

# %%
from kdcourse.measures import bias_sweep, tune_bias

names = ["seul", "distillé, T = 20", "distillé, T = 1"]  # dans l'ordre de grid
biases = torch.arange(0, 30.01, 0.25)

def without_threes(epochs):  # student → rappel et erreur au test, et le biais réglé
    students = train_many(
        digits_student, no_three, three_logits, epochs=epochs,
        **grid(temperatures=[20, 1], alphas=1.0, seeds=seeds, alone=True))
    valid, test = (students.rows(students.logits(part.images))
                   for part in (digits.validation, digits.test))
    found = {}
    for name, before, after in zip(names, valid, test):
        tuned = tune_bias(bias_sweep(before, digits.validation.labels, 3, biases))
        found[name] = bias_sweep(after, digits.test.labels, 3, biases), tuned
    return found

mystic = {f"{epochs} époques": without_threes(epochs) for epochs in (30, 120)}

# %% tags=["hide-input", "opening"]
from kdcourse.measures import seen_second
from kdcourse.plots import plot_tiles_and_bars

at_best = {(budget, name): sweep.at(tuned) for budget, found in mystic.items()
           for name, (sweep, tuned) in found.items()}  # rappel et erreur
recalls = {name: {b: at_best[b, name][0] for b in mystic} for name in names}
second, (_, hot, cold) = seen_second(three_logits, label=3, count=8), recalls.values()
reached = french(hot["120 époques"].mean(), 0)
wrong = french(at_best["120 époques", names[1]][1].mean())
roles = dict(zip(names, zip(recalls.values(), ("student", "distilled", "neutral"))))
display(plot_tiles_and_bars(
    no_three.images[second], [f"{label}, puis 3" for label in no_three.labels[second]],
    roles, "3 du test reconnus (%)",
    f"Aucun 3 dans ses images ; distillé, un biais réglé, il en reconnaît {reached} %, "
    f"pour {wrong} % d'erreur",
    "à gauche : l'étiquette, puis la deuxième classe du teacher, qui la talonne"))

# %% tags=["hide-input"]
none = int((cold["30 époques"] < 1).sum())
rows = [[*key, french(mystic[key[0]][key[1]][0].recall[:, 0].mean()),
         french(recall.mean()), mean_interval(error)]
        for key, (recall, error) in at_best.items()]
say(markdown_table(["budget", "student", "rappel à biais nul (%)",
                    "rappel réglé (%)", "erreur, tous chiffres (%)"], rows),
    *(f"À {budget}, le rappel à $T = 20$ dépasse celui à $T = 1$ de "
      f"{points(mean_interval(hot[budget] - cold[budget]))}." for budget in mystic),
    f"À $T = 1$ et 30 époques, la moyenne cache deux groupes : {none} graines sur 10 "
    "n'y reconnaissent aucun 3.")

# %% [markdown]
# Lisez la troisième colonne : à biais nul, le student distillé reconnaît peu de 3. Il sait déjà les ranger, mais n'ose pas les nommer ;
# le biais réglé les révèle. Le student seul n'a presque rien à révéler (une graine fait à elle seule son rappel).
#
# D'où vient ce savoir ? D'images comme celles de gauche, et un peu de toutes les autres. Ce ne sont pas des 3, mais le teacher y voit
# du 3, et il le dit avec ses probabilités. À $T = 1$, celle du 3 est écrasée par la première ; le student l'apprend lentement, et l'écart fond quand
# on lui donne quatre fois plus d'époques. À $T = 20$, la prédiction est presque plate, mais ses petites différences suivent les
# logits. (Le facteur $T^2$ n'y est pour rien : sans étiquettes, il multiplie toute la perte, et Adam ne voit pas une telle constante.)
#
# Un grand biais achète du rappel au prix de l'erreur. Voici le prix, biais par biais, à 30 époques ; le curseur le parcourt.

# %% tags=["hide-input"]
from kdcourse.plots import plot_bias_sweep
from kdcourse.widgets import BiasExplorer

panels = {name: (*mystic["30 époques"][name], role)
          for name, role in zip(names, ("student", "distilled", "neutral"))}
display(plot_bias_sweep(biases, panels, label=3))
BiasExplorer(biases, panels, label=3)

# %% [markdown]
# Trait plein : le rappel des 3. Tirets : l'erreur globale. Les petites barres du bas sont les biais réglés, une par graine.
#
# - Au milieu ($T = 20$), l'erreur **descend** pendant que le rappel monte : on gagne plus de 3 qu'on ne perd d'autres chiffres. Un biais
#   de 5 donnerait au test bien plus de rappel pour une erreur voisine ; mais le choisir, ce serait régler sur le test.
# - À gauche (seul), le rappel ne monte que si l'erreur monte aussi. Avant, l'erreur ne dépend presque pas du biais : pour
#   la plupart des graines, le biais réglé n'est que le milieu d'un plateau.
# - À droite ($T = 1$), l'erreur ne baisse presque pas ; là aussi, plusieurs biais réglés sont au milieu d'un plateau.
#
# Amenez le curseur de 5 à 15 : les trois rappels montent, et les trois erreurs aussi. Un rappel cité sans son erreur ne prouve
# rien : c'est pourquoi le tableau donne les deux.
#
# <details><summary>Les chiffres de l'article</summary>
#
# Sur MNIST : 10 000 images de test, dont 1 010 chiffres 3.
#
# | Hinton, Vinyals et Dean 2015, section 3 | erreurs | dont sur les 3 |
# |---|---|---|
# | student distillé, rien de retiré | 74 | non donné |
# | student distillé qui n'a jamais vu de 3 | 206 | 133 |
# | le même, biais du 3 relevé de 3,5 (réglé sur le test) | 109 | 14, soit 98,6 % de 3 reconnus |
#
# Ce sont leurs mesures, pas les nôtres : d'autres images, d'autres réseaux. Chez eux, la plupart des 3 sont reconnus avant tout
# réglage.
# </details>
#
# ## Où l'on distille aujourd'hui
#
# L'idée est plus vieille que le mot : Buciluă et al. (2006) compressaient déjà un ensemble de modèles ; Ba et Caruana (2014), un réseau
# profond. Aujourd'hui, le langage : DistilBERT garde 97 % des résultats de BERT avec 40 % de paramètres en moins (Sanh et al., 2019). La parole :
# Distil-Whisper va près de six fois plus vite que Whisper, et son taux d'erreur reste à moins d'un point du sien
# (Gandhi et al., 2023). La
# détection d'objets : Chen et al. (2017) y ont adapté les pertes de ce chapitre et du 10.3. Les petits modèles de langage : ceux de
# Gemma 2 apprennent les probabilités d'un grand, token après token (Gemma Team, 2024). Partout, le même geste :
# apprendre aussi des sorties d'un grand modèle.
#
# ## Chasse au bug
#
# Un collègue a recopié une perte. Il refait le 3 mythique en 20 époques, avec le biais du 3 relevé de 5, sans le
# régler : seule compte ici la comparaison. Rien ne plante, la perte descend, et son student ne reconnaît aucun 3. Lisez sa perte,
# et cherchez avant de dérouler la réponse, qui contient aussi la mesure de la perte réparée.

# %%
def colleague_loss(student, teacher, labels, temperature=20.0, alpha=1.0):
    log_student = F.log_softmax(student / temperature, dim=-1)
    log_teacher = F.log_softmax(teacher / temperature, dim=-1)
    kl = (log_teacher.exp() * (log_teacher - log_student)).sum(dim=-1).mean()
    return alpha * F.cross_entropy(student, labels) + (1 - alpha) * temperature**2 * kl

def hunt(loss_function):
    found = [train_by_hand(loss_function, no_three, three_logits, seed, 20)
             for seed in seeds]
    with torch.no_grad():
        logits = torch.stack([student(digits.test.images) for student in found])
    sweep = bias_sweep(logits, digits.test.labels, 3, biases=torch.tensor([5.0]))
    return [mean_interval(values[:, 0]) for values in sweep]

recall, error = hunt(colleague_loss)
say(f"Chez le collègue, rappel des 3 : {recall} %. Erreur globale : {error} %.")

# %% tags=["hide-input", "repair"]
def repaired_loss(student, teacher, labels):
    return distillation_loss(student, teacher, labels, temperature=20.0, alpha=1.0)

recall, error = hunt(repaired_loss)
say("<details><summary><b>La réponse</b></summary>", """
Les deux poids sont échangés. Avec `alpha=1.0`, cette perte n'est faite **que**
d'étiquettes : le teacher n'y entre pas. Le symptôme est celui du student sans teacher :
rien d'autre que le 3 ne trahit l'erreur.

Les deux conventions existent : certains articles écrivent $\\alpha$ devant les
étiquettes. Dans ce cours, $\\alpha$ pondère **toujours** la distillation.""",
    f"La perte réparée, rappel des 3 : {recall} %. Erreur globale : {error} %.",
    "</details>")

# %% [markdown]
# ## À vous de jouer
#
# Chaque vérification est immédiate, et reconnaît les erreurs classiques.
#
# **Exercice 10.1 a.** Écrivez `soften(logits, temperature)`, qui rend la prédiction adoucie, `(B, C)` vers `(B, C)`.
#
# **Exercice 10.1 b.** Le curseur le montrait : chaque image demande sa température. Écrivez `temperature_for(logits, share)` : pour
# chaque image, la température à laquelle les classes autres que la première pèsent ensemble `share` (0,2 par exemple) ;
# `(B, C)` vers `(B,)`. Ce poids croît avec $T$ : cherchez par dichotomie, une par image. La réponse peut être plus petite que 1, ou
# dépasser 20.

# %% tags=["nbval-check-output"]
from kdcourse import check

def soften(logits, temperature):
    ...  # à compléter

def temperature_for(logits, share):
    ...  # à compléter

_ = check("10.1 a", soften), check("10.1 b", temperature_for)

# %% [markdown]
# <details><summary>Une solution de 10.1 a</summary>
#
# ```python
# def soften(logits, temperature):
#     return torch.softmax(logits / temperature, dim=-1)
# ```
# </details>
# <details><summary>Une solution de 10.1 b</summary>
#
# ```python
# def temperature_for(logits, share):
#     low = torch.full((len(logits), 1), -10.0)  # logarithmes de T
#     high = -low
#     for _ in range(60):
#         middle = (low + high) / 2
#         rest = 1 - torch.softmax(logits / middle.exp(), dim=-1).amax(dim=-1, keepdim=True)
#         low = torch.where(rest < share, middle, low)
#         high = torch.where(rest < share, high, middle)
#     return middle.exp()[:, 0]
# ```
#
# C'est une dichotomie, une par image : on garde la moitié où la réponse se trouve.
# </details>
#
# **Exercice 10.1 c. Prévoir, changer, lire.** À 1 000 images et 300 pas, *Seul ou distillé* ne montrait presque aucun gain. Un
# étourdi a maintenant annoté les images du student : une étiquette sur cinq est tirée au hasard (`noisy`). Le
# teacher n'a pas changé, et $T = 4$, $\alpha = 0{,}9$. Que devient le gain ?
#
# 1. Écrivez votre prévision : `"gain"`, `"recul"` ou `"rien d'établi"`.
# 2. Complétez `experiment`, qui rend les dix gains appariés au test. Exécutez : l'intervalle s'affiche.
# 3. Écrivez ce qu'il dit dans `reading`, avec les mêmes mots.

# %% tags=["nbval-check-output"]
from kdcourse import Split

g = torch.Generator().manual_seed(0)
wrong = torch.rand(1000, generator=g) < 0.2
drawn = torch.randint(10, (1000,), generator=g)
noisy = Split(digits.train.images, torch.where(wrong, drawn, digits.train.labels))
prediction = ...  # avant d'exécuter

def experiment():
    ...  # à compléter

reading = ...  # après
_ = check("10.1 c", prediction, experiment, reading)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# prediction = "gain"
#
# def experiment():
#     students = train_many(digits_student, noisy, teacher_logits, epochs=30,
#                           **grid(temperatures=4, alphas=[0, 0.9], seeds=seeds))
#     alone, distilled = students.table(digits.test)
#     return alone - distilled
#
# reading = "gain"
# ```
#
# Le teacher n'a pas vu ces étiquettes fausses : il les corrige, et il tient 90 % du poids.
# </details>
#
# ## Quiz
#
# Choisissez, puis déroulez l'option.
#
# **1. Qu'imite le student quand $\alpha = 0$ ?**
#
# <details><summary>Les étiquettes seules</summary>Oui : il ne reste que l'entropie croisée avec l'étiquette, à T = 1. C'est le student « seul ».</details>
# <details><summary>Les probabilités du teacher</summary>Non : ce terme est pondéré par α, donc nul ici.</details>
# <details><summary>La première classe du teacher</summary>Non : sur ces images d'entraînement elle coïncide avec l'étiquette, mais la perte ne la lit jamais.</details>
#
# **2. On monte la température. Que devient la prédiction du teacher ?**
#
# <details><summary>Sa première classe change</summary>Non : diviser tous les logits par T ne change pas leur ordre.</details>
# <details><summary>Elle devient plus juste</summary>Non : l'ordre ne change pas, donc l'erreur non plus.</details>
# <details><summary>Elle se rapproche de l'uniforme</summary>Oui : l'entropie monte vers ln 10, et les classes secondaires deviennent visibles.</details>
#
# **3. On remplace la KL par l'entropie croisée avec les probabilités du teacher. Qu'est-ce qui change ?**
#
# <details><summary>Le student n'imite plus le teacher</summary>Non : les gradients sont égaux, l'apprentissage aussi.</details>
# <details><summary>La valeur de la perte, pas son gradient</summary>Oui : elles diffèrent de l'entropie du teacher, qui ne dépend pas du student.</details>
# <details><summary>Il faut les étiquettes</summary>Non : les probabilités du teacher tiennent leur place.</details>
# <details><summary>Le facteur T² devient inutile</summary>Non : le gradient est le même, il rétrécit de la même façon quand T monte.</details>
#
# **4. Relevez assez le biais : à 30 époques, le student distillé à T = 1 reconnaît presque tous les 3. Est-ce la preuve qu'il les a appris ?**
#
# <details><summary>Oui, puisqu'il les reconnaît</summary>Non : à ce biais, il répond « 3 » à beaucoup d'images qui n'en sont pas.</details>
# <details><summary>Non, parce qu'il n'en a vu aucun</summary>Non : le student à T = 20 n'en a vu aucun non plus, et son erreur descend quand son rappel monte.</details>
# <details><summary>Pas sans l'erreur globale à côté</summary>Oui : un rappel s'achète, l'erreur en est le prix.</details>
#
# **5. Une mesure à un seul budget : « à 1 000 images, la distillation ne sert à rien ». Que répondez-vous ?**
#
# <details><summary>Au budget que vous avez essayé : donnez plus de pas</summary>Oui : à 300 pas, le gain n'est pas établi ; à 1 200, il l'est.</details>
# <details><summary>C'est vrai : les étiquettes suffisent</summary>Non : avec plus de pas, le student distillé passe devant.</details>
# <details><summary>Il fallait plus de graines</summary>Pas d'abord : dix graines donnent ici des intervalles étroits ; ce sont les pas qui manquaient.</details>
#
# **6. Un faux teacher garde sa première classe et brasse les neuf autres. À 100 images et 1 200 pas, que devient le student ?**
#
# <details><summary>Il gagne autant : seule la première classe compte</summary>Non : le teacher vague a la même première classe, et il fait gagner. Ce que l'on dit des neuf autres compte.</details>
# <details><summary>Il perd : il apprend une hiérarchie fausse</summary>Oui : la figure le montre, et le vrai teacher, lui, fait gagner.</details>
# <details><summary>Rien ne change : la température lisse tout</summary>Non : à T = 4, les autres classes pèsent assez pour aider, ou pour nuire.</details>
#
# ## Sur GPU
#
# La fonction `train_many` suit les données : sur un GPU, elle entraîne des centaines de students au lieu de dizaines. Un student trop
# gros pour que l'on en empile des centaines s'entraîne par `distill` : sur un GPU ou plusieurs, époque par époque, et une session
# coupée reprend où elle s'est arrêtée. Avec un GPU, la cellule prend MNIST et les réseaux de Hinton ; sans GPU, nos chiffres.

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
                          choice=Choice(alpha=0.9), batch_size=100,
                          epochs=20 if on_gpu else 100,
                          learning_rate=0.001 if on_gpu else 0.003,
                          output="runs/10_01" if on_gpu else None)
    errors_big = torch.tensor([model_error(model, data.test) for model in found])
    say(f"{method} : erreur de test {mean_interval(errors_big)} %, trois graines.")

# %% [markdown]
# Trois graines donnent une indication, pas un résultat : l'intervalle le dit. (Sans GPU, 100 pas : c'est près du budget où distiller faisait
# perdre.) Hors du notebook, la même fonction est une
# commande, qu'`accelerate launch` partage entre plusieurs GPU :
# `python -m kdcourse.train --data mnist --method KD --temperature 20 --alpha 0.7`.
#
# ## À retenir

# %% tags=["hide-input"]
from kdcourse.plots import plot_field_map

too_soon = mean_interval(-gains["100 images"][1, 0])
say(f"""
- Le teacher en sait plus que l'étiquette : à température élevée, ses probabilités
  classent *toutes* les classes.
- Avec 100 images et 300 pas, le teacher ôte {points(gain)} d'erreur au même
  student.
- Imiter demande des pas : à 80 pas et 100 images, le même réglage coûte au
  contraire {points(too_soon)}.
- À 100 images et 1 200 pas, la hiérarchie des classes vaut {points(worth)}, devant
  un teacher qui n'en dit rien.
- Distillé 120 époques à $T = 20$, puis un seul biais réglé, un student reconnaît
  {reached} % des 3 qu'il n'a jamais vus, et se trompe moins que le student seul.

Imiter les logits n'est qu'une façon de guider. Les chapitres suivants en mesurent
d'autres.
""")
plot_field_map()

# %% [markdown]
# <details><summary>Ce que chaque chapitre compare, et ce qu'il lui faut</summary>
#
# | Chapitre | Ce que l'on compare | Ce qu'il faut |
# |---|---|---|
# | 10.2 Logits | les prédictions | les sorties du teacher, rien d'autre |
# | 10.3 Features | les cartes intermédiaires | l'intérieur du teacher, et un adaptateur |
# | 10.4 Relations | les ressemblances entre exemples | l'embedding du teacher, et un lot assez grand |
# | 10.5 Auto-distillation | les prédictions d'hier et d'aujourd'hui | le student lui-même, plus tôt |
# | 10.6 Compression | un teacher et sa version en tenseurs | les poids du teacher |
# </details>
#
# ## Références
#
# - G. Hinton, O. Vinyals, J. Dean, *Distilling the Knowledge in a Neural Network*, 2015,
#   [arXiv:1503.02531](https://arxiv.org/abs/1503.02531). La température (section 2), le 3 mythique (section 3).
# - C. Buciluă, R. Caruana, A. Niculescu-Mizil, *Model Compression*, KDD 2006,
#   [doi:10.1145/1150402.1150464](https://doi.org/10.1145/1150402.1150464). L'idée, avant le nom.
# - J. Ba, R. Caruana, *Do Deep Nets Really Need to be Deep?*, 2014, [arXiv:1312.6184](https://arxiv.org/abs/1312.6184).
# - S. Mirzadeh et al., *Improved Knowledge Distillation via Teacher Assistant*, 2020,
#   [arXiv:1902.03393](https://arxiv.org/abs/1902.03393). L'écart de capacité.
# - V. Sanh et al., *DistilBERT*, 2019, [arXiv:1910.01108](https://arxiv.org/abs/1910.01108) ; S. Gandhi et al., *Distil-Whisper*, 2023,
#   [arXiv:2311.00430](https://arxiv.org/abs/2311.00430) ; G. Chen et al., *Learning Efficient Object Detection Models with
#   Knowledge Distillation*, NeurIPS 2017 ; Gemma Team, *Gemma 2*, 2024, [arXiv:2408.00118](https://arxiv.org/abs/2408.00118).
# - *Optical Recognition of Handwritten Digits*, UCI, 1998, [doi:10.24432/C50P49](https://doi.org/10.24432/C50P49).
#
# **La suite** : 10.2 ouvre la perte : pourquoi $T^2$, et quelle température choisir.
