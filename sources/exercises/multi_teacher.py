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
# # Exercice 10.1 : plusieurs teachers pour un student
#
# Un teacher se trompe ; plusieurs teachers ne se trompent pas toujours sur les mêmes images. Un student peut-il
# apprendre d'un **comité** ? Vous écrivez la perte, puis vous mesurez si le comité bat son meilleur membre.

# %% tags=["bootstrap"]
from kdcourse import describe_environment

print(describe_environment())

# %% [markdown]
# ## Objectifs
#
# - combiner plusieurs teachers de deux façons, et voir que ce sont deux teachers différents ;
# - écrire une perte juste jusque dans ses cas limites ;
# - décider, intervalle à l'appui, si un comité vaut mieux que son meilleur membre.
#
# **Temps** : 15 minutes de lecture, deux heures de travail, 30 secondes de machine pour tout exécuter. **Barème** :
# 20 points, dont 15 pour la fonction et 5 pour la réponse écrite.
#
# **Prérequis** : les chapitres 10.1 et 10.2.
#
# La correction cherche votre fonction par son nom, où qu'elle soit : vous pouvez ajouter des cellules et des fonctions
# d'aide. Laissez en place la réponse écrite.
#
# ## Énoncé
#
# $K$ teachers donnent leurs logits $z^1, \dots, z^K$ sur un même lot de $B$ images et $C$ classes. Chacun a un poids
# $w_k \ge 0$ ; on pose $\bar w_k = w_k / \sum_j w_j$. Le comité se combine de deux façons :
#
# $$p^{\text{prob}} = \sum_k \bar w_k \, \mathrm{softmax}(z^k / T),
# \qquad
# p^{\text{log}} = \mathrm{softmax}\Big(\sum_k \bar w_k \, z^k / T\Big).$$
#
# La perte du student, de logits $z^s$ et d'étiquettes $y$, est celle du cours, le comité tenant le rôle du teacher :
#
# $$\mathcal{L} = \alpha \, T^2 \, \frac{1}{B} \sum_b \mathrm{KL}\big(p_b \,\|\, \mathrm{softmax}(z^s_b / T)\big)
# + (1 - \alpha) \, \mathrm{CE}(z^s, y).$$
#
# Écrivez `multi_teacher_loss`. Son contrat :
#
# | argument | ce que c'est |
# |---|---|
# | `student_logits` | `(B, C)`, float32 |
# | `teacher_logits` | une liste de $K \ge 1$ tenseurs `(B, C)` ; aucun gradient ne les traverse |
# | `labels` | `(B,)`, int64 |
# | `weights` | `None` (poids égaux), ou une liste de $K$ nombres $\ge 0$, dont un au moins n'est pas nul |
# | `temperature` | $T > 0$ ; l'entropie croisée, elle, se prend à $T = 1$ |
# | `alpha` | poids de la distillation, dans $[0, 1]$ |
# | `combine` | `"probabilities"` pour $p^{\text{prob}}$, `"logits"` pour $p^{\text{log}}$ |
#
# Elle rend un tenseur scalaire float32, en nats, dont le gradient atteint `student_logits` et lui seul. Des logits de
# plusieurs centaines ne doivent donner ni NaN ni infini.

# %%
import torch
import torch.nn.functional as F

torch.set_num_threads(1)  # deux fils ne gagnent rien ici

# %% nbgrader={"grade": false, "grade_id": "ex1-solution", "locked": false, "schema_version": 3, "solution": true, "task": false}
def multi_teacher_loss(student_logits, teacher_logits, labels, *,
                       weights=None, temperature=4.0, alpha=0.7,
                       combine="probabilities"):
    """La perte d'un student guidé par un comité, un scalaire."""
    ### BEGIN SOLUTION
    teachers = torch.stack(list(teacher_logits)).detach()  # (K, B, C)
    weights = [1.0] * len(teachers) if weights is None else weights
    shares = torch.as_tensor(weights).to(teachers)
    shares = (shares / shares.sum()).view(-1, 1, 1)
    if combine == "logits":
        mean = (shares * teachers).sum(0)
        log_p = F.log_softmax(mean / temperature, dim=-1)
    else:  # log d'une somme, sans jamais quitter les logarithmes
        each = F.log_softmax(teachers / temperature, dim=-1)
        log_p = torch.logsumexp(each + shares.log(), dim=0)
    log_q = F.log_softmax(student_logits / temperature, dim=-1)
    kl = (log_p.exp() * (log_p - log_q)).sum(dim=-1).mean()
    hard = F.cross_entropy(student_logits, labels)
    return alpha * temperature**2 * kl + (1 - alpha) * hard
    ### END SOLUTION

