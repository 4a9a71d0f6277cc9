"""What may watch a training run, and stop it."""

import math
from abc import ABC
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, cast, final

import torch

from auxilearn import _checks
from auxilearn._checks import explain
from auxilearn._extras import require
from auxilearn.errors import InputError
from auxilearn.training._checkpoint import check_folder
from auxilearn.training._fit import Record
from auxilearn.training._looped import evaluating

if TYPE_CHECKING:
    from torch import nn

    from auxilearn.training._trainer import Trainer


class Callback(ABC):  # noqa: B024 - every method may be left as it is
    """Watches a training run; subclasses override what they need."""

    def on_start(self, trainer: "Trainer", phase: str, steps: int, first: int) -> None:  # noqa: B027
        """Called before the first step of a phase.

        Args:
            trainer: The trainer.
            phase: ``"search"`` or ``"train"``.
            steps: How many steps the phase has.
            first: The step at which it starts; not 0 after a resumption.
        """

    def on_step(self, trainer: "Trainer", record: Callable[[], Record]) -> None:  # noqa: B027
        """Called after every step.

        Args:
            trainer: The trainer; set its ``stop`` to end the phase.
            record: Makes the record of the step; it waits for the device.
        """

    def on_end(self, trainer: "Trainer") -> None:  # noqa: B027
        """Called once when training is over, or was interrupted.

        Args:
            trainer: The trainer.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return what has to be remembered over an interruption.

        Returns:
            The state; empty by default.
        """
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Go on from a state.

        Args:
            state: What :meth:`state_dict` returned.
        """


@final
class ProgressBar(Callback):
    """A bar with the time left; it needs the extra ``experiments`` for Rich."""

    def __init__(self) -> None:
        progress: Any = require("rich.progress", extra="experiments")
        self._bar = progress.Progress(
            progress.TextColumn("{task.description}"),
            progress.BarColumn(),
            progress.MofNCompleteColumn(),
            progress.TimeRemainingColumn(),
        )
        self._task: Any = None

    def on_start(self, trainer: "Trainer", phase: str, steps: int, first: int) -> None:
        """See :meth:`Callback.on_start`."""
        self._bar.start()
        self._task = self._bar.add_task(phase, total=steps, completed=first)

    def on_step(self, trainer: "Trainer", record: Callable[[], Record]) -> None:
        """See :meth:`Callback.on_step`."""
        self._bar.advance(self._task)

    def on_end(self, trainer: "Trainer") -> None:
        """See :meth:`Callback.on_end`."""
        self._bar.stop()


@final
class TensorBoard(Callback):
    """Losses and weights as TensorBoard scalars; it needs the package ``tensorboard``, from the extra ``tensorboard``.

    Args:
        folder: Where the event files go.
        every: Steps between two points.
    """

    def __init__(self, folder: str | Path, *, every: int = 10) -> None:
        _checks.count("every", every, 1)
        check_folder(Path(folder))
        require("tensorboard", extra="tensorboard")
        self._folder, self._every = str(folder), every
        self._writer: Any = None

    def on_start(self, trainer: "Trainer", phase: str, steps: int, first: int) -> None:
        """See :meth:`Callback.on_start`."""
        if self._writer is None:  # not before: making a writer writes a file
            tensorboard: Any = require("torch.utils.tensorboard", extra="tensorboard")
            self._writer = tensorboard.SummaryWriter(self._folder)

    def on_step(self, trainer: "Trainer", record: Callable[[], Record]) -> None:
        """See :meth:`Callback.on_step`."""
        if trainer.number % self._every:
            return
        now = record()
        for group, values in (("loss", now.losses), ("weight", now.weights)):
            for name, value in values.items():
                self._writer.add_scalar(f"{now.phase}/{group}/{name}", value, now.step)

    def on_end(self, trainer: "Trainer") -> None:
        """See :meth:`Callback.on_end`."""
        if self._writer is not None:
            self._writer.close()
            self._writer = None


@final
class EarlyStopping(Callback):
    """Stop the final training when a metric on validation data no longer improves, and keep the best weights.

    The search is not stopped: its models never see the validation data, and its length is part of what it learns.

    Args:
        metric: A function of the model, in evaluation mode.
        every: Steps between two looks.
        patience: How many looks without improvement end the training.
        mode: Whether ``"max"`` or ``"min"`` is better.

    Attributes:
        best: The best value so far; None before the first look.
    """

    def __init__(
        self,
        metric: "Callable[[nn.Module], float]",
        *,
        every: int = 50,
        patience: int = 5,
        mode: Literal["max", "min"] = "max",
    ) -> None:
        if not callable(cast("object", metric)):
            rule, cure = "`metric` must be a function of the model.", "E.g. `lambda model: accuracy(model, x, y)`."
            raise InputError(explain(rule, f"It is a `{type(metric).__name__}`.", cure))
        _checks.count("every", every, 1)
        _checks.count("patience", patience, 1)
        _checks.one_of("mode", mode, ("max", "min"))
        self._metric, self._every, self._patience, self._mode = metric, every, patience, mode
        self.best: float | None = None
        self._kept: dict[str, Any] | None = None
        self._since = 0

    def on_start(self, trainer: "Trainer", phase: str, steps: int, first: int) -> None:
        """See :meth:`Callback.on_start`."""
        if first == 0:
            self.best, self._kept, self._since = None, None, 0

    def on_step(self, trainer: "Trainer", record: Callable[[], Record]) -> None:
        """See :meth:`Callback.on_step`.

        Args:
            trainer: The trainer.
            record: Not asked for.

        Raises:
            InputError: If the metric is no number.
        """
        if trainer.phase != "train" or trainer.number % self._every:
            return
        model = trainer.model
        with torch.no_grad(), evaluating(model):
            found = cast("object", self._metric(model))
        try:
            value = float(cast("float", found))
        except (TypeError, ValueError, RuntimeError):
            value = math.nan
        if math.isnan(value):
            rule, cure = "`metric` must return a number.", "Look at it on the untrained model."
            raise InputError(explain(rule, f"It returned {found!r:.80}.", cure))
        better = self.best is None or (value > self.best if self._mode == "max" else value < self.best)
        if better:
            self.best, self._since, self._kept = value, 0, deepcopy(model.state_dict())
        else:
            self._since += 1
            trainer.stop = self._since >= self._patience

    def on_end(self, trainer: "Trainer") -> None:
        """See :meth:`Callback.on_end`."""
        if self._kept is not None:
            trainer.model.load_state_dict(self._kept)

    def state_dict(self) -> dict[str, Any]:
        """Return the best weights and how long ago they were met.

        Returns:
            The state.
        """
        return {"best": self.best, "kept": self._kept, "since": self._since}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Callback.load_state_dict`."""
        self.best, self._kept, self._since = state["best"], state["kept"], int(state["since"])
