"""Des copies des voisins et de la mémoire : justes, fausses, cassées. Le texte des fonctions, ce que le retour dit."""

import textwrap


def neighbours(
    *,
    rows="f / f.norm(dim=1, keepdim=True)",
    cosines="rows @ rows.T",
    soft="r[~torch.eye(len(r), dtype=torch.bool)].view(len(r), -1) / temperature",
    teacher="teacher.detach()",
    end="(p.exp() * (p - q)).sum(1).mean()",
) -> str:
    """La bonne réponse aux voisins, dont on peut remplacer un morceau par une faute."""
    return textwrap.dedent(f"""
        import torch
        import torch.nn.functional as F

        def softened(f, temperature):
            rows = {rows}
            r = {cosines}
            return torch.log_softmax({soft}, dim=1)

        def neighbour_loss(student, teacher, temperature):
            q, p = softened(student, temperature), softened({teacher}, temperature)
            return {end}
    """)


def memory(
    *,
    start="torch.zeros(count, classes)",
    past="kept[i] / (1 - momentum ** visits[i][:, None])",
    new="torch.full((classes,), 1 / classes)",
    write="momentum * kept[i] + (1 - momentum) * p",
    read_late="",
    indices="indices",
) -> str:
    """La bonne réponse à la mémoire, de même."""
    return textwrap.dedent(f"""
        import torch

        def memory_targets(probabilities, indices, count, momentum):
            classes = probabilities.shape[-1]
            kept, visits, out = {start}, torch.zeros(count), []
            for step, (p, i) in enumerate(zip(probabilities, {indices})):
                target = torch.where((visits[i] > 0)[:, None], {past}, {new})
                kept[i] = {write}
                visits[i] += 1
                {read_late or "pass"}
                out.append(target)
            return torch.stack(out)
    """)


NEIGHBOURS_BY_LOOPS = """
import torch

def neighbour_loss(student, teacher, temperature):
    total = 0.0
    for i in range(len(student)):
        others = [j for j in range(len(student)) if j != i]
        logs = []
        for f in (teacher.detach(), student):
            cosines = torch.stack([torch.cosine_similarity(f[i], f[j], dim=0) for j in others])
            logs.append(torch.log_softmax(cosines / temperature, 0))
        total = total + (logs[0].exp() * (logs[0] - logs[1])).sum()
    return total / len(student)
"""
NEIGHBOURS_MASKED = """
import torch.nn.functional as F
from kdcourse import cosine_relations

def neighbour_loss(student, teacher, temperature):
    logs = []
    for f in (student, teacher.detach()):
        r = cosine_relations(f) / temperature
        logs.append(F.log_softmax(r - 1e9 * r.new_ones(len(r)).diag(), dim=-1))
    return F.kl_div(*logs, reduction="batchmean", log_target=True)
"""
MEMORY_BY_DICT = """
import torch

def memory_targets(probabilities, indices, count, momentum):
    past, targets = {}, torch.empty_like(probabilities)
    for l, batch in enumerate(indices.tolist()):
        for b, image in enumerate(batch):
            history = past.setdefault(image, [])
            n = len(history)
            if history:
                shares = [(1 - momentum) * momentum ** (n - 1 - k) / (1 - momentum ** n) for k in range(n)]
                targets[l, b] = sum(w * p for w, p in zip(shares, history))
            else:
                targets[l, b] = 1 / probabilities.shape[-1]
            history.append(probabilities[l, b])
    return targets
"""
MEMORY_IN_NUMPY = """
import numpy as np

def memory_targets(probabilities, indices, count, momentum):
    p, where = probabilities.numpy().astype(np.float64), indices.numpy()
    total, weight = np.zeros((count, p.shape[-1])), np.zeros((count, 1))
    out = []
    for now, i in zip(p, where):
        out.append(np.where(weight[i] > 0, total[i] / np.maximum(weight[i], 1e-300), 1 / p.shape[-1]))
        total[i], weight[i] = momentum * total[i] + (1 - momentum) * now, momentum * weight[i] + 1 - momentum
    return np.stack(out)
"""

RIGHT = {
    "tenseurs": neighbours() + memory(),
    "boucles": NEIGHBOURS_BY_LOOPS + MEMORY_BY_DICT,
    "masque-et-numpy": NEIGHBOURS_MASKED + MEMORY_IN_NUMPY,
}

