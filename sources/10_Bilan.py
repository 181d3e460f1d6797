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
# # 10 Bilan
#
# **Quelle méthode, quand ?**
#
# Deux laboratoires entraînent une fois chacune des quinze méthodes du cours, et le student seul : mêmes réglages, mêmes 100 pas. Seuls
# changent le teacher, les cent images et la graine. Chacun publie son tableau. Suivez les couleurs.
#
# ![Les classements de deux laboratoires se croisent ; à droite, celui de deux cents students par méthode](attachment:ouverture.png)
#
# Ce chapitre donne le tableau de droite, dit ce que valaient les deux autres, et finit par un guide.

# %% tags=["bootstrap", "hide-input"]
from kdcourse import describe_environment, say

say(describe_environment())

# %% [markdown]
# ## Objectifs
#
# À la fin de ce chapitre, vous saurez :
#
# - choisir une méthode, et dire quelle mesure du cours fonde ce choix ;
# - dire combien d'essais il faut pour départager deux méthodes ;
# - lire un tableau publié, et repérer ce qu'il ne prouve pas.
#
# **Durée : une demi-heure** ; le notebook s'exécute en moins de deux minutes.
#
# **Prérequis** : les chapitres 10.1 à 10.5 ; 10.6 pour la quatrième phrase, à la fin.
#
# <details><summary>Les quinze méthodes, et où le cours les présente</summary>
#
# | Méthode | Ce que le student imite | Chapitre |
# |---|---|---|
# | seul | rien : les étiquettes seules | 10.1 |
# | KD | les logits adoucis | [10.1](10_01_Principes.ipynb), [10.2](10_02_Logits.ipynb) |
# | DKD | les logits, la bonne classe à part des autres | [10.2](10_02_Logits.ipynb) |
# | DIST | la corrélation des prédictions (Huang et al., 2022) : $1 - \rho(p^s_b, p^t_b)$ pour chaque image $b$, plus la même pour chaque classe, d'une image à l'autre | ici |
# | LSKD | les logits, centrés et réduits (*logit standardization*, Sun et al., 2024) | ici |
# | hint, attention | une carte, ou l'endroit où elle est active | [10.3](10_03_Features.ipynb) |
# | cosine, SP, RKD | les ressemblances d'un lot (RKD : distances et angles) | [10.4](10_04_Relations.ipynb) |
# | PS-KD | sa propre prédiction d'hier | [10.5](10_05_Self_Distillation.ipynb) |
# | KD + … | deux pertes additionnées | ici |
# </details>

# %% tags=["opening", "hide-input"]
from kdcourse import mean_interval
from kdcourse.measures import StoredComparison
from kdcourse.plots import plot_rankings

comparison = StoredComparison.load()
short, long = comparison.steps  # en époques : 100 pas, 400 pas
errors = comparison.errors[short]
one_run = [{name: own[laboratory, 0].item() for name, own in errors.items()}
           for laboratory in (0, 1)]
everyone = {name: own.mean().item() for name, own in errors.items()}
winners = [min(told, key=told.get) for told in (*one_run, everyone)]
colored = dict(zip(winners, ("student", "other", "distilled")))
tied = [name for name in errors if mean_interval(
    comparison.gain(short, name, winners[2])).high > 0 or name == winners[2]]
plot_rankings({
    "laboratoire A, un essai": one_run[0], "laboratoire B, un essai": one_run[1],
    "dix laboratoires, 200 essais": everyone}, colored,
    f"A conclut : {winners[0]}. B conclut : {winners[1]}. "
    f"Ensemble : {' et '.join(tied)}{', à égalité' if len(tied) > 1 else ''}.")

# %% [markdown]
# Rien n'est truqué : ce sont les deux premiers laboratoires, et leur première graine. Chacun a bien mesuré ce qu'il publie. Mais
# regardez les écarts : chez A, quatre images de test sur 500 font le vainqueur ; chez B, trois méthodes se valent, à l'image près. (« À
# égalité » : l'écart n'est pas établi.)
#
# ## Toutes les méthodes, à deux budgets
#
# Voici comment le tableau de droite est fait.
#
# - **Dix laboratoires.** Chacun a son teacher, et ses cent images étiquetées.
# - **Vingt graines** par laboratoire, les mêmes pour toutes les méthodes. Le student est un réseau convolutif de deux étages.
# - **Deux budgets** : 100 pas, puis 400. Les réglages de chaque méthode ($\alpha$, température, facteur) ont été choisis sur la
#   validation, pour chaque budget, avec d'autres graines, dans deux des dix laboratoires. (Une méthode qui a plus de réglages en essaie
#   davantage.)
#
# L'unité est le laboratoire : une méthode y vaut la moyenne de ses vingt students, et l'intervalle à 95 % porte sur dix différences
# appariées. Un verdict vaut donc pour d'autres teachers de cette taille, et pour d'autres images d'entraînement. Deux réserves : les 500
# images de test sont les mêmes partout, et 0,3 point n'en est qu'une et demie ; sur une trentaine d'intervalles à 95 %, un ou deux
# excluent 0 par hasard. Ces milliers de students ne tiennent pas dans un notebook : `python -m benchmarks compare` les entraîne, et range
# leurs erreurs, que nous relisons.
#
# **À vous de parier** : des quatre familles (logits, features, relations, soi-même), laquelle n'aide à aucun des deux budgets ?

