"""Comparisons as tables: for the terminal, and in Markdown for the documentation."""

import math
import statistics
from collections.abc import Sequence

from rich.table import Table as RichTable

from auxilearn.experiments.harness._compare import Comparison, Line

CAPTION = (
    "Score: mean ± s.e. Ours − it: mean ± half the 95 % t interval, paired by seed. p: Student's paired t test, "
    "adjusted for the number of baselines by Holm's method; † where a test by sign flips, which assumes less, "
    "decides otherwise at 5 %. Compute: processor time in plain training runs."
)


def terminal_table(comparison: Comparison) -> RichTable:
    """Lay a comparison out for a terminal.

    Args:
        comparison: The comparison of one cell.

    Returns:
        A table for Rich.
    """
    table = RichTable(title=f"{comparison.cell.name} ({_seeds(comparison)})", title_justify="left")
    table.add_column("method")
    for heading in _headings(comparison)[1:]:
        table.add_column(heading, justify="right")
    for row, line in zip(_rows(comparison), comparison.lines, strict=True):
        table.add_row(*row, style=_style(line, comparison.ours))
    return table


def markdown_table(comparison: Comparison) -> str:
    """Write a comparison in Markdown.

    Args:
        comparison: The comparison of one cell.

    Returns:
        The table's lines.
    """
    rows = [
        [f"**{text}**" if line.method == comparison.ours and text else text for text in row]
        for row, line in zip(_rows(comparison), comparison.lines, strict=True)
    ]
    headings = _headings(comparison)
    rule = ["---", *("---:" for _ in headings[1:])]
    return "\n".join(f"| {' | '.join(map(_escaped, row))} |" for row in ([headings, rule, *rows]))


def cell_markdown(comparison: Comparison) -> str:
    """Write a cell of the results page: its heading, table and verdict.

    Args:
        comparison: The comparison of one cell.

    Returns:
        Markdown.
    """
    parts = [f"### {comparison.cell.name}", f"{_seeds(comparison)}.", markdown_table(comparison), comparison.verdict()]
    if comparison.absent:
        parts.append(f"Without results: {', '.join(comparison.absent)}.")
    return "\n\n".join(parts)


def _headings(comparison: Comparison) -> list[str]:
    headings = ["method", comparison.cell.unit, f"{comparison.ours} − it", "p (Holm)", "compute"]
    return [*headings, "seeds"] if _uneven(comparison.lines) else headings


def _rows(comparison: Comparison) -> list[list[str]]:
    digits = _digits(comparison.lines)
    rows: list[list[str]] = []
    for line in comparison.lines:
        row = [line.method, f"{line.mean:.{digits}f} ± {_number(line.error, digits)}", _difference(line, digits)]
        row += ["" if line.holm is None else _p(line.holm)]
        row += ["" if line.compute is None else f"{line.compute:.1f} ×"]
        rows.append([*row, str(line.seeds)] if _uneven(comparison.lines) else row)
    return rows


def _difference(line: Line, digits: int) -> str:
    if line.difference is None:
        return ""
    if line.difference.mean == line.difference.half == 0:
        return "0"
    half = _number(line.difference.half, digits)
    return f"{line.difference.mean:+.{digits}f} ± {half}{' †' if line.doubtful else ''}"


def _number(value: float, digits: int) -> str:
    return "∞" if math.isinf(value) else f"{value:.{digits}f}"


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


def _digits(lines: Sequence[Line]) -> int:
    # As many as the standard errors justify: one digit of the usual one, and 81.3 rather than 81.
    errors = [line.error for line in lines if 0 < line.error < math.inf]
    return min(4, max(1, -math.floor(math.log10(statistics.median(errors))))) if errors else 1


def _uneven(lines: Sequence[Line]) -> bool:
    return len({line.seeds for line in lines}) > 1


def _seeds(comparison: Comparison) -> str:
    counts = sorted({line.seeds for line in comparison.lines})
    if len(counts) > 1:
        return f"{counts[0]} to {counts[-1]} seeds: not finished"
    return f"{counts[0]} paired seed{'s' if counts[0] > 1 else ''}"


def _style(line: Line, ours: str) -> str | None:
    if line.method == ours:
        return "bold"
    return "red" if line.difference is not None and line.difference.below else None


def _escaped(text: str) -> str:
    return text.replace("|", "\\|")
