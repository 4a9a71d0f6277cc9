"""Nash-MTL and AuxiNash: the losses bargain for the direction of the step."""

from collections.abc import Callable
from typing import final

import torch
from torch import Tensor

from auxilearn import _checks
from auxilearn.weighting._bargaining import bargain, sensitivity
from auxilearn.weighting._base import Weighting
from auxilearn.weighting._outer import needed, outer_gradient
from auxilearn.weighting._step import Step


@final
class NashMTL(Weighting):
    r"""The Nash bargaining solution: no other step of the same length is better for all, proportionally.

    .. math:: \max_{\lVert d \rVert \le 1} \sum_k \log \langle g_k, d \rangle
        \;\Rightarrow\; d \propto \sum_k \alpha_k g_k, \qquad G \alpha = 1 / \alpha

    The gradients are those of the shared weights. The step's length does not depend on theirs: it is
    :math:`\sqrt K`, or ``max_norm`` if that is less. A loss whose gradient is zero gets the weight 0.

    Deviations from the paper's code: the problem is solved exactly, by Newton's method on its convex form, where it
    takes a sequence of approximations with ECOS; nothing is remembered between steps; ``max_norm`` scales the weights,
    and so the heads too.

    Args:
        max_norm: The longest step on the shared weights, before the learning rate; None does not scale.
        damping: Added to the matrix of cosines; it bounds the weights where gradients cancel.
        normalise: See :class:`Weighting`; it changes nothing, for the weights make up for it.

    Raises:
        InputError: If ``max_norm`` is not positive, or ``damping`` negative.

    Example:
        >>> w = torch.zeros(2, requires_grad=True)
        >>> weighting = NashMTL(max_norm=None, damping=0.0)
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> weighting.weights(Step(torch.tensor([1.0, 4.0]) * w, (w,), number=0, main=0, learning_rate=0.1))
        tensor([1.0000, 0.2500])

    References:
        Navon et al., "Multi-Task Learning as a Bargaining Game", ICML 2022, Eq. (2), Alg. 1.
    """

    def __init__(self, *, max_norm: float | None = 1.0, damping: float = 1e-4, normalise: bool = False) -> None:
        super().__init__(normalise=normalise)
        _check(max_norm, damping)
        self.max_norm, self.damping = max_norm, damping

    def _weigh(self, step: Step, /) -> Tensor:
        G = step.gramian()
        alpha = bargain(G, torch.ones(len(G), device=G.device), damping=self.damping)
        return _shortened(alpha, G, self.max_norm).to(step.losses)


