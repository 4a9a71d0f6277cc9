"""The one verb of every solver, ``solve(H, v)``, and what it answers."""

import math
from abc import ABC, abstractmethod
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from typing import Any, NamedTuple, cast, final

import torch

from auxilearn._checks import explain
from auxilearn._vectors import Vector
from auxilearn.curvature import CurvatureOperator
from auxilearn.errors import InputError
from auxilearn.solvers._preconditioner import Congruent, Preconditioner, Root, scaling


class Status(Enum):
    """How a solve ended."""

    CONVERGED = "converged"
    """The residual is below the tolerance, or the method is exact."""

    TRUNCATED = "truncated"
    """The budget is used up; for a fixed number of terms this is what was asked for."""

    NEGATIVE_CURVATURE = "negative curvature"
    """The operator is not positive definite along the way; the solution is the best from before that was seen."""

    DIVERGED = "diverged"
    """The terms grow, for the step is above 2 over the largest absolute eigenvalue; not by negative curvature."""

    NON_FINITE = "non-finite"
    """The right-hand side, a product or the solution is NaN or infinite."""


@final
@dataclass(frozen=True)
class SolveReport:
    """What a solve cost and how good it is.

    Attributes:
        status: How it ended.
        products: Products with the operator that were used.
        residual: The relative residual ‖v − Hx‖ / ‖v‖ of the returned solution; None where it would have cost a
            product that was not asked for (``measure_residual=True`` asks).
        largest_eigenvalue: The best estimate of λ_max met on the way, of the preconditioned operator if there is a
            preconditioner; None if the method makes none.
        negative_curvature: Whether a direction with ⟨u, Hu⟩ < 0 was met, among those that the method looks at (a fixed
            Neumann step looks at its last term only): the training loss is not at a minimum.
        step: The step α of the Neumann series; None for the other methods.
    """

    status: Status
    products: int
    residual: float | None = None
    largest_eigenvalue: float | None = None
    negative_curvature: bool = False
    step: float | None = None

    @property
    def failed(self) -> bool:
        """Whether the solution should not be trusted: it diverged or is not finite."""
        return self.status in {Status.DIVERGED, Status.NON_FINITE}


@final
@dataclass(frozen=True)
class Solution:
    """An approximation of ``H⁻¹ v``, and the report on it.

    Attributes:
        x: The solution, of the shapes of ``v``.
        report: What it cost and how good it is.
    """

    x: Vector
    report: SolveReport


class LinearSolver(ABC):
    """A method for ``H x = v``: frozen settings with one verb.

    A solver knows the operator only by ``H @ v``; it never sees a loss or a model. To add one, subclass
    :class:`IterativeSolver`, which takes care of zero and non-finite right-hand sides and of preconditioning.
    """

    @abstractmethod
    def solve(self, H: CurvatureOperator, v: Vector, /) -> Solution:
        """Solve ``H x = v`` approximately.

        Args:
            H: A symmetric operator; the methods suppose that it is positive definite, and report where it is not.
            v: The right-hand side; it is not changed.

        Returns:
            The solution, with its report.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what the solver remembers between calls, to be saved in a checkpoint.

        Returns:
            The memory; empty for most solvers.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any], /) -> None:  # noqa: B027 - most solvers remember nothing
        """Restore what :meth:`state_dict` returned.

        Args:
            state: The memory.
        """


def checked(solver: LinearSolver, /) -> LinearSolver:
    """Check that an argument is a solver.

    Args:
        solver: The argument.

    Returns:
        The solver.

    Raises:
        InputError: If it is something else, e.g. a name or a class.
    """
    given = cast("object", solver)
    if not isinstance(given, LinearSolver):
        finding = f"It is the class `{given.__name__}`." if isinstance(given, type) else f"It is {given!r:.60}."
        raise InputError(explain("`solver` must be a `LinearSolver`.", finding, "Make one: `Neumann(terms=3)`."))
    return solver


@contextmanager
def memory_kept(solver: LinearSolver, /) -> Generator[None, None, None]:
    """Put a solver's memory back if the block fails, for an error must change nothing.

    Args:
        solver: The solver.

    Yields:
        Nothing.
    """
    before = solver.state_dict()
    try:
        yield
    except BaseException:
        solver.load_state_dict(before)
        raise


class Iterate(NamedTuple):
    """What a method hands to :meth:`IterativeSolver.solve`.

    Attributes:
        x: The solution.
        status: How the method ended.
        residual: v − Hx, if the method knows it.
        largest_eigenvalue: See :class:`SolveReport`.
        negative_curvature: See :class:`SolveReport`.
        step: See :class:`SolveReport`.
    """

    x: Vector
    status: Status
    residual: Vector | None = None
    largest_eigenvalue: float | None = None
    negative_curvature: bool = False
    step: float | None = None


def rounding(v: Vector, /) -> float:
    """Return the relative size below which a quotient ⟨u, Hu⟩ / (λ_max ‖u‖²) says nothing about its sign.

    Args:
        v: A vector of the data type in use.

    Returns:
        Ten times the machine precision.
    """
    return 10.0 * torch.finfo(v.tensors[0].dtype).eps


@dataclass(frozen=True, kw_only=True)
class IterativeSolver(LinearSolver):
    r"""The frame around every method: right-hand sides without direction, preconditioning, residual.

    A preconditioner :math:`P = S S^\top \approx H^{-1}` is a change of variables,
    :math:`(S^\top H S)\, y = S^\top v` with :math:`x = S y`. The limit is the same; a truncated Neumann series
    becomes :math:`\alpha\sum_j (I - \alpha P H)^j P v`, and conjugate gradients become preconditioned conjugate
    gradients.

    Args:
        preconditioner: The diagonal :math:`P` as tensors of the weights' shapes, an :class:`OptimizerMetric`, or
            :class:`CurvatureSketch`.
        measure_residual: Whether to spend one more product on the residual where the method does not know it.
    """

    preconditioner: Preconditioner | None = None
    measure_residual: bool = False

    @final
    def solve(self, H: CurvatureOperator, v: Vector, /) -> Solution:
        before = H.products
        size = float(v.norm())
        if not math.isfinite(size):
            return Solution(v.zeros_like(), SolveReport(Status.NON_FINITE, products=0))
        if size == 0.0:
            return Solution(v.zeros_like(), SolveReport(Status.CONVERGED, products=0, residual=0.0))
        if self.preconditioner is None:
            system, found = H, self._solve(H, v)
            x, residual = found.x, found.residual
        else:
            root, system = scaling(self.preconditioner, H, v)
            found = self._solve_preconditioned(system, v, root)
            x, residual = found.x, found.residual
        finite = math.isfinite(float(x.norm()))
        if residual is None and self.measure_residual and finite:
            residual = v - system @ x
            finite = math.isfinite(float(residual.norm()))
        return Solution(
            x if finite else v.zeros_like(),
            SolveReport(
                status=found.status if finite else Status.NON_FINITE,
                products=H.products - before,
                residual=float(residual.norm()) / size if finite and residual is not None else None,
                largest_eigenvalue=found.largest_eigenvalue,
                negative_curvature=found.negative_curvature,
                step=found.step,
            ),
        )

    @abstractmethod
    def _solve(self, H: CurvatureOperator, v: Vector, /) -> Iterate: ...

    def _solve_preconditioned(self, H: CurvatureOperator, v: Vector, root: Root, /) -> Iterate:
        found = self._solve(Congruent(H, root), root.transposed(v))
        residual = None if found.residual is None else root.inverse_transposed(found.residual)
        return found._replace(x=root(found.x), residual=residual)
