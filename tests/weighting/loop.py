"""A training loop that drives a weighting, on the digits of scikit-learn: the class, and four attributes of it."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from sklearn.datasets import load_digits
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from auxilearn.weighting import Step, Weighting
from support import DEVICE, DTYPE, generator, normal


class Net(nn.Module):
    """A trunk with two layers, a head for the class, and one for each attribute."""

    def __init__(self, attributes: int) -> None:
        super().__init__()
        self.trunk = nn.Sequential(nn.Linear(64, 16), nn.Tanh(), nn.Linear(16, 12), nn.Tanh())
        self.heads = nn.ModuleList([nn.Linear(12, 10), *(nn.Linear(12, 1) for _ in range(attributes))])

    def forward(self, x: Tensor) -> list[Tensor]:
        features = self.trunk(x)
        return [head(features) for head in self.heads]


class Task:
    """The losses of a batch: the class, parity, at least five, a coin flip, and a badly scaled regression."""

    def __init__(self, losses: int = 5) -> None:
        images, classes = load_digits(return_X_y=True)
        self.x = torch.as_tensor(images / 16.0).to(DEVICE, DTYPE)
        self.y = torch.as_tensor(classes).to(DEVICE)
        noise = normal(len(classes), 2, seed=7)
        targets = [self.y % 2, self.y >= 5, noise[:, 0] > 0, 5 * noise[:, 1]]
        self.targets = torch.stack([t.to(DTYPE) for t in targets], 1)[:, : losses - 1]
        torch.manual_seed(0)
        self.net = Net(losses - 1).to(DEVICE, DTYPE)
        self.rows = torch.stack([torch.randperm(len(classes), generator=generator(i))[:64] for i in range(200)])

    def losses(self, rows: Tensor) -> Tensor:
        main, *others = self.net(self.x[rows])
        found = [F.cross_entropy(main, self.y[rows])]
        for k, z in enumerate(others):
            target = self.targets[rows, k]
            error = (z[:, 0] - target).square() if k == 3 else F.binary_cross_entropy_with_logits(z[:, 0], target)
            found.append(error.mean() if k == 3 else error)
        return torch.stack(found)

    def step(self, number: int = 0, *, learning_rate: float = 0.05, outer: bool = True) -> Step:
        other = self.rows[(number + 100) % 200]
        return Step(
            self.losses(self.rows[number]),
            tuple(self.net.parameters()),
            number=number,
            main=0,
            learning_rate=learning_rate,
            outer=(lambda: self.losses(other)[0]) if outer else None,
        )


class Run(NamedTuple):
    """What a training run showed: the weights of each step, (T, K), and its losses before the step."""

    weights: Tensor
    losses: Tensor


def train(
    weighting: Weighting,
    task: Task,
    *,
    start: int = 0,
    stop: int = 40,
    learning_rate: float = 0.05,
    watch: Callable[[int], None] | None = None,
) -> Run:
    """Train by plain gradient descent; the weighting has been prepared."""
    params = tuple(task.net.parameters())
    weights, losses = [], []
    for number in range(start, stop):
        step = task.step(number, learning_rate=learning_rate)
        w = weighting.weights(step)
        total = (w * step.losses).sum()
        gradients = torch.autograd.grad(total, params, allow_unused=True)
        with torch.no_grad():
            for p, g in zip(params, gradients, strict=True):
                if g is not None:
                    p -= learning_rate * g
        rows = task.rows[number]
        weighting.after(step, lambda rows=rows: task.losses(rows))
        weights.append(w)
        losses.append(step.losses.detach())
        if watch is not None:
            watch(number)
    return Run(torch.stack(weights), torch.stack(losses))
