"""Layers whose initial weights come from a generator of their own, so that a seed means the same everywhere."""

import math

import torch
from torch import nn


def linear(inputs: int, outputs: int, generator: torch.Generator, *, gain: float = 1.0) -> nn.Linear:
    r"""Build a linear layer, with weights of variance :math:`2\,\text{gain}^2 / \text{inputs}` and zero biases.

    Args:
        inputs: The number of features.
        outputs: The number of outputs.
        generator: The source of randomness; the global one is not touched.
        gain: A factor of the weights.

    Returns:
        The layer.
    """
    layer = nn.Linear(inputs, outputs, device="meta").to_empty(device="cpu")  # so, torch draws nothing itself
    _draw(layer, inputs, generator, gain)
    return layer


def conv(
    inputs: int, outputs: int, size: int, generator: torch.Generator, *, stride: int = 1, gain: float = 1.0
) -> nn.Conv2d:
    """Build a convolution that keeps the image's size at stride 1; see :func:`linear`.

    Args:
        inputs: The channels below.
        outputs: The channels above.
        size: The side of the kernel, odd.
        generator: The source of randomness.
        stride: The step of the kernel.
        gain: A factor of the weights.

    Returns:
        The layer.
    """
    layer = nn.Conv2d(inputs, outputs, size, stride=stride, padding=size // 2, device="meta").to_empty(device="cpu")
    _draw(layer, inputs * size * size, generator, gain)
    return layer


@torch.no_grad()
def _draw(layer: nn.Linear | nn.Conv2d, fan_in: int, generator: torch.Generator, gain: float) -> None:
    layer.weight.copy_(torch.randn(layer.weight.shape, generator=generator) * gain * math.sqrt(2 / fan_in))
    if layer.bias is not None:
        layer.bias.zero_()
