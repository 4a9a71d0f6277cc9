"""``auxilearn demo``: learned loss weights on MNIST-5k against the usual alternatives."""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from auxilearn.experiments._plot import plot_weights
from auxilearn.experiments._report import rows, table, verdict
from auxilearn.experiments._runner import run_parts
from auxilearn.experiments._study import PLAIN, PLAIN_LOOP, Outcome, Part
from auxilearn.experiments._tasks import Suite

__all__ = ["MIXED", "PARTS", "USELESS", "run"]

MIXED = Part("Useful, useless and harmful losses", Suite(good=3, random=6, adversarial=3, attributes=6, noise=6))
USELESS = Part(
    "Useless losses only",
    Suite(random=8, bits=6, noise=8),
    online={PLAIN: PLAIN_LOOP},
    raw_scales=(),
    normalised_scales=(0.01, 0.1),
)
PARTS = (MIXED, USELESS)


def run(
    *,
    dataset: str = "mnist",
    seeds: Sequence[int] = range(8),
    workers: int = os.cpu_count() or 1,
    out: Path,
    console: Console | None = None,
) -> list[Outcome]:
    """Run both parts, print their tables, and write pictures and results.

    Args:
        dataset: ``"mnist"`` or ``"digits"``.
        seeds: The seeds; all methods share the labels, initial weights and batches of each.
        workers: How many processes.
        out: The folder for ``results.json``, a picture of each part, and the cache of finished pieces.
        console: Where to print; standard output by default.

    Returns:
        The outcome of each part.
    """
    console = Console() if console is None else console
    start = time.perf_counter()
    columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("", total=len(PARTS) * len(seeds))
        outcomes = run_parts(
            dataset, PARTS, seeds, workers=workers, cache=out / "cache", done=lambda n: bar.advance(task, n)
        )
    for number, (part, outcome) in enumerate(zip(PARTS, outcomes, strict=True), 1):
        console.print(table(f"Part {number}: {part.name}", outcome))
        console.print(verdict(outcome))
        plot_weights(part, outcome, out / f"weights-{number}.png")
    (out / "results.json").write_text(json.dumps(_results(dataset, outcomes), indent=1))
    console.print(f"{time.perf_counter() - start:.0f} s. Pictures and results are in {out}.")
    return outcomes


def _results(dataset: str, outcomes: list[Outcome]) -> dict[str, object]:
    return {
        "data": dataset,
        "parts": [
            {
                "settings": asdict(part),
                "table": [asdict(row) for row in rows(outcome)],
                "verdict": verdict(outcome),
                "tasks": part.suite.kinds,
                **asdict(outcome),
            }
            for part, outcome in zip(PARTS, outcomes, strict=True)
        ],
    }
