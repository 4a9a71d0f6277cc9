"""A diagonal guess of the inverse curvature, and the symmetric change of variables that uses it."""

from collections.abc import Sequence
from typing import Any, Protocol, cast, final

from torch import Tensor

from auxilearn._checks import explain
from auxilearn._vectors import Vector
from auxilearn.curvature import CurvatureOperator, LossCurvature
from auxilearn.errors import InputError


class Metric(Protocol):
    """What a preconditioner that follows the training knows of each parameter."""

    def read(self, params: Sequence[Tensor], /) -> tuple[Vector, Vector]:
        """Return the diagonal of the preconditioner and a diagonal to be added to the operator.

        Args:
            params: The weights the operator acts on.

        Returns:
            The two diagonals.
        """
        ...


Preconditioner = Metric | Vector | Sequence[Tensor]


@final
class SymmetricallyScaled(CurvatureOperator):
    """The operator ``S H S`` for a diagonal ``S``.

    Args:
        H: The operator.
        root: The diagonal ``S``, the root of the preconditioner.

    Attributes:
        root: See above.
    """

    def __init__(self, H: CurvatureOperator, root: Vector, /) -> None:
        super().__init__()
        self.root = root
        self._inner = H

    def _multiply(self, v: Vector, /) -> Vector:
        return (self._inner @ v.times(self.root)).times(self.root)

    @property
    def half_precision(self) -> bool:
        """That of the operator."""
        return self._inner.half_precision


@final
class Shifted(CurvatureOperator):
    """The operator ``H + D`` for a diagonal ``D``.

    Args:
        H: The operator.
        diagonal: The diagonal ``D``.
    """

    def __init__(self, H: CurvatureOperator, diagonal: Vector, /) -> None:
        super().__init__()
        self._inner, self._diagonal = H, diagonal

    def _multiply(self, v: Vector, /) -> Vector:
        return self._inner @ v + v.times(self._diagonal)

    @property
    def half_precision(self) -> bool:
        """That of the operator."""
        return self._inner.half_precision


def scaling(preconditioner: Preconditioner, H: CurvatureOperator, v: Vector, /) -> tuple[Vector, CurvatureOperator]:
    """Read a preconditioner.

    Args:
        preconditioner: A diagonal, or an object with a ``read`` method.
        H: The operator that it is for.
        v: A vector of the shapes it must have.

    Returns:
        The root of the diagonal, and the operator, shifted where the optimizer decays the weights.

    Raises:
        InputError: If it is neither tensors nor a metric, or the diagonal has other shapes than ``v`` or entries that
            are not positive.
    """
    diagonal = _given(preconditioner)
    operator = H
    if diagonal is None:
        if not isinstance(H, LossCurvature):
            rule = "A metric that reads an optimizer needs an operator with parameters."
            cure = "Use a `LossCurvature`, such as `Hessian`, or pass the diagonal itself."
            raise InputError(explain(rule, f"It got a `{type(H).__name__}`.", cure))
        diagonal, shift = cast("Metric", preconditioner).read(H.params)
        operator = Shifted(H, shift) if any(bool(s.any()) for s in shift) else H
    shapes = [tuple(t.shape) for t in diagonal], [tuple(t.shape) for t in v]
    if shapes[0] != shapes[1]:
        rule = "A preconditioner must have the shapes of the parameters that reach the loss."
        finding = f"It has {shapes[0]}, the parameters have {shapes[1]}."
        raise InputError(explain(rule, finding, "Build it from the parameters in the same order."))
    if not all(bool((t > 0).all()) and bool(t.isfinite().all()) for t in diagonal):
        rule = "A preconditioner must be finite and positive in every entry."
        cure = "Raise it with `.clamp(min=...)`; freeze parameters whose learning rate is zero."
        raise InputError(explain(rule, "Some entries are not.", cure))
    return Vector(t.sqrt() for t in diagonal), operator


def _given(preconditioner: Preconditioner) -> Vector | None:
    # The diagonal if it was passed itself, None for a metric.
    given = cast("Any", preconditioner)
    listed = isinstance(given, (Vector, Sequence))
    if listed and all(isinstance(t, Tensor) for t in cast("Any", preconditioner)):
        return Vector(cast("Sequence[Tensor]", preconditioner))
    if not listed and hasattr(preconditioner, "read") and not isinstance(preconditioner, type):
        return None
    rule = "`preconditioner` must be a list of tensors, or an `OptimizerMetric`."
    finding = f"It is a `{type(preconditioner).__name__}`."
    raise InputError(explain(rule, finding, "For an optimizer write `OptimizerMetric(optimizer)`."))
