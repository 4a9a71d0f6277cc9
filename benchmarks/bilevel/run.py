"""Stochastic bilevel methods, ours and others': each tuned over the same grid, the best repeated over seeds.

``python benchmarks/bilevel/run.py --quick`` takes less than a minute of one core, on smaller data and a coarser grid.
Every run is a file below ``--out``, so that an interrupted comparison goes on where it was. Runs are in float64, on one
thread.
"""

import argparse
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))  # what all benchmarks share

import baselines
import ours
import script
import torch
from benchmark import Machine, Result, load
from oracles import BATCH, Oracles
from report import tables, write
from tasks import TASKS, Task

READING = """A ratio below one says that the method did better than the best of SOBA, SABA, AmIGO and StocBiO with the
same budget of derivatives. A quick run is a check that all of them learn: small data, a coarse grid, one seed and a
short budget, under which the order of methods is not that of a long one."""

Method = Callable[[Oracles, float, float], baselines.Iterates]

METHODS: dict[str, tuple[Method, int]] = {  # with the size of the inner batches
    "SOBA": (baselines.soba, BATCH),
    "SABA": (baselines.saba, BATCH),
    "AmIGO": (baselines.amigo, BATCH),
    "StocBiO": (baselines.stocbio, BATCH),
    "ours: SingleLoop": (ours.single_loop, BATCH),
    "ours: Neumann(10)": (ours.neumann, BATCH),
    "ours: CG(5), batches of 512": (ours.conjugate_gradient, ours.LARGE),
    "ours: PenaltyMethod": (ours.penalty, BATCH),
}


@dataclass(frozen=True)
class Run:
    """One method at one setting."""

    task: str
    method: str
    step: float
    ratio: float
    seed: int
    budget: float
    quick: bool

    def file(self, out: Path) -> Path:
        """Return where its curve is kept."""
        slug = "".join(c if c.isalnum() else "-" for c in self.method)
        size = f"{'quick-' if self.quick else ''}{self.budget:g}"
        return out / self.task / f"{slug}_{size}_{self.step:g}_{self.ratio:g}_{self.seed}.json"


def curve(task: Task, run: Run, points: int) -> list[dict[str, float]]:
    """Run a method until its budget is spent, and measure it at points evenly spaced in the number of calls."""
    method, batch = METHODS[run.method]
    oracles = Oracles(task, run.seed, batch)
    W, phi = task.start
    found = [{"calls": 0.0, "seconds": 0.0, **task.measure(W, phi)}]
    iterates, seconds = method(oracles, run.step, run.ratio), 0.0
    while oracles.calls < run.budget:
        start = time.perf_counter()
        try:
            W, phi = next(iterates)
        except ValueError:  # the library refuses a loss that is not finite
            phi = phi * math.nan
        seconds += time.perf_counter() - start
        if not math.isfinite(float(W.norm() + phi.norm())) or float(phi.abs().max()) > 1e3:
            found.append({**dict.fromkeys(found[0], math.inf), "calls": run.budget, "seconds": seconds})
            break  # diverged
        if oracles.calls >= run.budget * len(found) / points:
            found.append({"calls": oracles.calls, "seconds": seconds, **task.measure(W, phi)})
    return found


def stored(task: Task, run: Run, points: int, out: Path) -> list[dict[str, float]]:
    """Return the curve of a run, from its file if there is one."""
    file = run.file(out)
    if not file.exists():
        result = {**asdict(run), "torch": torch.__version__, "curve": curve(task, run, points)}
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part")
        part.write_text(json.dumps(result))
        part.replace(file)
    return json.loads(file.read_text())["curve"]


def compare(task: Task, methods: list[str], *, quick: bool, budget: float, seeds: int, points: int, out: Path) -> dict:
    """Tune on one seed or two, whose worse result counts, and repeat the best setting on the seeds after them."""
    tuning = 1 if quick else 2
    best: dict[str, dict] = {}
    for name in methods:
        grid = [(s, r) for s in task.steps for r in task.ratios]
        if quick:
            grid = [(s, r) for s in task.steps[1::2] for r in task.ratios[1:3]]
        scores = {}
        for step, ratio in grid:
            tries = [Run(task.name, name, step, ratio, k, budget, quick) for k in range(tuning)]
            scores[step, ratio] = max(stored(task, run, points, out)[-1][task.score] for run in tries)
        step, ratio = min(scores, key=lambda s: scores[s] if math.isfinite(scores[s]) else math.inf)
        runs = [Run(task.name, name, step, ratio, k, budget, quick) for k in range(tuning, tuning + seeds)]
        curves = [stored(task, run, points, out) for run in runs]
        # A method whose best step is the largest or smallest of the grid might do better beyond it.
        edge = step in {min(s for s, _ in grid), max(s for s, _ in grid)}
        best[name] = {"step": step, "ratio": ratio, "at_the_edge": edge, "tried": len(grid), "curves": curves}
        last = [c[-1] for c in curves]
        print(f"{task.name:<11}{name:<30}step {step:<7g}ratio {ratio:<9g}", end="")
        print("  ".join(f"{key} {sorted(c[key] for c in last)[len(last) // 2]:.3e}" for key in last[0]), flush=True)
    return best


def main() -> None:
    """Run the comparison asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="smaller data, a coarser grid, one seed: about a minute")
    parser.add_argument("--task", choices=list(TASKS), action="append", help="one of the tasks; may be repeated")
    parser.add_argument("--method", choices=list(METHODS), action="append", help="one of the methods; may be repeated")
    parser.add_argument("--budget", type=float, help="derivatives of batches of 64, by default 20000 (quick: 400)")
    parser.add_argument("--seeds", type=int, help="seeds after tuning, by default 5 (quick: 1)")
    parser.add_argument("--out", type=Path, default=Path("results/bilevel"), help="where runs and reports are kept")
    parser.add_argument("--json", type=Path, metavar="FILE", help="keep a summary there for benchmarks/run.py")
    given = parser.parse_args()
    torch.set_num_threads(1)
    start, before = time.perf_counter(), load()
    budget, seeds = given.budget or (400.0 if given.quick else 20000.0), given.seeds or (1 if given.quick else 5)
    points = 5 if given.quick else 20
    tasks = {name: TASKS[name](quick=given.quick) for name in given.task or TASKS}
    found = {
        name: compare(
            task,
            given.method or list(METHODS),
            quick=given.quick,
            budget=budget,
            seeds=seeds,
            points=points,
            out=given.out,
        )
        for name, task in tasks.items()
    }
    scores = {name: task.score for name, task in tasks.items()}
    for path in write(found, scores, given.out, budget=budget, quick=given.quick):
        print(path)
    if given.json is not None:
        seconds = round(time.perf_counter() - start, 1)
        machine = Machine.here("cpu", before)
        result = Result("bilevel", "cpu", given.quick, seconds, tuple(tables(found, scores, budget)), machine)
        script.keep(result, given.json)


if __name__ == "__main__":
    main()
