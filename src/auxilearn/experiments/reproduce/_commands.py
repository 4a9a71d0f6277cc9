"""What `auxilearn reproduce` and `auxilearn make-miniature` do."""

import traceback
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import final

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.table import Table as RichTable

from auxilearn._checks import explain
from auxilearn.data.published import verify_files
from auxilearn.errors import AuxilearnError, InputError
from auxilearn.experiments.reproduce._jobs import Bench, Run, Shelf, UnreadableError, carry_out, runs_of
from auxilearn.experiments.reproduce._pictures import draw_curves, read_curve
from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce._recipe import NONE, Budget, Changes
from auxilearn.experiments.reproduce._registry import miniature, reproduction
from auxilearn.experiments.reproduce._reproduction import PaperCell, Reproduction
from auxilearn.experiments.reproduce._tables import Measured, markdown_table, terminal_tables, write_csv
from auxilearn.training._checkpoint import check_folder


@final
@dataclass(frozen=True)
class Wanted:
    """What to reproduce.

    Attributes:
        name: The reproduction's name.
        methods: Names of methods; empty: all.
        cells: Parts of the names of cells; empty: all.
        seeds: The seeds; None: as many as the recipe says.
    """

    name: str
    methods: Sequence[str] = ()
    cells: Sequence[str] = ()
    seeds: Sequence[int] | None = None


def reproduce(wanted: Wanted, console: Console, *, shelf: Shelf, bench: Bench, dry_run: bool = False) -> bool:
    """Run what is missing, print the tables beside the paper's, write tables and curves.

    Args:
        wanted: What to reproduce.
        console: Where to print.
        shelf: Where everything is kept.
        bench: The data and the device.
        dry_run: Say what would be run, with every hyperparameter and its source, and stop; needs no data.

    Returns:
        Whether every run finished.
    """
    chosen = reproduction(wanted.name)
    runs = runs_of(
        chosen,
        cells=wanted.cells,
        methods=wanted.methods,
        seeds=wanted.seeds,
        budget=shelf.budget,
        changes=shelf.changes,
    )
    if not dry_run:
        bench.folder(chosen)  # what is missing is said before anything else
        _refuse_inside(bench, shelf)
    missing = [run for run in runs if shelf.metrics(chosen, run, bench.mark()) is None]
    console.print(
        f"{chosen.title}: {len(runs)} runs ({shelf.budget} budget), {len(runs) - len(missing)} finished, "
        f"{len(missing)} to run on {bench.device}; kept in {shelf.of(chosen)}.",
        markup=False,
        highlight=False,
        soft_wrap=True,
    )
    if dry_run:
        for cell in dict.fromkeys(run.cell.name for run in runs):
            console.print(settings_table(_cell(chosen, cell), shelf.budget, shelf.changes))
        return True
    failures = _carry_out(chosen, missing, shelf, bench, console)
    for name in dict.fromkeys(run.cell.name for run in runs):
        mine = [run for run in runs if run.cell.name == name]
        _show(chosen, _cell(chosen, name), mine, shelf, bench, console)
    for run, what in failures:
        Console(stderr=True).print(f"failed: {run}: {what}", style="red", markup=False, highlight=False, soft_wrap=True)
    return not failures


def verify(name: str, data: Path | None, console: Console) -> None:
    """Compare the published files' checksums.

    Args:
        name: The reproduction's name.
        data: The folder.
        console: Where to print.
    """
    chosen = reproduction(name)
    folder = Bench(data, torch.device("cpu")).folder(chosen)
    right = verify_files(folder, chosen.files, data=chosen.title)
    for path in right:
        console.print(f"{path}: as published", markup=False, highlight=False)
    rest = len(chosen.files) - len(right)
    if rest:
        console.print(
            f"{rest} of {len(chosen.files)} are there; nobody publishes their checksums. What they hold is checked "
            "when it is read.",
            highlight=False,
        )


def make_miniature(name: str, folder: Path, console: Console, *, seed: int = 0) -> None:
    """Write the miniature of a data set.

    Args:
        name: The reproduction's name.
        folder: Where to; absent or empty.
        console: Where to print.
        seed: The seed of what is drawn.
    """
    with console.status(f"Writing the miniature of {name}"):
        miniature(name)(folder, seed=seed)
    files = [file for file in folder.rglob("*") if file.is_file()]
    size = sum(file.stat().st_size for file in files) / 1e6
    console.print(f"Wrote {len(files)} files, {size:.1f} MB, to {folder}.", markup=False, highlight=False)
    hint = f"auxilearn reproduce {name} --data {folder} --budget smoke"
    console.print(f"Try: {hint}", markup=False, highlight=False, soft_wrap=True)


