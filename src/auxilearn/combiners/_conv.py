"""A monotone convolutional network on the loss image of each sample."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from auxilearn.combiners._balanced import balanced_stack, closing_row
from auxilearn.combiners._base import LossCombiner
from auxilearn.combiners._bend import BendKind, stacked_bends
from auxilearn.combiners._losses import check_widths
from auxilearn.combiners._positive import Positive


@final
class Conv(LossCombiner):
    r"""A convolutional network on each sample's loss image, increasing in every loss of every pixel.

    .. math:: L_T = \frac1B \sum_i \operatorname{mean}\bigl(a^\top h_L(\ell_i)\bigr) \;[\, + \bar\ell_{\text{main}} \,],
        \qquad h_l = \operatorname{pool}\,\operatorname{bend}_l(M_l * h_{l-1}), \quad h_0 = \ell_i, \quad M_l, a > 0

    One channel for each loss; 3×3 convolutions with average pooling by 2 between them, then one 1×1 convolution without
    bias or padding. So a pixel counts more or less depending on all losses around it.

    Borders are not diluted. The 3×3 convolutions see the border pixels repeated beyond the border: with zeros there, as
    in the original, pixels at the border would count less, and with a mirrored image too; repeated, they count exactly
    as much as any other while the kernels are symmetric, as they are at the start. Sides need not be even: a pooling
    window that hangs over averages what it has, and counts by what it has.

    The network starts as the plain sum of the mean losses, with weight 1 for each; see :class:`MLP` for ``bend``.

    Args:
        num_losses: :math:`K`.
        channels: The channels of the 3×3 convolutions, from the losses upwards; at least one.
        bend: The activation, see :class:`MLP`.
        main: See :class:`LossCombiner`.
        check_finite: See :class:`LossCombiner`.
        generator: The source of randomness of the initial kernels, torch's own by default.

    Raises:
        InputError: If an argument is out of range.

    Example:
        >>> combiner = Conv(2)
        >>> losses = torch.ones(4, 2, 6, 8)  # (B, K, H, W); fill pixels without a label with 0
        >>> round(combiner(losses).item(), 4)
        2.0

    References:
        Navon et al., "Auxiliary Learning by Implicit Differentiation", ICLR 2021: its "ConvNet", over loss images.
    """

    def __init__(
        self,
        num_losses: int,
        *,
        channels: Sequence[int] = (8, 16),
        bend: BendKind = "learned",
        main: int | None = None,
        check_finite: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(num_losses, main=main, check_finite=check_finite, ndims=(4,))
        check_widths("channels", channels)
        # All nine taps start equal: the same sums over rows and columns as a balanced matrix, and symmetric.
        self.kernels = nn.ModuleList(
            Positive(matrix[..., None, None].repeat(1, 1, 3, 3) / 9)
            for matrix in balanced_stack(num_losses, channels, generator)
        )
        self.bends = stacked_bends(channels, bend)
        self.head = Positive(closing_row(num_losses, channels))

    def _combine(self, losses: Tensor, /) -> Tensor:
        image = losses  # (B, K, H, W)
        share = torch.ones_like(losses[:1, :1])  # (1, 1, H, W), how much of each cell lies inside the image
        for kernel, bend in zip(self.kernels, self.bends, strict=True):
            image = bend(F.conv2d(_repeat_border(image), kernel().to(image.dtype)))
            image = F.avg_pool2d(image, 2, ceil_mode=True, count_include_pad=False)
            share = F.avg_pool2d(share, 2, ceil_mode=True, divisor_override=4)
        image = torch.einsum("bchw,c->bhw", image, self.head().to(image.dtype))
        return (image * share[0]).sum() / (share.sum() * len(image))


def _repeat_border(image: Tensor) -> Tensor:
    # F.pad(mode="replicate") has no deterministic backward pass on CUDA.
    image = torch.cat((image[..., :1, :], image, image[..., -1:, :]), -2)
    return torch.cat((image[..., :1], image, image[..., -1:]), -1)
