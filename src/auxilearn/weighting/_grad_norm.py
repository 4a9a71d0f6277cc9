"""GradNorm: give the losses gradients of comparable length, longer ones to those that fall behind."""

from typing import Literal, final

import torch
from torch import Tensor

from auxilearn import _checks
from auxilearn.weighting._learned import LearnedWeighting
from auxilearn.weighting._step import Step


@final
class GradNorm(LearnedWeighting):
    r"""Balance the lengths of the weighted gradients.

    .. math:: \min_w \sum_k \Big| w_k \lVert g_k \rVert - \bar G\, r_k^{\alpha} \Big|, \qquad
        r_k = \frac{\ell_k / \ell_k(0)}{\operatorname{mean}_i \ell_i / \ell_i(0)}, \qquad
        \bar G = \operatorname{mean}_i w_i \lVert g_i \rVert

    with the goal :math:`\bar G\, r_k^\alpha` held constant. Each step takes one step of Adam on it; the weights of a
    step are those before. All losses are treated alike, the main one too.

    Deviations from the paper: :math:`w = K \operatorname{softmax}(\theta)` replaces the division by the sum after each
    step; it keeps the weights above zero too. :math:`\ell_k(0)` is the first positive value that loss k had; until then
    :math:`\ell_k / \ell_k(0) = 1`.

    Args:
        alpha: :math:`\alpha`, the force that restores balance; 0 makes all lengths equal.
        lr: Adam's learning rate; the paper's.
        on: The weights that the lengths are measured on: the ``"last"`` shared matrix, as in the paper, or all that are
            ``"shared"``.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If ``alpha`` is negative, ``lr`` not positive, or ``on`` something else.

    Example:
        >>> w = torch.ones(2, requires_grad=True)
        >>> step = Step(torch.stack([w.sum(), 10 * w.sum()]), (w,), number=0, main=0, learning_rate=0.1)
        >>> weighting = GradNorm()
        >>> weighting.prepare(num_losses=2, main=0, steps=300)
        >>> for _ in range(300):
        ...     weights = weighting.weights(step)
        >>> bool((weights[0] - 10 * weights[1]).abs() < 0.1)
        True

    References:
        Chen et al., "GradNorm: Gradient Normalization for Adaptive Loss Balancing in Deep Multitask Networks", ICML
        2018, Eq. (1), (2) and Alg. 1.
    """

    initial: Tensor

    def __init__(
        self,
        *,
        alpha: float = 1.5,
        lr: float = 0.025,
        on: Literal["last", "shared"] = "last",
        normalise: bool = False,
    ) -> None:
        super().__init__(lr=lr, normalise=normalise)
        _checks.at_least("alpha", alpha, 0.0)
        _checks.one_of("on", on, ("last", "shared"))
        self.alpha = alpha
        self.on = on

    def start(self) -> Tensor:
        r"""Start at :math:`\theta = 0`.

        Returns:
            Zeros, ``(K,)``.
        """
        return torch.zeros(self.num_losses)

    def allocate(self) -> None:
        """Start at equal weights, with no initial loss known."""
        super().allocate()
        self.register_buffer("initial", torch.full((self.num_losses,), torch.nan))

    def _weigh(self, step: Step, /) -> Tensor:
        gradients = step.last_shared_gradients() if self.on == "last" else step.shared_gradients()
        lengths = gradients.square().sum(1).sqrt().to(self.theta)
        losses = step.losses.detach().to(self.theta)
        self.initial.copy_(torch.where(self.initial.isnan() & (losses > 0), losses, self.initial))
        with torch.enable_grad():
            weights = self.num_losses * self.theta.softmax(0)
            scaled = weights * lengths  # G
            # A loss that has turned negative has no rate of descent; it is taken as done.
            fallen = (losses / self.initial).nan_to_num(nan=1.0).clamp(min=0.0)  # ℓ / ℓ(0)
            rate = fallen / fallen.mean().clamp(min=torch.finfo(fallen.dtype).tiny)  # r
            goal = (scaled.mean() * rate**self.alpha).detach()
            (gradient,) = torch.autograd.grad((scaled - goal).abs().sum(), self.theta)
        self.descend(gradient)
        return weights.detach().to(step.losses)
