"""How much better a method is than single tasks, over metrics of different units."""

import math
from collections.abc import Iterable, Mapping

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.experiments.reproduce._reproduction import Metric


def delta(row: Mapping[str, float], single: Mapping[str, float], metrics: Iterable[Metric]) -> float:
    r"""Compute Δ, the mean relative change against single-task training; positive is better.

    .. math:: \Delta = \frac{100}{T} \sum_{i=1}^T (-1)^{l_i} \frac{M_i - S_i}{S_i},
        \qquad l_i = 1 \text{ where lower is better}

    Some later work has the opposite sign.

    Args:
        row: M: metrics of the method, by name.
        single: S: those of networks that were trained on the metric's task alone.
        metrics: Which, at least one.

    Returns:
        In percent.

    Raises:
        InputError: If a metric is missing, a number is not finite, or one of a single task is 0.

    Example:
        >>> metrics = [Metric("mIoU"), Metric("absolute error", "m", "lower")]
        >>> round(delta({"mIoU": 44.0, "absolute error": 0.45}, {"mIoU": 40.0, "absolute error": 0.5}, metrics), 6)
        10.0

    References:
        Maninis, Radosavovic, Kokkinos, "Attentive single-tasking of multiple tasks", CVPR 2019, equation 4.
    """
    changes: list[float] = []
    rule = "Δ must be over at least one metric, with finite numbers for each, those of single tasks not 0."
    for metric in metrics:
        found, base = row.get(metric.name, math.nan), single.get(metric.name, math.nan)
        if not (math.isfinite(found) and math.isfinite(base)) or base == 0:
            finding = f"`{metric.name}` is {found} against {base}."
            raise InputError(explain(rule, finding, "Measure both, or leave the metric out."))
        sign = 1 if metric.better == "higher" else -1
        changes.append(sign * (found - base) / base)
    if not changes:
        raise InputError(explain(rule, "There is none.", "Name some."))
    return 100 * sum(changes) / len(changes)
