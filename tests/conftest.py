"""Commun à tous les tests."""

import torch

# Les tenseurs des tests sont minuscules : sur une machine occupée, deux fils qui s'attendent y coûtent cent fois plus
# qu'un seul, et un seul rend aussi les sommes reproductibles.
torch.set_num_threads(1)
