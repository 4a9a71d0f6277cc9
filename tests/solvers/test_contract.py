"""The contract that every solver keeps. Each clause catches a fault published in some library."""

import dataclasses
import math
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import distributed as dist

from auxilearn import Vector
from auxilearn.curvature import CurvatureOperator
from auxilearn.solvers import (
    ConjugateGradient,
    Dense,
    Identity,
    LinearSolver,
    Neumann,
    Nystrom,
    SingleLoop,
    Solution,
    Status,
    WarmStart,
)
from support import DEVICE, Matrix, System, close, generator, geometric, process_group

N = 24
"""Parameters of the systems."""

# Each method with what it needs to converge on a spectrum from 1 to the condition number κ. The error of the Neumann
# series falls by 1 - 1/κ a term for α = 1/λ_max, and by 1 - 2/(κ+1) for the best α.
CONVERGED: dict[str, Callable[[float], LinearSolver]] = {
    "dense": lambda κ: Dense(),
    "conjugate gradient": lambda κ: ConjugateGradient(max_steps=200, tolerance=1e-13),
    "nystrom": lambda κ: Nystrom(rank=N),
    "neumann": lambda κ: Neumann(terms=30 + int(10 * κ), alpha=2 / (1 + κ)),
    "neumann auto": lambda κ: Neumann(terms=30 + int(22 * κ)),
    "warm start": lambda κ: WarmStart(ConjugateGradient(max_steps=200, tolerance=1e-13)),
}
every_method = pytest.mark.parametrize("name", CONVERGED)

# A few settings of each method that do not converge, in the order of their budgets.
BUDGETS: dict[str, list[LinearSolver]] = {
    "conjugate gradient": [ConjugateGradient(max_steps=k, tolerance=0.0) for k in (1, 2, 3, 5, 8, 12, 20)],
    "nystrom": [Nystrom(rank=k) for k in (1, 6, N)],
    "neumann": [Neumann(terms=k, alpha=0.02) for k in (0, 1, 2, 3, 10, 100, 1000)],
    "neumann auto": [Neumann(terms=k) for k in (0, 1, 2, 3, 10, 100, 1000)],
    "warm start": [WarmStart(Neumann(terms=k, alpha=0.02)) for k in (0, 1, 10, 100)],
}

# Every class once, truncated, with its documented number of products.
PRODUCTS: dict[str, tuple[LinearSolver, int]] = {
    "identity": (Identity(), 0),
    "neumann": (Neumann(terms=7, alpha=0.01), 7),
    "neumann without terms": (Neumann(terms=0, alpha=0.01), 0),
    "neumann auto": (Neumann(terms=7, first_steps=4), 7 + 4),
    "conjugate gradient": (ConjugateGradient(max_steps=5, tolerance=0.0), 5),
    "nystrom": (Nystrom(rank=6), 6),
    "nystrom beyond full rank": (Nystrom(rank=100), N),
    "dense": (Dense(), N),
    "warm start": (WarmStart(Neumann(terms=7, alpha=0.01)), 7),
    "single loop": (SingleLoop(alpha=0.01), 0),
    "single loop auto": (SingleLoop(), 1),
}
every_setting = pytest.mark.parametrize("name", PRODUCTS)


def fresh(solver: LinearSolver) -> LinearSolver:
    """Return the same settings without a memory."""
    if isinstance(solver, WarmStart):
        return WarmStart(fresh(solver.solver))
    return dataclasses.replace(solver)  # type: ignore[type-var]


def measuring(solver: LinearSolver) -> LinearSolver:
    if isinstance(solver, WarmStart):
        return WarmStart(measuring(solver.solver))
    return dataclasses.replace(solver, measure_residual=True)  # type: ignore[type-var, call-arg]


def residual(solution: Solution) -> float:
    assert solution.report.residual is not None
    return solution.report.residual


