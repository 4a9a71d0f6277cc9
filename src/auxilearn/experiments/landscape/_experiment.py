"""The paper's two-parameter regression: a few noisy main samples, a helpful auxiliary task and a harmful one."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, cast, final

import torch
from torch import Tensor

from auxilearn.combiners import Linear
from auxilearn.experiments.harness._experiment import Cell, Experiment, Result
from auxilearn.experiments.landscape._pictures import draw_landscape
from auxilearn.optim import MetaOptimizer
from auxilearn.solvers import Dense

Rule = Literal["main only", "equal", "learned", "oracle, helpful only"]
_TRUTH = (1.0, 0.5)
_START = (-2.0, 2.5)
_FRAMES = 60


@final
@dataclass(frozen=True)
class Samples:
    """The samples of one regression.

    Attributes:
        x: Shape (N, 2).
        y: Shape (N,).
    """

    x: Tensor
    y: Tensor

    def loss(self, w: Tensor) -> Tensor:
        """Compute the mean squared error.

        Args:
            w: The two weights.

        Returns:
            A scalar.
        """
        return (self.x @ w - self.y).square().mean()

    def quadratic(self) -> tuple[Tensor, Tensor, float]:
        r"""Write the loss as :math:`w^\top A w - 2 b^\top w + c`.

        Returns:
            A, b and c.
        """
        n = len(self.y)
        return self.x.T @ self.x / n, self.x.T @ self.y / n, float(self.y.square().mean())

    def batch(self, rows: Tensor) -> "Samples":
        """Take some rows.

        Args:
            rows: Their numbers.

        Returns:
            The samples.
        """
        return Samples(self.x[rows], self.y[rows])

    def __add__(self, other: "Samples") -> "Samples":
        return Samples(torch.cat([self.x, other.x]), torch.cat([self.y, other.y]))


@final
@dataclass(frozen=True)
class Regression:
    r"""Main samples :math:`y = w^{*\top} x + \varepsilon` with much noise, and two auxiliary tasks with little.

    Attributes:
        main: The main task's training samples.
        held_back: As many main samples, which only the outer loss reads; methods without one train on them.
        helpful: Samples of the same w*.
        harmful: Samples of another optimum.
        truth: w*.
    """

    main: Samples
    held_back: Samples
    helpful: Samples
    harmful: Samples
    truth: Tensor

    @staticmethod
    def draw(seed: int, *, few: int = 16, many: int = 200, noise: float = 2.0, distance: float = 3.5) -> "Regression":
        """Draw the task of a seed.

        Args:
            seed: The seed.
            few: Main samples, and as many held back.
            many: Samples of each auxiliary task.
            noise: The standard deviation of the main targets; that of the auxiliary ones is a tenth.
            distance: From w* to the harmful optimum, in a direction of the seed's.

        Returns:
            The task.
        """
        generator = torch.Generator().manual_seed(seed)
        truth = torch.tensor(_TRUTH)
        angle = 2 * math.pi * float(torch.rand(1, generator=generator))
        elsewhere = truth + distance * torch.tensor([math.cos(angle), math.sin(angle)])
        mix = torch.tensor([[1.0, 0.0], [0.5, 0.8]])  # correlated features: long valleys

        def samples(number: int, w: Tensor, deviation: float) -> Samples:
            x = torch.randn(number, 2, generator=generator) @ mix.T
            return Samples(x, x @ w + deviation * torch.randn(number, generator=generator))

        return Regression(
            samples(few, truth, noise),
            samples(few, truth, noise),
            samples(many, truth, noise / 10),
            samples(many, elsewhere, noise / 10),
            truth,
        )


def train(task: Regression, seed: int, rule: Rule, *, steps: int = 600, batch: int = 8, every: int = 4) -> Result:
    r"""Descend :math:`\ell_{main} + w_1 \ell_{helpful} + w_2 \ell_{harmful}` by SGD, and learn :math:`w` on the way.

    Args:
        task: The task.
        seed: The seed of the batches.
        rule: Which weights: 0 and 0, 1 and 1, learned ones from 1 and 1, or 1 and 0.
        steps: Steps of SGD.
        batch: Samples of each task a step.
        every: Steps between two outer ones.

    Returns:
        Minus the distance of the trained weights to w*, with the course of both in the details.
    """
    begun = time.process_time()
    learned = rule == "learned"
    main = task.main if learned else task.main + task.held_back
    fixed = {"main only": (0.0, 0.0), "equal": (1.0, 1.0), "learned": (1.0, 1.0), "oracle, helpful only": (1.0, 0.0)}
    combiner = Linear(2)
    meta = MetaOptimizer(torch.optim.Adam(combiner.parameters(), lr=0.05), solver=Dense())
    w = torch.nn.Parameter(torch.tensor(_START))
    optimizer = torch.optim.SGD([w], lr=0.006)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)

    def combined(auxiliary: Tensor) -> Tensor:
        return combiner(auxiliary) if learned else (torch.tensor(fixed[rule]) * auxiliary).sum()

    def now() -> list[float]:
        return _numbers(combiner.weights) if learned else list(fixed[rule])

    path, weights = [_numbers(w)], [now()]
    batches = [_batches(part, batch, seed + 1000 * i) for i, part in enumerate((main, task.helpful, task.harmful))]
    for step in range(steps):
        losses = torch.stack([next(part).loss(w) for part in batches])
        optimizer.zero_grad()
        (losses[0] + combined(losses[1:])).backward()
        optimizer.step()
        schedule.step()
        if learned and step % every == every - 1:
            whole = torch.stack([task.helpful.loss(w), task.harmful.loss(w)])
            meta.step(main.loss(w) + combiner(whole), task.held_back.loss(w), [w], combiner.parameters())
        if (step + 1) % (steps // _FRAMES) == 0:
            path.append(_numbers(w))
            weights.append(now())
    seconds = time.process_time() - begun
    distance = float((w.detach() - task.truth).square().sum().sqrt())
    details: dict[str, Any] = {"path": path, "course": weights, "truth": _numbers(task.truth)}
    return Result(-distance, seconds, details | _landscape(task, main))


def _batches(samples: Samples, size: int, seed: int) -> Iterator[Samples]:
    generator = torch.Generator().manual_seed(seed)
    while True:
        order = torch.randperm(len(samples.y), generator=generator)
        for first in range(0, len(order), size):
            yield samples.batch(order[first : first + size])


def _numbers(values: Tensor) -> list[float]:
    return [float(value) for value in values.detach()]


def _landscape(task: Regression, main: Samples) -> dict[str, Any]:
    # Three quadratic forms are the whole landscape, at any weights.
    forms = [part.quadratic() for part in (main, task.helpful, task.harmful)]
    return {"forms": [[cast("object", a.tolist()), cast("object", b.tolist()), c] for a, b, c in forms]}


def _methods() -> dict[str, Callable[[Any, int], Result]]:
    rules: tuple[Rule, ...] = ("main only", "equal", "learned", "oracle, helpful only")
    return {rule: partial(_run, rule=rule) for rule in rules}


def _run(task: Any, seed: int, rule: Rule) -> Result:
    return train(task, seed, rule)


LANDSCAPE = Experiment(
    name="landscape",
    title="The loss landscape of a two-parameter regression",
    about=(
        "A simulated regression with two weights, as in Figure 1 of the paper: 32 main samples with much noise, 200 "
        "samples each of a helpful auxiliary task with the same optimum and of a harmful one with another. The learned "
        "method holds half of the main samples back, and moves the weights of the two auxiliary losses along the exact "
        "hypergradient while SGD trains; the minimum of the combined loss moves to the true optimum. A picture, no "
        "evidence: the problem is made for it."
    ),
    cells=(Cell("two weights", "− distance to the true optimum", Regression.draw, _methods()),),
    ours="learned",
    figure=draw_landscape,
)
"""The experiment."""