# %%
from kdcourse.plots import gain_summary, plot_gains

names = [name for name in errors if name != "seul"]
over_alone = {f"{steps} pas": {name: comparison.gain(epochs, name) for name in names}
              for epochs, steps in comparison.steps.items()}
plot_gains(over_alone, f"Sur le student seul : {gain_summary(over_alone)}")

# %% tags=["hide-input"]
from kdcourse import french, load_choices, markdown_table, thousands

students = sum(own.numel() for part in comparison.errors.values()
               for own in part.values())
rows = [[name] for name in errors]
for gains, part in zip(over_alone.values(), comparison.errors.values()):
    for row in rows:
        gain = mean_interval(gains[row[0]]) if row[0] in gains else ""
        row += [french(part[row[0]].mean()), gain]
header = ["méthode", "erreur à 100 pas (%)", "gain (points)", "erreur à 400 pas (%)",
          "gain (points)"]
chosen = [load_choices(epochs) for epochs in comparison.steps]
settings = [[name, *(f"{value:g}".replace(".", ",") for own in chosen for value in (
    own[name].alpha, own[name].scale, own[name].temperature))] for name in names]
say(f"{thousands(students)} students, {comparison.origin}.",
    "<details><summary>Les mêmes nombres, en tableau</summary>",
    markdown_table(header, rows), "</details>",
    "<details><summary>Les réglages que la validation a choisis</summary>",
    markdown_table(["méthode", "α, 100 pas", "facteur", "T", "α, 400 pas", "facteur",
                    "T"], settings), "</details>")

# %% [markdown]
# Réponse du pari : soi-même. PS-KD, seule de sa famille, n'apporte rien d'établi. (À 100 pas, la validation
# lui a choisi le plus petit poids de l'échelle, et au cosinus moins encore : le meilleur réglage y est de ne guère s'en servir.) Ensuite, deux lectures.
#
# - **Les logits d'abord.** KD, DKD et DIST ôtent près de quatre points, ou davantage, aux deux budgets. Ils donnent dix nombres par image, et le nom de
#   chaque classe.
# - **Les cartes attendent ; les relations, pas toutes.** À 100 pas, le hint, l'attention et le cosinus ne gagnent rien d'établi ; à 400, le
#   hint et le cosinus gagnent un peu. SP et RKD gagnaient déjà, et RKD, sans voir un logit, fait plus des trois quarts du gain de KD.
#
# ## Faut-il ajouter quelque chose à KD ?
#
# La question d'un ingénieur n'est pas « mieux que rien ? », mais « mieux que KD ? », qui ne demande au teacher que ses logits.

# %%
rivals = [name for name in names if name != "KD"]
over_kd = {
    f"{steps} pas": {name: comparison.gain(epochs, name, "KD") for name in rivals}
    for epochs, steps in comparison.steps.items()}
plot_gains(over_kd, f"Sur KD : {gain_summary(over_kd)}")

# %% tags=["hide-input"]
from kdcourse import points

for budget, gains in over_kd.items():
    found = {name: mean_interval(values) for name, values in gains.items()}
    better = [name for name, interval in found.items() if interval.low > 0]
    best = max(found, key=lambda name: found[name].mean)
    worse = [name for name in found if " + " in name and found[name].high < 0]
    say(f"**À {budget}**, battent KD : {', '.join(better) or 'aucune'}. La plus forte, "
        f"{best}, gagne {points(found[best])}. "
        f"Ajoutés à KD, font perdre : {', '.join(worse) or 'aucun'}.")
rows = []
for epochs, steps in comparison.steps.items():
    for name, choice in load_choices(epochs).items():
        twin = f"KD, T = {choice.temperature:g}"  # KD, à la température de la somme
        if " + " in name and twin in comparison.controls[epochs]:
            over = [comparison.gain(epochs, name, base) for base in ("KD", twin)]
            heat = f"{choice.temperature:g}"
            rows.append([name, steps, heat, *map(mean_interval, over)])
header = ["somme", "pas", "sa T", "gain sur KD (points)", "sur KD à cette T"]
say(markdown_table(header, rows))

