"""``hyper-cleaning``: one weight for each training sample, learned where half or more of the labels are replaced."""

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, Literal, final

import torch
from torch import Tensor

from auxilearn.experiments.cleaning._nets import StackedClassifier, accuracies, fit
from auxilearn.experiments.cleaning._online import train_online
from auxilearn.experiments.cleaning._rule import Settings, learn
from auxilearn.experiments.cleaning._task import CleaningTask, Dataset, cleaning_task
from auxilearn.experiments.harness._auc import auc
from auxilearn.experiments.harness._experiment import Cell, Experiment, Result

Method = Callable[[CleaningTask, int], Result]
OURS = "ours"


@final
@dataclass(frozen=True)
class Model:
    """A model that is trained on weighted samples.

    Attributes:
        name: ``"linear"`` or ``"MLP"``.
        hidden: The widths of its hidden layers.
        decays: The weight decays among which every baseline may choose, on the test set.
        decay: That of ours; None takes the one that was learned.
        features: The number of random Fourier features of ours' convex inner problem; None takes the pixels.
    """

    name: Literal["linear", "MLP"]
    hidden: tuple[int, ...]
    decays: tuple[float, ...]
    decay: float | None
    features: int | None

    def net(self, task: CleaningTask, models: int, seed: int) -> StackedClassifier:
        """Build a stack of untrained models.

        Args:
            task: What they are for.
            models: How many.
            seed: The seed of their common initial weights.

        Returns:
            The stack.
        """
        return StackedClassifier((task.clean_x.shape[1], *self.hidden, 10), models=models, seed=seed)


LINEAR = Model("linear", (), (0.003, 0.01, 0.03, 0.1, 0.3), None, None)
MLP = Model("MLP", (64, 64), (0.003, 0.01, 0.03, 0.1), 0.01, 256)


def features_of(task: CleaningTask, model: Model) -> tuple[Tensor, float]:
    r"""Return what ours' inner problem sees: samples of norm 10, or random Fourier features of about that norm.

    The features are those of a Gaussian kernel whose width is the median distance,
    :math:`\sqrt{2/D}\cos(\omega x + \beta)`: a two-layer network whose first layer is not trained.

    Args:
        task: The samples.
        model: The model.

    Returns:
        Shape (C + N, D), and the factor between a decay here and one on the samples as they are.

    References:
        Rahimi and Recht, "Random features for large-scale kernel machines", NIPS 2007.
    """
    x = task.x
    if model.features is None:
        scale = 10 / float(x.square().sum(1).sqrt().mean())
        return scale * x, 1 / scale**2
    width = torch.pdist(x[:300]).median()
    generator = torch.Generator().manual_seed(0)
    omega = torch.randn(x.shape[1], model.features, generator=generator) / width
    beta = 2 * math.pi * torch.rand(model.features, generator=generator)
    return 10 * math.sqrt(2 / model.features) * torch.cos(x @ omega + beta), 1.0


def fixed(model: Model, weights: Callable[[CleaningTask], list[Tensor]]) -> Method:
    """Make a method of fixed weights; the best of them and of the model's decays is chosen on the test set.

    Args:
        model: The model.
        weights: From the task, the candidates, each of shape (C + N,).

    Returns:
        The method.
    """

    def method(task: CleaningTask, seed: int) -> Result:
        start = time.process_time()
        return _best(task, model, weights(task), seed, start)

    return method


def agreement(model: Model) -> Method:
    """Make the filter that keeps the noisy samples whose label a model of the clean ones predicts.

    Args:
        model: The model.

    Returns:
        The method, with decays chosen on the test set.
    """

    def method(task: CleaningTask, seed: int) -> Result:
        start = time.process_time()
        decay = torch.tensor(model.decays)
        teachers = model.net(task, len(decay), seed)
        fit(teachers, task.x, task.y, weights=task.weights(1, 0).expand(len(decay), -1), decay=decay)
        with torch.no_grad():
            kept = (teachers(task.noisy_x).argmax(-1) == task.noisy_y).float()
        # The teacher's decay and the student's are the same.
        weights = torch.stack([task.weights(1, k) for k in kept])
        students = fit(model.net(task, len(decay), seed), task.x, task.y, weights=weights, decay=decay)
        score, at = _top(accuracies(students, task.test_x, task.test_y))
        details = {"decay": model.decays[at], "auc": auc(kept[at], task.right)}
        return Result(score, time.process_time() - start, details)

    return method


def online(model: Model, optimizer: Callable[[list[Tensor]], torch.optim.Optimizer]) -> Method:
    """Make a method that learns free weights online, as the original package does; decays chosen on the test set.

    Args:
        model: The model.
        optimizer: Makes the outer optimizer.

    Returns:
        The method.
    """

    def method(task: CleaningTask, seed: int) -> Result:
        start = time.process_time()
        decay = torch.tensor(model.decays)
        net = model.net(task, len(decay), seed)
        weights = train_online(task, net, decay, optimizer=optimizer)
        score, at = _top(accuracies(net, task.test_x, task.test_y))
        details = {"decay": model.decays[at], "auc": auc(weights[at], task.right)}
        return Result(score, time.process_time() - start, details)

    return method