# %% [markdown]
# La vérification est immédiate, et sans réseau : elle compare votre fonction à des nombres rangés d'avance, sur
# quelques entrées fixes, et nomme les erreurs classiques. La note, elle, vient d'autres entrées : essayez aussi les
# vôtres. Une seule faute dans la formule peut coûter presque tous les points : n'envoyez pas sans « juste ».

# %%
from kdcourse import check

_ = check("multi_teacher", multi_teacher_loss)

# %% [markdown]
# ## Deux comités, ou un seul ?
#
# Trois teachers, trois classes, une image. Le premier est **certain** que c'est un 0 ; les deux autres penchent pour la
# classe 1. **À vous de parier** : les deux façons de combiner désignent-elles la même classe ?

# %%
from kdcourse import french

certain, leaning = [12.0, 0.0, 0.0], [0.0, 2.0, 0.0]
three = torch.tensor([certain, leaning, leaning])
means = {"probabilités": three.softmax(-1).mean(0),
         "logits": three.mean(0).softmax(-1)}
for name, mean in means.items():
    shown = (french(value, 2) for value in mean)
    print(f"moyenne des {name:12} :", *shown)

# %% [markdown]
# Moyenner les probabilités, c'est voter : aucun teacher n'apporte plus de $1/K$ à une classe. Moyenner les logits, c'est
# multiplier les probabilités, puis renormaliser (une moyenne géométrique) : un teacher très sûr de lui peut l'emporter
# seul.
#
# ## Le comité bat-il son meilleur membre ?
#
# Cinq teachers faibles, de l'architecture du student, entraînés sur 100 images chacun. Deux régimes : ils ont tous vu
# **les mêmes** 100 images, et seules leurs graines diffèrent ; ou chacun a vu **les siennes**, tirées au hasard. Dans le
# premier régime, ces 100 images sont aussi celles du student.

# %%
from kdcourse import digits_student, load_dataset, train_one

digits = load_dataset("digits")
train, few = digits.train, digits.train.where(slice(0, 100))

def five_teachers(shared):
    members = []
    for seed in range(5):
        draw = torch.Generator().manual_seed(seed)
        mine = train.where(torch.randperm(1000, generator=draw)[:100])
        options = dict(seed=seed, epochs=120, batch_size=50)
        seen = few if shared else mine
        members.append(train_one(digits_student, seen, **options))
    return members

committees = {"mêmes images": five_teachers(True),
              "chacun les siennes": five_teachers(False)}

# %%
from kdcourse import error_rate

images, labels = digits.validation
guides, best = {}, {}
for name, members in committees.items():
    with torch.no_grad():
        guides[name] = [member(few.images) for member in members]
        votes = torch.stack([member(images) for member in members])
    errors = error_rate(votes, labels)
    best[name] = errors.argmin().item()
    vote = error_rate(votes.softmax(-1).mean(0), labels)
    print(f"{name:18} : membres", *(french(error) for error in errors),
          f"% d'erreur de validation ; le vote des cinq, {french(vote)} %")

# %% [markdown]
# Voici la boucle nue, avec **votre** perte. Le student apprend sur les 100 premières images. Le meilleur membre est
# choisi sur la validation ; seul teacher, il est un comité d'une personne.

# %%
def train_student(guides, seed, **options):
    torch.manual_seed(seed)
    student = digits_student()
    optimizer = torch.optim.Adam(student.parameters(), lr=3e-3, fused=True)
    shuffle = torch.Generator().manual_seed(seed)
    for _ in range(100):
        for batch in torch.randperm(100, generator=shuffle).split(50):
            images, labels = few.images[batch], few.labels[batch]
            members = [logits[batch] for logits in guides]
            loss = multi_teacher_loss(
                student(images), members, labels, alpha=0.9, **options)
            if loss is None:
                return None
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    return student.eval()

answered = train_student(guides["mêmes images"], seed=0) is not None
print("la boucle tourne" if answered else "à compléter")

# %% [markdown]
# Dix graines, trois students par graine et par régime : mêmes poids de départ, mêmes lots, donc des différences
# appariées. Tout se choisit sur la validation ; le test ne sert qu'à la figure.

# %%
from IPython.display import display
from kdcourse import mean_interval
from kdcourse.plots import gain_summary, plot_gains

def errors_of(guides, parts, **options):
    students = [train_student(guides, s, **options) for s in range(10)]
    with torch.no_grad():
        seen = [torch.stack([student(part.images) for student in students])
                for part in parts]
    return [error_rate(z, part.labels) for z, part in zip(seen, parts)]

