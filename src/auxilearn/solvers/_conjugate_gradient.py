"""Conjugate gradients, truncated at negative curvature."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import final

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn._vectors import Vector, dots
from auxilearn.curvature import CurvatureOperator
from auxilearn.errors import SolverWarning
from auxilearn.solvers._base import Iterate, IterativeSolver, Status, rounding
from auxilearn.solvers._preconditioner import Root


@final
@dataclass(frozen=True)
class ConjugateGradient(IterativeSolver):
    r"""Minimise :math:`\tfrac12 \langle x, Hx\rangle - \langle v, x\rangle` over growing Krylov spaces.

    Exact after as many products as there are distinct eigenvalues. Where a search direction has
    :math:`\langle p, Hp\rangle \le 0`, the solution so far is returned with ``Status.NEGATIVE_CURVATURE``; if it is the
    first direction, the step :math:`x = v\,\|v\|^2 / |\langle v, Hv\rangle|` (or :math:`x = v` without any curvature).
    Damping on the operator moves the spectrum up. A singular operator needs it, unless ``v`` is in its range: otherwise
    there is no solution, and the iterates grow. Directions stay conjugate only if products are symmetric; those of a
    loss computed in bfloat16 or float16 (by autocast) are not, and a :class:`~auxilearn.errors.SolverWarning` says so.

    Args:
        max_steps: The most products used.
        tolerance: End once the relative residual is at most this.
        preconditioner: See :class:`IterativeSolver`; the tolerance then refers to the preconditioned residual.
        measure_residual: Without effect: the residual is known.

    Raises:
        InputError: If ``max_steps`` is below 1 or the tolerance negative.

    Example:
        >>> import torch
        >>> from auxilearn.curvature import Hessian
        >>> w = torch.ones(2, requires_grad=True)
        >>> H = Hessian((torch.tensor([1.0, 4.0]) * w.square()).sum() / 2, [w])
        >>> solution = ConjugateGradient().solve(H, Vector([torch.ones(2)]))
        >>> [round(a, 5) for a in solution.x.tensors[0].tolist()], solution.report.products
        ([1.0, 0.25], 2)

    References:
        Hestenes and Stiefel 1952; Steihaug, SIAM J. Numer. Anal. 1983, for the truncation.
    """

    max_steps: int = 20
    tolerance: float = 1e-6

    def __post_init__(self) -> None:
        _checks.count("max_steps", self.max_steps, 1)
        _checks.at_least("tolerance", self.tolerance, 0.0)

    def _solve(self, H: CurvatureOperator, v: Vector, /) -> Iterate:
        return self._descend(H, v, None)

    def _solve_preconditioned(self, H: CurvatureOperator, v: Vector, root: Root, /) -> Iterate:
        # In the old variables one application of P a step is enough, instead of one of each root.
        return self._descend(H, v, root.both)

    def _descend(self, H: CurvatureOperator, v: Vector, precondition: Callable[[Vector], Vector] | None) -> Iterate:
        if H.half_precision:
            _warn_of_half_precision()
        # Solution and residual are buffers of our own, changed in place.
        x, r = v.zeros_like(), v.clone()
        p = v if precondition is None else precondition(v)
        (rz,) = dots((r, p))
        pp = rz
        goal = self.tolerance**2 * rz
        largest = 0.0
        for step in range(self.max_steps):
            Hp = H @ p
            if precondition is None:
                pHp, square = dots((p, Hp), (Hp, Hp))
            else:
                pHp, square, pp = dots((p, Hp), (Hp, Hp), (p, p))
            if not math.isfinite(pHp + square):
                return Iterate(v * math.nan, Status.NON_FINITE)
            # On a singular operator the direction ends in its null space: the curvature is rounding of either sign.
            noise = rounding(p) * largest * pp
            if pHp <= noise:
                if step == 0:
                    x = p * (rz / abs(pHp)) if pHp != 0.0 else p
                    r = None
                return Iterate(x, Status.NEGATIVE_CURVATURE, r, largest or None, negative_curvature=pHp < -noise)
            largest = max(largest, math.sqrt(square / pp))
            alpha = rz / pHp
            x.add_(p, scale=alpha)
            r.add_(Hp, scale=-alpha)
            z = r if precondition is None else precondition(r)
            rz, before = float(r.dot(z)), rz
            if rz <= goal:
                return Iterate(x, Status.CONVERGED, r, largest)
            beta = rz / before
            # Without a preconditioner the residual is orthogonal to the last direction.
            p, pp = z.add(p, scale=beta), rz + beta**2 * pp
        return Iterate(x, Status.TRUNCATED, r, largest)


def _warn_of_half_precision() -> None:
    rule = "Conjugate gradients need symmetric products."
    finding = "The train loss was computed in half precision, where they are symmetric to a few thousandths only."
    cure = "Use float32 weights and `torch.autocast(..., enabled=False)` for the outer step, or `Neumann`."
    warnings.warn(explain(rule, finding, cure), SolverWarning, stacklevel=4)
