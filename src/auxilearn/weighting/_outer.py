"""The gradient of the outer loss, here or at weights that are looked ahead to."""

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

from auxilearn import _autograd, _checks, _ranks
from auxilearn._checks import explain
from auxilearn._vectors import Vector
from auxilearn.errors import InputError
from auxilearn.weighting._step import Step


def needed(method: str, step: Step, /) -> Callable[[], Tensor]:
    """Return the outer loss of a step.

    Args:
        method: The method's name, for the message.
        step: The step.

    Returns:
        The function that computes the outer loss.

    Raises:
        InputError: If the step has none.
    """
    if step.outer is None:
        cure = "Pass one as `Step(outer=...)`: the main loss on another training batch."
        raise InputError(explain(f"`{method}` needs an outer loss.", "`outer` is None.", cure))
    return step.outer


def outer_gradient(outer: Callable[[], Tensor], params: Sequence[Tensor], /) -> Tensor:
    """Compute the gradient of the outer loss with the weights as they are.

    Args:
        outer: Computes the outer loss.
        params: The weights.

    Returns:
        Flat, ``(P,)``; zero where the loss does not reach.
    """
    _ranks.refuse_undeclared("The gradient of the outer loss", "Use a weighting without an outer loss.")
    with torch.enable_grad():
        loss = _checks.scalar_loss("outer", outer())
        return _autograd.filled(_autograd.gradients(loss, params, retain_graph=False), params).flat()


@contextmanager
def moved(params: Sequence[Tensor], direction: Tensor, /) -> Generator[None, None, None]:
    """Move the weights for a moment.

    The data are swapped, not written to: they come back bit by bit, and graphs that hold the weights stay valid.

    Args:
        params: The weights.
        direction: What is added to them, flat, ``(P,)``.

    Yields:
        Nothing.
    """
    originals = [p.data for p in params]
    try:
        for p, d in zip(params, Vector(params).from_flat(direction), strict=True):
            p.data = p.data + d
        yield
    finally:
        for p, original in zip(params, originals, strict=True):
            p.data = original
