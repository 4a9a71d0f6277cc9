"""What the models of different folds may see of a batch that they share, and how they are judged."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor, nn

from auxilearn.training._data import Rows
from auxilearn.training._evaluate import main_labels
from auxilearn.training._fleet import Fleet
from auxilearn.training._folds import folds_of
from auxilearn.training._gate import calibrated_losses
from auxilearn.training._problem import Measured, Problem
from auxilearn.training._sampler import chunks


@final
@dataclass(frozen=True)
class Folding:
    """Main labels in folds, and a fleet whose model m leaves out fold m modulo their number.

    Attributes:
        fold: The fold of each row of the data, −1 without a main label, (rows,).
        used: How many of the folds are left out, each by a model of its own.
    """

    fold: Tensor
    used: int

    def seen(self, measured: Measured, rows: Tensor) -> Measured:
        """Hide from each model the rows of its own fold, main and auxiliary losses alike: these might give those away.

        Args:
            measured: The losses of all models, (M, B, K).
            rows: The rows of the batch, (B,).

        Returns:
            The losses that are left, with a mask for each model, (M, B, K).
        """
        there = measured.present & ~self._own(measured, rows)[:, :, None]
        return Measured(torch.where(there, measured.values, torch.zeros_like(measured.values)), there)

    def held(self, measured: Measured, rows: Tensor, main: int) -> Tensor:
        """Average the main loss of each model over the rows of its own fold.

        Args:
            measured: The losses of all models, (M, B, K).
            rows: The rows of the batch, (B,).
            main: The column of the main loss.

        Returns:
            Shape (M,); zero for a model of whose fold there is no row.
        """
        mask = self._own(measured, rows) & measured.present[:, main]
        return (measured.values[..., main] * mask).sum(1) / mask.sum(1).clamp(min=1)

    def _own(self, measured: Measured, rows: Tensor) -> Tensor:
        device = measured.values.device
        left_out = torch.arange(len(measured.values), device=device) % self.used
        return self.fold[rows].to(device) == left_out[:, None]  # (M, B)


def folding_of(problem: Problem, rows: Rows, start: nn.Module, *, folds: int, used: int, seed: int) -> Folding:
    """Deal the main labels out.

    Args:
        problem: The problem.
        rows: Its data.
        start: Any model of the problem, to ask for the classes.
        folds: How many folds.
        used: How many of them are left out in turn.
        seed: The seed of the deal.

    Returns:
        The folds, stratified if the problem has ``logits``.
    """
    labels = main_labels(problem, rows, start)
    fold = torch.full((rows.size,), -1)
    fold[rows.labelled] = folds_of(labels, len(rows.labelled), folds, seed=seed)
    return Folding(fold, used)


@torch.no_grad()
def out_of_fold(problem: Problem, rows: Rows, folding: Folding, models: Fleet) -> Tensor:
    """Judge every labelled sample by the model that left it out.

    Args:
        problem: The problem.
        rows: Its data.
        folding: The folds.
        models: The fleet, a model for each candidate and fold, candidate by candidate; it is left in training mode.

    Returns:
        The main loss of each sample whose fold was left out, calibrated if the problem has ``logits``, (C, N).
    """
    firsts = torch.arange(0, models.size, folding.used)  # each candidate's model that left out fold 0, (C,)
    judged = rows.labelled[folding.fold[rows.labelled] < folding.used]
    found: list[Tensor] = []
    classes: list[Tensor] = []
    models.train(False)
    for part in chunks(judged, rows.piece):
        batch, labelled = rows.batch(part, models.device)
        model = (firsts[:, None] + folding.fold[part]).to(models.device)  # (C, B)
        sample = torch.arange(len(part), device=models.device)
        if problem.logits is None:
            found.append(models.measure(batch, labelled).values[model, sample, problem.main])
        else:
            logits, labels = models.logits(batch)
            found.append(logits[model, sample])
            classes.append(labels)
    models.train()
    values = torch.cat(found, 1)  # (C, N), or (C, N, classes)
    return torch.stack([calibrated_losses(v, torch.cat(classes)) for v in values]) if classes else values
