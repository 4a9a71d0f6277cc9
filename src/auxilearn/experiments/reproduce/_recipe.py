"""Hyperparameters with their sources: one line each, for the paper's budget and for a smoke run."""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any, Generic, Literal, TypeVar, cast, final

from auxilearn._checks import at_least, count, explain, one_of, positive
from auxilearn.errors import InputError

Budget = Literal["smoke", "paper"]
Changes = Mapping[str, str]
NONE: Changes = MappingProxyType({})


@dataclass(frozen=True)
class Inner:
    """How the weights are trained, the same for every method of an experiment.

    Attributes:
        epochs: Passes over the training rows.
        batch: Rows a step.
        optimizer: Adam, or SGD with momentum 0.9.
        lr: The learning rate.
        weight_decay: L2, as torch's optimizers have it.
        schedule: ``"constant"``; ``"cosine"``: down to 0; ``"halved"``: times 0.5 at half of the epochs.
        looks: How often the validation metric is measured, evenly over the run; the best weights are kept.
        seeds: How many seeds are run by default.
    """

    epochs: int
    batch: int
    optimizer: Literal["adam", "sgd"]
    lr: float
    weight_decay: float
    schedule: Literal["constant", "cosine", "halved"]
    looks: int
    seeds: int

    def __post_init__(self) -> None:
        for name in ("epochs", "batch", "looks", "seeds"):
            count(name, getattr(self, name), 1)
        one_of("optimizer", self.optimizer, ("adam", "sgd"))
        one_of("schedule", self.schedule, ("constant", "cosine", "halved"))
        positive("lr", self.lr)
        at_least("weight_decay", self.weight_decay, 0.0)


@dataclass(frozen=True)
class Published:
    """How the paper learns the auxiliary parameters.

    Attributes:
        terms: J, the terms of the Neumann series after the first.
        alpha: The step of the series.
        every: Inner steps between two outer ones.
        outer_lr: The learning rate of SGD with momentum 0.9 on the auxiliary parameters.
        outer_decay: Its weight decay.
        clip: The norm to which the hypergradient is clipped.
        held_out: The share of the training rows that is the auxiliary set.
        outer_batch: Rows of the auxiliary set an outer step.
    """

    terms: int
    alpha: float
    every: int
    outer_lr: float
    outer_decay: float
    clip: float
    held_out: float
    outer_batch: int

    def __post_init__(self) -> None:
        count("terms", self.terms, 0)
        for name in ("every", "outer_batch"):
            count(name, getattr(self, name), 1)
        for name in ("alpha", "outer_lr", "clip"):
            positive(name, getattr(self, name))
        at_least("outer_decay", self.outer_decay, 0.0)
        share("held_out", self.held_out)


def share(name: str, value: float, *, none: bool = False) -> None:
    """Refuse what is no share.

    Args:
        name: Of the hyperparameter.
        value: Its value.
        none: Whether 0 is one.

    Raises:
        InputError: If it is not below 1, or not above 0.
    """
    if not (0 < value < 1 or (none and value == 0)):
        rule = f"`{name}` must be a share, {'at least' if none else 'above'} 0 and below 1."
        raise InputError(explain(rule, f"It is {value!r}.", "E.g. 0.1."))


S = TypeVar("S")


@final
@dataclass(frozen=True)
class Recipe(Generic[S]):
    """The hyperparameters of an experiment for both budgets, and where each comes from.

    Attributes:
        paper: The values of the full run.
        smoke: Those of the run that only shows that everything works.
        sources: For each name: the paper, the original code, another one, or ours, with a reason.
    """

    paper: S
    smoke: S
    sources: Mapping[str, str]

    def of(self, budget: Budget, changes: Changes = NONE) -> S:
        """Return the values of a budget.

        Args:
            budget: Which.
            changes: Other values, as words, by name.

        Returns:
            The settings.

        Raises:
            InputError: If a change names no hyperparameter, or its value does not fit.
        """
        one_of("budget", budget, ("smoke", "paper"))
        chosen = self.paper if budget == "paper" else self.smoke
        values = {name: _read(name, word, getattr(chosen, name, None)) for name, word in changes.items()}
        unknown = [name for name in changes if name not in self.sources]
        if unknown:
            rule = "A change must be of a hyperparameter."
            finding = f"There is no `{unknown[0]}`."
            raise InputError(explain(rule, finding, f"There are: {', '.join(self.sources)}."))
        return replace(cast("Any", chosen), **values) if values else chosen

    def rows(self, budget: Budget, changes: Changes = NONE) -> list[tuple[str, str, str]]:
        """List every hyperparameter.

        Args:
            budget: Whose values.
            changes: Other values, as words, by name.

        Returns:
            Name, value and source of each, in the order of the file.
        """
        chosen = self.of(budget, changes)
        return [
            (name, str(getattr(chosen, name)), "changed by --set" if name in changes else source)
            for name, source in self.sources.items()
        ]


def _read(name: str, word: str, now: object) -> object:
    # Of the kind that the present value has; a word stays one.
    if isinstance(now, str) or now is None:
        return word
    try:
        value: object = ast.literal_eval(word)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):  # all that literal_eval raises
        value = None
    value = float(value) if isinstance(now, float) and type(value) is int else value
    if type(value) is not type(now):
        rule = f"`{name}` must be a `{type(now).__name__}`, as {now!r} is."
        raise InputError(explain(rule, f"It was set to {word!r}.", "Write it as in Python."))
    return value


def recipe(kind: type[S], **lines: tuple[Any, Any, str]) -> Recipe[S]:
    """Write the hyperparameters down, a line each.

    Args:
        kind: A frozen dataclass.
        lines: For each of its fields the paper's value, the smoke run's, and the source of the first.

    Returns:
        The recipe.

    Raises:
        InputError: If a field has no line, or a line no field or no source.

    Example:
        >>> from auxilearn.experiments.reproduce._recipe import Published, recipe
        >>> found = recipe(
        ...     Published,
        ...     terms=(3, 3, "paper"),
        ...     alpha=(1e-4, 1e-4, "original code"),
        ...     every=(50, 5, "original code"),
        ...     outer_lr=(1e-3, 1e-3, "original code"),
        ...     outer_decay=(1e-4, 1e-4, "original code"),
        ...     clip=(25.0, 25.0, "original code"),
        ...     held_out=(0.025, 0.25, "paper"),
        ...     outer_batch=(2, 2, "original code"),
        ... )
        >>> found.of("smoke").every, found.rows("paper")[1]
        (5, ('alpha', '0.0001', 'original code'))
    """
    wanted = {field.name for field in fields(cast("Any", kind))}
    rule = f"A recipe must have one line for each field of `{kind.__name__}`, with its source."
    if wanted != lines.keys():
        wrong = sorted(wanted.symmetric_difference(lines))
        raise InputError(explain(rule, f"It differs by {', '.join(wrong)}.", "Add or remove these lines."))
    unsourced = [name for name, (_, _, source) in lines.items() if not source.strip()]
    if unsourced:
        raise InputError(explain(rule, f"`{unsourced[0]}` has no source.", "Say whose choice it is, and why."))
    return Recipe(
        paper=kind(**{name: paper for name, (paper, _, _) in lines.items()}),
        smoke=kind(**{name: smoke for name, (_, smoke, _) in lines.items()}),
        sources={name: source for name, (_, _, source) in lines.items()},
    )
