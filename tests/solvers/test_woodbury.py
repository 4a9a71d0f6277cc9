"""The root of (JᵀJ + δI)⁻¹ against its dense matrix, with rows kept as factors and written out."""

import torch

from auxilearn import Vector
from auxilearn.solvers._jacobian_rows import DenseRows, LinearRows
from auxilearn.solvers._woodbury import Woodbury, gram
from support import DTYPE, close, normal

DAMPING = 0.3


def case() -> tuple[list[LinearRows | DenseRows], torch.Tensor, Vector]:
    """Return rows of a layer with a bias, of one without and of a loose tensor, J as a matrix, and a vector."""
    a, b, c, d, loose = (normal(rows, n, seed=n) for rows, n in ((4, 4), (10, 3), (10, 2), (10, 2), (10, 6)))
    a[:, -1] = 1
    of = torch.tensor([0, 1, 2, 3, 0, 2, 2, 1, 3, 0], device=a.device)
    first, second = torch.einsum("nm,ni->nmi", b, a[of]), torch.einsum("nm,ni->nmi", d, c).reshape(10, 4)
    # In the operator's order: loose tensor, bias, weight, weight without bias.
    J = torch.cat([loose, first[:, :, -1], first[:, :, :-1].reshape(10, 9), second], 1)
    rows = [
        LinearRows(a, of, b, 0, 1),
        LinearRows(c, torch.arange(10, device=a.device), d, 2, None),
        DenseRows(loose.reshape(10, 2, 3), 3),
    ]
    v = Vector([normal(2, 3, seed=4), normal(3, seed=5), normal(3, 3, seed=6), normal(2, 2, seed=7)])
    return rows, J, v


AT = [2, 1, 3, 0]


def test_the_gram_matrix_is_that_of_the_rows() -> None:
    rows, J, _ = case()
    assert close(gram(rows), J @ J.T, 1e-12)


def test_the_root_is_a_root_of_the_inverse() -> None:
    rows, J, v = case()
    S = Woodbury(rows, gram(rows), AT, DAMPING)
    unit = torch.eye(J.shape[1], dtype=DTYPE, device=J.device)
    matrix = torch.stack([S(v.from_flat(e)).flat() for e in unit], 1)
    inverse = torch.linalg.inv(J.T @ J + DAMPING * unit)
    assert close(matrix @ matrix.T, inverse, 1e-12)
    for found, exact in (
        (S.transposed, matrix.T),
        (S.both, inverse),
        (S.inverse, torch.linalg.inv(matrix)),
        (S.inverse_transposed, torch.linalg.inv(matrix.T)),
    ):
        assert close(found(v).flat(), exact @ v.flat(), 1e-11)


def test_tensors_without_rows_are_only_divided_by_the_damping() -> None:
    rows, _, v = case()
    S = Woodbury(rows[:2], gram(rows[:2]), [2, 1, 3], DAMPING)
    assert close(S.both(v).tensors[0], v.tensors[0] / DAMPING, 1e-13)
