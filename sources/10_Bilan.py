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
# Deux laboratoires entraînent une fois chacune des seize méthodes du cours : mêmes students, mêmes réglages, même nombre de pas. Seuls
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
# **Prérequis** : les chapitres 10.1 à 10.5 ; 10.6 pour la dernière figure.
#
# <details><summary>Les seize méthodes, et où le cours les présente</summary>
#
# | Méthode | Ce que le student imite | Chapitre |
# |---|---|---|
# | seul | rien : les étiquettes seules | 10.1 |
# | KD | les logits adoucis | [10.1](10_01_Principes.ipynb), [10.2](10_02_Logits.ipynb) |
# | DKD | les logits, la bonne classe à part des autres | [10.2](10_02_Logits.ipynb) |
# | DIST | la corrélation des prédictions, entre classes et entre images (Huang et al., 2022) | ici |
# | LSKD | les logits, centrés et réduits (*logit standardization*, Sun et al., 2024) | ici |
# | hint, attention | une carte, ou l'endroit où elle est active | [10.3](10_03_Features.ipynb) |
# | cosine, SP, RKD | les ressemblances d'un lot (RKD : distances et angles) | [10.4](10_04_Relations.ipynb) |
# | PS-KD | sa propre prédiction d'hier | [10.5](10_05_Self_Distillation.ipynb) |
# | KD + … | deux pertes additionnées | ici |
# </details>

# %% tags=["opening", "hide-input"]
from kdcourse.measures import StoredComparison
from kdcourse.plots import plot_rankings

comparison = StoredComparison.load()
short, long = comparison.steps  # époques : 100 pas, 400 pas
errors, colored = comparison.errors[long], {"KD": "teacher", "SP": "other"}
one_run = [{name: own[laboratory, 0].item() for name, own in errors.items()} for laboratory in (0, 1)]
everyone = {name: own.mean().item() for name, own in errors.items()}
winners = [min(published, key=published.get) for published in one_run]
colored = dict(zip(dict.fromkeys([min(everyone, key=everyone.get), *winners]), ("distilled", "student", "other")))
plot_rankings(
    {"laboratoire A, un essai": one_run[0], "laboratoire B, un essai": one_run[1],
     "dix laboratoires, 200 essais": everyone}, colored,
    f"Un laboratoire conclut : {winners[0]}. L'autre conclut : {winners[1]}.")

# %% [markdown]
# Rien n'est truqué : ce sont les deux premiers laboratoires, et leur première graine. Chacun a bien mesuré ce qu'il publie.
#
# ## Toutes les méthodes, à deux budgets
#
# Voici comment le tableau de droite est fait.
#
# - **Dix laboratoires.** Chacun a son teacher, et ses cent images étiquetées.
# - **Vingt graines** par laboratoire, les mêmes pour toutes les méthodes. Le student est un réseau convolutif de deux étages.
# - **Deux budgets** : 100 pas, puis 400. Les réglages de chaque méthode ($\alpha$, température, facteur) ont été choisis sur la
#   validation, pour chaque budget, avec d'autres graines.
#
# L'unité est le laboratoire : une méthode y vaut la moyenne de ses vingt students, et l'intervalle à 95 % porte sur dix différences
# appariées. Un verdict ne dépend donc ni d'un teacher, ni d'un tirage d'images. Ces milliers de students ne tiennent pas dans un
# notebook : `python -m benchmarks compare` les entraîne, en une heure environ, et range leurs erreurs, que nous relisons.
#
# **À vous de parier** : des quatre familles (logits, features, relations, soi-même), laquelle n'aide pas ?

# %%
from kdcourse import mean_interval, points
from kdcourse.plots import plot_gains

names = [name for name in errors if name != "seul"]
over_alone = {f"{steps} pas": {name: comparison.gain(epochs, name) for name in names}
              for epochs, steps in comparison.steps.items()}
plot_gains(over_alone, "Gain de chaque méthode sur le student seul")

