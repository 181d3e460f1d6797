"""Joué dans le noyau avant un chapitre : note de combien de graines vient chaque intervalle qu'il calcule."""

from functools import wraps

from kdcourse.measures import intervals

_seeds: list[int] = []


def _counted(mean_interval):
    @wraps(mean_interval)
    def counted(values):
        _seeds.append(len(values))
        return mean_interval(values)

    return counted


# Avant que le chapitre n'importe rien : les modules qui suivront prendront cette version.
intervals.mean_interval = _counted(intervals.mean_interval)
