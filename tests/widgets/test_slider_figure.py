"""Les curseurs, sans navigateur : l'état, l'image, ce que la page et le notebook reçoivent, l'erreur en français."""

import base64
import gc
import gzip
import io
import json
import math
import re
import weakref
from types import SimpleNamespace
from xml.etree import ElementTree

import matplotlib
import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.patches import Circle, Rectangle, RegularPolygon
from PIL import Image

from benchmarks._stock import Rebuilt
from kdcourse import MLP, Split, color_student, load_dataset
from kdcourse.measures import bias_sweep, tune_bias
from kdcourse.training.progress import close_whole
from kdcourse.widgets import BiasExplorer, TemperatureExplorer, saved_state
from kdcourse.widgets.principles import temperature_state
from kdcourse.widgets.slider_figure import MAX_STATES, Slider, SliderFigure, choice, slider


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


def heat(values=(0.0, 1.0, 2.0), title="titre", sliders=None, break_at=None) -> SliderFigure:
    """Une image de 3 × 3 pixels et un texte, qu'un curseur déplace."""
    figure = Figure(figsize=(3, 3))
    ax = figure.subplots()
    image = ax.imshow(np.zeros((3, 3)), vmin=0, vmax=10)
    ax.set_title(title)
    text = ax.text(0, 0, "")

    def update(level: float, **_) -> None:
        if level == break_at:
            raise ZeroDivisionError("par zéro")
        image.set_data(np.arange(9.0).reshape(3, 3) + level)
        text.set_text(f"niveau {level:g}")

    return SliderFigure(figure, [image, text], update, sliders or {"level": slider("Niveau", values, values[0])})


def pictures(svg: str) -> list[np.ndarray]:
    encoded = re.findall(r'data:image/png;base64,([^"]+)', svg)
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(one))).convert("RGBA")) for one in encoded]


def test_l_etat_est_le_softmax_a_temperature_et_son_entropie_en_nats():
    logits = torch.tensor([2.0, 0.0, 0.0, 0.0])
    state = temperature_state(logits, 2.0)
    weights = [2.718281828, 1.0, 1.0, 1.0]
    expected = torch.tensor(weights) / sum(weights)
    torch.testing.assert_close(state.probabilities, expected)
    assert state.entropy == pytest.approx(-(expected * expected.log()).sum().item(), abs=1e-5)


def test_l_entropie_tend_vers_l_uniforme_et_vers_zero():
    logits = torch.tensor([5.0, 1.0, 0.0, -2.0])
    assert temperature_state(logits, 1e5).entropy == pytest.approx(math.log(4), abs=1e-4)
    assert temperature_state(logits, 1e-3).entropy == pytest.approx(0.0, abs=1e-6)


def test_une_temperature_nulle_est_refusee():
    with pytest.raises(ValueError, match="temperature : 0 reçu"):
        temperature_state(torch.zeros(3), 0)


def test_bouger_le_curseur_change_l_image_et_la_figure_suit(explorer):
    before = explorer.svg()
    explorer.temperature = 20.0
    assert explorer.svg() != before and "T = 20,0" in explorer.svg()
    assert "T = 20,0" in explorer.figure.axes[1].get_title()


def test_un_retour_au_premier_etat_rend_la_premiere_image(explorer):
    before = explorer.svg()
    for explorer.temperature in (0.5, 20.0, 1.0):
        pass
    assert explorer.svg() == before


def test_chaque_etat_est_celui_de_ses_valeurs(explorer):
    for number in explorer.sliders["image_number"].values:
        for temperature in (0.5, 4.0, 32.0):
            explorer.image_number, explorer.temperature = number, temperature
            words = explorer.played["words"][explorer.state()]
            assert words.endswith(explorer.figure.axes[1].get_title())
            assert explorer.figure.axes[1].get_title() in explorer.svg()


def test_une_valeur_hors_du_curseur_est_refusee_en_francais(explorer):
    for wrong in (0, 1.25, "froid", None, float("nan"), [1.0]):
        with pytest.raises(ValueError, match="temperature : .* reçu, une valeur du curseur attendue : 0,5, 1,0"):
            explorer.temperature = wrong
    assert explorer.temperature == 1.0


