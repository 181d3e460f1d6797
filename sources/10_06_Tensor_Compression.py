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
# Jusqu'ici, le student partait de rien. Il peut aussi partir du teacher : on replie ses matrices en chaînes de petits
# tenseurs, on jette ce qui dépasse, et l'on distille pour réparer les dégâts. Ce chapitre mesure les dégâts, la
# réparation, et la concurrence.

# %% tags=["bootstrap"]
from kdcourse import describe_environment

print(describe_environment())

# %% [markdown]
# ## Objectifs
#
# À la fin de ce chapitre, vous saurez :
#
# - écrire une SVD tronquée, puis un train de tenseurs (*tensor train*, TT), en quelques lignes ;
# - compter ses paramètres, et dire quand il est **plus gros** que la matrice ;
# - réparer par distillation un teacher que la compression a détruit, et mesurer ce que les étiquettes auraient fait seules ;
# - placer chaque méthode sur un front erreur-paramètres, et reconnaître quand un petit réseau ordinaire suffit.
#
# **Durée** : deux heures de lecture ; le notebook entier s'exécute en une minute environ.
#
# **Prérequis** : [10.1](10_01_Principes.ipynb), dont le glossaire ; la décomposition en valeurs singulières (SVD).
#
# ## Un exemple pour commencer
#
# Le teacher est ici un perceptron à deux couches cachées de 512 unités : bien trop grand pour des images de 64 pixels.
# Compressons-le à plusieurs rangs (le rang règle la taille ; nous le définirons), sans rien réapprendre. Le rang 16 le rend neuf
# fois plus petit.
#
# **À vous de parier** : combien de chiffres reconnaît-il encore ?

# %%
from functools import partial
import torch
from kdcourse import convert_to_tensor_train, error_rate, french, MLP
from kdcourse import load_dataset, markdown_table, parameter_count, thousands, train_one
from kdcourse.plots import plot_front

torch.set_num_threads(1)  # deux fils ne gagnent rien ici
digits = load_dataset("digits")
wide = partial(MLP, hidden=(512, 512))
teacher = train_one(wide, digits.train, epochs=10)
@torch.no_grad()
def test_error(model):
    return error_rate(model(digits.test.images), digits.test.labels)

copies = {r: convert_to_tensor_train(teacher, r) for r in (1, 2, 4, 6, 8, 16, 32)}
sizes = {rank: parameter_count(model) for rank, model in copies.items()}
alone = torch.stack([test_error(model) for model in copies.values()])
title = f"Au rang 16, le teacher se trompe {french(alone[5], 0)} fois sur 100"
plot_front({"compressé, tel quel": ([*sizes.values()], alone, "raw")},
           (parameter_count(teacher), test_error(teacher)), title)

# %% [markdown]
# Le hasard se trompe 90 fois sur 100. Rendu trois fois plus petit, le teacher se trompe déjà bien plus ; au-delà de dix fois,
# il ne sait plus rien. C'est l'**effondrement**, et les articles qui annoncent de fortes compressions ne s'arrêtent pas là : ils
# réapprennent. Voyons d'abord ce que l'on a jeté.
#
# ## De la SVD au train de tenseurs, à la main
#
# La SVD écrit une matrice comme une somme de termes de rang 1, du plus grand au plus petit : $W = \sum_k s_k\, u_k v_k^\top$.
# En garder $r$, c'est garder la meilleure approximation de rang $r$ (Eckart et Young), et l'erreur est exactement ce que
# l'on jette : $\|W - W_r\|^2 = \sum_{k > r} s_k^2$. Deux facteurs, $512 \times r$ et $r \times 512$, remplacent la matrice.

# %%
weight = teacher.stages[1][0].weight.detach()  # (512, 512)
u, s, vh = torch.linalg.svd(weight)
print("rang   paramètres   erreur   jeté")
for rank in (4, 32, 128, 256):
    approximation = (u[:, :rank] * s[:rank]) @ vh[:rank]
    error = (weight - approximation).norm() / weight.norm()
    dropped = s[rank:].square().sum().sqrt() / weight.norm()
    print(f"{rank:4} {thousands(rank * 1024):>10} {french(100 * error):>9} %"
          f" {french(100 * dropped):>6} %")

# %% [markdown]
# Les deux dernières colonnes sont égales, et elles sont mauvaises : au rang 256, aussi lourd que la matrice, l'erreur n'est
# pas nulle. Les valeurs singulières d'une matrice entraînée décroissent lentement.
#
# Le train de tenseurs replie d'abord la matrice en un tenseur d'ordre $d$, puis coupe le long de **chaque** pli :
#
# $$A_{i_1 i_2 \dots i_d} \approx G^1_{i_1}\, G^2_{i_2} \cdots G^d_{i_d}, \qquad G^k_{i_k} \text{ matrice } r_{k-1} \times r_k,
# \quad r_0 = r_d = 1.$$
#
# Un coefficient est un produit de petites matrices ; les tenseurs $G^k$ sont les **cœurs** (*cores*), de forme
# $(r_{k-1}, n_k, r_k)$. On les obtient par une SVD tronquée à chaque pli (TT-SVD, Oseledets 2011). L'algorithme tient en
# sept lignes ; comparons-le à celui de `kdcourse`.

# %%
from kdcourse import tt_reconstruct, tt_svd

def tt_by_hand(tensor, rank):
    cores, left, rest = [], 1, tensor
    for size in tensor.shape[:-1]:
        unfolded = rest.reshape(left * size, -1)
        u, s, vh = torch.linalg.svd(unfolded, full_matrices=False)
        cores.append(u[:, :rank].reshape(left, size, -1))
        rest, left = s[:rank, None] * vh[:rank], min(rank, len(s))
    return [*cores, rest[..., None]]

