"""The products that a gradient with its graph gives: one vector-Jacobian product each."""

from collections.abc import Sequence
from typing import final

from torch import Tensor

from auxilearn._autograd import Optional, filled, gradients
from auxilearn._vectors import Vector
from auxilearn.curvature._half_range import centred
from auxilearn.errors import InputError


@final
class RetainedGradient:
    r"""A gradient :math:`\partial_W L_T` whose graph is kept, and its derivatives.

    Args:
        gradient: The gradient, one tensor with its graph for each weight.
        params: The weights.
        unscale: A factor for every result.
        float16: Whether products pass through float16.
    """

    def __init__(
        self, gradient: tuple[Tensor, ...], params: tuple[Tensor, ...], *, unscale: float = 1.0, float16: bool = False
    ) -> None:
        self._gradient, self._params, self._unscale, self._float16 = gradient, params, unscale, float16

    def values(self) -> Vector:
        """Return the gradient without its graph.

        Returns:
            The gradient.
        """
        values = Vector(g.detach() for g in self.held())
        return values if self._unscale == 1.0 else values * self._unscale

    def multiply(self, v: Vector, /) -> Vector:
        r"""Return :math:`\partial_W \langle \partial_W L_T, v\rangle`.

        Args:
            v: A vector of the shapes of the weights.

        Returns:
            The product.
        """
        return filled(self.differentiate(v, self._params), self._params)

    def differentiate(self, v: Vector, inputs: Sequence[Tensor], /) -> Optional:
        r"""Differentiate :math:`\langle \partial_W L_T, v\rangle` with respect to any tensors.

        Args:
            v: A vector of the shapes of the weights.
            inputs: What to differentiate by.

        Returns:
            One tensor for each input, or None where it has no effect.
        """
        unscale = self._unscale
        if self._float16:
            factor = centred(v)
            v, unscale = v * factor, unscale / factor
        # A gradient that is constant in W and in φ (a loss linear in that weight) has no graph, and contributes
        # nothing.
        pairs = [(g, c) for g, c in zip(self.held(), v, strict=True) if g.requires_grad]
        if not pairs:
            return (None,) * len(inputs)
        outputs, cotangents = zip(*pairs, strict=True)
        found = gradients(outputs, inputs, cotangents)
        return found if unscale == 1.0 else tuple(None if g is None else g * unscale for g in found)

    def held(self) -> tuple[Tensor, ...]:
        """Return the gradient with its graph.

        Returns:
            One tensor for each weight.

        Raises:
            InputError: After :meth:`release`.
        """
        if not self._gradient:
            raise InputError("A curvature operator cannot be used after `release()`. It was released. Build a new one.")
        return self._gradient

    def release(self) -> None:
        """Free the graph."""
        self._gradient = ()
