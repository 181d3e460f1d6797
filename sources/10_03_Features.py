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
# Voici deux chiffres, et où quatre réseaux y sont actifs : sombre, le réseau l'est beaucoup ; le trait est le contour du chiffre. Les
# deux students de droite sont actifs là où l'est le teacher. Le dernier répond pourtant au hasard ; son voisin, lui, se trompe moins que
# le student seul.
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
# - choisir la couche à imiter, et combien peser cette imitation, en mesurant ;
# - reconnaître les cas où imiter des features n'aide pas, ou fait perdre.
#
# **Durée : une heure** de lecture ; le notebook s'exécute en moins d'une minute.
#
# **Prérequis** : le chapitre 10.1 (ses mots, sa perte, sa fonction `train_many`), et ce qu'est une convolution.
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
# Une prédiction tient en dix nombres. Les cartes en contiennent des milliers. Quand les étiquettes sont rares, c'est
# peut-être une aide de plus. Le schéma montre où elle entre.

# %%
from kdcourse.plots import plot_feature_scheme

plot_feature_scheme()

# %% [markdown]
# L'image traverse trois étages dans chaque réseau. À droite, la flèche de 10.2 compare les logits. Le hint compare deux
# cartes : celle du student a 8 canaux, celle du teacher 32, et une convolution 1×1 les met d'accord. L'attention
# compare deux images sans canaux : elle n'a pas besoin d'adaptateur.
#
# Les données sont les chiffres de 10.1, agrandis de 8×8 à 10×10 pixels par interpolation : aucun détail n'est ajouté,
# les cartes ont seulement plus de pixels. Le teacher apprend sur 1 000 images. Le student, dix fois plus petit, n'aura
# que 25 étiquettes, puis 100.

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
error = error_rate(teacher(digits.test.images), digits.test.labels)
sizes = [parameter_count(model()) for model in (big, small_student)]
say(markdown_table(["", "paramètres", "canaux par étage", "erreur de test (%)"], [
    ["teacher", sizes[0], "16, 32, 32", french(error)],
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
# Ce n'est pas l'attention d'un Transformer : aucune requête, aucun poids appris, une activité que l'on mesure.
#
# Le nombre de canaux a disparu, donc l'adaptateur aussi. Si les deux cartes n'ont pas la même taille, on ramène la plus
# grande à la plus petite **avant** de normaliser ; après, sa norme ne vaudrait plus 1.
#
# ## Combien peser l'attention
#
# Une carte $Q$ est de norme 1 : la moyenne de ses écarts au carré est au plus $2/HW$. Sur 100 pixels, c'est au plus
# 0,02, à côté d'une entropie croisée de l'ordre de 2. Mais ce qui déplace les poids n'est pas la valeur d'une perte,
# c'est son **gradient**. Mesurons les deux, sur dix students neufs.
#
# **À vous de parier** : à l'étage 0, combien de fois le gradient des étiquettes dépasse-t-il celui de l'attention ?

# %%
from kdcourse import attention_loss
from kdcourse.measures import gradient_norms

seeds = list(range(10))
targets = predict_features(teacher, few.images)
norms, losses = [], []
for seed in seeds:
    torch.manual_seed(seed)
    model = small_student()
    norms.append(gradient_norms(model, few, targets))  # étiquettes, puis chaque étage
    maps = model.forward_features(few.images).maps
    losses.append(torch.stack(list(map(attention_loss, maps, targets.maps))))
labels_norm, *stage_norms = torch.stack(norms).mean(dim=0)
rows = []
for stage, (loss, norm) in enumerate(zip(torch.stack(losses).mean(0), stage_norms)):
    side = targets.maps[stage].shape[-1]
    rows.append([f"étage {stage} ({side}×{side})", french(loss.item(), 4),
                 french(labels_norm / norm, 0)])
header = ["", "perte d'attention", "gradient des étiquettes / attention"]
say(markdown_table(header, rows))

# %% [markdown]
# La dernière colonne répond au pari. Plus la carte a de pixels, plus l'attention est légère : à l'étage 0, le student ne
# la sent presque pas. Les auteurs multiplient donc leur perte par $\beta = 1\,000$. Comme elle est de l'ordre de
# $1/HW$, nous prenons $\beta = 10 \cdot HW$, qui ramène ces pertes à une même échelle. Les gradients, eux, ne sont pas mis à
# égalité : avec cette règle, l'attention pèse le plus à l'étage 2.
#
# Préparons deux fonctions pour tout le chapitre. `attention` est la perte sur les étages que l'on veut, moyennée.
# `train` est l'entraînement, toujours le même : dix graines, 1 600 images vues, par lots de 10 (le dernier d'une
# époque peut être plus petit). Cela fait 192 pas à 25 images, 160 à 100 images.

# %%
from kdcourse import grid, train_many

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
# Guidons maintenant le student à l'étage du milieu, l'étage 1, dont la carte a 25 pixels. Deux réglages pèsent
# l'attention : le facteur $\beta$, et le poids $\alpha$ de 10.1, qui laisse $1-\alpha$ aux étiquettes. D'abord
# $\beta$, de 1 à 2 500, avec $\alpha = 0{,}5$.
#
# **À vous de parier** : la bonne plage est-elle étroite ou large ?

# %%
from kdcourse import mean_interval, points, thousands
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
    f"À β = 1, {points(weak)} ; de 25 à 2 500, "
    f"de {french(min(strong))} à {points(max(strong))}"))

# %% [markdown]
# Le gain est la différence appariée des erreurs de test : le student seul moins le student guidé, graine par graine.
# L'intervalle porte sur les graines ; il ignore l'échantillonnage des images. Un gain est
# calculé avant arrondi : il peut différer de 0,1 de ce que l'on soustrait de tête. Un triangle gagne, un rond perd, un
# losange contient 0.
#
# À $\beta = 1$, aucun gain n'est établi. Ensuite, la plage est large : de 25 à 2 500, les gains se valent. Le
# facteur exact importe peu, pourvu que le gradient se sente.
#
# ## Imiter n'est pas réussir
#
# Faisons varier $\alpha$, de 0 (le student seul) à 1 (l'attention seule). Nous retrouvons l'image d'ouverture. La
# *ressemblance* est le cosinus entre la carte du student et celle du teacher, moyen sur les images de test : 1 si
# elles coïncident.

# %% tags=["hide-input", "opening"]
from kdcourse.measures import map_similarity, model_attention
from kdcourse.plots import plot_attention_maps

shown = {"student seul": 0.0, "guidé, α = 0,5": 0.5, "attention seule, α = 1": 1.0}
aim = model_attention(teacher, digits.test.images)[1]
close = {}
for name, alpha in shown.items():
    maps = [model_attention(weighed.one(alpha=alpha, seed=k), digits.test.images)[1]
            for k in seeds]
    close[name] = map_similarity(torch.stack(maps), aim).mean().item()
chosen = [int((digits.test.labels == c).nonzero()[0]) for c in (4, 7)]
images, labels = digits.test.images[chosen], digits.test.labels[chosen]
teacher_error = error_rate(teacher(digits.test.images), digits.test.labels)
columns = {f"teacher\nerreur {french(teacher_error)} %": aim[chosen]}
for name, alpha in shown.items():
    own = model_attention(weighed.one(alpha=alpha, seed=0), images)[1]
    columns[f"{name}\nerreur {french(error[alpha].mean())} %"] = own
plot_attention_maps(images, labels, columns, (
    "À α = 1, le student regarde comme le teacher (ressemblance "
    f"{french(close[name], 2)}) et se trompe {french(error[1.0].mean())} % du temps"))

# %% tags=["hide-input"]
from kdcourse import attention_map
from kdcourse.measures import mean_map, uniform_map
from kdcourse.plots import plot_alpha_maps

rows = [[name, french(close[name], 2), french(error[alpha].mean())]
        for name, alpha in shown.items()]
maps = predict_features(teacher, digits.test.images).maps[1]
guesses = {"une carte uniforme": uniform_map, "la carte moyenne": mean_map}
for name, guess in guesses.items():
    likeness = map_similarity(attention_map(guess(maps)), aim).item()
    rows.append([f"repère : {name}", french(likeness, 2), ""])
gained = mean_interval(alone - error[0.5])
say(markdown_table(["étage 1", "ressemblance au teacher", "erreur (%)"], rows),
    f"À $\\alpha = 0{{,}}5$, le gain est de {points(gained)}.")
own = [model_attention(weighed.one(alpha=a, seed=0), images)[1][0] for a in alphas]
plot_alpha_maps(images[0], int(labels[0]), aim[chosen[0]], alphas, torch.stack(own),
                torch.stack(list(error.values())))

# %% [markdown]
# Dans le tableau, lisez d'abord les repères. Une carte **uniforme**, qui ne regarde rien, ressemble déjà beaucoup à
# celle du teacher : le student seul ne fait pas mieux. La carte **moyenne** du teacher, la même pour toutes les images,
# s'en approche davantage. Les students guidés dépassent les deux : ils suivent le teacher image par image.
#
# Dès que $\alpha$ quitte 0, la carte rejoint celle du teacher, puis ne change presque plus. L'erreur, elle, baisse, puis
# explose à $\alpha = 1$ : savoir **où** regarder ne dit pas **quoi** répondre. Aucune étiquette, aucun logit n'a
# entraîné la dernière couche : toute imitation seule finirait ainsi.
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
# à 1 : elle y reste, et l'erreur est celle du hasard. Passez à l'étage 2, que rien n'a guidé : la carte y reste celle
# du student.
#
# ## Est-ce bien le teacher qui aide ?
#
# Un gain peut venir de la contrainte elle-même, quelle que soit la carte imposée. Essayons trois cartes
# sans le savoir du teacher sur l'image : une carte uniforme ; sa carte moyenne, la même pour toutes ; celles d'un réseau
# semblable qui n'a rien appris. À droite, quatre fois plus de pas : ces mesures-là sont lues dans un fichier, la commande qui les refait est donnée
# plus bas.
#
# **À vous de parier** : l'une des trois aide-t-elle autant que la vraie ?

# %%
from kdcourse.measures import FeatureBudgets

stored = FeatureBudgets.load()
torch.manual_seed(0)
raw = predict_features(big(), few.images)
controls = {
    "carte uniforme": targets.map(uniform_map),
    "carte moyenne": targets.map(mean_map), "teacher non entraîné": raw}
live = {"attention, étage 1": alone - error[0.5]}
for name, features in controls.items():
    run = train(small_student, attention(1), features=features)
    live[name] = alone - run.errors(digits.test)
longer = {name: stored.gain(25, name, 4.0) for name in live}
true, later = (mean_interval(gains["attention, étage 1"] - gains["carte uniforme"])
               for gains in (live, longer))
say(f"La vraie carte, comparée à l'uniforme, gagne {points(true)} à 192 pas. "
    f"À 768 pas, l'écart est de {points(later)}.")
plot_gains({"192 pas": live, "768 pas (enregistré)": longer}, (
    f"Le vrai teacher gagne {points(true.mean)} de plus qu'une carte uniforme"))

# %% [markdown]
# La première ligne est le vrai teacher ; elle dépasse les trois autres aux deux budgets. La carte moyenne et le teacher
# non entraîné n'apportent rien d'établi. La carte uniforme gagne un peu quand l'entraînement s'allonge : un seul des
# témoins suggère qu'une part du gain pourrait se passer de teacher.
#
# ## Le hint et son adaptateur
#
# Le hint est plus exigeant : retrouver les cartes elles-mêmes, canaux compris (FitNets, Romero et al., 2015). Mais 8
# canaux ne se comparent pas à 32. Même à nombres égaux, rien ne dit que le canal 5 de l'un soit le canal 5 de l'autre :
# leur ordre est le hasard d'un entraînement.
#
# On place donc entre les deux un adaptateur, une convolution 1×1. En chaque pixel, elle mélange les 8 canaux du student
# pour refaire chacun des 32 du teacher. Voici un de ces 32 mélanges, avec un student et un adaptateur neufs.

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
# Suivez le carré orange : la valeur du mélange en ce pixel ne dépend que des huit valeurs du student au même pixel. Les
# huit poids sont les mêmes partout. Tirés au hasard, ils ne refont rien. Avec $r$ l'adaptateur et $N$ le nombre
# d'éléments, le hint est
#
# $$\mathcal{L}_{\text{hint}} = \frac{1}{N} \sum_n \big( r(f^s)_n - f^t_n \big)^2$$
#
# Ces poids, personne ne les connaît d'avance. **Ils s'apprennent avec le student** ; le teacher reste figé. Voici toute
# la boucle : deux choses changent, la perte et la liste donnée à l'optimiseur. Le facteur 10 a été choisi sur la
# validation ; $\alpha$ vaut 0,5.

# %%
import torch.nn.functional as F
from kdcourse import hint_loss

trained = [*student.parameters(), *adapter.parameters()]  # les deux
optimizer = torch.optim.Adam(trained, lr=0.02)
shuffle = torch.Generator().manual_seed(0)
for _ in range(64):
    for batch in torch.randperm(25, generator=shuffle).split(10):
        features = student.forward_features(few.images[batch])
        gap = hint_loss(adapter(features.maps[2]), targets.maps[2][batch])
        hard = F.cross_entropy(features.logits, few.labels[batch])
        loss = 0.5 * 10 * gap + 0.5 * hard
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
one_mix()

# %% [markdown]
# Les canaux du student ont changé, les poids aussi : ensemble, ils s'approchent du canal demandé. L'adaptateur ne sert
# plus ; on le jette, et le student garde sa taille.
#
# Si les canaux diffèrent et que l'adaptateur manque, `hint_loss` refuse. PyTorch seul laisse parfois passer : une carte
# d'un seul canal est recopiée sans rien dire, et la perte compare autre chose que ce que l'on croit.
#
# ## Quelle couche imiter
#
# `AdaptedStudent` range le student et son adaptateur dans un seul module : `train_many` donne donc les deux à
# l'optimiseur. Essayons chaque étage, et choisissons **sur la validation**.
#
# **À vous de parier** : l'entrée du réseau, le milieu, ou le dernier étage ?

# %%
from kdcourse import AdaptedStudent

def adapted(stage):
    channels = (16, 32, 32)[stage]
    return lambda: AdaptedStudent(small_student(), stage, 8, channels)

def hint(stage):
    return lambda s, t, labels: 10 * hint_loss(s.maps[stage], t.maps[stage])

runs = {f"hint, étage {k}": train(adapted(k), hint(k)) for k in range(3)}
for k in range(3):
    runs[f"attention, étage {k}"] = train(small_student, attention(k))
runs["attention, tous"] = train(small_student, attention(0, 1, 2))
reference = weighed.table(digits.validation)[alphas.index(0)]
layers = {name: reference - run.errors(digits.validation) for name, run in runs.items()}
longer = {name: stored.gain(25, name, 4.0, "validation") for name in runs}
deep, flat = (layers[f"{one}, étage 2"].mean().item() for one in ("hint", "attention"))
plot_gains({"192 pas": layers, "768 pas (enregistré)": longer}, (
    f"Étage 2 : le hint gagne {points(deep)}, l'attention {french(flat)} (validation)"))

# %% [markdown]
# Les deux méthodes ne veulent pas la même couche. Le hint gagne au fond du réseau, et rien à l'entrée.
# L'attention gagne au milieu ; à l'entrée et au dernier étage, rien n'est établi. Réunir les trois étages ne fait pas
# mieux que celui du milieu. L'image est la même avec quatre fois plus de pas. La suite garde donc le hint à l'étage 2 et
# l'attention à l'étage 1.
#
# ## L'expérience
#
# Que gagne-t-on, en tout ? Comparons au student seul KD (la perte de 10.1, $T = 4$), le hint, l'attention, et chacun des deux ajouté
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
    f"L'attention, {points(gain(25, 'attention + KD', 'KD'))}.")
