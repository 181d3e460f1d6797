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
# # 10.5 Auto-distillation
#
# **Peut-on être son propre teacher ?**
#
# Un étudiant veut se passer de teacher : il distille dans le modèle ce que ce modèle pensait un instant plus tôt. Son code a un
# bug, que vous lirez plus bas. Et son modèle se trompe **moins**. Il aurait pu publier.
#
# ![À gauche, l'erreur de test du student seul et du student au bug, à deux budgets : le bug se trompe moins aux deux. À droite, l'exactitude selon la confiance : le student seul est près de la diagonale, celui du bug loin au-dessus, il a presque toujours raison et ne l'annonce pas.](attachment:ouverture.png)
#
# À gauche, le gain. À droite, ce qui le trahit : ce modèle annonce bien moins de confiance qu'il n'en mérite. Ce chapitre explique les
# deux, puis répare, et mesure si un modèle apprend vraiment de lui-même.

# %% tags=["bootstrap", "hide-input"]
from kdcourse import describe_environment, say

say(describe_environment())

# %% [markdown]
# ## Objectifs
#
# À la fin de ce chapitre, vous saurez :
#
# - reconnaître ce qu'une auto-distillation (*self-distillation*) enseigne vraiment ;
# - mesurer la calibration d'un modèle, et la réparer après coup ;
# - juger un gain à plusieurs budgets, avant de payer un teacher ou de s'en passer ;
# - employer PS-KD et Born-Again, et dire ce que ces méthodes apportent ici.
#
# **Durée : une heure.** Le notebook entier s'exécute en un peu plus d'une minute.
#
# **Prérequis** : [10.1](10_01_Principes.ipynb) (sa perte, ses réglages $T$ et $\alpha$, sa fonction `train_many`).
#
# <details><summary>Les mots de ce chapitre</summary>
#
# | Mot | Sens |
# |---|---|
# | auto-distillation | apprendre de ses propres prédictions, antérieures |
# | confiance | la plus grande probabilité qu'annonce un modèle |
# | exactitude | la part de bonnes réponses |
# | calibré (*calibrated*) | qui a raison huit fois sur dix quand il annonce 80 % |
# | gain | erreur du student seul, moins celle du student comparé, de même graine ; en points |
# | pas, budget | une mise à jour des poids ; leur nombre |
# | génération | un réseau d'une lignée, instruit par celui d'avant |
# </details>
#
# ## Une idée séduisante
#
# Pas de teacher sous la main ? Gardons les logits précédents du modèle, et distillons-les dans les suivants. `SelfDistillation` est la
# perte de 10.1, où le teacher est le modèle antérieur : $\alpha\,\mathrm{KD} + (1-\alpha)\,\mathrm{CE}$. Nous prenons $T = 1$ et
# $\alpha = 0{,}3$, fixés d'avance.

# %%
import torch
import torch.nn.functional as F
from kdcourse import Batches, SelfDistillation, digits_student, initial_model
from kdcourse import load_dataset

torch.set_num_threads(1)  # deux fils ne gagnent rien ici
digits = load_dataset("digits")
self_loss = SelfDistillation(temperature=1.0)

def from_previous_batch():
    memory = {}
    def loss(model, images, labels, indices):
        logits = model(images)
        previous, memory["logits"] = memory.get("logits"), logits.detach()
        if previous is None:  # le tout premier lot
            return F.cross_entropy(logits, labels)
        return self_loss(logits, previous, labels, alpha=0.3).total
    return loss

# %% [markdown]
# Cherchez le bug, et gardez votre réponse : elle suit la première figure.
#
# ## L'expérience
#
# Deux régimes : 1 000 images (60 époques, 600 pas) et 100 images (300 époques d'un seul lot, 300 pas). Dix graines, les mêmes pour
# toutes les méthodes. Le bug s'entraîne ici sur 1 000 images ; les autres budgets et régimes ont été mesurés à part, par le même code,
# et nous les relisons.
#
# La boucle est ordinaire : `Batches` donne à une graine les mêmes lots de cent images que `train_many`. `record` garde les logits de dix
# students ; `errors`, `ece` et `gain` les lisent (l'ECE est expliquée plus bas).

# %%
def train(loss, data, seed, epochs, model=None):
    model = model or initial_model(digits_student, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)  # plus rapide
    batches = Batches(data, seed)
    for _ in range(epochs):
        for batch in batches:  # images, étiquettes, indices des images
            optimizer.zero_grad()
            loss(model, *batch).backward()
            optimizer.step()
    return model.eval()

# %%
from kdcourse import error_rate, expected_calibration_error, mean_interval

outputs = {}  # (images, méthode) → partie → logits (graines, images, classes)

def record(size, name, models):
    outputs[size, name] = {
        part: torch.stack([model(getattr(digits, part).images) for model in models])
        .detach() for part in ("validation", "test")}

def errors(size, name, part="test"):
    return error_rate(outputs[size, name][part], getattr(digits, part).labels)

def ece(size, name):
    return expected_calibration_error(outputs[size, name]["test"], digits.test.labels)

def gain(size, name, part="test", other="seul"):
    return mean_interval(errors(size, other, part) - errors(size, name, part))

# %%
from kdcourse import train_many
from kdcourse.measures import SelfDistillationBudgets

stored = SelfDistillationBudgets.load()
seeds, regimes = list(range(10)), {1000: 60, 100: 300}  # images : époques
hundred = digits.train.where(slice(0, 100))
for data, (size, epochs) in zip((digits.train, hundred), regimes.items()):
    record(size, "seul", train_many(digits_student, data, seeds=seeds, epochs=epochs))
bugged = [train(from_previous_batch(), digits.train, seed, epochs=60) for seed in seeds]
record(1000, "bug", bugged)

# %% tags=["hide-input", "opening"]
from IPython.display import display
from kdcourse import french, points
from kdcourse.plots import plot_bargain

