"""Ce que partagent les tests d'entraînement : de petites données, de petits modèles, et la boucle d'Adam réécrite."""

import copy

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Recorder(nn.Module):
    """Une couche linéaire qui note ses lots, et ses modes au moment du calcul."""

    def __init__(self):
        super().__init__()
        self.linear, self.dropout, self.calls = nn.Linear(4, 3), nn.Dropout(0.5), []

    def forward(self, images):
        self.calls.append((images.detach().clone(), self.training, torch.is_grad_enabled()))
        return self.linear(self.dropout(images))


def data(size=10):
    return torch.randn(size, 4), torch.randint(0, 3, (size,))


def loader(images, labels, *, indexed=False, batch_size=4, shuffle=True, **options):
    parts = (images, labels, torch.arange(len(labels))) if indexed else (images, labels)
    generator = torch.Generator().manual_seed(3)
    return DataLoader(TensorDataset(*parts), batch_size, shuffle=shuffle, generator=generator, **options)


def linear():
    return nn.Linear(4, 3)


def manual_epochs(model, batches_of_epoch, loss_of_batch, epochs, learning_rate=1e-3):
    """La boucle d'Adam réécrite, époque par époque : rend les pertes moyennes et les poids après chacune."""
    optimizer = torch.optim.Adam(model.parameters(), lr=learning_rate)
    history, weights = [], []
    for epoch in range(epochs):
        losses = []
        for parts in batches_of_epoch[epoch]:
            loss = loss_of_batch(epoch, *parts)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses += [loss.item()] * len(parts[1])
        history.append(sum(losses) / len(losses))
        weights.append(copy.deepcopy(model.state_dict()))
    return history, weights
