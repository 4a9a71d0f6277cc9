"""Run jobs in processes of one thread each, keep every result at once, and go on when one fails."""

import logging
import multiprocessing
import os
import random
import signal
import threading
import traceback
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import lru_cache
from typing import final

import torch

from auxilearn._extras import require
from auxilearn.distributed import independent
from auxilearn.experiments import registry
from auxilearn.experiments.harness._experiment import Result
from auxilearn.experiments.harness._store import Job, Store, checked


@final
@dataclass(frozen=True)
class Failure:
    """A job that raised.

    Attributes:
        job: The job.
        message: The exception, in one line.
        trace: The whole traceback.
    """

    job: Job
    message: str
    trace: str

    def __str__(self) -> str:
        return f"{self.job}: {self.message}"


def run_jobs(
    jobs: Sequence[Job], store: Store, *, workers: int, done: Callable[[Job, Failure | None], None] | None = None
) -> list[Failure]:
    """Run jobs, and keep the results.

    Args:
        jobs: What to run, in this order.
        store: Where results are kept, each as soon as it is there.
        workers: How many processes, one thread each. With 0, everything runs in this process, as a debugger needs it.
        done: Called after each job, with its failure if it failed.

    Returns:
        The jobs that failed, after all others were run.
    """
    failures: list[Failure] = []
    # Closed at once when something is raised here: a traceback would keep the processes alive.
    with closing(_alone(jobs) if workers == 0 else _shared(jobs, workers)) as attempts:
        for job, outcome in attempts:
            failure = outcome if isinstance(outcome, Failure) else None
            if isinstance(outcome, Failure):
                failures.append(outcome)
            else:
                store.put(job, outcome)
            if done is not None:
                done(job, failure)
    return failures


def _alone(jobs: Sequence[Job]) -> Generator[tuple[Job, Result | Failure]]:
    for job in jobs:
        yield job, attempt(job)


def _shared(jobs: Sequence[Job], workers: int) -> Generator[tuple[Job, Result | Failure]]:
    if not jobs:
        return
    others = set(multiprocessing.active_children())
    # Spawned, not forked: forking a process in which torch has threads may hang.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(workers, len(jobs)), context, _begin) as pool:
        with _deaf_to_ctrl_c():
            futures: dict[Future[Result | Failure], Job] = {
                pool.submit(_attempt, registry.place(job.experiment), job): job for job in jobs
            }
        try:
            for future in as_completed(futures):
                job = futures[future]
                try:
                    yield job, future.result()
                except BrokenProcessPool:
                    message = "a worker process was ended from outside, perhaps for want of memory; run again to go on"
                    yield job, Failure(job, message, "")
        except BaseException:
            # Leaving the pool waits for jobs that have begun; after Ctrl-C nobody wants to.
            pool.shutdown(wait=False, cancel_futures=True)
            for process in set(multiprocessing.active_children()) - others:
                process.terminate()
            raise


@contextmanager
def _deaf_to_ctrl_c() -> Generator[None]:
    # Processes started meanwhile stay so: Ctrl-C reaches all processes of a terminal, and this one alone decides.
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


def prepare() -> None:
    """Make this process one in which jobs are run."""
    # One thread: two threads on small tensors wait for each other whenever a core is busy. Denormal numbers, which
    # dead units and vanishing gradients produce, would cost tens of times more.
    torch.set_num_threads(1)
    torch.set_flush_denormal(True)
    # What a fit decides is in its result; a line from every process would run through the progress bar.
    logging.getLogger("auxilearn").setLevel(logging.ERROR)


def _begin() -> None:
    prepare()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    # A command that was killed cannot end its workers, which hold each other's queue open and would wait for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@lru_cache
def _warm_up() -> None:
    # The first optimizer of a process imports a second's worth of torch, which is no method's own time.
    weight = torch.zeros(1, requires_grad=True)
    optimizer = torch.optim.Adam([weight])
    weight.sum().backward()
    optimizer.step()


def attempt(job: Job) -> Result | Failure:
    """Run one job in this process.

    Args:
        job: The job.

    Returns:
        Its result, or its failure if it raised.
    """
    return _attempt(registry.place(job.experiment), job)


def _attempt(place: str, job: Job) -> Result | Failure:
    # An exception travels as text, since not every exception can be pickled.
    try:
        _warm_up()
        cell = next(cell for cell in registry.load(place).cells if cell.name == job.cell)
        # The same numbers whatever ran before in this process. A method gets a task of its own, whatever it does to it.
        random.seed(job.seed)
        torch.manual_seed(job.seed)
        require("numpy.random", extra="experiments").seed(job.seed)
        with independent():
            return checked(cell.methods[job.method](cell.task(job.seed), job.seed))
    except Exception as error:
        message = f"{type(error).__name__}: {' '.join(str(error).split())}"
        return Failure(job, message, traceback.format_exc())
