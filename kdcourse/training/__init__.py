"""Entraîner : la boucle nue (``loop``), beaucoup de students à la fois (``many_students``, rangés par ``students``), un
seul et gros (``large_student``), soi-même (``self_distillation``) ; devant un teacher figé (``frozen_teacher``).

``checks`` dit ce que tous refusent ; ``resume``, ``checkpoints`` et ``processes`` servent ``large_student``.
"""
