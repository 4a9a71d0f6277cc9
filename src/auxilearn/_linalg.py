"""Dense linear algebra on small matrices, with the types that torch's stubs leave out."""

from typing import Any, cast

import torch
from torch import Tensor

_linalg = cast("Any", torch.linalg)


def symmetric_eigen(matrix: Tensor, /) -> tuple[Tensor, Tensor]:
    """Return the eigenvalues, ascending, and the eigenvectors as columns, of the symmetric part of a matrix.

    Args:
        matrix: Shape (..., n, n).

    Returns:
        Shapes (..., n) and (..., n, n).
    """
    values, vectors = _linalg.eigh((matrix + matrix.mT) / 2)
    return cast("Tensor", values), cast("Tensor", vectors)


def inverse_cholesky(matrix: Tensor, /) -> Tensor:
    """Return the inverse of the lower Cholesky factor.

    Args:
        matrix: Symmetric positive definite, shape (n, n).

    Returns:
        Lower triangular, shape (n, n).
    """
    eye = torch.eye(len(matrix), dtype=matrix.dtype, device=matrix.device)
    return cast("Tensor", _linalg.solve_triangular(_linalg.cholesky(matrix), eye, upper=False))


def cholesky(matrix: Tensor, /) -> Tensor:
    """Return the lower Cholesky factor, computed in double precision where the device has it.

    Args:
        matrix: Symmetric positive definite, shape (n, n).

    Returns:
        Shape (n, n), in the matrix's data type.
    """
    wide = matrix if matrix.device.type == "mps" else matrix.double()
    return cast("Tensor", _linalg.cholesky(wide)).to(matrix.dtype)


def solve_triangular(matrix: Tensor, b: Tensor, /, *, transposed: bool = False) -> Tensor:
    """Return L⁻¹ b, or L⁻ᵀ b.

    Args:
        matrix: Lower triangular L, shape (n, n).
        b: Shape (n,).
        transposed: Whether to solve with Lᵀ.

    Returns:
        Shape (n,).
    """
    a = matrix.T if transposed else matrix
    return cast("Tensor", _linalg.solve_triangular(a, b[:, None], upper=transposed))[:, 0]
