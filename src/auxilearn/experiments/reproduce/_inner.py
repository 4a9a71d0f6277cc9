"""From hyperparameters to the inner training that all methods of an experiment share."""

from collections.abc import Iterable

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import CosineAnnealingLR, LRScheduler, StepLR

from auxilearn.experiments.reproduce._recipe import Inner
from auxilearn.training import Training

MOMENTUM = 0.9


def steps_of(inner: Inner, rows: int) -> int:
    """Count the steps of a run.

    Args:
        inner: The hyperparameters.
        rows: How many rows an epoch passes over.

    Returns:
        The steps: epochs times whole batches, at least one batch an epoch.

    Example:
        >>> from types import SimpleNamespace
        >>> steps_of(SimpleNamespace(epochs=200, batch=8), 716)
        17800
    """
    return inner.epochs * max(1, rows // inner.batch)


def optimizer_of(inner: Inner, params: Iterable[nn.Parameter]) -> Optimizer:
    """Build the optimizer of the weights.

    Args:
        inner: The hyperparameters.
        params: The weights.

    Returns:
        The optimizer.
    """
    if inner.optimizer == "adam":
        return torch.optim.Adam(params, lr=inner.lr, weight_decay=inner.weight_decay)
    return torch.optim.SGD(params, lr=inner.lr, momentum=MOMENTUM, weight_decay=inner.weight_decay)


def schedule_of(inner: Inner, optimizer: Optimizer, steps: int) -> LRScheduler | None:
    """Build the learning-rate schedule, which is stepped after every step.

    Args:
        inner: The hyperparameters.
        optimizer: The optimizer.
        steps: The steps of the run.

    Returns:
        The schedule; None if the rate stays as it is.
    """
    if inner.schedule == "cosine":
        return CosineAnnealingLR(optimizer, T_max=steps)
    if inner.schedule == "halved":
        return StepLR(optimizer, step_size=max(1, steps // 2), gamma=0.5)
    return None


def training_of(inner: Inner, rows: int, seed: int) -> Training:
    """Say the same in the trainer's words.

    Args:
        inner: The hyperparameters.
        rows: How many rows an epoch passes over.
        seed: The seed of the batches.

    Returns:
        The settings.
    """
    steps = steps_of(inner, rows)

    def scheduler(optimizer: Optimizer) -> LRScheduler:
        found = schedule_of(inner, optimizer, steps)
        assert found is not None
        return found

    return Training(
        steps=steps,
        batch_size=inner.batch,
        optimizer=lambda params: optimizer_of(inner, params),
        scheduler=None if inner.schedule == "constant" else scheduler,
        seed=seed,
    )
