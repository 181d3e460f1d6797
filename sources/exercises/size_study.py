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
# # Exercice 10.2 : la distillation profite-t-elle à toutes les largeurs ?
#
# On distille pour obtenir un petit modèle. Mais un student trop étroit peut-il suivre son teacher ? Le chapitre 10.1 l'a
# vu pour deux largeurs ; où se fait le passage ? Vous écrivez l'étude qui répond : la même mesure, avec et sans
# distillation, pour plusieurs largeurs, avec un intervalle honnête.

# %% tags=["bootstrap"]
from kdcourse import describe_environment

print(describe_environment())

# %% [markdown]
# ## Objectifs
#
# - mener une comparaison appariée, sans entraîner un student de trop ;
# - calculer l'intervalle à 95 % d'un gain ;
# - lire dans une courbe ce qu'elle dit, et ne dit pas, de l'écart de capacité (*capacity gap*).
#
# **Temps** : 10 minutes de lecture, une heure et demie de travail, 20 secondes de machine pour tout exécuter.
# **Barème** : 20 points, dont 15 pour la fonction et 5 pour la réponse écrite et sa figure.
#
# **Prérequis** : les chapitres 10.1 et 10.2.
#
# La correction cherche votre fonction par son nom, où qu'elle soit : vous pouvez ajouter des cellules et des fonctions
# d'aide. Laissez en place la réponse écrite.
#
# ## Énoncé
#
# On vous donne `train_one(width, distilled, seed)`, qui entraîne un student de cette largeur, avec distillation
# (`distilled=True`) ou sans (`False`), et rend son **erreur de test en %**. Deux students de même graine partent des
# mêmes poids et voient les mêmes lots. Pour une largeur et $n$ graines, notons $a_i$ l'erreur du student seul de graine
# $i$, $d_i$ celle du student distillé, et $g_i = a_i - d_i$ leur gain apparié, positif si la distillation aide. Avec
# $s$ l'écart-type des $g_i$ (en divisant par $n - 1$), l'intervalle à 95 % est celui de Student :
#
# $$\bar g \pm t_{0{,}975;\, n-1} \, \frac{s}{\sqrt n}.$$
#
# Écrivez `size_study(train_one, widths, seeds)`. Elle rend une **liste de dictionnaires**, un par largeur, dans l'ordre
# de `widths`, avec ces clés :
#
# | clé | ce que c'est |
# |---|---|
# | `width` | la largeur |
# | `mean_alone`, `mean_distilled` | $\bar a$ et $\bar d$, en % |
# | `gain` | $\bar g$, en points |
# | `ci_low`, `ci_high` | les deux bornes de l'intervalle de $\bar g$, en points |
#
# Ne les arrondissez pas. D'autres clés sont permises ; la correction ne lit que celles-ci.
#
# Un entraînement coûte cher : `train_one` doit être appelée **une fois exactement** par largeur, par méthode et par
# graine. `widths` et `seeds` sont des listes d'entiers ; il y a deux graines au moins. `scipy.stats` est permis.

# %%
import numpy as np
from scipy import stats

# %% nbgrader={"grade": false, "grade_id": "ex2-solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def size_study(train_one, widths, seeds):
    """Par largeur : les deux erreurs, le gain apparié, son intervalle."""
    ### BEGIN SOLUTION
    rows = []
    for width in widths:
        alone = np.array([train_one(width, False, s) for s in seeds])
        distilled = np.array([train_one(width, True, s) for s in seeds])
        gains, n = alone - distilled, len(seeds)
        half = stats.t.ppf(0.975, n - 1) * gains.std(ddof=1) / np.sqrt(n)
        rows.append({
            "width": width,
            "mean_alone": alone.mean(),
            "mean_distilled": distilled.mean(),
            "gain": gains.mean(),
            "ci_low": gains.mean() - half,
            "ci_high": gains.mean() + half,
        })
    return rows
    ### END SOLUTION

# %% [markdown]
# La vérification est immédiate, et sans réseau : elle donne à votre fonction un `train_one` dont les erreurs sont
# rangées d'avance, compte ses appels, et nomme les erreurs classiques. La note, elle, vient d'autres largeurs et
# d'autres graines.

