"""Starting from the last solution: when it helps, and when it is dropped."""

import io

import pytest
import torch
from torch import Tensor

from auxilearn import Vector
from auxilearn.errors import InputError
from auxilearn.solvers import ConjugateGradient, Dense, Neumann, Status, WarmStart
from support import Matrix, System, close, generator, geometric


def test_calls_add_up_to_one_long_solve() -> None:
    system, solver = System(geometric(100.0)), WarmStart(Neumann(terms=9, alpha=0.01))
    for calls in (1, 2, 3, 4):
        found = solver.solve(system.operator(), system.v).x
        whole = Neumann(terms=10 * calls - 1, alpha=0.01).solve(system.operator(), system.v).x
        assert close(found.flat(), whole.flat(), 1e-12)


def test_it_converges_where_its_solver_is_truncated() -> None:
    system, solver = System(geometric(100.0)), WarmStart(ConjugateGradient(max_steps=10))
    errors = [system.error(solver.solve(system.operator(), system.v).x) for _ in range(30)]
    assert errors[-1] < 1e-6 < errors[0]


def test_the_residual_is_relative_to_the_whole_right_hand_side() -> None:
    system, solver = System(geometric(100.0)), WarmStart(Neumann(terms=5, measure_residual=True))
    for _ in range(4):
        solution = solver.solve(system.operator(), system.v)
        assert solution.report.residual == pytest.approx(system.residual(solution.x), rel=1e-9)


def test_a_solution_worse_than_none_is_dropped() -> None:
    system, solver = System(geometric(100.0)), WarmStart(Neumann(terms=5, alpha=0.01))
    solver.solve(system.operator(), 1e6 * system.v.randn_like(generator(9)))
    solution = solver.solve(system.operator(), system.v)
    plain = Neumann(terms=5, alpha=0.01).solve(system.operator(), system.v)
    assert torch.equal(solution.x.flat(), plain.x.flat())
    assert solution.report.products == plain.report.products + 1


def test_other_shapes_start_afresh() -> None:
    system, solver = System(geometric(100.0)), WarmStart(Dense())
    solver.solve(system.operator(), system.v)
    solution = solver.solve(system.operator(), Vector([system.v.flat()]))
    assert solution.report.products == 24
    assert system.error(solution.x) <= 1e-10


def test_a_memory_of_another_data_type_is_converted() -> None:
    system, solver = System(geometric(100.0)), WarmStart(Neumann(terms=5, alpha=0.01))
    solver.solve(system.operator(), system.v)
    H, v = Matrix(system.matrix.float()), Vector(t.float() for t in system.v)
    solution = solver.solve(H, v)
    assert all(t.dtype == torch.float32 for t in solution.x)
    assert H.products == 6


def test_a_failed_solve_is_not_remembered() -> None:
    system, solver = System(geometric(100.0)), WarmStart(Neumann(terms=50, alpha=0.01))
    good = solver.solve(system.operator(), system.v).x.flat()
    # A little of v is left to solve for, and the step is too long for the operator now.
    failed = solver.solve(Matrix(3 * system.matrix), 3 * system.v)
    assert failed.report.status is Status.DIVERGED
    assert torch.equal(Vector(solver.state_dict()["x"]).flat(), good)


def test_a_zero_right_hand_side_gives_zero() -> None:
    system, solver = System(geometric(100.0)), WarmStart(Dense())
    solver.solve(system.operator(), system.v)
    for _ in range(2):
        solution = solver.solve(system.operator(), system.v.zeros_like())
        assert float(solution.x.norm()) == 0.0
    assert system.error(solver.solve(system.operator(), system.v).x) <= 1e-10


def test_a_saved_memory_resumes_bit_by_bit() -> None:
    def training(solver: WarmStart, steps: range) -> list[Tensor]:
        systems = [System(geometric(100.0) * (1 + 0.1 * k)) for k in steps]
        return [solver.solve(s.operator(), s.v).x.flat() for s in systems]

    one, other = WarmStart(Neumann(terms=5)), WarmStart(Neumann(terms=5))
    training(one, range(3))
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert all(map(torch.equal, training(one, range(3, 6)), training(other, range(3, 6))))


def test_a_fresh_memory_can_be_loaded() -> None:
    system, solver = System(geometric(100.0)), WarmStart(Neumann(terms=5))
    first = solver.solve(system.operator(), system.v).x.flat()
    solver.load_state_dict(WarmStart(Neumann(terms=5)).state_dict())
    assert torch.equal(solver.solve(system.operator(), system.v).x.flat(), first)


@pytest.mark.parametrize("solver", ["neumann", Neumann, None])
def test_anything_but_a_solver_is_refused(solver: object) -> None:
    with pytest.raises(InputError, match="`solver` must be a `LinearSolver`"):
        WarmStart(solver)  # type: ignore[arg-type]
