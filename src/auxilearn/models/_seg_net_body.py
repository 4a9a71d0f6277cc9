"""SegNet's shared encoder and decoder."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import final

from torch import Tensor, nn
from torch.nn import functional

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.models._seeded import divisible, sizes


@final
@dataclass(frozen=True)
class Stage:
    """What a stage of the encoder or decoder computes.

    Attributes:
        above: What enters a stage of the decoder: its input, unpooled. In the encoder, the stage's input.
        first: The output of the stage's first convolution.
        last: The output of its last one.
    """

    above: Tensor
    first: Tensor
    last: Tensor


@final
class SegNetBody(nn.Module):
    """Stages of convolutions, each followed by a max pooling whose indices the decoder unpools with.

    The first two stages have two convolutions, the others three, each with BatchNorm and ReLU.

    Args:
        widths: The channels of the stages.

    Raises:
        InputError: If there is none, or one is below 1.
    """

    def __init__(self, widths: Sequence[int]) -> None:
        super().__init__()
        if not widths:
            rule, cure = "SegNet must have at least one stage.", "Name the channels of each in `widths`."
            raise InputError(explain(rule, "`widths` is empty.", cure))
        sizes("widths", widths)
        below = (3, *widths[:-1])  # the channels that enter each stage of the encoder
        above = (widths[0], *widths[:-1])  # those that leave each stage of the decoder
        extra = [1 if stage < 2 else 2 for stage in range(len(widths))]
        self.factor = 2 ** len(widths)
        self.encode_first = nn.ModuleList(conv_norm_relu(a, b) for a, b in zip(below, widths, strict=True))
        self.encode_rest = nn.ModuleList(_rest(w, n) for w, n in zip(widths, extra, strict=True))
        self.decode_first = nn.ModuleList(conv_norm_relu(a, b) for a, b in zip(widths, above, strict=True))
        self.decode_rest = nn.ModuleList(_rest(w, n) for w, n in zip(above, extra, strict=True))
        xavier(self, nn.init.xavier_normal_)

    def forward(self, images: Tensor) -> tuple[list[Stage], list[Stage]]:
        """Compute all stages.

        Args:
            images: Shape (B, 3, H, W), the sides divisible by 2 to the number of stages.

        Returns:
            The stages of the encoder, from the largest to the smallest image, and those of the decoder in the same
            order, so that the decoder's output is ``[0].last``, of shape (B, widths[0], H, W).

        Raises:
            InputError: If the shape does not fit.
        """
        divisible(images, self.factor)
        h, encoded, places = images, list[Stage](), list[Tensor]()
        for first, rest in zip(self.encode_first, self.encode_rest, strict=True):
            one = first(h)
            encoded.append(Stage(h, one, rest(one)))
            h, index = functional.max_pool2d(encoded[-1].last, 2, return_indices=True)
            places.append(index)
        decoded = list[Stage]()
        for first, rest, index in zip(self.decode_first[::-1], self.decode_rest[::-1], places[::-1], strict=True):
            above = functional.max_unpool2d(h, index, (2, 2))
            one = first(above)
            h = rest(one)
            decoded.append(Stage(above, one, h))
        return encoded, decoded[::-1]


def conv_norm_relu(inputs: int, outputs: int) -> nn.Sequential:
    """Build a 3 × 3 convolution that keeps the size, BatchNorm, ReLU.

    Args:
        inputs: The channels below.
        outputs: The channels above.

    Returns:
        The three layers.
    """
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU())


def dense_head(inputs: int, outputs: int) -> nn.Sequential:
    """Build SegNet's head of a task: a 3 × 3 and a 1 × 1 convolution, nothing in between.

    Args:
        inputs: The channels below.
        outputs: The task's channels.

    Returns:
        The two layers.
    """
    head = nn.Sequential(nn.Conv2d(inputs, inputs, 3, padding=1), nn.Conv2d(inputs, outputs, 1))
    xavier(head, nn.init.xavier_normal_)
    return head


def xavier(module: nn.Module, draw: Callable[[Tensor], Tensor]) -> None:
    """Draw the weights of all convolutions and linear layers; their biases become 0.

    Args:
        module: The module, changed in place.
        draw: ``torch.nn.init.xavier_normal_`` or ``xavier_uniform_``.
    """
    for layer in module.modules():
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            draw(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)


def _rest(width: int, convolutions: int) -> nn.Sequential:
    return nn.Sequential(*(conv_norm_relu(width, width) for _ in range(convolutions)))
