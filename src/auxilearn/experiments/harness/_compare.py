"""One cell's methods, each compared with ours, and what follows over all cells."""

import math
import statistics
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import final

from auxilearn.experiments.harness._experiment import Cell, Experiment, Result, Table
from auxilearn.experiments.harness._plan import BASIC, plain
from auxilearn.experiments.harness._statistics import Difference, holm, paired, sign_flips, standard_error

LEVEL = 0.05


@final
@dataclass(frozen=True)
class Line:
    """One method in one cell.

    Attributes:
        method: Its name.
        mean: Its mean score.
        error: The standard error.
        seeds: The number of its seeds.
        difference: Ours − it, over the seeds that both have; None for ours itself, and where they share none.
        holm: The p-value of the difference, adjusted for the number of baselines; None where it is no baseline.
        doubtful: Whether the t test and the test by sign flips disagree about the difference at 5 %.
        compute: Its processor time in units of a plain training run's, over the seeds that both have; None if unknown.
    """

    method: str
    mean: float
    error: float
    seeds: int
    difference: Difference | None
    holm: float | None
    doubtful: bool
    compute: float | None


@final
@dataclass(frozen=True)
class Comparison:
    """A cell's results.

    Attributes:
        cell: The cell.
        ours: The method that the others are compared with.
        lines: The methods that have results, in the cell's order.
        absent: The methods that have none.
        results: What the lines were made from: method to seed to result.
    """

    cell: Cell
    ours: str
    lines: tuple[Line, ...]
    absent: tuple[str, ...]
    results: Mapping[str, Mapping[int, Result]]

    @property
    def baselines(self) -> list[Line]:
        """The lines that ours has to beat: neither ours, nor a variant of it, nor an oracle."""
        return [line for line in self.lines if line.difference is not None and _is_baseline(line.method, self.ours)]

    @property
    def best(self) -> Line | None:
        """The strongest baseline: the one that ours gains the least on."""
        return min(self.baselines, key=lambda line: _mean(line), default=None)

    @property
    def wins(self) -> bool | None:
        """Whether ours is best or within one standard error of the best baseline; None with fewer than two seeds.

        The standard error is that of the paired difference, which is the smaller one where seeds are shared.
        """
        difference = None if self.best is None else self.best.difference
        if difference is None or any(math.isinf(d.error) for d in _differences(self.baselines)):
            return None
        return difference.mean + difference.error >= 0

    @property
    def above(self) -> list[str]:
        """The baselines that ours is above, by p-values adjusted for their number."""
        return [x.method for x in self.baselines if _mean(x) > 0 and x.holm is not None and x.holm < LEVEL]

    @property
    def below(self) -> list[str]:
        """The baselines that ours is below by the plain 95 % interval: what speaks against ours is not adjusted."""
        return [x.method for x in self.baselines if x.difference is not None and x.difference.below]

    @property
    def harms(self) -> bool | None:
        """Whether ours is below the best of the basic methods, by the plain 95 % interval; None if none has results."""
        gain = self.gain_on_basic()
        return None if gain is None else gain.below

    def gain_on_basic(self) -> Difference | None:
        """Compare ours with the strongest of main only, equal, and equal normalised.

        Returns:
            The smallest of the differences; None if none of these methods has results.
        """
        basic = [line.difference for line in self.baselines if line.method in BASIC and line.difference is not None]
        return min(basic, key=lambda difference: difference.mean, default=None)

    def verdict(self) -> str:
        """Say where ours stands.

        Returns:
            One or two sentences.
        """
        if self.best is None:
            return f"There is no baseline to compare {self.ours} with."
        if self.wins is None:
            return "One seed says nothing about differences: run more."
        rank = "is best, or within one s.e. of the best" if self.wins else "is more than one s.e. below the best"
        words = f"Of {len(self.baselines) + 1} methods, {self.ours} {rank} baseline ({self.best.method})."
        if self.below:
            words += f" It is below {_listed(self.below)} beyond the interval."
        return words + f" It is above {len(self.above)} of {len(self.baselines)} baselines (Holm, 5 %)."