# %% [markdown]
# Une seule bat KD aux deux budgets : KD + RKD, qui lui ajoute les distances et les angles du lot. DIST bat KD à 100 pas, et ne fait que
# l'égaler à 400. KD + hint et KD + attention font l'inverse : rien à 100 pas, un gain établi à 400. SP et
# le cosinus, ajoutés à KD, ne paient à aucun budget.
#
# Attention au témoin. La validation a choisi, pour certaines sommes, une température que KD seul n'avait pas prise. Le tableau les oppose à
# KD à **cette** température : KD + RKD et KD + hint y gagnent encore à 400 pas ; de l'avance de KD + attention, il ne reste rien d'établi.
# Un gain d'un tiers de point peut n'être qu'un réglage.
#
# Ces verdicts tiennent-ils ailleurs ? Nous avons refait les principaux, avec les réglages d'un premier essai, dix graines, dans six
# laboratoires que rien n'avait réglés, dont trois avec d'autres images de test. KD + RKD bat encore KD aux deux budgets, et à 200 pas ; DIST encore à 100 pas, KD + hint
# à 400. KD + attention n'y est plus établi, et LSKD n'y perd plus qu'à 400.
#
# Mesurez aussi la taille de ces gains : un point au plus, quand KD en ôte quatre ou cinq. Les logits suffisent à l'essentiel.
#
# **Ce tableau ne redit pas tous les chapitres.** À 25 images, 10.3 gagnait 6,1 points à ajouter le hint ; ici, à 100 images, 0,6 au plus.
# En 10.4, SP devançait les logits à 200 pas ; ici, il les suit. Le student, le nombre d'images et le réglage de KD ont changé. Il contredit
# aussi des articles : LSKD et DKD y gagnent sur KD, ici l'un perd et l'autre fait jeu égal ; RKD seul y est faible, ici il est fort. Dix
# classes au lieu de cent, cent images, une température réglée pour KD : nous ne savons pas lequel compte. Un classement vaut pour son
# problème, comme pour son budget.
#
# ## Ce que chaque méthode demande
#
# Un gain se paie. Entraînons le laboratoire A devant vous, à 100 pas et dix graines, et mesurons ce que coûte un pas de chaque méthode.

# %%
from functools import partial
import torch
from kdcourse import CNN, compare_distillation_methods, digits_teacher, error_rate
from kdcourse import load_dataset, parameter_count, train_one

torch.set_num_threads(1)  # deux fils ne gagnent rien ici
digits = load_dataset("digits")
hundred = digits.train.where(slice(0, 100))  # les images du laboratoire A
teacher = train_one(digits_teacher, digits.train, seed=0, epochs=10)
small = partial(CNN, channels=(8, 16))
costs = compare_distillation_methods(
    small, teacher, hundred, digits.test, load_choices(short),
    epochs=short, batch_size=25, learning_rate=0.01)

# %% tags=["hide-input"]
from kdcourse.measures import method_needs

table = [[row.method.name, method_needs(row.method), row.gain or "",
          f"× {french(row.step_ratio)}", f"{french(row.extra_bytes / 1e3, 0)} ko",
          row.extra_parameters] for row in costs]
ceiling = error_rate(teacher(digits.test.images), digits.test.labels)
say(f"Au laboratoire A, le teacher ({thousands(parameter_count(teacher))} paramètres) "
    f"fait {french(ceiling)} % d'erreur ; le student en a "
    f"{thousands(parameter_count(small()))}.",
    markdown_table(["méthode", "ce qu'elle demande", "gain, laboratoire A (points)",
                    "temps d'un pas", "mémoire", "paramètres"], table))

# %% [markdown]
# *Temps* : celui d'un pas, rapporté au student seul, le teacher étant passé une fois pour toutes ; c'est pourtant lui le premier coût, dès
# que l'on transforme les images au vol. *Mémoire* : ce que le pic d'un pas dépasse celui du student seul ; une perte dont les tableaux
# tiennent sous ce pic vaut 0. *Paramètres* : ceux d'un adaptateur, jetés à la fin. Le *gain* est celui de ce seul laboratoire. Nos réseaux
# sont minuscules ; sur de grands, le rapport serait autre.
#
# ## Que vaut le tableau d'un seul essai ?
#
# Beaucoup de tableaux donnent un nombre par case : un essai, ou la moyenne de trois ou cinq. Nous avons 200 students par méthode et par
# budget : tirons-en autant de tableaux que nous voulons, et comptons ceux qui se trompent.
#
# Ne gardons que les couples de méthodes que les dix laboratoires départagent (l'intervalle de leur écart exclut 0) : pour les autres,
# personne ne connaît le bon ordre. Un couple est **mal rangé** quand la moins bonne passe devant. Tirons les tableaux de trois façons :
#
# - **chacun ses graines** : un laboratoire, des essais indépendants pour chaque méthode ;
# - **mêmes graines** : un laboratoire, mêmes poids de départ et mêmes lots pour toutes ;
# - **d'autres laboratoires** : mêmes graines, mais chaque essai tire son laboratoire, donc son teacher et ses images (avec remise).
#
# **À vous de parier** : avec un seul essai, quelle part des couples est mal rangée ? Et avec dix ?

# %%
from kdcourse.measures import Pairs, independent_runs, misordered
from kdcourse.measures import other_laboratories, shared_seeds

ways = {"chacun ses graines": independent_runs, "mêmes graines": shared_seeds,
        "d'autres laboratoires": other_laboratories}