shown, old = {"seul": "student", "bug": "neutral"}, "lot précédent"
bars = {"600 pas": {name: errors(1000, name) for name in shown},
        "2 400 pas (enregistré)": {"seul": stored.values(1000, "seul", 2400),
                                   "bug": stored.values(1000, old, 2400)}}
models = {name: (outputs[1000, name]["test"], role) for name, role in shown.items()}
told = 100 * models["bug"][0].softmax(-1).max(-1).values.mean().item()
right = 100 - errors(1000, "bug").mean().item()
display(plot_bargain(bars, models, digits.test.labels, (
    f"Le bug gagne {points(gain(1000, 'bug').mean)}, mais annonce "
    f"{french(told, 0)} % quand il a raison {french(right, 0)} % du temps")))
later = [mean_interval(stored.gain(1000, old, 2400, part))
         for part in ("test", "validation")]
say(f"À 600 pas, le bug gagne {points(gain(1000, 'bug'))} sur le test. "
    f"Sur la validation, {points(gain(1000, 'bug', 'validation'))}.",
    f"À 2 400 pas, {points(later[0])} sur le test. "
    f"Sur la validation, {points(later[1])}.")

# %% [markdown]
# Le bug gagne aux deux budgets, en validation comme sur le test : sans teacher, sans un paramètre de plus. (Les intervalles portent
# sur les graines ; ils ignorent l'échantillonnage des images.)
#
# Voici le bug. `previous` contient les logits du **lot d'avant**, ceux d'autres images, et la perte les met face à celles
# d'aujourd'hui, rang par rang (la figure suivante montre d'abord ce face-à-face). L'image d'un chiffre apprend ce que le modèle pensait d'un autre. Cela ne devrait rien enseigner de bon. (Avec 100 images, un seul lot
# par époque : ce sont les mêmes images, mais remélangées, et le rang d'hier n'est presque jamais celui d'aujourd'hui.)
#
# **À vous de parier** : d'où vient le gain ?
#
# ## Ce que le student a vraiment appris
#
# Regardons la cible. À $T = 1$, cette perte revient à remplacer l'étiquette $y$ par la distribution
# $q_c = (1 - \alpha)\,\mathbb{1}[c = y] + \alpha\,p_c$, où $p$ est la prédiction venue du lot d'avant. Figeons l'un des modèles que
# nous venons d'entraîner, et moyennons cette cible sur tous les 3, en vingt passages.

# %%
from kdcourse import label_smoothing_probabilities
from kdcourse.plots import plot_batch_pairing, plot_targets

first, second, *_ = Batches(hundred, seed=0, batch_size=6)
display(plot_batch_pairing(first[0], second[0]))
seen, previous, batches = [], None, Batches(digits.train, seed=0)
for _ in range(20):
    for images, labels, _ in batches:
        current = bugged[0](images).softmax(dim=-1).detach()
        if previous is not None:
            target = 0.7 * F.one_hot(labels, 10) + 0.3 * previous
            seen.append(target[labels == 3])
        previous = current
smooth = label_smoothing_probabilities(torch.tensor([3]), 10, smoothing=0.3)
plot_targets({"bug, en moyenne": torch.cat(seen).mean(dim=0),
              "lissage d'étiquettes": smooth[0]}, 3,
             "En moyenne, le bug enseigne une étiquette lissée")

# %% [markdown]
# Les deux cibles se ressemblent. Les autres images sont tirées au hasard : en moyenne, leurs prédictions se répartissent entre les
# dix classes. La perte étant linéaire en la cible, le student apprend, en moyenne, une étiquette **adoucie vers l'uniforme**. Cette
# cible a un nom, le lissage d'étiquettes (*label smoothing*) :
#
# $$q_c = (1 - \varepsilon)\,\mathbb{1}[c = y] + \varepsilon / C, \qquad \varepsilon = \alpha.$$
#
# Le bug serait un lissage déguisé. Vérifions avec le vrai. Pour lisser, nous donnons à `train_many` un teacher dont **tous les
# logits sont nuls** : il répond l'uniforme à tout. Lisser, c'est distiller un teacher qui ne sait rien (Yuan et al., 2020).

# %%
from kdcourse import kd_loss

student, labels = torch.randn(6, 10), torch.arange(6)
smoothed = F.cross_entropy(student, labels, label_smoothing=0.3)
ignorant = 0.3 * kd_loss(student, torch.zeros(6, 10), 1.0)
ignorant = ignorant + 0.7 * F.cross_entropy(student, labels)
# égales à une constante près, l'entropie de l'uniforme
torch.testing.assert_close(smoothed, ignorant + 0.3 * torch.tensor(10.0).log())

def taught(teacher_logits, temperature, alpha):
    return train_many(digits_student, digits.train, teacher_logits, seeds=seeds,
                      temperatures=temperature, alphas=alpha, epochs=60)

nothing = torch.zeros(1000, 10)
record(1000, "lissage", taught(nothing, temperature=1.0, alpha=0.3))

# %% tags=["hide-input"]
from kdcourse import markdown_table, thousands

rows = []
for size, steps in ((1000, 600), (1000, 2400), (100, 300), (100, 1200)):
    for name in (old, "lissage"):
        found = [stored.gain(size, name, steps, p) for p in ("validation", "test")]
        shown_name = "bug" if name == old else name
        rows.append([size, thousands(steps), shown_name, *map(mean_interval, found)])
apart = mean_interval(stored.gain(1000, "lissage", 2400, other=old))
header = ["images", "pas", "méthode", "gain, validation", "gain, test"]
hundreds = mean_interval(stored.gain(100, "lissage", 300, other=old))
say(markdown_table(header, rows), f"Ces gains ont été {stored.origin}.",
    "Le lissage devance le bug de "
    f"{points(gain(1000, 'lissage', other='bug'))} au test, à 1 000 images et 600 pas "
    f"(mesuré ici). À 2 400 pas, de {points(apart)} (enregistré). "
    f"À 100 images et 300 pas, de {points(hundreds)}.")

