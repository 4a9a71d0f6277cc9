"""Experiments that take no time, in a module of their own so that spawned processes find them."""

import os
import sys
import time
from functools import partial

import torch
from torch import nn

from auxilearn.data import sklearn_digits
from auxilearn.experiments.harness._experiment import Cell, Experiment, Result


def draw(mean: float, task: torch.Tensor, seed: int) -> Result:
    """Score near `mean`, the same whenever it runs."""
    score = mean + float(task) + float(torch.rand(()))
    weights = [1.0, 2.0 * mean, 0.1]
    return Result(score, 0.5 * mean, {"weights": weights, "kinds": ["main", "good", "random"]})


def task(offset: float, seed: int) -> torch.Tensor:
    """Draw the same number for the same seed."""
    return offset + torch.rand((), generator=torch.Generator().manual_seed(seed))


def broken(task: torch.Tensor, seed: int) -> Result:
    """Fail on one seed."""
    if seed == 1:
        raise ValueError("the loss\nis NaN")
    return draw(1.0, task, seed)


def ended(task: torch.Tensor, seed: int) -> Result:
    """End the process, as a system does that is out of memory."""
    os._exit(1)


def slow(task: torch.Tensor, seed: int) -> Result:
    """Take longer than anyone waits."""
    time.sleep(1000)
    raise AssertionError


def settings(_: torch.Tensor, __: int) -> Result:
    """Tell how a worker was prepared."""
    before = set(sys.modules)
    torch.optim.SGD([torch.zeros(1, requires_grad=True)])
    details = {"threads": torch.get_num_threads(), "denormal": float(torch.tensor(1e-39) * 1.0)}
    return Result(1.0, 0.0, {**details, "imported": sorted(set(sys.modules) - before)})


def few_digits(seed: int) -> tuple[torch.Tensor, ...]:
    """Draw 50 labelled digits, and 200 to test on."""
    images = sklearn_digits()
    order = torch.randperm(len(images.classes), generator=torch.Generator().manual_seed(seed))
    x, y = images.pixels.flatten(1)[order], images.classes[order]
    return x[:50], y[:50], x[50:250], y[50:250]


def train(steps: int, task: tuple[torch.Tensor, ...], seed: int) -> Result:
    """Fit a softmax regression."""
    start = time.process_time()
    x, y, test_x, test_y = task
    model = nn.Linear(x.shape[1], 10)
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(steps):
        optimizer.zero_grad()
        nn.functional.cross_entropy(model(x), y).backward()
        optimizer.step()
    accuracy = 100 * float((model(test_x).argmax(1) == test_y).float().mean())
    return Result(accuracy, time.process_time() - start, {"bias": model.bias.tolist()})


METHODS = {"main only": partial(draw, 1.0), "equal, raw": partial(draw, 2.0), "ours": partial(draw, 4.0)}
EXPERIMENT = Experiment(
    "tiny",
    "A tiny comparison",
    "Random numbers.",
    (
        Cell("first, 5 labels", "accuracy, %", partial(task, 0.0), {**METHODS, "oracle": partial(draw, 9.0)}),
        Cell("second", "R²", partial(task, 1.0), METHODS),
    ),
    "ours",
)
BROKEN = Experiment(
    "broken",
    "Breaks",
    "",
    (Cell("only", "score", partial(task, 0.0), {"main only": broken, "ours": METHODS["ours"]}),),
    "ours",
)
ENDED = Experiment("ended", "Ends", "", (Cell("only", "score", partial(task, 0.0), {"ours": ended}),), "ours")
SLOW = Experiment("slow", "Sleeps", "", (Cell("only", "score", partial(task, 0.0), {"ours": slow}),), "ours")
REAL = Experiment(
    "real",
    "Digits",
    "Few labelled digits of scikit-learn.",
    (Cell("digits", "accuracy, %", few_digits, {"main only": partial(train, 1), "ours": partial(train, 60)}),),
    "ours",
)
SETTINGS = Experiment("settings", "Tells", "", (Cell("only", "score", partial(task, 0.0), {"ours": settings}),), "ours")
PLACE, MODULE = "tiny_experiment:EXPERIMENT", "tiny_experiment"
