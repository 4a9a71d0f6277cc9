"""What a method that writes labels gets."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, final

import torch
from torch import Tensor, nn

from auxilearn._checks import at_least, count, positive
from auxilearn.experiments.reproduce._recipe import Inner, Published
from auxilearn.experiments.reproduce.generated._networks import Student


@dataclass(frozen=True)
class GeneratedSettings(Inner, Published):
    r"""What every experiment with generated labels has to settle.

    Attributes:
        subclasses: :math:`\psi`, the sub-classes of each class.
        aux_scale: The factor of the auxiliary loss in the published method.
        maxl_lr: The learning rate of MAXL's label generator.
        maxl_decay: Its weight decay.
        maxl_penalty: The weight of MAXL's collapse penalty.
        pool_batch: Unlabelled rows a step of the methods that use them.
    """

    subclasses: int
    aux_scale: float
    maxl_lr: float
    maxl_decay: float
    maxl_penalty: float
    pool_batch: int

    def __post_init__(self) -> None:
        Inner.__post_init__(self)
        Published.__post_init__(self)
        for name in ("subclasses", "pool_batch"):
            count(name, getattr(self, name), 1)
        positive("maxl_lr", self.maxl_lr)
        for name in ("aux_scale", "maxl_decay", "maxl_penalty"):
            at_least(name, getattr(self, name), 0.0)


class Augment(Protocol):
    """From bytes to what a network reads."""

    def __call__(self, pixels: Tensor, generator: torch.Generator | None) -> Tensor:
        """Crop, flip and standardise.

        Args:
            pixels: Shape (B, 3, H, W), bytes, on any device.
            generator: The source of random crops and flips, on the CPU; None takes the centre, without flips.

        Returns:
            Shape (B, 3, h, w), floats, on the same device.
        """
        ...


@final
@dataclass(frozen=True)
class GeneratedTask:
    """A classification with few labels, and the rest of the training images without theirs.

    Attributes:
        pixels: The labelled training images, shape (N, 3, H, W), bytes.
        classes: Their classes, shape (N,).
        num_classes: C.
        pool: Training images without a label, shape (P, 3, H, W), bytes; may be empty. The paper's methods do not use
            them.
        held_out: Rows of ``pixels`` that the published method holds back as its auxiliary set, shape (M,).
        augment: Crops, flips and standardises.
        student: From the width of an auxiliary head (0 for none) to a new network on its device, which returns the main
            logits (B, C) and the auxiliary ones (B, S). Its initial weights, apart from that head, are always the same.
        teacher: From a number of outputs to a new network on its device for a label generator.
        settings: The hyperparameters.
        seed: The seed of everything.
        validate: From a student in evaluation mode to the validation accuracy; None without validation labels.
        test: Test images, bytes, and classes.
        device: Where networks live.
    """

    pixels: Tensor
    classes: Tensor
    num_classes: int
    pool: Tensor
    held_out: Tensor
    augment: Augment
    student: Callable[[int], Student]
    teacher: Callable[[int], nn.Module]
    settings: GeneratedSettings
    seed: int
    validate: Callable[[nn.Module], float] | None
    test: tuple[Tensor, Tensor]
    device: torch.device