# %% [markdown]
# Avec 1 000 images, le vrai lissage gagne lui aussi, aux deux budgets, et rien d'établi ne le sépare du bug : voilà la réponse au pari.
# Rien n'indique que ce gain doive quoi que ce soit au passé du modèle. Avec 100 images, la validation n'établit aucun gain, et celui du
# test n'est plus établi quand l'entraînement s'allonge. À 300 pas, le lissage y devance pourtant le bug au test : sur si peu d'images,
# l'équivalence ne tient qu'en moyenne, et nous n'expliquons pas cet écart.
#
# ## Ce qui trahit le bug : la calibration
#
# L'erreur ne trahit rien. Mais un modèle annonce aussi une **confiance**, sa plus grande probabilité. Pour juger si elle dit vrai, l'erreur de
# calibration attendue (*expected calibration error*, ECE) range les $N$ images par tranches de confiance, quinze ici, et moyenne les
# écarts entre confiance et exactitude, chaque tranche comptant pour ses $n_k$ images :
#
# $$\mathrm{ECE} = \sum_k \frac{n_k}{N}\, \big|\text{exactitude}_k - \text{confiance}_k\big|.$$

# %% tags=["hide-input"]
from kdcourse.plots import plot_reliability

shown = {"seul": "student", "bug": "neutral", "lissage": "other"}
worse = ece(1000, "bug").mean() / ece(1000, "seul").mean()
display(plot_reliability(
    {name: (outputs[1000, name]["test"], role) for name, role in shown.items()},
    digits.test.labels,
    f"1 000 images, test : le bug multiplie l'ECE par {french(worse, 0)}"))
apart = mean_interval(ece(1000, "bug") - ece(1000, "seul"))
later = mean_interval(-stored.gain(1000, old, 2400, kind="ece"))
say(f"Le bug ajoute {points(apart)} d'ECE au student seul à 600 pas. "
    f"À 2 400 pas, il en ajoute {points(later)}.")

# %% [markdown]
# Le student seul suit à peu près la diagonale. Le bug et le lissage sont loin au-dessus : ils ont presque toujours raison, et ne
# l'annoncent pas. C'est le prix de la cible : à force d'apprendre « 73 % pour le 3, et un peu pour tous », le modèle n'ose guère
# davantage. Si l'on confie à un humain tous les cas annoncés sous 90 %, il les verra presque tous.
#
# ## La réparation : la même image
#
# L'idée de départ mérite d'être essayée telle qu'elle était pensée. Il manquait l'indice de l'image : `from_same_image`, ci-dessous,
# range les prédictions d'hier à leur place. Deux variantes sont dans le paquet.
#
# - `progressive_self_distillation` garde une **photographie** du modèle à la fin de chaque époque, et la réinterroge sur chaque lot.
#   Pas d'indice à tenir, mais un passage de plus.
# - `ps_kd` est PS-KD (*progressive self-knowledge distillation*, Kim et al., 2021). Elle range les prédictions d'une époque, et leur
#   donne un poids qui croît, car les premières ne valent rien. L'époque $e$ va de 1 à $E$ :
#
# $$q_{bc} = (1 - \alpha_e)\,\mathbb{1}[c = y_b] + \alpha_e\, p^{e-1}_{bc}, \qquad \alpha_e = 0{,}8 \, e / E,$$
#
# où $p^{e-1}_{bc}$ est ce que le modèle disait de la même image à l'époque d'avant. Entraînons les trois sur 100 images ; la figure
# qui suit montre 1 000 images, le régime où le bug gagnait, mesuré d'avance.

# %%
def from_same_image(count):
    memory = torch.full((count, 10), torch.nan)  # une ligne par image
    def loss(model, images, labels, indices):
        logits = model(images)
        previous, memory[indices] = memory[indices], logits.detach()
        if previous.isnan().any():  # la première époque
            return F.cross_entropy(logits, labels)
        return self_loss(logits, previous, labels, alpha=0.3).total
    return loss

record(100, "même image", [
    train(from_same_image(100), hundred, seed, epochs=300) for seed in seeds])

# %%
from kdcourse import progressive_self_distillation, ps_kd

def trained_by(method, seed, **settings):
    model = initial_model(digits_student, seed)
    method(model, Batches(hundred, seed), epochs=300, learning_rate=3e-3, **settings)
    return model

snapshots = {"alpha": 0.3, "temperature": 1.0}  # les réglages de la première perte
record(100, "photographie", [
    trained_by(progressive_self_distillation, seed, **snapshots) for seed in seeds])
record(100, "PS-KD", [trained_by(ps_kd, seed) for seed in seeds])

# %% tags=["hide-input"]
from kdcourse.plots import plot_two_axes

names = {"seul": ("seul", "student"), "bug": (old, "neutral"),
         "lissage": ("lissage", "other"), "même image": ("même exemple", "distilled"),
         "PS-KD": ("PS-KD", "distilled")}
display(plot_two_axes({name: (*(stored.values(1000, method, 600, kind=kind)
                                for kind in ("error", "ece")), role)
                       for name, (method, role) in names.items()},
                      "1 000 images, 600 pas (enregistré) : "
                      "la même image rend la calibration, pas le gain"))
three = ("même image", "photographie", "PS-KD")
calm = [french(ece(100, name).mean()) for name in ("seul", "PS-KD")]
say("Mesuré ici, avec 100 images et 300 pas, le gain au test :",
    *(f"- {name} : {points(gain(100, name))}" for name in three),
    f"L'ECE du student seul y est de {calm[0]} %, celle de PS-KD de {calm[1]} %.")

# %% tags=["hide-input"]
rows = []
for size, steps in ((1000, 600), (1000, 2400), (100, 300), (100, 1200)):
    for name, method in zip(three, ("même exemple", "photographie", "PS-KD")):
        found = [stored.gain(size, method, steps, "validation"),
                 stored.gain(size, method, steps),
                 stored.gain(size, method, steps, kind="ece")]
        rows.append([size, thousands(steps), name, *map(mean_interval, found)])