few_gain, more_gain = (gain(size, "hint + KD").mean for size in (25, 100))
plot_gains(panels, f"Hint + KD gagne {points(few_gain)} à 25 images, "
                   f"{french(more_gain)} à 100")

# %% [markdown]
# À 25 images, tout gagne, et l'intérieur s'ajoute aux réponses : les deux meilleurs students imitent l'un **et** les
# autres. À 100 images, les gains fondent ; celui de l'attention seule n'est plus établi.
#
# ## Et avec plus de pas ?
#
# Un gain mesuré à un seul budget peut n'être qu'une avance. La commande `python -m benchmarks features` refait chaque
# mesure du chapitre à cinq budgets, du quart au quadruple du nôtre, et range ses résultats.

# %% tags=["hide-input"]
from kdcourse.plots import plot_feature_budgets

followed = ["KD", "hint, étage 2", "attention, étage 1",
            "hint + KD", "attention + KD", "attention, étage 2"]
best = mean_interval(stored.gain(25, "hint + KD", 4.0))
lost = {times: mean_interval(stored.gain(100, "attention, étage 2", times))
        for times in (1.0, 4.0)}
say(f"Ces résultats sont enregistrés, {stored.origin}. "
    f"Hint + KD, à quatre fois plus de pas, gagne {points(best)} à 25 images.",
    "À 100 images, l'attention à l'étage 2 perd aux deux budgets : "
    f"son gain est de {points(lost[1.0])} au nôtre. "
    f"Il est de {points(lost[4.0])} au quadruple.")
