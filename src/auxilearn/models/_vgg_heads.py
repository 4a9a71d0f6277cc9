"""VGG-16 for small images, with a small head for each task."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.models._seeded import seeded, seeded_heads, sizes, square
from auxilearn.models._seg_net_body import conv_norm_relu, xavier


@final
class VGG16Heads(nn.Module):
    """VGG-16 with BatchNorm for 32 × 32 images; each head has a hidden layer. The network of MAXL's code on CIFAR.

    Args:
        outputs: The width of each head.
        seed: The seed of the initial weights; the global random state is not touched. More heads change nothing in
            those before them, nor in the body.
        widths: The channels of the five blocks; the last are also the width of the heads' hidden layers.

    Raises:
        InputError: If there is no head, there are not five blocks, or a size is below 1.

    Example:
        >>> import torch
        >>> net = VGG16Heads([20, 100], seed=0, widths=(4, 4, 8, 8, 8))
        >>> [tuple(y.shape) for y in net(torch.zeros(2, 3, 32, 32))]
        [(2, 20), (2, 100)]

    References:
        Simonyan, Zisserman, "Very deep convolutional networks", ICLR 2015; Liu, Davison, Johns, "Self-supervised
        generalisation with meta auxiliary learning", NeurIPS 2019.
    """

    def __init__(
        self,
        outputs: Sequence[int],
        *,
        seed: int,
        widths: tuple[int, int, int, int, int] = (64, 128, 256, 512, 512),
    ) -> None:
        super().__init__()
        sizes("widths", widths)
        if len(widths) != 5:
            rule, finding = "`widths` must name five blocks.", f"It names {len(widths)}."
            raise InputError(explain(rule, finding, "Pass five widths, e.g. (64, 128, 256, 512, 512)."))
        self.body = seeded(seed, "body", lambda: _body(widths))
        self.heads = seeded_heads(seed, outputs, lambda n: _head(widths[-1], n))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of every image.

        Args:
            images: Shape (B, 3, 32, 32).

        Returns:
            One tensor for each head, of shape (B, outputs[k]): raw, without softmax.
        """
        square(images, 32)
        features = self.body(images).flatten(1)
        return tuple(head(features) for head in self.heads)


def _body(widths: Sequence[int]) -> nn.Sequential:
    layers, below = list[nn.Module](), 3
    for block, width in enumerate(widths):
        for _ in range(2 if block < 2 else 3):
            layers.append(conv_norm_relu(below, width))
            below = width
        layers.append(nn.MaxPool2d(2))
    body = nn.Sequential(*layers)
    xavier(body, nn.init.xavier_uniform_)
    return body


def _head(features: int, outputs: int) -> nn.Sequential:
    head = nn.Sequential(nn.Linear(features, features), nn.ReLU(), nn.Linear(features, outputs))
    xavier(head, nn.init.xavier_uniform_)
    return head
