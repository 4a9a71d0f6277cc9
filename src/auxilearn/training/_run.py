"""One model's training: the loop that every method shares."""

from collections.abc import Callable, Sequence
from typing import Any, final

import torch
from torch import Tensor, nn

from auxilearn._checks import explain
from auxilearn.errors import AuxilearnError, InputError
from auxilearn.solvers import SolveReport
from auxilearn.training._course import Course
from auxilearn.training._data import Rows
from auxilearn.training._descent import Descent
from auxilearn.training._learned import Learned
from auxilearn.training._looped import Looped
from auxilearn.training._objective import Combined, Moment, Objective
from auxilearn.training._problem import Batch, Measured, Problem
from auxilearn.training._returned import refuse_broken
from auxilearn.training._sampler import Sampler
from auxilearn.training._settings import Training
from auxilearn.training._upper import Upper


@final
class Run(Course):
    """A model on its way.

    Args:
        problem: The problem.
        rows: Its data.
        training: The inner training.
        model: The untrained model, on its device.
        scale: The initial value of each loss, (K,).
        objective: What the model descends.
        labelled: The rows whose main labels it trains on.
        outer: The rows whose main loss is the outer one; all of ``labelled`` by default.
        online: The settings and the parameters of a combiner that is learned along the way, if ``objective`` is one.
    """

    def __init__(
        self,
        problem: Problem,
        rows: Rows,
        training: Training,
        model: nn.Module,
        scale: Tensor,
        objective: Objective,
        *,
        labelled: Tensor,
        outer: Tensor | None = None,
        online: tuple[Learned, Upper] | None = None,
    ) -> None:
        self._problem, self._rows, self._training, self._scale = problem, rows, training, scale
        self._names, self._device = problem.named(len(scale)), scale.device
        self.model, self.objective, self._online = model.train(), objective, online
        self._alone = Looped(problem, [model])
        self._descent = Descent(self._alone.params, training, self._device)
        size = rows.a_step(training.batch_size)
        # A row that is held back from the main loss is not seen at all: its auxiliary losses might give its label away.
        others = rows.others[:0] if objective.main_only else rows.others
        self._sampler = Sampler(labelled, others, batch_size=size, seed=training.seed)
        outer = labelled if outer is None else outer
        self._outer_sampler = Sampler(outer, rows.others[:0], batch_size=size, seed=training.seed + 1)
        self.number = 0
        self.means = torch.zeros_like(scale)
        self.path: list[Tensor] = []
        self.report: SolveReport | None = None

    @property
    def learns(self) -> bool:
        """Whether a combiner is learned along the way."""
        return self._online is not None

    @property
    def weights(self) -> Tensor:
        """The weight of each loss at the last step, (K,)."""
        return self.objective.weights

    @property
    def settings(self) -> list[object]:
        """What the state fits to: settings of the optimizers, and shapes."""
        shapes = [(name, tuple(t.shape), t.dtype) for name, t in self.model.state_dict().items()]
        return [shapes, self._descent.settings, [] if self._online is None else self._online[1].settings]

    def step(self) -> None:
        """Take one step on rows of the problem's data, and an outer step before it where one is due."""
        batches = [self._rows.batch(self._sampler.draw(), self._device) for _ in range(self._training.accumulate)]
        if self._online is not None and self._online[0].due(self.number):
            self.outer_step(batches[0], self._rows.batch(self._outer_sampler.draw(), self._device))
        self.train_step(batches)

    def train_step(self, batches: Sequence[tuple[Batch, Tensor | None]]) -> Tensor:
        """Move the weights on some batches.

        Args:
            batches: For each its content, and which of its rows carry a main label (None: all).

        Returns:
            The mean of each loss in its own units, (K,), without a graph.

        Raises:
            AuxilearnError: An ``InputError`` if a loss or a gradient is not finite.
        """
        # A forward pass moves BatchNorm statistics; a broken batch must not leave its NaN there.
        kept = [(buffer, buffer.clone()) for buffer in self.model.buffers()]
        try:
            losses = [self._loss_of(*batch, first=number == 0) for number, batch in enumerate(batches)]
            self._descent.step(losses)
        except AuxilearnError:
            for buffer, value in kept:
                buffer.copy_(value)
            self._descent.optimizer.zero_grad()
            raise
        self.objective.after()
        self.number += 1
        return self.means

    def _loss_of(self, batch: Batch, labelled: Tensor | None, *, first: bool) -> Callable[[], Tensor]:
        def loss() -> Tensor:
            measured = self._measured(batch, labelled)
            self.means = measured.over(torch.ones_like(self._scale)).means()[0].detach()
            moment = Moment(
                self._alone.params,
                self.number,
                self._descent.learning_rate,
                outer=self._second_main_loss,
                again=lambda: self._again(batch, labelled),
                first=first,
            )
            return self.objective.total(measured, moment)

        return loss

    def outer_step(self, batch: tuple[Batch, Tensor | None], outer: tuple[Batch, Tensor | None]) -> SolveReport:
        """Move the combiner.

        Args:
            batch: A training batch, and which of its rows carry a main label.
            outer: A batch for the outer loss, and which of its rows carry a main label.

        Returns:
            The solver's report.

        Raises:
            InputError: If no combiner is being learned, or the outer batch has no main label.
        """
        if self._online is None or not isinstance(self.objective, Combined):
            rule, cure = "An outer step needs a combiner that is being learned.", "Use `method=Learned(...)`."
            raise InputError(explain(rule, "This method learns none.", cure))
        learned, upper = self._online
        with self._alone.second_order():
            measured = self._measured(*batch, autocast=False)
            held = self._measured(*outer, autocast=False)
        main = self._problem.main
        if not bool(held.present[:, main].any()):
            rule, cure = "The outer batch must hold main labels.", "Draw it from labelled rows."
            raise InputError(explain(rule, "It holds none.", cure))
        factors = torch.ones(1, len(self._scale) - 1, device=self._device, requires_grad=True)
        train = self.objective.of(measured, factors[0])
        self.report, _ = upper.step(train, held.over(self._scale).means()[0, main], self._alone.params, factors)
        self.path.append(self.objective.weights.clone())
        if self.number >= learned.average_from * self._training.steps:
            upper.average()
        return self.report

    def _again(self, batch: Batch, labelled: Tensor | None) -> Measured:
        # A look at what the step did: the batch must not count twice in BatchNorm statistics, nor draw other numbers.
        with self._alone.second_order():
            return self._measured(batch, labelled)

    def _second_main_loss(self) -> Tensor:
        batch = self._rows.batch(self._outer_sampler.draw(), self._device)
        with self._alone.second_order():
            measured = self._measured(*batch, autocast=False)
        return measured.over(torch.ones_like(self._scale)).means()[0, self._problem.main]

    def _measured(self, batch: Batch, labelled: Tensor | None, *, autocast: bool = True) -> Measured:
        if autocast:
            with self._descent.autocast():
                measured = self._alone.measure(batch, labelled)
        else:
            measured = self._alone.measure(batch, labelled)
        refuse_broken(measured, self._names)
        return measured

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on exactly.

        Returns:
            The state.
        """
        return {
            "number": self.number,
            "model": self.model.state_dict(),
            "descent": self._descent.state_dict(),
            "objective": self.objective.state_dict(),
            "samplers": [self._sampler.state_dict(), self._outer_sampler.state_dict()],
            "path": list(self.path),
            "means": self.means,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self.number = int(state["number"])
        self.model.load_state_dict(state["model"])
        self._descent.load_state_dict(state["descent"])
        self.objective.load_state_dict(state["objective"])
        for sampler, part in zip((self._sampler, self._outer_sampler), state["samplers"], strict=True):
            sampler.load_state_dict(part)
        self.path = [weights.to(self._device) for weights in state["path"]]
        self.means = state["means"].to(self._device)
