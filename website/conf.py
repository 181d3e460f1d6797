"""Le site du cours, pour Sphinx : rien n'y est demandé au réseau, et aucune page n'a besoin d'un noyau."""

import unicodedata

from docutils import nodes
from site_markup import mathml
from sphinx.search.fr import SearchFrench

project, author, language = "kdcourse", "les auteurs de kdcourse", "fr"
html_title = "kdcourse, la distillation mesurée sous vos yeux"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]
exclude_patterns = ["apercu.html"]
nb_execution_mode = "off"  # tools/build_site.py a exécuté les chapitres
nb_render_markdown_format = "myst"
nb_code_prompt_show, nb_code_prompt_hide = "Voir le code", "Cacher le code"
myst_enable_extensions = ["dollarmath", "amsmath"]
myst_heading_anchors = 3
suppress_warnings = ["myst.header", "misc.highlighting_failure"]
autodoc_member_order = "bysource"
smartquotes_action = "D"  # les tirets seulement : les guillemets et apostrophes sont déjà faits
autodoc_inherit_docstrings = False  # celles de torch sont en anglais
autodoc_typehints = "none"  # la signature les écrit en anglais ; la docstring dit formes et unités
napoleon_google_docstring, napoleon_numpy_docstring = True, False
html_theme = "pydata_sphinx_theme"
html_context = {"default_mode": "auto"}
html_static_path = ["_static"]
html_css_files, html_js_files = ["player.css", "site.css"], [("player.js", {"defer": "defer"}), "site.js"]
html_use_index = False  # la recherche et les façades y mènent
html_show_sourcelink = html_show_sphinx = html_copy_source = False
html_show_search_summary = False  # il irait lire les pages, ce que file:// refuse
html_math_renderer = "mathml"
html_theme_options = {
    "logo": {"text": "kdcourse"},
    "header_links_before_dropdown": 0,
    "header_dropdown_text": "Le cours",
    "show_prev_next": True,
    "secondary_sidebar_items": ["page-toc"],
    "navbar_end": ["theme-switcher"],
    "footer_start": ["copyright"],
    "footer_end": [],
    "navigation_with_keys": False,
    "search_bar_text": "Chercher dans le cours…",
}
# La barre du haut les a toutes ; la référence garde à gauche ses quatre pages.
html_sidebars = {"10_*": [], "index": [], "installer": [], "enseigner": [], "mesures": []}


def _inline(translator, node: nodes.Node) -> None:
    translator.body.append(mathml(node.astext()))
    raise nodes.SkipNode


def _block(translator, node: nodes.Node) -> None:
    translator.body.append(f'<div class="math" tabindex="0">{mathml(node.astext(), display="block")}</div>')
    raise nodes.SkipNode


def _skip(app, what, name, obj, skip, options) -> bool | None:
    """Un champ de NamedTuple que rien ne décrit : Python y met une phrase anglaise."""
    return True if str(getattr(obj, "__doc__", "")).startswith("Alias for field number") else None


class _French(SearchFrench):
    """Sans accents, pour le clavier d'un téléphone : « temperature » trouve « températures »."""

    def stem(self, word: str) -> str:
        letters = unicodedata.normalize("NFD", super().stem(word))
        return "".join(letter for letter in letters if not unicodedata.combining(letter))


def setup(app):
    app.add_search_language(_French)
    app.connect("autodoc-skip-member", _skip)
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
