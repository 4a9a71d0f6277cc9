"""A student that is trained step by step; every method gets the same labelled batches, and the same of the pool."""

import math
from typing import Any

import torch
from torch import Tensor

from auxilearn._checks import explain
from auxilearn.errors import InputError
from auxilearn.experiments.reproduce._inner import optimizer_of, schedule_of, steps_of
from auxilearn.experiments.reproduce._loop import Steps
from auxilearn.experiments.reproduce.generated._task import GeneratedTask
from auxilearn.training._sampler import Sampler

_APART = 1_000_003  # between the seeds of the streams


class Stream:
    """Augmented batches of some rows, epoch after epoch: a function of the seed and of the number of draws alone.

    Args:
        task: The task.
        pixels: The images, bytes, shape (N, 3, H, W).
        rows: Those that may be drawn.
        size: Rows a batch; all of them, if there are fewer.
        stream: A number of its own, so that no stream changes another.
    """

    def __init__(self, task: GeneratedTask, pixels: Tensor, rows: Tensor, size: int, *, stream: int) -> None:
        seed = task.seed + _APART * stream
        self._task, self._pixels = task, pixels
        self._sampler = Sampler(rows, rows[:0], batch_size=size, seed=seed)
        self._random = torch.Generator().manual_seed(seed)

    def draw(self) -> tuple[Tensor, Tensor]:
        """Draw the next batch.

        Returns:
            The rows, shape (B,), and what a network reads of them, on the task's device.
        """
        rows = self._sampler.draw()
        return rows, self._task.augment(self._pixels[rows].to(self._task.device), self._random)

    def state_dict(self) -> dict[str, Any]:
        """Return where the stream stands.

        Returns:
            The state.
        """
        return {"sampler": self._sampler.state_dict(), "random": self._random.get_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a state.

        Args:
            state: What :meth:`state_dict` returned.
        """
        self._sampler.load_state_dict(state["sampler"])
        self._random.set_state(state["random"])


def steps_in(task: GeneratedTask) -> int:
    """Count the steps of every run: those over all labelled rows, also for methods that hold some back.

    Args:
        task: The task.

    Returns:
        The steps.
    """
    return steps_of(task.settings, len(task.classes))


class Course(Steps):
    """A student, its optimizer and its labelled batches; subclasses say what a step is.

    Args:
        task: The task.
        heads: The width of the auxiliary head; 0 for none.
        rows: The labelled rows that may be trained on; None: all.

    Attributes:
        task: The task.
        student: The network that is trained.
        labelled: The labelled batches.
    """

    def __init__(self, task: GeneratedTask, *, heads: int = 0, rows: Tensor | None = None) -> None:
        self.task, self.student = task, task.student(heads)
        self.model = self.student
        self.rows = torch.arange(len(task.classes)) if rows is None else rows
        self.labelled = Stream(task, task.pixels, self.rows, task.settings.batch, stream=1)
        self._optimizer = optimizer_of(task.settings, self.student.parameters())
        self._schedule = schedule_of(task.settings, self._optimizer, steps_in(task))
        self.student.train()

    @property
    def rate(self) -> float:
        """The present learning rate."""
        return float(self._optimizer.param_groups[0]["lr"])

    def classes_of(self, rows: Tensor) -> Tensor:
        """Look the classes up.

        Args:
            rows: Labelled rows, shape (B,).

        Returns:
            Shape (B,), on the task's device.
        """
        return self.task.classes[rows].to(self.task.device)

    def descend(self, total: Tensor, **losses: Tensor) -> dict[str, float]:
        """Step the student, and its schedule.

        Args:
            total: What is minimised.
            **losses: Its parts, for the curve.

        Returns:
            The parts as numbers.

        Raises:
            InputError: If the loss is not finite; nothing was changed.
        """
        found = {name: float(loss.detach()) for name, loss in losses.items()}
        if not math.isfinite(float(total.detach())):
            finding = f"At step {self.number + 1} it is {float(total.detach())}; its parts are {found}."
            raise InputError(explain("The training loss must be finite.", finding, "Lower the learning rate."))
        self._optimizer.zero_grad()
        total.backward()
        self._optimizer.step()
        if self._schedule is not None:
            self._schedule.step()
        return found

    def state_dict(self) -> dict[str, Any]:
        """See :meth:`Stateful.state_dict`.

        Returns:
            Weights, optimizer, schedule, and where the batches stand.
        """
        return {
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
            "schedule": {} if self._schedule is None else self._schedule.state_dict(),
            "labelled": self.labelled.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Stateful.load_state_dict`."""
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])
        if self._schedule is not None:
            self._schedule.load_state_dict(state["schedule"])
        self.labelled.load_state_dict(state["labelled"])
