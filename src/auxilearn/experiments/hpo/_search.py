"""Searches for penalties by cross-validation: a grid, random draws, and descent along a hypergradient."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from auxilearn.experiments.hpo._inner import Inner
from auxilearn.experiments.hpo._rules import Rule


@final
@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        theta: The log penalties, shape (P,).
        outer: The cross-validated loss of each try, or before each step.
    """

    theta: Tensor
    outer: list[float]


def grid(inner: Inner, values: Tensor) -> Found:
    """Choose one log penalty for all.

    Args:
        inner: The model.
        values: Those that are tried, in the model's data type.

    Returns:
        The one of the least cross-validated loss.
    """
    thetas = [value.expand(len(inner.kinds)) for value in values]
    outer = [inner.validated(theta) for theta in thetas]
    return Found(thetas[outer.index(min(outer))].clone(), outer)


def random_search(inner: Inner, start: Found, *, draws: int, spread: float, seed: int) -> Found:
    """Draw a penalty each, log-uniformly around a single one, and keep the draw of the least cross-validated loss.

    Args:
        inner: The model.
        start: The single penalty, which is a candidate too.
        draws: How many draws.
        spread: The greatest distance of a log penalty from the single one.
        seed: The seed of the draws; the global random state is not touched.

    Returns:
        The best candidate.
    """
    generator = torch.Generator().manual_seed(seed)
    best, least = start.theta, min(start.outer)
    outer: list[float] = []
    for _ in range(draws):
        uniform = torch.rand(len(best), generator=generator, dtype=best.dtype)
        theta = start.theta + spread * (2 * uniform - 1)
        outer.append(inner.validated(theta))
        if outer[-1] < least:
            best, least = theta, outer[-1]
    return Found(best, outer)


def descend(inner: Inner, start: Found, rule: Rule, *, steps: int, lr: float, prior: float) -> Found:
    """Step along a hypergradient by Adam; the folds' models are trained anew before each step.

    Args:
        inner: The model.
        start: Where the log penalties start.
        rule: Computes the hypergradient.
        steps: How many steps.
        lr: The learning rate of Adam.
        prior: See :meth:`Inner.problem`.

    Returns:
        The last log penalties.
    """
    theta = start.theta.clone()
    optimizer = torch.optim.Adam([theta], lr=lr)
    outer: list[float] = []
    for _ in range(steps):
        problem = inner.problem(theta, prior=prior)
        with torch.no_grad():
            outer.append(float(inner.held_out(problem.params)))
        theta.grad = rule(problem)
        optimizer.step()
    return Found(theta.detach(), outer)
