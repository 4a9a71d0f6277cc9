"""The frame around every method, and what is said of solvers in general."""

import pytest
import torch

from auxilearn import Vector
from auxilearn.curvature import CurvatureOperator
from auxilearn.errors import InputError
from auxilearn.solvers import Dense, IterativeSolver, LinearSolver, Neumann, SolveReport, Status, WarmStart
from auxilearn.solvers._base import Iterate, checked, memory_kept
from support import System, geometric


@pytest.mark.parametrize("status", Status)
def test_only_divergence_and_what_is_not_finite_are_failures(status: Status) -> None:
    assert SolveReport(status, products=0).failed is (status in {Status.DIVERGED, Status.NON_FINITE})


class Doubling(IterativeSolver):
    """A method of one's own: only `_solve`, and a residual that it happens to know."""

    def _solve(self, H: CurvatureOperator, v: Vector, /) -> Iterate:
        return Iterate(2 * v, Status.TRUNCATED, residual=v - H @ (2 * v))


def test_a_method_of_ones_own_gets_the_frame() -> None:
    system = System(geometric(10.0))
    solution = Doubling().solve(system.operator(), system.v)
    assert solution.report.residual == pytest.approx(system.residual(solution.x))
    zero = Doubling().solve(system.operator(), system.v.zeros_like())
    assert (zero.report.status, zero.report.products) == (Status.CONVERGED, 0)
    diagonal = [torch.full_like(t, 0.25) for t in system.v]
    scaled = Doubling(preconditioner=diagonal).solve(system.operator(), system.v)
    torch.testing.assert_close(scaled.x.flat(), 0.5 * system.v.flat())
    assert scaled.report.residual == pytest.approx(system.residual(scaled.x))


def test_most_solvers_remember_nothing() -> None:
    solver = Dense()
    assert solver.state_dict() == {}
    solver.load_state_dict({})


def test_a_solver_passes_and_anything_else_is_named() -> None:
    solver = Dense()
    assert checked(solver) is solver
    with pytest.raises(InputError, match=r"It is the class `Dense`. Make one"):
        checked(Dense)  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"It is 'dense'."):
        checked("dense")  # type: ignore[arg-type]


@pytest.mark.parametrize("make", [lambda: Neumann(terms=2), lambda: WarmStart(Neumann(terms=2)), Dense])
def test_a_memory_is_put_back_by_an_error(make: type[LinearSolver]) -> None:
    system, solver, twin = System(geometric(10.0)), make(), make()
    for s in (solver, twin):
        s.solve(system.operator(), system.v)

    def fails() -> None:
        with memory_kept(solver):
            solver.solve(System(geometric(1000.0), seed=1).operator(), system.v)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fails()
    with memory_kept(solver):
        found = solver.solve(system.operator(), system.v)
    exact = twin.solve(system.operator(), system.v)
    assert torch.equal(found.x.flat(), exact.x.flat())
    assert found.report == exact.report
