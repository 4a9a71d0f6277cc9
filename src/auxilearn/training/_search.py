"""Cross-fitting: the combiner is learned on models that never see the labels that judge them."""

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from auxilearn.combiners import LossCombiner
from auxilearn.training._course import Course
from auxilearn.training._data import Rows
from auxilearn.training._descent import Descent
from auxilearn.training._fleet import Fleet
from auxilearn.training._folding import folding_of, out_of_fold
from auxilearn.training._gate import LEARNED, MAIN_ONLY
from auxilearn.training._learned import CrossFit, Learned, SecondBatch
from auxilearn.training._problem import Measured, Problem
from auxilearn.training._returned import refuse_broken
from auxilearn.training._sampler import Sampler
from auxilearn.training._settings import Training
from auxilearn.training._upper import Upper
from auxilearn.training._vectorised import fleet


@final
@dataclass(frozen=True)
class Found:
    """What a search found.

    Attributes:
        combiner: The combiner, averaged over time.
        path: The weight of each auxiliary loss at every outer step, shape (outer steps, K − 1).
        scores: The usefulness of each auxiliary loss to each fold's model, a mean over the outer steps, (F, K − 1).
        out_of_fold: The main loss of each labelled sample by candidate, under the model that did not train on it.
        trouble: A line about outer steps that failed, or None.
    """

    combiner: LossCombiner
    path: Tensor
    scores: Tensor
    out_of_fold: dict[str, Tensor]
    trouble: str | None = None