def test_deux_valeurs_egales_ou_un_depart_inconnu_sont_refuses():
    with pytest.raises(ValueError, match=r"values : \[0.5, 0.5\] reçu, des valeurs toutes différentes"):
        slider("a", [0.5, 0.5], 0.5)
    with pytest.raises(ValueError, match=r"texts : .* reçu, des valeurs toutes différentes"):
        slider("a", [0.5, 0.5001], 0.5, digits=1)  # la main ne les distinguerait pas
    with pytest.raises(ValueError, match=r"values : \[\] reçu"):
        slider("a", [], 0.5)
    with pytest.raises(ValueError, match="start : 3.0 reçu, une valeur du curseur attendue : 1, 2"):
        slider("a", [1, 2], 3)
    with pytest.raises(ValueError, match="'seul', 'seul'"):
        choice("Méthode", ["seul", "seul"])


def test_la_valeur_s_ecrit_avec_une_virgule_et_assez_de_decimales():
    assert slider("T", [0.5, 1.0], 0.5).texts == ("0,5", "1,0")
    assert slider("a", [0.85, 0.9, 0.95], 0.9).texts == ("0,85", "0,90", "0,95")
    assert slider("T", [1, 2, 16], 2).texts == ("1", "2", "16")


def test_un_etat_qui_ne_se_dessine_pas_est_dit_quand_la_cellule_s_execute():
    with pytest.raises(
        ValueError, match=r"SliderFigure : l'état level = 1 ne se dessine pas \(ZeroDivisionError : par"
    ):
        heat(break_at=1.0)


def test_trop_d_etats_sont_refuses_avant_d_etre_dessines():
    sliders = {"level": slider("Niveau", range(50), 0), "other": slider("Autre", range(41), 0)}
    with pytest.raises(ValueError, match=r"2\s050 états \(50 × 41\), 2\s000 au plus attendus"):
        heat(sliders=sliders)
    assert MAX_STATES == 2_000


def test_un_nom_qui_vient_des_donnees_reste_un_texte():
    attack = "<script>alert(1)</script> & </svg>"
    widget = heat(title=attack, sliders={"level": slider(attack, [0, 1], 0)})
    page = widget.to_html(title=attack)
    assert "&lt;script&gt;alert(1)" in widget.svg() and "<script>" not in widget.svg()
    assert page.count("<script") == 2 and page.count("</script>") == 2  # les données et le lecteur
    assert "<title>&lt;script&gt;" in page and "<h1>&lt;script&gt;" in page
    content = page.split('<script type="application/json">')[1].split("</script>")[0]
    assert json.loads(content)["played"]["sliders"][0]["label"] == attack


def test_la_page_exportee_porte_tout_et_montre_les_valeurs_choisies(explorer):
    explorer.temperature = 8.0
    page = explorer.to_html("La température")
    assert "<title>La température</title>" in page and "export function play" in page
    assert not re.search(r'(src|href)="(?!#|data:)', page) and "@import" not in page
    content = json.loads(page.split('<script type="application/json">')[1].split("</script>")[0])
    assert content["positions"] == [explorer.sliders["temperature"].values.index(8.0), 0]


def test_un_morceau_identique_n_est_garde_qu_une_fois(explorer):
    pieces, frames = explorer.played["pieces"], explorer.played["frames"]
    assert len(set(pieces)) == len(pieces)
    used = {piece for frame in frames for piece in frame}
    assert used == set(range(len(pieces))) and len(pieces) < sum(map(len, frames)) / 2
    assert sum("<image" in piece for piece in pieces) == 3  # trois images pour 99 états


def test_les_coordonnees_sont_arrondies_au_dixieme(bias_explorer):
    found = re.findall(r' d="([^"]*)"', bias_explorer.svg())
    assert found and all(len(number) <= 2 for path in found for number in re.findall(r"\.(\d+)", path))


def test_une_image_entre_a_sa_propre_resolution_sans_perdre_une_couleur():
    widget = heat()
    (picture,) = pictures(widget.svg())
    expected = widget.figure.axes[0].images[0].to_rgba(np.arange(9.0).reshape(3, 3), bytes=True)
    assert picture.shape == (3, 3, 4) and np.array_equal(picture, expected)
    photo = Split(torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(2))
    torch.manual_seed(0)
    shown_photo = pictures(TemperatureExplorer(color_student(), photo, count=1).svg())[0]
    chosen = np.abs(shown_photo[None, ..., :3] / 255 - photo.images.permute(0, 2, 3, 1).numpy()).max((1, 2, 3))
    assert shown_photo.shape == (32, 32, 4) and chosen.min() < 1 / 255  # plus de 256 couleurs : aucune palette


