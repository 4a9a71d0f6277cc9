"""Start from the last solution: the system changes little from one outer step to the next."""

from dataclasses import dataclass, field, replace
from typing import Any, final

from auxilearn._vectors import Vector
from auxilearn.curvature import CurvatureOperator
from auxilearn.solvers._base import LinearSolver, Solution, checked


@dataclass
class _Memory:
    x: Vector | None = None


@final
@dataclass(frozen=True)
class WarmStart(LinearSolver):
    r"""Solve for the correction of the last solution.

    .. math:: x = x_0 + \text{solve}(H,\; v - H x_0)

    One product more a call. The last solution :math:`x_0` is dropped where it is worse than none,
    :math:`\|v - Hx_0\| \ge \|v\|`, and where the shapes have changed. The first call is a plain solve. On a singular
    operator the part of :math:`v` in its null space adds up from call to call: use damping there.

    Args:
        solver: Any solver.

    Raises:
        InputError: If it is none.

    Example:
        >>> import torch
        >>> from auxilearn.curvature import Hessian
        >>> from auxilearn.solvers import Neumann
        >>> w = torch.ones(2, requires_grad=True)
        >>> H = Hessian((torch.tensor([1.0, 4.0]) * w.square()).sum() / 2, [w])
        >>> solver, v = WarmStart(Neumann(terms=3, alpha=0.25)), Vector([torch.ones(2)])
        >>> [round(solver.solve(H, v).x.tensors[0][0].item(), 3) for _ in range(3)]
        [0.684, 0.9, 0.968]
    """

    solver: LinearSolver
    _memory: _Memory = field(default_factory=_Memory, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        checked(self.solver)

    def solve(self, H: CurvatureOperator, v: Vector, /) -> Solution:
        start = None if self._memory.x is None else self._memory.x.moved_like(v)
        solution = self.solver.solve(H, v) if start is None else self._continued(H, v, start)
        if not solution.report.failed:
            self._memory.x = solution.x
        return solution

    def _continued(self, H: CurvatureOperator, v: Vector, start: Vector) -> Solution:
        rest = v - H @ start
        left, whole = float(rest.norm()), float(v.norm())
        if not left < whole:
            solution = self.solver.solve(H, v)
            return Solution(solution.x, replace(solution.report, products=solution.report.products + 1))
        correction = self.solver.solve(H, rest)
        report = correction.report
        residual = None if report.residual is None else report.residual * left / whole
        return Solution(start + correction.x, replace(report, products=report.products + 1, residual=residual))

    def state_dict(self) -> dict[str, Any]:
        """Return the last solution and the wrapped solver's memory.

        Returns:
            The memory; no copies, for its tensors are never written.
        """
        last = self._memory.x
        return {"x": None if last is None else list(last), "solver": self.solver.state_dict()}

    def load_state_dict(self, state: dict[str, Any], /) -> None:
        """Restore the memory.

        Args:
            state: What :meth:`state_dict` returned.
        """
        last = state.get("x")  # absent if another solver made the checkpoint
        self._memory.x = None if last is None else Vector(t.clone() for t in last)
        self.solver.load_state_dict(state.get("solver", {}))
