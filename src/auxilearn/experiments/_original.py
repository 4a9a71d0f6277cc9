"""The original package's settings: raw losses, a fifth of the main labels held out, no refit."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from auxilearn import hypergradient
from auxilearn.experiments._cross_fit import fold_weights
from auxilearn.experiments._problem import Problem
from auxilearn.experiments._training import Schedule, Step, fit
from auxilearn.models import StackedConvNet
from auxilearn.solvers import Neumann


@final
@dataclass(frozen=True)
class Original:
    """A linear monotone combiner as published: weights from one, clamped at zero, an unscaled Neumann sum.

    Attributes:
        every: Inner steps between two outer ones.
        alpha: The Neumann step.
        terms: The number of terms after the first.
        lr: The outer learning rate.
        adam: Whether the outer optimizer is Adam; SGD with momentum otherwise.
        weight_decay: The outer weight decay.
        clip: The largest norm of a hypergradient.

    References:
        Navon et al., ICLR 2021, appendix, and the original repository's scripts.
    """

    every: int = 10
    alpha: float = 1e-4
    terms: int = 3
    lr: float = 1e-3
    adam: bool = False
    weight_decay: float = 1e-4
    clip: float = 25.0


def train_original(problem: Problem, schedule: Schedule, settings: Original) -> StackedConvNet:
    """Train one model a seed online.

    Args:
        problem: The problem.
        schedule: The inner training.
        settings: The outer problem.

    Returns:
        The networks, one a seed.
    """
    s, n = problem.main_y.shape
    kept, held = (rows[:1] for rows in fold_weights(n, 5))
    w = torch.ones(s, 1, len(problem.suite.kinds), requires_grad=True)
    optimizer = (
        torch.optim.Adam([w], lr=settings.lr, weight_decay=settings.weight_decay)
        if settings.adam
        else torch.optim.SGD([w], lr=settings.lr, momentum=0.9, weight_decay=settings.weight_decay)
    )
    solver = Neumann(alpha=settings.alpha, terms=settings.terms, scaled=False)

    def weights(step: Step) -> Tensor:
        if step.number and step.number % settings.every == 0:
            result = hypergradient(
                (w * step.auxiliary).sum() + (kept * step.main).sum(),
                (held * step.main).sum(),
                params=step.params,
                aux_params=[w],
                solver=solver,
                on_failure="skip",
            )
            g = result.grads[0]
            # The seeds are separate problems, so each is clipped by its own norm.
            w.grad = g * (settings.clip / g.norm(dim=-1, keepdim=True).clamp(min=settings.clip))
            optimizer.step()
            with torch.no_grad():
                w.clamp_(min=0)
        # A copy: the outer step changes w in place while the training loss's graph still holds it.
        return w.detach().clone()

    return fit(problem, schedule, main_weights=kept.expand(s, -1, -1), weights=weights)