plot_feature_budgets(stored, followed, (
    f"Avec quatre fois plus de pas, hint + KD gagne {points(best.mean)} à 25 images ; "
    f"l'attention à l'étage 2 en perd {french(-lost[4.0].mean)} à 100"))

# %% [markdown]
# Trois choses se lisent.
#
# - **Imiter coûte d'abord.** À gauche des panneaux, la plupart des courbes sont sous 0 : avec trop peu de pas, le student
#   qui imite est en retard sur celui qui n'écoute que les étiquettes.
# - **Ensuite, les gains durent.** À partir du budget du chapitre, l'ordre des méthodes ne change plus.
# - **Une méthode perd à 100 images.** Au dernier étage, l'attention y est sous le student seul à tous les budgets,
#   alors que le hint, au même étage, gagne. À 25 images, elle ne gagne à aucun.
#
# Pourquoi l'attention perd-elle là où le hint gagne ? Nous ne l'avons pas mesuré. L'adaptateur laisse au student le choix
# de ses canaux, et l'attention contraint leur énergie juste avant les logits : c'est une piste. Une autre : c'est
# à cet étage que notre règle pèse le plus. Nous n'avons pas séparé la couche du poids.
#
# <details><summary>Des tableaux publiés montrent aussi des pertes</summary>
#
# Trois des treize couples du README de RepDistiller. Exactitude sur CIFAR-100, en %, une valeur par case, sans
# intervalle ; ce sont leurs mesures, pas les nôtres :
#
# | RepDistiller (README du dépôt) | teacher | student seul | KD | FitNet (hint) | AT |
# |---|---|---|---|---|---|
# | resnet32x4 → resnet8x4 | 79,42 | 72,50 | 73,33 | 73,50 | 73,44 |
# | wrn-40-2 → wrn-16-2 | 75,61 | 73,26 | 74,92 | 73,58 | 74,08 |
# | vgg13 → MobileNetV2 | 74,64 | 64,60 | 67,37 | 64,14 | 59,40 |
#
# Entre réseaux d'une même famille, hint et AT gagnent un point ou moins. De vgg13 à MobileNetV2, AT est cinq points
# **sous** le student seul. KD, qui ne regarde que les sorties, gagne dans les trois cas.
# </details>
#
# <details><summary>Comment nous avons réglé</summary>
#
# Tout a été choisi sur la validation. Essayés : des images de 8, 10, 12 et 16 pixels de côté ; des lots de 10, 25 et 50 ;
# des pas d'apprentissage de 0,003, 0,005, 0,01 et 0,02 ; des students de 4, 8 ou 16 canaux par étage, ou à deux étages
# seulement ; 25, 50 et 100 images ; KD à $\alpha = 0{,}9$ ; pour le hint, les facteurs 1, 3, 10, 30 et 100 (à partir de
# 10, dix graines ne les départagent plus) ; pour l'attention, 0,1, 0,3, 1, 3, 10 et 30 fois HW. Dix autres graines ont
# retenu les mêmes couches. Il n'y a ici qu'un teacher, et un seul choix des 25 images.
# </details>
#
# ## Chasse au bug
#
# Une collègue reprend le hint, sur 25 images. « Côté teacher, tout est figé », dit-elle, comme il se doit. Ses students
# gagnent bien moins que les nôtres. Lisez sa fonction, regardez sa courbe, et cherchez avant de dérouler la réponse.

