"""Errors of depth."""

from typing import final

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn.errors import InputError


@final
class DepthErrors:
    r"""Absolute and relative error, as means over all pixels of the data set whose depth is known.

    .. math:: \frac1N \sum_p |\hat d_p - d_p|, \qquad \frac1N \sum_p \frac{|\hat d_p - d_p|}{d_p}, \qquad d_p \neq 0

    MTAN averages such means of batches, which is the same only if all have equally many known pixels.

    Example:
        >>> errors = DepthErrors()
        >>> errors.update(torch.tensor([1.0, 5.0, 3.0]), torch.tensor([2.0, 4.0, 0.0]))
        >>> errors.compute()
        {'absolute error': 1.0, 'relative error': 0.375}
    """

    def __init__(self) -> None:
        self._sums = torch.zeros(2, dtype=torch.float64)
        self._pixels = 0

    def update(self, guess: Tensor, truth: Tensor) -> None:
        """Count a batch.

        Args:
            guess: Depths, any shape.
            truth: Depths, the same shape; 0 is unknown.

        Raises:
            InputError: If the shapes differ.
        """
        if guess.shape != truth.shape:
            rule, finding = "Guess and truth must have one shape.", f"{tuple(guess.shape)} and {tuple(truth.shape)}."
            raise InputError(explain(rule, finding, "Keep the channel of the depth."))
        known = truth != 0
        wanted = truth[known].double()
        errors = (guess[known].double() - wanted).abs()
        self._sums += torch.stack([errors.sum(), (errors / wanted).sum()]).cpu()
        self._pixels += int(known.sum())

    def compute(self) -> dict[str, float]:
        """Return the metrics.

        Returns:
            The mean absolute error in the data's unit, and the mean relative error, by name.

        Raises:
            InputError: If no depth was known, or a guess was NaN or infinite.
        """
        rule = "Depth must be measured on known pixels, with finite guesses."
        if not self._pixels:
            raise InputError(explain(rule, "No depth is known.", "Check the data; 0 is unknown."))
        absolute, relative = (float(value) / self._pixels for value in self._sums)
        if not bool(self._sums.isfinite().all()):
            raise InputError(explain(rule, f"The mean error is {absolute}.", "Look where the training diverged."))
        return {"absolute error": absolute, "relative error": relative}
