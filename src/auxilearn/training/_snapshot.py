"""What a run is between two steps: kept in a checkpoint, and gone on from exactly."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, cast, final

from torch import Tensor, nn

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.training._callbacks import Callback
from auxilearn.training._checkpoint import Checkpoint
from auxilearn.training._course import Course
from auxilearn.training._data import Rows
from auxilearn.training._fit import Record
from auxilearn.training._key import key_of, name_of
from auxilearn.training._problem import Problem
from auxilearn.training._randomness import random_states, set_random_states

Phase = Literal["search", "train"]
Moment = Literal["built", "begun", "search", "train"]


@final
@dataclass(frozen=True)
class Snapshot:
    """A run between two steps, in tensors, numbers and strings.

    Attributes:
        phase: The phase that it is in.
        stop: Whether a callback ended that phase.
        ended: The phases that are over.
        history: What was recorded, a dictionary for each record.
        start: The weights of the untrained model.
        scale: The initial value of each loss, (K,).
        courses: The state of each phase's course.
        callbacks: The class name and the state of each callback.
        random: The random states before the first model was built, when the run began, and the last of each phase.
    """

    phase: Phase
    stop: bool
    ended: list[Phase]
    history: list[dict[str, Any]]
    start: dict[str, Any]
    scale: Tensor
    courses: dict[Phase, dict[str, Any]]
    callbacks: list[tuple[str, dict[str, Any]]]
    random: dict[Moment, dict[str, Any]]

    def records(self) -> list[Record]:
        """Return the history.

        Returns:
            The records so far.
        """
        return [Record(**record) for record in self.history]

    def restore(self, phase: Phase, course: Course, callbacks: Sequence[Callback]) -> bool:
        """Set a phase back to where it was or ended, and the random states, too; with the present one the callbacks.

        Args:
            phase: A phase that had begun.
            course: Its course.
            callbacks: The callbacks; those that were not there before start anew.

        Returns:
            Whether a callback has ended it.

        Raises:
            InputError: If the state does not fit the course.
        """
        try:
            course.load_state_dict(self.courses[phase])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            rule = "A run goes on only with the code that it began with."
            said = " ".join(str(error).split())
            finding = f"Its state does not fit: {said:.200}."
            cure = "Go back to the same model, `losses` and version of torch, or choose another folder."
            raise InputError(explain(rule, finding, cure)) from error
        set_random_states(self.random[phase])
        if phase != self.phase:
            return False
        kept = list(self.callbacks)
        for callback in callbacks:
            own = next((i for i, (name, _) in enumerate(kept) if name == type(callback).__name__), None)
            if own is not None:
                callback.load_state_dict(kept.pop(own)[1])
        return self.stop


@final
class Snapshots:
    """Take snapshots of a run, of which the last is kept.

    Args:
        folder: Where it is kept; None takes none.
        start: The untrained model.
        scale: The initial value of each loss, (K,).
        callbacks: The callbacks.

    Raises:
        InputError: If the folder is a file, or cannot be made or written to.
    """

    def __init__(
        self, folder: str | Path | None, start: nn.Module, scale: Tensor, callbacks: Sequence[Callback]
    ) -> None:
        self._checkpoint = None if folder is None else Checkpoint(folder)
        self._start, self._scale, self._callbacks = start, scale, callbacks
        self._key = ""
        self._last: Snapshot | None = None
        self._random: dict[Moment, dict[str, Any]] = {}

    def identify(self, problem: Problem, rows: Rows, names: tuple[str, ...], settings: Sequence[object]) -> None:
        """Say what can be compared of the run: settings and shapes, and functions by name.

        Args:
            problem: The problem.
            rows: Its data.
            names: The names of the losses.
            settings: All settings.
        """
        data = [rows.size, rows.batch_size, cast("list[int]", rows.labelled.tolist())]
        task = [names, problem.main, name_of(problem.losses), problem.logits is None]
        layers = [name_of(type(part)) for part in self._start.modules()]
        self._key = key_of([*settings, data, task, layers, list(Snapshot.__dataclass_fields__)])

    def last(self) -> Snapshot | None:
        """Read the last one, and set the untrained model and the scale to what they were.

        Returns:
            The snapshot; None if there is none.

        Raises:
            InputError: If it cannot be read, or is of another run.
        """
        state = None if self._checkpoint is None else self._checkpoint.load(self._key)
        self._last = None if state is None else Snapshot(**state)
        if self._last is not None:
            self._start.load_state_dict(self._last.start)
            self._scale.copy_(self._last.scale)
            self._random = dict(self._last.random)
        return self._last

    def mark(self, moment: Moment) -> None:
        """Note the random states at a moment; in a run that goes on, set them to what they were then.

        So all that is drawn or tried out between two phases ends as it did.

        Args:
            moment: The moment.
        """
        if self._last is not None:
            set_random_states(self._last.random[moment])
        elif self._checkpoint is not None:
            self._random[moment] = random_states()

    def take(
        self, phase: Phase, courses: Mapping[Phase, Course], ended: list[Phase], history: list[Record], *, stop: bool
    ) -> None:
        """Keep where the run stands.

        Args:
            phase: The phase that it is in.
            courses: The courses so far.
            ended: The phases that are over.
            history: The records so far.
            stop: Whether a callback ended the phase.

        Raises:
            InputError: If a callback's state cannot be saved.
        """
        if self._checkpoint is None:
            return
        self._random[phase] = random_states()
        found = Snapshot(
            phase,
            stop,
            ended,
            [asdict(record) for record in history],
            self._start.state_dict(),
            self._scale,
            {name: course.state_dict() for name, course in courses.items()},
            [(type(callback).__name__, callback.state_dict()) for callback in self._callbacks],
            self._random,
        )
        self._checkpoint.save(self._key, vars(found))