@final
class Search(Course):
    """Train the models of all folds at once, and move the combiner against the outer losses.

    With the gate, as many models beside them train on the main loss alone.

    Args:
        problem: The problem.
        rows: Its data.
        learned: The settings of the outer problem, with ``CrossFit`` or ``SecondBatch``.
        training: The settings of the inner one.
        start: The untrained model, on its device.
        scale: The initial value of each loss, shape (K,).
    """

    def __init__(
        self, problem: Problem, rows: Rows, learned: Learned, training: Training, start: nn.Module, scale: Tensor
    ) -> None:
        self._problem, self._rows, self._learned, self._training = problem, rows, learned, training
        self._device, self._scale = scale.device, scale
        self._names = problem.named(len(scale))
        self._auxiliary = [k for k in range(len(scale)) if k != problem.main]
        assert isinstance(learned.outer, (CrossFit, SecondBatch))
        self.folds = learned.outer.folds
        self._held_out = isinstance(learned.outer, CrossFit)  # whether the outer loss is that of the model's own fold
        self._folding = folding_of(problem, rows, start, folds=self.folds, used=self.folds, seed=training.seed)
        size = rows.a_step(training.batch_size)
        first = Sampler(rows.labelled, rows.others, batch_size=size, seed=training.seed).draw()
        self._sampler = Sampler(rows.labelled, rows.others, batch_size=size, seed=training.seed)
        # A second batch of labels; where every step sees all of them it is the first one.
        self._outer_sampler = Sampler(rows.labelled, rows.others[:0], batch_size=size, seed=training.seed + 1)
        self._second = not self._held_out and len(rows.labelled) > size
        self.number = 0
        self._models = self._fleet(start, first, self.folds)
        self._main = self._fleet(start, first[rows.has_label[first]], self.folds) if learned.gate else None
        self._descents = [
            Descent(part.params, training, self._device, clip=part.clip)
            for part in (self._models, self._main)
            if part is not None
        ]
        self._upper = Upper(learned, len(self._auxiliary), self.folds, self._device, shared=self._held_out)
        self.means = torch.zeros_like(scale)
        self._path: list[Tensor] = []
        self._scores = torch.zeros(self.folds, len(self._auxiliary), device=self._device)

    def _fleet(self, start: nn.Module, rows: Tensor, size: int) -> Fleet:
        return fleet(self._problem, start, size, *self._rows.batch(rows, self._device))

    @property
    def weights(self) -> Tensor:
        """The weight of each loss at the last outer step, (K,)."""
        weights = torch.ones_like(self._scale)
        if self._path:
            weights[self._auxiliary] = self._path[-1]
        return weights

    def step(self) -> None:
        """Take one step of all models, and an outer step before it where one is due."""
        batches = [self._sampler.draw() for _ in range(self._training.accumulate)]
        if self._learned.due(self.number):
            self._outer_step(batches[0])
        models, *main = self._descents
        models.step([lambda rows=rows: self._total(rows) for rows in batches])
        for descent in main:
            descent.step([lambda rows=rows: self._main_total(rows) for rows in batches])
        self.number += 1

    def _total(self, rows: Tensor) -> Tensor:
        with self._descents[0].autocast():
            measured = self._measured(self._models, rows)
        self.means = measured.means()[-1].detach() * self._scale
        seen = self._folding.seen(measured, rows)
        inputs, factor = self._inputs(seen)
        return seen.means()[:, self._problem.main].sum() + (self._upper.combine(inputs) * factor).sum()

    def _main_total(self, rows: Tensor) -> Tensor:
        assert self._main is not None
        rows = rows[self._rows.has_label[rows]]
        with self._descents[1].autocast():
            measured = self._measured(self._main, rows)
        return self._folding.seen(measured, rows).means()[:, self._problem.main].sum()

    def _outer_step(self, rows: Tensor) -> None:
        second = self._outer_sampler.draw() if self._second else rows
        with self._models.second_order():
            measured = self._measured(self._models, rows)
            outer = self._measured(self._models, second) if self._second else measured
        factors = torch.ones_like(self._scores).requires_grad_()
        main = self._problem.main
        seen = self._folding.seen(measured, rows)
        inputs, factor = self._inputs(seen)
        combined = factor * self._upper.combine(inputs * (factors[:, None] if inputs.dim() == 3 else factors))
        train = seen.means()[:, main].sum() + combined.sum()
        if self._held_out:
            target = self._folding.held(measured, rows, main)
        else:
            target = self._folding.seen(outer, second).means()[:, main]
        _, scores = self._upper.step(train, target.sum(), self._models.params, factors)
        self._path.append(self._upper.weights(inputs[0]))
        self._scores += scores
        due = (self._training.steps - self._learned.warmup) / self._learned.every
        if len(self._path) > self._learned.average_from * due:
            self._upper.average()

    def _measured(self, models: Fleet, rows: Tensor) -> Measured:
        measured = models.measure(*self._rows.batch(rows, self._device))
        refuse_broken(measured, self._names)
        return measured.over(self._scale)

    def _inputs(self, seen: Measured) -> tuple[Tensor, Tensor]:
        # What the combiner reads: means, or the rows that have an auxiliary loss. There the
        # models see different rows, but must be of one shape: a row that one does not see is zero, and pulls at
        # nothing; the factor turns the mean over all rows into that over its own.
        if not self._upper.reads_samples:
            means = seen.means()[:, self._auxiliary]
            return means, means.new_ones(len(means))
        values, there = (part[..., self._auxiliary] for part in (seen.values, seen.present))
        having = there.any(2)  # (F, B)
        some = having.any(0)
        return values[:, some], some.sum() / having.sum(1).clamp(min=1).to(values)

    def found(self) -> Found:
        """Return the result.

        Returns:
            The combiner, its course, and the evidence for the gate.
        """
        scores = self._scores / max(1, len(self._path))
        path = torch.stack(self._path) if self._path else torch.ones(0, len(self._auxiliary))
        return Found(self._upper.combiner(), path, scores, self._out_of_fold(), self._upper.trouble())

    def _out_of_fold(self) -> dict[str, Tensor]:
        candidates = {LEARNED: self._models} if self._main is None else {MAIN_ONLY: self._main, LEARNED: self._models}
        return {
            name: out_of_fold(self._problem, self._rows, self._folding, models)[0]
            for name, models in candidates.items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on exactly.

        Returns:
            The state.
        """
        return {
            "number": self.number,
            "models": self._models.state_dict(),
            "main": None if self._main is None else self._main.state_dict(),
            "descents": [descent.state_dict() for descent in self._descents],
            "upper": self._upper.state_dict(),
            "samplers": [self._sampler.state_dict(), self._outer_sampler.state_dict()],
            "path": list(self._path),
            "scores": self._scores,
            "means": self.means,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self.number = int(state["number"])
        self._models.load_state_dict(state["models"])
        if self._main is not None:
            self._main.load_state_dict(state["main"])
        for descent, part in zip(self._descents, state["descents"], strict=True):
            descent.load_state_dict(part)
        self._upper.load_state_dict(state["upper"])
        for sampler, part in zip((self._sampler, self._outer_sampler), state["samplers"], strict=True):
            sampler.load_state_dict(part)
        self._path = [weights.to(self._device) for weights in state["path"]]
        self._scores = state["scores"].to(self._device)
        self.means = state["means"].to(self._device)


def significance(scores: Tensor) -> Tensor:
    """Return the t value of each loss's usefulness over the folds.

    Args:
        scores: Shape (F, K).

    Returns:
        Shape (K,); NaN for a single fold.
    """
    if len(scores) < 2:
        return torch.full_like(scores[0], math.nan)
    return scores.mean(0) / (scores.std(0) / math.sqrt(len(scores)) + 1e-30)
