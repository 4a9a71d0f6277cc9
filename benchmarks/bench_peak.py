"""Print the peak memory of one outer step, for ours and others, in MiB and as a ratio to one plain gradient.

Each runs in a process of its own, where large blocks go back to the system when they are freed: a first step loads and
compiles what it needs, then the peak is reset and a second step is taken. Other people's packages are measured where
they are installed (`pip install torchopt hypergrad betty-ml higher`). Linux only, for the peak is reset through /proc.
"""

import importlib.metadata
import importlib.util
import multiprocessing
import os
import re
import warnings
from pathlib import Path

import torch
from outer_steps import METHODS, PACKAGES, Setting


def memory(field: str) -> float:
    """Return the resident size now, or its peak, in MiB."""
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) / 1024 if found else float("nan")


def peak(name: str) -> float | str:
    """Return what a second step adds at its peak, in MiB, or why there is none."""
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    try:
        step = METHODS[name](Setting(checkpointed="checkpointed" in name))
        step()
        Path("/proc/self/clear_refs").write_text("5")
        before = memory("VmRSS")
        step()
        return memory("VmHWM") - before
    except Exception as error:
        return f"{type(error).__name__}: {error}".splitlines()[0][:80]


def apart(name: str) -> float | str:
    """Measure in a fresh process."""
    os.environ["MALLOC_MMAP_THRESHOLD_"] = "65536"
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(peak, (name,))


def main() -> None:
    """Print a row for each method."""
    floor = 0.0
    print(f"{'one outer step on 256 images':<36}{'peak, MiB':>10}{'ratio':>8}")
    for name in METHODS:
        package = name.partition(",")[0]
        label = name
        if package in PACKAGES:
            if importlib.util.find_spec(PACKAGES[package]) is None:
                print(f"{name:<36}{'not installed':>18}")
                continue
            label = name.replace(package, f"{package} {importlib.metadata.version(package)}")
        found = apart(name)
        if isinstance(found, str):
            print(f"{label:<36}  {found}")
            continue
        floor = floor or found
        print(f"{label:<36}{found:>10.0f}{found / floor:>8.2f}")


if __name__ == "__main__":
    main()
