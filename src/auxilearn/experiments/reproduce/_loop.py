"""The loop of methods that are not the trainer's: a step at a time, with curve, best weights and resumption."""

from abc import ABC, abstractmethod

from torch import nn

from auxilearn.experiments.reproduce._average import Average
from auxilearn.experiments.reproduce._best import Best, Validate
from auxilearn.experiments.reproduce._place import Place
from auxilearn.training._checkpoint import Checkpoint
from auxilearn.training._interrupt import interrupts_between_steps
from auxilearn.training._randomness import random_states, set_random_states
from auxilearn.training._stateful import Stateful


class Steps(Stateful, ABC):
    """Something that is trained step by step; subclasses implement :meth:`step` and the state.

    Attributes:
        model: The network that is trained.
        number: Steps taken; :func:`go` counts them.
    """

    model: nn.Module
    number: int = 0

    @abstractmethod
    def step(self) -> dict[str, float]:
        """Take one step.

        Returns:
            The mean losses of the batch, by name.
        """


def go(course: Steps, steps: int, place: Place, *, key: str, looks: int, validate: Validate | None) -> nn.Module:
    """Take all steps, or those that are left.

    Args:
        course: What is trained.
        steps: How many steps there are in all.
        place: Where the curve and the checkpoint go; a checkpoint that is there is gone on from.
        key: What the run is: its settings in words. A checkpoint of another run is refused.
        looks: How often the validation metric is measured.
        validate: From the model in evaluation mode, the metric, higher is better; None keeps the last weights.

    Returns:
        The network with its best weights, in evaluation mode.

    Raises:
        KeyboardInterrupt: After Ctrl-C, between two steps, when the state was kept.
    """
    checkpoint, best, average = Checkpoint(place.folder), Best(), Average()
    points: list[dict[str, float | str]] = []
    state = checkpoint.load(key)
    if state is not None:
        course.load_state_dict(state["course"])
        course.number, points = int(state["number"]), list(state["points"])
        best.load_state_dict(state["best"])
        average.load_state_dict(state["average"])
        set_random_states(state["random"])

    def save() -> None:
        checkpoint.save(
            key,
            {
                "course": course.state_dict(),
                "number": course.number,
                "points": points,
                "best": best.state_dict(),
                "average": average.state_dict(),
                "random": random_states(),
            },
        )

    due = max(1, steps // looks)
    with interrupts_between_steps() as check:
        try:
            while course.number < steps:
                average.add(course.step())
                course.number += 1
                if course.number % due == 0 or course.number == steps:
                    point: dict[str, float | str] = {"phase": "train", "step": course.number, **average.take()}
                    if validate is not None:
                        point["validation"] = best.look(course.model, validate)
                    points.append(point)
                    place.keep_curve(points)
                place.progress("train", course.number, steps)
                if course.number % place.save_every == 0:
                    save()
                check()
        except KeyboardInterrupt:
            save()
            raise
    best.restore(course.model)
    return course.model.eval()
