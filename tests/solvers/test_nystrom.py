"""The Nyström model against its formula in dense matrices."""

import pytest
import torch
from torch import Tensor

from auxilearn import Vector
from auxilearn.errors import InputError
from auxilearn.solvers import Nystrom, Status
from support import Matrix, System, close, geometric

N = 24


def model(system: System, solver: Nystrom) -> Tensor:
    """Return Ĥ = Y (QᵀY)⁻¹ Yᵀ for the solver's own basis Q."""
    basis = torch.stack([q.flat() for q in solver._basis(system.v)], dim=1)
    images = system.matrix @ basis
    return images @ torch.linalg.solve(basis.T @ images, images.T)


@pytest.mark.parametrize("rank", [1, 3, 10, 20])
def test_it_inverts_its_model_and_divides_the_rest_by_the_models_smallest_eigenvalue(rank: int) -> None:
    system, solver = System(geometric(30.0)), Nystrom(rank=rank)
    values, vectors = torch.linalg.eigh(model(system, solver))
    kept, lowest = vectors[:, -rank:], values[-rank]
    inside = kept @ ((kept.T @ system.v.flat()) / values[-rank:])
    outside = (system.v.flat() - kept @ (kept.T @ system.v.flat())) / lowest
    solution = solver.solve(system.operator(), system.v)
    assert close(solution.x.flat(), inside + outside, 1e-9)
    assert solution.report.largest_eigenvalue == pytest.approx(float(values[-1]))
    assert solution.report.status is Status.TRUNCATED


@pytest.mark.parametrize("rank", [5, 8, N])
def test_an_operator_of_lower_rank_is_inverted_on_its_range(rank: int) -> None:
    system = System(torch.tensor([1.0, 2.0, 4.0, 8.0, 16.0] + [0.0] * (N - 5), dtype=torch.float64))
    v = system.v.from_flat(system.matrix @ system.v.flat())
    solution = Nystrom(rank=rank).solve(system.operator(), v)
    assert close(system.matrix @ solution.x.flat(), v.flat(), 1e-8)
    assert not solution.report.negative_curvature


@pytest.mark.parametrize("rank", [1, 3, 10, 20])
@pytest.mark.parametrize("seed", range(5))
def test_the_directions_outside_are_not_blown_up(rank: int, seed: int) -> None:
    system = System(torch.cat([torch.ones(N - 2), torch.tensor([50.0, 100.0])]).double(), seed=seed)
    solution = Nystrom(rank=rank, seed=seed).solve(system.operator(), system.v)
    assert float(solution.x.norm()) <= float(system.v.norm()) * (1 + 1e-9)  # λ_min = 1 bounds the inverse


def test_the_basis_is_orthonormal_and_cut_down_to_the_number_of_parameters() -> None:
    system = System(geometric(10.0))
    basis = torch.stack([q.flat() for q in Nystrom(rank=1000)._basis(system.v)])
    assert basis.shape == (N, N)
    torch.testing.assert_close(basis @ basis.T, torch.eye(N).to(basis))


def test_the_seed_chooses_the_basis() -> None:
    system = System(geometric(10.0))
    first, again, other = (Nystrom(rank=3, seed=s).solve(system.operator(), system.v).x.flat() for s in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


@pytest.mark.parametrize("rank", [3, N])
def test_indefinite_operators_are_reported_and_the_solution_stays_finite(rank: int) -> None:
    system = System(torch.linspace(-5, 5, N, dtype=torch.float64))
    solution = Nystrom(rank=rank).solve(system.operator(), system.v)
    assert solution.report.status is Status.NEGATIVE_CURVATURE
    assert solution.report.negative_curvature
    assert bool(solution.x.flat().isfinite().all())


def test_the_positive_part_of_an_indefinite_operator_is_inverted_all_the_same() -> None:
    system = System(torch.linspace(-5, 6, N, dtype=torch.float64))
    values, vectors = torch.linalg.eigh(system.matrix)
    positive = vectors[:, values > 0]
    solution = Nystrom(rank=N).solve(system.operator(), system.v)
    assert close(positive.T @ solution.x.flat(), positive.T @ system.exact, 1e-8)
    assert solution.report.largest_eigenvalue == pytest.approx(6.0)


def test_a_zero_operator_leaves_the_right_hand_side() -> None:
    v = Vector([torch.ones(3, dtype=torch.float64)])
    solution = Nystrom(rank=2).solve(Matrix(torch.zeros(3, 3, dtype=torch.float64)), v)
    assert close(solution.x.flat(), v.flat(), 1e-12)
    assert not solution.report.negative_curvature


@pytest.mark.parametrize("rank", [0, -1, 2.5])
def test_a_rank_that_makes_no_sense_is_refused(rank: int) -> None:
    with pytest.raises(InputError, match="`rank` must be"):
        Nystrom(rank=rank)
