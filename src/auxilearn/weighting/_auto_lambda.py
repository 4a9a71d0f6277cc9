"""Auto-lambda: weights that lower the main loss on another batch, one step ahead."""

from typing import final

import torch
from torch import Tensor

from auxilearn import _checks
from auxilearn.weighting._learned import LearnedWeighting
from auxilearn.weighting._outer import moved, needed, outer_gradient
from auxilearn.weighting._step import Step


@final
class AutoLambda(LearnedWeighting):
    r"""Step the weights along the gradient of the outer loss after a look-ahead of one step.

    .. math:: W'(\lambda) = W - \eta \sum_k \lambda_k\, g_k(W), \qquad
        \frac{\partial L_{\text{out}}(W')}{\partial \lambda_k}
        = -\eta\, \langle g_k(W),\, \nabla L_{\text{out}}(W') \rangle

    The outer loss is the main one on another training batch. All weights are learned, the main one's too.

    Deviations from the paper and its code: the product is computed exactly, from the gradients of this step, where they
    take finite differences of the losses at :math:`W \pm \epsilon \nabla L_{\text{out}}(W')`; the look-ahead is one of
    plain gradient descent, without momentum and weight decay; and weights are clamped at ``minimum``, for below zero a
    loss would be maximised. The defaults are those of the authors' code, made for tens of thousands of steps: short
    runs want a larger ``lr``.

    Args:
        lr: Adam's learning rate.
        init: The initial weight of each loss.
        every: The steps between two updates of the weights.
        minimum: The smallest weight.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If ``lr`` or ``every`` is not positive, or ``init`` is below ``minimum``.

    Example:
        >>> w = torch.zeros(2, requires_grad=True)
        >>> losses = torch.stack([(w - 1).square().sum(), (w + 1).square().sum()])
        >>> outer = lambda: (w - 1).square().sum()
        >>> weighting = AutoLambda(lr=0.01)
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> weighting.weights(Step(losses, (w,), number=0, main=0, learning_rate=0.1, outer=outer))
        tensor([0.1100, 0.0900])

    References:
        Liu et al., "Auto-Lambda: Disentangling Dynamic Task Relationships", TMLR 2022, Eq. (3) to (6).
    """

    def __init__(
        self,
        *,
        lr: float = 1e-4,
        init: float = 0.1,
        every: int = 1,
        minimum: float = 0.0,
        normalise: bool = False,
    ) -> None:
        super().__init__(lr=lr, normalise=normalise)
        _checks.count("every", every, 1)
        _checks.at_least("minimum", minimum, 0.0)
        _checks.at_least("init", init, minimum)
        self.init, self.every, self.minimum = init, every, minimum

    def start(self) -> Tensor:
        """Start at equal weights.

        Returns:
            The initial weights, ``(K,)``.
        """
        return torch.full((self.num_losses,), float(self.init))

    def _weigh(self, step: Step, /) -> Tensor:
        outer = needed("AutoLambda", step)
        if step.number % self.every == 0:
            J = step.gradients()
            with moved(step.params, -step.learning_rate * (self.theta.detach().to(J) @ J)):
                ahead = outer_gradient(outer, step.params)
            self.descend(-step.learning_rate * (J @ ahead), minimum=self.minimum)
        return self.theta.detach().to(step.losses, copy=True)
