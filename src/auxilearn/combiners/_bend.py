"""The activation of the nonlinear combiners: monotone, and the identity until it learns otherwise."""

import math
from collections.abc import Sequence
from typing import Literal, final

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - its usual name

from auxilearn._checks import one_of

BendKind = Literal["learned", "convex", "concave"]


@final
class Bend(nn.Module):
    r"""A strictly increasing function of each hidden unit that bends up or down by a learned amount.

    .. math:: a(z) = z + 2 q \left[\ln\cosh\tfrac{z + b}{2} - \ln\cosh\tfrac{b}{2}\right],
        \qquad a'(z) = 1 + q \tanh\tfrac{z + b}{2} \in (1 - |q|,\, 1 + |q|)

    :math:`q = 1` is :math:`2\operatorname{softplus}(z + b)` up to a constant: it is convex, and large losses count
    more. :math:`q = -1` is its mirror image, concave: large losses count less, which is what wrong labels ask for. With
    :math:`q = \tanh\tau` each unit chooses; it starts at :math:`\tau = 0`, the identity. Always :math:`a(0) = 0`.

    Args:
        width: The number of units.
        kind: ``"learned"`` for :math:`q = \tanh\tau`, ``"convex"`` for 1, ``"concave"`` for -1.
        level: The value of :math:`z` around which to bend, :math:`b = -\text{level}` at the start; there
            :math:`a' = 1`.

    Raises:
        InputError: If ``kind`` is none of the three.

    Example:
        >>> bend = Bend(3, "learned", level=1.0)
        >>> bend(torch.tensor([[0.0, 1.0, 2.0]]))
        tensor([[0., 1., 2.]], grad_fn=<AddBackward0>)
    """

    def __init__(self, width: int, kind: BendKind, *, level: float) -> None:
        super().__init__()
        one_of("bend", kind, ("learned", "convex", "concave"))
        self.kind = kind
        self.level = level
        self.shift = nn.Parameter(torch.zeros(width))  # b + level, so that weight decay pulls toward the start
        self.tau = nn.Parameter(torch.zeros(width)) if kind == "learned" else None
        self._q = {"learned": 0.0, "convex": 1.0, "concave": -1.0}[kind]

    @property
    def output_level(self) -> float:
        """The initial output at ``level``, which is the level of the next layer."""
        return self.level - 2 * self._q * math.log(math.cosh(self.level / 2))

    def forward(self, z: Tensor, /) -> Tensor:
        """Apply the function.

        Args:
            z: Units along axis 1, ``(B, width)`` or ``(B, width, H, W)``.

        Returns:
            Values of the same shape.
        """
        q = torch.full_like(self.shift, self._q) if self.tau is None else torch.tanh(self.tau)
        ones = (1,) * (z.ndim - 2)
        q, b = q.view(-1, *ones), (self.shift - self.level).view(-1, *ones)
        # By ln cosh(x/2) = softplus(x) - x/2 - ln 2 = softplus(-x) + x/2 - ln 2, which do not overflow; of the two the
        # one whose slope, 1 - |q| + 2 |q| sigmoid(± x), is a sum of positive terms, so that no rounding can turn it.
        sign = torch.where(q < 0, -1.0, 1.0).to(q)
        return (1 - sign * q) * z + 2 * q * (F.softplus(sign * (z + b)) - F.softplus(sign * b))

    def extra_repr(self) -> str:
        """Describe the function in one line.

        Returns:
            Width and kind.
        """
        return f"{len(self.shift)}, {self.kind!r}, level={self.level:g}"


def stacked_bends(widths: Sequence[int], kind: BendKind) -> nn.ModuleList:
    """Stack activations, each bending around what the one before gives when all losses are 1.

    Args:
        widths: The widths of the layers.
        kind: See :class:`Bend`.

    Returns:
        One activation for each layer.
    """
    stack: list[Bend] = []
    for width in widths:
        stack.append(Bend(width, kind, level=stack[-1].output_level if stack else 1.0))
    return nn.ModuleList(stack)
