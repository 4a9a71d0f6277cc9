"""Learn the loss weights without spending a label: K models, one for each fold, and one set of weights a seed."""

import math
from dataclasses import dataclass
from typing import cast, final

import torch
from torch import Tensor

from auxilearn import hypergradient
from auxilearn.data import CLASSES
from auxilearn.experiments._problem import Problem
from auxilearn.experiments._training import Schedule, Step, fit
from auxilearn.models import StackedConvNet
from auxilearn.solvers import Identity


@final
@dataclass(frozen=True)
class Search:
    r"""The outer problem: weights :math:`w = \exp\theta` of normalised losses.

    Attributes:
        folds: Stratified folds of the main labels; fold f is the outer set of model f.
        every: Inner steps between two outer ones.
        warmup: Inner steps before the first outer one.
        lr: The step of the Adam-like update of θ.
        cap: The largest weight.
        average_from: The share of the outer steps after which weights enter the time average.
    """

    folds: int = 5
    every: int = 10
    warmup: int = 20
    lr: float = 0.2
    cap: float = 10.0
    average_from: float = 0.5


@final
@dataclass(frozen=True)
class Found:
    """The outcome of a search.

    Attributes:
        weights: Time-averaged weights of the normalised losses, shape (S, K).
        path: Their course, shape (S, outer steps, K).
        logits: Out-of-fold logits of the main labels, shape (S, N, 10), by weights with other folds as outer targets.
    """

    weights: Tensor
    path: Tensor
    logits: Tensor


def cross_fit(problem: Problem, schedule: Schedule, search: Search, scale: Tensor) -> Found:
    """Train one model a fold under the present weights, and move the weights against the held-out main losses.

    Every fold has weights of its own, learned from the outer losses of the *other* folds, so that no label is an outer
    target of the weights that it judges; without this the gate would be partial to what it judges. (The label still
    trains the other folds' models: only a nested cross-validation would cut that, at five times the cost.) The weights
    for the refit see all folds.

    Args:
        problem: The problem.
        schedule: The inner training.
        search: The outer problem.
        scale: The initial value of each auxiliary loss, shape (S, 1, K).

    Returns:
        The weights found.
    """
    s, n = problem.main_y.shape
    kept, held = fold_weights(n, search.folds)
    outer = _OuterAdam((s, search.folds + 1, scale.shape[-1]), search)
    path: list[Tensor] = []

    def weights(step: Step) -> Tensor:
        w = outer.theta.exp()
        if step.number >= search.warmup and (step.number - search.warmup) % search.every == 0:
            c = (w[:, :-1] / scale).requires_grad_()
            # The models share no weights, so their sum has a block-diagonal Hessian and one call serves all of them.
            result = hypergradient(
                (c * step.auxiliary).sum() + (kept * step.main).sum(),
                (held * step.main).sum(),
                params=step.params,
                aux_params=[c],
                solver=Identity(),
            )
            outer.step(leave_one_out(result.grads[0] / scale) * w)  # dL/dθ = dL/dw · w
            path.append(w[:, -1])
        return w[:, :-1] / scale

    net = fit(problem, schedule, main_weights=kept.expand(s, -1, -1), weights=weights)
    course = torch.stack(path, 1)
    late = course[:, int(search.average_from * course.shape[1]) :]
    return Found(late.mean(1), course, out_of_fold(net, problem, held))


def fold_weights(n: int, folds: int) -> tuple[Tensor, Tensor]:
    """Return the weight of each main label in each fold's training and outer loss.

    Args:
        n: The number of main labels; label i belongs to fold i modulo ``folds``.
        folds: The number of folds.

    Returns:
        Two tensors of shape (folds, n) whose rows sum to one.
    """
    held = (torch.arange(n) % folds == torch.arange(folds)[:, None]).float()
    kept = 1 - held
    return kept / kept.sum(1, keepdim=True), held / held.sum(1, keepdim=True)


@torch.no_grad()
def out_of_fold(net: StackedConvNet, problem: Problem, held: Tensor) -> Tensor:
    """Return the logits of every main label from the model that did not train on it.

    Args:
        net: Networks whose last models of each seed are those of the folds.
        problem: The problem.
        held: Positive where a label belongs to a fold, shape (folds, N).

    Returns:
        Shape (S, N, 10).
    """
    logits = net(problem.main_x)[:, -len(held) :, :, :CLASSES]  # (S, folds, N, 10)
    return (logits * (held > 0)[..., None]).sum(1)


class _OuterAdam:
    # Adam with one second moment for all tasks of a row, so that small hypergradients stay small.
    def __init__(self, shape: tuple[int, ...], search: Search) -> None:
        self.theta, self._search, self._count = torch.zeros(shape), search, 0
        self._m, self._v = torch.zeros(shape), torch.zeros(*shape[:-1], 1)

    def step(self, gradient: Tensor) -> None:
        self._count += 1
        self._m = 0.9 * self._m + 0.1 * gradient
        self._v = 0.99 * self._v + 0.01 * gradient.square().mean(-1, keepdim=True)
        m, v = self._m / (1 - 0.9**self._count), self._v / (1 - 0.99**self._count)
        moved = self.theta - self._search.lr * m / (v.sqrt() + 1e-12)
        self.theta = moved.clamp(max=math.log(self._search.cap))


def leave_one_out(gradient: Tensor) -> Tensor:
    """Combine the folds' hypergradients, for each fold without its own.

    Args:
        gradient: Shape (S, F, K), a row a fold.

    Returns:
        Shape (S, F + 1, K): row f is the mean over the other folds, the last row that over all.
    """
    # Each fold is first scaled to the median norm, so that none drowns the others.
    norm = cast("Tensor", torch.linalg.vector_norm(gradient, dim=-1, keepdim=True))
    gradient = gradient * (norm.median(1, keepdim=True).values / (norm + 1e-12))
    folds, mean = gradient.shape[1], gradient.mean(1, keepdim=True)
    return torch.cat([(folds * mean - gradient) / (folds - 1), mean], 1)
