"""Entraîner : la boucle nue (``loop``), beaucoup de students à la fois (``many``, qui les range dans ``students``), un
seul et gros (``large``), soi-même (``self_distillation``).

``checks`` dit ce que tous refusent ; ``run_state``, ``checkpoints`` et ``processes`` servent ``large``.
"""