# The guarded series would take 220,000 terms at κ = 1e4; its preconditioned and its exact form are tested elsewhere.
@pytest.mark.parametrize(
    ("name", "κ"), [(name, κ) for name in CONVERGED for κ in (1.0, 1e2, 1e4) if (name, κ) != ("neumann auto", 1e4)]
)
def test_it_equals_the_dense_solution(name: str, κ: float) -> None:
    system = System(geometric(κ))
    solution = CONVERGED[name](κ).solve(system.operator(), system.v)
    assert not solution.report.failed
    assert not solution.report.negative_curvature
    assert system.error(solution.x) <= 1e-8


@every_method
def test_it_is_linear_in_the_right_hand_side(name: str) -> None:
    system, solver = System(geometric(100.0)), CONVERGED[name](100.0)
    u, v = system.v, system.v.randn_like(generator(5))
    whole = solver.solve(system.operator(), u.add(v, scale=-3.0)).x
    parts = solver.solve(system.operator(), u).x.add(solver.solve(system.operator(), v).x, scale=-3.0)
    assert close(whole.flat(), parts.flat(), 1e-8)


@pytest.mark.parametrize("solver", [Identity(), Neumann(terms=3, alpha=0.01), Nystrom(rank=5), Dense()])
def test_methods_that_know_their_polynomial_are_linear_at_any_budget(solver: LinearSolver) -> None:
    system = System(geometric(100.0))
    u, v = system.v, system.v.randn_like(generator(5))
    whole = solver.solve(system.operator(), u.add(v, scale=-3.0)).x
    parts = solver.solve(system.operator(), u).x.add(solver.solve(system.operator(), v).x, scale=-3.0)
    assert close(whole.flat(), parts.flat(), 1e-12)


# A fixed step belongs to one scale: it has the next test.
@pytest.mark.parametrize("name", [name for name in CONVERGED if name != "neumann"])
@pytest.mark.parametrize("c", [1e-6, 0.5, 1e6])
def test_a_multiple_of_the_operator_divides_the_solution(name: str, c: float) -> None:
    system = System(geometric(100.0))
    plain = CONVERGED[name](100.0).solve(system.operator(), system.v).x
    scaled = CONVERGED[name](100.0).solve(Matrix(c * system.matrix), system.v).x
    assert close(c * scaled.flat(), plain.flat(), 1e-8)


@pytest.mark.parametrize("c", [1e-6, 0.5, 1e6])
def test_a_fixed_step_scales_with_the_operator(c: float) -> None:
    system = System(geometric(100.0))
    plain = Neumann(terms=5, alpha=0.01).solve(system.operator(), system.v).x
    scaled = Neumann(terms=5, alpha=0.01 / c).solve(Matrix(c * system.matrix), system.v).x
    assert close(c * scaled.flat(), plain.flat(), 1e-12)


@pytest.mark.parametrize("name", BUDGETS)
@pytest.mark.parametrize("seed", range(5))
def test_the_error_falls_with_the_budget(name: str, seed: int) -> None:
    # A few large eigenvalues over a flat rest: what a low rank is for.
    eigenvalues = torch.cat([torch.linspace(1, 2, N - 3), torch.tensor([20.0, 50.0, 100.0])]).double()
    system = System(eigenvalues, seed=seed)
    errors = [system.error(fresh(solver).solve(system.operator(), system.v).x) for solver in BUDGETS[name]]
    assert errors == sorted(errors, reverse=True)
    assert errors[-1] < 0.5 * errors[0]


@pytest.mark.parametrize("alpha", [0.002, 0.01, 0.0195])
def test_the_limit_does_not_depend_on_the_step(alpha: float) -> None:
    system = System(geometric(100.0))
    assert system.error(Neumann(terms=int(25 / alpha), alpha=alpha).solve(system.operator(), system.v).x) <= 1e-8


@every_method
def test_the_limit_does_not_depend_on_the_preconditioner(name: str) -> None:
    system = System(geometric(10.0))
    diagonal = [t.abs() + 0.1 for t in system.v.randn_like(generator(3))]  # from 0.1 to 3: κ grows up to 30 times
    base = CONVERGED[name](300.0)
    solver = WarmStart(_with(base.solver, diagonal)) if isinstance(base, WarmStart) else _with(base, diagonal)
    assert system.error(solver.solve(system.operator(), system.v).x) <= 1e-8


