"""The regulariser that keeps the sub-classes in use."""

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn.errors import InputError


def collapse_penalty(labels: Tensor, /) -> Tensor:
    r"""Return the negative entropy of the mean label of a batch.

    .. math:: R = \sum_k \bar q_k \log \bar q_k, \qquad \bar q_k = \frac1B \sum_i q_{ik}

    It lies between :math:`-\log S`, if all sub-classes are used alike, and 0, if all samples have the same one. Added
    to the outer loss it keeps the teacher from giving every sample of a class the same label, which teaches nothing;
    single labels may be as sharp as they like.

    Args:
        labels: Soft labels, shape (..., S).

    Returns:
        A scalar.

    Raises:
        InputError: If there is no label.

    Example:
        >>> used, collapsed = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> collapse_penalty(used), collapse_penalty(collapsed)
        (tensor(-0.6931), tensor(0.))

    References:
        Liu et al., "Self-Supervised Generalisation with Meta Auxiliary Learning", NeurIPS 2019, the
        "entropy loss", weighted by 0.2 there.
    """
    if labels.dim() < 2 or not labels.numel():
        rule, finding = "`labels` must have shape (..., S).", f"They have shape {tuple(labels.shape)}."
        raise InputError(explain(rule, finding, "Pass the soft labels of a batch."))
    mean = labels.flatten(0, -2).mean(0)
    # The limit of t log t at 0 is 0. A class that nobody uses has an infinite slope there, which the least positive
    # number bounds.
    return (mean * mean.clamp_min(torch.finfo(mean.dtype).tiny).log()).sum()
