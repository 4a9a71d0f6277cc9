"""A network at some step of its training, the linear system there, and its exact solution."""

from collections.abc import Iterator, Sequence
from copy import deepcopy
from functools import cached_property

import torch
from problems import Problem
from torch import Tensor, nn
from torch.optim import Optimizer

from auxilearn import Vector
from auxilearn.curvature import GaussNewton, Hessian, LossCurvature
from auxilearn.safety import second_order
from auxilearn.solvers import ConjugateGradient, Dense

LOOKBACK = 100
"""Training steps before a state that can be repeated, for solvers that remember."""


class Training:
    """A network and its optimizer; the rows of a step depend on its number only, so a copy takes the same steps."""

    def __init__(self, problem: Problem) -> None:
        torch.manual_seed(0)
        self.problem, self.step = problem, 0
        self.model = problem.network()
        self.optimizer = problem.optimizer(self.model)

    def copy(self) -> "Training":
        """Return a training of its own from here."""
        other = Training(self.problem)
        other.model.load_state_dict(self.model.state_dict())
        # torch takes the very tensors of a state, which the optimizer changes in place.
        other.optimizer.load_state_dict(deepcopy(self.optimizer.state_dict()))
        other.step = self.step
        return other

    def advance(self, to: int) -> None:
        """Train up to a step."""
        while self.step < to:
            self.step += 1
            rows = _drawn(self.problem.train_rows, self.problem.batch, seed=self.step)
            self.optimizer.zero_grad()
            losses = self.problem.losses(self.model, self.model(self.problem.inputs(rows)), rows)
            self.problem.combined(self.model, losses).backward()
            self.optimizer.step()
        self.optimizer.zero_grad()
        self.problem.phi.grad = None


class State:
    """The system at one step of a training, on rows that its number draws.

    Attributes:
        problem: The problem.
        step: The number of the training step.
        model: The network; changed by nobody.
        optimizer: Its optimizer, with its state.
        phi: Logarithms of the weights of losses, the outer variables.
        rows, inputs: The rows that the system is posed on, by number and as given to the network.
        outer_rows: The held-back rows of the outer loss.
    """

    def __init__(self, training: Training, origin: Training) -> None:
        self.problem, self.step, self._origin = training.problem, training.step, origin
        self.model: nn.Module = training.model
        self.optimizer: Optimizer = training.optimizer
        self.phi = self.problem.phi
        p, held = self.problem, self.problem.rows - self.problem.train_rows
        self.rows = _drawn(p.train_rows, p.system_rows, seed=10_000 + self.step)
        self.outer_rows = p.train_rows + _drawn(held, p.outer_rows, seed=20_000 + self.step)
        self.inputs = p.inputs(self.rows)

    @cached_property
    def outputs(self) -> Tensor:
        """The network's outputs on the rows, with their graph."""
        with second_order(self.model):
            return self.model(self.inputs)

    @cached_property
    def losses(self) -> Tensor:
        """The mean losses, the main one first, with their graph, (K,)."""
        return self.problem.losses(self.model, self.outputs, self.rows)

    @cached_property
    def operator(self) -> LossCurvature:
        """The system: the exact Hessian, or Gauss and Newton's matrix with damping and the penalty's curvature."""
        loss = self.problem.combined(self.model, self.losses)
        params = list(self.model.parameters())
        if self.problem.exact:
            return Hessian(loss, params, damping=self.problem.damping)
        return GaussNewton(loss, self.outputs, params, damping=self.problem.damping + self.problem.decay)

    @property
    def params(self) -> tuple[Tensor, ...]:
        """The weights that the operator acts on."""
        return self.operator.params

    @cached_property
    def v(self) -> Vector:
        """The gradient of the main loss on the held-back rows."""
        with second_order(self.model):
            outputs = self.model(self.problem.inputs(self.outer_rows))
        loss = self.problem.losses(self.model, outputs, self.outer_rows)[0]
        return Vector(torch.autograd.grad(loss, self.params, allow_unused=True, materialize_grads=True))

    def loss_gradient(self, index: int) -> Vector:
        """Compute the gradient of a single loss on the rows."""
        found = torch.autograd.grad(
            self.losses[index], self.params, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return Vector(found)

    def train_gradient(self) -> Vector:
        """Compute the gradient of the train loss from scratch, the unit of cost."""
        losses = self.problem.losses(self.model, self.model(self.inputs), self.rows)
        return Vector(torch.autograd.grad(self.problem.combined(self.model, losses), self.params))

    def hypergradient(self, x: Vector) -> Tensor:
        """Take the mixed product; there is no direct term."""
        (mixed,) = self.operator.cross(x, [self.phi])
        assert mixed is not None
        return -mixed

    def before(self, ago: Sequence[int]) -> "Iterator[State]":
        """Go through the states some training steps ago, the oldest first, each on rows of its own."""
        training = self._origin.copy()
        for number in sorted(ago, reverse=True):
            training.advance(self.step - number)
            yield State(training.copy(), self._origin)

    @property
    def lookback(self) -> int:
        """How many training steps can be repeated."""
        return self.step - self._origin.step

    @cached_property
    def trail(self) -> "list[State]":
        """The outer steps before this one, ten training steps apart."""
        return list(self.before([n for n in (30, 20, 10) if n < self.lookback]))

    @cached_property
    def truth(self) -> tuple[Tensor, float, int]:
        """The hypergradient of the solved system, the relative residual ‖v − Hx‖ / ‖v‖, and the products it took."""
        size = sum(p.numel() for p in self.params)
        solver = Dense() if size <= 2000 else ConjugateGradient(max_steps=5000, tolerance=1e-10)
        solution = solver.solve(self.operator, self.v)
        residual = float((self.v - self.operator @ solution.x).norm() / self.v.norm())
        if not residual < 1e-6:
            raise RuntimeError(f"The truth of step {self.step} is none: its relative residual is {residual:.1e}.")
        return self.hypergradient(solution.x), residual, solution.report.products


def states(problem: Problem) -> Iterator[State]:
    """Train, and stop at each of the problem's steps."""
    training = Training(problem)
    for step in problem.steps:
        training.advance(max(training.step, step - LOOKBACK))
        origin = training.copy()
        training.advance(step)
        yield State(training.copy(), origin)


def _drawn(total: int, number: int, *, seed: int) -> Tensor:
    return torch.randperm(total, generator=torch.Generator().manual_seed(seed))[:number]