# %%
from kdcourse import check

_ = check("size_study", size_study)

# %% [markdown]
# ## Une vraie étude
#
# Des perceptrons à deux couches cachées, de 4 à 64 unités par couche, sur 200 images ; le teacher de 10.1, qui en a vu
# 1 000 ; $T = 8$, $\alpha = 0{,}9$ ; dix graines. Ces réglages ont été choisis sur la validation.
#
# Entraîner cent students l'un après l'autre serait long. Le `train_one` que voici triche sur l'ordre, non sur le
# résultat : au premier appel pour une largeur, il entraîne d'un coup **tous** les students de cette largeur (par
# `train_many`, qui donne à chacun les poids qu'il aurait eus seul), garde leurs erreurs de test, puis les relit.

# %%
from functools import cache

import torch
from kdcourse import digits_teacher, load_dataset, predict_features
from kdcourse import train_one as train_model

torch.set_num_threads(1)  # deux fils ne gagnent rien ici
digits = load_dataset("digits")
part = digits.train.where(slice(0, 200))
widths, seeds = [4, 8, 16, 32, 64], list(range(10))

@cache
def guide():  # entraîné au premier appel seulement
    teacher = train_model(digits_teacher, digits.train, epochs=30)
    return predict_features(teacher, part.images).logits

# %%
from kdcourse import grid, MLP, train_many

@cache
def errors(width):  # (2, 10) : seuls, puis distillés
    students = train_many(
        lambda: MLP(hidden=(width, width)), part, guide(),
        **grid(temperatures=8.0, alphas=[0, 0.9], seeds=seeds),
        epochs=100, batch_size=50)
    return students.table(digits.test)

def train_one(width, distilled, seed):
    return errors(width)[int(distilled), seeds.index(seed)].item()

# %%
from kdcourse import french, markdown_table
from IPython.display import Markdown, display

rows = size_study(train_one, widths, seeds)
if rows is None:
    print("à compléter")
else:
    columns = {"seul (%)": "mean_alone", "distillé (%)": "mean_distilled",
               "gain (points)": "gain", "borne basse": "ci_low",
               "borne haute": "ci_high"}
    cells = [[row["width"]]
             + [french(row[key], 2) for key in columns.values()]
             for row in rows]
    display(Markdown(markdown_table(["largeur", *columns], cells)))

# %% [markdown]
# ## La figure
#
# Dessinez le **gain** et son intervalle en fonction de la largeur (échelle logarithmique), depuis le tableau. Les axes
# portent un nom et une unité ; la ligne du gain nul se voit ; le titre dit ce que la figure montre.

# %% nbgrader={"grade": false, "grade_id": "ex2-figure", "locked": false, "schema_version": 3, "solution": true, "task": false}
import matplotlib.pyplot as plt

def plot_study(rows):
    """Le gain selon la largeur, depuis le tableau de size_study."""
    ### BEGIN SOLUTION
    x, gain, low, high = (np.array([row[key] for row in rows]) for key in
                          ("width", "gain", "ci_low", "ci_high"))
    figure, ax = plt.subplots(figsize=(7, 3.6), layout="constrained")
    ax.axhline(0, color="0.4", lw=1)
    ax.errorbar(x, gain, yerr=[gain - low, high - gain], fmt="^-",
                color="#009E73", capsize=4, label="intervalle à 95 %")
    ax.set_xscale("log", base=2)
    ax.set_xticks(x, [f"{width:.0f}" for width in x])
    won, lost = (low > 0).sum(), (high < 0).sum()
    title = (f"Sur {len(x)} largeurs, la distillation gagne {won} fois, "
             f"perd {lost} fois, {len(x) - won - lost} sans conclusion")
    ax.set(xlabel="unités par couche cachée", ylabel="gain (points)",
           title=title)
    ax.legend(loc="lower right", frameon=False)
    ax.yaxis.set_major_formatter(lambda value, _: french(value, 0))
    plt.close(figure)
    return figure
    ### END SOLUTION

# %%
figure = None if rows is None else plot_study(rows)
if figure is None:
    print("à compléter")
else:
    display(figure)