def _with(solver: LinearSolver, diagonal: list[torch.Tensor]) -> LinearSolver:
    changes = {"alpha": 0.05, "terms": 10_000} if getattr(solver, "alpha", "auto") != "auto" else {}
    return dataclasses.replace(solver, preconditioner=diagonal, **changes)  # type: ignore[type-var, call-arg, arg-type]


@every_method
def test_a_diagonal_preconditioner_undoes_bad_scaling(name: str) -> None:
    # Condition number 1e4 by scaling alone, on top of 4 inside.
    inner, scale = System(geometric(4.0)), torch.logspace(0, 1.7, N, dtype=torch.float64).to(DEVICE)
    H = Matrix(scale[:, None] * inner.matrix * scale)
    assert float(torch.linalg.cond(H.matrix)) > 1e3
    base = CONVERGED[name](20.0)
    diagonal = list(inner.v.from_flat(1 / H.matrix.diagonal()))
    solver = WarmStart(_with(base.solver, diagonal)) if isinstance(base, WarmStart) else _with(base, diagonal)
    x = solver.solve(H, inner.v).x.flat()
    assert close(x, torch.linalg.solve(H.matrix, inner.v.flat()), 1e-8)


@every_setting
@pytest.mark.parametrize("preconditioned", [False, True])
def test_the_reported_residual_is_that_of_the_returned_solution(name: str, preconditioned: bool) -> None:
    system = System(geometric(30.0))
    solver = measuring(fresh(PRODUCTS[name][0]))
    if preconditioned and not isinstance(solver, WarmStart):
        diagonal = [t.abs() + 0.1 for t in system.v.randn_like(generator(3))]
        solver = dataclasses.replace(solver, preconditioner=diagonal)  # type: ignore[type-var, call-arg]
    for _ in range(2):  # the second call is a different one for those that remember
        solution = solver.solve(system.operator(), system.v)
        assert residual(solution) == pytest.approx(system.residual(solution.x), rel=1e-9, abs=1e-10)


@every_setting
def test_the_products_are_the_documented_ones(name: str) -> None:
    system, (solver, products) = System(geometric(100.0)), PRODUCTS[name]
    H, solver = system.operator(), fresh(solver)
    assert solver.solve(H, system.v).report.products == products == H.products
    measured = measuring(fresh(solver)).solve(system.operator(), system.v).report
    assert measured.products == products + (0 if isinstance(solver, ConjugateGradient) else 1)


@pytest.mark.parametrize(
    ("name", "later"),
    [("neumann auto", 7 + 1), ("warm start", 7 + 1), ("nystrom", 6), ("single loop", 1), ("single loop auto", 1)],
)
def test_later_calls_use_the_documented_number(name: str, later: int) -> None:
    system, solver = System(geometric(100.0)), fresh(PRODUCTS[name][0])
    solver.solve(system.operator(), system.v)
    assert [solver.solve(system.operator(), system.v).report.products for _ in range(2)] == [later, later]


@every_setting
def test_zero_stays_zero_without_a_product(name: str) -> None:
    system = System(geometric(100.0))
    solution = measuring(fresh(PRODUCTS[name][0])).solve(H := system.operator(), system.v.zeros_like())
    assert float(solution.x.norm()) == 0.0
    assert (H.products, solution.report.products) == (0, 0)
    assert (solution.report.status, solution.report.residual) == (Status.CONVERGED, 0.0)


@every_setting
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize("preconditioned", [False, True])
def test_data_type_device_and_shapes_are_kept(name: str, dtype: torch.dtype, preconditioned: bool) -> None:
    system = System(geometric(100.0))
    H, v = Matrix(system.matrix.to(dtype)), Vector(t.to(dtype) for t in system.v)
    solver = fresh(PRODUCTS[name][0])
    if preconditioned and not isinstance(solver, WarmStart):
        solver = dataclasses.replace(solver, preconditioner=[torch.full_like(t, 0.5) for t in v])  # type: ignore[type-var, call-arg]
    for _ in range(2):
        x = solver.solve(H, v).x
        assert [(t.dtype, t.device, t.shape) for t in x] == [(t.dtype, t.device, t.shape) for t in v]


