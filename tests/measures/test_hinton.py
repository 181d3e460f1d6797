"""``python -m benchmarks hinton`` : ce qu'il règle ne lit jamais le test, et ce qu'il compte est ce qu'il dit."""

import json

import pytest
import torch

from benchmarks import _report, hinton
from kdcourse import Dataset, Split, french
from kdcourse.measures import hinton_table
from kdcourse.measures.stored import stored

BUDGET = hinton.Budget(teacher_epochs=1, student_epochs=1, batch_size=20)


def part(size, seed):
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(size) % 10
    images = torch.rand(size, 1, 28, 28, generator=generator) / 4
    images[torch.arange(size), 0, labels, labels] += 0.75
    return Split(images, labels)


@pytest.fixture(scope="module")
def data():
    return Dataset(part(60, 0), part(40, 1), part(50, 2))


def test_le_choix_ne_depend_pas_du_test(data):
    poisoned = data._replace(test=Split(torch.full_like(data.test.images, float("nan")), data.test.labels))
    assert hinton.choose(data, BUDGET, seeds=(7,)) == hinton.choose(poisoned, BUDGET, seeds=(7,))


def test_le_choix_est_le_meilleur_des_essais_rapportes(data):
    choice, tried = hinton.choose(data, BUDGET, seeds=(7,))
    alone = [row for row in tried if not row["distilled"]]
    distilled = [row for row in tried if row["distilled"]]
    assert [row["learning_rate"] for row in alone] == list(hinton.RATES)
    assert [row["alpha"] for row in distilled] == list(hinton.ALPHAS)
    assert choice.learning_rate == min(alone, key=lambda row: row["error"])["learning_rate"]
    assert choice.alpha == min(distilled, key=lambda row: row["error"])["alpha"]


def test_le_student_sans_3_n_en_voit_aucun_et_son_teacher_si(data, monkeypatch):
    seen = []

    def spy(make, split, *args, **kwargs):
        seen.append((set(split.labels.tolist()), args[0] is not None, kwargs["temperature"]))
        return train_one(make, split, *args, **kwargs)

    train_one = hinton.train_one
    monkeypatch.setattr(hinton, "train_one", spy)
    hinton.measure(data, BUDGET, hinton.Choice(1e-3, 0.9), seed=0)
    everything, without = set(range(10)), set(range(10)) - {3}
    assert seen == [(everything, False, 20.0), (everything, True, 20.0), (without, True, 20.0)]


def test_les_erreurs_se_comptent_en_tout_et_sur_les_3():
    labels = torch.tensor([3, 3, 3, 1, 2])
    logits = torch.nn.functional.one_hot(torch.tensor([3, 5, 1, 1, 3]), 10).float()
    assert hinton.count_errors(logits, labels) == {"errors": 3, "errors_on_threes": 2}


class Fixed(torch.nn.Module):
    """Rend ses logits d'avance : le 3 y est toujours second, derrière la classe 8, de 5 s'il est là, de 9 sinon."""

    def forward(self, images):
        logits = torch.zeros(len(images), 10)
        for row, image in zip(logits, images, strict=True):
            label = int(image[0].diagonal().argmax())
            row[8 if label == 3 else label] = 5.0 if label == 3 else 9.0
        return logits


def test_le_biais_du_3_est_celui_qui_convient_a_la_validation_et_pas_plus(data):
    logits, bias = hinton.tuned_logits(Fixed(), data)
    assert 5 < bias < 9  # le milieu du plateau, où ni les 3 ni les autres ne sont perdus
    assert hinton.count_errors(logits, data.test.labels)["errors"] == 0
    poisoned = data._replace(test=Split(data.test.images, (data.test.labels + 1) % 10))
    assert hinton.tuned_logits(Fixed(), poisoned)[1] == bias


def test_le_tableau_donne_les_moyennes_mesurees_et_les_chiffres_de_l_article(data):
    runs = [{name: {"errors": count, "errors_on_threes": 1, "bias": 2.0} for name in hinton.PAPER} for count in (5, 8)]
    text = hinton.table(runs, data.test)
    for label, paper, _ in hinton.PAPER.values():
        (line,) = [line for line in text.splitlines() if line.startswith(f"{label}  ")]
        numbers = line.removeprefix(label).split()
        assert numbers[:4] == ["6,5", "13,00", "1,0", str(paper)]
    assert "réglé sur la validation : de 2,0 à 2,0" in text


def test_le_resultat_est_range_avec_sa_provenance(data, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_report, "SHOWN", tmp_path)
    monkeypatch.setattr(hinton, "load_dataset", lambda name, folder: data)
    monkeypatch.setattr(hinton, "SEEDS", 2)
    monkeypatch.setattr(hinton, "PUBLISHED", hinton.Budget(1, 1))
    hinton.main(["--graines", "2", "--epoques", "1", "1"])
    result = json.loads((tmp_path / "hinton_results.json").read_text(encoding="utf-8"))
    assert result["sizes"] == {"train": 60, "validation": 40, "test": 50}
    assert {"processor", "torch", "date"} <= result["provenance"].keys()
    assert len(result["runs"]) == 2 and result["paper"]["teacher"]["errors"] == 67
    gains = hinton.paired_gain(result["runs"], 50)
    assert result["gain"]["mean"] == pytest.approx(sum(gains) / 2)
    assert result["first_run"] == hinton.FIRST_RUN
    assert "60 images d'entraînement, 40 de validation, 50 de test" in capsys.readouterr().out


def test_un_essai_reduit_ne_remplace_pas_la_mesure(data, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(_report, "SHOWN", tmp_path)
    monkeypatch.setattr(hinton, "load_dataset", lambda name, folder: data)
    hinton.main(["--graines", "2", "--epoques", "1", "1"])
    assert (
        not list(tmp_path.iterdir())
        and "Essai réduit : hinton_results.json n'est pas remplacé." in capsys.readouterr().out
    )


def test_une_seule_graine_est_refusee_avant_d_entrainer(capsys):
    with pytest.raises(SystemExit) as caught:
        hinton.main(["--graines", "1"])
    assert caught.value.code == 2 and "option --graines : 1 reçu, un entier ≥ 2 attendu" in capsys.readouterr().err


def test_la_table_de_10_2_met_nos_erreurs_a_cote_de_celles_de_l_article():
    text = hinton_table()
    runs = stored("hinton")["runs"]
    rows = {line.split(" | ")[0].removeprefix("| "): line.split(" | ") for line in text.splitlines() if "|" in line}
    for name, (label, paper, threes) in hinton.PAPER.items():
        counts = [run[name]["errors"] for run in runs]
        measured = sum(counts) / len(counts)
        assert rows[label][1] == french(paper / 100, 2)
        assert rows[label][3] == ("" if threes is None else french(100 * threes / 1010))
        assert rows[label][2].startswith(french(measured / 20, 2))  # 2 000 images : 20 pour 1 %
    assert "7\u00a0000 d'apprentissage, 1\u00a0000 de validation, 2\u00a0000 de test" in text
    assert "second essai" in text