table = markdown_table(["images", "pas", "méthode", "gain, validation", "gain, test",
                        "baisse de l'ECE, test"], rows)
say("<details><summary>Les trois, à deux budgets, enregistrées</summary>\n\n"
    f"{table}\n\n</details>")

# %% [markdown]
# La même image ramène la calibration du student seul, et son erreur avec. Réparée, l'idée de départ n'apprend rien de plus ici : dans
# le tableau plié, aucune des trois variantes n'établit de gain d'erreur, à aucun des deux budgets. Avec 100 images, PS-KD améliore un peu
# la calibration, aux deux budgets.
#
# Les auteurs de PS-KD mesurent bien davantage sur CIFAR-100, avec un réseau profond (PreAct-ResNet-18 : erreur de 24,18 à 20,82 %, ECE de
# 11,84 à 1,77 %). D'où vient l'écart avec nos petits réseaux ? Nous ne l'avons pas mesuré.
#
# ## Le teacher vaut-il son prix ?
#
# Un teacher qui ne sait rien fait gagner. Combien gagne-t-on avec un teacher qui sait ? Voici celui de 10.1, qui a appris sur les
# mêmes 1 000 images, avec ses réglages, autres que ceux du lissage : $T = 4$, $\alpha = 0{,}9$.
#
# **À vous de parier** : à 600 pas, lequel gagne le plus ? Et avec huit fois plus de pas ?

# %%
from kdcourse import digits_teacher, french, markdown_table, say, train_one

teacher = train_one(digits_teacher, digits.train, epochs=30)
teacher_logits = teacher(digits.train.images).detach()
record(1000, "teacher", taught(teacher_logits, temperature=4.0, alpha=0.9))

# %% tags=["hide-input"]
from kdcourse.plots import plot_budgets
roles = {"lissage": "other", "teacher": "teacher"}
panels = {f"1 000 images, {part}": (stored.steps(1000), {
    name: (stored.gains(1000, name, part), role) for name, role in roles.items()})
    for part in ("validation", "test")}
ahead = {steps: mean_interval(stored.gain(1000, "teacher", steps, other="lissage"))
         for steps in stored.steps(1000)}
near, far = (mean_interval(stored.gain(1000, "teacher", n, "validation", "lissage"))
             for n in (600, 4800))
display(plot_budgets(panels, (
    f"Le lissage est devant de {points(-ahead[600].mean)} à 600 pas (test) ; "
    "à 4 800, son avance a disparu")))
live = gain(1000, "teacher", other="lissage")
few = [mean_interval(stored.gain(100, "teacher", steps)) for steps in (300, 1200)]
say(f"Gain du teacher sur le lissage, test : {points(live)} à 600 pas, mesuré ici. "
    f"À 2 400 pas (enregistré), {points(ahead[2400])}. "
    f"À 4 800 (enregistré), {points(ahead[4800])}.",
    f"Sur la validation : {points(near)} à 600 pas. À 4 800, {points(far)}.",
    f"Avec 100 images (enregistré), le teacher gagne {points(few[0])} sur le student "
    f"seul à 300 pas. À 1 200, {points(few[1])}.")

# %% [markdown]
# À 600 pas, celui qui ne sait rien fait mieux que celui qui sait, en validation comme sur le test. À 150 pas, le teacher fait même
# perdre. On conclurait : « avant de payer un teacher, lissez ». Ce serait se fier à un seul budget : les courbes se rejoignent, et à
# 4 800 pas le test favorise le teacher, quand la validation ne tranche pas. Avec 100 images, un teacher qui en a vu 1 000 gagne
# bien davantage que le lissage, aux deux budgets.
#
# ## Pourquoi le teacher est-il lent ici ?
#
# Une piste : le teacher est très sûr de ces images, qu'il a apprises. Mesurons sa confiance, et la taille de ses logits.

# %%
modest = teacher_logits / 4  # le même savoir, quatre fois moins affirmé
sure = {"teacher": teacher_logits, "logits divisés par 4": modest}
rows = [[name, *(french(100 * (z / T).softmax(-1).max(-1).values.mean(), 1)
                 for T in (1, 4, 20)), french((z.max(-1).values - z.mean(-1)).mean())]
        for name, z in sure.items()]
say(markdown_table(["confiance moyenne, en %", "à T = 1", "à T = 4", "à T = 20",
                    "logit du premier, moins la moyenne (nats)"], rows))
record(1000, "logits / 4", taught(modest, temperature=4.0, alpha=0.9))

# %% [markdown]
# À $T = 1$, le teacher redit presque l'étiquette. À $T = 4$, sa cible est douce, mais elle n'est pas plus facile à atteindre : on compare
# $\mathrm{softmax}(z^t / 4)$ à $\mathrm{softmax}(z^s / 4)$, et ces prédictions ne sont égales que si les logits le sont, à une constante
# près. Le student, dont les logits partent près de 0, doit donc creuser tout l'écart de la dernière colonne. (À $T = 1$ aussi ; mais
# là, presque toute la cible est l'étiquette, et il suffit de la désigner.) C'est une hypothèse, et elle se met à l'épreuve. Si elle est
# juste :
#
# - **chauffer** ne doit pas accélérer : l'écart à creuser reste le même ;
# - un teacher **moins sûr, mais qui en sait autant**, doit aller plus vite.
#
# Le premier essai divise ses logits par 4 : le savoir est le même, l'ordre des classes aussi, et l'écart est quatre fois plus petit. Le
# second est un teacher de même architecture, réentraîné avec un lissage de 0,1 : lui ne sait pas exactement la même chose.

