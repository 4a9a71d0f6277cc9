"""The methods: how each chooses penalties on the labelled rows, and how it is scored."""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from auxilearn.experiments.harness._experiment import Result
from auxilearn.experiments.hpo._inner import Inner
from auxilearn.experiments.hpo._rules import Rule, implicit, one_step, original
from auxilearn.experiments.hpo._search import Found, descend, grid, random_search
from auxilearn.experiments.hpo._task import HpoTask
from auxilearn.solvers import LinearSolver

Method = Callable[[HpoTask, int], Result]
Search = Callable[[Inner, Found, int], Found]
NOTHING = -18.0
"""The log penalty that counts as none: 1.5e-8, so that separable classes have an optimum."""
OURS = "ours"


@final
@dataclass(frozen=True)
class Settings:
    """How penalties are searched for; chosen on seeds from 100 on.

    Attributes:
        low: The least log penalty of the grid.
        high: The greatest.
        points: The size of the grid.
        steps: Outer steps; random search has twice as many draws.
        lr: The learning rate of the outer Adam.
        prior: How strongly log penalties are drawn to the mean of their kind; the same for all rules.
        spread: The range of the random draws, in log penalties to either side of the best single one.
        rival_lr: The length of the unrolled step.
        solver: Ours.
        damping: Its damping.
    """

    low: float
    high: float
    points: int
    steps: int
    lr: float
    prior: float
    spread: float
    rival_lr: float
    solver: LinearSolver
    damping: float = 0.0

    def values(self, dtype: torch.dtype) -> Tensor:
        """List the grid.

        Args:
            dtype: The data type.

        Returns:
            Shape (points,).
        """
        return torch.linspace(self.low, self.high, self.points, dtype=dtype)


def hpo_methods(model: Callable[[HpoTask, int], Inner], settings: Settings) -> dict[str, Method]:
    """List the methods of a cell.

    Args:
        model: Makes the model from the task and the seed.
        settings: How penalties are searched for.

    Returns:
        Name to method.
    """
    ours = implicit(settings.solver, damping=settings.damping)

    def best(inner: Inner, start: Found, seed: int) -> Found:
        return start

    def drawn(inner: Inner, start: Found, seed: int) -> Found:
        return random_search(inner, start, draws=2 * settings.steps, spread=settings.spread, seed=seed)

    def descent(rule: Rule, prior: float) -> Search:
        return lambda inner, start, seed: descend(inner, start, rule, steps=settings.steps, lr=settings.lr, prior=prior)

    searches: dict[str, Search] = {
        "one penalty, grid": best,
        "random search": drawn,
        "one-step unrolled": descent(one_step(settings.rival_lr), settings.prior),
        "original AuxiLearn": descent(original(), settings.prior),
        OURS: descent(ours, settings.prior),
        f"{OURS}, no prior": descent(ours, 0.0),
    }
    return {
        "no penalty": _unpenalised(model),
        **{name: _searched(model, settings, search) for name, search in searches.items()},
    }


def _unpenalised(model: Callable[[HpoTask, int], Inner]) -> Method:
    def method(task: HpoTask, seed: int) -> Result:
        start = time.process_time()
        inner = model(task, seed)
        theta = torch.full((len(inner.kinds),), NOTHING, dtype=task.x.dtype)
        return _scored(inner, Found(theta, []), start)

    return method


def _searched(model: Callable[[HpoTask, int], Inner], settings: Settings, search: Search) -> Method:
    def method(task: HpoTask, seed: int) -> Result:
        start = time.process_time()
        inner = model(task, seed)
        found = search(inner, grid(inner, settings.values(task.x.dtype)), seed)
        return _scored(inner, found, start)

    return method


def _scored(inner: Inner, found: Found, start: float) -> Result:
    score = inner.score(found.theta)
    details = {
        "log penalties": [float(value) for value in found.theta],
        "of": list(inner.kinds),
        "outer": found.outer,
        "models": inner.seen,
    }
    return Result(score, time.process_time() - start, details)
