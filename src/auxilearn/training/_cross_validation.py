"""Out-of-fold losses of fixed weights: how a grid or a random search is judged without a label of its own."""

import torch
from torch import Tensor, nn

from auxilearn.training._data import Sampler, chunks, rows_of, to_device
from auxilearn.training._descent import Descent
from auxilearn.training._evaluate import initial_losses, main_labels
from auxilearn.training._fleet import Fleet, fleet
from auxilearn.training._folds import folds_of
from auxilearn.training._gate import calibrated_losses
from auxilearn.training._problem import Problem, refuse_broken
from auxilearn.training._settings import Training


def cross_validated(
    problem: Problem, weights: Tensor, training: Training, *, folds: int = 5, used: int | None = None
) -> Tensor:
    """Train a model for every row of weights and every fold, all at once, and judge it on its fold.

    Args:
        problem: The problem.
        weights: A row for each candidate, (C, K), of losses in units of their initial values.
        training: The inner training.
        folds: Stratified folds of the main labels.
        used: How many of them are held out in turn; all by default. With 1 it is a plain hold-out.

    Returns:
        The main loss of each held-out sample, calibrated if the problem has ``logits``, (C, N).
    """
    rows, start = rows_of(problem), problem.new_model()
    scale = initial_losses(problem, rows, start, seed=training.seed)
    used = folds if used is None else used
    fold = torch.full((rows.size,), -1)
    labels = main_labels(problem, rows, start)
    fold[rows.labelled] = folds_of(labels, len(rows.labelled), folds, seed=training.seed)
    models = _trained(problem, weights.to(scale), training, fold, used, start, scale)
    judged = rows.labelled[fold[rows.labelled] < used]
    models.train(False)
    candidates = torch.arange(len(weights), device=scale.device)[:, None] * used
    found: list[Tensor] = []
    classes: list[Tensor] = []
    with torch.no_grad():
        for part in chunks(judged):
            batch = to_device(rows.take(part), scale.device)
            own, sample = candidates + fold[part].to(scale.device), torch.arange(len(part), device=scale.device)
            if problem.logits is None:
                found.append(models.measure(batch, None).values[own, sample, problem.main])
            else:
                logits, targets = models.logits(batch)
                found.append(logits[own, sample])
                classes.append(targets)
    values = torch.cat(found, 1)  # (C, N) or (C, N, classes)
    return torch.stack([calibrated_losses(v, torch.cat(classes)) for v in values]) if classes else values


def _trained(
    problem: Problem, weights: Tensor, training: Training, fold: Tensor, used: int, start: nn.Module, scale: Tensor
) -> Fleet:
    rows, device = rows_of(problem), scale.device
    names = problem.named(len(scale))
    size = training.batch_size or rows.batch_size or 64
    sampler = Sampler(rows.labelled, rows.others, batch_size=size, seed=training.seed)
    first = Sampler(rows.labelled, rows.others, batch_size=size, seed=training.seed).draw()
    models = fleet(
        problem,
        start,
        len(weights) * used,
        to_device(rows.take(first), device),
        rows.has_label[first].to(device),
    )
    descent = Descent(models.params, training, device, clip=models.clip)
    own = (torch.arange(models.size, device=device) % used)[:, None]
    each = weights.repeat_interleave(used, 0).clone()
    each[:, problem.main] = 0.0

    def total() -> Tensor:
        drawn = sampler.draw()
        with descent.autocast():
            measured = models.measure(to_device(rows.take(drawn), device), rows.has_label[drawn].to(device))
        refuse_broken(measured, names)
        measured = measured.over(scale)
        foreign = fold[drawn].to(device) != own  # (M, B); the rows of its own fold a model does not see at all
        kept = foreign & measured.present[:, problem.main]
        there = measured.present & foreign[:, :, None]
        means = torch.where(there, measured.values, 0.0).sum(1) / there.sum(1).clamp(min=1)
        main = (measured.values[..., problem.main] * kept).sum(1) / kept.sum(1).clamp(min=1)
        # A weight of the main loss other than 1 counts as the ratio that it is.
        ratio = weights[:, problem.main].repeat_interleave(used)
        return (ratio * main + (each * means).sum(1)).sum()

    for _ in range(training.steps):
        descent.step([total] * training.accumulate)
    return models
