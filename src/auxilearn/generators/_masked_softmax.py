"""A softmax over some of the entries."""

import math

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn.errors import InputError


def masked_softmax(logits: Tensor, mask: Tensor, /) -> Tensor:
    r"""Take the softmax over the entries inside a mask.

    .. math:: q_k = \frac{m_k e^{z_k - a}}{\sum_j m_j e^{z_j - a}}, \qquad a = \max_{j:\, m_j = 1} z_j

    Outside it is zero exactly, and so is every gradient. The maximum is taken inside the mask only: with that over all
    entries, as in the original package, a large logit of another class makes the whole row underflow. What the entries
    outside hold does not matter, not even NaN.

    Args:
        logits: Shape (..., S).
        mask: True for the entries that count; of the same shape, or one that broadcasts to it.

    Returns:
        Shape (..., S); each row sums to one.

    Raises:
        InputError: If the mask is not boolean, does not fit, or leaves a row nothing.

    Example:
        >>> masked_softmax(torch.tensor([[0.0, 0.0, 1000.0]]), torch.tensor([True, True, False]))
        tensor([[0.5000, 0.5000, 0.0000]])

    References:
        Liu et al., "Self-Supervised Generalisation with Meta Auxiliary Learning", NeurIPS 2019, "Mask
        SoftMax".
    """
    if mask.dtype != torch.bool:
        raise InputError(explain("`mask` must be boolean.", f"It is {mask.dtype}.", "Compare, e.g. `mask > 0`."))
    try:
        fitting = mask.expand(logits.shape)
    except RuntimeError as error:
        rule, finding = "`mask` must broadcast to `logits`.", f"{tuple(mask.shape)} does not to {tuple(logits.shape)}."
        raise InputError(explain(rule, finding, "Take it from `Hierarchy.mask(labels)`.")) from error
    empty = int((~fitting.any(-1)).sum())
    if empty:
        rule, finding = "`mask` must leave each row at least one entry.", f"{empty} rows have none."
        raise InputError(explain(rule, finding, "Leave those samples out."))
    # torch subtracts the maximum of what is left; the exponential of -inf is zero exactly, and passes no gradient.
    return logits.masked_fill(~fitting, -math.inf).softmax(-1)
