"""Losses against soft labels, one for each sample."""

from torch import Tensor
from torch.nn import functional

from auxilearn._checks import explain
from auxilearn.errors import InputError


def soft_cross_entropy(logits: Tensor, targets: Tensor, /) -> Tensor:
    r"""Return the cross entropy of each sample against a distribution.

    .. math:: \ell_i = -\sum_k q_{ik} \log p_{ik}, \qquad p_i = \operatorname{softmax}(z_i)

    Unlike ``torch.nn.functional.cross_entropy`` it never averages, and it can be differentiated twice by both.

    Args:
        logits: :math:`z`, shape (..., S).
        targets: :math:`q`, a shape that broadcasts with it, e.g. labels that several models share.

    Returns:
        Shape (...).

    Raises:
        InputError: If the shapes do not fit.

    Example:
        >>> import torch
        >>> soft_cross_entropy(torch.zeros(1, 2), torch.tensor([[0.3, 0.7]]))
        tensor([0.6931])
    """
    _check(logits, targets)
    return -(targets * functional.log_softmax(logits, -1)).sum(-1)


def soft_focal_loss(logits: Tensor, targets: Tensor, /, *, gamma: float = 2.0) -> Tensor:
    r"""Return the focal loss of each sample against a distribution.

    .. math:: \ell_i = -\sum_k q_{ik}\, (1 - p_{ik})^\gamma \log p_{ik}

    Args:
        logits: See :func:`soft_cross_entropy`.
        targets: See there.
        gamma: :math:`\gamma`; 0 is the cross entropy. Between 0 and 2 only 1 is allowed, for with other powers the
            second derivative is infinite where a sample is sure.

    Returns:
        Shape (...).

    Raises:
        InputError: If the shapes do not fit, or ``gamma`` is not allowed.

    Example:
        >>> import torch
        >>> soft_focal_loss(torch.zeros(1, 2), torch.tensor([[0.3, 0.7]]))
        tensor([0.1733])

    References:
        Lin et al., "Focal Loss for Dense Object Detection", ICCV 2017, Eq. (4), without α; with soft labels as in
        Liu et al., "Self-Supervised Generalisation with Meta Auxiliary Learning", NeurIPS 2019.
    """
    _check(logits, targets)
    if not (gamma in {0, 1} or 2 <= gamma < float("inf")):
        rule, cure = "`gamma` must be 0, 1, or finite and at least 2.", "Both papers use 2."
        raise InputError(explain(rule, f"It is {gamma!r}.", cure))
    log_p = functional.log_softmax(logits, -1)
    # 1 - p without cancellation where p is close to 1.
    return -(targets * (-log_p.expm1()) ** gamma * log_p).sum(-1)


def _check(logits: Tensor, targets: Tensor) -> None:
    rule = "`logits` and `targets` must have the same classes, and samples that broadcast."
    fits = logits.dim() > 0 and targets.dim() > 0 and logits.shape[-1] == targets.shape[-1]
    shapes = zip(reversed(logits.shape), reversed(targets.shape), strict=False)
    if not (fits and all(a == b or 1 in {a, b} for a, b in shapes)):
        finding = f"They have shapes {tuple(logits.shape)} and {tuple(targets.shape)}."
        raise InputError(explain(rule, finding, "Targets are distributions, not class numbers."))
