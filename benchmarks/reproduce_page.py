"""Write docs/reproduce.md: every table of the paper, what was measured here, and what a full run costs.

python benchmarks/reproduce_page.py                       # without results: what others state, and empty cells
python benchmarks/reproduce_page.py --results reproduced  # with the runs that are kept there
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from performance import markdown
from reproduce_costs import tables
from reproduce_tasks import SHAPES

from auxilearn.experiments.reproduce._jobs import Shelf, runs_of
from auxilearn.experiments.reproduce._registry import REPRODUCTIONS, reproduction
from auxilearn.experiments.reproduce._reproduction import PaperCell, Reproduction
from auxilearn.experiments.reproduce._tables import Measured, markdown_table

HERE = Path(__file__).parent
COSTS = HERE / "reproduce_costs.json"
PAGE = HERE.parent / "docs" / "reproduce.md"
ABSENT = "needs the data"

HEAD = """# The paper's experiments

Every experiment of *Auxiliary Learning by Implicit Differentiation* (Navon et al., ICLR 2021) on the data that it was
published on, one command each. The data are yours to bring: they are read in their published formats, never changed,
and nothing is downloaded. This page is written by `python benchmarks/reproduce_page.py`; a number in a column without a
source would be measured by us, and **where the data were not at hand the cell says so**.

```sh
pip install '.[reproduce]'
auxilearn reproduce nyuv2 --dry-run               # every hyperparameter with its source, and what would be run
auxilearn make-miniature nyuv2 /tmp/nyuv2         # no data? a small set in the published format, of real pictures
auxilearn reproduce nyuv2 --data /tmp/nyuv2 --budget smoke     # everything works; its numbers are no evidence
auxilearn reproduce nyuv2 --data DIR              # in full: all methods, all seeds; it goes on after Ctrl-C
auxilearn reproduce nyuv2 --data DIR --method "main only,AuxiLearn, nonlinear,ours" --seeds 4
```

Splits, checkpoints, curves, tables and weights go to `reproduced/` (`--out`). `--verify` compares checksums, `--device`
chooses the device, `--pretrained FILE` starts the backbone from weights as torchvision saves them (by default it starts
at random), `--set network=deeplab` changes a hyperparameter. Finished runs are kept while data, hyperparameters and the
code that can change them are the same. Where the experiments have no given losses, weightings of losses do not apply:
there the rivals are MAXL, MAXL-F, random sub-classes and self-training.

**What is compared.** All methods of an experiment have the same labels, split, initial weights, batches, losses (means
over what has a truth: ignored pixels count nothing) and optimizer; the weights that are best on the validation rows are
kept. *AuxiLearn, …* is the published method with its settings; *ours* is this library's default, which learns the
weights, asks held-out labels whether they help, and falls back to the main loss alone. Methods that look at every
loss's gradient (MGDA, PCGrad, CAGrad, IMTL-G, Nash-MTL, AuxiNash, GradNorm, GCS) cost a backward pass for each loss.

**What later, independent runs found** is sobering: AuxiNash (Shamsian et al., ICML 2023, by the same group) has the
published method at 38.63 on NYUv2 where equal weights have 38.43, and at 36.18 on Cityscapes where equal weights have
37.66 and the main loss alone has 48.64. Its columns stand beside the paper's below."""


COSTS_HEAD = """Seconds of a step at the paper's sizes, on random data of the published shapes, and the most memory
that a run adds, data and optimizer included; from these the hours of a full run of one seed, without reading data and
without measuring metrics. *Runs* are the networks that a method trains at once, or one after another; *a step of all
runs* is one step of each. Where a method was not measured, *as* says which one computes the same; one without a row
was not measured at all: a CPU is not where anyone runs these. `python benchmarks/reproduce_costs.py` goes on with what
is missing. Some of the first rows were taken beside other work, and are too high."""


def page(results: Path | None = None, costs: Mapping[str, Any] | None = None) -> str:
    """Return the page in Markdown.

    Args:
        results: The folder of finished runs.
        costs: What ``reproduce_costs.py`` measured.
    """
    parts = [HEAD]
    for name in REPRODUCTIONS:
        parts += section(reproduction(name), results)
    return "\n\n".join([*parts, *costs_section(costs or {})]) + "\n"