# %% tags=["hide-input"]
from kdcourse import french, markdown_table

students = sum(own.numel() for budget in comparison.errors.values() for own in budget.values())
rows = [[name, *(text for gains, budget in zip(over_alone.values(), comparison.errors.values())
                 for text in (french(budget[name].mean()), mean_interval(gains[name]) if name in gains else ""))]
        for name in errors]
header = ["méthode", "erreur, 100 pas (%)", "gain (points)", "erreur, 400 pas (%)", "gain (points)"]
say(f"{students} students, {comparison.origin}.",
    f"<details><summary>Les mêmes nombres, en tableau</summary>\n\n{markdown_table(header, rows)}\n</details>")

# %% [markdown]
# TEXTE À ÉCRIRE
#
# ## Faut-il ajouter quelque chose à KD ?
#
# La question d'un ingénieur n'est pas « mieux que rien ? », mais « mieux que KD ? », qui ne demande au teacher que ses logits.

# %%
rivals = [name for name in names if name != "KD"]
over_kd = {f"{steps} pas": {name: comparison.gain(epochs, name, base="KD") for name in rivals}
           for epochs, steps in comparison.steps.items()}
plot_gains(over_kd, "Gain de chaque méthode sur KD")

# %% tags=["hide-input"]
won = {budget: [name for name, gains in panel.items() if mean_interval(gains).low > 0] for budget, panel in over_kd.items()}
lost = {budget: [name for name, gains in panel.items() if mean_interval(gains).high < 0] for budget, panel in over_kd.items()}
say(*(f"**À {budget}**, battent KD : {', '.join(won[budget]) or 'aucune'}. Font moins bien que KD : "
      f"{', '.join(lost[budget]) or 'aucune'}. Le reste n'est pas établi." for budget in over_kd))

# %% [markdown]
# TEXTE À ÉCRIRE (ajouts)
#
# ## Ce que chaque méthode demande
#
# Un gain se paie. Entraînons le premier laboratoire devant vous, à 100 pas, pour mesurer ce que coûte un pas de chaque méthode.

# %%
from functools import partial
from kdcourse import CNN, compare_distillation_methods, digits_teacher
from kdcourse import load_choices, load_dataset, train_one
import torch

torch.set_num_threads(1)  # deux fils ne gagnent rien ici
digits = load_dataset("digits")
hundred = digits.train.where(slice(0, 100))  # les images du laboratoire A
teacher = train_one(digits_teacher, digits.train, seed=0, epochs=10)
small = partial(CNN, channels=(8, 16))
rows = compare_distillation_methods(
    small, teacher, hundred, digits.test, load_choices(short),
    epochs=short, batch_size=25, learning_rate=0.01)

# %% tags=["hide-input"]
from kdcourse import METHODS

def needs(method):
    asked = [text for text, wanted in (
        ("un teacher", method.needs_teacher), ("ses cartes", method.reads_maps),
        ("ses embeddings", "embedding" in method.reads), ("un adaptateur", method.needs_adapter),
        ("le lot entier", method.whole_batch), ("l'indice de chaque image", method.remembers)) if wanted]
    return ", ".join(asked) or "rien"

table = [[row.method.name, needs(row.method), f"× {french(row.step_ratio)}",
          f"{french(row.extra_bytes / 1e3, 0)} ko", row.extra_parameters] for row in rows]
say(markdown_table(["méthode", "ce qu'elle demande", "temps d'un pas", "mémoire", "paramètres"], table))

