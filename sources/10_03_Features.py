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
# **Que gagne-t-on à imiter l'intérieur du teacher ?**
#
# Voici deux chiffres, et l'endroit où quatre réseaux y sont actifs : plus une case est sombre, plus le réseau l'est ; le trait
# est le contour du chiffre. Les deux students de droite sont actifs là où l'est le teacher. L'un se trompe moins que le
# student seul. L'autre, qui n'a vu aucune étiquette, répond au hasard.
#
# ![Sur un 4 et un 7, la carte du student seul diffère de celle du teacher ; celles des deux students guidés lui sont presque égales, mais le dernier se trompe presque toujours](attachment:ouverture.png)
#
# Ce chapitre mesure ce que cette imitation apporte, ce qu'elle coûte, et ce qu'elle ne peut pas donner.

# %% tags=["bootstrap", "hide-input"]
from kdcourse import describe_environment, say

say(describe_environment())

# %% [markdown]
# ## Objectifs
#
# À la fin de ce chapitre, vous saurez :
#
# - lire et calculer une carte d'attention ;
# - dire ce que fait un adaptateur, et qui l'entraîne ;
# - choisir l'étage à imiter, et le poids de cette imitation, en mesurant ;
# - reconnaître les cas où imiter des features n'aide pas, ou fait perdre.
#
# **Durée : une heure** de lecture, et les exercices ; le notebook s'exécute en moins d'une minute.
#
# **Prérequis** : les chapitres 10.1 (ses mots, sa fonction `train_many`) et 10.2 (la perte KD et sa température), et ce
# qu'est une convolution.
#
# <details><summary>Les mots du chapitre</summary>
#
# | Dans ce chapitre | Sens |
# |---|---|
# | étage (*stage*) | un bloc du réseau : convolution, normalisation, ReLU ; numérotés 0, 1, 2, comme en Python |
# | *features* | ce que les couches calculent en chemin |
# | carte (*feature map*) | la sortie d'un étage, `(B, C, H, W)` : C canaux de H×W pixels |
# | carte d'attention (*attention map*) | une image H×W : où les canaux sont actifs |
# | *hint* | la carte du teacher que le student doit retrouver |
# | adaptateur (*adapter*, *regressor*) | la couche apprise qui met la carte du student au nombre de canaux du teacher |
# </details>
#
# ## Où le teacher peut guider
#
# Une prédiction tient en dix nombres. Les cartes en contiennent des milliers. Quand les images du student sont rares, c'est
# peut-être une aide de plus. Le schéma montre où elle entre.

# %%
from kdcourse.plots import plot_feature_scheme

plot_feature_scheme()

# %% [markdown]
# L'image traverse trois étages dans chaque réseau. À droite, KD compare les logits : c'est 10.2. À chaque étage, deux
# imitations sont possibles. L'attention compare deux images sans canaux. Le hint compare toute la carte : à l'étage 1, celle
# du student a 8 canaux, celle du teacher 32, et un adaptateur les met d'accord. Laquelle choisir, et à quel étage ?
#
# Les données sont les chiffres de 10.1, agrandis de 8×8 à 10×10 pixels par interpolation : aucun détail n'est ajouté,
# les cartes ont seulement plus de pixels. Le teacher apprend sur 1 000 images. Le student, presque dix fois plus petit,
# n'aura que 25 images étiquetées, puis 100 : il n'imite le teacher que sur elles. (Les réglages, eux, sont choisis sur 297 images de
# validation étiquetées : un luxe.)

# %%
import torch
from kdcourse import CNN, error_rate, french, load_dataset, markdown_table
from kdcourse import parameter_count, predict_features, train_one

torch.set_num_threads(1)  # deux fils n'accélèrent rien ici
digits = load_dataset("digits").resized(10)
few = digits.train.where(slice(0, 25))

def small_student():
    return CNN(channels=(8, 8, 8))

def big():
    return CNN(channels=(16, 32, 32))

teacher = train_one(big, digits.train, epochs=15, learning_rate=0.01)
teacher_error = error_rate(teacher(digits.test.images), digits.test.labels)
sizes = [parameter_count(model()) for model in (big, small_student)]
say(markdown_table(["réseau", "paramètres", "canaux par étage", "erreur de test (%)"], [
    ["teacher", sizes[0], "16, 32, 32", french(teacher_error)],
    ["student", sizes[1], "8, 8, 8", "à mesurer"]]))

# %% [markdown]
# ## La carte d'attention
#
# Zagoruyko et Komodakis (2017) renoncent aux canaux. En chaque pixel, ils gardent la moyenne des carrés des canaux :
# c'est une image, sombre là où le réseau est actif. Ils la divisent par sa norme, pour que seul l'endroit compte :
#
# $$Q = \frac{a}{\lVert a \rVert_2}, \qquad a_{hw} = \frac{1}{C} \sum_c f_{chw}^2, \qquad
# \mathcal{L}_{\text{AT}} = \frac{1}{B\,HW} \sum_{b,h,w} \big( Q^s_{bhw} - Q^t_{bhw} \big)^2$$
#
# Pour une seule image, et ses cartes `maps` de forme $(C, H, W)$, cela tient en deux lignes :
#
# ```python
# a = maps.square().mean(dim=0)  # (H, W)
# Q = a / a.norm()
# ```
#
# Ce n'est pas l'attention d'un Transformer : aucune requête, aucun poids appris, une activité que l'on mesure.
#
# Le nombre de canaux a disparu, donc l'adaptateur aussi. Si les deux réseaux n'ont pas la même taille de carte, on
# ramène le plus grand $a$ au plus petit, après le carré et **avant** la norme.
#
# ## Quel poids donner à l'attention
#
# Une carte $Q$ est de norme 1 : la moyenne de ses écarts au carré est au plus $2/HW$. Sur 100 pixels, c'est au plus
# 0,02, à côté d'une entropie croisée de l'ordre de 2. Mais ce qui déplace les poids n'est pas la valeur d'une perte,
# c'est son **gradient**. Mesurons-le, sur dix students neufs.
#
# **À vous de parier** : à l'étage 0, combien de fois le gradient des étiquettes dépasse-t-il celui de l'attention ?

