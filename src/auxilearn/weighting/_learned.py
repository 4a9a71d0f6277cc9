"""Rules that learn one number for each loss by an optimizer of their own."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from auxilearn import _checks
from auxilearn.weighting._base import Weighting


class LearnedWeighting(Weighting, ABC):
    r"""A weighting with a vector :math:`\theta` of K numbers, stepped by Adam.

    Subclasses implement :meth:`start`, and call :meth:`descend` with a gradient. The optimizer's state travels in
    ``state_dict()``.

    Args:
        lr: Adam's learning rate.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If ``lr`` is not positive.

    Example:
        >>> class Falling(LearnedWeighting):
        ...     def start(self):
        ...         return torch.ones(self.num_losses)
        ...     def _weigh(self, step):
        ...         self.descend(torch.ones_like(self.theta))
        ...         return self.theta.detach().to(step.losses)
        >>> from auxilearn.weighting import Step
        >>> w = torch.ones(2, requires_grad=True)
        >>> weighting = Falling(lr=0.5)
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> weighting.weights(Step(w * w, (w,), number=0, main=0, learning_rate=0.1))
        tensor([0.5000, 0.5000])
    """

    theta: nn.Parameter

    def __init__(self, *, lr: float, normalise: bool = False) -> None:
        super().__init__(normalise=normalise)
        _checks.positive("lr", lr)
        self.lr = lr
        self._adam: Adam | None = None

    @abstractmethod
    def start(self) -> Tensor:
        r"""Say where :math:`\theta` starts, for ``self.num_losses`` losses.

        Returns:
            The initial values, ``(K,)``.
        """

    def allocate(self) -> None:
        """Put the parameter at its start, with a new optimizer."""
        self.theta = nn.Parameter(self.start())
        self._adam = Adam([self.theta], lr=self.lr)

    def descend(self, gradient: Tensor, /, *, minimum: float | None = None) -> None:
        r"""Take one step of Adam.

        Args:
            gradient: The gradient of what is to fall, ``(K,)``.
            minimum: Where :math:`\theta` is clamped from below after the step; None does not clamp.
        """
        assert self._adam is not None, "prepare() comes first"
        self.theta.grad = gradient.detach().to(self.theta)
        self._adam.step()
        self.theta.grad = None
        if minimum is not None:
            with torch.no_grad():
                self.theta.clamp_(min=minimum)

    def get_extra_state(self) -> dict[str, Any]:
        """Return the optimizer's state, for ``state_dict()``.

        Returns:
            The state; empty before :meth:`prepare`.
        """
        return {} if self._adam is None else self._adam.state_dict()

    def set_extra_state(self, state: dict[str, Any]) -> None:
        """Restore the optimizer's state, for ``load_state_dict()``.

        Args:
            state: What :meth:`get_extra_state` returned.
        """
        if self._adam is not None and state:
            self._adam.load_state_dict(state)
