"""Paired comparison over seeds: intervals, p-values for several comparisons, and a check that assumes less."""

import itertools
import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch

from auxilearn._extras import require

# All sign flips of 13 differences are 8,192; beyond that, as many random ones are drawn.
_EXACT = 13


@final
@dataclass(frozen=True)
class Difference:
    """A mean paired difference with its 95 % t interval.

    Attributes:
        mean: The mean of the differences.
        half: Half the width of the interval.
        error: The standard error of the mean.
        p: The two-sided p-value of Student's paired t test; 1 for a single seed.
    """

    mean: float
    half: float
    error: float
    p: float

    @property
    def beyond(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.mean - self.half > 0

    @property
    def below(self) -> bool:
        """Whether the whole interval lies below zero."""
        return self.mean + self.half < 0

    def __str__(self) -> str:
        return f"{self.mean:+.1f} ± {self.half:.1f}"


def paired(a: Sequence[float], b: Sequence[float]) -> Difference:
    """Compare two methods seed by seed.

    Args:
        a: Results of one method, by seed.
        b: Results of the other, in the same order.

    Returns:
        The mean of a − b with its interval; infinitely wide for a single seed.

    Example:
        >>> str(paired([3.0, 4.0, 5.0], [1.0, 2.0, 2.0]))
        '+2.3 ± 1.4'
    """
    differences = [x - y for x, y in zip(a, b, strict=True)]
    mean = statistics.fmean(differences)
    error = standard_error(differences)
    if len(differences) < 2:
        return Difference(mean, math.inf, error, 1.0)
    student: Any = require("scipy.stats", extra="experiments").t
    half = float(student.ppf(0.975, len(differences) - 1)) * error
    if error == 0:  # the same difference in every seed: Student's t is 0/0 or infinite
        return Difference(mean, half, error, 1.0 if mean == 0 else 0.0)
    return Difference(mean, half, error, 2 * float(student.sf(abs(mean) / error, len(differences) - 1)))


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean.

    Args:
        values: The sample.

    Returns:
        The error; infinite for a single value.
    """
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf


def holm(p: Sequence[float]) -> list[float]:
    """Adjust p-values for their number: the chance of any false rejection stays below the level.

    With p₁ ≤ … ≤ pₘ, the adjusted values are max over j ≤ i of min(1, (m − j + 1) pⱼ).

    Args:
        p: The p-values.

    Returns:
        The adjusted ones, in the same order.

    Example:
        >>> holm([0.01, 0.04, 0.03])
        [0.03, 0.06, 0.06]

    References:
        Holm, *A simple sequentially rejective multiple test procedure*, Scandinavian Journal of Statistics 6 (1979).
    """
    order = sorted(range(len(p)), key=lambda i: p[i])
    adjusted, so_far = [0.0] * len(p), 0.0
    for rank, i in enumerate(order):
        so_far = max(so_far, min(1.0, (len(p) - rank) * p[i]))
        adjusted[i] = so_far
    return adjusted


def sign_flips(differences: Sequence[float]) -> float:
    """Test that paired differences are symmetric around zero, without assuming that they are normal.

    The p-value is the share of all 2ⁿ choices of signs whose mean is at least as far from zero. For many seeds it is
    estimated from 8,192 random choices.

    Args:
        differences: One for each seed.

    Returns:
        The two-sided p-value. It cannot be less than 2¹⁻ⁿ, so that below 6 seeds it says nothing at the level of 5 %.

    Example:
        >>> sign_flips([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
        0.03125

    References:
        Fisher, *The Design of Experiments* (1935), section 21.
    """
    values = torch.tensor(differences, dtype=torch.float64)
    if len(values) <= _EXACT:
        signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=len(values))), dtype=torch.float64)
    else:
        random = torch.Generator().manual_seed(0)
        signs = torch.randint(2, (2**_EXACT, len(values)), generator=random, dtype=torch.float64) * 2 - 1
        signs[0] = 1  # the choice that was observed is one of them
    sums = (signs @ values).abs()
    # Rounding must not part a sum from its mirror image.
    return float((sums >= values.sum().abs() * (1 - 1e-9)).double().mean())
