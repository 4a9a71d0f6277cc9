"""Pictures of any experiment: paired differences with their intervals, and learned weights by kind."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

from auxilearn._extras import require
from auxilearn.experiments.harness._compare import Comparison, comparisons
from auxilearn.experiments.harness._experiment import Experiment, Result, Table

# Colour-blind safe (Okabe and Ito).
_GAIN, _LOSS, _TIE = "#0072B2", "#D55E00", "#777777"
_COLOURS = ("#009E73", "#D55E00", "#0072B2", "#CC79A7", "#E69F00", "#56B4E9", "#F0E442", "#000000")
_MARKERS = "osD^vPX*"

# More losses than this are drawn by their number rather than by their kind, unless they are so many that dots would
# cover each other.
_BY_KIND, _BY_NUMBER = 24, 400


class Weights(NamedTuple):
    """Learned weights of one method in one cell.

    Attributes:
        cell: The cell's name.
        method: The method's name.
        kinds: A word for each loss.
        values: The weights, seeds × losses.
    """

    cell: str
    method: str
    kinds: list[str]
    values: list[list[float]]


def draw(experiment: Experiment, table: Table, folder: Path, *, most: int = 3) -> list[Path]:
    """Draw everything that the results of an experiment hold.

    Args:
        experiment: The experiment.
        table: Its results.
        folder: Where the pictures go; it is made if it is absent and there is something to draw.
        most: How many methods of a cell have their weights drawn.

    Returns:
        The files: the differences, the learned weights if the details hold any, and the experiment's own picture.
    """
    if not any(table.values()):
        return []
    folder.mkdir(parents=True, exist_ok=True)
    files: list[Path] = []
    found = [comparison for comparison in comparisons(experiment, table) if len(comparison.lines) > 1]
    if found:
        files.append(folder / "differences.png")
        draw_differences(experiment.title, found, table, files[-1])
    learned = learned_weights(experiment, table, most=most)
    if learned:
        files.append(folder / "weights.png")
        draw_weights(experiment.title, learned, files[-1])
    if experiment.figure is not None and table:
        files.append(folder / "figure.png")
        experiment.figure(table, files[-1])
    return files


def draw_differences(title: str, found: Sequence[Comparison], table: Table, file: Path) -> None:
    """Draw a panel for each cell: what ours gains on each method, seed by seed, with the mean and its 95 % interval.

    Args:
        title: The picture's title.
        found: The comparisons.
        table: The results, for the seeds.
        file: Where the picture goes; its ending decides the format.
    """
    tallest = max(len(comparison.lines) for comparison in found)
    columns = min(len(found), 2)
    figure, axes = _panels(math.ceil(len(found) / columns), columns, height=0.9 + 0.3 * tallest)
    for axis, comparison in zip(axes, found, strict=False):
        axis.set_visible(True)
        _differences(axis, comparison, table[comparison.cell.name])
    figure.suptitle(f"{title}: {found[0].ours} − each method, 95 % intervals, paired by seed", fontsize="medium")
    figure.savefig(file, dpi=120)


def learned_weights(experiment: Experiment, table: Table, *, most: int = 3) -> list[list[Weights]]:
    """Find learned weights in the details: a list ``"weights"``, and a list ``"kinds"`` with a word for each.

    Args:
        experiment: The experiment.
        table: Its results.
        most: How many methods of a cell to take; ours comes first, then its variants.

    Returns:
        For each cell that has any, the weights of its methods, of the seeds that have as many as the first.
    """
    found: list[list[Weights]] = []
    for cell in experiment.cells:
        ours = experiment.ours
        names = sorted(table.get(cell.name, {}), key=lambda name: (name != ours, not name.startswith(ours)))
        in_cell = [_weights(cell.name, name, table[cell.name][name]) for name in names]
        found.append([weights for weights in in_cell if weights is not None][:most])
    return [row for row in found if row]


def draw_weights(title: str, found: Sequence[Sequence[Weights]], file: Path) -> None:
    """Draw a row for each cell, a panel for each method: the mean weight of each loss, with the seeds behind it.

    Args:
        title: The picture's title.
        found: The weights, by cell and method.
        file: Where the picture goes; its ending decides the format.
    """
    columns = max(len(row) for row in found)
    kinds = list(dict.fromkeys(kind for row in found for weights in row for kind in weights.kinds))
    figure, axes = _panels(len(found), columns, height=3.0)
    for at, row in enumerate(found):
        for weights, axis in zip(row, axes[at * columns :], strict=False):
            axis.set_visible(True)
            _panel_of_weights(axis, weights, kinds)
    figure.suptitle(f"{title}: learned weights", fontsize="medium")
    figure.savefig(file, dpi=120)


def _panel_of_weights(axis: Any, weights: Weights, kinds: Sequence[str]) -> None:
    many = len(weights.kinds)
    by_number = _BY_KIND < many <= _BY_NUMBER or (many > 1 and len(set(weights.kinds)) == 1)
    (_by_number if by_number else _by_kind)(axis, weights, kinds)
    values = [value for row in weights.values for value in row]
    if min(values) > 0 and max(values) > 20 * min(values):
        axis.set_yscale("log")
    axis.set_title(f"{weights.cell}\n{weights.method}, {_seeds(len(weights.values))}", fontsize="small")
    axis.set_ylabel("weight", fontsize="small")
    _tidy(axis)


def _differences(axis: Any, comparison: Comparison, results: Mapping[str, Mapping[int, Result]]) -> None:
    lines = [line for line in comparison.lines if line.difference is not None]
    ours = results[comparison.ours]
    for at, line in enumerate(lines):
        assert line.difference is not None
        colour = _GAIN if line.difference.beyond else _LOSS if line.difference.below else _TIE
        shared = ours.keys() & results[line.method].keys()
        each = [ours[seed].score - results[line.method][seed].score for seed in sorted(shared)]
        axis.plot(each, [at] * len(each), "|", color=colour, alpha=0.45, markersize=7)
        half = line.difference.half if math.isfinite(line.difference.half) else 0.0
        # A filled dot lies beyond the interval, an open one does not: print tells them apart as well.
        face = "white" if colour == _TIE else colour
        axis.errorbar(
            line.difference.mean, at, xerr=half, fmt="o", color=colour, mfc=face, capsize=3, markersize=5.5, lw=1.6
        )
    axis.axvline(0, color="black", lw=0.8)
    axis.set_yticks(range(len(lines)), [line.method for line in lines], fontsize="small")
    axis.set_ylim(len(lines) - 0.4, -0.6)
    counts = {line.seeds for line in comparison.lines}
    axis.set_title(f"{comparison.cell.name} ({_seeds(max(counts))})", fontsize="small")
    axis.set_xlabel(f"{comparison.ours} − it, {comparison.cell.unit}", fontsize="small")
    _tidy(axis)
    axis.grid(axis="x", lw=0.4, alpha=0.5)


def _by_kind(axis: Any, weights: Weights, kinds: Sequence[str]) -> None:
    present = [kind for kind in kinds if kind in weights.kinds]
    for at, kind in enumerate(present):
        members = [k for k, word in enumerate(weights.kinds) if word == kind]
        # Spread sideways, so that equal weights do not cover each other.
        places = [at + 0.6 * (i / max(1, len(members) - 1) - 0.5) * (len(members) > 1) for i in range(len(members))]
        _dots(axis, places, members, weights, kind, kinds)
    labels = [f"{kind} ({weights.kinds.count(kind)})" for kind in present]
    axis.set_xticks(range(len(present)), labels, fontsize="small", rotation=20 if len(present) > 5 else 0)


def _by_number(axis: Any, weights: Weights, kinds: Sequence[str]) -> None:
    for kind in dict.fromkeys(weights.kinds):
        members = [k for k, word in enumerate(weights.kinds) if word == kind]
        _dots(axis, members, members, weights, kind, kinds)
    axis.set_xlabel("number of the loss", fontsize="small")
    if len(set(weights.kinds)) > 1:
        axis.legend(frameon=False, fontsize="x-small")


def _dots(
    axis: Any, places: Sequence[float], members: Sequence[int], weights: Weights, kind: str, kinds: Sequence[str]
) -> None:
    colour, marker = _COLOURS[kinds.index(kind) % len(_COLOURS)], _MARKERS[kinds.index(kind) % len(_MARKERS)]
    for row in weights.values:
        axis.plot(places, [row[k] for k in members], ".", color=colour, alpha=0.2, markersize=3, markeredgewidth=0)
    means = [sum(row[k] for row in weights.values) / len(weights.values) for k in members]
    size = 5 if len(members) <= _BY_NUMBER else 2
    axis.plot(places, means, marker, color=colour, markersize=size, ls="", label=kind)


def _weights(cell: str, method: str, results: Mapping[int, Result]) -> Weights | None:
    rows: list[list[float]] = []
    kinds: list[str] = []
    for result in results.values():
        values = _numbers(result.details.get("weights"))
        if not values or (rows and len(values) != len(rows[0])):
            continue
        if not rows:
            words: Any = result.details.get("kinds") or []
            kinds = [str(word) for word in words] if len(words) == len(values) else ["loss"] * len(values)
        rows.append(values)
    return Weights(cell, method, kinds, rows) if rows else None


def _numbers(found: object) -> list[float]:
    values = cast("list[object]", found) if isinstance(found, list) else []
    numbers = [float(value) for value in values if isinstance(value, (int, float)) and math.isfinite(value)]
    return numbers if len(numbers) == len(values) else []


def _panels(rows: int, columns: int, *, height: float) -> tuple[Any, list[Any]]:
    figures: Any = require("matplotlib.figure", extra="experiments")
    figure = figures.Figure(figsize=(6.4 * columns, height * rows + 0.4), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axis in axes:
        axis.set_visible(False)  # until something is drawn
    return figure, axes


def _tidy(axis: Any) -> None:
    axis.tick_params(labelsize="small")
    axis.spines[["top", "right"]].set_visible(False)


def _seeds(count: int) -> str:
    return f"{count} seed{'s' if count > 1 else ''}"
