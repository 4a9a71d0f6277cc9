"""A teacher of few parameters: it weighs opinions that exist already."""

import math
from typing import final

import torch
from torch import Tensor, nn

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.generators._base import LabelGenerator


@final
class PooledLabels(LabelGenerator):
    r"""A weighted geometric mean of V opinions about each sample.

    .. math:: q_i = \operatorname{softmax}\Big( \sum_v w_v \log o_{iv} \Big), \qquad
        w_v = e^{\tau} \operatorname{softmax}(\theta)_v

    An opinion is a distribution over classes: of a nearest-neighbour vote, a label spreading, an older model, a
    clustering. Two things are learned: whom to trust (:math:`\theta`), and how sharp the labels are (:math:`\tau`, the
    sum of the weights is :math:`e^\tau`). At :math:`\theta = 0` all opinions count alike, and weight decay on
    :math:`\theta` shrinks toward that. V + 1 parameters are hard to overfit, even with few held-back labels.

    Args:
        opinions: V, how many there are.
        sharpness: :math:`e^\tau` at the start: the sum of the weights. 1 is the plain geometric mean.
        floor: The probability below which an opinion counts as this one, so that none can veto alone.

    Raises:
        InputError: If an argument is out of range.

    Example:
        >>> teacher = PooledLabels(2)
        >>> teacher(torch.tensor([[[0.5, 0.5], [0.9, 0.1]]]))
        tensor([[0.7500, 0.2500]], grad_fn=<SoftmaxBackward0>)

    References:
        Genest and Zidek, "Combining probability distributions", Statistical Science 1986: the logarithmic opinion
        pool.
    """

    def __init__(self, opinions: int, *, sharpness: float = 1.0, floor: float = 1e-6) -> None:
        super().__init__()
        _checks.count("opinions", opinions, 1)
        _checks.positive("sharpness", sharpness)
        _checks.positive("floor", floor)
        self.theta = nn.Parameter(torch.zeros(opinions))
        self.tau = nn.Parameter(torch.tensor(math.log(sharpness)))
        self.floor = floor

    def forward(self, inputs: Tensor, labels: Tensor | None = None) -> Tensor:
        """Write the labels.

        Args:
            inputs: The opinions, shape (..., V, C), each a distribution over C classes.
            labels: Not read.

        Returns:
            Shape (..., C).
        """
        return self.logits(inputs).softmax(-1)

    def logits(self, inputs: Tensor) -> Tensor:
        """Return the labels before the softmax, for a loss of the teacher itself.

        Args:
            inputs: See :meth:`forward`.

        Returns:
            Shape (..., C).

        Raises:
            InputError: If the opinions have the wrong shape, or are negative or NaN.
        """
        rule = f"`inputs` must be opinions of shape (..., {len(self.theta)}, C)."
        if inputs.dim() < 2 or inputs.shape[-2] != len(self.theta):
            raise InputError(explain(rule, f"They have shape {tuple(inputs.shape)}.", "Stack them before the classes."))
        if not bool((inputs >= 0).all()):  # not of NaN, either
            cure = "Take the softmax of logits first."
            raise InputError(explain("Opinions must be probabilities.", "Some are negative or NaN.", cure))
        log_opinions = inputs.clamp_min(self.floor).log()
        weights = self._weights().to(log_opinions.dtype)
        return (weights[:, None] * log_opinions).sum(-2)

    @property
    def weights(self) -> Tensor:
        """The present weights of the opinions, shape (V,), without a graph."""
        return self._weights().detach()

    def _weights(self) -> Tensor:
        return (self.theta.log_softmax(0) + self.tau).exp()

    def extra_repr(self) -> str:
        """Describe the generator in one line.

        Returns:
            Its settings.
        """
        return f"opinions={len(self.theta)}, floor={self.floor}"
