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
# **Prérequis** : les chapitres 10.1 à 10.5 ; 10.6 pour le dernier des quatre points.
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
short, long = comparison.steps  # en époques : 100 pas, 400 pas
errors = comparison.errors[short]
one_run = [{name: own[laboratory, 0].item() for name, own in errors.items()}
           for laboratory in (0, 1)]
everyone = {name: own.mean().item() for name, own in errors.items()}
winners = [min(told, key=told.get) for told in (*one_run, everyone)]
colored = dict(zip(winners, ("student", "other", "distilled")))
plot_rankings({
    "laboratoire A, un essai": one_run[0], "laboratoire B, un essai": one_run[1],
    "dix laboratoires, 200 essais": everyone}, colored,
    f"A conclut : {winners[0]}. B conclut : {winners[1]}. Ensemble : {winners[2]}.")

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
from kdcourse import mean_interval
from kdcourse.plots import gain_summary, plot_gains

names = [name for name in errors if name != "seul"]
over_alone = {f"{steps} pas": {name: comparison.gain(epochs, name) for name in names}
              for epochs, steps in comparison.steps.items()}
plot_gains(over_alone, f"Sur le student seul : {gain_summary(over_alone)}")

# %% tags=["hide-input"]
from kdcourse import french, markdown_table, thousands

students = sum(own.numel() for part in comparison.errors.values() for own in part.values())
rows = [[name] for name in errors]
for gains, part in zip(over_alone.values(), comparison.errors.values()):
    for row in rows:
        gain = mean_interval(gains[row[0]]) if row[0] in gains else ""
        row += [french(part[row[0]].mean()), gain]
header = ["méthode", "erreur à 100 pas (%)", "gain (points)", "erreur à 400 pas (%)",
          "gain (points)"]
say(f"{thousands(students)} students, {comparison.origin}.",
    "<details><summary>Les mêmes nombres, en tableau</summary>",
    markdown_table(header, rows), "</details>")

# %% [markdown]
# Réponse du pari : soi-même. PS-KD n'apporte rien d'établi, aux deux budgets. Ensuite, deux lectures.
#
# - **Les logits d'abord.** KD, DKD et DIST ôtent quatre points ou plus aux deux budgets. Ils donnent dix nombres par image, et le nom de
#   chaque classe.
# - **L'intérieur, seul, attend.** À 100 pas, le hint, l'attention et le cosinus ne gagnent rien d'établi. À 400, le hint et le cosinus
#   gagnent un peu ; SP et RKD gagnaient déjà. Une relation ou une carte n'a pas de nom à donner : il faut le temps d'apprendre les noms.
#
# ## Faut-il ajouter quelque chose à KD ?
#
# La question d'un ingénieur n'est pas « mieux que rien ? », mais « mieux que KD ? », qui ne demande au teacher que ses logits.

# %%
rivals = [name for name in names if name != "KD"]
over_kd = {f"{steps} pas": {name: comparison.gain(epochs, name, base="KD") for name in rivals}
           for epochs, steps in comparison.steps.items()}
plot_gains(over_kd, f"Sur KD : {gain_summary(over_kd)}")

# %% tags=["hide-input"]
from kdcourse import points

for budget, gains in over_kd.items():
    found = {name: mean_interval(values) for name, values in gains.items()}
    better = [name for name, interval in found.items() if interval.low > 0]
    best = max(found, key=lambda name: found[name].mean)
    say(f"**À {budget}**, battent KD : {', '.join(better) or 'aucune'}. La plus forte, "
        f"{best}, gagne {points(found[best])}.")

# %% [markdown]
# Une seule bat KD aux deux budgets : KD + RKD, qui lui ajoute les distances et les angles du lot. DIST bat KD à 100 pas, et ne fait que
# l'égaler à 400. KD + hint et KD + attention, c'est l'inverse : rien à 100 pas, un gain établi à 400. Ajouter l'intérieur du teacher
# paie donc quand le student a le temps de s'en servir.
#
# Mesurez aussi la taille de ces gains : un point au plus, quand KD en ôte quatre ou cinq. L'essentiel est dans les logits.
#
# ## Ce que chaque méthode demande
#
# Un gain se paie. Entraînons le laboratoire A devant vous, à 100 pas et dix graines, et mesurons ce que coûte un pas de chaque méthode.