# %%
from kdcourse.plots import plot_curves

def colleague_student():
    model = AdaptedStudent(small_student(), 2, 8, 32)
    model.adapter.requires_grad_(False)  # côté teacher, tout est figé
    return model

frozen = train(colleague_student, hint(2))
hers = mean_interval(alone - frozen.errors(digits.test))
ours = gain(25, "hint")
say(f"Sur le student seul, la collègue gagne {points(hers)}. "
    f"Nous gagnions {points(ours)}.")
plot_curves(
    range(1, 65), {"collègue": (frozen.losses.T, "neutral")},
    "époque", "perte d'entraînement",
    f"La perte de la collègue plafonne à {french(frozen.losses[:, -1].mean())}")

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# L'adaptateur n'est pas du côté du teacher. Figé, il reste la matrice tirée au hasard au départ : huit canaux, mélangés
# n'importe comment, doivent redonner les 32 du teacher. La perte reste haute : l'erreur dit que l'on gagne moins, la perte dit où chercher.
#
# La réparation : donner les paramètres de l'adaptateur à l'optimiseur. Le même bug a une forme plus discrète : ranger
# l'adaptateur dans une liste Python, que `parameters()` ne voit pas. `nn.ModuleList` la remplace.
# </details>

# %% tags=["hide-input", "repair"]
repaired = runs["hint, étage 2"]
won = mean_interval(frozen.errors(digits.test) - repaired.errors(digits.test))
ratio = frozen.losses[:, -1].mean() / repaired.losses[:, -1].mean()
say(f"Réparé, le student gagne {points(won)} sur celui de la collègue.")
plot_curves(
    range(1, 65),
    {"collègue": (frozen.losses.T, "neutral"),
     "réparé": (repaired.losses.T, "distilled")},
    "époque", "perte d'entraînement",
    f"À la fin, la perte est {french(ratio)} fois plus haute chez la collègue")

