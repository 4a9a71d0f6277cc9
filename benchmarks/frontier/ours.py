"""Every solver of this library. A new one is three lines: see ``solver``."""

from collections.abc import Callable

from budgets import COARSE, LADDER
from methods import Method, Solve
from state import State

from auxilearn import Vector
from auxilearn.safety import second_order
from auxilearn.solvers import (
    ConjugateGradient,
    CurvatureSketch,
    Identity,
    LinearSolver,
    Neumann,
    Nystrom,
    OptimizerMetric,
    SingleLoop,
    WarmStart,
)

Make = Callable[[State, int], LinearSolver]
TOLERANCE = 1e-10
SHORT = tuple(n for n in COARSE if n <= 50)


def solver(name: str, make: Make, ladder: tuple[int, ...] = LADDER, budget: str = "products") -> Method:
    """Wrap a solver that starts from nothing; what ``make`` computes, such as a preconditioner, counts as its cost."""

    def prepared(state: State, n: int) -> Solve:
        return lambda: make(state, n).solve(state.operator, state.v).x

    return Method(name, "ours", prepared, ladder, budget)


def remembering(name: str, make: Make, ladder: tuple[int, ...], budget: str) -> Method:
    """Wrap a solver with a memory, after three outer steps ten training steps apart, each on batches of its own."""

    def prepared(state: State, n: int) -> Solve:
        method = make(state, n)
        for earlier in state.trail:
            method.solve(earlier.operator, earlier.v)
        return _repeatable(method, state)

    return Method(name, "ours", prepared, ladder, budget, remembers=True)


def _repeatable(method: LinearSolver, state: State) -> Solve:
    memory = method.state_dict()

    def solve() -> Vector:
        method.load_state_dict(memory)
        return method.solve(state.operator, state.v).x

    return solve


def neumann(name: str, *, metric: bool) -> Method:
    """Wrap the series with a step that is estimated, as at every outer step but the first.

    The power iteration remembers its vector, so the estimate has cost ten products three outer steps ago, and one each
    since; the one of this step counts.
    """

    def prepared(state: State, n: int) -> Solve:
        memory: dict = {}
        for s in [*state.trail, state]:
            method = Neumann(n if s is state else 0, preconditioner=OptimizerMetric(s.optimizer) if metric else None)
            method.load_state_dict(memory)
            if s is not state:
                method.solve(s.operator, s.v)
            memory = method.state_dict()
        return _repeatable(method, state)

    return Method(name, "ours", prepared, COARSE, "terms")


def single_loop(name: str, *, metric: bool) -> Method:
    """Wrap the solver that takes one product a call, after so many calls, one after each training step."""

    def prepared(state: State, n: int) -> Solve:
        memory: dict = {}
        for s in state.before(range(1, min(n, state.lookback - 1) + 1)):
            method = SingleLoop(preconditioner=OptimizerMetric(s.optimizer) if metric else None)
            method.load_state_dict(memory)
            method.solve(s.operator, s.v)
            memory = method.state_dict()
            s.operator.release()
        method = SingleLoop(preconditioner=OptimizerMetric(state.optimizer) if metric else None)
        method.load_state_dict(memory)
        return _repeatable(method, state)

    return Method(name, "ours", prepared, (10, 30, 100), "calls, one product each", remembers=True, bisects=False)


def sketched(name: str, rows: int) -> Method:
    """Wrap conjugate gradients with a sample of the curvature as preconditioner, taken at every solve."""

    def make(state: State, n: int) -> LinearSolver:
        # An explicit penalty is damping, too; where it has several strengths, their mean.
        penalty = 2 * float(state.phi.detach().exp().mean()) if state.problem.exact else 0.0
        sketch = CurvatureSketch(state.model, size=rows, damping=penalty)
        with second_order(state.model), sketch.watched():
            outputs = state.model(state.inputs)
        losses = state.problem.losses(state.model, outputs, state.rows)
        sketch.update(state.problem.combined(state.model, losses), outputs)
        return ConjugateGradient(n, TOLERANCE, preconditioner=sketch)

    return solver(name, make)


OURS = [
    solver("Identity", lambda s, n: Identity(), (1,), "none"),
    neumann("Neumann", metric=False),
    neumann("Neumann, metric", metric=True),
    solver("CG", lambda s, n: ConjugateGradient(n, TOLERANCE)),
    solver("CG, metric", lambda s, n: ConjugateGradient(n, TOLERANCE, preconditioner=OptimizerMetric(s.optimizer))),
    sketched("CG, sketch of 256", 256),
    sketched("CG, sketch of 512", 512),
    solver("Nyström", lambda s, n: Nystrom(n), tuple(n for n in COARSE if n <= 100), "rank"),
    remembering("WarmStart, Neumann", lambda s, n: WarmStart(Neumann(n)), SHORT, "terms"),
    remembering("WarmStart, CG", lambda s, n: WarmStart(ConjugateGradient(n, TOLERANCE)), SHORT, "products"),
    single_loop("SingleLoop", metric=False),
    single_loop("SingleLoop, metric", metric=True),
]
"""``metric`` is ``OptimizerMetric(optimizer)`` as the preconditioner."""
