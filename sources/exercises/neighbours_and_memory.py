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
# # Exercice des voisins et de la mémoire
#
# Deux teachers sans logits. Le premier dit à chaque image **qui lui ressemble** dans le lot : c'est une relation (10.4).
# Le second est le student lui-même, **tel qu'il répondait hier** : c'est une auto-distillation (10.5). Vous écrivez les
# deux cibles, puis vous regardez ce qu'elles valent.

# %% tags=["bootstrap"]
from kdcourse import describe_environment

print(describe_environment())

# %% [markdown]
# ## Objectifs
#
# - faire d'une ressemblance une distribution, et comparer deux distributions de voisins ;
# - tenir pour chaque image une mémoire de ses prédictions, sans qu'elle se lise elle-même ;
# - dire quand cette mémoire se trompe moins que le student du moment.
#
# **Temps** : 15 minutes de lecture, une heure et demie de travail, 15 secondes de machine pour tout exécuter. **Barème** :
# 20 points, 10 par fonction ; il n'y a pas de réponse écrite.
#
# **Prérequis** : les chapitres 10.2, 10.4 et 10.5.
#
# La correction cherche vos fonctions par leur nom, où qu'elles soient : vous pouvez ajouter des cellules et des fonctions
# d'aide. Une fonction qui manque ne coûte que ses propres points.
#
# ## Première question : les voisins
#
# Un lot de $B$ images a des features $f_1, \dots, f_B$. Les voisins de l'image $i$ sont les **autres** images du lot, et
# chacune reçoit une probabilité, d'autant plus grande que l'angle est petit :
#
# $$p_{ij} = \frac{\exp(\cos(f_i, f_j) / T)}{\sum_{k \ne i} \exp(\cos(f_i, f_k) / T)}, \qquad j \ne i.$$
#
# Le teacher et le student ont chacun leurs features, de largeurs $D'$ et $D$, donc chacun leurs voisins, $p^t$ et $p^s$.
# La perte est la divergence des premiers aux seconds, en moyenne sur les images du lot :
#
# $$\mathcal{L} = \frac{1}{B} \sum_i \sum_{j \ne i} p^t_{ij} \log \frac{p^t_{ij}}{p^s_{ij}}.$$
#
# C'est l'idée de PKT (Passalis et Tefas, 2018) et de SEED (Fang et al., 2021). Écrivez `neighbour_loss`. Son contrat :
#
# | argument | ce que c'est |
# |---|---|
# | `student` | features du student, `(B, D)`, float32, $B \ge 3$ |
# | `teacher` | features du teacher, `(B, D')` ; aucun gradient ne les traverse |
# | `temperature` | $T > 0$, la même des deux côtés ; aucun facteur $T^2$ |
#
# Elle rend un tenseur scalaire float32, en nats, dont le gradient atteint `student` et lui seul. Aucune feature n'est
# nulle. Une température de 0,01 ne doit donner ni NaN ni infini.

# %%
import torch
import torch.nn.functional as F

torch.set_num_threads(1)  # deux fils ne gagnent rien ici

# %% nbgrader={"grade": false, "grade_id": "ex4-solution-voisins", "locked": false, "schema_version": 3, "solution": true, "task": false}
def neighbour_loss(student, teacher, temperature):
    """L'écart entre les voisins du teacher et ceux du student."""
    ### BEGIN SOLUTION
    size = len(student)

    def neighbours(features):  # logarithmes des probabilités, (B, B - 1)
        rows = F.normalize(features, dim=1)
        cosines = (rows @ rows.T).flatten()[1:].view(size - 1, size + 1)
        others = cosines[:, :-1].reshape(size, size - 1)  # sans diagonale
        return F.log_softmax(others / temperature, dim=1)

    return F.kl_div(neighbours(student), neighbours(teacher.detach()),
                    reduction="batchmean", log_target=True)
    ### END SOLUTION

# %% [markdown]
# La vérification est immédiate, et sans réseau : elle compare votre fonction à des nombres rangés d'avance, et nomme les
# erreurs classiques. La note vient d'autres entrées.

