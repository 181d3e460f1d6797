"""Les formules des articles, en boucles Python sur des nombres float64 : ni torch, ni le code testé.

Chaque fonction reçoit des listes imbriquées (``tensor.tolist()``) et rend un nombre, ou une liste.
"""

import math


def softmax(row, temperature):
    largest = max(row)
    weights = [math.exp((z - largest) / temperature) for z in row]
    return [w / sum(weights) for w in weights]


def log_softmax(row, temperature):
    largest = max(row)
    total = sum(math.exp((z - largest) / temperature) for z in row)
    return [(z - largest) / temperature - math.log(total) for z in row]


def kl(teacher_row, student_row, temperature):
    p, log_p = softmax(teacher_row, temperature), log_softmax(teacher_row, temperature)
    log_q = log_softmax(student_row, temperature)
    return sum(p[c] * (log_p[c] - log_q[c]) for c in range(len(p)))


def kd(student, teacher, temperature=4.0):
    return temperature**2 * sum(kl(t, s, temperature) for s, t in zip(student, teacher, strict=True)) / len(student)


def dkd(student, teacher, labels, temperature=4.0, alpha=1.0, beta=8.0):
    total = 0.0
    for s, t, y in zip(student, teacher, labels, strict=True):
        p, q = softmax(t, temperature), softmax(s, temperature)
        p_rest, q_rest = (sum(x[c] for c in range(len(x)) if c != y) for x in (p, q))
        target = p[y] * math.log(p[y] / q[y]) + p_rest * math.log(p_rest / q_rest)
        others = [c for c in range(len(p)) if c != y]
        rest = kl([t[c] for c in others], [s[c] for c in others], temperature)
        total += alpha * target + beta * rest
    return temperature**2 * total / len(student)


def standardized(row):
    mean = sum(row) / len(row)
    deviation = math.sqrt(sum((z - mean) ** 2 for z in row) / (len(row) - 1))
    return [(z - mean) / (deviation + 1e-7) for z in row]


def standardized_kd(student, teacher, temperature=2.0):
    return kd([standardized(row) for row in student], [standardized(row) for row in teacher], temperature)


def decorrelation(a, b, epsilon=0.0):
    """1 - Pearson ; 0 si l'un des deux vecteurs est constant. ``epsilon`` s'ajoute au produit des normes."""
    if min(max(a) - min(a), max(b) - min(b)) <= 1e-8:
        return 0.0
    a, b = ([x - sum(v) / len(v) for x in v] for v in (a, b))
    return 1 - dot(a, b) / (math.sqrt(dot(a, a)) * math.sqrt(dot(b, b)) + epsilon)


def dist(student, teacher, temperature=1.0, beta=1.0, gamma=1.0, epsilon=0.0):
    p, q = ([softmax(row, temperature) for row in logits] for logits in (student, teacher))
    columns = zip(zip(*p, strict=True), zip(*q, strict=True), strict=True)
    rows = [decorrelation(a, b, epsilon) for a, b in zip(p, q, strict=True)]
    columns = [decorrelation(a, b, epsilon) for a, b in columns]
    return temperature**2 * (beta * sum(rows) / len(rows) + gamma * sum(columns) / len(columns))


def cross_entropy(logits, labels):
    return -sum(log_softmax(row, 1.0)[y] for row, y in zip(logits, labels, strict=True)) / len(labels)


def flatten(nested):
    return [x for item in nested for x in flatten(item)] if isinstance(nested, list) else [nested]


def mean_square_gap(a, b):
    a, b = flatten(a), flatten(b)
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True)) / len(a)


def unit(vector):
    norm = math.sqrt(sum(x * x for x in vector))
    return [x / norm for x in vector] if norm > 0 else list(vector)


def energy(example):
    """Moyenne des carrés sur les canaux d'un exemple (C, H, W)."""
    channels, height, width = len(example), len(example[0]), len(example[0][0])
    return [
        [sum(example[c][h][w] ** 2 for c in range(channels)) / channels for w in range(width)] for h in range(height)
    ]


def attention_map(features):
    return [unit(flatten(energy(example))) for example in features]


def attention(student, teacher):
    return mean_square_gap(attention_map(student), attention_map(teacher))


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine_matrix(features):
    rows = [unit(row) for row in features]
    return [[dot(a, b) for b in rows] for a in rows]


def cosine_relation(student, teacher):
    return mean_square_gap(cosine_matrix(student), cosine_matrix(teacher))


def normalized_gram(features):
    return [unit([dot(a, b) for b in features]) for a in features]


def similarity_preserving(student, teacher):
    return mean_square_gap(normalized_gram(student), normalized_gram(teacher))


def smooth_l1(gap):
    return gap * gap / 2 if abs(gap) < 1 else abs(gap) - 0.5


def relative_distances(features):
    matrix = [[math.dist(a, b) for b in features] for a in features]
    positive = [d for d in flatten(matrix) if d > 0]
    mean = sum(positive) / len(positive) if positive else 1.0
    return [d / mean for d in flatten(matrix)]


def rkd_distance(student, teacher):
    pairs = list(zip(relative_distances(student), relative_distances(teacher), strict=True))
    return sum(smooth_l1(s - t) for s, t in pairs) / len(pairs)


def angles(features):
    batch, cosines = range(len(features)), []
    for i in batch:
        directions = [unit([x - y for x, y in zip(features[j], features[i], strict=True)]) for j in batch]
        cosines += [dot(directions[j], directions[k]) for j in batch for k in batch]
    return cosines


def rkd_angle(student, teacher):
    triples = list(zip(angles(student), angles(teacher), strict=True))
    return sum(smooth_l1(s - t) for s, t in triples) / len(triples)


def numeric_gradient(loss, student, step=1e-5):
    """Différences finies centrées de ``loss``, élément par élément d'une liste de lignes."""
    gradient = [[0.0] * len(row) for row in student]
    for i, row in enumerate(student):
        for j, value in enumerate(row):
            row[j] = value + step
            above = loss(student)
            row[j] = value - step
            below = loss(student)
            row[j] = value
            gradient[i][j] = (above - below) / (2 * step)
    return gradient


def sequence_divergence(student, teacher, kept, divergence, temperature=1.0):
    """La moyenne, sur les mots gardés, de ``divergence(p, q)`` : p du teacher, q du student."""
    found = [
        divergence(softmax(teacher[b][w], temperature), softmax(student[b][w], temperature))
        for b in range(len(student))
        for w in range(len(student[b]))
        if kept[b][w]
    ]
    return sum(found) / len(found)


def relative_entropy(p, q):
    return sum(a * math.log(a / b) for a, b in zip(p, q, strict=True))


def jensen_shannon(p, q, beta):
    m = [beta * a + (1 - beta) * b for a, b in zip(p, q, strict=True)]
    return beta * relative_entropy(p, m) + (1 - beta) * relative_entropy(q, m)