# %% tags=["hide-input"]
from kdcourse.plots import plot_gains
tried = {"T = 1": "teacher, T = 1", "T = 4 (le nôtre)": "teacher",
         "T = 20": "teacher, T = 20", "T = 4, logits / 4": "logits / 4",
         "T = 4, teacher lissé": "teacher lissé", "lissage, sans teacher": "lissage"}
panels = {f"{n} pas": {k: stored.gain(1000, m, n) for k, m in tried.items()}
          for n in (150, 600, 4800)}
pairs = {"les logits / 4, sur le teacher": ("logits / 4", "teacher"),
         "les logits / 4, sur le lissage": ("logits / 4", "lissage"),
         "T = 20, sur T = 4": ("teacher, T = 20", "teacher"),
         "le teacher, sur le teacher lissé": ("teacher", "teacher lissé")}
quick = mean_interval(stored.gain(1000, "logits / 4", 150, other="teacher"))
places = (150, "test"), (150, "validation"), (4800, "test")
rows = [[title, *(mean_interval(stored.gain(1000, one, *at, two)) for at in places)]
        for title, (one, two) in pairs.items()]
display(plot_gains(panels, "À 150 pas, au test, les logits divisés par 4 gagnent "
                           f"{points(quick.mean)} sur le teacher"))
calm = [french(ece(1000, name).mean()) for name in ("logits / 4", "teacher")]
header = ["gain enregistré (points)", "150 pas", "150 pas, validation", "4 800 pas"]
say(markdown_table(header, rows), "À 600 pas (mesuré ici), l'ECE du student des logits "
    f"divisés par 4 est de {calm[0]} % ; celle du student du teacher, de {calm[1]} %.")

# %% [markdown]
# Les deux prévisions se vérifient. À $T = 20$, le teacher n'est pas plus rapide qu'à $T = 4$. Ses logits divisés par 4 gagnent dès
# 150 pas, là où il faisait perdre, et finissent au même point. À $T = 1$, il redit l'étiquette : il ne freine pas, mais n'apporte rien
# avant la fin. C'est donc sa certitude, à température élevée, qui ralentit ici.
#
# Deux réserves. À 150 et 600 pas, les teachers moins sûrs ne font pas mieux que le lissage, qui n'a pas de teacher. Et le teacher lissé,
# rapide au départ, finit derrière le nôtre. La dernière phrase imprimée dit ce que coûte la vitesse : le student des logits divisés par 4 n'ose
# plus annoncer sa confiance, comme le bug. Cela se répare.
#
# ## Recalibrer après coup
#
# Une confiance fausse se répare sans réentraîner : on divise les logits par une température, celle qui minimise l'entropie croisée de la
# validation (*temperature scaling*, Guo et al., 2017). Attention au mot. La température de la **distillation** adoucit deux
# prédictions pendant l'entraînement. Celle de **calibration** s'applique à un modèle fini, et ne change aucune de ses réponses.
#
# **À vous de parier** : pour le bug, faut-il une température au-dessus ou au-dessous de 1 ?

# %%
from kdcourse import tune_temperature

tuned, scaled = {}, {}
for name in ("seul", "bug", "lissage", "teacher", "logits / 4"):
    logits = outputs[1000, name]
    tuned[name] = torch.tensor([tune_temperature(z, digits.validation.labels)
                                for z in logits["validation"]])
    scaled[name] = logits["test"] / tuned[name][:, None, None]

# %% tags=["hide-input"]
from kdcourse.widgets import CalibrationExplorer

rows = []
for name, logits in scaled.items():
    after = expected_calibration_error(logits, digits.test.labels)
    rows.append([name, french(tuned[name].mean(), 2), french(ece(1000, name).mean()),
                 french(after.mean()), french(errors(1000, name).mean())])
bug_row, shown = rows[1], {**shown, "teacher": "teacher"}
display(plot_reliability(
    {name: (scaled[name], role) for name, role in shown.items()},
    digits.test.labels,
    "Une fois recalibrés, là où sont les images, les quatre suivent la diagonale"))
header = ["1 000 images, test", "T réglée", "ECE avant (%)", "ECE après (%)",
          "erreur (%)"]
say(markdown_table(header, rows))
CalibrationExplorer({name: (outputs[1000, name]["test"], role)
                     for name, role in shown.items()}, digits.test.labels)

# %% [markdown]
# Réponse : **au-dessous de 1**. Le modèle était trop prudent, il fallait durcir ses prédictions. Recalibrés, le bug et le lissage n'ont
# presque plus rien à se reprocher, et gardent leur gain ; le student rapide des logits divisés par 4 aussi. Le student seul et celui du
# teacher, eux, n'y gagnent rien : ils étaient déjà calibrés, et un réglage sur 297 images a son bruit. La morale n'est donc pas « le lissage est mauvais », mais : **dites ce que fait
# votre méthode**, et mesurez les deux axes.
#
# Dans le curseur, choisissez « lissage », puis descendez $T$ : les points rejoignent la diagonale, et l'erreur affichée ne bouge pas.
# Descendez encore : le modèle devient trop sûr, et les points passent dessous.
#
# ## Les générations : Born-Again
#
# Furlanello et al. (2018) entraînent une lignée : un réseau, puis un réseau identique distillé du premier, puis un troisième
# distillé du deuxième. Aucun grand teacher : la famille s'instruit elle-même.
#
# **À vous de parier** : la troisième génération se trompe-t-elle moins que la première ?
#
# `born_again` fige chaque génération avant d'instruire la suivante. Voici dix lignées, sur 100 images, à $T = 4$ et $\alpha = 1$ (le
# teacher seul).

# %%
from itertools import count
from kdcourse import born_again

def lineage(seed):
    numbers = count(seed, 100)  # des poids neufs à chaque génération
    return born_again(
        lambda: initial_model(digits_student, next(numbers)), Batches(hundred, seed),
        generations=3, epochs=300, temperature=4.0, alpha=1.0, learning_rate=3e-3)

lines = [lineage(seed) for seed in seeds]
with torch.no_grad():
    answers = torch.stack([
        torch.stack([one.model(digits.test.images) for one in line]) for line in lines])
