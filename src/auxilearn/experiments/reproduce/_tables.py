"""A cell as a table: what was measured here beside what others state."""

import csv
import statistics
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from rich.table import Table as RichTable

from auxilearn.experiments.reproduce._reproduction import Metric, PaperCell, Stated
from auxilearn.experiments.reproduce.metrics import delta

Measured = Mapping[str, Mapping[int, Mapping[str, float]]]
"""By method and seed, the metrics."""


class Grid(NamedTuple):
    """A table of words.

    Attributes:
        headings: Of the columns.
        rows: A word for each column.
    """

    headings: list[str]
    rows: list[list[str]]


def grid(cell: PaperCell, measured: Measured, *, absent: str = "", only: Sequence[str] | None = None) -> Grid:
    """Lay a cell out: for each metric what was measured here, then what each source states.

    Args:
        cell: The cell.
        measured: What was measured here.
        absent: What stands where nothing was measured.
        only: The methods with a row; None: all.

    Returns:
        The table; rows that only others have come last.
    """
    columns: list[tuple[Metric, int | None]] = []
    for metric in cell.metrics:
        columns.append((metric, None))
        for number, source in enumerate(cell.literature):
            if any(metric.name in row for row in source.rows.values()):
                columns.append((metric, number))
    single = _single(cell, measured)
    headings = ["method"]
    for metric, number in columns:
        unit = f", {metric.unit}" if metric.unit else ""
        headings.append(f"{metric.name}{unit}" if number is None else cell.literature[number].source)
    if single:
        headings.append("Δ, %")
    rows: list[list[str]] = []
    for method in [*(m for m in cell.methods if only is None or m in only), *_only_theirs(cell)]:
        words = [method]
        for metric, number in columns:
            if number is not None:
                words.append(_stated(cell.literature[number].rows.get(cell.same.get(method, method), {}), metric))
            else:
                words.append(_ours(measured.get(method, {}), metric) or (absent if method in cell.methods else ""))
        if single:
            words.append(_delta(cell, measured.get(method, {}), single))
        rows.append(words)
    return Grid(headings, rows)


def terminal_tables(
    cell: PaperCell, measured: Measured, *, width: int, only: Sequence[str] | None = None
) -> list[RichTable]:
    """Lay a cell out for a terminal, in as many tables as its width needs.

    Args:
        cell: The cell.
        measured: What was measured here.
        width: The characters of a line.
        only: The methods with a row; None: all.

    Returns:
        Tables for Rich. A row that would be empty is left out.
    """
    words = grid(cell, measured, only=only)
    seeds = max((len(by_seed) for by_seed in measured.values()), default=0)
    title = f"{cell.name} ({seeds} seed{'' if seeds == 1 else 's'})"
    found: list[RichTable] = []
    narrow = _widths(words)
    whole = [max(len(heading), least) for heading, least in zip(words.headings, narrow, strict=True)]
    for columns in _fitting(words, width):
        # Headings stay in one line where there is room for all of them.
        widths = whole if 1 + sum(3 + whole[number] for number in (0, *columns)) <= width else narrow
        table = RichTable(title=None if found else title, title_justify="left")
        table.add_column(words.headings[0], no_wrap=True)
        for number in columns:
            table.add_column(words.headings[number], justify="right", width=widths[number])
        for row in words.rows:
            if any(row[number] for number in columns):
                style = "bold" if row[0] == cell.ours else ""
                table.add_row(row[0], *(row[number] for number in columns), style=style)
        found.append(table)
    return found


def _fitting(words: Grid, width: int) -> list[list[int]]:
    # Columns, but for the first, in groups that fit beside it; a heading may break between its words.
    first, *others = (3 + width for width in _widths(words))
    groups: list[list[int]] = []
    left = 0
    for number, needed in enumerate(others, 1):
        if not groups or needed > left:
            groups.append([])
            left = width - first - 1
        groups[-1].append(number)
        left -= needed
    return groups


def _widths(words: Grid) -> list[int]:
    return [
        max([0, *map(len, heading.split()), *(len(row[number]) for row in words.rows)])
        for number, heading in enumerate(words.headings)
    ]


def markdown_table(cell: PaperCell, measured: Measured, *, absent: str = "", only: Sequence[str] | None = None) -> str:
    """Write a cell in Markdown.

    Args:
        cell: The cell.
        measured: What was measured here.
        absent: What stands where nothing was measured.
        only: The methods with a row; None: all.

    Returns:
        The table's lines.
    """
    words = grid(cell, measured, absent=absent, only=only)
    rule = ["---", *("---:" for _ in words.headings[1:])]
    lines = [words.headings, rule, *words.rows]
    return "\n".join(f"| {' | '.join(word.replace('|', chr(92) + '|') for word in line)} |" for line in lines)


def write_csv(file: Path, cell: PaperCell, measured: Measured) -> None:
    """Write every run of a cell, one line each.

    Args:
        file: The file.
        cell: The cell.
        measured: What was measured here.
    """
    names = [metric.name for metric in cell.metrics]
    with file.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["method", "seed", *names])
        for method, by_seed in measured.items():
            for seed, values in by_seed.items():
                writer.writerow([method, seed, *(values.get(name, "") for name in names)])


def _only_theirs(cell: PaperCell) -> list[str]:
    known = {cell.same.get(method, method) for method in cell.methods}
    return list(dict.fromkeys(name for source in cell.literature for name in source.rows if name not in known))


def _single(cell: PaperCell, measured: Measured) -> dict[str, float]:
    # Each metric of Δ where its task is trained alone, a mean over seeds; nothing while one is missing.
    found: dict[str, float] = {}
    for metric, method in cell.single.items():
        values = [values[metric] for values in measured.get(method, {}).values() if metric in values]
        if not values:
            return {}
        found[metric] = statistics.fmean(values)
    return found


def _delta(cell: PaperCell, by_seed: Mapping[int, Mapping[str, float]], single: Mapping[str, float]) -> str:
    metrics = [metric for metric in cell.metrics if metric.name in single]
    values = [delta(values, single, metrics) for values in by_seed.values()]
    return _spoken(values, Metric("Δ", digits=1)) if values else ""


def _ours(by_seed: Mapping[int, Mapping[str, float]], metric: Metric) -> str:
    values = [found[metric.name] for found in by_seed.values() if metric.name in found]
    return _spoken(values, metric) if values else ""


def _spoken(values: Sequence[float], metric: Metric) -> str:
    mean = f"{statistics.fmean(values):.{metric.digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ± {statistics.stdev(values) / len(values) ** 0.5:.{metric.digits}f}"


def _stated(row: Mapping[str, Stated], metric: Metric) -> str:
    if metric.name not in row:
        return ""
    stated = row[metric.name]
    return f"{stated.mean:g}" if stated.error is None else f"{stated.mean:g} ± {stated.error:g}"
