"""Le chapitre 10.3 : le student adapté, les mesures, les figures, le curseur et les exercices."""

import itertools

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from kdcourse import (
    CNN,
    AdaptationLayer,
    AdaptedStudent,
    Split,
    attention_map,
    check,
    hint_loss,
    load_dataset,
    predict_features,
    train_many,
    train_one,
)
from kdcourse.exercises.checking import EXERCISES
from kdcourse.measures import gradient_norms, map_similarity, model_attention
from kdcourse.plots import plot_alpha_maps, plot_attention_maps, plot_feature_scheme, plot_gains, plot_gradient_norms
from kdcourse.plots.common import gain_summary, verdict
from kdcourse.training.many import initial_model
from kdcourse.widgets import AttentionExplorer
from kdcourse.widgets.features import attention_state

# --- le student et son adaptateur


def small():
    return CNN(channels=(4, 8))


def adapted():
    return AdaptedStudent(small(), 1, 8, 12)


@pytest.fixture(scope="module")
def data():
    return load_dataset().train.where(slice(0, 30))


@pytest.fixture(scope="module")
def teacher_features(data):
    return predict_features(initial_model(lambda: CNN(channels=(8, 12)), 5), data.images)


def test_a_graine_egale_le_student_adapte_part_des_poids_du_student_seul():
    ours, plain = initial_model(adapted, 3).student, initial_model(small, 3)
    assert all(torch.equal(*pair) for pair in zip(ours.parameters(), plain.parameters(), strict=True))


def test_le_student_adapte_rend_les_logits_du_student_et_une_seule_carte_change(data):
    model = initial_model(adapted, 0)
    plain, ours = model.student.forward_features(data.images), model.forward_features(data.images)
    assert torch.equal(ours.maps[0], plain.maps[0])
    torch.testing.assert_close(ours.maps[1], model.adapter(plain.maps[1]))
    assert ours.maps[1].shape[1] == 12
    assert torch.equal(ours.embedding, plain.embedding)
    assert torch.equal(ours.logits, plain.logits) and torch.equal(model(data.images), plain.logits)


@pytest.mark.parametrize("stage", [-1, 2])
def test_un_etage_que_le_student_n_a_pas_est_refuse(stage, data):
    with pytest.raises(ValueError, match=f"stage : {stage} reçu, de 0 à 1 attendu"):
        AdaptedStudent(small(), stage, 8, 12).forward_features(data.images)


def hint(student, teacher, labels):
    return hint_loss(student.maps[1], teacher.maps[1])


