"""Paired comparison over seeds."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

from auxilearn._extras import require


@final
@dataclass(frozen=True)
class Difference:
    """A mean paired difference with its 95 % t interval.

    Attributes:
        mean: The mean of the differences.
        half: Half the width of the interval.
    """

    mean: float
    half: float

    @property
    def beyond(self) -> bool:
        """Whether the whole interval lies above zero."""
        return self.mean - self.half > 0

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
    if len(differences) < 2:
        return Difference(mean, math.inf)
    distributions: Any = require("scipy.stats", extra="experiments")
    quantile = float(distributions.t.ppf(0.975, len(differences) - 1))
    return Difference(mean, quantile * standard_error(differences))


def standard_error(values: Sequence[float]) -> float:
    """Return the standard error of the mean.

    Args:
        values: The sample.

    Returns:
        The error; infinite for a single value.
    """
    return statistics.stdev(values) / math.sqrt(len(values)) if len(values) > 1 else math.inf
