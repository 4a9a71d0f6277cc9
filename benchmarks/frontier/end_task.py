"""Does a better hypergradient make a better network? One training under each solver, judged on digits never seen.

``python benchmarks/frontier/end_task.py`` takes about five minutes of one core. A perceptron is trained on 100 digits
with ten helpful and ten useless auxiliary losses, whose weights take a step on 100 held-back digits every five steps of
training. All solvers get the same outer optimizer, whose learning rate is tuned for each on seeds of their own.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch
from problems import Perceptron
from torch import Tensor, nn
from torch.optim import Adam

from auxilearn.curvature import GaussNewton, Hessian, LossCurvature
from auxilearn.optim import MetaOptimizer
from auxilearn.solvers import ConjugateGradient, CurvatureSketch, Identity, LinearSolver, Neumann, OptimizerMetric

TRAIN, OUTER, STEPS, EVERY = 100, 100, 600, 5
RATES = (0.02, 0.06, 0.2)
DAMPING = 1e-2

Setting = tuple[bool, Callable[[nn.Module, Adam], LinearSolver]]
SOLVERS: dict[str, Setting] = {  # with whether the system is the damped Gauss-Newton matrix
    "Identity": (False, lambda model, optimizer: Identity()),
    "Neumann(3), the default": (False, lambda model, optimizer: Neumann()),
    "Neumann(3), metric": (False, lambda model, optimizer: Neumann(preconditioner=OptimizerMetric(optimizer))),
    "Neumann(20)": (False, lambda model, optimizer: Neumann(20)),
    "CG(5)": (True, lambda model, optimizer: ConjugateGradient(5)),
    "CG(50)": (True, lambda model, optimizer: ConjugateGradient(50)),
    "CG(10), sketch": (True, lambda model, optimizer: ConjugateGradient(10, preconditioner=CurvatureSketch(model))),
}


def trained(setting: Setting | None, rate: float, seed: int) -> tuple[float, float, float]:
    """Train once; return the test accuracy, by how much helpful weights are above useless ones, and the seconds."""
    torch.manual_seed(seed)
    p = Perceptron(quick=False)
    order = torch.randperm(p.rows)
    train, outer, test = order[:TRAIN], order[TRAIN : TRAIN + OUTER], order[TRAIN + OUTER :]
    model = p.network()
    optimizer = p.optimizer(model)
    with torch.no_grad():
        p.phi.fill_(-1.0)
    solver = setting[1](model, optimizer) if setting else Identity()
    meta = MetaOptimizer(Adam([p.phi], lr=rate), solver=solver)
    start = time.perf_counter()
    for step in range(1, STEPS + 1):
        rows = train[torch.randperm(TRAIN)[: p.batch]]
        optimizer.zero_grad()
        p.combined(model, p.losses(model, model(p.inputs(rows)), rows)).backward()
        optimizer.step()
        if setting and step % EVERY == 0:
            p.phi.grad = None
            meta.step(_system(p, model, train, solver, damped=setting[0]), _main(p, model, outer), (), [p.phi])
    seconds = time.perf_counter() - start
    with torch.no_grad():
        accuracy = (model(p.inputs(test))[:, :10].argmax(1) == p.y[test]).double().mean()
        gap = p.phi[:10].mean() - p.phi[10:].mean()
    return 100 * float(accuracy), float(gap), seconds


def _main(p: Perceptron, model: nn.Module, rows: Tensor) -> Tensor:
    return p.losses(model, model(p.inputs(rows)), rows)[0]


def _system(p: Perceptron, model: nn.Module, rows: Tensor, solver: LinearSolver, *, damped: bool) -> LossCurvature:
    sketch = getattr(solver, "preconditioner", None)
    if isinstance(sketch, CurvatureSketch):
        with sketch.watched():
            outputs = model(p.inputs(rows))
    else:
        outputs = model(p.inputs(rows))
    loss = p.combined(model, p.losses(model, outputs, rows))
    if isinstance(sketch, CurvatureSketch):
        sketch.update(loss, outputs)
    if not damped:
        return Hessian(loss, model.parameters())
    return GaussNewton(loss, outputs, model.parameters(), damping=DAMPING + p.decay)


def main() -> None:
    """Tune and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=6, help="trainings of each, after two to tune on")
    seeds = range(2, 2 + parser.parse_args().seeds)
    torch.set_num_threads(1)
    equal = [trained(None, 0.0, seed) for seed in seeds]
    print(f"{'solver':<26}{'rate':>6}{'accuracy':>10}{'above equal':>18}{'helpful − useless':>19}{'seconds':>9}")
    print(f"{'equal weights':<26}{'':>6}{statistics.mean(a for a, _, _ in equal):>10.2f}")
    for name, setting in SOLVERS.items():
        tuned = {rate: statistics.mean(trained(setting, rate, seed)[0] for seed in (0, 1)) for rate in RATES}
        rate = max(tuned, key=tuned.__getitem__)
        found = [trained(setting, rate, seed) for seed in seeds]
        more = [a - b for (a, _, _), (b, _, _) in zip(found, equal, strict=True)]
        error = statistics.stdev(more) / len(more) ** 0.5
        accuracy, gap, seconds = (statistics.mean(column) for column in zip(*found, strict=True))
        above = f"{statistics.mean(more):+.2f} ± {error:.2f}"
        print(f"{name:<26}{rate:>6g}{accuracy:>10.2f}{above:>18}{gap:>19.2f}{seconds:>9.1f}", flush=True)


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
