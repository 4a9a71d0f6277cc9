"""Run functions on ranks of a gloo group, two if nothing is said, all of a test file in one set of processes.

A test file has functions named ``on_two_ranks_…``, which all ranks call, one after the other, and a test for each.
After one that fails on a rank, the others are not run.
"""

import faulthandler
import importlib.util
import json
import os
import subprocess
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import pytest
import torch
from torch import Tensor
from torch import distributed as dist

from auxilearn.distributed._gather import ALL_GATHER, REDUCE_SCATTER

PREFIX = "on_two_ranks_"
DEADLINE = 600  # of all functions of a file together, on a busy machine

Outcomes = dict[str, list[str]]


def names(module: dict[str, object]) -> list[str]:
    return [name.removeprefix(PREFIX) for name in module if name.startswith(PREFIX)]


def outcomes(file: str, folder: Path, size: int = 2) -> Outcomes:
    """Run every function of a test file, and return what each rank had to complain about."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    start = [sys.executable, __file__, file, str(folder), str(size)]
    logs = [(folder / f"log-{rank}.txt").open("w+") for rank in range(size)]
    ranks = [subprocess.Popen([*start, str(r)], env=env, stdout=logs[r], stderr=logs[r]) for r in range(size)]
    try:
        for rank in ranks:
            rank.wait(timeout=DEADLINE)
    except subprocess.TimeoutExpired:
        pass  # those functions that did not come to an end are missed below
    finally:
        for rank in ranks:
            rank.kill()
            rank.wait()
    found: Outcomes = {}
    for rank, log in enumerate(logs):
        log.seek(0)
        said = log.read()[-3000:]
        log.close()
        file_of_rank = folder / f"{rank}.jsonl"
        lines = file_of_rank.read_text().splitlines() if file_of_rank.exists() else []
        for name, complaint in map(json.loads, lines):
            found.setdefault(name, [""] * size)[rank] = complaint and f"rank {rank}: {complaint}"
        for name, complaints in found.items():
            if name not in [json.loads(line)[0] for line in lines]:
                complaints[rank] = f"rank {rank} did not finish {name}; it said:\n{said}"
        found.setdefault("", [""] * size)[rank] = said
    return found


def passed(found: Outcomes, name: str) -> None:
    """Assert that a function passed on all ranks, and skip the test if it was skipped."""
    absent = f"{name} did not run: another function failed before it, or a rank did not start.\n{found[''][0]}"
    complaints = [c for c in found.get(name, [absent]) if c]
    if complaints and "SKIPPED" in complaints[0]:
        pytest.skip(complaints[0])
    assert not complaints, "\n".join(complaints)


def rows(total: int) -> slice:
    """Return this rank's even part of the rows."""
    part = total // dist.get_world_size()
    return slice(dist.get_rank() * part, (dist.get_rank() + 1) * part)


def same_on_all(t: Tensor) -> bool:
    """Say whether all ranks have the very same numbers."""
    others = [torch.empty_like(t) for _ in range(dist.get_world_size())]
    dist.all_gather(others, t.detach().contiguous())
    return all(torch.equal(other, others[0]) for other in others)


@contextmanager
def counted() -> Iterator[dict[str, list[int]]]:
    """List the elements of every message that is sent by a function of torch.distributed."""
    sent: dict[str, list[int]] = {kind: [] for kind in ("all_reduce", "broadcast", ALL_GATHER, REDUCE_SCATTER)}
    originals = {name: getattr(dist, name) for name in sent}

    def counting(name: str) -> Callable[..., object]:
        def call(t: Tensor, *args: object, **kwargs: object) -> object:
            sent[name].append(t.numel())
            return originals[name](t, *args, **kwargs)

        return call

    for name in sent:
        setattr(dist, name, counting(name))
    try:
        yield sent
    finally:
        for name, original in originals.items():
            setattr(dist, name, original)


def _load(file: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location("checks", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _main(file: str, folder: Path, size: int, rank: int) -> None:
    # torch has to be loaded before the clock of the group starts.
    from support import process_group

    torch.set_num_threads(1)
    faulthandler.dump_traceback_later(DEADLINE - 30)
    module = _load(file)
    records = folder / f"{rank}.jsonl"
    with process_group(folder / "store", rank=rank, size=size), records.open("w", buffering=1) as out:
        for name in names(vars(module)):
            complaint = ""
            try:
                torch.manual_seed(0)
                getattr(module, PREFIX + name)()
                dist.barrier()
            except pytest.skip.Exception as skip:
                complaint = f"SKIPPED: {skip.msg}"
            except BaseException:
                complaint = traceback.format_exc()
            out.write(json.dumps([name, complaint]) + "\n")
            if complaint and not complaint.startswith("SKIPPED"):
                break  # the others may wait for messages of this one, and would take later ones for them
        # Some releases of gloo hang when all ranks close their connections at once.
        os._exit(0)


if __name__ == "__main__":
    _main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
