"""Paired timing: two functions in turn, and the ratio pair by pair, so that a drifting machine cancels."""

import statistics
import time
from collections.abc import Callable

import torch


def paired_ratio(ours: Callable[[], object], floor: Callable[[], object], *, pairs: int = 31) -> tuple[float, float]:
    """Return the median of ours ÷ floor over pairs, and the median time of the floor in milliseconds."""
    for _ in range(3):
        ours()
        floor()
    ratios: list[float] = []
    times: list[float] = []
    for k in range(pairs):
        first, second = (ours, floor) if k % 2 else (floor, ours)
        a, b = _time(first), _time(second)
        mine, bare = (a, b) if k % 2 else (b, a)
        ratios.append(mine / bare)
        times.append(bare)
    return statistics.median(ratios), statistics.median(times) * 1e3


def _time(f: Callable[[], object]) -> float:
    _finish()
    start = time.perf_counter()
    f()
    _finish()
    return time.perf_counter() - start


def _finish() -> None:
    # A GPU works behind Python's back.
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
