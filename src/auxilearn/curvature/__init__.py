r"""Curvature operators: second derivatives of a training loss, known to solvers only by ``H @ v``.

=========================  ==========================================  ==========================================
operator                   product                                     when
=========================  ==========================================  ==========================================
:class:`Hessian`           exact, one vector-Jacobian product          the default
:class:`CompiledHessian`   the same, by ``torch.compile``              many steps, convolutional networks
:class:`GaussNewton`       :math:`J^\top \nabla^2\ell\, J v`           a positive semi-definite stand-in
:class:`FiniteDifference`  two gradients                               operators without a second derivative
:class:`Streamed`          the mean of the above over batches          more data than fits in memory at once
=========================  ==========================================  ==========================================

>>> import torch
>>> from auxilearn import Vector
>>> from auxilearn.curvature import Hessian
>>> w = torch.tensor([1.0, 2.0], requires_grad=True)
>>> H = Hessian((w**3).sum(), [w])
>>> (H @ Vector([torch.ones(2)])).tensors[0].tolist()
[6.0, 12.0]

To write your own, subclass :class:`CurvatureOperator` (only ``_multiply`` is needed by solvers) or
:class:`LossCurvature` (which :func:`auxilearn.hypergradient` needs).
"""

from auxilearn.curvature._base import CurvatureOperator, LossCurvature
from auxilearn.curvature._compiled import CompiledHessian
from auxilearn.curvature._finite_difference import FiniteDifference
from auxilearn.curvature._gauss_newton import GaussNewton
from auxilearn.curvature._hessian import Hessian
from auxilearn.curvature._streamed import Streamed

__all__ = [
    "CompiledHessian",
    "CurvatureOperator",
    "FiniteDifference",
    "GaussNewton",
    "Hessian",
    "LossCurvature",
    "Streamed",
]
