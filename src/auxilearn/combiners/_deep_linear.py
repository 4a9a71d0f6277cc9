"""A weight for each loss, written as a product of matrices."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor, nn

from auxilearn.combiners._balanced import balanced_stack, closing_row
from auxilearn.combiners._base import LossCombiner
from auxilearn.combiners._losses import check_widths, mean_per_loss
from auxilearn.combiners._positive import Positive


@final
class DeepLinear(LossCombiner):
    r"""A weighted sum of the losses whose weights are a product of positive matrices.

    .. math:: L_T = a^\top M_L \cdots M_1\, \bar\ell \;[\, + \bar\ell_{\text{main}} \,], \qquad M_l, a > 0

    It can express what :class:`Linear` can, and learns it along other paths: losses that share hidden units rise and
    fall together, and weights that are large move faster. All weights start at 1.

    Args:
        num_losses: :math:`K`.
        hidden: The widths of the hidden layers, from the losses upwards; at least one.
        main: See :class:`LossCombiner`.
        check_finite: See :class:`LossCombiner`.
        generator: The source of randomness of the initial matrices, torch's own by default.

    Raises:
        InputError: If an argument is out of range.

    Example:
        >>> combiner = DeepLinear(3, hidden=(4, 2))
        >>> combiner.weights.round(decimals=4)
        tensor([1., 1., 1.])

    References:
        Navon et al., "Auxiliary Learning by Implicit Differentiation", ICLR 2021: its "deep linear" network; Arora et
        al., "On the optimization of deep networks: implicit acceleration by overparameterization", ICML 2018.
    """

    def __init__(
        self,
        num_losses: int,
        *,
        hidden: Sequence[int] = (8,),
        main: int | None = None,
        check_finite: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(num_losses, main=main, check_finite=check_finite, ndims=(1, 2, 4))
        check_widths("hidden", hidden)
        self.layers = nn.ModuleList(Positive(matrix) for matrix in balanced_stack(num_losses, hidden, generator))
        self.head = Positive(closing_row(num_losses, hidden))

    @property
    def weights(self) -> Tensor:
        """The present weights, ``(K,)``, without a graph; the main loss that ``main`` adds is not in them."""
        return self._product().detach()

    def _product(self) -> Tensor:
        row: Tensor = self.head()
        for layer in reversed(self.layers):
            row = row @ layer()
        return row

    def _combine(self, losses: Tensor, /) -> Tensor:
        return (self._product() * mean_per_loss(losses)).sum()
