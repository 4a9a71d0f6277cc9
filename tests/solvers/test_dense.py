"""The matrix itself, where it is singular, indefinite or not symmetric."""

import pytest
import torch

from auxilearn import Vector
from auxilearn.errors import InputError
from auxilearn.solvers import Dense, Status
from support import Matrix, System, close, geometric, normal

N = 24


def test_a_singular_system_has_the_solution_of_least_norm() -> None:
    system = System(torch.cat([torch.zeros(10), torch.linspace(1, 5, N - 10)]).double())
    solution = Dense().solve(system.operator(), system.v)
    assert close(solution.x.flat(), torch.linalg.pinv(system.matrix, hermitian=True) @ system.v.flat(), 1e-10)
    assert not solution.report.negative_curvature


def test_an_indefinite_system_is_solved_and_reported() -> None:
    system = System(torch.linspace(-5, 6, N, dtype=torch.float64))
    solution = Dense().solve(system.operator(), system.v)
    assert system.error(solution.x) <= 1e-10
    assert solution.report.negative_curvature
    assert solution.report.largest_eigenvalue == pytest.approx(6.0)
    assert solution.report.status is Status.CONVERGED


def test_the_cutoff_drops_small_eigenvalues() -> None:
    values = torch.tensor([1e-3, 0.5, 1.0], dtype=torch.float64)
    H, v = Matrix(torch.diag(values)), Vector([torch.ones(3, dtype=torch.float64)])
    assert Dense(cutoff=1e-2).solve(H, v).x.flat().tolist() == pytest.approx([0.0, 2.0, 1.0])
    assert Dense(cutoff=0.0).solve(H, v).x.flat().tolist() == pytest.approx([1000.0, 2.0, 1.0])


def test_only_the_symmetric_part_counts() -> None:
    system, skew = System(geometric(10.0)), normal(N, N, dtype=torch.float64)
    H = Matrix(system.matrix + skew - skew.T)
    assert system.error(Dense().solve(H, system.v).x) <= 1e-10


def test_too_large_a_system_is_refused_before_a_product() -> None:
    system = System(geometric(10.0))
    H = system.operator()
    with pytest.raises(InputError, match=r"`Dense` takes at most 10 parameters\. There are 24"):
        Dense(max_size=10).solve(H, system.v)
    assert H.products == 0


def test_half_precision_is_refused() -> None:
    v = Vector([torch.ones(2, dtype=torch.bfloat16)])
    with pytest.raises(InputError, match=r"in float32 or float64\. They are in torch\.bfloat16"):
        Dense().solve(Matrix(torch.eye(2, dtype=torch.bfloat16)), v)


@pytest.mark.parametrize(
    ("settings", "rule"), [({"max_size": 0}, "`max_size` must be"), ({"cutoff": -1.0}, "`cutoff` must be")]
)
def test_settings_that_make_no_sense_are_refused(settings: dict[str, float], rule: str) -> None:
    with pytest.raises(InputError, match=rule):
        Dense(**settings)  # type: ignore[arg-type]
