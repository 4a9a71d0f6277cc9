"""What the paper's experiments cost: seconds and memory of a step, and from these the hours of a full run.

Each method takes five steps on random data of the published shapes, in a process of its own; its network, batch and
losses are the recipe's. The first step is left out. Memory is the most that the other steps need with network, data and
optimizer: on a GPU what torch has allocated, on the CPU what was added since the libraries were loaded (Linux only).
What is measured is kept in a file at once, and not measured again; --fresh does.
"""

import argparse
import json
import math
import multiprocessing
import os
import re
import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import script
import torch
from benchmark import Cell, Machine, Table, load
from progress import Progress
from reproduce_tasks import EVERY, SHAPES, STEPS, work

from auxilearn.experiments.reproduce._registry import reproduction

READING = """The hours are for one seed on this machine, without reading data, validation and test. A method may be
several runs, e.g. a search and the training after it: the seconds are of a step of each. Where a method was not
measured they are those of one that computes the same, which the last column names. What the gate of ours chooses
decides what the last run trains on; on random data that is mostly the main loss alone, so that its hours may be too few
by the difference between a run of `equal` and one of `main only`."""

FILE = Path(__file__).parent / "reproduce_costs.json"
LIMIT = 3600.0  # seconds a method
MEASURED = (
    "main only",
    "equal",
    "MGDA",
    "AuxiLearn, linear",
    "AuxiLearn, ConvNet",
    "ours, fast",
    "ours, ConvNet",
    "ours",
)
OUTER = ("AuxiLearn", "MAXL", "ours")
_LOOKS_AT_LOSSES = ("equal, normalised", "uncertainty", "DWA", "FAMO")
_ALL_GRADIENTS = (
    *("GradNorm", "GCS", "GCS, weighted", "OL-AUX", "PCGrad", "CAGrad"),
    *("Nash-MTL", "IMTL-G", "Auto-λ", "AuxiNash"),
)
AS: dict[str, dict[str, int]] = {
    **{name: {"equal": 1} for name in _LOOKS_AT_LOSSES},
    **{name: {"MGDA": 1} for name in _ALL_GRADIENTS},
    "tuned scale": {"equal": 5},
    "random search": {"equal": 6},
    "ForkMerge": {"main only": 1, "equal": 1},
    "AuxiLearn, deep linear": {"AuxiLearn, linear": 1},
    "AuxiLearn, nonlinear": {"AuxiLearn, linear": 1},
    "ours, bent": {"ours": 1},
}
"""What other methods cost, in runs of those that are measured. Auto-λ and AuxiNash have one more pass on labelled rows,
FAMO one more forward pass."""


@dataclass
class Clock:
    """Told of every step, it takes the time since the one before, and resets the peak after the first."""

    device: torch.device
    runs: list[list[float]] = field(default_factory=list)
    _last: tuple[str, int, float] = ("", 0, 0.0)

    def __call__(self, phase: str, step: int, steps: int) -> None:
        """Hear of a step."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        now = time.perf_counter()
        before, number, at = self._last
        if not self.runs:
            reset_peak(self.device)
        if phase != before or step <= number:
            self.runs.append([])
        else:
            self.runs[-1].append(now - at)
        self._last = (phase, step, time.perf_counter())

    def pairs(self, first: int | None) -> list[tuple[float, float]]:
        """Return for each run the seconds of a step without and with what is due at every second one."""
        if first is None:
            return [(statistics.median(times),) * 2 for times in self.runs]
        return [
            (statistics.median(times[1 - first :: EVERY]), statistics.median(times[first::EVERY]))
            for times in self.runs
        ]


def reset_peak(device: torch.device) -> None:
    """Forget the peak so far."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    else:
        Path("/proc/self/clear_refs").write_text("5")