born = error_rate(answers, digits.test.labels)  # (lignées, générations)

def same(a, b):  # la part de mêmes réponses, en %
    return 100 * (a.argmax(-1) == b.argmax(-1)).float().mean(dim=-1)

# %% tags=["hide-input"]
from kdcourse.plots import plot_generations

third = mean_interval(born[:, 0] - born[:, 2])
display(plot_generations({"T = 4, α = 1, 100 images, 300 pas": born}, (
    f"La troisième génération gagne {points(third.mean)} sur la première"
    if third.low > 0 else "Dix lignées n'établissent aucun gain")))
longer, checked = (mean_interval(stored.gain(100, "génération 3", 1200, part))
                   for part in ("test", "validation"))
family = mean_interval(same(answers[:, 0], answers[:, 1]))
strangers = mean_interval(same(answers[:, 0], answers[:, 0].roll(1, 0)))
by_line = [french(bound) for bound in torch.stack([born[:, 0] - born[:, 2]]).aminmax()]
say(f"La troisième génération gagne {points(third)} sur la première, au test et à "
    f"300 pas ; d'une lignée à l'autre, de {by_line[0]} à {by_line[1]}. "
    f"À 1 200 pas (enregistré), {points(longer)}.",
    f"À 1 200 pas encore, sur la validation, {points(checked)}.",
    f"Au test, une génération et la suivante donnent la même réponse à {family} % des "
    f"images. Deux premières générations, que rien ne relie, s'accordent à "
    f"{strangers} %.")

# %% [markdown]
# La réponse au pari : ici, aucun gain que la validation confirme. L'article, lui, mesure un gain sur CIFAR avec de grands réseaux.
# D'une graine à l'autre, le gain change de signe : qui ne trace qu'une lignée peut raconter ce qu'il veut.
#
# La dernière ligne mesure la **fidélité** (*fidelity*). Deux générations ont la même architecture, et la seconde n'apprend que de la
# première : elle lui ressemble bien plus qu'une inconnue. Elle pourrait lui ressembler en tout ; elle s'en écarte encore. Stanton et al. (2021) le mesurent sur de grands
# réseaux : même avec beaucoup de données, un student ne rejoint pas tout à fait son teacher.
#
# ## D'autres miroirs
#
# Deux idées voisines, que nous n'avons **pas mesurées** :
#
# - **l'apprentissage mutuel** (*deep mutual learning*, Zhang et al., 2018) : deux students s'entraînent ensemble, et chacun
#   distille l'autre, dont la prédiction est détachée du graphe ;
# - **être son propre teacher** (*be your own teacher*, Zhang et al., 2019) : la dernière couche guide des classifieurs placés plus
#   tôt dans le même réseau.
#
# <details><summary>Comment nous avons réglé</summary>
#
# Le poids 0,3 et la température 1 de la première perte sont fixés d'avance ; les réglages du teacher sont ceux de 10.1 ; ceux de
# PS-KD, ceux de l'article. Rien n'a été choisi sur le test. Régimes : 1 000 et 100 images, tous deux montrés. Budgets : 150, 300, 600,
# 1 200, 2 400 et 4 800 pas à 1 000 images ; les méthodes à mémoire et les lignées n'ont été mesurées qu'à deux budgets. Essayés aussi : des
# lissages de 0,1, 0,6, 0,9 et 0,97 ; à 150 et 300 pas, le teacher à $T = 2$ et $T = 8$, et un teacher qui n'a pas vu les images qu'il
# annote. La commande `python -m benchmarks self_distillation` refait les nombres enregistrés.
# </details>
#
# ## Chasse au bug
#
# Un collègue écrit sa propre lignée. Son taux d'erreur est plausible, et il ne voit rien d'anormal. Pourtant, sa seconde génération
# ne ressemble pas à son teacher. Lisez son code, puis sa mesure, et cherchez avant de dérouler la réponse.

# %%
def two_generations(seed, keep):
    student = train_one(digits_student, hundred, seed=seed, epochs=200)
    first = student(digits.test.images).detach()
    teacher, gaps = keep(student), []
    fresh = initial_model(digits_student, seed + 100)
    student.load_state_dict(fresh.state_dict())  # la seconde génération, à neuf
    def loss(model, images, labels, _):
        gaps.append(kd_loss(model(images), teacher(images).detach(), 4.0))
        return 0.7 * gaps[-1] + 0.3 * F.cross_entropy(model(images), labels)

    second = train(loss, hundred, seed, 200, student)(digits.test.images)
    return first, second.detach(), torch.stack(gaps).detach()

his = [two_generations(seed, keep=lambda model: model) for seed in seeds]
alike = mean_interval([same(one, two).item() for one, two, _ in his])
one, two = (error_rate(torch.stack(runs), digits.test.labels).mean()
            for runs in list(zip(*his))[:2])
say(f"Son erreur passe de {french(one)} à {french(two)} %. Ses deux générations sont "
    f"d'accord sur {alike} % du test. Les nôtres, sur {french(family.mean)} % ; deux "
    f"réseaux que rien ne relie, sur {french(strangers.mean)} %.")

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# `keep` rend le modèle lui-même. Le teacher **est** le student, le même objet : le remettre à neuf remet aussi le teacher à neuf, et
# chaque pas de l'un est un pas de l'autre. La KL entre un modèle et lui-même est nulle, son gradient aussi. Il ne reste que les
# étiquettes : la seconde génération est une inconnue de plus.
#
# L'erreur ne trahit rien, elle est plausible. La ressemblance, si ; et plus vite encore, une perte de distillation exactement
# nulle. La réparation est une copie figée, `copy.deepcopy(student)`. `born_again` refuse d'ailleurs une fonction qui rend deux
# fois le même objet.
# </details>

# %% tags=["hide-input", "repair"]
import copy
from kdcourse.plots import plot_curves

