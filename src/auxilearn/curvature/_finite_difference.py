"""Curvature from first derivatives only, for networks that cannot be differentiated twice."""

from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import contextmanager
from typing import Any, cast, final

import torch
from torch import Tensor
from torch.autograd.graph import get_gradient_edge

from auxilearn import _checks
from auxilearn._autograd import filled, gradients, reached, refuse_freed
from auxilearn._checks import explain
from auxilearn._second_order import nodes
from auxilearn._vectors import Vector, is_distributed
from auxilearn.curvature._base import LossCurvature
from auxilearn.errors import InputError
from auxilearn.safety import ReplayedRandomness


@final
class FiniteDifference(LossCurvature):
    r"""The Hessian by central differences of the gradient.

    .. math:: H v \approx \frac{\partial_W L_T(W + \varepsilon v) - \partial_W L_T(W - \varepsilon v)}{2\varepsilon}

    with :math:`\varepsilon = s\,(1 + \|W\|) / \|v\|`. A product costs two gradients and needs no second derivative, so
    it works with compiled modules and fused kernels. The weights are perturbed on copies that are swapped in for the
    time of a gradient: the originals are never written, hence restored bit by bit, and graphs that you hold stay
    valid. Every evaluation sees the same random numbers, and the random state is put back.

    The mixed derivative is taken in the same way, by two gradients with respect to :math:`\varphi` alone:

    .. math:: (\partial_\varphi \partial_W L_T)^\top x \approx \frac{\partial_\varphi L_T(W + \varepsilon x, \varphi)
        - \partial_\varphi L_T(W - \varepsilon x, \varphi)}{2\varepsilon}

    With :class:`~auxilearn.solvers.Identity`, which takes no product, and ``probe=False``, a hypergradient thus costs
    two gradients of the training loss and one of the outer loss, and no graph is ever differentiated twice. That is the
    formula of DARTS, whose :math:`\varepsilon = 0.01/\|v\|` is ``step=0.01 / (1 + ‖W‖)`` here. With the optimizer's
    metric as preconditioner it is that of SAMA, but for second moments: they count as constants here, while SAMA
    differentiates one update through them. The error is :math:`O(\varepsilon^2)`.

    Args:
        closure: Computes the training loss from the present weights, a scalar with its graph. Wrap its body in
            :func:`auxilearn.safety.second_order` to keep BatchNorm statistics as they are; for a compiled model pass it
            the original, ``second_order(model._orig_mod)``.
        params: The weights :math:`W`.
        step: The relative step :math:`s`; by default the cube root of the machine precision, which balances rounding
            against truncation.
        damping: :math:`\delta \ge 0`, added to the diagonal.
        probe: Whether to take a gradient at the start, which tells the weights that reach the loss from the others.
            False spares it, and trusts that all of them do.
        allow_low_precision: Whether to accept bfloat16 and float16 weights, whose rounding hides the perturbation.
        loss_scale: See :class:`Hessian`. Under autocast the forward pass rounds the perturbation as half-precision
            weights would, scaled or not.

    Raises:
        InputError: For low-precision weights, a closure that is none, or bad arguments as in :class:`Hessian`.

    Example:
        >>> w = torch.tensor([1.0, 2.0], dtype=torch.float64, requires_grad=True)
        >>> H = FiniteDifference(lambda: (w**3).sum(), [w])
        >>> (H @ Vector([torch.ones(2, dtype=torch.float64)])).tensors[0].round(decimals=6).tolist()
        [6.0, 12.0]

    References:
        Liu, Simonyan and Yang, "DARTS: differentiable architecture search", ICLR 2019, Eq. (8); Choe et al., "Making
        scalable meta learning practical", NeurIPS 2023.
    """

    def __init__(
        self,
        closure: Callable[[], Tensor],
        params: Iterable[Tensor],
        *,
        step: float | None = None,
        damping: float = 0.0,
        probe: bool = True,
        allow_low_precision: bool = False,
        loss_scale: float = 1.0,
    ) -> None:
        if not callable(closure):
            rule, cure = "`closure` must be a function that computes the training loss.", "Pass `lambda: loss(...)`."
            raise InputError(explain(rule, f"It is a `{type(closure).__name__}`.", cure))
        candidates = _checks.tensors("params", params)
        dtype = candidates[0].dtype
        if _checks.low_precision(dtype) and not allow_low_precision:
            rule = "Finite differences need parameters in float32 or float64."
            cure = "Use `Hessian`, keep float32 master weights, or say `allow_low_precision=True` and expect noise."
            raise InputError(explain(rule, f"They are in {dtype}, which rounds the perturbation away.", cure))
        _checks.positive("loss_scale", loss_scale)
        self._closure, self._scale, self._candidates = closure, loss_scale, candidates
        self._replay = ReplayedRandomness()
        self._judged = False
        self._gradient: tuple[Tensor, ...] | None = None
        if probe:
            candidates, self._gradient = reached("train_loss", candidates, self._gradient_here(candidates))
        super().__init__(candidates, damping=damping)
        self._step = torch.finfo(dtype).eps ** (1 / 3) if step is None else step
        _checks.positive("step", self._step)

    def gradient(self) -> Vector:
        if self._gradient is None:
            self._gradient = filled(self._gradient_here(self.params), self.params).tensors
        return Vector(self._gradient)

    def _gradient_here(self, inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        with self._replay():
            loss = self._closure()
            # Only the first evaluation is judged: later ones that are not finite are for the solver to report.
            if not self._judged:
                loss = _checks.scaled_loss("train_loss", loss, self._scale)
                _refuse_other_weights(loss, self._candidates)
                self._judged = True
            elif self._scale != 1.0:
                loss = loss * self._scale
            found = gradients(loss, inputs, retain_graph=False)
            return found if self._scale == 1.0 else tuple(None if g is None else g / self._scale for g in found)

    def _multiply(self, v: Vector, /) -> Vector:
        return filled(self._difference(v, self.params), self.params)

    def cross(self, x: Vector, aux_params: Sequence[Tensor], /) -> tuple[Tensor | None, ...]:
        # (∂_φ ∂_W L)ᵀ x is the derivative of ∂_φ L along x.
        return self._difference(x, aux_params)

    def _difference(self, direction: Vector, inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        length = float(direction.norm())
        if length == 0.0:
            return (None,) * len(inputs)
        epsilon = self._step * (1.0 + float(Vector(p.detach() for p in self.params).norm())) / length
        ahead = self._gradient_at(direction, epsilon, inputs)
        behind = self._gradient_at(direction, -epsilon, inputs)
        return tuple(
            None if a is None or b is None else (a - b) / (2 * epsilon) for a, b in zip(ahead, behind, strict=True)
        )

    def _gradient_at(self, direction: Vector, scale: float, inputs: Sequence[Tensor]) -> tuple[Tensor | None, ...]:
        with self._moved(direction, scale):
            return self._gradient_here(inputs)

    @contextmanager
    def _moved(self, direction: Vector, scale: float) -> Generator[None, None, None]:
        originals = [_memory(p) for p in self.params]
        try:
            for p, original, d in zip(self.params, originals, direction, strict=True):
                _lend(p, original.detach().add(_like_shard(d, p), alpha=scale))
            yield
        finally:
            for p, original in zip(self.params, originals, strict=True):
                _lend(p, original)


def _memory(p: Tensor) -> Tensor:
    # A DTensor's own `.data` is a copy of its shell, whose assignment has no effect.
    return cast("Any", p)._local_tensor if is_distributed(p) else p.data


def _lend(p: Tensor, memory: Tensor) -> None:
    if is_distributed(p):
        cast("Any", p)._local_tensor = memory
    else:
        p.data = memory


def _like_shard(d: Tensor, p: Tensor) -> Tensor:
    if not is_distributed(p):
        return d
    return cast("Any", d).redistribute(placements=cast("Any", p).placements).to_local()


def _refuse_other_weights(loss: Tensor, params: Sequence[Tensor]) -> None:
    # `fully_shard` computes with gathered copies, which nobody moves: every difference would be zero.
    refuse_freed(params)
    shards = [p for p in params if is_distributed(p)]
    if shards:
        found = set(nodes([loss.grad_fn], set()))
        if not any(get_gradient_edge(p).node in found for p in shards):
            rule = "Finite differences move the weights, and `closure` must compute with those."
            cure = "Compute the loss with the twin `auxilearn.distributed.Unsharded`."
            raise InputError(explain(rule, "It does so with other tensors than the shards in `params`.", cure))
