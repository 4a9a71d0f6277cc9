"""Classifiers that differ in the weights of their samples and in their decay, trained as one stack."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import CosineAnnealingLR


@final
class StackedClassifier(nn.Module):
    """M multilayer perceptrons of one architecture, all from the same initial weights.

    Args:
        sizes: The widths of all layers, inputs and classes included; two make a linear model.
        models: M.
        seed: The seed of the initial weights; the global random state is not touched.

    Example:
        >>> tuple(StackedClassifier((64, 16, 10), models=3, seed=0)(torch.zeros(5, 64)).shape)
        (3, 5, 10)
    """

    def __init__(self, sizes: Sequence[int], *, models: int, seed: int) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.matrices, self.biases = nn.ParameterList(), nn.ParameterList()
        for layer, (below, above) in enumerate(pairwise(sizes)):
            # Small outputs at the start.
            size = math.sqrt(2 / below) if layer < len(sizes) - 2 else 0.1 / math.sqrt(below)
            matrix = size * torch.randn(below, above, generator=generator)
            self.matrices.append(nn.Parameter(matrix.repeat(models, 1, 1)))
            self.biases.append(nn.Parameter(torch.zeros(models, 1, above)))

    def forward(self, x: Tensor) -> Tensor:
        """Compute the logits.

        Args:
            x: Shape (B, inputs), the same for all models, or (M, B, inputs).

        Returns:
            Shape (M, B, classes).
        """
        h = x.expand(len(self.matrices[0]), -1, -1)
        for layer, (matrix, bias) in enumerate(zip(self.matrices, self.biases, strict=True)):
            h = torch.baddbmm(bias, functional.relu(h) if layer else h, matrix)
        return h

    def squares(self) -> Tensor:
        """Return the squared norm of each model's matrices.

        Returns:
            Shape (M,).
        """
        return torch.stack([m.square().sum((1, 2)) for m in self.matrices]).sum(0)


def cross_entropies(logits: Tensor, y: Tensor) -> Tensor:
    """Return the loss of each sample under each model.

    Args:
        logits: Shape (M, B, classes).
        y: Shape (B,), or (M, B).

    Returns:
        Shape (M, B).
    """
    return functional.cross_entropy(logits.transpose(1, 2), y.expand(logits.shape[:2]), reduction="none")


def fit(
    net: StackedClassifier,
    x: Tensor,
    y: Tensor,
    *,
    weights: Tensor,
    decay: Tensor,
    steps: int = 100,
    lr: float = 1e-2,
    every: Callable[[int], None] | None = None,
) -> StackedClassifier:
    r"""Train all models by full batches of Adam with an annealed learning rate.

    .. math:: \sum_i w_i\, \ell_i \Big/ \sum_i w_i + \tfrac{\lambda}{2} \lVert W \rVert^2

    Args:
        net: The models; trained in place.
        x: Shape (N, inputs).
        y: Shape (N,).
        weights: :math:`w`, shape (M, N); read at every step, so that ``every`` may change it.
        decay: :math:`\lambda`, shape (M,).
        steps: Steps of Adam.
        lr: The first learning rate.
        every: Called after each step with its number.

    Returns:
        The models.
    """
    optimizer = torch.optim.Adam(net.parameters(), lr=lr, fused=True)
    anneal = CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        total = objective(net, cross_entropies(net(x), y), weights.detach(), decay)
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        anneal.step()
        if every is not None:
            every(step)
    return net


def objective(net: StackedClassifier, losses: Tensor, weights: Tensor, decay: Tensor) -> Tensor:
    """Sum the objectives of all models, which share no parameters.

    Args:
        net: The models.
        losses: Shape (M, N).
        weights: Shape (M, N).
        decay: Shape (M,).

    Returns:
        A scalar.
    """
    means = (weights * losses).sum(1) / weights.detach().sum(1)
    return (means + decay / 2 * net.squares()).sum()


@torch.no_grad()
def accuracies(net: StackedClassifier, x: Tensor, y: Tensor) -> list[float]:
    """Return each model's accuracy in %.

    Args:
        net: The models.
        x: Shape (T, inputs).
        y: Shape (T,).

    Returns:
        M numbers.
    """
    return (100 * (net(x).argmax(-1) == y).double().mean(1)).tolist()