mended = [two_generations(seed, copy.deepcopy) for seed in seeds]
theirs, ours = (torch.stack([gaps for *_, gaps in lines]) for lines in (his, mended))
now = mean_interval([same(one, two).item() for one, two, _ in mended])
say(f"Réparée, la seconde génération répond comme la première à {now} % du test.")
plot_curves(range(1, 201, 10), {"collègue": (theirs.T[::10], "neutral"),
                                "réparé": (ours.T[::10], "distilled")},
            "pas", "perte de distillation (nats)",
            "Chez le collègue, la perte de distillation est nulle à chaque pas")

# %% [markdown]
# ## À vous de jouer
#
# **Exercice 10.5 a.** Écrivez la cible du lissage d'étiquettes, `smooth_targets(labels, classes, epsilon)` : `(B,)` vers `(B, C)`.
#
# **Exercice 10.5 b.** Écrivez l'ECE, `calibration_error(probabilities, labels, bins)`, entre 0 et 1 : des probabilités `(N, C)`, des
# étiquettes `(N,)`, des tranches de même largeur, de 0 à 1. Une tranche vide ne compte pas.
#
# **Exercice 10.5 c.** Rendez à chaque image **sa** prédiction. Hier, les images sont passées dans l'ordre `yesterday`, et la ligne `i`
# de `predicted`, `(N, C)`, est la prédiction de l'image `yesterday[i]`. Aujourd'hui, elles passent dans l'ordre `today`. Écrivez
# `recall(predicted, yesterday, today)`, `(N, C)`, dont la ligne `i` est la prédiction d'hier de l'image `today[i]`.
#
# **Exercice 10.5 d.** Prévoir, puis mesurer. Avec un lissage $\varepsilon = 0{,}9$, l'étiquette ne pèse plus que 0,19, et chaque autre
# classe 0,09. Que devient l'erreur, comparée à celle du lissage $\varepsilon = 0{,}3$ ?
#
# 1. Dans `prediction`, écrivez ce que vous attendez : `"gain"`, `"perte"` ou `"rien d'établi"`.
# 2. `experiment` entraîne dix students avec ce lissage, sur 1 000 images, par `taught`, et rend dix gains : l'erreur de test du lissage
#    0,3, `errors(1000, "lissage")`, moins la leur.
# 3. Lisez l'intervalle, et complétez `reading` avec les mêmes mots. Regardez aussi l'ECE : `record(1000, "lissage 0,9", …)`, puis
#    `ece(1000, "lissage 0,9").mean()`.

# %% tags=["nbval-check-output"]
from kdcourse import check

def smooth_targets(labels, classes, epsilon):
    ...  # à compléter

def calibration_error(probabilities, labels, bins):
    ...  # à compléter

def recall(predicted, yesterday, today):
    ...  # à compléter

def experiment():
    ...  # à compléter

prediction, reading = ..., ...  # à compléter
_ = check("10.5 a", smooth_targets)
_ = check("10.5 b", calibration_error)
_ = check("10.5 c", recall)
_ = check("10.5 d", prediction, experiment, reading)

# %% [markdown]
# <details><summary>Une solution de 10.5 a</summary>
#
# ```python
# def smooth_targets(labels, classes, epsilon):
#     return (1 - epsilon) * F.one_hot(labels, classes) + epsilon / classes
# ```
#
# Sans `classes`, `F.one_hot` compte les classes du lot ; un petit lot ne les a pas toutes.
# </details>
#
# <details><summary>Une solution de 10.5 b</summary>
#
# ```python
# def calibration_error(probabilities, labels, bins):
#     confidence, answer = probabilities.max(dim=-1)
#     right, which = (answer == labels).float(), (confidence * bins).ceil()
#     total = 0.0
#     for k in which.unique():
#         inside = which == k
#         gap = right[inside].mean() - confidence[inside].mean()
#         total = total + inside.float().mean() * gap.abs()
#     return total
# ```
# </details>
#
# <details><summary>Une solution de 10.5 c</summary>
#
# ```python
# def recall(predicted, yesterday, today):
#     memory = torch.empty_like(predicted)
#     memory[yesterday] = predicted  # une ligne par image
#     return memory[today]
# ```
# </details>
#
# <details><summary>Une solution de 10.5 d</summary>
#
# ```python
# prediction = "perte"  # votre prévision peut différer : elle ne compte pas
#
# def experiment():
#     students = taught(nothing, temperature=1.0, alpha=0.9)
#     return errors(1000, "lissage") - students.errors(digits.test)
#
# reading = "rien d'établi"
# ```
#
# L'erreur ne lit que la première classe, et l'étiquette reste la première de la cible. La confiance, elle, s'effondre.
# </details>
#
# ## Quiz
#
# Choisissez, puis déroulez l'option.
#
# **1. Distiller les logits du lot d'avant diminue l'erreur. Pourquoi ?**
#
# <details><summary>Le modèle d'avant en savait plus</summary>Non : ce sont les prédictions d'autres images.</details>
# <details><summary>Par un hasard de graines</summary>Non : avec 1 000 images, l'intervalle exclut 0 en validation comme sur le
# test, à deux budgets.</details>
# <details><summary>En moyenne, la cible est une étiquette lissée</summary>Oui : avec 1 000 images, le vrai lissage
# gagne au moins autant en moyenne, pour le même défaut de calibration.</details>
#
# **2. Un modèle annonce 60 % de confiance et a raison 95 fois sur 100. Il est…**
#
# <details><summary>trop prudent</summary>Oui : ses points sont au-dessus de la diagonale.</details>
# <details><summary>bien calibré, puisqu'il est juste</summary>Non : la calibration compare la confiance à l'exactitude.</details>
# <details><summary>trop sûr de lui</summary>Non : il le serait s'il annonçait 95 % en ayant raison 60 fois sur 100.</details>
#
# **3. Vous divisez par 2 les logits d'un modèle fini. Que devient son erreur ?**
#
# <details><summary>Elle baisse : ses prédictions sont plus prudentes</summary>Non : prudentes ou non, ce sont les mêmes
# réponses.</details>
# <details><summary>Elle ne change pas</summary>Oui : l'ordre des classes reste le même, seule la confiance change.</details>
# <details><summary>Elle monte un peu : la première classe perd de l'avance</summary>Non : elle perd de l'avance, et reste la
# première.</details>
# <details><summary>Cela dépend de la validation</summary>Non : la validation sert à choisir le diviseur, et aucun diviseur positif ne
# change une réponse.</details>
#
# **4. À 600 pas, lisser fait mieux que distiller ce teacher. Que conclure ?**
#
# <details><summary>Ce teacher ne vaut rien</summary>Non : avec 100 images il gagne bien plus que le lissage, et à 4 800 pas le test
# le favorise.</details>
# <details><summary>Il fallait une température plus haute</summary>Non : à $T = 20$, il n'est pas plus rapide.</details>
# <details><summary>Le lissage suffit, quel que soit le budget</summary>Ce n'est pas établi : à 4 800 pas, son avance a disparu, et le
# test penche pour le teacher.</details>
# <details><summary>Qu'à ce budget, ce teacher très sûr est lent</summary>Oui : les mêmes logits, divisés par 4, vont plus vite et
# finissent au même point.</details>
#
# **5. Qu'ont les logits nuls de particulier, comme teacher ?**
#
# <details><summary>Ils arrêtent l'apprentissage</summary>Non : leur prédiction est l'uniforme, qui adoucit la cible.</details>
# <details><summary>Ils donnent les étiquettes seules</summary>Non : ce serait le cas avec $\alpha = 0$.</details>
# <details><summary>Ils donnent, à $T = 1$, le lissage d'étiquettes</summary>Oui : un teacher qui ne sait rien, de poids $\varepsilon$.</details>
#
# ## Sur GPU
#
# Sur de vraies photos, la fonction `distill` de 10.1 garde la prédiction de chaque image d'une époque à l'autre : PS-KD, sans
# teacher. Avec un GPU, la cellule prend CIFAR-10 ; sans GPU, nos chiffres et 100 images.

