"""What a label generator is."""

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from auxilearn._checks import explain
from auxilearn.errors import InputError


class LabelGenerator(nn.Module, ABC):
    r"""A learnable teacher: a map from samples to soft auxiliary labels.

    .. math:: q_i = g(x_i, y_i; \varphi), \qquad q_{ik} \ge 0, \quad \sum_k q_{ik} = 1

    Subclasses implement :meth:`forward`. It must be differentiable by :math:`\varphi`, and the student must not reach
    back into it: the labels depend on the sample and on :math:`\varphi` only.

    Example:
        >>> class Undecided(LabelGenerator):
        ...     def forward(self, inputs, labels=None):
        ...         return torch.full((len(inputs), 4), 0.25)
        >>> Undecided()(torch.zeros(1, 3))
        tensor([[0.2500, 0.2500, 0.2500, 0.2500]])

    References:
        Navon et al., "Auxiliary Learning by Implicit Differentiation", ICLR 2021: the teacher g(x, y; φ).
    """

    @abstractmethod
    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Tensor:
        """Write the labels.

        Args:
            inputs: The samples, shape (B, ...).
            labels: The main classes, shape (B,); a generator over x alone does not read them.

        Returns:
            The soft labels, shape (B, S), rows that sum to one.
        """


def check_scores(scores: Tensor, outputs: int | None = None) -> Tensor:
    """Check what the network of a generator returned.

    Args:
        scores: The scores.
        outputs: How many there must be of each sample; None takes any number above 1.

    Returns:
        The scores.

    Raises:
        InputError: If they are no (B, S) floating-point numbers, or are not finite.
    """
    wanted = "(B, S)" if outputs is None else f"(B, {outputs})"
    wrong = scores.dim() != 2 or (scores.shape[1] < 2 if outputs is None else scores.shape[1] != outputs)
    if wrong or not scores.is_floating_point():
        rule = f"The network of a generator must return scores of shape {wanted}."
        finding = f"It returned {tuple(scores.shape)} of {scores.dtype}."
        raise InputError(explain(rule, finding, "Give its last layer one output for each sub-class."))
    if not bool(torch.isfinite(scores).all()):
        rule = "The scores of a generator must be finite."
        finding = f"{int((~torch.isfinite(scores)).sum())} of {scores.numel()} are not."
        raise InputError(explain(rule, finding, "Lower the outer learning rate, or clip the hypergradient."))
    return scores
