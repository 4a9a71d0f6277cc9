"""A diagonal change of variables: the same limit, another series, residuals in the original coordinates."""

import math
from collections.abc import Sequence

import pytest
import torch
from torch import Tensor, nn

from auxilearn import Vector
from auxilearn.curvature import Hessian
from auxilearn.errors import InputError
from auxilearn.solvers import ConjugateGradient, Dense, Identity, Neumann
from auxilearn.solvers._preconditioner import Congruent, DiagonalRoot, Shifted
from support import DEVICE, Matrix, Regression, System, close, generator, geometric, matrix_of

N = 24


def positive_diagonal(system: System) -> Vector:
    return Vector(t.abs() + 0.1 for t in system.v.randn_like(generator(3)))


@pytest.mark.parametrize("terms", [0, 1, 2, 10])
def test_a_truncated_series_is_that_of_the_preconditioned_step(terms: int) -> None:
    system, alpha = System(geometric(30.0)), 0.02
    P = positive_diagonal(system)
    step = torch.diag(P.flat()) @ system.matrix
    contraction = torch.eye(N).to(step) - alpha * step
    powers = (torch.linalg.matrix_power(contraction, j) for j in range(terms + 1))
    exact = alpha * sum((power @ (P.flat() * system.v.flat()) for power in powers), torch.zeros(N).to(step))
    found = Neumann(terms=terms, alpha=alpha, preconditioner=P).solve(system.operator(), system.v).x
    assert close(found.flat(), exact, 1e-12)


def test_conjugate_gradients_are_the_preconditioned_ones_of_the_textbook() -> None:
    system, steps = System(geometric(30.0)), 6
    P, H, b = positive_diagonal(system).flat(), system.matrix, system.v.flat()
    x, r = torch.zeros_like(b), b
    z = p = P * r
    for _ in range(steps):  # Golub and Van Loan, Alg. 11.5.1
        Hp = H @ p
        alpha = (r @ z) / (p @ Hp)
        x, after = x + alpha * p, r - alpha * Hp
        z_after = P * after
        p = z_after + (after @ z_after) / (r @ z) * p
        r, z = after, z_after
    solver = ConjugateGradient(steps, tolerance=0.0, preconditioner=positive_diagonal(system))
    solution = solver.solve(system.operator(), system.v)
    assert close(solution.x.flat(), x, 1e-10)
    assert solution.report.residual == pytest.approx(float(r.norm() / b.norm()), rel=1e-9)


def test_the_tolerance_is_that_of_the_preconditioned_residual_and_the_report_of_the_original() -> None:
    system = System(geometric(30.0))
    P = positive_diagonal(system)
    solution = ConjugateGradient(100, tolerance=1e-3, preconditioner=P).solve(system.operator(), system.v)
    rest = system.v.flat() - system.matrix @ solution.x.flat()
    root = P.flat().sqrt()
    assert float((root * rest).norm() / (root * system.v.flat()).norm()) <= 1e-3
    assert solution.report.residual == pytest.approx(system.residual(solution.x), rel=1e-9)


def test_a_vector_and_a_list_are_the_same() -> None:
    system = System(geometric(30.0))
    P = positive_diagonal(system)
    found = [Neumann(preconditioner=p).solve(system.operator(), system.v).x.flat() for p in (P, list(P), tuple(P))]
    assert all(torch.equal(x, found[0]) for x in found)


def test_the_inverse_diagonal_makes_a_diagonal_operator_easy() -> None:
    values = torch.logspace(0, 6, 10, dtype=torch.float64).to(DEVICE)
    v = Vector([torch.ones_like(values)])
    solution = Neumann(terms=1, preconditioner=[1 / values]).solve(Matrix(torch.diag(values)), v)
    assert close(solution.x.flat(), 1 / values, 1e-12)
    assert solution.report.largest_eigenvalue == pytest.approx(1.0)


class Given:
    """A metric that says what it was told."""

    def __init__(self, diagonal: Vector, shift: Vector) -> None:
        self.diagonal, self.shift = diagonal, shift

    def read(self, params: Sequence[Tensor], /) -> tuple[Vector, Vector]:
        assert len(params) == len(self.diagonal)
        return self.diagonal, self.shift


@pytest.mark.parametrize("decay", [0.0, 0.7])
def test_a_metric_shifts_the_operator(decay: float) -> None:
    problem = Regression()
    like = problem.flat_weights()
    P = Vector(t.abs() + 0.1 for t in like)
    metric = Given(P, Vector(torch.full_like(t, decay) for t in like))
    H = Hessian(problem.loss(), problem.weights, damping=2.0)
    solution = Dense(preconditioner=metric, measure_residual=True).solve(H, like)
    exact = torch.linalg.solve(problem.hessian() + (2.0 + decay) * torch.eye(15).to(P.flat()), like.flat())
    assert close(solution.x.flat(), exact, 1e-10)
    assert solution.report.residual == pytest.approx(0.0, abs=1e-10)
    assert solution.report.products == 16


def test_the_changed_operators_are_what_their_names_say() -> None:
    system = System(geometric(30.0))
    P = positive_diagonal(system)
    diagonal = torch.diag(P.flat())
    scaled, shifted = Congruent(system.operator(), DiagonalRoot(P)), Shifted(system.operator(), P)
    assert close(matrix_of(scaled, system.v), diagonal @ system.matrix @ diagonal, 1e-12)
    assert close(matrix_of(shifted, system.v), system.matrix + diagonal, 1e-12)


@pytest.mark.parametrize(
    ("shapes", "finding"),
    [([(2,)], r"It has \[\(2,\)\], the parameters have \[\(3,\)\]"), ([(3,), (3,)], r"It has \[\(3,\), \(3,\)\]")],
)
def test_other_shapes_are_refused(shapes: list[tuple[int, ...]], finding: str) -> None:
    solver = Identity(preconditioner=[torch.ones(s) for s in shapes])
    with pytest.raises(InputError, match=f"must have the shapes of the parameters.*{finding}"):
        solver.solve(Matrix(torch.eye(3)), Vector([torch.ones(3)]))


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_entries_that_are_no_positive_numbers_are_refused(value: float) -> None:
    solver = Identity(preconditioner=[torch.tensor([1.0, value, 1.0])])
    with pytest.raises(InputError, match="finite and positive in every entry"):
        solver.solve(Matrix(torch.eye(3)), Vector([torch.ones(3)]))


@pytest.mark.parametrize(
    "thing", [torch.ones(3), [1.0, 2.0, 3.0], "adam", torch.optim.SGD([nn.Parameter(torch.ones(3))], lr=0.1), Given]
)
def test_anything_else_is_refused(thing: object) -> None:
    solver = Identity(preconditioner=thing)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="must be a list of tensors, an `OptimizerMetric`"):
        solver.solve(Matrix(torch.eye(3)), Vector([torch.ones(3)]))


def test_a_metric_needs_an_operator_that_knows_its_parameters() -> None:
    v = Vector([torch.ones(3)])
    solver = Identity(preconditioner=Given(v, v))
    with pytest.raises(InputError, match=r"needs an operator with parameters\. It got a `Matrix`"):
        solver.solve(Matrix(torch.eye(3)), v)
