"""Convolutional networks on the loss image of each sample."""

from itertools import pairwise
from typing import Literal, final

from torch import Tensor, nn

from auxilearn import _checks
from auxilearn._checks import explain, one_of
from auxilearn.combiners._losses import check_losses, check_main
from auxilearn.errors import InputError
from auxilearn.hypernet._base import HyperNet, MonoHyperNet
from auxilearn.hypernet._weights import drawn


class _Conv(HyperNet):
    def _build(
        self,
        reduction: Literal["mean", "sum"],
        channels: tuple[int, ...],
        bounds: tuple[float | None, float | None],
        head_bounds: tuple[float | None, float | None],
        weight_normalization: bool,
    ) -> None:
        one_of("reduction", reduction, ("mean", "sum"))
        _checks.count("input_channels", self.input_dim, 1)
        if self.main_task is not None:
            check_main("main_task", self.main_task, self.input_dim)
        self.reduction = reduction
        self.weight_normalization = weight_normalization
        self._smallest_side = 2 ** len(channels)
        layers: list[nn.Module] = []
        for columns, rows in pairwise((self.input_dim, *channels)):
            layer = drawn(nn.Conv2d(columns, rows, 3, padding=1), *bounds, normalize=weight_normalization)
            layers += [layer, nn.Softplus(), nn.AvgPool2d(2)]
        head = drawn(nn.Conv2d(channels[-1], 1, 1, bias=False), *head_bounds, normalize=weight_normalization)
        self.conv = nn.Sequential(*layers, head)

    def forward(self, losses: Tensor, outputs: object = None, labels: object = None, data: object = None) -> Tensor:
        check_losses(losses, self.input_dim, (4,))
        if min(losses.shape[2:]) < self._smallest_side:
            rule = f"Loss images must measure at least {self._smallest_side} pixels on each side, for the pooling."
            cure = "Use larger images, or `auxilearn.combiners.Conv`, which takes any size."
            raise InputError(explain(rule, f"They measure {tuple(losses.shape[2:])}.", cure))
        combined: Tensor = self.conv(losses).mean()
        if self.main_task is None:
            return combined
        main = losses[:, self.main_task]  # (B, H, W)
        return combined + (main.mean() if self.reduction == "mean" else main.sum((1, 2)).mean())


@final
class NoFCCNNHyperNet(_Conv):
    r"""Three 3×3 convolutions on each sample's loss image, with softplus and average pooling, then a 1×1 convolution.

    .. math:: L_T = \frac1B \sum_i \operatorname{mean}(\operatorname{conv}(\ell_i)) \;[\, + \ell_{\text{main}} \,]

    Args:
        main_task: The index of the main loss, or None not to add it.
        reduction: Whether the main loss that is added is the ``"mean"`` or the ``"sum"`` over pixels.
        input_channels: :math:`K`, how many losses there are.
        init_upper: Weights are drawn uniformly from below this; those of the 1×1 convolution, as in the original, from
            0 to 1 whatever is given.
        init_lower: Weights are drawn uniformly from above this.
        weight_normalization: Whether to write the weights as length times direction.

    Raises:
        InputError: If an argument is out of range.

    Example:
        >>> import torch
        >>> NoFCCNNHyperNet(main_task=0)(torch.ones(2, 3, 8, 8)).shape
        torch.Size([])
    """

    def __init__(
        self,
        main_task: int | None,
        reduction: Literal["mean", "sum"] = "mean",
        input_channels: int = 3,
        init_upper: float | None = 0.1,
        init_lower: float | None = 0.0,
        weight_normalization: bool = False,
    ) -> None:
        super().__init__(main_task, input_channels)
        self._build(reduction, (8, 16, 32), (init_lower, init_upper), (None, None), weight_normalization)


@final
class MonoNoFCCNNHyperNet(_Conv, MonoHyperNet):
    r"""Two 3×3 convolutions, otherwise a :class:`NoFCCNNHyperNet`, with ``clamp()``.

    :class:`auxilearn.combiners.Conv` does not need one, and its 3×3 convolutions do not dilute borders either.

    Args:
        main_task: See :class:`NoFCCNNHyperNet`.
        reduction: See :class:`NoFCCNNHyperNet`.
        init_upper: All weights are drawn uniformly from below this.
        init_lower: All weights are drawn uniformly from above this.
        input_channels: See :class:`NoFCCNNHyperNet`.
        weight_normalization: See :class:`NoFCCNNHyperNet`.

    Raises:
        InputError: If an argument is out of range.

    Example:
        >>> import torch
        >>> net = MonoNoFCCNNHyperNet(main_task=None, input_channels=2, init_lower=-0.1)
        >>> net.clamp()
        >>> net(torch.ones(2, 2, 8, 8)).shape
        torch.Size([])
    """

    def __init__(
        self,
        main_task: int | None,
        reduction: Literal["mean", "sum"] = "mean",
        init_upper: float | None = 0.1,
        init_lower: float | None = 0.0,
        input_channels: int = 3,
        weight_normalization: bool = False,
    ) -> None:
        super().__init__(main_task, input_channels)
        bounds = (init_lower, init_upper)
        self._build(reduction, (8, 16), bounds, bounds, weight_normalization)
