"""The methods that are compared: every one is given the same labels, initial weights, batches and inner training."""

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from auxilearn.experiments.given._fork_merge import ForkMerge
from auxilearn.experiments.given._original import train_original
from auxilearn.experiments.harness._auc import auc
from auxilearn.experiments.harness._experiment import AuxiliaryTask, Result
from auxilearn.training import Fit, Learned, Trainer, Training
from auxilearn.training._cross_validation import cross_validated
from auxilearn.weighting import (
    DWA,
    FAMO,
    GCS,
    IMTLG,
    MGDA,
    OLAUX,
    AutoLambda,
    AuxiNash,
    CAGrad,
    Constant,
    Equal,
    GradNorm,
    MainOnly,
    NashMTL,
    PCGrad,
    Uncertainty,
    Weighting,
)

Method = Callable[[AuxiliaryTask, int], Result]
Trained = tuple[nn.Module, Mapping[str, Any]]

MAIN_ONLY, EQUAL_RAW, EQUAL, OURS, FAST = "main only", "equal", "equal, normalised", "ours", "ours, fast"
SCALES = (0.03, 0.1, 0.3, 1.0, 3.0)
CANDIDATES = 14
"""Random search costs about as much as ours: so many models at once, and then one on all labels."""


RULES: Mapping[str, Callable[[], Weighting]] = {
    MAIN_ONLY: MainOnly,
    EQUAL_RAW: Equal,
    EQUAL: partial(Equal, normalise=True),
    "uncertainty": Uncertainty,
    "DWA": DWA,
    "GradNorm": GradNorm,
    "GCS": GCS,
    "GCS, weighted": partial(GCS, weighted=True),
    "OL-AUX": OLAUX,
    "MGDA": MGDA,
    "PCGrad": PCGrad,
    "CAGrad": CAGrad,
    "Nash-MTL": NashMTL,
    "IMTL-G": IMTLG,
    "FAMO": FAMO,
    "Auto-λ": AutoLambda,
    "AuxiNash": AuxiNash,
}
"""The weightings of the literature that are compared, the plain run first."""


def timed(train: Callable[[AuxiliaryTask, int], Trained]) -> Method:
    """Turn a function that trains into a method: score the model, and take the processor time of the training alone.

    Args:
        train: From the task and the seed, the model and details.

    Returns:
        The method.
    """

    def method(task: AuxiliaryTask, seed: int) -> Result:
        start = time.process_time()
        model, details = train(task, seed)
        seconds = time.process_time() - start
        return Result(task.score(model), seconds, details)

    return method


def weighted(rule: Callable[[], Weighting], training: Training) -> Method:
    """Train by a weighting of the literature.

    Args:
        rule: Builds it.
        training: The inner training.

    Returns:
        The method.
    """

    def train(task: AuxiliaryTask, seed: int) -> Trained:
        fit = Trainer(task.problem, rule(), replace(training, seed=seed)).fit()
        return fit.model, {"weights": list(fit.weights.values()), "kinds": list(task.kinds)}

    return timed(train)


def learned(settings: Learned, training: Training) -> Method:
    """Train with learned combination.

    Args:
        settings: Its settings.
        training: The inner training.

    Returns:
        The method.
    """

    def train(task: AuxiliaryTask, seed: int) -> Trained:
        fit = Trainer(task.problem, settings, replace(training, seed=seed)).fit()
        return fit.model, described(fit, task)

    return timed(train)


def described(fit: Fit, task: AuxiliaryTask) -> dict[str, Any]:
    """Collect what tables and pictures show of a fit.

    Args:
        fit: The outcome of training.
        task: The task.

    Returns:
        Weights, the gate's choice and evidence, and how well usefulness tells helpful from harmful losses.
    """
    details: dict[str, Any] = {"weights": list(fit.weights.values()), "kinds": list(task.kinds)}
    if fit.verdict is not None:
        details |= {"chosen": fit.verdict.chosen, "t": fit.verdict.t}
    if fit.usefulness:
        details["usefulness"] = list(fit.usefulness.values())
        if task.helpful is not None:
            main = task.problem.main
            helpful = [bool(h) for k, h in enumerate(task.helpful) if k != main]
            details["auc"] = told_apart(list(fit.usefulness.values()), helpful)
    return details


def told_apart(scores: list[float], positive: list[bool]) -> float | None:
    """Return the area under the ROC curve, where there is one.

    Args:
        scores: A score each.
        positive: Which are positive.

    Returns:
        From 0 to 1; None if there is only one kind.

    Example:
        >>> told_apart([3.0, 1.0, 2.0], [True, False, True])
        1.0
    """
    return auc(torch.tensor(scores), torch.tensor(positive)) if len(set(positive)) == 2 else None


