"""A small network with a weight decay for each layer's matrix."""

import math
from itertools import pairwise
from typing import final

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn.experiments.hpo._inner import Inner, Tensors
from auxilearn.experiments.hpo._task import HpoTask

CLASSES = 10


@final
class Network(Inner):
    r"""Minimise the mean cross entropy plus :math:`\tfrac12 \sum_l e^{\theta_l} \lVert W_l \rVert^2` by Adam.

    All folds' networks are trained as one stack, in full batches with an annealed learning rate. The activation is
    SiLU, which is twice differentiable. Biases are not penalised.

    Args:
        task: The rows, in float32 or float64, with classes from 0 to 9.
        widths: Of the hidden layers.
        steps: Steps of Adam.
        lr: Its first learning rate.
        seed: The seed of the initial weights; the global random state is not touched.
        refits: How many networks are trained on all rows; the score is their mean accuracy.

    Example:
        >>> x, y = torch.zeros(10, 4), torch.arange(10)
        >>> net = Network(HpoTask(x, y, x, y, ("pixel",) * 4), widths=(3,), steps=2, lr=0.01, seed=0)
        >>> [tuple(p.shape) for p in net.solve(torch.zeros(2), net.kept)]
        [(5, 4, 3), (5, 1, 3), (5, 3, 10), (5, 1, 10)]
    """

    def __init__(
        self, task: HpoTask, *, widths: tuple[int, ...], steps: int, lr: float, seed: int, refits: int = 5
    ) -> None:
        super().__init__(len(task.y), ("layer",) * (len(widths) + 1))
        self._task, self._steps, self._lr, self._seed, self._refits = task, steps, lr, seed, refits
        self._sizes = (task.x.shape[1], *widths, CLASSES)

    def losses(self, params: Tensors) -> Tensor:
        logits = self._logits(params, self._task.x)
        y = self._task.y.expand(len(logits), -1)
        return functional.cross_entropy(logits.transpose(1, 2), y, reduction="none")

    def penalty(self, params: Tensors, theta: Tensor) -> Tensor:
        squares = torch.stack([matrix.square().sum() for matrix in params[::2]])
        return (theta.exp() * squares).sum() / 2

    def score(self, theta: Tensor) -> float:
        params = self.solve(theta, torch.ones(self._refits, len(self._task.y), dtype=torch.bool))
        with torch.no_grad():
            chosen = self._logits(params, self._task.test_x).argmax(-1)
        return 100 * float((chosen == self._task.test_y).double().mean())

    @torch.enable_grad()
    def _train(self, theta: Tensor, kept: Tensor) -> Tensors:
        params = self._initial(len(kept))
        optimizer = torch.optim.Adam(params, lr=self._lr, fused=True)
        anneal = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, self._steps)
        for _ in range(self._steps):
            optimizer.zero_grad()
            self.train_loss(params, theta, kept).backward()
            optimizer.step()
            anneal.step()
        return tuple(p.detach() for p in params)

    def _initial(self, models: int) -> Tensors:
        generator = torch.Generator().manual_seed(self._seed)
        params: list[Tensor] = []
        for below, above in pairwise(self._sizes):
            matrix = torch.randn(models, below, above, generator=generator) / math.sqrt(below)
            params += [matrix.to(self._task.x.dtype), self._task.x.new_zeros(models, 1, above)]
        return tuple(p.requires_grad_() for p in params)

    @staticmethod
    def _logits(params: Tensors, x: Tensor) -> Tensor:
        h = x.expand(len(params[0]), -1, -1)
        for layer, (matrix, bias) in enumerate(zip(params[::2], params[1::2], strict=True)):
            h = torch.baddbmm(bias, functional.silu(h) if layer else h, matrix)
        return h
