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
# # 10.6 Distiller et compresser en tenseurs
#
# **Que reste-t-il d'un réseau découpé en tenseurs ?**
#
# Voici le même réseau, coupé de deux façons, sans rien réapprendre. Rendu dix fois plus petit, il sait encore lire les chiffres, ou
# il ne sait presque plus rien : cela dépend de la **forme** que l'on donne à ce que l'on garde.
#
# ![Erreur de test contre nombre de paramètres : la SVD tronquée reste près du teacher jusqu'à dix fois moins de paramètres, le train de tenseurs, à la même taille, se trompe déjà dans les trois quarts des cas](attachment:ouverture.png)
#
# SVD et train de tenseurs (TT) sont deux façons de couper une matrice. Ce chapitre les démonte, répare leurs dégâts par distillation,
# et les compare à un simple petit réseau. L'un de ces trois rivaux surprendra.

# %% tags=["bootstrap", "hide-input"]
from kdcourse import describe_environment, say

say(describe_environment())

# %% [markdown]
# ## Objectifs
#
# À la fin de ce chapitre, vous saurez :
#
# - écrire une SVD tronquée et un train de tenseurs, et dire ce que chacun garde ;
# - distinguer l'erreur des poids de celle du réseau ;
# - réparer un réseau coupé, et mesurer ce que la distillation y ajoute ;
# - tailler un réseau, l'arrondir, l'écrire en octets et le relire.
#
# **Durée : une heure** de lecture, et les exercices ; le notebook s'exécute en une minute environ.
#
# **Prérequis** : le chapitre 10.1 (ses mots, `train_many`), et la décomposition en valeurs singulières (SVD).
#
# <details><summary>Les mots du chapitre</summary>
#
# | Dans ce chapitre | Sens |
# |---|---|
# | SVD tronquée | les $r$ plus grands termes de la SVD : deux facteurs remplacent la matrice |
# | rang | combien de termes une coupe garde ; il règle la taille |
# | tenseur d'ordre $d$ | un tableau à $d$ indices ; une matrice est d'ordre 2 |
# | dépliage (*unfolding*) | un tenseur rangé en matrice : les premiers indices en lignes, les autres en colonnes |
# | train de tenseurs (*tensor train*, TT) | une chaîne de petits tenseurs, les **cœurs** (*cores*), dont le produit refait le grand |
# | réparer (*fine-tuning*) | réapprendre un peu, à partir du réseau coupé |
# | élaguer (*pruning*) | mettre à zéro les plus petits poids |
# | quantifier (*quantization*) | arrondir les poids à des entiers, ici d'un octet (int8) |
# | front | la courbe de l'erreur contre la taille |
# </details>
#
# ## Couper, sans réparer
#
# Le teacher est un perceptron à deux couches cachées de 512 unités, bien trop grand pour des images de 64 pixels. Entraînons-en dix,
# un par graine : nos intervalles couvriront aussi le choix du teacher.

# %%
from functools import partial
import torch
from kdcourse import MLP, convert_to_tensor_train, error_rate, french, load_dataset
from kdcourse import mean_interval, parameter_count, points, thousands, train_one

torch.set_num_threads(1)  # deux fils n'accélèrent rien ici
digits, seeds = load_dataset("digits"), list(range(10))
wide = partial(MLP, hidden=(512, 512))
teachers = [train_one(wide, digits.train, seed=seed, epochs=10) for seed in seeds]

@torch.no_grad()
def test_error(model):
    return error_rate(model(digits.test.images), digits.test.labels)

reference = torch.stack([test_error(teacher) for teacher in teachers])
whole = parameter_count(teachers[0])
say(f"{thousands(whole)} paramètres, {mean_interval(reference)} % d'erreur de test.")

# %% [markdown]
# La SVD écrit une matrice comme une somme de termes de rang 1, du plus grand au plus petit : $W = \sum_k s_k\, u_k v_k^\top$. En garder
# $r$ donne la meilleure approximation de rang $r$ (Eckart et Young), et l'erreur est ce que l'on jette : $\|W - W_r\|^2 = \sum_{k>r}
# s_k^2$. Une couche $512 \times 512$ devient deux couches, $512 \to r \to 512$.
#
# Le train de tenseurs viendra plus loin ; `convert_to_tensor_train` le fait pour nous. Les deux coupent les deux couches cachées et
# laissent la dernière, qui a 10 sorties, telle quelle. Refaisons la première image.

# %%
import copy
from torch import nn

def low_rank(linear, rank):
    u, s, vh = torch.linalg.svd(linear.weight.detach(), full_matrices=False)
    first = nn.Linear(linear.in_features, rank, bias=False)
    second = nn.Linear(rank, linear.out_features)
    first.weight.data = s[:rank, None].sqrt() * vh[:rank]
    second.weight.data = u[:, :rank] * s[:rank].sqrt()
    second.bias.data = linear.bias.detach().clone()
    return nn.Sequential(first, second)

def truncate(model, rank):
    model = copy.deepcopy(model)
    for stage in model.stages:
        stage[0] = low_rank(stage[0], rank)
    return model

# %%
def as_it_is(convert, ranks):  # tailles, et erreurs de test (rangs, teachers)
    sizes, errors = [], []
    for rank in ranks:
        copies = [convert(teacher, rank) for teacher in teachers]
        sizes.append(parameter_count(copies[0]))
        errors.append(torch.stack([test_error(model) for model in copies]))
    return sizes, torch.stack(errors)

raw_svd = as_it_is(truncate, (1, 2, 3, 4, 6, 8, 16, 32, 64))
raw_tt = as_it_is(convert_to_tensor_train, (2, 4, 8, 16, 24, 32, 48))

# %% tags=["hide-input", "opening"]
from kdcourse.plots import plot_front

raw = {"TT, tel quel": (*raw_tt, "TT", False),
       "SVD, telle quelle": (*raw_svd, "SVD", False)}
svd_size, svd_error = raw_svd[0][6], raw_svd[1][6].mean()
tt_size, tt_error = raw_tt[0][3], raw_tt[1][3].mean()
plot_front({"sans rien réapprendre": raw}, (whole, reference), (
    f"{thousands(svd_size)} paramètres : la SVD laisse {french(svd_error)} % "
    f"d'erreur ; {thousands(tt_size)} : le train en laisse {french(tt_error)} %"))

