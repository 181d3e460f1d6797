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
# Peut-on être son propre teacher ? L'auto-distillation (*self-distillation*) le promet : aucun grand réseau, le student
# apprend de ce qu'il était hier. Ce chapitre commence par un bug. Il **améliore** le résultat. Le comprendre apprend plus
# que ne le ferait la version juste.

# %% tags=["bootstrap"]
from kdcourse import describe_environment

print(describe_environment())

# %% [markdown]
# ## Objectifs
#
# À la fin de ce chapitre, vous saurez :
#
# - reconnaître ce qu'une auto-distillation enseigne vraiment à un student ;
# - mesurer la calibration d'un modèle, et la réparer après coup ;
# - écrire PS-KD, et dire ce qu'elle apporte quand l'erreur ne bouge pas ;
# - expliquer pourquoi imiter son teacher à l'entraînement ne fait pas l'imiter ailleurs.
#
# **Durée** : une heure et demie de lecture ; le notebook entier s'exécute en une minute environ.
#
# **Prérequis** : [10.1](10_01_Principes.ipynb), et la première moitié de [10.2](10_02_Logits.ipynb).
#
# ## Une idée séduisante
#
# Pas de teacher sous la main ? Gardons les logits du lot précédent, et distillons-les dans le lot courant : trois lignes de
# plus, et cela ne coûte rien.

# %%
import torch
import torch.nn.functional as F
from kdcourse import Batches, digits_student, initial_model, kd_loss
from kdcourse import load_dataset

torch.set_num_threads(1)  # deux fils ne gagnent rien ici
digits = load_dataset("digits")

def previous_batch(alpha=0.3):
    memory = {}
    def loss(model, images, labels, *_):
        logits = model(images)
        hard = F.cross_entropy(logits, labels)
        previous, memory["logits"] = memory.get("logits"), logits.detach()
        if previous is None or len(previous) != len(logits):
            return hard
        return alpha * kd_loss(logits, previous, 1.0) + (1 - alpha) * hard
    return loss

# %% [markdown]
# Avez-vous vu le bug ? Gardez votre réponse. La boucle, elle, est ordinaire ; `Batches` donne à la graine 0 les mêmes lots que
# `train_many`, ce que nous vérifions.

# %%
from kdcourse import error_rate, mean_interval, points, thousands, train_many

def train_by_hand(loss, data, seed, epochs, model=None):
    model = model or initial_model(digits_student, seed)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3, fused=True)
    batches = Batches(data, seed)
    for _ in range(epochs):
        for batch in batches:  # (images, étiquettes, indices)
            value = loss(model, *batch)
            optimizer.zero_grad()
            value.backward()
            optimizer.step()
    return model.eval()

hundred = digits.train.where(slice(0, 100))
alone = train_many(digits_student, hundred, seeds=range(10), epochs=20)
by_hand = train_by_hand(previous_batch(alpha=0.0), hundred, 0, epochs=20)
gap = (alone.one(seed=0)(digits.test.images) - by_hand(digits.test.images)).abs().max()
print(f"à alpha = 0, écart avec train_many : {gap:.0e}")

# %% [markdown]
# ## L'expérience
#
# Dix graines, deux régimes : 100 images (300 pas) et 1 000 images (600 pas). Ce sont les deux que nous avons retenus pour
# ce chapitre. Les méthodes y sont comparées dans les deux ; ensuite, chaque mesure dit lequel elle prend. Le poids
# $\alpha = 0{,}3$ est fixé d'avance.

# %%
from kdcourse.plots import plot_paired

seeds, regimes = list(range(10)), {100: 300, 1000: 60}  # images : époques
outputs = {}  # (régime, méthode) -> logits (graines, images, classes)

def logits_of(models, images):
    return torch.stack([model(images) for model in models]).detach()

def record(size, name, models):
    outputs[size, name] = {part: logits_of(models, getattr(digits, part).images)
                           for part in ("validation", "test")}

def errors(size, name, part="test"):
    return error_rate(outputs[size, name][part], getattr(digits, part).labels)

for size, epochs in regimes.items():
    data = digits.train.where(slice(0, size))
    record(size, "seul", train_many(digits_student, data, seeds=seeds, epochs=epochs))
    naive = [train_by_hand(previous_batch(), data, seed, epochs) for seed in seeds]
    record(size, "lot précédent", naive)