# %%
from kdcourse import thousands
from kdcourse.measures import gradient_norms

seeds = list(range(10))
targets = predict_features(teacher, few.images)
norms = []
for seed in seeds:
    torch.manual_seed(seed)
    norms.append(gradient_norms(small_student(), few, targets))  # étiquettes, attention
rows = []
for stage, (by_labels, norm) in enumerate(torch.stack(norms).mean(dim=0).T):
    side = targets.maps[stage].shape[-1]
    ratio = by_labels / norm
    rows.append([f"étage {stage} ({side}×{side})", french(ratio),
                 thousands(10 * side**2), french(10 * side**2 / ratio, 0)])
say(markdown_table(["étage", "gradient des étiquettes / attention", "10·HW",
                    "à β = 10·HW, gradient de l'attention / étiquettes"], rows))

# %% [markdown]
# La deuxième colonne répond au pari. (Les deux gradients sont pris sur les mêmes paramètres : ceux que l'attention de cet étage
# atteint.) Plus la carte a de pixels, plus l'attention est légère : à l'étage 0, le student ne la sent presque pas. Les auteurs
# multiplient donc leur perte par $\beta = 1\,000$. Nous prenons $\beta = 10 \cdot HW$, qui suit le nombre de pixels : la
# dernière colonne montre que l'attention domine alors partout, au départ, d'un même ordre aux trois étages. La perte entière s'écrit
#
# $$\mathcal{L} = (1 - \alpha)\, \mathcal{L}_{\text{CE}} + \alpha\, \beta\, \mathcal{L}_{\text{AT}}.$$
#
# Préparons deux fonctions pour tout le chapitre. `attention` est la perte sur les étages que l'on veut, moyennée.
# `train` est l'entraînement, toujours le même : dix graines, 1 600 images vues, par lots de 10 (le dernier d'une
# époque peut être plus petit). Cela fait 192 pas à 25 images, 160 à 100 images.

# %%
from kdcourse import attention_loss, grid, train_many

def attention(*stages, factor=10):
    def guide(s, t, labels):
        terms = []
        for k in stages:
            beta = factor * s.maps[k][0, 0].numel()  # HW pixels
            terms.append(beta * attention_loss(s.maps[k], t.maps[k]))
        return sum(terms) / len(stages)
    return guide

def train(make, guide, size=25, alphas=0.5, features=None):
    part = digits.train.where(slice(0, size))
    return train_many(
        make, part, features or predict_features(teacher, part.images),
        **grid(alphas=alphas, seeds=seeds), distillation=guide,
        epochs=1600 // size, batch_size=10, learning_rate=0.02,
    )

# %% [markdown]
# Guidons d'abord le student à l'étage du milieu, l'étage 1, dont la carte a 25 pixels. Deux réglages fixent
# son poids : le facteur $\beta$, et le $\alpha$ de 10.1, qui laisse $1-\alpha$ aux étiquettes. Faisons varier
# $\beta$, de 1 à 2 500, avec $\alpha = 0{,}5$.

# %%
from kdcourse import mean_interval, points
from kdcourse.measures import mean_map, model_attention, uniform_map
from kdcourse.plots import plot_gains

alphas = [0.0, 0.25, 0.5, 0.75, 1.0]
weighed = train(small_student, attention(1), alphas=alphas)
error = dict(zip(alphas, weighed.table(digits.test)))  # alpha → dix graines
alone = error[0.0]
by_beta = {}
for factor in (0.04, 1, 10, 100):
    run = train(small_student, attention(1, factor=factor))
    by_beta[f"β = {thousands(int(25 * factor))}"] = alone - run.errors(digits.test)
weak, *strong = (gains.mean().item() for gains in by_beta.values())
plot_gains({"25 images, attention à l'étage 1": by_beta}, (
    f"À β = 1, {points(weak)}, rien d'établi ; de 25 à 2 500, gain "
    f"de {french(min(strong))} à {points(max(strong))}"))

# %% [markdown]
# Le gain est la différence appariée des erreurs de test : le student seul moins le student guidé, graine par graine.
# L'intervalle porte sur les graines ; il ignore l'échantillonnage des images. Un gain est
# calculé avant arrondi : il peut différer de 0,1 de ce que l'on soustrait de tête. Triangle : la méthode gagne ; rond : elle
# perd ; losange : l'intervalle contient 0.
#
# À $\beta = 1$, aucun gain n'est établi. Ensuite, la plage est large : de 25 à 2 500, les gains se valent. Le
# facteur exact importe peu, pourvu que le gradient se sente. Pourquoi un grand $\beta$ ne fait-il pas taire les étiquettes ? Une
# piste, que nous n'avons pas testée : cette attention n'atteint ni l'étage 2 ni la dernière couche. Les étiquettes y agissent seules,
# et Adam met leur gradient à l'échelle. (Ces
# deux réglages ont été choisis sur la validation ; les figures montrent le test.)
#
# ## Imiter n'est pas réussir
#
# Faisons varier $\alpha$, de 0 (le student seul) à 1 (l'attention seule). Nous retrouvons l'image d'ouverture. La
# *ressemblance* est le cosinus entre la carte du student et celle du teacher, moyen sur les images de test : 1 si
# elles coïncident. Les cartes dessinées sont celles d'une graine ; l'erreur et la ressemblance, des moyennes sur les dix.

# %% tags=["hide-input", "opening"]
from kdcourse import attention_map
from kdcourse.measures import map_similarity
from kdcourse.plots import plot_attention_maps
shown = {"student seul": 0.0, "guidé, α = 0,5": 0.5, "attention seule, α = 1": 1.0}
images, labels = digits.test
chosen = [int((labels == c).nonzero()[0]) for c in (4, 7)]
maps = predict_features(teacher, images).maps[1]
aim = attention_map(maps)
flat, mean = (french(map_similarity(attention_map(guess(maps)), aim).item(), 2)
              for guess in (uniform_map, mean_map))
