"""Labelled rows and test rows of tables that ship with scikit-learn and mlxtend."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, final

import torch
from torch import Tensor

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn._extras import require
from auxilearn.data import Images, mnist_5k, sklearn_digits
from auxilearn.errors import InputError

ImageSet = Literal["digits", "mnist"]


@final
@dataclass(frozen=True)
class HpoTask:
    """Labelled rows, which methods may use as they like, and test rows, which only the score reads.

    Attributes:
        x: Shape (N, D).
        y: Targets or classes of these rows, shape (N,).
        test_x: Shape (T, D).
        test_y: Shape (T,).
        kinds: A word for each feature, D of them.
    """

    x: Tensor
    y: Tensor
    test_x: Tensor
    test_y: Tensor
    kinds: tuple[str, ...]


def diabetes_task(*, labels: int, seed: int, classes: bool = False) -> HpoTask:
    """Draw rows of scikit-learn's diabetes data: 442 patients, ten measurements with all their squares and products.

    Args:
        labels: How many rows are labelled; the others are the test rows.
        seed: The seed of the draw; the global random state is not touched.
        classes: Whether to ask if the disease progresses faster than in the median patient (0 or 1), rather than how
            fast, standardised by the labelled rows.

    Returns:
        The task, in float64, with 65 features standardised by the labelled rows.

    Raises:
        InputError: If ``labels`` is below 10, or leaves no test rows.

    Example:
        >>> task = diabetes_task(labels=120, seed=0)
        >>> tuple(task.x.shape), len(task.test_y), task.kinds.count("product")
        ((120, 65), 322, 45)
    """
    measured, progress = _diabetes()
    x, kinds = with_products(measured)
    y = (progress > progress.median()).double() if classes else progress
    rows, test = _drawn(len(y), labels, seed)
    if classes:
        rows = rows[y[rows].argsort(stable=True)]  # every fifth row is a stratified fold
    else:
        y = _standardised(y, rows)
    x = _standardised(x, rows)
    return HpoTask(x[rows], y[rows], x[test], y[test], kinds)


def image_task(dataset: ImageSet, *, labels: int, seed: int) -> HpoTask:
    """Draw images of digits.

    Args:
        dataset: ``"mnist"`` (14 × 14, 5,000 images) or ``"digits"`` (8 × 8, 1,797).
        labels: How many are labelled; the others are the test images.
        seed: The seed of the draw; the global random state is not touched.

    Returns:
        The task, in float32, with a feature for each pixel and classes from 0 to 9.

    Raises:
        InputError: If ``labels`` is below 10, or leaves no test images.
    """
    images = _images(dataset)
    x, y = images.pixels.flatten(1), images.classes
    rows, test = _drawn(len(y), labels, seed)
    rows = rows[y[rows].argsort(stable=True)]
    return HpoTask(x[rows], y[rows], x[test], y[test], ("pixel",) * x.shape[1])


def with_products(x: Tensor) -> tuple[Tensor, tuple[str, ...]]:
    """Add all squares and products of two features.

    Args:
        x: Shape (N, D).

    Returns:
        Shape (N, D (D + 3) / 2), and the word ``"feature"``, ``"square"`` or ``"product"`` for each column.

    Example:
        >>> with_products(torch.tensor([[2.0, 3.0]]))
        (tensor([[2., 3., 4., 6., 9.]]), ('feature', 'feature', 'square', 'product', 'square'))
    """
    width = x.shape[1]
    pairs = [(i, j) for i in range(width) for j in range(i, width)]
    first, second = (torch.tensor(side) for side in zip(*pairs, strict=True))
    kinds = ("feature",) * width + tuple("square" if i == j else "product" for i, j in pairs)
    return torch.cat([x, x[:, first] * x[:, second]], 1), kinds


def _drawn(size: int, labels: int, seed: int) -> tuple[Tensor, Tensor]:
    _checks.count("labels", labels, 10)
    if labels >= size:
        rule, cure = "Some rows must remain for the test.", "Ask for fewer labels."
        raise InputError(explain(rule, f"There are {size} rows for {labels} labels.", cure))
    order = torch.randperm(size, generator=torch.Generator().manual_seed(seed))
    return order[:labels], order[labels:]


def _standardised(values: Tensor, rows: Tensor) -> Tensor:
    known = values[rows]
    # A feature that is constant on these rows stays at zero there.
    return (values - known.mean(0)) / known.std(0).clamp(min=1e-6)


@lru_cache
def _diabetes() -> tuple[Tensor, Tensor]:
    datasets: Any = require("sklearn.datasets", extra="experiments")
    x, y = (torch.from_numpy(table) for table in datasets.load_diabetes(return_X_y=True))
    return x * len(x) ** 0.5, y  # the columns come with zero mean and unit norm


@lru_cache
def _images(dataset: ImageSet) -> Images:
    return mnist_5k() if dataset == "mnist" else sklearn_digits(side=8)