# %%
for size in regimes:
    for part in ("validation", "test"):
        alone, naive = (errors(size, name, part) for name in ("seul", "lot précédent"))
        print(f"{thousands(size):>5} images, {part:10} : gain {points(mean_interval(alone - naive))}")
plot_paired(errors(1000, "seul"), errors(1000, "lot précédent"),
            names=("seul", "lot précédent"), role="neutral")

# %% [markdown]
# Une méthode gratuite, sans teacher, et qui gagne sur le test dans les deux régimes. Faut-il publier ?
#
# Regardez le code encore une fois : `previous` contient les logits du **lot précédent**. Ce sont les prédictions
# d'**autres images**. L'image d'un 3 apprend ce que le modèle pensait d'un 7. Cela ne devrait rien enseigner de bon.
#
# **À vous de parier** : d'où vient le gain ?
#
# ## Ce que le student a vraiment appris
#
# Regardons la cible. À $T = 1$, distiller avec le poids $\alpha$ revient à remplacer l'étiquette $y$ par la distribution
# $q_c = (1 - \alpha)\,\mathbb{1}[c = y] + \alpha\,p_c$, où $p$ est la prédiction du lot précédent. Figeons un modèle entraîné ainsi
# sur 100 images, et moyennons cette cible sur tous les 3 des 1 000 images, en vingt passages.

# %%
from kdcourse import label_smoothing_probabilities
from kdcourse.plots import plot_targets

model = train_by_hand(previous_batch(), hundred, 0, epochs=100)
seen, previous, batches = [], None, Batches(digits.train, seed=0)
for _ in range(20):
    for images, labels, _ in batches:
        current = model(images).softmax(dim=-1).detach()
        if previous is not None:
            hard = F.one_hot(labels, 10)
            seen.append((0.7 * hard + 0.3 * previous)[labels == 3])
        previous = current
smooth = label_smoothing_probabilities(torch.tensor([3]), 10, smoothing=0.3)
plot_targets({"lot précédent": torch.cat(seen).mean(dim=0),
              "lissage d'étiquettes": smooth[0]}, label=3)

# %% [markdown]
# Les deux cibles se ressemblent. Les autres images sont tirées au hasard : en moyenne, leurs prédictions se répartissent entre les dix
# classes. Le gradient est linéaire en la cible, donc le student apprend, en moyenne, une étiquette **adoucie vers
# l'uniforme**. Cette cible a un nom, le lissage d'étiquettes (*label smoothing*) :
#
# $$q_c = (1 - \varepsilon)\,\mathbb{1}[c = y] + \varepsilon / C, \qquad \varepsilon = \alpha.$$
#
# Le bug serait donc un lissage déguisé. Vérifions avec le vrai. Remarquez comment nous l'entraînons : par `train_many`, avec
# un teacher dont **tous les logits sont nuls**. Lisser, c'est distiller un teacher qui ne sait rien (Yuan et al., 2020).

# %%
student, labels = torch.randn(6, 10), torch.arange(6)
smoothed = F.cross_entropy(student, labels, label_smoothing=0.3)
nothing = 0.3 * kd_loss(student, torch.zeros(6, 10), 1.0)
nothing = nothing + 0.7 * F.cross_entropy(student, labels)
# égales à une constante près, l'entropie de l'uniforme
torch.testing.assert_close(smoothed, nothing + 0.3 * torch.tensor(10.0).log())
for size, epochs in regimes.items():
    data = digits.train.where(slice(0, size))
    ignorant = torch.zeros(size, 10)
    record(size, "lissage", train_many(
        digits_student, data, ignorant, seeds=seeds, temperatures=1.0, alphas=0.3,
        epochs=epochs))
    for part in ("validation", "test"):
        alone, naive, smoothed = (errors(size, name, part)
                                  for name in ("seul", "lot précédent", "lissage"))
        print(f"{thousands(size):>5} images, {part:10} : gain {points(mean_interval(alone - smoothed))} ; "
              f"bug moins lissage {mean_interval(naive - smoothed)}")