# %% [markdown]
# TEXTE À ÉCRIRE (coût)
#
# ## Que vaut le tableau d'un seul essai ?
#
# Beaucoup de tableaux publiés donnent un nombre par case : un essai, ou la moyenne de trois ou cinq. Nous avons 200 students par
# méthode : nous pouvons en tirer autant de tableaux que nous voulons, et compter ceux qui se trompent.
#
# Prenons les couples de méthodes que les dix laboratoires départagent (l'intervalle de leur écart exclut 0), et seulement eux : pour
# les autres, personne ne connaît le bon ordre. Un couple est mal rangé quand la moins bonne passe devant. Tirons des tableaux de trois
# façons :
#
# - **chacun ses graines** : un laboratoire, et des essais indépendants pour chaque méthode ;
# - **mêmes graines** : un laboratoire, mêmes poids de départ et mêmes lots pour toutes ;
# - **d'autres laboratoires** : mêmes graines, mais un autre teacher et d'autres images à chaque essai.
#
# **À vous de parier** : avec un seul essai, quelle part des couples est mal rangée ? Et avec dix ?

# %%
from kdcourse.measures import Pairs, independent_runs, misordered
from kdcourse.measures import other_laboratories, shared_seeds

ways = {"chacun ses graines": independent_runs, "mêmes graines": shared_seeds,
        "d'autres laboratoires": other_laboratories}
runs = [1, 3, 5, 10]
everything = comparison.stacked(long)
pairs = Pairs.established(everything)
wrong = {name: [misordered(everything, pairs, draw, count) for count in runs]
         for name, draw in ways.items()}

# %% tags=["hide-input"]
from kdcourse.plots import plot_misordered

shares = {name: [values.mean().item() for values in by_count] for name, by_count in wrong.items()}
first = shares["chacun ses graines"]
clouds = dict(zip(runs, wrong["chacun ses graines"]))
needed = {count: pairs.gap[values > 5].max().item() for count, values in clouds.items()}
total = len(errors) * (len(errors) - 1) // 2
display(plot_misordered(
    runs, {name: (values, role) for (name, values), role in zip(shares.items(), ("student", "other", "distilled"))},
    pairs.gap, {count: clouds[count] for count in (1, 3, 10)},
    f"Un essai par méthode range mal un couple sur {french(100 / first[0], 0)}"))
say(f"Sur {total} couples, les 200 students en départagent {len(pairs.gap)}.",
    markdown_table(["essais par méthode", *shares], [[count, *(french(values[k]) + " %" for values in shares.values())]
                                                     for k, count in enumerate(runs)]),
    f"Avec un essai chacun, il faut {french(needed[1])} points d'écart réel pour qu'aucun couple ne soit mal rangé "
    f"plus d'une fois sur vingt ; avec dix, {french(needed[10])}.")

# %% [markdown]
# TEXTE À ÉCRIRE (un essai)
#
# ## Les tableaux publiés
#
# Voici des exactitudes sur CIFAR-100 (en %, une valeur par case). Les premières colonnes sont celles du code de CRD (RepDistiller), la
# dernière celle du code de DKD (mdistiller), qui reprend la colonne KD du premier.
#
# | teacher → student | teacher | seul | KD | hint | attention | SP | RKD | CRD | DKD |
# |---|---|---|---|---|---|---|---|---|---|
# | resnet32x4 → resnet8x4 | 79,42 | 72,50 | 73,33 | 73,50 | 73,44 | 72,94 | 71,90 | 75,51 | 76,32 |
# | wrn-40-2 → wrn-16-2 | 75,61 | 73,26 | 74,92 | 73,58 | 74,08 | 73,83 | 73,35 | 75,48 | 76,23 |
# | vgg13 → MobileNetV2 | 74,64 | 64,60 | 67,37 | 64,14 | 59,40 | 66,30 | 64,52 | 69,73 | 69,71 |
#
# (« hint » y est FitNet ; « attention », AT. Ces colonnes-là n'ajoutent pas KD.) Que valent ces écarts ? Des personnes ont refait la
# colonne DKD avec le code publié, et donné leurs nombres.
#
# | couple | publié | refait | source |
# |---|---|---|---|
# | resnet32x4 → resnet8x4 | 76,32 | 76,20 ; 75,80 ; 75,89 ; 75,85 ; 76,15 | mdistiller, discussion 7 |
# | le même, par ses auteurs | 76,32 | de 75,9 à 76,5 | mdistiller, discussion 7 |
# | wrn-40-2 → wrn-16-2 | 76,23 | 75,15 au mieux ; 75,5 sur quatre essais | mdistiller, discussion 8 |
# | wrn-40-2 → wrn-40-1 | 74,81 | 73,3 | mdistiller, discussion 51 |

