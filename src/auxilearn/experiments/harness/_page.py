"""The page of results, generated from the store."""

from itertools import chain

from auxilearn.experiments import registry
from auxilearn.experiments.harness._compare import comparisons, summary
from auxilearn.experiments.harness._goals import Findings, goals_table
from auxilearn.experiments.harness._store import Store
from auxilearn.experiments.harness._tables import CAPTION, cell_markdown

_HEAD = """# Results

This page is written by `auxilearn results` from stored runs: nothing in it is typed. All methods of a cell share the
task, the labels and the seeds; how each was tuned is said by its experiment. `auxilearn compare NAME` repeats one."""

# The README and the page of the demo show it; its losses are those of other experiments, and need not count twice.
ELSEWHERE = ("demo",)


def results_page(store: Store) -> tuple[str, list[str]]:
    """Write the page: the goals, a summary over all cells, and every table.

    Args:
        store: Where the results are.

    Returns:
        The page in Markdown, and the names of the registered experiments without results that hold.
    """
    found: Findings = {}
    sections: list[str] = []
    absent: list[str] = []
    stale = 0
    for name in registry.EXPERIMENTS:
        if name in ELSEWHERE:
            continue
        experiment = registry.load(name)
        table = store.table(name, experiment)
        cells = comparisons(experiment, table)
        if not cells:
            absent.append(name)
            continue
        found = {**found, name: cells}
        stale += store.stale(name, table)
        sections += [f"## {experiment.title}", f"`auxilearn compare {name}`. {experiment.about}", str(summary(cells))]
        sections += [cell_markdown(comparison) for comparison in cells]
    parts = [_HEAD, "## Goals", goals_table(found), "## Over all cells", str(summary(chain(*found.values()))), CAPTION]
    if stale:
        parts.append(f"{stale} results were computed by older code, and are shown because `--trust` was given.")
    if absent:
        parts.append(f"Without results: {', '.join(f'`{name}`' for name in absent)}.")
    return "\n\n".join([*parts, *sections]) + "\n", absent