# %%
from kdcourse import Choice, best_device, color_student, distill_seeds

device = best_device()
if gpu := device.type == "cuda":
    data, small = load_dataset("cifar10"), color_student
else:
    part = digits.train.where(slice(0, 100))
    data, small = digits._replace(train=part), digits_student
for method in ("seul", "PS-KD"):
    found = distill_seeds(
        small, data.train, None, range(3), method=method, choice=Choice(alpha=0.8),
        epochs=20 if gpu else 300,
        learning_rate=0.001 if gpu else 0.003, output="runs/cifar10" if gpu else None)
    with torch.no_grad():
        answers = torch.stack([
            torch.cat([model(part.to(device)).cpu()
                       for part in data.test.images.split(500)]) for model in found])
    calibration = expected_calibration_error(answers, data.test.labels).mean()
    error = mean_interval(error_rate(answers, data.test.labels))
    say(f"{method} : erreur {error} %, ECE moyenne {french(calibration)} %")

# %% [markdown]
# Trois graines donnent une indication, pas un résultat. Regardez les deux nombres : l'erreur, et l'ECE.
#
# ## À retenir

# %% tags=["hide-input"]
calmer = mean_interval(stored.gain(100, "PS-KD", 300, kind="ece"))
say(f"""
- Un modèle peut gagner par un bug : distiller le lot d'avant gagne
  {points(gain(1000, "bug"))} à 1 000 images : en moyenne, c'est un lissage.
- La calibration le trahit, et se répare : l'ECE du bug, {bug_row[2]} %,
  retombe à {bug_row[3]} % avec une température réglée sur la validation.
- Un verdict tient à son budget : à 600 pas le lissage devance ce teacher de
  {points(mean_interval(-stored.gain(1000, "teacher", 600, other="lissage")))} ;
  à 4 800, son avance a disparu.
- Ce teacher, très sûr, est lent à $T = 4$ : ses logits divisés par 4 gagnent
  {points(quick)} sur lui à 150 pas.
- Réparée, l'auto-distillation n'établit ici aucun gain d'erreur ; à 100 images et 300
  pas, PS-KD baisse l'ECE de {points(calmer)}.
""")

# %% [markdown]
# ## Références
#
# - K. Kim, B. Ji, D. Yoon, S. Hwang, *Self-Knowledge Distillation with Progressive Refinement of Targets*, ICCV 2021,
#   [arXiv:2006.12000](https://arxiv.org/abs/2006.12000). PS-KD.
# - T. Furlanello et al., *Born-Again Neural Networks*, ICML 2018, [arXiv:1805.04770](https://arxiv.org/abs/1805.04770).
# - L. Yuan et al., *Revisiting Knowledge Distillation via Label Smoothing Regularization*, CVPR 2020,
#   [arXiv:1909.11723](https://arxiv.org/abs/1909.11723). Le teacher qui ne sait rien.
# - C. Guo, G. Pleiss, Y. Sun, K. Weinberger, *On Calibration of Modern Neural Networks*, ICML 2017,
#   [arXiv:1706.04599](https://arxiv.org/abs/1706.04599). ECE, température de calibration.
# - S. Stanton et al., *Does Knowledge Distillation Really Work?*, NeurIPS 2021,
#   [arXiv:2106.05945](https://arxiv.org/abs/2106.05945). La fidélité.
# - Y. Zhang et al., *Deep Mutual Learning*, CVPR 2018, [arXiv:1706.00384](https://arxiv.org/abs/1706.00384).
# - L. Zhang et al., *Be Your Own Teacher*, ICCV 2019, [arXiv:1905.08094](https://arxiv.org/abs/1905.08094).
#
# **La suite** : 10.6 compresse le teacher lui-même, en tenseurs.
