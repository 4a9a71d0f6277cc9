"""One product a call: the system is solved while its matrix and its right-hand side move."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, final

from auxilearn import _checks
from auxilearn._vectors import Vector, dots
from auxilearn.curvature import CurvatureOperator
from auxilearn.solvers._base import Iterate, IterativeSolver, Status, rounding
from auxilearn.solvers._power_iteration import PowerIteration
from auxilearn.solvers._preconditioner import Congruent

# From one look at the spectrum to the next the estimate of λ_max keeps at least so much, for batches differ and the
# largest counts; and of the caution that noise has taught, so much is kept.
_KEPT, _CAUTION_KEPT = 0.9, 0.99


@dataclass
class _Memory:
    x: Vector | None = None
    largest: float = 0.0
    caution: float = 1.0
    calls: int = 0
    dropped: bool = False


@final
@dataclass(frozen=True)
class SingleLoop(IterativeSolver):
    r"""Take one step towards the solution a call, from where the last call stopped.

    .. math:: x \leftarrow x + \alpha\,(v_k - H_k x)

    Each call may bring another batch, :math:`H_k` and :math:`v_k`: where these are drawn independently, and the weights
    rest, the mean of :math:`x` tends to :math:`\mathbb{E}[H_k]^{-1}\,\mathbb{E}[v_k]`, which no solver that finishes on
    one batch can say of itself. It is the linear system of SOBA: with the mixed product, an outer step costs two
    vector-Jacobian products.

    With ``alpha="auto"`` the step is :math:`1/(c\hat\lambda)`. The first call, and every ``refresh``-th, spends its
    product on a power iteration instead, and returns :math:`x` as it was; :math:`\hat\lambda` falls by a tenth at most
    from one such call to the next. No call takes more than one product (but for ``measure_residual``).

    What is remembered is dropped, and the call starts from :math:`x = \alpha v`, where

    * it is far worse than none, :math:`\|v - Hx\| > \text{forget} \cdot \|v\|`. With too long a step it comes to that
      along the largest eigenvalue; so the residual becomes the vector of the power iteration, which the next call
      takes a step of. If that does not at least double :math:`\hat\lambda`, it was the noise of small batches, which
      need a shorter step than their mean: the caution :math:`c`, else 1, doubles, and falls again by a hundredth at
      each look at the spectrum;
    * the curvature along it is negative, :math:`\langle x, Hx\rangle < 0`: it would grow for ever;
    * the shapes have changed.

    Args:
        alpha: The step :math:`\alpha`, or ``"auto"``. A fixed one that proves too long is reported as
            ``Status.DIVERGED`` when the memory is dropped.
        refresh: Calls from one step of the power iteration to the next; not read with a fixed ``alpha``.
        forget: How many times larger than :math:`\|v\|` the residual of the memory may be. The noise of small batches
            must stay below it.
        preconditioner: See :class:`IterativeSolver`; the step is then :math:`\alpha P (v_k - H_k x)`.
        measure_residual: Whether to spend one more product on the residual, on the batch of this call.

    Raises:
        InputError: If ``alpha`` is neither positive nor ``"auto"``, ``refresh`` below 2, or ``forget`` below 1.

    Example:
        >>> import torch
        >>> from auxilearn.curvature import Hessian
        >>> w = torch.ones(2, requires_grad=True)
        >>> H = Hessian((torch.tensor([1.0, 4.0]) * w.square()).sum() / 2, [w])
        >>> solver, v = SingleLoop(alpha=0.25), Vector([torch.ones(2)])
        >>> [round(solver.solve(H, v).x.tensors[0][0].item(), 3) for _ in range(4)]
        [0.25, 0.438, 0.578, 0.684]

    References:
        Dagréou et al., "A framework for bilevel optimization that enables stochastic and global variance reduction
        algorithms", NeurIPS 2022, Alg. 1 and Eq. (7), whose :math:`v` is our :math:`-x`; the choice of the step is our
        own.
    """

    alpha: float | Literal["auto"] = "auto"
    refresh: int = 10
    forget: float = 10.0
    _spectrum: PowerIteration = field(default_factory=PowerIteration, init=False, repr=False, compare=False)
    _memory: _Memory = field(default_factory=_Memory, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _checks.count("refresh", self.refresh, 2)
        _checks.at_least("forget", self.forget, 1.0)
        _checks.positive_or_auto("alpha", self.alpha)

    def _solve(self, H: CurvatureOperator, v: Vector, /) -> Iterate:
        found = self._step(H, v)
        if math.isfinite(float(found.x.norm())):
            self._remember(H, found.x)
        return found

    def _step(self, H: CurvatureOperator, v: Vector) -> Iterate:
        memory, start = self._memory, self._remembered(H, v)
        looks = self.alpha == "auto" and (start is None or memory.calls % self.refresh == 0)
        if looks and not self._look(H, v):
            return Iterate(v * math.nan, Status.NON_FINITE)
        largest = memory.largest if self.alpha == "auto" else None
        # Without any curvature along v there is no scale to choose a step by.
        alpha = 1.0 / (memory.caution * (memory.largest or 1.0)) if isinstance(self.alpha, str) else self.alpha
        if start is None or looks:
            return Iterate(v * alpha if start is None else start, Status.TRUNCATED, None, largest, False, alpha)
        product = H @ start
        r = v - product
        left, whole, curvature, square = dots((r, r), (v, v), (start, product), (product, product))
        if not math.isfinite(left):
            return Iterate(v * math.nan, Status.NON_FINITE)
        negative = curvature < -rounding(v) * math.sqrt(square * float(start.dot(start)))
        if left <= self.forget**2 * whole and not negative:
            return Iterate(start.add(r, scale=alpha), Status.TRUNCATED, None, largest, False, alpha)
        status = Status.NEGATIVE_CURVATURE if negative else Status.TRUNCATED
        if not negative and self.alpha == "auto":
            self._spectrum.restart(r)
            memory.calls, memory.dropped = -1, True  # the next call is a look
        elif alpha * square > 2 * curvature > 0:
            status = Status.DIVERGED
        return Iterate(v * alpha, status, None, largest, negative, alpha)

    def _look(self, H: CurvatureOperator, v: Vector) -> bool:
        memory, found = self._memory, self._spectrum.update(H, v, 1).largest
        if not math.isfinite(found):
            return False
        noise = memory.dropped and found < 2 * memory.largest
        memory.caution = 2 * memory.caution if noise else max(1.0, _CAUTION_KEPT * memory.caution)
        memory.largest, memory.dropped = max(found, _KEPT * memory.largest), False
        return True

    # The memory is x itself: a preconditioner that follows the training changes what the frame hands over.
    def _remembered(self, H: CurvatureOperator, v: Vector) -> Vector | None:
        x = None if self._memory.x is None else self._memory.x.moved_like(v)
        if x is None or not isinstance(H, Congruent):
            return x
        return H.root.inverse(x)

    def _remember(self, H: CurvatureOperator, x: Vector) -> None:
        self._memory.x = H.root(x) if isinstance(H, Congruent) else x
        self._memory.calls += 1

    def state_dict(self) -> dict[str, Any]:
        """Return the solution so far and what is known of the spectrum.

        Returns:
            The memory; no copies, for its tensors are never written.
        """
        x = None if self._memory.x is None else list(self._memory.x)
        return {**vars(self._memory), "x": x, "spectrum": self._spectrum.state_dict()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Restore the memory.

        Args:
            state: What :meth:`state_dict` returned.
        """
        fresh = _Memory()
        for name in vars(fresh):
            # Absent if another solver made the checkpoint.
            setattr(self._memory, name, state.get(name, getattr(fresh, name)))
        x = state.get("x")
        self._memory.x = None if x is None else Vector(t.clone() for t in x)
        self._spectrum.load_state_dict(state.get("spectrum", {}))
