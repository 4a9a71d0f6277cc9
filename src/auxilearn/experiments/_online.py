"""Learn the weights online: a fifth of the main labels held out, one model, no refit; as the original package does."""

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
class Online:
    """The settings of an online method; the defaults are the original package's.

    Attributes:
        every: Inner steps between two outer ones.
        alpha: The step of the original's unscaled Neumann sum; None for the library's default, scaled and guarded.
        terms: The number of terms after the first.
        lr: The outer learning rate.
        adam: Whether the outer optimizer is Adam; SGD with momentum otherwise.
        weight_decay: The outer weight decay.
        clip: The largest norm of a hypergradient.
        normalised: Whether each loss is divided by its initial value.
        exponential: Whether w = exp θ from θ = 0; otherwise w = θ from 1, clamped at zero.

    References:
        Navon et al., ICLR 2021, appendix, and the original repository's scripts.
    """

    every: int = 10
    alpha: float | None = 1e-4
    terms: int = 3
    lr: float = 1e-3
    adam: bool = False
    weight_decay: float = 1e-4
    clip: float = 25.0
    normalised: bool = False
    exponential: bool = False


def train_online(problem: Problem, schedule: Schedule, settings: Online, scale: Tensor) -> StackedConvNet:
    """Train one model a seed, and its weights with it.

    Args:
        problem: The problem.
        schedule: The inner training.
        settings: The outer problem.
        scale: The initial value of each auxiliary loss, shape (S, 1, K).

    Returns:
        The networks, one a seed.
    """
    s, n = problem.main_y.shape
    kept, held = (rows[:1] for rows in fold_weights(n, 5))
    unit = scale if settings.normalised else torch.ones_like(scale)
    theta = (torch.zeros_like(scale) if settings.exponential else torch.ones_like(scale)).requires_grad_()
    optimizer = (
        torch.optim.Adam([theta], lr=settings.lr, weight_decay=settings.weight_decay)
        if settings.adam
        else torch.optim.SGD([theta], lr=settings.lr, momentum=0.9, weight_decay=settings.weight_decay)
    )
    solver = (
        Neumann(terms=settings.terms)
        if settings.alpha is None
        else Neumann(alpha=settings.alpha, terms=settings.terms, scaled=False)
    )

    def coefficients() -> Tensor:
        return (theta.exp() if settings.exponential else theta) / unit

    def weights(step: Step) -> Tensor:
        if step.number and step.number % settings.every == 0:
            result = hypergradient(
                (coefficients() * step.auxiliary).sum() + (kept * step.main).sum(),
                (held * step.main).sum(),
                params=step.params,
                aux_params=[theta],
                solver=solver,
                on_failure="skip",
            )
            g = result.grads[0]
            # The seeds are separate problems, so each is clipped by its own norm.
            theta.grad = g * (
                settings.clip / torch.linalg.vector_norm(g, dim=-1, keepdim=True).clamp(min=settings.clip)
            )
            optimizer.step()
            if not settings.exponential:
                with torch.no_grad():
                    theta.clamp_(min=0)
        return coefficients().detach()

    return fit(problem, schedule, main_weights=kept.expand(s, -1, -1), weights=weights)