# %%
from functools import partial
import torch
from kdcourse import CNN, compare_distillation_methods, digits_teacher
from kdcourse import load_choices, load_dataset, train_one

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

table = [[row.method.name, method_needs(row.method), f"× {french(row.step_ratio)}",
          f"{french(row.extra_bytes / 1e3, 0)} ko", row.extra_parameters]
         for row in costs]
say(markdown_table(["méthode", "ce qu'elle demande", "temps d'un pas", "mémoire",
                    "paramètres"], table))

# %% [markdown]
# *Temps* : celui d'un pas, rapporté au student seul, le teacher étant passé une fois pour toutes. *Mémoire* : ce qu'un pas alloue de
# plus. *Paramètres* : ceux d'un adaptateur, jetés à la fin. Nos réseaux sont minuscules : sur de grands, ces pertes pèsent bien moins à
# côté du passage.
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
# - **d'autres laboratoires** : mêmes graines, mais un autre teacher et d'autres images à chaque essai.
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

shares = {steps: {name: [found.mean().item() for found in counts]
                  for name, counts in by_way.items()} for steps, by_way in wrong.items()}
roles = ("student", "other", "distilled")
clouds = dict(zip(runs, wrong[100]["chacun ses graines"]))
needed = {count: pairs[100].gap[found > 5].max().item() for count, found in clouds.items()}
one = shares[100]["chacun ses graines"][0]
display(plot_misordered(
    runs, {name: (values, role) for (name, values), role in zip(shares[100].items(), roles)},
    pairs[100].gap, {count: clouds[count] for count in (1, 3, 10)},
    f"À 100 pas, un essai par méthode range mal un couple sur {french(100 / one, 0)}"))
say(markdown_table(
    ["essais par méthode", *(f"{name}, {steps} pas" for steps in shares for name in ways)],
    [[count, *(f"{french(shares[steps][name][k])} %" for steps in shares for name in ways)]
     for k, count in enumerate(runs)]))

# %% tags=["hide-input"]
total = len(errors) * (len(errors) - 1) // 2
say(f"Sur {total} couples, les 200 students en départagent {len(pairs[100].gap)} à "
    f"100 pas, {len(pairs[400].gap)} à 400. À 100 pas, avec un essai chacun, un couple "
    f"séparé de {french(needed[1])} points est encore mal rangé plus d'une fois sur "
    f"vingt. Avec dix essais, il faut descendre à {french(needed[10])}.")

# %% [markdown]
# Lisez la figure de droite : un essai sépare bien deux méthodes très éloignées, et joue à pile ou face les autres. Or les méthodes que
# l'on publie sont proches. Répéter aide : trois essais divisent les erreurs par deux, ou presque. Partager les graines aide un peu.
# Changer de laboratoire à chaque essai aide davantage : dix graines d'un même teacher partagent le même hasard.
#
# ## Les tableaux publiés
#
# Voici des exactitudes sur CIFAR-100 (en %, une valeur par case). Les premières viennent du code de CRD (RepDistiller), DKD de celui de
# ses auteurs (mdistiller), qui reprend la colonne KD du premier.
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
# | wrn-40-2 → wrn-16-2 | 76,24 | 75,15 au mieux ; 75,5 sur quatre essais | [8](https://github.com/megvii-research/mdistiller/issues/8) |
# | wrn-40-2 → wrn-40-1 | 74,81 | 73,3 | [51](https://github.com/megvii-research/mdistiller/issues/51) |

# %%
accuracy = torch.tensor([  # KD, hint, attention, SP, RKD, CRD, DKD
    [73.33, 73.50, 73.44, 72.94, 71.90, 75.51, 76.32],
    [74.92, 73.58, 74.08, 73.83, 73.35, 75.48, 76.23],
    [67.37, 64.14, 59.40, 66.30, 64.52, 69.73, 69.71]])