def test_un_artiste_invisible_ne_laisse_rien():
    figure = Figure()
    (line,) = figure.subplots().plot([0, 1], [0, 1])
    widget = SliderFigure(figure, [line], lambda seen: line.set_visible(bool(seen)), {"seen": slider("Vu", [0, 1], 0)})
    hidden, seen = (widget.played["pieces"][frame[0]] for frame in widget.played["frames"])
    assert hidden == "" and "<path" in seen


def test_chaque_artiste_de_matplotlib_convient():
    figure = Figure()
    ax = figure.subplots()
    artists = [
        ax.plot([0, 1], [0, 1], "o-")[0], ax.scatter([0], [1]), ax.fill_between([0, 1], [0, 1]), ax.text(0, 0, "é < à"),
        *ax.bar([0, 1], [1, 2], hatch="//"), ax.pcolormesh(np.eye(3)), ax.quiver([0], [0], [1], [1]),
        ax.annotate("là", (0, 0), (1, 1), arrowprops={"arrowstyle": "->"}),
    ]  # fmt: skip
    widget = SliderFigure(
        figure, artists, lambda size: artists[1].set_sizes([size]), {"size": slider("Taille", [4, 40], 4)}
    )
    svg = widget.svg()
    assert "é &lt; à" in svg and "clip-path" in svg
    for name in re.findall(r'(?:url\(#|href="#)([^)"]+)', svg):  # chaque renvoi mène quelque part
        assert f'id="{name}"' in svg, name
    changed = [a != b for a, b in zip(*widget.played["frames"], strict=True)]
    assert changed == [rank == 1 for rank in range(len(artists))]


def test_deux_figures_d_une_page_n_ont_aucun_nom_en_commun():
    first, second = (set(re.findall(r' id="([^"]+)"', heat().svg())) for _ in range(2))
    assert first and second and not first & second


def test_la_figure_garde_sa_resolution_et_matplotlib_ses_reglages():
    before = matplotlib.rcParams["svg.fonttype"]
    with pytest.raises(ValueError):
        heat(break_at=0.0)
    assert heat().figure.dpi == Figure().dpi and matplotlib.rcParams["svg.fonttype"] == before


def test_le_lecteur_d_ecran_recoit_ce_que_l_image_ecrit(explorer, bias_explorer):
    explorer.temperature = 2.0
    words = explorer.played["words"][explorer.state()]
    assert words.startswith("étiquette : ") and "T = 2,0" in words and "entropie : " in words
    assert "rappel des 3 (%), T = 20 : " in bias_explorer.played["words"][0]  # un nombre dit de quoi il parle


def test_le_notebook_garde_une_image_a_cote_de_la_vue(explorer):
    data, metadata = explorer._repr_mimebundle_()
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"])))
    assert picture.size == (900, 310)
    assert metadata == {"image/png": {"alt": explorer.played["words"][explorer.state()]}}
    assert data["application/vnd.jupyter.widget-view+json"]["model_id"] == explorer.model_id
    assert data["text/plain"] == "TemperatureExplorer : exécutez la cellule pour déplacer les curseurs."


def test_ipywidgets_7_ne_passe_pas_a_cote_de_l_image(explorer):
    assert explorer._ipython_display_ is None  # celle d'ipywidgets 7.7.1, sur Colab, ne montrerait que la vue


def test_ce_que_le_notebook_enregistre_est_petit(explorer):
    state = json.dumps(explorer.get_state())
    assert len(gzip.compress(state.encode())) < 100_000 and set(explorer.sliders) < set(explorer.get_state())


def test_une_cellule_executee_de_nouveau_ferme_ses_curseurs_d_avant(monkeypatch):
    shell = SimpleNamespace(execution_count=1, get_parent=lambda: {"metadata": {"cellId": "a"}})
    monkeypatch.setattr(saved_state, "get_ipython", lambda: shell)
    monkeypatch.setattr(saved_state, "_held", {})
    first, second = heat(), heat()  # une cellule peut en montrer deux
    assert first.comm is not None and second.comm is not None
    layout = first.layout
    shell.execution_count = 2
    third = heat()
    assert first.comm is None and second.comm is None and layout.comm is None and third.comm is not None
    shell.get_parent = lambda: {"metadata": {"cellId": "b"}}
    shell.execution_count = 3
    heat()
    assert third.comm is not None  # une autre cellule ne ferme rien
    shell.get_parent = lambda: {}
    heat()  # une page qui ne nomme pas ses cellules


