"""Opinions about the pool: labels that spread along graphs of four views, and what students of the labels say."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, final

import torch
from torch import Tensor
from torch.nn import functional

from auxilearn.experiments.reproduce.generated._graph import Graph, graph_of, spread_along
from auxilearn.experiments.reproduce.generated._networks import Student
from auxilearn.experiments.reproduce.generated._parts import looked_at
from auxilearn.experiments.reproduce.generated._task import GeneratedTask
from auxilearn.experiments.reproduce.generated._views import colours, gradients

FOLDS = 3
VIEWS = ("colours, spread", "gradients, spread", "student's features, spread", "student")


@final
@dataclass(frozen=True)
class Opinions:
    """What each view says of each image, from all labels and from those outside each fold.

    Attributes:
        pool: From all labels, shape (P, V, C).
        folds: From the labels outside fold f, shape (F, P, V, C).
        held: Of each labelled image, from the labels outside its own fold, shape (N, V, C).
    """

    pool: Tensor
    folds: Tensor
    held: Tensor

    def state(self) -> dict[str, Any]:
        """Return what a checkpoint holds.

        Returns:
            The tensors by name.
        """
        return {"pool": self.pool, "folds": self.folds, "held": self.held}


def folds_of(classes: Tensor, *, folds: int = FOLDS) -> Tensor:
    """Deal the labelled images into folds, class by class.

    Args:
        classes: Shape (N,).
        folds: How many.

    Returns:
        The fold of each, shape (N,).

    Example:
        >>> folds_of(torch.tensor([0, 1, 0, 0, 1, 1]))
        tensor([0, 0, 1, 2, 1, 2])
    """
    fold = torch.empty_like(classes)
    fold[classes.argsort(stable=True)] = torch.arange(len(classes)) % folds
    return fold


def opinions_of(task: GeneratedTask, everything: Student, outside: Sequence[Student]) -> Opinions:
    """Ask all views.

    Args:
        task: The task.
        everything: A student of all labels.
        outside: For each fold a student of the labels outside.

    Returns:
        The opinions, on the CPU.
    """
    n = len(task.classes)
    target = functional.one_hot(task.classes, task.num_classes).float()
    fold = folds_of(task.classes, folds=len(outside))
    blind = [_graph(task, torch.cat([view(task.pixels), view(task.pool)])) for view in (colours, gradients)]
    by_fold = [
        _one(task, blind, student, target * (fold != number)[:, None].float()) for number, student in enumerate(outside)
    ]
    found = torch.stack(by_fold)  # (F, N + P, V, C)
    return Opinions(_one(task, blind, everything, target)[n:], found[:, n:], found[fold, torch.arange(n)])


def _one(task: GeneratedTask, blind: Sequence[Graph], student: Student, target: Tensor) -> Tensor:
    # (N + P, V, C): from the labels in `target` alone; the student has seen no others.
    seen, more = looked_at(task, student, task.pixels), looked_at(task, student, task.pool)
    features, logits = torch.cat([seen[0], more[0]]), torch.cat([seen[1], more[1]])
    graphs = [*blind, _graph(task, functional.normalize(features))]
    sources = torch.cat([target, target.new_zeros(len(task.pool), target.shape[1])]).to(task.device)
    spread = [_normalised(spread_along(graph, sources)).cpu() for graph in graphs]
    return torch.stack([*spread, logits.softmax(1)], 1)


def _graph(task: GeneratedTask, features: Tensor) -> Graph:
    return graph_of(features.to(task.device))


def _normalised(mass: Tensor) -> Tensor:
    # Each class is brought to the same total, then each image to 1.
    mass = mass.clamp_min(0.0) + 1e-9  # an image that nothing reaches knows nothing
    mass = mass / mass.sum(0)
    return mass / mass.sum(1, keepdim=True)
