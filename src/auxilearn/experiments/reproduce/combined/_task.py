"""What a method of combining gets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, final

from torch import Tensor, nn

from auxilearn.experiments.reproduce._recipe import Inner, Published
from auxilearn.training import Problem

PixelLosses = Callable[[nn.Module, Any], tuple[Tensor, Tensor]]
"""From the model and a batch to the losses of each pixel, (B, K, H, W), zero where there is no truth, and the mask."""


@dataclass(frozen=True)
class CombinedSettings(Inner, Published):
    """What every experiment with given losses has to settle."""

    def __post_init__(self) -> None:
        Inner.__post_init__(self)
        Published.__post_init__(self)


@final
@dataclass(frozen=True)
class CombinedTask:
    """A main task with given auxiliary losses.

    Attributes:
        problem: The model on its device, the losses of each sample and the training rows; ``problem.names`` is set. All
            methods train on these losses: each is a mean over what has a truth, so that ignored pixels count nothing.
        settings: The hyperparameters.
        epoch: How many rows an epoch passes over: the labelled ones.
        seed: The seed of everything.
        held_out: Rows of the data that the published method holds back as its auxiliary set, shape (M,).
        validate: From the model in evaluation mode, the validation metric, higher is better; None without one.
        pixels: The losses of each pixel; None where samples have no pixels.
        test: What ``measure`` needs.
        published_conv: What the paper's convolutional combiner has instead of the settings; None: nothing else.
    """

    problem: Problem
    settings: CombinedSettings
    epoch: int
    seed: int
    held_out: Tensor
    validate: Callable[[nn.Module], float] | None
    pixels: PixelLosses | None
    test: Any
    published_conv: Published | None = None