# %% [markdown]
# ## À vous de jouer
#
# **Exercice 10.3 a.** Écrivez `my_map(features)`, la carte d'attention : `(B, C, H, W)` vers `(B, 1, H, W)`, chaque
# carte de norme L2 égale à 1.
#
# **Exercice 10.3 b.** Écrivez `my_attention_loss(student, teacher)`. Les cartes du teacher sont plus grandes :
# ramenez-les à la taille de celles du student par `F.adaptive_avg_pool2d`, au bon moment.

# %% tags=["nbval-check-output"]
from kdcourse import check

def my_map(features):
    ...  # à compléter

def my_attention_loss(student, teacher):
    ...  # à compléter

_ = check("10.3 a", my_map)
_ = check("10.3 b", my_attention_loss)

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
# **Exercice 10.3 c.** Un pas de descente de gradient pour l'adaptateur. Écrivez
# `adapter_step(student, teacher, weight, learning_rate)` : les cartes du student et du teacher, la matrice `(canaux du
# teacher, canaux du student)` de l'adaptateur, sans biais. Rendez cette matrice après un pas sur la perte du hint
# (facteur 1).

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
# **Exercice 10.3 d.** Prévoir, puis mesurer. Donnons à chaque image les cartes qu'un teacher, le vrai, calcule pour **une
# autre** : celle d'avant, dans les 25. Le student imite le hint à l'étage 2 ; rien d'autre ne change.
#
# 1. Dans `prediction`, écrivez ce que vous attendez : `"gain"`, `"perte"` ou `"rien d'établi"`.
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
# reading = "perte"
# ```
#
# Les cartes d'une autre image contredisent l'étiquette : le student recule.
# </details>
#
# ## Quiz
#
# Choisissez, puis déroulez l'option.
#
# **1. Le student et le teacher ont tous deux 32 canaux. L'adaptateur sert-il encore ?**
#
# <details><summary>Non, les formes sont égales</summary>Non : les formes le sont, le sens des canaux ne l'est pas. Rien
# ne dit que le canal 5 de l'un soit le canal 5 de l'autre.</details>
# <details><summary>Non, l'entraînement remettra les canaux dans l'ordre</summary>Non : sans adaptateur, le student devrait
# ranger ses canaux comme le teacher, une contrainte de plus que rien ne demande.</details>
# <details><summary>Il sert encore : l'ordre des canaux est arbitraire</summary>Oui : il les mélange et les réordonne.
# (`AdaptationLayer` rend alors l'identité, par convention : à vous d'y mettre une convolution 1×1.)</details>
#
# **2. Qui entraîne l'adaptateur ?**
#
# <details><summary>L'optimiseur du student</summary>Oui : ses paramètres s'ajoutent à ceux du student, et on le jette à
# la fin.</details>
# <details><summary>Personne : le teacher est figé</summary>Non : c'est le bug de la chasse. Figé, il reste un mélange au
# hasard.</details>
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
# **4. Une perte d'attention avec $\alpha = 0{,}5$ et $\beta = 1$ : que prévoyez-vous ?**
#
# <details><summary>Un bon compromis, moitié-moitié</summary>Non : la moitié d'un gradient bien trop petit ne pèse
# presque rien.</details>
# <details><summary>Un student qui répond au hasard</summary>Non : c'est ce qui arrive à $\alpha = 1$, sans
# étiquettes.</details>
# <details><summary>Un student qui gagne moitié moins</summary>Non : à ce poids, aucun gain n'est établi.</details>
# <details><summary>Le student seul, ou presque</summary>Oui : la figure sur $\beta$ ne les distingue pas.</details>
#
# **5. À $\alpha = 1$, la carte du student est presque celle du teacher. Pourquoi répond-il au hasard ?**
#
# <details><summary>Il n'a pas convergé</summary>Non : ses cartes sont presque celles du teacher.</details>
# <details><summary>Son teacher se trompe trop</summary>Non : le teacher se trompe rarement.</details>
# <details><summary>Rien n'a entraîné sa dernière couche</summary>Oui : la carte dit où regarder. Ce qu'il faut répondre
# vient des étiquettes, ou des logits du teacher.</details>
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
first_gain, second_gain = points(gain(25, "hint + KD")), points(gain(25, "attention"))
say(f"""
- Quand les étiquettes sont rares, imiter l'intérieur s'ajoute à imiter les
  réponses : hint + KD gagne {first_gain} à 25 images.
- L'attention dit où, non quoi : à $\\alpha = 1$, le student se trompe
  {french(error[1.0].mean())} % du temps.
- L'attention se pèse par son gradient : à $\\beta = 1$, rien n'est établi ; à
  $10 \\cdot HW$, elle gagne {second_gain}.
- L'adaptateur s'apprend avec le student : figé, il ôte au hint
  {points(won)}.
- La couche et le budget se mesurent : au dernier étage, à 100 images,
  l'attention perd {points(-lost[1.0].mean)}, et perd encore avec quatre fois
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