# %% [markdown]
# Le hasard se trompe 90 fois sur 100. La SVD rend le réseau dix fois plus petit pour un point d'erreur environ ; le train, à la même
# taille, s'**effondre**. Ce n'est donc pas la compression qui détruit le réseau, c'est le format. Pourquoi ? Il faut d'abord une énigme.
# (L'intervalle d'un teacher à l'autre ignore l'échantillonnage des images de test, ici comme partout.)
#
# ## L'erreur des poids n'est pas celle du réseau
#
# Coupons **une seule** couche, celle du milieu, et comparons trois choses : ce qui manque à sa matrice $W$ ; ce qui manque à ses
# sorties, sur les images de test ; et l'erreur que cela ajoute au réseau. Une quatrième courbe coupe $W - W_0$, ce que l'entraînement a
# ajouté aux poids tirés au hasard.
#
# **À vous de parier** : au rang 16, l'erreur relative de la matrice, $\|W - W_r\| / \|W\|$, dépasse 50 %. Combien de points y perd
# le réseau ?

# %%
from kdcourse import initial_model

ranks = [2, 4, 8, 16, 32, 64, 128]
starts = [initial_model(wide, seed) for seed in seeds]

def middle(model):
    return model.stages[1][0]

def dropped(matrix):  # l'erreur relative à chaque rang, en %
    energy = torch.linalg.svdvals(matrix).square()
    return torch.stack([100 * (energy[r:].sum() / energy.sum()).sqrt() for r in ranks])

@torch.no_grad()
def cut(teacher, rank):  # sorties changées (%), erreur de test ajoutée (points)
    model = copy.deepcopy(teacher)
    model.stages[1][0] = low_rank(middle(model), rank)
    hidden = teacher.stages[0](digits.test.images.flatten(1))
    before, after = middle(teacher)(hidden), middle(model)(hidden)
    changed = 100 * (after - before).norm() / before.norm()
    return torch.stack([changed, test_error(model) - test_error(teacher)])

# %% tags=["hide-input"]
from kdcourse.plots import plot_layer_cut

pairs = [(middle(t).weight.detach(), middle(s).weight.detach())
         for t, s in zip(teachers, starts)]
weights = torch.stack([dropped(after) for after, _ in pairs], dim=1)
learned = torch.stack([dropped(after - before) for after, before in pairs], dim=1)
cuts = [torch.stack([cut(teacher, rank) for teacher in teachers]) for rank in ranks]
changed, added = torch.stack(cuts).unbind(dim=-1)
at = ranks.index(16)
say(f"Au rang 16, l'erreur relative est de {french(weights[at].mean(), 0)} % sur les "
    f"poids, {french(learned[at].mean(), 0)} % sur leur part apprise, "
    f"{french(changed[at].mean(), 0)} % sur les sorties. "
    f"Le réseau y perd {points(mean_interval(added[at]))}.")
plot_layer_cut(ranks, {
    "les poids W": (weights, "teacher"),
    "la part apprise, W − W₀": (learned, "student"),
    "les sorties, sur les images": (changed, "distilled")}, added, (
    f"Rang 16 : {french(weights[at].mean(), 0)} % d'erreur sur les poids, "
    f"{french(changed[at].mean(), 0)} % sur les sorties"))

# %% [markdown]
# Les poids semblent perdus, les sorties sont presque intactes, et le réseau n'a rien senti. La quatrième courbe suggère pourquoi : ce
# que l'entraînement a **ajouté** tient en peu de termes, et les premiers de $W$ le contiennent sans doute. Le reste, des valeurs singulières qui
# décroissent lentement, ressemble au bruit de l'**initialisation**. À partir du rang 8, les sorties perdent moins encore que la part
# apprise : une part de ce qui manque ne se voit pas sur des images.
#
# Retenez la méthode : une erreur de reconstruction des poids ne suffit pas à prédire celle du réseau. On mesure le réseau.
#
# ## Le train de tenseurs
#
# Le train replie la matrice en un tenseur d'ordre 3, puis coupe le long de **chaque** pli :
#
# $$A_{i_1 i_2 i_3} \approx G^1_{i_1}\, G^2_{i_2}\, G^3_{i_3}, \qquad G^k_{i_k} \text{ matrice } r_{k-1} \times r_k, \quad r_0 = r_3 = 1.$$
#
# Un coefficient est un produit de petites matrices. Les cœurs $G^k$ sont de forme $(r_{k-1}, n_k, r_k)$. On les obtient par une SVD
# tronquée à chaque pli : c'est la TT-SVD (Oseledets, 2011). Déplier, couper, replier, et recommencer sur ce qui reste.

# %%
from kdcourse import tt_reconstruct, tt_svd

def tt_by_hand(tensor, rank):
    cores, left, rest = [], 1, tensor
    for size in tensor.shape[:-1]:
        unfolded = rest.reshape(left * size, -1)  # déplier
        u, s, vh = torch.linalg.svd(unfolded, full_matrices=False)
        cores.append(u[:, :rank].reshape(left, size, -1))  # couper, replier
        rest, left = s[:rank, None] * vh[:rank], min(rank, len(s))
    return [*cores, rest[..., None]]

tensor = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
mine, ours = tt_by_hand(tensor, 3), tt_svd(tensor, 3)
torch.testing.assert_close(tt_reconstruct(mine), tt_reconstruct(ours))
flipped = [-mine[0], -mine[1], mine[2]]  # d'autres cœurs, le même tenseur
torch.testing.assert_close(tt_reconstruct(flipped), tt_reconstruct(ours))
say("Formes des cœurs : " + ", ".join(f"`{tuple(core.shape)}`" for core in mine))

# %% [markdown]
# Deux trains aux cœurs différents peuvent être **le même tenseur** : on compare des reconstructions, jamais des cœurs.
#
# Reste à replier une matrice. Écrivons chaque indice en base 8, $i = 64\,i_1 + 8\,i_2 + i_3$, $j$ de même, puis marions les chiffres par
# **paires** (Novikov et al., 2015) : $A_{(i_1 j_1)(i_2 j_2)(i_3 j_3)} = W_{ij}$. La fonction `fold` le fait. Au rang $r$, une matrice de 262 144
# nombres n'en garde que $64\,r + 64\,r^2 + 64\,r$.
#
# (La couche $512 \times 64$ se replie de même, 8·8·8 par 4·4·4.)
#
# Suivons l'algorithme en petit, sur un **filtre** $8 \times 8$ : chaque sortie y est une somme pondérée de ses voisines, $W_{ij} =
# e^{-|i-j|/2}$. Replié en base 2, c'est un tenseur $4 \times 4 \times 4$. La figure montre chaque pas ; le curseur les joue, sur ce
# filtre et sur un coin $8 \times 8$ de la couche.

