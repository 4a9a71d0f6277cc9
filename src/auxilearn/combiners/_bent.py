"""One weight for each loss, after a bend of each sample's loss: a learned robust loss."""

import math
from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor, nn

from auxilearn.combiners._base import LossCombiner
from auxilearn.combiners._bend import Bend, BendKind
from auxilearn.combiners._losses import per_loss
from auxilearn.combiners._positive import Positive


@final
class Bent(LossCombiner):
    r"""A weighted sum of bent losses, increasing in every loss; one bend serves all of them.

    .. math:: L_T = \frac1B \sum_{i,k} w_k\, \frac{\operatorname{bend}(s\, \ell_{ik})}{s}
        \;[\, + \bar\ell_{\text{main}} \,], \qquad w_k, s > 0

    A weight says how far to trust a loss, the bend how far to trust a sample whose loss is large. Where labels of one
    source are right for some samples and wrong for others, no weight can part them, but a concave bend does: once the
    network has an opinion, wrong labels are those with a large loss, and their pull

    .. math:: \frac{\partial L_T}{\partial \ell_{ik}}
        = \frac{w_k}{B} \left[1 + q \tanh\tfrac{s\,\ell_{ik} + b}{2}\right], \qquad
        s = 10^{u / \sqrt{1 + u^2}}, \quad u = \theta_s / \ln 10

    falls to almost nothing. With :math:`q = -1` and a cross entropy :math:`\ell = -\ln p` it falls like :math:`p^s`, as
    in the generalised cross entropy; here the data choose :math:`q` (how much), :math:`b` (where) and :math:`s` (how
    sharply).

    It starts as the plain sum of the losses. With the weights it has K + 3 parameters, which few held-back samples can
    determine; :class:`MLP` has many times more. ``shared=False`` bends each loss by itself, with 4 K.

    Args:
        num_losses: :math:`K`.
        bend: ``"learned"`` decides whether large losses count more or less, ``"convex"`` and ``"concave"`` do not; see
            :class:`MLP`.
        shared: Whether all losses have one bend. They should then be on one scale; see :class:`Standardized`.
        main: See :class:`LossCombiner`.
        init: The initial weights, one number for all or one for each loss.
        growth: See :class:`Linear`.
        cap: See :class:`Linear`.
        check_finite: See :class:`LossCombiner`.

    Raises:
        InputError: If an argument is out of range.

    Example:
        >>> combiner = Bent(2)
        >>> losses = torch.tensor([[1.0, 2.0], [3.0, 4.0]])
        >>> round(combiner(losses).item(), 4)
        5.0
        >>> _ = combiner.bend.tau.data.fill_(-2.0)  # concave: large losses count less
        >>> combiner.weights_at(losses)
        tensor([0.6329, 0.3410])

    References:
        Zhang and Sabuncu, "Generalized cross entropy loss for training deep neural networks with noisy labels",
        NeurIPS 2018, Sec. 3.2, for a fixed shape; Navon et al., "Auxiliary Learning by Implicit Differentiation",
        ICLR 2021, for learning a nonlinear combination.
    """

    def __init__(
        self,
        num_losses: int,
        *,
        bend: BendKind = "learned",
        shared: bool = True,
        main: int | None = None,
        init: float | Sequence[float] | Tensor = 1.0,
        growth: Literal["exp", "softplus"] = "exp",
        cap: float | None = 10.0,
        check_finite: bool = True,
    ) -> None:
        super().__init__(num_losses, main=main, check_finite=check_finite)
        width = 1 if shared else num_losses
        self.weight = Positive(per_loss("init", init, num_losses), growth=growth, cap=cap)
        self.theta = nn.Parameter(torch.zeros(width))
        self.bend = Bend(width, bend, level=1.0)

    @property
    def weights(self) -> Tensor:
        """The present weights, ``(K,)``, without a graph: how much each loss counts where the bend's slope is 1."""
        return self.weight().detach()

    @property
    def sharpness(self) -> Tensor:
        """The present s, ``(1,)`` or, if not shared, ``(K,)``, without a graph; always between 0.1 and 10."""
        return self._sharpness().detach()

    def _sharpness(self) -> Tensor:
        # Bounded on both sides, since the bend divides by it: without steepness nothing would be left of it. Like the
        # cap of `Positive`, the bounds are approached slowly enough to come back from.
        reach = torch.full_like(self.theta, math.log(10.0))
        return (reach * self.theta / torch.hypot(reach, self.theta)).exp()

    def _combine(self, losses: Tensor, /) -> Tensor:
        rows = losses.reshape(-1, self.num_losses)  # (B, K); one sample if already averaged
        sharpness = self._sharpness().to(rows.dtype)  # (1,) or (K,), as the bend
        bent = self.bend(rows * sharpness) / sharpness
        return (bent.mean(0) * self.weight()).sum()
