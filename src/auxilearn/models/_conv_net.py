"""A small convolutional network for small grey images."""

import math
from typing import final

import torch
from torch import Tensor, nn

from auxilearn._checks import count
from auxilearn.models._initial import conv, linear


@final
class ConvNet(nn.Module):
    """Conv 5 × 5 / 2, conv 3 × 3 / 2, a hidden layer, all heads in one linear layer.

    One model of :class:`StackedConvNet`, as an ordinary module.

    Args:
        outputs: The width of the output, all heads together.
        channels: The widths of the convolutions.
        width: The width of the hidden layer.
        side: The side of the images.
        seed: The seed of the initial weights; the global random state is not touched.

    Raises:
        InputError: If a size is below 1.

    Example:
        >>> tuple(ConvNet(outputs=12)(torch.zeros(5, 14, 14)).shape)
        (5, 12)
    """

    def __init__(
        self,
        outputs: int,
        *,
        channels: tuple[int, int] = (8, 16),
        width: int = 64,
        side: int = 14,
        seed: int = 0,
    ) -> None:
        super().__init__()
        count("outputs", outputs, 1)
        count("width", width, 1)
        count("side", side, 1)
        generator = torch.Generator().manual_seed(seed)
        self.conv1 = conv(1, channels[0], 5, generator, stride=2)
        self.conv2 = conv(*channels, 3, generator, stride=2)
        rest = -(-side // 4)  # two strides of 2, each rounded up
        self.hidden = linear(channels[1] * rest * rest, width, generator)
        self.head = linear(width, outputs, generator, gain=math.sqrt(0.5))  # small outputs at the start

    def forward(self, images: Tensor) -> Tensor:
        """Compute the outputs.

        Args:
            images: Shape (B, side, side).

        Returns:
            Shape (B, outputs).
        """
        h = self.conv1(images[:, None]).relu()
        h = self.conv2(h).relu()
        h = self.hidden(h.flatten(1)).relu()
        return self.head(h)