parts, gains = (digits.validation, digits.test), {}
combines = {"probabilités": "probabilities", "logits": "logits"}
for name in committees if answered else ():
    alone = errors_of([guides[name][best[name]]], parts)
    gains[name] = {}
    for shown, combine in combines.items():
        taught = errors_of(guides[name], parts, combine=combine)
        gains[name][shown] = alone[1] - taught[1]
        interval = mean_interval(alone[0] - taught[0])
        print(f"{name:18}, {shown:12} : gain de validation {interval}")

# %%
if answered:
    title = "Le comité contre son meilleur membre (test)"
    display(plot_gains(gains, f"{title} : {gain_summary(gains)}"))
else:
    print("à compléter")

# %% [markdown]
# ## Votre réponse écrite
#
# 1. Qu'est-ce qui distingue les deux façons de combiner ? Dans quel cas préféreriez-vous chacune ?
# 2. Dans quels régimes le comité bat-il son meilleur membre ? Appuyez-vous sur les intervalles, et dites ce qu'ils
#    ignorent. La validation et le test disent-ils la même chose ? Sinon, que concluez-vous ?
# 3. Pourquoi l'un des régimes gagne-t-il plus que l'autre ? Essayez un troisième régime (200 images, $T = 2$…) et dites
#    ce que la validation en montre.
#
# Une dizaine de lignes. Un résultat négatif bien mesuré vaut tous les points.
#
# **Cinq points** : 1 pour la première question, 2 pour chacune des deux autres.

# %% [markdown] nbgrader={"grade": true, "grade_id": "ex1-reponse", "locked": false, "points": 5, "schema_version": 3, "solution": true, "task": false}
# <!-- réponse multi_teacher -->
# ### BEGIN SOLUTION
# 1. Moyenner les probabilités, c'est voter : aucun teacher n'apporte plus de 1/K à une classe. Moyenner les logits, c'est
#    multiplier les probabilités, puis renormaliser : un teacher très sûr de lui peut l'emporter seul, et une classe
#    n'est probable que si aucun teacher ne l'exclut. Le vote convient quand un membre peut être sûr de lui et se
#    tromper ; la moyenne des logits, quand la certitude est fiable. Ici, quand les images diffèrent, ce qui les sépare
#    est petit devant ce que gagne le comité.
# 2. Le comité gagne quand ses membres ont vu des images différentes : l'intervalle apparié exclut 0 largement, au test
#    comme en validation. Quand ils ont vu les mêmes, le test montre un petit gain, mais la validation n'en montre
#    aucun : nous ne le tenons pas pour établi. Ces intervalles portent sur la graine du student : ils ignorent
#    l'échantillonnage du test, et le tirage des cinq teachers, qui n'est fait qu'une fois.
# 3. Un comité corrige des erreurs **indépendantes**. Cinq réseaux entraînés sur les mêmes images se trompent souvent
#    ensemble ; sur des images différentes, rarement, et le comité sait aussi ce que 500 images ont appris à ses
#    membres, alors que le student n'en voit que 100. Le gain vient donc en partie de données que le meilleur membre
#    n'avait pas : ce n'est pas de la seule combinaison. Autre différence mêlée à la première : dans le régime des
#    mêmes images, ces images sont aussi celles du student ; les membres s'y prononcent sur ce qu'ils ont appris, non
#    sur des images neuves. Régimes essayés avant de choisir, en validation : des teachers
#    de 100 ou 200 images, les mêmes ou chacun les siennes ; un student de 100 ou 1 000 images ; T = 2 et T = 4. Le
#    comité gagne dans tous ceux où les images diffèrent. Nous avons gardé T = 4, celui du cours, et les deux régimes
#    extrêmes.
# ### END SOLUTION

# %% [markdown]
# ## Barème
#
# Les cellules qui suivent portent les points : laissez-les en place. Les essais de la correction n'y sont pas.

# %% nbgrader={"grade": true, "grade_id": "ex1-probabilites", "locked": true, "points": 4, "schema_version": 3, "solution": false, "task": false}
# 4 points : la valeur, quand les probabilités sont moyennées
# (poids égaux ; T et alpha variés).

# %% nbgrader={"grade": true, "grade_id": "ex1-logits", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# 3 points : la valeur, quand les logits sont moyennés.

# %% nbgrader={"grade": true, "grade_id": "ex1-poids", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# 3 points : la valeur, avec des poids dont la somme n'est pas 1,
# et dont l'un peut être nul.

# %% nbgrader={"grade": true, "grade_id": "ex1-gradient", "locked": true, "points": 3, "schema_version": 3, "solution": false, "task": false}
# 3 points : le gradient atteint student_logits, avec la bonne valeur,
# et ne traverse pas les teachers.

# %% nbgrader={"grade": true, "grade_id": "ex1-limites", "locked": true, "points": 2, "schema_version": 3, "solution": false, "task": false}
# 2 points : un seul teacher, un lot d'une image,
# des logits de plusieurs centaines.
