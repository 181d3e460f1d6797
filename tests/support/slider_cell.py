"""La plus petite cellule qui affiche un curseur."""

SLIDER_CELL = """import torch
from kdcourse import MLP, load_dataset
from kdcourse.widgets import TemperatureExplorer
part = load_dataset('digits').validation.where(slice(0, 3))
TemperatureExplorer(MLP().eval(), part)"""
