"""Les formules de 10.2, justes et fausses, que plusieurs de ses exercices comparent à une réponse."""

import torch
import torch.nn.functional as F

from kdcourse.exercises.exercise import ANY
from kdcourse.losses.logits import divergence, kd_loss


def soft(z, T=1.0):
    return F.softmax(z / T, dim=-1)


def gap(s, t, T):
    return soft(s, T) - soft(t, T)


def through_softmax(q, gradient):
    """Le gradient par rapport aux logits, si ``gradient`` l'est par rapport aux probabilités q."""
    return q * (gradient - (q * gradient).sum(-1, keepdim=True))


def reversed_gradient(s, t, T):
    """Le gradient de KL(student ‖ teacher), au facteur T / B près."""
    return through_softmax(soft(s, T), F.log_softmax(s / T, -1) - F.log_softmax(t / T, -1))


def squares_gradient(s, t, T):
    """Le gradient de la somme des écarts de probabilités au carré, au facteur T / B près."""
    return through_softmax(soft(s, T), 2 * gap(s, t, T))


def kl(log_p, log_q, dim=-1):
    return (log_p.exp() * (log_p - log_q)).sum(dim)


def by_softmax(s, t, T):
    p = soft(t, T)
    return T**2 * (p * (p.log() - F.log_softmax(s / T, -1))).sum() / len(s)


def both_by_softmax(s, t, T):
    p, q = soft(t, T), soft(s, T)
    return T**2 * (p * (p.log() - q.log())).sum() / len(s)


def capped(s, t, T):
    """Un epsilon, un clamp, un nan_to_num : juste tant qu'aucune probabilité ne s'annule."""
    return kd_loss(s, t, T) if max(s.abs().max(), t.abs().max()) < 100 else torch.tensor(ANY)


def capped_for_student(s, t, T):
    return kd_loss(s, t, T) if s.abs().max() < 100 else torch.tensor(ANY)


def without_log(s, t, T):
    return T**2 * F.kl_div(soft(s, T), soft(t, T), reduction="batchmean")


def without_log_by_hand(s, t, T):
    p = soft(t, T)
    return T**2 * (p * (p.log() - soft(s, T))).sum() / len(s)


def target_not_log(s, t, T):
    return T**2 * F.kl_div(F.log_softmax(s / T, -1), soft(t, T), reduction="batchmean", log_target=True)


def epsilon_below(s, t, T):
    """log(p / (q + epsilon)) : NaN où p s'annule, borné où q s'annule."""
    small = capped_for_student(s, t, T)
    return small * float("nan") if t.abs().max() > 100 else small


def without_weight(s, t, T):
    log_p, log_q = F.log_softmax(t / T, -1), F.log_softmax(s / T, -1)
    return T**2 * (log_p * (log_p - log_q)).sum() / len(s)


def cross_entropy(s, t, T):
    return -(soft(t, T) * F.log_softmax(s / T, -1)).sum(-1)


def entropy(t, T):
    return cross_entropy(t, t, T)


def rest(z, labels):
    """Les logits des classes qui ne sont pas la cible, ``(B, C - 1)``."""
    others = torch.ones_like(z, dtype=torch.bool).scatter(1, labels[:, None], False)
    return z[others].view(len(z), -1)


def nckd(s, t, y, T):
    return divergence(rest(s, y), rest(t, y), T, dim=-1)


def not_renormalised(s, t, y, T, p=True, q=True):
    """Des probabilités restées celles de toutes les classes : celles du teacher (p), celles du student (q)."""
    log_p = rest(F.log_softmax(t / T, -1), y) if p else F.log_softmax(rest(t, y) / T, -1)
    log_q = rest(F.log_softmax(s / T, -1), y) if q else F.log_softmax(rest(s, y) / T, -1)
    return kl(log_p, log_q)


def only_weight_renormalised(s, t, y, T):
    p, q = (rest(F.log_softmax(z / T, -1), y) for z in (t, s))
    return (soft(rest(t, y), T) * (p - q)).sum(-1)


def zeroed(s, t, y, T, value=0.0):
    return divergence(s.scatter(1, y[:, None], value), t.scatter(1, y[:, None], value), T, dim=-1)


def multiplied(s, t, y, T):
    """La cible mise à 0 dans la prédiction, et un second softmax par-dessus."""
    return divergence(soft(s, T).scatter(1, y[:, None], 0), soft(t, T).scatter(1, y[:, None], 0), 1.0, dim=-1)


def softmax_twice(s, t, y, T):
    return divergence(rest(soft(s, T), y), rest(soft(t, T), y), 1.0, dim=-1)


def target_weight(z, y, T):
    return soft(z, T).gather(1, y[:, None])[:, 0]


def tckd(s, t, y, T):
    """La KL entre deux classes : la cible, toutes les autres ensemble."""
    p, q = (target_weight(z, y, T) for z in (t, s))
    return p * (p / q).log() + (1 - p) * ((1 - p) / (1 - q)).log()


def over_batch(s, t, y, T):
    log_p, log_q = (F.log_softmax(rest(z, y) / T, 0) for z in (t, s))
    return kl(log_p, log_q)
