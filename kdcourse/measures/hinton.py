"""Le tableau de Hinton et al. (2015) sur MNIST, tel que 10.2 le montre : l'article, et ce que le cours a mesuré."""

from statistics import fmean

from kdcourse.formats import french, thousands
from kdcourse.measures.intervals import Interval, markdown_table, mean_interval
from kdcourse.measures.stored import day, stored


def hinton_table() -> str:
    """Les erreurs de l'article à côté des nôtres, en Markdown ; le gain apparié ; d'où viennent les chiffres, plié.

    Les nôtres ont été mesurées par ``python -m benchmarks hinton``, qui les range dans le paquet : elles sont relues,
    pas refaites. Une moyenne porte son intervalle à 95 % sur les graines ; il ignore l'échantillonnage du test.

    Source : Hinton, Vinyals, Dean (2015), section 3, arXiv:1503.02531.
    """
    result = stored("hinton")
    runs, sizes, origin = result["runs"], result["sizes"], result["provenance"]
    rows = []
    for name, paper in result["paper"].items():
        errors, threes = ([run[name][key] for run in runs] for key in ("errors", "errors_on_threes"))
        ours = mean_interval([100 * count / sizes["test"] for count in errors])
        missed = ["", ""]
        if paper["errors_on_threes"] is not None:
            rates = paper["errors_on_threes"] / 1010, fmean(threes) / result["test_threes"]
            missed = [french(100 * rate) for rate in rates]
        rows.append((paper["label"], french(paper["errors"] / 100, 2), ours.text(2), *missed))
    threes = "chiffres 3 manqués"
    header = ("Erreur de test", "article (%)", "ici (%)", f"{threes}, article (%)", f"{threes}, ici (%)")
    gain, first = Interval(**result["gain"]), Interval(**result["first_run"]["gain"])
    choice = result["choice"]
    return "\n\n".join([
        markdown_table(header, rows),
        f"Ici, distiller gagne **{gain.text(2)} point** (apparié, intervalle à 95 % sur {len(runs)} graines).",
        f"C'est le second essai. Le premier se réglait sur {result['first_run']['tuning_seed_count']} graines, et "
        f"donnait un gain de {first.text(2)} point. Nous sommes passés à {len(result['tuning_seeds'])} graines de "
        "réglage après l'avoir vu.",
        "<details><summary>D'où viennent nos nombres</summary>",
        f"Partage des images de test de MNIST : {thousands(sizes['train'])} d'apprentissage, "
        f"{thousands(sizes['validation'])} de validation, {thousands(sizes['test'])} de test. La validation a choisi "
        f"le taux d'apprentissage ({french(choice['learning_rate'], 3)}) et alpha ({french(choice['alpha'])}), sur "
        f"d'autres graines. Mesuré le {day(result)} : {origin['processor']}, torch {origin['torch']}.",
        "</details>",
    ])  # fmt: skip