def test_l_adaptateur_s_entraine_dans_train_many_comme_dans_la_boucle_nue(data, teacher_features):
    options = {"batch_size": 10, "distillation": hint, "teacher": teacher_features, "epochs": 3}
    together = train_many(adapted, data, seeds=[0, 1], alphas=0.5, **options)
    for seed in (0, 1):
        single = train_one(adapted, data, seed=seed, alpha=0.5, **options)
        start = initial_model(adapted, seed).adapter.adapt.weight
        assert not torch.allclose(together[seed].adapter.adapt.weight, start, atol=1e-3)
        for ours, theirs in zip(together[seed].parameters(), single.parameters(), strict=True):
            torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_la_boucle_ecrite_en_toutes_lettres_donne_le_meme_student(data, teacher_features):
    torch.manual_seed(0)
    student, adapter = small(), AdaptationLayer(8, 12)
    optimizer = torch.optim.Adam([*student.parameters(), *adapter.parameters()], lr=3e-3)
    shuffle = torch.Generator().manual_seed(0)
    for _ in range(3):
        for batch in torch.randperm(30, generator=shuffle).split(10):
            features = student.forward_features(data.images[batch])
            gap = adapter(features.maps[1]) - teacher_features.maps[1][batch]
            loss = 0.5 * gap.square().mean() + 0.5 * F.cross_entropy(features.logits, data.labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    together = train_many(
        adapted, data, seeds=[0], alphas=0.5, epochs=3, batch_size=10, distillation=hint,
        teacher=teacher_features,
    )[0].student  # fmt: skip
    for ours, theirs in zip(together.parameters(), student.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-5)


def test_un_adaptateur_fige_reste_le_meme_dans_train_many_et_le_student_s_entraine(data, teacher_features):
    def frozen():
        model = adapted()
        model.adapter.requires_grad_(False)
        return model

    trained = train_many(
        frozen, data, seeds=[0, 1], alphas=0.5, epochs=2, batch_size=10, distillation=hint,
        teacher=teacher_features,
    )  # fmt: skip
    for seed in (0, 1):
        start = initial_model(frozen, seed)
        assert torch.equal(trained[seed].adapter.adapt.weight, start.adapter.adapt.weight)
        assert not torch.equal(trained[seed].student.head.weight, start.student.head.weight)


def test_des_images_agrandies_gardent_leurs_etiquettes_et_interpolent_entre_les_pixels():
    digits = load_dataset()
    larger = digits.resized(10)
    assert [tuple(part.images.shape[1:]) for part in larger] == [(1, 10, 10)] * 3
    assert all(torch.equal(a.labels, b.labels) for a, b in zip(digits, larger, strict=True))
    # Le pixel (1, 1) de 10 tombe en 1,5·0,8 − 0,5 = 0,7 de la grille de 8.
    image, expected = digits.test.images[0, 0], 0.0
    for (row, wr), (column, wc) in itertools.product(((0, 0.3), (1, 0.7)), repeat=2):
        expected += wr * wc * image[row, column].item()
    assert larger.test.images[0, 0, 1, 1].item() == pytest.approx(expected, abs=1e-6)
    with pytest.raises(ValueError, match="size : 0 reçu"):
        digits.resized(0)


# --- les mesures


def test_la_ressemblance_est_le_cosinus_moyen_sur_les_images():
    generator = torch.Generator().manual_seed(0)
    student, teacher = (torch.rand(5, 1, 3, 4, generator=generator) for _ in range(2))
    expected = [
        F.cosine_similarity(s.flatten(), t.flatten(), dim=0).item() for s, t in zip(student, teacher, strict=True)
    ]
    student, teacher = (maps / maps.flatten(1).norm(dim=1)[:, None, None, None] for maps in (student, teacher))
    assert map_similarity(student, teacher).item() == pytest.approx(np.mean(expected), abs=1e-6)
    both = map_similarity(torch.stack([student, teacher]), teacher)
    assert both.tolist() == pytest.approx([np.mean(expected), 1.0], abs=1e-6)
    with pytest.raises(ValueError, match=r"student : forme \(5, 1, 3, 3\) reçue"):
        map_similarity(student[..., :3], teacher)


def test_les_cartes_d_un_modele_sont_celles_de_ses_etages(data):
    model = small()
    for ours, maps in zip(model_attention(model, data.images), model.forward_features(data.images).maps, strict=True):
        torch.testing.assert_close(ours, attention_map(maps))


def test_les_normes_de_gradient_sont_celles_de_backward(data, teacher_features):
    model = initial_model(small, 0)
    norms = gradient_norms(model, data, teacher_features)
    assert norms.shape == (3,)
    features = model.forward_features(data.images)
    q_student, q_teacher = attention_map(features.maps[0]), attention_map(teacher_features.maps[0])
    for index, loss in (
        (0, F.cross_entropy(features.logits, data.labels)),
        (1, (q_student - q_teacher).square().mean()),
    ):
        model.zero_grad()
        loss.backward(retain_graph=True)
        squares = sum(p.grad.square().sum().item() for p in model.parameters() if p.grad is not None)
        assert norms[index].item() == pytest.approx(squares**0.5, rel=1e-4)


# --- les figures


def test_le_verdict_suit_le_signe_et_l_intervalle():
    noise = torch.linspace(-0.5, 0.5, 10)
    assert [verdict(2 + noise), verdict(noise - 2), verdict(noise)] == ["gagne", "perd", "non établi"]


def test_le_titre_des_gains_compte_les_verdicts_et_la_forme_les_dit():
    noise = torch.linspace(-0.5, 0.5, 10)
    panels = {"A": {"x": 2 + noise, "y": noise}, "B": {"x": noise - 2, "y": noise}}
    assert gain_summary(panels) == "sur 4, 1 gagne, 1 perd, 2 non établis"
    figure = plot_gains(panels, "Gains")
    left = [line for line in figure.get_axes()[0].lines if line.get_marker() in "^oD"]
    assert [line.get_marker() for line in left] == ["^", "D"]
    assert left[0].get_xdata()[0] == pytest.approx(2.0)


def test_le_titre_des_normes_donne_le_rapport_des_moyennes():
    norms = torch.stack([torch.full((3,), 6.0), torch.full((3,), 0.05), torch.full((3,), 2.0)])
    norms = norms * torch.tensor([0.9, 1.0, 1.1])
    figure = plot_gradient_norms({"au départ": norms, "après": norms}, [100, 9])
    assert "120 et 3,0 fois" in figure.get_suptitle()
    balanced = [line for line in figure.get_axes()[0].lines if line.get_label() == "attention, β = 10·HW"]
    assert balanced[0].get_ydata().tolist() == pytest.approx([50.0, 180.0])


def unit(*shape):
    return attention_map(torch.rand(shape, generator=torch.Generator().manual_seed(1)))


def test_une_ligne_de_cartes_de_meme_taille_a_une_seule_echelle():
    maps = {"teacher": unit(2, 3, 4, 4), "student": unit(2, 5, 4, 4)}
    figure = plot_attention_maps(torch.rand(2, 1, 8, 8), maps, "titre")
    axes = figure.get_axes()
    assert [ax.get_title() for ax in axes[:3]] == ["image", "teacher", "student"]
    tops = {ax.images[0].get_clim()[1] for ax in axes[1:3]}
    assert tops == {max(m[0].max().item() for m in maps.values())}
    np.testing.assert_allclose(axes[5].images[0].get_array(), maps["student"][1, 0])


def test_le_titre_des_alphas_dit_la_ressemblance_et_l_erreur_aux_deux_bouts():
    maps = unit(3, 4, 5, 5)
    errors = torch.tensor([[30.0, 32.0], [20.0, 24.0], [88.0, 92.0]])
    figure = plot_alpha_maps(torch.rand(1, 10, 10), maps[2], [0.0, 0.5, 1.0], maps, errors)
    assert "1,00 (α = 1) ; l'erreur passe de 31,0 à 90,0 %" in figure.get_suptitle()
    assert "22,0" in figure.get_axes()[3].get_xlabel()


def test_le_schema_se_dessine():
    assert "adaptateur" in plot_feature_scheme().get_axes()[0].get_title()


# --- le curseur


@pytest.fixture
def explorer():
    teacher, student = [unit(4, 3, 6, 6), unit(4, 3, 3, 3)], [unit(8, 2, 6, 6), unit(8, 2, 3, 3)]
    student = [maps.view(2, 4, *maps.shape[1:]) for maps in student]
    errors = torch.tensor([[40.0, 44.0], [20.0, 24.0]])
    return AttentionExplorer(torch.rand(4, 1, 10, 10), teacher, student, [0.0, 0.5], errors), teacher, student


def test_l_etat_du_curseur_est_la_carte_choisie_et_son_cosinus(explorer):
    _, teacher, student = explorer
    state = attention_state(teacher, student, alpha=1, image=2, stage=1)
    assert torch.equal(state.student, student[1][1, 2, 0]) and torch.equal(state.teacher, teacher[1][2, 0])
    expected = F.cosine_similarity(state.student.flatten(), state.teacher.flatten(), dim=0).item()
    assert state.similarity == pytest.approx(expected, abs=1e-5)


def test_chaque_curseur_change_ce_que_l_image_montre(explorer):
    widget, teacher, student = explorer
    for name, value in (("alpha", 0.5), ("image", 3.0), ("stage", 1.0)):
        before = widget.image.value
        widget.sliders[name].value = value
        assert widget.image.value != before and widget.message.value == ""
    left, right = widget.figure.get_axes()[1:3]
    np.testing.assert_allclose(left.images[0].get_array(), teacher[1][2, 0])
    np.testing.assert_allclose(right.images[0].get_array(), student[1][1, 2, 0])
    assert any("22,0" in text.get_text() for text in widget.figure.get_axes()[3].texts)


# --- les exercices


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


CHAPTER = [name for name in EXERCISES if name.startswith("10.3")]


@pytest.mark.parametrize("name, hint", [(name, hint) for name in CHAPTER for hint in EXERCISES[name].mistakes])
def test_chaque_erreur_connue_recoit_son_indice_et_lui_seul(name, hint, capsys):
    assert check(name, EXERCISES[name].mistakes[hint]) is False
    assert hint in capsys.readouterr().out


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


def test_les_gains_refusent_moins_de_deux_graines():
    with pytest.raises(ValueError):
        plot_gains({"A": {"x": torch.tensor([1.0])}}, "Gains")


def test_un_split_agrandi_reste_un_split():
    assert isinstance(load_dataset().resized(9).train, Split)
