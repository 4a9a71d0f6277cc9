"""Stratified choices of main labels."""

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn.errors import InputError


def folds_of(labels: Tensor | None, count: int, folds: int, *, seed: int) -> Tensor:
    """Assign each labelled sample to a fold, as evenly within each class as can be.

    Args:
        labels: The class of each, shape (N,); None deals them out at random.
        count: N.
        folds: The number of folds.
        seed: The seed of the deal.

    Returns:
        The fold of each, integers from 0, shape (N,).

    Raises:
        InputError: If a fold would be empty.

    Example:
        >>> folds_of(torch.tensor([0, 0, 1, 1]), 4, 2, seed=0).sort().values.tolist()
        [0, 0, 1, 1]
    """
    if count < folds:
        rule = "Every fold must hold a main label."
        raise InputError(explain(rule, f"There are {count} labels for {folds} folds.", "Use fewer folds."))
    fold = torch.empty(count, dtype=torch.long)
    fold[_dealt(labels, count, seed)] = torch.arange(count) % folds
    return fold


def held_out(labels: Tensor | None, count: int, share: float, *, seed: int) -> Tensor:
    """Choose labelled samples to hold out, as evenly from each class as can be.

    Args:
        labels: The class of each, shape (N,); None chooses at random.
        count: N.
        share: Which share of them.
        seed: The seed of the choice.

    Returns:
        Their numbers, class by class, so that every second one is a stratified half; ``share`` of N, rounded down.

    Example:
        >>> len(held_out(torch.tensor([0, 0, 0, 1, 1, 1]), 6, 0.4, seed=0))
        2
    """
    due = torch.arange(count + 1, dtype=torch.float64).mul(share).add(1e-9).floor()
    return _dealt(labels, count, seed)[due.diff() > 0]


def parts_of(labelled: Tensor, labels: Tensor | None, share: float, *, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Divide labelled rows into those that are trained on, the outer set, and as many that only watch it.

    Args:
        labelled: The rows, (N,).
        labels: Their classes, (N,), or None.
        share: The share of them to hold out.
        seed: The seed of the choice.

    Returns:
        The rows of the three parts.

    Raises:
        InputError: If fewer than two would be held out.
    """
    held = held_out(labels, len(labelled), share, seed=seed)
    if len(held) < 2:
        rule, cure = "`HeldOut` needs at least two labels to hold out.", "Hold out more, or use `CrossFit`."
        raise InputError(explain(rule, f"{share} of {len(labelled)} are {len(held)}.", cure))
    kept = torch.ones(len(labelled), dtype=torch.bool)
    kept[held] = False
    return labelled[kept], labelled[held[::2]], labelled[held[1::2]]


def _dealt(labels: Tensor | None, count: int, seed: int) -> Tensor:
    # All samples in random order, class by class if there are classes.
    order = torch.randperm(count, generator=torch.Generator().manual_seed(seed))
    return order if labels is None else order[labels.cpu()[order].argsort(stable=True)]