# %% [markdown]
# Avec 1 000 images, le vrai lissage gagne lui aussi, en validation comme sur le test, et rien ne le sépare du bug. Avec 100,
# il gagne sur le test, et le bug y fait moins bien que lui : la cible du bug n'est uniforme qu'en moyenne, le reste est du
# bruit. Mais la validation ne confirme pas ce gain : dix graines n'y suffisent pas. Le gain du bug, lui, ne devait rien au
# passé du modèle.
#
# Combien aurait gagné un teacher qui sait ? Voici celui de 10.1, avec ses réglages : $T = 4$, $\alpha = 0{,}9$.

# %%
from kdcourse import digits_teacher, train_one

teacher = train_one(digits_teacher, digits.train, epochs=30)
for size, epochs in regimes.items():
    data = digits.train.where(slice(0, size))
    guide = teacher(data.images).detach()
    record(size, "teacher", train_many(digits_student, data, guide, seeds=seeds,
                                       temperatures=4.0, alphas=0.9, epochs=epochs))
    for part in ("validation", "test"):
        alone, smoothed, guided = (errors(size, name, part)
                                   for name in ("seul", "lissage", "teacher"))
        print(f"{thousands(size):>5} images, {part:10} : gain d'un vrai teacher "
              f"{points(mean_interval(alone - guided))} ; "
              f"lissage moins vrai teacher {mean_interval(smoothed - guided)}")

# %% [markdown]
# Avec 100 images, le vrai teacher, qui en a vu 1 000, gagne bien plus que le lissage. Avec 1 000, c'est l'inverse : le teacher
# qui ne sait rien fait mieux que le vrai et, en validation, il est des deux le seul à gagner. Avant de payer un teacher, mesurez donc ce que donne
# celui qui ne coûte rien.
#
# ## Ce qui trahit le bug : la calibration
#
# L'erreur ne dit pas tout. Un modèle annonce aussi une **confiance**, sa plus grande probabilité. Il est calibré
# (*calibrated*) s'il a raison huit fois sur dix quand il annonce 80 %. L'erreur de calibration attendue (*expected calibration
# error*, ECE) range les $N$ images par tranches de confiance, quinze ici, et moyenne les écarts entre confiance et exactitude
# (la part de bonnes réponses), chaque tranche comptant pour ses $n_k$ images :
#
# $$\mathrm{ECE} = \sum_k \frac{n_k}{N}\, \big|\text{exactitude}_k - \text{confiance}_k\big|.$$

# %%
from kdcourse import expected_calibration_error, french, markdown_table
from kdcourse.plots import plot_reliability

def ece(size, name):
    return expected_calibration_error(outputs[size, name]["test"], digits.test.labels)

roles = {"seul": "student", "lot précédent": "neutral", "lissage": "other"}
for size in regimes:
    for name in roles:
        print(f"{thousands(size):>5} images, {name:13} : "
              f"erreur {mean_interval(errors(size, name))} %, "
              f"ECE {mean_interval(ece(size, name))} %")
plot_reliability({name: (outputs[1000, name]["test"], role)
                  for name, role in roles.items()}, digits.test.labels)

# %% [markdown]
# À gauche, le student seul suit à peu près la diagonale. Les deux autres sont loin au-dessus : ils ont presque toujours
# raison, et n'osent pas le dire. Une confiance de 60 % y cache une exactitude bien plus haute.
#
# C'est le prix de la cible : à force d'apprendre « 73 % pour le 3, et un peu pour tous », le modèle répond « 73 % ».
# Si vous aviez un seuil de confiance, un tri de cas douteux, un mélange de modèles, le gain d'exactitude serait payé là.
#
# ## La réparation : PS-KD
#
# L'idée de départ mérite d'être essayée telle qu'elle était pensée : avec la prédiction **du même exemple**. PS-KD
# (*progressive self-knowledge distillation*, Kim et al., 2021) range les prédictions d'une époque par indice d'image, et s'en sert à la
# suivante. Leur poids croît, car les premières ne valent rien :
#
# $$q_{bc} = (1 - \alpha_e)\,\mathbb{1}[c = y_b] + \alpha_e\, p^{e-1}_{bc}, \qquad \alpha_e = \alpha_E \, e / E, \quad
# \alpha_E = 0{,}8.$$
#
# L'époque $e$ va de 1 à $E$ ; à la première, $p^{0}$ est l'étiquette elle-même, faute de mieux.