# %%
from kdcourse import check

_ = check("neighbours", neighbour_loss)

# %% [markdown]
# Regardez ce que la température décide. Le student est le teacher, dont on a bruité les features : à quelle température
# la perte voit-elle le mieux ce bruit ? **À vous de parier** avant d'exécuter.

# %%
from kdcourse import french

draw = torch.Generator().manual_seed(0)
clear = torch.randn(64, 16, generator=draw)
noisy = clear + 0.3 * torch.randn(64, 16, generator=draw)
for temperature in (0.02, 0.1, 0.5, 2.0):
    loss = neighbour_loss(noisy, clear, temperature)
    done = loss is not None
    seen = f"{french(loss.item(), 4)} nat" if done else "à compléter"
    print(f"T = {french(temperature, 2)} : {seen}")

# %% [markdown]
# Plus T baisse, plus la perte ne regarde que le voisin le plus proche, et plus elle punit qu'il ait changé ; quand T
# monte, toutes les images se valent, pour le teacher comme pour le student, et elle ne voit plus rien.
#
# ## Seconde question : la mémoire
#
# Le student voit $L$ lots de $B$ images. Au lot $\ell$, `indices[ℓ]` dit lesquelles, et `probabilities[ℓ]` ce qu'il en
# pense. Chaque image $i$ garde une **mémoire** $m_i$, nulle au départ, et le nombre $n_i$ de ses visites. À chaque lot,
# pour chacune de ses images, dans cet ordre :
#
# 1. sa **cible** est lue : $m_i / (1 - \mu^{n_i})$ ; à la première visite, elle est uniforme, $1/C$ ;
# 2. sa prédiction entre dans la mémoire : $m_i \leftarrow \mu\, m_i + (1 - \mu)\, p_i$, et $n_i \leftarrow n_i + 1$.
#
# Une image qui n'est pas dans le lot ne change pas. C'est le *temporal ensembling* (Laine et Aila, 2017). Écrivez
# `memory_targets`, qui rend toutes les cibles. Son contrat :
#
# | argument | ce que c'est |
# |---|---|
# | `probabilities` | `(L, B, C)`, float32, chaque distribution de somme 1 |
# | `indices` | `(L, B)`, int64, de 0 à `count - 1` ; une image n'est pas deux fois dans un lot |
# | `count` | le nombre d'images, $N$ |
# | `momentum` | $\mu$, dans $[0, 1[$ |
#
# Elle rend un tenseur `(L, B, C)` : la cible de chaque image de chaque lot, de somme 1.

# %% nbgrader={"grade": false, "grade_id": "ex4-solution-memoire", "locked": false, "schema_version": 3, "solution": true, "task": false}
def memory_targets(probabilities, indices, count, momentum):
    """La cible de chaque image de chaque lot, lue dans son passé."""
    ### BEGIN SOLUTION
    classes, targets = probabilities.shape[-1], []
    memory = torch.zeros(count, classes)
    visits = torch.zeros(count, 1)
    for current, batch in zip(probabilities, indices):
        past = memory[batch] / (1 - momentum ** visits[batch])
        new = visits[batch] == 0  # là, past vaut 0 / 0
        uniform = torch.full_like(current, 1 / classes)
        targets.append(torch.where(new, uniform, past))
        kept = momentum * memory[batch] + (1 - momentum) * current
        memory[batch] = kept
        visits[batch] += 1
    return torch.stack(targets)
    ### END SOLUTION

# %%
_ = check("memory", memory_targets)

# %% [markdown]
# ## Qui se trompe le moins : le student, ou sa mémoire ?
#
# Quatre cents images, dont les étiquettes sont fausses quatre fois sur dix : le student finit par les apprendre par cœur.
# La cellule l'entraîne sur les étiquettes seules, et note à chaque lot ce qu'il pense. Votre fonction relit ensuite ce
# journal. **À vous de parier** : par rapport aux vraies classes, la mémoire se trompe-t-elle moins que la prédiction du
# moment ? À tous les âges ?

# %%
from kdcourse import digits_student, load_dataset

