"""Weighted sums of the losses."""

from typing import final

from torch import Tensor, nn

from auxilearn import _checks
from auxilearn.combiners._losses import check_losses, check_main
from auxilearn.hypernet._base import HyperNet, MonoHyperNet
from auxilearn.hypernet._weights import normalized


class _Linear(HyperNet):
    def _build(self, skip_connection: bool, init_value: float, weight_normalization: bool) -> None:
        _checks.count("input_dim", self.input_dim, 1)
        if skip_connection:
            check_main("main_task", self.main_task, self.input_dim)
        self.skip_connection = skip_connection
        self.init_value = init_value
        self.weight_normalization = weight_normalization
        linear = nn.Linear(self.input_dim, 1, bias=False)
        nn.init.constant_(linear.weight, init_value)
        self.linear = normalized(linear) if weight_normalization else linear

    def forward(self, losses: Tensor, outputs: object = None, labels: object = None, data: object = None) -> Tensor:
        check_losses(losses, self.input_dim, (2,))
        combined: Tensor = self.linear(losses).mean()
        return combined + losses[:, self.main_task].mean() if self.skip_connection else combined


@final
class LinearHyperNet(_Linear):
    r"""A weighted sum of the losses, of either sign.

    .. math:: L_T = \frac1B \sum_i w^\top \ell_i \;[\, + \bar\ell_{\text{main}} \,]

    Args:
        main_task: The index of the main loss; it may be None without a skip connection.
        input_dim: :math:`K`, how many losses there are.
        skip_connection: Whether to add the mean main loss.
        init_value: The initial value of all weights.
        weight_normalization: Whether to write the weights as length times direction.

    Raises:
        InputError: If an argument is out of range.

    Example:
        >>> import torch
        >>> net = LinearHyperNet(main_task=0, input_dim=2, skip_connection=True)
        >>> net(torch.tensor([[1.0, 2.0]]))
        tensor(4., grad_fn=<AddBackward0>)
    """

    def __init__(
        self,
        main_task: int | None,
        input_dim: int,
        skip_connection: bool = False,
        init_value: float = 1.0,
        weight_normalization: bool = True,
    ) -> None:
        super().__init__(main_task, input_dim)
        self._build(skip_connection, init_value, weight_normalization)


@final
class MonoLinearHyperNet(_Linear, MonoHyperNet):
    """A :class:`LinearHyperNet` with ``clamp()``; :class:`auxilearn.combiners.Linear` does not need one.

    Args:
        main_task: See :class:`LinearHyperNet`.
        input_dim: See :class:`LinearHyperNet`.
        skip_connection: See :class:`LinearHyperNet`.
        clamp_bias: Without effect, for there is no bias.
        init_value: See :class:`LinearHyperNet`.
        weight_normalization: See :class:`LinearHyperNet`.

    Raises:
        InputError: If an argument is out of range.

    Example:
        >>> net = MonoLinearHyperNet(main_task=0, input_dim=2, init_value=-1.0)
        >>> net.clamp()
        >>> net.linear.weight.tolist()
        [[0.0, 0.0]]
    """

    def __init__(
        self,
        main_task: int | None,
        input_dim: int,
        skip_connection: bool = False,
        clamp_bias: bool = False,
        init_value: float = 1.0,
        weight_normalization: bool = True,
    ) -> None:
        super().__init__(main_task, input_dim, clamp_bias)
        self._build(skip_connection, init_value, weight_normalization)
