"""No curvature at all: the inverse Hessian is a multiple of the identity."""

from dataclasses import dataclass
from typing import final

from auxilearn._vectors import Vector
from auxilearn.curvature import CurvatureOperator
from auxilearn.solvers._base import Iterate, IterativeSolver, Status


@final
@dataclass(frozen=True)
class Identity(IterativeSolver):
    r"""Take :math:`x = v`, as though :math:`H = I`; with a preconditioner, :math:`x = P v`.

    No product is used. The hypergradient is then minus the inner product of the outer gradient and each auxiliary
    gradient, i.e. that of one training step. For the weights of auxiliary losses in early training this is often as
    good as more.

    With :class:`~auxilearn.curvature.FiniteDifference` as the train loss no second derivative is taken at all, as in
    DARTS; with an :class:`OptimizerMetric` besides, much as in SAMA.

    Args:
        preconditioner: See :class:`IterativeSolver`.
        measure_residual: Whether to spend one product on the residual.

    Example:
        >>> import torch
        >>> from auxilearn.curvature import Hessian
        >>> w = torch.ones(2, requires_grad=True)
        >>> solution = Identity().solve(Hessian(w.square().sum(), [w]), Vector([torch.ones(2)]))
        >>> solution.x.tensors[0].tolist(), solution.report.products
        ([1.0, 1.0], 0)

    References:
        Luketina et al., "Scalable gradient-based tuning of continuous regularization hyperparameters", ICML 2016
        (:math:`T_1-T_2`).
    """

    def _solve(self, H: CurvatureOperator, v: Vector, /) -> Iterate:
        return Iterate(v, Status.TRUNCATED)