# %%
published = torch.tensor([  # KD, hint, attention, SP, RKD, CRD, DKD
    [73.33, 73.50, 73.44, 72.94, 71.90, 75.51, 76.32],
    [74.92, 73.58, 74.08, 73.83, 73.35, 75.48, 76.23],
    [67.37, 64.14, 59.40, 66.30, 64.52, 69.73, 69.71]])
again = torch.tensor([76.20, 75.80, 75.89, 75.85, 76.15])
spread = again.max() - again.min()
gaps = torch.stack([(row[:, None] - row).abs()[torch.triu(torch.ones(7, 7), 1) > 0]
                    for row in published])
close = (gaps <= spread).sum(dim=1)
say(f"Cinq essais du même réglage s'étalent sur {french(spread, 2)} point, et leur "
    f"moyenne est à {french(76.32 - again.mean(), 2)} point de la valeur publiée. Sur "
    f"{gaps.shape[1]} couples de méthodes par ligne, {', '.join(map(str, close.tolist()))} "
    "sont séparés de moins que cela.")

# %% [markdown]
# TEXTE À ÉCRIRE (publiés)
#
# ## Quelle méthode, quand ?
#
# TEXTE À ÉCRIRE (guide)
#
# ### Ce que le cours n'a pas mesuré
#
# - **De grands réseaux, de vraies photos.** Nos students ont quelques milliers de paramètres, nos images 64 pixels. La mécanique des
#   pertes est la même ; les classements, rien ne le dit. Les cellules *Sur GPU* sont faites pour l'essayer.
# - **Plus d'images que d'étiquettes, au même pas.** Ici, cent images servent à tout ; avec des images sans étiquette, KD en profite, et
#   les étiquettes non.
# - **Les modèles qui écrivent**, où la cible change à chaque mot.
# - **CRD**, qui gagne dans les tableaux publiés : nous ne l'avons pas programmée.
#
# ## Les quatre points du cours, chacun avec sa mesure
#
# Le chapitre d'où vient ce cours se terminait par quatre phrases à retenir. Les voici, chacune devant ce que nous en avons mesuré.
#
# 1. *La distillation utilise les prédictions adoucies du teacher comme une supervision de plus.*
# 2. *Une température élevée révèle les relations entre classes que l'étiquette cache.*
# 3. *La distillation de features préserve les représentations intermédiaires.*
# 4. *Distillation et compression peuvent multiplier leurs gains.*

# %%
from kdcourse import Choice, MLP, convert_to_tensor_train, error_rate
from kdcourse import grid, parameter_count, predict_features, train_many
from kdcourse.measures import map_similarity, model_attention

seeds, settings = range(10), dict(batch_size=25, learning_rate=0.01)
features = predict_features(teacher, hundred.images)
by_temperature = train_many(
    small, hundred, features.logits, epochs=long, **settings,
    **grid(temperatures=[1, 8], alphas=0.9, seeds=seeds, alone=True)).table(digits.test)
target, likeness = model_attention(teacher, digits.test.images)[1], {}
for name in ("seul", "KD", "attention"):
    method, choice = METHODS[name], load_choices(long).get(name, Choice(0.0))
    guide = dict(distillation=method.distillation(choice), teacher=features) if method.loss else {}
    taught = train_many(small, hundred, seeds=seeds, alphas=choice.alpha, epochs=long, **settings, **guide)
    maps = (model_attention(taught[k], digits.test.images)[1] for k in seeds)
    likeness[name] = 100 * torch.stack([map_similarity(one, target) for one in maps])