tensor = torch.randn(4, 5, 6, generator=torch.Generator().manual_seed(0))
mine, ours = tt_by_hand(tensor, 3), tt_svd(tensor, 3)
print("formes des cœurs :", *(tuple(core.shape) for core in mine))
rebuilt = torch.einsum("aib,bjc,ckd->ijk", *mine)
torch.testing.assert_close(rebuilt, tt_reconstruct(ours))
flipped = [-mine[0], -mine[1], mine[2]]  # d'autres cœurs…
torch.testing.assert_close(tt_reconstruct(flipped), rebuilt)
print("mêmes reconstructions ; cœurs retournés : même tenseur encore")

# %% [markdown]
# La dernière vérification a son importance : deux trains aux cœurs différents peuvent être **le même tenseur**. On compare
# des reconstructions, jamais des cœurs.
#
# Pour une couche, la matrice $512 \times 512$ se replie par **paires** (Novikov et al. 2015). Écrivons chaque indice en base 8 :
# $i = 64\,i_1 + 8\,i_2 + i_3$ pour la sortie, $j$ de même pour l'entrée. Puis associons-les rang par rang :
#
# $$A_{(i_1 j_1)(i_2 j_2)(i_3 j_3)} = W_{ij}.$$
#
# En code : `W.reshape(8, 8, 8, 8, 8, 8).permute(0, 3, 1, 4, 2, 5).reshape(64, 64, 64)`. Ce sont trois cœurs de
# $8 \cdot 8 = 64$ indices. Au rang $r$,
#
# $$64\,r \;+\; 64\,r^2 \;+\; 64\,r \quad \text{paramètres.}$$
#
# Essayons deux matrices de même taille. La première est celle du teacher. La seconde est une matrice de **filtre** : chaque
# sortie est une somme pondérée de ses voisines, $W_{ij} = e^{-|i - j| / 8}$.
#
# **À vous de parier** : au rang 3, avec 960 paramètres au lieu de 262 144, laquelle survit ?

# %%
from IPython.display import Markdown, display
from kdcourse.measures import rank_sweep
from kdcourse.plots import plot_rank_curves, plot_reconstructions

place = torch.arange(512.0)
band = torch.exp(-(place[:, None] - place).abs() / 8)
swept = [2, 3, 4, 8, 16, 32, 64]
sweeps = {"couche du teacher": rank_sweep(weight, swept),
          "filtre": rank_sweep(band, swept)}
trained, filtered = (sweep.states for sweep in sweeps.values())
rows = [[a.rank, a.parameters, french(weight.numel() / a.parameters, 2),
         french(a.error), french(b.error)]
        for a, b in zip(trained, filtered)]
header = ["rang", "paramètres", "fois moins",
          "erreur, couche du teacher (%)", "erreur, filtre (%)"]
display(Markdown(markdown_table(header, rows)))
largest = torch.linalg.svdvals(band)[:4]
print("quatre premières valeurs singulières du filtre :", *map(french, largest))
display(plot_reconstructions(sweeps, ranks=[2, 3, 16, 64]))
plot_rank_curves(sweeps, rank=3)

# %% [markdown]
# Le filtre tient dans un train de rang 3, sans erreur visible, alors que la SVD de taille voisine n'en garde presque rien. Les
# premières valeurs singulières du filtre, imprimées, sont presque égales : il faudrait en garder des dizaines. Mais sa **structure** se répète à chaque
# échelle, et les plis la voient. La couche du teacher, elle, n'a pas cette structure : à taille voisine, et tant que le train
# est plus petit que la matrice, la SVD l'approche nettement mieux.
#
# Et regardez la dernière ligne du tableau. Au rang 64, le train est exact, et **plus gros** que la matrice : le nombre
# « fois moins » passe sous 1. Un train de plein rang ne compresse rien. `convert_to_tensor_train` garde donc dense toute
# couche qui ne rétrécirait pas.
#
# Pourquoi le rang 3 ? Suivons l'algorithme sur un filtre de $8 \times 8$, replié de même en $4 \times 4 \times 4$ : déplier,
# couper, déplier ce qui reste. À côté, un coin de la couche du teacher.

# %%
from kdcourse.widgets import RankExplorer, TTSVDExplorer

def folded(corner):
    bits = corner.reshape(2, 2, 2, 2, 2, 2)
    return bits.permute(0, 3, 1, 4, 2, 5).reshape(4, 4, 4)

small = torch.exp(-(place[:8, None] - place[:8]).abs() / 2)
TTSVDExplorer({
    "filtre": folded(small), "couche du teacher": folded(weight[:8, :8])})

# %% [markdown]
# Au départ, le rang est 2 et le filtre vient d'être déplié : sa quatrième valeur singulière est **nulle**. Chaque ligne est un
# couple, une moitié de la sortie et une moitié de l'entrée ; la première et la dernière ligne sont égales, car seule compte la
# distance. Il ne reste que trois lignes différentes. Le rang $r_k$ qu'il faut est celui du $k$-ième dépliement : au rang 3, les
# coupes du filtre ne jettent rien. Choisissez la couche du teacher : ses quatre valeurs singulières comptent, et toute coupe
# sous le rang 4 lui coûte. Au dernier pas, comme pour la SVD, l'erreur est ce que l'on a jeté : $\sqrt{\sum_k \varepsilon_k^2}$, où
# $\varepsilon_k^2$ est la somme des carrés des valeurs singulières que la $k$-ième coupe n'a pas gardées.
#
# À l'échelle des matrices de 512, les curseurs parcourent les rangs : la couche du teacher, puis le filtre.

# %%
for sweep in sweeps.values():
    display(RankExplorer(sweep))

# %% [markdown]
# Dans le premier, montez le rang cran par cran : les grands coefficients n'apparaissent qu'à la fin. Dans le second, passez de
# 2 à 3 : les marches disparaissent d'un coup. C'est la structure qui fait la compression, pas l'algorithme.
#
# ## Convertir un modèle entier
#
# `convert_to_tensor_train` rend une **copie** compressée, et un bilan. La couche convertie ne forme jamais sa matrice ;
# vérifions qu'elle calcule pourtant le même produit.

