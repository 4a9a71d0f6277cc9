"""Curves of a cell: the validation metric and the main loss over the steps, a line for each method."""

import csv
import statistics
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from auxilearn._extras import require
from auxilearn.experiments.reproduce._reproduction import PaperCell

Point = Mapping[str, str]
Curves = Mapping[str, Sequence[Sequence[Point]]]
"""By method, the curve of each seed."""

# Colour-blind safe (Okabe and Ito); every other method is a thin grey line.
_COLOURS = ("#000000", "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")


def read_curve(file: Path) -> list[dict[str, str]]:
    """Read a curve that a run has written, finished or not.

    Args:
        file: The file.

    Returns:
        Its points; none if there is no file, or it is broken.
    """
    if not file.exists():
        return []
    try:
        with file.open(newline="", encoding="utf-8") as stream:
            points = list(csv.DictReader(stream))
        return points if all(float(point["step"]) >= 0 for point in points) else []
    except (KeyError, ValueError, csv.Error):  # somebody has written into it: a picture without it is better than none
        return []


def draw_curves(cell: PaperCell, curves: Curves, file: Path) -> None:
    """Draw the curves of a cell, means over seeds.

    Args:
        cell: The cell; its plain method, its own and the paper's are in colour.
        curves: The curves.
        file: The picture; none is drawn of curves without points.
    """
    figure_module: Any = require("matplotlib.figure", extra="reproduce")
    panels = [("validation", "validation metric"), ("", "main loss")]
    shown = [(name, label) for name, label in panels if any(_mean(found, name)[0] for found in curves.values())]
    if not shown:
        return
    figure = figure_module.Figure(figsize=(5 * len(shown), 4), layout="constrained")
    axes: Any = figure.subplots(1, len(shown), squeeze=False)[0]
    vivid = [m for m in curves if m in (cell.plain, cell.ours) or m.startswith(("AuxiLearn", "MAXL"))]
    colours = dict(zip(vivid, _COLOURS, strict=False))
    for axis, (name, label) in zip(axes, shown, strict=True):
        for method, by_seed in sorted(curves.items(), key=lambda one: one[0] in colours):
            steps, values = _mean(by_seed, name)
            if steps:
                colour = colours.get(method)
                style = {"color": colour, "linewidth": 1.8, "label": method, "zorder": 3} if colour else _QUIET
                axis.plot(steps, values, **style)
        axis.set_xlabel("step")
        axis.set_ylabel(label)
        axis.spines[["top", "right"]].set_visible(False)
        if not name:
            axis.set_yscale("log")
    if colours:
        axes[0].legend(frameon=False, fontsize="small")
    figure.suptitle(f"{cell.name}{' (grey: the other methods)' if len(curves) > len(colours) else ''}")
    figure.savefig(file, dpi=150)


_QUIET: Mapping[str, Any] = {"color": "#bbbbbb", "linewidth": 0.8}


def _mean(by_seed: Sequence[Sequence[Point]], name: str) -> tuple[list[int], list[float]]:
    found: dict[int, list[float]] = defaultdict(list)
    for points in by_seed:
        for point in points:
            # The main loss is the first column after the phase and the step.
            column = name or next((key for key in point if key not in ("phase", "step")), "")
            if point.get("phase") == "train" and point.get(column):
                found[int(point["step"])].append(float(point[column]))
    steps = sorted(step for step, values in found.items() if len(values) == len(by_seed))
    return steps, [statistics.fmean(found[step]) for step in steps]