# %%
from kdcourse import ps_kd, ps_kd_loss

logits, labels = torch.randn(6, 10), torch.arange(6)
yesterday = torch.randn(6, 10).softmax(dim=-1)
target = 0.4 * F.one_hot(labels, 10) + 0.6 * yesterday
by_hand = -(target * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
torch.testing.assert_close(by_hand, ps_kd_loss(logits, yesterday, labels, alpha=0.6))

def train_ps_kd(data, seed, epochs):
    model = initial_model(digits_student, seed)
    ps_kd(model, Batches(data, seed), epochs, learning_rate=3e-3)
    return model

for size, epochs in regimes.items():
    data = digits.train.where(slice(0, size))
    record(size, "PS-KD", [train_ps_kd(data, seed, epochs) for seed in seeds])

# %%
from IPython.display import Markdown, display
from kdcourse.plots import plot_two_axes

roles["PS-KD"] = "distilled"
rows = []
for size in regimes:
    for name in list(roles)[1:]:
        gain = mean_interval(errors(size, "seul") - errors(size, name))
        calibration = mean_interval(ece(size, name) - ece(size, "seul"))
        rows.append([size, name, mean_interval(errors(size, name)), gain,
                     mean_interval(ece(size, name)), calibration])
header = ["images", "méthode", "erreur (%)", "gain sur le student seul (points)",
          "ECE (%)", "ECE de plus que le student seul (points)"]
display(Markdown(markdown_table(header, rows)))
ratio = ece(1000, "lissage").mean() / ece(1000, "seul").mean()
smooth_gain = mean_interval(errors(1000, "seul") - errors(1000, "lissage"))
plot_two_axes({name: (errors(1000, name), ece(1000, name), role)
               for name, role in roles.items()},
              f"1 000 images : le lissage gagne {points(smooth_gain.mean)} "
              f"et multiplie l'ECE par {french(ratio, 0)}")

# %% [markdown]
# La figure est celle des 1 000 images. PS-KD revient en bas, à côté du student seul : la calibration n'est plus ruinée.
# Lisez la dernière ligne de chaque régime sans complaisance : l'**erreur** de PS-KD ne se distingue pas de celle du
# student seul. Avec 100 images, PS-KD gagne un peu de calibration ; avec 1 000, rien de net. C'est ce qu'une auto-distillation
# honnête achète ici : peu, et pas là où on l'attendait.
#
# L'article mesure bien davantage sur CIFAR-100 (PreAct-ResNet-18 : erreur de 24,18 à 20,82 %, ECE de 11,84 à
# 1,77 %). Ce sont leurs chiffres : un réseau profond, très sûr de lui, ce que nos petits perceptrons ne sont pas.
#
# ## Recalibrer après coup
#
# Une confiance fausse se répare sans réentraîner : on divise les logits par une température choisie sur la
# validation (*temperature scaling*, Guo et al., 2017).
#
# Attention au mot. La température de la **distillation** adoucit deux prédictions pendant l'entraînement, pour transmettre
# une hiérarchie. La température de **calibration** s'applique à un modèle fini, pour que sa confiance dise vrai. Elle ne
# change aucune réponse.

# %%
from kdcourse import tune_temperature

rows, scaled = [], {}
for name in roles:
    parts = outputs[1000, name]
    tuned = torch.tensor([tune_temperature(z, digits.validation.labels)
                          for z in parts["validation"]])
    scaled[name] = parts["test"] / tuned[:, None, None]
    after = expected_calibration_error(scaled[name], digits.test.labels)
    loss = [F.cross_entropy(z, digits.test.labels) for z in scaled[name]]
    rows.append([name, french(tuned.mean(), 2), mean_interval(ece(1000, name)),
                 mean_interval(after), mean_interval(errors(1000, name)),
                 french(torch.stack(loss).mean(), 3)])
header = ["1 000 images", "T réglée (moyenne)", "ECE avant (%)", "ECE après (%)",
          "erreur (%)", "entropie croisée de test (nats)"]
display(Markdown(markdown_table(header, rows)))
plot_reliability({name: (scaled[name], role) for name, role in roles.items()},
                 digits.test.labels)

# %% [markdown]
# Surprise : une fois recalibré, le modèle lissé n'a plus rien à se reprocher, et son erreur est restée basse. Sa température est
# **inférieure à 1** : il fallait durcir ses prédictions. L'ECE jugeait une échelle, et une échelle se règle avec les seules
# images de validation.
#
# La morale n'est donc pas « le lissage est mauvais ». Elle est : **dites ce que fait votre méthode**. Le bug gagnait par un lissage
# qui s'ignorait ; le même lissage, choisi, mesuré sur les deux axes et recalibré, est une bonne méthode.
#
# Le curseur divise les logits de test par la température de votre choix.

# %%
from kdcourse.widgets import CalibrationExplorer

CalibrationExplorer({name: (outputs[1000, name]["test"], role)
                     for name, role in roles.items()}, digits.test.labels)

# %% [markdown]
# Choisissez « lissage », puis descendez $T$ : les points rejoignent la diagonale, et l'erreur affichée ne bouge pas. Descendez
# encore : le modèle devient trop sûr, et les points passent dessous.
#
# ## Les générations : Born-Again
#
# Furlanello et al. (2018) entraînent une lignée : un réseau, puis un réseau identique distillé du premier, puis un
# troisième distillé du deuxième. **À vous de parier** : la troisième génération se trompe-t-elle moins que la première ?
#
# 100 images, dix lignées, $\alpha = 1$ (le teacher seul), deux températures : $T = 4$ et $T = 1$. Chaque génération repart de
# poids neufs ; `train_many` reçoit un teacher **par student**. (Pour un grand réseau et un DataLoader, `born_again` fait la
# même chose.)

# %%
from kdcourse.plots import plot_generations

def lineages(temperature, alpha, generations=3):
    line = [train_many(digits_student, hundred, seeds=seeds, epochs=300)]
    for generation in range(1, generations):
        teachers = line[-1].logits(hundred.images)  # (graines, images, classes)
        line.append(train_many(
            digits_student, hundred, teachers, seeds=[s + 100 * generation for s in seeds],
            temperatures=temperature, alphas=alpha, epochs=300))
    return line

families = {"T = 4, α = 1": lineages(4.0, 1.0),
            "T = 1, α = 1": lineages(1.0, 1.0)}
born = {name: torch.stack([students.errors(digits.test) for students in line], dim=1)
        for name, line in families.items()}
plot_generations(born)

# %% [markdown]
# Les titres donnent le gain de la troisième génération sur la première. Ici, la lignée n'apporte rien que dix graines établissent.
# L'article, lui, mesure un gain sur CIFAR avec de grands réseaux. Méfiez-vous des lignées d'une seule graine : les traits gris
# montent et descendent, et qui n'en trace qu'un peut raconter ce qu'il veut.
#
# ## Le paradoxe de la fidélité
#
# Dans ces lignées, le student a **la même architecture** que son teacher. Il pourrait donc l'imiter parfaitement. Le fait-il ?
# Mesurons la **fidélité** (*fidelity*) : la part des images où les deux donnent la même réponse. Comme repère, deux premières
# générations indépendantes, que rien ne relie.

# %%
def same(a, b):
    return 100 * (a.argmax(dim=-1) == b.argmax(dim=-1)).float().mean(dim=-1)

def row(name, first, second, gain=""):
    train, test = ([models.logits(part.images) for models in (first, second)]
                   for part in (hundred, digits.test))
    gaps = [1000 * kd_loss(b, a, 1.0) for a, b in zip(*train)]
    fidelity[name] = mean_interval(same(*test))
    return [name, mean_interval(same(*train)), mean_interval(torch.stack(gaps)),
            fidelity[name], gain]

fidelity, rows = {}, []
for name, (teachers, students, _) in families.items():
    gain = mean_interval(born[name][:, 0] - born[name][:, 1])
    rows.append(row(f"{name} : teacher et student", teachers, students, gain))
others = train_many(digits_student, hundred, seeds=range(50, 60), epochs=300)
rows.append(row("deux réseaux indépendants", teachers, others))
header = ["", "même réponse, entraînement (%)", "KL, entraînement (millinats)",
          "même réponse, test (%)", "gain sur le teacher (points)"]
display(Markdown(markdown_table(header, rows)))

# %% [markdown]
# Sur l'entraînement, la même réponse ne prouve rien : deux inconnus y sont d'accord aussi, car tous connaissent les
# étiquettes. La KL en dit plus. À $T = 1$, elle est aussi grande entre un student et son teacher qu'entre deux inconnus, aux
# intervalles près ; et, sur le test, le student ne ressemble guère plus à son teacher qu'à un **inconnu** : au-delà des
# étiquettes, peu de chose lui dit comment se comporter.
#
# À $T = 4$, la KL est bien plus petite, et la fidélité monte nettement : les nuances disent davantage du teacher. Et pourtant le student ne se trompe pas moins.
# **Fidélité et exactitude sont deux choses.** Stanton et al. (2021) le montrent sur de grands réseaux : même avec
# beaucoup de données, un student ne rejoint pas tout à fait son teacher ; et ressembler davantage ne fait pas toujours mieux.
#
# ## D'autres miroirs
#
# - **Apprentissage mutuel** (*deep mutual learning*, Zhang et al., 2018) : deux students s'entraînent ensemble, chacun
#   distille l'autre, dont la prédiction est détachée du graphe.
# - **Être son propre teacher** (*be your own teacher*, Zhang et al., 2019) : la dernière couche guide des classifieurs placés
#   plus tôt dans le même réseau.
# - **Photographie** : le teacher est une copie figée du modèle à la fin de l'époque précédente, réévaluée sur chaque lot.
#   C'est `progressive_self_distillation` ; elle coûte un passage de plus, et n'a pas besoin d'indices.
#
# ## Chasse au bug
#
# Un collègue écrit sa propre lignée de deux générations. Sa seconde génération vaut, à très peu près, un réseau qui n'aurait eu
# que les étiquettes : la cellule imprime les deux erreurs. Lisez son code, puis la perte de distillation.

# %%
import copy

def labels_only(model, images, labels, *_):
    return F.cross_entropy(model(images), labels)

def two_generations(seed, keep):
    student, gaps = initial_model(digits_student, seed), []
    start = copy.deepcopy(student.state_dict())
    train_by_hand(labels_only, hundred, seed, 200, student)
    teacher = keep(student)
    student.load_state_dict(start)  # la seconde génération repart de zéro

    def loss(model, images, labels, *_):
        logits, target = model(images), teacher(images).detach()
        gaps.append(kd_loss(logits, target, 4.0))
        return 0.7 * gaps[-1] + 0.3 * F.cross_entropy(logits, labels)

    train_by_hand(loss, hundred, seed, 200, student)
    return student, torch.stack(gaps).detach()

# %%
wrong = {}
for name, keep in (("collègue", lambda model: model), ("réparée", copy.deepcopy)):
    found = [two_generations(seed, keep) for seed in seeds]
    gaps = torch.stack([gap for _, gap in found])
    test = logits_of([model for model, _ in found], digits.test.images)
    wrong[name] = error_rate(test, digits.test.labels)
    print(f"{name:8} : perte de distillation, premier pas "
          f"{french(gaps[:, 0].mean(), 3)}, dernier {french(gaps[:, -1].mean(), 3)} ; "
          f"erreur {mean_interval(wrong[name])} %")
labels_alone = train_many(digits_student, hundred, seeds=seeds, epochs=200)
print("étiquettes seules :", mean_interval(labels_alone.errors(digits.test)), "%")
print("erreur réparée moins collègue :",
      points(mean_interval(wrong["réparée"] - wrong["collègue"])))

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# `teacher = keep(student)` ne copie rien chez le collègue : le teacher **est** le student, le même objet. Remettre le student à
# zéro y remet aussi le teacher, et chaque pas de l'un est un pas de l'autre. La KL entre un modèle et lui-même est nulle, son
# gradient aussi : il ne reste que les étiquettes. Réparée, la lignée ne se trompe pas moins ; à ce réglage, elle
# se trompe même un peu plus (l'écart est imprimé), quand les lignées ci-dessus ne perdaient rien d'établi. L'erreur n'aurait
# donc jamais trahi ce bug. Une perte de
# distillation exactement nulle, si.
#
# Le remède est une copie figée (`copy.deepcopy`, puis `eval()` et aucun gradient). `born_again` refuse d'ailleurs une fonction
# qui rend deux fois le même objet.
# </details>
#
# ## À vous de jouer
#
# **Exercice 10.5 a.** Écrivez la cible du lissage d'étiquettes : `(B,)` vers `(B, C)`.
#
# **Exercice 10.5 b.** Écrivez l'ECE, entre 0 et 1, à partir de probabilités `(N, C)`, d'étiquettes `(N,)` et d'un nombre de
# tranches de même largeur. Une tranche vide ne compte pas.
#
# **Exercice 10.5 c.** Écrivez la cible de PS-KD à l'époque `epoch`, qui va de 1 à `epochs`, `previous` étant la prédiction d'hier,
# `(B, C)`, et `largest` la plus grande valeur de $\alpha$ (0,8 plus haut). À l'époque 1, `previous` contient déjà les étiquettes :
# ce n'est pas un cas à part.

# %% tags=["nbval-check-output"]
from kdcourse import check

def smooth_targets(labels, classes, epsilon):
    ...  # à compléter

def calibration_error(probabilities, labels, bins):
    ...  # à compléter

def ps_kd_targets(labels, previous, epoch, epochs, largest):
    ...  # à compléter

_ = check("10.5 a", smooth_targets)
_ = check("10.5 b", calibration_error)
_ = check("10.5 c", ps_kd_targets)

# %% [markdown]
# <details><summary>Une solution de 10.5 a</summary>
#
# ```python
# def smooth_targets(labels, classes, epsilon):
#     return (1 - epsilon) * F.one_hot(labels, classes) + epsilon / classes
# ```
# </details>
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
# <details><summary>Une solution de 10.5 c</summary>
#
# ```python
# def ps_kd_targets(labels, previous, epoch, epochs, largest):
#     alpha = largest * epoch / epochs
#     return (1 - alpha) * F.one_hot(labels, previous.shape[-1]) + alpha * previous
# ```
# </details>
#
# ## Quiz
#
# Choisissez, puis déroulez l'option.
#
# **1. Distiller les logits du lot précédent améliore l'erreur. Pourquoi ?**
#
# <details><summary>Le modèle d'hier en savait plus</summary>Non : ce sont les prédictions d'autres images.</details>
# <details><summary>En moyenne, la cible est une étiquette lissée</summary>Oui : et le vrai lissage gagne au moins
# autant, pour le même défaut de calibration.</details>
# <details><summary>Par hasard</summary>Non : avec 1 000 images, l'intervalle exclut 0 en validation comme sur le
# test.</details>
#
# **2. Un modèle annonce 60 % de confiance et a raison 95 fois sur 100. Il est…**
#
# <details><summary>bien calibré, puisqu'il est juste</summary>Non : la calibration compare la confiance à l'exactitude.</details>
# <details><summary>trop prudent</summary>Oui : ses points sont au-dessus de la diagonale.</details>
# <details><summary>trop sûr de lui</summary>Non : il le serait s'il annonçait 95 % en ayant raison 60 fois sur 100.</details>
#
# **3. La température de calibration change-t-elle l'erreur ?**
#
# <details><summary>Oui, elle adoucit les prédictions</summary>Non : elle les adoucit ou les durcit, mais l'ordre des classes reste
# le même.</details>
# <details><summary>Non</summary>Oui : diviser tous les logits par un nombre positif ne change pas la première classe.</details>
# <details><summary>Seulement sous 1</summary>Non : l'ordre des classes ne change à aucune température.</details>
#
# **4. Le student donne la même réponse que son teacher sur toutes les images d'entraînement. Et sur le test ?**
#
# <details><summary>La même aussi</summary>Non : mesuré plus haut, il peut s'en écarter autant qu'un réseau
# indépendant.</details>
# <details><summary>On ne sait pas : cela dépend de ce que la perte transmet</summary>Oui : à température plus élevée, la fidélité
# monte.</details>
# <details><summary>La même, et il se trompera moins</summary>Non : rien ne garantit l'un ni l'autre, le tableau le
# montre.</details>
#
# **5. Qu'ont les logits nuls de particulier, comme teacher ?**
#
# <details><summary>Ils arrêtent l'apprentissage</summary>Non : leur prédiction est l'uniforme, qui adoucit la cible.</details>
# <details><summary>Ils donnent le lissage d'étiquettes</summary>Oui : un teacher qui ne sait rien, de poids epsilon.</details>
# <details><summary>Ils donnent les étiquettes seules</summary>Non : ce serait le cas avec alpha = 0.</details>
#
# ## Sur GPU
#
# Un GPU rend le balayage de $\varepsilon$ presque gratuit : tous les lissages, toutes les graines, en un seul appel. La validation
# préfère-t-elle un $\varepsilon$, et que coûte-t-il en calibration ?

# %%
import time
from kdcourse import best_device, grid

device = best_device()
many = list(range(128 if device.type == "cuda" else 10))
levels = [0.0, 0.05, 0.1, 0.2, 0.4]
start = time.perf_counter()
swept = train_many(digits_student, hundred.to(device), torch.zeros(100, 10, device=device),
                   **grid(temperatures=1.0, alphas=levels, seeds=many), epochs=300)
images, labels = digits.validation
logits = swept.rows(swept.logits(images.to(device)).cpu())
where = "GPU" if device.type == "cuda" else "processeur"
print(f"{len(swept)} students en {french(time.perf_counter() - start)} s sur {where}")
plain = error_rate(logits[0], labels)  # epsilon = 0
for level, z in zip(levels, logits):
    print(f"epsilon {french(level, 2)} : erreur {french(error_rate(z, labels).mean())} %, "
          f"gain {mean_interval(plain - error_rate(z, labels))}, "
          f"ECE {mean_interval(expected_calibration_error(z, labels))} %")

# %% [markdown]
# Tout est mesuré en validation. Lisez les gains : avec peu de graines, l'erreur ne départage pas ces $\varepsilon$ ; la
# calibration, elle, se dégrade à chaque cran.
#
# Sur de vraies photos, la fonction `distill` de 10.1 garde la prédiction de chaque exemple d'une époque à l'autre : PS-KD,
# sans teacher. Avec un GPU, la cellule prend CIFAR-10 ; sans GPU, nos chiffres et 100 images.

# %%
from kdcourse import color_student, distill_seeds

on_gpu = device.type == "cuda"
if on_gpu:
    data, small = load_dataset("cifar10"), color_student
else:
    data, small = digits._replace(train=hundred), digits_student
for method in ("seul", "PS-KD"):
    found = distill_seeds(small, data.train, None, range(3), method=method,
                          epochs=20 if on_gpu else 300,
                          learning_rate=0.001 if on_gpu else 0.003,
                          output="runs/cifar10" if on_gpu else None)
    with torch.no_grad():
        answers = torch.stack([
            torch.cat([model(part.to(device)).cpu() for part in data.test.images.split(500)])
            for model in found])
    print(f"{method:5} : erreur {mean_interval(error_rate(answers, data.test.labels))} %, "
          f"ECE {mean_interval(expected_calibration_error(answers, data.test.labels))} %")

# %% [markdown]
# Trois graines donnent une indication, pas un résultat. Regardez l'ECE avant l'erreur : c'est là que PS-KD se distingue, ou non.
#
# ## À retenir

# %%
naive_gain, true = (mean_interval(errors(1000, "seul") - errors(1000, name))
               for name in ("lot précédent", "lissage"))
hot, cold, strangers = fidelity.values()
display(Markdown(f"""
- Distiller le lot précédent gagne {points(naive_gain)} avec 1 000 images ; un lissage
  d'étiquettes, {true}. C'est le même remède, sous un autre nom.
- Ce gain se paie en calibration : ECE de {french(ece(1000, "lot précédent").mean())} %,
  contre {french(ece(1000, "seul").mean())} % pour le student seul. Une température
  réglée sur la validation la répare, sans changer une réponse.
- PS-KD garde la prédiction du **même exemple**. Avec 100 images, son ECE change de
  {points(mean_interval(ece(100, "PS-KD") - ece(100, "seul")))} par rapport au student
  seul, et son erreur de {mean_interval(errors(100, "PS-KD") - errors(100, "seul"))}.
- Un student de même architecture donne sur le test la réponse de son teacher dans
  {french(cold.mean)} % des cas à $T = 1$, {french(hot.mean)} % à $T = 4$ ; deux
  réseaux indépendants, {french(strangers.mean)} %. Imiter n'est pas savoir.
"""))

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
