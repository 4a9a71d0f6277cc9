"""``auxilearn demo``: learned loss weights on real images against the usual alternatives."""

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from rich.console import Console

from auxilearn.experiments import registry
from auxilearn.experiments.harness._commands import Selection, compare
from auxilearn.experiments.harness._experiment import Result
from auxilearn.experiments.harness._pictures import draw
from auxilearn.experiments.harness._plan import chosen_cells
from auxilearn.experiments.harness._store import Store
from auxilearn.experiments.harness._torchrun import speaks

__all__ = ["run"]

NAME = "demo"


def run(
    *,
    dataset: str = "mnist",
    seeds: Sequence[int] = range(6),
    workers: int = os.cpu_count() or 1,
    out: Path,
    console: Console | None = None,
    dry_run: bool = False,
) -> bool:
    """Run what is missing of both parts, print their tables and what the gate chose, and draw the learned weights.

    Args:
        dataset: ``"mnist"`` or ``"digits"``.
        seeds: The seeds; all methods share the labels, initial weights and batches of each.
        workers: How many processes; 0 runs in this one.
        out: The folder of results; those of the demo and its pictures go to ``out / "demo"``.
        console: Where to print; standard output by default.
        dry_run: Say what would be run, and stop.

    Returns:
        Whether every job finished.
    """
    console = Console() if console is None else console
    store, experiment = Store(out), registry.load(NAME)
    cells = chosen_cells(experiment, [dataset])
    finished = compare(Selection(NAME, (), cells, seeds), console, workers=workers, store=store, dry_run=dry_run)
    if dry_run or not speaks():
        return finished
    table = {cell: found for cell, found in store.table(NAME, experiment, seeds).items() if cell in cells}
    console.print()
    for cell, methods in table.items():
        if experiment.ours in methods:
            said = f"{cell}: the gate chose {_chosen(methods[experiment.ours])}."
            console.print(said, style="bold", markup=False, highlight=False, soft_wrap=True)
    files = [str(file) for file in draw(experiment, table, store.folder_of(NAME), most=2)]
    if files:
        said = f"Pictures: {' and '.join(files)}. The results are beside them."
        console.print(said, markup=False, highlight=False, soft_wrap=True)
    return finished


def _chosen(results: Mapping[int, Result]) -> str:
    counts = Counter(str(result.details["chosen"]) for result in results.values())
    names = {"learned": "the learned weights"}
    return ", ".join(f"{names.get(c, c)} in {count} of {len(results)} seeds" for c, count in counts.most_common())
