"""How the weights are trained; the same for every method."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Literal, cast, final

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn.errors import InputError

Precision = Literal["float32", "bfloat16", "float16"]


def adam(params: Iterable[nn.Parameter]) -> Optimizer:
    """Build the default inner optimizer, Adam with a learning rate of 2e-3.

    Args:
        params: The weights.

    Returns:
        The optimizer.
    """
    return torch.optim.Adam(params, lr=2e-3, fused=True)


@final
@dataclass(frozen=True)
class Training:
    """The inner training.

    Attributes:
        steps: Steps of the inner optimizer.
        batch_size: How many rows without a main label a step sees, and how many with one if there are more than that
            (all of them if there are fewer). A loader's own batch size, if the data is one and this is None; else 64.
        optimizer: A function of the weights that builds the optimizer.
        scheduler: A function of the optimizer that builds a learning-rate schedule, stepped after every step.
        accumulate: Batches a step; their gradients are averaged.
        precision: ``"bfloat16"`` and ``"float16"`` run the forward passes of training steps under autocast, the latter
            with a gradient scaler. Outer passes and weights stay in float32.
        max_grad_norm: The norm to which each model's gradient is clipped; None does not clip.
        seed: The seed of the batches and folds.

    Raises:
        InputError: If a number is out of range, or an optimizer stands where a function that builds one is wanted.
    """

    steps: int = 500
    batch_size: int | None = None
    optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] = adam
    scheduler: Callable[[Optimizer], LRScheduler] | None = None
    accumulate: int = 1
    precision: Precision = "float32"
    max_grad_norm: float | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        _checks.count("steps", self.steps, 1)
        _checks.count("seed", self.seed, 0)
        if self.seed >= 2**63:
            rule = "`seed` must be below 2⁶³, as torch's generators have it."
            raise InputError(explain(rule, f"It is {self.seed}.", "Choose a smaller one."))
        if not callable(cast("object", self.optimizer)):
            rule = "`optimizer` must be a function that builds one from the weights: every model needs its own."
            finding, cure = (
                f"It is a `{type(self.optimizer).__name__}`.",
                "E.g. `lambda weights: SGD(weights, lr=0.1)`.",
            )
            raise InputError(explain(rule, finding, cure))
        if self.scheduler is not None and not callable(cast("object", self.scheduler)):
            rule = "`scheduler` must be a function that builds one from the optimizer: every optimizer needs its own."
            finding, cure = f"It is a `{type(self.scheduler).__name__}`.", "E.g. `lambda o: StepLR(o, 100)`."
            raise InputError(explain(rule, finding, cure))
        _checks.count("accumulate", self.accumulate, 1)
        if self.batch_size is not None:
            _checks.count("batch_size", self.batch_size, 1)
        if self.max_grad_norm is not None:
            _checks.positive("max_grad_norm", self.max_grad_norm)
        _checks.one_of("precision", self.precision, ("float32", "bfloat16", "float16"))