say(f"Repères de ressemblance : une carte uniforme, {flat} ; la moyenne, {mean}. À "
    f"$\\alpha = 0{{,}}5$, le gain est de {points(mean_interval(alone - error[0.5]))}.")
columns = {f"teacher\nerreur {french(teacher_error)} %\n": aim[chosen]}
for name, a in shown.items():
    own = torch.stack([model_attention(weighed.one(alpha=a, seed=k), images)[1]
                       for k in seeds])
    wrong, close = error[a].mean(), french(map_similarity(own, aim).mean().item(), 2)
    columns[f"{name}\nerreur {french(wrong)} %\nressemblance {close}"] = own[0, chosen]
plot_attention_maps(images[chosen], labels[chosen], columns, (
    f"À α = 1, le student imite la carte, et se trompe dans {french(wrong)} % des cas"))

# %% [markdown]
# Lisez d'abord les repères. Une carte **uniforme**, la même valeur partout, ressemble déjà beaucoup à celle du
# teacher : le student seul ne fait pas mieux. La carte **moyenne** du teacher, la même pour toutes les images, s'en approche
# davantage. Les students guidés dépassent les deux : ils suivent le teacher image par image.
#
# L'erreur, elle, baisse, puis explose à $\alpha = 1$. Mais à $\alpha = 1$, aucune étiquette, aucun logit n'entraîne la dernière
# couche : tout student qui n'imite que des cartes finirait ainsi (pas KD : les logits entraînent cette
# couche). Cela ne dit donc pas ce que valent ces cartes. La section
# *Où, ou quoi ?* le mesurera, à l'étage 2.
#
# Le curseur parcourt ces mêmes students, sur six images et trois étages ; il s'ouvre à l'étage 1, celui que l'on guide.
# Les deux cartes côte à côte ont la même échelle.

# %%
from kdcourse.widgets import AttentionExplorer

first = digits.test.images[:6]
per_alpha = [model_attention(weighed.one(alpha=a, seed=0), first) for a in alphas]
AttentionExplorer(
    first, model_attention(teacher, first),
    [torch.stack(maps) for maps in zip(*per_alpha)], alphas, weighed.table(digits.test),
)

# %% [markdown]
# Amenez $\alpha$ de 0 à 0,25 : la carte du student rejoint celle du teacher. Amenez $\alpha$
# à 1 : elle y reste, et l'erreur est celle du hasard. Passez à l'étage 2, que rien n'a guidé : les deux cartes y diffèrent
# encore.
#
# ## Est-ce bien le teacher qui aide ?
#
# Un gain peut venir de la contrainte elle-même, quelle que soit la carte imposée. Essayons trois témoins, trois cartes
# sans le savoir du teacher sur l'image : une carte uniforme ; sa carte moyenne, la même pour toutes ; celles d'un réseau
# semblable qui n'a rien appris. À droite, quatre fois plus de pas : ces gains-là ont été mesurés d'avance, et sont relus.
#
# **À vous de parier** : l'une des trois aide-t-elle autant que la vraie ?

# %%
from kdcourse.measures import FeatureBudgets

stored = FeatureBudgets.load()
torch.manual_seed(0)
raw = predict_features(big(), few.images)
controls = {"carte uniforme": targets.map(uniform_map),
            "carte moyenne": targets.map(mean_map), "teacher non entraîné": raw}
live = {"attention, étage 1": alone - error[0.5]}
for name, features in controls.items():
    run = train(small_student, attention(1), features=features)
    live[name] = alone - run.errors(digits.test)
longer = {name: stored.gain(25, name, 4.0) for name in live}
worth = {name: [mean_interval(gains["attention, étage 1"] - gains[name])
                for gains in (live, longer)] for name in controls}
say(markdown_table(["le vrai teacher gagne, sur…", "192 pas (points)", "768 pas"],
                   [[name, *found] for name, found in worth.items()]))
soon, late = (french(found.mean) for found in worth["carte uniforme"])
plot_gains({"192 pas": live, "768 pas (enregistré)": longer}, (
    f"Le vrai teacher devance une carte uniforme de {soon} points à 192 pas, "
    f"de {late} à 768"))

# %% [markdown]
# La première ligne de la figure est le vrai teacher. Le tableau l'oppose à chaque témoin, graine par graine : il les dépasse
# tous, aux deux budgets. La carte moyenne et le teacher non entraîné n'apportent rien d'établi. La carte uniforme gagne
# aussi quand l'entraînement s'allonge, plus de la moitié du gain du vrai teacher en moyenne : une part de ce gain pourrait se passer
# de teacher.
#
# ## Le hint et son adaptateur
#
# Le hint demande plus : retrouver les cartes elles-mêmes, canaux compris (FitNets, Romero et al., 2015). Mais 8
# canaux ne se comparent pas à 32. Même à nombres égaux, rien ne dit que le canal 5 de l'un soit le canal 5 de l'autre :
# leur ordre est le hasard d'un entraînement.
#
# On place donc entre les deux un adaptateur, une convolution 1×1. En chaque pixel, elle mélange les 8 canaux du student
# pour refaire chacun des 32 du teacher. Voici un de ces 32 mélanges, avec un student et un adaptateur neufs, au dernier
# étage, dont les 3×3 pixels se lisent d'un coup d'œil.

# %%
from kdcourse import AdaptationLayer
from kdcourse.plots import plot_adapter

torch.manual_seed(0)
student, adapter = small_student(), AdaptationLayer(8, 32)
channel = int(targets.maps[2][0].flatten(1).norm(dim=1).argmax())  # le plus actif

@torch.no_grad()
def one_mix():
    ours = student.forward_features(few.images[:1]).maps[2][0]
    weights, bias = adapter.adapt.weight[channel, :, 0, 0], adapter.adapt.bias[channel]
    return plot_adapter(ours, weights, bias.item(), targets.maps[2][0, channel])

