"""Weights that are positive by parametrisation: what makes a combiner monotone."""

import math
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from auxilearn._checks import explain, one_of, positive
from auxilearn.errors import InputError

# softplus(_UNIT) = 1
_UNIT = math.log(math.e - 1)


@final
class Positive(nn.Module):
    r"""Weights that are positive, and below a cap, for every value of their parameter.

    .. math:: w = \frac{w_0\, r(\theta)}{\sqrt{1 + (r(\theta)^2 - 1)\, (w_0 / c)^2}}, \qquad
        r(\theta) = \frac{\operatorname{softplus}(\theta + s)}{\operatorname{softplus}(s)}

    :math:`r(0) = 1`, so :math:`\theta = 0` are the initial weights :math:`w_0`, and weight decay on :math:`\theta`
    pulls toward them, not toward silence. No step of an optimizer, no momentum and no weight decay can lead to a weight
    that is negative or, but for rounding, above the cap :math:`c`: nothing ever has to be clamped or projected.

    The cap is approached smoothly, :math:`\partial\ln w / \partial\ln r = 1 - (w/c)^2`. Above it :math:`r` grows only
    linearly, hence the slope falls as :math:`\theta^{-3}`, slowly enough for a weight that was pushed against its cap
    to come back. Behind a logistic function, whose slope falls as :math:`e^{-\theta}`, it could be stuck there for tens
    of thousands of steps (SGD with momentum overshoots), and behind a hard clamp for ever.

    Args:
        initial: :math:`w_0`, any shape, all above 0 and below the cap.
        growth: How the weight grows with :math:`\theta` until it nears the cap. ``"exp"``, with
            :math:`s = \ln(w_0 / c)` (or :math:`r = e^\theta` without a cap), multiplies it by the same factor for the
            same step, which suits weights that range over orders of magnitude. ``"softplus"``, with
            :math:`s = \ln(e - 1)`, adds the same amount once it is above :math:`w_0`, which suits products of several
            layers. Both shrink it by factors.
        cap: :math:`c`, or None for weights without a limit.

    Raises:
        InputError: If a weight, the cap or ``growth`` is out of its range.

    Example:
        >>> weight = Positive(torch.tensor([1.0, 2.0]), growth="exp", cap=10.0)
        >>> weight().tolist()
        [1.0, 2.0]
        >>> _ = weight.theta.data.fill_(100.0)
        >>> weight()
        tensor([9.9995, 9.9996], grad_fn=<DivBackward0>)
    """

    initial: Tensor

    def __init__(
        self, initial: Tensor, *, growth: Literal["exp", "softplus"] = "softplus", cap: float | None = None
    ) -> None:
        super().__init__()
        one_of("growth", growth, ("exp", "softplus"))
        if cap is not None:
            positive("cap", cap)
        check_initial(initial, above=0.0, below=cap)
        self.growth = growth
        self.cap = cap
        self.theta = nn.Parameter(torch.zeros_like(initial))
        self.register_buffer("initial", initial.detach().clone())

    def forward(self) -> Tensor:
        """Compute the weights.

        Returns:
            :math:`w`, of the shape of the initial weights.
        """
        if self.cap is None:
            return self.initial * (torch.exp(self.theta) if self.growth == "exp" else self._grown(_UNIT))
        share = self.initial / self.cap
        grown = self._grown(share.log() if self.growth == "exp" else _UNIT)
        return self.initial * grown / (1 + (grown.square() - 1) * share.square()).sqrt()

    def _grown(self, start: Tensor | float) -> Tensor:
        start = torch.as_tensor(start, dtype=self.theta.dtype, device=self.theta.device)
        return F.softplus(self.theta + start) / F.softplus(start)

    def extra_repr(self) -> str:
        """Describe the weights in one line.

        Returns:
            Shape and settings.
        """
        return f"{tuple(self.initial.shape)}, growth={self.growth!r}, cap={self.cap}"


def check_initial(initial: Tensor, *, above: float | None, below: float | None) -> None:
    """Check initial weights.

    Args:
        initial: The weights.
        above: Their lower limit, or None.
        below: Their upper limit, or None.

    Raises:
        InputError: If a weight is not finite or not between the limits.
    """
    low, high = float(initial.min()), float(initial.max())
    rule = "Initial weights must be finite"
    rule += f", above {above:g}" if above is not None else ""
    rule += f", below {below:g}." if below is not None else "."
    inside = (above is None or low > above) and (below is None or high < below)
    if not (math.isfinite(low) and math.isfinite(high) and inside):
        cure = "Start inside, e.g. at 1; a larger `cap` leaves more room."
        raise InputError(explain(rule, f"They range from {low:g} to {high:g}.", cure))
