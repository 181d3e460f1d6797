"""Les exercices de 10.3 : la bonne réponse, de plusieurs façons, et chaque erreur connue."""

import pytest
import torch
import torch.nn.functional as F

from kdcourse import (
    attention_map,
    check,
    hint_loss,
)


def hint(student, teacher, labels):
    return hint_loss(student.maps[1], teacher.maps[1])


def my_map(features):
    energy = features.square().mean(dim=1, keepdim=True)
    return F.normalize(energy.flatten(1), dim=1).view_as(energy)


def my_loss(student, teacher):
    energy = F.adaptive_avg_pool2d(teacher.detach().square().mean(dim=1, keepdim=True), student.shape[2:])
    return F.mse_loss(my_map(student).flatten(1), F.normalize(energy.flatten(1), dim=1))


def adapter_step(student, teacher, weight, learning_rate):
    weight = weight.clone().requires_grad_()
    loss = F.mse_loss(F.conv2d(student, weight[:, :, None, None]), teacher)
    (gradient,) = torch.autograd.grad(loss, weight)
    return (weight - learning_rate * gradient).detach()


def other_map(features):
    energy = torch.einsum("bchw,bchw->bhw", features, features)[:, None]
    return energy / energy.square().sum(dim=(2, 3), keepdim=True).sqrt()


def other_loss(student, teacher):
    gap = other_map(student) - attention_map(F.adaptive_avg_pool2d(teacher**2, student.shape[2:]).mean(1, True).sqrt())
    return (gap**2).flatten(1).mean(dim=1).mean()


def other_step(student, teacher, weight, learning_rate):
    pixels = student.transpose(0, 1).flatten(1)
    residual = weight @ pixels - teacher.transpose(0, 1).flatten(1)
    return weight - learning_rate * 2 * residual @ pixels.T / teacher.numel()


def map_by_loops(features):
    maps = torch.zeros(len(features), 1, *features.shape[2:])
    for index, channels in enumerate(features):
        energy = sum(channel**2 for channel in channels)
        maps[index, 0] = energy / energy.norm()
    return maps


def map_in_place(features):
    features *= features
    return F.normalize(features.sum(1, keepdim=True), dim=(2, 3))


def map_in_double(features):
    energy = features.double().norm(dim=1, keepdim=True) ** 2
    return energy / (energy.norm(dim=(2, 3), keepdim=True) + 1e-12)


def loss_by_loops(student, teacher):
    total = 0
    for a, b in zip(student, teacher, strict=True):
        mine = a.square().mean(0)
        target = F.adaptive_avg_pool2d(b.square().mean(0)[None, None], student.shape[2:])[0, 0]
        total = total + (mine / mine.norm() - target / target.norm()).square().mean()
    return total / len(student)


def loss_normalised_twice(student, teacher):
    """Réduite, la carte retrouve sa norme : la première normalisation n'y change rien."""
    reduced = F.adaptive_avg_pool2d(my_map(teacher), student.shape[2:])
    return F.mse_loss(my_map(student), F.normalize(reduced.flatten(1), dim=1).view_as(reduced))


def loss_by_cosine(student, teacher):
    target = F.interpolate(teacher.double().square().mean(1, True), size=student.shape[2:], mode="area").flatten(1)
    cosine = torch.einsum("bp,bp->b", my_map(student.double()).flatten(1), F.normalize(target, dim=1))
    return (2 - 2 * cosine).mean() / target.shape[1]


def step_by_sgd(student, teacher, weight, learning_rate):
    weight = torch.nn.Parameter(weight)
    optimizer = torch.optim.SGD([weight], lr=learning_rate)
    F.mse_loss(F.conv2d(student, weight[:, :, None, None]), teacher).backward()
    optimizer.step()
    return weight


def step_by_layer(student, teacher, weight, learning_rate):
    layer = torch.nn.Conv2d(*weight.shape[::-1], 1, bias=False)
    layer.weight.data = weight[:, :, None, None].clone()
    F.mse_loss(layer(student), teacher).backward()
    return (layer.weight - learning_rate * layer.weight.grad).detach()[:, :, 0, 0]


def step_in_place(student, teacher, weight, learning_rate):
    gap = torch.einsum("oc,bchw->bohw", weight.double(), student.double()) - teacher
    weight -= learning_rate * 2 * torch.einsum("bohw,bchw->oc", gap, student.double()) / teacher.numel()
    return weight


def step_by_loops(student, teacher, weight, learning_rate):
    gradient = torch.zeros_like(weight)
    for a, b in zip(student.flatten(2), teacher.flatten(2), strict=True):
        for pixel in range(a.shape[1]):
            gradient += 2 * torch.outer(weight @ a[:, pixel] - b[:, pixel], a[:, pixel]) / teacher.numel()
    return weight - learning_rate * gradient


RIGHT = {
    "10.3 a": [my_map, other_map, attention_map, map_by_loops, map_in_double],
    "10.3 b": [my_loss, other_loss, loss_by_loops, loss_normalised_twice, loss_by_cosine],
    "10.3 c": [adapter_step, other_step, step_by_sgd, step_by_layer, step_in_place, step_by_loops],
}


