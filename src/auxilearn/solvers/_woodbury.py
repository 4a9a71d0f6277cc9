"""A root of the inverse of JᵀJ + δI, for a matrix J of few rows."""

from collections.abc import Sequence
from typing import final

import torch
from torch import Tensor

from auxilearn._linalg import cholesky, solve_triangular
from auxilearn._vectors import Vector
from auxilearn.solvers._jacobian_rows import JacobianRows
from auxilearn.solvers._preconditioner import Root


@final
class Woodbury(Root):
    r"""A root of :math:`(J^\top J + \delta I)^{-1}` from one Cholesky factor.

    For :math:`\delta = 1` and :math:`L L^\top = I + J J^\top`, the map :math:`S = I - J^\top L^{-\top} (I + L)^{-1} J`
    has :math:`S S^\top = I - J^\top (L L^\top)^{-1} J = (I + J^\top J)^{-1}` and
    :math:`S^{-1} = I + J^\top (I + L^\top)^{-1} J`: multiply out, with :math:`J J^\top = L L^\top - I`.

    Args:
        rows: The columns of J, layer by layer.
        whole: Their :func:`gram` matrix.
        at: Where each parameter of the rows is among the operator's.
        damping: δ.
    """

    def __init__(self, rows: list[JacobianRows], whole: Tensor, at: list[int], damping: float) -> None:
        self._rows, self._at, self._damping = rows, at, damping
        one = torch.eye(len(whole), dtype=whole.dtype, device=whole.device)
        self._factor = cholesky(whole / damping + one)
        self._shifted = self._factor + one

    def __call__(self, v: Vector, /) -> Vector:
        u = solve_triangular(self._shifted, self._times(v))
        return self._plus(v, -solve_triangular(self._factor, u, transposed=True)) / self._damping**0.5

    def transposed(self, v: Vector, /) -> Vector:
        u = solve_triangular(self._factor, self._times(v))
        return self._plus(v, -solve_triangular(self._shifted, u, transposed=True)) / self._damping**0.5

    def both(self, v: Vector, /) -> Vector:
        u = solve_triangular(self._factor, self._times(v))
        return self._plus(v, -solve_triangular(self._factor, u, transposed=True)) / self._damping

    def inverse(self, v: Vector, /) -> Vector:
        return self._plus(v, solve_triangular(self._shifted, self._times(v), transposed=True)) * self._damping**0.5

    def inverse_transposed(self, v: Vector, /) -> Vector:
        return self._plus(v, solve_triangular(self._shifted, self._times(v))) * self._damping**0.5

    def _times(self, v: Vector) -> Tensor:
        own = Vector(v.tensors[i] for i in self._at)
        parts = [rows.times(own) for rows in self._rows]
        return torch.stack(parts).sum(0) / self._damping**0.5

    def _plus(self, v: Vector, u: Tensor) -> Vector:
        found = list(v.tensors)
        for rows in self._rows:
            for place, t in rows.transposed(u / self._damping**0.5).items():
                found[self._at[place]] = found[self._at[place]] + t
        return Vector(found)


def gram(rows: Sequence[JacobianRows], /) -> Tensor:
    """Return J Jᵀ.

    Args:
        rows: The columns of J, layer by layer.

    Returns:
        Shape (r, r).
    """
    whole = rows[0].gram()
    for more in rows[1:]:
        whole = whole + more.gram()
    return whole
