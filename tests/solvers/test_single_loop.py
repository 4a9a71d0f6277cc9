"""One product a call: Richardson's iteration on a system at rest, its mean on one that is drawn anew each call."""

import io
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from auxilearn import Vector, hypergradient
from auxilearn.curvature import Hessian
from auxilearn.errors import InputError
from auxilearn.solvers import Neumann, OptimizerMetric, SingleLoop, Status
from support import DEVICE, Matrix, System, close, generator, geometric


def last(solver: SingleLoop, system: System, calls: int) -> Vector:
    for _ in range(calls - 1):
        solver.solve(system.operator(), system.v)
    return solver.solve(system.operator(), system.v).x


@pytest.mark.parametrize("alpha", [0.003, 0.01, 0.019])
def test_on_a_system_at_rest_it_is_gradient_descent(alpha: float) -> None:
    system, solver = System(geometric(100.0)), SingleLoop(alpha=alpha)
    x = torch.zeros_like(system.exact)
    for _ in range(50):
        x = x - alpha * (system.matrix @ x - system.v.flat())  # of ½⟨x, Hx⟩ − ⟨v, x⟩
        assert close(solver.solve(system.operator(), system.v).x.flat(), x, 1e-12)


def test_calls_add_up_to_one_neumann_series() -> None:
    system = System(geometric(100.0))
    for calls in (1, 2, 5, 20):
        series = Neumann(terms=calls - 1, alpha=0.01).solve(system.operator(), system.v).x
        assert close(last(SingleLoop(alpha=0.01), system, calls).flat(), series.flat(), 1e-12)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("solver", [SingleLoop(alpha=0.02), SingleLoop(), SingleLoop(refresh=2)])
def test_it_converges_to_the_dense_solution(solver: SingleLoop, seed: int) -> None:
    system = System(geometric(50.0), seed=seed)
    fresh = SingleLoop(alpha=solver.alpha, refresh=solver.refresh)
    assert system.error(last(fresh, system, 4000)) <= 1e-12


@pytest.mark.parametrize("scale", [1e-6, 1e6])
def test_the_automatic_step_has_the_scale_of_the_operator(scale: float) -> None:
    system, plain, scaled = System(geometric(20.0)), SingleLoop(), SingleLoop()
    for _ in range(30):
        x = plain.solve(system.operator(), system.v).x.flat()
        y = scaled.solve(Matrix(scale * system.matrix), system.v).x.flat()
        assert close(scale * y, x, 1e-8)


def test_a_call_takes_at_most_one_product() -> None:
    system, fixed, automatic = System(geometric(100.0)), SingleLoop(alpha=0.01), SingleLoop(refresh=3)
    assert [fixed.solve(system.operator(), system.v).report.products for _ in range(4)] == [0, 1, 1, 1]
    assert [automatic.solve(system.operator(), system.v).report.products for _ in range(9)] == [1] * 9


def test_a_look_at_the_spectrum_leaves_the_solution() -> None:
    system, solver = System(geometric(10.0)), SingleLoop(refresh=4)
    x = [solver.solve(system.operator(), system.v).x.flat() for _ in range(9)]
    assert [torch.equal(a, b) for a, b in pairwise(x)] == [False, False, False, True] * 2


def sampled(batch: int, rng: torch.Generator) -> tuple[Matrix, Vector]:
    """Draw a system of mean H = diag(0.1 … 1), v = 1: samples of H of rank one, noise of the size of v."""
    scale = torch.logspace(-0.5, 0, 10, dtype=torch.float64)
    rows = torch.randn(batch, 10, generator=rng, dtype=torch.float64) * scale
    noise = torch.randn(10, generator=rng, dtype=torch.float64) / batch**0.5
    return Matrix((rows.T @ rows / batch).to(DEVICE)), Vector([(1 + noise).to(DEVICE)])


@pytest.mark.parametrize("solver", [SingleLoop(alpha=0.1), SingleLoop()])
def test_on_a_stochastic_system_the_mean_over_the_calls_converges(solver: SingleLoop) -> None:
    exact, rng = torch.logspace(1, 0, 10, dtype=torch.float64).to(DEVICE), generator(0)
    total, errors = torch.zeros_like(exact), []
    for call in range(1, 8001):
        x = solver.solve(*sampled(32, rng)).x.flat()
        if call > 200:
            total += x
        if call in {500, 8000}:
            errors.append(float((total / (call - 200) - exact).norm() / exact.norm()))
    assert errors[1] < 0.02
    assert errors[1] < errors[0]
    batch = [float((Neumann(300).solve(*sampled(32, rng)).x.flat() - exact).norm() / exact.norm()) for _ in range(5)]
    assert min(batch) > 10 * errors[1]  # the solution of a single batch is another one