@pytest.mark.parametrize(("name", "answer"), [(name, answer) for name in RIGHT for answer in RIGHT[name]])
def test_une_bonne_reponse_est_juste_de_plusieurs_facons(name, answer, capsys):
    assert check(name, answer) is True, capsys.readouterr().out


def energy(f):
    return f.square().mean(1, keepdim=True)


def min_max(maps):
    low, high = (end((2, 3), keepdim=True) for end in (maps.amin, maps.amax))
    return (maps - low) / (high - low)


def standardised(maps):
    return (maps - maps.mean((2, 3), keepdim=True)) / maps.std((2, 3), keepdim=True)


def unit(maps):
    return F.normalize(maps.flatten(1), dim=1).view_as(maps)


@pytest.mark.parametrize(
    "name, answer, hint",
    [
        ("a", lambda f: F.normalize(f.abs().mean(1).flatten(1), dim=1).view(len(f), 1, *f.shape[2:]), "absolues"),
        ("a", lambda f: F.normalize(f.square().mean(1, keepdim=True), dim=1), "seul canal"),
        ("a", lambda f: f.square().mean(1, keepdim=True), "normalisation"),
        ("a", lambda f: f.square().mean(1), "forme"),
        ("b", lambda s, t: F.mse_loss(my_map(s), F.adaptive_avg_pool2d(my_map(t), s.shape[2:])), "puis réduite"),
        ("b", lambda s, t: my_loss(s, t) * s[:, :1].numel(), "somme sur tout"),
        ("b", lambda s, t: my_loss(s.detach(), t), "gradient"),
        ("b", lambda s, t: 1000 * my_loss(s, t), "β"),
        ("c", lambda s, t, w, rate: w, "pas bougé"),
        ("c", lambda s, t, w, rate: 2 * w - adapter_step(s, t, w, rate), "signe"),
        ("c", lambda s, t, w, rate: adapter_step(s, t, w, rate * t.numel()), "somme"),
    ],
)
def test_une_erreur_ecrite_autrement_est_reconnue(name, answer, hint, capsys):
    assert check(f"10.3 {name}", answer) is False
    assert hint in capsys.readouterr().out


@pytest.mark.parametrize(
    "answer, hint",
    [
        (lambda f: unit(energy(f) ** 2), "deux fois"),
        (lambda f: unit(f.abs().amax(1, keepdim=True)), "sans le carré"),
        (lambda f: unit(f.var(1, keepdim=True)), "variance"),
        (lambda f: unit(f.std(1, keepdim=True)), "écart-type"),
        (lambda f: unit(f.norm(dim=1, keepdim=True)), "racine de trop"),
        (lambda f: unit(energy(f.relu())), "compte pour rien"),
        (lambda f: unit(f[:, :1] ** 2), "Un seul canal"),
        (lambda f: f.square().sum(1, keepdim=True), "les canaux sont sommés"),
        (lambda f: energy(f) / energy(f).square().sum((2, 3), keepdim=True), "manque une racine"),
        (lambda f: energy(f) / energy(f).sum((2, 3), keepdim=True).sqrt(), "racine de sa somme"),
        (lambda f: energy(f) / energy(f).mean((2, 3), keepdim=True), "sa moyenne : "),
        (lambda f: energy(f) / energy(f).square().mean((2, 3), keepdim=True).sqrt(), "moyenne quadratique"),
        (lambda f: min_max(energy(f)), "entre 0 et 1"),
        (lambda f: standardised(energy(f)), "centrée et réduite"),
        (lambda f: unit(energy(F.normalize(f, dim=1))), "uniforme"),
        (lambda f: energy(F.normalize(f.flatten(1), dim=1).view_as(f)), "toutes ensemble"),
        (lambda f: F.normalize(f.flatten(1), dim=1).view_as(f).square().sum(1, keepdim=True), "par sa somme"),
        (lambda f: F.normalize(energy(f).flatten(1), dim=0).view_as(energy(f)), "le long du lot"),
        (lambda f: F.normalize(energy(f).flatten(), dim=0).view_as(energy(f)), "tout le lot"),
        (lambda f: F.normalize(energy(f).flatten(1), dim=1), "forme (3, 10) reçue"),
        (map_in_place, "une opération sur place"),
    ],
)  # fmt: skip
def test_une_carte_fausse_est_nommee(answer, hint, capsys):
    assert check("10.3 a", answer) is False
    assert hint in capsys.readouterr().out


def pooled(s, t):
    return F.adaptive_avg_pool2d(energy(t), s.shape[2:])


def resized(maps, like, **options):
    return F.interpolate(maps, size=like.shape[2:], **options)


