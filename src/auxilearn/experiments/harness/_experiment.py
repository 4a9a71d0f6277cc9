"""What an experiment is: cells on real data, the methods compared in each, and what a run of one returns."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from torch import Tensor, nn

from auxilearn.training import Problem


@final
@dataclass(frozen=True)
class Result:
    """What one method reached on one task.

    Attributes:
        score: Higher is better, in the cell's unit.
        seconds: The processor time that the method took, by ``time.process_time``.
        details: Anything else that JSON can hold: learned ``"weights"`` with their ``"kinds"``, what the gate chose.

    Example:
        >>> Result(score=91.5, seconds=2.0, details={"weights": [1.0, 0.2], "kinds": ["main", "good"]}).score
        91.5
    """

    score: float
    seconds: float
    details: Mapping[str, Any]


Table = Mapping[str, Mapping[str, Mapping[int, Result]]]
"""Results by the cell's name, the method's name and the seed."""


@final
@dataclass(frozen=True)
class Cell:
    """One setting: a task for each seed, and the methods that are compared on it.

    Attributes:
        name: For tables, e.g. ``"MNIST-5k, 5 labels a class"``.
        unit: What the score is, e.g. ``"accuracy, %"``.
        task: Makes the task of a seed. The same seed gives the same task, so that methods are compared in pairs.
        methods: Name to a function of the task and the seed. The first one is the plain training run to which the
            compute of the others is compared, unless one is called ``"main only"``. Names that begin with ``"oracle"``
            know what no method may know, and names that begin with the experiment's ``ours`` and a comma are variants
            of it: they are shown, but are no baselines that ours has to beat.
    """

    name: str
    unit: str
    task: Callable[[int], Any]
    methods: Mapping[str, Callable[[Any, int], Result]]


@final
@dataclass(frozen=True)
class Experiment:
    """A named comparison of methods over cells.

    Attributes:
        name: For the command line, e.g. ``"hyper-cleaning"``.
        title: For tables and pictures.
        about: One paragraph: the data, the labels, what is simulated, what it shows.
        cells: The settings.
        ours: The method whose rows are compared with the others'.
        figure: Draws a picture of its own, from all results, into a file.
    """

    name: str
    title: str
    about: str
    cells: tuple[Cell, ...]
    ours: str
    figure: Callable[[Table, Path], None] | None = None


@final
@dataclass(frozen=True)
class AuxiliaryTask:
    """A main task with auxiliary losses, and what is known about them.

    Attributes:
        problem: The model, the losses and the data.
        score: The main task's score of a trained model on the test set; higher is better.
        helpful: Which losses an oracle would use, the main one included, shape (K,); None if nobody knows.
        kinds: A word for each loss, K of them: ``"main"``, ``"good"``, ``"random"`` and so on.
    """

    problem: Problem
    score: Callable[[nn.Module], float]
    helpful: Tensor | None
    kinds: tuple[str, ...]
