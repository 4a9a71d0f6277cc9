"""A monotone network on the vector of losses of each sample."""

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
class MLP(LossCombiner):
    r"""A multilayer perceptron on each sample's losses, increasing in every loss.

    .. math:: L_T = \frac1B \sum_i a^\top h_L(\ell_i) \;[\, + \bar\ell_{\text{main}} \,], \qquad
        h_l = \operatorname{bend}_l(M_l h_{l-1}), \quad h_0 = \ell_i, \quad M_l, a > 0

    So a sample counts more or less depending on all of its losses. The weights are positive and the activation
    increases, hence no loss is rewarded for growing. Nothing is added after the last layer, where it would change no
    gradient, and losses of 0 give 0.

    With ``bend="learned"`` the network starts as the plain sum of the losses, with weight 1 for each. ``"convex"`` is
    the softplus of the paper, where large losses count more; it and ``"concave"`` start with weight 1 where the losses
    are 1, as they are after :class:`Standardized`.

    Args:
        num_losses: :math:`K`.
        hidden: The widths of the hidden layers, from the losses upwards; at least one.
        bend: The activation: ``"learned"`` decides for each unit whether large losses count more or less, ``"convex"``
            is :math:`2\operatorname{softplus}(z + b)`, ``"concave"`` :math:`-2\operatorname{softplus}(-z - b)`, up to
            constants.
        main: See :class:`LossCombiner`.
        check_finite: See :class:`LossCombiner`.
        generator: The source of randomness of the initial matrices, torch's own by default.

    Raises:
        InputError: If an argument is out of range.

    Example:
        >>> combiner = MLP(2, hidden=(4,))
        >>> round(combiner(torch.tensor([[1.0, 2.0], [3.0, 4.0]])).item(), 4)
        5.0

    References:
        Navon et al., "Auxiliary Learning by Implicit Differentiation", ICLR 2021: its "nonlinear" network; Runje and
        Shankaranarayana, "Constrained monotonic neural networks", ICML 2023, on why positive weights with only convex
        activations express only convex functions.
    """

    def __init__(
        self,
        num_losses: int,
        *,
        hidden: Sequence[int] = (8,),
        bend: BendKind = "learned",
        main: int | None = None,
        check_finite: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__(num_losses, main=main, check_finite=check_finite)
        check_widths("hidden", hidden)
        self.layers = nn.ModuleList(Positive(matrix) for matrix in balanced_stack(num_losses, hidden, generator))
        self.bends = stacked_bends(hidden, bend)
        self.head = Positive(closing_row(num_losses, hidden))

    def _combine(self, losses: Tensor, /) -> Tensor:
        units = losses.view(-1, self.num_losses)  # (B, K); one sample if already averaged
        for layer, bend in zip(self.layers, self.bends, strict=True):
            units = bend(F.linear(units, layer().to(units.dtype)))  # (B, width)
        return (units * self.head()).sum(1).mean()