@pytest.mark.parametrize(
    "answer, hint",
    [
        (lambda s, t: F.mse_loss(my_map(s), unit(resized(energy(t), s))), "plus proche voisin ne lit"),
        (lambda s, t: F.mse_loss(my_map(s), unit(resized(energy(t), s, mode="bicubic"))), "bicubique"),
        (lambda s, t: F.mse_loss(my_map(s), unit(F.adaptive_max_pool2d(energy(t), s.shape[2:]))), "plus grand des pix"),
        (lambda s, t: F.mse_loss(my_map(s), resized(my_map(t), s, mode="bilinear")), "puis interpolée"),
        (lambda s, t: F.mse_loss(unit(resized(energy(s), t)), my_map(t)), "au plus proche voisin : ramenez"),
        (lambda s, t: F.mse_loss(my_map(s), pooled(s, t)), "Seule la carte du student"),
        (lambda s, t: F.mse_loss(energy(s), unit(pooled(s, t))), "Seule la carte du teacher"),
        (lambda s, t: F.mse_loss(F.normalize(energy(s)), F.normalize(pooled(s, t))), "et la perte 0"),
        (lambda s, t: F.mse_loss(F.normalize(energy(s), dim=-1), F.normalize(pooled(s, t), dim=-1)), "ligne par ligne"),
        (lambda s, t: F.mse_loss(energy(s).flatten(1).softmax(1), pooled(s, t).flatten(1).softmax(1)), "softmax"),
        (lambda s, t: my_loss(s, t) * len(s), "Les exemples sont sommés"),
        (lambda s, t: (my_map(s) - unit(pooled(s, t))).norm(), "norme de tous les écarts"),
        (lambda s, t: my_loss(s, t).sqrt(), "racine de la moyenne"),
        (lambda s, t: F.l1_loss(my_map(s), unit(pooled(s, t))), "écart absolu"),
        (lambda s, t: F.smooth_l1_loss(my_map(s), unit(pooled(s, t))), "moitié de trop"),
        (lambda s, t: (1 - F.cosine_similarity(energy(s).flatten(1), pooled(s, t).flatten(1))).mean(), "cosinus"),
        (lambda s, t: (my_map(s) - my_map(t)).square().mean(), "RuntimeError"),
    ],
)
def test_une_perte_d_attention_fausse_est_nommee(answer, hint, capsys):
    assert check("10.3 b", answer) is False
    assert hint in capsys.readouterr().out


def gradient(s, t, w, loss=F.mse_loss):
    w = w.clone().requires_grad_()
    return torch.autograd.grad(loss(F.conv2d(s, w[:, :, None, None]), t), w)[0]


def step_by_adam(s, t, w, rate):
    w = torch.nn.Parameter(w)
    optimizer = torch.optim.Adam([w], lr=rate)
    F.mse_loss(F.conv2d(s, w[:, :, None, None]), t).backward()
    optimizer.step()
    return w


def step_never_registered(s, t, w, rate):
    w = torch.nn.Parameter(w)
    optimizer = torch.optim.SGD([torch.nn.Parameter(w.detach().clone())], lr=rate)
    F.mse_loss(F.conv2d(s, w[:, :, None, None]), t).backward()
    optimizer.step()
    return w


def backward_twice(s, t, w, rate):
    w = w.clone().requires_grad_()
    for _ in range(2):
        F.mse_loss(F.conv2d(s, w[:, :, None, None]), t).backward()
    return w - rate * w.grad


def by_reshape(s, t, w, rate):
    pixels, wanted = s.reshape(s.shape[1], -1), t.reshape(t.shape[1], -1)
    return w - rate * 2 * (w @ pixels - wanted) @ pixels.T / t.numel()


@pytest.mark.parametrize(
    "answer, hint",
    [
        (step_by_adam, "comme Adam"),
        (step_never_registered, "ne reçoit jamais"),
        (backward_twice, "compté deux fois"),
        (by_reshape, "reshape mêle"),
        (lambda s, t, w, rate: adapter_step(s, t, adapter_step(s, t, w, rate), rate), "fait deux fois"),
        (lambda s, t, w, rate: -rate * gradient(s, t, w), "le déplacement"),
        (lambda s, t, w, rate: rate * gradient(s, t, w), "le gradient fois le pas"),
        (lambda s, t, w, rate: w - gradient(s, t, w), "n'apparaît pas"),
        (lambda s, t, w, rate: w - rate * gradient(s, t, w, lambda a, b: (a - b).square().sum(1).mean()), "canaux s"),
        (lambda s, t, w, rate: w - rate * gradient(s, t, w, lambda a, b: (a - b).norm()), "la norme de l'écart"),
        (lambda s, t, w, rate: w - rate * gradient(s, t, w, lambda a, b: F.mse_loss(a, b).sqrt()), "racine de l'écart"),
        (lambda s, t, w, rate: w - rate * gradient(s, t, w, F.smooth_l1_loss), "smooth_l1"),
        (lambda s, t, w, rate: w - rate * gradient(s, t, w, my_loss), "cartes d'attention"),
        (lambda s, t, w, rate: w - rate * gradient(s, t, w.T), "RuntimeError"),
    ],
)
def test_un_pas_faux_est_nomme(answer, hint, capsys):
    assert check("10.3 c", answer) is False
    assert hint in capsys.readouterr().out