# nom → (réponse, part attendue de chaque critère : valeur, gradient ou visites, limites ; ce que le retour dit)
WRONG_NEIGHBOURS = {
    "diagonale": (neighbours(soft="r / temperature"), (0, 0, 0), "sa propre voisine"),
    "diagonale-nulle": (
        neighbours(soft="(r - torch.diag(r.diag())) / temperature"),
        None,
        "un cosinus nul reçoit encore",
    ),
    "infini-moins-infini": (
        neighbours(soft="r.masked_fill(torch.eye(len(r)) > 0, float('-inf')) / temperature"),
        (0, 1, 0),
        "c'est NaN",
    ),
    "a-l-envers": (neighbours(end="(q.exp() * (q - p)).sum(1).mean()"), (0, 0, 0), "à l'envers"),
    "entropie-croisee": (neighbours(end="-(p.exp() * q).sum(1).mean()"), (0, 1, 0), "entropie croisée"),
    "somme": (neighbours(end="(p.exp() * (p - q)).sum()"), (0, 0, 0), "une somme sur le lot"),
    "mean": (neighbours(end="(p.exp() * (p - q)).mean()"), (0, 0, 0), "batchmean"),
    "sans-temperature": (neighbours(soft="r[~torch.eye(len(r), dtype=torch.bool)].view(len(r), -1)"), None, "temperat"),
    "t-carre": (neighbours(end="temperature**2 * (p.exp() * (p - q)).sum(1).mean()"), None, "de trop"),
    "produits": (neighbours(rows="f"), (0, 0, 0), "produits scalaires"),
    "colonnes": (neighbours(rows="f / f.norm(dim=0)"), (0, 0, 0), "colonnes"),
    "distances": (neighbours(cosines="torch.cdist(f, f)"), None, "distances"),
    "sans-detach": (neighbours(teacher="teacher"), (1, 0, 1), "un gradient traverse les teachers"),
    "item": (neighbours(end="(p.exp() * (p - q)).sum(1).mean().detach()"), (1, 0, 1), "aucun gradient"),
    "probabilites": (
        neighbours(end="(p.exp() * (p.exp().log() - q.exp().log())).sum(1).mean()"),
        (1, 1, 0),
        "Restez en logarithmes",
    ),
    "par-image": (neighbours(end="(p.exp() * (p - q)).sum(1)"), (0, 0, 0), "un scalaire attendu"),
    "nan": (neighbours(end="q.sum() * float('nan')"), (0, 0, 0), "NaN"),
    "nulle": (neighbours(end="q.sum() * 0"), (0, 0, 0), "fausse"),
    "entier": (neighbours(end="q.sum().long()"), (0, 0, 0), "dtype int64"),
    "exception": (neighbours(end="q.absent()"), (0, 0, 0), "AttributeError"),
    "boucle": ("def neighbour_loss(*a, **k):\n    while True: pass\n", (0, 0, 0), "temps accordé"),
    "ebauche": ("def neighbour_loss(student, teacher, temperature):\n    'doc'\n", (0, 0, 0), "à compléter"),
    "absente": ("x = 1\n", (0, 0, 0), "introuvable"),
}
WRONG_MEMORY = {
    "lit-apres": (
        memory(read_late="target = kept[i] / (1 - momentum ** visits[i][:, None])"),
        (0, 0, 0),
        "son propre teacher",
    ),
    "sans-correction": (memory(past="kept[i]"), (0, 0, 0.5), "Il manque la correction"),
    "compte-les-lots": (memory(past="kept[i] / (1 - momentum ** step)"), None, "doit compter les visites"),
    "momentum-echange": (
        memory(
            past="kept[i] / (1 - (1 - momentum) ** visits[i][:, None])",
            write="(1 - momentum) * kept[i] + momentum * p",
        ),
        None,
        "les deux sont échangés",
    ),
    "par-place": (
        memory(indices="[torch.arange(indices.shape[1])] * len(indices)"),
        (0, 0, 0),
        "c'est indices qui dit",
    ),
    "zero-au-depart": (memory(new="torch.zeros(classes)"), (0, 0, 0), "non nulle"),
    "prediction-au-depart": (memory(new="p"), (0, 0, 0), "non sa prédiction"),
    "nan-au-depart": (memory(new="kept[i] / 0"), (0, 0, 0), "est NaN"),
    "part-de-l-uniforme": (
        memory(start="torch.full((count, classes), 1 / classes)", past="kept[i]"),
        None,
        "part de l'uniforme",
    ),
    "derniere": (memory(past="kept[i]", write="p"), None, "Seule la dernière"),
    "moyenne": (memory(past="kept[i]", write="kept[i] + (p - kept[i]) / (visits[i][:, None] + 1)"), None, "s'effacer"),
    "argmax": (
        memory(past="torch.nn.functional.one_hot(kept[i].argmax(-1), classes).float()"),
        (0, 0, 0),
        "distribution entière",
    ),
    "liste": (memory().replace("torch.stack(out)", "out"), (0, 0, 0), "list reçu"),
    "nan": (memory().replace("torch.stack(out)", "torch.stack(out) * float('nan')"), (0, 0, 0), "NaN"),
    "forme": (memory().replace("torch.stack(out)", "torch.cat(out)"), (0, 0, 0), "attendue"),
    "boucle": ("def memory_targets(*a, **k):\n    while True: pass\n", (0, 0, 0), "temps accordé"),
    "ebauche": ("def memory_targets(*a):\n    'doc'\n", (0, 0, 0), "à compléter"),
}
