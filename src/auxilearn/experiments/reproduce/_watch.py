"""The trainer's runs, watched: the same curve and best weights as those of the loop."""

from collections.abc import Callable
from typing import Any, final

from auxilearn.experiments.reproduce._average import Average
from auxilearn.experiments.reproduce._best import Best, Validate
from auxilearn.experiments.reproduce._place import Place
from auxilearn.training import Callback, Record, Trainer

_RECORDS = 20  # to a point of the curve


@final
class Watch(Callback):
    """Keep a curve, and the weights that are best on the validation rows; ties go to the later ones.

    Args:
        place: Where the curve goes, and who is told of the steps.
        looks: How often there is a point, evenly over a phase.
        validate: From the model in evaluation mode, the metric, higher is better; None keeps the last weights.
    """

    def __init__(self, place: Place, *, looks: int, validate: Validate | None) -> None:
        self._place, self._looks, self._validate = place, looks, validate
        self._steps = 0
        self._points: list[dict[str, float | str]] = []
        self._average = Average()
        self._best = Best()

    @property
    def best(self) -> float | None:
        """The best value of the metric so far; None before the first look."""
        return self._best.value

    def on_start(self, trainer: Trainer, phase: str, steps: int, first: int) -> None:
        """See :meth:`Callback.on_start`."""
        self._steps = steps

    def on_step(self, trainer: Trainer, record: Callable[[], Record]) -> None:
        """See :meth:`Callback.on_step`."""
        self._note(trainer, record)
        self._place.progress(trainer.phase, trainer.number, self._steps)

    def _note(self, trainer: Trainer, record: Callable[[], Record]) -> None:
        number, due = trainer.number, max(1, self._steps // self._looks)
        look = number % due == 0 or number == self._steps
        # A record waits for the device: so many, and no more, make a mean that is smooth enough.
        if number % max(1, due // _RECORDS) and not look:
            return
        now = record()
        self._average.add({**now.losses, **{f"weight of {name}": value for name, value in now.weights.items()}})
        if not look:
            return
        point: dict[str, float | str] = {"phase": now.phase, "step": now.step, **self._average.take()}
        if trainer.phase == "train" and self._validate is not None:
            point["validation"] = self._best.look(trainer.model, self._validate)
        self._points.append(point)
        self._place.keep_curve(self._points)

    def on_end(self, trainer: Trainer) -> None:
        """See :meth:`Callback.on_end`."""
        self._best.restore(trainer.model)

    def state_dict(self) -> dict[str, Any]:
        """Return the curve and the best weights.

        Returns:
            The state.
        """
        return {"average": self._average.state_dict(), "points": self._points, "best": self._best.state_dict()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """See :meth:`Callback.load_state_dict`."""
        self._average.load_state_dict(state["average"])
        self._best.load_state_dict(state["best"])
        self._points = state["points"]
