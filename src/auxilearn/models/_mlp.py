"""A small multilayer perceptron."""

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import final

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from auxilearn._checks import count
from auxilearn.models._initial import linear


@final
class MLP(nn.Module):
    """Hidden layers with SiLU, which is twice differentiable, and all heads in one linear layer.

    Args:
        inputs: The number of features; images are flattened.
        outputs: The width of the output, all heads together.
        widths: The widths of the hidden layers.
        seed: The seed of the initial weights; the global random state is not touched.

    Raises:
        InputError: If a size is below 1.

    Example:
        >>> tuple(MLP(64, outputs=12)(torch.zeros(5, 8, 8)).shape)
        (5, 12)
    """

    def __init__(self, inputs: int, outputs: int, *, widths: Sequence[int] = (64, 64), seed: int = 0) -> None:
        super().__init__()
        for name, size in {
            "inputs": inputs,
            "outputs": outputs,
            **{f"widths[{i}]": w for i, w in enumerate(widths)},
        }.items():
            count(name, size, 1)
        generator = torch.Generator().manual_seed(seed)
        sizes = (inputs, *widths)
        self.layers = nn.ModuleList(linear(below, above, generator) for below, above in pairwise(sizes))
        self.head = linear(sizes[-1], outputs, generator, gain=math.sqrt(0.5))  # small outputs at the start

    def forward(self, x: Tensor) -> Tensor:
        """Compute the outputs.

        Args:
            x: Shape (B, …) with ``inputs`` numbers a sample.

        Returns:
            Shape (B, outputs).
        """
        h = x.flatten(1)
        for layer in self.layers:
            h = silu(layer(h))
        return self.head(h)
