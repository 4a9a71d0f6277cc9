"""The methods of every experiment with given losses: the comparison protocol, the paper's own, and ours."""

import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, final

import torch
from torch import Tensor

from auxilearn.combiners import Bent
from auxilearn.experiments.given._fork_merge import Forked, ForkMerge
from auxilearn.experiments.given._methods import FAST, MAIN_ONLY, OURS, RULES, random_weights, scale_grid
from auxilearn.experiments.reproduce._inner import training_of
from auxilearn.experiments.reproduce._loop import Steps, go
from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce._reproduction import Outcome
from auxilearn.experiments.reproduce._watch import Watch
from auxilearn.experiments.reproduce.combined._learned import LearnedCombiner, published_forms
from auxilearn.experiments.reproduce.combined._task import CombinedTask
from auxilearn.training import Fit, Learned, Trainer
from auxilearn.training._problem import by_name
from auxilearn.weighting import Constant, Weighting

Method = Callable[[CombinedTask, Place], Outcome]

PLAIN = MAIN_ONLY
CANDIDATES = 6
"""Random search trains so many models: about what ours costs."""


def combined_methods(*, pixels: bool = False) -> dict[str, Method]:
    """List the methods.

    Args:
        pixels: Whether there are losses of pixels, for the convolutional combiners.

    Returns:
        Methods by name, the plain run first.
    """
    found: dict[str, Method] = {name: ByTrainer(rule) for name, rule in RULES.items()}
    found |= {
        "tuned scale": _tuned_scale,
        "random search": _random_search,
        "ForkMerge": _fork_merge,
        **published_forms(pixels=pixels),
        FAST: ByTrainer(Learned.fast),
        "ours, bent": ByTrainer(partial(Learned, combiner=Bent)),
    }
    if pixels:
        found["ours, ConvNet"] = LearnedCombiner("ConvNet", published=False)
    return found | {OURS: ByTrainer(Learned)}


def dense_methods(*auxiliary: str) -> dict[str, Method]:
    """List the methods where losses have pixels, with a run of each auxiliary task alone, for Δ.

    Args:
        auxiliary: The names of the auxiliary losses.

    Returns:
        Methods by name.
    """
    plain, *others = combined_methods(pixels=True).items()
    return dict([plain, *((f"{name} alone", Alone(name)) for name in auxiliary), *others])


@final
@dataclass(frozen=True)
class ByTrainer:
    """Train by the trainer, with the recipe's inner training.

    Attributes:
        method: Builds a weighting, or the settings of learned combination; these are paced by the length of the run.
    """

    method: Callable[[], Weighting | Learned]

    def __call__(self, task: CombinedTask, place: Place) -> Outcome:
        """Train.

        Args:
            task: The task.
            place: Where to work.

        Returns:
            The network, the weights, and what the gate said.
        """
        fit, _ = trained(task, self.method(), place)
        details: dict[str, Any] = {"weights": fit.weights, "usefulness": fit.usefulness, "notes": list(fit.notes)}
        if fit.verdict is not None:
            details |= {"chosen": fit.verdict.chosen, "t": fit.verdict.t}
        return Outcome(fit.model, details)


def trained(task: CombinedTask, method: Weighting | Learned, place: Place) -> tuple[Fit, float | None]:
    """Train by the trainer; a checkpoint in the place is gone on from.

    Args:
        task: The task.
        method: The method.
        place: Where to work.

    Returns:
        The fit, whose model has the best weights on the validation rows, and the validation metric of these.
    """
    training = training_of(task.settings, task.epoch, task.seed)
    if isinstance(method, Learned) and method.warmup >= training.steps // 2:  # a run that is shorter than most
        method = replace(method, warmup=training.steps // 10, every=max(1, training.steps // 20))
    watch = Watch(place, looks=task.settings.looks, validate=task.validate)
    trainer = Trainer(
        task.problem, method, training, callbacks=[watch], folder=place.folder, save_every=place.save_every
    )
    return trainer.fit(), watch.best


@final
@dataclass(frozen=True)
class Alone:
    """Train on one auxiliary loss alone, for Δ; the last weights are kept, for the validation metric is another task's.

    Attributes:
        loss: The loss's name.
    """

    loss: str

    def __call__(self, task: CombinedTask, place: Place) -> Outcome:
        """Train.

        Args:
            task: The task.
            place: Where to work.

        Returns:
            The network.
        """
        weights = torch.tensor([float(name == self.loss) for name in task.problem.names or ()])
        fit, _ = trained(replace(task, validate=None), Constant(weights), place)
        return Outcome(fit.model, {})


def _tuned_scale(task: CombinedTask, place: Place) -> Outcome:
    return _best(task, scale_grid(len(task.problem.names or ()), task.problem.main), place)


def _random_search(task: CombinedTask, place: Place) -> Outcome:
    losses, main = len(task.problem.names or ()), task.problem.main
    return _best(task, random_weights(losses, main, number=CANDIDATES, seed=task.seed), place)


def _best(task: CombinedTask, candidates: Tensor, place: Place) -> Outcome:
    # Judged on the validation rows, which every method may read; each candidate is a run that resumes by itself.
    found: list[tuple[float, int, Fit]] = []
    for number, weights in enumerate(candidates):
        folder = place.folder / f"candidate-{number}"
        folder.mkdir(exist_ok=True)
        rule = Constant(weights, normalise=True)
        fit, value = trained(task, rule, replace(place, folder=folder))
        assert value is not None, "a search needs validation rows"
        found = [max([*found, (value, -number, fit)], key=lambda one: one[:2])]
    ((value, number, fit),) = found
    shutil.copyfile(replace(place, folder=place.folder / f"candidate-{-number}").curve, place.curve)
    return Outcome(fit.model, {"weights": fit.weights, "validation": value})


def _fork_merge(task: CombinedTask, place: Place) -> Outcome:
    training = training_of(task.settings, task.epoch, task.seed)
    settings = ForkMerge(every=max(1, min(ForkMerge().every, training.steps // 4)))
    course = _Forks(task, Forked(settings, task.problem, training))
    key = f"{settings} {task.settings} {task.seed}"
    model = go(course, training.steps, place, key=key, looks=task.settings.looks, validate=task.validate)
    return Outcome(model, {})


@final
class _Forks(Steps):
    def __init__(self, task: CombinedTask, forked: Forked) -> None:
        self._task, self._forked, self.model = task, forked, forked.model

    def step(self) -> dict[str, float]:
        self._forked.step()
        means = self._forked.means
        return by_name(self._task.problem.named(len(means)), means)

    def state_dict(self) -> dict[str, Any]:
        return self._forked.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._forked.load_state_dict(state)
