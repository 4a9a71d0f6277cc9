"""Few labels, a pool without labels, and a test set."""

from dataclasses import dataclass
from typing import final

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn.errors import InputError


@final
@dataclass(frozen=True)
class Split:
    """Row numbers of three disjoint parts of a data set.

    Attributes:
        main: The few samples with labels, class by class, so that row i belongs to fold i modulo the number of folds
            and every fold is stratified.
        pool: Samples whose labels are not used.
        test: The rest.
    """

    main: Tensor
    pool: Tensor
    test: Tensor


def few_labels(classes: Tensor, *, seed: int, per_class: int, pool: int) -> Split:
    """Draw a few labelled samples of each class and a pool; the rest is the test set.

    Args:
        classes: The class of each sample, shape (N,).
        seed: The seed of the draw; the global random state is not touched.
        per_class: How many labelled samples of each class.
        pool: The size of the pool.

    Returns:
        The rows of the three parts.

    Raises:
        InputError: If there are not enough samples.

    Example:
        >>> split = few_labels(torch.arange(30) % 10, seed=0, per_class=1, pool=15)
        >>> len(split.main), len(split.pool), len(split.test)
        (10, 15, 5)
    """
    order = torch.randperm(len(classes), generator=torch.Generator().manual_seed(seed))
    present = sorted({int(c) for c in classes})
    chosen = [order[classes[order] == c][:per_class] for c in present]
    main = torch.cat(chosen)
    others = order[~torch.isin(order, main)]
    if any(len(rows) < per_class for rows in chosen) or len(others) <= pool:
        rule = "The data must have enough samples for the labels, the pool and a test set."
        finding = f"There are {len(classes)} in {len(present)} classes, for {per_class} a class and a pool of {pool}."
        raise InputError(explain(rule, finding, "Ask for fewer."))
    return Split(main, others[:pool], others[pool:])
