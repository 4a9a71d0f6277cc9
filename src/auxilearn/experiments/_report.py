"""The table and the verdict of one part, in words."""

import statistics
from collections import Counter
from dataclasses import dataclass
from typing import final

from rich.table import Table

from auxilearn.experiments._study import EQUAL, LEARNED, MAIN, OURS, PLAIN, RAW, Outcome
from auxilearn.experiments.harness._statistics import Difference, paired, standard_error

TUNED = "equal, scale tuned on the test set"


@final
@dataclass(frozen=True)
class Row:
    """One method's line.

    Attributes:
        name: The method.
        mean: Its mean accuracy in percent.
        error: The standard error.
        to_main: Its difference to main only.
        to_equal: Its difference to the best variant of equal weights.
        ours: The difference of ours to it.
    """

    name: str
    mean: float
    error: float
    to_main: Difference
    to_equal: Difference
    ours: Difference


def rows(outcome: Outcome) -> list[Row]:
    """Compare every method with main only, with the best equal variant, and with ours.

    All scaled variants become one row, the one that is best on the test set over all seeds: no choice among these
    scales without test labels could do better.

    Args:
        outcome: The results.

    Returns:
        The lines, in the order in which the methods ran.
    """
    shown = _shown(outcome)
    equal = max((name for name in shown if name.startswith("equal")), key=lambda name: statistics.fmean(shown[name]))
    return [
        Row(
            name,
            statistics.fmean(values),
            standard_error(values),
            paired(values, shown[MAIN]),
            paired(values, shown[equal]),
            paired(shown[OURS], values),
        )
        for name, values in shown.items()
    ]


def table(title: str, outcome: Outcome) -> Table:
    """Lay the rows out for a terminal.

    Args:
        title: The title.
        outcome: The results.

    Returns:
        A table for Rich.
    """
    out = Table(title=f"{title} ({len(outcome.seeds)} paired seeds)")
    out.add_column("method")
    for heading in ("accuracy, %", "− main only", "− best equal", "ours − it"):
        out.add_column(heading, justify="right")
    for row in rows(outcome):
        cells = [f"{row.mean:.1f} ± {row.error:.1f}", *map(_cell, (row.to_main, row.to_equal, row.ours))]
        out.add_row(row.name, *cells, style="bold" if row.name == OURS else None)
    out.caption = "accuracy: mean ± s.e.; differences: mean ± half the 95 % interval, paired by seed"
    return out


def verdict(outcome: Outcome) -> str:
    """Say what the gate did, and which rows but its own variants ours beats beyond the paired interval.

    Args:
        outcome: The results.

    Returns:
        Two or three sentences.
    """
    count, t = len(outcome.seeds), outcome.t[LEARNED]
    passed = ", ".join(f"{name} in {times}" for name, times in Counter(outcome.chosen).items())
    range_of_t = f"{min(t):.1f} to {max(t):.1f}"
    words = f"Of {count} seeds the gate chose {passed} (t of learned against main only: {range_of_t}; it needs 2)."
    if set(outcome.chosen) == {MAIN}:
        return f"{words} No auxiliary loss earned its place: ours fell back to main only in every seed."
    rivals = [row for row in rows(outcome) if row.name not in (OURS, LEARNED, PLAIN)]
    missed = [row.name for row in rivals if not row.ours.beyond]
    words += f" Ours is beyond the interval above {len(rivals) - len(missed)} of {len(rivals)} other rows"
    return words + (f"; not above: {', '.join(missed)}." if missed else ".")


def _shown(outcome: Outcome) -> dict[str, list[float]]:
    scaled = {name: values for name, values in outcome.accuracy.items() if "×" in name or name in (RAW, EQUAL)}
    best = max(scaled, key=lambda name: statistics.fmean(scaled[name]))
    shown: dict[str, list[float]] = {}
    for name, values in outcome.accuracy.items():
        if "×" not in name:
            shown[name] = values
        if name == EQUAL:
            shown[f"{TUNED}: {best.removeprefix('equal, ')}"] = scaled[best]
    return shown


def _cell(difference: Difference) -> str:
    return "–" if difference.mean == difference.half == 0 else str(difference)
