"""A small fully convolutional network with a prediction for each pixel."""

import math
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from auxilearn._checks import count, explain
from auxilearn.errors import InputError
from auxilearn.models._initial import conv


@final
class SegNet(nn.Module):
    """An encoder that halves the image twice, a decoder that doubles it twice, with skip connections.

    A few thousand weights; no normalisation layers, so that it has no state besides its weights. SiLU and nearest
    neighbours are twice differentiable.

    Args:
        outputs: The channels of the output, all heads together.
        inputs: The channels of the image.
        width: The channels at full size; twice and four times as many at half and a quarter of it.
        seed: The seed of the initial weights; the global random state is not touched.

    Raises:
        InputError: If a size is below 1.

    Example:
        >>> tuple(SegNet(outputs=13)(torch.zeros(2, 3, 24, 32)).shape)
        (2, 13, 24, 32)

    References:
        Badrinarayanan, Kendall, Cipolla, "SegNet", 2017; Ronneberger, Fischer, Brox, "U-Net", 2015: the same shape,
        much larger.
    """

    def __init__(self, outputs: int, *, inputs: int = 3, width: int = 8, seed: int = 0) -> None:
        super().__init__()
        for name, size in {"outputs": outputs, "inputs": inputs, "width": width}.items():
            count(name, size, 1)
        generator = torch.Generator().manual_seed(seed)
        self.encode1 = conv(inputs, width, 3, generator)
        self.encode2 = conv(width, 2 * width, 3, generator, stride=2)
        self.encode3 = conv(2 * width, 4 * width, 3, generator, stride=2)
        self.bottom = conv(4 * width, 4 * width, 3, generator)
        self.decode2 = conv(6 * width, 2 * width, 3, generator)
        self.decode1 = conv(3 * width, 2 * width, 3, generator)
        self.head = conv(2 * width, outputs, 1, generator, gain=math.sqrt(0.5))  # small outputs at the start

    def forward(self, images: Tensor) -> Tensor:
        """Compute the outputs of every pixel.

        Args:
            images: Shape (B, inputs, H, W), H and W divisible by 4.

        Returns:
            Shape (B, outputs, H, W).

        Raises:
            InputError: If a side is not divisible by 4.
        """
        height, width = images.shape[-2:]
        if height % 4 or width % 4:
            rule, cure = "The sides of the images must be divisible by 4.", "Crop or pad them."
            raise InputError(explain(rule, f"They are {height} × {width}.", cure))
        silu = functional.silu
        full = silu(self.encode1(images))  # (B, w, H, W)
        half = silu(self.encode2(full))  # (B, 2w, H/2, W/2)
        h = silu(self.bottom(silu(self.encode3(half))))  # (B, 4w, H/4, W/4)
        h = silu(self.decode2(torch.cat((_double(h), half), 1)))
        h = silu(self.decode1(torch.cat((_double(h), full), 1)))
        return self.head(h)


def _double(image: Tensor) -> Tensor:
    return functional.interpolate(image, scale_factor=2, mode="nearest")
