"""What all networks of the original package have in common."""

from abc import ABC, abstractmethod
from typing import final

import torch
from torch import Tensor, nn

from auxilearn.hypernet._weights import clamp_weights


class HyperNet(nn.Module, ABC):
    """A learnable map from the losses of all tasks to one scalar.

    Args:
        main_task: The index of the main loss, or None.
        input_dim: How many losses there are.

    Example:
        >>> class Sum(HyperNet):
        ...     def forward(self, losses, outputs=None, labels=None, data=None):
        ...         return losses.sum(1).mean()
        >>> Sum(main_task=0, input_dim=2)(torch.ones(4, 2))
        tensor(2.)

    References:
        Navon et al., "Auxiliary Learning by Implicit Differentiation", ICLR 2021, and its package ``auxilearn`` 1.0.0.
    """

    def __init__(self, main_task: int | None, input_dim: int) -> None:
        super().__init__()
        self.main_task = main_task
        self.input_dim = input_dim

    @abstractmethod
    def forward(self, losses: Tensor, outputs: object = None, labels: object = None, data: object = None) -> Tensor:
        """Combine the losses.

        Args:
            losses: ``(B, K)``, or ``(B, K, H, W)`` for the convolutional networks.
            outputs: What the primary network gave; for networks of your own, not used here.
            labels: Its targets, not used here.
            data: Its inputs, not used here.

        Returns:
            The combined loss, a scalar.
        """

    def get_weights(self) -> list[nn.Parameter]:
        """List the parameters.

        Returns:
            All parameters, e.g. for an optimizer.
        """
        return list(self.parameters())


class MonoHyperNet(HyperNet):
    """A network that :meth:`clamp` makes increasing in every loss, provided that its activations are.

    Args:
        main_task: The index of the main loss, or None.
        input_dim: How many losses there are.
        clamp_bias: Whether :meth:`clamp` cuts biases as well, which monotonicity does not need.
    """

    def __init__(self, main_task: int | None, input_dim: int, clamp_bias: bool = False) -> None:
        super().__init__(main_task, input_dim)
        self.clamp_bias = clamp_bias

    @torch.no_grad()
    def clamp(self) -> None:
        """Replace the negative weights of all linear and convolutional layers by 0, in place.

        The weights meant are those that are used: under weight norm, the product of length and direction. Outputs
        without a negative weight stay as they are, to the last bit.
        """
        for layer in self.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                clamp_weights(layer)
                if self.clamp_bias and layer.bias is not None:  # pyright: ignore[reportUnnecessaryComparison]
                    layer.bias.clamp_(min=0)


@final
class Identity(nn.Identity):
    """The activation that leaves :class:`MonoNonlinearHyperNet` linear."""
