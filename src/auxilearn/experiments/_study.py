"""Train every method of one part of the demo, under the same labels, initial weights and batches."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import cast, final

import torch
from torch import Tensor

from auxilearn.data import Images
from auxilearn.experiments._cross_fit import Search, cross_fit, fold_weights, out_of_fold
from auxilearn.experiments._gate import gate
from auxilearn.experiments._online import Online, train_online
from auxilearn.experiments._problem import accuracy, stacked
from auxilearn.experiments._tasks import Suite
from auxilearn.experiments._training import Schedule, fit, initial_scale

MAIN, RAW, EQUAL = "main only", "equal, raw", "equal, normalised"
ORIGINAL, ORIGINAL_TUNED, PLAIN = "original's settings", "original's, outer step tuned", "ours, plain loop"
LEARNED, OURS = "learned, without the gate", "ours"


PLAIN_LOOP = Online(alpha=None, adam=True, lr=0.1, weight_decay=0.0, clip=10.0, normalised=True, exponential=True)


def _online() -> dict[str, Online]:
    return {ORIGINAL: Online(), ORIGINAL_TUNED: Online(adam=True, lr=0.1), PLAIN: PLAIN_LOOP}


@final
@dataclass(frozen=True)
class Part:
    """One part of the demo.

    Attributes:
        name: Its title.
        suite: The auxiliary tasks.
        per_class: Main labels of each class.
        pool: The number of images that carry auxiliary labels only.
        schedule: The inner training, the same for every method.
        search: The outer problem of our method.
        online: Settings of the online methods, by row: the original package's, and the plain loop of the README.
        raw_scales: Global scales of the raw auxiliary losses that the tuned baseline may choose from, besides 1.
        normalised_scales: The same for normalised ones.
    """

    name: str
    suite: Suite
    per_class: int = 5
    pool: int = 1000
    schedule: Schedule = field(default_factory=Schedule)
    search: Search = field(default_factory=Search)
    online: dict[str, Online] = field(default_factory=_online)
    raw_scales: tuple[float, ...] = (0.1,)
    normalised_scales: tuple[float, ...] = (0.1, 3.0, 10.0, 30.0)


@final
@dataclass(frozen=True)
class Outcome:
    """Results of some seeds.

    Attributes:
        seeds: The seeds.
        accuracy: Test accuracy in percent of every row, by seed.
        chosen: The gate's choice, by seed.
        t: The gate's t of each candidate against main only, by seed.
        path: The learned weights over time, seeds × outer steps × tasks.
    """

    seeds: list[int]
    accuracy: dict[str, list[float]]
    chosen: list[str]
    t: dict[str, list[float]]
    path: list[list[list[float]]]

    def __add__(self, other: "Outcome") -> "Outcome":
        return Outcome(
            self.seeds + other.seeds,
            {name: values + other.accuracy[name] for name, values in self.accuracy.items()},
            self.chosen + other.chosen,
            {name: values + other.t[name] for name, values in self.t.items()},
            self.path + other.path,
        )


def run_seeds(images: Images, part: Part, seeds: Sequence[int]) -> Outcome:
    """Run all methods of a part.

    Args:
        images: The data; test classes are read for the accuracies only.
        part: What to run.
        seeds: The seeds, trained as one stack.

    Returns:
        The results.
    """
    problem = stacked(images, part.suite, seeds, per_class=part.per_class, pool=part.pool)
    s, n = problem.main_y.shape
    scale = initial_scale(problem)
    kept, held = fold_weights(n, part.search.folds)
    each_fold, everything = kept.expand(s, -1, -1), torch.full((s, 1, n), 1 / n)
    scores: dict[str, Tensor] = {}
    candidates: dict[str, Tensor] = {}

    # Main only: on all labels, and on each fold's complement.
    net = fit(problem, part.schedule, main_weights=torch.cat([everything, each_fold], 1), weights=None)
    scores[MAIN] = accuracy(net, problem)[:, 0]
    candidates[MAIN] = out_of_fold(net, problem, held)

    # Fixed weights: every row on all labels, equal normalised ones on each fold's complement.
    rows = _fixed_weights(part, scale)
    weights = torch.cat([*rows.values(), (1 / scale).expand(-1, part.search.folds, -1)], 1)
    net = fit(
        problem,
        part.schedule,
        main_weights=torch.cat([everything.expand(-1, len(rows), -1), each_fold], 1),
        weights=weights,
    )
    scores |= dict(zip(rows, accuracy(net, problem).T, strict=False))  # the models after the rows are the folds'
    candidates[EQUAL] = out_of_fold(net, problem, held)

    for name, settings in part.online.items():
        scores[name] = accuracy(train_online(problem, part.schedule, settings, scale), problem)[:, 0]

    found = cross_fit(problem, part.schedule, part.search, scale)
    candidates[LEARNED] = found.logits
    net = fit(problem, part.schedule, main_weights=everything, weights=found.weights[:, None] / scale)
    scores[LEARNED] = accuracy(net, problem)[:, 0]

    verdict = gate(candidates, problem.main_y)
    scores[OURS] = torch.stack([scores[name][i] for i, name in enumerate(verdict.chosen)])
    accuracies = {name: [float(a) for a in values] for name, values in scores.items()}
    return Outcome(
        list(seeds), accuracies, verdict.chosen, verdict.t, cast("list[list[list[float]]]", found.path.tolist())
    )


def _fixed_weights(part: Part, scale: Tensor) -> dict[str, Tensor]:
    rows = {RAW: torch.ones_like(scale), EQUAL: 1 / scale}
    rows |= {f"raw × {c:g}": torch.full_like(scale, c) for c in part.raw_scales}
    rows |= {f"normalised × {c:g}": c / scale for c in part.normalised_scales}
    return rows
