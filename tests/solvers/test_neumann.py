"""The Neumann series against its explicit sum, and the guarded step on hundreds of random problems."""

import io
import math
import random
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from auxilearn import Vector
from auxilearn.errors import InputError
from auxilearn.solvers import Neumann, Status
from support import Matrix, System, close, generator, geometric, spd

N = 24


def explicit(matrix: Tensor, v: Tensor, alpha: float, terms: int) -> Tensor:
    """Return α Σ_{j≤J} (I − αH)ʲ v by powers of the matrix."""
    contraction = torch.eye(len(v)).to(matrix) - alpha * matrix
    return sum((torch.linalg.matrix_power(contraction, j) @ v for j in range(terms + 1)), torch.zeros_like(v)) * alpha


@pytest.mark.parametrize("terms", [0, 1, 2, 3, 20])
@pytest.mark.parametrize("alpha", [1e-3, 0.01, 0.03])
def test_a_fixed_step_gives_the_explicit_sum(terms: int, alpha: float) -> None:
    system = System(geometric(100.0))
    solution = Neumann(terms=terms, alpha=alpha).solve(system.operator(), system.v)
    assert close(solution.x.flat(), explicit(system.matrix, system.v.flat(), alpha, terms), 1e-12)
    assert solution.report.step == alpha


@pytest.mark.parametrize("terms", [0, 1, 5])
def test_without_the_leading_factor_it_is_the_sum_of_the_original_package(terms: int) -> None:
    system, alpha = System(geometric(100.0)), 0.01
    term = total = system.v
    for _ in range(terms):
        term = term - alpha * (system.operator() @ term)
        total = total + term
    found = Neumann(terms=terms, alpha=alpha, scaled=False).solve(system.operator(), system.v).x
    assert close(found.flat(), total.flat(), 1e-15)


@pytest.mark.parametrize("terms", [0, 4])
def test_the_guarded_sum_can_leave_the_factor_out_as_well(terms: int) -> None:
    system = System(geometric(100.0))
    scaled, plain = (Neumann(terms=terms, scaled=s).solve(system.operator(), system.v) for s in (True, False))
    assert scaled.report.step is not None
    assert close(plain.x.flat() * scaled.report.step, scaled.x.flat(), 1e-14)


@pytest.mark.parametrize("terms", [0, 1, 5, 40])
def test_the_guarded_sum_is_the_explicit_one_of_its_step(terms: int) -> None:
    system = System(geometric(100.0))
    solution = Neumann(terms=terms).solve(system.operator(), system.v)
    assert solution.report.step is not None
    assert close(solution.x.flat(), explicit(system.matrix, system.v.flat(), solution.report.step, terms), 1e-12)


def test_its_error_is_the_power_of_the_contraction_at_condition_number_1e4() -> None:
    # At 1 - 1e-4 a term, 1e-8 would take 220,000 terms; that each contracts as it should says the same.
    system, terms = System(geometric(1e4)), 4000
    solution = Neumann(terms=terms).solve(system.operator(), system.v)
    assert solution.report.step is not None
    contraction = torch.eye(N).to(system.matrix) - solution.report.step * system.matrix
    error = torch.linalg.matrix_power(contraction, terms + 1) @ system.exact
    assert close(system.exact - solution.x.flat(), error, 1e-10)


@pytest.mark.parametrize("factor", [2.01, 2.5, 10.0])
def test_a_fixed_step_above_two_over_the_largest_eigenvalue_is_reported(factor: float) -> None:
    system = System(geometric(100.0))
    report = Neumann(terms=400, alpha=factor / 100.0).solve(system.operator(), system.v).report
    assert report.failed
    assert report.status is (Status.DIVERGED if factor < 5 else Status.NON_FINITE)  # 9^400 is beyond float64
    assert not report.negative_curvature


@pytest.mark.parametrize("factor", [0.5, 1.0, 1.99])
def test_a_fixed_step_below_it_is_not(factor: float) -> None:
    system = System(geometric(100.0))
    report = Neumann(terms=400, alpha=factor / 100.0).solve(system.operator(), system.v).report
    assert report.status is Status.TRUNCATED
    assert report.largest_eigenvalue is not None
    assert 1.0 <= report.largest_eigenvalue <= 100.0 + 1e-9


@pytest.mark.parametrize("alpha", ["auto", 0.01])
def test_a_tolerance_ends_the_sum_early(alpha: float) -> None:
    system = System(geometric(100.0))
    solution = Neumann(terms=5000, alpha=alpha, tolerance=1e-4).solve(system.operator(), system.v)
    assert solution.report.status is Status.CONVERGED
    assert solution.report.products < 2000
    assert system.residual(solution.x) < 1e-4
    without = Neumann(terms=5000, alpha=alpha).solve(system.operator(), system.v).report
    assert without.status is Status.TRUNCATED
    assert without.products >= 5000