@every_method
def test_float32_reaches_four_digits(name: str) -> None:
    system = System(geometric(100.0))
    H, v = Matrix(system.matrix.float()), Vector(t.float() for t in system.v)
    x = CONVERGED[name](100.0).solve(H, v).x
    assert system.error(Vector(t.double() for t in x)) < 1e-4


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", [name for name in CONVERGED if name != "dense"])  # torch has no eigenvalues there
def test_half_precision_reaches_one_digit(name: str, dtype: torch.dtype) -> None:
    system = System(geometric(10.0))
    H, v = Matrix(system.matrix.to(dtype)), Vector(t.to(dtype) for t in system.v)
    x = CONVERGED[name](10.0).solve(H, v).x
    assert all(t.dtype is dtype for t in x)
    assert system.error(Vector(t.double() for t in x)) < 0.1


@every_setting
def test_arguments_and_random_state_are_unchanged(name: str) -> None:
    system = System(geometric(100.0))
    before, state = (system.v.flat(), system.matrix.clone()), torch.get_rng_state()
    solver = measuring(fresh(PRODUCTS[name][0]))
    for _ in range(2):
        solver.solve(system.operator(), system.v)
    assert torch.equal(system.v.flat(), before[0])
    assert torch.equal(system.matrix, before[1])
    assert torch.equal(torch.get_rng_state(), state)


@every_setting
def test_a_preconditioner_is_unchanged(name: str) -> None:
    system, (solver, _) = System(geometric(100.0)), PRODUCTS[name]
    diagonal = system.v.from_flat(torch.linspace(0.5, 2.0, N, dtype=torch.float64, device=DEVICE))
    before = diagonal.flat()
    if isinstance(solver, WarmStart):
        solver = WarmStart(dataclasses.replace(solver.solver, preconditioner=diagonal))  # type: ignore[type-var, call-arg]
    else:
        solver = dataclasses.replace(solver, preconditioner=diagonal)  # type: ignore[type-var, call-arg]
    solver.solve(system.operator(), system.v)
    assert torch.equal(diagonal.flat(), before)


@every_setting
def test_a_solve_can_be_repeated_bit_by_bit(name: str) -> None:
    system, (solver, _) = System(geometric(100.0)), PRODUCTS[name]
    first, second = (fresh(solver).solve(system.operator(), system.v).x for _ in range(2))
    assert all(map(torch.equal, first, second))


def _not_finite(solution: Solution) -> bool:
    return (
        solution.report.status is Status.NON_FINITE
        and solution.report.failed
        and solution.report.residual is None
        and float(solution.x.norm()) == 0.0
    )


@every_setting
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_right_hand_side_that_is_not_finite_is_reported(name: str, value: float) -> None:
    system = System(geometric(100.0))
    v = system.v.clone()
    v.tensors[2][3] = value
    assert _not_finite(fresh(PRODUCTS[name][0]).solve(H := system.operator(), v))
    assert H.products == 0


class Breaking(CurvatureOperator):
    """A matrix whose products turn NaN or infinite after a few."""

    def __init__(self, matrix: torch.Tensor, *, after: int, value: float) -> None:
        super().__init__()
        self.inner, self.after, self.value = Matrix(matrix), after, value

    def _multiply(self, v: Vector, /) -> Vector:
        product = self.inner @ v
        if self.products > self.after:
            product.tensors[0][0, 0] = self.value
        return product


# The product after the last is that of the residual, which conjugate gradients know without.
@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize(
    ("name", "after"),
    [
        (name, k)
        for name, (solver, used) in PRODUCTS.items()
        for k in sorted({0, used - 1, used - isinstance(solver, ConjugateGradient)} - {-1})
    ],
)
def test_a_product_that_is_not_finite_is_reported(name: str, after: int, value: float) -> None:
    system, solver = System(geometric(100.0)), measuring(fresh(PRODUCTS[name][0]))
    assert _not_finite(solver.solve(Breaking(system.matrix, after=after, value=value), system.v))


