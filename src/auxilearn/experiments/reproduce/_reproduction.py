"""What a reproduction is: tables of the paper, the data and hyperparameters behind each, and methods to fill it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, TypeVar, final

import torch
from torch import nn

from auxilearn._checks import explain
from auxilearn.data.published import PublishedFile
from auxilearn.errors import InputError
from auxilearn.experiments.reproduce._place import Place
from auxilearn.experiments.reproduce._recipe import Budget, Changes, Recipe

S = TypeVar("S")


@final
@dataclass(frozen=True)
class Metric:
    """A column of a table.

    Attributes:
        name: E.g. ``"mIoU"``.
        unit: E.g. ``"%"`` or ``"°"``.
        better: Whether higher or lower values are better.
        digits: After the decimal point.
    """

    name: str
    unit: str = "%"
    better: Literal["higher", "lower"] = "higher"
    digits: int = 2


class Stated(NamedTuple):
    """A number of the literature, never one of ours.

    Attributes:
        mean: The mean over seeds.
        error: Its standard error; None if not stated.
    """

    mean: float
    error: float | None = None


Row = Mapping[str, Stated]
"""Stated numbers by the metric's name."""


@final
@dataclass(frozen=True)
class Literature:
    """A table of others: the paper's, or a later independent run's.

    Attributes:
        source: E.g. ``"Navon et al., ICLR 2021"``.
        rows: By the name that the method has there.
    """

    source: str
    rows: Mapping[str, Row]


@final
@dataclass(frozen=True)
class Setup:
    """Where and how a task is made.

    Attributes:
        data: The folder of the published data.
        budget: Which hyperparameters.
        seed: Of the split, the initial weights and the batches.
        device: Where tensors and networks live.
        splits: The folder in which drawn splits are kept, and from which they are read again.
        pretrained: A file with weights of the backbone, as torchvision saves them; None starts at random.
        changes: Hyperparameters that differ from the recipe, as words, by name.
    """

    data: Path
    budget: Budget
    seed: int
    device: torch.device
    splits: Path
    pretrained: Path | None = None
    changes: Changes = field(default_factory=dict[str, str])

    def of(self, recipe: Recipe[S]) -> S:
        """Return the hyperparameters that hold here.

        Args:
            recipe: The recipe.

        Returns:
            The settings.
        """
        return recipe.of(self.budget, self.changes)

    def refuse_pretrained(self, network: str) -> None:
        """Refuse weights for a network that takes none, rather than ignore them.

        Args:
            network: Its name.

        Raises:
            InputError: If there are such weights.
        """
        if self.pretrained is not None:
            rule = "Weights of a backbone must be for a network that has one of torchvision's."
            finding = f"`{self.pretrained}` was given, and the network is {network}."
            raise InputError(explain(rule, finding, "Run without --pretrained, or --set another network."))


@final
@dataclass(frozen=True)
class Outcome:
    """What a method returns.

    Attributes:
        model: The trained network, in evaluation mode.
        details: What JSON can hold: learned weights by name, what the gate chose, notes.
    """

    model: nn.Module
    details: Mapping[str, Any]


@final
@dataclass(frozen=True)
class PaperCell:
    """One setting of an experiment: a table, or a column of one.

    Attributes:
        name: E.g. ``"attributes, 5-shot"``.
        metrics: The columns; the first one is the main metric.
        recipe: The hyperparameters.
        task: Makes the task of a set-up; a seed gives all methods the same split, initial weights and batches.
        measure: From the task and a trained model, every metric on the test set, by name.
        methods: Name to a function of the task and a place to work in, from the plain run to ours.
        plain: The method without auxiliary losses.
        ours: The method that is compared with the others.
        literature: What others found, the paper first.
        same: From our methods' names to those in the literature, where they differ.
        single: For each metric of Δ, see :func:`~auxilearn.experiments.reproduce.metrics.delta`, the method that trains
            its task alone; empty where there is no Δ.
    """

    name: str
    metrics: tuple[Metric, ...]
    recipe: Recipe[Any]
    task: Callable[[Setup], Any]
    measure: Callable[[Any, nn.Module], Mapping[str, float]]
    methods: Mapping[str, Callable[[Any, Place], Outcome]]
    plain: str
    ours: str
    literature: tuple[Literature, ...]
    same: Mapping[str, str]
    single: Mapping[str, str] = field(default_factory=dict[str, str])


@final
@dataclass(frozen=True)
class Reproduction:
    """An experiment of the paper.

    Attributes:
        name: For the command line, e.g. ``"nyuv2"``.
        title: For tables.
        about: A paragraph: the data, the tasks, the labels, what differs from the paper and why.
        files: What the data folder must hold.
        cells: Its settings.
    """

    name: str
    title: str
    about: str
    files: tuple[PublishedFile, ...]
    cells: tuple[PaperCell, ...]