def test_un_curseur_qu_une_autre_cellule_montre_n_est_pas_ferme(monkeypatch):
    shell = SimpleNamespace(execution_count=1, get_parent=lambda: {"metadata": {"cellId": "fait"}})
    monkeypatch.setattr(saved_state, "get_ipython", lambda: shell)
    monkeypatch.setattr(saved_state, "_held", {})
    first = heat()
    shell.execution_count, shell.get_parent = 2, lambda: {"metadata": {"cellId": "montre"}}
    first._repr_mimebundle_()
    shell.execution_count, shell.get_parent = 3, lambda: {"metadata": {"cellId": "fait"}}
    second = heat()
    assert first.comm is not None  # la cellule qui le montre le tient encore
    shell.execution_count, shell.get_parent = 4, lambda: {"metadata": {"cellId": "montre"}}
    second._repr_mimebundle_()
    assert first.comm is None and second.comm is not None


def test_un_curseur_ferme_ne_reste_pas_en_memoire():
    widget = heat()
    kept = weakref.ref(widget)
    close_whole(widget)
    del widget
    gc.collect()
    assert kept() is None


def texts_of(svg: str) -> list[str]:
    root = ElementTree.fromstring(svg)
    return sorted("".join(text.itertext()) for text in root.iter("{http://www.w3.org/2000/svg}text"))


def drawn_texts(figure) -> list[str]:
    target = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none"}):
        figure.savefig(target, format="svg")
    return texts_of(target.getvalue())


