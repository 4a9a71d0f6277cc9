"""What every ``bench_*.py`` does when it is run: read the options, measure, print the tables, keep them."""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

from benchmark import Machine, Result, Table, load

Measure = Callable[[bool, str], list[Table]]


def parser(about: str | None, *, cuda: bool = False) -> argparse.ArgumentParser:
    """Make the options that all have."""
    found = argparse.ArgumentParser(
        description=about,
        epilog="`python benchmarks/run.py` runs all of them and writes docs/performance.md.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    found.add_argument("--quick", action="store_true", help="fewer sizes and repetitions, as in `make bench`")
    device = "cpu, or cuda for a GPU" if cuda else "cpu: this one measures nothing else"
    found.add_argument("--device", choices=["cpu", "cuda"] if cuda else ["cpu"], default="cpu", help=device)
    found.add_argument("--json", type=Path, metavar="FILE", help="keep the tables there, too")
    return found


def run(name: str, measure: Measure, given: argparse.Namespace) -> None:
    """Measure, print, and keep."""
    start, before = time.perf_counter(), load()
    tables = measure(given.quick, given.device)
    for table in tables:
        print(f"\n{table}", flush=True)
    if given.json is not None:
        seconds = round(time.perf_counter() - start, 1)
        keep(
            Result(name, given.device, given.quick, seconds, tuple(tables), Machine.here(given.device, before)),
            given.json,
        )


def keep(result: Result, file: Path) -> None:
    """Write a file that is there as a whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(result.as_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    part.replace(file)