runs, wrong, pairs = [1, 3, 5, 10], {}, {}
for epochs, steps in comparison.steps.items():
    everything = comparison.stacked(epochs)
    pairs[steps] = Pairs.established(everything)
    wrong[steps] = {name: [misordered(everything, pairs[steps], draw, count)
                           for count in runs] for name, draw in ways.items()}

# %% tags=["hide-input"]
from IPython.display import display
from kdcourse.plots import plot_misordered

shares = {steps: {name: [float(found.mean()) for found in counts]
                  for name, counts in found.items()} for steps, found in wrong.items()}
roles = ("student", "other", "distilled")
clouds = dict(zip(runs, wrong[100]["chacun ses graines"]))
needed = {count: float(pairs[100].gap[found > 5].max())
          for count, found in clouds.items()}
one = shares[100]["chacun ses graines"][0]
display(plot_misordered(
    runs, {name: (shares[100][name], role) for name, role in zip(ways, roles)},
    pairs[100].gap, {count: clouds[count] for count in (1, 3, 10)},
    f"À 100 pas, un essai par méthode range mal un couple sur {french(100 / one, 0)}"))
columns = [(f"{name}, {steps} pas", found) for steps, by_way in shares.items()
           for name, found in by_way.items()]
say(markdown_table(["essais par méthode", *(title for title, _ in columns)], [
    [count, *(f"{french(found[k])} %" for _, found in columns)]
    for k, count in enumerate(runs)]))

# %% tags=["hide-input"]
total = len(errors) * (len(errors) - 1) // 2
say(f"Sur {total} couples, les 200 students en départagent {len(pairs[100].gap)} à "
    f"100 pas, {len(pairs[400].gap)} à 400. À 100 pas, avec un essai chacun, un couple "
    f"séparé de {french(needed[1])} points est encore mal rangé plus d'une fois sur "
    f"vingt. Avec dix essais, seuls le sont encore ceux que sépare "
    f"{points(needed[10])} ou moins.")

# %% [markdown]
# Lisez la figure de droite (l'écart y est celui des 200 students) : un essai sépare bien deux méthodes très éloignées, et joue presque à
# pile ou face les plus proches. La part mal rangée dépend donc de la liste : la nôtre a beaucoup de couples éloignés, qu'un essai ne
# confond pas.
#
# Répéter aide : trois essais suppriment de 40 à 50 % des erreurs de rang. Partager les graines aide un peu. Changer de laboratoire
# n'aide pas pour un essai, et aide un peu plus encore dès trois : dix graines d'un même teacher partagent le même hasard.
#
# ## Les tableaux publiés
#
# Voici des exactitudes sur CIFAR-100 (en %). Les premières viennent du README de CRD (RepDistiller), DKD de celui de ses auteurs
# (mdistiller), qui reprend la colonne KD du premier. Chaque case est une moyenne de quelques essais. Les deux ne se comparent qu'à peu près :
# RepDistiller publie la **dernière** époque ([16](https://github.com/HobbitLong/RepDistiller/issues/16)), mdistiller la **meilleure** au
# test, moyenne de cinq essais ([30](https://github.com/megvii-research/mdistiller/issues/30),
# [42](https://github.com/megvii-research/mdistiller/issues/42)).
#
# | teacher → student | teacher | seul | KD | hint | attention | SP | RKD | CRD | DKD |
# |---|---|---|---|---|---|---|---|---|---|
# | resnet32x4 → resnet8x4 | 79,42 | 72,50 | 73,33 | 73,50 | 73,44 | 72,94 | 71,90 | 75,51 | 76,32 |
# | wrn-40-2 → wrn-16-2 | 75,61 | 73,26 | 74,92 | 73,58 | 74,08 | 73,83 | 73,35 | 75,48 | 76,23 |
# | vgg13 → MobileNetV2 | 74,64 | 64,60 | 67,37 | 64,14 | 59,40 | 66,30 | 64,52 | 69,73 | 69,71 |
#
# (« hint » y est FitNet, « attention » AT ; ces colonnes n'ajoutent pas KD.) D'autres personnes ont refait la colonne DKD avec le code
# publié, et l'ont raconté dans son dépôt :
#
# | couple | publié | refait | discussion |
# |---|---|---|---|
# | resnet32x4 → resnet8x4 | 76,32 | 76,20 ; 75,80 ; 75,89 ; 75,85 ; 76,15 | [7](https://github.com/megvii-research/mdistiller/issues/7) |
# | le même, par ses auteurs | 76,32 | de 75,9 à 76,5 | [7](https://github.com/megvii-research/mdistiller/issues/7) |
# | wrn-40-2 → wrn-16-2 (76,24 dans l'article) | 76,23 | 75,15 au mieux ; 75,5 sur quatre essais | [8](https://github.com/megvii-research/mdistiller/issues/8) |
# | wrn-40-2 → wrn-40-1 | 74,81 | 73,3 au mieux | [51](https://github.com/megvii-research/mdistiller/issues/51) |

