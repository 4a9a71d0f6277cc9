"""SegNet with one small head for each task."""

from collections.abc import Sequence
from typing import final

from torch import Tensor, nn

from auxilearn.models._seeded import seeded, seeded_heads
from auxilearn.models._seg_net_body import SegNetBody, dense_head


@final
class SegNetSplit(nn.Module):
    """SegNet, whose encoder and decoder all tasks share; a 3 × 3 and a 1 × 1 convolution for each task.

    MTAN's "Split, standard" has the default widths, 25 055 185 weights with the tasks of NYUv2. The original AuxiLearn
    took those of MTAN's "Split, wide", (64, 128, 256, 512, 1024), 43 934 161 weights.

    Args:
        outputs: The channels of each head.
        seed: The seed of the initial weights; the global random state is not touched. More heads change nothing in
            those before them.
        widths: The channels of the stages.

    Raises:
        InputError: If there is no head or no stage, or a size is below 1.

    Example:
        >>> import torch
        >>> net = SegNetSplit([13, 1, 3], seed=0, widths=(4, 4, 4, 4, 4))
        >>> [tuple(y.shape) for y in net(torch.zeros(2, 3, 32, 64))]
        [(2, 13, 32, 64), (2, 1, 32, 64), (2, 3, 32, 64)]

    References:
        Badrinarayanan, Kendall, Cipolla, "SegNet", 2017; Liu, Johns, Davison, "End-to-end multi-task learning with
        attention", CVPR 2019, whose baseline "Split" this is.
    """

    def __init__(self, outputs: Sequence[int], *, seed: int, widths: Sequence[int] = (64, 128, 256, 512, 512)) -> None:
        super().__init__()
        self.body = seeded(seed, "body", lambda: SegNetBody(widths))
        self.heads = seeded_heads(seed, outputs, lambda n: dense_head(widths[0], n))

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Compute the outputs of every pixel.

        Args:
            images: Shape (B, 3, H, W); with five stages, H and W are divisible by 32.

        Returns:
            One tensor for each head, of shape (B, outputs[k], H, W): raw, without softmax or normalisation.
        """
        _, decoded = self.body(images)
        return tuple(head(decoded[0].last) for head in self.heads)
