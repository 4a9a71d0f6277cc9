"""Looks at a model that change nothing."""

import torch
from torch import Tensor, nn

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.training._data import Rows
from auxilearn.training._looped import Looped
from auxilearn.training._problem import Measured, Problem, by_name
from auxilearn.training._returned import refuse_broken
from auxilearn.training._sampler import Sampler, chunks


@torch.no_grad()
def initial_losses(problem: Problem, rows: Rows, model: nn.Module, *, seed: int, needed: bool = True) -> Tensor:
    """Return the mean absolute value of each loss of the untrained model, over at most 512 rows of each kind.

    Where a loss does not exist for any of them, all rows are read.

    Args:
        problem: The problem.
        rows: Its data.
        model: The untrained model.
        seed: Decides which rows.
        needed: Whether they are to be units; if not, 1 stands for a loss that is zero or absent.

    Returns:
        Shape (K,), on the model's device, in at least single precision.

    Raises:
        InputError: If the losses break a rule, or one of them is zero or absent.
    """
    alone = Looped(problem, [model])
    drawn = Sampler(rows.labelled, rows.others, batch_size=512, seed=seed).draw()
    total, count = _sums(problem, rows, alone, chunks(drawn, 2 * rows.piece))
    if needed and not bool((count > 0).all()):
        total, count = _sums(problem, rows, alone, chunks(torch.arange(rows.size), rows.piece))
    scale = total / count.clamp(min=1)
    if not bool((scale > 0).all()):
        if needed:
            found = ", ".join(f"`{name}`" for name, s in by_name(problem.named(len(scale)), scale).items() if not s > 0)
            rule = "Every loss of the untrained model must be above 0 somewhere, to be the unit of that loss."
            raise InputError(explain(rule, f"It is 0 or absent: {found}.", "Leave the loss out, or mend it."))
        scale = torch.where(scale > 0, scale, torch.ones_like(scale))
    return scale


def _sums(problem: Problem, rows: Rows, alone: Looped, parts: list[Tensor]) -> tuple[Tensor, Tensor]:
    measured = [_measured(problem, rows, alone, part) for part in parts]
    total = torch.stack([part.values.abs().sum((0, 1)) for part in measured]).sum(0)
    return total, torch.stack([part.present.sum(0) for part in measured]).sum(0)


def _measured(problem: Problem, rows: Rows, alone: Looped, chosen: Tensor) -> Measured:
    with alone.second_order():
        measured = alone.measure(*rows.batch(chosen, alone.device))
    measured = measured.over(torch.ones(measured.values.shape[-1], device=alone.device))
    refuse_broken(measured, problem.named(measured.values.shape[-1]))
    return measured


@torch.no_grad()
def main_losses(problem: Problem, rows: Rows, model: nn.Module, chosen: Tensor) -> Tensor:
    """Return the main loss of some labelled samples, in evaluation mode.

    Args:
        problem: The problem.
        rows: Its data.
        model: The model; it is left in evaluation mode.
        chosen: Row numbers with main labels, (N,).

    Returns:
        Shape (N,).

    Raises:
        InputError: If one is not finite.
    """
    alone = Looped(problem, [model.eval()])
    parts = [_measured(problem, rows, alone, part).values for part in chunks(chosen, rows.piece)]
    return torch.cat([part[0, :, problem.main] for part in parts])


@torch.no_grad()
def main_labels(problem: Problem, rows: Rows, model: nn.Module) -> Tensor | None:
    """Return the class of each labelled row.

    Args:
        problem: The problem.
        rows: Its data.
        model: Any model of the problem.

    Returns:
        Shape (N,), on the CPU; None if the problem has no ``logits``.

    Raises:
        InputError: If a class has no logit; found here, for nothing else reads classes before the search is over.
    """
    if problem.logits is None:
        return None
    alone = Looped(problem, [model])
    with alone.second_order():
        parts = [alone.logits(rows.batch(part, alone.device)[0]) for part in chunks(rows.labelled, rows.piece)]
    labels, classes = torch.cat([found for _, found in parts]).cpu(), parts[0][0].shape[-1]
    if len(labels) != len(rows.labelled):
        rule = "`logits` must return a row for each sample of the batch."
        finding = f"There are {len(labels)} for {len(rows.labelled)} samples."
        raise InputError(explain(rule, finding, "Return `model(x), y` of the whole batch."))
    if not bool(((labels >= 0) & (labels < classes)).all()):
        rule = f"`logits` must return classes from 0 to {classes - 1}, for as many logits."
        finding = f"They range from {int(labels.min())} to {int(labels.max())}."
        raise InputError(
            explain(rule, finding, "Number the classes from 0, or leave rows without one out of `labelled`.")
        )
    return labels
