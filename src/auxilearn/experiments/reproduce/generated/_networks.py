"""Networks with one or two heads as students, and with one as the network of a label generator."""

from typing import cast, final

from torch import Tensor, nn


@final
class Student(nn.Module):
    """A network whose first head is the main task's, and whose second one, if there is one, is the auxiliary task's.

    Args:
        network: From images to a tuple of outputs, one of each part in its ``heads``.

    Example:
        >>> import torch
        >>> from auxilearn.models import ConvFourHeads
        >>> network = ConvFourHeads([10], seed=0, channels=(4, 4, 4, 4), side=16)
        >>> [tuple(y.shape) for y in Student(network)(torch.zeros(2, 3, 16, 16))]
        [(2, 10), (2, 0)]
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute both heads.

        Args:
            images: Shape (B, 3, h, w).

        Returns:
            The main logits, shape (B, C), and the auxiliary ones, shape (B, S); those of no head are empty.
        """
        main, *rest = self.network(images)
        return main, rest[0] if rest else main[:, :0]

    def features(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Compute what the main head reads, and what it says.

        Args:
            images: Shape (B, 3, h, w).

        Returns:
            The features, shape (B, D), and the main logits, shape (B, C).
        """
        read: list[Tensor] = []
        head = cast("nn.ModuleList", self.network.heads)[0]
        hook = head.register_forward_pre_hook(lambda _, inputs: read.append(inputs[0]))
        try:
            main = self(images)[0]
        finally:
            hook.remove()
        return read[0].flatten(1), main

    def shared(self) -> list[nn.Parameter]:
        """List the weights that the main loss reaches: all but those of the auxiliary head.

        Returns:
            The parameters.
        """
        return [p for name, p in self.network.named_parameters() if not name.startswith("heads.1.")]


@final
class Scores(nn.Module):
    """The first head alone.

    Args:
        network: From images to a tuple of outputs.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        """Compute the first head.

        Args:
            images: Shape (B, 3, h, w).

        Returns:
            Shape (B, S).
        """
        return cast("tuple[Tensor, ...]", self.network(images))[0]