def changes_of(words: Sequence[str]) -> dict[str, str]:
    """Read changes of hyperparameters.

    Args:
        words: ``name=value`` each.

    Returns:
        Values by name.

    Raises:
        InputError: If a word has no ``=``.
    """
    found: dict[str, str] = {}
    for word in words:
        name, equals, value = (part.strip() for part in word.partition("="))
        if not equals:
            rule, cure = "A change must be `name=value`.", "E.g. --set epochs=10; --dry-run lists the names."
            raise InputError(explain(rule, f"It is `{word}`.", cure))
        if name in found:
            rule, cure = "A hyperparameter can have one value.", "Leave one out."
            raise InputError(explain(rule, f"`{name}` was set to {found[name]} and to {value}.", cure))
        found[name] = value
    return found


def device_named(name: str) -> torch.device:
    """Choose the device.

    Args:
        name: ``"auto"``: a GPU if there is one; or a name as torch has it.

    Returns:
        The device.

    Raises:
        InputError: If it is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    rule, cure = "The device must be there.", "Use --device cpu, or auto."
    try:
        device = torch.device(name)
        torch.ones(1, device=device).item()  # not on a device that only knows shapes
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        finding = " ".join(str(error).split(".")[0].split())
        raise InputError(explain(rule, f"`{name}` is not usable: {finding:.120}.", cure)) from error
    if device.type == "cpu" and device.index:
        raise InputError(explain(rule, f"`{name}` is not: there is one CPU.", cure))
    return device


def settings_table(cell: PaperCell, budget: Budget, changes: Changes = NONE) -> RichTable:
    """Lay out every hyperparameter of a cell.

    Args:
        cell: The cell.
        budget: Whose values.
        changes: Hyperparameters that differ from the recipe.

    Returns:
        A table for Rich: name, value, source.
    """
    table = RichTable(title=cell.name, title_justify="left")
    for heading in ("hyperparameter", f"value ({budget})", "source of the paper budget's value"):
        table.add_column(heading, overflow="fold")
    for row in cell.recipe.rows(budget, changes):
        table.add_row(*row)
    table.add_section()
    table.add_row("methods", ", ".join(f"`{method}`" for method in cell.methods), "")
    return table


def _carry_out(
    chosen: Reproduction, missing: Sequence[Run], shelf: Shelf, bench: Bench, console: Console
) -> list[tuple[Run, str]]:
    failures: list[tuple[Run, str]] = []
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, TimeRemainingColumn(), console=console) as bar:
        whole = bar.add_task("runs", total=len(missing))
        for run in missing:
            line = bar.add_task(str(run), total=None)

            def tell(phase: str, step: int, steps: int, line: object = line, run: Run = run) -> None:
                bar.update(line, description=f"{run}: {phase}", completed=step, total=steps)  # pyright: ignore[reportArgumentType]

            try:
                carry_out(chosen, run, shelf, bench, tell)
            except UnreadableError:
                raise
            except AuxilearnError as error:
                failures.append((run, str(error)))
            except Exception as error:  # the others go on, whatever it is: out of memory, or a mistake of ours
                (shelf.place(chosen, run) / "error.txt").write_text(traceback.format_exc(), encoding="utf-8")
                said = " ".join(str(error).split())
                failures.append((run, f"{type(error).__name__}: {said:.160} (see error.txt in its folder)"))
            bar.remove_task(line)
            bar.advance(whole)
    return failures


def _refuse_inside(bench: Bench, shelf: Shelf) -> None:
    check_folder(shelf.folder)
    if bench.data is not None and shelf.folder.absolute().is_relative_to(bench.data.absolute()):
        rule, cure = "The folder of the data is only read.", "Choose another --out."
        raise InputError(explain(rule, f"`{shelf.folder}` lies in it.", cure))


def _show(
    chosen: Reproduction, cell: PaperCell, runs: Sequence[Run], shelf: Shelf, bench: Bench, console: Console
) -> None:
    measured: dict[str, dict[int, dict[str, float]]] = {}
    curves: dict[str, list[list[dict[str, str]]]] = {}
    for run in runs:
        found = shelf.metrics(chosen, run, bench.mark())
        if found is not None:
            measured.setdefault(run.method, {})[run.seed] = dict(found)
            curve = read_curve(Place(shelf.place(chosen, run), run.seed).curve)
            curves.setdefault(run.method, []).append(curve)
    methods = list(dict.fromkeys(run.method for run in runs))
    for table in terminal_tables(cell, measured, width=console.width, only=methods):
        console.print(table)
    if shelf.budget == "smoke":
        console.print("A smoke run shows that everything works; its numbers are evidence about nothing.", style="dim")
    if measured:
        folder = shelf.place(chosen, runs[0]).parents[1]
        _write(folder, cell, measured)
        draw_curves(cell, curves, folder / "curves.png")
        console.print(f"Tables and curves: {folder}", markup=False, highlight=False, soft_wrap=True)


def _write(folder: Path, cell: PaperCell, measured: Measured) -> None:
    (folder / "table.md").write_text(f"{markdown_table(cell, measured)}\n", encoding="utf-8")
    write_csv(folder / "runs.csv", cell, measured)


def _cell(chosen: Reproduction, name: str) -> PaperCell:
    return next(cell for cell in chosen.cells if cell.name == name)
