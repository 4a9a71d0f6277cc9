"""Wide residual networks for small images, with one linear head for each task."""

from collections.abc import Sequence
from itertools import pairwise
from typing import final

from torch import Tensor, nn

from auxilearn._checks import count, explain
from auxilearn.errors import InputError
from auxilearn.models._seeded import divisible, seeded, seeded_heads


@final
class WideResNetHeads(nn.Module):
    """WRN-depth-widen: a convolution, three groups of pre-activated residual blocks, global average pooling, heads.

    WRN-16-4 with one head of 10 classes has 2 748 890 weights.

    Args:
        outputs: The width of each head.
        seed: The seed of the initial weights; the global random state is not touched. More heads change nothing in
            those before them, nor in the body.
        depth: The number of layers: 6 n + 4 for n blocks in each group.
        widen: k in the channels of the groups, 16 k, 32 k and 64 k.

    Raises:
        InputError: If there is no head, a size is below 1, or the depth is not 6 n + 4.

    Example:
        >>> import torch
        >>> net = WideResNetHeads([10, 50], seed=0, depth=10, widen=1)
        >>> [tuple(y.shape) for y in net(torch.zeros(2, 3, 32, 32))]
        [(2, 10), (2, 50)]

    References:
        Zagoruyko, Komodakis, "Wide residual networks", BMVC 2016. Which network the AuxiLearn paper trained on 32 × 32
        images is not in its published code.
    """

    def __init__(self, outputs: Sequence[int], *, seed: int, depth: int = 16, widen: int = 4) -> None:
        super().__init__()
        count("depth", depth, 10)
        count("widen", widen, 1)
        if (depth - 4) % 6:
            rule, finding = (
                "`depth` must be 6 n + 4: two convolutions in each of n blocks of 3 groups.",
                f"It is {depth}.",
            )
            raise InputError(explain(rule, finding, "Choose 10, 16, 22, 28 or 40."))
        self.body = seeded(seed, "body", lambda: _body((depth - 4) // 6, widen))
        self.heads = seeded_heads(seed, outputs, lambda n: _head(64 * widen, n))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of every image.

        Args:
            images: Shape (B, 3, H, W), the sides divisible by 4.

        Returns:
            One tensor for each head, of shape (B, outputs[k]): raw, without softmax.
        """
        divisible(images, 4)
        features = self.body(images).mean((-2, -1))
        return tuple(head(features) for head in self.heads)


@final
class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.norm1 = nn.BatchNorm2d(inputs)
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1, bias=False)
        changes = inputs != outputs  # as the stride does
        self.shortcut = nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False) if changes else None

    def forward(self, h: Tensor) -> Tensor:
        active = self.norm1(h).relu()
        kept = h if self.shortcut is None else self.shortcut(active)  # the activation is shared where shapes change
        return kept + self.conv2(self.norm2(self.conv1(active)).relu())


def _body(blocks: int, widen: int) -> nn.Sequential:
    widths = (16, 16 * widen, 32 * widen, 64 * widen)
    layers: list[nn.Module] = [nn.Conv2d(3, 16, 3, padding=1, bias=False)]
    for group, (inputs, outputs) in enumerate(pairwise(widths)):
        layers.append(_Block(inputs, outputs, 1 if group == 0 else 2))
        layers += [_Block(outputs, outputs, 1) for _ in range(blocks - 1)]
    body = nn.Sequential(*layers, nn.BatchNorm2d(widths[-1]), nn.ReLU())
    for layer in body.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
    return body


def _head(features: int, outputs: int) -> nn.Linear:
    head = nn.Linear(features, outputs)
    nn.init.zeros_(head.bias)
    return head