def test_batches_of_a_few_samples_shorten_the_step() -> None:
    # On average 1/λ_max is short enough; for batches of one it is not, and only the caution keeps the memory.
    rng, solver, norms = generator(0), SingleLoop(forget=100.0), []
    for _ in range(3000):
        solution = solver.solve(*sampled(1, rng))
        norms.append(float(solution.x.norm()))
    assert max(norms) < 1e4
    assert solution.report.step is not None
    assert solution.report.largest_eigenvalue is not None
    assert solution.report.step < 0.7 / solution.report.largest_eigenvalue


def test_an_eigenvalue_that_comes_into_sight_late_does_not_make_it_diverge() -> None:
    eigenvalues = torch.ones(24, dtype=torch.float64)
    eigenvalues[-1] = 1e4
    system, solver = System(eigenvalues), SingleLoop()
    top = torch.linalg.eigh(system.matrix).eigenvectors[:, -1]
    system.v = system.v.from_flat(system.v.flat() - (1 - 1e-6) * (top @ system.v.flat()) * top)
    sizes = [float(solver.solve(system.operator(), system.v).x.norm()) for _ in range(30)]
    assert max(sizes) <= 2 * float(system.v.norm())
    assert solver.state_dict()["largest"] > 0.9e4


def test_a_spectrum_that_grows_or_shrinks_is_followed() -> None:
    system, solver = System(geometric(10.0)), SingleLoop()
    last(solver, system, 100)
    for factor in (1e3, 1.0, 1e-1):
        for _ in range(1500):
            solution = solver.solve(Matrix(factor * system.matrix), system.v)
        assert close(factor * solution.x.flat(), system.exact, 1e-10)
        assert solution.report.largest_eigenvalue == pytest.approx(10 * factor, rel=0.1)
        assert solution.report.status is Status.TRUNCATED


def test_a_stale_memory_is_dropped() -> None:
    system, solver = System(geometric(100.0)), SingleLoop(alpha=0.01)
    solver.solve(system.operator(), 1e6 * system.v.randn_like(generator(9)))
    solution = solver.solve(system.operator(), system.v)
    assert torch.equal(solution.x.flat(), 0.01 * system.v.flat())
    assert solution.report.status is Status.TRUNCATED


def test_a_memory_somewhat_worse_than_none_is_kept() -> None:
    system, solver = System(geometric(100.0)), SingleLoop(alpha=0.01)
    other = system.v.randn_like(generator(9))
    for _ in range(20):
        solver.solve(system.operator(), 5 * other)
    kept = Vector(solver.state_dict()["x"])
    solution = solver.solve(system.operator(), system.v)
    assert system.residual(kept) > 1.0
    assert close(solution.x.flat(), kept.flat() + 0.01 * (system.v.flat() - system.matrix @ kept.flat()), 1e-12)


def test_a_fixed_step_that_is_too_long_is_reported_and_stays_bounded() -> None:
    system, solver = System(geometric(100.0)), SingleLoop(alpha=0.1)
    solutions = [solver.solve(system.operator(), system.v) for _ in range(50)]
    assert Status.DIVERGED in {s.report.status for s in solutions}
    assert max(system.residual(s.x) for s in solutions) <= 10.0 * 10  # ten times ‖v‖, once more stretched by |1 − αλ|


def test_negative_curvature_is_reported_and_forgotten() -> None:
    eigenvalues = geometric(10.0)
    eigenvalues[0] = -1.0
    system, solver = System(eigenvalues), SingleLoop()
    solutions = [solver.solve(system.operator(), system.v) for _ in range(300)]
    found = [s.report for s in solutions]
    assert any(r.negative_curvature and r.status is Status.NEGATIVE_CURVATURE for r in found)
    assert not any(r.failed for r in found)
    assert max(float(s.x.norm()) for s in solutions) < 20 * float(system.v.norm())


def test_an_operator_without_curvature_gives_the_right_hand_side() -> None:
    system, solver = System(geometric(10.0)), SingleLoop()
    flat = Matrix(torch.zeros_like(system.matrix))
    assert torch.equal(solver.solve(flat, system.v).x.flat(), system.v.flat())
    solution = solver.solve(system.operator(), system.v)
    assert not solution.report.failed
    assert system.error(last(solver, system, 600)) <= 1e-10


