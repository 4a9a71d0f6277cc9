"""Where a nonlinear combination of each sample's losses beats any weights: sources that are right now and then."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from auxilearn.combiners import Bent, Linear, LossCombiner
from auxilearn.experiments.given._combiners import perceptron
from auxilearn.experiments.given._methods import Method, Trained, described, learned, timed, weighted
from auxilearn.experiments.harness._experiment import AuxiliaryTask, Cell, Experiment
from auxilearn.experiments.nonlinear._pictures import draw_pulls
from auxilearn.experiments.nonlinear._task import Generalised, NoisyAnnotators, Trusting
from auxilearn.training import CrossFit, Fit, Learned, Problem, Trainer, Training
from auxilearn.weighting import Equal, MainOnly

OURS, LINEAR, PERCEPTRON = "nonlinear", "linear", "nonlinear, MLP"
LONG, SHORT = 1000, 150
_SCATTERED = (0.64, 0.46, 0.28)  # 40, 60 and 80 % of the labels replaced by a uniform class
_WHOLE = (1.0, 1.0, 0.1, 0.1, 0.0, 0.0)
_POINTS = tuple(0.1 * i for i in range(61))


def methods(annotators: NoisyAnnotators, training: Training) -> dict[str, Method]:
    """List the methods of a cell.

    The learned combiners share all settings and the gate is off, so that they differ in the combiner's form only.

    Args:
        annotators: What makes the tasks; the oracle asks it which labels are right.
        training: The inner training.

    Returns:
        Methods by name, the plain run first.
    """
    found: dict[str, Method] = {
        "main only": weighted(MainOnly, training),
        "equal": weighted(Equal, training),
        "equal, normalised": weighted(partial(Equal, normalise=True), training),
        LINEAR: combined(Linear, annotators, training),
        "linear, with the gate": learned(Learned(combiner=Linear, outer=CrossFit()), training),
        PERCEPTRON: combined(perceptron, annotators, training),
        OURS: combined(Bent, annotators, training),
        "oracle, right labels only": oracle(annotators, training),
    }
    found |= {f"generalised cross entropy, q = {q:g}": generalised(q, training) for q in (0.5, 0.7, 0.9, 1.0)}
    if training.steps == LONG:
        # Stopping early is a robust method too: these are what tuning the number of steps could give.
        found |= {
            f"linear, stopped at {steps}": learned(
                Learned(combiner=Linear, outer=CrossFit(), gate=False), replace(training, steps=steps)
            )
            for steps in (100, 200, 400)
        }
    return found


def combined(combiner: Callable[[int], LossCombiner], annotators: NoisyAnnotators, training: Training) -> Method:
    """Train with a learned combiner, and look at what it does to right and to wrong labels.

    Args:
        combiner: Builds the combiner.
        annotators: What made the task; it is asked after the training, for the details only.
        training: The inner training.

    Returns:
        The method.
    """

    def train(task: AuxiliaryTask, seed: int) -> Trained:
        fit = Trainer(
            task.problem, Learned(combiner=combiner, outer=CrossFit(), gate=False), replace(training, seed=seed)
        ).fit()
        return fit.model, {**described(fit, task), **pulls(fit, task.problem, annotators.right(seed))}

    return timed(train)


def generalised(q: float, training: Training) -> Method:
    """Train with the generalised cross entropy on the annotators' labels, all with weight 1.

    Args:
        q: Its parameter.
        training: The inner training.

    Returns:
        The method.
    """

    def train(task: AuxiliaryTask, seed: int) -> Trained:
        problem = replace(task.problem, losses=Generalised(q))
        return Trainer(problem, Equal(), replace(training, seed=seed)).fit().model, {}

    return timed(train)


def oracle(annotators: NoisyAnnotators, training: Training) -> Method:
    """Train on the right labels only, which nobody knows in practice.

    Args:
        annotators: What made the task.
        training: The inner training.

    Returns:
        The method.
    """

    def train(task: AuxiliaryTask, seed: int) -> Trained:
        assert isinstance(task.problem.data, tuple)
        right = annotators.right(seed)
        problem = replace(task.problem, losses=Trusting(), data=(*task.problem.data, right))
        return Trainer(problem, Equal(), replace(training, seed=seed)).fit().model, {}

    return timed(train)


def pulls(fit: Fit, problem: Problem, right: Tensor) -> Mapping[str, Any]:
    r"""Measure how a combiner divides its pull, :math:`\partial L_T / \partial \ell_{ik}`, between labels.

    Args:
        fit: The outcome of training.
        problem: The problem.
        right: Which labels are right, shape (rows, K − 1).

    Returns:
        For each annotator, the share of the pull on the trained model's losses that goes to right labels; and the pull
        at given cross entropies, as a multiple of that of the first annotator at 0 (the others' losses are 1).
    """
    assert fit.combiner is not None
    with torch.no_grad():
        start, _ = problem.losses(problem.new_model(), problem.data)
        losses, present = problem.losses(fit.model, problem.data)
    having = present[:, 1:].any(1)
    scale = start[having][:, 1:].mean(0)
    pull = slopes(fit.combiner, losses[having][:, 1:] / scale)
    share = (pull * right[having]).sum(0) / pull.sum(0)
    curves: list[Tensor] = []
    for k in range(len(scale)):
        at = torch.ones(len(_POINTS), len(scale))
        at[:, k] = torch.tensor(_POINTS) / scale[k]
        curves.append(slopes(fit.combiner, at)[:, k] / scale[k])
    largest = torch.stack(curves)[:, 0].max()
    return {
        "share to right labels": share.tolist(),
        "cross entropy": list(_POINTS),
        "pull": [(curve / largest).tolist() for curve in curves],
    }


def slopes(combiner: LossCombiner, losses: Tensor) -> Tensor:
    """Differentiate a combined loss with respect to each sample's losses.

    Args:
        combiner: The combiner.
        losses: Shape (B, K), in the units that it takes.

    Returns:
        The slopes, multiplied by B, shape (B, K).
    """
    leaf = losses.detach().requires_grad_()
    (found,) = torch.autograd.grad(combiner(leaf), leaf)
    return found * len(losses)


def _cell(name: str, annotators: NoisyAnnotators, steps: int) -> Cell:
    return Cell(name, "accuracy, %", annotators, methods(annotators, Training(steps=steps)))


NONLINEAR = Experiment(
    name="nonlinear",
    title="Nonlinear combination of each sample's losses",
    about=(
        "Real images of digits, 5 labels a class, and a pool of 1,000 images labelled by simulated annotators. Three "
        "annotators are right for 64, 46 and 28 % of the images, and nobody knows for which: a weight can trust or "
        "distrust all of an annotator's labels, a bend can trust those that the network does not contradict. The fixed "
        "robust loss shows what is there to win, its q tuned in hindsight. Two cells test the explanation: after 150 "
        "steps the network has not yet learned wrong labels by heart, and where an annotator is right for all images "
        "or for none, weights are enough."
    ),
    cells=(
        _cell("MNIST-5k, right now and then", NoisyAnnotators("mnist", _SCATTERED), LONG),
        _cell("digits, right now and then", NoisyAnnotators("digits", _SCATTERED), LONG),
        _cell("MNIST-5k, right now and then, 150 steps", NoisyAnnotators("mnist", _SCATTERED), SHORT),
        _cell("MNIST-5k, right always or never", NoisyAnnotators("mnist", _WHOLE), LONG),
    ),
    ours=OURS,
    figure=draw_pulls,
)
"""The experiment."""