one_mix()

# %% [markdown]
# Suivez le carré orange : la valeur du mélange en ce pixel est la somme des huit valeurs du student au même pixel, chacune
# fois son poids, plus le biais. Les huit poids sont les mêmes partout. Tirés au hasard, ils ne refont rien. Avec $r$
# l'adaptateur et $N$ le nombre d'éléments, le hint est
#
# $$\mathcal{L}_{\text{hint}} = \frac{1}{N} \sum_n \big( r(f^s)_n - f^t_n \big)^2$$
#
# Ces poids, personne ne les connaît d'avance. **Ils s'apprennent avec le student** ; le teacher reste figé. Voici toute
# la boucle : deux choses changent, la perte et la liste donnée à l'optimiseur, `trained`. Le facteur 10 a été choisi sur la
# validation ; $\alpha$ vaut 0,5.

# %%
import torch.nn.functional as F
from kdcourse import hint_loss

def fit(student, adapter, trained, seed=0):
    optimizer = torch.optim.Adam(trained, lr=0.02)
    shuffle, losses = torch.Generator().manual_seed(seed), torch.zeros(64)
    for epoch in range(64):
        for batch in torch.randperm(25, generator=shuffle).split(10):
            features = student.forward_features(few.images[batch])
            gap = hint_loss(adapter(features.maps[2]), targets.maps[2][batch])
            hard = F.cross_entropy(features.logits, few.labels[batch])
            loss = 0.5 * 10 * gap + 0.5 * hard
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[epoch] += loss.item() * len(batch) / 25
    return losses

fit(student, adapter, [*student.parameters(), *adapter.parameters()])  # les deux
one_mix()

# %% [markdown]
# Les canaux du student ont changé, les poids aussi : ensemble, ils s'approchent du canal demandé. L'adaptateur ne sert
# plus ; on le jette, et le student garde sa taille.
#
# ## Quel étage imiter
#
# `AdaptedStudent` range le student et son adaptateur dans un seul module : `train_many` donne donc les deux à
# l'optimiseur. Essayons chaque étage, et choisissons **sur la validation**. À l'étage 2, notre règle pèse un peu plus
# qu'à l'étage 1 : deux poids plus légers y séparent l'effet de l'étage de celui du poids.
#
# **À vous de parier** : l'entrée du réseau, le milieu, ou le dernier étage ? Le même pour le hint et pour l'attention ?

# %%
from kdcourse import AdaptedStudent

def adapted(stage):
    channels = (16, 32, 32)[stage]
    return lambda: AdaptedStudent(small_student(), stage, 8, channels)

def hint(stage):
    return lambda s, t, labels: 10 * hint_loss(s.maps[stage], t.maps[stage])

runs = {f"hint, étage {k}": train(adapted(k), hint(k)) for k in range(3)}
tried = {f"attention, étage {k}": attention(k) for k in range(3)} | {
    f"attention, étage 2, β = {b}": attention(2, factor=b / 9) for b in (40, 4)}
tried["attention, tous"] = attention(0, 1, 2)
runs |= {name: train(small_student, guide) for name, guide in tried.items()}
reference = weighed.table(digits.validation)[alphas.index(0)]
layers = {name: reference - run.errors(digits.validation) for name, run in runs.items()}
longer = {name: stored.gain(25, name, 4.0, "validation") for name in runs}
deep, flat = (layers[f"{one}, étage 2"].mean().item() for one in ("hint", "attention"))
plot_gains({"192 pas": layers, "768 pas (enregistré)": longer}, (
    f"Étage 2 : le hint gagne {points(deep)}, l'attention rien d'établi (validation)"))

# %% [markdown]
# L'attention ne gagne qu'au milieu ; le hint, au milieu et au fond, davantage au fond en moyenne. À l'entrée, rien n'est établi pour
# l'un ni pour l'autre. Alléger son poids n'y
# change rien d'établi. Réunir les trois étages ne fait pas mieux que celui du milieu. Le constat est le même avec quatre fois plus
# de pas. (Le facteur du hint, lui, est le même aux trois étages : nous ne l'avons pas réglé étage par étage.) La suite garde donc le hint à l'étage 2 et l'attention à l'étage 1.
#
# ## Où, ou quoi ?
#
# Prenons des students qui ne font qu'imiter l'étage 2 ($\alpha = 1$). Figeons leurs étages, leur *corps*, et entraînons leur dernière
# couche, elle seule, sur les 25 étiquettes (192 pas de plus). L'erreur dit alors ce que l'imitation a mis dans le corps. Un corps tiré au hasard
# sert de repère ; le gain se compte, comme toujours, sur le student seul.
#
# **À vous de parier** : un corps qui n'a imité que l'attention vaut-il celui du student seul ? Et celui du hint ?