# %%
accuracy = torch.tensor([  # KD, hint, attention, SP, RKD, CRD, DKD
    [73.33, 73.50, 73.44, 72.94, 71.90, 75.51, 76.32],
    [74.92, 73.58, 74.08, 73.83, 73.35, 75.48, 76.23],
    [67.37, 64.14, 59.40, 66.30, 64.52, 69.73, 69.71]])
again = torch.tensor([76.20, 75.80, 75.89, 75.85, 76.15])
doubt = 1.96 * again.std() * (2 / 5) ** 0.5  # l'écart de deux moyennes de cinq
first, second = torch.triu_indices(7, 7, offset=1)
close = ((accuracy[:, first] - accuracy[:, second]).abs() <= doubt).sum(dim=1)
say(f"Cinq essais du même réglage : écart type de {french(again.std(), 2)} point, et "
    f"moyenne à {french(76.32 - again.mean(), 2)} point du nombre publié. Deux "
    f"moyennes de cinq ne se distinguent qu'au-delà de {french(doubt, 2)} point. Sur "
    f"{len(first)} couples de méthodes par ligne, {', '.join(map(str, close.tolist()))}"
    " sont plus proches.")

# %% [markdown]
# Les cinq essais refaits sont sous le nombre publié, de plus que leur bruit. Une explication est dans ce dépôt même : la meilleure époque,
# choisie au test, n'est jamais sous la dernière. C'est régler sur le test, sans y penser. Méfiez-vous aussi de notre tableau : qui
# écrit dans un dépôt est souvent qui n'a pas retrouvé le nombre, et l'auteur du fil 8 avait réussi la troisième ligne du premier tableau.
#
# Que reste-t-il de sûr ? KD bat le student seul sur les trois lignes ; CRD et DKD battent KD nettement sur la première et la troisième. Sur
# la deuxième, DKD refait tombe au niveau de CRD. Entre les autres, l'ordre change d'une ligne à l'autre.
#
# ## Quelle méthode, quand ?
#
# | Votre cas | Commencez par | Ce qui le fonde |
# |---|---|---|
# | vous n'avez que les sorties du teacher | KD, le plus simple, à $T = 4$ ou plus ; DIST si les pas manquent, à régler pour votre budget | *Faut-il ajouter*, et la carte de [10.2](10_02_Logits.ipynb) |
# | très peu de pas | vérifiez d'abord que vous ne perdez pas | [10.1](10_01_Principes.ipynb), *Quand la distillation fait perdre* |
# | l'intérieur du teacher | KD + RKD, aux deux budgets ; KD + hint s'il y a du temps, ou 25 étiquettes | *Faut-il ajouter* ; [10.3](10_03_Features.ipynb), *L'expérience* |
# | très peu d'étiquettes | KD, sur toutes les images que vous avez | [10.2](10_02_Logits.ipynb), la carte à $\alpha = 1$ |
# | aucune étiquette, aucun logit | une relation, puis quelques noms | [10.4](10_04_Relations.ipynb), *Ni étiquette, ni réponse* |
# | pas de teacher | le lissage d'étiquettes (établi à 1 000 images seulement) ; surveillez la calibration | [10.5](10_05_Self_Distillation.ipynb), *Ce que le student a vraiment appris* |
# | un tout petit student | un petit $\alpha$, et plus de pas | [10.2](10_02_Logits.ipynb), *Manque de place, ou manque de pas ?* |
# | le teacher est trop gros | un petit réseau que vous distillez, puis passez en int8 | [10.6](10_06_Tensor_Compression.ipynb), *Le front* |
# | deux méthodes à quelques dixièmes | la plus simple | *Que vaut le tableau d'un seul essai* |
#
# ### Ce que le cours n'a pas mesuré
#
# - **De grands réseaux, de vraies photos.** Nos students ont quelques milliers de paramètres, nos images 64 pixels. Les classements
#   y changent, RKD le montre ; les cellules *Sur GPU* sont là pour l'essayer.
# - **Un teacher bien plus fort que son student**, le cas pour lequel DIST a été proposée.
# - **CRD**, devant KD sur les trois lignes publiées : nous ne l'avons pas programmée.
# - **Les modèles qui écrivent**, où la cible change à chaque mot.
#
# ## Quatre phrases, quatre mesures
#
# Le chapitre 10 du livre d'où vient ce cours, *Knowledge Distillation*, se terminait par quatre phrases. Les voici, chacune devant ce que nous en avons mesuré.
#
# 1. *La distillation utilise les prédictions adoucies du teacher comme une supervision de plus.*
# 2. *Une température élevée révèle les relations entre classes que l'étiquette cache.*
# 3. *La distillation de features préserve les représentations intermédiaires.*
# 4. *Distillation et compression peuvent multiplier leurs gains.*

# %%
from kdcourse import METHODS, grid, predict_features, train_many
from kdcourse import attention_map
from kdcourse.measures import map_similarity, model_attention, uniform_map

