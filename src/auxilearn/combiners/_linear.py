"""One weight for each loss."""

from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor, nn

from auxilearn._checks import positive
from auxilearn.combiners._base import LossCombiner
from auxilearn.combiners._losses import mean_per_loss, per_loss
from auxilearn.combiners._positive import Positive, check_initial


@final
class Linear(LossCombiner):
    r"""A weighted sum of the losses.

    .. math:: L_T = \sum_k w_k(\theta_k)\, \bar\ell_k \;[\, + \bar\ell_{\text{main}} \,], \qquad 0 < w_k < c

    At :math:`\theta = 0` all weights are their initial values: training starts with equal weights, and weight decay on
    :math:`\theta` shrinks toward equal weights. See :class:`Positive` for :math:`w(\theta)`; it replaces the clamping
    after each step that the paper's code uses, which leaves the optimizer's momentum pointing outside.

    Args:
        num_losses: :math:`K`.
        main: See :class:`LossCombiner`.
        init: The initial weights, one number for all or one for each loss.
        growth: ``"exp"``, where equal steps multiply a weight by equal factors, or ``"softplus"``, where they add.
        cap: :math:`c`, approached smoothly and never reached, or None. It bounds how far one loss can drown the others,
            and how much the step of the primary network can grow.
        monotone: False allows weights of either sign, :math:`w = w_0 + \theta` with :math:`|w| < c`: a loss may then be
            maximised. It is the choice that needs the most data in the outer loss.
        check_finite: See :class:`LossCombiner`.

    Raises:
        InputError: If an argument is out of range, or ``init`` is not between 0 and the cap.

    Example:
        >>> combiner = Linear(2)
        >>> combiner(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor(5., grad_fn=<SumBackward0>)
        >>> combiner.weights
        tensor([1., 1.])

    References:
        Navon et al., "Auxiliary Learning by Implicit Differentiation", ICLR 2021: its "linear" network.
    """

    def __init__(
        self,
        num_losses: int,
        *,
        main: int | None = None,
        init: float | Sequence[float] | Tensor = 1.0,
        growth: Literal["exp", "softplus"] = "exp",
        cap: float | None = 10.0,
        monotone: bool = True,
        check_finite: bool = True,
    ) -> None:
        super().__init__(num_losses, main=main, check_finite=check_finite, ndims=(1, 2, 4))
        initial = per_loss("init", init, num_losses)
        self.weight = Positive(initial, growth=growth, cap=cap) if monotone else _Signed(initial, cap=cap)

    @property
    def weights(self) -> Tensor:
        """The present weights, ``(K,)``, without a graph; the main loss that ``main`` adds is not in them."""
        return self.weight().detach()

    def _combine(self, losses: Tensor, /) -> Tensor:
        return (self.weight() * mean_per_loss(losses)).sum()


@final
class _Signed(nn.Module):
    # w = s(u₀ + θ) with s(u) = u / √(1 + (u/c)²): smooth, |w| < c, and with a slope that falls only as |u|⁻³.
    initial: Tensor

    def __init__(self, initial: Tensor, *, cap: float | None) -> None:
        super().__init__()
        if cap is not None:
            positive("cap", cap)
        check_initial(initial, above=None if cap is None else -cap, below=cap)
        self.cap = cap
        self.theta = nn.Parameter(torch.zeros_like(initial))
        self.register_buffer("initial", initial)

    def forward(self) -> Tensor:
        if self.cap is None:
            return self.initial + self.theta
        cap = torch.full_like(self.initial, self.cap)
        start = self.initial / (1 - (self.initial / cap).square()).sqrt()  # s(start) = initial
        u = start + self.theta
        # Added as a difference, so that θ = 0 is the initial weight to the last bit.
        return self.initial + cap * (u / torch.hypot(u, cap) - start / torch.hypot(start, cap))

    def extra_repr(self) -> str:
        return f"{tuple(self.initial.shape)}, cap={self.cap}"