def section(chosen: Reproduction, results: Path | None) -> list[str]:
    """Return the paragraphs of an experiment."""
    parts = [f"## {chosen.title}", chosen.about]
    sources = dict.fromkeys(file.source for file in chosen.files)
    parts.append(f"Data: {', '.join(f'<{s}>' if s.startswith('http') else s for s in sources)}.")
    for cell in chosen.cells:
        measured = {} if results is None else found(chosen, cell, results)
        command = f"auxilearn reproduce {chosen.name} --data DIR"
        if len(chosen.cells) > 1:
            command += f' --cell "{cell.name}"'
        parts.append(f"### {chosen.name}: {cell.name}")
        if not measured:
            others = [method for method in cell.methods if method not in shown(cell, measured)]
            more = f" It runs these, too: {listed(others)}." if others else ""
            rest = [metric.name for metric in cell.metrics if metric not in short(cell).metrics]
            more += f" It measures, too: {listed(rest)}." if rest else ""
            parts.append(f"*{ABSENT.capitalize()}* means: run `{command}`.{more}")
        table = cell if measured else short(cell)
        parts.append(markdown_table(table, measured, absent=ABSENT, only=shown(cell, measured)))
    return parts


def listed(names: Sequence[str]) -> str:
    """Name things whose names may hold commas."""
    return ", ".join(f"`{name}`" for name in names)


def short(cell: PaperCell) -> PaperCell:
    """Leave out the columns that neither is the main one nor anybody states."""
    stated = {name for source in cell.literature for row in source.rows.values() for name in row}
    kept = tuple(m for m in cell.metrics if m.name in stated or m == cell.metrics[0])
    return replace(cell, metrics=kept)


def shown(cell: PaperCell, measured: Measured) -> list[str]:
    """Return the methods with a row: those that were measured, that others have, the paper's and ours."""
    theirs = {name for source in cell.literature for name in source.rows}
    return [
        method
        for method in cell.methods
        if method in measured
        or cell.same.get(method, method) in theirs
        or method in (cell.plain, cell.ours)
        or method.startswith(("ours", "AuxiLearn"))
    ]


def found(chosen: Reproduction, cell: PaperCell, results: Path) -> dict[str, dict[int, dict[str, float]]]:
    """Collect the finished runs of a cell at the paper's budget."""
    shelf = Shelf(results, "paper")
    measured: dict[str, dict[int, dict[str, float]]] = {}
    for run in runs_of(chosen, cells=(cell.name,), methods=(), seeds=range(100), budget="paper"):
        metrics = shelf.metrics(chosen, run)
        if metrics is not None and run.cell.name == cell.name:
            measured.setdefault(run.method, {})[run.seed] = dict(metrics)
    return measured


def costs_section(costs: Mapping[str, Any]) -> list[str]:
    """Return the paragraphs about time and memory."""
    parts = ["## What a full run costs", COSTS_HEAD]
    for device, found in costs.items():
        at = found["machine"]
        parts.append(
            f"Measured on {at['cpu'] if device == 'cpu' else at['device']}, {at['threads']} threads, torch "
            f"{at['torch']}, {at['date']}:"
        )
        for table in tables(found["costs"], list(SHAPES)):
            cells = [row for row in table.cells() if any(row[1:])]
            sides = [">" if form else "" for form in table.columns.values()]
            parts += [f"**{table.title}**", markdown(list(table.columns), sides, cells)]
    if not costs:
        parts.append("Not measured yet: `python benchmarks/reproduce_costs.py` does it.")
    if "cuda" not in costs:
        parts.append(
            "On a GPU nothing was measured: none was at hand. `python benchmarks/reproduce_costs.py --device cuda` "
            "measures the same there, and `python benchmarks/reproduce_page.py` adds its tables."
        )
    return parts


def main(words: Sequence[str] | None = None) -> int:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--results", type=Path, help="the folder of finished runs, as `--out` of auxilearn reproduce")
    parser.add_argument("--page", type=Path, default=PAGE)
    given = parser.parse_args(words)
    costs = json.loads(COSTS.read_text("utf-8")) if COSTS.exists() else {}
    given.page.write_text(page(given.results, costs), encoding="utf-8")
    print(f"Wrote {given.page}.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