seeds, settings = range(10), dict(epochs=long, batch_size=25, learning_rate=0.01)
seen = predict_features(teacher, hundred.images)  # laboratoire A
heated = train_many(small, hundred, seen.logits, **settings,
                    **grid(temperatures=[1, 8], alphas=0.9, seeds=seeds, alone=True))
alone, cold, hot = heated.table(digits.test)
attention = METHODS["attention"].distillation(load_choices(long)["attention"])
guided = train_many(small, hundred, seen, distillation=attention, alphas=0.5,
                    seeds=seeds, **settings)
target = model_attention(teacher, digits.test.images)[1]
flat = map_similarity(attention_map(uniform_map(target)), target).item()

def likeness(students):  # cosinus avec le teacher, dix premiers students
    return torch.stack([
        map_similarity(model_attention(students[k], digits.test.images)[1], target)
        for k in seeds])

# %%
from kdcourse import MLP, convert_to_tensor_train

wide = partial(MLP, hidden=(512, 512))
teachers = [train_one(wide, digits.train, seed=seed, epochs=10) for seed in seeds]
with torch.no_grad():
    logits = torch.stack([model(digits.train.images) for model in teachers])
    before = torch.stack([error_rate(model(digits.test.images), digits.test.labels)
                          for model in teachers])
copies = [convert_to_tensor_train(model, 4) for model in teachers]
with torch.no_grad():
    broken = torch.stack([error_rate(model(digits.test.images), digits.test.labels)
                          for model in copies])
by_labels, repaired = (
    train_many(partial(next, iter(copies)), digits.train, logits, seeds=seeds,
               alphas=alpha, **settings | {"epochs": 5}).errors(digits.test)
    for alpha in (0.0, 0.9))
smaller = parameter_count(teachers[0]) / parameter_count(copies[0])

# %% tags=["hide-input"]
from kdcourse.plots import plot_key_points

shown = {
    "1. le teacher supervise": {"seul": (alone, "student"), "KD": (hot, "distilled")},
    "2. la température révèle": {"T = 1": (cold, "neutral"),
                                 "T = 8": (hot, "distilled")},
    "3. l'intérieur suit": {"seul": (100 * likeness(heated), "student"),
                            "attention": (100 * likeness(guided), "distilled")},
    f"4. {french(smaller, 0)} fois plus petit": {
        "teacher": (before, "teacher"), "coupé": (broken, "neutral"),
        "étiquettes": (by_labels, "student"), "réparé": (repaired, "distilled")}}
display(plot_key_points(shown, "erreur de test (%) ; en 3, cosinus des cartes × 100",
                        "Les quatre phrases du chapitre, mesurées"))
less = 100 * (1 - hot.mean() / alone.mean())
say(f"Au laboratoire A, KD ôte {french(less, 0)} % des erreurs. Une carte uniforme "
    f"aurait un cosinus de {french(100 * flat, 0)} (× 100). Réparer par le teacher "
    "plutôt que par les étiquettes gagne "
    f"{points(mean_interval(by_labels - repaired))}.")

# %% [markdown]
# 1. Les probabilités du teacher ôtent une bonne part des erreurs du student seul ; rien d'autre n'a changé.
# 2. À $T = 1$, le teacher ne dit guère plus que l'étiquette ; à $T = 8$, ses nuances passent, et l'erreur baisse.
# 3. Guidé, le student est actif là où l'est le teacher, bien plus qu'une carte uniforme. Préserver n'est pas gagner : au tableau,
#    l'attention seule ne gagne rien d'établi.
# 4. Découpé en tenseurs, le teacher ne sait plus rien. Les étiquettes seules en réparent l'essentiel : ce qui revient au teacher est la
#    différence imprimée, non la réparation. Int8 (10.6) diviserait encore la taille par quatre.
#
# ## Chasse au bug
#
# Une équipe essaie les quinze méthodes, une fois chacune, dans le laboratoire A. Elle garde la meilleure, et publie le gain qu'elle vient
# de mesurer. Le code est juste, les nombres aussi. Quelqu'un d'autre refait sa méthode : le gain a fondu. Voici l'histoire, rejouée dans
# les dix laboratoires et pour chacune des vingt graines. Cherchez l'erreur avant de dérouler.

# %%
found = torch.stack([comparison.errors[short]["seul"] - comparison.errors[short][name]
                     for name in names])  # (méthodes, laboratoires, graines)
best = found.argmax(dim=0)  # la meilleure de chaque essai
announced = found.amax(dim=0)
truth = found.mean(dim=(1, 2))[best]  # ce que vaut vraiment la méthode choisie
say(f"Gain annoncé : {mean_interval(announced.mean(dim=1))} points. Gain de la même "
    f"méthode, refaite ailleurs : {french(truth.mean())} points.")