# %%
main = 4  # le rang de la suite, fixé d'avance
print(copies[main].compression_report)
layer, inputs = copies[main].stages[1][0], torch.randn(5, 512)
with torch.no_grad():
    dense = inputs @ layer.weight_matrix().T + layer.bias
    torch.testing.assert_close(layer(inputs), dense, rtol=1e-3, atol=1e-4)
print("512 → 512 :", thousands(parameter_count(layer)), "paramètres, matrice de rang",
      torch.linalg.matrix_rank(layer.weight_matrix()).item())

# %% [markdown]
# La dernière couche reste dense : $10 = 2 \cdot 5$ ne se découpe pas en trois facteurs. Une sortie de 97 classes, nombre
# premier, ne se découpe pas du tout. À ce rang, cette petite couche pèse plus de la moitié du modèle compressé.
#
# Remarquez le rang de la matrice : le « rang 4 » est celui du train, non le sien. Deux facteurs de SVD, pour ce prix, n'auraient
# droit qu'à un rang de 1 ou 2.
#
# L'erreur des couches converties dépasse 90 % : il ne reste presque rien du teacher, sinon ses biais et sa sortie. Il faut
# réapprendre. Voici la boucle : le teacher est figé, sous `no_grad`, la copie seule est dans l'optimiseur, et la perte
# affichée est celle de **toute** l'époque. `TensorDistillation` fait le même calcul.

# %%
import copy
from kdcourse import KnowledgeDistillationLoss, TensorDistillation

loader = list(zip(*(part.split(25) for part in digits.train)))
loss_function = KnowledgeDistillationLoss(temperature=4.0, alpha=0.7)

def distill_by_hand(teacher, student, epochs):
    optimizer = torch.optim.Adam(student.parameters(), lr=1e-3)
    for _ in range(epochs):
        total = 0.0
        for images, labels in loader:
            with torch.no_grad():
                guide = teacher(images)
            loss = loss_function(student(images), guide, labels).total
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item() * len(labels) / len(digits.train.labels)
        yield total

# %%
by_hand = copy.deepcopy(copies[main])
losses = list(distill_by_hand(teacher, by_hand, epochs=3))
course = TensorDistillation
student = course.compress_teacher_with_tensor_train(teacher, rank=main)
history = course.distill_to_compressed_student(
    teacher, student, loader, epochs=3)
torch.testing.assert_close(losses, history, rtol=1e-3, atol=0)
print("perte de chaque époque :", *(french(x, 2) for x in history))
print(f"erreur de test : {french(test_error(copies[main]))} % avant, "
      f"{french(test_error(student))} % après")

# %% [markdown]
# Les deux boucles s'accordent, et la copie commence à se relever. Trois époques à un taux d'apprentissage de 0,001
# ne suffisent pas : l'expérience emploiera 0,01, et cinq époques.
#
# ## La distillation répare-t-elle mieux que les étiquettes ?
#
# Dix graines ; chacune a **son** teacher, et sa copie au rang 4 : l'intervalle couvre donc aussi le choix du teacher. Deux
# réparations partent de la même copie effondrée et voient les mêmes lots, 200 fois 25 images : par les étiquettes seules, ou
# par le teacher ($T = 4$, $\alpha = 0{,}9$, comme en 10.1). Leur différence appariée est ce que la distillation apporte en
# propre. Le taux d'apprentissage, le même pour les deux, a été choisi sur la validation, avant ce notebook, parmi 0,003, 0,01
# et 0,02 ; des lots de 10 et de 16 ont été essayés aussi.
#
# Deux régimes : les 1 000 images d'entraînement, puis les 100 premières, à nombre de pas égal.
#
# **À vous de parier** : les étiquettes suffisent-elles ?

# %%
from kdcourse import grid, mean_interval, points, train_many
from kdcourse.plots import plot_paired

seeds = list(range(10))
teachers = [train_one(wide, digits.train, seed=seed, epochs=10)
            for seed in seeds]
with torch.no_grad():
    guides = torch.stack([t(digits.train.images) for t in teachers])
reference = torch.stack([test_error(t) for t in teachers])

