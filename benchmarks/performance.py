"""Render what was measured as a page of the documentation, and as a summary for the terminal."""

import json
from collections.abc import Sequence
from pathlib import Path

from benchmark import Ratio, Result, Table
from catalogue import HERE, Entry, present

MEASURED = HERE / "measured.json"
PAGE = HERE.parent / "docs" / "performance.md"

HEAD = """# Performance

This page is written by `make bench` from `benchmarks/measured.json`: no number in it is typed, and the readings stand
beside the benchmarks. A ratio is relative to a floor or a peer that the same run measured; times are medians. *Load* is
the system's average over a minute, before and after.

```sh
make bench                              # quick versions: about five minutes of an idle machine with two cores
python benchmarks/run.py --full         # everything; the stochastic problems take hours
python benchmarks/run.py --only peak    # one of them; the others stay as they are
python benchmarks/run.py --device cuda  # on a GPU, those that can
```"""


def read(file: Path) -> list[Result]:
    """Read what was measured; a file that is not there holds nothing."""
    return [Result.of_json(data) for data in json.loads(file.read_text("utf-8"))["results"]] if file.exists() else []


def text(results: Sequence[Result]) -> str:
    """Return the JSON, which ends with a newline."""
    data = {"results": [result.as_json() for result in results]}
    return json.dumps(data, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def merged(old: Sequence[Result], new: Sequence[Result]) -> list[Result]:
    """Replace the results of the same benchmark on the same device, in the order of the page."""
    found = {(r.name, r.device): r for r in (*old, *new)}
    return [found[e.name, d] for e in present() for d in ("cpu", "cuda") if (e.name, d) in found]


def summary(results: Sequence[Result]) -> list[tuple[str, str, str, str, str]]:
    """Return a row a ratio: the benchmark, what was measured, how many times as much, against what, and the aim."""
    rows: list[tuple[str, str, str, str, str]] = []
    for result in results:
        name = result.name if result.device == "cpu" else f"{result.name}, {result.device}"
        busy = result.machine is not None and result.machine.busy
        if result.error:
            rows.append((name, "failed", "", result.error, ""))
        rows += [(name, r.name, value(r), r.against, r.met(busy=busy)) for r in result.ratios]
    return rows


def value(ratio: Ratio) -> str:
    """Show a ratio; one that is an error by its order of magnitude."""
    return f"{ratio.value:.2f}" if ratio.value >= 0.1 else f"{ratio.value:.1e}"


def page(results: Sequence[Result]) -> str:
    """Return the page in Markdown."""
    parts = [HEAD]
    head = ("benchmark", "what", "ratio", "against", "aim")
    parts += ["## In short", markdown(head, ("", "", ">", "", ""), summary(results))]
    for entry in present():
        mine = [result for result in results if result.name == entry.name]
        about, reading = entry.texts()
        parts += [f"## {entry.title}", about]
        for result in mine:
            parts += section(entry, result)
        if mine and reading:
            parts.append(f"*Reading.* {reading}")
        if not mine:
            parts.append(f"Not measured: `python benchmarks/run.py --only {entry.name}` does it.")
    return "\n\n".join([*parts, "## What was not measured", *absent(results)]) + "\n"


def section(entry: Entry, result: Result) -> list[str]:
    """Return the paragraphs of one run of a benchmark."""
    words = [f"`python {' '.join(entry.command(quick=result.quick, device=result.device))}`"]
    if result.machine is not None:
        m = result.machine
        words += [] if m.device == "cpu" else [m.device]
        words += [m.cpu, f"{m.cores} cores", f"{m.threads} threads", f"torch {m.torch}", m.date]
    words += [f"{result.seconds:.0f} s"]
    words += [f"load {result.machine.load[0]:.1f} and {result.machine.load[1]:.1f}"] if result.machine else []
    parts = [", ".join(words).replace(" 1 cores", " one core").replace(" 1 threads", " one thread") + ":"]
    if result.error:
        parts.append(f"**Failed**, so that nothing is known: `{result.error.replace('`', chr(39))}`")
    if result.machine is not None and result.machine.busy:
        parts.append("The machine was busy with other things: ratios of time are noise here, and aims are not judged.")
    for table in result.tables:
        floor = f", against {table.floor}" if table.floor else ""
        parts += [f"**{table.title}**{floor}:", _body(table), *table.notes]
    return parts


def _body(table: Table) -> str:
    sides = [">" if form else "" for form in table.columns.values()]
    return markdown(list(table.columns), sides, table.cells())


def markdown(head: Sequence[str], sides: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return a table in Markdown; columns with the side ``>`` are aligned to the right."""
    rule = "|" + "|".join("---:" if side else "---" for side in sides) + "|"
    lines = ["| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in (head, *rows)]
    return "\n".join([lines[0], rule, *lines[1:]])


def absent(results: Sequence[Result]) -> list[str]:
    """Say what is missing, and how to get it."""
    good = {(result.name, result.device) for result in results if not result.error}
    parts: list[str] = []
    if failed := [result.name for result in results if result.error]:
        parts.append(f"Failed: {', '.join(failed)}.")
    gpu, some = [e.name for e in present("cuda") if (e.name, "cuda") not in good], [n for n, d in good if d == "cuda"]
    if gpu:
        parts.append(
            f"On a GPU: {', '.join(gpu)}. Where there is one, `python benchmarks/run.py --device cuda` measures these."
            + ("" if some else " Their code for GPUs has never run: it may need a correction.")
        )
    if others := [e.name for e in present() if not e.cuda]:
        parts.append(f"On the CPU only, by their nature or so far: {', '.join(others)}.")
    if quick := [result.name for result in results if result.quick and not result.error]:
        parts.append(
            f"In full: {', '.join(dict.fromkeys(quick))}. `python benchmarks/run.py --full` measures all sizes."
        )
    return parts