@final
class AuxiNash(Weighting):
    r"""Asymmetric bargaining, with the losses' bargaining powers p learned for the main loss.

    .. math:: G \alpha = p / \alpha, \qquad
        \frac{\partial L_{\text{out}}}{\partial p} = -\nabla L_{\text{out}}(W')^\top J^\top\,
        \big(G + \operatorname{diag}(p / \alpha^2)\big)^{-1} \operatorname{diag}(1 / \alpha)

    with the rows of J the gradients, :math:`W'` the weights after the step, and the outer loss the main one on another
    training batch. Every few steps p takes a step of gradient descent with momentum along it (clipped to norm 1), is
    clamped, and scaled to sum to K.

    Deviations from the paper's code: the bargaining problem is solved exactly, and differentiated at its solution (it
    solves one scaled by the norm of G, and differentiates one that is not); :math:`\partial W / \partial \alpha` is
    that of one step of plain gradient descent, as though :math:`H = I` (it sums three Neumann terms with a step of
    1e-4, which is nearly a multiple of I); ``max_norm`` scales the weights, and so the heads too. The defaults are
    those of that code, made for long training: short runs want a larger ``lr``, or a smaller ``every``.

    Args:
        lr: The learning rate of p.
        momentum: Its momentum.
        every: The steps between two updates of p.
        minimum: The smallest bargaining power.
        max_norm: The longest step on the shared weights, before the learning rate; None does not scale.
        damping: See :class:`NashMTL`.
        normalise: See :class:`Weighting`; it changes nothing, for the weights make up for it.

    Raises:
        InputError: If an argument is out of range.

    Example:
        >>> w = torch.zeros(2, requires_grad=True)
        >>> losses, outer = torch.stack([w[0], w[1]]), lambda: w[0] + 0.0
        >>> weighting = AuxiNash(every=1, lr=0.1)
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> step = Step(losses, (w,), number=0, main=0, learning_rate=0.1, outer=outer)
        >>> weighting.weights(step)
        tensor([0.7071, 0.7071])
        >>> weighting.after(step, lambda: losses)
        >>> weighting.preferences
        tensor([1.0244, 0.9756])

    References:
        Shamsian et al., "Auxiliary Learning as an Asymmetric Bargaining Game", ICML 2023, Sec. 4 and Alg. 1.
    """

    preferences: Tensor
    velocity: Tensor

    def __init__(
        self,
        *,
        lr: float = 5e-3,
        momentum: float = 0.9,
        every: int = 25,
        minimum: float = 1e-4,
        max_norm: float | None = 1.0,
        damping: float = 1e-4,
        normalise: bool = False,
    ) -> None:
        super().__init__(normalise=normalise)
        _checks.positive("lr", lr)
        _checks.at_least("momentum", momentum, 0.0)
        _checks.count("every", every, 1)
        _checks.positive("minimum", minimum)
        _check(max_norm, damping)
        self.lr, self.momentum, self.every, self.minimum = lr, momentum, every, minimum
        self.max_norm, self.damping = max_norm, damping

    def allocate(self) -> None:
        """Give every loss the same power."""
        self.register_buffer("preferences", torch.ones(self.num_losses))
        self.register_buffer("velocity", torch.zeros(self.num_losses))

    def _weigh(self, step: Step, /) -> Tensor:
        needed("AuxiNash", step)
        G = step.gramian()
        return _shortened(self._solution(G), G, self.max_norm).to(step.losses)

    def after(self, step: Step, losses: Callable[[], Tensor], /) -> None:
        """Every few steps, see what the step did to the outer loss, and shift the bargaining powers.

        Args:
            step: The step; its ``outer`` is evaluated once.
            losses: Not read.

        Raises:
            InputError: If the step has no outer loss, or it is not finite.
        """
        if (step.number + 1) % self.every:
            return
        gradient = self.hypergradient(step).to(self.preferences)
        gradient = gradient / gradient.square().sum().sqrt().clamp(min=1.0)
        self.velocity.mul_(self.momentum).add_(gradient)
        self.preferences.sub_(self.lr * self.velocity).clamp_(min=self.minimum)
        self.preferences.mul_(self.num_losses / self.preferences.sum())

    def hypergradient(self, step: Step, /) -> Tensor:
        r"""Differentiate the outer loss at the present weights by the bargaining powers, through the step.

        Args:
            step: The step that led to the present weights.

        Returns:
            :math:`\partial L_{\text{out}} / \partial p` for a unit learning rate, ``(K,)``, in float64.
        """
        outer = outer_gradient(needed("AuxiNash", step), step.params)
        slope = -(step.gradients() @ outer)  # of the outer loss along α
        G = step.gramian()
        return sensitivity(G, self.preferences, self._solution(G), slope, damping=self.damping)

    def _solution(self, G: Tensor) -> Tensor:
        return bargain(G, self.preferences.to(G.device), damping=self.damping)


def _check(max_norm: float | None, damping: float) -> None:
    if max_norm is not None:
        _checks.positive("max_norm", max_norm)
    _checks.at_least("damping", damping, 0.0)


def _shortened(alpha: Tensor, G: Tensor, max_norm: float | None) -> Tensor:
    if max_norm is None:
        return alpha
    length = (alpha @ (G.to(alpha) @ alpha)).clamp(min=0.0).sqrt()
    return alpha * (max_norm / length.clamp(min=max_norm))
