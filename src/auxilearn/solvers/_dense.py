"""The matrix itself: the truth for tests, and a fair choice for a few hundred parameters."""

import math
from dataclasses import dataclass
from typing import final

import torch

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn._linalg import symmetric_eigen
from auxilearn._vectors import Vector
from auxilearn.curvature import CurvatureOperator
from auxilearn.errors import InputError
from auxilearn.solvers._base import Iterate, IterativeSolver, Status


@final
@dataclass(frozen=True)
class Dense(IterativeSolver):
    r"""Build :math:`H` column by column and solve by its eigendecomposition, :math:`x = U \Lambda^{+} U^\top v`.

    Eigenvalues below ``cutoff`` times the largest count as zero: along them the solution is 0 (the one of least norm).

    Args:
        max_size: The most parameters accepted; a matrix of 5,000 takes 5,000 products and 200 MB in float64.
        cutoff: The relative size below which an eigenvalue counts as zero; by default the machine precision times the
            size.
        preconditioner: See :class:`IterativeSolver`; without effect but for rounding.
        measure_residual: Whether to spend one more product on the residual.

    Raises:
        InputError: At the solve, if there are more parameters than ``max_size`` or they are in half precision.

    Example:
        >>> from auxilearn.curvature import Hessian
        >>> w = torch.ones(2, requires_grad=True)
        >>> solution = Dense().solve(Hessian(w.square().sum(), [w]), Vector([torch.ones(2)]))
        >>> solution.x.tensors[0].tolist(), solution.report.products
        ([0.5, 0.5], 2)
    """

    max_size: int = 5000
    cutoff: float | None = None

    def __post_init__(self) -> None:
        _checks.count("max_size", self.max_size, 1)
        if self.cutoff is not None:
            _checks.at_least("cutoff", self.cutoff, 0.0)

    def _solve(self, H: CurvatureOperator, v: Vector, /) -> Iterate:
        if _checks.low_precision(dtype := v.tensors[0].dtype):
            rule, cure = "`Dense` needs parameters in float32 or float64.", "Use `Neumann` or `ConjugateGradient`."
            raise InputError(explain(rule, f"They are in {dtype}.", cure))
        size = sum(t.numel() for t in v)
        if size > self.max_size:
            rule = f"`Dense` takes at most {self.max_size} parameters."
            cure = "Use `ConjugateGradient` or `Neumann`, or raise `max_size`."
            raise InputError(explain(rule, f"There are {size}.", cure))
        eye = torch.eye(size, dtype=v.tensors[0].dtype, device=v.tensors[0].device)
        matrix = torch.stack([(H @ v.from_flat(row)).flat() for row in eye])
        if not bool(matrix.isfinite().all()):
            return Iterate(v * math.nan, Status.NON_FINITE)
        values, vectors = symmetric_eigen(matrix)
        largest = float(values.abs().max())
        floor = largest * (size * torch.finfo(values.dtype).eps if self.cutoff is None else self.cutoff)
        inverse = torch.where(values.abs() > floor, 1.0 / values, torch.zeros_like(values))
        x = vectors @ (inverse * (vectors.T @ v.flat()))
        return Iterate(
            v.from_flat(x),
            Status.CONVERGED,
            largest_eigenvalue=largest,
            negative_curvature=bool((values < -floor).any()),
        )
