"""The Nyström approximation: a few products give a low-rank model of H, and Woodbury's identity its inverse."""

import math
from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from auxilearn import _checks
from auxilearn._linalg import inverse_cholesky, symmetric_eigen
from auxilearn._vectors import Vector
from auxilearn.curvature import CurvatureOperator
from auxilearn.solvers._base import Iterate, IterativeSolver, Status


@final
@dataclass(frozen=True)
class Nystrom(IterativeSolver):
    r"""Invert a randomised low-rank model of :math:`H`.

    With an orthonormal random basis :math:`Q` of ``rank`` vectors and :math:`Y = HQ`,

    .. math:: \hat H = Y (Q^\top Y)^{-1} Y^\top = U \Lambda U^\top, \qquad
        x = U \Lambda^{-1} U^\top v + \lambda_{\min}(\hat H)^{-1} (I - U U^\top)\, v .

    The directions that the model does not hold are divided by the smallest eigenvalue that it does hold, which joins
    the two parts without a jump; dividing by a small damping instead, as others do, blows them up. At full rank the
    solution is exact. All products are independent of ``v``. If :math:`H` is not positive definite on the basis, it is
    shifted until it is, and the report says so.

    Args:
        rank: How many products are used, and vectors held in memory; more than the number of parameters is cut down to
            it.
        seed: The seed of the basis, fixed so that a solve can be repeated; the global random state is not touched.
        preconditioner: See :class:`IterativeSolver`.
        measure_residual: Whether to spend one more product on the residual.

    Raises:
        InputError: If the rank is below 1.

    Example:
        >>> from auxilearn.curvature import Hessian
        >>> w = torch.ones(3, requires_grad=True)
        >>> H = Hessian((torch.tensor([1.0, 2.0, 4.0]) * w.square()).sum() / 2, [w])
        >>> solution = Nystrom(rank=3).solve(H, Vector([torch.ones(3)]))
        >>> [round(a, 3) for a in solution.x.tensors[0].tolist()]
        [1.0, 0.5, 0.25]

    References:
        Hataya and Yamada, "Nyström method for accurate and scalable implicit differentiation", AISTATS 2023;
        Frangella, Tropp and Udell, "Randomized Nyström preconditioning", SIAM J. Matrix Anal. Appl. 2023, Alg. 2.1 and
        Eq. (1.3) for the complement.
    """

    rank: int = 10
    seed: int = 0

    def __post_init__(self) -> None:
        _checks.count("rank", self.rank, 1)

    def _solve(self, H: CurvatureOperator, v: Vector, /) -> Iterate:
        basis = self._basis(v)
        images = [H @ q for q in basis]
        core = _gram(basis, images)  # QᵀHQ, (k, k)
        if not bool(core.isfinite().all()):
            return Iterate(v * math.nan, Status.NON_FINITE)
        lowest, tiny = float(symmetric_eigen(core)[0][0]), _rounding(core)
        negative = lowest < -tiny
        shift = tiny - 2 * lowest if negative else tiny
        images = [y.add(q, scale=shift) for y, q in zip(images, basis, strict=True)]
        # B = Y L⁻ᵀ with L Lᵀ = QᵀHQ satisfies B Bᵀ = Ĥ, so the eigenpairs (Λ, R) of BᵀB give those of Ĥ: U = B R
        # Λ^{-1/2}.
        inverse = inverse_cholesky((core + core.T) / 2 + shift * torch.eye(len(core)).to(core))  # L⁻¹, (k, k)
        shifted, rotation = symmetric_eigen(inverse @ _gram(images, images) @ inverse.T)
        shifted = shifted.clamp(min=tiny)
        columns = inverse.T @ rotation / shifted.sqrt()  # U = Y · columns
        eigenvalues = shifted - shift
        # What is zero up to rounding says nothing about its direction: it counts as part of the complement.
        known = eigenvalues > _rounding(eigenvalues)
        floor = float(eigenvalues[known].min()) if bool(known.any()) else 1.0
        gains = torch.where(known, 1 / eigenvalues - 1 / floor, torch.zeros_like(eigenvalues))
        inside = columns @ (gains * (columns.T @ torch.stack([y.dot(v) for y in images])))  # U (Λ⁻¹ − 1/λ_min) Uᵀ v
        x = v / floor
        for weight, y in zip(inside, images, strict=True):
            x.add_(y, scale=float(weight))
        full = len(basis) == sum(t.numel() for t in v)
        return Iterate(
            x,
            Status.NEGATIVE_CURVATURE if negative else Status.CONVERGED if full else Status.TRUNCATED,
            largest_eigenvalue=float(eigenvalues[-1]),
            negative_curvature=negative,
        )

    def _basis(self, v: Vector) -> list[Vector]:
        generator = torch.Generator().manual_seed(self.seed)
        basis: list[Vector] = []
        for _ in range(min(self.rank, sum(t.numel() for t in v))):
            q = v.randn_like(generator)
            for _ in range(2):  # Gram and Schmidt twice is enough (Kahan, Parlett)
                for b in basis:
                    q.add_(b, scale=-float(b.dot(q)))
                q = q / float(q.norm())
            basis.append(q)
        return basis


def _gram(left: list[Vector], right: list[Vector]) -> Tensor:
    return torch.stack([torch.stack([a.dot(b) for b in right]) for a in left])


def _rounding(values: Tensor) -> float:
    # The size below which an entry of the result is rounding; never zero, so that a zero operator can be factorised.
    return max(float(values.abs().max()) * len(values) * torch.finfo(values.dtype).eps, torch.finfo(values.dtype).tiny)