# %%
from IPython.display import display
from kdcourse.plots import plot_tt_steps
from kdcourse.widgets import TTSVDExplorer

def fold(matrix, base=8):
    size = base * base
    digit = matrix.reshape([base] * 6)  # i1, i2, i3, j1, j2, j3
    return digit.permute(0, 3, 1, 4, 2, 5).reshape(size, size, size)

place = torch.arange(512.0)
small = torch.exp(-(place[:8, None] - place[:8]).abs() / 2)
display(plot_tt_steps(fold(small, 2), rank=3))
weight = middle(teachers[0]).weight.detach()
TTSVDExplorer({
    "filtre": fold(small, 2), "couche du teacher": fold(weight[:8, :8], 2)})

# %% [markdown]
# Lisez chaque ligne de gauche à droite. Le tenseur déplié est une matrice de 4 lignes, une par couple de chiffres $(i_1, j_1)$. Sa
# quatrième valeur singulière est **nulle** : au rang 3, la coupe ne jette rien. Ce qui reste se déplie à son tour, et se coupe de même.
#
# Voici la règle : **$r_k$ est le rang du $k$-ième dépliage**. En dessous, la coupe $k$ jette une norme $\varepsilon_k$, et l'erreur du
# train est bornée (Oseledets, théorème 2.2) : $\|A - A_{\text{TT}}\| \le \sqrt{\sum_k \varepsilon_k^2}$, où les $\varepsilon_k$ sont ceux
# des dépliages du tenseur entier.
#
# Pourquoi trois ? Pour connaître $|i - j|$, que faut-il retenir des premiers chiffres ? Seulement lequel est le plus grand : $i_1 < j_1$,
# $i_1 = j_1$ ou $i_1 > j_1$. Si l'un dépasse, le signe de $i - j$ est décidé et l'exponentielle se sépare en produit ; s'ils sont
# égaux, les chiffres suivants décideront. Trois cas, rang 3, à n'importe quelle taille.
#
# Avec le curseur, allez de « déplier » à « recoller », au rang 2, puis au rang 3 : l'erreur du filtre tombe à zéro. Choisissez la couche
# du teacher : ses quatre valeurs singulières comptent, et toute coupe sous le rang 4 lui coûte.
#
# Passons à la vraie taille, $512 \times 512$, avec un filtre plus large, $e^{-|i-j|/8}$ : 960 nombres lui suffisent, au lieu de 262 144.
#
# **À vous de parier** : et la couche du teacher, avec les mêmes 960 nombres ?

# %%
from kdcourse.measures import rank_sweep
from kdcourse.plots import plot_reconstructions
from kdcourse.widgets import RankExplorer

band = torch.exp(-(place[:, None] - place).abs() / 8)
sweeps = {"filtre": rank_sweep(band, [2, 3, 4, 8, 16, 32, 64]),
          "couche du teacher": rank_sweep(weight, [2, 3, 4, 8, 16, 32, 64])}
folded = fold(weight)
error = (folded - tt_reconstruct(tt_by_hand(folded, 16))).norm() / folded.norm()
bound = sum(torch.linalg.svdvals(folded.reshape(shape))[16:].square().sum()
            for shape in ((64, -1), (-1, 64))).sqrt() / folded.norm()
u, s, vh = torch.linalg.svd(weight)
one_term = fold(s[0] * torch.outer(u[:, 0], vh[0]))  # le premier terme de la SVD
needs = torch.linalg.matrix_rank(one_term.reshape(64, -1))
missed = (one_term - tt_reconstruct(tt_by_hand(one_term, 16))).norm() / one_term.norm()
say(f"Couche, rang 16 : erreur {french(100 * error)} %, borne {french(100 * bound)} %.",
    f"Le premier terme de sa SVD, replié, a un premier dépliage de rang {needs}. Coupé "
    f"en train de rang 16, il perd {french(100 * missed, 0)} %.")
display(plot_reconstructions(sweeps, ranks=[2, 3, 16, 64]))
RankExplorer(sweeps["couche du teacher"])

# %% [markdown]
# Le filtre tient dans un train de rang 3, sans erreur visible ; la SVD de taille voisine n'en garde presque rien. Pour la couche du
# teacher, c'est l'inverse : à taille égale, jusqu'au rang 32, la SVD l'approche mieux.
#
# Pourquoi ? Prenez un seul terme de la SVD, $u v^\top$. Replié, son premier dépliage est, à l'ordre des colonnes près, le produit de
# Kronecker de deux matrices $8 \times 64$ : son rang peut atteindre $8 \times 8 = 64$, et l'atteint ici. **Le terme le plus simple pour la
# SVD demande au train son plein rang**, et une coupe au rang 16 en jette une bonne part, la phrase imprimée dit laquelle. Or ce que le
# teacher a appris tient en peu de tels termes : la SVD les garde entiers, le train les abîme tous.
#
# Un train de rang 64 est exact, et **plus gros** que la matrice : `convert_to_tensor_train` garde dense toute couche qui ne rétrécirait
# pas. Quant à la borne, elle est vraie, mais elle dépasse ici 100 %, l'erreur d'une matrice nulle : elle ne sert que si les coupes jettent
# peu. Avec le curseur, montez le rang cran par cran : les grands coefficients de la couche n'apparaissent qu'à la fin.
#
# ## Réparer par la distillation
#
# Au rang 4, le tableau ci-dessous dit ce qui reste : l'erreur des deux couches dépasse 90 %, le réseau répond au hasard. (La dernière
# couche reste dense : 10 n'est pas un produit de trois facteurs.)
#
# Réapprenons. Deux réparations partent de la même copie et voient les mêmes lots, 200 fois 25 images : par les étiquettes
# seules ($\alpha = 0$), ou par le teacher ($T = 4$, $\alpha = 0{,}9$, comme en 10.1). Chacune a son pas d'apprentissage, choisi
# sur la validation lors d'une mesure plus longue, enregistrée avec le cours. Une troisième sert de témoin : elle part d'un réseau
# **neuf**, qui n'a rien appris, coupé de même.
#
# **À vous de parier** : avec 1 000 images, que fera gagner le teacher ? et avec 100 ?