# %% tags=["hide-input", "repair"]
apart = torch.stack([found.roll(1, dims=2).gather(0, best[None])[0]])
won = mean_interval(apart[0].mean(dim=1))
say("<details><summary><b>La réponse</b></summary>", """
La graine qui choisit est aussi celle qui mesure. Parmi quinze nombres bruités, le plus
grand doit une part de sa place au hasard, et ce hasard est publié avec lui. On
l'appelle la malédiction du vainqueur (*winner's curse*). C'est le même défaut que de
régler sur le test.

Le remède : choisir sur un essai, mesurer sur un autre.""",
    f"Avec la graine suivante, le gain mesuré est de {points(won)}.",
    "</details>")

# %% [markdown]
# ## À vous de jouer
#
# **Exercice Bilan a.** Combien de graines faut-il ? Vous espérez un gain de `gap` points, et la différence appariée varie d'une graine à
# l'autre avec un écart type `spread`. Écrivez `runs_needed(gap, spread)` : le plus petit nombre entier de graines pour que la
# demi-largeur de l'intervalle, $1{,}96\, s / \sqrt n$, ne dépasse pas `gap`. Deux tenseurs `(P,)`, un tenseur flottant `(P,)`. (Un gain
# de `gap` n'exclut alors 0 qu'une fois sur deux ; pour quatre fois sur cinq, comptez le double.)

# %% tags=["nbval-check-output"]
from kdcourse import check

def runs_needed(gap, spread):
    ...  # à compléter

_ = check("Bilan a", runs_needed)

# %% [markdown]
# <details><summary>Une solution de Bilan a</summary>
#
# ```python
# def runs_needed(gap, spread):
#     return (1.96 * spread / gap).square().ceil()
# ```
#
# Pour distinguer deux fois moins, il faut quatre fois plus de graines. (Avec peu de graines, le quantile de Student remplace 1,96.)
# </details>
#
# **Exercice Bilan b. Prévoir, changer, lire.** Dans le laboratoire A, à 100 pas, dix graines établissent un gain du hint sur le
# student seul : c'est sa ligne, dans le tableau des coûts. Et dans dix laboratoires ? `comparison.gain(époques, méthode)` rend un gain par laboratoire.
#
# 1. Écrivez votre prévision : `"gain"`, `"recul"` ou `"rien d'établi"`.
# 2. Complétez `experiment`, qui rend les dix gains.
# 3. Lisez l'intervalle, et complétez `reading` avec les mêmes mots.

# %% tags=["nbval-check-output"]
prediction = ...  # avant d'exécuter

def experiment():
    ...  # à compléter

reading = ...  # après
_ = check("Bilan b", prediction, experiment, reading)

# %% [markdown]
# <details><summary>Une solution</summary>
#
# ```python
# prediction = "gain"  # se tromper ici est permis
#
# def experiment():
#     return comparison.gain(short, "hint")
#
# reading = "rien d'établi"
# ```
# </details>
#
# ## Quiz
#
# Tout le cours, en huit questions. Choisissez, puis déroulez l'option.
#
# **1. Un student ne voit aucun 3, et en reconnaît presque tous. D'où les connaît-il ?**
#
# <details><summary>Des probabilités que le teacher donne au 3 sur d'autres images</summary>Oui : à haute température, chaque image en
# dit quelque chose (10.1).</details>
# <details><summary>Des étiquettes de validation</summary>Non : il n'en sort qu'un nombre, le biais.</details>
# <details><summary>Du hasard de ses poids</summary>Non : seul, le même student n'en reconnaît presque aucun.</details>
#
# **2. On oublie $T^2$ à $T = 8$ et $\alpha = 0{,}5$. Que se passe-t-il ?**
#
# <details><summary>L'entraînement diverge</summary>Non : rien ne se voit.</details>
# <details><summary>Rien : Adam ignore l'échelle</summary>Non : pas quand les étiquettes font face (10.2).</details>
# <details><summary>C'est comme prendre un alpha bien plus petit</summary>Oui : près de 0,015.</details>
#
# **3. Pourquoi le hint demande-t-il un adaptateur, et pas l'attention ?**
#
# <details><summary>Le hint compare des canaux, dont le nombre et l'ordre diffèrent</summary>Oui : l'attention les a moyennés
# (10.3).</details>
# <details><summary>Le hint est plus grand</summary>Non : ce n'est pas une question de taille, mais de canaux.</details>
# <details><summary>L'attention en demande un aussi</summary>Non : il n'y reste qu'une image.</details>
#
# **4. Deux réseaux ont les mêmes ressemblances. Que ne savez-vous pas ?**
#
# <details><summary>Si leurs groupes d'images sont les mêmes</summary>Non : c'est justement ce que les ressemblances disent.</details>
# <details><summary>Le nom qu'ils donnent à chaque groupe</summary>Oui : une relation n'a pas de nom (10.4).</details>
# <details><summary>S'ils séparent les classes</summary>Non : les blocs de la matrice le montrent.</details>
#
# **5. Une auto-distillation gagne en exactitude. Que regardez-vous encore ?**
#
# <details><summary>Le nombre de paramètres</summary>Non : il n'a pas changé.</details>
# <details><summary>Le temps d'un pas</summary>C'est utile, mais il ne dira pas ce que le modèle a appris.</details>
# <details><summary>La calibration</summary>Oui : le bug de 10.5 s'y trahit, comme le lissage d'étiquettes.</details>
#
# **6. Coupée au rang 16, une couche a plus de 50 % d'erreur relative sur ses poids. Le réseau est-il perdu ?**
#
# <details><summary>Oui, il faut le réparer</summary>Non : mesuré, il n'y perd rien (10.6).</details>
# <details><summary>Pas forcément : l'erreur des poids n'est pas celle du réseau</summary>Oui : il faut mesurer ses sorties.</details>
# <details><summary>Oui, sauf si l'on quantifie</summary>Non : arrondir n'y change rien.</details>
#
# **7. Un tableau donne 75,5 à une méthode et 75,2 à une autre, un essai chacune. Que conclure ?**
#
# <details><summary>La première est meilleure</summary>Non : cinq essais d'une même méthode s'étalent davantage.</details>
# <details><summary>Elles se valent</summary>Non plus : on ne le sait pas.</details>
# <details><summary>Rien : il faut des essais, leur écart et leur intervalle</summary>Oui : et, si possible, plusieurs teachers.</details>
#
# **8. Trois graines, le même teacher, ou trois teachers, une graine chacun : que préférer pour comparer deux méthodes ?**
#
# <details><summary>Trois graines : le reste est égal</summary>Non : elles partagent le hasard de ce teacher et de ces images.</details>
# <details><summary>C'est pareil : trois essais</summary>Pas pour ce que l'on conclut : le verdict de trois graines ne vaut que pour ce
# teacher.</details>
# <details><summary>Trois teachers</summary>Oui : ces tableaux se trompent un peu moins, et leur verdict vaut pour d'autres
# teachers.</details>
#
# ## Sur GPU
#
# Le classement tient-il sur de vraies photos ? Avec un GPU, la cellule entraîne KD, et KD + RKD, sur CIFAR-10, trois graines : une
# indication. Sans GPU, elle refait deux lignes du laboratoire A.