def test_a_product_that_is_not_finite_does_not_enter_the_memory() -> None:
    system, solver, twin = System(geometric(10.0)), SingleLoop(), SingleLoop()
    broken = Matrix(torch.full_like(system.matrix, torch.nan))
    for solvers in (solver, twin):
        last(solvers, system, 5)
    assert solver.solve(broken, system.v).report.status is Status.NON_FINITE
    assert close(last(solver, system, 30).flat(), last(twin, system, 30).flat(), 1e-12)


def test_a_preconditioner_that_moves_does_not_change_what_is_remembered() -> None:
    system, solver = System(geometric(10.0)), SingleLoop(alpha=1.0)
    x = torch.zeros_like(system.exact)
    for k in range(20):
        P = torch.linspace(0.02, 0.05 + 0.002 * k, 24, dtype=torch.float64, device=DEVICE)
        x = x + P * (system.v.flat() - system.matrix @ x)
        step = SingleLoop(alpha=1.0, preconditioner=system.v.from_flat(P))
        step.load_state_dict(solver.state_dict())
        assert close(step.solve(system.operator(), system.v).x.flat(), x, 1e-12)
        solver.load_state_dict(step.state_dict())


def test_it_solves_the_system_of_the_optimizer_in_use() -> None:
    w = torch.nn.Parameter(torch.ones(3, dtype=torch.float64))
    solver = SingleLoop(preconditioner=OptimizerMetric(torch.optim.SGD([w], lr=0.1, weight_decay=0.5)))
    v = Vector([torch.tensor([1.0, 2.0, 3.0], dtype=torch.float64)])
    for _ in range(300):
        solution = solver.solve(Hessian((torch.arange(1.0, 4.0).double() * w.square()).sum() / 2, [w]), v)
    assert close(solution.x.flat(), v.flat() / (torch.arange(1.0, 4.0).double() + 0.5), 1e-10)


def test_other_shapes_start_afresh_and_other_data_types_are_converted() -> None:
    system, solver = System(geometric(100.0)), SingleLoop(alpha=0.01)
    last(solver, system, 5)
    single = solver.solve(Matrix(system.matrix.float()), Vector(t.float() for t in system.v))
    assert all(t.dtype is torch.float32 for t in single.x)
    assert single.report.products == 1
    flat = solver.solve(system.operator(), Vector([system.v.flat()]))
    assert torch.equal(flat.x.flat(), 0.01 * system.v.flat())


@pytest.mark.parametrize("solver", [SingleLoop(), SingleLoop(alpha=0.01), SingleLoop(refresh=3, forget=2.0)])
def test_a_saved_memory_resumes_bit_by_bit(solver: SingleLoop) -> None:
    def training(solver: SingleLoop, steps: range) -> list[Tensor]:
        systems = [System(geometric(100.0) * (1 + 0.5 * (k % 5))) for k in steps]
        return [solver.solve(s.operator(), s.v).x.flat() for s in systems]

    other = SingleLoop(solver.alpha, solver.refresh, solver.forget)
    training(solver, range(14))
    file = io.BytesIO()
    torch.save(solver.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert all(map(torch.equal, training(solver, range(14, 40)), training(other, range(14, 40))))


def test_the_checkpoint_of_another_solver_starts_afresh() -> None:
    system, solver = System(geometric(100.0)), SingleLoop()
    first = solver.solve(system.operator(), system.v).x.flat()
    last(solver, system, 12)
    for state in ({}, SingleLoop().state_dict()):
        solver.load_state_dict(state)
        assert torch.equal(solver.solve(system.operator(), system.v).x.flat(), first)


def test_an_error_puts_the_memory_back() -> None:
    phi, w = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
    solver = SingleLoop()

    def step(outer: Tensor) -> None:
        hypergradient((w - phi).square().sum(), outer, params=[w], aux_params=[phi], solver=solver)

    step(w.square().sum())
    before = solver.state_dict()
    with pytest.raises(InputError):
        step(torch.ones(()))
    after = solver.state_dict()
    assert torch.equal(before["x"][0], after["x"][0])
    assert before["calls"] == after["calls"] == 1


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"alpha": 0.0}, "`alpha` must be finite and above 0"),
        ({"alpha": "best"}, "`alpha` must be a positive number or 'auto'"),
        ({"refresh": 1}, "`refresh` must be an integer of at least 2"),
        ({"forget": 0.5}, "`forget` must be finite and at least 1"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, float], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        SingleLoop(**settings)  # type: ignore[arg-type]