# %%
from kdcourse import grid, train_many
from kdcourse.measures import CompressionRuns
stored = CompressionRuns.load()
guides = torch.stack([t(digits.train.images).detach() for t in teachers])

def finetune(convert, rate, alpha=0.9, count=1000, origins=teachers):
    models = map(convert, origins)  # graine k : la copie du teacher k, et ses logits
    return train_many(
        lambda: next(models), digits.train.where(slice(0, count)), guides[:, :count],
        **grid(alphas=[alpha], seeds=seeds),
        epochs=200 * 25 // count, batch_size=25, learning_rate=rate)

repaired, rank_4 = {}, partial(convert_to_tensor_train, rank=4)
for count, alpha in ((1000, 0.0), (1000, 0.9), (100, 0.0), (100, 0.9)):
    rate = stored.run("TT", 4, 1, images=count, alpha=alpha)["learning_rate"]
    repaired[count, alpha] = finetune(rank_4, rate, alpha, count)
rate = stored.run("TT", 4, 1)["learning_rate"]
from_new = finetune(rank_4, rate, origins=starts).errors(digits.test)
say(f"```\n{rank_4(teachers[0]).compression_report}\n```")

# %% tags=["hide-input"]
from kdcourse import markdown_table

found = {key: run.errors(digits.test) for key, run in repaired.items()}
longer = {key: stored.run("TT", 4, 4, images=key[0], alpha=key[1])["test"]
          for key in found}
both = {"200 pas": found, "800 pas (enregistré)": longer}
start_gaps = [found[1000, 0.9] - from_new,
              longer[1000, 0.9] - stored.run("TT", 4, 4, start="neuf")["test"]]
start_gaps = [mean_interval(gaps) for gaps in start_gaps]
worse_start = start_gaps[1]
tt_4, broken = raw_tt[0][1], raw_tt[1][1].mean()
won_back = 100 * (broken - found[1000, 0.0].mean()) / (broken - reference.mean())
rows = [[f"{thousands(n)} images", *(french(errors[n, alpha].mean())
         for errors in both.values() for alpha in (0.0, 0.9))] for n in (1000, 100)]
header = ["erreur, une fois réparé (%)", "étiquettes, 200 pas",
          "par le teacher, 200 pas", "étiquettes, 800 pas", "par le teacher, 800 pas"]
say(f"{french(whole / tt_4, 0)} fois moins de paramètres. Tel quel, le réseau coupé "
    f"fait {french(broken)} % d'erreur ; le teacher, {french(reference.mean())} %.",
    markdown_table(header, rows))

# %% tags=["hide-input"]
from kdcourse.plots import plot_gains

gains = {title: {f"{thousands(n)} images": errors[n, 0.0] - errors[n, 0.9]
                 for n in (1000, 100)} for title, errors in both.items()}
few = mean_interval(gains["200 pas"]["100 images"])
say("En 200 pas, les étiquettes seules retrouvent "
    f"{french(won_back, 0)} % de l'exactitude perdue (1 000 images).",
    "Partir du teacher plutôt que d'un réseau neuf ajoute "
    f"{points(start_gaps[0])} d'erreur à 200 pas. À 800 (enregistré), "
    f"{points(worse_start)}.")
plot_gains(gains, f"Le teacher ajoute {points(few.mean)} avec 100 images, 200 pas")

# %% [markdown]
# La copie répondait au hasard ; 200 pas plus tard, elle vaut presque le teacher. Mais les étiquettes seules en rendent l'essentiel :
# annoncer la part d'exactitude retrouvée ne prouve rien sur la distillation. Le nombre qui compte est le gain apparié.
#
# Avec 1 000 images, ce gain est établi aux deux budgets, et fond quand les pas augmentent. Avec 100 images, il est bien plus grand, et il
# reste. On compresse parfois un modèle dont on n'a plus toutes les données : ses réponses sont alors tout ce qu'il en reste.
#
# La dernière ligne répond à la question du chapitre : au rang 4, nous ne mesurons **rien d'utile du teacher dans les cœurs**. Il a servi de
# guide, non de point de départ. En est-il de même de la SVD ? L'exercice d le demande.
#
# ## Le front : chaque forme à sa place
#
# Restent les concurrents. Tous apprennent du teacher, sur les 1 000 images, à plusieurs tailles et à deux budgets :
# le train, la SVD, et un **petit dense**, qui ne doit rien aux poids du teacher. Pour chacun, le pas d'apprentissage est choisi sur la
# validation. La commande `python -m benchmarks tensor_train` refait ces mesures.
#
# **À vous de parier** : la SVD, bien meilleure telle quelle, le reste-t-elle une fois réparée ?

# %% tags=["hide-input"]
shapes = ("TT", "SVD", "petit dense")
panels = {f"{200 * budget} pas": raw | {
    f"{shape} + teacher": (*stored.front(shape, budget), shape, True)
    for shape in shapes} for budget in (1, 4)}
smallest, narrow = stored.run("TT", 2, 4), stored.run("SVD", 6, 4)
say(f"Students {stored.origin}.")
plot_front(panels, (whole, reference), (
    f"Après 800 pas, le train est à {french(smallest['test'].mean())} % avec "
    f"{thousands(smallest['parameters'])} paramètres ; la SVD, "
    f"{french(narrow['test'].mean())} % avec {thousands(narrow['parameters'])}"))

# %% tags=["hide-input"]
duels = [(8, ("SVD", 6)), (12, ("SVD", 8)), (12, ("SVD", 16)),
         (4, ("petit dense", 56)), (12, ("petit dense", 120))]
gaps = {f"{200 * budget} pas": dict(
    stored.duel(("TT", rank), other, budget) for rank, other in duels)
    for budget in (1, 4)}
shapes_first, first = next(iter(gaps["800 pas"].items()))
ahead = mean_interval(first)
cheap, dear = stored.run("petit dense", 56, 4), stored.run("TT", 4, 1)
same_cost = mean_interval(cheap["test"] - dear["test"])
say("Au même temps de calcul ou presque, dix students à la fois : "
    f"{french(cheap['seconds'])} s pour 800 pas du petit dense "
    f"({thousands(cheap['parameters'])} paramètres), {french(dear['seconds'])} s pour "
    f"200 pas du train ({thousands(dear['parameters'])}). "
    f"Le train gagne alors {points(same_cost)}.")
plot_gains(gaps, f"Réparé, le train gagne {points(ahead.mean)} sur une SVD plus lourde")

# %% [markdown]
# Comparez les courbes pointillées et les pleines : **l'ordre s'est inversé**. Telle quelle, la SVD l'emportait de loin. Réparée, sous
# 16 000 paramètres, elle est derrière le train aux deux budgets ; vers 20 000 (le train y est plus lourd), à 800 pas seulement ; à
# 31 754, plus rien n'est établi.
# À ses plus petits rangs, toute l'image passe par deux ou quatre nombres, et quatre fois plus de pas la laissent loin derrière.
#
# Devant le petit dense, à pas égaux, le train garde un petit avantage, établi à 800 pas aux deux tailles. Mais un de ses pas coûte plus de
# calcul, il est un peu plus lourd à la plus petite des deux tailles, et le pas d'apprentissage du petit dense n'a pas été cherché hors de la grille. À calcul voisin, la
# phrase imprimée n'établit rien, sans exclure un gain d'un point. Avant de compresser, essayez donc le petit
# dense : c'est le plus simple, et le seul qui descende plus bas (dans un train, la dernière couche, restée dense, prend 5 130 paramètres).
#
# <details><summary>Comment nous avons réglé</summary>
#
# Pas d'apprentissage essayés, pour chaque forme, chaque taille et chaque budget : 0,003, 0,01 et 0,02 ; le meilleur sur la validation est
# gardé. Il est souvent au bord de la grille : 0,02 à 200 pas, 0,003 pour quelques SVD. Au-delà du bord, nous avons essayé 0,001 et 0,04
# pour la SVD de rang 6, 0,04 pour le train de rang 4 à 200 pas, sans gain d'erreur ; le petit dense, non. Avant cela, des lots de 10 et de 16 ont été essayés aussi. $T = 4$ et
# $\alpha = 0{,}9$ viennent de 10.1 et n'ont pas été réglés ici. Le nombre de pas est le même pour tous, non le temps de calcul : un pas du
# petit dense est le moins cher.
# </details>
#
# ## Quand les tenseurs paient
#
# Nous en avons vu un cas : une matrice **structurée**, comme le filtre. Un second est plausible : la très grande couche. Mesurons ce que
# coûte une couche de 4 096 vers 4 096, aux poids tirés au hasard. Pour appliquer un train, on ne refait pas la matrice : on replie
# l'entrée en $16 \times 16 \times 16$, et chaque cœur, de forme $(r, i_k, j_k, r')$, y remplace un chiffre $j_k$ par un chiffre $i_k$.

# %%
from timeit import repeat
from kdcourse import TTLinear
plain = partial(nn.Linear, bias=False)
cores = [torch.randn(a, 16, 16, b) for a, b in ((1, 16), (16, 16), (16, 1))]
layers = {"dense": plain(4096, 4096), "TT, rang 16": TTLinear(cores),
          "SVD, rang 9": nn.Sequential(plain(4096, 9), plain(9, 4096))}

@torch.no_grad()
def best_time(layer, batch):  # millisecondes, le meilleur de cinq
    inputs = torch.randn(batch, 4096)
    return 1e3 * min(repeat(lambda: layer(inputs), number=1, repeat=5))

# multiplications par entrée : trois cœurs passent sur 16² positions
work = {"dense": 4096**2, "TT, rang 16": 16**2 * (16 * 256 + 256 * 256 + 256 * 16),
        "SVD, rang 9": 2 * 9 * 4096}
rows = [[name, 4 * parameter_count(layer) // 1024, french(work[name] / 1e6),
         *(french(best_time(layer, size), 2) for size in (1, 64))]
        for name, layer in layers.items()]
say(markdown_table(["couche", "Kio", "millions de multiplications", "une entrée (ms)",
                    "64 entrées (ms)"], rows))

# %% [markdown]
# La mémoire s'effondre. Pour le temps, tout dépend du lot : sur **une** entrée, où lire 64 Mio domine sans doute, le train bat la couche
# dense ; sur 64, il n'accélère rien, et fait d'ailleurs plus de multiplications. La SVD de même taille est plus rapide que les deux. Moins
# de paramètres n'est pas moins de calculs.
#
# ## Les convolutions : Tucker-2
#
# Le noyau d'une convolution a quatre dimensions, mais deux, $3 \times 3$, sont trop petites pour être coupées. Tucker-2 ne coupe que les
# canaux : $W_{oi} \approx \sum_{a,b} U_{oa}\, G_{ab}\, V_{ib}$, où $U$ et $V$ sont les premiers vecteurs singuliers des dépliages de $W$
# selon ses sorties et ses entrées ; $W_{oi}$ est le noyau $3 \times 3$ de l'entrée $i$ vers la sortie $o$. Sur une convolution,
# `convert_to_tensor_train` applique Tucker-2 : la couche en devient trois.

# %%
from kdcourse import digits_teacher
from kdcourse.plots import plot_tucker

cnns = [train_one(digits_teacher, digits.train, seed=s, epochs=10) for s in seeds[:3]]
rows = [["teacher", parameter_count(cnns[0]), *(french(test_error(m)) for m in cnns)]]
for rank in (4, 8, 16, 24):
    copies = [convert_to_tensor_train(cnn, rank) for cnn in cnns]
    rows.append([f"rang {rank}", parameter_count(copies[0]),
                 *(french(test_error(m)) for m in copies)])
layer = convert_to_tensor_train(cnns[0], 8).stages[2][0]
say(markdown_table(["Tucker-2, tel quel", "paramètres", *(
    f"erreur (%), graine {seed}" for seed in seeds[:3])], rows))
plot_tucker((32, 64), 8, (32 * 64 * 9, parameter_count(layer)))

# %% [markdown]
# Trois teachers seulement, un par colonne : c'est une indication. Le réseau perd quelques points au rang 16, et s'effondre en dessous ;
# il resterait à le réparer, comme plus haut.
#
# ## Tailler, arrondir, ranger en octets
#
# L'exercice noté « défi de compression » demande un modèle en **octets**. Trois gestes y suffisent.
#
# **Tailler**, ou élaguer : on met à zéro les poids de plus petite valeur absolue, puis l'on répare le réseau en les maintenant à zéro. Un
# **masque** les retient : multiplié au poids à chaque passage, il annule aussi leur gradient. Réparons de même un petit dense, pour
# comparer.

# %%
import torch.nn.functional as F

class Pruned(nn.Module):
    def __init__(self, linear, share):
        super().__init__()
        self.weight = nn.Parameter(linear.weight.detach().clone())
        self.bias = nn.Parameter(linear.bias.detach().clone())
        size = self.weight.detach().abs()
        self.register_buffer("mask", (size > size.quantile(share)).float())
        self.weight.data *= self.mask  # de vrais zéros, que zlib serrera
    def forward(self, inputs):
        return F.linear(inputs, self.weight * self.mask, self.bias)

def prune(model, share=0.9):  # les deux couches cachées
    model = copy.deepcopy(model)
    for stage in model.stages:
        stage[0] = Pruned(stage[0], share)
    return model

sparse = finetune(prune, rate=0.01)  # choisi sur la validation

# %% [markdown]
# **Arrondir.** Un poids en `float32` prend quatre octets. La quantification symétrique en garde un : $q = \mathrm{round}(w / \Delta)$, un
# entier de $-127$ à $127$, avec une échelle par tenseur, $\Delta = \max |w| / 127$.
#
# **Ranger.** Un fichier n'a ni forme ni type : seulement des octets, dans un ordre que l'on choisit. Ici, pour chaque tenseur, son échelle
# (un `float32`, quatre octets), puis ses codes (`int8`, un octet chacun). `zlib` serre ensuite les répétitions, dont les zéros de l'élagage.
# `numpy.frombuffer` relit : un type, un nombre de valeurs, un point de départ. Qui relit doit connaître l'ordre ; d'où un modèle vide,
# qui donne les formes.

# %%
import zlib
import numpy as np

def pack(model):
    parts = []
    for weight in model.parameters():
        scale = weight.detach().abs().max() / 127
        codes = (weight.detach() / scale).round().to(torch.int8)
        parts += [scale.numpy().tobytes(), codes.numpy().tobytes()]
    return zlib.compress(b"".join(parts), 9)

@torch.no_grad()
def unpack(artifact, model):
    data, at = zlib.decompress(artifact), 0
    for weight in model.parameters():
        scale = np.frombuffer(data, np.float32, 1, offset=at)
        codes = np.frombuffer(data, np.int8, weight.numel(), offset=at + 4)
        weight.copy_(torch.tensor(codes).view_as(weight) * scale.item())
        at += 4 + len(codes)
    return model

# %% tags=["hide-input"]
dense = finetune(lambda seed: initial_model(partial(MLP, hidden=(56, 56)), seed),
                 stored.run("petit dense", 56, 1)["learning_rate"], origins=seeds)
raw_sparse = torch.stack([test_error(prune(teacher)) for teacher in teachers])
runs = {"élagué à 90 %, réparé": sparse, "TT de rang 4, réparé": repaired[1000, 0.9],
        "petit dense, 200 pas": dense}
models = {"teacher": copy.deepcopy(teachers)}
models |= {name: [run[k] for k in seeds] for name, run in runs.items()}
rows = [["teacher, float32", 4 * whole, french(reference.mean()), ""]]
for name, ten in models.items():
    artifacts = [pack(model) for model in ten]
    before = torch.stack([test_error(model) for model in ten])
    read = torch.stack([test_error(unpack(*pair)) for pair in zip(artifacts, ten)])
    rows.append([f"{name}, int8", len(artifacts[0]), french(read.mean()),
                 mean_interval(read - before).text(2)])
header = ["modèle", "octets", "erreur (%)", "ce que l'arrondi coûte (points)"]
say(markdown_table(header, rows),
    f"Élagué à 90 % et non réparé : {mean_interval(raw_sparse)} % d'erreur.")

# %% [markdown]
# L'arrondi ne coûte presque rien : 255 niveaux suffisent ici. Les gains se **multiplient** : la forme d'abord, l'octet ensuite. L'octet
# profite autant au petit dense : il ne départage personne.
#
# ## Chasse au bug
#
# Une collègue écrit sa propre couche, pour celle du milieu. Elle replie la matrice par notre `fold`, la décompose, et la reforme à chaque passage. Compressée au
# rang 4, puis réparée, sa copie se trompe à peine plus que le teacher : « tout va bien ». Puis elle essaie le rang 64, où rien n'est coupé
# et où la copie **devrait être** le teacher. Lisez sa classe, ses deux résultats, et cherchez avant de dérouler la réponse.

# %%
class HerLayer(nn.Module):
    def __init__(self, linear, rank):
        super().__init__()
        self.cores = nn.ParameterList(tt_svd(fold(linear.weight.detach()), rank))
        self.bias = nn.Parameter(linear.bias.detach().clone())

    def matrix(self):
        digit = tt_reconstruct(list(self.cores)).reshape(8, 8, 8, 8, 8, 8)
        return digit.permute(0, 3, 1, 4, 2, 5).reshape(512, 512)

    def forward(self, inputs):
        return F.linear(inputs, self.matrix(), self.bias)

def with_layer(layer, rank, model):
    model = copy.deepcopy(model)
    model.stages[1][0] = layer(middle(model), rank)
    return model

# %%
hers = finetune(partial(with_layer, HerLayer, 4), rate).errors(digits.test)
exact = torch.stack([test_error(with_layer(HerLayer, 64, t)) for t in teachers])
say(f"Au rang 4, réparée : {mean_interval(hers)} % d'erreur. "
    f"Au rang 64, telle quelle : {mean_interval(exact)} %.")

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# Pour déplier, il faut la permutation **inverse** de celle de `fold`, et $(0, 3, 1, 4, 2, 5)$ n'est pas son propre inverse : c'est
# $(0, 2, 4, 1, 3, 5)$. Les tailles valent toutes 8, donc aucune forme ne proteste. Le nombre de paramètres, la norme de la matrice, l'erreur
# de la TT-SVD sur le tenseur replié sont justes ; mais les coefficients sont à la mauvaise place.
#
# La réparation le cache : qu'elle parte de la matrice mélangée ou de la bonne, aucun écart n'est établi à l'arrivée. Au
# rang 4, il n'y avait guère à abîmer. Seul le **plein rang** trahit : la reconstruction doit y rendre la matrice. C'est le premier test à
# écrire.
# </details>

# %% tags=["hide-input", "repair"]
from kdcourse.plots import plot_matrices

class Repaired(HerLayer):
    def matrix(self):
        digit = tt_reconstruct(list(self.cores)).reshape(8, 8, 8, 8, 8, 8)
        return digit.permute(0, 2, 4, 1, 3, 5).reshape(512, 512)

right = finetune(partial(with_layer, Repaired, 4), rate).errors(digits.test)
unseen = mean_interval(hers - right)
whole_again = torch.stack([test_error(with_layer(Repaired, 64, t)) for t in teachers])
filtering, views = nn.Linear(512, 512), {"le filtre": band}
filtering.weight.data = band
with torch.no_grad():
    views |= {name: layer(filtering, 3).matrix() for name, layer in (
        ("par la collègue", HerLayer), ("réparé", Repaired))}
say(f"Après distillation, son erreur moins la nôtre : {points(unseen)}.",
    f"La couche réparée, au rang 64 : {mean_interval(whole_again)} % d'erreur ; le "
    f"teacher, {french(reference.mean())} %.")
plot_matrices({name: matrix[:64, :64] for name, matrix in views.items()},
              "Une matrice que l'on sait lire trahit la permutation (coin 64×64)")

# %% [markdown]
# ## À vous de jouer
#
# **Exercice 10.6 a.** Un pas de TT-SVD, mais à **précision** donnée. Écrivez `tt_step(rest, size, error)` : dépliez `rest`, de forme `(left, …)`, en
# `(left * size, …)` ; coupez au plus petit rang $r \ge 1$ dont ce que l'on jette, en norme, ne dépasse pas `error` ; rendez le cœur
# `(left, size, r)`, puis le reste `(r, …)`, qui porte les valeurs singulières.
#
# **Exercice 10.6 b.** Écrivez `through_int8(weight)` : les poids d'une matrice tels qu'un octet symétrique les rend, avec une échelle **par ligne**
# (aucune n'est nulle). Rendez des flottants.
#
# **Exercice 10.6 c.** Écrivez `read_layer(blob)`. Ces octets contiennent, dans l'ordre : deux `uint16`, le nombre de lignes et celui de
# colonnes ; un `float32` par ligne, son échelle ; puis les codes, `int8`, ligne par ligne. Rendez la matrice, en `float32`.
#
# **Exercice 10.6 d.** Prévoir, puis mesurer. Au rang 4 du train, le départ du teacher n'apportait rien d'établi. Et pour une **SVD de
# rang 8** ? Coupez ainsi (`truncate`) les teachers, puis les réseaux neufs (`starts`), et réparez les deux par les mêmes teachers.
#
# 1. Dans `prediction`, écrivez ce que le départ du teacher fera gagner : `"gain"`, `"perte"` ou `"rien d'établi"`.
# 2. `experiment` rend dix gains : l'erreur de test en partant des réseaux neufs, moins celle en partant des teachers, 200 pas chacun.
#    `finetune` a un argument `origins` ; le pas d'apprentissage est `stored.run("SVD", 8, 1)["learning_rate"]`.
# 3. Lisez l'intervalle, et complétez `reading` avec les mêmes mots.

# %% tags=["nbval-check-output"]
from kdcourse import check

def tt_step(rest, size, error):
    ...  # à compléter

def through_int8(weight):
    ...  # à compléter

def read_layer(blob):
    ...  # à compléter

def experiment():
    ...  # à compléter

prediction, reading = ..., ...  # à compléter
_ = check("10.6 a", tt_step), check("10.6 b", through_int8)
_ = check("10.6 c", read_layer)
_ = check("10.6 d", prediction, experiment, reading)

# %% [markdown]
# <details><summary>Une solution de 10.6 a</summary>
#
# ```python
# def tt_step(rest, size, error):
#     left = len(rest)
#     u, s, vh = torch.linalg.svd(rest.reshape(left * size, -1), full_matrices=False)
#     rank = len(s)
#     while rank > 1 and s[rank - 1:].norm() <= error:
#         rank -= 1
#     return u[:, :rank].reshape(left, size, rank), s[:rank, None] * vh[:rank]
# ```
#
# C'est l'algorithme d'Oseledets : il choisit ses rangs lui-même, et la borne dit l'erreur totale.
# </details>
#
# <details><summary>Une solution de 10.6 b</summary>
#
# ```python
# def through_int8(weight):
#     scale = weight.abs().amax(dim=1, keepdim=True) / 127
#     return (weight / scale).round() * scale
# ```
#
# Une ligne nulle donnerait 0 / 0 : une vraie quantification traite ce cas à part.
# </details>
#
# <details><summary>Une solution de 10.6 c</summary>
#
# ```python
# def read_layer(blob):
#     rows, columns = map(int, np.frombuffer(blob, np.uint16, 2))
#     scales = torch.tensor(np.frombuffer(blob, np.float32, rows, offset=4))
#     codes = np.frombuffer(blob, np.int8, rows * columns, offset=4 + 4 * rows)
#     return torch.tensor(codes).view(rows, columns) * scales[:, None]
# ```
# </details>
#
# <details><summary>Une solution de 10.6 d</summary>
#
# ```python
# prediction = "rien d'établi"  # votre prévision peut différer : elle ne compte pas
#
# def experiment():
#     rate = stored.run("SVD", 8, 1)["learning_rate"]
#     fresh, copied = (finetune(partial(truncate, rank=8), rate, origins=models)
#                      .errors(digits.test) for models in (starts, teachers))
#     return fresh - copied
#
# reading = "gain"
# ```
#
# Les premiers termes de la SVD contiennent ce que le teacher a appris : partir d'eux aide. Dans les cœurs du train, coupés aussi court,
# nous ne mesurions rien d'utile.
# </details>
#
# ## Quiz
#
# Choisissez, puis déroulez l'option.
#
# **1. Une couche de 512 vers 512, trois cœurs, rang 8. Combien de paramètres, sans le biais ?**
#
# <details><summary>1 536</summary>Non : c'est 64·8 pour chacun des trois cœurs. Celui du milieu a un rang de chaque côté.</details>
# <details><summary>8 192</summary>Non : c'est une SVD de rang 8, deux facteurs de 512·8.</details>
# <details><summary>5 120</summary>Oui : 64·8 + 64·8² + 64·8. Les rangs des deux bouts valent 1.</details>
# <details><summary>12 288</summary>Non : c'est 64·8² pour les trois cœurs ; ceux des bouts n'ont qu'un rang.</details>
#
# **2. Coupée par SVD au rang 16, une couche a plus de 50 % d'erreur relative, et le réseau ne le sent pas. Pourquoi ?**
#
# <details><summary>Ce qu'elle perd ressemble au bruit de l'initialisation</summary>Oui : ce qui est appris tient dans les plus grands
# termes, et les sorties sur les images changent peu.</details>
# <details><summary>La couche suivante corrige l'erreur</summary>Non : rien n'a été réappris, et ses propres sorties sont déjà presque
# justes.</details>
# <details><summary>La norme d'une matrice n'a pas de sens</summary>Non : elle mesure bien les poids. C'est le réseau qu'elle ne mesure pas.</details>
#
# **3. De quoi dépend le plus petit rang $r_k$ qui ne perd rien ?**
#
# <details><summary>Du rang de la matrice de départ</summary>Non : le filtre est de rang plein, et tient dans un train de rang 3.</details>
# <details><summary>De la taille du plus grand cœur</summary>Non : c'est l'inverse, le rang décide de la taille des cœurs.</details>
# <details><summary>Du nombre de cœurs</summary>Non : avec autant de cœurs, le filtre demande 3 et la couche du teacher 64.</details>
# <details><summary>Du rang du $k$-ième dépliage du tenseur</summary>Oui : c'est ce rang-là que la coupe $k$ peut garder sans rien
# jeter.</details>
#
# **4. Un article : « notre distillation retrouve 95 % de l'exactitude perdue par la compression ». Que demander ?**
#
# <details><summary>L'erreur de reconstruction des poids</summary>Non : elle ne suffit pas à prédire l'erreur du réseau.</details>
# <details><summary>Ce que retrouvent les étiquettes seules, à budget égal</summary>Oui : partie du hasard, toute réparation en retrouve
# beaucoup. Ce que la distillation ajoute est la différence appariée.</details>
# <details><summary>Le nombre de cœurs</summary>Non : il ne dit rien de la réparation.</details>
#
# **5. Compressé, puis réparé, un réseau est juste. La compression était-elle bien programmée ?**
#
# <details><summary>Oui : une mauvaise copie ne se répare pas</summary>Non : celle de la collègue s'est réparée.</details>
# <details><summary>Oui, si le nombre de paramètres est le bon</summary>Non : la chasse au bug avait le bon nombre.</details>
# <details><summary>Cela ne le prouve pas</summary>Oui, la réparation cache les fautes. Reconstruisez au plein rang : la matrice doit
# revenir.</details>
#
# ## Sur GPU
#
# Et le teacher de Hinton, deux couches de 1 200 unités sur MNIST ? La fonction `distill` de 10.1 part d'un teacher compressé comme de n'importe
# quel student. Avec un GPU, la cellule le compresse au rang 8 ; sans GPU, elle reprend le nôtre, au rang 4.

# %%
from kdcourse import Choice, best_device, distill, mnist_teacher, model_error

if on_gpu := best_device().type == "cuda":
    data, rank = load_dataset("mnist"), 8
    big = distill(mnist_teacher, data.train, method="seul", epochs=20, jitter=2,
                  output="runs/mnist-teacher", resume=True).model
else:
    data, rank, big = digits, 4, teachers[0]

def compressed():
    return convert_to_tensor_train(big, rank).to("cpu")

student = distill(compressed, data.train, big, method="KD", choice=Choice(alpha=0.9),
                  epochs=10 if on_gpu else 5, batch_size=100 if on_gpu else 25,
                  learning_rate=0.001 if on_gpu else 0.02, resume=on_gpu,
                  output="runs/10_06-KD" if on_gpu else None).model
for name, model in (("teacher", big), ("coupé", compressed()), ("réparé", student)):
    say(f"{name} : {thousands(parameter_count(model))} paramètres, "
        f"{french(model_error(model, data.test))} % d'erreur de test, une seule graine")

# %% [markdown]
# Une seule graine : une indication, non un résultat.
#
# ## À retenir

# %% tags=["hide-input"]
say(f"""
- C'est le train qui s'effondre, non la compression : à {thousands(svd_size)}
  paramètres, la SVD laisse {french(svd_error)} % d'erreur ; à
  {thousands(tt_size)}, le train en laisse {french(tt_error)}.
- Réparé, l'ordre s'inverse aux petites tailles : {shapes_first} paramètres, le
  train gagne {points(ahead)} à 800 pas.
- L'erreur des poids n'est pas celle du réseau : {french(weights[at].mean(), 0)} %
  d'erreur relative sur une couche ne coûtent au réseau rien de mesurable.
- Le teacher sert surtout quand les images manquent : avec 100, il ajoute aux
  étiquettes {points(few)}.
- Au rang 4, nous ne mesurons rien d'utile du teacher dans les cœurs : en partir
  change l'erreur de {points(worse_start)} à 800 pas.
""")

# %% [markdown]
# ## Références
#
# - I. Oseledets, *Tensor-Train Decomposition*, SIAM J. Sci. Comput., 2011, [doi:10.1137/090752286](https://doi.org/10.1137/090752286). TT-SVD
#   et sa borne d'erreur.
# - A. Novikov, D. Podoprikhin, A. Osokin, D. Vetrov, *Tensorizing Neural Networks*, 2015, [arXiv:1509.06569](https://arxiv.org/abs/1509.06569).
#   La couche en train de tenseurs : jusqu'à 200 000 fois moins de paramètres sur une couche de VGG, 7 fois sur le réseau entier.
# - T. Garipov et al., *Ultimate tensorization*, 2016, [arXiv:1611.03214](https://arxiv.org/abs/1611.03214). Convolutions et couches denses,
#   80 fois, CIFAR-10.
# - Y.-D. Kim, E. Park et al., *Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile Applications*, 2016,
#   [arXiv:1511.06530](https://arxiv.org/abs/1511.06530). Tucker-2.
# - S. Han et al., *Learning both Weights and Connections for Efficient Neural Networks*, 2015,
#   [arXiv:1506.02626](https://arxiv.org/abs/1506.02626). Élaguer par magnitude, puis réapprendre.
#
# **La suite** : [10 Bilan](10_Bilan.ipynb), toutes les méthodes côte à côte. Le chapitre 11, *Approximations de rang faible*, repart de la SVD.