@pytest.mark.parametrize(
    ("solver", "scale"),
    [
        (Dense(), 1e-15),
        (ConjugateGradient(), 1e-15),
        (Nystrom(rank=N), 1e-15),
        (Neumann(terms=3), 1e-15),
        (Neumann(terms=400, alpha=0.1), 1.0),  # the terms grow by 9 each
        (WarmStart(Dense()), 1e-15),
    ],
)
def test_a_solution_that_overflows_is_reported(solver: LinearSolver, scale: float) -> None:
    system = System(geometric(100.0))
    H, v = Matrix(scale * system.matrix.float()), Vector(1e18 * t.float() for t in system.v)
    assert math.isfinite(float(v.norm()))
    assert _not_finite(solver.solve(H, v))


@every_setting
def test_settings_are_frozen_and_positional_arguments_are_the_methods_own(name: str) -> None:
    solver = PRODUCTS[name][0]
    with pytest.raises(dataclasses.FrozenInstanceError):
        solver.measure_residual = True  # type: ignore[attr-defined]
    assert Neumann(5).terms == 5
    assert ConjugateGradient(5).max_steps == 5
    assert Nystrom(5).rank == 5
    assert Dense(5).max_size == 5


examples = settings(deadline=None, max_examples=60, derandomize=True)


@examples
@given(
    name=st.sampled_from(sorted(CONVERGED)),
    exponents=st.lists(st.floats(0, 1.3), min_size=21, max_size=30),
    scale=st.floats(-4, 4).map(lambda x: 10.0**x),
    length=st.floats(-4, 4).map(lambda x: 10.0**x),
    seed=st.integers(0, 1000),
)
def test_the_contract_on_random_spectra(
    name: str, exponents: list[float], scale: float, length: float, seed: int
) -> None:
    system = System(torch.tensor([10.0**e for e in exponents], dtype=torch.float64), seed=seed)
    H, v = Matrix(scale * system.matrix), length * system.v
    before = v.flat()
    solver = measuring(CONVERGED[name](20.0))
    if isinstance(solver, Neumann) and solver.alpha != "auto":
        solver = dataclasses.replace(solver, alpha=1 / (20 * scale), terms=600)
    elif isinstance(solver, Nystrom):
        solver = dataclasses.replace(solver, rank=30)
    solution = solver.solve(H, v)
    exact = torch.linalg.solve(H.matrix, v.flat())
    assert close(solution.x.flat(), exact, 1e-8)
    assert residual(solution) == pytest.approx(
        float((v.flat() - H.matrix @ solution.x.flat()).norm() / v.norm()), rel=1e-6, abs=1e-10
    )
    assert solution.report.products == H.products
    assert not solution.report.failed
    assert not solution.report.negative_curvature
    assert torch.equal(v.flat(), before)


@pytest.fixture
def one_process(tmp_path: Path) -> Iterator[None]:
    if not dist.is_available():
        pytest.skip("torch is built without torch.distributed")
    with process_group(tmp_path / "store"):
        yield


@pytest.mark.parametrize("name", [name for name in PRODUCTS if name != "dense"])  # a matrix is for small problems
def test_shards_have_the_solution_of_the_whole(name: str, one_process: None) -> None:
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.tensor import Shard, distribute_tensor

    mesh = init_device_mesh("cpu", (1,))

    class Tridiagonal(CurvatureOperator):
        def _multiply(self, v: Vector, /) -> Vector:
            try:
                return Vector(4 * t - torch.roll(t, 1, 0) - torch.roll(t, -1, 0) for t in v)
            except NotImplementedError:
                pytest.skip("this torch cannot roll shards")

    whole = Vector(torch.randn(s, generator=generator(i)) for i, s in enumerate([(4, 2), (5,)]))
    sharded = Vector(distribute_tensor(t, mesh, [Shard(0)]) for t in whole)
    solver, twin = fresh(PRODUCTS[name][0]), fresh(PRODUCTS[name][0])
    for _ in range(2):
        found, exact = twin.solve(Tridiagonal(), sharded).x, solver.solve(Tridiagonal(), whole).x
        for a, b in zip(found, exact, strict=True):
            torch.testing.assert_close(a.full_tensor(), b)  # type: ignore[attr-defined]
