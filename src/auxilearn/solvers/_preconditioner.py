"""A guess of the inverse curvature, and the change of variables that uses it."""

from abc import ABC, abstractmethod
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


class Root(ABC):
    """An invertible map ``S`` that changes variables, ``x = S y``; the preconditioner is ``P = S Sᵀ``."""

    @abstractmethod
    def __call__(self, v: Vector, /) -> Vector:
        """Return ``S v``.

        Args:
            v: A vector of the parameters' shapes.

        Returns:
            The image.
        """

    @abstractmethod
    def transposed(self, v: Vector, /) -> Vector:
        """Return ``Sᵀ v``.

        Args:
            v: A vector of the parameters' shapes.

        Returns:
            The image.
        """

    def both(self, v: Vector, /) -> Vector:
        """Return ``S Sᵀ v``: the preconditioner itself.

        Args:
            v: A vector of the parameters' shapes.

        Returns:
            The image.
        """
        return self(self.transposed(v))

    @abstractmethod
    def inverse(self, v: Vector, /) -> Vector:
        """Return ``S⁻¹ v``.

        Args:
            v: A vector of the parameters' shapes.

        Returns:
            The preimage.
        """

    @abstractmethod
    def inverse_transposed(self, v: Vector, /) -> Vector:
        """Return ``S⁻ᵀ v``.

        Args:
            v: A vector of the parameters' shapes.

        Returns:
            The preimage.
        """


class Factored(Protocol):
    """A preconditioner that is no diagonal."""

    def root(self, H: LossCurvature, /) -> Root:
        """Return the root of the preconditioner.

        Args:
            H: The operator that it is for.

        Returns:
            The root.
        """
        ...


Preconditioner = Metric | Factored | Vector | Sequence[Tensor]


@final
class DiagonalRoot(Root):
    """Multiply by positive numbers.

    Args:
        diagonal: They.
    """

    def __init__(self, diagonal: Vector, /) -> None:
        self._diagonal = diagonal

    def __call__(self, v: Vector, /) -> Vector:
        return v.times(self._diagonal)

    def transposed(self, v: Vector, /) -> Vector:
        return self(v)

    def inverse(self, v: Vector, /) -> Vector:
        return Vector(r / s for r, s in zip(v, self._diagonal, strict=True))

    def inverse_transposed(self, v: Vector, /) -> Vector:
        return self.inverse(v)


@final
class Congruent(CurvatureOperator):
    """The operator ``Sᵀ H S``.

    Args:
        H: The operator.
        root: The root ``S`` of the preconditioner.

    Attributes:
        root: See above.
    """

    def __init__(self, H: CurvatureOperator, root: Root, /) -> None:
        super().__init__()
        self.root = root
        self._inner = H

    def _multiply(self, v: Vector, /) -> Vector:
        return self.root.transposed(self._inner @ self.root(v))

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


def scaling(preconditioner: Preconditioner, H: CurvatureOperator, v: Vector, /) -> tuple[Root, CurvatureOperator]:
    """Read a preconditioner.

    Args:
        preconditioner: A diagonal, or an object with a ``read`` or a ``root`` method.
        H: The operator that it is for.
        v: A vector of the shapes it must have.

    Returns:
        The root, and the operator, shifted where the optimizer decays the weights.

    Raises:
        InputError: If it is neither tensors nor a metric, or the diagonal has other shapes than ``v`` or entries that
            are not positive.
    """
    diagonal = _given(preconditioner)
    operator = H
    if diagonal is None:
        if not isinstance(H, LossCurvature):
            rule = "A preconditioner that reads an optimizer or a model needs an operator with parameters."
            cure = "Use a `LossCurvature`, such as `Hessian`, or pass the diagonal itself."
            raise InputError(explain(rule, f"It got a `{type(H).__name__}`.", cure))
        if hasattr(preconditioner, "root"):
            return cast("Factored", preconditioner).root(H), H
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
    return DiagonalRoot(Vector(t.sqrt() for t in diagonal)), operator


def _given(preconditioner: Preconditioner) -> Vector | None:
    # The diagonal if it was passed itself, None for an object that has to be asked.
    given = cast("Any", preconditioner)
    listed = isinstance(given, (Vector, Sequence))
    if listed and all(isinstance(t, Tensor) for t in cast("Any", preconditioner)):
        return Vector(cast("Sequence[Tensor]", preconditioner))
    asked = hasattr(preconditioner, "read") or hasattr(preconditioner, "root")
    if not listed and asked and not isinstance(preconditioner, type):
        return None
    rule = "`preconditioner` must be a list of tensors, an `OptimizerMetric` or a `CurvatureSketch`."
    finding = f"It is a `{type(preconditioner).__name__}`."
    raise InputError(explain(rule, finding, "For an optimizer write `OptimizerMetric(optimizer)`."))
