"""Mult-VAE as one would write it after reading the paper: dense rows, `torch.optim.Adam`."""

from collections.abc import Callable

import numpy as np
import torch
from scipy.sparse import csr_array
from torch import Tensor, nn

from recae.training.device import autocast

HIDDEN, LATENT, DROPOUT, BETA = 600, 200, 0.5, 0.2
CPU = torch.device("cpu")


class Textbook(nn.Module):
    """Mult-VAE on dense rows, as in most of the code one finds."""

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.encoder = nn.Linear(n_items, HIDDEN)
        self.code = nn.Linear(HIDDEN, 2 * LATENT)
        self.decoder = nn.Linear(LATENT, HIDDEN)
        self.output = nn.Linear(HIDDEN, n_items)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        h = nn.functional.dropout(nn.functional.normalize(x), DROPOUT, self.training)
        h = torch.tanh(self.encoder(h))
        mu, log_var = self.code(h).chunk(2, dim=1)
        z = mu + torch.randn_like(mu) * torch.exp(0.5 * log_var)
        return self.output(torch.tanh(self.decoder(z))), mu, log_var


def textbook(rows: csr_array, precision: str) -> Callable[[np.ndarray, int], None]:
    """A function that does one step with the rows of some users; its second argument is ignored."""
    with torch.random.fork_rng():
        model = Textbook(rows.shape[1])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)

    def step(users: np.ndarray, _: int) -> None:
        x = torch.from_numpy(rows[users].toarray())
        with autocast(precision, CPU):
            logits, mu, log_var = model(x)
            nll = -(torch.log_softmax(logits, dim=1) * x).sum(dim=1).mean()
            kl = -0.5 * (1 + log_var - mu.square() - log_var.exp()).sum(dim=1).mean()
            loss = nll + BETA * kl
        assert torch.isfinite(loss).item()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()

    return step
