"""The peak memory of one outer step, for ours and others, in MiB and as a ratio to one plain gradient.

Each runs in a process of its own, where large blocks go back to the system when they are freed: a first step loads and
compiles what it needs, then the peak is reset and a second step is taken. Other people's packages are measured where
they are installed (`pip install torchopt hypergrad betty-ml higher`). On the CPU it needs Linux, for the peak is reset
through /proc; on a GPU it is what torch has allocated.
"""

import importlib.metadata
import importlib.util
import multiprocessing
import os
import re
import warnings
from pathlib import Path

import script
import torch
from benchmark import Cell, Ratio, Table
from outer_steps import METHODS, PACKAGES, Setting, Step

READING = """All but the default, conjugate gradients (another solver) and `higher` (unrolling) give the same
hypergradient to four digits. The graph of the gradient is what a product needs, and what takes the memory: a bare
`torch.autograd.grad(..., create_graph=True)` has it, too. The graph of the outer loss is saved by passing that loss as
a generator. Checkpointed activations save little here. Streaming and finite differences need hardly more than a plain
gradient, and pay with passes."""

FLOOR, DEFAULT, ORIGINAL = "one plain gradient", "ours, default", "auxilearn 1.0.0's arithmetic"
# A quick run leaves out what takes as much as another row, and the compiler.
LONG = ("ours, fixed α", "ours, conjugate gradients", "ours, activations checkpointed", "ours, compiled")


def memory(field: str) -> float:
    """Return the resident size now, or its peak, in MiB."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def peak(name: str, device: str) -> float | str:
    """Return what a second step adds at its peak, in MiB, or why another package has none."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        with torch.device(device):
            setting = Setting(checkpointed="checkpointed" in name)
        step = METHODS[name](setting)
        step()
        return allocated_by(step) if device == "cuda" else resident_by(step)
    except Exception as error:
        if package_of(name) is None:
            raise
        return f"{type(error).__name__}: {error}".splitlines()[0][:80]


def resident_by(step: Step) -> float:
    """Return what a step adds to the resident size at its peak."""
    Path("/proc/self/clear_refs").write_text("5")
    before = memory("VmRSS")
    step()
    return memory("VmHWM") - before


def allocated_by(step: Step) -> float:
    """Return what a step adds to the memory that torch has allocated on the GPU, at its peak."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    step()
    return (torch.cuda.max_memory_allocated() - before) / 2**20


def package_of(name: str) -> str | None:
    """Return the other package that a method belongs to, if it does."""
    package = name.partition(",")[0]
    return package if package in PACKAGES else None


def apart(name: str, device: str) -> float | str:
    """Measure in a fresh process."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak, (name, device))


def measure(quick: bool, device: str) -> list[Table]:
    """Return a row for each method."""
    found: dict[str, float] = {}
    rows: list[tuple[Cell, ...]] = []
    absent: list[str] = []
    for name in METHODS:
        if quick and name in LONG:
            continue
        label, package = name, package_of(name)
        if package is not None:
            if importlib.util.find_spec(PACKAGES[package]) is None:
                absent.append(package)
                continue
            label = name.replace(package, f"{package} {importlib.metadata.version(package)}")
        took = apart(name, device)
        if isinstance(took, str):
            rows.append((label, None, took))
            continue
        found[name] = took
        rows.append((label, took, took / found[FLOOR]))
    ratios = [
        Ratio(f"memory of {name}", found[name] / found[FLOOR], FLOOR) for name in found if name.startswith("ours")
    ]
    ratios.append(Ratio(f"memory of {DEFAULT}", found[DEFAULT] / found[ORIGINAL], ORIGINAL))
    notes = (f"Not installed, and so not measured: {', '.join(absent)}.",) if absent else ()
    columns = {"": "", "peak, MiB": ".0f", "ratio": ".2f"}
    title = "Memory of one outer step on 256 images of 28 × 28, 71,000 weights, two losses, three terms or steps"
    return [Table(title, FLOOR, columns, tuple(rows), notes, tuple(ratios))]


if __name__ == "__main__":
    script.run("peak", measure, script.parser(__doc__, cuda=True).parse_args())
