"""Les curseurs, sans navigateur : l'état, l'image, la dernière valeur, l'erreur dite en français."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks._stock import Rebuilt
from kdcourse import MLP, Split, color_student, load_dataset
from kdcourse.measures import bias_sweep, tune_bias
from kdcourse.widgets import BiasExplorer, TemperatureExplorer
from kdcourse.widgets.principles import temperature_state
from kdcourse.widgets.slider_figure import encode_png, slider


def pixels(widget):
    return np.asarray(Image.open(io.BytesIO(widget.image.value)))


@pytest.fixture
def explorer():
    torch.manual_seed(0)
    return TemperatureExplorer(MLP().eval(), load_dataset().validation, count=3)


@pytest.fixture
def bias_explorer():
    logits = torch.randn(4, 50, 10, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(50) % 10
    biases = torch.arange(0, 4.01, 0.5)
    sweep = bias_sweep(logits, labels, 3, biases)
    return BiasExplorer(biases, {"T = 20": (sweep, tune_bias(sweep), "distilled")}, label=3)


def test_l_etat_est_le_softmax_a_temperature_et_son_entropie_en_bits():
    logits = torch.tensor([2.0, 0.0, 0.0, 0.0])
    state = temperature_state(logits, 2.0)
    weights = [2.718281828, 1.0, 1.0, 1.0]
    expected = torch.tensor(weights) / sum(weights)
    torch.testing.assert_close(state.probabilities, expected)
    assert state.entropy == pytest.approx(-(expected * expected.log2()).sum().item(), abs=1e-5)


def test_l_entropie_tend_vers_l_uniforme_et_vers_zero():
    logits = torch.tensor([5.0, 1.0, 0.0, -2.0])
    assert temperature_state(logits, 1e5).entropy == pytest.approx(2.0, abs=1e-4)
    assert temperature_state(logits, 1e-3).entropy == pytest.approx(0.0, abs=1e-6)


def test_une_temperature_nulle_est_refusee():
    with pytest.raises(ValueError, match="temperature : 0 reçu"):
        temperature_state(torch.zeros(3), 0)


def test_bouger_le_curseur_change_l_image(explorer):
    before = pixels(explorer)
    explorer.sliders["temperature"].value = 20.0
    assert not np.array_equal(before, pixels(explorer))


def test_apres_une_rafale_l_image_est_celle_de_la_derniere_valeur(explorer):
    explorer.sliders["temperature"].value = 8.0
    expected = pixels(explorer)
    for value in (0.5, 20.0, 3.0, 1.0, 8.0):
        explorer.sliders["temperature"].value = value
    assert np.array_equal(pixels(explorer), expected)


def test_les_artistes_sont_les_memes_d_un_mouvement_a_l_autre(explorer):
    before = [id(artist) for artist in explorer.artists]
    explorer.sliders["temperature"].value = 4.0
    assert [id(artist) for artist in explorer.artists] == before
    assert explorer.figure.get_axes()[1].patches[0] in explorer.artists


def test_une_erreur_se_lit_sous_l_image_qui_reste(explorer):
    before = explorer.image.value

    def broken(**_):
        raise ValueError("temperature : 0 reçu")

    explorer.update, working = broken, explorer.update
    explorer.sliders["temperature"].value = 2.0
    assert "n'a pas pu être dessiné" in explorer.message.value and "temperature : 0 reçu" in explorer.message.value
    assert explorer.image.value == before
    explorer.update = working
    explorer.sliders["temperature"].value = 3.0
    assert explorer.message.value == ""


def test_un_message_d_erreur_ne_peut_pas_injecter_de_html(explorer):
    def broken(**_):
        raise ValueError("<script>")

    explorer.update = broken
    explorer.sliders["temperature"].value = 2.0
    assert "<script>" not in explorer.message.value


def test_le_notebook_garde_une_image_a_cote_de_la_vue(explorer):
    bundle = explorer._repr_mimebundle_()
    assert base64.b64decode(bundle["image/png"]) == explorer.image.value
    view = bundle["application/vnd.jupyter.widget-view+json"]
    assert view["model_id"] == explorer.box.model_id


def test_l_image_tient_dans_la_page_et_l_etiquette_n_est_pas_coupee(explorer):
    assert pixels(explorer).shape[1] <= 1000
    assert explorer.image.layout.max_width == "100%"
    assert all(s.style.description_width == "initial" for s in explorer.sliders.values())


def test_la_valeur_s_ecrit_avec_une_virgule():
    assert slider("T", [0.5, 1.0], 0.5).options[0] == ("0,5", 0.5)


def test_le_curseur_de_biais_montre_le_rappel_du_biais_choisi(bias_explorer):
    before = pixels(bias_explorer)
    bias_explorer.sliders["bias"].value = 4.0
    assert not np.array_equal(before, pixels(bias_explorer))
    heights = [patch.get_height() for patch in bias_explorer.figure.get_axes()[0].patches]
    logits = torch.randn(4, 50, 10, generator=torch.Generator().manual_seed(0))
    logits[..., 3] += 4
    threes = torch.arange(50) % 10 == 3
    expected = 100 * (logits[:, threes].argmax(-1) == 3).float().mean().item()
    assert heights == pytest.approx([expected], abs=1e-3)


def test_un_teacher_en_mode_train_est_vu_en_eval_et_garde_son_mode():
    teacher = MLP(dropout=0.5)
    first, second = (TemperatureExplorer(teacher, load_dataset().validation, count=3) for _ in range(2))
    assert np.array_equal(pixels(first), pixels(second))
    assert teacher.training


def test_une_image_en_couleur_se_montre_en_couleur():
    photos = Split(torch.rand(4, 3, 32, 32), torch.arange(4))
    widget = TemperatureExplorer(color_student(), photos, count=2)
    assert widget.figure.get_axes()[0].images[0].get_array().shape == (32, 32, 3)


def test_un_curseur_ecrit_assez_de_decimales_et_refuse_deux_valeurs_egales():
    assert [text for text, _ in slider("a", [0.85, 0.9, 0.95], 0.9).options] == ["0,85", "0,90", "0,95"]
    assert [text for text, _ in slider("T", [1, 2, 16], 2).options] == ["1", "2", "16"]
    with pytest.raises(ValueError, match="values : .* des valeurs toutes différentes"):
        slider("a", [0.5, 0.5], 0.5)


def test_un_png_rend_les_pixels_qu_il_a_recus():
    drawn = np.random.default_rng(0).integers(0, 256, (7, 5, 4), dtype=np.uint8)
    image = Image.open(io.BytesIO(encode_png(drawn)))
    image.load()
    assert image.format == "PNG" and image.mode == "RGB"
    assert np.array_equal(np.asarray(image), drawn[..., :3])


def test_un_mouvement_ne_redessine_pas_la_figure(explorer, monkeypatch):
    monkeypatch.setattr(explorer.figure, "draw", None)
    before = pixels(explorer)
    explorer.sliders["temperature"].value = 6.0
    assert explorer.message.value == "" and not np.array_equal(before, pixels(explorer))


def test_un_retour_au_premier_etat_rend_la_premiere_image(explorer):
    before, start = pixels(explorer), explorer.sliders["temperature"].value
    explorer.sliders["temperature"].value = 16.0
    explorer.sliders["temperature"].value = start
    assert np.array_equal(before, pixels(explorer))  # rien ne reste d'un dessin dans le fond


def test_le_lecteur_d_ecran_recoit_les_valeurs_et_ce_que_l_image_ecrit(explorer):
    assert "Température T : 1,0. Image (de la plus ambiguë à la plus sûre) : 1. étiquette : " in explorer.spoken.value
    explorer.sliders["temperature"].value = 2.0
    assert "Température T : 2,0. " in explorer.spoken.value and "T = 2,0   entropie : " in explorer.spoken.value


def test_un_nombre_sur_une_barre_dit_de_quoi_il_parle(bias_explorer):
    assert "rappel des 3 (%), T = 20 : " in bias_explorer.spoken.value


def test_les_curseurs_n_emploient_que_ce_qu_ipywidgets_7_7_1_connait(explorer):
    # Les clés que 7.7.1, la version de Colab, envoie à la page ; une autre y serait ignorée, ou refusée.
    control = "_options_labels continuous_update description disabled index layout orientation readout style"
    known = {
        "SelectionSlider": control, "Image": "format height layout value width", "HTML": "layout style value",
        "VBox": "_dom_classes box_style children layout", "Output": "layout msg_id outputs",
        "Layout": "align_self display flex flex_flow height margin max_width object_fit padding width",
    }  # fmt: skip
    for widget in [explorer.box, *explorer.box.children, *(child.layout for child in explorer.box.children)]:
        plain = type(widget)(options=[1]) if hasattr(widget, "options") else type(widget)()
        default, name = plain.get_state(), type(widget).__name__
        changed = {key for key, value in widget.get_state().items() if value != default[key]}
        assert changed <= set(known[name].split()), name


def test_la_figure_comparee_par_interact_est_celle_du_curseur(explorer):
    torch.manual_seed(0)
    teacher = MLP().eval()
    rebuilt = Rebuilt(lambda: TemperatureExplorer(teacher, load_dataset().validation, count=3))
    first, second = (rebuilt.figure(temperature=value, image_number=2.0) for value in (3.0, 8.0))
    explorer.sliders["temperature"].value, explorer.sliders["image_number"].value = 8.0, 2.0
    heights = [[bar.get_height() for bar in figure.axes[1].patches] for figure in (second, explorer.figure, first)]
    assert second is not first and heights[0] == pytest.approx(heights[1]) and heights[0] != heights[2]
    assert second.axes[1].get_title() == explorer.figure.axes[1].get_title()
