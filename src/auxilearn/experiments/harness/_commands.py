"""What the commands do: run what is missing, print tables, draw, and write the page of results."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as RichTable

from auxilearn._checks import explain
from auxilearn.errors import InputError, MissingExtraError
from auxilearn.experiments import registry
from auxilearn.experiments.harness._compare import comparisons, summary
from auxilearn.experiments.harness._experiment import Experiment
from auxilearn.experiments.harness._page import ELSEWHERE, results_page
from auxilearn.experiments.harness._pictures import draw
from auxilearn.experiments.harness._plan import (
    Plan,
    basic_methods,
    chosen_cells,
    chosen_methods,
    methods_of,
    plan,
    spoken,
)
from auxilearn.experiments.harness._run import Failure, run_jobs
from auxilearn.experiments.harness._store import Job, Store
from auxilearn.experiments.harness._tables import CAPTION, terminal_table
from auxilearn.experiments.harness._torchrun import crew


@final
@dataclass(frozen=True)
class Selection:
    """What to compare.

    Attributes:
        name: The experiment's name.
        methods: Names of methods, or lists of them with commas. None: a first look, at ours and the basic ones. Empty:
            all.
        cells: Parts of the names of cells; empty: all.
        seeds: The seeds.
    """

    name: str
    methods: Sequence[str] | None
    cells: Sequence[str]
    seeds: Sequence[int]


def list_experiments(console: Console) -> None:
    """Print the name, the title and the size of every experiment.

    Args:
        console: Where to print.
    """
    table = RichTable(box=None, pad_edge=False)
    for heading in ("name", "cells", "methods", "what it is"):
        table.add_column(heading, justify="right" if heading in ("cells", "methods") else "left")
    for name in registry.EXPERIMENTS:
        try:
            experiment = registry.load(name)
            table.add_row(name, str(len(experiment.cells)), str(len(methods_of(experiment))), experiment.title)
        except MissingExtraError as error:
            table.add_row(name, "", "", str(error))
    console.print(table)


def describe(name: str, console: Console) -> None:
    """Print what an experiment is, with the names of its cells and methods.

    Args:
        name: Its name.
        console: Where to print.
    """
    experiment = registry.load(name)
    console.print(f"{experiment.title}\n\n{experiment.about}\n", markup=False, highlight=False)
    for heading, names in (("cells", [cell.name for cell in experiment.cells]), ("methods", methods_of(experiment))):
        lines = [f"  {name}{' (the others are compared with it)' if name == experiment.ours else ''}" for name in names]
        console.print("\n".join([f"{heading}:", *lines]), markup=False, highlight=False)


def compare(selection: Selection, console: Console, *, workers: int, store: Store, dry_run: bool = False) -> bool:
    """Run what is missing of a comparison, and print its tables.

    Under ``torchrun`` the ranks share the jobs, and the first one prints.

    Args:
        selection: What to compare.
        console: Where to print.
        workers: How many processes; 0 runs in this one. Not read under ``torchrun``.
        store: The results.
        dry_run: Say what would be run, and stop.

    Returns:
        Whether every job finished.
    """
    ranks = crew()
    if ranks is not None and ranks.rank > 0:
        ranks.help(store)
        return True
    experiment = registry.load(selection.name)
    wanted = selection.methods
    methods = basic_methods(experiment) if wanted is None else chosen_methods(experiment, wanted)
    cells = chosen_cells(experiment, selection.cells)
    todo = plan(selection.name, experiment, store, methods, cells, selection.seeds)
    _refuse_nothing(selection, todo)
    console.print(
        _spoken_plan(experiment, todo, workers if ranks is None else ranks.size),
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if dry_run:
        if ranks is not None:
            ranks.publish([])
        return True
    store.refuse_unwritable()
    start = time.perf_counter()
    failures = _run(todo, store, workers, console)
    if todo.missing:
        console.print(
            f"Ran {_counted(len(todo.missing), 'job')} in {spoken(time.perf_counter() - start)}.", highlight=False
        )
    ours = experiment.ours if experiment.ours in methods else methods[0]
    _print_tables(selection, experiment, store, methods, cells, ours, console)
    _print_failures(failures, console)
    return not failures


def plot(name: str, console: Console, *, store: Store, to: Path | None = None) -> None:
    """Draw the stored results of an experiment.

    Args:
        name: Its name.
        console: Where to print the files' names.
        store: The results.
        to: Where the pictures go; by default beside the results.

    Raises:
        InputError: If there are no results that hold.
    """
    experiment = registry.load(name)
    files = draw(experiment, store.table(name, experiment), store.folder_of(name) if to is None else to)
    if not files:
        rule, finding = (
            f"`{name}` must have results to draw.",
            f"There are none in {store.folder}, or they are of older code.",
        )
        raise InputError(explain(rule, finding, f"Run `auxilearn compare {name}` first, or add --trust."))
    for file in files:
        console.print(str(file), markup=False, highlight=False, soft_wrap=True)


def write_results(console: Console, *, store: Store, page: Path) -> None:
    """Write the page of results.

    Args:
        console: Where to say what was written.
        store: The results.
        page: The file.

    Raises:
        InputError: If its folder is absent, or there are no results that hold; an older page stays as it is.
    """
    if not page.parent.is_dir():
        rule, cure = (
            "The page of results must have a folder.",
            "Make it, or pass --page FILE; in a clone, run it at the root.",
        )
        raise InputError(explain(rule, f"There is no `{page.parent}` here.", cure))
    text, absent = results_page(store)
    if {*registry.EXPERIMENTS}.issubset({*absent, *ELSEWHERE}):
        rule, finding = (
            "There must be results to write.",
            f"There are none in {store.folder}, or they are of older code.",
        )
        raise InputError(explain(rule, finding, "Run `auxilearn compare NAME` first, pass --out, or add --trust."))
    partial = page.with_name(f"{page.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(page)
    console.print(f"Wrote {page}.", markup=False, highlight=False, soft_wrap=True)
    if absent:
        console.print(f"Without results that hold: {', '.join(absent)}.", markup=False, highlight=False)


def _refuse_nothing(selection: Selection, todo: Plan) -> None:
    if not todo.finished and not todo.missing:
        finding = f"None of the chosen cells of `{selection.name}` has one of the chosen methods."
        raise InputError(explain("There must be something to compare.", finding, "Choose others, or leave one out."))


def _spoken_plan(experiment: Experiment, todo: Plan, workers: int) -> str:
    jobs = [*todo.finished, *todo.missing]
    sizes = [_counted(len({job[at] for job in jobs}), word) for at, word in ((1, "cell"), (2, "method"), (3, "seed"))]
    return (
        f"{experiment.title}: {', '.join(sizes)}: {_counted(len(jobs), 'job')}, {len(todo.finished)} finished, "
        f"{len(todo.missing)} to run. With {workers or 1} process{'es' if workers > 1 else ''}: "
        f"{todo.estimate(workers)}."
    )


def _counted(number: int, word: str) -> str:
    return f"{number} {word}{'' if number == 1 else 's'}"


def _run(todo: Plan, store: Store, workers: int, console: Console) -> list[Failure]:
    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn(), TimeRemainingColumn())
    costs = dict(zip(todo.missing, todo.costs(), strict=True))
    count = 0
    with Progress(*columns, console=console, speed_estimate_period=600) as bar:
        task = bar.add_task(f"0/{len(todo.missing)} jobs", total=sum(costs.values()))

        def done(job: Job, failure: Failure | None) -> None:
            nonlocal count
            count += 1
            bar.update(task, advance=costs[job], description=f"{count}/{len(todo.missing)} jobs")
            if failure is not None:
                bar.console.print(f"failed: {failure}", style="red", markup=False, highlight=False, soft_wrap=True)

        ranks = crew()
        if ranks is not None:
            return ranks.run(todo.missing, store, done=done)
        return run_jobs(todo.missing, store, workers=workers, done=done)


def _print_tables(
    selection: Selection,
    experiment: Experiment,
    store: Store,
    methods: Sequence[str],
    cells: Sequence[str],
    ours: str,
    console: Console,
) -> None:
    table = store.table(selection.name, experiment, selection.seeds)
    chosen = {
        cell: {method: results for method, results in table[cell].items() if method in methods}
        for cell in cells
        if cell in table
    }
    found = comparisons(experiment, chosen, ours)
    stale = store.stale(selection.name, chosen)
    for comparison in found:
        console.print(terminal_table(comparison))
        console.print(comparison.verdict(), highlight=False, markup=False)
        console.print()
    if len(found) > 1:
        console.print(str(summary(found)), highlight=False, markup=False)
    if stale:
        console.print(f"{_counted(stale, 'result')} of older code among them, as --trust asks.", style="yellow")
    if found:
        console.print(CAPTION, style="dim", highlight=False, markup=False)


def _print_failures(failures: Sequence[Failure], console: Console) -> None:
    if not failures:
        return
    console.print(f"{_counted(len(failures), 'job')} failed; the same command tries them again:", style="red")
    for failure in failures:
        console.print(f"  {failure}", markup=False, highlight=False, soft_wrap=True)
    if failures[0].trace:
        console.print(f"The first of them:\n{failures[0].trace}", style="dim", markup=False, highlight=False)
