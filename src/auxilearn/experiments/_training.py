"""One training loop for every method: all models of all seeds take the same batches under different weights."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor
from torch.optim.lr_scheduler import CosineAnnealingLR

from auxilearn.experiments._problem import Problem
from auxilearn.models import StackedConvNet


@final
@dataclass(frozen=True)
class Schedule:
    """The inner training; every step sees all main labels and a batch of the pool.

    Attributes:
        steps: Steps of Adam.
        batch: Pool images a step.
        lr: The learning rate.
        cosine: Whether the learning rate is annealed to zero.
    """

    steps: int = 300
    batch: int = 64
    lr: float = 2e-3
    cosine: bool = False


@final
@dataclass(frozen=True)
class Step:
    """What an outer update may look at: the graph of a step, before the weights move.

    Attributes:
        number: The number of the step.
        params: The networks' weights.
        main: Main losses, shape (S, G, N).
        auxiliary: Auxiliary losses in raw units, shape (S, G, K).
    """

    number: int
    params: tuple[Tensor, ...]
    main: Tensor
    auxiliary: Tensor


Weights = Callable[[Step], Tensor]


def fit(
    problem: Problem, schedule: Schedule, *, main_weights: Tensor, weights: Weights | Tensor | None
) -> StackedConvNet:
    r"""Train S × G models on :math:`\sum_i a_i\, \ell^{main}_i + \sum_k w_k\, \ell_k`.

    Args:
        problem: The data.
        schedule: The training.
        main_weights: :math:`a`, shape (S, G, N); a zero holds a main label out.
        weights: :math:`w`, shape (S, G, K), or a function of the step that returns it; None leaves the pool out.

    Returns:
        The trained networks.
    """
    s, g, n = main_weights.shape
    net = StackedConvNet(problem.seeds, g, problem.suite.outputs)
    params = tuple(net.parameters())
    optimizer = torch.optim.Adam(params, lr=schedule.lr, fused=True)
    anneal = CosineAnnealingLR(optimizer, schedule.steps) if schedule.cosine else None
    seed = torch.arange(s)[:, None]
    for number, rows in enumerate(_batches(problem, schedule)):
        if weights is None:
            total = (main_weights * problem.main_losses(net(problem.main_x))).sum()
        else:
            pool = problem.pool_x[seed, rows].transpose(0, 1)
            outputs = net(torch.cat([problem.main_x, pool]))
            main = problem.main_losses(outputs[:, :, :n])
            auxiliary = problem.auxiliary_losses(outputs[:, :, n:], rows)
            w = weights if isinstance(weights, Tensor) else weights(Step(number, params, main, auxiliary))
            total = (main_weights * main).sum() + (w * auxiliary).sum()  # the models share no parameters
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        if anneal is not None:
            anneal.step()
    return net


@torch.no_grad()
def initial_scale(problem: Problem) -> Tensor:
    """Return each auxiliary loss at initialisation, on the whole pool.

    Args:
        problem: The problem.

    Returns:
        Shape (S, 1, K).
    """
    net = StackedConvNet(problem.seeds, 1, problem.suite.outputs)
    s, size = problem.pool_x.shape[:2]
    return problem.auxiliary_losses(net(problem.pool_x.transpose(0, 1)), torch.arange(size).expand(s, -1))


def _batches(problem: Problem, schedule: Schedule) -> Tensor:
    # Pool rows (steps, S, batch): a function of the seed alone, hence equal for all methods.
    size = problem.pool_x.shape[1]

    def rows(seed: int) -> Tensor:
        generator = torch.Generator().manual_seed(seed + 10_000)
        epochs = -(-schedule.steps * schedule.batch // size)
        flat = torch.cat([torch.randperm(size, generator=generator) for _ in range(epochs)])
        return flat[: schedule.steps * schedule.batch].reshape(schedule.steps, schedule.batch)

    return torch.stack([rows(seed) for seed in problem.seeds], 1)