HOSTILE = [
    "titre sur\ndeux lignes", 'chat;" onfocus="alert(1)" x="', "a font-family: 'DejaVu Sans', bold;b",
    "translate(1.2345, 2)", 'f(a, x="0.12345")', "data:image/png;base64,AAAA", "<!-- rien -->", "]]> & < >",
    'transform="rotate(-0 1 2)"',
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("rotation", [0, 45])
def test_un_texte_reste_ce_qu_il_est_tourne_mobile_ou_sur_deux_lignes(text, rotation):
    figure = Figure()
    ax = figure.subplots()
    ax.set_xticks([0, 1], [text, "b"], rotation=rotation)
    ax.set_title(text)
    moving = ax.text(0.5, 0.5, "", rotation=rotation)
    widget = SliderFigure(
        figure, [moving], lambda k: moving.set_text(text if k else "autre"), {"k": slider("k", [0, 1], 1)}
    )
    assert texts_of(widget.svg()) == drawn_texts(figure)
    attributes = {name for element in ElementTree.fromstring(widget.svg()).iter() for name in element.attrib}
    assert not {name for name in attributes if name.startswith("on")}


def test_deux_formes_de_coupe_ne_se_confondent_pas():
    figure = Figure()
    ax = figure.subplots()
    image = ax.imshow([[0, 1], [1, 0]], extent=(0, 1, 0, 1))
    shapes = [
        Circle((0.5, 0.5), 0.4),
        RegularPolygon((0.5, 0.5), 3, radius=0.4),
        Rectangle((0.1, 0.4), 0.8, 0.2, angle=20),
    ]
    for shape in shapes:
        shape.set_transform(ax.transData)
    widget = SliderFigure(
        figure, [image], lambda k: image.set_clip_path(shapes[int(k)]), {"k": slider("k", [0, 1, 2], 0)}
    )
    bodies = []
    for widget.k in (0, 1, 2):
        (name,) = re.findall(r"url\(#([^)]+)", widget.played["pieces"][widget.played["frames"][widget.state()][0]])
        bodies.append(re.search(rf'<clipPath id="{name}">(.*?)</clipPath>', widget.svg())[1])
    assert len(set(bodies)) == 3 and bodies[0].count("C ") > 4  # un cercle a des courbes


def test_les_reglages_de_savefig_ne_deplacent_rien():
    expected = heat()
    with matplotlib.rc_context({"savefig.bbox": "tight", "savefig.pad_inches": 1, "svg.image_inline": False}):
        found = heat()
    assert Image.open(io.BytesIO(found._png)).size == (300, 300) and "data:image/png" in found.svg()
    first, second = (re.findall(r' d="([^"]*)"', widget.played["background"]) for widget in (expected, found))
    assert first and first == second


@pytest.mark.parametrize(
    ("make", "error", "said"),
    [
        (lambda: slider("x", [float("nan"), 1], 1), ValueError, "values : .* des nombres finis attendus"),
        (lambda: slider("x", [1, float("inf")], 1), ValueError, "values : .* des nombres finis attendus"),
        (lambda: slider("x", ["a", "b"], "a"), TypeError, "values : .* des nombres attendus"),
        (lambda: Slider("x", (1, 2, 3), ("a", "b"), 3), ValueError, "texts : 2 textes reçus, 3 attendus"),
        (lambda: heat(sliders={"state": slider("x", [1, 2], 1)}), ValueError, "sliders : state reçu, un nom"),
        (lambda: heat(sliders={"figure": slider("x", [1, 2], 1)}), ValueError, "sliders : figure reçu"),
        (lambda: heat(sliders={"deux mots": slider("x", [1, 2], 1)}), ValueError, "sliders : deux mots reçu"),
        (lambda: SliderFigure(Figure(), [], print, {}), TypeError, "sliders : {} reçu, un dictionnaire"),
        (lambda: SliderFigure(Figure(), [None], print, {"k": slider("k", [1], 1)}), TypeError, "artists : une liste"),
        (
            lambda: SliderFigure(Figure(), [Figure().subplots().text(0, 0, "")], print, {"k": slider("k", [1], 1)}),
            ValueError, "artists : des artistes de cette figure",
        ),
    ],
)  # fmt: skip
def test_un_mauvais_argument_est_refuse_en_francais(make, error, said):
    with pytest.raises(error, match=said):
        make()


def test_les_nombres_de_numpy_et_de_torch_sont_des_nombres(explorer):
    for value in (np.float32(2.0), torch.tensor(2.0), np.int64(2), 2):
        explorer.temperature = value
        assert explorer.temperature == 2.0
    for wrong in (np.array([1.0, 2.0]), torch.ones(2)):
        with pytest.raises(ValueError, match="temperature : .* une valeur du curseur attendue"):
            explorer.temperature = wrong
    tenths = heat(sliders={"level": slider("Niveau", np.arange(3, dtype=np.float32) / 10, 0)})
    tenths.level = torch.tensor(0.1).item()  # 0,10000000149
    assert tenths.level == pytest.approx(0.1) and json.dumps(tenths.played)


def test_un_texte_cache_ne_se_lit_pas():
    figure = Figure()
    text = figure.subplots().text(0, 0, "secret")
    widget = SliderFigure(figure, [text], lambda k: text.set_visible(k == 1), {"k": slider("k", [0, 1], 0)})
    assert widget.played["words"] == ["", "secret"]


def test_le_curseur_de_biais_montre_le_rappel_du_biais_choisi(bias_explorer):
    before = bias_explorer.svg()
    bias_explorer.bias = 4.0
    assert bias_explorer.svg() != before
    heights = [patch.get_height() for patch in bias_explorer.figure.get_axes()[0].patches]
    logits = torch.randn(4, 50, 10, generator=torch.Generator().manual_seed(0))
    logits[..., 3] += 4
    threes = torch.arange(50) % 10 == 3
    expected = 100 * (logits[:, threes].argmax(-1) == 3).float().mean().item()
    assert heights == pytest.approx([expected], abs=1e-3)


def test_un_teacher_en_mode_train_est_vu_en_eval_et_garde_son_mode():
    teacher = MLP(dropout=0.5)
    first, second = (TemperatureExplorer(teacher, load_dataset().validation, count=3) for _ in range(2))
    assert first.played["words"] == second.played["words"]
    assert teacher.training


def test_une_image_en_couleur_se_montre_en_couleur():
    photos = Split(torch.rand(4, 3, 32, 32), torch.arange(4))
    widget = TemperatureExplorer(color_student(), photos, count=2)
    assert widget.figure.get_axes()[0].images[0].get_array().shape == (32, 32, 3)


def test_la_figure_comparee_par_interact_est_celle_du_curseur(explorer):
    torch.manual_seed(0)
    teacher = MLP().eval()
    rebuilt = Rebuilt(lambda: TemperatureExplorer(teacher, load_dataset().validation, count=3))
    first, second = (rebuilt.figure(temperature=value, image_number=2.0) for value in (3.0, 8.0))
    explorer.temperature, explorer.image_number = 8.0, 2.0
    heights = [[bar.get_height() for bar in figure.axes[1].patches] for figure in (second, explorer.figure, first)]
    assert second is not first and heights[0] == pytest.approx(heights[1]) and heights[0] != heights[2]
    assert second.axes[1].get_title() == explorer.figure.axes[1].get_title()
