"""`torchrun -m auxilearn run`: the ranks share the jobs, the first one speaks, and nobody is left behind."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from torch import distributed as dist

import tiny_experiment
from auxilearn.experiments.harness._run import run_jobs
from auxilearn.experiments.harness._store import Job, Store

pytestmark = pytest.mark.skipif(not dist.is_available(), reason="torch is built without torch.distributed")
TESTS = Path(tiny_experiment.__file__).parent


def start(*words: str) -> subprocess.Popen[str]:
    paths = os.pathsep.join([str(TESTS), *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--standalone",
            "--nproc-per-node=2",
            "-m",
            "auxilearn",
            *words,
        ],
        env={**os.environ, "PYTHONPATH": paths, "COLUMNS": "160", "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def finished(process: subprocess.Popen[str]) -> tuple[int, str]:
    try:
        said, _ = process.communicate(timeout=400)
    finally:
        process.kill()
    return process.returncode, said


def test_ranks_share_the_jobs_and_results_are_those_of_one_process(tmp_path: Path) -> None:
    code, said = finished(start("run", tiny_experiment.PLACE, "--cell", "second", "--out", str(tmp_path / "there")))
    assert code == 0, said
    assert said.count("to run. With 2 processes") == 1, said
    assert said.count("Ran ") == 1
    assert "ours is best" in said
    jobs = [Job(tiny_experiment.PLACE, "second", method, seed) for method in ("main only", "ours") for seed in range(3)]
    there, here = Store(tmp_path / "there"), Store(tmp_path / "here")
    assert run_jobs(jobs, here, workers=0) == []
    for job in jobs:
        assert there.get(job) == here.get(job) is not None


def test_a_failure_on_a_rank_is_said_once_and_the_others_go_on(tmp_path: Path) -> None:
    code, said = finished(start("run", "tiny_experiment:BROKEN", "--out", str(tmp_path)))
    assert code != 0
    assert "the loss is NaN" in said
    assert said.count("failed; the same command tries them again") == 1, said
    assert len(list(tmp_path.rglob("0.json"))) == len(list(tmp_path.rglob("2.json"))) > 0


def test_ctrl_c_ends_all_ranks(tmp_path: Path) -> None:
    process = start("compare", "tiny_experiment:SLOW", "--out", str(tmp_path))
    began, deadline = False, time.monotonic() + 300
    assert process.stdout is not None
    while not began and time.monotonic() < deadline:
        began = "to run" in process.stdout.readline()
    assert began
    time.sleep(1)
    process.send_signal(signal.SIGINT)
    code, _ = finished(process)
    assert code != 0