again = torch.tensor([76.20, 75.80, 75.89, 75.85, 76.15])
spread = again.max() - again.min()
first, second = torch.triu_indices(7, 7, offset=1)
close = ((accuracy[:, first] - accuracy[:, second]).abs() <= spread).sum(dim=1)
say(f"Cinq essais du même réglage s'étalent sur {french(spread, 2)} point ; leur "
    f"moyenne est à {french(76.32 - again.mean(), 2)} point du nombre publié. Sur "
    f"{len(first)} couples de méthodes par ligne, {', '.join(map(str, close.tolist()))} "
    "sont séparés de moins que cet étalement.")

# %% [markdown]
# Ces tableaux disent quelque chose de sûr : KD gagne sur les trois lignes, CRD et DKD loin devant ; attention et hint perdent sur la
# dernière. Ils ne disent rien des méthodes qui se suivent à quelques dixièmes : un autre essai les échangerait.
#
# ## Quelle méthode, quand ?
#
# | Votre cas | Commencez par | Ce qui le fonde |
# |---|---|---|
# | vous n'avez que les sorties du teacher | KD, $T$ de 4 à 16 | *Toutes les méthodes*, et la carte de [10.2](10_02_Logits.ipynb) |
# | très peu de pas | KD ou DIST ; vérifiez que vous ne perdez pas | *Faut-il ajouter* ; [10.1](10_01_Principes.ipynb), à 80 pas |
# | l'intérieur du teacher, et du temps | KD + RKD, puis KD + hint | *Faut-il ajouter*, à 400 pas |
# | très peu d'étiquettes | KD, sur toutes les images que vous avez | [10.2](10_02_Logits.ipynb), $\\alpha = 1$ |
# | aucune étiquette, aucun logit | une relation, puis quelques noms | [10.4](10_04_Relations.ipynb), dix images nommées |
# | pas de teacher | le lissage d'étiquettes ; surveillez la calibration | [10.5](10_05_Self_Distillation.ipynb) |
# | le teacher est trop gros | un petit réseau distillé, puis int8 | [10.6](10_06_Tensor_Compression.ipynb), le front |
# | deux méthodes à quelques dixièmes | la plus simple | *Que vaut le tableau d'un seul essai* |
#
# ### Ce que le cours n'a pas mesuré
#
# - **De grands réseaux, de vraies photos.** Nos students ont quelques milliers de paramètres, nos images 64 pixels. Les classements
#   peuvent changer ; les cellules *Sur GPU* sont là pour l'essayer.
# - **CRD**, qui gagne dans les tableaux publiés : nous ne l'avons pas programmée.
# - **Les modèles qui écrivent**, où la cible change à chaque mot.
#
# ## Quatre phrases, quatre mesures
#
# Le chapitre d'où vient ce cours se terminait par quatre phrases. Les voici, chacune devant ce que nous en avons mesuré.
#
# 1. *La distillation utilise les prédictions adoucies du teacher comme une supervision de plus.*
# 2. *Une température élevée révèle les relations entre classes que l'étiquette cache.*
# 3. *La distillation de features préserve les représentations intermédiaires.*
# 4. *Distillation et compression peuvent multiplier leurs gains.*

# %%
from kdcourse import grid, predict_features, train_many
from kdcourse.measures import map_similarity, model_attention

seeds, settings = range(10), dict(epochs=long, batch_size=25, learning_rate=0.01)
seen = predict_features(teacher, hundred.images)
heated = train_many(small, hundred, seen.logits, **settings,
                    **grid(temperatures=[1, 8], alphas=0.9, seeds=seeds, alone=True))
alone, cold, hot = heated.table(digits.test)
attention = METHODS["attention"].distillation(load_choices(long)["attention"])
guided = train_many(small, hundred, seen, distillation=attention, alphas=0.5,
                    seeds=seeds, **settings)
target = model_attention(teacher, digits.test.images)[1]

def likeness(students):  # de leurs cartes à celles du teacher, cosinus
    return torch.stack([
        map_similarity(model_attention(students[k], digits.test.images)[1], target)
        for k in seeds])