def compare(cell: Cell, results: Mapping[str, Mapping[int, Result]], ours: str) -> Comparison:
    """Compare the methods of a cell with ours, seed by seed.

    Args:
        cell: The cell.
        results: Its results: method to seed to result. A method may lack seeds that others have.
        ours: The method to compare the others with.

    Returns:
        The comparison.
    """
    present = [method for method in cell.methods if results.get(method)]
    pairs = {method: _pairs(results, ours, method) for method in present if method != ours}
    differences = {method: paired(a, b) for method, (a, b) in pairs.items() if a}
    rivals = [method for method in differences if _is_baseline(method, ours)]
    adjusted = dict(zip(rivals, holm([differences[method].p for method in rivals]), strict=True))
    lines: list[Line] = []
    for method in present:
        scores = [result.score for result in results[method].values()]
        difference = differences.get(method)
        lines.append(
            Line(
                method,
                statistics.fmean(scores),
                standard_error(scores),
                len(scores),
                difference,
                adjusted.get(method),
                difference is not None and _doubtful(difference, *pairs[method]),
                _compute(results, plain(cell), method),
            )
        )
    absent = tuple(method for method in cell.methods if method not in present)
    return Comparison(cell, ours, tuple(lines), absent, results)


def comparisons(experiment: Experiment, table: Table, ours: str | None = None) -> list[Comparison]:
    """Compare the methods of every cell that has results.

    Args:
        experiment: The experiment.
        table: Its results.
        ours: The method to compare the others with; the experiment's own by default.

    Returns:
        One comparison a cell; cells without results of ``ours`` are left out.
    """
    ours = experiment.ours if ours is None else ours
    return [compare(cell, table[cell.name], ours) for cell in experiment.cells if ours in table.get(cell.name, {})]


@final
@dataclass(frozen=True)
class Summary:
    """In how many cells ours stands well.

    Attributes:
        cells: The cells that can be judged: those with a baseline and two seeds or more.
        wins: Those where ours is best or within one s.e. of the best baseline.
        harmed: The names of those where ours is below the best basic method beyond the plain interval.
        above: How many comparisons with a baseline ours wins, adjusted within its cell.
        below: How many it loses beyond the plain interval.
        total: How many there are.
    """

    cells: int
    wins: int
    harmed: tuple[str, ...]
    above: int
    below: int
    total: int

    def __str__(self) -> str:
        if not self.cells:
            return "No cell can be judged yet: it needs a baseline and two seeds."
        share = f"{self.wins} of {self.cells} cells ({self.wins / self.cells:.0%})"
        harm = "in none" if not self.harmed else f"in {len(self.harmed)} ({_listed(self.harmed)})"
        return (
            f"Best, or within one s.e. of the best baseline, in {share}. Below the best of main only and both equal "
            f"weights, beyond the interval: {harm}. Against single baselines: above in {self.above} of {self.total} "
            f"comparisons (Holm within a cell, 5 %), below in {self.below} (not adjusted)."
        )


def summary(found: Iterable[Comparison]) -> Summary:
    """Count over cells.

    Args:
        found: The comparisons, of one experiment or of several.

    Returns:
        The counts.
    """
    judged = [comparison for comparison in found if comparison.wins is not None]
    return Summary(
        len(judged),
        sum(bool(comparison.wins) for comparison in judged),
        tuple(comparison.cell.name for comparison in judged if comparison.harms),
        sum(len(comparison.above) for comparison in judged),
        sum(len(comparison.below) for comparison in judged),
        sum(len(comparison.baselines) for comparison in judged),
    )


def _is_baseline(method: str, ours: str) -> bool:
    # By the convention of `Cell.methods`: an oracle knows what no method may know; "ours, ..." is a variant of ours.
    return method != ours and not method.startswith(("oracle", f"{ours},"))


def _pairs(results: Mapping[str, Mapping[int, Result]], a: str, b: str) -> tuple[list[float], list[float]]:
    shared = sorted(results.get(a, {}).keys() & results[b].keys())
    return [results[a][seed].score for seed in shared], [results[b][seed].score for seed in shared]


def _doubtful(difference: Difference, a: list[float], b: list[float]) -> bool:
    # Below six seeds the test by sign flips cannot reach 5 %, so that it says nothing.
    if len(a) < 6:
        return False
    return (difference.p < LEVEL) != (sign_flips([x - y for x, y in zip(a, b, strict=True)]) < LEVEL)


def _compute(results: Mapping[str, Mapping[int, Result]], base: str, method: str) -> float | None:
    shared = results.get(base, {}).keys() & results[method].keys()
    spent = sum(results[base][seed].seconds for seed in shared)
    return sum(results[method][seed].seconds for seed in shared) / spent if spent > 0 else None


def _mean(line: Line) -> float:
    return float("inf") if line.difference is None else line.difference.mean


def _differences(lines: Iterable[Line]) -> list[Difference]:
    return [line.difference for line in lines if line.difference is not None]


def _listed(names: Iterable[str]) -> str:
    return ", ".join(names)