def oracle(training: Training, *, helpful: float = 1.0, guesses: float = 0.0) -> Method:
    """Train with equal normalised weights of the losses that are known to help, which nobody knows in practice.

    Args:
        training: The inner training.
        helpful: The weight of the losses that help, beside 1 for the main one.
        guesses: The weight of annotators who guess: labels that ignore the image smooth those of the others.

    Returns:
        The method.
    """

    def train(task: AuxiliaryTask, seed: int) -> Trained:
        assert task.helpful is not None
        weights = helpful * task.helpful.float()
        weights[[kind == "random" for kind in task.kinds]] = guesses
        weights[task.problem.main] = 1.0
        rule = Constant(weights, normalise=True)
        return Trainer(task.problem, rule, replace(training, seed=seed)).fit().model, {}

    return timed(train)


def scale_grid(losses: int, main: int) -> Tensor:
    """List the candidates of a tuned scale.

    Args:
        losses: K.
        main: The column of the main loss, whose weight is 1.

    Returns:
        A row for each of ``SCALES``, shape (S, K).
    """
    grid = torch.tensor(SCALES)[:, None].expand(-1, losses).clone()
    grid[:, main] = 1.0
    return grid


def random_weights(losses: int, main: int, *, number: int, seed: int) -> Tensor:
    """Draw the candidates of a random search, log-uniform between 0.01 and 10.

    Args:
        losses: K.
        main: The column of the main loss, whose weight is 1.
        number: How many.
        seed: The seed of the run.

    Returns:
        Shape (number, K).
    """
    drawn = torch.rand(number, losses, generator=torch.Generator().manual_seed(seed + 1))
    candidates = (drawn * math.log(1000) + math.log(0.01)).exp()
    candidates[:, main] = 1.0
    return candidates


def tuned_scale(training: Training) -> Method:
    """Train with equal normalised weights times a scale, chosen by five-fold cross-validation of the main labels.

    Args:
        training: The inner training.

    Returns:
        The method.
    """

    def train(task: AuxiliaryTask, seed: int) -> Trained:
        return _best(task, scale_grid(len(task.kinds), task.problem.main), training, seed, folds_used=None)

    return timed(train)


def random_search(training: Training) -> Method:
    """Train with the best of random weights, each judged on a held-out fifth of the main labels.

    It costs about as much as ours. Weights are log-uniform between 0.01 and 10, times the initial losses.

    Args:
        training: The inner training.

    Returns:
        The method.
    """

    def train(task: AuxiliaryTask, seed: int) -> Trained:
        candidates = random_weights(len(task.kinds), task.problem.main, number=CANDIDATES, seed=seed)
        return _best(task, candidates, training, seed, folds_used=1)

    return timed(train)


def _best(task: AuxiliaryTask, candidates: Tensor, training: Training, seed: int, *, folds_used: int | None) -> Trained:
    settings = replace(training, seed=seed)
    losses = cross_validated(task.problem, candidates, settings, used=folds_used).mean(1)
    weights = candidates[losses.argmin()]
    fit = Trainer(task.problem, Constant(weights, normalise=True), settings).fit()
    return fit.model, {"weights": cast("list[float]", weights.tolist()), "kinds": list(task.kinds)}


def fork_merge(training: Training) -> Method:
    """Train by ForkMerge.

    Args:
        training: The inner training.

    Returns:
        The method.
    """
    return timed(lambda task, seed: (ForkMerge()(task.problem, replace(training, seed=seed)), {}))


def original(training: Training) -> Method:
    """Train by the original package's method and settings.

    Args:
        training: The inner training.

    Returns:
        The method.
    """

    def train(task: AuxiliaryTask, seed: int) -> Trained:
        model, weights = train_original(task.problem, replace(training, seed=seed))
        return model, {"weights": cast("list[float]", weights.tolist()), "kinds": list(task.kinds)}

    return timed(train)


def methods(training: Training, *, ours: Learned | None = None, with_oracle: bool = True) -> dict[str, Method]:
    """List every method of the comparison.

    Args:
        training: The inner training.
        ours: The settings of learned combination; the defaults.
        with_oracle: Whether it is known which losses help.

    Returns:
        Methods by name, the plain run first.
    """
    ours = Learned() if ours is None else ours
    found = {name: weighted(rule, training) for name, rule in RULES.items()}
    found |= {
        "tuned scale": tuned_scale(training),
        "random search": random_search(training),
        "ForkMerge": fork_merge(training),
        "AuxiLearn 1.0": original(training),
        FAST: learned(Learned.fast(), training),
        OURS: learned(ours, training),
    }
    if with_oracle:
        found["oracle"] = oracle(training)
    return found