Spectrum = Callable[[torch.Generator], Tensor]
SPECTRA: dict[str, Spectrum] = {
    "log-uniform over six decades": lambda g: 10 ** (-6 * torch.rand(N, dtype=torch.float64, generator=g)),
    "one outlier": lambda g: torch.cat([torch.ones(1), 1e-3 * torch.rand(N - 1, generator=g)]).double() + 1e-6,
    "uniform": lambda g: torch.rand(N, dtype=torch.float64, generator=g) + 1e-3,
    "equal": lambda g: torch.ones(N, dtype=torch.float64),
    "half of it zero": lambda g: torch.rand(N, dtype=torch.float64, generator=g) * (torch.arange(N) % 2),
    "power law": lambda g: torch.arange(1, N + 1, dtype=torch.float64) ** -2,
}


def random_system(seed: int) -> tuple[System, float]:
    """Return a positive semi-definite system, and its λ_max, log-uniform from 1e-3 to 1e4."""
    eigenvalues = list(SPECTRA.values())[seed % len(SPECTRA)](generator(seed))
    largest = 10 ** random.Random(seed).uniform(-3, 4)
    return System(eigenvalues / eigenvalues.max() * largest, seed=seed), largest


def memory_of_another_problem(seed: int) -> dict[str, object]:
    """Return what a solver remembers of a system whose λ_max is a thousand to ten million times smaller."""
    small = torch.rand(N, dtype=torch.float64, generator=generator(seed)) * 10 ** random.Random(seed).uniform(-7, -3)
    other, solver = System(small, seed=seed + 1), Neumann(terms=0)
    solver.solve(other.operator(), other.v)
    return solver.state_dict()


# With a memory, the number of first steps does not matter.
@pytest.mark.parametrize(("memory", "first_steps"), [(False, 1), (False, 10), (True, 10)])
def test_the_guarded_step_never_diverges(memory: bool, first_steps: int) -> None:
    for seed in range(200):
        system, largest = random_system(seed)
        solutions = []
        for terms in (0, 100):
            solver = Neumann(terms=terms, first_steps=first_steps)
            if memory:
                solver.load_state_dict(memory_of_another_problem(seed))
            solutions.append(solver.solve(system.operator(), system.v))
        first, last = (system.residual(solution.x) for solution in solutions)
        report = solutions[1].report
        assert report.status is Status.TRUNCATED, (seed, report)
        assert not report.negative_curvature, (seed, report)
        assert last <= min(first, 1.0) + 1e-12, (seed, first, last)
        assert report.largest_eigenvalue is not None
        assert report.largest_eigenvalue <= largest * (1 + 1e-9), (seed, report)


def indefinite_system(seed: int) -> System:
    """Return a system with one to five negative eigenvalues, at most as large as the positive ones."""
    g = generator(seed)
    eigenvalues = torch.rand(N, dtype=torch.float64, generator=g) + 0.01
    count = 1 + seed % 5
    eigenvalues[:count] = -(10 ** (-2 * torch.rand(count, dtype=torch.float64, generator=g)))
    return System(eigenvalues * 10 ** random.Random(seed).uniform(-3, 4), seed=seed)


def test_indefinite_operators_are_reported_by_the_guarded_step() -> None:
    for seed in range(200):
        system = indefinite_system(seed)
        solution = Neumann(terms=1000).solve(system.operator(), system.v)
        assert solution.report.status is Status.NEGATIVE_CURVATURE, (seed, solution.report)
        assert solution.report.negative_curvature, (seed, solution.report)
        assert math.isfinite(float(solution.x.norm()))


def test_indefinite_operators_are_reported_by_a_fixed_step() -> None:
    for seed in range(200):
        system = indefinite_system(seed)
        alpha = 0.9 / float(torch.linalg.eigvalsh(system.matrix).abs().max())
        report = Neumann(terms=300, alpha=alpha).solve(system.operator(), system.v).report
        assert report.status is Status.NEGATIVE_CURVATURE, (seed, report)
        assert report.negative_curvature, (seed, report)


def test_negative_curvature_is_reported_even_without_terms() -> None:
    H, v = Matrix(torch.diag(torch.tensor([1.0, -5.0]))), Vector([torch.ones(2)])
    assert Neumann(terms=0).solve(H, v).report.negative_curvature


