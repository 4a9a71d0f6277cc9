"""The generalised Gauss-Newton matrix: curvature of the loss in the outputs, none of the network."""

from collections.abc import Iterable, Sequence
from typing import cast, final

import torch
from torch import Tensor

from auxilearn import _checks
from auxilearn._autograd import filled, gradients
from auxilearn._checks import explain
from auxilearn._vectors import Vector
from auxilearn.curvature._base import LossCurvature
from auxilearn.curvature._half_range import centred
from auxilearn.curvature._hessian import Hessian
from auxilearn.errors import InputError


@final
class GaussNewton(LossCurvature):
    r"""The generalised Gauss-Newton matrix :math:`G = J^\top (\partial_z^2 L_T) J` with :math:`J = \partial_W z`.

    It is positive semi-definite wherever the loss is convex in the outputs :math:`z` (cross entropy, squared error),
    so that conjugate gradients meet no negative curvature. The mixed derivative of the hypergradient stays the exact
    one. Terms of the loss that do not pass through the outputs, such as an explicit penalty on the weights, have no
    curvature here; add it as ``damping``.

    Args:
        loss: The training loss, a scalar with its graph, computed from ``outputs``.
        outputs: The network's outputs :math:`z`, a tensor of any shape with its graph.
        params: The weights :math:`W`.
        damping: :math:`\delta \ge 0`, added to the diagonal.
        loss_scale: See :class:`Hessian`.

    Raises:
        InputError: If the loss does not depend on the outputs, or for bad arguments as in :class:`Hessian`.

    Example:
        >>> w = torch.tensor([1.0, 2.0], requires_grad=True)
        >>> z = w.prod()
        >>> G = GaussNewton(z**2, z, [w])
        >>> (G @ Vector([torch.tensor([1.0, 0.0])])).tensors[0].tolist()
        [8.0, 4.0]

    References:
        Schraudolph, "Fast curvature matrix-vector products", Neural Computation 2002.
    """

    def __init__(
        self,
        loss: Tensor,
        outputs: Tensor,
        params: Iterable[Tensor],
        *,
        damping: float = 0.0,
        loss_scale: float = 1.0,
    ) -> None:
        # The Hessian holds the graph of the gradient, which the mixed derivative needs in any case.
        self._hessian = Hessian(loss, params, loss_scale=loss_scale)
        super().__init__(self._hessian.params, damping=damping)
        if not isinstance(cast("object", outputs), Tensor) or not outputs.requires_grad:
            rule, cure = "`outputs` must be a tensor with a graph.", "Pass the network's outputs before `.detach()`."
            raise InputError(explain(rule, "It is cut from the graph, or no tensor.", cure))
        scaled = _checks.scaled_loss("train_loss", loss, loss_scale)
        (by_outputs,) = gradients(scaled, (outputs,), create_graph=True)
        if by_outputs is None:
            rule = "`train_loss` must be computed from `outputs`."
            cure = "Pass the very tensor that the loss was computed from, not a second forward pass."
            raise InputError(explain(rule, "It does not depend on them.", cure))
        self._outputs, self._by_outputs, self._unscale = outputs, by_outputs, 1.0 / loss_scale
        # Jv by two reverse passes: u ↦ Jᵀu is linear, and its own vector-Jacobian product with v is Jv.
        self._dual = torch.zeros_like(outputs, requires_grad=True)
        self._pullback = filled(gradients(outputs, self.params, (self._dual,), create_graph=True), self.params)

    def gradient(self) -> Vector:
        return self._hessian.gradient()

    def _multiply(self, v: Vector, /) -> Vector:
        self._hessian.held()  # complains after `release()`
        unscale = self._unscale
        if self._hessian.float16:
            factor = centred(v)
            v, unscale = v * factor, unscale / factor
        linear = [(p, c) for p, c in zip(self._pullback, v, strict=True) if p.requires_grad]
        # The loss is linear in the outputs, or none of the weights that reach it reaches them.
        if not self._by_outputs.requires_grad or not linear:
            return v.zeros_like()
        pullback, cotangents = zip(*linear, strict=True)
        (pushed,) = filled(gradients(pullback, (self._dual,), cotangents), (self._outputs,))  # Jv
        (curved,) = filled(gradients(self._by_outputs, (self._outputs,), (pushed,)), (self._outputs,))  # ∂²L · Jv
        found = filled(gradients(self._outputs, self.params, (curved,)), self.params)  # Jᵀ · ∂²L · Jv
        return found if unscale == 1.0 else found * unscale

    def cross(self, x: Vector, aux_params: Sequence[Tensor], /) -> tuple[Tensor | None, ...]:
        return self._hessian.cross(x, aux_params)

    @property
    def half_precision(self) -> bool:
        """See :class:`CurvatureOperator`."""
        return self._hessian.half_precision

    def release(self) -> None:
        self._hessian.release()
        self._pullback = Vector(())
        self._outputs, self._by_outputs = self._outputs.detach(), self._by_outputs.detach()