def finetune(convert, alphas=(0.9,), count=1000, steps=200, lr=0.01):
    models = (convert(t) for _ in alphas for t in teachers)
    return train_many(
        lambda: next(models), digits.train.where(slice(0, count)),
        guides[:, :count].repeat(len(alphas), 1, 1),  # le sien à chacun
        **grid(alphas=alphas, seeds=seeds),
        epochs=steps * 25 // count, batch_size=25, learning_rate=lr)

def tensor_train(rank):
    return lambda teacher: convert_to_tensor_train(teacher, rank)

# %%
both = (0.0, 0.9)  # étiquettes seules, teacher
tuned = finetune(tensor_train(main), both)
few_tuned = finetune(tensor_train(main), both, count=100)
many, few = (students.table(digits.test) for students in (tuned, few_tuned))
labelled, distilled = many
raw = {rank: torch.stack([test_error(tensor_train(rank)(t))
                          for t in teachers]) for rank in (2, 4)}
gain, few_gain = (mean_interval(e[0] - e[1]) for e in (many, few))
recovered = [mean_interval(100 * (raw[main] - e) / (raw[main] - reference))
             for e in many]
names = "étiquettes, 100 images", "teacher, 100 images"
plot_paired(*few, names)

# %%
whole = parameter_count(teacher)
ratio = french(whole / sizes[main], 0)
rows = [["erreur, 1 000 images (%)", *map(mean_interval, many), gain],
        ["exactitude retrouvée, 1 000 images (%)", *recovered, ""],
        ["erreur, 100 images (%)", *map(mean_interval, few), few_gain]]
header = ["", "étiquettes", "teacher", "gain apparié (points)"]
verdict = "exclut" if gain.excludes_zero else "contient"
display(Markdown(
    f"{ratio} fois moins de paramètres. Les teachers se trompent sur "
    f"{mean_interval(reference)} % du test ; compressés, tels quels, sur "
    f"{mean_interval(raw[main])} %.\n\n{markdown_table(header, rows)}\n\n"
    f"Avec 1 000 images, l'intervalle du gain, [{french(gain.low, 2)} ; "
    f"{french(gain.high, 2)}], {verdict} 0. Graine par graine, ce gain vaut "
    + " ; ".join(french(g) for g in sorted(many[0] - many[1])) + "."))

# %% [markdown]
# L'exactitude retrouvée est la part de ce que la compression avait ôté : $(e_\text{brut} - e) / (e_\text{brut} -
# e_\text{teacher})$. La distillation en rend presque tout, mais les étiquettes seules aussi : partie du hasard, toute réparation
# semble un exploit. Annoncer « 95 % retrouvés » ne prouve rien sur la distillation. Le nombre qui compte est le gain apparié.
#
# Avec toutes les images, l'intervalle du gain exclut 0, mais regardez les dix nombres : ils vont de presque rien à plusieurs points.
# Là où le gain est grand, les étiquettes ont mal réparé. Le teacher est surtout une assurance. Avec 100 images, le doute n'est plus permis : le
# teacher répare bien mieux (la figure). C'est un cas fréquent en pratique : on compresse un modèle dont on n'a plus toutes les
# données, et il **est** ce qui reste d'elles.
#
# ## Le front : chaque méthode à sa place
#
# Restent les concurrents, qu'il faut montrer. Tous sont distillés sur les 1 000 images, mêmes graines, mêmes lots, autant de
# pas sauf le dernier :
#
# - la **SVD tronquée** de chaque couche du teacher, rangs 2 et 8, au taux d'apprentissage de 0,01 ;
# - un **petit student dense** qui ne doit rien aux poids du teacher : deux couches de 16, 56 ou 88 unités, au taux de 0,02 ;
# - le même, **patient** : quatre fois plus de pas.
#
# Ces taux sont choisis sur la validation, parmi les mêmes trois pour le petit student, 0,003 et 0,01 pour la SVD.

# %%
from torch import nn

def low_rank(linear, rank):
    weight = linear.weight.detach()
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
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

def small_mlp(width):
    return lambda teacher: MLP(hidden=(width, width))

# %%
import time

def measure(converts, **options):  # paramètres, erreurs, secondes
    runs, seconds = [], []
    for convert in converts:
        start = time.process_time()
        runs.append(finetune(convert, **options))
        seconds.append(time.process_time() - start)
    counts = [parameter_count(run[0]) for run in runs]
    return counts, torch.stack([run.errors(digits.test) for run in runs]), seconds

train = measure([tensor_train(2), tensor_train(main)])
svd = measure([lambda t, k=k: truncate(t, k) for k in (2, 8)])
dense = measure([small_mlp(w) for w in (16, 56, 88)], lr=0.02)
patient = measure([small_mlp(w) for w in (16, 56)], lr=0.02, steps=800)
rank_2_labels = finetune(tensor_train(2), (0.0,)).errors(digits.test)
costs = {"TT": train, "SVD": svd, "dense": dense, "dense patient": patient}
for name, (counts, _, seconds) in costs.items():
    for count, second in zip(counts, seconds):
        print(f"{name:13} {thousands(count):>6} paramètres : {french(second)} s pour dix")

# %%
front = [sizes[rank] for rank in raw]
by_labels = torch.stack([rank_2_labels, labelled])
curves = {
    "TT, tel quel": (front, torch.stack([*raw.values()]), "raw"),
    "TT + étiquettes": (front, by_labels, "labels"),
    "TT + teacher": (*train[:2], "distilled"),
    "SVD + teacher": (*svd[:2], "svd"),
    "petit dense + teacher": (*dense[:2], "dense"),
    "petit dense patient": (*patient[:2], "patient"),
}
title = (f"TT + teacher : {french(distilled.mean())} % à {thousands(front[1])} paramètres ;"
         f" dense patient : {french(patient[1][1].mean())} % à {thousands(patient[0][1])}")
display(plot_front(curves, (whole, reference.mean()), title))
rivals = {"SVD de rang 8": svd[1][1], "dense de 56": dense[1][1],
          "dense patient de 56": patient[1][1], "dense patient de 16": patient[1][0]}
for name, other in rivals.items():
    gap = mean_interval(other - distilled)
    print(f"{name} moins TT de rang 4 : {gap}")
print("TT de rang 2, étiquettes moins teacher :", mean_interval(rank_2_labels - train[1][0]))

# %% [markdown]
# Les différences sont appariées, en points. Dans les quatre premières lignes, une différence positive est à l'avantage du train
# de rang 4 ; dans la dernière, à l'avantage du teacher sur les étiquettes. Lisez la figure par paires de courbes.
#
# - **Étiquettes contre teacher.** Au rang 4, le teacher répare mieux : les étiquettes, parfois, réparent mal. Au rang 2, la
#   dernière ligne dit ce qu'il ajoute, et si dix graines l'établissent.
# - **TT contre SVD.** Vers 10 000 paramètres, la SVD n'a droit qu'à un rang de 2 : toute l'image passe par deux nombres. Le
#   train, lui, garde une matrice de rang élevé. La SVD approchait pourtant **mieux** le poids : une
#   erreur de reconstruction ne prédit pas l'erreur après réparation. Au rang 8, deux fois plus lourde, la SVD revient.
# - **TT contre petit dense.** À taille et nombre de pas égaux, ils se tiennent de près. Mais un pas du petit dense coûte bien
#   moins de calcul. Laissez-le patienter : à taille voisine, il fait jeu égal ou mieux que le train de 200 pas, et celui de
#   16 unités, bien plus petit, n'en est pas loin. Le train a peut-être à y gagner lui aussi : *Sur GPU* l'essaie, au même nombre
#   de pas.
#
# À **temps de calcul** voisin, donc, le petit réseau patient de même taille vaut au moins le train de rang 4 (troisième ligne). Le
# plus simple suffit ici, et il n'a rien gardé des poids du teacher.
#
# ## Quand les tenseurs paient
#
# Un cas est mesuré plus haut : une matrice **structurée**, comme le filtre, que le train retrouve sans réapprendre. Un second est
# plausible : la très grande couche, de 4 096 vers 4 096. Nous n'en mesurons que le coût : sa mémoire, et le temps d'un passage.

# %%
from timeit import repeat
from kdcourse import TTLinear

@torch.no_grad()
def best_time(layer, batch):  # millisecondes, le meilleur de cinq
    inputs = torch.randn(batch, 4096)
    return 1e3 * min(repeat(lambda: layer(inputs), number=1, repeat=5))

plain = partial(nn.Linear, bias=False)
layers = {"dense": plain(4096, 4096)}  # 4096 = 16·16·16
for r, k in ((4, 1), (16, 9)):
    ends = (1, r), (r, r), (r, 1)
    layers[f"TT, rang {r}"] = TTLinear([torch.randn(a, 16, 16, b) for a, b in ends])
    layers[f"SVD, rang {k}"] = nn.Sequential(plain(4096, k), plain(k, 4096))
memory = {name: 4 * parameter_count(layer) / 1024 for name, layer in layers.items()}
rows = [[k, round(memory[k]), *(french(best_time(layer, size), 2) for size in (1, 64))]
        for k, layer in layers.items()]
display(Markdown(markdown_table(
    ["couche", "Kio", "une entrée (ms)", "64 entrées (ms)"], rows)))

# %% [markdown]
# Les poids sont tirés au hasard : on mesure un coût, pas une exactitude. La mémoire s'effondre, toujours. Le temps, cela
# dépend. Pour **une** entrée, la couche dense doit lire ses 64 Mio de poids : le train, qui tient dans le cache, va beaucoup
# plus vite. Pour un lot, cette lecture se partage, et le train de rang 16 fait plus de multiplications que la couche dense.
# Moins de paramètres n'est pas moins de calculs. Et la SVD de mémoire voisine est bien plus rapide encore.
#
# Le train ne se justifie donc pas par le temps, mais par ce qu'il représente à cette taille : une matrice de rang élevé, ou une
# structure que la SVD ne voit pas. Une très grande couche, une table d'*embeddings* qui ne tient pas en mémoire en ont-elles une ?
# Cela se mesure sur elles, non sur des poids tirés au hasard. La distillation, elle, peut servir dans les deux cas : son gain apparié le dit.
#
# ## Multiplier les gains : int8
#
# Tous les paramètres, cœurs, biais et couche restée dense, sont encore des nombres flottants de quatre octets. Une
# **quantification symétrique** les arrondit à des entiers de
# $-127$ à $127$, un octet chacun, avec une échelle par tenseur : $q = \mathrm{round}(w / \Delta)$, $\Delta = \max |w| / 127$.

# %%
@torch.no_grad()
def in_bytes(model):  # octets, et le modèle qu'ils codent
    model, total = copy.deepcopy(model), 0
    for parameter in model.parameters():
        scale = parameter.abs().max() / 127
        codes = (parameter / scale).round().to(torch.int8)
        parameter.copy_(codes * scale)
        total += codes.nbytes + scale.nbytes
    return total, model

coded = [in_bytes(tuned.one(alpha=0.9, seed=seed)) for seed in seeds]
int8 = torch.stack([test_error(model) for _, model in coded])
heavy, light = 4 * whole, coded[0][0]
multiplied = french(heavy / light, 0)
cost = mean_interval(int8 - distilled)
rows = [["teacher, float32", heavy, 1, mean_interval(reference)],
        ["TT, float32", 4 * sizes[main], ratio, mean_interval(distilled)],
        ["TT, int8", light, multiplied, mean_interval(int8)]]
table = markdown_table(["modèle", "octets", "fois moins", "erreur (%)"], rows)
display(Markdown(f"{table}\n\nCe que l'arrondi coûte, apparié : {points(cost)}."))

# %% [markdown]
# Les deux gains se **multiplient**, et l'arrondi ne coûte presque rien : 255 niveaux suffisent ici. Un petit réseau dense
# passerait lui aussi de quatre octets à un : l'octet ne départage pas les deux.
#
# ## Les convolutions : Tucker-2
#
# Le noyau d'une convolution a déjà quatre dimensions, mais deux, $3 \times 3$, sont trop petites pour être coupées. Tucker-2
# ne coupe que les canaux : une convolution $1 \times 1$ vers $r$ canaux, la $3 \times 3$ entre eux, puis une $1 \times 1$ vers
# la sortie. Essayons sur le réseau du teacher de 10.1, entraîné ici dix époques ; puis deux époques de réparation, à un taux d'apprentissage de 0,003.

# %%
from kdcourse import digits_teacher, predict_features

cnn = train_one(digits_teacher, digits.train, epochs=10)
tucker = convert_to_tensor_train(cnn, 8)
print(tucker.compression_report)
logits = predict_features(cnn, digits.train.images).logits
repaired = train_many(
    lambda: copy.deepcopy(tucker), digits.train, logits,
    **grid(alphas=[0, 0.9], seeds=seeds), epochs=2, batch_size=25)
conv_labels, conv_teacher = repaired.table(digits.test)
conv_gain = mean_interval(conv_labels - conv_teacher)
print(f"erreur : {french(test_error(cnn))} % avant, "
      f"{french(test_error(tucker))} % compressé,")
print(f"{mean_interval(conv_labels)} % réparé par les étiquettes, "
      f"{mean_interval(conv_teacher)} % par le teacher")
print(f"gain apparié de la distillation : {points(conv_gain)}")

# %% [markdown]
# Compressé moins fort, le modèle s'effondre moins, et deux époques le réparent en partie : son erreur reste supérieure à celle
# du teacher. Un seul
# teacher ici : l'intervalle ne couvre que l'ordre des lots, et ce gain est mesuré à budget court ; avec plus d'époques, il
# peut disparaître.
#
# **Et ensuite ?** La SVD tronquée, que nous avons traitée en concurrente, mérite mieux : comment choisir son rang couche par
# couche, comment l'apprendre, comment l'ajouter à un modèle figé au lieu de le remplacer. Le chapitre 11, *Approximations de
# rang faible*, en part.
#
# ## Chasse au bug
#
# Un collègue a écrit sa propre conversion. Il distille à $\alpha = 1$, sans étiquettes. Sa perte est presque nulle **dès la
# première époque** : « la compression n'a rien coûté ». Lisez sa fonction, puis les nombres.

# %%
def colleague(model, rank):
    compressed = copy.copy(model)
    for name in ("stages.0.0", "stages.1.0"):
        layer = TTLinear.from_linear(model.get_submodule(name), rank)
        compressed.set_submodule(name, layer)
    return compressed

loss_function = KnowledgeDistillationLoss(temperature=4.0, alpha=1.0)
for name, start in (("collègue", lambda m: m), ("réparé", copy.deepcopy)):
    victim = copy.deepcopy(teacher)
    student = colleague(start(victim), main)
    losses = list(distill_by_hand(victim, student, epochs=2))
    print(f"{name} : perte", *(french(x, 2) for x in losses),
          f"; student {french(test_error(student))} %, "
          f"teacher {french(test_error(victim))} %")
    try:
        course.distill_to_compressed_student(victim, student, loader, 1)
    except ValueError as error:
        print("kdcourse refuse :", error)

# %% [markdown]
# <details><summary><b>La réponse</b></summary>
#
# `copy.copy` est superficielle : la copie et le teacher partagent le **même** dictionnaire de couches. Remplacer une couche de
# la copie la remplace aussi dans le teacher, qui s'effondre avec elle. Le student est alors distillé vers lui-même : perte nulle,
# gradient nul, rien n'apprend. Le teacher, que personne ne regardait, porte le symptôme : son erreur est celle du hasard.
#
# Avec des étiquettes dans la perte, ce pourrait être pire : le student apprendrait un peu, et l'on croirait que tout va bien.
# `copy.deepcopy` répare. Deux réflexes : mesurer le teacher **après** la compression, et se méfier d'une perte trop bonne.
# </details>
#
# ## À vous de jouer
#
# **Exercice 10.6 a.** La SVD tronquée : une matrice et un rang, vers l'approximation, de même forme que la matrice.
#
# **Exercice 10.6 b.** Trois cœurs $(1, n_1, r)$, $(r, n_2, r')$ et $(r', n_3, 1)$, vers le tenseur $(n_1, n_2, n_3)$.
#
# **Exercice 10.6 c.** Les poids tels qu'un octet symétrique les rend : quantifiez avec une seule échelle, puis revenez aux
# nombres flottants.

# %% tags=["nbval-check-output"]
from kdcourse import check

def truncated_svd(matrix, rank):
    ...  # à compléter

def rebuild(first, second, third):
    ...  # à compléter

def through_int8(weight):
    ...  # à compléter

_ = check("10.6 a", truncated_svd), check("10.6 b", rebuild)
_ = check("10.6 c", through_int8)

# %% [markdown]
# <details><summary>Une solution de 10.6 a</summary>
#
# ```python
# def truncated_svd(matrix, rank):
#     u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
#     return (u[:, :rank] * s[:rank]) @ vh[:rank]
# ```
# </details>
# <details><summary>Une solution de 10.6 b</summary>
#
# ```python
# def rebuild(first, second, third):
#     pair = torch.tensordot(first[0], second, dims=1)  # (n1, n2, r')
#     return torch.tensordot(pair, third[..., 0], dims=1)
# ```
# </details>
# <details><summary>Une solution de 10.6 c</summary>
#
# ```python
# def through_int8(weight):
#     scale = weight.abs().max() / 127
#     return (weight / scale).round() * scale
# ```
#
# Cette solution a une limite : une matrice nulle donnerait 0 / 0. Une vraie quantification traite ce cas à part.
# </details>
#
# ## Quiz
#
# Choisissez, puis déroulez l'option.
#
# **1. Une couche de 512 vers 512, trois cœurs, rang 8. Combien de paramètres, sans le biais ?**
#
# <details><summary>1 536</summary>Non : c'est 64·8 pour chacun des trois cœurs. Celui du milieu a un rang de chaque
# côté.</details>
# <details><summary>5 120</summary>Oui : 64·8 + 64·8² + 64·8. Les rangs des deux bouts valent 1.</details>
# <details><summary>12 288</summary>Non : c'est 64·8² pour les trois cœurs ; ceux des bouts n'ont qu'un rang.</details>
#
# **2. Deux trains ont des cœurs différents. Représentent-ils des tenseurs différents ?**
#
# <details><summary>Oui, les cœurs déterminent le tenseur</summary>Ils le déterminent, mais plusieurs jeux de cœurs donnent le
# même : changez le signe de deux voisins.</details>
# <details><summary>Pas forcément</summary>Oui : il faut comparer les reconstructions.</details>
#
# **3. Un article : « notre distillation retrouve 95 % de l'exactitude perdue par la compression ». Que demander ?**
#
# <details><summary>Ce que retrouvent les étiquettes seules, à budget égal</summary>Oui : avec les 1 000 images, elles en
# rendent presque autant. Le gain propre de la distillation est la différence appariée.</details>
# <details><summary>Le rang</summary>Utile, mais il ne dit pas ce que la distillation apporte.</details>
# <details><summary>Rien, c'est convaincant</summary>Non : partie du hasard, une réparation ordinaire en retrouve
# beaucoup elle aussi.</details>
#
# **4. À taille égale, la SVD approche mieux le poids que le train. Après distillation, sur nos chiffres…**
#
# <details><summary>elle gagne aussi</summary>Non, pas à très petite taille : son rang de 2 étrangle la couche.</details>
# <details><summary>le train gagne à très petite taille</summary>Oui : il garde une matrice de rang élevé. L'erreur de
# reconstruction ne prédit pas l'erreur réparée.</details>
#
# **5. Un petit student dense fait aussi bien que votre modèle compressé. Que gardez-vous ?**
#
# <details><summary>Le modèle compressé, il vient du teacher</summary>Non : d'où vient un poids ne compte pas ; l'erreur et le
# coût du modèle, si.</details>
# <details><summary>Le petit dense</summary>Oui, sauf contrainte de structure ou de mémoire que la mesure justifie : il est
# plus simple et plus rapide.</details>
#
# ## Sur GPU
#
# Le train de tenseurs a-t-il seulement manqué de patience ? Quatre fois plus de pas, les mêmes que le petit dense patient : sur
# GPU, les rangs 4, 8 et 16 et dix teachers ; sur processeur, le rang 4 et trois teachers.
#
# Et le teacher de Hinton, deux couches de 1 200 unités sur MNIST ? La fonction `distill` de 10.1 part du teacher compressé comme
# de n'importe quel student. Avec un GPU, la seconde cellule le compresse au rang 8 ; sans GPU, elle reprend le nôtre, au rang 4.

# %%
from kdcourse import best_device

device = best_device()
on_gpu = device.type == "cuda"
deep, chosen = ((4, 8, 16), seeds) if on_gpu else ((4,), seeds[:3])
epochs = 20
print(f"{len(chosen)} teachers, sur {'GPU' if on_gpu else 'processeur'}, "
      f"erreur {mean_interval(reference[chosen])} %")
for rank in deep:
    models = (convert_to_tensor_train(teachers[s], rank) for s in chosen)
    deeper = train_many(
        lambda: next(models), digits.train.to(device),
        guides[chosen].to(device), seeds=chosen, alphas=0.9,
        epochs=epochs, batch_size=25, learning_rate=0.01)
    found = deeper.errors(digits.test.to(device)).cpu()
    ahead = mean_interval(patient[1][1][chosen] - found)
    print(f"rang {rank}, {thousands(parameter_count(deeper[0]))} paramètres, 800 pas : "
          f"{mean_interval(found)} % ; dense patient moins TT : {ahead}")

# %%
from kdcourse import Choice, distill, mnist_teacher, model_error

if on_gpu:
    data, rank = load_dataset("mnist"), 8
    big = distill(mnist_teacher, data.train, method="seul", epochs=20, jitter=2,
                  output="runs/mnist-teacher", resume=True).model
else:
    data, rank, big = digits, 4, teacher

def compressed():
    return convert_to_tensor_train(big, rank).to("cpu")

repaired = distill(compressed, data.train, big, method="KD", choice=Choice(alpha=0.9),
                   epochs=10 if on_gpu else 5, batch_size=100 if on_gpu else 25,
                   learning_rate=0.001 if on_gpu else 0.01, resume=on_gpu,
                   output="runs/10_06-KD" if on_gpu else None).model
smaller_by = parameter_count(big) / parameter_count(repaired)
for name, model in [("teacher", big), ("compressé", compressed()), ("distillé", repaired)]:
    print(f"{name:9} : {french(model_error(model, data.test))} % d'erreur de test")
print(f"{french(smaller_by, 0)} fois moins de paramètres, une seule graine")

# %% [markdown]
# Positive, la différence est à l'avantage du train ; avec trois teachers, l'intervalle est large, lisez-le comme une indication. À
# nombre de pas égal, le train patient peut passer devant ; à temps de calcul voisin, plus haut, le petit dense le valait au moins. Choisissez selon ce que vous
# payez : l'entraînement une fois, ou l'erreur à chaque usage. Les dernières lignes n'ont qu'une graine : les intervalles sont
# plus haut.
#
# ## Toutes les méthodes, mesurées
#
# Le cours se ferme par une mesure, non par des adjectifs. Un même student, un réseau convolutif de deux étages, apprend de
# toutes les façons que vous avez vues : mêmes 100 images, mêmes 100 pas, dix graines. Deux méthodes de logits plus récentes s'y
# joignent. *DIST* (Huang et al., 2022, *Knowledge Distillation from A Stronger Teacher*) corrèle les prédictions au lieu de les
# égaler : entre classes, image par image ; puis entre images, classe par classe. *LSKD* (*logit standardization*, Sun et al.,
# 2024) centre et réduit d'abord les logits de chaque image : le student n'imite plus leur amplitude. Les réglages ($\alpha$, température, facteur de chaque terme) ont été choisis sur la validation, avec d'autres graines, par `python -m benchmarks compare` ; le cours
# les garde avec leur date et leur machine.
#
# **À vous de parier** : ajouter à KD un second terme, quel qu'il soit, vaut-il son prix ?

# %%
from kdcourse import CNN, compare_distillation_methods
from kdcourse import load_choices, method_table, METHODS
from kdcourse.plots import plot_methods

few, two_stages = digits.train.where(slice(0, 100)), partial(CNN, channels=(8, 16))
rows = compare_distillation_methods(two_stages, cnn, few, digits.test, load_choices())
display(Markdown(method_table(rows)), plot_methods(rows))
errors_of = {row.method: row.errors for row in rows}
added = {row.method.name: mean_interval(errors_of[row.method.base] - row.errors)
         for row in rows if row.method.base}
kd = METHODS["KD"]
for method, errors in errors_of.items():  # celles qui ne lisent que les logits, comme KD
    if method.needs_teacher and method.reads == kd.reads and method is not kd:
        print(f"{method.name:15} : gain sur KD {points(mean_interval(errors_of[kd] - errors))}")
for name, gain_on_kd in added.items():
    print(f"{name:15} : gain sur KD {points(gain_on_kd)}")
better = [name for name, gain_on_kd in added.items() if gain_on_kd.low > 0]
print("ajouts que dix graines établissent :", ", ".join(better) or "aucun")

# %% [markdown]
# *Temps* : celui d'un pas, rapporté au student seul, le teacher étant passé une fois pour toutes. *Mémoire* : ce qu'un pas
# alloue de plus, au plus haut. *Paramètres* : ceux d'un adaptateur, jetés à la fin.
#
# Lisez la figure : KD est le meilleur rapport entre gain et prix, et ne demande du teacher que ses sorties. DIST et LSKD gagnent
# aussi sur le student seul ; leur écart avec KD est imprimé. Dix graines n'établissent aucun ajout à KD, à ce budget : c'est la dernière ligne imprimée. 10.3 et 10.4 en avaient
# établi à d'autres : un classement change avec les images et les pas. (RKD est ici la somme de la distance et de l'angle.)
#
# Ci-dessous, les chiffres publiés, sur CIFAR-100 (exactitude en %, README de RepDistiller, une valeur par case) :
#
# | teacher → student | teacher | seul | KD | FitNet | AT | SP | RKD | CRD |
# |---|---|---|---|---|---|---|---|---|
# | resnet32x4 → resnet8x4 | 79,42 | 72,50 | 73,33 | 73,50 | 73,44 | 72,94 | 71,90 | 75,51 |
# | wrn-40-2 → wrn-16-2 | 75,61 | 73,26 | 74,92 | 73,58 | 74,08 | 73,83 | 73,35 | 75,48 |
# | vgg13 → MobileNetV2 | 74,64 | 64,60 | 67,37 | 64,14 | 59,40 | 66,30 | 64,52 | 69,73 |
#
# Là aussi, KD gagne sur les trois couples ; SP et CRD (10.4) également, CRD le plus. FitNet, AT et RKD, selon le couple.
#
# ## À retenir

# %%
lost, kept = (sweep.at(3) for sweep in sweeps.values())
smaller = thousands(round(memory["dense"] / memory["TT, rang 4"]))
display(Markdown(f"""
- Un train de tenseurs est une suite de SVD tronquées. Il tient un filtre
  dans {french(weight.numel() / kept.parameters, 0)} fois moins de paramètres ;
  d'une couche entraînée, au même rang, il perd {french(lost.error, 0)} %. À plein
  rang, il est plus gros que la matrice.
- Rendu {ratio} fois plus petit, un teacher passe de {french(reference.mean())} à
  {french(raw[main].mean(), 0)} % d'erreur ; la distillation le ramène à
  {french(distilled.mean())} %, soit {recovered[1]} % de l'exactitude perdue.
- Les étiquettes seules en rendent {recovered[0]} %. Ce que la distillation
  ajoute : {points(gain)} avec 1 000 images, {few_gain} avec 100.
- Un petit student dense de {thousands(patient[0][1])} paramètres, distillé quatre fois plus
  longtemps, fait {french(patient[1][1].mean())} % : toujours le mesurer. Les tenseurs
  paient quand la matrice a une structure que ses plis voient. Sur une couche de
  4 096 vers 4 096, au rang 4, ils prennent {smaller} fois moins de mémoire ; pour la
  vitesse, une SVD de taille voisine fait mieux.
- Les gains se multiplient : avec int8, {multiplied} fois moins d'octets que
  le teacher ; l'arrondi coûte {points(cost)}.
"""))

# %% [markdown]
# ## Références
#
# - I. Oseledets, *Tensor-Train Decomposition*, SIAM J. Sci. Comput., 2011,
#   [doi:10.1137/090752286](https://doi.org/10.1137/090752286). TT-SVD et sa borne d'erreur.
# - A. Novikov, D. Podoprikhin, A. Osokin, D. Vetrov, *Tensorizing Neural Networks*, 2015,
#   [arXiv:1509.06569](https://arxiv.org/abs/1509.06569). La couche en train de tenseurs : jusqu'à 200 000 fois moins de
#   paramètres sur une couche de VGG, 7 fois sur le réseau entier.
# - T. Garipov, D. Podoprikhin, A. Novikov, D. Vetrov, *Ultimate tensorization*, 2016,
#   [arXiv:1611.03214](https://arxiv.org/abs/1611.03214). Convolutions et couches denses, 80 fois, CIFAR-10.
# - Y.-D. Kim, E. Park et al., *Compression of Deep Convolutional Neural Networks for Fast and Low Power Mobile
#   Applications*, 2016, [arXiv:1511.06530](https://arxiv.org/abs/1511.06530). Tucker-2.
# - G. Hinton, O. Vinyals, J. Dean, *Distilling the Knowledge in a Neural Network*, 2015,
#   [arXiv:1503.02531](https://arxiv.org/abs/1503.02531).
# - T. Huang et al., *Knowledge Distillation from A Stronger Teacher* (DIST), 2022,
#   [arXiv:2205.10536](https://arxiv.org/abs/2205.10536).
# - S. Sun et al., *Logit Standardization in Knowledge Distillation* (LSKD), 2024,
#   [arXiv:2403.01427](https://arxiv.org/abs/2403.01427).
#
# **La suite** : le chapitre 11, *Approximations de rang faible*.
