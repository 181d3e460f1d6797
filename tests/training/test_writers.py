"""Complément : des students qui écrivent ; ce qu'ils lisent, ce qu'ils tirent, ce qu'ils apprennent."""

import pytest
import torch

from kdcourse import forward_kl_loss, reverse_kl_loss
from kdcourse.data.number_words import END_RANK, LONGEST, VOCABULARY, encode, write_lists
from kdcourse.measures.writers import judge
from kdcourse.training.writers import Writers, copied_words, exact_teacher, train_writers


@pytest.fixture
def lists():
    generator = torch.Generator().manual_seed(3)
    numbers = torch.randint(60, 100, (2, 8, 3), generator=generator)
    return numbers, write_lists(numbers, torch.randint(3, (2, 8), generator=generator), 3 * (LONGEST + 1) + 1)


def test_un_student_ne_lit_que_ses_derniers_mots(lists):
    numbers, text = lists
    writers = Writers([0, 1], memory=2)
    logits = writers(numbers, text)
    changed = text.clone()
    changed[:, :, 0] = (changed[:, :, 0] + 1) % END_RANK  # toujours un mot, jamais une virgule
    other = writers(numbers, changed)
    assert (logits[:, :, 0] == other[:, :, 0]).all()  # le mot à prédire n'est pas lu
    assert (logits[:, :, 1] != other[:, :, 1]).any() and (logits[:, :, 2] != other[:, :, 2]).any()
    torch.testing.assert_close(logits[:, :, 3:], other[:, :, 3:])


def test_chaque_student_ne_depend_que_de_sa_graine(lists):
    numbers, text = lists
    both, alone = Writers([5, 9], memory=3)(numbers, text), Writers([9], memory=3)(numbers[1:], text[1:])
    torch.testing.assert_close(both[1:], alone)
    assert not torch.allclose(both[0], Writers([9], memory=3)(numbers[:1], text[:1])[0])


def test_un_student_est_une_couche_cachee_ecrite_a_la_main(lists):
    numbers, text = lists
    writers = Writers([4], memory=2, width=7)
    found = writers(numbers[:1], text[:1])[0, 0, 1]
    blank, first, number = len(VOCABULARY), text[0, 0, 0].item(), numbers[0, 0, 0].item() - 60
    words = writers.word_weight[0].view(2, len(VOCABULARY) + 1, 7)
    hidden = writers.number_weight[0, number] + words[0, blank] + words[1, first] + writers.hidden_bias[0, 0]
    torch.testing.assert_close(found, hidden.relu() @ writers.output_weight[0] + writers.output_bias[0, 0])


def test_ce_qu_un_student_ecrit_suit_ses_probabilites():
    """Le premier mot de vingt mille listes : chaque fréquence est à moins de cinq écarts-types de sa probabilité."""
    writers = Writers([0])
    numbers = torch.full((1, 20_000, 1), 97)
    text = writers.write(numbers, seed=1)
    expected = writers(numbers[:, :1], text[:, :1])[0, 0, 0].softmax(-1)
    found = torch.bincount(text[0, :, 0], minlength=len(VOCABULARY)) / 20_000
    assert ((found - expected).abs() <= 5 * (expected * (1 - expected) / 20_000).sqrt()).all()


def test_ecrire_puis_relire_donne_les_memes_logits():
    """Les mots tirés un à un sont ceux que relit ``forward`` : le plus probable d'un student presque sûr."""
    writers = Writers([0, 1])
    with torch.no_grad():
        writers.output_weight *= 1000
    numbers = torch.randint(60, 100, (5, 2), generator=torch.Generator().manual_seed(0))
    text = writers.write(numbers, seed=0)
    again = writers(numbers.expand(2, 5, 2), text).argmax(-1)
    live = ((text == END_RANK).cumsum(-1) - (text == END_RANK).long()) < 2
    assert (again == text)[live].float().mean() > 0.95


def test_sans_virgule_une_liste_s_arrete_a_sa_longueur_et_finie_elle_ne_dit_plus_rien():
    writers = Writers([0])
    with torch.no_grad():
        writers.output_bias[..., END_RANK] = -1e9
    assert (writers.write(torch.full((1, 3, 2), 61), seed=0, words=7) != END_RANK).all()
    with torch.no_grad():
        writers.output_bias[..., END_RANK] = 1e9
    assert (writers.write(torch.full((1, 3, 2), 61), seed=0) == END_RANK).all()


def test_la_copie_d_un_texte_est_l_entropie_croisee(lists):
    numbers, text = lists
    logits = torch.randn(*text.shape, len(VOCABULARY))
    expected = torch.nn.functional.cross_entropy(logits.flatten(0, 2), text.flatten())
    flat = logits.flatten(0, 1), copied_words(numbers, text).flatten(0, 1)
    torch.testing.assert_close(forward_kl_loss(*flat), expected)


@pytest.mark.parametrize("own", [0.0, 0.5, 1.0])
def test_la_meme_graine_refait_le_meme_entrainement_et_une_autre_un_autre(own):
    weights = []
    for seed in (0, 0, 1):
        writers = train_writers(Writers([0, 1]), reverse_kl_loss, 3, own=own, list_size=2, batch_size=4, seed=seed)
        weights.append(torch.cat([parameter.flatten() for parameter in writers.parameters()]))
    assert torch.equal(*weights[:2]) and not torch.equal(*weights[1:])


def test_les_students_ne_se_melangent_pas():
    """Un pas sur les mêmes listes : celui d'un student est le même, quel que soit son voisin."""

    def after(seeds):
        writers = train_writers(Writers(seeds), forward_kl_loss, 1, list_size=2, batch_size=4)
        return [parameter[0].detach() for parameter in writers.parameters()]

    for first, second in zip(after([0, 1]), after([0, 2]), strict=True):
        torch.testing.assert_close(first, second)


def test_sur_les_textes_du_teacher_un_student_apprend_a_ecrire():
    writers = train_writers(Writers([0, 1]), forward_kl_loss, 150, list_size=2, batch_size=32)
    numbers = torch.randint(60, 100, (200, 2), generator=torch.Generator().manual_seed(1))
    before, after = (
        judge(numbers.expand(2, -1, -1), w.write(numbers, 0)).valid.float().mean() for w in (Writers([0, 1]), writers)
    )
    assert before < 0.01 and after > 0.5


def test_le_teacher_exact_est_en_logits(lists):
    numbers, text = lists
    torch.testing.assert_close(exact_teacher(0.01)(numbers, text).exp().sum(-1), torch.ones(text.shape))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"own": 1.5}, "own : 1.5 reçu"), ({"steps": 0}, "steps : 0 reçu"), ({"list_size": 0}, "list_size"),
        ({"batch_size": -1}, "batch_size"), ({"seed": -1}, "seed"), ({"learning_rate": 0.0}, "learning_rate"),
    ],
)  # fmt: skip
def test_un_mauvais_reglage_est_dit(arguments, message):
    with pytest.raises(ValueError, match=message):
        train_writers(Writers([0]), forward_kl_loss, **{"steps": 1} | arguments)


def test_un_mauvais_student_est_dit():
    with pytest.raises(ValueError, match="seeds : aucune graine"):
        Writers([])
    with pytest.raises(ValueError, match="memory : 0"):
        Writers([0], memory=0)
    with pytest.raises(ValueError, match="words : octante"):
        encode(["octante"])