# %% [markdown]
# ## Votre réponse écrite
#
# 1. Pour quelles largeurs la distillation gagne-t-elle, perd-elle, et lesquelles ne permettent pas de conclure ?
# 2. Que dit la courbe de l'écart de capacité ? Proposez une explication, et l'expérience qui la mettrait en défaut.
# 3. Quand l'intervalle des différences est-il plus étroit que celui de deux groupes indépendants ? Vérifiez-le pour
#    chaque largeur. Qu'est-ce qu'il ignore ?
#
# Une dizaine de lignes, appuyées sur votre figure.
#
# **Cinq points** : 1 pour la figure, 1 pour la première question, 2 pour la deuxième, 1 pour la troisième.

# %% [markdown] nbgrader={"grade": true, "grade_id": "ex2-reponse", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# <!-- réponse size_study -->
# ### BEGIN SOLUTION
# 1. Les largeurs 16, 32 et 64 gagnent : leurs intervalles sont au-dessus de 0. La largeur 4 perd : le sien est au-dessous.
#    La largeur 8 ne permet pas de conclure : elle perd en moyenne, mais son intervalle contient 0. Cela ne dit pas que
#    son gain est nul, mais que dix graines n'établissent pas son signe. Les intervalles des plus étroits sont larges,
#    car un réseau de quelques unités change beaucoup d'une graine à l'autre.
# 2. Le gain change de signe entre 8 et 16 unités, puis ne croît plus : c'est l'écart de capacité. À T = 8 et alpha = 0,9, presque toute
#    la perte demande de reproduire la hiérarchie des dix classes ; un student étroit n'en a pas la place, et y dépense
#    les unités qui devaient donner la bonne réponse. Les plus larges ont la place, et trop peu de données : le teacher
#    leur apporte ce que 200 étiquettes ne disent pas. Si c'est la capacité qui manque, et non le temps, tripler les
#    époques ne doit pas guérir les étroits : c'est l'expérience qui mettrait l'explication en défaut. Nous l'avons
#    faite : en triplant les époques, le student de 8 unités ne perd plus, et gagne au test ; celui de 4 ne permet plus
#    de conclure. Une part de la perte était donc du temps, non de la capacité ; baisser alpha réduit aussi la perte
#    moyenne. Un teacher plus petit, intermédiaire, devrait aussi aider les étroits (Mirzadeh et al. 2020) ; nous ne
#    l'avons pas mesuré.
# 3. Quand les deux erreurs d'une même graine vont ensemble : ces deux students partagent leurs poids de départ et leurs
#    lots, et ce hasard commun disparaît dans leur différence. C'est le cas de 4, 8 et 64 unités, et de beaucoup pour
#    4. À 32, les deux intervalles se valent : les erreurs ne vont guère ensemble. À 16, elles vont plutôt en sens
#    contraire, et l'intervalle des différences est le plus large des deux. Il reste le seul honnête : supposer
#    l'indépendance serait faux. L'intervalle porte sur les graines. Il ignore que le test n'a que 500 images, que le
#    teacher n'a été entraîné qu'une fois, et que l'on regarde cinq largeurs à la fois.
#
# Régimes essayés, en validation : 200 et 1 000 images ; T = 4 et T = 8. Avec 1 000 images, les plus étroits perdent
# autant, à nombre de pas égal, et les plus larges n'ont presque plus rien à gagner. À T = 4, le tableau est le même,
# moins marqué.
# ### END SOLUTION

# %% [markdown]
# ## Barème
#
# Les cellules qui suivent portent les points : laissez-les en place. Les essais de la correction n'y sont pas.

# %% nbgrader={"grade": true, "grade_id": "ex2-moyennes", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# 4 points : width, mean_alone et mean_distilled, une ligne par largeur,
# dans l'ordre.

# %% nbgrader={"grade": true, "grade_id": "ex2-gain", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# 3 points : gain, apparié, du bon signe.

# %% nbgrader={"grade": true, "grade_id": "ex2-intervalle", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# 5 points : ci_low et ci_high, l'intervalle de Student à 95 %
# du gain apparié.

# %% nbgrader={"grade": true, "grade_id": "ex2-appels", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# 3 points : train_one est appelée une fois exactement par largeur,
# par méthode et par graine.
