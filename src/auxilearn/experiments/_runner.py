"""Share the seeds of all parts among processes, keep what is finished, and go on where it stopped."""

import hashlib
import json
import multiprocessing
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import asdict
from functools import lru_cache, reduce
from operator import add
from pathlib import Path
from typing import Any

import torch

import auxilearn
from auxilearn import data
from auxilearn.experiments._study import Outcome, Part, run_seeds

DATA: dict[str, Callable[[], data.Images]] = {"mnist": data.mnist_5k, "digits": data.sklearn_digits}


def run_parts(
    dataset: str,
    parts: Sequence[Part],
    seeds: Sequence[int],
    *,
    workers: int,
    cache: Path,
    done: Callable[[int], None] = lambda _: None,
) -> list[Outcome]:
    """Run every part on every seed.

    Finished pieces are kept in ``cache`` as JSON, named by a hash of everything that determines them, the library's
    code included; a piece that is there is not run again, so an interrupted run continues.

    Args:
        dataset: A key of ``DATA``.
        parts: What to run.
        seeds: The seeds.
        workers: How many processes, one thread each.
        cache: A folder; it is made if it is absent.
        done: Called with the number of seeds of every piece that is finished.

    Returns:
        One outcome a part.
    """
    cache.mkdir(parents=True, exist_ok=True)
    # Two seeds of all models fit the cache of one core; four cost ten percent more a seed.
    size = max(1, min(2, len(seeds) // max(workers, 1)))
    chunks = [list(seeds[i : i + size]) for i in range(0, len(seeds), size)]
    pieces = [[(dataset, part, chunk) for chunk in chunks] for part in parts]
    files = {(i, j): cache / f"{_name(*piece)}.json" for i, row in enumerate(pieces) for j, piece in enumerate(row)}
    missing = {at: pieces[at[0]][at[1]] for at, file in files.items() if not file.exists()}
    for at in files.keys() - missing.keys():
        done(len(pieces[at[0]][at[1]][2]))
    if missing:
        # Spawned, not forked: forking a process in which torch has threads may hang.
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(min(workers, len(missing)), mp_context=context) as pool:
            jobs: dict[Future[Outcome], tuple[int, int]] = {pool.submit(_job, *p): at for at, p in missing.items()}
            try:
                for job in as_completed(jobs):
                    _write(files[jobs[job]], job.result())
                    done(len(job.result().seeds))
            except BaseException:
                pool.shutdown(wait=False, cancel_futures=True)
                raise
    return [reduce(add, [_read(files[i, j]) for j in range(len(chunks))]) for i in range(len(parts))]


def _job(dataset: str, part: Part, seeds: list[int]) -> Outcome:
    # One thread: two threads on small tensors wait for each other whenever a core is busy. Denormal numbers, which
    # dead units and vanishing gradients produce, would cost tens of times more.
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    return run_seeds(_images(dataset), part, seeds)


@lru_cache
def _images(dataset: str) -> data.Images:
    # A process does several pieces, and reading the table takes a second.
    return DATA[dataset]()


def _name(dataset: str, part: Part, seeds: list[int]) -> str:
    settings = json.dumps([dataset, asdict(part), seeds, torch.__version__, _code()], sort_keys=True)
    return hashlib.sha256(settings.encode()).hexdigest()[:16]


@lru_cache
def _code() -> str:
    sources = sorted(Path(auxilearn.__file__).parent.rglob("*.py"))
    return hashlib.sha256(b"".join(file.read_bytes() for file in sources)).hexdigest()


def _write(file: Path, outcome: Outcome) -> None:
    # First beside, then renamed: a piece is there whole or not at all.
    partial = file.with_suffix(".partial")
    partial.write_text(json.dumps(asdict(outcome)))
    partial.replace(file)


def _read(file: Path) -> Outcome:
    content: dict[str, Any] = json.loads(file.read_text())
    return Outcome(**content)
