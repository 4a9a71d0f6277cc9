"""OL-AUX: raise the weight of a loss whose gradient has pointed along the main one's."""

from typing import final

import torch
from torch import Tensor

from auxilearn import _checks
from auxilearn.weighting._learned import LearnedWeighting
from auxilearn.weighting._step import Step


@final
class OLAUX(LearnedWeighting):
    r"""Learn weights online, along the inner products of the gradients, summed over a few steps.

    .. math:: \frac{\partial}{\partial w_k}\, L_{\text{main}}(W_{t+N}) \approx
        -\eta \sum_{j < N} \langle g_{\text{main}}(W_{t+j}),\, g_k(W_{t+j}) \rangle

    Every N steps the weights of the auxiliary losses descend along it. The main loss has weight 1.

    Deviations from the paper: Adam steps the weights, so the scale of the losses matters less; and they are clamped at
    ``minimum``, for below zero a loss would be maximised. The main loss of a step is that of the training batch.

    Args:
        lr: Adam's learning rate; ours.
        every: N, the steps that are summed; the paper tries 1, 5 and 10.
        init: The initial weight of each auxiliary loss.
        minimum: The smallest weight.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If ``lr`` or ``every`` is not positive, or ``init`` is below ``minimum``.

    Example:
        >>> w = torch.zeros(2, requires_grad=True)
        >>> losses = torch.stack([w[0], 3 * w[0] + 4 * w[1], w[1] - w[0]])
        >>> weighting = OLAUX(every=1, lr=0.1)
        >>> weighting.prepare(num_losses=3, main=0, steps=1)
        >>> weighting.weights(Step(losses, (w,), number=0, main=0, learning_rate=0.1))
        tensor([1.0000, 1.1000, 0.9000])

    References:
        Lin et al., "Adaptive Auxiliary Task Weighting for Reinforcement Learning", NeurIPS 2019, Sec. 4.
    """

    products: Tensor

    def __init__(
        self,
        *,
        lr: float = 0.01,
        every: int = 5,
        init: float = 1.0,
        minimum: float = 0.0,
        normalise: bool = False,
    ) -> None:
        super().__init__(lr=lr, normalise=normalise)
        _checks.count("every", every, 1)
        _checks.at_least("minimum", minimum, 0.0)
        _checks.at_least("init", init, minimum)
        self.every, self.init, self.minimum = every, init, minimum

    def start(self) -> Tensor:
        """Start at equal weights.

        Returns:
            The initial weights, ``(K,)``; the one of the main loss is never read.
        """
        return torch.full((self.num_losses,), float(self.init))

    def allocate(self) -> None:
        """Put the weights at their start, and the sums at zero."""
        super().allocate()
        self.register_buffer("products", torch.zeros(self.num_losses))

    def _weigh(self, step: Step, /) -> Tensor:
        gradients = step.gradients()
        self.products += step.learning_rate * (gradients @ gradients[step.main]).to(self.products)
        self.products[step.main] = 0.0
        if (step.number + 1) % self.every == 0:
            self.descend(-self.products, minimum=self.minimum)
            self.products.zero_()
        weights = self.theta.detach().to(step.losses, copy=True)
        weights[step.main] = 1.0
        return weights
