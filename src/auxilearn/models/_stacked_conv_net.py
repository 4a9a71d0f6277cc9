"""Many small convolutional networks trained as one."""

import math
from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional


@final
class StackedConvNet(nn.Module):
    """A stack of independent networks: conv 5 × 5 / 2, conv 3 × 3 / 2, a hidden layer, all heads in one linear layer.

    Grouped convolutions and batched matrix products keep the models apart; the images of a seed are shared by its
    models. All models of a seed start from the same weights, so that what differs between them is their loss only.

    Args:
        seeds: One seed of the initial weights for each group of models.
        models: How many models a seed.
        outputs: The width of the output, all heads together.
        channels: The widths of the convolutions.
        width: The width of the hidden layer.
    """

    def __init__(
        self,
        seeds: Sequence[int],
        models: int,
        outputs: int,
        *,
        channels: tuple[int, int] = (8, 16),
        width: int = 64,
    ) -> None:
        super().__init__()
        self.seeds, self.models = len(seeds), models
        c1, c2 = channels
        shapes = ((c1, 1, 5, 5), (c2, c1, 3, 3), (c2 * 16, width), (width, outputs))
        fan_in = (25, 9 * c1, c2 * 16, 2 * width)  # the last is doubled: small outputs at the start
        drawn = [
            [_normal(shape, n, g) for shape, n in zip(shapes, fan_in, strict=True)] for g in map(_generator, seeds)
        ]
        conv1, conv2, hidden, head = (
            torch.stack(layer).repeat_interleave(models, 0) for layer in zip(*drawn, strict=True)
        )
        total = self.seeds * models
        self.conv1, self.bias1 = nn.Parameter(conv1.flatten(0, 1)), nn.Parameter(torch.zeros(total * c1))
        self.conv2, self.bias2 = nn.Parameter(conv2.flatten(0, 1)), nn.Parameter(torch.zeros(total * c2))
        self.hidden, self.bias3 = nn.Parameter(hidden), nn.Parameter(torch.zeros(total, 1, width))
        self.head, self.bias4 = nn.Parameter(head), nn.Parameter(torch.zeros(total, 1, outputs))

    def forward(self, images: Tensor) -> Tensor:
        """Compute the outputs of every model.

        Args:
            images: Shape (B, S, 14, 14): B images for each of S seeds.

        Returns:
            Shape (S, models, B, outputs).
        """
        total, batch = self.seeds * self.models, len(images)
        h = functional.relu(functional.conv2d(images, self.conv1, self.bias1, stride=2, padding=2, groups=self.seeds))
        h = functional.relu(functional.conv2d(h, self.conv2, self.bias2, stride=2, padding=1, groups=total))
        h = h.reshape(batch, total, -1).transpose(0, 1)  # (S · models, B, features)
        h = functional.relu(torch.baddbmm(self.bias3, h, self.hidden))
        return torch.baddbmm(self.bias4, h, self.head).reshape(self.seeds, self.models, batch, -1)


def _generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _normal(shape: tuple[int, ...], fan_in: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator) * math.sqrt(2 / fan_in)