# %%
from kdcourse import best_device, color_student, color_teacher, distill
from kdcourse import distill_seeds, model_error

if gpu := best_device().type == "cuda":
    data, student = load_dataset("cifar10"), color_student
    big = distill(color_teacher, data.train, method="seul", epochs=20, jitter=2,
                  output="runs/cifar10-teacher", resume=True).model
else:
    data, student, big = digits._replace(train=hundred), small, teacher
for method in ("KD", "KD + RKD"):
    models = distill_seeds(
        student, data.train, big, range(3), method=method,
        batch_size=128 if gpu else 25, epochs=20 if gpu else short,
        learning_rate=0.001 if gpu else 0.01, output="runs/10_Bilan" if gpu else None)
    found = torch.tensor([model_error(model, data.test) for model in models])
    say(f"{method} : erreur de test {mean_interval(found)} %, trois graines.")

# %% [markdown]
# ## À retenir

# %% tags=["hide-input"]
later = mean_interval(over_kd["400 pas"]["KD + RKD"])
kd = mean_interval(comparison.gain(long, "KD"))
say(f"""
- Les logits suffisent à l'essentiel : à 400 pas, KD ôte {points(kd)}.
- Y ajouter l'intérieur paie peu, et demande souvent du temps : à 400 pas, KD + RKD
  gagne {points(later)} sur KD.
- Un essai par méthode, à 100 pas, range mal {french(one, 0)} % des couples que l'on
  sait départager.
- Choisir et mesurer sur le même essai gonfle le gain : de {french(truth.mean())} à
  {points(announced.mean().item())}.
- Un verdict vaut pour son budget : à 100 pas DIST bat KD, à 400 leur écart n'est plus
  établi.
""")

# %% [markdown]
# ## Références
#
# - Y. Tian, D. Krishnan, P. Isola, *Contrastive Representation Distillation*, 2020,
#   [arXiv:1910.10699](https://arxiv.org/abs/1910.10699) ; les exactitudes viennent du README de
#   [RepDistiller](https://github.com/HobbitLong/RepDistiller).
# - B. Zhao et al., *Decoupled Knowledge Distillation*, CVPR 2022, [arXiv:2203.08679](https://arxiv.org/abs/2203.08679) ; code et
#   discussions dans [mdistiller](https://github.com/megvii-research/mdistiller).
# - T. Huang et al., *Knowledge Distillation from A Stronger Teacher* (DIST), 2022,
#   [arXiv:2205.10536](https://arxiv.org/abs/2205.10536).
# - S. Sun et al., *Logit Standardization in Knowledge Distillation* (LSKD), 2024,
#   [arXiv:2403.01427](https://arxiv.org/abs/2403.01427).
#
# **La suite** : le chapitre 11, *Approximations de rang faible*.
