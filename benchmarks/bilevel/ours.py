"""This library under the protocol of the baselines: the same batches, counts, and grid of ``step`` and ``ratio``."""

import torch
from baselines import Iterates
from oracles import BATCH, Oracles
from torch import Tensor
from torch.optim import SGD

from auxilearn import BilevelProblem, PenaltyMethod, hypergradient
from auxilearn.curvature import Hessian
from auxilearn.solvers import ConjugateGradient, LinearSolver, Neumann, SingleLoop


def single_loop(o: Oracles, step: float, ratio: float) -> Iterates:
    """One training step and one outer step a batch, whose gradient serves both; the step of the system is estimated."""
    W, phi = (t.clone().requires_grad_() for t in o.task.start)
    solver, t = SingleLoop(), 0
    while True:
        t += 1
        rate = step / t**0.5
        slope, direction, rows = _directions(o, W, phi, solver)
        o.spend(rows)  # the gradient serves both levels
        W, phi = (
            (W - rate * slope).detach().requires_grad_(),
            (phi - rate / ratio * direction).detach().requires_grad_(),
        )
        yield W.detach(), phi.detach()


def _double_loop(o: Oracles, step: float, ratio: float, solver: LinearSolver, inner_steps: int) -> Iterates:
    W, phi = (t.clone().requires_grad_() for t in o.task.start)
    while True:
        for _ in range(inner_steps):
            slope = o.inner_gradient(W, phi.detach(), o.inner_batches.draw()[1])
            W = (W - step * slope).detach().requires_grad_()
        direction = _directions(o, W, phi, solver)[1]
        phi = (phi - step / ratio * direction).detach().requires_grad_()
        yield W.detach(), phi.detach()


def neumann(o: Oracles, step: float, ratio: float) -> Iterates:
    """Ten training steps, then Neumann(10) on one batch."""
    yield from _double_loop(o, step, ratio, Neumann(terms=10), inner_steps=10)


def conjugate_gradient(o: Oracles, step: float, ratio: float) -> Iterates:
    """Training steps and ConjugateGradient(5) on batches eight times as large."""
    yield from _double_loop(o, step, ratio, ConjugateGradient(max_steps=5), inner_steps=5)


def penalty(o: Oracles, step: float, ratio: float) -> Iterates:
    """PenaltyMethod, i.e. F2SA: ten steps of both networks, first derivatives only, a strength that grows."""
    W, phi = (torch.nn.Parameter(t.clone()) for t in o.task.start)
    rows: dict[str, Tensor] = {}

    def inner(w: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        o.spend(rows["inner"])
        return o.task.inner(w[0], p[0], rows["inner"])

    def outer(w: tuple[Tensor, ...], p: tuple[Tensor, ...]) -> Tensor:
        o.spend(rows["outer"])
        return o.task.outer(w[0], p[0], rows["outer"])

    method = PenaltyMethod(BilevelProblem(inner, outer, (W,), (phi,)), lambda w: SGD(w, lr=step), strength=1.0)
    while True:
        for left in reversed(range(10)):
            rows.update(inner=o.inner_batches.draw()[1], outer=o.outer_batches.draw()[1])
            slope = o.inner_gradient(W, phi.detach(), rows["inner"])
            if left:
                method.advance()
            else:
                (direction,) = method.hypergradient()
            W.data -= step * slope
        phi.data -= step / ratio * direction
        method.strength += 0.1
        yield W.detach().clone(), phi.detach().clone()


def _directions(o: Oracles, W: Tensor, phi: Tensor, solver: LinearSolver) -> tuple[Tensor, Tensor, Tensor]:
    rows, outer_rows = o.inner_batches.draw()[1], o.outer_batches.draw()[1]
    H = Hessian(o.task.inner(W, phi, rows), [W])
    slope = H.gradient().tensors[0]
    found = hypergradient(H, o.task.outer(W, phi, outer_rows), params=[W], aux_params=[phi], solver=solver)
    o.spend(rows, found.report.products + 1)  # with the mixed product
    o.spend(outer_rows)
    return slope, found.grads[0], rows


LARGE = 8 * BATCH