# %%
def last_layer(model, seed):  # elle seule apprend : les étages ne bougent plus
    torch.manual_seed(seed)
    head = torch.nn.Linear(8 * 4, 10)  # 8 canaux, moyennés sur 2×2 pixels
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    inside, unseen = (model.forward_features(images).embedding.detach()
                      for images in (few.images, digits.test.images))
    for _ in range(192):
        loss = F.cross_entropy(head(inside), few.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return error_rate(head(unseen), digits.test.labels)

bodies = {"corps au hasard": (small_student, lambda s, t, labels: 0 * s.logits.sum()),
          "corps de l'attention, étage 2": (small_student, attention(2)),
          "corps du hint, étage 2": (adapted(2), hint(2))}
for name, (make, guide) in bodies.items():
    imitators = train(make, guide, alphas=1.0)
    blind = imitators.errors(digits.test)  # à la fin, ceux du hint
    bodies[name] = alone - torch.stack(list(map(last_layer, imitators, seeds)))

# %% tags=["hide-input"]
joint = torch.stack(list(map(last_layer, runs["hint, étage 2"], seeds)))
bodies["hint et étiquettes, puis la couche"] = alone - joint
lone = [last_layer(weighed.one(alpha=0.0, seed=seed), seed) for seed in seeds]
bodies["student seul, puis la couche"] = alone - torch.stack(lone)
longer = {name: stored.gain(25, name, 4.0) for name in list(bodies)[:3]}
what, where = (mean_interval(bodies[f"corps {name}, étage 2"])
               for name in ("du hint", "de l'attention"))
say(f"Avant cela, les students du hint se trompaient {french(blind.mean())} % du "
    "temps. Leur dernière couche entraînée, ils gagnent "
    f"{points(what)} sur le student seul. À 768 pas, "
    f"{points(mean_interval(longer['corps du hint, étage 2']))}.",
    "Sur un corps au hasard, celui de l'attention gagne "
    f"{points(mean_interval(bodies[list(bodies)[1]] - bodies['corps au hasard']))}.")
plot_gains({"192 pas": bodies, "768 pas (enregistré)": longer}, (
    f"La dernière couche entraînée seule : le hint gagne {points(what.mean)}, "
    "l'attention au même étage rien d'établi"))

# %% [markdown]
# Avec le hint aussi, $\alpha = 1$ donnait un student qui répond au hasard : ce hasard ne disait rien des cartes. La dernière
# couche entraînée, tout se sépare. Sans avoir vu une étiquette, le corps de l'attention laisse loin derrière un corps au hasard, et
# ne se distingue pas du student seul : savoir **où** apprend déjà quelque chose. Celui du hint va bien plus loin : les canaux disent **quoi**.
# (À l'étage 2, pour les deux ; c'est celui du hint.)
#
# Deux phases feraient-elles mieux que notre hint, qui gagnait moins ? Gardons les étages de ce hint entraîné avec les étiquettes, et
# réapprenons sa dernière couche (l'avant-dernière ligne) : le gain rejoint celui du corps sans étiquettes. Au student seul, la même
# opération n'apporte rien d'établi (la dernière ; ces deux témoins n'ont été mesurés qu'à 192 pas). FitNets commence lui aussi par le hint seul, mais sa seconde phase entraîne tout le student, avec KD ;
# ici, figer le corps sert à le juger.
#
# ## L'expérience
#
# Que gagne-t-on, en tout ? Comparons au student seul KD (10.2, à $T = 4$), le hint, l'attention, et chacun des deux ajouté
# à KD sous le même $\alpha = 0{,}5$. Mêmes poids de départ, mêmes lots, même nombre de pas ; 25 images, puis 100.
#
# **À vous de parier** : si le student imite déjà les réponses, l'intérieur apporte-t-il encore quelque chose ?

# %%
from itertools import product
from kdcourse import kd_loss

def kd(s, t, labels):
    return kd_loss(s.logits, t.logits, 4.0)

methods = {
    "KD": (small_student, kd), "hint": (adapted(2), hint(2)),
    "attention": (small_student, attention(1)),
    "hint + KD": (adapted(2), lambda *batch: hint(2)(*batch) + kd(*batch)),
    "attention + KD": (small_student, lambda *batch: attention(1)(*batch) + kd(*batch)),
}
test = {(25, "seul"): alone, (25, "attention"): error[0.5],  # déjà entraînés
        (25, "hint"): runs["hint, étage 2"].errors(digits.test),
        (100, "seul"): train(small_student, kd, 100, alphas=0).errors(digits.test)}
for size, name in set(product((25, 100), methods)) - set(test):
    test[size, name] = train(*methods[name], size).errors(digits.test)
heavier = train(small_student, kd, alphas=0.9).errors(digits.test)  # à 25 images
def gain(size, method, against="seul"):
    return mean_interval(test[size, against] - test[size, method])

# %% tags=["hide-input"]
names = ["seul", *methods]
panels = {f"{size} images étiquetées": {
    name: test[size, "seul"] - test[size, name] for name in methods
} for size in (25, 100)}
rows = [[f"{size} images", *(french(test[size, name].mean()) for name in names)]
        for size in (25, 100)]
say(markdown_table(["erreur de test (%)", *names], rows),
    f"Ajouté à KD, à 25 images, le hint fait gagner "
    f"{points(gain(25, 'hint + KD', 'KD'))}. "
    f"L'attention, {points(gain(25, 'attention + KD', 'KD'))}.",
    f"KD seul, à $\\alpha = 0{{,}}9$, 25 images : {french(heavier.mean())} % d'erreur. "
    f"Hint + KD gagne {points(mean_interval(heavier - test[25, 'hint + KD']))} dessus.")
few_gain, more_gain = (gain(size, "hint + KD").mean for size in (25, 100))
plot_gains(panels, f"Hint + KD gagne {points(few_gain)} à 25 images, "
                   f"{french(more_gain)} à 100")

# %% [markdown]
# À 25 images, tout gagne, et l'intérieur s'ajoute aux réponses : les deux meilleurs students imitent l'un **et** les
# autres. Sous le même $\alpha$, deux imitations s'additionnent : le teacher y pèse donc davantage. Ne serait-ce que cela ? KD seul à
# $\alpha = 0{,}9$, où il pèse neuf fois les étiquettes, n'y suffit pas (la dernière ligne, sous le tableau). À 100 images, les gains fondent ; celui de l'attention seule n'est pas établi.
#
# ## Et avec plus de pas ?
#
# Un gain mesuré à un seul budget peut n'être qu'une avance. Voici les mêmes méthodes à cinq budgets, du quart au quadruple du
# nôtre, mesurées d'avance. Dans le dépôt du cours, `python -m benchmarks features` les refait. Ici, la forme désigne la méthode ; un
# marqueur creux : rien d'établi.

# %% tags=["hide-input"]
from IPython.display import display
from kdcourse.plots import plot_budgets
roles = ("neutral", "distilled", "other")
families = {"sans KD": ("KD", "hint, étage 2", "attention, étage 1"),
            "avec KD": ("KD", "hint + KD", "attention + KD")}
panels = {f"{size} images, {name}": (stored.steps[size], {
    method: (stored.gains(size, method), role) for method, role in zip(family, roles)
}) for size in (25, 100) for name, family in families.items()}
plain, both, other = (stored.gain(25, f"{one}KD", 4.0)
                      for one in ("", "hint + ", "attention + "))
best, more, also = map(mean_interval, (both, both - plain, other - plain))
lost = {beta: [mean_interval(stored.gain(100, f"attention, étage 2{end}", times)) for
        times in (1, 4)] for beta, end in ((90, ""), (40, ", β = 40"), (4, ", β = 4"))}
display(plot_budgets(
    panels, f"Au quadruple des pas, hint + KD gagne {points(best.mean)} à 25 images"))
say(f"Ces gains ont été {stored.origin}. Au quadruple, à 25 images, hint + KD gagne "
    f"{points(best)} sur le student seul. Sur KD, {points(more)}.",
    f"Attention + KD, sur KD : {points(also)}. L'attention à l'étage 2, à 100 images :",
    markdown_table(["β", "gain à 160 pas (points)", "gain à 640 pas (points)"],
                   [[beta, *found] for beta, found in lost.items()]))

# %% [markdown]
# Trois choses se lisent.
#
# - **Imiter coûte souvent d'abord.** Au quart du budget, à 100 images, toutes les courbes sont sous 0 : avec trop peu de pas,
#   le student qui imite est en retard. À 25 images, l'attention fait exception.
# - **Ensuite, les gains durent.** Au budget du chapitre et au quadruple, hint + KD et attention + KD sont devant KD à 25 images. À
#   100 images, tout se resserre, et l'attention seule n'a de gain établi à aucun budget. À 25 images et 768 pas, le hint seul et KD se rejoignent.
# - **Une imitation peut faire perdre.** À 100 images, l'attention à l'étage 2 (le tableau) est sous le student seul avec notre
#   poids, $\beta = 90$. Un poids plus léger perd moins, en moyenne ; aucun ne gagne. Le hint, au même étage, gagne.
#
# Une réserve : il n'y a ici qu'un teacher, et un seul choix des 25 images.
#
# Pourquoi l'attention n'aide-t-elle pas à cet étage ? Nous ne l'avons pas mesuré. Une piste : juste avant les logits,
# imposer où les canaux sont actifs laisse moins de liberté pour dire quelle classe on voit.
#
# <details><summary>Des tableaux publiés montrent aussi des pertes</summary>
#
# Quatre des treize couples du README de RepDistiller. Exactitude sur CIFAR-100, en %, une valeur par case, sans
# intervalle ; ce sont leurs mesures, pas les nôtres :
#
# | RepDistiller (README du dépôt) | teacher | student seul | KD | FitNet (hint) | AT |
# |---|---|---|---|---|---|
# | resnet32x4 → resnet8x4 | 79,42 | 72,50 | 73,33 | 73,50 | 73,44 |
# | wrn-40-2 → wrn-16-2 | 75,61 | 73,26 | 74,92 | 73,58 | 74,08 |
# | vgg13 → MobileNetV2 | 74,64 | 64,60 | 67,37 | 64,14 | 59,40 |
# | resnet32x4 → ShuffleNetV1 | 79,42 | 70,50 | 74,07 | 73,59 | 71,73 |
#
# Dans les deux premiers couples, hint et AT gagnent un point ou moins. De vgg13 à MobileNetV2, AT est cinq points **sous** le
# student seul ; vers ShuffleNetV1, pourtant d'une autre famille aussi, les deux gagnent. KD gagne dans les quatre cas.
# </details>
#
# <details><summary>Comment nous avons réglé</summary>
#
# Tout a été choisi sur la validation. Essayés : des images de 8, 10, 12 et 16 pixels de côté ; des lots de 10, 25 et 50 ;
# des pas d'apprentissage de 0,003, 0,005, 0,01 et 0,02 ; des students de 4, 8 ou 16 canaux par étage, ou à deux étages
# seulement ; 25, 50 et 100 images ; KD à $\alpha = 0{,}9$ ; pour le hint, les facteurs 1, 3, 10, 30 et 100 (à partir de
# 10, dix graines ne les départagent plus) ; pour l'attention, 0,1, 0,3, 1, 3, 10 et 30 fois HW. Dix autres graines ont
# retenu les mêmes étages. Le critère était le gain des méthodes,
# non l'erreur du student seul : ces réglages montrent où l'effet se voit.
# </details>
#
# ## Chasse au bug
#
# Une collègue range ses adaptateurs dans une liste : un seul aujourd'hui, un par étage demain. Elle reprend notre boucle, `fit`,
# sur les mêmes 25 images. Tout s'exécute, la perte descend, mais ses students gagnent bien moins que les nôtres. Lisez son code, regardez les
# deux courbes, et cherchez avant de dérouler la réponse.

# %%
from kdcourse.plots import plot_curves

class Guided(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.student = small_student()
        self.adapters = [AdaptationLayer(8, 32)]

curves, errors = [], []
for seed in seeds:
    torch.manual_seed(seed)
    model = Guided()
    curves.append(fit(model.student, model.adapters[0], model.parameters(), seed))
    errors.append(error_rate(model.student(digits.test.images), digits.test.labels))
hers, ours = torch.stack(errors), runs["hint, étage 2"]
say(f"Sur le student seul, la collègue gagne {points(mean_interval(alone - hers))}. "
    f"Nous gagnions {points(gain(25, 'hint'))}.")
plot_curves(range(1, 65), {"collègue": (torch.stack(curves).T, "neutral"),
                           "nous": (ours.losses.T, "distilled")},
            "époque", "perte d'entraînement", "La perte de la collègue reste au-dessus")

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# `model.parameters()` ne cherche que dans les modules, et une liste Python n'en est pas un. L'optimiseur n'a jamais reçu
# l'adaptateur : il reste la matrice tirée au hasard au départ. Huit canaux, mélangés n'importe comment, doivent redonner les 32 du
# teacher. Aucune erreur ne le signale : le gradient traverse l'adaptateur, le student apprend, la perte descend. L'indice est un compte,
# `parameter_count(model)` : celui du student seul.
#
# La réparation tient en un mot : `torch.nn.ModuleList([AdaptationLayer(8, 32)])`.
# </details>

# %% tags=["hide-input", "repair"]
repaired = Guided()
before = parameter_count(repaired)
repaired.adapters = torch.nn.ModuleList(repaired.adapters)
won = mean_interval(hers - ours.errors(digits.test))
ratio = torch.stack(curves)[:, -1].mean() / ours.losses[:, -1].mean()
say("<details><summary><b>Ce que la réparation change</b></summary>\n\n"
    f"Par la liste, l'optimiseur reçoit {thousands(before)} nombres ; par "
    f"`ModuleList`, {thousands(parameter_count(repaired))}. Notre student, dont "
    f"l'adaptateur apprend, gagne {points(won)} sur celui de la collègue. La perte "
    f"finale de la collègue était {french(ratio)} fois la nôtre.\n\n</details>")

# %% [markdown]
# ## À vous de jouer
#
# **Exercice 10.3 a.** Écrivez `my_map(features)`, la carte d'attention : `(B, C, H, W)` vers `(B, 1, H, W)`, chaque
# carte de norme L2 égale à 1.
#
# **Exercice 10.3 b.** Écrivez `my_attention_loss(student, teacher)`. Les cartes du teacher sont plus grandes :
# ramenez ce qu'il faut à la taille du student par `F.adaptive_avg_pool2d`, au bon moment.
#
# **Exercice 10.3 c.** Un pas de descente de gradient pour l'adaptateur. Écrivez
# `adapter_step(student, teacher, weight, learning_rate)` : les cartes du student et du teacher, la matrice `(canaux du
# teacher, canaux du student)` de l'adaptateur, sans biais. Rendez cette matrice après un pas sur la perte du hint
# (facteur 1).

# %% tags=["nbval-check-output"]
from kdcourse import check

def my_map(features):
    ...  # à compléter

def my_attention_loss(student, teacher):
    ...  # à compléter

def adapter_step(student, teacher, weight, learning_rate):
    ...  # à compléter

_ = check("10.3 a", my_map)
_ = check("10.3 b", my_attention_loss)
_ = check("10.3 c", adapter_step)

# %% [markdown]
# <details><summary>Une solution de 10.3 a</summary>
#
# ```python
# def my_map(features):
#     energy = features.square().mean(dim=1, keepdim=True)
#     return F.normalize(energy.flatten(1), dim=1).view_as(energy)
# ```
# </details>
#
# <details><summary>Une solution de 10.3 b</summary>
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
# <details><summary>Une solution de 10.3 c</summary>
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
# **Exercice 10.3 d.** Prévoir, puis mesurer. Donnons à chaque image les cartes qu'un teacher, le vrai, calcule pour **une
# autre** : celle d'avant, dans les 25. Le student imite le hint à l'étage 2 ; rien d'autre ne change.
#
# 1. Dans `prediction`, écrivez ce que vous attendez : `"gain"`, `"recul"` ou `"rien d'établi"`.
# 2. `experiment` entraîne ces students, et rend dix gains : l'erreur de test du student seul, `alone`, moins la leur.
#    `targets.map(f)` applique `f` à chaque tenseur, `part.roll(1, dims=0)` décale les exemples d'un rang, et `train` a
#    un argument `features`.
# 3. Lisez l'intervalle, et complétez `reading` avec les mêmes mots.

# %% tags=["nbval-check-output"]
prediction = ...  # à compléter

def experiment():
    ...  # à compléter

reading = ...  # à compléter
_ = check("10.3 d", prediction, experiment, reading)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# prediction = "rien d'établi"  # votre prévision peut différer : elle ne compte pas
#
# def experiment():
#     others = targets.map(lambda part: part.roll(1, dims=0))
#     misled = train(adapted(2), hint(2), features=others)
#     return alone - misled.errors(digits.test)
#
# reading = "recul"
# ```
#
# Les cartes d'une autre image contredisent l'étiquette : le student recule.
# </details>
#
# ## Quiz
#
# Choisissez, puis déroulez l'option.
#
# **1. Le student et le teacher ont tous deux 32 canaux. Que perd-on à ôter une convolution 1×1 apprise ?**
#
# <details><summary>Rien, les formes sont égales</summary>Non : les formes le sont, mais le student doit alors refaire chaque canal du
# teacher, à la même place.</details>
# <details><summary>L'entraînement devient impossible</summary>Non : le student part au hasard, il peut apprendre l'ordre du
# teacher.</details>
# <details><summary>De la liberté : un mélange linéaire ne suffit plus</summary>Oui : avec l'adaptateur, le student garde ses propres
# canaux, pourvu que l'on puisse en tirer ceux du teacher. (À nombres égaux, `AdaptationLayer` rend l'identité, et perd cette liberté : pour la garder, mettez-y une `Conv2d(32, 32, 1)`.)</details>
#
# **2. Qui entraîne l'adaptateur ?**
#
# <details><summary>L'optimiseur du student</summary>Oui : ses paramètres s'ajoutent à ceux du student, et on le jette à
# la fin.</details>
# <details><summary>Personne : le teacher est figé</summary>Non : c'est le symptôme de la chasse au bug. Jamais entraîné, il
# reste un mélange au hasard.</details>
# <details><summary>L'optimiseur du teacher, avant la distillation</summary>Non : le teacher a fini d'apprendre, et il ne
# connaît pas les canaux du student.</details>
#
# **3. Pourquoi l'attention n'a-t-elle pas besoin d'adaptateur ?**
#
# <details><summary>Sa perte est trop petite pour en dépendre</summary>Non : elle est petite, mais c'est $\beta$ qui s'en
# occupe.</details>
# <details><summary>Elle fait la moyenne des carrés sur les canaux</summary>Oui : il reste une image H×W, dont la taille
# se règle par une moyenne.</details>
# <details><summary>Elle ne compare que le canal le plus actif</summary>Non : tous les canaux entrent dans la
# moyenne.</details>
# <details><summary>Elle apprend ses poids, comme un Transformer</summary>Non : rien ne s'apprend dans cette
# carte.</details>
#
# **4. Une perte d'attention à l'étage 1, avec $\alpha = 0{,}5$ et $\beta = 1$ : que prévoyez-vous ?**
#
# <details><summary>Un bon compromis, moitié-moitié</summary>Non : la moitié d'un gradient bien trop petit ne pèse
# presque rien.</details>
# <details><summary>Un student qui répond au hasard</summary>Non : c'est ce qui arrive à $\alpha = 1$, sans
# étiquettes.</details>
# <details><summary>Un student qui gagne moitié moins</summary>Non : à ce poids, aucun gain n'est établi.</details>
# <details><summary>Le student seul, ou presque</summary>Oui : la figure sur $\beta$ ne les distingue pas.</details>
#
# **5. À $\alpha = 1$, un student imite seulement le hint. Pourquoi répond-il au hasard ?**
#
# <details><summary>Il n'a pas convergé</summary>Non : sa dernière couche entraînée, le même student dépasse le student
# seul.</details>
# <details><summary>Ses étages n'ont rien appris d'utile</summary>Non : ils en savent assez pour dépasser le student seul, une fois
# la dernière couche entraînée.</details>
# <details><summary>Rien n'a entraîné sa dernière couche</summary>Oui : aucune étiquette, aucun logit ne l'a atteinte. Ses étages,
# eux, ont appris.</details>
#
# ## Sur GPU
#
# Et sur de vraies photos ? La fonction `distill` de 10.1 entraîne un student à la fois, par lots ; le hint y reçoit son
# adaptateur, et l'optimiseur avec lui. Les poids sont ceux du chapitre : facteur 10 pour le hint à l'étage 2, $10 \cdot
# HW$ pour l'attention à l'étage 1. Sans GPU, le budget aussi : la cellule refait trois des students mesurés plus haut.
# Avec un GPU, elle prend CIFAR-10, des réseaux de trois et quatre étages, et 20 époques.

# %%
from kdcourse import Choice, best_device, color_student, color_teacher
from kdcourse import distill, distill_seeds, model_error

if gpu := best_device().type == "cuda":
    data, small = load_dataset("cifar10"), color_student
    large = distill(color_teacher, data.train, method="seul", epochs=20, jitter=2,
                    output="runs/cifar10-teacher", resume=True).model
else:
    data, small, large = digits._replace(train=few), small_student, teacher
pixels = predict_features(small(), data.train.images[:1].cpu()).maps[1][0, 0].numel()
choices = {"seul": None, "hint": Choice(0.5, scale=10, stage=2),
           "attention": Choice(0.5, scale=10 * pixels, stage=1)}
for method, choice in choices.items():
    found = distill_seeds(
        small, data.train, large, range(3), method=method, choice=choice,
        epochs=20 if gpu else 64, batch_size=128 if gpu else 10,
        learning_rate=0.001 if gpu else 0.02, output="runs/cifar10" if gpu else None)
    errors = torch.tensor([model_error(model, data.test) for model in found])
    say(f"{method} : erreur de test {mean_interval(errors)} %, trois graines")

# %% [markdown]
# Trois graines donnent une indication, pas un résultat. Sans GPU, l'ordre de grandeur est celui du tableau, aux arrondis
# et aux graines près. Sur CIFAR-10, images, réseaux et budget sont autres, et ces poids restent à régler : l'ordre du
# hint et de l'attention peut y changer.
#
# ## À retenir

# %% tags=["hide-input"]
first_gain = points(gain(25, "hint + KD", "KD"))
second_gain = points(gain(25, "attention"))
say(f"""
- Quand les images sont rares, imiter l'intérieur s'ajoute à imiter les
  réponses : à 25 images, hint + KD gagne {first_gain} sur KD.
- Le hint dit quoi, l'attention seulement où : à l'étage 2, sans une étiquette pour
  ses étages, le student du hint gagne {points(what)}, celui de l'attention, rien
  d'établi.
- Une imitation se pèse par son gradient : à l'étage 1, l'attention ne gagne rien
  d'établi à $\\beta = 1$, et {second_gain} à $10 \\cdot HW$.
- L'adaptateur s'apprend avec le student : oublié de l'optimiseur, il ôte au hint
  {points(won)}.
- L'étage et le budget se mesurent : à l'étage 2, à 100 images, le gain de
  l'attention ($\\beta = 90$) est de {points(lost[90][1])}, même avec quatre fois
  plus de pas.
""")

# %% [markdown]
# ## Références
#
# - A. Romero et al., *FitNets: Hints for Thin Deep Nets*, 2015, [arXiv:1412.6550](https://arxiv.org/abs/1412.6550). Le
#   hint et son adaptateur (section 2.2), en deux phases chez eux, une seule ici.
# - S. Zagoruyko, N. Komodakis, *Paying More Attention to Attention*, 2017,
#   [arXiv:1612.03928](https://arxiv.org/abs/1612.03928). La carte d'attention (section 3.1).
# - Y. Tian, D. Krishnan, P. Isola, *Contrastive Representation Distillation*, 2020,
#   [arXiv:1910.10699](https://arxiv.org/abs/1910.10699), et le README de
#   [RepDistiller](https://github.com/HobbitLong/RepDistiller), d'où viennent les exactitudes sur CIFAR-100.
# - G. Hinton, O. Vinyals, J. Dean, *Distilling the Knowledge in a Neural Network*, 2015,
#   [arXiv:1503.02531](https://arxiv.org/abs/1503.02531). La distillation des logits.
#
# **La suite** : 10.4 ne compare plus deux cartes, mais les ressemblances entre exemples.
