"""Small dense matrices against torch.linalg."""

import pytest
import torch

from auxilearn._linalg import inverse_cholesky, symmetric_eigen
from support import DEVICE, close, normal, spd

SPECTRUM = torch.tensor([0.5, 1.0, 3.0, 100.0], dtype=torch.float64)


def test_the_eigenvalues_are_ascending_and_rebuild_the_matrix() -> None:
    matrix = spd(SPECTRUM)
    values, vectors = symmetric_eigen(matrix)
    torch.testing.assert_close(values.cpu(), SPECTRUM)
    assert close((vectors * values) @ vectors.T, matrix, 1e-12)


def test_what_is_not_symmetric_counts_for_nothing() -> None:
    skew = normal(4, 4, dtype=torch.float64)
    matrix = spd(SPECTRUM) + skew - skew.T
    torch.testing.assert_close(symmetric_eigen(matrix)[0].cpu(), SPECTRUM)


@pytest.mark.parametrize("size", [1, 4])
def test_the_inverse_factor_whitens(size: int) -> None:
    matrix = spd(SPECTRUM[:size])
    factor = inverse_cholesky(matrix)
    assert torch.equal(factor, factor.tril())
    torch.testing.assert_close(factor @ matrix @ factor.T, torch.eye(size, dtype=torch.float64, device=DEVICE))


def test_a_matrix_that_is_not_positive_definite_has_no_factor() -> None:
    with pytest.raises(torch.linalg.LinAlgError):
        inverse_cholesky(-spd(SPECTRUM))