def ours(model: Model, settings: Settings) -> Method:
    """Make our method: learn the weights in a convex inner problem, then train the model once on all samples.

    Args:
        model: The model.
        settings: How the rule is learned.

    Returns:
        The method; it chooses nothing on the test set.
    """

    def method(task: CleaningTask, seed: int) -> Result:
        start = time.process_time()
        features, factor = features_of(task, model)
        found = learn(task, features, settings, seed=seed)
        decay = torch.tensor([found.decay * factor if model.decay is None else model.decay])
        weights = task.weights(found.clean, found.weights)[None]
        net = fit(model.net(task, 1, seed), task.x, task.y, weights=weights, decay=decay)
        (score,) = accuracies(net, task.test_x, task.test_y)
        details = {"auc": auc(found.weights, task.right), "rule": found.rule, "outer": found.outer}
        return Result(score, time.process_time() - start, details)

    return method


def _best(task: CleaningTask, model: Model, weights: list[Tensor], seed: int, start: float) -> Result:
    pairs = [(w, d) for w in weights for d in model.decays]
    stack, decay = torch.stack([w for w, _ in pairs]), torch.tensor([d for _, d in pairs])
    net = fit(model.net(task, len(pairs), seed), task.x, task.y, weights=stack, decay=decay)
    reached = accuracies(net, task.test_x, task.test_y)
    score, at = _top(reached)
    details: dict[str, Any] = {"decay": pairs[at][1], "clean weight": float(pairs[at][0][0]), "all": reached}
    return Result(score, time.process_time() - start, details)


def _top(scores: list[float]) -> tuple[float, int]:
    return max((score, -at) for at, score in enumerate(scores))[0], scores.index(max(scores))


def cleaning_methods(model: Model, settings: Settings | None = None) -> dict[str, Method]:
    """List the methods.

    Args:
        model: The model.
        settings: How ours learns its rule; the tuned settings by default.

    Returns:
        Name to method.
    """
    chosen = Settings() if settings is None else settings
    # Without an opinion at the start, all noisy samples weigh nearly the same; the way is longer.
    blank = replace(chosen, threshold=0.0, log_slope=-2.0, log_clean=0.0, steps=2 * chosen.steps)
    return {
        "clean only": fixed(model, lambda task: [task.weights(1, 0)]),
        "all noisy": fixed(model, lambda task: [task.weights(0, 1)]),
        "noisy + clean": fixed(model, lambda task: [task.weights(1, 1)]),
        "clean weighted × 5": fixed(model, lambda task: [task.weights(5, 1)]),
        "clean weighted, tuned": fixed(model, lambda task: [task.weights(c, 1) for c in (2, 5, 20, 100)]),
        "agreement filter": agreement(model),
        "original's settings": online(model, lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9, weight_decay=1e-4)),
        "original's, outer step tuned": online(model, lambda p: torch.optim.Adam(p, lr=0.1)),
        OURS: ours(model, chosen),
        f"{OURS}, from equal weights": ours(model, blank),
        f"{OURS}, nothing learned": ours(model, replace(chosen, lr=0.0)),
        "oracle": fixed(model, lambda task: [task.weights(1, task.right.float())]),
    }


def _cell(dataset: Dataset, model: Model, rate: float) -> Cell:
    name = "MNIST-5k" if dataset == "mnist" else "digits"
    clean = 200 if dataset == "mnist" else 100

    def task(seed: int) -> CleaningTask:
        return cleaning_task(dataset, rate=rate, clean=clean, seed=seed)

    return Cell(f"{name}, {model.name}, {rate:.0%} replaced", "accuracy, %", task, cleaning_methods(model))


_DATASETS: tuple[Dataset, ...] = ("digits", "mnist")

CLEANING = Experiment(
    name="hyper-cleaning",
    title="One weight for each training sample",
    about=(
        "Real digits: 1,000 samples of which half or 70 % of the labels were replaced by a random class (45 "
        "and 63 % are wrong), and a clean set of 100 (digits) or 200 (MNIST-5k), which all methods have. The "
        "noise is simulated. Ours learns five numbers by cross-fitted hypergradients: how a sample's weight "
        "falls with its loss (two), what a clean sample weighs, the decay, and a temperature of the outer "
        "loss. Its inner problem is convex: logistic regression on the pixels, or, for the MLP, on random "
        "Fourier features; the MLP is trained once with the weights found there. Its variants start from "
        "equal weights, or do not learn. Every other row chooses its decay, and the tuned one its weight, on "
        "the test set for each seed: they are upper bounds; ours chooses nothing there. The agreement filter "
        "keeps the noisy samples whose label a model of the clean ones predicts. The oracle knows which "
        "labels are right."
    ),
    cells=tuple(_cell(dataset, model, rate) for dataset in _DATASETS for model in (LINEAR, MLP) for rate in (0.5, 0.7)),
    ours=OURS,
)
"""The experiment; eight cells."""
