"""Jobs run in processes, survive each other's failures, and keep what is finished when they are interrupted."""

import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from auxilearn.experiments.harness._compare import comparisons
from auxilearn.experiments.harness._run import Failure, run_jobs
from auxilearn.experiments.harness._store import Job, Store
from tiny_experiment import PLACE, REAL

JOBS = [Job(PLACE, "second", method, seed) for seed in range(2) for method in ("main only", "ours")]
BROKEN = [Job("tiny_experiment:BROKEN", "only", method, seed) for seed in range(2) for method in ("main only", "ours")]


def test_processes_give_what_one_process_gives(tmp_path: Path) -> None:
    seen: list[Job] = []
    there, here = Store(tmp_path / "there"), Store(tmp_path / "here")
    assert run_jobs(JOBS, there, workers=2, done=lambda job, failure: seen.append(job)) == []
    assert run_jobs(list(reversed(JOBS)), here, workers=0) == []
    assert sorted(seen) == sorted(JOBS)
    for job in JOBS:
        # Global random numbers start from the seed, whatever ran before in the process.
        assert there.get(job) == here.get(job) is not None


def test_real_training_in_processes_is_reproducible_and_compared(tmp_path: Path) -> None:
    jobs = [
        Job("tiny_experiment:REAL", "digits", method, seed) for method in ("main only", "ours") for seed in range(3)
    ]
    first, second = Store(tmp_path / "first"), Store(tmp_path / "second")
    assert run_jobs(jobs, first, workers=2) == []
    assert run_jobs(jobs[::-1], second, workers=1) == []
    tables = [store.table("tiny_experiment:REAL", REAL) for store in (first, second)]
    scores, again = (
        {(m, s): r.score for m, found in table["digits"].items() for s, r in found.items()} for table in tables
    )
    assert scores == again
    (found,) = comparisons(REAL, tables[0])
    assert found.above == ["main only"]


def test_a_worker_has_one_thread_no_denormal_numbers_and_torch_imported(tmp_path: Path) -> None:
    job = Job("tiny_experiment:SETTINGS", "only", "ours", 0)
    # From another thread, which must not touch signals.
    with ThreadPoolExecutor(1) as threads:
        assert threads.submit(run_jobs, [job], Store(tmp_path), workers=1).result() == []
    result = Store(tmp_path).get(job)
    assert result is not None
    assert result.details == {"threads": 1, "denormal": 0.0, "imported": []}


@pytest.mark.parametrize("workers", [0, 1])
def test_a_failure_is_reported_and_the_others_go_on(tmp_path: Path, workers: int) -> None:
    failed: list[Failure | None] = []
    failures = run_jobs(BROKEN, Store(tmp_path), workers=workers, done=lambda job, failure: failed.append(failure))
    assert [str(failure) for failure in failures] == ["only / main only / seed 1: ValueError: the loss is NaN"]
    assert "tiny_experiment.py" in failures[0].trace
    assert len(failed) == 4
    assert sum(Store(tmp_path).get(job) is not None for job in BROKEN) == 3


def test_a_worker_that_is_ended_from_outside_is_reported(tmp_path: Path) -> None:
    failures = run_jobs([Job("tiny_experiment:ENDED", "only", "ours", 0)], Store(tmp_path), workers=1)
    assert "want of memory" in failures[0].message


def test_no_jobs_start_no_processes(tmp_path: Path) -> None:
    assert run_jobs([], Store(tmp_path), workers=2) == []


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interruption_keeps_what_is_finished_and_waits_for_nothing(tmp_path: Path, workers: int) -> None:
    def stop(job: Job, failure: Failure | None) -> None:
        raise KeyboardInterrupt

    # Each of the slow jobs sleeps for a quarter of an hour, unless it is ended.
    slow = [JOBS[0], *(Job("tiny_experiment:SLOW", "only", "ours", seed) for seed in range(2))]
    with pytest.raises(KeyboardInterrupt):
        run_jobs(slow, Store(tmp_path), workers=workers, done=stop)
    assert Store(tmp_path).get(JOBS[0]) is not None
    assert len(list(tmp_path.rglob("*.json"))) == 1
    assert not list(tmp_path.rglob("*.partial"))


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_workers_end_with_a_command_that_is_killed(tmp_path: Path) -> None:
    code = (
        "from auxilearn.experiments.harness._run import run_jobs\n"
        "from auxilearn.experiments.harness._store import Job, Store\n"
        "if __name__ == '__main__':\n"
        "    jobs = [Job('tiny_experiment:SLOW', 'only', 'ours', seed) for seed in range(2)]\n"
        f"    run_jobs(jobs, Store({str(tmp_path)!r}), workers=2)\n"
    )
    script = tmp_path / "command.py"
    script.write_text(code)
    paths = os.pathsep.join(path for path in sys.path if path)
    command = subprocess.Popen([sys.executable, str(script)], env={**os.environ, "PYTHONPATH": paths})
    workers: list[str] = []
    try:
        while len(workers) < 3:  # the resource tracker and two workers
            workers = Path(f"/proc/{command.pid}/task/{command.pid}/children").read_text().split()
            time.sleep(0.05)
        time.sleep(1)
    finally:
        command.kill()
        command.wait()
    for _ in range(1200):
        if not any(_alive(worker) for worker in workers):
            break
        time.sleep(0.05)
    assert not [worker for worker in workers if _alive(worker)]


def _alive(pid: str) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
