"""Networks of every kind that a fleet may meet."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from training.tiny import net

M = 3


class Reused(nn.Module):
    """A network with attention, a layer under two names, a tied weight, and frozen weights."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.twice, self.last = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 5)
        self.twice_again = self.twice
        self.tied = nn.Linear(8, 8)
        self.tied.weight = self.twice.weight
        self.first.bias.requires_grad_(False)
        self.register_buffer("shift", torch.ones(8), persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        h = self.tied(self.twice_again(torch.tanh(self.twice(self.first(x))))) + self.shift
        queries = h.view(-1, 2, 4)[None]
        return self.last(F.scaled_dot_product_attention(queries, queries, queries)[0].reshape(-1, 8))


class Deep(nn.Module):
    """A convolution, a group norm and a batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(1, 4, 2), nn.BatchNorm2d(4), nn.GELU(), nn.GroupNorm(2, 4))
        self.head = nn.Linear(4, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x.view(-1, 1, 2, 2)).flatten(1))


MODELS: dict[str, Any] = {
    "plain": lambda: net(),
    "batch norm": lambda: net(nn.BatchNorm1d(6), nn.Tanh()),
    "layer norm": lambda: net(nn.LayerNorm(6), nn.SiLU()),
    "attention": lambda: Reused().double(),
    "convolutions": lambda: Deep().double(),
}
