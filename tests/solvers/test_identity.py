"""No curvature: the right-hand side, or the preconditioner's image of it."""

import pytest
import torch

from auxilearn.solvers import Identity, Status
from support import System, geometric


def test_the_solution_is_the_right_hand_side() -> None:
    system = System(geometric(10.0))
    solution = Identity().solve(system.operator(), system.v)
    assert torch.equal(solution.x.flat(), system.v.flat())
    assert solution.report.status is Status.TRUNCATED
    assert solution.report.residual is None


def test_with_a_preconditioner_it_is_its_image() -> None:
    system = System(geometric(10.0))
    diagonal = system.v.from_flat(torch.linspace(0.1, 2.0, 24).to(system.matrix))
    solution = Identity(preconditioner=diagonal).solve(system.operator(), system.v)
    torch.testing.assert_close(solution.x.flat(), diagonal.flat() * system.v.flat())


def test_it_is_exact_for_the_identity() -> None:
    system = System(geometric(1.0))
    solution = Identity(measure_residual=True).solve(system.operator(), system.v)
    assert solution.report.residual == pytest.approx(0.0, abs=1e-14)
    assert system.error(solution.x) <= 1e-14
