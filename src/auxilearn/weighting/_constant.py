"""Weights that stay: given ones, the main loss alone, and equal ones."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.weighting._base import Weighting
from auxilearn.weighting._step import Step


@final
class Constant(Weighting):
    """Weights that are given, one for each loss, the main one among them.

    Args:
        weights: The weights, ``(K,)``.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If the weights are no finite numbers in a row.

    Example:
        >>> w = torch.ones(2, requires_grad=True)
        >>> weighting = Constant([1.0, 0.3])
        >>> weighting.prepare(num_losses=2, main=0, steps=1)
        >>> weighting.weights(Step(w * w, (w,), number=0, main=0, learning_rate=0.1))
        tensor([1.0000, 0.3000])
    """

    def __init__(self, weights: Sequence[float] | Tensor, *, normalise: bool = False) -> None:
        super().__init__(normalise=normalise)
        given = torch.as_tensor(weights, dtype=torch.get_default_dtype()).detach().clone()
        rule = "`weights` must be one finite number for each loss."
        if given.ndim != 1 or not given.numel():
            raise InputError(explain(rule, f"Their shape is {tuple(given.shape)}.", "Pass a list of K numbers."))
        if not bool(given.isfinite().all()):
            raise InputError(explain(rule, f"They are {given.tolist()}.", "Change them."))
        self.register_buffer("given", given)

    given: Tensor

    def prepare(self, num_losses: int, main: int, steps: int) -> None:
        """See :meth:`Weighting.prepare`.

        Args:
            num_losses: K; there must be as many weights.
            main: The index of the main loss.
            steps: The steps of the training run.

        Raises:
            InputError: If there are not K weights, or another argument is out of range.
        """
        if num_losses != len(self.given):
            rule, finding = (
                f"There must be a weight for each of the {num_losses} losses.",
                f"{len(self.given)} are given.",
            )
            raise InputError(explain(rule, finding, "Pass as many, the main loss's among them."))
        super().prepare(num_losses, main, steps)

    def _weigh(self, step: Step, /) -> Tensor:
        return self.given.to(step.losses)


@final
class Equal(Weighting):
    """The main loss with weight 1, every other with the same one: the first thing to try.

    Args:
        scale: The weight of each auxiliary loss.
        normalise: See :class:`Weighting`.

    Raises:
        InputError: If ``scale`` is negative or not finite.

    Example:
        >>> w = torch.ones(3, requires_grad=True)
        >>> weighting = Equal(scale=0.5)
        >>> weighting.prepare(num_losses=3, main=1, steps=1)
        >>> weighting.weights(Step(w * w, (w,), number=0, main=1, learning_rate=0.1))
        tensor([0.5000, 1.0000, 0.5000])
    """

    def __init__(self, *, scale: float = 1.0, normalise: bool = False) -> None:
        super().__init__(normalise=normalise)
        _checks.at_least("scale", scale, 0.0)
        self.scale = scale

    def _weigh(self, step: Step, /) -> Tensor:
        return _around(step, self.scale)


@final
class MainOnly(Weighting):
    """The main loss alone: single-task learning, which every other rule has to beat.

    Example:
        >>> w = torch.ones(3, requires_grad=True)
        >>> weighting = MainOnly()
        >>> weighting.prepare(num_losses=3, main=0, steps=1)
        >>> weighting.weights(Step(w * w, (w,), number=0, main=0, learning_rate=0.1))
        tensor([1., 0., 0.])
    """

    def __init__(self) -> None:
        super().__init__(normalise=False)

    def _weigh(self, step: Step, /) -> Tensor:
        return _around(step, 0.0)


def _around(step: Step, scale: float) -> Tensor:
    weights = torch.full_like(step.losses.detach(), scale)
    weights[step.main] = 1.0
    return weights
