"""The Neumann series: the solver of the paper, with its leading factor and a guarded step."""

import math
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, final

import torch

from auxilearn import _checks
from auxilearn._vectors import Vector, dots
from auxilearn.curvature import CurvatureOperator
from auxilearn.solvers._base import Iterate, IterativeSolver, Status, rounding
from auxilearn.solvers._power_iteration import PowerIteration


@final
@dataclass(frozen=True)
class Neumann(IterativeSolver):
    r"""Sum a truncated Neumann series.

    .. math:: x = \alpha \sum_{j=0}^{J} (I - \alpha H)^j\, v \;\to\; H^{-1} v
        \quad\text{as } J \to \infty, \text{ iff } 0 < \lambda(H) < 2/\alpha

    This is what :math:`J + 1` steps of gradient descent with learning rate :math:`\alpha` would see of a small change
    of the loss.

    With ``alpha="auto"`` the step is :math:`1/\hat\lambda`, where :math:`\hat\lambda` comes from a power iteration
    that costs one product a call (more at the first) and is remembered between calls. While summing, the step is
    halved or more whenever the terms would grow along positive curvature, and the sum ends where they grow along
    negative curvature: it never diverges. A fixed ``alpha`` is used as given; terms that grew are reported as
    ``Status.DIVERGED`` or ``Status.NEGATIVE_CURVATURE``.

    Args:
        terms: :math:`J \ge 0`, the number of products (one more for ``alpha="auto"``, ``first_steps`` more in its
            first call).
        alpha: The step :math:`\alpha`, or ``"auto"``.
        tolerance: End early once a term is smaller than this times :math:`\|v\|`; 0 never does. It costs a norm a term.
        scaled: False leaves out the leading :math:`\alpha`, which repeats the original package: :math:`1/\alpha` too
            large.
        first_steps: Products of the first power iteration.
        preconditioner: See :class:`IterativeSolver`; :math:`\hat\lambda` is then that of the preconditioned operator.
        measure_residual: Whether to spend one more product on the residual.

    Raises:
        InputError: If ``terms`` or ``tolerance`` is negative, or ``alpha`` is neither positive nor ``"auto"``.

    Example:
        >>> import torch
        >>> from auxilearn.curvature import Hessian
        >>> w = torch.ones(2, requires_grad=True)
        >>> H = Hessian((torch.tensor([1.0, 4.0]) * w.square()).sum() / 2, [w])
        >>> solution = Neumann(terms=100).solve(H, Vector([torch.ones(2)]))
        >>> [round(a, 5) for a in solution.x.tensors[0].tolist()]
        [1.0, 0.25]

    References:
        Navon et al., ICLR 2021, Eq. (8); Lorraine et al., "Optimizing millions of hyperparameters by implicit
        differentiation", AISTATS 2020, Alg. 3.
    """

    terms: int = 3
    alpha: float | Literal["auto"] = "auto"
    tolerance: float = 0.0
    scaled: bool = True
    first_steps: int = 10
    _spectrum: PowerIteration = field(default_factory=PowerIteration, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        _checks.count("terms", self.terms, 0)
        _checks.at_least("tolerance", self.tolerance, 0.0)
        _checks.count("first_steps", self.first_steps, 1)
        _checks.positive_or_auto("alpha", self.alpha)

    def _solve(self, H: CurvatureOperator, v: Vector, /) -> Iterate:
        if isinstance(self.alpha, str):
            return self._guarded(H, v)
        return self._fixed(H, v, self.alpha)

    def _fixed(self, H: CurvatureOperator, v: Vector, alpha: float) -> Iterate:
        # Sum and term are buffers of our own, changed in place: a third of the memory traffic of new ones.
        scale = alpha if self.scaled else 1.0
        x, term = v * scale, v.clone()
        goal = self.tolerance * float(v.norm()) if self.tolerance else 0.0
        status, largest, negative = Status.TRUNCATED, None, False
        for j in range(self.terms):
            product = H @ term
            # Only the last term is judged: terms that grow go on growing, and each look costs two or three dots.
            if j == self.terms - 1:
                last = _growth(term, product, alpha)
                largest, negative = last.largest, last.curvature < 0.0
                if last.growing:
                    status = Status.NEGATIVE_CURVATURE if negative and not last.too_long else Status.DIVERGED
            term.add_(product, scale=-alpha)  # (I − αH)ʲ v
            x.add_(term, scale=scale)
            if goal and float(term.norm()) <= goal:
                status = Status.CONVERGED
                break
        return Iterate(x, status, largest_eigenvalue=largest, negative_curvature=negative, step=alpha)

    def _guarded(self, H: CurvatureOperator, v: Vector) -> Iterate:
        # Richardson's iteration x ← x + α r, r ← r − α H r, which is the Neumann series as long as α stays; since H r
        # is known before α is used, a step that is too long is shortened without a product being lost.
        estimate = self._spectrum.update(H, v, self.first_steps)
        if not math.isfinite(estimate.largest):
            return Iterate(v * math.nan, Status.NON_FINITE)
        if estimate.largest == 0.0:
            # H v = 0: there is no curvature along v, and no scale to choose a step by.
            return Iterate(v, Status.TRUNCATED, largest_eigenvalue=0.0, step=1.0)
        largest, negative = estimate.largest, estimate.negative
        alpha = 1.0 / largest
        x, r = v.zeros_like(), v.clone()
        goal = self.tolerance * float(v.norm()) if self.tolerance else 0.0
        status = Status.TRUNCATED
        for _ in range(self.terms):
            product = H @ r
            look = _growth(r, product, alpha)
            if not math.isfinite(look.curvature) or look.largest == math.inf:  # the latter if only the square overflows
                return Iterate(v * math.nan, Status.NON_FINITE)
            negative = negative or look.curvature < 0.0
            if look.growing:
                if look.largest is None:
                    status = Status.NEGATIVE_CURVATURE
                    break
                largest = look.largest
                alpha = 1.0 / largest
            x.add_(r, scale=alpha)
            r.add_(product, scale=-alpha)
            if goal and float(r.norm()) <= goal:
                status = Status.CONVERGED
                break
        x.add_(r, scale=alpha)  # the last term needs no product
        if not self.scaled:
            x = x / alpha
        return Iterate(x, status, largest_eigenvalue=largest, negative_curvature=negative, step=alpha)

    def state_dict(self) -> dict[str, Any]:
        """Return the vector of the power iteration.

        Returns:
            The memory.
        """
        return self._spectrum.state_dict()

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Restore the vector of the power iteration.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self._spectrum.load_state_dict(state)


class _Look(NamedTuple):
    """What a product tells of a term: whether the next is larger, ⟨r, Hr⟩, λ_max from below, whether α > 2/|λ|_max."""

    growing: bool
    curvature: float
    largest: float | None
    too_long: bool


def _growth(r: Vector, product: Vector, alpha: float) -> _Look:
    # ‖r − αHr‖² > ‖r‖² ⟺ α‖Hr‖² > 2⟨r, Hr⟩: no norm of the result is needed. Where it holds along positive curvature,
    # the quotient ‖Hr‖² / ⟨r, Hr⟩ ≤ λ_max proves that α > 2/λ_max; anywhere it is an estimate of λ_max from below.
    curvature, square = dots((r, product), (product, product))
    if alpha * square <= 2 * curvature:  # the usual case; then α‖Hr‖ ≤ 2‖r‖ as well, by Cauchy and Schwarz
        return _Look(False, curvature, square / curvature if curvature > 0 else None, False)
    size = float(r.dot(r))
    # Where r has come to the null space of a singular operator, or to zero, the products are rounding of either sign.
    noise = max(rounding(r) * size / alpha, torch.finfo(r.tensors[0].dtype).tiny)
    return _Look(
        growing=alpha * square - 2 * curvature > noise,
        curvature=0.0 if abs(curvature) <= noise else curvature,
        largest=square / curvature if curvature > 0 else None,
        # α‖Hr‖ > 2‖r‖ proves it whatever the sign of that eigenvalue.
        too_long=alpha * math.sqrt(square) > 2 * math.sqrt(size),
    )