images, truth = load_dataset("digits").train.where(slice(0, 400))
EPOCHS, BATCH = 60, 50

def journal(seed):  # ce que pense le student, lot après lot
    torch.manual_seed(seed)
    student, draw = digits_student(), torch.Generator().manual_seed(seed)
    wrong = torch.rand(400, generator=draw) < 0.4
    drawn = torch.randint(10, (400,), generator=draw)
    labels = torch.where(wrong, drawn, truth)
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3, fused=True)
    thoughts, indices = [], []
    for _ in range(EPOCHS):
        for batch in torch.randperm(400, generator=draw).split(BATCH):
            logits = student(images[batch])
            thoughts.append(logits.detach().softmax(-1))
            indices.append(batch)
            optimizer.zero_grad()
            F.cross_entropy(logits, labels[batch]).backward()
            optimizer.step()
    return torch.stack(thoughts), torch.stack(indices)

# %%
def errors_by_epoch(answers, indices):  # contre les vraies classes, en %
    wrong = answers.argmax(-1) != truth[indices]
    return 100 * wrong.float().view(EPOCHS, -1).mean(1)

now, before = [], []
for seed in range(10):
    thoughts, indices = journal(seed)
    targets = memory_targets(thoughts, indices, 400, 0.8)
    if targets is None:
        print("à compléter")
        break
    now.append(errors_by_epoch(thoughts, indices))
    before.append(errors_by_epoch(targets, indices))

# %%
from kdcourse import mean_interval

if now:
    now, before = torch.stack(now), torch.stack(before)
    for epoch in (10, 20, 60):
        here, past = now[:, epoch - 1], before[:, epoch - 1]
        means = (french(errors.mean().item()) for errors in (here, past))
        print(f"époque {epoch} :", " % d'erreur, sa mémoire ".join(means),
              f"% ; gain {mean_interval(here - past)}")

# %%
import matplotlib.pyplot as plt
from kdcourse.plots.common import COLORS

if len(now):
    figure, ax = plt.subplots(figsize=(7, 3.4), layout="constrained")
    epochs = range(1, EPOCHS + 1)
    ax.plot(epochs, now.mean(0), color=COLORS["student"], label="student")
    ax.plot(epochs, before.mean(0), color=COLORS["distilled"], ls="--",
            label="sa mémoire")
    ax.set(xlabel="époque", ylabel="erreur contre les vraies classes (%)",
           ylim=(0, 60), title="La mémoire suit, puis résiste")
    ax.legend(frameon=False)

# %% [markdown]
# Comparez les trois lignes à votre pari. Au début, le student progresse vite, et son passé est en retard sur lui. Plus
# tard, il apprend les étiquettes fausses une à une, et son passé s'en souvient moins : c'est alors seulement que la
# mémoire est un meilleur guide. PS-KD, en 10.5, donne au passé un poids qui croît avec l'époque.

# %% [markdown]
# ## Barème
#
# Les cellules qui suivent portent les points : laissez-les en place. Les essais de la correction n'y sont pas.

# %% nbgrader={"grade": true, "grade_id": "ex4-voisins", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# 5 points : neighbour_loss, la valeur
# (B, D, D' et la température variés).

# %% nbgrader={"grade": true, "grade_id": "ex4-voisins-gradient", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# 3 points : neighbour_loss, le gradient atteint student,
# avec la bonne valeur, et ne traverse pas le teacher.

# %% nbgrader={"grade": true, "grade_id": "ex4-voisins-limites", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# 2 points : neighbour_loss, à très basse température.

# %% nbgrader={"grade": true, "grade_id": "ex4-memoire", "locked": true, "points": 5, "schema_version": 3, "solution": false, "task": false}
# 5 points : memory_targets, quand chaque image passe une fois par époque.

# %% nbgrader={"grade": true, "grade_id": "ex4-memoire-visites", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# 3 points : memory_targets, quand les images ne passent pas aussi souvent.

# %% nbgrader={"grade": true, "grade_id": "ex4-memoire-limites", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# 2 points : memory_targets, momentum nul,
# ou des images que l'on n'a presque pas revues.
