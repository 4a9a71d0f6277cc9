"""Run the benchmarks, print their ratios, and write docs/performance.md.

Each runs in a process of its own, one after the other: nothing is measured beside something else. What has finished is
kept at once, so that after an interruption the same command goes on with the others; one that fails is reported and
stops nobody.
"""

import argparse
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmark import Machine, Result, cores, load
from catalogue import HERE, Entry, present
from performance import MEASURED, PAGE, merged, page, read, summary, text
from progress import Progress

ROOT = HERE.parent
LIMIT = 600.0  # seconds for a quick one, which should take less than one
EXAMPLES = """examples:
  python benchmarks/run.py                    quick versions of all: five minutes of an idle machine
  python benchmarks/run.py --only peak        one of them; the page keeps what it says of the others
  python benchmarks/run.py --full --fresh     everything, and nothing kept from an interrupted run
  python benchmarks/run.py --device cuda      on a GPU, those that can
  python benchmarks/run.py --page             measure nothing: write the page again
  python benchmarks/bench_peak.py --help      what one of them measures"""


def kept(quick: bool) -> Path:
    """Return the folder of an unfinished run: another one for other code, for any of it may change a number."""
    files = sorted(f for folder in (HERE, ROOT / "src") for f in folder.rglob("*.py"))
    code = hashlib.sha256(b"\0".join(file.read_bytes() for file in files)).hexdigest()
    return ROOT / "results" / "benchmarks" / f"{'quick' if quick else 'full'}-{code[:12]}"


def measured(entry: Entry, *, quick: bool, device: str, folder: Path, limit: float | None) -> Result:
    """Run one benchmark in a process of its own, and return what it measured or why it did not."""
    folder.mkdir(parents=True, exist_ok=True)
    file, own = folder / f"{entry.name}-{device}.new", folder / entry.name
    words = [sys.executable, *entry.command(quick=quick, device=device)]
    words += [entry.folder, str(own)] if entry.folder else []
    words += [] if entry.adopt else ["--json", str(file)]
    start, before = time.perf_counter(), load()
    error = failure(words, limit)
    seconds = round(time.perf_counter() - start, 1)
    known: dict[str, Any] = {"name": entry.name, "device": device, "quick": quick, "seconds": seconds}
    if error:
        return Result(**known, error=error)
    try:
        if entry.adopt:
            found = Result(**known, tables=tuple(entry.adopt(own, quick)))
        else:
            found = Result.of_json({**json.loads(file.read_text("utf-8")), **known})
    except (OSError, ValueError, TypeError, KeyError) as wrong:
        return Result(**known, error=f"what it kept cannot be read: {type(wrong).__name__}: {wrong}")
    finally:
        file.unlink(missing_ok=True)
    if not found.tables:
        return Result(**known, error="it kept no tables")
    return found if found.machine else replace(found, machine=Machine.here(device, before))


def failure(words: Sequence[str], limit: float | None) -> str:
    """Run a command; return why it failed, in a line, or nothing. Whatever it started ends with it."""
    with subprocess.Popen(
        words, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            said = process.communicate(timeout=limit)[1].strip().splitlines()
        except subprocess.TimeoutExpired:
            return f"it took longer than {limit:.0f} s"
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
    if process.returncode == 0:
        return ""
    return said[-1] if said else f"it ended with {process.returncode}"


def run(entries: Sequence[Entry], *, quick: bool, device: str, folder: Path, limit: float | None) -> list[Result]:
    """Run the benchmarks that are not kept in the folder, and return the results of all."""
    results: list[Result] = []
    with Progress(len(entries)) as progress:
        for entry in entries:
            file = folder / f"{entry.name}-{device}.json"
            progress.begins(entry.name)
            if file.exists():
                found, how = Result.of_json(json.loads(file.read_text("utf-8"))), "kept"
            else:
                found, how = measured(entry, quick=quick, device=device, folder=folder, limit=limit), "done"
                if not found.error:
                    write(file, json.dumps(found.as_json()))
            results.append(found)
            for table in found.tables:
                progress.says(f"\n{table}")
            progress.ends(f"\n{entry.name}: {f'FAILED: {found.error}' if found.error else how}, {found.seconds:.0f} s")
    return results


def write(file: Path, content: str) -> None:
    """Write a file that is there as a whole or not at all."""
    part = file.with_name(file.name + ".part")
    part.write_text(content, encoding="utf-8")
    part.replace(file)


def shown(results: Sequence[Result]) -> str:
    """Return the summary as text."""
    rows = summary(results)
    wide = [max((len(row[k]) for row in rows), default=0) for k in range(3)]
    lines = ["\nIn short:"]
    for name, what, ratio, against, aim in rows:
        times = f"{ratio:>{wide[2]}} × " if ratio else ""
        lines.append(f"  {name:<{wide[0]}}  {what:<{wide[1]}}  {times}{against}" + (f"; aim {aim}" if aim else ""))
    return "\n".join(lines)


def options() -> argparse.ArgumentParser:
    """Make the options."""
    parser = argparse.ArgumentParser(
        description=__doc__, epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    names = [entry.name for entry in present()]
    parser.add_argument("--full", action="store_true", help="all sizes and repetitions: hours")
    parser.add_argument("--only", metavar="NAME", action="append", choices=names, help="one of them; may be repeated")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="with cuda, those that can")
    parser.add_argument("--list", action="store_true", help="say what there is, and measure nothing")
    parser.add_argument("--page", action="store_true", help="measure nothing: write the page again")
    parser.add_argument("--fresh", action="store_true", help="keep nothing of an interrupted run")
    parser.add_argument("--out", type=Path, default=MEASURED, help="the JSON; the page of another one is beside it")
    return parser


def main() -> int:
    """Do what was asked for; 1 if a benchmark failed."""
    parser = options()
    given = parser.parse_args()
    if given.list:
        for entry in present():
            print(f"{entry.name:<10} {'cpu, cuda' if entry.cuda else 'cpu':<10} {entry.texts()[0]}")
        return 0
    entries = [] if given.page else present(given.device, given.only or ())
    if not entries and not given.page:
        parser.error(f"{', '.join(given.only)} cannot run on {given.device}; --list says who can")
    folder, old = kept(not given.full), read(given.out)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    if given.fresh:
        shutil.rmtree(folder, ignore_errors=True)
    if entries and load() > cores() / 4:
        print(f"The machine is busy: load {load():.1f} on {cores()} cores. Ratios of time will be noisy.")
    try:
        limit = None if given.full else LIMIT
        new = run(entries, quick=not given.full, device=given.device, folder=folder, limit=limit)
    except KeyboardInterrupt:
        print(f"\nInterrupted. What has finished is in {folder}; the same command goes on with the rest.")
        return 130
    results = merged(old, new)
    where = PAGE if given.out.resolve() == MEASURED else given.out.with_suffix(".md")
    write(given.out, text(results))
    write(where, page(results))
    for entry in entries:
        (folder / f"{entry.name}-{given.device}.json").unlink(missing_ok=True)
        if not given.full:  # reports of hours stay
            shutil.rmtree(folder / entry.name, ignore_errors=True)
    if folder.exists() and not any(folder.iterdir()):
        folder.rmdir()
    print(f"{shown(new or results)}\n\nNumbers: {given.out}\nPage: {where}")
    return int(any(result.error for result in new))


if __name__ == "__main__":
    sys.exit(main())
