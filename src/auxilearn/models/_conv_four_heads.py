"""Four convolutions for small images, with one linear head for each task."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.models._seeded import seeded, seeded_heads, sizes, square


@final
class ConvFourHeads(nn.Module):
    """Four times a 3 × 3 convolution, BatchNorm, ReLU and 2 × 2 max pooling; then the heads.

    The network of few-shot learning, 64 channels each. That it stands for the network of the AuxiLearn paper on
    32 × 32 images is our choice: the published code has none for them.

    Args:
        outputs: The width of each head.
        seed: The seed of the initial weights; the global random state is not touched. More heads change nothing in
            those before them, nor in the body.
        channels: The channels of the four convolutions.
        side: The side of the images, divisible by 16.

    Raises:
        InputError: If there is no head, there are not four convolutions, a size is below 1, or the side does not fit.

    Example:
        >>> import torch
        >>> net = ConvFourHeads([10, 50], seed=0)
        >>> [tuple(y.shape) for y in net(torch.zeros(2, 3, 32, 32))]
        [(2, 10), (2, 50)]

    References:
        Vinyals, Blundell, Lillicrap, Kavukcuoglu, Wierstra, "Matching networks for one shot learning", NeurIPS 2016.
    """

    def __init__(
        self,
        outputs: Sequence[int],
        *,
        seed: int,
        channels: tuple[int, int, int, int] = (64, 64, 64, 64),
        side: int = 32,
    ) -> None:
        super().__init__()
        sizes("channels", channels)
        if len(channels) != 4:
            rule, finding = "`channels` must name four convolutions.", f"It names {len(channels)}."
            raise InputError(explain(rule, finding, "Pass four widths, e.g. (64, 64, 64, 64)."))
        if side < 16 or side % 16:
            rule = "`side` must be divisible by 16, for it is halved four times."
            raise InputError(explain(rule, f"It is {side}.", "Resize the images to 32 × 32."))
        self.side = side
        self.body = seeded(seed, "body", lambda: nn.Sequential(*map(_block, (3, *channels[:-1]), channels)))
        self.heads = seeded_heads(seed, outputs, lambda n: nn.Linear(channels[-1] * (side // 16) ** 2, n))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of every image.

        Args:
            images: Shape (B, 3, side, side).

        Returns:
            One tensor for each head, of shape (B, outputs[k]): raw, without softmax.
        """
        square(images, self.side)
        features = self.body(images).flatten(1)
        return tuple(head(features) for head in self.heads)


def _block(inputs: int, outputs: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inputs, outputs, 3, padding=1), nn.BatchNorm2d(outputs), nn.ReLU(), nn.MaxPool2d(2))
