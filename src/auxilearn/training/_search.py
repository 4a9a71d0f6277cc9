"""Cross-fitting: the combiner is learned on models that never see the labels that judge them."""

import math
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor, nn

from auxilearn.combiners import LossCombiner
from auxilearn.training._course import Course
from auxilearn.training._data import Rows, Sampler, chunks, to_device
from auxilearn.training._descent import Descent
from auxilearn.training._evaluate import main_labels
from auxilearn.training._fleet import Fleet, fleet
from auxilearn.training._folds import folds_of
from auxilearn.training._gate import EQUAL, LEARNED, MAIN_ONLY, calibrated_losses
from auxilearn.training._learned import CrossFit, Learned, SecondBatch
from auxilearn.training._problem import Measured, Problem, refuse_broken
from auxilearn.training._settings import Training
from auxilearn.training._upper import Upper


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
    """Train the models of all folds and candidates at once, and move the combiner against the held-out losses.

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
        self._fold = self._dealt(start)
        size = training.batch_size or rows.batch_size or 64
        self._sampler = Sampler(rows.labelled, rows.others, batch_size=size, seed=training.seed)
        # A second batch of labels; where every step sees all of them it is the first one.
        self._outer_sampler = Sampler(rows.labelled, rows.others[:0], batch_size=size, seed=training.seed + 1)
        self._second = not self._held_out and len(rows.labelled) > size
        self.number = 0
        first = self._sampler.draw()
        self._sampler = Sampler(rows.labelled, rows.others, batch_size=size, seed=training.seed)
        self._equal = self.folds if learned.gate else 0  # how many models have equal weights; they come first
        self._both = self._fleet(start, first, self._equal + self.folds)
        self._main = self._fleet(start, first[rows.has_label[first]], self.folds) if learned.gate else None
        self._descents = [
            Descent(part.params, training, self._device, clip=part.clip)
            for part in (self._both, self._main)
            if part is not None
        ]
        self._upper = Upper(learned, len(self._auxiliary), self.folds, self._device, shared=self._held_out)
        self.means = torch.zeros_like(scale)
        self._path: list[Tensor] = []
        self._scores = torch.zeros(self.folds, len(self._auxiliary), device=self._device)

    def _fleet(self, start: nn.Module, rows: Tensor, size: int) -> Fleet:
        batch = to_device(self._rows.take(rows), self._device)
        return fleet(self._problem, start, size, batch, self._labels(rows))

    def _labels(self, rows: Tensor) -> Tensor:
        return self._rows.has_label[rows].to(self._device)

    def _dealt(self, start: nn.Module) -> Tensor:
        # The fold of each row of the data; -1 without a main label.
        labelled, labels = self._rows.labelled, main_labels(self._problem, self._rows, start)
        fold = torch.full((self._rows.size,), -1)
        fold[labelled] = folds_of(labels, len(labelled), self.folds, seed=self._training.seed)
        return fold

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
        since = self.number - self._learned.warmup
        if since >= 0 and since % self._learned.every == 0:
            self._outer_step(batches[0])
        both, *main = self._descents
        both.step([lambda rows=rows: self._total(rows) for rows in batches])
        for descent in main:
            descent.step([lambda rows=rows: self._main_total(rows) for rows in batches])
        self.number += 1

    def _total(self, rows: Tensor) -> Tensor:
        with self._descents[0].autocast():
            measured = self._measured(self._both, rows)
        kept, _ = self._main_means(measured, rows)
        self.means = measured.means()[-1].detach() * self._scale
        total = kept.sum()
        if self._equal:
            total = total + self._means(measured, rows)[: self._equal].sum()
        inputs, factor = self._inputs(measured, rows)
        return total + (self._upper.combine(inputs) * factor).sum()

    def _main_total(self, rows: Tensor) -> Tensor:
        assert self._main is not None
        rows = rows[self._rows.has_label[rows]]
        with self._descents[1].autocast():
            measured = self._measured(self._main, rows)
        return self._main_means(measured, rows)[0].sum()

    def _outer_step(self, rows: Tensor) -> None:
        second = self._outer_sampler.draw() if self._second else rows
        with self._both.second_order():
            measured = self._measured(self._both, rows)
            outer = self._measured(self._both, second) if self._second else measured
        factors = torch.ones_like(self._scores).requires_grad_()
        inputs, factor = self._inputs(measured, rows)
        kept, _ = self._main_means(measured, rows)
        seen, held = self._main_means(outer, second)
        target = held if self._held_out else seen
        combined = factor * self._upper.combine(inputs * (factors[:, None] if inputs.dim() == 3 else factors))
        learned = slice(self._equal, None)
        _, scores = self._upper.step(
            kept[learned].sum() + combined.sum(), target[learned].sum(), self._both.params, factors
        )
        self._path.append(self._upper.weights(inputs[0]))
        self._scores += scores
        due = (self._training.steps - self._learned.warmup) / self._learned.every
        if len(self._path) > self._learned.average_from * due:
            self._upper.average()

    def _measured(self, models: Fleet, rows: Tensor) -> Measured:
        measured = models.measure(to_device(self._rows.take(rows), self._device), self._labels(rows))
        refuse_broken(measured, self._names)
        return measured.over(self._scale)

    def _main_means(self, measured: Measured, rows: Tensor) -> tuple[Tensor, Tensor]:
        # The mean main loss of each model over the samples of the other folds, and over those of its own.
        values = measured.values[..., self._problem.main]  # (M, B)
        own = torch.arange(len(values), device=self._device) % self.folds
        fold = self._fold[rows].to(self._device)
        held = (fold == own[:, None]) & measured.present[:, self._problem.main]
        kept = (fold != own[:, None]) & measured.present[:, self._problem.main]
        return _masked_mean(values, kept), _masked_mean(values, held)

    def _seen(self, measured: Measured, rows: Tensor) -> tuple[Tensor, Tensor]:
        # The auxiliary losses of each model, zero where there is none, and which there are, (M, B, K − 1). A model
        # does not see the rows of its own fold at all: their auxiliary losses might give their labels away.
        own = torch.arange(len(measured.values), device=self._device) % self.folds
        foreign = self._fold[rows].to(self._device) != own[:, None]
        there = measured.present[:, self._auxiliary] & foreign[:, :, None]
        values = measured.values[..., self._auxiliary]
        return torch.where(there, values, torch.zeros_like(values)), there

    def _means(self, measured: Measured, rows: Tensor) -> Tensor:
        values, there = self._seen(measured, rows)
        return values.sum(1) / there.sum(1).clamp(min=1)

    def _inputs(self, measured: Measured, rows: Tensor) -> tuple[Tensor, Tensor]:
        # What the combiner reads, of the learned models: means, or the rows that have an auxiliary loss. There the
        # models see different rows, but must be of one shape: a row that one does not see is zero, and pulls at
        # nothing; the factor turns the mean over all rows into that over its own.
        if not self._upper.reads_samples:
            means = self._means(measured, rows)[self._equal :]
            return means, means.new_ones(len(means))
        values, there = (part[self._equal :] for part in self._seen(measured, rows))
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
        parts = {LEARNED: (self._both, self._equal)}
        if self._main is not None:
            parts = {MAIN_ONLY: (self._main, 0), EQUAL: (self._both, 0), LEARNED: (self._both, self._equal)}
        return {name: self._judged(models, offset) for name, (models, offset) in parts.items()}

    @torch.no_grad()
    def _judged(self, models: Fleet, offset: int) -> Tensor:
        labelled = self._rows.labelled
        found: list[Tensor] = []
        labels: list[Tensor] = []
        models.train(False)
        for rows in chunks(labelled):
            batch = to_device(self._rows.take(rows), self._device)
            chosen = (offset + self._fold[rows]).to(self._device)
            sample = torch.arange(len(rows), device=self._device)
            if self._problem.logits is None:
                values = self._problem.main, models.measure(batch, self._labels(rows)).values
                found.append(values[1][chosen, sample, values[0]])
            else:
                logits, classes = models.logits(batch)
                found.append(logits[chosen, sample])
                labels.append(classes)
        models.train(True)
        return calibrated_losses(torch.cat(found), torch.cat(labels)) if labels else torch.cat(found)

    def state_dict(self) -> dict[str, Any]:
        """Return everything needed to go on exactly.

        Returns:
            The state.
        """
        return {
            "number": self.number,
            "both": self._both.state_dict(),
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
        self._both.load_state_dict(state["both"])
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


def _masked_mean(values: Tensor, mask: Tensor) -> Tensor:
    return (values * mask).sum(1) / mask.sum(1).clamp(min=1)
