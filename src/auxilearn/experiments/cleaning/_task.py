"""Real digits of which many labels are replaced at random, beside a small set of clean ones."""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, final

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn.data import CLASSES, Images, mnist_5k, sklearn_digits
from auxilearn.errors import InputError

Dataset = Literal["mnist", "digits"]


@final
@dataclass(frozen=True)
class CleaningTask:
    """Clean samples, noisy samples, and a test set.

    Attributes:
        clean_x: Shape (C, features).
        clean_y: Shape (C,), in blocks of ten that hold each class once, so that blocks make stratified folds.
        noisy_x: Shape (N, features).
        noisy_y: The labels that methods see, shape (N,).
        right: Which of them are right, shape (N,), by luck of the draw too; for oracles and reports only.
        test_x: Shape (T, features).
        test_y: Shape (T,).
    """

    clean_x: Tensor
    clean_y: Tensor
    noisy_x: Tensor
    noisy_y: Tensor
    right: Tensor
    test_x: Tensor
    test_y: Tensor

    @property
    def x(self) -> Tensor:
        """The clean samples, then the noisy ones, shape (C + N, features)."""
        return torch.cat([self.clean_x, self.noisy_x])

    @property
    def y(self) -> Tensor:
        """Their labels, shape (C + N,)."""
        return torch.cat([self.clean_y, self.noisy_y])

    def weights(self, clean: float, noisy: Tensor | float) -> Tensor:
        """Return one weight for each sample.

        Args:
            clean: The weight of every clean sample.
            noisy: That of the noisy ones, shape (N,) or one number.

        Returns:
            Shape (C + N,).
        """
        c, n = len(self.clean_y), len(self.noisy_y)
        return torch.cat([torch.full((c,), clean), torch.as_tensor(noisy, dtype=torch.float32).expand(n)])


def cleaning_task(dataset: Dataset, *, rate: float, clean: int, noisy: int = 1000, seed: int) -> CleaningTask:
    """Draw a task.

    Args:
        dataset: ``"mnist"`` (14 × 14, 5,000 images) or ``"digits"``.
        rate: The probability that a label of the noisy samples is replaced by a random class, the right one included.
        clean: How many clean samples, a multiple of ten.
        noisy: How many noisy samples.
        seed: The seed of the draw; the global random state is not touched.

    Returns:
        The task.

    Raises:
        InputError: If there are not enough samples, or ``clean`` is no multiple of ten.

    Example:
        >>> task = cleaning_task("digits", rate=0.5, clean=100, seed=0)
        >>> tuple(task.x.shape), len(task.test_y), bool(0.45 < task.right.float().mean() < 0.65)
        ((1100, 196), 697, True)
    """
    images = _images(dataset)
    x, y = images.pixels.flatten(1), images.classes
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(len(y), generator=generator)
    classes = [order[y[order] == k][: clean // CLASSES] for k in range(CLASSES)]
    if clean % CLASSES or clean < CLASSES or any(len(rows) < clean // CLASSES for rows in classes):
        rule = "`clean` must be a multiple of ten, with enough samples of every class."
        raise InputError(explain(rule, f"It is {clean}.", "Ask for 100."))
    chosen = torch.stack(classes, 1).flatten()
    others = order[~torch.isin(order, chosen)]
    if noisy >= len(others):
        rule = "Some samples must remain for the test."
        raise InputError(explain(rule, f"There are {len(others)} for {noisy} noisy ones.", "Ask for fewer."))
    rows, test = others[:noisy], others[noisy:]
    replaced = torch.rand(noisy, generator=generator) < rate
    labels = torch.where(replaced, torch.randint(0, CLASSES, (noisy,), generator=generator), y[rows])
    return CleaningTask(x[chosen], y[chosen], x[rows], labels, labels == y[rows], x[test], y[test])


@lru_cache
def _images(dataset: Dataset) -> Images:
    return mnist_5k() if dataset == "mnist" else sklearn_digits()