def test_growth_along_negative_curvature_ends_the_sum() -> None:
    # Without the end, the component along −1 would double with every term.
    H, v = Matrix(torch.diag(torch.tensor([1.0, -1.0]))), Vector([torch.tensor([1.0, 0.5])])
    solution = Neumann(terms=60).solve(H, v)
    assert solution.report.status is Status.NEGATIVE_CURVATURE
    assert float(solution.x.norm()) < 10.0


@pytest.mark.parametrize("terms", [50, 300])
def test_a_residual_in_the_null_space_is_no_negative_curvature(terms: int) -> None:
    # ⟨r, Hr⟩ is then rounding of either sign.
    for seed in range(30):
        system = System(torch.tensor([1.0, 2.0, 3.0] + [0.0] * (N - 3), dtype=torch.float64), seed=seed)
        for alpha in ("auto", 0.3):
            report = Neumann(terms=terms, alpha=alpha).solve(system.operator(), system.v).report  # type: ignore[arg-type]
            assert report.status is Status.TRUNCATED, (seed, alpha, report)
            assert not report.negative_curvature, (seed, alpha, report)


def test_a_step_that_misses_the_largest_eigenvalue_is_corrected_on_the_way() -> None:
    # v hardly has the direction of λ_max, so one step of the power iteration finds 1 in place of 1,000.
    eigenvalues = torch.cat([torch.ones(N - 1), torch.tensor([1000.0])]).double()
    v = Vector([torch.cat([torch.ones(N - 1), torch.tensor([1e-9])]).double()])
    H = Matrix(torch.diag(eigenvalues))
    first = Neumann(terms=0, first_steps=1).solve(H, v).report
    assert first.step == pytest.approx(1.0)
    solution = Neumann(terms=20_000, first_steps=1, tolerance=1e-11).solve(H, v)
    assert solution.report.status is Status.CONVERGED
    assert solution.report.step is not None
    assert solution.report.step < 2e-3
    assert close(solution.x.flat(), v.flat() / eigenvalues, 1e-8)


def test_no_curvature_leaves_the_right_hand_side() -> None:
    v = Vector([torch.ones(3)])
    solution = Neumann(terms=5).solve(Matrix(torch.zeros(3, 3)), v)
    assert torch.equal(solution.x.flat(), v.flat())
    assert (solution.report.largest_eigenvalue, solution.report.step) == (0.0, 1.0)
    assert (solution.report.status, solution.report.products) == (Status.TRUNCATED, 1)


def test_a_saved_memory_resumes_bit_by_bit() -> None:
    def training(solver: Neumann, steps: range) -> list[Tensor]:
        # The spectrum changes slowly, as it does from one outer step to the next.
        systems = [(System(geometric(100.0) * (1 + 0.1 * k)), generator(k)) for k in steps]
        return [solver.solve(s.operator(), s.v.randn_like(g)).x.flat() for s, g in systems]

    one, other = Neumann(terms=5), Neumann(terms=5)
    training(one, range(3))
    file = io.BytesIO()
    torch.save(one.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    assert all(map(torch.equal, training(one, range(3, 6)), training(other, range(3, 6))))


def test_a_fresh_memory_is_empty_and_can_be_loaded() -> None:
    system, used = System(geometric(100.0)), Neumann(terms=2)
    fresh = Neumann(terms=2)
    assert fresh.state_dict() == {}
    first = used.solve(system.operator(), system.v).x
    assert used.solve(system.operator(), system.v).report.products == 3
    used.load_state_dict(fresh.state_dict())
    again = used.solve(system.operator(), system.v)
    assert again.report.products == 12
    assert torch.equal(again.x.flat(), first.flat())


def test_a_memory_is_no_part_of_the_settings() -> None:
    system, used = System(geometric(100.0)), Neumann(terms=2)
    used.solve(system.operator(), system.v)
    assert used == Neumann(terms=2)
    assert "spectrum" not in repr(used)


@pytest.mark.parametrize(
    ("settings", "rule"),
    [
        ({"terms": -1}, "`terms` must be"),
        ({"terms": 2.5}, "`terms` must be"),
        ({"tolerance": -1.0}, "`tolerance` must be"),
        ({"first_steps": 0}, "`first_steps` must be"),
        ({"alpha": 0.0}, "`alpha` must be"),
        ({"alpha": -0.1}, "`alpha` must be"),
        ({"alpha": math.nan}, "`alpha` must be"),
        ({"alpha": "large"}, "`alpha` must be"),
        ({"alpha": "a positive number"}, "`alpha` must be"),
    ],
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        Neumann(**settings)  # type: ignore[arg-type]


def test_the_spectrum_of_the_tests_is_what_it_says() -> None:
    torch.testing.assert_close(torch.linalg.eigvalsh(spd(geometric(100.0))).cpu(), geometric(100.0))
