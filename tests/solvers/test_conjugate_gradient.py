"""Conjugate gradients against the minimiser over the Krylov space, and where curvature fails."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from auxilearn import Vector
from auxilearn.curvature import GaussNewton, Hessian, LossCurvature, Streamed
from auxilearn.errors import InputError, SolverWarning
from auxilearn.solvers import ConjugateGradient, Neumann, Status
from support import Matrix, System, close, geometric, spd

N = 24


def minimiser(matrix: Tensor, v: Tensor, steps: int, diagonal: Tensor) -> Tensor:
    """Minimise ½⟨x, Hx⟩ − ⟨v, x⟩ over the span of (PH)ʲ P v, j < steps, through an explicit basis."""
    krylov = [diagonal * v]
    for _ in range(steps - 1):
        krylov.append(diagonal * (matrix @ krylov[-1]))
        krylov[-1] = krylov[-1] / krylov[-1].norm()
    basis = torch.linalg.qr(torch.stack(krylov, dim=1)).Q
    return basis @ torch.linalg.solve(basis.T @ matrix @ basis, basis.T @ v)


@pytest.mark.parametrize("steps", [1, 2, 3, 6])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_every_iterate_minimises_over_its_krylov_space(steps: int, preconditioned: bool) -> None:
    system = System(geometric(100.0))
    diagonal = torch.linspace(0.2, 3.0, N, dtype=torch.float64).to(system.matrix) if preconditioned else None
    weights = None if diagonal is None else system.v.from_flat(diagonal)
    found = ConjugateGradient(steps, tolerance=0.0, preconditioner=weights).solve(system.operator(), system.v)
    plain = torch.ones_like(system.v.flat()) if diagonal is None else diagonal
    assert close(found.x.flat(), minimiser(system.matrix, system.v.flat(), steps, plain), 1e-9)


def test_it_is_exact_after_as_many_steps_as_parameters() -> None:
    system = System(geometric(10.0))
    solution = ConjugateGradient(N, tolerance=0.0).solve(system.operator(), system.v)
    assert system.error(solution.x) <= 1e-10


@pytest.mark.parametrize("distinct", [1, 2, 3, 5])
def test_it_is_exact_after_as_many_steps_as_distinct_eigenvalues(distinct: int) -> None:
    system = System(geometric(100.0, size=distinct).repeat(N)[:N])
    before = ConjugateGradient(max(distinct - 1, 1), tolerance=0.0).solve(system.operator(), system.v)
    assert distinct == 1 or system.error(before.x) > 1e-3
    solution = ConjugateGradient(tolerance=1e-10).solve(system.operator(), system.v)
    assert (solution.report.products, solution.report.status) == (distinct, Status.CONVERGED)
    assert system.error(solution.x) <= 1e-9


@pytest.mark.parametrize("tolerance", [1e-2, 1e-4, 1e-8])
def test_it_ends_at_the_tolerance(tolerance: float) -> None:
    system = System(geometric(100.0))
    solution = ConjugateGradient(1000, tolerance=tolerance).solve(system.operator(), system.v)
    assert solution.report.status is Status.CONVERGED
    assert solution.report.residual is not None
    assert system.residual(solution.x) == pytest.approx(solution.report.residual, rel=1e-4)
    assert solution.report.residual <= tolerance
    before = ConjugateGradient(solution.report.products - 1, tolerance=tolerance).solve(system.operator(), system.v)
    assert before.report.status is Status.TRUNCATED
    assert before.report.residual is not None
    assert before.report.residual > tolerance


def test_the_largest_curvature_met_is_an_estimate_from_below() -> None:
    system = System(geometric(100.0))
    report = ConjugateGradient(60).solve(system.operator(), system.v).report
    assert report.largest_eigenvalue is not None
    assert 20.0 < report.largest_eigenvalue <= 100.0 + 1e-9


def test_damping_makes_an_indefinite_operator_solvable() -> None:
    matrix = spd(torch.linspace(-1, 10, N, dtype=torch.float64))
    v = Vector([torch.ones(N).to(matrix)])
    assert ConjugateGradient(100).solve(Matrix(matrix), v).report.negative_curvature
    solution = ConjugateGradient(100, tolerance=1e-12).solve(Matrix(matrix, damping=2.0), v)
    assert solution.report.status is Status.CONVERGED
    shifted = matrix + 2 * torch.eye(N).to(matrix)
    assert close(solution.x.flat(), torch.linalg.solve(shifted, v.flat()), 1e-8)


@pytest.mark.parametrize("seed", range(50))
def test_indefinite_operators_are_reported_with_the_iterate_from_before(seed: int) -> None:
    eigenvalues = torch.cat([torch.tensor([-1.0, -0.01]), torch.linspace(0.5, 10, N - 2)]).double()
    system = System(eigenvalues, seed=seed)
    solution = ConjugateGradient(100).solve(system.operator(), system.v)
    report = solution.report
    assert report.status is Status.NEGATIVE_CURVATURE
    assert report.negative_curvature
    assert not report.failed
    if report.products > 1:
        before = ConjugateGradient(report.products - 1, tolerance=0.0).solve(system.operator(), system.v)
        assert torch.equal(solution.x.flat(), before.x.flat())
        assert report.residual == pytest.approx(system.residual(solution.x), rel=1e-9)


def test_negative_curvature_at_once_gives_a_step_of_its_size_downhill() -> None:
    v = Vector([torch.tensor([1.0, 2.0], dtype=torch.float64)])
    H = Matrix(torch.diag(torch.tensor([-1.0, -4.0], dtype=torch.float64)))
    solution = ConjugateGradient(measure_residual=True).solve(H, v)
    assert torch.equal(solution.x.flat(), v.flat() * 5 / 17)
    assert (solution.report.status, solution.report.products) == (Status.NEGATIVE_CURVATURE, 2)
    assert solution.report.negative_curvature
    assert solution.report.largest_eigenvalue is None
    exact = float((v.flat() - H.matrix @ solution.x.flat()).norm() / v.norm())
    assert solution.report.residual == pytest.approx(exact)


def test_no_curvature_at_all_gives_the_right_hand_side() -> None:
    v = Vector([torch.tensor([1.0, 2.0])])
    solution = ConjugateGradient().solve(Matrix(torch.zeros(2, 2)), v)
    assert torch.equal(solution.x.flat(), v.flat())
    assert solution.report.status is Status.NEGATIVE_CURVATURE
    assert not solution.report.negative_curvature


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_the_null_space_of_a_singular_operator_is_no_negative_curvature(dtype: torch.dtype) -> None:
    # Half of v cannot be reached; in its direction the curvature is rounding of either sign, and a division by it
    # would give 1e17.
    for seed in range(20):
        eigenvalues = torch.tensor([1.0, 10.0, 100.0] + [0.0] * (N - 3), dtype=torch.float64)
        system = System(eigenvalues, seed=seed)
        H, v = Matrix(system.matrix.to(dtype)), Vector(t.to(dtype) for t in system.v)
        solution = ConjugateGradient(60, tolerance=1e-10).solve(H, v)
        assert not solution.report.negative_curvature
        assert float(solution.x.norm()) < 1e6 * float(v.norm())


def test_a_consistent_singular_system_is_solved() -> None:
    system = System(torch.tensor([1.0, 10.0, 100.0] + [0.0] * (N - 3), dtype=torch.float64))
    v = system.v.from_flat(system.matrix @ system.v.flat())
    solution = ConjugateGradient(60, tolerance=1e-10).solve(system.operator(), v)
    assert solution.report.status is Status.CONVERGED
    assert close(system.matrix @ solution.x.flat(), v.flat(), 1e-9)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"max_steps": 0}, "`max_steps` must be"),
        ({"max_steps": 1.5}, "`max_steps` must be"),
        ({"tolerance": -1.0}, "`tolerance` must be"),
        ({"tolerance": math.nan}, "`tolerance` must be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        ConjugateGradient(**settings)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", ["hessian", "gauss-newton", "streamed", "preconditioned"])
def test_products_in_half_precision_are_warned_of(kind: str) -> None:
    w = torch.ones(2, 2, requires_grad=True)
    make: dict[str, Callable[[], LossCurvature]] = {
        "hessian": lambda: Hessian(squares(w).sum(), [w]),
        "preconditioned": lambda: Hessian(squares(w).sum(), [w]),
        "gauss-newton": lambda: GaussNewton((z := squares(w)).square().sum(), z, [w]),
        "streamed": lambda: Streamed(lambda _: Hessian(squares(w).sum(), [w]), [0, 1]),
    }

    def squares(w: torch.Tensor) -> torch.Tensor:
        return (torch.eye(2) @ w).float().square()

    diagonal = [torch.ones(2, 2)] if kind == "preconditioned" else None
    solver, v = ConjugateGradient(preconditioner=diagonal), Vector([torch.ones(2, 2)])
    assert solver.solve(make[kind](), v).report.status is Status.CONVERGED
    with torch.autocast("cpu", torch.bfloat16):
        H = make[kind]()
        with pytest.warns(SolverWarning, match=r"need symmetric products\. .*half precision.*enabled=False"):
            solver.solve(H, v)
        Neumann().solve(H, v)
