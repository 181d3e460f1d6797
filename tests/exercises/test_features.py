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


@pytest.mark.parametrize(
    "name, answer",
    [("a", my_map), ("a", other_map), ("b", my_loss), ("b", other_loss), ("c", adapter_step), ("c", other_step)],
)
def test_une_bonne_reponse_est_juste_de_deux_facons(name, answer, capsys):
    assert check(f"10.3 {name}", answer) is True
    assert "juste" in capsys.readouterr().out


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