def resident(name: str) -> float:
    """Return the resident size now, or its peak, in MiB."""
    found = re.search(rf"{name}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else math.nan


def measure(name: str, cell: int, method: str, device: str, quick: bool, threads: int) -> dict[str, Any]:
    """Take a few steps of a method, in this process."""
    from auxilearn.experiments.reproduce._place import Place
    from auxilearn.experiments.reproduce.combined import _learned
    from auxilearn.experiments.reproduce.combined._methods import ByTrainer
    from auxilearn.experiments.reproduce.generated import _teacher
    from auxilearn.experiments.reproduce.generated._opinions import FOLDS
    from auxilearn.training import Learned

    torch.set_num_threads(threads)
    place = torch.device(device)
    before = resident("VmRSS")
    clock = Clock(place)
    with tempfile.TemporaryDirectory() as folder:
        setting = reproduction(name).cells[cell]
        made = work(name, setting, "smoke" if quick else "paper", place, Path(folder))
        run, every, first = setting.methods[method], made.every, None
        if method.startswith(OUTER):
            first = 0  # the times are those of the steps 2, 3, 4 and 5, and outer steps come after 2 and 4
        if isinstance(run, ByTrainer):
            settings = run.method()
            if isinstance(settings, Learned):  # whose outer steps come before the steps 1, 3 and 5
                every, first = settings.every, 1
                run = ByTrainer(partial(replace, settings, every=EVERY, warmup=0))
        elif method == "ours, ConvNet":  # in this process only
            every, _learned._OURS_EVERY = _learned._OURS_EVERY, EVERY
        elif method.startswith("MAXL"):
            every = EVERY  # a step of the generator for each of the student, however they are bundled
        elif method == "ours":  # a teacher's; in this process only
            every, first = max(1, made.full // _teacher._REFINE_STEPS), 1
            _teacher._REFINE_STEPS = STEPS // EVERY
        run(made.task, Place(Path(folder), 0, clock))
    peak = torch.cuda.max_memory_allocated(place) / 2**20 if place.type == "cuda" else resident("VmHWM") - before
    pairs = clock.pairs(first)
    if method == "ours" and not isinstance(run, ByTrainer):
        # Random labels help nobody, so that the gate refuses the last run: a student such as those of the teacher.
        pairs.append((pairs[-1][0] / FOLDS,) * 2)
    return {"runs": pairs, "every": every, "steps": made.full, "peak": round(peak, 1)}


def child(pipe: Any, *arguments: Any) -> None:
    """Measure, and say what was found or what went wrong."""
    try:
        pipe.send(measure(*arguments))
    except Exception as error:
        pipe.send({"error": f"{type(error).__name__}: {error}".splitlines()[0][:160]})


def apart(*arguments: Any, limit: float) -> dict[str, Any]:
    """Measure in a fresh process, in which large blocks go back to the system when they are freed."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=child, args=(there, *arguments))
    process.start()
    there.close()
    try:
        if here.poll(limit):
            return here.recv()
        process.kill()
        return {"error": f"it took longer than {limit:.0f} s"}
    except EOFError:
        process.join()
        return {"error": f"its process ended with {process.exitcode}: perhaps it needs more memory than there is"}
    finally:
        process.join()


def hours(cost: Mapping[str, Any]) -> float:
    """Return the hours of a full run: all its runs, with what is due now and then."""
    seconds = sum(plain + max(0.0, due - plain) / cost["every"] for plain, due in cost["runs"])
    return seconds * cost["steps"] / 3600


def kinds(name: str, cell: int) -> list[str]:
    """Return the methods of a setting that are measured: all of those that no other stands for."""
    return [method for method in reproduction(name).cells[cell].methods if method not in AS]


def label(name: str, cell: int) -> str:
    """Name a setting."""
    return f"{name}, {reproduction(name).cells[cell].name}"


def rows(name: str, cell: int, costs: Mapping[str, Any]) -> Iterator[tuple[Cell, ...]]:
    """List the methods of a setting, the measured ones first."""
    methods = reproduction(name).cells[cell].methods
    for method in kinds(name, cell):
        cost = costs.get(method)
        if cost is None or "error" in cost:
            yield (method, None, None, None, None, None, "" if cost is None else cost["error"])
            continue
        plain, due = (sum(seconds) for seconds in zip(*cost["runs"], strict=True))
        shown = due if method.startswith(OUTER) else None
        yield (method, len(cost["runs"]), plain, shown, cost["peak"], hours(cost), "")
    for method in methods:
        known = {like: costs.get(like, {}) for like in AS.get(method, ())}
        if known and all("runs" in cost for cost in known.values()):
            total = sum(hours(known[like]) * times for like, times in AS[method].items())
            peak = max(cost["peak"] for cost in known.values())
            words = " + ".join(f"{times} × {like}" if times > 1 else like for like, times in AS[method].items())
            yield (method, None, None, None, peak, total, f"as {words}")


def tables(costs: Mapping[str, Any], names: Sequence[str]) -> list[Table]:
    """Return a table for each setting that has a number."""
    columns = {
        "method": "",
        "runs": "d",
        "a step of all runs, s": ".3f",
        "with outer step, s": ".3f",
        "peak, MiB": ",.0f",
        "hours": ".2f",
        "": "",
    }
    found: list[Table] = []
    for name in names:
        for cell in range(len(reproduction(name).cells)):
            title = label(name, cell)
            if title in costs:
                steps = next((cost["steps"] for cost in costs[title].values() if "steps" in cost), None)
                head = title if steps is None else f"{title}: {steps:,} steps a run"
                found.append(Table(head, "", columns, tuple(rows(name, cell, costs[title]))))
    return found


def read(file: Path) -> dict[str, Any]:
    """Read what was measured."""
    return json.loads(file.read_text("utf-8")) if file.exists() else {}


def write(file: Path, content: Mapping[str, Any]) -> None:
    """Write a file that is there as a whole or not at all."""
    part = file.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n", "utf-8")
    part.replace(file)


def options() -> argparse.ArgumentParser:
    """Make the options."""
    found = script.parser(__doc__, cuda=True)
    found.epilog = "The number of one setting: `python benchmarks/reproduce_costs.py --only nyuv2 --method equal`."
    found.add_argument("--only", action="append", choices=list(SHAPES), metavar="NAME", help="of " + ", ".join(SHAPES))
    found.add_argument("--method", action="append", metavar="NAME", help="these methods only")
    found.add_argument("--limit", type=float, default=LIMIT, metavar="S", help="seconds a method may take")
    found.add_argument("--threads", type=int, default=torch.get_num_threads(), metavar="N", help="of torch, on the CPU")
    found.add_argument("--fresh", action="store_true", help="measure again what is in the file")
    found.add_argument("--page", action="store_true", help="measure nothing: print what is in the file")
    return found


def main(words: Sequence[str] | None = None) -> None:
    """Measure, keep, print."""
    given = options().parse_args(words)
    names = given.only or list(SHAPES)
    file: Path | None = given.json or (None if given.quick else FILE)  # sizes of a quick run are not the paper's
    content = {} if file is None else read(file)
    machine = content.setdefault(given.device, {"costs": {}})
    jobs = [
        (name, cell, method)
        for name in names
        for cell in range(len(reproduction(name).cells))
        for method in kinds(name, cell)
        if (not given.method or method in given.method)
        and (given.fresh or "runs" not in machine["costs"].get(label(name, cell), {}).get(method, {}))
    ]
    if not given.page:
        before = load()
        with Progress(len(jobs)) as progress:
            for name, cell, method in jobs:
                title = label(name, cell)
                progress.begins(f"{title}: {method}")
                cost = apart(name, cell, method, given.device, given.quick, given.threads, limit=given.limit)
                machine["costs"].setdefault(title, {})[method] = cost
                machine["machine"] = {**asdict(Machine.here(given.device, before)), "threads": given.threads}
                if file is not None:
                    write(file, content)
                progress.ends(cost.get("error") or f"{hours(cost):.2f} h a run, {cost['peak']:,.0f} MiB")
    if "machine" in machine:
        at = machine["machine"]
        name = at["cpu"] if given.device == "cpu" else at["device"]
        print(f"\nOn {name}, {at['threads']} threads, torch {at['torch']}.")
    for table in tables(machine["costs"], names):
        print(f"\n{table}", flush=True)
    print(f"\n{READING}")


if __name__ == "__main__":
    main()
