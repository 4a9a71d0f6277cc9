"""Multilayer perceptrons on the losses of each sample."""

from collections.abc import Sequence
from itertools import pairwise
from typing import final

from torch import Tensor, nn

from auxilearn import _checks
from auxilearn.combiners._losses import check_losses, check_main, check_widths
from auxilearn.hypernet._base import HyperNet, MonoHyperNet
from auxilearn.hypernet._weights import drawn


class _Nonlinear(HyperNet):
    # Whether layers without a nonlinearity between them keep their biases, which then add up to one constant.
    _keeps_idle_bias = True

    def __init__(
        self,
        main_task: int,
        input_dim: int,
        hidden_sizes: int | Sequence[int] = 1,
        nonlinearity: nn.Module | None = None,
        bias: bool = True,
        dropout_rate: float = 0.0,
        init_upper: float | None = None,
        init_lower: float | None = None,
        weight_normalization: bool = True,
    ) -> None:
        super().__init__(main_task, input_dim)
        _checks.count("input_dim", self.input_dim, 1)
        check_main("main_task", self.main_task, self.input_dim)
        hidden = [hidden_sizes] if isinstance(hidden_sizes, int) else hidden_sizes
        check_widths("hidden_sizes", hidden)
        self.nonlinearity = nonlinearity if nonlinearity is not None else nn.Softplus()
        self.dropout = nn.Dropout(dropout_rate)
        self.bias = bias and (self._keeps_idle_bias or not isinstance(nonlinearity, nn.Identity))
        self.weight_normalization = weight_normalization
        bounds = (init_lower, init_upper)
        layers: list[nn.Module] = []
        for columns, rows in pairwise((self.input_dim, *hidden)):
            layer = drawn(nn.Linear(columns, rows, bias=self.bias), *bounds, normalize=weight_normalization)
            layers += [layer, self.nonlinearity, self.dropout]
        head = drawn(nn.Linear(hidden[-1], 1, bias=False), *bounds, normalize=weight_normalization)
        self.net = nn.Sequential(*layers, head)

    def forward(self, losses: Tensor, outputs: object = None, labels: object = None, data: object = None) -> Tensor:
        check_losses(losses, self.input_dim, (2,))
        return self.net(losses).mean() + losses[:, self.main_task].mean()


@final
class NonlinearHyperNet(_Nonlinear):
    r"""A multilayer perceptron on the losses of each sample, plus the mean main loss.

    .. math:: L_T = \frac1B \sum_i \operatorname{net}(\ell_i) + \bar\ell_{\text{main}}

    Args:
        main_task: The index of the main loss.
        input_dim: :math:`K`, how many losses there are.
        hidden_sizes: The width of the hidden layer, or the list of widths of several.
        nonlinearity: The activation, softplus by default.
        bias: Whether hidden layers have a bias; the last layer has none.
        dropout_rate: The share of hidden units that are dropped while training.
        init_upper: Weights are drawn uniformly from below this, 1 by default.
        init_lower: Weights are drawn uniformly from above this, 0 by default.
        weight_normalization: Whether to write the weights as length times direction.

    Raises:
        InputError: If an argument is out of range.

    Example:
        >>> import torch
        >>> net = NonlinearHyperNet(main_task=0, input_dim=3, hidden_sizes=[4, 2])
        >>> net(torch.ones(8, 3)).shape
        torch.Size([])
    """


@final
class MonoNonlinearHyperNet(_Nonlinear, MonoHyperNet):
    """A :class:`NonlinearHyperNet` with ``clamp()``; :class:`auxilearn.combiners.MLP` does not need one.

    Args:
        main_task: See :class:`NonlinearHyperNet`.
        input_dim: See :class:`NonlinearHyperNet`.
        hidden_sizes: See :class:`NonlinearHyperNet`.
        nonlinearity: See :class:`NonlinearHyperNet`; it must be increasing, which is not checked.
        bias: See :class:`NonlinearHyperNet`; with :class:`Identity` there are no biases, which would do nothing.
        dropout_rate: See :class:`NonlinearHyperNet`.
        init_upper: See :class:`NonlinearHyperNet`.
        init_lower: See :class:`NonlinearHyperNet`; if negative, call ``clamp()`` before the first use.
        weight_normalization: See :class:`NonlinearHyperNet`.

    Raises:
        InputError: If an argument is out of range.

    Example:
        >>> net = MonoNonlinearHyperNet(main_task=0, input_dim=3, hidden_sizes=4, init_lower=-1.0)
        >>> net.clamp()
        >>> bool((net.net[0].weight >= 0).all())
        True
    """

    _keeps_idle_bias = False
